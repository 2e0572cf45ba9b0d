"""Wrong secrets: after a few, from wherever, each further one is answered slowly.

Who guesses one after the other gets to one a second. Who guesses from many connections at once is
slowed down by nothing: a right secret is never kept waiting, so no answer in time is an answer,
too. Long secrets are what helps against that; this keeps short ones from being found in passing,
and the log from being filled. Pure.
"""

import math
from collections.abc import Callable

# Who mistypes notices nothing.
FREE = 10
PAUSE = 1.0
# Of those that are kept waiting; so a flood holds no more than ten connections.
LONGEST = 10.0


class Guesses:
    """One queue for all, of which nothing is kept but its end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.wrong = 0  # so far
        self._clock = clock
        self._end = -math.inf  # when the last in the queue is answered

    def pause(self) -> float | None:
        """How long the answer to one more has to wait; None: too many wait, so it need not."""
        self.wrong += 1
        if self.wrong <= FREE:
            return 0.0
        now = self._clock()
        turn = max(now, self._end) + PAUSE
        if turn > now + LONGEST:
            return None
        self._end = turn
        return turn - now
