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
