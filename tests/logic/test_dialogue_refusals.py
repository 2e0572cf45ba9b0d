"""An agent that dies of one thing it is told: the call goes on wherever it can without it."""

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from rig_dialogue import LOST, RECONNECTS, Bridge, quiet, talking
from rig_peers import STREAM_SID, media

from sts_trio.errors import How, Leg, LegEnded
from sts_trio.logic.acts import (
    Act,
    AgentReached,
    Ask,
    CallFunctions,
    CancelFunctions,
    Dial,
    DropAgent,
    FunctionDone,
    HangUp,
    Heard,
    RequestDone,
    SendToAgent,
)
from sts_trio.logic.history import FEW_ITEMS
from sts_trio.logic.policy import CallPolicy
from sts_trio.wire import deepgram, deepgram_settings, twilio
from sts_trio.wire.deepgram import (
    AgentAudioDone,
    AgentError,
    Audio,
    ConversationText,
    FunctionCallRequest,
    FunctionToCall,
    InjectAgentMessage,
    InjectUserMessage,
    PromptUpdated,
    SettingsApplied,
    UpdatePrompt,
)

ERROR = AgentError("FAILED_TO_THINK", "why")
QUESTION = ConversationText("user", "Where is my order?")
ASKED = SendToAgent(InjectUserMessage("Where is my order?"))
SAY_AGAIN = SendToAgent(InjectAgentMessage(CallPolicy().say_again))
MORE = UpdatePrompt("more")
ANSWER = (ConversationText("assistant", "Here."), Audio(b"\x01" * 160), AgentAudioDone())
AGAIN = [DropAgent(), Dial("default")]


def begun() -> Bridge:
    """There is a past, and all of it is proven."""
    bridge = talking(RECONNECTS)
    bridge.hear(ConversationText("assistant", "Hello."), Audio(b"\x01" * 160), AgentAudioDone())
    return bridge


# --- a sentence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("death", [ERROR, LegEnded(Leg.AGENT, How.CLOSED, 1008)])
def test_a_sentence_that_agents_die_of_is_asked_once_more_and_then_the_caller_is(
    death: Heard,
) -> None:
    bridge = begun()
    bridge.hear(QUESTION)
    assert quiet(bridge.hear(death)) == AGAIN
    assert bridge.connect() == [ASKED]
    assert quiet(bridge.hear(death)) == AGAIN
    assert bridge.connect() == [SAY_AGAIN]
    assert QUESTION.content not in [text for _, text in bridge.history]
    bridge.hear(*ANSWER, ConversationText("user", "The order, where is it?"), *ANSWER)
    assert bridge.dialogue.phase.name == "TALKING"


def test_a_mere_loss_does_not_count_against_what_was_said() -> None:
    bridge = begun()
    bridge.hear(QUESTION, LOST)
    assert bridge.connect() == [ASKED]
    bridge.hear(LOST)
    assert bridge.connect() == [ASKED]


def test_a_server_that_goes_away_says_nothing_of_what_it_was_told() -> None:
    bridge = begun()
    for _ in range(2):
        bridge.hear(QUESTION)
        bridge.hear(AgentError("SERVER_GOING_AWAY"))
        assert bridge.connect() == [ASKED]


def test_a_sentence_that_was_answered_is_not_suspected_when_it_is_said_again() -> None:
    bridge = begun()
    bridge.hear(QUESTION, ERROR)
    bridge.connect()
    bridge.hear(QUESTION, *ANSWER)
    bridge.wait_until(100)
    bridge.hear(QUESTION, ERROR)
    assert bridge.connect() == [ASKED]


def test_the_caller_is_asked_by_the_next_agent_too_until_they_have_heard_it() -> None:
    bridge = begun()
    bridge.hear(QUESTION, ERROR)
    bridge.connect()
    bridge.hear(ERROR)
    bridge.connect()
    bridge.wait_until(70)
    bridge.hear(LOST)
    assert bridge.connect() == [SAY_AGAIN]
    bridge.hear(ConversationText("assistant", CallPolicy().say_again), *ANSWER[1:])
    bridge.hear(LOST)
    bridge.wait_until(72)
    assert SAY_AGAIN not in bridge.connect()


