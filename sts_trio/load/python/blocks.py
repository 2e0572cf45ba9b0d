"""Audio that can be checked: every 160 bytes tell when they were sent, in which call, and whether
they are whole. Pure.

So delay is measured for each 20 ms, however a bridge cuts and joins them.
"""

import hashlib
import random
import struct
from collections.abc import Callable
from enum import Enum

from sts_trio.audio.frames import FRAME, SILENCE
from sts_trio.load.python.histogram import Histogram

_HEAD = struct.Struct("<dII")  # when it was sent, the call, the number in it
_SUM = 8
_NOISE = FRAME - _HEAD.size - _SUM
# Somewhere in here begins the noise of each block: no two that follow are alike.
_SEA = random.Random(1).randbytes(4096 + _NOISE)
_SILENCE = SILENCE * FRAME


class Way(Enum):
    """A caller that is sent their own voice hears nonsense: the sums differ."""

    UP = b"to the agent"
    DOWN = b"to the caller"


def make(way: Way, serial: int, number: int, now: float) -> bytes:
    at = (serial * 31 + number * 7) % 4096
    block = _HEAD.pack(now, serial, number) + _SEA[at : at + _NOISE]
    return block + _sum(way, block)


def _sum(way: Way, block: bytes) -> bytes:
    return hashlib.blake2b(block, digest_size=_SUM, key=way.value).digest()


class Counts:
    """Of one direction. What was sent and has arrived is of the window alone."""

    def __init__(self) -> None:
        self.sent = 0
        self.arrived = 0
        self.lost = 0  # a later block came, this one did not
        self.disordered = 0  # came after a later one, or twice
        self.corrupt = 0
        self.foreign = 0  # another call's
        self.filler = 0  # silence that the bridge has made up
        self.delays = Histogram()


class Ear:
    """Puts a stream of bytes, however cut, together again as blocks.

    `serial` is the call whose audio this is, None until the first block tells. `arrived` is told
    the call, a block's number in it, when that was sent, and now.
    """

    def __init__(
        self,
        way: Way,
        counts: Counts,
        arrived: Callable[[int, int, float, float], None],
        serial: int | None = None,
    ) -> None:
        self.serial = serial
        self._way = way
        self._counts = counts
        self._arrived = arrived
        self._next = 0
        self._rest = b""

    def hear(self, audio: bytes, now: float) -> None:
        audio = self._rest + audio
        whole = len(audio) - len(audio) % FRAME
        for at in range(0, whole, FRAME):
            self._judge(audio[at : at + FRAME], now)
        self._rest = audio[whole:]

    def clear(self) -> None:
        """What is dropped when a caller cuts in may end in the midst of a block."""
        self._rest = b""

    def _judge(self, block: bytes, now: float) -> None:
        counts = self._counts
        if block == _SILENCE:
            counts.filler += 1
            return
        sent, serial, number = _HEAD.unpack_from(block)
        if block[-_SUM:] != _sum(self._way, block[:-_SUM]) or not sent <= now:
            counts.corrupt += 1
            return
        if self.serial is None:
            # An agent that comes after another has not missed what was before it.
            self.serial, self._next = serial, number
        if serial != self.serial:
            counts.foreign += 1
        elif number < self._next:
            counts.disordered += 1
        else:
            counts.lost += number - self._next
            self._next = number + 1
            self._arrived(serial, number, sent, now)
