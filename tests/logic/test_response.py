"""How long the caller waits for an answer, by the stream that comes from their phone."""

import pytest
from rig_dialogue import STEPS, Bridge, talking
from rig_peers import START, STREAM_SID, media

from sts_trio.audio.frames import FRAME
from sts_trio.errors import How, Leg, LegEnded
from sts_trio.logic.acts import Act, Ask, SendToCaller
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.response import ResponseTime
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.deepgram import Audio, ConversationText, UserStartedSpeaking

LOUD = b"\x10\x90" * (FRAME // 2)
HISS = b"\xfe\x7e" * (FRAME // 2)
ANSWER = LOUD * 50


def told(acts: list[Act]) -> list[float]:
    return [act.after for act in acts if isinstance(act, events.AgentAnswerHeard)]


class Call:
    """The stream of a phone, a frame every 20 ms, and marks that come back in it."""

    def __init__(self, policy: CallPolicy | None = None) -> None:
        self.bridge = talking(policy)
        self.told: list[float] = []
        self.marks: list[str] = []

    def speak(self, frames: int, frame: bytes = HISS) -> None:
        for _ in range(frames):
            self.bridge.now += 0.02
            self.hear(media(frame))

    def hear(self, *heard: object) -> None:
        acts = self.bridge.hear(*heard)  # type: ignore[arg-type]
        self.told += told(acts)
        for act in acts:
            if isinstance(act, SendToCaller) and isinstance(act.message, twilio.PlayMark):
                self.marks.append(act.message.mark.name)

    def echo(self) -> None:
        self.hear(twilio.Mark(twilio.MarkName(self.marks.pop()), STREAM_SID))

    def ask(self, silence: int = 10) -> None:
        """The caller says something, and is understood so many frames later."""
        self.speak(20, LOUD)
        self.speak(silence)
        self.hear(ConversationText("user", "What is it?"))


def test_the_wait_is_from_the_last_sound_of_the_question_to_the_first_of_the_answer() -> None:
    call = Call()
    call.ask(silence=10)
    call.speak(15)
    call.hear(Audio(HISS * 5 + ANSWER))
    call.speak(50)  # a second of it is played, from the next frame on, and then comes a mark
    call.echo()
    assert call.told == [pytest.approx(0.02 * (10 + 15 + 5))]
    call.hear(Audio(ANSWER))
    call.speak(60)
    call.echo()
    assert len(call.told) == 1, "the rest of it is no answer of its own"


def test_what_waits_to_be_forwarded_is_silence_too() -> None:
    bridge = Bridge(forward=0.2)
    bridge.hear(*STEPS.values())
    call = Call()
    call.bridge = bridge
    call.ask(silence=5)
    call.hear(Audio(ANSWER))
    call.speak(50)
    call.echo()
    assert call.told == [pytest.approx(0.1)]


@pytest.mark.parametrize("resumes", [True, False])
def test_of_an_answer_that_is_cut_with_its_stream_nothing_is_told(resumes: bool) -> None:
    """Else the time without a stream would count as the caller's wait for it."""
    call = Call()
    call.bridge = talking(CallPolicy(resumes=resumes), may_come_back=True)
    call.ask()
    call.hear(Audio(ANSWER))
    call.speak(5)
    call.hear(LegEnded(Leg.CALLER, How.LOST))
    call.bridge.wait_until(call.bridge.now + 2.0)
    call.hear(START)
    call.hear(Audio(ANSWER))
    call.speak(150)
    while call.marks:
        call.echo()
    assert call.told == []


def test_of_two_sentences_the_last_that_was_heard_counts() -> None:
    call = Call()
    call.ask()
    call.ask()
    call.hear(ConversationText("user", "And more, said in the same breath."))
    call.hear(Audio(ANSWER))
    call.speak(50)
    call.echo()
    assert call.told == [pytest.approx(0.2)]


def test_who_speaks_up_again_waits_anew() -> None:
    call = Call()
    call.ask()
    call.hear(UserStartedSpeaking())
    call.hear(Audio(ANSWER))
    call.speak(50)
    call.echo()
    assert call.told == []


def test_an_answer_that_is_cut_before_the_phone_has_told_of_it_has_none() -> None:
    call = Call()
    call.ask()
    call.hear(Audio(ANSWER))
    call.speak(5)
    call.hear(UserStartedSpeaking())
    call.echo()
    assert call.told == []


def test_an_answer_that_makes_room_for_words_of_yours_has_none() -> None:
    call = Call()
    call.ask()
    call.hear(Audio(ANSWER))
    call.hear(Ask(1, deepgram.InjectAgentMessage("Listen.", "interrupt")))
    call.echo()
    assert call.told == []


def test_what_is_still_being_said_is_no_answer_to_what_the_caller_puts_in() -> None:
    call = Call()
    call.hear(Audio(ANSWER))
    call.ask()
    call.hear(Audio(ANSWER))
    call.speak(100)
    call.echo()
    assert call.told == []


def test_of_words_that_code_puts_in_the_callers_mouth_there_is_none() -> None:
    call = Call()
    call.speak(20, LOUD)
    call.hear(Ask(1, deepgram.InjectUserMessage("Hello?")))
    call.hear(ConversationText("user", "Hello?"))
    call.hear(Audio(ANSWER))
    call.speak(50)
    call.echo()
    assert call.told == []


def test_without_a_sound_there_is_no_answer_yet() -> None:
    call = Call()
    call.ask()
    call.hear(Audio(HISS * 50))
    call.speak(50)
    call.echo()
    assert call.told == []
    call.hear(Audio(ANSWER))
    call.speak(50)
    call.echo()
    assert call.told == [pytest.approx(0.2 + 50 * 0.02)]


def test_marks_of_our_own_words_tell_nothing() -> None:
    call = Call()
    call.ask()
    for act in call.bridge.dialogue._parts.turns.play(LOUD * 50, call.bridge.now):
        if isinstance(act, twilio.PlayMark):
            call.marks.append(act.mark.name)
    call.speak(50)
    call.echo()
    assert call.told == []


@pytest.mark.parametrize("was_ahead", [0.0, 10.0])
@pytest.mark.parametrize(("hole", "wait"), [(0.9, 1.0), (1.1, 2.1), (4.0, 5.0)])
def test_while_a_muted_phone_sends_nothing_the_clock_tells(
    was_ahead: float, hole: float, wait: float
) -> None:
    """Not of what it was muted before; and of less than a second it is jitter."""
    response = ResponseTime()
    response.hear_words(8000, place=16000, now=2.0 + was_ahead)
    response.hear_audio([ANSWER], sent=len(ANSWER))
    heard_at = 3.0 + was_ahead + hole
    told = response.hear_mark(len(ANSWER), place=16000 + len(ANSWER), now=heard_at)
    assert told == pytest.approx(wait)


def test_a_mark_before_the_answer_tells_nothing_of_it() -> None:
    response = ResponseTime()
    response.hear_words(8000, place=8000, now=1.0)
    response.hear_audio([ANSWER], sent=800 + len(ANSWER))
    assert response.hear_mark(800, place=16000, now=2.0) is None
    assert response.hear_mark(801, place=16001, now=2.0) == pytest.approx(1.0)


def test_no_wait_is_less_than_none() -> None:
    response = ResponseTime()
    response.hear_words(8000, place=8000, now=1.0)
    response.hear_audio([ANSWER], sent=len(ANSWER))
    assert response.hear_mark(len(ANSWER), place=8000, now=1.0) == 0.0
