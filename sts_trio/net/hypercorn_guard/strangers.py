"""The connections that are no calls: how many there may be, and who goes first.

There is a cap, and the oldest that waits for its peer goes. There is also an end to what a process
may hold: as the kernel gives out the lowest descriptor that is free, the number of a new one tells
how full the table is. Near its end each new connection ends two others, one for itself and one for
the agent of the call that it may become; so a full table costs strangers, and never a call. Who is
being answered, and may be Twilio, goes only when there is no descriptor at all.
"""

import logging
from collections import OrderedDict
from math import inf
from typing import Protocol

import trio

from sts_trio.net.hypercorn_guard import descriptors
from sts_trio.observe import events
from sts_trio.observe.report import report

# Followers of events (100), a proxy's pool, and 100 webhooks a second that take a second each.
MAX = 300
# Who has only just come, or has only just been answered, is not at fault for being one of many: a
# thousand calls may begin in the same second.
FRESH = 1.0
# Seconds between two log lines.
SELDOM = 60.0


class Stranger(Protocol):
    def cut_off(self) -> None:
        """Closes its socket, now, and ends its tasks."""
        ...

    def retire(self) -> None:
        """Closes its socket if nobody is using it; what is answered next is the last."""
        ...


class Strangers:
    """Of one run of Trio. Two, in two threads, share the process's descriptors and nothing else."""

    def __init__(self) -> None:
        # {who: since when it is this side's turn}, the oldest first
        self._waiting_for_peer: OrderedDict[Stranger, float] = OrderedDict()
        self._waiting_for_us: OrderedDict[Stranger, float] = OrderedDict()
        self.are_retired = False
        self._ended = 0
        self._next_line = -inf

    @staticmethod
    def of_this_run() -> "Strangers":
        try:
            return _strangers.get()
        except LookupError:
            strangers = Strangers()
            _strangers.set(strangers)
            return strangers

    def __len__(self) -> int:
        return len(self._waiting_for_peer) + len(self._waiting_for_us)

    def enter(self, newcomer: Stranger, descriptor: int) -> None:
        """Somebody has come, and for that others may have to go."""
        if descriptors.are_scarce(descriptor):
            for _ in range(2):
                self._end_first_of(self._waiting_for_peer)
            self._tell("the process has few descriptors left")
        elif len(self) >= MAX:
            self._end_one_that_dawdles()
        self._waiting_for_peer[newcomer] = trio.current_time()

    def turn(self, one: Stranger, *, is_peers: bool) -> None:
        """It has made a step. Nothing happens to who has left."""
        if one in self._waiting_for_peer or one in self._waiting_for_us:
            self.leave(one)
            waiting = self._waiting_for_peer if is_peers else self._waiting_for_us
            waiting[one] = trio.current_time()

    def leave(self, one: Stranger) -> None:
        """It is a call now, or gone. May be said again."""
        self._waiting_for_peer.pop(one, None)
        self._waiting_for_us.pop(one, None)

    def retire(self) -> None:
        """Another process accepts in this one's place: who keeps a connection is to come anew."""
        self.are_retired = True
        for one in list(self._waiting_for_peer):
            one.retire()

    def make_room(self) -> None:
        """There is no descriptor left for who wants to come."""
        for _ in range(2):
            self._end_first_of(self._waiting_for_peer or self._waiting_for_us)
        self._tell("the process has no descriptor left")

    def _end_one_that_dawdles(self) -> None:
        longest = next(iter(self._waiting_for_peer.values()), inf)
        if longest <= trio.current_time() - FRESH:
            self._end_first_of(self._waiting_for_peer)
            self._tell(f"there are {MAX} connections that are no calls")

    def _end_first_of(self, waiting: OrderedDict[Stranger, float]) -> None:
        if waiting:
            one, _ = waiting.popitem(last=False)
            self._ended += 1
            one.cut_off()

    def _tell(self, reason: str) -> None:
        now = trio.current_time()
        if now >= self._next_line:
            self._next_line = now + SELDOM
            report(
                events.ConnectionsEvicted(
                    reason=reason,
                    ended=self._ended,
                    left=len(self),
                    descriptors=descriptors.limit(),
                )
            )
            self._ended = 0


_strangers: trio.lowlevel.RunVar[Strangers] = trio.lowlevel.RunVar("strangers")


class NoTracebacks(logging.Filter):
    """For `trio.serve_listeners`, which logs a traceback each 0.1 s that there is no descriptor for
    a connection. Each is a reason to make room, and not one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info is None or not isinstance(record.exc_info[1], OSError):
            return True
        Strangers.of_this_run().make_room()
        return False