def test_one_that_dies_of_whatever_is_said_is_given_up_at_last() -> None:
    bridge = begun()
    for _ in range(5):
        bridge.hear(QUESTION, ERROR)
        if bridge.dialogue.phase.name != "DIALLING":
            break
        bridge.wait_until(bridge.now + 1)
        bridge.connect()
    assert bridge.dialogue.phase.name == "PARTING"


# --- what the call's own code asked for ---------------------------------------------------------


def test_an_update_that_agents_die_of_is_refused_to_who_asked() -> None:
    bridge = begun()
    bridge.hear(Ask(1, MORE))
    assert quiet(bridge.hear(ERROR)) == AGAIN
    assert bridge.connect() == [SendToAgent(MORE)]
    assert quiet(bridge.hear(ERROR)) == [RequestDone(1, "the agent failed at it"), *AGAIN]
    assert bridge.connect() == []


def test_an_update_that_was_taken_and_then_killed_is_forgotten_too() -> None:
    bridge = begun()
    bridge.hear(Ask(1, MORE))
    assert RequestDone(1) in bridge.hear(PromptUpdated())
    bridge.hear(ERROR)
    assert bridge.connect() == [SendToAgent(MORE)]
    bridge.hear(PromptUpdated(), ERROR)
    assert bridge.connect() == []


def test_an_update_that_the_agent_has_spoken_after_is_not_to_blame() -> None:
    bridge = begun()
    bridge.hear(Ask(1, MORE))
    bridge.hear(PromptUpdated(), *ANSWER, QUESTION, ERROR)
    assert bridge.connect() == [SendToAgent(MORE), ASKED]
    bridge.hear(PromptUpdated(), QUESTION, ERROR)
    assert bridge.connect() == [SendToAgent(MORE)], "suspected, so it goes alone"
    assert SAY_AGAIN in bridge.hear(PromptUpdated())
    bridge.hear(*ANSWER)
    bridge.wait_until(100)
    bridge.hear(LOST)
    assert SendToAgent(MORE) in bridge.connect()


def test_a_voice_that_is_taken_and_then_fails_is_forgotten() -> None:
    bridge = begun()
    voice = deepgram.UpdateSpeak({"provider": {"type": "deepgram", "model": "none"}})
    bridge.hear(Ask(1, voice))
    bridge.hear(deepgram.SpeakUpdated(), QUESTION, AgentError("FAILED_TO_SPEAK"))
    assert bridge.connect() == [SendToAgent(voice)]
    bridge.hear(deepgram.SpeakUpdated(), QUESTION, AgentError("FAILED_TO_SPEAK"))
    assert bridge.connect() == [SAY_AGAIN]


def test_what_is_suspected_goes_alone() -> None:
    bridge = begun()
    bad = deepgram.UpdateSpeak({"provider": {"type": "deepgram", "model": "none"}})
    bridge.hear(Ask(1, MORE), Ask(2, bad), ERROR)
    assert bridge.connect() == [SendToAgent(MORE)]
    assert SendToAgent(bad) in bridge.hear(PromptUpdated())
    assert RequestDone(2, "the agent failed at it") in bridge.hear(ERROR)
    assert bridge.connect() == [SendToAgent(MORE)]
    assert bridge.dialogue.phase.name == "TALKING"


def test_injected_words_that_agents_die_of_are_refused() -> None:
    bridge = begun()
    bridge.hear(Ask(1, InjectAgentMessage("<break/>", "queue")), ERROR)
    assert bridge.connect() == [SendToAgent(InjectAgentMessage("<break/>", "queue"))]
    assert RequestDone(1, "the agent failed at it") in bridge.hear(ERROR)
    assert bridge.connect() == []


def test_keys_that_agents_die_of_are_dropped() -> None:
    bridge = begun()
    bridge.hear(twilio.Dtmf(twilio.Digit("4"), stream_sid=STREAM_SID))
    bridge.wait_until(1.5)
    told = SendToAgent(InjectUserMessage("I have keyed in: 4"))
    bridge.hear(ERROR)
    assert bridge.connect() == [told]
    bridge.hear(ERROR)
    assert told not in bridge.connect()


# --- the past -------------------------------------------------------------------------------------


