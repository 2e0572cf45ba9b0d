"""Something that runs for as long as a block does."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio


@contextlib.asynccontextmanager
async def running_beside(function: Callable[..., Awaitable[Any]]) -> AsyncIterator[Any]:
    """Starts `function`, as `Nursery.start` does, and cancels it when the block is left.

    Gives what it reported. A nursery would hand on every exception in a group; here that of the
    block comes out as it is, so that a failing `assert` reads like one.
    """
    raised: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            value = await nursery.start(function)
            try:
                yield value
            except Exception as exc:
                raised = exc
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _only(group) from None
    if raised is not None:
        raise raised


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception in the group if there is but one, else the group."""
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        if len(inner.exceptions) != 1:
            return group
        inner = inner.exceptions[0]
    return inner
