"""What `deploy/` is tested with: the programs of other people, and servers as simple as can be."""

import base64
import contextlib
import functools
import hashlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from haproxy import HAProxy, free_port, program

ROOT = Path(__file__).parents[1]

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
ACCEPT = base64.b64encode(
    hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
).decode()
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\n"
)
ACCEPTED = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {ACCEPT}")
EMPTY = "Content-Length: 0"
HANGS = 0  # as a status: it says nothing


def needed(name: str, found: object) -> None:
    """Where it is missing the test is skipped, but not where the suite decides what lands."""
    if not found and os.environ.get("CI") != "true":
        pytest.skip(f"there is no {name} here")
    assert found, f"install Debian's package {name}"


class Fleet:
    """Servers behind HAProxy. `health` is what each answers to `/lbz`. Who is `dying` answers
    nothing else any more, who is `ending` 503."""

    def __init__(self, names: list[str]) -> None:
        self.port = 0
        self.health = dict.fromkeys(names, 200)
        self.dying: set[str] = set()
        self.ending: set[str] = set()

    async def serve(self, name: str, stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                while head := await _head(stream):
                    if head.startswith("GET /lbz "):
                        if self.health[name] == HANGS:
                            await trio.sleep_forever()
                        await _answer(stream, str(self.health[name]), EMPTY)
                    elif name in self.dying:
                        return
                    elif name in self.ending:
                        await _answer(stream, "503", EMPTY)
                    elif "upgrade: websocket" in head.lower():
                        await _answer(stream, "101", *ACCEPTED, f"X-Name: {name}")
                    else:
                        await _answer(stream, "200", EMPTY, f"X-Name: {name}")

    async def ask(self, path: str, method: str = "GET") -> str:
        """Who answers."""
        stream, name = await self._open(path, "", method)
        await stream.aclose()
        return name

    async def takes_calls(self, name: str, takes: bool) -> None:
        """Waits until HAProxy has noticed."""
        while (name in {await self.ask("/twiml") for _ in self.health}) != takes:  # noqa: ASYNC110
            await trio.sleep(0.1)

    @contextlib.asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[tuple[trio.SocketStream, str]]:
        """A websocket, and whose it is."""
        stream, name = await self._open(path, UPGRADE)
        async with stream:
            yield stream, name

    async def _open(
        self, path: str, fields: str, method: str = "GET"
    ) -> tuple[trio.SocketStream, str]:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        await stream.send_all(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())
        head = await _head(stream)
        found = re.search(r"(?i)x-name: (\S+)", head)
        return stream, found[1] if found else head.partition("\r\n")[0]


async def _head(stream: trio.SocketStream) -> str:
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some(4096)
        if not data:
            return ""
        head += data
    return head.decode()


async def _answer(stream: trio.SocketStream, status: str, *fields: str) -> None:
    head = "\r\n".join([f"HTTP/1.1 {status} -", *fields])
    await stream.send_all(f"{head}\r\n\r\n".encode())


@contextlib.asynccontextmanager
async def fleet(directory: Path, *names: str) -> AsyncIterator[Fleet]:
    needed("haproxy", program())
    behind = Fleet(list(names))
    async with trio.open_nursery() as nursery:
        servers: dict[str, tuple[str, int]] = {}
        for name in names:
            serve = functools.partial(trio.serve_tcp, functools.partial(behind.serve, name), 0)
            listeners = await nursery.start(functools.partial(serve, host="127.0.0.1"))
            servers[name] = listeners[0].socket.getsockname()
        behind.port = free_port()
        proxy = HAProxy(directory, behind.port)
        proxy.write(servers)
        proxy.start()
        try:
            while True:
                with contextlib.suppress(OSError):
                    if await behind.ask("/") in names:
                        break
                await trio.sleep(0.05)
            yield behind
        finally:
            proxy.stop()
        nursery.cancel_scope.cancel()
