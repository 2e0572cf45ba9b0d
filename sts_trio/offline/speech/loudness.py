"""Rendered speech made as loud as people are on the phone. Pure. Samples are on 16 bit's scale."""

import math
from collections.abc import Sequence

from sts_trio.audio import g711

LEVEL = g711.decibels(-20) * 32768  # of what is sounding, pauses aside
QUIET = g711.decibels(-45)  # a block this far below the loudest is a pause
BLOCK = 80  # samples that are judged together: 10 ms
MARGIN = 400  # samples that are kept of the silence before and after: 50 ms

# Peaks beyond three quarters of full scale are bent and not clipped.
_KNEE, _ROOM = 24576, 32767 - 24576


def even_out(samples: Sequence[float]) -> bytes:
    """µ-law, at `LEVEL`, with no more than `MARGIN` of silence around it; empty for silence."""
    powers = [
        sum(sample * sample for sample in samples[at : at + BLOCK]) / BLOCK
        for at in range(0, len(samples), BLOCK)
    ]
    loudest = max(powers, default=0.0)
    # Below one step of µ-law there is nothing to be heard, only to be blown up.
    sounding = [n for n, power in enumerate(powers) if power > loudest * QUIET**2 and power > 64]
    if not sounding:
        return b""
    power = sum(powers[n] for n in sounding) / len(sounding)
    gain = LEVEL / math.sqrt(power)
    begin = max(0, sounding[0] * BLOCK - MARGIN)
    end = (sounding[-1] + 1) * BLOCK + MARGIN
    return g711.encode_samples(_bend(gain * sample) for sample in samples[begin:end])


def _bend(sample: float) -> float:
    over = abs(sample) - _KNEE
    if over <= 0:
        return sample
    return math.copysign(_KNEE + _ROOM * math.tanh(over / _ROOM), sample)
