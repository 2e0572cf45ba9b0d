"""The ticks in which adopted sockets are read: one task for all calls of the process.

A call's socket is read once a period instead of once a packet, so that what would be five wake-ups,
five reads and five messages to the agent is one of each. The period follows the load: with few
calls latency matters and CPU does not, with many it is the other way round.

With many calls, their turns are spread evenly over the period. What a call's turn raises is that
call's to catch; it must never get here.

Between two ticks a core sleeps, and wakes up with cold caches: what a turn costs is less the code
it runs than the memory it touches, which is each call's own. Hence `__slots__` in all classes that
a turn comes by: without a dictionary it costs a tenth less.
"""

import bisect
import collections
import contextlib
import itertools
import math
from collections.abc import Callable, Iterator

import msgspec
import trio

from sts_trio.net.cork import Cork
from sts_trio.net.poller import Poller

# (calls, how often each gets its turn), and evenly between. 20 ms is Twilio's own frame: reading
# more often would only find less. Of 100 ms caller audio waits half on average, which nobody hears.
# With up to 100 calls delay counts for more than CPU, and with 150 it is the other way round.
PERIODS = ((74, 0.02), (100, 0.027), (150, 0.1))
SHORTEST_PERIOD, LONGEST_PERIOD = PERIODS[0][1], PERIODS[-1][1]
# Turns are taken many at a time, as waking up costs as much as several of them; but no more than
# this, as agent audio and barge-in wait for the last: about 3 ms.
TURNS_AT_ONCE = 100
# A tick this late is counted: the process has more to do than it can.
LATE = 0.02
# How late ticks are is counted up to each of these.
LAGS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

Turn = Callable[[float], None]  # called with Trio's current time


class TickStats(msgspec.Struct):
    """How punctual the ticks are."""

    ticks: int = 0
    late: int = 0
    worst: float = 0.0


def period_for(calls: int) -> float:
    """How often each of so many calls gets its turn, in seconds."""
    for (few, short), (many, long) in itertools.pairwise(PERIODS):
        if calls <= many:
            return short + (long - short) * max(0, calls - few) / (many - few)
    return LONGEST_PERIOD


class Ticker:
    """With a `poller`, agents who have said something are heard before callers take turns.

    A call may have the `weight` of several.
    """

    def __init__(
        self,
        poller: Poller | None = None,
        *,
        turns_at_once: int = TURNS_AT_ONCE,
        weight: int = 1,
    ) -> None:
        self._poller = poller
        self.cork = Cork() if poller is None else poller.cork
        self._turns_at_once = turns_at_once
        self._weight = weight
        self.stats = TickStats()
        # Ticks that were not later than the first of `LAGS`, than the second, and so on; the rest.
        self.lags = [0] * (len(LAGS) + 1)
        self.lag = 0.0  # of all of them, in seconds
        self._ring: collections.deque[Turn] = collections.deque()
        self._begun = trio.Event()

    @property
    def period(self) -> float:
        """How often each call gets its turn at the present load."""
        return period_for(self._weight * len(self._ring))

    @contextlib.contextmanager
    def registered(self, turn: Turn) -> Iterator[None]:
        """Has `turn` called once a period while inside. It must be quick and must not raise."""
        self._ring.append(turn)
        self._begun.set()
        try:
            yield
        finally:
            self._ring.remove(turn)

    async def run(self) -> None:
        """Ticks until cancelled."""
        due = 0.0  # turns; the part that is not yet a whole one carries over
        last = trio.current_time()
        while True:
            while not self._ring:  # who came may be gone again
                self._begun = trio.Event()
                await self._begun.wait()
                due, last = 0.0, trio.current_time()
            step = self.period / math.ceil(len(self._ring) / self._turns_at_once)
            await trio.sleep_until(last + step)
            if self._poller is not None:
                self._poller.poll()
            now = trio.current_time()
            self._note(now - last - step)
            count = len(self._ring)
            # After a stall everyone is due once, not as often as was missed.
            due = min(due + count * (now - last) / self.period, count)
            last = now
            # A tick in time may come out as 0.999999 of one: times are floats.
            taken = int(due + 0.001)
            due -= taken
            with self.cork:
                for _ in range(taken):
                    # No name for it: the last one would be kept until the next tick.
                    self._ring.rotate(-1)
                    self._ring[-1](now)

    def _note(self, late_by: float) -> None:
        self.stats.ticks += 1
        lag = max(0.0, late_by)
        self.lags[bisect.bisect_left(LAGS, lag)] += 1
        self.lag += lag
        if late_by > LATE:
            self.stats.late += 1
        self.stats.worst = max(self.stats.worst, late_by)
