"""Recordings on disk, as a player has them, and as a dead process leaves them."""

import os
import struct
from pathlib import Path

from sts_trio.audio import wav
from sts_trio.records.recording_file import HEADER_SIZE, RecordingFile


def sides(path: Path) -> tuple[bytes, bytes]:
    """What plays, by what the header says."""
    data = path.read_bytes()
    assert wav.parse(data)
    [size] = struct.unpack_from("<I", data, HEADER_SIZE - 4)
    [samples] = struct.unpack_from("<I", data, HEADER_SIZE - 12)
    [riff] = struct.unpack_from("<I", data, 4)
    assert riff == size + HEADER_SIZE - 8
    assert samples == size // 2
    body = data[HEADER_SIZE : HEADER_SIZE + size]
    assert len(body) == size
    return body[0::2], body[1::2]


def left_by_the_dead(file: RecordingFile) -> None:
    """As the system closes what a process had that was killed."""
    os.close(file._descriptor)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]
