"""Tasks that run beside a block, for as long as it takes.

For generators that are context managers, where a bare nursery leaves garbage: it raises a group,
which is another exception than the one that contextlib has thrown in, and so contextlib keeps that
one, from Python 3.12 on in a frame of its own traceback, with all that the frames around it have:
a call, its legs (CPython issue 129280).
"""

import contextlib
from collections.abc import AsyncIterator

import trio


@contextlib.asynccontextmanager
async def side_tasks() -> AsyncIterator[trio.Nursery]:
    """A nursery that is cancelled when the block is left. What the block raises comes out as it is,
    in no group; what a task raises comes out in one, before that."""
    raised: BaseException | None = None
    try:
        try:
            async with trio.open_nursery() as nursery:
                try:
                    yield nursery
                except BaseException as exc:  # raised again below, cancellation too
                    raised = exc
                nursery.cancel_scope.cancel()
        except* trio.Cancelled:
            if raised is None:
                raise
        if raised is not None:
            raise raised
    finally:
        del raised
