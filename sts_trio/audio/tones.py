"""The tones of a telephone's keys, as µ-law. Pure.

Each key is a pair of frequencies. Source: ITU-T Q.23; that a tone and the pause behind it last at
least 65 ms each (Q.24, AT&T), which 100 ms keeps well within.
"""

import functools
import math

from sts_trio.audio import g711
from sts_trio.audio.frames import BYTES_PER_SECOND, SILENCE, length

TONE = 0.1
PAUSE = 0.1
# Of full scale, each of the two frequencies: about -9 dBm0 together, as phones send them.
LEVEL = 0.25

ROWS = (697, 770, 852, 941)
COLUMNS = (1209, 1336, 1477, 1633)
KEYS = ("123A", "456B", "789C", "*0#D")


def tones(digits: str) -> bytes:
    """The keys one after the other, each 0.1 s and as long a pause; `w` is half a second's pause.

    Whole media frames.

    Raises:
        ValueError: something in `digits` is no key.
    """
    return b"".join(_tone(key) for key in digits.upper())


@functools.cache
def _tone(key: str) -> bytes:
    if key == "W":
        return SILENCE * length(0.5)
    for row, keys in zip(ROWS, KEYS, strict=True):
        if len(key) == 1 and key in keys:
            return _pair(row, COLUMNS[keys.index(key)]) + SILENCE * length(PAUSE)
    raise ValueError(f"expected keys 0 to 9, *, #, A to D, or w for a pause, got {key!r}")


def _pair(row: int, column: int) -> bytes:
    return g711.encode_samples(
        LEVEL * 32767 * (math.sin(_turns(row, step)) + math.sin(_turns(column, step)))
        for step in range(length(TONE))
    )


def _turns(hertz: int, step: int) -> float:
    return 2 * math.pi * hertz * step / BYTES_PER_SECOND
