"""Durations that are counted by size tell what a list of them would tell."""

from hypothesis import given
from hypothesis import strategies as st

from sts_trio.load.python.histogram import Histogram

SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


@given(st.lists(st.floats(0, 1e5) | st.floats(0, 1e-3), min_size=1, max_size=300))
def test_percentiles_are_those_of_a_list_to_within_half_a_per_cent(seconds: list[float]) -> None:
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    told = histogram.delays()
    assert told is not None
    ordered = sorted(seconds)
    assert told.count == len(ordered)
    assert abs(told.max - 1000 * ordered[-1]) <= 0.001
    for name, share in SHARES.items():
        exact = 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]
        assert abs(getattr(told, name) - exact) <= max(0.001, 0.005 * exact)


def test_it_takes_no_more_memory_after_a_million() -> None:
    histogram = Histogram()
    for microseconds in range(1_000_000):
        histogram.add(microseconds / 1e6)
    assert len(histogram._buckets) < 256 + 128 * 13
    assert Histogram().delays() is None
