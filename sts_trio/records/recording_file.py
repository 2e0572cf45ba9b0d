"""A recording on disk: a stereo WAV of µ-law, the caller left, the agent right. For threads.

It is `NAME.wav.part` while it is written, and `NAME.wav` once it is complete. With each write its
header is made true, so that a file whose process was killed plays in any player, all but what was
not written; `repair` makes those of dead processes complete. A lock tells whether the process that
writes a file lives, however it ended.

µ-law as it came is half the size of PCM, and nothing of it is lost. The header is RIFF's, with the
chunk `fact`, which all codings but PCM have.
"""

import contextlib
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sts_trio.audio.frames import SILENCE, seconds

if sys.platform != "win32":
    import fcntl

SUFFIX = ".wav"
PART = ".wav.part"
_HEADER = struct.Struct("<4sI4s4sIHHIIHHH4sII4sI")
HEADER_SIZE = _HEADER.size
_ULAW = 7
CHANNELS = 2
_RATE = 8000
# RIFF counts bytes in 32 bits: 74 hours.
MAX_BODY = 2**32 - 1 - HEADER_SIZE
# Silence for a gap is written in steps of a minute.
_MAX_SILENCE = 60 * CHANNELS * _RATE


class Finished(msgspec.Struct, frozen=True):
    """A complete recording. `seconds` is how long it plays, `size` its bytes on disk."""

    path: Path
    seconds: float
    size: int


class RecordingFile:
    """Makes the file, and its directory if there is none.

    Raises:
        OSError: it cannot be made, or there is one already.
    """

    __slots__ = ("_descriptor", "_part", "_path", "_size")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_suffix(PART)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What callers say is nobody else's to hear.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._part, flags, 0o600)
        self._size = 0  # of the audio
        try:
            _lock(self._descriptor)
            self._write(header(0), 0)
        except OSError:
            os.close(self._descriptor)
            self._part.unlink(missing_ok=True)
            raise

    def append(self, silence: int, left: bytes, right: bytes | None) -> None:
        """So many samples of silence, then both sides; None: silence. All of it or nothing.

        Raises:
            OSError: it could not be written.
        """
        size = self._size
        try:
            while silence:
                count = min(CHANNELS * silence, _MAX_SILENCE)
                size = self._add(SILENCE * count, size)
                silence -= count // CHANNELS
            size = self._add(_interleaved(left, right), size)
            self._write(header(size), 0)
        except OSError:
            # What is behind the audio by the header is cut off when it is complete.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, HEADER_SIZE + self._size)
                self._write(header(self._size), 0)
            raise
        self._size = size

    def finish(self) -> Finished | None:
        """It is complete, and has its name; None: there is nothing in it, and so no file.

        Raises:
            OSError: it could not be given its name. The next start tries again.
        """
        try:
            if not self._size:
                self._part.unlink()
                return None
            self._part.rename(self._path)
        finally:
            os.close(self._descriptor)
        size = self._size
        return Finished(self._path, seconds(size // CHANNELS), HEADER_SIZE + size)

    def _add(self, data: bytes, size: int) -> int:
        if size + len(data) > MAX_BODY:
            raise OSError(27, os.strerror(27))  # EFBIG
        self._write(data, HEADER_SIZE + size)
        return size + len(data)

    def _write(self, data: bytes, at: int) -> None:
        while data:
            count = os.pwrite(self._descriptor, data, at)
            data, at = data[count:], at + count


def repair(root: Path) -> Iterator[Finished]:
    """Makes the recordings of dead processes below `root` complete. What nobody can read is left,
    and what has no audio deleted."""
    for part in sorted(root.glob(f"**/*{PART}")):
        with contextlib.suppress(OSError):
            descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC)
            try:
                finished = _repaired(part, descriptor)
            finally:
                os.close(descriptor)
            if finished is not None:
                yield finished


def _repaired(part: Path, descriptor: int) -> Finished | None:
    """Raises `OSError` also if whoever writes it lives."""
    _lock(descriptor)
    size = os.fstat(descriptor).st_size - HEADER_SIZE
    size -= size % CHANNELS
    head = os.pread(descriptor, HEADER_SIZE, 0)
    if size <= 0 or head[:4] != b"RIFF":
        part.unlink()
        return None
    os.ftruncate(descriptor, HEADER_SIZE + size)
    os.pwrite(descriptor, header(size), 0)
    path = part.with_name(part.name.removesuffix(PART) + SUFFIX)
    part.rename(path)
    return Finished(path, seconds(size // CHANNELS), HEADER_SIZE + size)


def _lock(descriptor: int) -> None:
    if sys.platform != "win32":
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def header(size: int) -> bytes:
    """Of so many bytes of audio."""
    return _HEADER.pack(
        b"RIFF",
        HEADER_SIZE - 8 + size,
        b"WAVE",
        b"fmt ",
        18,
        _ULAW,
        CHANNELS,
        _RATE,
        _RATE * CHANNELS,
        CHANNELS,
        8,  # bits a sample
        0,  # bytes of the format that follow
        b"fact",
        4,
        size // CHANNELS,
        b"data",
        size,
    )


def _interleaved(left: bytes, right: bytes | None) -> bytes:
    stereo = bytearray(SILENCE * (CHANNELS * len(left)))
    stereo[0::2] = left
    if right is not None:
        stereo[1::2] = right
    return bytes(stereo)
