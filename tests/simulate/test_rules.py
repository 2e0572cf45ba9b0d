"""What a simulated caller hears and how it behaves: pure, and time is a number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sts_trio.audio.frames import FRAME, length
from sts_trio.offline.speech import voice
from sts_trio.simulate.earpiece import CAPACITY, Earpiece, Spans
from sts_trio.simulate.report import Turn, turns
from sts_trio.simulate.script import (
    QUIET,
    CallerScript,
    HangUp,
    Keys,
    Speak,
    Step,
    WaitForQuiet,
    WaitForSpeech,
    audible_part,
    impatient,
    polite,
)

LOUD, SILENCE = b"\x00", b"\xff"


def loud(duration: float) -> bytes:
    return LOUD * length(duration)


def silence(duration: float) -> bytes:
    return SILENCE * length(duration)


# --- the playout buffer ---------------------------------------------------------------------------


def test_audio_is_played_in_real_time_however_fast_it_comes() -> None:
    earpiece = Earpiece()
    earpiece.play(loud(3.0), now=1.0)
    earpiece.advance(2.5)
    assert bytes(earpiece.track) == silence(1.0) + loud(1.5)
    earpiece.advance(5.0)
    assert bytes(earpiece.track) == silence(1.0) + loud(3.0) + silence(1.0)
    assert (earpiece.received, earpiece.played) == (24000, 24000)


def test_what_comes_while_playing_is_played_behind() -> None:
    earpiece = Earpiece()
    earpiece.play(b"\x01" * 800, now=0.0)
    earpiece.play(b"\x02" * 800, now=0.05)
    earpiece.advance(0.2)
    assert bytes(earpiece.track) == b"\x01" * 800 + b"\x02" * 800


def test_a_mark_comes_back_when_all_audio_before_it_was_played() -> None:
    earpiece = Earpiece()
    earpiece.play(loud(1.0), now=0.0)
    assert earpiece.mark("one", now=0.0) == []
    earpiece.play(loud(1.0), now=0.1)
    assert earpiece.mark("two", now=0.1) == []
    assert earpiece.advance(0.99) == []
    assert earpiece.advance(1.0) == ["one"]
    assert earpiece.advance(2.5) == ["two"]
    assert earpiece.advance(9.0) == []


def test_a_mark_on_an_empty_buffer_comes_back_at_once() -> None:
    earpiece = Earpiece()
    assert earpiece.mark("one", now=0.0) == ["one"]
    earpiece.play(loud(0.5), now=1.0)
    assert earpiece.mark("two", now=1.5) == ["two"]


def test_clear_silences_the_line_and_sends_every_mark_back() -> None:
    earpiece = Earpiece()
    earpiece.play(loud(5.0), now=0.0)
    earpiece.mark("one", now=0.0)
    earpiece.mark("two", now=0.0)
    assert earpiece.clear(now=0.5) == ["one", "two"]
    earpiece.advance(1.0)
    assert bytes(earpiece.track) == loud(0.5) + silence(0.5)
    assert earpiece.cleared == [0.5]
    assert earpiece.reached == [0.5, 0.5]
    earpiece.play(loud(0.5), now=2.0)
    assert earpiece.mark("three", now=2.0) == []
    assert earpiece.advance(2.5) == ["three"]


def test_a_clear_of_nothing_is_harmless() -> None:
    earpiece = Earpiece()
    assert earpiece.clear(now=1.0) == []
    assert bytes(earpiece.track) == silence(1.0)


def test_beyond_ten_minutes_audio_is_dropped() -> None:
    earpiece = Earpiece()
    earpiece.play(loud(599.0), now=0.0)
    earpiece.play(loud(3.0), now=0.0)
    assert earpiece.overflowed == length(2.0)
    assert earpiece.mark("end", now=0.0) == []
    assert earpiece.advance(600.0) == ["end"]
    assert earpiece.played == CAPACITY


class AnyOrder(RuleBasedStateMachine):
    """Bytes are neither lost nor made, marks come back once and in order, whatever is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.earpiece = Earpiece()
        self.now = 0.0
        self.sent: list[str] = []
        self.echoed: list[str] = []

    @rule(duration=st.floats(0, 2))
    def wait(self, duration: float) -> None:
        self.now += duration
        self.echoed += self.earpiece.advance(self.now)

    @rule(size=st.integers(0, 20_000))
    def play(self, size: int) -> None:
        self.echoed += self.earpiece.play(LOUD * size, self.now)

    @rule()
    def mark(self) -> None:
        self.sent.append(str(len(self.sent)))
        self.echoed += self.earpiece.mark(self.sent[-1], self.now)

    @rule()
    def clear(self) -> None:
        self.echoed += self.earpiece.clear(self.now)
        assert self.echoed == self.sent

    @invariant()
    def it_adds_up(self) -> None:
        assert self.echoed == self.sent[: len(self.echoed)]
        assert len(self.earpiece.track) == length(self.now)
        assert self.earpiece.track.count(LOUD) == self.earpiece.played <= self.earpiece.received


