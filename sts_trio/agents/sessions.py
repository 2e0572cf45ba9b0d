"""How many sessions with agents there may be at once: an account has so many, whichever process
of a fleet opens them.

One is taken before an agent is dialled, and given back when the leg is gone. Processes that share a
database take from one number; each tells how many it has, so what a dead process had is free once
it counts as dead. While the database is away each goes by the same number alone.

The vendor knows best: a dial that it refuses with 429 says that there are none left now, whatever
the number. Then nobody who goes by that number dials for `REST`, and for a while after it one
dials after the other, as some may be free again; without a number each process learns it by itself.
Who is refused waits for a session like everyone else.

A call waits for a session as long as it has to be dialled at all. A line dialled ahead does not
wait: its call will.
"""

import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from math import inf
from typing import TYPE_CHECKING, TypeVar

import trio

from sts_trio.errors import AgentRejected, AgentUnreachable
from sts_trio.observe import events
from sts_trio.observe.report import report

if TYPE_CHECKING:
    from sts_trio.records.shared import Shared

T = TypeVar("T")

# Until the next look for one. A herd that waits asks the database a few times a second.
LOOK_EVERY = 0.25
# Until others are told anew, while the database is away.
TELL_AGAIN = 1.0
TOO_MANY = 429
# After the vendor has refused one. A call ends every few seconds, and a caller waits for five.
REST = 1.0
# From the last refusal on, one dials after the other: a herd would be refused at once again. A
# handshake takes 0.1 to 0.3 s, so few are under way when the next one is refused.
CAREFUL_FOR = 10.0
APART = 0.2


class AgentSessions:
    """`most` of them; None: as many as the vendor grants. `shared` is what other processes know.
    `run` it, so that others hear of those that are given back."""

    def __init__(self, most: int | None, shared: "Callable[[], Shared | None]") -> None:
        self.open = 0
        self._most = most
        self._shared = shared
        # Others are told one number after the other, so that the last one told is right.
        self._telling = trio.Lock()
        self._has_changed = trio.Event()
        self._refused_at = -inf  # by the vendor: this process, or another that has told of it
        # The same of this process alone, until others know of it. What it has from them it does not
        # tell: they would have it from here again, and nobody of the fleet would ever dial.
        self._untold = -inf
        self._next_dial = -inf

    async def run(self) -> None:
        while True:
            await self._has_changed.wait()
            self._has_changed = trio.Event()
            async with self._telling:
                shared = self._shared()
                refused_at = self._untold
                rest = max(0.0, refused_at + REST - trio.current_time())
                is_told = shared is None or await shared.tell_sessions(self.open, rest)
            if not is_told:
                self._has_changed.set()
                await trio.sleep(TELL_AGAIN)
            elif self._untold == refused_at:  # and not refused again meanwhile
                self._untold = -inf

    @contextlib.asynccontextmanager
    async def dialled(
        self, dial: Callable[[], AbstractAsyncContextManager[T]], within: float
    ) -> AsyncIterator[T]:
        """A leg that `dial` opens, once there is a session for it: waits for one for so many
        seconds, 0: not at all.

        Raises:
            AgentUnreachable: all are taken, or what `dial` raises.
        """
        until = trio.current_time() + within
        while True:
            is_open = False
            await self._wait_for_one(until)
            try:
                try:
                    async with dial() as leg:
                        is_open = True
                        yield leg
                        return
                finally:
                    self._give_back()
            except AgentRejected as exc:
                if is_open or exc.status != TOO_MANY:
                    raise
                self._hold_back()
                if trio.current_time() + REST > until:
                    raise

    async def _wait_for_one(self, until: float) -> None:
        """Takes one, by then."""
        while not await self._take():
            left = until - trio.current_time()
            if left <= 0:
                raise AgentUnreachable(self._reason)
            await trio.sleep(min(left, LOOK_EVERY * random.uniform(0.5, 1.5)))

    def _give_back(self) -> None:
        self.open -= 1
        if self._most is not None:
            self._has_changed.set()

    @property
    def _reason(self) -> str:
        if trio.current_time() < max(self._refused_at + CAREFUL_FOR, self._next_dial):
            return f"the agent refuses more sessions for now ({TOO_MANY})"
        return f"all {self._most} sessions with agents are taken (STS_AGENT_SESSIONS)"

    def _hold_back(self) -> None:
        """The vendor has none."""
        now = trio.current_time()
        if now >= self._refused_at + CAREFUL_FOR:
            report(events.AgentSessionsRefused(self.open))
        self._refused_at, self._untold, self._next_dial = now, now, now + REST
        if self._most is not None:
            self._has_changed.set()

    def _is_early(self) -> bool:
        """Whether it is not for this one to dial, as the vendor has refused others."""
        now = trio.current_time()
        if now < self._next_dial:
            return True
        if now < self._refused_at + CAREFUL_FOR:
            self._next_dial = now + APART
        return False

    async def _take(self) -> bool:
        if self._most is None:
            is_taken = not self._is_early()
            self.open += is_taken
            return is_taken
        async with self._telling:
            if self.open >= self._most or self._is_early():
                return False
            self.open += 1
            is_taken = False
            try:
                shared = self._shared()
                wait = None if shared is None else await shared.take_sessions(self.open, self._most)
                is_taken = wait is None or wait == 0
                if wait is None:
                    self._has_changed.set()
                elif 0 < wait < inf:  # another process was refused
                    now = trio.current_time()
                    self._refused_at, self._next_dial = now, now + wait
            finally:
                if not is_taken:
                    self.open -= 1
                    self._has_changed.set()
            return is_taken
