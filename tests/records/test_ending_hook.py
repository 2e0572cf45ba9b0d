"""`on_call_ended`: the user's own code, after the call, in nobody's way."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from call_stories import sid, whole

from sts_trio.errors import ConfigError
from sts_trio.observe import events
from sts_trio.records import ending_hook
from sts_trio.records.database import Database
from sts_trio.records.ending_hook import AT_ONCE, MAX_WAITING, EndingHook, Hook, checked
from sts_trio.records.record import Record
from sts_trio.records.store import Store


@pytest.fixture(autouse=True)
def _logging_as_it_is_by_default() -> Iterator[None]:
    """Whatever a test before has set up, and its loggers keep."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture
def kept(database: Database) -> Store:
    store = Store(database)
    store.write([row for number in range(30) for row in whole(number)])
    return store


async def run(store: Store, *hooks: Hook, calls: int = 1, within: float = 30.0) -> list[Any]:
    """The log, once all of them have been called."""
    hook = EndingHook(hooks, store.record)
    with structlog.testing.capture_logs() as logs, trio.fail_after(within):
        async with trio.open_nursery() as nursery:
            await nursery.start(hook.run)
            for number in range(calls):
                hook.put(sid(number))
            await hook.empty()
            nursery.cancel_scope.cancel()
    return logs


async def test_a_hook_is_given_the_record_of_the_call(kept: Store) -> None:
    seen: list[Any] = []

    async def on_call_ended(record: Record) -> None:
        seen.append((record.call.ending, [turn.said for turn in record.turns][:1]))

    def plain(record: Record) -> None:
        seen.append(threading.current_thread() is threading.main_thread())

    assert await run(kept, on_call_ended, plain) == []
    assert seen == [("stop", ["Hello!"]), False]


class Panic(BaseException):
    """As libraries in Rust have it."""


async def test_a_hook_that_raises_is_told_of_and_the_next_is_called(kept: Store) -> None:
    called = []

    async def raises(record: Record) -> None:
        raise ValueError("no")

    def leaves(record: Record) -> None:
        raise SystemExit(3)

    async def panics(record: Record) -> None:
        raise Panic("no")

    def works(record: Record) -> None:
        called.append(record.call.call_sid)

    logs = await run(kept, raises, leaves, panics, works, calls=2)
    assert sorted(called) == [sid(0), sid(1)]
    reasons = sorted({log["reason"] for log in logs})
    assert reasons == ["Panic: no", "SystemExit: 3", "ValueError: no"]
    assert len(logs) == 2 * len(reasons)
    assert all("exc_info" in log for log in logs)


async def test_a_hook_that_takes_too_long_is_given_up(
    kept: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending_hook, "WITHIN", 0.05)
    go_on = threading.Event()

    async def for_ever(record: Record) -> None:
        await trio.sleep_forever()

    def stuck(record: Record) -> None:
        go_on.wait(30.0)

    try:
        logs = await run(kept, for_ever, stuck)
    finally:
        go_on.set()
    assert [log["reason"] for log in logs] == ["not done within 0.05 s"] * 2


async def test_a_few_run_at_once(kept: Store) -> None:
    running, most = 0, 0

    async def counts(record: Record) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.testing.wait_all_tasks_blocked(0.01)
        running -= 1

    await run(kept, counts, calls=30)
    assert 1 <= most <= AT_ONCE


async def test_a_record_that_cannot_be_read_is_told_of(kept: Store) -> None:
    def away(call_sid: str) -> Record | None:
        if call_sid == sid(0):
            return None
        raise ZeroDivisionError

    async def never(record: Record) -> None:
        raise AssertionError

    hook = EndingHook([never], away)
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            await nursery.start(hook.run)
            hook.put(sid(0))
            hook.put(sid(1))
            await hook.empty()
            nursery.cancel_scope.cancel()
    assert [log["event"] for log in logs] == [events.HookSkipped.NAME] * 2


def test_of_too_many_that_wait_the_newest_are_skipped(kept: Store) -> None:
    hook = EndingHook([], kept.record)
    with structlog.testing.capture_logs() as logs:
        for number in range(MAX_WAITING + 2):
            hook.put(sid(number))
    assert [log["call_sid"] for log in logs] == [sid(MAX_WAITING), sid(MAX_WAITING + 1)]


def test_a_hook_takes_one_argument() -> None:
    def fits(record: Record, more: int = 3) -> None: ...
    async def fits_too(record: Record) -> None: ...
    def takes_none() -> None: ...
    def takes_two(record: Record, other: int) -> None: ...

    assert checked(fits, "here") is fits
    assert checked(fits_too, "here") is fits_too
    for wrong in (takes_none, takes_two, 3, "text", time, None):
        with pytest.raises(ConfigError, match="here: expected a function of one argument"):
            checked(wrong, "here")
