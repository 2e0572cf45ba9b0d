"""Who may be dialled ahead for: so often for one call, and so fast for all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.agents import allowance
from sts_trio.agents.allowance import (
    BURST,
    DIALS_PER_CALL,
    DIALS_PER_SECOND,
    MAX_SID,
    Allowance,
    TokenBucket,
)

# --- all of them ----------------------------------------------------------------------------------


def test_a_bucket_is_full_at_first_and_then_gives_what_flows_in() -> None:
    bucket = TokenBucket(rate=2.0, burst=3)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(100.5), bucket.take(100.5), bucket.take(101.0)] == [True, False, True]
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    bucket = TokenBucket(rate=1.0, burst=2)
    assert bucket.take(100.0)
    assert bucket.take(50.0)
    assert not bucket.take(50.0)
    assert bucket.take(51.0)


@given(st.lists(st.floats(0, 10), max_size=200), st.floats(0.5, 20), st.integers(1, 30))
def test_in_no_time_at_all_more_is_given_than_fits_and_flows_in(
    pauses: list[float], rate: float, burst: int
) -> None:
    bucket = TokenBucket(rate, burst)
    now, given_at = 0.0, []
    for pause in pauses:
        now += pause
        if bucket.take(now):
            given_at.append(now)
    for first in range(len(given_at)):
        for last in range(first, len(given_at)):
            most = burst + rate * (given_at[last] - given_at[first])
            assert last - first + 1 <= most + 1e-6


def test_all_together_are_dialled_for_no_faster_than_the_rate() -> None:
    """One who has caught a thousand webhooks, and sends a hundred a second."""
    dials = Allowance()
    taken = [dials.take(f"CA{n % 1000}", n / 100) is None for n in range(6000)]
    assert sum(taken) == pytest.approx(BURST + 60 * DIALS_PER_SECOND, abs=1)


def test_a_crowd_that_calls_at_once_and_then_as_fast_as_a_full_server_takes_calls_is_served() -> (
    None
):
    dials = Allowance()
    assert [dials.take(f"CA{n}", 0.0) for n in range(BURST)] == [None] * BURST
    later = [dials.take(f"CB{n}", n / (500 / 60)) for n in range(1, 5000)]
    assert later == [None] * len(later)


# --- one of them ----------------------------------------------------------------------------------


def test_a_call_is_dialled_for_twice_whenever_that_is() -> None:
    dials = Allowance()
    taken = [dials.take("CA1", 3600.0 * hour) is None for hour in range(10)]
    assert taken == [True, True] + [False] * 8
    assert dials.take("CA2", 36000.0) is None


def test_a_call_that_is_here_or_was_is_not_dialled_for() -> None:
    dials = Allowance()
    with dials.live("CA1"):
        assert "begun already" in str(dials.take("CA1", 0))
        # Its agent was lost, and another one is being dialled.
        with dials.live("CA1"):
            pass
        assert dials.take("CA1", 0) is not None
    assert dials.take("CA1", 0) is not None


def test_a_refusal_costs_nothing() -> None:
    dials = Allowance()
    for _ in range(10 * BURST):
        dials.take("CA1", 0.0)
    taken = [dials.take(f"CB{n}", 0.0) is None for n in range(BURST)]
    assert sum(taken) == BURST - DIALS_PER_CALL


def test_what_is_remembered_has_a_bound_and_a_live_call_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(allowance, "REMEMBERED", 10)
    dials = Allowance()
    with dials.live("CA of two hours"):
        for n in range(50):
            dials.take(f"CA{n}", float(n))
        assert dials.take("CA of two hours", 50.0) is not None
        assert len(dials._dials) == 10
    for n in range(50, 59):
        dials.take(f"CA{n}", float(n))
    assert dials.take("CA of two hours", 60.0) is not None
    assert dials._live == {}


def test_a_name_as_long_as_a_stranger_likes_is_not_kept() -> None:
    dials = Allowance()
    with dials.live("CA" + "x" * 1_000_000):
        assert max(map(len, dials._live)) == MAX_SID
    dials.take("CB" + "x" * 1_000_000, 0.0)
    assert max(map(len, dials._dials)) == MAX_SID
