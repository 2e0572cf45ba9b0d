"""Asks everybody the same thing every so often: one task for all of them.

A task of each one's own, which would only sleep, takes a fortieth of a call's set-up.
"""

from collections.abc import Callable

import trio

Ask = Callable[[], None]


class Rounds:
    """`run` it. Of those who ask the same of all, the first to join is the first to be asked."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._due: dict[Ask, float] = {}  # {who: when}, the next one first
        self._has_any = trio.Event()

    def join(self, ask: Ask) -> None:
        """Has it called in so many seconds, and then again and again, until it is to `leave`. It
        must be quick, and not raise."""
        self._due[ask] = trio.current_time() + self._every
        self._has_any.set()

    def leave(self, ask: Ask) -> None:
        """May be said again."""
        self._due.pop(ask, None)

    async def run(self) -> None:
        """Asks until cancelled."""
        while True:
            while not self._due:  # who joined may be gone again
                self._has_any = trio.Event()
                await self._has_any.wait()
            # Whoever leaves meanwhile: nobody is due before.
            await trio.sleep_until(next(iter(self._due.values())))
            self._ask(trio.current_time())

    def _ask(self, now: float) -> None:
        due = []
        for ask, at in self._due.items():
            if at > now:
                break
            due.append(ask)
        for ask in due:
            if ask in self._due:  # one that was asked before may have ended another
                del self._due[ask]
                self._due[ask] = now + self._every
                ask()
