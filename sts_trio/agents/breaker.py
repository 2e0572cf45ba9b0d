"""When to leave an endpoint alone: a circuit breaker. Pure: time is an input.

Closed, it lets everyone dial. After `FAILURES` in a row it is open: nobody dials while the endpoint
rests. Then it is half-open: one attempt at a time is let through as a trial, and all others are
still turned away. A trial that reaches the endpoint closes the breaker; one that fails makes it
rest again, twice as long, up to `LONGEST_REST`.

Failures are counted in a row and not in a window of time: when one fails, another is
tried within the same dial, so an endpoint that answers every second time does less harm than one
less endpoint would. One that is dead fails every time, however few or many the calls are.
"""

import enum
from math import inf

# One may be a lost packet and two may be two at once; the third call in a row is not to pay for it.
FAILURES = 3
# A restart takes seconds. Where there is no other endpoint, calls are turned away meanwhile.
FIRST_REST = 1.0
# As long as a provider that came back is at most left alone.
LONGEST_REST = 30.0


class State(enum.Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Outcome(enum.Enum):
    """What came of an attempt."""

    REACHED = "reached"  # it answered, if only to refuse us
    FAILED = "failed"
    UNKNOWN = "unknown"  # given up before anything could be known


class Attempt:
    """One dial that was let through. Has to be concluded, whatever became of it."""

    def __init__(self, *, is_trial: bool) -> None:
        self.is_trial = is_trial


class Breaker:
    """The state of one endpoint, for all calls of the process."""

    def __init__(self) -> None:
        self.failures = 0  # in a row
        self._rests_until: float | None = None  # None: closed
        self._rest = FIRST_REST
        self._trial: Attempt | None = None

    def state(self, now: float) -> State:
        if self._rests_until is None:
            return State.CLOSED
        return State.OPEN if now < self._rests_until else State.HALF_OPEN

    def rest(self, now: float) -> float:
        """How much longer nobody may dial."""
        return max(0.0, (self._rests_until or -inf) - now)

    def admits(self, now: float) -> bool:
        """Whether there would be an attempt."""
        state = self.state(now)
        return state is State.CLOSED or (state is State.HALF_OPEN and self._trial is None)

    def attempt(self, now: float) -> Attempt | None:
        """Leave to dial once, or None."""
        if not self.admits(now):
            return None
        attempt = Attempt(is_trial=self._rests_until is not None)
        if attempt.is_trial:
            self._trial = attempt
        return attempt

    def conclude(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        if attempt is self._trial:
            self._trial = None
        if outcome is Outcome.REACHED:
            self.failures = 0
            self._rests_until = None
            self._rest = FIRST_REST
        elif outcome is Outcome.FAILED:
            self._fail(attempt, now)

    def _fail(self, attempt: Attempt, now: float) -> None:
        if self._rests_until is None:
            self.failures += 1
            if self.failures >= FAILURES:
                self._rests_until = now + self._rest
        elif attempt.is_trial:
            self.failures += 1
            self._rest = min(2 * self._rest, LONGEST_REST)
            self._rests_until = now + self._rest
        # Else it was let through before the rest began, and tells nothing new.
