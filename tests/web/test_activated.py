"""`sts-trio serve` on a socket that its supervisor has opened, and keeps over its restart."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from limits import HANG
from rig_hypercorn import running

from sts_trio import config
from sts_trio.errors import ConfigError
from sts_trio.web.serve import serve

# As a supervisor does it: the socket is number 3, and the variables name the process.
PASSES = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, "-m", "sts_trio", "serve"])
"""
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@contextlib.asynccontextmanager
async def supervised(listener: socket.socket, log: Path) -> AsyncIterator[trio.Process]:
    command = [sys.executable, "-c", PASSES, str(listener.fileno())]
    os.set_inheritable(listener.fileno(), True)
    environ = {"STS_DATABASE_URL": "none", "STS_OFFLINE_MODE": "scripted"}
    async with running(command, log=log, environ=environ, passes=[listener.fileno()]) as process:
        yield process


async def ask(stream: trio.SocketStream) -> bytes:
    return b"".join([data async for data in stream])


async def test_who_connects_while_it_is_restarted_waits_and_is_answered(tmp_path: Path) -> None:
    with trio.fail_after(HANG), socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        async with supervised(listener, tmp_path / "first") as process:
            async with await trio.open_tcp_stream(*address) as stream:
                await stream.send_all(REQUEST)
                assert (await ask(stream)).startswith(b"HTTP/1.1 200")
            process.send_signal(signal.SIGTERM)
            await process.wait()
        assert process.returncode == 0
        # Nobody is there.
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(REQUEST)
            async with supervised(listener, tmp_path / "second") as process:
                assert (await ask(stream)).startswith(b"HTTP/1.1 200")


def not_tcp() -> list[int]:
    return [socket.socket(socket.AF_UNIX).detach()]


def not_listening() -> list[int]:
    return [socket.socket().detach()]


def two() -> list[int]:
    return [socket.create_server(("127.0.0.1", 0)).detach() for _ in range(2)]


def none_at_all() -> list[int]:
    descriptors = not_listening()
    os.close(descriptors[0])
    return descriptors


@pytest.mark.parametrize("passed", [not_tcp, not_listening, two, none_at_all])
async def test_what_is_not_one_socket_that_listens_is_told_of(passed: object) -> None:
    assert callable(passed)
    descriptors = passed()
    with pytest.raises(ConfigError, match=r"LISTEN_FDS.* expected one TCP socket that listens"):
        await serve(config.from_environment(), descriptors=descriptors, take_signals=False)
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
