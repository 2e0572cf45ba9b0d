"""Keeps one connection's trouble from becoming the server's: what Hypercorn 0.18 lacks on Trio.

`install()` wraps `hypercorn.trio.tcp_server.TCPServer.run`, the task of one accepted connection,
so that, whichever way Hypercorn is started:

- An exception ends the connection it arose in, and nothing else. Upstream it ends the server and
  every call on it, and one packet of a stranger's is enough: a websocket upgrade with bytes behind
  it (Hypercorn issue #225; #177, #203 and #329 are its kin).
- A peer that does not read cannot hold a shutdown up. Hypercorn shields its writes against
  cancellation, so a cancelled connection still blocked after `CUT_OFF_GRACE` is reset.
- A websocket's handler that returns with messages unread does not leave its connection behind.
  Hypercorn queues ten of them, then waits for room, for ever if there is nobody left to read.
- A connection is closed after its last answer, or when it is idle, though the handler is cancelled
  in the midst of that, as quart-trio's are. Upstream it stays for as long as the peer likes.
- Dead peers are found: Hypercorn's pings are turned on where the operator has not chosen an
  interval (so that a live peer always has something to say), and the kernel gives up on a peer
  that acknowledges nothing. The pings end with their websocket, not up to an interval later.
- A handler may know its connection, see `connection`, and set the pace at which it is read.

This reaches into Hypercorn's insides, hence the check of its version.
"""

import importlib.metadata
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import wraps
from typing import Any

import structlog
import trio
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import Event, Scope

# How long a cancelled connection has for its goodbyes: as long as a call has for hanging up.
CUT_OFF_GRACE = 2.0

# Well inside the times after which proxies forget an idle connection (60 s and up), and often
# enough that two lost pongs tell a dead peer within half a minute.
PING_INTERVAL = 10.0

# The kernel drops a connection whose data stayed unacknowledged, or whose window stayed shut, for
# twice the ping interval. (TCP_USER_TIMEOUT is in milliseconds. Not every platform has them all.)
_SOCKET_OPTIONS = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 20_000),
)

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for no time

_logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Connection:
    """One accepted connection, as far as the handlers running on it may know and end it."""

    def __init__(self, server: TCPServer) -> None:
        self.server = server
        stream: object = server.stream
        # The socket's own stream if the bytes on it are HTTP; None under TLS.
        self.stream = stream if isinstance(stream, trio.SocketStream) else None
        self._transport = self.stream or server.stream.transport_stream
        # When the peer's last bytes came, whatever they were, on Trio's clock. Whoever reads the
        # socket past `stream.receive_some` keeps this up to date.
        self.last_heard = trio.current_time()
        # Waited for before the socket is read: whoever sets it says when.
        self.pace: Callable[[], Awaitable[None]] | None = None
        # Set as soon as the server begins to shut down, `graceful_timeout` before it cuts us off.
        self.terminated: Event = server.context.terminated
        self.client = _address_of_peer(self._transport)
        self._app = server.app
        self._read = server._read_data
        self._no_more_to_read = trio.Event()
        self._over = trio.Event()
        self._nursery: trio.Nursery

    def abort(self) -> None:
        """Reset the connection now: what is unsent is dropped and the peer sees an RST.

        Wakes every task that is blocked on the socket, Hypercorn's shielded writer included, and
        the handlers are told of the disconnect as if the peer had gone. May be called again.
        """
        raw = self._transport.socket
        if raw.fileno() != -1:
            reset_on_close(raw)
            raw.close()

    async def _run(self, run: Callable[[TCPServer], Awaitable[None]]) -> None:
        config = self.server.config
        if config.websocket_ping_interval is None:
            config.websocket_ping_interval = PING_INTERVAL
        self._set_socket_options()
        self._note_what_is_heard()
        self.server.app = self._run_app
        self.server.context = _ConnectionContext(self.server.context, self._no_more_to_read)
        self.server._read_data = self._read_data  # type: ignore[method-assign]
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._cut_off_when_cancelled)
            try:
                await run(self.server)
            finally:
                self._over.set()
                self._nursery.cancel_scope.cancel()

    def _let_go(self) -> None:
        """Hypercorn's parts of a connection have each other, and us, who have them. Without this
        the garbage collector would have to find them."""
        protocol = getattr(self.server, "protocol", None)
        if isinstance(protocol, ProtocolWrapper) and isinstance(protocol.protocol, H11Protocol):
            protocol.protocol.stream = None
        vars(self.server).clear()
        del self._transport.receive_some, self._nursery

    def _set_socket_options(self) -> None:
        for level, name, value in _SOCKET_OPTIONS:
            option = getattr(socket, name, None)
            # A Unix socket has no TCP; a connection may be gone before it is served.
            if option is not None:
                with suppress(OSError):
                    self._transport.setsockopt(level, option, value)

    def _note_what_is_heard(self) -> None:
        # On the instance, not by a stand-in for it: TCPServer tells TLS from plain by what the
        # stream has, and a handler that wants the stream itself checks its type.
        receive_some = self._transport.receive_some

        async def receive_and_note(max_bytes: int | None = None) -> bytes:
            if self.pace is not None:
                await self.pace()
            data = await receive_some(max_bytes)
            if data:
                self.last_heard = trio.current_time()
            return data

        self._transport.receive_some = receive_and_note  # type: ignore[method-assign]

    async def _cut_off_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            with trio.move_on_after(CUT_OFF_GRACE, shield=True) as grace:
                await self._over.wait()
            if grace.cancelled_caught:
                self.abort()
            raise

    async def _read_data(self) -> None:
        try:
            await self._read()
        finally:
            self._no_more_to_read.set()

    async def _run_app(
        self, scope: Scope, receive: Any, send: Any, sync_spawn: Any, call_soon: Any
    ) -> None:
        if scope["type"] == "http":
            send = _finishing(send)
        try:
            await self._app(scope, receive, send, sync_spawn, call_soon)
        finally:
            if scope["type"] == "websocket":
                self._nursery.start_soon(_discard, receive)


