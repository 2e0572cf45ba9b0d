"""A recording against what the caller heard: the two are alike, to a frame of the stream."""

import heapq
import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import examples

from sts_trio.audio.frames import FRAME, SILENCE, length
from sts_trio.logic.playout import Playout
from sts_trio.records.tracks import PATIENCE, STEP, Piece, Tracks
from sts_trio.simulate.earpiece import Earpiece

# What nobody can know better: the stream has a place every 20 ms.
FRAME_SECONDS = 0.02
# And a sample or two, as seconds are no whole numbers of them.
ALIGNED = FRAME + 4
WORD = b"\x55"  # of the caller's


class Line:
    """A phone, a server, and the way between the two, which may jitter. Seconds."""

    def __init__(
        self, *, up: float = 0.03, down: float = 0.03, jitter: float = 0.0, beat: float = 0.02
    ) -> None:
        self.now = 0.0
        self.up, self.down, self.jitter, self.beat = up, down, jitter, beat
        self.random = random.Random(7)
        self.earpiece = Earpiece()
        self.tracks = Tracks(0.0)
        self.playout = Playout()
        self.echoes = True
        self.is_muted = False  # the phone sends nothing
        self.said = bytearray()
        self.pieces: list[Piece] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._inbox: list[Callable[[float], None]] = []
        self._last_up = self._last_down = 0.0
        self._cleared_at = -1.0
        self.at(FRAME_SECONDS, self._tick)
        self.at(0.0, self._beat)

    def at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._numbers), do))

    def run(self, until: float) -> None:
        while self._due and self._due[0][0] <= until:
            self.now, _, do = heapq.heappop(self._due)
            do()
        self.now = until

    # --- the phone ------------------------------------------------------------------------------

    def _tick(self) -> None:
        self.at(round(self.now / FRAME_SECONDS + 1) * FRAME_SECONDS, self._tick)
        frame = WORD * FRAME
        timestamp = round(self.now * 1000)
        if self.is_muted:
            frame = SILENCE * FRAME
        else:
            self._to_server(lambda now: self._heard(frame, timestamp, now))
        self.said += frame
        self._echo(self.earpiece.advance(self.now))

    def _echo(self, names: list[str]) -> None:
        for name in names if self.echoes else []:
            self._to_server(lambda now, name=name: self._echoed(name, now))  # type: ignore[misc]

    def _to_server(self, do: Callable[[float], None]) -> None:
        self._last_up = max(self._last_up, self.now + self.up + self.jitter * self.random.random())
        self.at(self._last_up, lambda: self._inbox.append(do))

    def _to_phone(self, do: Callable[[float], list[str]]) -> None:
        way = self.down + self.jitter * self.random.random()
        self._last_down = max(self._last_down, self.now + way)
        self.at(self._last_down, lambda: self._echo(do(self.now)))

    # --- the server -----------------------------------------------------------------------------

    def _beat(self) -> None:
        self.at(self.now + self.beat, self._beat)
        inbox, self._inbox = self._inbox, []
        for do in inbox:
            do(self.now)
        if inbox and (piece := self.tracks.advance(self.now)):
            self.pieces.append(piece)

    def _heard(self, frame: bytes, timestamp: int, now: float) -> None:
        self.tracks.hear(frame, timestamp, now)

    def _echoed(self, name: str, now: float) -> None:
        self.tracks.echo(name, now)
        self.playout.echo(name)

    def say(self, audio: bytes) -> None:
        self.tracks.say(audio, self.now)
        self._to_phone(lambda now: self.earpiece.play(audio, now))
        if self.playout.play(len(audio)):
            self.mark()

    def mark(self) -> None:
        name = self.playout.mark()
        self.tracks.mark(name)
        self._to_phone(lambda now: self.earpiece.mark(name, now))

    def clear(self) -> None:
        self._cleared_at = self.now
        cut = self.playout.clear()
        self.tracks.clear(self.now)
        self._to_phone(self.earpiece.clear)
        if cut:
            self.mark()

    def utter(
        self, at: float, value: int, duration: float, *, speed: float = 2.5, piece: float = 0.12
    ) -> None:
        """An utterance of the agent's, all of one sample, at the pace at which an agent sends. A
        `clear` ends it."""

        def say(chunk: bytes) -> None:
            if self._cleared_at < at:
                self.say(chunk)

        def end() -> None:
            if self._cleared_at < at:
                self.mark()

        audio = bytes([value]) * length(duration)
        size = length(piece)
        for number, start in enumerate(range(0, len(audio), size)):
            chunk = audio[start : start + size]
            self.at(at + number * piece / speed, lambda chunk=chunk: say(chunk))  # type: ignore[misc]
        self.at(at + len(audio) / size * piece / speed + 0.01, end)

    def recording(self) -> tuple[bytes, bytes]:
        if (last := self.tracks.end(self.now)) is not None:
            self.pieces.append(last)
        left = b"".join(piece.left for piece in self.pieces)
        right = b"".join(piece.right or SILENCE * len(piece.left) for piece in self.pieces)
        assert len(left) == len(right)
        return left, right


