"""The plain `hypercorn` command, and `sts-trio serve`, as processes of their own, and a phone at
them."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
import trio
import trio_websocket
from rig_peers import START, media

from sts_trio.config import local_key
from sts_trio.wire import twilio

PLAIN = {
    name: value for name, value in os.environ.items() if not name.startswith(("STS_", "DEEPG"))
} | {"STS_DATABASE_URL": "none"}

# An agent that greets. It has no ears: those are a fifth of what a process takes to start.
SPEAKS = {"STS_AGENT": "offline", "STS_OFFLINE_MODE": "scripted"}


@contextlib.asynccontextmanager
async def hypercorn(
    *options: str, log: Path | None = None, environ: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[trio.Process, int]]:
    """The command with these options, once it answers: its process and its port."""
    port = free_port()
    command = [sys.executable, "-m", "hypercorn", "sts_trio.app:app", "--worker-class", "trio"]
    command += ["--bind", f"127.0.0.1:{port}", *options]
    async with running(command, log=log, environ=environ) as process:
        await until_it_answers(port)
        yield process, port


@contextlib.asynccontextmanager
async def sts_trio_serve(
    port: int, *options: str, log: Path | None = None, environ: Mapping[str, str] | None = None
) -> AsyncIterator[trio.Process]:
    """`sts-trio serve` there, with these options. It may not answer yet."""
    command = [sys.executable, "-m", "sts_trio", "serve", "--port", str(port), *options]
    async with running(command, log=log, environ=environ) as process:
        yield process


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str],
    *,
    log: Path | None = None,
    environ: Mapping[str, str] | None = None,
    passes: Sequence[int] = (),
) -> AsyncIterator[trio.Process]:
    """The command, until it ends or the block does. It `passes` these descriptors on."""
    with (log or Path(os.devnull)).open("wb") as stderr:
        async with trio.open_nursery() as nursery:
            yield await nursery.start(
                partial(
                    trio.run_process,
                    command,
                    env={**PLAIN, **SPEAKS, **(environ or {})},
                    check=False,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    pass_fds=passes,
                )
            )
            nursery.cancel_scope.cancel()


def in_a_container() -> list[str]:
    """What runs a command as the first process of a namespace, as containers do."""
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"no namespaces to be had here: {exc}")
    return command


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until_it_answers(port: int) -> None:
    """Hypercorn listens before the app is there."""
    while True:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await trio.sleep(0.05)
        else:
            async with stream:
                await stream.send_all(b"x\r\n\r\n")  # plain or TLS, it is refused
                async for _ in stream:
                    pass
            return


@contextlib.asynccontextmanager
async def phone_at(
    port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    tcp = await trio.open_tcp_stream("127.0.0.1", port)
    stream = trio.SSLStream(tcp, tls, server_hostname="localhost") if tls else tcp
    async with tcp, trio.open_nursery() as nursery:
        key = local_key.of_peer(tcp.socket) or "none"
        yield await trio_websocket.wrap_client_stream(
            nursery,
            stream,
            f"localhost:{port}",
            "/twilio",
            extra_headers=[(b"authorization", f"Bearer {key}".encode())],
            # Whoever does not read answers no pings, and a server gives such a phone up: that may
            # be while a test waits for another process, which takes its time on a busy machine.
            message_queue_size=1000,
        )
        nursery.cancel_scope.cancel()


async def hear_the_greeting(phone: trio_websocket.WebSocketConnection) -> None:
    for message in (twilio.Connected(), START, media()):
        await phone.send_message(twilio.encode_as_twilio(message))
    while not isinstance(twilio.decode_as_twilio(await phone.get_message()), twilio.PlayMedia):
        pass


async def close_code(phone: trio_websocket.WebSocketConnection) -> int:
    """With which it is closed, whatever is said before."""
    try:
        while True:
            await phone.get_message()
    except trio_websocket.ConnectionClosed as exc:
        return int(exc.reason.code) if exc.reason else 1006