def reset_on_close(sock: socket.socket | trio.socket.SocketType) -> None:
    """Has closing drop what is unsent, and the peer see an RST, if it is still there to see it."""
    # macOS refuses when the peer has reset the connection itself.
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def _finishing(send: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """Within the last message of a response Hypercorn tells the app that the client is gone, and
    then closes the connection, or gives it its time to be idle. quart-trio cancels who sends."""

    async def send_on(message: Any) -> None:
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        with trio.CancelScope(shield=is_last):
            await send(message)

    return send_on


async def _discard(receive: Callable[[], Awaitable[Any]]) -> None:
    # Past the disconnect, too: behind it there may be more of what was read in one piece.
    while True:
        await receive()


class _ConnectionContext(WorkerContext):
    """The worker's context, except that a sleep ends when the connection does.

    The one thing that sleeps on a TCP connection is the loop that sends pings. It looks whether its
    websocket is still open only between sleeps, and the connection waits for it.
    """

    def __init__(self, worker: WorkerContext, no_more_to_read: trio.Event) -> None:
        self.terminate = worker.terminate
        self.terminated = worker.terminated
        self._worker = worker
        self._no_more_to_read = no_more_to_read

    async def mark_request(self) -> None:
        await self._worker.mark_request()

    async def sleep(self, wait: float) -> None:  # type: ignore[override]
        if self._no_more_to_read.is_set():
            # Its websocket closes any moment. Not at once: a loop may come back until then.
            await trio.sleep(min(wait, 0.1))
        else:
            with trio.move_on_after(wait):
                await self._no_more_to_read.wait()


# The connection that the current task serves. None outside of one, and where `install` did nothing.
connection: ContextVar[Connection | None] = ContextVar("connection", default=None)


def install() -> None:
    """Guard every connection this process accepts from now on. May be called again.

    Does nothing, and says so, under a Hypercorn whose insides this module does not know.
    """
    version = importlib.metadata.version("hypercorn")
    if version.split(".")[:2] != ["0", "18"]:
        _logger.warning(
            "guard.not_installed",
            hypercorn=version,
            expected="0.18",
            unprotected="one malformed connection may end the server and every call on it,"
            " a peer that does not read may block shutdown, and dead peers go unnoticed",
        )
        return
    unguarded = TCPServer.run
    if hasattr(unguarded, "guards_connections"):
        return

    @wraps(unguarded)
    async def run(server: TCPServer) -> None:
        this = Connection(server)
        connection.set(this)
        try:
            await this._run(unguarded)
        except* Exception as crash:
            # Cancelled, if it came along, goes on by itself: `except*` takes only its own part.
            # The listener closes the socket when this returns.
            _logger.error("connection.crashed", client=this.client, exc_info=_innermost(crash))
        finally:
            this._let_go()

    run.guards_connections = True  # type: ignore[attr-defined]
    TCPServer.run = run  # type: ignore[assignment, method-assign]


def _address_of_peer(stream: trio.SocketStream) -> str:
    try:
        name = stream.socket.getpeername()
    except OSError:
        return "gone"
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)


def _innermost(crash: BaseException) -> BaseException:
    """The exception itself where nurseries have only wrapped one, group in group."""
    while isinstance(crash, BaseExceptionGroup) and len(crash.exceptions) == 1:
        crash = crash.exceptions[0]
    return crash
