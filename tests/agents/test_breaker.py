"""The circuit breaker, on times made up."""

from hypothesis import given
from hypothesis import strategies as st

from sts_trio.agents.breaker import FAILURES, FIRST_REST, LONGEST_REST, Breaker, Outcome, State

REACHED, FAILED, UNKNOWN = Outcome


def dial(breaker: Breaker, outcome: Outcome, now: float) -> bool:
    """Whether it was let through."""
    attempt = breaker.attempt(now)
    if attempt is not None:
        breaker.conclude(attempt, outcome, now)
    return attempt is not None


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        dial(breaker, FAILED, now)
    return breaker


def test_failures_in_a_row_make_an_endpoint_rest() -> None:
    breaker = Breaker()
    for number in range(FAILURES):
        assert breaker.state(0) is State.CLOSED
        assert breaker.failures == number
        assert dial(breaker, FAILED, 0)
    assert breaker.state(0) is State.OPEN
    assert breaker.rest(0.25) == FIRST_REST - 0.25
    assert not breaker.admits(FIRST_REST - 0.01)
    assert breaker.attempt(FIRST_REST - 0.01) is None


def test_one_that_was_reached_in_between_begins_the_count_anew() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(FAILURES - 1):
            dial(breaker, FAILED, 0)
        dial(breaker, REACHED, 0)
    assert breaker.state(0) is State.CLOSED
    assert breaker.failures == 0
    assert breaker.rest(0) == 0


def test_what_was_given_up_counts_for_nothing() -> None:
    breaker = Breaker()
    for outcome in (FAILED, UNKNOWN, FAILED, UNKNOWN):
        dial(breaker, outcome, 0)
    assert breaker.failures == 2
    dial(breaker, FAILED, 0)
    assert breaker.state(0) is State.OPEN


def test_after_its_rest_one_at_a_time_may_try() -> None:
    breaker = opened()
    assert breaker.state(FIRST_REST) is State.HALF_OPEN
    assert breaker.admits(FIRST_REST)
    trial = breaker.attempt(FIRST_REST)
    assert trial is not None
    assert not breaker.admits(FIRST_REST)
    assert breaker.attempt(FIRST_REST) is None
    breaker.conclude(trial, UNKNOWN, FIRST_REST)
    assert breaker.state(FIRST_REST) is State.HALF_OPEN
    assert breaker.admits(FIRST_REST)


def test_a_trial_that_reaches_it_ends_the_rest() -> None:
    breaker = opened()
    assert dial(breaker, REACHED, FIRST_REST)
    assert breaker.state(FIRST_REST) is State.CLOSED
    assert breaker.failures == 0
    assert all(breaker.attempt(FIRST_REST) for _ in range(5))


def test_each_trial_that_fails_doubles_the_rest_up_to_a_bound() -> None:
    breaker, now, rests = opened(), 0.0, []
    for _ in range(8):
        rests.append(breaker.rest(now))
        now += rests[-1]
        assert dial(breaker, FAILED, now)
    assert rests == [1, 2, 4, 8, 16, 30, 30, LONGEST_REST]
    dial(breaker, REACHED, now + LONGEST_REST)
    for _ in range(FAILURES):
        dial(breaker, FAILED, now)
    assert breaker.rest(now) == FIRST_REST


def test_a_dial_from_before_the_rest_does_not_prolong_it_but_may_end_it() -> None:
    breaker = Breaker()
    early = [breaker.attempt(0) for _ in range(FAILURES + 2)]
    for attempt in early[:-1]:
        assert attempt is not None
        breaker.conclude(attempt, FAILED, 0.5)
    assert breaker.rest(0.5) == FIRST_REST
    last = early[-1]
    assert last is not None
    breaker.conclude(last, REACHED, 0.9)
    assert breaker.state(0.9) is State.CLOSED


def test_a_dial_from_before_the_rest_leaves_a_trial_alone() -> None:
    breaker = Breaker()
    early = breaker.attempt(0)
    assert early is not None
    for _ in range(FAILURES):
        dial(breaker, FAILED, 0)
    assert breaker.attempt(FIRST_REST) is not None
    breaker.conclude(early, FAILED, FIRST_REST)
    assert breaker.state(FIRST_REST) is State.HALF_OPEN
    assert breaker.attempt(FIRST_REST) is None


@given(st.lists(st.tuples(st.sampled_from(Outcome), st.floats(0, 40), st.booleans())))
def test_no_history_shuts_an_endpoint_off_for_longer_than_the_longest_rest(
    history: list[tuple[Outcome, float, bool]],
) -> None:
    breaker, now, waiting = Breaker(), 0.0, []
    for outcome, seconds, is_late in history:
        now += seconds
        attempt = breaker.attempt(now)
        if attempt is not None and is_late:
            waiting.append((attempt, outcome))
        elif attempt is not None:
            breaker.conclude(attempt, outcome, now)
    for attempt, outcome in waiting:
        breaker.conclude(attempt, outcome, now)
    assert breaker.rest(now) <= LONGEST_REST
    assert breaker.admits(now + breaker.rest(now))
