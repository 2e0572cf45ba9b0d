"""A session with ears: what is sent off to be recognised and rendered, and what comes of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.audio.frames import length
from sts_trio.offline import domain
from sts_trio.offline.answers.policy import Policy
from sts_trio.offline.hearing.endpointing import BY_LOUDNESS, MAX, Began, Ears, Paused, Sense
from sts_trio.offline.protocol.jobs import Heard, Listen, Speak, Spoken
from sts_trio.offline.protocol.session import Act, HangUp, Message, Session
from sts_trio.offline.speech import voice
from sts_trio.offline.speech.pacing import pieces
from sts_trio.offline.speech.sentence_queue import PAUSE, Recital, sentences
from sts_trio.wire import deepgram, deepgram_settings
from sts_trio.wire.deepgram import Audio

CARS = domain.load()
SENSE = Sense(hears=BY_LOUDNESS.hears, begin=4, end=25, pause=12)
LOUD, SILENCE = b"\x00" * 160, b"\xff" * 160
BARGE_IN, DONE = deepgram.UserStartedSpeaking(), deepgram.AgentAudioDone()
THINKING = deepgram.AgentThinking(Policy.thought)
DAY = "Which day would suit you?"
BOOKS: dict[str, Any] = {
    "provider": {"type": "open_ai", "model": "gpt-4o-mini"},
    "functions": [{"name": "book_test_drive", "description": "Books a test drive."}],
}


class Client:
    """Speaks with a session and does its jobs, when told to."""

    def __init__(self, **agent: Any) -> None:
        self.now = 100.0
        self.session = Session(Policy(CARS), sense=SENSE, has_ears=True, has_voice=True)
        self.acts: list[Act] = self.session.open(self.now)
        self.hear(deepgram_settings.phone_settings(agent))

    def hear(self, message: Message) -> None:
        self.acts += self.session.hear(message, self.now)

    def speak(self, duration: float, frame: bytes = LOUD) -> None:
        for _ in range(round(duration / 0.02)):
            self.hear(Audio(frame))
            self.now += 0.02

    def wait(self, duration: float) -> None:
        until = self.now + duration
        while (deadline := self.session.deadline) <= until:
            self.now = max(self.now, deadline)
            self.acts += self.session.wake(self.now)
        self.now = until

    def take(self, kind: type[Any] | None = None) -> list[Any]:
        """The acts since the last time; or those of a kind, and the others stay."""
        taken = [act for act in self.acts if kind is None or isinstance(act, kind)]
        self.acts = [act for act in self.acts if act not in taken]
        return taken

    def turn(self, words: str, fault: str | None = None) -> list[Any]:
        """The caller says this, and what comes of it before anything is rendered."""
        self.speak(1.0)
        self.speak(0.6, SILENCE)
        (job,) = self.take(Listen)
        self.take()
        self.hear(Heard(job.ticket, words, fault))
        return self.take()


def both(role: str, text: str) -> list[Any]:
    return [deepgram.ConversationText(role, text), deepgram.History(role, text)]


def begun(**agent: Any) -> Client:
    client = Client(**agent)
    client.take()
    return client


# --- the agent speaks -----------------------------------------------------------------------------


def test_the_greeting_is_rendered_by_the_sentence_and_told_as_it_is_spoken() -> None:
    client = Client(greeting="Hello! How are you?")
    welcome, applied, first, second = client.take()
    assert (welcome, applied) == (deepgram.Welcome(), deepgram.SettingsApplied())
    assert [first, second] == [Speak(1, "Hello!"), Speak(2, "How are you?")]
    client.hear(Spoken(1, b"hello"))
    assert client.take() == [*both("assistant", "Hello!"), Audio(b"hello")]
    client.hear(Spoken(2, b"how"))
    client.wait(1.0)
    assert client.take() == [
        *pieces(PAUSE),
        *both("assistant", "How are you?"),
        Audio(b"how"),
        DONE,
    ]


def test_a_sentence_that_is_ready_before_the_first_one_waits_for_it() -> None:
    client = Client(greeting="One. Two. Three.")
    client.take()
    client.hear(Spoken(3, b"c"))
    client.hear(Spoken(2, b"b"))
    client.wait(1.0)
    assert client.take() == []
    client.hear(Spoken(1, b"a"))
    client.wait(1.0)
    assert [act.content for act in client.take(deepgram.ConversationText)] == [
        "One.",
        "Two.",
        "Three.",
    ]
    audio = b"".join(act.data for act in client.take(Audio))
    assert audio == b"a" + PAUSE + b"b" + PAUSE + b"c"


def test_a_barge_in_drops_what_is_still_being_rendered() -> None:
    client = Client(greeting="One. Two.")
    client.hear(Spoken(1, b"a"))
    client.take()
    client.speak(0.1)
    client.take(Audio)
    assert client.take() == [BARGE_IN, DONE]
    client.hear(Spoken(2, b"b"))
    client.wait(1.0)
    assert client.take(Audio) == []


def test_what_was_cut_before_it_began_is_not_said_to_be_done() -> None:
    client = Client(greeting="One. Two.")
    client.take()
    client.speak(0.1)
    assert client.take() == [BARGE_IN]


def test_a_voice_that_fails_is_told_of_and_an_apology_is_heard() -> None:
    client = Client(greeting="One. Two.")
    client.take()
    client.hear(Spoken(1, b"", "no voice"))
    client.hear(Spoken(2, b"", "no voice"))
    client.wait(10.0)
    warning, *rest = client.take()
    assert (warning.code, warning.description) == (
        "SPEAK_FAILED",
        "an apology is said instead: no voice",
    )
    assert rest[:2] == both("assistant", voice.APOLOGY)
    assert b"".join(act.data for act in rest[2:-1]) == voice.say(voice.APOLOGY)
    assert rest[-1] == DONE


# --- the caller speaks ----------------------------------------------------------------------------


def test_a_turn_is_sent_off_at_a_pause_and_answered_when_it_is_over() -> None:
    client = begun()
    client.speak(1.0)
    assert client.take() == [BARGE_IN]
    client.speak(0.26, SILENCE)
    (job,) = client.take()
    assert job.audio == LOUD * 50 + SILENCE * 12
    client.hear(Heard(job.ticket, "book a test drive"))
    assert client.take() == []
    client.speak(0.26, SILENCE)
    assert client.take() == [
        *both("user", "book a test drive"),
        THINKING,
        Speak(job.ticket + 1, DAY),
    ]


def test_words_that_come_late_are_answered_when_they_come() -> None:
    client = begun()
    assert client.turn("book a test drive")[-1] == Speak(2, DAY)


def test_who_goes_on_after_a_pause_is_heard_whole() -> None:
    client = begun()
    client.speak(1.0)
    client.speak(0.3, SILENCE)
    (half,) = client.take(Listen)
    client.hear(Heard(half.ticket, "book a"))
    client.speak(0.5)
    client.hear(Heard(half.ticket, "book a"))
    client.speak(0.6, SILENCE)
    (whole,) = client.take(Listen)
    assert whole.audio == LOUD * 50 + SILENCE * 15 + LOUD * 25 + SILENCE * 12
    client.take()
    client.hear(Heard(half.ticket, "book a"))
    assert client.take() == []
    client.hear(Heard(whole.ticket, "book a test drive"))
    assert client.take()[0] == deepgram.ConversationText("user", "book a test drive")


def test_who_goes_on_before_the_words_are_known_is_answered_once_and_to_all() -> None:
    client = begun()
    client.speak(1.0)
    client.speak(0.6, SILENCE)
    (first,) = client.take(Listen)
    client.speak(0.5)
    client.hear(Heard(first.ticket, "book a"))
    client.speak(0.6, SILENCE)
    (second,) = client.take(Listen)
    assert second.audio.startswith(first.audio)
    assert second.audio.count(LOUD) >= 75
    assert client.take() == [BARGE_IN, BARGE_IN]
    client.hear(Heard(second.ticket, "book a test drive"))
    assert client.take()[0] == deepgram.ConversationText("user", "book a test drive")


def test_the_next_turn_has_nothing_of_the_last_one_in_it() -> None:
    client = begun()
    client.turn("hello")
    client.speak(1.0, SILENCE)
    client.speak(0.5)
    client.speak(0.6, SILENCE)
    (job,) = client.take(Listen)
    assert job.audio == SILENCE * 15 + LOUD * 25 + SILENCE * 12


def test_ears_that_fail_are_told_of_and_the_call_goes_on() -> None:
    client = begun()
    warning, *rest = client.turn("", "no reply within 3 seconds")
    assert (warning.code, warning.description) == (
        "LISTEN_FAILED",
        "the caller was not understood: no reply within 3 seconds",
    )
    assert rest == [
        THINKING,
        Speak(2, CARS.says.lost),
        Speak(3, CARS.says.help),
    ]
    assert client.turn("goodbye")[0] == deepgram.ConversationText("user", "goodbye")


def test_speech_without_words_is_answered_and_no_transcript_pretends_otherwise() -> None:
    client = begun()
    assert client.turn("")[:2] == [THINKING, Speak(2, CARS.says.lost)]


def test_a_turn_that_breaks_off_is_over() -> None:
    """A muted handset may send no more frames."""
    client = begun()
    client.speak(1.0)
    client.take()
    client.wait(1.1)
    (job,) = client.take()
    assert job.audio == LOUD * 50
    client.hear(Heard(job.ticket, "hello"))
    assert client.take()[0] == deepgram.ConversationText("user", "hello")


def test_a_flux_client_ends_the_turn_itself() -> None:
    client = begun(listen={"provider": {"type": "deepgram", "version": "v2", "model": "flux"}})
    client.speak(1.0)
    client.take()
    client.hear(deepgram.ForceEndTurn())
    (job,) = client.take()
    assert job.audio == LOUD * 50


def test_a_radio_is_cut_off() -> None:
    client = begun()
    client.speak(25.0)
    (job,) = client.take(Listen)
    assert len(job.audio) <= MAX
    assert length(19.9) < len(job.audio)


# --- functions, injections, contexts --------------------------------------------------------------


def confirmed() -> Client:
    client = begun(think=BOOKS)
    for said in ("book a test drive on tuesday at ten", "my name is mary"):
        client.hear(deepgram.InjectUserMessage(said))
    client.take()
    return client


def test_a_confirmed_booking_is_the_clients_to_make() -> None:
    client = confirmed()
    *_, request = client.turn("yes")
    assert isinstance(request, deepgram.FunctionCallRequest)
    (call,) = request.functions
    assert call.name == "book_test_drive"
    client.hear(deepgram.FunctionResult(call.id, call.name, "done"))
    first, *_ = client.take(Speak)
    assert first.text == "It is booked for Mary, on Tuesday at ten."


def test_a_booking_is_called_off_by_a_caller_who_goes_on() -> None:
    client = confirmed()
    *_, request = client.turn("yes")
    client.speak(0.2)
    cancelled = client.take(deepgram.FunctionCallCancelled)
    assert [each.functions[0].id for each in cancelled] == [request.functions[0].id]
    client.hear(deepgram.FunctionResult(request.functions[0].id, "book_test_drive", "done"))
    assert client.take(Speak) == []


def test_a_function_that_deepgram_would_run_is_not_asked_of_the_client() -> None:
    function = BOOKS["functions"][0] | {"endpoint": {"url": "https://example.com"}}
    client = begun(think=BOOKS | {"functions": [function]})
    client.hear(deepgram.InjectUserMessage("book a test drive on tuesday at ten for mary"))
    client.hear(deepgram.InjectUserMessage("yes"))
    assert client.take(deepgram.FunctionCallRequest) == []
    assert client.take(Speak)[-3].text == "It is booked for Mary, on Tuesday at ten."


def test_an_injection_is_refused_while_an_answer_is_being_rendered() -> None:
    client = begun()
    client.turn("hello")
    client.hear(deepgram.InjectAgentMessage("One moment."))
    refused, warning = client.take()
    assert isinstance(refused, deepgram.InjectionRefused)
    assert warning.code == "INJECT_AGENT_MESSAGE_DURING_AGENT_SPEECH"


def test_an_agent_that_is_to_speak_by_itself_says_what_it_can_do() -> None:
    client = begun()
    client.hear(deepgram.InjectAgentMessage(is_dynamic=True))
    assert client.take() == [Speak(1, CARS.says.help)]


def test_an_injected_text_without_a_word_is_rendered_to_nothing_and_done() -> None:
    client = begun()
    client.hear(deepgram.InjectAgentMessage("..."))
    assert client.take() == [Speak(1, "...")]
    client.hear(Spoken(1, b""))
    assert client.take()[-1] == DONE


def test_a_session_that_is_resumed_knows_what_was_said_before() -> None:
    """A bridge that dials again after a lost connection hands over the history."""
    said = [
        {"type": "History", "role": "user", "content": "book a test drive on monday"},
        {"type": "History", "role": "assistant", "content": "At what time?"},
        {"type": "History", "function_calls": []},
        {"type": "History", "role": "user", "content": "at nine"},
    ]
    client = begun(context={"messages": said})
    assert client.turn("my name is anna")[-2:] == [
        Speak(2, "So that is a test drive of one of our cars, on Monday at nine, for Anna."),
        Speak(3, "Is that right?"),
    ]


def test_a_session_that_is_resumed_knows_which_functions_have_run() -> None:
    called = {"id": "1", "name": "book_test_drive", "client_side": True, "arguments": "{}"}
    said = [
        {"type": "History", "role": "user", "content": "a test drive on tuesday at ten for mary"},
        {"type": "History", "role": "user", "content": "yes"},
        {"type": "History", "function_calls": [{**called, "response": "done"}, "nonsense"]},
    ]
    client = begun(think=BOOKS, context={"messages": said})
    client.hear(deepgram.InjectUserMessage("Please go on."))
    assert client.take(deepgram.FunctionCallRequest) == []
    assert client.take(Speak)[0].text == "It is booked for Mary, on Tuesday at ten."


def test_who_is_asked_to_go_on_begins_with_the_sentence_that_was_cut() -> None:
    first, second = "We are open from nine to six on weekdays, and", "On Sunday we are closed."
    said = [
        {"type": "History", "role": "user", "content": "when do you open"},
        {"type": "History", "role": "assistant", "content": first},
    ]
    client = begun(context={"messages": said})
    assert client.take(Speak) == []  # nobody greets in the middle of a call
    client.hear(deepgram.InjectUserMessage("Please go on."))
    told = [each.text for each in client.take(Speak)]
    assert told[0].startswith(first)
    assert told[-1] == second


def test_a_function_is_given_what_it_has_parameters_for() -> None:
    parameters = {"type": "object", "properties": {"day": {"type": "string"}}}
    function = {"name": "book_test_drive", "parameters": parameters}
    client = begun(think=BOOKS | {"functions": [function]})
    client.hear(deepgram.InjectUserMessage("book a test drive on tuesday at ten for mary"))
    client.hear(deepgram.InjectUserMessage("yes"))
    (request,) = client.take(deepgram.FunctionCallRequest)
    assert request.functions[0].arguments == '{"day":"Tuesday"}'


def test_an_errand_that_comes_back_when_all_is_over_is_nobodys() -> None:
    client = Client(greeting="One.")
    client.hear(deepgram_settings.phone_settings({}))
    assert isinstance(client.take()[-1], HangUp)
    client.hear(Spoken(1, b"a"))
    client.hear(Heard(1, "hello"))
    assert client.take() == []


# --- sentences and their order --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("  ", []),
        ("Hello", ["Hello"]),
        ("Hello! How are you?", ["Hello!", "How are you?"]),
        ("It costs 3.50 a day. Well...  yes?!", ["It costs 3.50 a day.", "Well...", "yes?!"]),
        ("One line\nand another.", ["One line", "and another."]),
    ],
)
def test_a_text_is_cut_into_sentences(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


@given(st.text())
def test_no_sign_is_lost_between_sentences(text: str) -> None:
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@given(st.permutations(range(6)))
def test_lines_are_said_in_order_whichever_is_ready_first(order: list[int]) -> None:
    recital = Recital()
    for ticket in range(6):
        recital.add(ticket, [deepgram.ConversationText("assistant", str(ticket))], is_last=True)
    said = [each for ticket in order for each in recital.deliver(ticket, bytes([ticket]))]
    assert [each.data for each in said if isinstance(each, Audio)] == [bytes([n]) for n in range(6)]
    assert not recital.is_on


# --- ears that keep what they heard ---------------------------------------------------------------


@given(st.integers(1, 3000))
def test_what_is_kept_does_not_depend_on_how_the_audio_is_cut(piece: int) -> None:
    audio = SILENCE * 30 + LOUD * 10 + SILENCE * 40
    ears = Ears(SENSE)
    told = [
        news for at in range(0, len(audio), piece) for news in ears.listen(audio[at : at + piece])
    ]
    assert told[:2] == [Began(), Paused(SILENCE * 15 + LOUD * 10 + SILENCE * 12)]


def test_ears_that_keep_nothing_grow_no_heap() -> None:
    ears = Ears()
    for _ in range(2000):
        ears.listen(LOUD)
    assert ears._kept == b""
    ears = Ears(SENSE)
    for _ in range(2000):
        ears.listen(SILENCE)
    assert len(ears._kept) < length(0.5)
