"""Taking a caller's accepted socket over from Hypercorn, where everything is as expected."""

import contextlib
import os
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


class _Diverted:
    """Stands in for the protocol of a `Connection`: what still comes is ours."""

    def __init__(self) -> None:
        self.early = bytearray()
        self._is_idle = trio.Event()
        self._over = trio.Event()

    async def handle(self, event: Any) -> None:
        if isinstance(event, RawData):
            self.early += event.data
        else:
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
    """Accepts the websocket and takes its socket over. Only where `can_adopt` says so."""
    tls = tls_state(connection.stream)
    tcp: Any = connection.stream if tls is None else connection.stream.transport_stream
    websocket: Any = send.__self__  # type: ignore[attr-defined]
    # Before the accept: the caller's first frames may come with its next segment.
    connection.protocol = diverted = _Diverted()
    try:
        await portable.accept(send)
        # Hypercorn sends nothing any more on its own account: no pings, no second close frame.
        websocket.closed = True
        await diverted.stop_reading(connection)
        with taken_out_of(tcp) as sock:
            tls_socket = None if tls is None else TlsSocket(sock, tls)
            leg = AdoptedLeg(tls_socket or sock, ticker, diverted.early)
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
