"""A new process in the place of an old one, which has a call: `sts-trio serve`, twice, for real."""

import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import trio
import trio_websocket
from limits import HANG
from rig_hypercorn import (
    close_code,
    free_port,
    hear_the_greeting,
    phone_at,
    sts_trio_serve,
    until_it_answers,
)
from rig_peers import CALL_SID, STOP, STREAM_SID, media

from sts_trio.config import local_key
from sts_trio.observe import events
from sts_trio.wire import twilio

READY, DRAINING = b"200", b"503"


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mapping[str, str]]:
    """With a runtime directory as short as the path of a Unix socket has to be."""
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        yield {
            "XDG_RUNTIME_DIR": directory,
            "STS_OFFLINE_MODE": "scripted",
            "STS_DRAIN_SECONDS": "600",
            # Nobody says anything while the other process starts, however long that takes.
            "STS_ASK_AFTER_SECONDS": "0",
        }


class Visitor:
    """Asks for `/readyz` again and again, each time by another connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answers: list[bytes] = []
        self._changed = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            while True:
                self.answers.append(await self._ask())
                self._changed.set()
                self._changed = trio.Event()
                await trio.sleep(0.005)

    async def until_answered(self, status: bytes) -> None:
        while status not in self.answers[-1:]:
            await self._changed.wait()

    async def _ask(self) -> bytes:
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
            await stream.send_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while b"\r\n\r\n" not in received:
                data = await stream.receive_some()
                assert data, f"nothing but {received!r}"
                received += data
            return received.split()[1]


async def test_a_new_process_answers_in_the_place_of_one_that_drains_and_nobody_is_refused(
    environ: Mapping[str, str], tmp_path: Path
) -> None:
    port = free_port()
    with trio.fail_after(HANG):
        async with sts_trio_serve(port, environ=environ) as old, trio.open_nursery() as nursery:
            await until_it_answers(port)
            async with phone_at(port) as phone:
                await hear_the_greeting(phone)
                visitor = Visitor(port)
                visits = await nursery.start(visitor.run)
                old.send_signal(signal.SIGTERM)
                await visitor.until_answered(DRAINING)
                async with sts_trio_serve(port, environ=environ) as new:
                    await visitor.until_answered(READY)
                    # The old one goes on with its call, the new one takes one of its own.
                    await phone.send_message(twilio.encode_as_twilio(media()))
                    async with phone_at(port) as another:
                        await hear_the_greeting(another)
                    assert old.returncode is None
                    await phone.send_message(twilio.encode_as_twilio(STOP))
                    assert await close_code(phone) == 1000
                    assert await old.wait() == 0
                    visits.cancel()
                    await trio.testing.wait_all_tasks_blocked()
                    new.send_signal(signal.SIGTERM)
                    assert await new.wait() == 0
            assert set(visitor.answers) == {READY, DRAINING}


async def test_who_takes_over_leaves_no_moment_in_which_calls_are_declined(
    environ: Mapping[str, str], tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    with trio.fail_after(HANG):
        async with (
            sts_trio_serve(port, environ=environ, log=log) as old,
            trio.open_nursery() as nursery,
        ):
            await until_it_answers(port)
            async with phone_at(port) as phone:
                await hear_the_greeting(phone)
                visitor = Visitor(port)
                visits = await nursery.start(visitor.run)
                async with sts_trio_serve(port, "--take-over", environ=environ) as new:
                    await until_logged(log, events.ServerRelieved.NAME)
                    asked = len(visitor.answers)
                    while len(visitor.answers) < asked + 20:
                        await visitor.until_answered(READY)
                        await trio.sleep(0.01)
                    await phone.send_message(twilio.encode_as_twilio(STOP))
                    assert await close_code(phone) == 1000
                    assert await old.wait() == 0
                    visits.cancel()
                    await trio.testing.wait_all_tasks_blocked()
                    new.send_signal(signal.SIGTERM)
                    await new.wait()
            assert set(visitor.answers) == {READY}


async def test_who_was_said_goodbye_to_by_the_old_one_is_told_nothing_else_by_the_new_one(
    environ: Mapping[str, str], tmp_path: Path
) -> None:
    """What comes behind a call's stream is asked of who listens, whoever had the call."""
    port, log = free_port(), tmp_path / "log"
    with trio.fail_after(HANG):
        async with sts_trio_serve(port, environ=environ, log=log) as old:
            await until_it_answers(port)
            async with phone_at(port) as phone:
                await hear_the_greeting(phone)
                async with sts_trio_serve(port, "--take-over", environ=environ) as new:
                    await until_logged(log, events.ServerRelieved.NAME)
                    assert b"<Say>" in await after_the_stream(port)
                    old.send_signal(signal.SIGTERM)  # ends the draining
                    assert await hear_to_the_end(phone) == 1001
                    assert b"<Response><Hangup /></Response>" in await after_the_stream(port)
                    new.send_signal(signal.SIGTERM)
                    assert await new.wait() == 0


async def hear_to_the_end(phone: trio_websocket.WebSocketConnection) -> int:
    """As a phone that has heard whatever it is told at once; the code that it is closed with."""
    try:
        while True:
            told = twilio.decode_as_twilio(await phone.get_message())
            if isinstance(told, twilio.PlayMark):
                echoed = twilio.Mark(told.mark, stream_sid=STREAM_SID)
                await phone.send_message(twilio.encode_as_twilio(echoed))
    except trio_websocket.ConnectionClosed as exc:
        return int(exc.reason.code) if exc.reason else 1006


async def after_the_stream(port: int) -> bytes:
    key = local_key.find(("127.0.0.1", port))
    form = f"CallSid={CALL_SID}&CallStatus=in-progress".encode()
    head = (
        f"POST /twiml/after?key={key} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n"
    )
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(head.encode() + form)
        return b"".join([data async for data in stream])


async def test_a_second_one_that_was_started_by_mistake_is_told_what_it_may_do(
    environ: Mapping[str, str], tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    with trio.fail_after(HANG):
        async with sts_trio_serve(port, environ=environ) as first:
            await until_it_answers(port)
            async with sts_trio_serve(port, environ=environ, log=log) as second:
                assert await second.wait() == 2
            assert "a server of yours takes calls there: --take-over has it drain" in read(log)
            first.send_signal(signal.SIGTERM)
            assert await first.wait() == 0


async def until_logged(log: Path, event: str) -> None:
    # Another process writes it.
    while event not in read(log):  # noqa: ASYNC110
        await trio.sleep(0.05)


def read(path: Path) -> str:
    return path.read_text()
