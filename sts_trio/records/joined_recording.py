"""The recordings of all streams of a call as one: each where it began, between them silence. For
threads.

A call that another process goes on with has a recording of each stream. They are joined when
somebody reads them, and lie apart on disk.
"""

import bisect
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sts_trio.audio.frames import SILENCE, length
from sts_trio.records.recording_file import CHANNELS, HEADER_SIZE, MAX_BODY, header


class Part(msgspec.Struct, frozen=True):
    """`began_at` is seconds since 1970. Without a file it is silent for so many seconds."""

    began_at: float
    seconds: float
    file: Path | None


class _Piece(msgspec.Struct, frozen=True):
    """Of the audio, from byte `at` on; without a file silence."""

    at: int
    file: Path | None


class JoinedRecording:
    """A stereo WAV of µ-law, as a recording is. `parts` are those of the streams, in their order;
    the first begins it. Where two overlap, the later one has the caller."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._pieces: list[_Piece] = []
        end = 0
        for part in parts:
            at = CHANNELS * max(0, length(part.began_at - parts[0].began_at))
            while self._pieces and self._pieces[-1].at >= at:
                self._pieces.pop()
            if self._pieces and end < at:
                self._pieces.append(_Piece(end, None))
            self._pieces.append(_Piece(at, part.file))
            end = at + _size(part)
        self._body = min(end, MAX_BODY)
        self.size = HEADER_SIZE + self._body

    def read(self, at: int, most: int) -> bytes:
        """What stands there, as much of it as there is in one piece. Raises `OSError`."""
        if at < HEADER_SIZE:
            return header(self._body)[at : at + most]
        at -= HEADER_SIZE
        place = bisect.bisect_right(self._pieces, at, key=lambda piece: piece.at) - 1
        piece = self._pieces[place]
        is_last = place + 1 == len(self._pieces)
        until = self._body if is_last else self._pieces[place + 1].at
        count = min(most, until - at)
        data = b""
        if piece.file is not None:
            with piece.file.open("rb") as file:
                file.seek(HEADER_SIZE + at - piece.at)
                data = file.read(count)
        # What is not there any more was told to be of that length all the same.
        return data or SILENCE * count


def _size(part: Part) -> int:
    """Bytes of audio."""
    if part.file is None:
        return CHANNELS * length(max(0.0, part.seconds))
    size = max(0, part.file.stat().st_size - HEADER_SIZE)
    return size - size % CHANNELS
