"""The offline agent's ears, mouth and voice: pure, on the audio's own time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.audio import g711
from sts_trio.audio.frames import FRAME, length, seconds
from sts_trio.offline.hearing.endpointing import Began, Ceased, Ears, News
from sts_trio.offline.speech import placeholder as babble
from sts_trio.offline.speech import voice
from sts_trio.offline.speech.pacing import PIECE, SPEED, Mouth, pieces
from sts_trio.wire.deepgram import AgentAudioDone, Audio, ConversationText

SILENCE = b"\xff"
QUESTION = "Hello! How can I help you today?"


def tone(duration: float, dbfs: float) -> bytes:
    peak = 32767 * g711.decibels(dbfs) * math.sqrt(2)
    wave = [round(peak * math.sin(2 * math.pi * 440 * n / 8000)) for n in range(length(duration))]
    return g711.encode(b"".join(sample.to_bytes(2, "little", signed=True) for sample in wave))


def silence(duration: float) -> bytes:
    return SILENCE * length(duration)


def listen(audio: bytes, piece: int = FRAME) -> list[tuple[float, News]]:
    """What fresh ears tell, and after how many seconds of audio."""
    ears = Ears()
    return [
        (seconds(at + piece), news)
        for at in range(0, len(audio), piece)
        for news in ears.listen(audio[at : at + piece])
    ]


def test_speech_is_noticed_after_60_ms_and_ends_after_half_a_second_of_silence() -> None:
    told = listen(silence(0.4) + tone(1.0, -22) + silence(1.0))
    assert told == [(0.46, Began()), (1.9, Ceased(1.0))]


def test_a_pause_within_a_sentence_ends_nothing() -> None:
    told = listen(tone(0.5, -22) + silence(0.48) + tone(0.5, -22) + silence(0.5))
    assert told == [(0.06, Began()), (1.98, Ceased(1.48))]


def test_a_click_and_the_noise_of_a_line_are_not_speech() -> None:
    assert listen(tone(0.04, -6) + silence(0.2) + tone(2.0, -45)) == []


def test_a_voice_that_falls_is_still_a_voice() -> None:
    told = listen(tone(0.2, -30) + tone(1.0, -40) + silence(0.6))
    assert told == [(0.06, Began()), (1.7, Ceased(1.2))]


@given(piece=st.integers(1, 5000))
def test_it_does_not_matter_how_the_audio_is_cut(piece: int) -> None:
    audio = silence(0.1) + tone(0.4, -20) + silence(0.6)
    assert [news for _, news in listen(audio, piece)] == [Began(), Ceased(0.4)]


def test_a_turn_can_be_ended_by_hand_and_the_next_one_begins_afresh() -> None:
    ears = Ears()
    assert ears.end_turn() is None
    ears.listen(tone(0.3, -20) + silence(0.1))
    assert ears.speaking
    assert ears.end_turn() == Ceased(0.3)
    assert not ears.speaking
    assert ears.listen(tone(0.3, -20)) == [Began()]


@pytest.mark.parametrize("text", [QUESTION, "Yes.", "Two rooms for 14 nights; is that possible?"])
@pytest.mark.parametrize("pitch", [90.0, voice.PITCH, 210.0])
def test_a_voice_is_as_loud_and_as_long_as_a_voice_on_the_phone(text: str, pitch: float) -> None:
    said = voice.say(text, pitch)
    assert 10 < len(text) / seconds(len(said)) < 18 or len(text) < 10
    assert g711.decibels(-24) < g711.level(said) < g711.decibels(-16)
    assert max(abs(g711.SAMPLES[code]) for code in said) < 32000


def test_what_the_voice_says_is_heard_as_one_turn() -> None:
    said = voice.say("Good choice. It has just been serviced, and the price includes new tyres.")
    told = listen(said + silence(0.6))
    assert [type(news) for _, news in told] == [Began, Ceased]


def test_the_same_text_is_the_same_bytes_and_another_pitch_is_another_person() -> None:
    first = babble.say(QUESTION)
    babble.say.cache_clear()
    assert babble.say(QUESTION) == first
    assert babble.say(QUESTION, 200.0) != first


@pytest.mark.parametrize("text", ["", " ", "...", "?!\n", "—"])
def test_a_text_without_letters_is_not_spoken(text: str) -> None:
    assert voice.say(text) == b""


@given(st.text(max_size=60))
def test_any_text_is_spoken(text: str) -> None:
    assert len(voice.say(text)) < length(60.0)
    assert bool(voice.say(text)) == any(sign.isalnum() for sign in text) or not text.isascii()


def test_every_script_is_audible_and_an_endless_text_is_cut() -> None:
    assert g711.level(voice.say("こんにちは")) > g711.decibels(-30)
    assert len(voice.say("abc " * 10_000)) < length(200.0)


def test_speech_leaves_two_and_a_half_times_faster_than_it_is_spoken() -> None:
    mouth = Mouth()
    text, done = ConversationText("assistant", "Hello."), AgentAudioDone()
    speech = pieces(b"\x55" * 9 * PIECE)
    mouth.say([text, *speech, done], now=10.0)
    assert mouth.deadline == 10.0
    assert mouth.utter(10.0) == [text, speech[0]]
    left = []
    while mouth.speaking:
        now = mouth.deadline
        left += [(round(now, 6), each) for each in mouth.utter(now)]
    step = seconds(PIECE) / SPEED
    assert left == [(round(10 + n * step, 6), speech[n]) for n in range(1, 9)] + [
        (round(10 + 8 * step, 6), done)
    ]
    assert mouth.deadline == math.inf
    assert mouth.utter(99.0) == []


def test_a_mouth_that_was_woken_late_catches_up() -> None:
    mouth = Mouth()
    speech = pieces(b"\x55" * 4 * PIECE)
    mouth.say(speech, now=0.0)
    assert mouth.utter(0.1) == speech[:3]


def test_what_is_said_while_speaking_comes_behind() -> None:
    mouth = Mouth()
    mouth.say([*pieces(b"a" * 2 * PIECE), AgentAudioDone()], now=0.0)
    mouth.say([ConversationText("assistant", "And."), Audio(b"b")], now=0.0)
    assert mouth.utter(1.0)[2:] == [
        AgentAudioDone(),
        ConversationText("assistant", "And."),
        Audio(b"b"),
    ]


def test_hushing_drops_the_rest_and_tells_whether_there_was_any() -> None:
    mouth = Mouth()
    assert not mouth.hush()
    mouth.say(pieces(b"a" * 2 * PIECE), now=0.0)
    mouth.utter(0.0)
    assert mouth.hush()
    assert not mouth.speaking
    assert mouth.utter(5.0) == []
    mouth.say([Audio(b"b")], now=6.0)
    assert mouth.utter(6.0) == [Audio(b"b")]


@given(st.binary(max_size=5000))
def test_pieces_keep_every_byte_in_order(audio: bytes) -> None:
    assert b"".join(piece.data for piece in pieces(audio)) == audio
