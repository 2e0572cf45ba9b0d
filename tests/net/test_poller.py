"""The poller on real sockets: who has something to read is asked to read it, and nobody else."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable

import pytest
import trio
import trio.testing
from limits import HANG
from rig_streams import Reader

from sts_trio.net.poller import Poller


@contextlib.asynccontextmanager
async def looking() -> AsyncIterator[Poller]:
    poller = Poller()
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            await trio.testing.wait_all_tasks_blocked()
            yield poller
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    """Of sockets, nothing but the poller tells that something has come."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.001)


async def until_read(*readers: Reader) -> None:
    await until(lambda: all(reader.reads for reader in readers))


async def test_who_has_something_to_read_is_asked_and_nobody_else() -> None:
    async with looking() as poller:
        one, other, quiet = readers = [Reader(poller) for _ in range(3)]
        one.peer.send(b"1")
        other.peer.send(b"2")
        await until_read(one, other)
        assert (one.reads, other.reads, quiet.reads) == ([b"1"], [b"2"], [])
        for reader in readers:
            reader.close()


async def test_what_is_not_read_at_once_is_read_at_the_next_look() -> None:
    async with looking() as poller:
        reader = Reader(poller, most=2)
        reader.peer.send(b"abcde")
        await until(lambda: b"".join(reader.reads) == b"abcde")
        assert reader.reads == [b"ab", b"cd", b"e"]
        reader.close()


async def test_the_end_of_a_socket_is_something_to_read() -> None:
    async with looking() as poller:
        reader = Reader(poller)
        reader.peer.close()
        await until_read(reader)
        assert reader.reads[0] == b""
        reader.close()


async def test_who_is_forgotten_is_not_asked_and_may_be_forgotten_again() -> None:
    async with looking() as poller:
        gone, here = Reader(poller), Reader(poller)
        poller.unregister(gone.fileno)
        poller.unregister(gone.fileno)
        gone.peer.send(b"x")
        here.peer.send(b"y")
        await until_read(here)
        assert gone.reads == []
        gone.close()
        here.close()


async def test_who_is_forgotten_in_the_midst_of_a_look_is_not_asked_in_it() -> None:
    """The first of two that is read ends the other, whichever that is."""
    async with looking() as poller:
        readers = [Reader(poller) for _ in range(2)]

        def read_and_end_the_other(this: int) -> None:
            readers[this].read()
            poller.unregister(readers[1 - this].fileno)

        for number, reader in enumerate(readers):
            poller.unregister(reader.fileno)
            poller.register(reader.fileno, lambda number=number: read_and_end_the_other(number))  # type: ignore[misc]
            reader.peer.send(b"x")
        await until(lambda: any(reader.reads for reader in readers))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert sorted(len(reader.reads) for reader in readers) == [0, 1]
        for reader in readers:
            reader.close()


async def test_a_look_may_be_asked_for_at_any_time() -> None:
    async with looking() as poller:
        reader = Reader(poller)
        reader.peer.send(b"x")
        poller.poll()
        assert reader.reads == [b"x"]
        reader.close()


async def test_when_cancelled_nobody_looks_and_nothing_is_left_open() -> None:
    poller = Poller()
    assert not poller.is_running
    before = len(os.listdir("/proc/self/fd"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        await trio.testing.wait_all_tasks_blocked()
        assert poller.is_running
        reader = Reader(poller)
        nursery.cancel_scope.cancel()
    assert not poller.is_running
    reader.peer.send(b"x")
    poller.poll()
    assert reader.reads == []
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_without_epoll_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    poller = Poller()
    await poller.run()
    assert not poller.is_running