TestAnyOrder = AnyOrder.TestCase


# --- who is audible when --------------------------------------------------------------------------


@given(piece=st.integers(1, 3000))
def test_spans_tell_who_was_audible_when_however_the_track_is_cut(piece: int) -> None:
    track = silence(1.0) + loud(0.4) + silence(0.4) + loud(0.2) + silence(0.6) + loud(0.1)
    spans = Spans()
    for at in range(0, len(track), piece):
        spans.add(track[at : at + piece])
    assert spans.spans == [(1.0, 2.0), (2.6, 2.7)]
    assert spans.last == 2.7


def test_nobody_was_audible_in_silence() -> None:
    spans = Spans()
    spans.add(silence(2.0))
    assert spans.spans == []
    assert spans.last == 0.0


def test_a_clip_is_audible_from_its_first_word_to_its_last() -> None:
    assert audible_part(silence(0.2) + loud(1.0) + silence(0.3)) == (0.2, 1.2)
    assert audible_part(silence(0.2)) == (0.0, 0.2)


# --- script ---------------------------------------------------------------------------------------


class Rehearsal:
    """CallerScript against an agent that is audible at given times; keeps what was done when."""

    def __init__(
        self,
        steps: list[Step],
        agent: list[tuple[float, float]],
        limit: float = 60.0,
        at_work: tuple[float, float] = (0, 0),
    ):
        self.script = CallerScript(steps, limit, lambda now: at_work[0] <= now < at_work[1])
        heard = Spans()
        self.did: list[tuple[float, str]] = []  # (time, what began then)
        last = ""
        for n in range(int(limit / 0.02) + 2):
            now = round(n * 0.02, 2)
            frame = self.script.frame(now, heard)
            if isinstance(frame, HangUp):
                self.did.append((now, "hang up"))
                self.goodbye = frame
                break
            doing = "wait" if frame == QUIET else "speak"
            if doing != last:
                self.did.append((now, doing))
            last = doing
            self.did += [(now, f"press {key}") for key in self.script.take_keys()]
            audible = any(begin <= now < end for begin, end in agent)
            heard.add((LOUD if audible else SILENCE) * FRAME)


def test_a_polite_caller_hears_the_greeting_and_each_answer_out() -> None:
    rehearsal = Rehearsal(
        polite([Speak(loud(1.0)), Speak(loud(0.5))]), agent=[(0.2, 2.0), (4.5, 6.0), (8.0, 9.0)]
    )
    assert rehearsal.did == [
        (0.0, "wait"),
        (3.0, "speak"),
        (4.0, "wait"),
        (7.0, "speak"),
        (7.5, "wait"),
        (10.0, "hang up"),
    ]


def test_a_caller_who_hears_nothing_speaks_after_three_seconds_and_gives_up_after_eight() -> None:
    rehearsal = Rehearsal(polite([Speak(loud(1.0))]), agent=[])
    assert rehearsal.did == [(0.0, "wait"), (3.0, "speak"), (4.0, "wait"), (12.0, "hang up")]


def test_a_rude_caller_speaks_into_the_agents_sentence() -> None:
    rehearsal = Rehearsal([WaitForSpeech(1.5), Speak(loud(0.5))], agent=[(0.4, 9.0)])
    assert rehearsal.did == [(0.0, "wait"), (1.9, "speak"), (2.4, "hang up")]


def test_a_rude_caller_is_not_left_waiting_by_an_agent_who_says_little() -> None:
    rehearsal = Rehearsal([WaitForSpeech(1.5)], agent=[(0.4, 1.0)])
    assert rehearsal.did == [(0.0, "wait"), (2.0, "hang up")]


def test_a_rude_caller_is_not_left_waiting_by_an_agent_who_says_nothing() -> None:
    rehearsal = Rehearsal([WaitForSpeech(1.5, patience=2.0)], agent=[])
    assert rehearsal.did == [(0.0, "wait"), (2.0, "hang up")]


def test_an_impatient_caller_speaks_into_every_answer_but_the_last() -> None:
    rehearsal = Rehearsal(
        impatient([Speak(loud(1.0)), Speak(loud(0.5))], after=0.5),
        agent=[(0.4, 1.0), (2.5, 3.1), (4.5, 6.0)],
    )
    assert rehearsal.did == [
        (0.0, "wait"),
        (0.9, "speak"),
        (1.9, "wait"),
        (3.0, "speak"),
        (3.5, "wait"),
        (7.0, "hang up"),
    ]


def test_waiting_for_quiet_needs_no_second_greeting() -> None:
    rehearsal = Rehearsal([WaitForQuiet(patience=2.0), WaitForQuiet(patience=2.0)], agent=[(0, 1)])
    assert rehearsal.did == [(0.0, "wait"), (4.0, "hang up")]


