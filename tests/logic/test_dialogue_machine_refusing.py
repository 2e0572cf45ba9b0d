"""A call whose agent refuses one thing, whichever: it dies of that, in each session anew. The call
goes on without it.

What is refused is known by a word, wherever that comes in: in what the caller says, in an update,
in words of ours, in a function's answer, in the past that a fresh session is told. Or it is
everything of a kind.
"""

from collections.abc import Callable
from math import inf

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from rig_peers import STREAM_SID
from strategies import examples
from telephone import LOST, POLICY, WORD, Telephone, speaks

from sts_trio.logic.acts import Ask, Heard
from sts_trio.wire import deepgram, deepgram_settings, twilio
from sts_trio.wire.deepgram import (
    AgentError,
    ConversationText,
    FunctionCallRequest,
    FunctionResult,
    FunctionToCall,
    InjectAgentMessage,
    InjectUserMessage,
    UpdatePrompt,
    UpdateSpeak,
    UserStartedSpeaking,
)

# Nobody falls silent: it is not their silence that is looked at.
PATIENT = msgspec.structs.replace(POLICY, ask_after=inf, hang_up_after=inf)
WITHIN = POLICY.answer_within + 0.05
WORST = "xylophone"
# More than may be lost in a minute.
BETWEEN_LOSSES = 61.0

Refuses = Callable[[deepgram.ToAgent], bool]


def of_that_word(message: deepgram.ToAgent) -> bool:
    return not isinstance(message, deepgram.Audio) and WORST in str(deepgram.encode(message))


def a_past(message: deepgram.ToAgent) -> bool:
    if not isinstance(message, deepgram_settings.Settings) or isinstance(message.agent, str):
        return False
    return bool(message.agent["context"]["messages"])


def of_kind(kind: type[deepgram.TextToAgent]) -> Refuses:
    return lambda message: isinstance(message, kind)


REFUSED: dict[str, Refuses] = {
    "that word": of_that_word,
    "any past": a_past,
    "any update of the prompt": of_kind(UpdatePrompt),
    "any other voice": of_kind(UpdateSpeak),
    "any words of ours": of_kind(InjectAgentMessage),
    "any words in the caller's name": of_kind(InjectUserMessage),
    "any function's answer": of_kind(FunctionResult),
}
_ACKNOWLEDGED: dict[type[deepgram.ToAgent], Heard] = {
    UpdatePrompt: deepgram.PromptUpdated(),
    UpdateSpeak: deepgram.SpeakUpdated(),
}


class Refusing(Telephone):
    def __init__(self, refuses: Refuses) -> None:
        self.refuses = refuses
        self.deaths: list[float] = []
        super().__init__(speaks, policy=PATIENT, function_takes=0.3, says_ours=True, settings=None)

    def die(self, code: str) -> None:
        self.deaths.append(self.now)
        self.later(0.1, AgentError(code, "no"))
        self.later(0.11, LOST)

    def ask(self, text: str) -> None:
        """The caller's own words."""
        self.hear(ConversationText("user", text))
        if self.refuses is of_that_word and WORST in text:
            self.die("FAILED_TO_THINK")
        else:
            self.act()

    def _tell_agent(self, message: deepgram.ToAgent) -> None:
        is_settings = isinstance(message, deepgram_settings.Settings)
        if is_settings:
            past = {"context": {"messages": self.bridge.asked_for[-1].history}}
            message = deepgram_settings.phone_settings({"greeting": "Hello."} | past)
        if self.refuses(message):
            self.die("INVALID_SETTINGS" if is_settings else "FAILED_TO_THINK")
            return
        super()._tell_agent(message)
        if (answer := _ACKNOWLEDGED.get(type(message))) is not None:
            self.later(0.1, answer)


words = st.sampled_from([f"The {WORST}, please.", "The drum, please."])


class OneThingRefused(RuleBasedStateMachine):
    @initialize(refused=st.sampled_from(sorted(REFUSED)))
    def begin(self, refused: str) -> None:
        self.phone = Refusing(REFUSED[refused])
        self.numbers = 0
        self.phone.wait(2)

    def go_on(self, seconds: float = 3.0) -> None:
        """Losses that come together are no accident any more, and end a call: that is told
        elsewhere."""
        self.phone.wait(seconds)
        if self.phone.deaths and self.phone.deaths[-1] > self.phone.now - BETWEEN_LOSSES:
            self.phone.wait(BETWEEN_LOSSES)

    def tell(self, message: deepgram.TextToAgent) -> None:
        self.numbers += 1
        self.phone.hear(Ask(self.numbers, message))
        self.go_on()

    @rule(words=words)
    def the_caller_asks(self, words: str) -> None:
        self.phone.ask(words)
        self.go_on()

    @rule()
    def a_noise(self) -> None:
        self.phone.hear(UserStartedSpeaking())
        self.go_on()

    @rule(key=st.sampled_from("1#"))
    def a_key(self, key: str) -> None:
        self.phone.hear(twilio.Dtmf(twilio.Digit(key), stream_sid=STREAM_SID))
        self.go_on()

    @rule(words=words)
    def the_prompt_is_changed(self, words: str) -> None:
        self.tell(UpdatePrompt(words))

    @rule(words=words)
    def the_voice_is_changed(self, words: str) -> None:
        self.tell(UpdateSpeak({"provider": {"type": "deepgram", "model": words}}))

    @rule(words=words)
    def words_are_said_in_the_agents_name(self, words: str) -> None:
        self.tell(InjectAgentMessage(words))

    @rule(words=words)
    def words_are_said_in_the_callers_name(self, words: str) -> None:
        self.tell(InjectUserMessage(words))

    @rule(words=words)
    def a_function_is_called(self, words: str) -> None:
        self.numbers += 1
        self.phone.function_says = f'"{words}"'
        called = FunctionToCall(f"f{self.numbers}", "look", "{}")
        self.phone.hear(FunctionCallRequest((called,)))
        self.go_on()

    @rule()
    def the_socket_is_lost(self) -> None:
        self.phone.hear(LOST)
        self.phone.deaths.append(self.phone.now)
        self.go_on()

    @invariant()
    def the_call_goes_on(self) -> None:
        if not hasattr(self, "phone"):
            return
        assert self.phone.ending is None
        assert self.phone.bridge.dialogue.phase.name == "TALKING"
        assert self.phone.bridge.dialogue.statistics().longest_silence <= WITHIN

    def teardown(self) -> None:
        if not hasattr(self, "phone"):
            return
        before = self.phone.now
        self.phone.ask("And the flute?")
        self.phone.wait(5)
        assert [at for at in self.phone.heard(WORD) if at > before], "it is not answered"


TestOneThingRefused = OneThingRefused.TestCase
TestOneThingRefused.settings = settings(max_examples=examples(0.6), stateful_step_count=12)


@pytest.mark.parametrize("refused", REFUSED)
def test_it_is_refused_in_this_test(refused: str) -> None:
    """Each of them is met, so that the machine above has something to look at."""
    machine = OneThingRefused()
    machine.begin(refused)
    machine.the_caller_asks(f"The {WORST}, please.")
    machine.the_prompt_is_changed("more")
    machine.the_voice_is_changed("other")
    machine.words_are_said_in_the_agents_name("Well.")
    machine.words_are_said_in_the_callers_name("Well?")
    machine.a_function_is_called("done")
    machine.the_socket_is_lost()
    machine.the_call_goes_on()
    assert len(machine.phone.deaths) > 1
    machine.teardown()
