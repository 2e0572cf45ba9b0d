"""Work in a thread whose exception leaves no garbage.

`trio.to_thread.run_sync` has what it raises in a frame of the exception's own traceback: a cycle,
which keeps all that the frames around it have, up to the call.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import trio

T = TypeVar("T")


async def run_in_thread(work: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
    """Runs `work` in a thread, and raises what it raises. Cancelled, the thread is left to itself:
    it may finish unheeded."""
    raised: list[BaseException] = []

    def run() -> T | None:
        try:
            return work()
        except BaseException as exc:  # a thread's `SystemExit` is its caller's to judge
            raised.append(exc)
            return None

    result = await trio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=limiter)
    if raised:
        raise raised.pop()  # no frame has it then
    return cast(T, result)


class Worker:
    """A thread for one piece of work at a time. `take` is called on the loop behind each piece, for
    what it has to tell."""

    def __init__(self, take: Callable[[], None]) -> None:
        self.is_busy = False  # it works, and what comes of it is yet to be taken
        self._take = take
        self._limiter = trio.CapacityLimiter(1)
        self._is_done = trio.Event()  # anew for each piece

    async def run(self, work: Callable[[], None]) -> None:
        """As `run_in_thread`. Cancelled, it takes what there is by then."""
        self.is_busy = True
        try:
            await run_in_thread(work, self._limiter)
        finally:
            self.is_busy = False
            self._take()
            self._is_done.set()
            self._is_done = trio.Event()

    async def until_done(self) -> None:
        """Waits for the end of a piece: of this one, or of the next."""
        await self._is_done.wait()

    async def settle(self) -> None:
        """Waits for a thread that was left to itself, and takes what it has to tell."""
        async with self._limiter:
            self._take()
