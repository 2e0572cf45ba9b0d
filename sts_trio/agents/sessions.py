"""How many sessions with agents there may be at once: an account has so many, whichever process
of a fleet opens them.

One is taken before an agent is dialled, and given back when the leg is gone. Processes that share a
database take from one number; each tells how many it has, so what a dead process had is free once
it counts as dead. While the database is away each goes by the same number alone.

A call waits for a session as long as it has to be dialled at all. A line dialled ahead does not
wait: its call will.
"""

import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import trio

from sts_trio.errors import AgentUnreachable

if TYPE_CHECKING:
    from sts_trio.records.shared import Shared

# Until the next look for one. A herd that waits asks the database a few times a second.
LOOK_EVERY = 0.25
# Until others are told anew, while the database is away.
TELL_AGAIN = 1.0


class AgentSessions:
    """`most` of them; None: as many as are wanted. `shared` is what other processes know. `run` it,
    so that others hear of those that are given back."""

    def __init__(self, most: int | None, shared: "Callable[[], Shared | None]") -> None:
        self.open = 0
        self._most = most
        self._shared = shared
        # Others are told one number after the other, so that the last one told is right.
        self._telling = trio.Lock()
        self._has_changed = trio.Event()

    async def run(self) -> None:
        while True:
            await self._has_changed.wait()
            self._has_changed = trio.Event()
            async with self._telling:
                shared = self._shared()
                is_told = shared is None or await shared.tell_sessions(self.open)
            if not is_told:
                self._has_changed.set()
                await trio.sleep(TELL_AGAIN)

    @contextlib.asynccontextmanager
    async def one(self, within: float) -> AsyncIterator[None]:
        """Waits for one for so many seconds, 0: not at all, and has it while inside.

        Raises:
            AgentUnreachable: all are taken.
        """
        if self._most is None:
            yield
            return
        until = trio.current_time() + within
        while not await self._take(self._most):
            left = until - trio.current_time()
            if left <= 0:
                raise AgentUnreachable(
                    f"all {self._most} sessions with agents are taken (STS_AGENT_SESSIONS)"
                )
            await trio.sleep(min(left, LOOK_EVERY * random.uniform(0.5, 1.5)))
        try:
            yield
        finally:
            self.open -= 1
            self._has_changed.set()

    async def _take(self, most: int) -> bool:
        async with self._telling:
            if self.open >= most:
                return False
            self.open += 1
            is_taken = False
            try:
                shared = self._shared()
                is_free = None if shared is None else await shared.take_sessions(self.open, most)
                is_taken = is_free is not False
                if is_free is None:
                    self._has_changed.set()
            finally:
                if not is_taken:
                    self.open -= 1
                    self._has_changed.set()
            return is_taken
