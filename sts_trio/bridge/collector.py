"""When Python's garbage collector runs, so that no call hears it.

Theory of operation
-------------------
While the collector runs, everything waits, and how long depends on what is alive, not on what is
garbage: 0.1 to 0.4 µs an object, of which a call has some 550. A look at all of 1,000 calls is 50
to 200 ms of silence in each of them, and at Python's own thresholds comes every few seconds.

A call leaves nothing to be found: its objects go with the last reference to them. What is left are
the cycles of libraries, a few objects a request, and those of the functions that agents call. So:

- What start-up made is frozen, and never looked at again.
- What is new is looked at soon, in lots of some thousand objects: when there are so many more than
  before, whenever a call begins or has ended, and some times a second while there are calls.
  Python's own count alone would not do: it sets off what is given back against what is taken, and
  rises neither while calls come and go, nor while they stand. A call on the portable leg gives back
  and takes some 40 objects a second, and of 1,000 such calls 35,000 new ones would wait.
- Everything is looked at when there is no call, and otherwise only when memory has grown by more
  than calls explain. Then functions leave cycles that are older than a lot, and one pause, told in
  the log, is better than a process that is killed for its size.

The collector is the process's, and so is this: one for each process.
"""

import gc
import sys
import time
from collections.abc import Callable
from math import inf

import trio

from sts_trio.observe import events
from sts_trio.observe.report import report

# New objects until they are looked at, and such lots until what they left is looked at again: some
# 3,000 objects together, 2 ms at the most. A call makes 550 of them, and its webhook 500. A lot may
# be three times as large, by what old calls give back meanwhile.
NEW = 500
LOTS = 2
NEVER = 2**31 - 1
# Seconds from one look at what is new to the next: at first, and at the most, once a look is short.
SOON = 0.05
LATE = 0.25
# Of the CPU, that a look may take: while it takes less they may be rarer, as it is longer the more
# is new. Nobody hears it, and calls on the adopted leg make so little that there are few looks.
SHORT = 0.001
# Seconds from one thought of looking at everything to the next.
PAUSE = 60.0
# Blocks of memory. A call takes 900, and more the longer it lasts.
OF_A_CALL = 2000
# Some 100 MB.
MAX_UNEXPLAINED = 1_000_000


class Collector:
    """`start` it when everything is made that lasts, and tell it when a call begins and ends. `run`
    is beside it. `cpu` tells how many seconds of the CPU this thread has had."""

    def __init__(self, cpu: Callable[[], float] = time.thread_time) -> None:
        self._cpu = cpu
        self._has_calls = trio.Event()
        self._thought_at = -inf
        self._explained = 0  # blocks that were there beside those of calls, and no garbage

    def start(self) -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(NEW, LOTS, NEVER)
        self._explained = _blocks(0)

    async def run(self) -> None:
        """Looks at what is new while there are calls, until cancelled."""
        pause = SOON
        while True:
            await self._has_calls.wait()
            await trio.sleep(pause)
            began = self._cpu()
            _look_at_new()
            took = self._cpu() - began
            pause = min(LATE, 2 * pause) if 2 * took < SHORT else SOON

    def note_begin(self) -> None:
        self._has_calls.set()
        _look_at_new()

    def note_end(self, live: int, now: float) -> None:
        """A call has ended, and so many are live."""
        _look_at_new()
        if not live:
            self._has_calls = trio.Event()
        if now < self._thought_at + PAUSE:
            return
        self._thought_at = now
        if not live:
            gc.collect()
        elif _blocks(live) > self._explained + MAX_UNEXPLAINED:
            began = time.perf_counter()
            found = gc.collect()
            report(
                events.GarbageCollected(
                    objects=found,
                    seconds=round(time.perf_counter() - began, 3),
                    live=live,
                    reason="memory grew by more than calls explain; functions may leave cycles",
                )
            )
        else:
            return
        self._explained = _blocks(live)


def _look_at_new() -> None:
    gc.collect(1 if gc.get_count()[1] > LOTS else 0)


def _blocks(live: int) -> int:
    """What there is beside so many calls."""
    return sys.getallocatedblocks() - OF_A_CALL * live
