"""One session of the offline agent, message by message: no socket, and time is a number."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.offline.protocol.faults import Faults, FaultySession, Garbage
from sts_trio.offline.protocol.functions import Functions
from sts_trio.offline.protocol.script import CAR_SELLER, CallFunction, Prompter, Script, Silence
from sts_trio.offline.protocol.session import (
    CLIENT_TIMEOUT,
    NO_STATUS,
    Act,
    HangUp,
    Session,
    Unparsable,
)
from sts_trio.offline.speech import voice
from sts_trio.wire import deepgram, deepgram_settings
from sts_trio.wire.deepgram import Audio

LOUD, SILENCE = b"\x00" * 160, b"\xff" * 160
GREETING = "Hello! How can I help you today?"
SCRIPT = Script(("First answer.", "Second answer."))
THINK: dict[str, Any] = {
    "provider": {"type": "open_ai", "model": "gpt-4o-mini"},
    "functions": [{"name": "find_car", "description": "Finds a car."}],
}


class Client:
    """Speaks with a session on a clock of its own, and keeps what it hears as (time, message)."""

    def __init__(self, script: Script = SCRIPT, faults: Faults | None = None) -> None:
        self.now = 100.0
        session = Session(Prompter(script), request_id="r1")
        self.session = FaultySession(session, faults) if faults else session
        self.heard: list[tuple[float, Act | Garbage]] = []
        self._note(self.session.open(self.now))

    def say(self, *messages: deepgram.ToAgent | Unparsable) -> None:
        for message in messages:
            self._note(self.session.hear(message, self.now))

    def speak(self, duration: float, frame: bytes = LOUD) -> None:
        """Audio in real time, a frame each 20 ms."""
        for _ in range(round(duration / 0.02)):
            self.say(Audio(frame))
            self.wait(0.02)

    def wait(self, duration: float) -> None:
        """Nothing is said; the session is woken whenever it wants to be."""
        until = self.now + duration
        while (deadline := self.session.deadline) <= until:
            self.now = max(self.now, deadline)
            self._note(self.session.wake(self.now))
        self.now = until

    def begin(self, **agent: Any) -> None:
        self.say(deepgram_settings.phone_settings(agent))

    def take(self) -> list[Act | Garbage]:
        """What was heard since the last time."""
        heard = [message for _, message in self.heard]
        self.heard.clear()
        return heard

    def texts(self) -> list[Act | Garbage]:
        return [message for message in self.take() if not isinstance(message, Audio)]

    def _note(self, acts: Any) -> None:
        self.heard += [(self.now, act) for act in acts]


def both(role: str, text: str) -> list[Act | Garbage]:
    return [deepgram.ConversationText(role, text), deepgram.History(role, text)]


def error(acts: list[Act | Garbage]) -> str:
    """The code of the error that ends these."""
    failure, end = acts[-2:]
    assert isinstance(failure, deepgram.AgentError)
    assert failure.description
    assert end == HangUp(NO_STATUS)
    return failure.code


THINKING = deepgram.AgentThinking("The next line of the script is due.")
DONE = deepgram.AgentAudioDone()


# --- the handshake --------------------------------------------------------------------------------


def test_welcome_comes_first_and_names_the_request() -> None:
    client = Client()
    client.wait(5)
    assert client.take() == [deepgram.Welcome("r1")]


def test_settings_are_applied_and_the_greeting_is_spoken_to_its_end() -> None:
    client = Client()
    client.begin(greeting=GREETING)
    client.wait(3)
    heard = client.take()
    assert heard[:4] == [
        deepgram.Welcome("r1"),
        deepgram.SettingsApplied(),
        *both("assistant", GREETING),
    ]
    assert heard[-1] == DONE
    spoken = b"".join(message.data for message in heard[4:-1] if isinstance(message, Audio))
    assert spoken == voice.say(GREETING)


def test_the_first_word_of_the_greeting_does_not_wait() -> None:
    client = Client()
    client.begin(greeting=GREETING)
    assert [time for time, message in client.heard if isinstance(message, Audio)] == [100.0]


def test_without_a_greeting_the_caller_speaks_first() -> None:
    client = Client()
    client.begin()
    client.wait(3)
    assert client.take() == [deepgram.Welcome("r1"), deepgram.SettingsApplied()]


def test_without_history_there_is_none() -> None:
    client = Client()
    settings = deepgram_settings.Settings(
        audio=deepgram_settings.phone_settings({}).audio,
        agent={"greeting": GREETING, "think": THINK},
        flags={"history": False},
    )
    client.say(settings, deepgram.InjectUserMessage("Hi."))
    assert not [each for each in client.take() if isinstance(each, deepgram.History)]


@pytest.mark.parametrize(
    "message", [Audio(LOUD), deepgram.KeepAlive(), deepgram.UpdatePrompt("Be brief.")]
)
def test_anything_before_the_settings_ends_the_session(message: deepgram.ToAgent) -> None:
    client = Client()
    client.say(message)
    assert error(client.take()) == "NON_SETTINGS_MESSAGE_BEFORE_SETTINGS"


def test_what_is_no_message_ends_the_session_before_and_after_the_settings() -> None:
    for settle in (False, True):
        client = Client()
        if settle:
            client.begin()
        client.say(Unparsable("not JSON"))
        acts = client.take()
        assert error(acts) == "UNPARSABLE_CLIENT_MESSAGE"
        assert acts[-2] == deepgram.AgentError("UNPARSABLE_CLIENT_MESSAGE", "not JSON")


def test_a_second_settings_ends_the_session() -> None:
    client = Client()
    client.begin()
    client.begin()
    assert error(client.take()) == "SETTINGS_ALREADY_APPLIED"


ULAW = deepgram_settings.AudioFormat("mulaw", 8000)


@pytest.mark.parametrize(
    "audio",
    [
        deepgram_settings.AudioSettings(),
        deepgram_settings.AudioSettings(input=ULAW),
        deepgram_settings.AudioSettings(
            input=ULAW, output=deepgram_settings.AudioFormat("linear16", 8000)
        ),
        deepgram_settings.AudioSettings(
            input=deepgram_settings.AudioFormat("mulaw", 16000), output=ULAW
        ),
        deepgram_settings.AudioSettings(
            input=ULAW, output=deepgram_settings.AudioFormat("mulaw", 8000, container="wav")
        ),
    ],
)
def test_audio_that_is_not_a_phones_is_refused(audio: deepgram_settings.AudioSettings) -> None:
    client = Client()
    client.say(deepgram_settings.Settings(audio=audio, agent={}))
    assert error(client.take()) == "INVALID_SETTINGS"


def test_a_container_that_is_not_named_is_none() -> None:
    client = Client()
    client.say(
        deepgram_settings.Settings(
            deepgram_settings.AudioSettings(input=ULAW, output=ULAW), agent={}
        )
    )
    assert client.take()[-1] == deepgram.SettingsApplied()


def test_a_stored_agent_is_not_known_here() -> None:
    client = Client()
    client.say(deepgram_settings.phone_settings("00000000-0000-4000-8000-000000000000"))
    assert error(client.take()) == "AGENT_ID_NOT_SUPPORTED"


def test_after_the_end_nothing_is_said_whatever_is_heard() -> None:
    client = Client()
    client.begin(greeting=GREETING)
    client.begin()
    client.take()
    client.say(Audio(LOUD), deepgram.KeepAlive(), deepgram_settings.phone_settings({}))
    client.wait(60)
    assert client.take() == []


# --- turns ----------------------------------------------------------------------------------------


def test_a_turn_is_noticed_described_honestly_and_answered_from_the_script() -> None:
    client = Client()
    client.begin()
    client.take()
    client.speak(1.4)
    assert client.take() == [deepgram.UserStartedSpeaking()]
    client.speak(0.5, SILENCE)
    heard = client.take()
    assert heard[:5] == [
        *both("user", "(speech, 1.4 s)"),
        THINKING,
        *both("assistant", "First answer."),
    ]
    client.speak(2.0, SILENCE)
    heard += client.take()
    assert heard[-1] == DONE
    spoken = b"".join(message.data for message in heard if isinstance(message, Audio))
    assert spoken == voice.say("First answer.")


def test_the_answer_begins_half_a_second_after_the_caller_ceased() -> None:
    client = Client()
    client.begin()
    client.speak(1.0)
    client.speak(1.0, SILENCE)
    first = next(time for time, message in client.heard if isinstance(message, Audio))
    assert first == pytest.approx(100 + 1.0 + 0.5, abs=0.021)


def test_the_script_begins_again_after_its_last_line() -> None:
    client = Client()
    client.begin()
    for _ in range(3):
        client.speak(0.3)
        client.speak(2.5, SILENCE)
    said = [
        message.content
        for message in client.take()
        if isinstance(message, deepgram.ConversationText) and message.role == "assistant"
    ]
    assert said == ["First answer.", "Second answer.", "First answer."]


def test_speech_stops_the_agent_at_once() -> None:
    client = Client(CAR_SELLER)
    client.begin(greeting=GREETING)
    client.speak(0.3, SILENCE)
    client.take()
    client.speak(0.06)
    heard = client.texts()
    assert heard == [deepgram.UserStartedSpeaking(), DONE]
    client.speak(2.0)
    assert client.take() == []


def test_speech_that_finds_the_agent_done_sending_is_told_all_the_same() -> None:
    client = Client()
    client.begin(greeting=GREETING)
    client.wait(2.0)
    assert client.take()[-1] == DONE
    client.speak(0.2)
    assert client.take() == [deepgram.UserStartedSpeaking()]


def test_speech_that_breaks_off_because_the_frames_stop_is_a_turn_as_well() -> None:
    client = Client()
    client.begin()
    client.speak(0.5)
    client.take()
    client.wait(0.97)
    assert client.take() == []
    client.wait(0.02)
    assert client.take()[0] == deepgram.ConversationText("user", "(speech, 0.5 s)")


def test_a_burst_that_was_held_up_is_heard_like_speech_in_time() -> None:
    client = Client()
    client.begin()
    client.take()
    client.say(Audio(LOUD * 50 + SILENCE * 30))
    assert client.take()[:2] == [
        deepgram.UserStartedSpeaking(),
        deepgram.ConversationText("user", "(speech, 1.0 s)"),
    ]


def test_an_empty_binary_message_means_nothing() -> None:
    client = Client()
    client.begin()
    client.take()
    client.say(Audio(b""))
    assert client.take() == []


# --- idle clients ---------------------------------------------------------------------------------


def test_a_client_that_is_silent_for_fifteen_seconds_is_dropped() -> None:
    client = Client()
    client.begin()
    client.speak(1.0, SILENCE)
    client.wait(CLIENT_TIMEOUT - 0.03)
    assert client.session.deadline < 200
    client.take()
    client.wait(0.02)
    assert error(client.take()) == "CLIENT_MESSAGE_TIMEOUT"


@pytest.mark.parametrize("sign", [deepgram.KeepAlive(), Audio(SILENCE)])
def test_keepalive_and_audio_hold_a_session(sign: deepgram.ToAgent) -> None:
    client = Client()
    client.begin()
    client.take()
    for _ in range(10):
        client.wait(14)
        client.say(sign)
    assert client.take() == []


def test_other_messages_hold_no_session() -> None:
    client = Client()
    client.begin()
    client.wait(14)
    client.say(deepgram.UpdatePrompt("Be brief."))
    client.wait(1)
    assert error(client.take()) == "CLIENT_MESSAGE_TIMEOUT"


# --- updates and injections -----------------------------------------------------------------------

SPEAK = {"provider": {"type": "deepgram", "model": "aura-2-apollo-en"}}
FLUX = {"provider": {"type": "deepgram", "model": "flux-general-en", "version": "v2"}}


@pytest.mark.parametrize(
    ("update", "answer"),
    [
        (deepgram.UpdatePrompt("Be brief."), deepgram.PromptUpdated()),
        (deepgram.UpdateSpeak(SPEAK), deepgram.SpeakUpdated()),
        (deepgram.UpdateListen(FLUX), deepgram.ListenUpdated()),
        (
            deepgram.UpdateThink({"provider": {"type": "open_ai"}}),
            deepgram.ThinkUpdated(),
        ),
        (
            deepgram.UpdateThinkLive(deepgram_settings.ThinkLive({"type": "deepgram"})),
            deepgram.ThinkLiveUpdated(),
        ),
    ],
)
def test_an_update_is_acknowledged(update: deepgram.ToAgent, answer: deepgram.FromAgent) -> None:
    client = Client()
    client.begin()
    client.take()
    client.say(update)
    assert client.take() == [answer]


def test_keepalive_and_custom_messages_are_never_answered() -> None:
    client = Client()
    client.begin()
    client.take()
    client.say(deepgram.KeepAlive(), deepgram.CustomToThinkProvider({"any": "thing"}))
    assert client.take() == []


def test_an_injected_user_message_is_a_turn() -> None:
    client = Client()
    client.begin()
    client.take()
    client.say(deepgram.InjectUserMessage("What does it cost?"))
    assert client.take()[:5] == [
        *both("user", "What does it cost?"),
        THINKING,
        *both("assistant", "First answer."),
    ]


def test_an_injected_agent_message_is_spoken() -> None:
    client = Client()
    client.begin()
    client.take()
    client.say(deepgram.InjectAgentMessage("One moment."))
    client.wait(2)
    heard = client.take()
    assert heard[:2] == both("assistant", "One moment.")
    assert heard[-1] == DONE


def test_an_injection_is_refused_while_the_agent_speaks_unless_it_queues() -> None:
    client = Client()
    client.begin(greeting=GREETING)
    client.take()
    client.say(deepgram.InjectAgentMessage("One moment."))
    refused, warning = client.take()
    assert isinstance(refused, deepgram.InjectionRefused)
    assert isinstance(warning, deepgram.AgentWarning)
    assert warning.code == "INJECT_AGENT_MESSAGE_DURING_AGENT_SPEECH"
    client.say(deepgram.InjectAgentMessage("One moment.", behavior="queue"))
    client.wait(3)
    assert client.texts() == [DONE, *both("assistant", "One moment."), DONE]


@pytest.mark.parametrize("behavior", ["default", "queue"])
def test_an_injection_is_refused_while_the_caller_speaks(behavior: str) -> None:
    client = Client()
    client.begin()
    client.speak(0.2)
    client.take()
    client.say(deepgram.InjectAgentMessage("One moment.", behavior=behavior))
    refused, warning = client.take()
    assert isinstance(refused, deepgram.InjectionRefused)
    assert isinstance(warning, deepgram.AgentWarning)
    assert warning.code == "INJECT_AGENT_MESSAGE_DURING_USER_SPEECH"


def test_an_interrupting_injection_replaces_what_is_being_said() -> None:
    client = Client()
    client.begin(greeting=GREETING)
    client.take()
    client.say(deepgram.InjectAgentMessage("Stop!", behavior="interrupt"))
    client.wait(2)
    assert client.texts() == [DONE, *both("assistant", "Stop!"), DONE]


def test_a_generated_injection_is_the_next_line() -> None:
    client = Client()
    client.begin()
    client.take()
    client.say(deepgram.InjectAgentMessage(is_dynamic=True))
    assert client.take()[:2] == both("assistant", "First answer.")


@pytest.mark.parametrize(
    "message",
    [deepgram.InjectAgentMessage(), deepgram.InjectAgentMessage("Hi.", behavior="shout")],
)
def test_an_injection_without_a_message_or_of_an_unknown_kind_ends_the_session(
    message: deepgram.InjectAgentMessage,
) -> None:
    client = Client()
    client.begin()
    client.say(message)
    assert error(client.take()) == "UNPARSABLE_CLIENT_MESSAGE"


def test_a_turn_can_be_forced_to_end_with_flux_only() -> None:
    client = Client()
    client.begin()
    client.speak(0.2)
    client.take()
    client.say(deepgram.ForceEndTurn())
    (warning,) = client.take()
    assert isinstance(warning, deepgram.AgentWarning)
    assert warning.code == "FORCE_END_TURN_UNSUPPORTED"
    client.say(deepgram.UpdateListen(FLUX), deepgram.ForceEndTurn(), deepgram.ForceEndTurn())
    assert client.texts()[:2] == [
        deepgram.ListenUpdated(),
        deepgram.ConversationText("user", "(speech, 0.2 s)"),
    ]


# --- functions ------------------------------------------------------------------------------------

CALLING = Script((CallFunction("find_car", {"colour": "red"}), "It is red."))


def test_a_function_is_called_and_its_result_is_waited_for() -> None:
    client = Client(CALLING)
    client.begin(think=THINK)
    client.say(deepgram.InjectUserMessage("A red car?"))
    request = client.take()[-1]
    assert request == deepgram.FunctionCallRequest(
        (deepgram.FunctionToCall("call_r1_1", "find_car", '{"colour":"red"}'),)
    )
    client.wait(3)
    assert client.take() == []
    client.say(deepgram.FunctionResult("call_r1_1", "find_car", '{"found":1}'))
    called = deepgram.CalledFunction(
        "call_r1_1", "find_car", True, '{"colour":"red"}', '{"found":1}'
    )
    assert client.take()[:3] == [
        deepgram.History(function_calls=(called,)),
        *both("assistant", "It is red."),
    ]


def test_no_call_is_taken_for_one_of_another_session() -> None:
    """A bridge remembers what it was asked by the session before, by its id."""
    line = CallFunction("find_car")
    ids = {Functions(session).call(line).functions[0].id for session in ("a", "b", "")}
    assert ids == {"call_a_1", "call_b_1", "call_1"}


def test_speech_voids_a_call_in_flight_and_its_late_result_is_dropped() -> None:
    client = Client(CALLING)
    client.begin(think=THINK)
    client.say(deepgram.InjectUserMessage("A red car?"))
    client.take()
    client.speak(0.1)
    assert client.take() == [
        deepgram.UserStartedSpeaking(),
        deepgram.FunctionCallCancelled((deepgram.CancelledFunction("call_r1_1", "find_car"),)),
    ]
    client.say(deepgram.FunctionResult("call_r1_1", "find_car", "{}"))
    assert client.take() == []


def test_a_function_that_was_never_defined_ends_the_session() -> None:
    client = Client(CALLING)
    client.begin()
    client.say(deepgram.InjectUserMessage("A red car?"))
    assert error(client.take()) == "NON_EXISTENT_FUNCTION_CALLED"


def test_a_function_defined_later_can_be_called() -> None:
    client = Client(CALLING)
    client.begin()
    client.say(
        deepgram.UpdateThink(
            [{"provider": {"type": "open_ai"}, "functions": [{"name": "find_car"}]}]
        ),
        deepgram.InjectUserMessage("A red car?"),
    )
    assert isinstance(client.take()[-1], deepgram.FunctionCallRequest)


def test_a_function_of_the_service_itself_is_passed_over_with_a_warning() -> None:
    client = Client(CALLING)
    endpoint = {"url": "https://example.invalid/find"}
    client.begin(think={**THINK, "functions": [{"name": "find_car", "endpoint": endpoint}]})
    client.take()
    client.say(deepgram.InjectUserMessage("A red car?"))
    heard = client.texts()
    assert [type(each) for each in heard[3:4]] == [deepgram.AgentWarning]
    assert heard[4:6] == both("assistant", "It is red.")


def test_a_script_goes_on_where_another_session_was_lost() -> None:
    def user(said: str) -> dict[str, Any]:
        return {"type": "History", "role": "user", "content": said}

    def agent(said: str) -> dict[str, Any]:
        return {"type": "History", "role": "assistant", "content": said}

    called = {"id": "1", "name": "find_car", "client_side": True, "arguments": "", "response": "{}"}
    script = Script(("One.", CallFunction("find_car"), "Two.", "Three."))
    history = [agent("Hello!"), user("a"), agent("One."), user("b"), {"function_calls": [called]}]
    for messages, line in ((history, "Two."), ([*history, agent("Two.")], "Three.")):
        client = Client(script)
        client.begin(think=THINK, context={"messages": messages})
        client.take()
        client.say(deepgram.InjectUserMessage("Please go on."))
        assert deepgram.ConversationText("assistant", line) in client.take()


def test_a_script_has_something_to_say() -> None:
    with pytest.raises(ValueError, match="at least one line"):
        Script((CallFunction("find_car"),))


def test_an_agent_may_say_nothing_in_a_turn_and_go_on_in_the_next() -> None:
    """It has heard what was said, and gives no other sign of life."""
    client = Client(Script((Silence(), "Yes.")))
    client.begin()
    client.take()
    client.say(deepgram.InjectUserMessage("Are you there?"))
    assert client.take() == [
        deepgram.ConversationText("user", "Are you there?"),
        deepgram.History("user", "Are you there?"),
    ]
    client.say(deepgram.InjectUserMessage("Hello?"))
    assert any(getattr(each, "content", "") == "Yes." for each in client.take())


def test_an_agent_may_be_mute_from_the_beginning_to_the_end() -> None:
    client = Client(Script((Silence(),)))
    client.begin()
    client.take()
    for _ in range(3):
        client.say(deepgram.InjectUserMessage("Hello?"))
        assert all(getattr(each, "role", "user") == "user" for each in client.take())


def test_what_fails_in_the_middle_of_a_burst_is_the_last_thing_said() -> None:
    client = Client(CALLING)
    client.begin()
    client.say(Audio((LOUD * 10 + SILENCE * 30) * 2))
    assert error(client.take()) == "NON_EXISTENT_FUNCTION_CALLED"


# --- faults ---------------------------------------------------------------------------------------


def test_a_session_can_forget_its_welcome_and_still_take_settings() -> None:
    client = Client(faults=Faults(no_welcome=True))
    assert client.take() == []
    client.begin()
    assert client.take() == [deepgram.SettingsApplied()]


def test_a_session_can_leave_the_settings_unanswered() -> None:
    client = Client(faults=Faults(no_settings_applied=True))
    client.begin(greeting=GREETING)
    client.wait(10)
    assert client.take() == [deepgram.Welcome("r1")]


def test_a_session_can_talk_garbage() -> None:
    client = Client(faults=Faults(garbage=("{", "")))
    client.begin()
    assert client.take()[1:] == [deepgram.SettingsApplied(), Garbage("{"), Garbage("")]


def test_a_session_can_flood() -> None:
    client = Client(faults=Faults(flood=30.0))
    client.begin()
    sent = [message.data for time, message in client.heard if isinstance(message, Audio)]
    assert len(b"".join(sent)) == 240_000
    assert {time for time, _ in client.heard} == {100.0}


def test_a_session_can_fail_in_the_midst_of_it() -> None:
    client = Client(faults=Faults(error_after=2.0, error_code="FAILED_TO_THINK"))
    client.begin(greeting=GREETING)
    client.speak(1.98, SILENCE)
    assert not [each for each in client.take() if isinstance(each, deepgram.AgentError)]
    client.wait(0.03)
    assert error(client.take()) == "FAILED_TO_THINK"


def test_a_session_can_close_without_a_reason() -> None:
    client = Client(faults=Faults(close_after=2.0, close_code=1011))
    client.begin()
    client.wait(2.0)
    assert client.take()[-1] == HangUp(1011)
    assert client.heard == []


# --- whatever is said -----------------------------------------------------------------------------

MESSAGES: list[deepgram.ToAgent | Unparsable] = [
    Audio(LOUD * 5),
    Audio(SILENCE * 30),
    Audio(b""),
    Unparsable("x"),
    deepgram_settings.phone_settings({"greeting": GREETING, "think": THINK}),
    deepgram.KeepAlive(),
    deepgram.ForceEndTurn(),
    deepgram.InjectUserMessage("Hi."),
    deepgram.InjectAgentMessage("Hi."),
    deepgram.InjectAgentMessage("Hi.", behavior="queue"),
    deepgram.InjectAgentMessage("Hi.", behavior="interrupt"),
    deepgram.FunctionResult("call_r1_1", "find_car", "{}"),
    deepgram.UpdateThink({"provider": {"type": "open_ai"}}),
]


@given(
    st.lists(st.one_of(st.sampled_from(MESSAGES), st.floats(0.0, 20.0)), min_size=1, max_size=30),
    st.booleans(),
)
def test_no_order_of_messages_breaks_a_session(
    steps: list[deepgram.ToAgent | Unparsable | float], settled: bool
) -> None:
    """An error is the last thing said, and waiting never hangs: no deadline stays in the past."""
    client = Client(Script((CallFunction("find_car"), "Yes.")))
    if settled:
        client.begin(think=THINK)
    for step in steps:
        if isinstance(step, float):
            client.wait(step)
        else:
            client.say(step)
        assert client.session.deadline > client.now or client.session.wake(client.now)
    heard = client.take()
    assert heard[0] == deepgram.Welcome("r1")
    ends = [n for n, each in enumerate(heard) if isinstance(each, deepgram.AgentError)]
    assert ends in ([], [len(heard) - 2])
