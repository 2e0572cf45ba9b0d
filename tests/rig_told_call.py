"""A call that is told, step by step: what happens in it, as events, and what an agent would know
that goes on with it."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hypothesis import strategies as st
from rig_dialogue import said_by_agent, talking
from rig_peers import STREAM_SID

from sts_trio.errors import How, Leg, LegEnded
from sts_trio.logic.acts import (
    Act,
    AgentReached,
    CallFunctions,
    FunctionDone,
    HangUp,
    SendToCaller,
)
from sts_trio.logic.history import History
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.session import Session
from sts_trio.logic.states import REFUSING_CLOSES, SessionState
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.deepgram import AgentAudioDone, Audio, ConversationText

WORD = b"\x31" * 1600
POLICY = CallPolicy(reconnects=True, resumes=True, one_moment=WORD, apology=WORD)
REFUSING = min(REFUSING_CLOSES)
AGENT = said_by_agent("Yes.").role
SOME = ["Yes.", "No, thank you very much indeed.", "What does it cost?", " ", "Yes."]


class Call:
    """A call that is told, its functions too, as their runner tells of them."""

    def __init__(self) -> None:
        self.bridge = talking(POLICY)
        self.told: list[events.OfCall] = []
        self.marks: list[str] = []
        self.running: dict[str, tuple[deepgram.FunctionToCall, bool]] = {}  # {id: shielded}
        self.count = 0
        self.count_before = 0  # of the events before what was heard last, while it was open
        self.is_over = False

    def hear(self, *heard: Any) -> None:
        self.count_before = len(self.told) if self.is_open else self.count_before
        self._do(self.bridge.hear(*heard))

    @property
    def is_open(self) -> bool:
        return self.bridge.dialogue._parts.closing.is_open

    def _do(self, acts: Iterable[Act]) -> None:
        for act in acts:
            match act:
                case HangUp():
                    self.is_over = True
                case events.OfCall():
                    self.told.append(act)
                case SendToCaller(twilio.PlayMark(_, twilio.MarkName(name))):
                    self.marks.append(name)
                case CallFunctions(functions):
                    for function in functions:
                        is_shielded = function.name == "pay"
                        self.running[function.id] = function, is_shielded
                        signature = function.thought_signature
                        self.told.append(
                            events.FunctionCalled(
                                function.id,
                                function.name,
                                function.arguments,
                                is_shielded,
                                signature if isinstance(signature, str) else None,
                            )
                        )

    # --- what happens -----------------------------------------------------------------------------

    def the_caller_says(self, text: str) -> None:
        if self.is_there:
            self.hear(deepgram.UserStartedSpeaking(), ConversationText("user", text))

    def the_agent_says(self, text: str) -> None:
        if self.is_there:
            self.hear(ConversationText(AGENT, text), Audio(WORD * 3))

    def the_agent_is_done(self, _: str) -> None:
        if self.is_there:
            self.hear(AgentAudioDone())

    def all_is_played(self, _: str) -> None:
        marks, self.marks = self.marks, []
        self.hear(*(twilio.Mark(twilio.MarkName(name), stream_sid=STREAM_SID) for name in marks))

    def one_mark_is_reached(self, _: str) -> None:
        if self.marks:
            name = twilio.MarkName(self.marks.pop(0))
            self.hear(twilio.Mark(name, stream_sid=STREAM_SID))

    def the_caller_barges_in(self, _: str) -> None:
        if self.is_there:
            self.hear(deepgram.UserStartedSpeaking())

    def time_passes(self, _: str) -> None:
        self._do(act for _, act in self.bridge.wait_until(self.bridge.now + 1.0))

    def a_function_is_called(self, text: str) -> None:
        if self.is_there:
            self.count += 1
            name = "pay" if len(text) > 4 else "look_up"
            function = deepgram.FunctionToCall(
                f"f{self.count}", name, '{"a":1}', thought_signature=text.strip() or None
            )
            self.hear(deepgram.FunctionCallRequest((function,)))

    def a_function_is_done(self, text: str) -> None:
        for id, (function, is_shielded) in list(self.running.items())[:1]:
            del self.running[id]
            self._finish(function, is_shielded, text, is_void=False)

    def the_agent_is_lost(self, _: str) -> None:
        if not self.is_there:
            return
        self.hear(LegEnded(Leg.AGENT, How.LOST))
        self._tear_functions()

    def _tear_functions(self) -> None:
        for id, (function, is_shielded) in list(self.running.items()):
            del self.running[id]
            if is_shielded:  # it goes on, and is done before the next agent is there
                self._finish(function, is_shielded, "late", is_void=True)
            else:
                self.told.append(events.FunctionFinished(id, function.name, "cancelled", 1.0))

    def the_agent_refuses(self, _: str) -> None:
        """What it was told, for all we know."""
        if self.is_there:
            self.hear(LegEnded(Leg.AGENT, How.CLOSED, REFUSING))
            self._tear_functions()

    def _finish(
        self, function: deepgram.FunctionToCall, is_shielded: bool, text: str, *, is_void: bool
    ) -> None:
        self.told.append(
            events.FunctionFinished(
                function.id,
                function.name,
                "done",
                1.0,
                result=text or None,
                shield=is_shielded,
                unawaited=is_void or None,
            )
        )
        self.hear(FunctionDone(function, text, is_void=is_void))

    def an_agent_is_there_again(self, _: str) -> None:
        for _second in range(10):
            if self._session.state is SessionState.DIALLING:
                break
            self.time_passes("")
        if self._session.state is SessionState.DIALLING:
            self.hear(AgentReached(), deepgram.Welcome("again"))
            self.hear(deepgram.SettingsApplied())

    @property
    def _session(self) -> Session:
        return self.bridge.dialogue._parts.session

    @property
    def is_there(self) -> bool:
        return self._session.is_live

    # --- what is known ----------------------------------------------------------------------------

    def known(self) -> tuple[list[dict[str, Any]], str | None]:
        """What an agent would be told that goes on now, in this process, and the question that it
        would be asked anew, which is among that."""
        parts = copy.deepcopy(self.bridge.dialogue)._parts
        for function in parts.function_calls.close_session(self.bridge.now).functions:
            parts.turns.add_function(function)
        is_speaking = parts.turns._history.is_heard_speaking
        parts.turns.close_session(self.bridge.now)
        messages = parts.turns.carryover.brief(greets=False)
        question = parts.turns.carryover.take_unanswered()
        if question:
            messages.append({"type": "History", "role": "user", "content": question})
        # The events do not tell when an agent has finished.
        return messages, None if is_speaking else question or None

    def check(self) -> None:
        if not self.is_open:
            return  # nobody goes on with what is being ended
        messages, question = self.known()
        restored = History.restored(self.told)
        if not restored._playing:
            assert restored.messages() == messages
        # Of what is not settled each sentence stands where it was told.
        assert split(restored.messages()) == split(messages)
        assert question in (None, restored.unanswered)


def split(messages: Iterable[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The agent's words, and the rest."""
    words: list[str] = []
    others = []
    for each in messages:
        if each.get("role") == AGENT:
            words += each["content"].split()
        else:
            others.append(each)
    return words, others


STEPS: list[Callable[[Call, str], None]] = [
    Call.the_caller_says,
    Call.the_agent_says,
    Call.the_agent_is_done,
    Call.all_is_played,
    Call.one_mark_is_reached,
    Call.the_caller_barges_in,
    Call.time_passes,
    Call.a_function_is_called,
    Call.a_function_is_done,
    Call.the_agent_is_lost,
    Call.the_agent_refuses,
    Call.an_agent_is_there_again,
]
Step = tuple[Callable[[Call, str], None], str]
steps = st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(SOME)), max_size=25)


def happen(several: Sequence[Step]) -> Call:
    call = Call()
    for step, text in several:
        step(call, text)
    return call


SCRIPT: list[Step] = [
    (Call.the_agent_says, "Hello."),
    (Call.the_agent_is_done, ""),
    (Call.all_is_played, ""),
    (Call.the_caller_says, "I want to pay."),
    (Call.a_function_is_called, "a signature"),
]
