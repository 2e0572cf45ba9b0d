"""Work in a thread: what it returns, what it raises, and that neither leaves a cycle."""

import gc
import threading
import weakref

import pytest
import trio

from sts_trio.net.threads import run_in_thread


class Kept:
    """Something that a frame around the work has."""


def alone() -> trio.CapacityLimiter:
    return trio.CapacityLimiter(1)


async def test_what_the_work_returns_is_returned() -> None:
    assert await run_in_thread(threading.current_thread, alone()) is not threading.main_thread()


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
async def test_what_the_work_raises_is_raised(kind: type[BaseException]) -> None:
    def work() -> None:
        raise kind("no")

    with pytest.raises(kind, match="no"):
        await run_in_thread(work, alone())


async def test_what_it_raises_keeps_nothing_of_the_frames_around_it() -> None:
    def work() -> None:
        raise ValueError

    async def ask() -> "weakref.ref[Kept]":
        kept = Kept()
        try:
            await run_in_thread(work, alone())
        except ValueError:
            return weakref.ref(kept)
        raise AssertionError("it did not raise")

    gc.disable()
    try:
        assert (await ask())() is None
    finally:
        gc.enable()


async def test_a_thread_whose_task_is_cancelled_is_left_to_itself() -> None:
    has_begun, may_go = threading.Event(), threading.Event()

    def work() -> None:
        has_begun.set()
        may_go.wait(60)

    async def cancel_once_it_has_begun(scope: trio.CancelScope) -> None:
        while not has_begun.is_set():  # noqa: ASYNC110 - a thread sets no event of Trio's
            await trio.sleep(0.01)
        scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_once_it_has_begun, nursery.cancel_scope)
            await run_in_thread(work, alone())
        assert nursery.cancel_scope.cancelled_caught
    finally:
        may_go.set()