def test_a_past_that_is_refused_becomes_less_and_then_nothing() -> None:
    bridge = begun()
    for place in range(20):
        bridge.hear(ConversationText("user", f"{place}"), *ANSWER)
    bridge.hear(FunctionCallRequest((FunctionToCall("f", "look"),)))
    bridge.hear(FunctionDone(FunctionToCall("f", "look"), "{}"))
    bridge.hear(*ANSWER, LOST)
    for items in (42, FEW_ITEMS, 0):
        bridge.wait_until(bridge.now + 1)
        bridge.hear(AgentReached(), deepgram.Welcome("r"))
        told = len(bridge.history)
        assert told >= items if items > FEW_ITEMS else told == items
        if items:
            assert DropAgent() in bridge.hear(AgentError("INVALID_SETTINGS", "history"))
    assert quiet(bridge.hear(SettingsApplied())) == []
    bridge.hear(ConversationText("user", "Still here?"), *ANSWER)
    bridge.wait_until(bridge.now + 61)
    bridge.hear(LOST)
    bridge.connect()
    assert bridge.history == [("user", "Still here?"), ("assistant", "Here.")]


def test_a_past_of_a_few_sentences_that_is_refused_is_dropped() -> None:
    bridge = begun()
    bridge.hear(LOST)
    bridge.hear(AgentReached(), deepgram.Welcome("r"), AgentError("INVALID_SETTINGS"))
    bridge.wait_until(1)
    assert bridge.connect() == []
    assert bridge.history == []


def test_a_functions_answer_that_agents_die_of_is_left_out() -> None:
    bridge = begun()
    called = FunctionToCall("f", "look")
    bridge.hear(QUESTION, FunctionCallRequest((called,)))
    bridge.hear(FunctionDone(called, '{"bad": true}'), ERROR)
    bridge.connect()
    assert ("look", '{"bad": true}') in bridge.history
    bridge.hear(ERROR)
    bridge.connect()
    assert [name for name, _ in bridge.history] == ["assistant", "user"]


# --- any one thing --------------------------------------------------------------------------------

THINGS = ["sentence", "update", "restored", "words", "injected", "keys", "past", "result"]


