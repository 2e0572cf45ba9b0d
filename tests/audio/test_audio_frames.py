"""Audio on the phone side: lengths, the batch toward the agent, the frames toward the caller."""

from hypothesis import given
from hypothesis import strategies as st

from sts_trio.audio.frames import FRAME, SILENCE, Batch, Frames, length, seconds

pieces = st.lists(st.binary(max_size=500), max_size=20)


def test_a_second_is_8000_bytes_and_a_frame_20_milliseconds() -> None:
    assert length(1.0) == 8000
    assert length(0.02) == FRAME == 160
    assert seconds(FRAME) == 0.02
    assert length(0.0) == 0


@given(st.integers(0, 10**9))
def test_lengths_survive_the_way_through_seconds(count: int) -> None:
    assert length(seconds(count)) == count


@given(st.lists(st.binary(max_size=500) | st.none(), max_size=30))
def test_a_batch_gives_back_every_byte_once_and_in_order(steps: list[bytes | None]) -> None:
    batch = Batch()
    taken = b""
    for piece in steps:
        if piece is None:
            taken += batch.take()
            assert batch.size == 0
        else:
            before = batch.size
            batch.add(piece)
            assert batch.size == before + len(piece)
    assert taken + batch.take() == b"".join(piece for piece in steps if piece)
    assert batch.take() == b""


@given(pieces, st.integers(0, 8000))
def test_keeping_the_newest_drops_only_the_oldest(parts: list[bytes], most: int) -> None:
    batch = Batch()
    for part in parts:
        batch.add(part)
    everything = b"".join(parts)
    dropped = batch.keep_newest(most)
    assert batch.size == min(len(everything), most)
    kept = batch.take()
    assert everything[dropped:] == kept
    assert len(kept) == min(len(everything), most)


@given(pieces)
def test_frames_are_whole_and_keep_every_byte_in_order(parts: list[bytes]) -> None:
    frames = Frames()
    played = b""
    for part in parts:
        cut = frames.cut(part)
        assert len(cut) % FRAME == 0
        played += cut
    everything = b"".join(parts)
    # Nothing waits that could be played, and nothing is padded while more may come.
    assert played == everything[: len(everything) - len(everything) % FRAME]
    left = everything[len(played) :]
    assert frames.finish() == (left.ljust(FRAME, SILENCE) if left else b"")
    assert frames.finish() == b""


@given(pieces, st.binary(max_size=500))
def test_what_is_left_of_a_dropped_utterance_is_not_in_the_next(
    parts: list[bytes], following: bytes
) -> None:
    frames = Frames()
    for part in parts:
        frames.cut(part)
    frames.drop()
    assert (frames.cut(following) + frames.finish()).startswith(following)


def test_an_utterance_of_whole_frames_is_not_padded() -> None:
    frames = Frames()
    assert frames.cut(b"\x11" * 320) == b"\x11" * 320
    assert frames.finish() == b""


def test_the_last_frame_is_padded_with_silence() -> None:
    frames = Frames()
    assert frames.cut(b"\x11" * 161) == b"\x11" * 160
    assert frames.finish() == b"\x11" + b"\xff" * 159
