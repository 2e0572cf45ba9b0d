"""Durations, counted by size: as much memory after a day as after a minute. Pure.

As `generator/meter.c` does: microseconds are told apart up to 256, and beyond to within 0.4 %.
"""

from collections import Counter

from sts_trio.load.figures import Delays

# A doubling is so many buckets, by the bits that follow the first one.
_BITS = 7
_FINE = 1 << _BITS


class Histogram:
    """Of seconds. None of them may be negative."""

    def __init__(self) -> None:
        self.count = 0
        self._most = 0
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        microseconds = int(1e6 * seconds)
        shift = max(0, microseconds.bit_length() - _BITS - 1)
        self._buckets[shift * _FINE + (microseconds >> shift)] += 1
        self.count += 1
        self._most = max(self._most, microseconds)

    def delays(self) -> Delays | None:
        """In ms, as `figures` has them. None: there are none."""
        if not self.count:
            return None
        p50, p90, p99, p999 = map(self._percentile, (0.5, 0.9, 0.99, 0.999))
        return Delays(self.count, p50, p90, p99, p999, self._most / 1000)

    def _percentile(self, share: float) -> float:
        rank = int(share * self.count)
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank < 0:
                return min(_middle(bucket), self._most) / 1000
        raise AssertionError  # a share of all is less than all


def _middle(bucket: int) -> float:
    """Of what is in it, in microseconds."""
    shift = max(0, bucket // _FINE - 1)
    return ((bucket - shift * _FINE) << shift) + ((1 << shift) - 1) / 2