def test_what_an_agent_says_while_it_is_at_work_is_not_the_answer() -> None:
    """ "Let me look that up.", then 6 s of a function, then the answer."""
    for at_work in ((2.0, 9.0), (2.0, 9.9)):
        rehearsal = Rehearsal(
            [Speak(loud(1.0)), WaitForQuiet()], agent=[(3.0, 4.0), (10.0, 11.0)], at_work=at_work
        )
        assert rehearsal.did == [(0.0, "speak"), (1.0, "wait"), (12.0, "hang up")]


def test_nobody_waits_for_ever_for_what_a_function_has_come_to() -> None:
    rehearsal = Rehearsal([WaitForQuiet()], agent=[(0.0, 1.0)], at_work=(0.0, 3.0))
    assert rehearsal.did == [(0.0, "wait"), (10.98, "hang up")]


def test_keys_are_pressed_one_after_the_other_beside_silence() -> None:
    rehearsal = Rehearsal([Keys("12#"), Speak(loud(1.0)), Keys("9", every=1.0)], agent=[])
    assert rehearsal.did == [
        (0.0, "wait"),
        (0.0, "press 1"),
        (0.3, "press 2"),
        (0.6, "press #"),
        (0.9, "speak"),
        (1.9, "wait"),
        (1.9, "press 9"),
        (2.9, "hang up"),
    ]


def test_a_polite_caller_presses_keys_when_they_would_speak() -> None:
    rehearsal = Rehearsal(polite([Keys("1")]), agent=[(0.2, 2.0), (4.5, 6.0)])
    assert rehearsal.did == [(0.0, "wait"), (3.0, "press 1"), (7.0, "hang up")]


@pytest.mark.parametrize("keys", ["", "1 2", "x", "+1", "１"])
def test_what_is_no_key_is_not_pressed(keys: str) -> None:
    with pytest.raises(ValueError, match=r"expected keys of a phone, 0123456789\*#ABCD, got '"):
        Keys(keys)


def test_the_words_and_the_keys_of_a_step_are_known_while_it_lasts() -> None:
    script = CallerScript([Speak(LOUD * FRAME, "Hi."), Keys("12")], 10.0)
    heard, said = Spans(), []
    for n in range(20):
        script.frame(n * 0.02, heard)
        said.append(script.saying)
    assert list(dict.fromkeys(said)) == ["Hi.", "(keys 12)"]


def test_the_limit_ends_every_call() -> None:
    rehearsal = Rehearsal([Speak(loud(9.0))], agent=[], limit=2.0)
    assert rehearsal.did == [(0.0, "speak"), (2.0, "hang up")]
    assert rehearsal.script.out_of_time


def test_a_caller_may_vanish() -> None:
    assert Rehearsal([HangUp(abruptly=True)], agent=[]).goodbye == HangUp(abruptly=True)


def test_a_clip_is_said_in_whole_frames_padded_with_silence() -> None:
    script = CallerScript([Speak(LOUD * 200)], 10.0)
    heard = Spans()
    assert script.frame(0.0, heard) == LOUD * FRAME
    assert script.frame(0.02, heard) == LOUD * 40 + SILENCE * 120
    assert script.frame(0.04, heard) == HangUp()
    assert not script.out_of_time


# --- turns ----------------------------------------------------------------------------------------


def spoken(*said: tuple[float, bytes]) -> CallerScript:
    script = CallerScript([], 60.0)
    script.spoken.extend((began, Speak(clip)) for began, clip in said)
    return script


def heard(*spans: tuple[float, float]) -> Spans:
    track = Spans()
    track.spans.extend(spans)
    return track


def rounded(told: tuple[Turn, ...]) -> list[tuple[float | None, ...]]:
    """(began, ended, wait, talked over) of each."""
    return [
        tuple(
            None if value is None else round(value, 6)
            for value in (turn.began, turn.ended, turn.wait, turn.talked_over)
        )
        for turn in told
    ]


def test_a_turn_is_answered_by_what_is_heard_before_the_next_turn() -> None:
    clip = silence(0.1) + loud(1.0) + silence(0.4)
    told = turns(
        spoken((2.9, clip), (8.0, clip), (12.0, clip)), heard((0.1, 2), (4.75, 7), (14, 15))
    )
    assert rounded(told) == [
        (3.0, 4.0, 0.75, None),
        (8.1, 9.1, None, None),
        (12.1, 13.1, 0.9, None),
    ]


def test_a_barge_in_tells_how_long_the_agent_went_on() -> None:
    told = turns(spoken((2.0, loud(1.0))), heard((0.5, 2.25), (3.6, 5.0)))
    assert rounded(told) == [(2.0, 3.0, 0.6, 0.25)]


def test_a_voice_is_audible_to_the_caller() -> None:
    spans = Spans()
    spans.add(voice.say("Hello! How can I help you today?"))
    assert len(spans.spans) == 1