def span(track: bytes, value: int) -> tuple[int, int] | None:
    """Where that sample is heard first, and where no more."""
    first = track.find(bytes([value]))
    return None if first < 0 else (first, track.rfind(bytes([value])) + 1)


def apart(line: Line, value: int) -> int:
    """By how many samples the recording is wrong about an utterance."""
    _, right = line.recording()
    recorded, heard = span(right, value), span(bytes(line.earpiece.track), value)
    assert recorded is not None
    assert heard is not None
    assert right.count(bytes([value])) == pytest.approx(
        line.earpiece.track.count(value), abs=ALIGNED
    )
    return max(abs(recorded[0] - heard[0]), abs(recorded[1] - heard[1]))


def test_the_caller_is_recorded_to_the_byte() -> None:
    line = Line(jitter=0.05, beat=0.1)
    line.run(10.0)
    left, right = line.recording()
    assert left == line.said[: len(left)]
    assert len(left) > length(9.5)
    assert right.strip(SILENCE) == b""


@pytest.mark.parametrize("way", [0.0, 0.02, 0.11, 0.4])
@pytest.mark.parametrize("beat", [0.02, 0.1])
def test_the_agent_stands_where_the_caller_heard_it(way: float, beat: float) -> None:
    """However far away the phone is, and however seldom its socket is read."""
    line = Line(up=way, down=way, beat=beat)
    line.utter(1.003, 1, 2.0)
    line.utter(5.511, 2, 0.3)
    line.utter(7.0, 3, 4.0)
    line.run(16.0)
    for value in (1, 2, 3):
        assert apart(line, value) <= ALIGNED


