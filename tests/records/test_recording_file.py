"""Recordings on disk: any player takes them, whatever became of who wrote them."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rig_recordings import left_by_the_dead, sides

from sts_trio.audio.frames import SILENCE
from sts_trio.records.recording_file import HEADER_SIZE, Finished, RecordingFile, repair

LEFT, RIGHT = b"\x11" * 8000, b"\x22" * 8000


def test_the_caller_is_left_and_the_agent_right(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "call.wav"
    file = RecordingFile(path)
    file.append(0, LEFT, RIGHT)
    file.append(80, LEFT, None)
    assert not path.exists()
    assert file.finish() == Finished(path, 2.01, HEADER_SIZE + 2 * 16080)
    assert sides(path) == (LEFT + SILENCE * 80 + LEFT, RIGHT + SILENCE * 8080)
    assert [each.name for each in path.parent.iterdir()] == ["call.wav"]


def test_nobody_else_may_hear_it(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "day" / "call.wav")
    file.append(0, LEFT, RIGHT)
    finished = file.finish()
    assert finished is not None
    assert stat.S_IMODE(finished.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(finished.path.parent.stat().st_mode) == 0o700


def test_a_recording_of_nothing_leaves_no_file(tmp_path: Path) -> None:
    assert RecordingFile(tmp_path / "call.wav").finish() is None
    assert list(tmp_path.iterdir()) == []


def test_two_recordings_of_one_name_do_not_write_over_each_other(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "call.wav")
    with pytest.raises(FileExistsError):
        RecordingFile(tmp_path / "call.wav")
    file.append(0, LEFT, None)
    assert file.finish() is not None


def test_what_is_written_plays_before_it_is_complete(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "call.wav")
    for count in (1, 2, 3):
        file.append(0, LEFT, RIGHT)
        assert sides(tmp_path / "call.wav.part") == (LEFT * count, RIGHT * count)
    left_by_the_dead(file)


def test_what_a_dead_process_left_is_made_complete(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "day" / "call.wav")
    file.append(0, LEFT, RIGHT)
    # Audio whose header was not written any more, and half a sample.
    os.pwrite(file._descriptor, b"\x33\x44\x55", HEADER_SIZE + 16000)
    left_by_the_dead(file)
    path = tmp_path / "day" / "call.wav"
    assert list(repair(tmp_path)) == [Finished(path, 8001 / 8000, HEADER_SIZE + 16002)]
    assert sides(path) == (LEFT + b"\x33", RIGHT + b"\x44")
    assert list(repair(tmp_path)) == []


def test_what_a_living_process_writes_is_left_to_it(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "call.wav")
    file.append(0, LEFT, RIGHT)
    assert list(repair(tmp_path)) == []
    file.append(0, LEFT, RIGHT)
    assert file.finish() is not None
    assert sides(tmp_path / "call.wav") == (LEFT * 2, RIGHT * 2)


@pytest.mark.parametrize("content", [b"", b"RIFF", bytes(HEADER_SIZE), b"x" * 1000])
def test_what_has_no_audio_is_deleted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "call.wav.part").write_bytes(content)
    assert list(repair(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_one_that_cannot_be_repaired_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    (tmp_path / "a.wav.part").mkdir()
    file = RecordingFile(tmp_path / "b.wav")
    file.append(0, LEFT, RIGHT)
    left_by_the_dead(file)
    assert [finished.path.name for finished in repair(tmp_path)] == ["b.wav"]


def full_after(size: int) -> Callable[[int, bytes, int], int]:
    """A disk on which a file gets no longer than that."""
    real = os.pwrite

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        if at >= size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[: size - at], at)

    return pwrite


def test_what_a_full_disk_takes_in_part_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = RecordingFile(tmp_path / "call.wav")
    file.append(0, LEFT, RIGHT)
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", full_after(HEADER_SIZE + 20_000))
        for _ in range(3):
            with pytest.raises(OSError, match="No space left"):
                file.append(0, LEFT, RIGHT)
        assert sides(tmp_path / "call.wav.part") == (LEFT, RIGHT)
        assert (tmp_path / "call.wav.part").stat().st_size == HEADER_SIZE + 16000
    # Now there is room again, and what was lost leaves silence.
    file.append(24000, LEFT, RIGHT)
    assert file.finish() is not None
    gap = SILENCE * 24000
    assert sides(tmp_path / "call.wav") == (LEFT + gap + LEFT, RIGHT + gap + RIGHT)


def test_a_disk_without_room_for_a_header_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", full_after(0))
    with pytest.raises(OSError, match="No space left"):
        RecordingFile(tmp_path / "call.wav")
    assert list(tmp_path.iterdir()) == []


def test_an_hour_of_silence_is_written_in_steps(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "call.wav")
    file.append(8000 * 130, LEFT, RIGHT)
    assert file.finish() == Finished(tmp_path / "call.wav", 131.0, HEADER_SIZE + 16000 * 131)


def test_a_recording_ends_where_a_wav_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sts_trio.records.recording_file.MAX_BODY", 20_000)
    file = RecordingFile(tmp_path / "call.wav")
    file.append(0, LEFT, RIGHT)
    with pytest.raises(OSError, match="File too large"):
        file.append(0, LEFT, RIGHT)
    assert file.finish() == Finished(tmp_path / "call.wav", 1.0, HEADER_SIZE + 16000)


WRITER = """
import sys
from pathlib import Path
from sts_trio.records.recording_file import RecordingFile
file = RecordingFile(Path(sys.argv[1]))
while True:
    file.append(0, bytes([0x11]) * 8000, bytes([0x22]) * 8000)
    print(flush=True)
"""


def test_a_recording_whose_process_is_killed_plays_and_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    process = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    left, right = sides(tmp_path / "call.wav.part")
    assert len(left) >= 5 * 8000
    assert left == b"\x11" * len(left)
    [finished] = repair(tmp_path)
    assert finished.seconds >= 5
    left, right = sides(path)
    assert left.strip(b"\x11") == right.strip(b"\x22") == b""
