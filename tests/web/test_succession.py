"""How a listening socket goes from one process to the next: over a real Unix socket, and TCP."""

import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
import trio.testing
from limits import HANG

from sts_trio.config.private_directory import Address, directories
from sts_trio.errors import Cause, Ending
from sts_trio.web import succession
from sts_trio.web.succession import Inheritance, Occupied, bequeath, inherit


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Short, as the path of a Unix socket has to be."""
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        monkeypatch.setenv("XDG_STATE_HOME", f"{directory}/state")
        monkeypatch.setattr(tempfile, "tempdir", f"{directory}/tmp")
        yield Path(directory)


class Owner:
    """Who has the socket, and may drain."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.is_draining = False
        self.has_heir = trio.Event()
        self.heir: succession.Heir
        self.scope = trio.CancelScope()
        self._nursery = nursery

    @property
    def address(self) -> Address:
        host, port = self.listener.getsockname()
        return host, port

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self.scope, self.listener:
            self.heir = await bequeath(
                self.listener, is_draining=lambda: self.is_draining, task_status=task_status
            )
            self.has_heir.set()
            await self.heir.run()
            await trio.sleep_forever()


@asynccontextmanager
async def an_owner(*, is_draining: bool = False) -> AsyncIterator[Owner]:
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            owner = Owner(nursery)
            await nursery.start(owner.run)
            owner.is_draining = is_draining
            yield owner
            nursery.cancel_scope.cancel()


class Heir(NamedTuple):
    inheritance: Inheritance

    def close(self) -> None:
        self.inheritance.listener.close()
        self.inheritance.predecessor.close()

    async def accepts(self, address: Address) -> bool:
        """Whether a connection to there comes to it."""
        listener = trio.socket.from_stdlib_socket(self.inheritance.listener)
        async with await trio.open_tcp_stream(*address):
            with trio.move_on_after(0.2):
                accepted, _ = await listener.accept()
                accepted.close()
                return True
        return False


async def an_heir(address: Address, *, takes_over: bool = False) -> Heir | None:
    inheritance = await inherit(address, takes_over=takes_over)
    return None if inheritance is None else Heir(inheritance)


async def the_heir(address: Address, *, takes_over: bool = False) -> Heir:
    heir = await an_heir(address, takes_over=takes_over)
    assert heir is not None
    return heir


async def test_who_drains_gives_the_socket_to_who_asks() -> None:
    async with an_owner(is_draining=True) as owner:
        heir = await the_heir(owner.address)
        assert heir.inheritance.listener.getsockname() == owner.address
        assert not os.get_inheritable(heir.inheritance.listener.fileno())
        assert await heir.accepts(owner.address)
        assert not owner.has_heir.is_set()
        await heir.inheritance.confirm()
        await owner.has_heir.wait()
        heir.close()


async def test_who_takes_calls_keeps_it_from_who_does_not_insist() -> None:
    async with an_owner() as owner:
        with pytest.raises(Occupied):
            await an_heir(owner.address)
        heir = await the_heir(owner.address, takes_over=True)
        await heir.inheritance.confirm()
        await owner.has_heir.wait()
        heir.close()


async def test_from_then_on_every_connection_is_the_heirs_while_the_other_waits_for_one() -> None:
    async with an_owner(is_draining=True) as owner, trio.open_nursery() as nursery:
        address = owner.address
        accepted = 0

        async def accept() -> None:
            nonlocal accepted
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(owner.listener))
            while True:
                async with await listener.accept():
                    accepted += 1

        nursery.start_soon(accept)
        await trio.testing.wait_all_tasks_blocked()
        heir = await the_heir(address)
        await heir.inheritance.confirm()
        await owner.has_heir.wait()
        before = accepted
        for _ in range(20):
            assert await heir.accepts(address)
        assert accepted == before
        nursery.cancel_scope.cancel()
        heir.close()


async def test_an_heir_that_dies_before_it_accepts_has_changed_nothing() -> None:
    async with an_owner(is_draining=True) as owner:
        heir = await the_heir(owner.address)
        heir.close()
        another = await the_heir(owner.address)
        assert not owner.has_heir.is_set()
        assert await another.accepts(owner.address)
        await another.inheritance.confirm()
        await owner.has_heir.wait()
        another.close()


async def test_the_heir_is_told_how_calls_end_until_the_other_is_gone() -> None:
    endings = [
        ("CA1", Ending(Cause.TRANSFERRED, "+15005550020")),
        ("CA2", Ending(Cause.SHUTDOWN, apologised=True)),
        *((f"CA{number}", Ending(Cause.AGENT_ERROR, "\n" * 200)) for number in range(3, 1000)),
    ]
    told: list[tuple[str, Ending]] = []
    all_told = trio.Event()

    def remember(call_sid: str, ending: Ending) -> None:
        told.append((call_sid, ending))
        if len(told) == len(endings):
            all_told.set()

    async with an_owner(is_draining=True) as owner, trio.open_nursery() as nursery:
        heir = await the_heir(owner.address)
        await heir.inheritance.confirm()
        await owner.has_heir.wait()
        nursery.start_soon(heir.inheritance.hear_endings, remember)
        for call_sid, ending in endings:
            owner.heir.tell(call_sid, ending)
        await all_told.wait()
        assert told == endings
        owner.scope.cancel()  # and the nursery ends
    heir.close()


