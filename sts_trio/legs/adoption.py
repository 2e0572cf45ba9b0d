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
from sts_trio.net.streams import taken_out_of
from sts_trio.net.ticker import Ticker


class _Diverted:
    """Stands in for the protocol of a `Connection`: what still comes is ours."""

    def __init__(self, early: bytearray) -> None:
        self._early = early

    async def handle(self, event: Any) -> None:
        if isinstance(event, RawData):
            self._early += event.data


def can_adopt(send: portable.Send, connection: Connection | None) -> bool:
    """Whether this websocket's socket can be taken over: plain TCP, HTTP/1.1, types as known."""
    stream = getattr(send, "__self__", None)
    return (
        os.name == "posix"
        and type(stream) is WSStream
        and type(connection) is Connection
        and type(connection.stream) is trio.SocketStream  # not so under TLS
        and type(connection.protocol) is Http
        and connection.protocol.stream is stream
    )


@contextlib.asynccontextmanager
async def open_adopted(
    send: portable.Send, connection: Connection, ticker: Ticker
) -> AsyncIterator[AdoptedLeg]:
    """Accepts the websocket and takes its socket over. Only where `can_adopt` says so."""
    stream: Any = connection.stream
    websocket: Any = send.__self__  # type: ignore[attr-defined]
    early = bytearray()
    # Before the accept: the caller's first frames may come with its next segment.
    connection.protocol = _Diverted(early)
    try:
        await portable.accept(send)
        # Hypercorn sends nothing any more on its own account: no pings, no second close frame.
        websocket.closed = True
        with taken_out_of(stream) as sock:
            leg = AdoptedLeg(sock, ticker, early)
            try:
                yield leg
            finally:
                if leg.is_stuck:
                    reset_on_close(sock)
    finally:
        # Where it was not taken over after all: Hypercorn's reader may still wait for it, and a
        # caller who is quiet would keep it there.
        stream.socket.close()
