"""µ-law and linear samples: G.711's integer rule as tables, and how loud a frame is.

Pure. Linear samples are 16 bit, little-endian, mono. The tables are built by the rule of ITU-T
G.711 (14 bit magnitude, bias 33, eight segments of sixteen steps) and not by the logarithm it
approximates: the two disagree at the edges of steps.
"""

import math
import struct
from collections.abc import Iterable

SILENCE = 0xFF  # positive zero; 0x7F, negative zero, is as silent

_BIAS = 33
_SEGMENTS = 8
_STEPS = 16


def _encode_table() -> bytes:
    """Code of each 16 bit sample, in the order of its bits read as an unsigned number."""
    # Step s of segment g holds 2 << g biased magnitudes; the first holds 32 and 33, and 32 is
    # never met because the bias is 33.
    codes = b"".join(
        bytes((segment << 4 | step,)) * (2 << segment)
        for segment in range(_SEGMENTS)
        for step in range(_STEPS)
    )[1:]
    codes = codes.ljust((1 << 13) + 1, b"\x7f")  # louder than the last step: the last step
    # A sample loses its two lowest bits, rounding downward, before its sign is set aside.
    positive = b"".join(bytes((code ^ 0xFF,)) * 4 for code in codes[: 1 << 13])
    negative = b"".join(bytes((code ^ 0x7F,)) * 4 for code in codes[:0:-1])
    return positive + negative


def _decode_code(code: int) -> int:
    """The sample in the middle of a code's step."""
    code ^= 0xFF
    magnitude = (((code & 0x0F) << 1) + _BIAS << (code >> 4 & 0x07)) - _BIAS
    return -4 * magnitude if code & 0x80 else 4 * magnitude


SAMPLES = tuple(_decode_code(code) for code in range(256))  # (sample of code 0, of code 1, ...)

_CODES = _encode_table()
_LOW_BYTES = bytes(sample & 0xFF for sample in SAMPLES)
_HIGH_BYTES = bytes(sample >> 8 & 0xFF for sample in SAMPLES)
_SQUARES = tuple(sample * sample for sample in SAMPLES)


def encode(pcm: bytes) -> bytes:
    """µ-law of 16 bit little-endian samples.

    Raises:
        struct.error: `pcm` ends in the middle of a sample.
    """
    return bytes(map(_CODES.__getitem__, struct.unpack(f"<{len(pcm) // 2}H", pcm)))


def encode_samples(samples: Iterable[float]) -> bytes:
    """µ-law of numbers on the scale of 16 bit; what is beyond it is clipped."""
    whole = list(map(round, samples))
    if whole and not -32768 <= min(whole) <= max(whole) <= 32767:
        whole = [max(-32768, min(32767, each)) for each in whole]
    # A negative sample is found from the end, where the table has its 16 bits.
    return bytes(map(_CODES.__getitem__, whole))


def decode(ulaw: bytes) -> bytes:
    """16 bit little-endian samples of µ-law."""
    pcm = bytearray(2 * len(ulaw))
    pcm[0::2] = ulaw.translate(_LOW_BYTES)
    pcm[1::2] = ulaw.translate(_HIGH_BYTES)
    return bytes(pcm)


def level(ulaw: bytes) -> float:
    """How loud: root mean square, 0.0 for silence to about 1.0, full scale. Silence has none."""
    if not ulaw:
        return 0.0
    return math.sqrt(sum(map(_SQUARES.__getitem__, ulaw)) / len(ulaw)) / 32768


_AUDIBLE = 300  # 41 dB below full scale: speech is louder, the hiss of a line is not
_SIDES = bytes(1 if sample >= _AUDIBLE else 2 if sample <= -_AUDIBLE else 0 for sample in SAMPLES)


def is_audible(ulaw: bytes) -> bool:
    """Whether somebody may be speaking in it: it swings to both sides. Takes a microsecond."""
    sides = ulaw.translate(_SIDES)
    few = len(ulaw) // 32
    return sides.count(1) > few and sides.count(2) > few


def decibels(dbfs: float) -> float:
    """The `level` that is this many decibels from full scale (so below zero)."""
    return float(10 ** (dbfs / 20))
