"""Taking a caller's accepted socket over from Hypercorn, where everything is as expected."""

import contextlib
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import trio
from hypercorn.events import RawData
from hypercorn.protocol.ws_stream import WSStream

from sts_trio.legs import caller_asgi as portable
from sts_trio.legs.caller_adopted import AdoptedLeg
from sts_trio.net.hypercorn_guard import Connection, reset_on_close
from sts_trio.net.hypercorn_guard.http import Http
from sts_trio.net.hypercorn_guard.law import Step
from sts_trio.net.streams import taken_out_of
from sts_trio.net.ticker import Ticker
from sts_trio.net.tls_socket import TlsSocket, tls_state
from sts_trio.wire.handshake import token


class _Diverted:
    """Stands in for the protocol of a `Connection`. What still comes is nobody's: there are no
    frames before the websocket is accepted (RFC 6455, section 4.1)."""

    def __init__(self) -> None:
        self._is_idle = trio.Event()
        self._over = trio.Event()

    async def handle(self, event: Any) -> None:
        if not isinstance(event, RawData):
            self._is_idle.set()  # `Closed`: nobody reads any more

    async def go_on(self) -> None:
        """What a reader that was woken does instead of reading."""
        self._is_idle.set()
        await self._over.wait()

    async def stop_reading(self, connection: Connection) -> None:
        """Returns when Hypercorn's reader has nothing in its hands: behind half a record of TLS,
        nobody would understand what comes next."""
        if connection.at is not Step.END:
            connection.wake()
            await self._is_idle.wait()

    def let_go(self) -> None:
        self._over.set()


def can_adopt(send: portable.Send, connection: Connection | None) -> bool:
    """Whether this websocket's socket can be taken over: HTTP/1.1 on TCP, with TLS or without, and
    types as known."""
    stream = getattr(send, "__self__", None)
    return (
        os.name == "posix"
        and type(stream) is WSStream
        and type(connection) is Connection
        and (
            type(connection.stream) is trio.SocketStream or tls_state(connection.stream) is not None
        )
        and type(connection.protocol) is Http
        and connection.protocol.stream is stream
    )


@contextlib.asynccontextmanager
async def open_adopted(
    send: portable.Send, connection: Connection, ticker: Ticker
) -> AsyncIterator[AdoptedLeg]:
    """Takes the websocket's socket over and accepts it. Only where `can_adopt` says so."""
    is_tls = type(connection.stream) is trio.SSLStream
    tcp: Any = connection.stream.transport_stream if is_tls else connection.stream
    websocket: Any = send.__self__  # type: ignore[attr-defined]
    connection.protocol = diverted = _Diverted()
    try:
        # Hypercorn sends nothing any more on its own account: no answer, and no close frame.
        websocket.closed = True
        if is_tls:
            await diverted.stop_reading(connection)
        tls = tls_state(connection.stream)
        # Of plain TCP its reader has nothing in its hands that counts: it ends with its stream.
        with taken_out_of(tcp) as sock:
            tls_socket = None if tls is None else TlsSocket(sock, tls)
            leg = AdoptedLeg(tls_socket or sock, ticker)
            connection.step(Step.CALL)
            leg.answer(_acceptance(websocket))
            await _log_access(websocket)
            try:
                yield leg
            finally:
                if leg.is_stuck:
                    reset_on_close(sock)
                elif tls_socket is not None:
                    tls_socket.say_goodbye()
    finally:
        # Where it was not taken over after all: Hypercorn's reader may still wait for it, and a
        # caller who is quiet would keep it there.
        tcp.socket.close()
        diverted.let_go()


def _acceptance(websocket: WSStream) -> bytes:
    """What Hypercorn would answer the handshake; by itself, it takes a twentieth of a call's
    set-up. No subprotocol, and no extension."""
    assert websocket.handshake.key is not None  # else Hypercorn has refused it
    headers = [
        (b"sec-websocket-accept", token(websocket.handshake.key)),
        (b"upgrade", b"WebSocket"),
        (b"connection", b"Upgrade"),
        *websocket.config.response_headers("h11"),
    ]
    lines = [b"HTTP/1.1 101 ", *(b"%b: %b" % each for each in headers)]
    return b"\r\n".join([*lines, b"", b""])


async def _log_access(websocket: WSStream) -> None:
    """To Hypercorn's log of accesses, where there is one."""
    took = time.time() - websocket.start_time
    await websocket.config.log.access(websocket.scope, {"status": 101, "headers": []}, took)
