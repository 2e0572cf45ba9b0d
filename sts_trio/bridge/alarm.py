"""Wakes a call when time has something to bring, and seldom otherwise."""

from math import inf

import trio


class Alarm:
    """One waits for it at a time."""

    __slots__ = ("_at", "_scope")

    def __init__(self) -> None:
        self._at = inf
        self._scope = trio.CancelScope()

    def set(self, at: float) -> None:
        """Has it ring by then: if it would have rung before, it will still."""
        # Setting a deadline costs more than comparing two; mostly it moves later, or not at all.
        if at < self._at:
            self._at = self._scope.deadline = at

    async def wait(self, at: float) -> None:
        """Returns then, or as it is `set` meanwhile, or at `stop`."""
        self._at = at
        with trio.CancelScope(deadline=at) as self._scope:
            await trio.sleep_forever()

    def stop(self) -> None:
        self._scope.cancel()
