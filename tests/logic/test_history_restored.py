"""A history that is restored from the events of a call is the history of that call, wherever the
call was cut."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rig_dialogue import said_by_agent, talking
from rig_peers import STREAM_SID

from sts_trio.audio.frames import length
from sts_trio.errors import How, Leg, LegEnded
from sts_trio.logic.acts import (
    Act,
    AgentReached,
    CallFunctions,
    FunctionDone,
    HangUp,
    SendToCaller,
)
from sts_trio.logic.history import INTERRUPTED, History
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import GO_ON
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


@given(steps)
def test_what_is_restored_is_what_was_known(several: list[Step]) -> None:
    """Whenever the call is cut: after each step."""
    call = Call()
    for step, text in several:
        step(call, text)
        call.check()


@given(steps)
def test_whatever_the_last_event_is_nothing_that_was_told_is_lost_or_doubled(
    several: list[Step],
) -> None:
    """Also where a call is cut between two events of a step."""
    call = Call()
    for step, text in several:
        if call.is_open:  # nobody goes on with what is being ended
            step(call, text)
    told = call.told if call.is_open else call.told[: call.count_before]
    for count in range(len(told) + 1):
        cut = told[:count]
        if any(isinstance(each, events.AgentContextReduced) for each in cut):
            break  # less is told, as it was not borne
        messages = History.restored(cut).messages()
        said = [each["content"] for each in messages if each.get("role") == "user"]
        transcripts = [each for each in cut if isinstance(each, events.CallTranscript)]
        texts = [each.text for each in transcripts if each.role == "user" and each.text.strip()]
        assert [text for text in said if text != GO_ON] == texts
        called = [each.id for each in cut if isinstance(each, events.FunctionCalled)]
        ids = [each["function_calls"][0]["id"] for each in messages if "function_calls" in each]
        assert sorted(ids) == sorted(called)


SCRIPT: list[Step] = [
    (Call.the_agent_says, "Hello."),
    (Call.the_agent_is_done, ""),
    (Call.all_is_played, ""),
    (Call.the_caller_says, "I want to pay."),
    (Call.a_function_is_called, "a signature"),
]


def test_a_function_that_was_under_way_is_told_as_one_of_which_nobody_knows() -> None:
    """Shielded or not: it is not called again, and its id and signature are what they were."""
    call = happen(SCRIPT)
    *_, last = History.restored(call.told).messages()
    (function,) = last["function_calls"]
    assert (function["id"], function["name"], function["response"]) == ("f1", "pay", INTERRUPTED)
    assert function["thought_signature"] == "a signature"
    assert "not known" in INTERRUPTED


def test_what_a_shielded_function_came_to_takes_the_place_of_that() -> None:
    call = happen([*SCRIPT, (Call.the_agent_is_lost, "")])
    *_, last = History.restored(call.told).messages()
    assert last["function_calls"][0]["response"] == "late"


def test_an_answer_that_was_owed_is_still_owed() -> None:
    call = happen(SCRIPT[:4])
    assert History.restored(call.told).unanswered == "I want to pay."


def test_what_was_being_said_can_be_cut_where_the_call_was() -> None:
    """As it is known by when the process was last alive."""
    told = [
        events.CallTranscript(AGENT, "One two three four.", position=0.0),
        events.CallTranscript(AGENT, "Five six.", position=2.0),
    ]
    history = History.restored(told)
    assert len(history.messages()) == 2
    history.cut(length(1.0), length(4.0))
    assert [each["content"] for each in history.messages()] == ["One two"]


def test_of_no_events_there_is_no_past() -> None:
    assert History.restored([]).messages() == []
    strange = [events.CallHeard("Never told.", "Never", 1.0, 0.5), events.CallSilenced(0.1)]
    assert History.restored(strange).messages() == []
    unknown = events.FunctionFinished("f9", "f", "done", 1.0, result="{}")
    assert History.restored([unknown]).messages() == []


def test_what_the_agents_side_has_run_is_known() -> None:
    ran = events.FunctionRunByAgent("f1", "look_up", "{}", '{"a":1}')
    (item,) = History.restored([ran]).messages()
    assert item["function_calls"][0]["response"] == '{"a":1}'


def test_what_the_agent_has_taken_back_was_not_called() -> None:
    told: list[events.OfCall] = [
        events.FunctionCalled("f1", "look_up", "{}", shield=False),
        events.FunctionFinished("f1", "look_up", "cancelled", 0.1),
    ]
    assert History.restored(told).messages() == []


def test_words_that_never_had_a_sound_were_not_said() -> None:
    told = [
        events.CallTranscript("user", "Hello?"),
        events.CallTranscript(AGENT, "Hello.", position=1.0),
        events.CallHeard("Hello.", "", 0.0, 0.0),
    ]
    history = History.restored(told)
    assert [each["role"] for each in history.messages()] == ["user"]
    assert history.unanswered == "Hello?"


def test_a_result_is_told_once() -> None:
    told: list[events.OfCall] = [
        events.FunctionCalled("f1", "look_up", "{}", shield=False),
        events.FunctionFinished("f1", "look_up", "done", 0.1, result='"a"'),
        events.FunctionFinished("f1", "look_up", "done", 0.1, result='"b"'),
    ]
    (item,) = History.restored(told).messages()
    assert item["function_calls"][0]["response"] == '"a"'


def test_what_a_noise_has_cut_is_said_when_it_is_played_on() -> None:
    told = [
        events.CallTranscript(AGENT, "One two.", position=0.0),
        events.CallTranscript(AGENT, " ", position=0.5),
        events.CallHeard("One two.", "One", 1.0, 0.5),
        events.CallTranscript(AGENT, "Three."),  # on its way when it was cut
        events.CallHeard("Three.", "", 0.0, 0.0),
    ]
    assert [each["content"] for each in History.restored(told).messages()] == ["One"]
    told.append(events.CallFalseInterruption(0.5, whole=True))
    assert [each["content"] for each in History.restored(told).messages()] == ["One", "two. Three."]
    told.append(events.CallHeard("two. Three.", "two. Three.", 0.5, 0.5))
    assert [each["content"] for each in History.restored(told).messages()] == ["One", "two. Three."]


def test_what_an_agent_could_not_bear_is_not_told_to_the_next() -> None:
    told: list[events.OfCall] = [
        *(events.CallTranscript("user", f"{number}") for number in range(20)),
        events.AgentContextReduced(past=True),
        events.AgentLost("agent_lost", ""),
        events.AgentWelcomed("default", "r"),
    ]
    history = History.restored(told)
    assert [each["content"] for each in history.messages()] == [str(n) for n in range(9, 20)]
    assert history.unanswered == "19"
    told.insert(-1, events.AgentContextReduced(question=True))
    told.insert(-1, events.AgentLost("agent_lost", ""))
    assert History.restored(told).messages()[-1]["content"] == "17"


def test_of_a_caller_who_is_to_say_it_again_nothing_is_kept_as_still_to_be_answered() -> None:
    """Neither the question that was given up nor those before it, where the past is left out."""
    told: list[events.OfCall] = [
        *(events.CallTranscript("user", text) for text in ("One?", "Two?", "Three?")),
        events.AgentContextReduced(past=True, question=True),
        events.AgentLost("agent_lost", ""),
    ]
    assert History.restored(told).messages() == []


def test_sentences_that_were_heard_in_one_go_become_one() -> None:
    told = [
        events.CallTranscript(AGENT, "One two.", position=0.0),
        events.CallTranscript(AGENT, "Three.", position=1.0),
        events.CallHeard("One two. Three.", "One two.", 1.5, 1.0),
        events.CallAskedAnew(GO_ON),
        events.CallAskedAnew(),  # a question of the caller's, which is known
    ]
    contents = [each["content"] for each in History.restored(told).messages()]
    assert contents == ["One two.", GO_ON]
