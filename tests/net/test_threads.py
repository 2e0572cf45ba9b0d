"""Work in a thread: what it returns, what it raises, and that neither leaves a cycle."""

import gc
import threading
import weakref

import pytest
import trio
import trio.testing

from sts_trio.net.threads import Worker, run_in_thread


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


# --- one piece at a time --------------------------------------------------------------------------


async def test_what_a_piece_has_to_tell_is_taken_behind_it_also_where_it_raises() -> None:
    found: list[str] = []
    taken: list[list[str]] = []
    worker = Worker(lambda: taken.append([*found]))

    def fail() -> None:
        found.append("second")
        raise ValueError("broken")

    await worker.run(lambda: found.append("first"))
    with pytest.raises(ValueError, match="broken"):
        await worker.run(fail)
    assert taken == [["first"], ["first", "second"]]
    assert not worker.is_busy


async def test_who_waits_for_a_piece_is_woken_at_its_end() -> None:
    may_go = threading.Event()
    taken: list[str] = []
    worker = Worker(lambda: taken.append("taken"))

    def work() -> None:
        may_go.wait(60)

    async def wait() -> None:
        await worker.until_done()
        assert taken == ["taken"]
        assert not worker.is_busy

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(worker.run, work)
        await trio.testing.wait_all_tasks_blocked()
        assert worker.is_busy
        may_go.set()


async def test_a_piece_that_nobody_waits_for_any_more_is_waited_for_at_the_end() -> None:
    may_go = threading.Event()
    found: list[str] = []
    taken: list[list[str]] = []
    worker = Worker(lambda: taken.append([*found]))

    def work() -> None:
        may_go.wait(60)
        found.append("late")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run, work)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert taken == [[]]
    may_go.set()
    await worker.settle()
    assert taken[-1] == ["late"]
