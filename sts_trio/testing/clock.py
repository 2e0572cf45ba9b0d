"""The clock that jumps, `trio.testing.MockClock` with an `autojump_threshold`, with real sockets.

It jumps to the next deadline when every task waits. Here some wait for what Trio does not see:
bytes on their way through the loopback, a function in a thread, the processes that recognise words.
"""

import contextlib
import math
from collections.abc import Iterator

import trio
import trio.testing

from sts_trio.offline.workers import pool as workers

# Real seconds without news until the clock jumps: the kernel has a byte there in a hundredth of
# that. Should it take longer, a deadline comes too early by no more than one step of a call, 20 ms.
CUSHION = 0.001


@contextlib.contextmanager
def jumping_only_when_nothing_works() -> Iterator[None]:
    """Within this block a clock that jumps leaves time for sockets, threads and processes."""
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, trio.testing.MockClock) or clock.autojump_threshold == math.inf:
        yield
        return
    threshold, rate = clock.autojump_threshold, clock.rate
    clock.autojump_threshold = max(threshold, CUSHION)
    instrument = _Hold(clock)
    trio.lowlevel.add_instrument(instrument)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(instrument)
        clock.autojump_threshold, clock.rate = threshold, rate


class _Hold(trio.abc.Instrument):
    """While the offline agent's processes work the clock stands still. While a thread works it runs
    as real time does: the thread may have called back, and wait for something that takes time."""

    def __init__(self, clock: trio.testing.MockClock) -> None:
        self._clock = clock
        self._jumping = self._manner = (clock.autojump_threshold, clock.rate)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if trio.testing.active_thread_count():
            manner = (math.inf, 1.0)
        else:
            manner = (math.inf, 0.0) if workers.at_work() else self._jumping
        if manner != self._manner:
            self._manner = self._clock.autojump_threshold, self._clock.rate = manner
