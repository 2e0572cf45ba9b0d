"""The recordings of a call's streams, read as one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig_recordings import sides

from sts_trio.audio.frames import SILENCE
from sts_trio.records.joined_recording import JoinedRecording, Part
from sts_trio.records.recording_file import HEADER_SIZE, RecordingFile

NOON = 1_796_040_000.0


def recorded(path: Path, left: bytes, right: bytes) -> Path:
    file = RecordingFile(path)
    file.append(0, left, right)
    finished = file.finish()
    assert finished is not None
    return finished.path


def whole(joined: JoinedRecording, most: int = 4096) -> bytes:
    data = b""
    while len(data) < joined.size:
        piece = joined.read(len(data), most)
        assert 0 < len(piece) <= most
        data += piece
    return data


def played(joined: JoinedRecording, directory: Path) -> tuple[bytes, bytes]:
    """What a player makes of it."""
    path = directory / "joined.wav"
    path.write_bytes(whole(joined))
    return sides(path)


def test_one_recording_is_as_it_is(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.wav", b"\x01" * 800, b"\x02" * 800)
    joined = JoinedRecording([Part(NOON, 0.1, path)])
    assert whole(joined) == path.read_bytes()


def test_between_two_there_is_silence_for_as_long_as_nobody_was_heard(tmp_path: Path) -> None:
    first = recorded(tmp_path / "a.wav", b"\x01" * 800, b"\x02" * 800)
    second = recorded(tmp_path / "b.wav", b"\x03" * 1600, b"\x04" * 1600)
    joined = JoinedRecording([Part(NOON, 0.1, first), Part(NOON + 0.35, 0.2, second)])
    left, right = played(joined, tmp_path)
    assert left == b"\x01" * 800 + SILENCE * 2000 + b"\x03" * 1600
    assert right == b"\x02" * 800 + SILENCE * 2000 + b"\x04" * 1600


def test_where_they_overlap_the_later_one_is_heard(tmp_path: Path) -> None:
    """A process that does not know that its call has gone on elsewhere."""
    first = recorded(tmp_path / "a.wav", b"\x01" * 8000, b"\x02" * 8000)
    second = recorded(tmp_path / "b.wav", b"\x03" * 1600, b"\x04" * 1600)
    joined = JoinedRecording([Part(NOON, 1.0, first), Part(NOON + 0.5, 0.2, second)])
    left, _ = played(joined, tmp_path)
    assert left == b"\x01" * 4000 + b"\x03" * 1600
    replaced = JoinedRecording([Part(NOON, 1.0, first), Part(NOON, 0.2, second)])
    assert played(replaced, tmp_path)[0] == b"\x03" * 1600


def test_one_that_is_not_here_is_silent_for_its_time(tmp_path: Path) -> None:
    """It was failed, or is on the disk of another machine."""
    last = recorded(tmp_path / "b.wav", b"\x03" * 80, b"\x04" * 80)
    joined = JoinedRecording([Part(NOON, 0.5, None), Part(NOON + 0.5, 0.01, last)])
    left, _ = played(joined, tmp_path)
    assert left == SILENCE * 4000 + b"\x03" * 80


def test_one_that_is_deleted_meanwhile_is_silent(tmp_path: Path) -> None:
    path = recorded(tmp_path / "a.wav", b"\x01" * 800, b"\x02" * 800)
    joined = JoinedRecording([Part(NOON, 0.1, path)])
    path.write_bytes(b"")
    assert played(joined, tmp_path) == (SILENCE * 800, SILENCE * 800)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        joined.read(HEADER_SIZE, 10)


@given(
    parts=st.lists(
        st.tuples(st.floats(0, 1), st.integers(1, 400), st.booleans()), min_size=1, max_size=5
    ),
    most=st.integers(1, 3000),
)
def test_in_whichever_pieces_it_is_read_it_is_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    parts: list[tuple[float, int, bool]],
    most: int,
) -> None:
    directory = tmp_path_factory.mktemp("recordings")
    made = []
    for number, (at, count, is_there) in enumerate(parts):
        path = None
        if is_there:
            side = bytes([number + 1]) * count
            path = recorded(directory / f"{number}.wav", side, side)
        made.append(Part(NOON + at, count / 8000, path))
    joined = JoinedRecording(made)
    data = whole(joined, most)
    assert data == whole(joined, 100_000)
    assert len(data) == joined.size
    path = directory / "joined.wav"
    path.write_bytes(data)
    left, right = sides(path)
    assert left == right