@pytest.mark.parametrize("way", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("after", [0.03, 0.05, 0.13])
def test_a_greeting_that_waits_for_the_caller_is_no_exception(way: float, after: float) -> None:
    line = Line(up=way, down=way)
    line.utter(max(after, way + 0.03), 1, 1.5)
    line.run(6.0)
    assert apart(line, 1) <= ALIGNED


def test_what_is_cut_is_left_out() -> None:
    line = Line(up=0.1, down=0.1)
    line.utter(1.0, 1, 6.0)
    line.at(2.5, line.clear)
    line.utter(2.9, 2, 1.0)
    line.run(10.0)
    heard = line.earpiece.track.count(1)
    assert length(1.0) < heard < length(2.0)
    for value in (1, 2):
        assert apart(line, value) <= ALIGNED


def test_what_is_cut_before_its_first_mark_is_left_out_too() -> None:
    line = Line(up=0.1, down=0.1)
    line.utter(1.0, 1, 1.0)  # which is how far away the phone is known to be
    line.utter(4.0, 2, 6.0)
    line.at(4.4, line.clear)
    line.run(10.0)
    assert 0 < line.earpiece.track.count(2) < length(0.5)
    assert apart(line, 2) <= ALIGNED


def test_marks_that_a_clear_sends_back_are_not_taken_for_audio_that_was_heard() -> None:
    """Ten seconds are sent in four, and cut after half a second of them."""
    line = Line(up=0.2, down=0.2)
    line.utter(1.0, 1, 10.0, speed=50.0)
    line.at(1.9, line.clear)
    line.run(8.0)
    assert line.earpiece.track.count(1) < length(1.1)
    assert apart(line, 1) <= ALIGNED


def test_an_agent_slower_than_its_speech_leaves_gaps_where_they_were_heard() -> None:
    line = Line()
    line.utter(1.0, 1, 3.0, speed=0.8, piece=0.5)
    line.run(8.0)
    assert apart(line, 1) <= ALIGNED
    _, right = line.recording()
    # Within it, too: at each place both are silent, or neither, but for a frame at each edge.
    unlike = sum((a == 1) != (b == 1) for a, b in zip(right, line.earpiece.track, strict=False))
    assert unlike <= 12 * ALIGNED


def test_a_phone_that_sends_nothing_for_a_while_leaves_a_hole_of_that_length() -> None:
    line = Line()
    line.at(2.0, lambda: setattr(line, "is_muted", True))
    line.at(3.5, lambda: setattr(line, "is_muted", False))
    line.utter(5.0, 1, 1.0)
    line.run(8.0)
    left, _ = line.recording()
    assert left == line.said[: len(left)]
    assert apart(line, 1) <= ALIGNED


def test_what_the_agent_says_to_a_muted_phone_is_recorded() -> None:
    line = Line()
    line.at(2.0, lambda: setattr(line, "is_muted", True))
    line.utter(3.0, 1, 1.0)
    line.at(6.0, lambda: setattr(line, "is_muted", False))
    line.run(9.0)
    left, _ = line.recording()
    hole = span(left, SILENCE[0])
    assert hole is not None
    assert hole[1] - hole[0] == pytest.approx(length(4.0), abs=ALIGNED)
    # Without frames only our own clock tells, which the network makes late.
    assert apart(line, 1) <= length(0.1)


def test_without_marks_the_clock_tells() -> None:
    line = Line(up=0.05, down=0.05)
    line.echoes = False
    line.utter(1.0, 1, 3.0)
    line.at(6.0, lambda: line.utter(6.0, 2, 4.0))
    line.at(8.0, line.clear)
    line.run(15.0)
    # How far away the phone is, nobody knows then.
    assert apart(line, 1) <= length(0.1) + ALIGNED
    assert apart(line, 2) <= length(0.1) + ALIGNED


def test_a_call_that_ends_in_mid_sentence_ends_so() -> None:
    line = Line()
    line.utter(1.0, 1, 10.0)
    line.run(3.0)
    left, right = line.recording()
    assert len(left) == len(right) <= length(3.0)
    # The last frames have not come.
    assert right.count(1) == pytest.approx(line.earpiece.track.count(1), abs=length(0.1))


def test_what_is_final_is_given_out_each_second_and_little_is_kept() -> None:
    line = Line(beat=0.1)
    line.utter(1.0, 1, 30.0)
    most = 0
    for second in range(1, 30):
        line.run(float(second))
        most = max(most, line.tracks.position - line.tracks.written)
    assert all(len(piece.left) >= STEP for piece in line.pieces)
    assert most < STEP + PATIENCE


def test_without_an_agent_the_right_side_is_not_even_made() -> None:
    line = Line()
    line.run(4.0)
    assert [piece.right for piece in line.pieces] == [None] * 3


def test_a_pause_leaves_silence_of_its_length_on_both_sides() -> None:
    line = Line(up=0.05, down=0.05)
    line.utter(1.0, 1, 6.0)
    line.run(2.0)
    line.tracks.pause()
    begin = line.tracks.position
    line.tracks.pause()  # no more than one
    line.run(4.0)
    line.tracks.resume(line.now)
    line.tracks.resume(line.now)
    line.run(9.0)
    left, right = line.recording()
    end = begin + length(2.0)
    assert left[begin:end] == right[begin:end] == SILENCE * length(2.0)
    # What was on its way when it ended is not to be heard either, and nothing else is missing.
    assert left[:begin] == WORD * begin
    assert right[begin - FRAME : begin] == b"\x01" * FRAME
    after = end + length(0.15)
    assert left[after:] == WORD * len(left[after:])
    assert right[after : after + length(1.0)] == b"\x01" * length(1.0)


def test_a_pause_that_is_never_over_lasts_to_the_end() -> None:
    line = Line()
    line.run(1.0)
    line.tracks.pause()
    begin = line.tracks.position
    line.utter(1.5, 1, 2.0)
    line.run(8.0)
    left, right = line.recording()
    assert left == WORD * begin + SILENCE * (len(left) - begin)
    assert right == SILENCE * len(right)


def test_times_that_a_peer_makes_up_cost_no_memory() -> None:
    tracks = Tracks(0.0)
    for number in range(100):
        tracks.hear(WORD * FRAME, 2**62 if number % 2 else 0, number * FRAME_SECONDS)
        tracks.echo(f"e0-{number}", number * FRAME_SECONDS)
    assert tracks.position <= 101 * FRAME


_utterance = st.tuples(
    st.floats(0.1, 1.5),  # pause before
    st.floats(0.1, 3.0),  # how long
    st.floats(1.2, 40.0),  # how much faster than speech it is sent
    st.none() | st.floats(0.05, 2.0),  # when it is cut
)


@settings(max_examples=examples(0.5))
@given(
    st.lists(_utterance, min_size=1, max_size=6),
    st.floats(0.0, 0.3),
    st.floats(0.0, 0.3),
    st.sampled_from([0.02, 0.1]),
)
def test_whatever_is_said_and_cut_both_sides_are_where_they_were_heard(
    utterances: list[tuple[float, float, float, float | None]], up: float, down: float, beat: float
) -> None:
    line = Line(up=up, down=down, beat=beat)
    at = 1.0
    for value, (pause, duration, speed, cut) in enumerate(utterances, 1):
        at += pause
        spoken = duration if cut is None else min(duration, cut * speed)
        line.utter(at, value, spoken, speed=speed)
        at += duration / speed + 0.05
        if cut is not None:
            at = max(at, at + cut)
            line.at(at, line.clear)
        else:
            at += duration
    line.run(at + 8.0)
    _, right = line.recording()
    heard = bytes(line.earpiece.track)
    for value in range(1, len(utterances) + 1):
        recorded, was = span(right, value), span(heard, value)
        if was is None or recorded is None:
            assert right.count(bytes([value])) <= ALIGNED
            assert heard.count(bytes([value])) <= ALIGNED + length(0.05)
            continue
        assert abs(recorded[0] - was[0]) <= ALIGNED
        assert abs(recorded[1] - was[1]) <= ALIGNED