class AnyRefusal(RuleBasedStateMachine):
    """An agent that takes everything but one thing, of which it dies, always."""

    @initialize(thing=st.sampled_from(THINGS), code=st.sampled_from(["FAILED_TO_THINK", "X"]))
    def begin(self, thing: str, code: str) -> None:
        self.thing = thing
        self.death = AgentError(code, thing)
        policy = msgspec.structs.replace(RECONNECTS, answer_within=5.0)
        self.bridge = Bridge(policy=policy)
        self.is_over = False
        self.numbers = 0
        self.bad: set[str] = set()
        self.waiting: dict[int, Any] = {}
        self.running: dict[str, FunctionToCall] = {}
        self.hear(twilio.Start(twilio.StreamStart(STREAM_SID, "CA1")), media())

    # What the caller and the call's own code do. The bad thing is done once in a call.

    @rule(is_bad=st.booleans())
    def the_caller_says_something(self, is_bad: bool) -> None:
        self.numbers += 1
        text = self._text("sentence", is_bad)
        self.hear(ConversationText("user", text))
        self._answer(text)

    @rule(is_bad=st.booleans())
    def a_prompt_is_added(self, is_bad: bool) -> None:
        kind = self.thing if self.thing == "restored" else "update"
        self._ask(UpdatePrompt(self._text(kind, is_bad)))

    @rule(is_bad=st.booleans())
    def words_are_to_be_said(self, is_bad: bool) -> None:
        self._ask(InjectAgentMessage(self._text("words", is_bad), "queue"))

    @rule(is_bad=st.booleans())
    def a_question_is_injected(self, is_bad: bool) -> None:
        self._ask(InjectUserMessage(self._text("injected", is_bad)))

    @rule()
    def keys_are_pressed(self) -> None:
        if self.thing == "keys" and "keys" in self.bad:
            return
        self.bad.add("keys")
        self.hear(twilio.Dtmf(twilio.Digit("9"), stream_sid=STREAM_SID))
        self.wait(2)

    @rule(is_bad=st.booleans())
    @precondition(lambda self: self._is_talking)
    def a_function_is_called(self, is_bad: bool) -> None:
        self.numbers += 1
        called = FunctionToCall(f"f{self.numbers}", "look")
        self.hear(FunctionCallRequest((called,)))
        if called.id in self.running:
            content = f'"{self._text("result", is_bad)}"'
            self.running.pop(called.id)
            self.hear(FunctionDone(called, content))

    @rule()
    @precondition(lambda self: self._is_talking)
    def the_socket_is_lost(self) -> None:
        self.wait(61)
        if self._is_talking:
            self.hear(LOST)
        self.wait(61)

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.wait(seconds)

    # What must hold.

    @invariant()
    def the_call_goes_on(self) -> None:
        assert not self.is_over
        assert self.bridge.dialogue.phase.name != "PARTING"

    def teardown(self) -> None:
        if hasattr(self, "bridge"):
            self.wait(100)
            assert self._is_talking
            assert not self.waiting, "who asked waits for ever"

    # The agent.

    @property
    def _is_talking(self) -> bool:
        return self.bridge.dialogue.phase.name == "TALKING"

    def _text(self, kind: str, is_bad: bool) -> str:
        self.numbers += 1
        if is_bad and kind == self.thing and kind not in self.bad:
            self.bad.add(kind)
            return f"poison {self.numbers}"
        return f"word {self.numbers}"

    def _ask(self, message: Any) -> None:
        self.numbers += 1
        self.waiting[self.numbers] = message
        self.hear(Ask(self.numbers, message))

    def wait(self, seconds: float) -> None:
        end = self.bridge.now + seconds
        while not self.is_over and self.bridge.dialogue.deadline <= end:
            at = self.bridge.dialogue.deadline
            for _, act in self.bridge.wait_until(at):
                self._do([act])
        self.bridge.now = max(self.bridge.now, end)

    def hear(self, *heard: Heard) -> None:
        self._do(self.bridge.hear(*heard))

    def _do(self, acts: list[Act]) -> None:
        for act in acts:
            match act:
                case CallFunctions(functions):
                    self.running |= {each.id: each for each in functions}
                case CancelFunctions(ids):
                    for id in ids:
                        self.running.pop(id, None)
                case RequestDone(number):
                    self.waiting.pop(number, None)
                case HangUp():
                    self.is_over = True
                case _:
                    pass
        # One after the other: what is heard may void what comes behind.
        for act in acts:
            if isinstance(act, Dial):
                self.hear(AgentReached("default"))
                self.hear(deepgram.Welcome("r"))
            elif isinstance(act, SendToAgent):
                self._tell_agent(act.message)

    def _tell_agent(self, message: Any) -> None:
        text = msgspec.json.encode(message).decode() if not isinstance(message, Audio) else ""
        restored = self.thing == "restored" and isinstance(message, UpdatePrompt)
        dies = "poison" in text and not isinstance(message, deepgram_settings.Settings)
        if isinstance(message, deepgram_settings.Settings):
            history = self.bridge.asked_for[-1].history
            dies = self.thing == "past" and bool(history)
            dies = dies or "poison" in msgspec.json.encode(history).decode()
        if dies and not (restored and "poison" in text and not self._is_second(text)):
            self.hear(self.death)
            return
        match message:
            case deepgram_settings.Settings():
                self.hear(SettingsApplied())
                if self.bridge.asked_for[-1].greets:
                    self._answer("greeting")
            case UpdatePrompt():
                self.hear(PromptUpdated())
            case InjectAgentMessage(words):
                self.hear(ConversationText("assistant", words or ""), *ANSWER[1:])
            case InjectUserMessage(content):
                self.hear(ConversationText("user", content))
                self._answer(content)
            case deepgram.FunctionResult():
                self._answer(text)

    def _is_second(self, text: str) -> bool:
        """An update that does no harm to the session that it was made in."""
        key = f"seen {text}"
        is_second = key in self.bad
        self.bad.add(key)
        return is_second

    def _answer(self, text: str) -> None:
        is_keys = self.thing == "keys" and "keyed in" in text
        if "poison" in text or is_keys:
            self.hear(self.death)
        else:
            self.hear(*ANSWER)


AnyRefusal.TestCase.settings = settings(stateful_step_count=25)
TestAnyRefusal = AnyRefusal.TestCase