async def test_an_ending_that_only_another_version_knows_is_passed_over() -> None:
    ours, theirs = trio.socket.socketpair()
    told: list[tuple[str, Ending]] = []
    with ours, theirs, socket.socket() as listener:
        await theirs.send(b'["CA1","of_tomorrow","",false]\n{"ended":"CA1"}\nnonsense\n')
        await theirs.send(b'["CA2","stop","",false,"more"]\n["CA')
        theirs.shutdown(socket.SHUT_WR)
        await Inheritance(listener, ours).hear_endings(lambda *each: told.append(each))
    assert told == [("CA2", Ending(Cause.STOP))]


async def test_an_heir_that_has_died_is_told_nothing_and_ends_nothing() -> None:
    async with an_owner(is_draining=True) as owner:
        heir = await the_heir(owner.address)
        await heir.inheritance.confirm()
        await owner.has_heir.wait()
        heir.close()
        for _ in range(3):
            owner.heir.tell("CA1", Ending(Cause.STOP))
            await trio.testing.wait_all_tasks_blocked()


async def test_who_has_gone_meanwhile_leaves_the_socket_all_the_same() -> None:
    async with an_owner(is_draining=True) as owner:
        address = owner.address
        heir = await the_heir(address)
        owner.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert await heir.accepts(address)
        await heir.inheritance.confirm()
        heir.close()


async def test_who_asks_for_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "ANSWER_WITHIN", 0.05)
    async with an_owner(is_draining=True) as owner:
        path = str(place_of(owner.address))
        async with await trio.open_unix_socket(path) as mute:
            assert await mute.receive_some() == b"-"
        async with await trio.open_unix_socket(path) as gone:
            await gone.send_all(b"?")
        monkeypatch.setattr(succession, "ANSWER_WITHIN", HANG)
        heir = await the_heir(owner.address)
        await heir.inheritance.confirm()
        await owner.has_heir.wait()
        heir.close()


async def test_who_starts_up_for_ever_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "START_UP_WITHIN", 0.05)
    async with an_owner(is_draining=True) as owner:
        slow = await the_heir(owner.address)
        monkeypatch.setattr(succession, "START_UP_WITHIN", HANG)
        another = await the_heir(owner.address)
        await another.inheritance.confirm()
        await owner.has_heir.wait()
        for heir in (slow, another):
            heir.close()


async def test_where_nobody_is_to_be_asked_nothing_is_inherited() -> None:
    async with an_owner(is_draining=True) as owner:
        host, port = owner.address
        assert await an_heir((host, port + 1 if port < 65535 else port - 1)) is None


async def test_what_one_that_was_killed_has_left_is_asked_in_vain_and_replaced() -> None:
    async with an_owner(is_draining=True) as owner:
        place = place_of(owner.address)
        place.unlink()
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(place))
        assert await an_heir(owner.address) is None
        async with trio.open_nursery() as nursery:
            again = Owner(nursery)
            again.listener.close()
            again.listener = owner.listener.dup()
            await nursery.start(again.run)
            again.is_draining = True
            heir = await the_heir(owner.address)
            await heir.inheritance.confirm()
            await again.has_heir.wait()
            heir.close()
            nursery.cancel_scope.cancel()


async def test_a_hanging_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "ANSWER_WITHIN", 0.05)
    async with an_owner(is_draining=True) as owner:
        place = place_of(owner.address)
        place.unlink()
        with socket.socket(socket.AF_UNIX) as hanging:
            hanging.bind(str(place))
            hanging.listen()
            assert await an_heir(owner.address) is None


async def test_in_a_directory_that_others_may_enter_nobody_asks_and_nobody_is_asked(
    runtime: Path,
) -> None:
    for directory in directories():
        directory.mkdir(parents=True)
        directory.chmod(0o755)
    async with an_owner(is_draining=True) as owner:
        assert await an_heir(owner.address) is None
        assert sockets_below(runtime) == []


async def test_a_path_that_is_too_long_for_a_socket_is_no_place(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = runtime / ("d" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    monkeypatch.setenv("XDG_STATE_HOME", str(deep / "state"))
    monkeypatch.setattr(tempfile, "tempdir", str(deep / "tmp"))
    async with an_owner(is_draining=True) as owner:
        assert await an_heir(owner.address) is None


async def test_what_is_left_of_it_goes_with_it_but_not_that_of_the_heir(runtime: Path) -> None:
    async with an_owner(is_draining=True) as owner:
        place = place_of(owner.address)
        heir = await the_heir(owner.address)
        async with trio.open_nursery() as nursery:
            successor = Owner(nursery)
            successor.listener.close()
            successor.listener = heir.inheritance.listener
            await nursery.start(successor.run)
            await heir.inheritance.confirm()
            await owner.has_heir.wait()
            assert place.exists()
            with pytest.raises(Occupied):
                await an_heir(successor.address)
            nursery.cancel_scope.cancel()
        heir.close()
        assert not place.exists()


def sockets_below(directory: Path) -> list[Path]:
    return list(directory.rglob("*.sock*"))


def place_of(address: Address) -> Path:
    host, port = address
    return directories()[0] / f"{host}_{port}.sock"
