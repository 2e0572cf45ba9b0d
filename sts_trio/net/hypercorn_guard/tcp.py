"""One accepted connection, kept to the law.

It takes the place of Hypercorn's `TCPServer`, and does what that does, but for these: it is always
reading, it is closed in one place, no shield is without a deadline, and all of its tasks are in one
scope that ends them.
"""

import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from math import inf
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, LifespanState
from hypercorn.utils import parse_socket_addr

from sts_trio.errors import innermost
from sts_trio.net import tls_socket
from sts_trio.net.hypercorn_guard import unread
from sts_trio.net.hypercorn_guard.http import Http
from sts_trio.net.hypercorn_guard.law import (
    ANSWER_TIME,
    BEFORE_A_REQUEST,
    CUT_OFF_GRACE,
    PEERS_TURN,
    PIECE,
    WRITE_TIME,
    Step,
)
from sts_trio.net.hypercorn_guard.strangers import Strangers
from sts_trio.net.hypercorn_guard.unread import Unread
from sts_trio.observe import events
from sts_trio.observe.report import report

# The kernel drops a connection whose data stayed unacknowledged for twice the interval of pings.
# (TCP_USER_TIMEOUT is in milliseconds. Not every platform has them all.)
SOCKET_OPTIONS = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 20_000),
)

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for no time


class Connection(TCPServer):
    """One accepted connection, in place of Hypercorn's own `TCPServer`.

    For handlers: `stream`, `client`, `last_heard`, `pace`, `terminated` and `abort`. `step` is for
    its protocol.
    """

    protocol: Any
    stream: Any
    _task_group: Any

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        stream: Any,
    ) -> None:
        super().__init__(app, config, context, state, stream)
        self.protocol = None
        self._spoken: Http | None = None  # also while a handler has put another protocol there
        self._is_tls = not isinstance(stream, trio.SocketStream)
        self._tcp: trio.SocketStream = stream.transport_stream if self._is_tls else stream
        # When the peer's last bytes came, whatever they were, on Trio's clock. A leg that
        # reads the socket past `stream.receive_some` keeps this up to date.
        self.began = self.last_heard = trio.current_time()
        # Awaited before the socket is read: by it a leg says when.
        self.pace: Callable[[], Awaitable[None]] | None = None
        # Set as soon as the server begins to shut down, `graceful_timeout` before it cuts us off.
        self.terminated = context.terminated
        self.client = _address_of_peer(self._tcp)
        self.at = Step.HANDSHAKE
        self._law = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._receiving = trio.CancelScope()
        self._is_woken = False
        self._over = trio.Event()
        self._strangers = Strangers.of_this_run()

    # --- the law --------------------------------------------------------------------------------

    def step(self, to: Step) -> None:
        """From now on there is so much time for that. After END there is no other step."""
        if self.at is Step.END:
            return
        was, self.at = self.at, to
        self._law.deadline = trio.current_time() + to.limit(was, self.config)
        if to is Step.CALL:
            self._strangers.leave(self)
        else:
            self._strangers.turn(self, is_peers=to in PEERS_TURN)

    def finish(self) -> None:
        """Nothing more is read, and the socket is closed as soon as nobody is writing.

        The handlers hear that the peer is gone, and have their grace to leave.
        """
        self.step(Step.END)
        self._reading.cancel()

    def abort(self) -> None:
        """Reset the connection now: what is unsent is dropped and the peer sees an RST.

        Wakes every task that is blocked on the socket; else as `finish`. May be called again.
        """
        raw = self._tcp.socket
        if raw.fileno() != -1:
            reset_on_close(raw)
            raw.close()
        self.finish()

    def cut_off(self) -> None:
        """`abort`, and its tasks are cancelled at once."""
        self.abort()
        self._law.cancel()

    @property
    def is_retired(self) -> bool:
        """Whether the peer is to open another connection, which another process will accept."""
        return self._strangers.are_retired

    def retire(self) -> None:
        """Ends the connection if it is only kept."""
        if self.at is Step.IDLE:
            self.finish()

    @property
    def is_taken_over(self) -> bool:
        """Whether somebody else has put a protocol of theirs here, whose `handle` never waits."""
        return self.protocol is not self._spoken

    def wake(self) -> None:
        """Has the protocol go on with what it was given already."""
        self._is_woken = True
        self._receiving.cancel()

    # --- what Hypercorn runs --------------------------------------------------------------------

    async def run(self) -> None:
        """Serves the connection to its end. An exception ends it, and nothing else."""
        connection.set(self)
        self._set_socket_options()
        self._note_what_is_heard()
        self._strangers.enter(self, self._tcp.socket.fileno())
        try:
            with self._law:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch)
                    try:
                        await self._serve(nursery)
                    finally:
                        self._over.set()
                        nursery.cancel_scope.cancel()
        except* Exception as crash:
            # Cancelled, if it came along, goes on by itself: `except*` takes only its own part.
            # The listener closes the socket when this returns.
            report(events.ConnectionCrashed(self.client), exc_info=innermost(crash))
        finally:
            self._strangers.leave(self)
            # No reference cycles are left for the collector.
            del self._tcp.receive_some
            tls_socket.break_cycle(self.stream)
            if self._spoken is not None:
                self._spoken.let_go()
            self.protocol = self._spoken = self._task_group = None
        if self._law.cancelled_caught and self.at is Step.ANSWER:
            report(events.RequestNotAnswered(self.client, ANSWER_TIME))

    async def _serve(self, beside: trio.Nursery) -> None:
        try:
            async with trio.open_nursery() as handlers:
                self._task_group = _Tasks(handlers, beside)
                try:
                    self.protocol = self._spoken = self._http()
                except OSError:
                    return  # they were gone before they were served
                with self._reading:
                    if await self._shake_hands():
                        await self._read_data()
                await self._close()
                if self.is_taken_over:
                    await self.protocol.handle(Closed())
                else:
                    # Not awaited: a peer that is gone may have left messages unread.
                    beside.start_soon(self.protocol.handle, Closed())
        finally:
            await self._close()

    def _http(self) -> Http:
        raw = self._tcp.socket
        client = parse_socket_addr(raw.family, raw.getpeername())
        server = parse_socket_addr(raw.family, raw.getsockname())
        return Http(self, self._task_group, ssl=self._is_tls, client=client, server=server)

    async def _shake_hands(self) -> bool:
        if self._is_tls:
            self.step(Step.HANDSHAKE)
            try:
                await self.stream.do_handshake()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                reason = getattr(exc.__cause__, "reason", None) or ""
                if (told := unread.no_tls(str(reason))) is not None:
                    Unread.of_this_run().tell(self.client, told)
                self.finish()
                return False
        self.step(Step.HEAD)
        return True

    async def _read_data(self) -> None:
        """Reads for as long as there is a peer, also while it has to wait for its answer: nothing
        else tells that it is gone."""
        while True:
            data: bytes = b""
            if not self._is_woken:
                with trio.move_on_after(self.config.read_timeout or inf) as self._receiving:
                    try:
                        data = bytes(await self.stream.receive_some(MAX_RECV))
                    except trio.ClosedResourceError as exc:
                        _break_cycle(exc)
                        return  # by us; or the socket was taken over, and all goes on
                    except trio.BrokenResourceError as exc:
                        _break_cycle(exc)
            # Both may have happened, and what has come is not to be lost.
            if data:
                await self.protocol.handle(RawData(data))
            elif self._is_woken:
                self._is_woken = False
                await self.protocol.go_on()
            else:
                self.finish()
                return

    async def protocol_send(self, event: Event) -> None:
        assert isinstance(event, RawData)  # all else `Http` tells us itself
        await self._write(event.data)

    async def _write(self, data: bytes) -> None:
        """Shielded: behind half of it, no peer would understand what comes next."""
        async with self.send_lock:
            try:
                for start in range(0, len(data), PIECE):
                    await self._write_piece(data[start : start + PIECE])
            except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                _break_cycle(exc)
                self.finish()

    async def _write_piece(self, piece: bytes) -> None:
        if self.at is Step.ANSWER:
            self._strangers.turn(self, is_peers=True)
        with trio.move_on_after(WRITE_TIME, shield=True) as patience:
            await self.stream.send_all(piece)
        if patience.cancelled_caught:
            self.abort()
        elif self.at is Step.ANSWER:
            self.step(Step.ANSWER)

    async def _close(self) -> None:
        if self._tcp.socket.fileno() == -1:
            return  # it is closed, or somebody else's
        with trio.move_on_after(CUT_OFF_GRACE, shield=True) as grace:
            async with self.send_lock:
                if not self._is_tls:
                    try:
                        await self._tcp.send_eof()
                    except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                        _break_cycle(exc)
                await self.stream.aclose()
        if grace.cancelled_caught:
            self.abort()

    # --- beside it ------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Who has no request under way goes when the server does. And a cancelled connection has
        its grace: a shielded writer learns of nothing else than its socket."""
        try:
            await self.terminated.wait()
            if self.at in BEFORE_A_REQUEST:
                self.finish()
            await trio.sleep_forever()
        except trio.Cancelled:
            if not self._over.is_set():
                with trio.move_on_after(CUT_OFF_GRACE, shield=True) as grace:
                    await self._over.wait()
                if grace.cancelled_caught:
                    self.abort()
            raise

    def _set_socket_options(self) -> None:
        for level, name, value in SOCKET_OPTIONS:
            option = getattr(socket, name, None)
            # A Unix socket has no TCP; a connection may be gone before it is served.
            if option is not None:
                with suppress(OSError):
                    self._tcp.setsockopt(level, option, value)

    def _note_what_is_heard(self) -> None:
        # On the instance, not by a stand-in for it: a handler that wants the stream itself checks
        # its type.
        receive_some = self._tcp.receive_some

        async def receive_and_note(max_bytes: int | None = None) -> bytes:
            if self.pace is not None:
                await self.pace()
            data = await receive_some(max_bytes)
            if data:
                self.last_heard = trio.current_time()
            return data

        self._tcp.receive_some = receive_and_note  # type: ignore[method-assign]


class _Tasks(TaskGroup):
    """The tasks that Hypercorn starts for a connection. Only the handlers are waited for: what runs
    beside them sends pings, and would do so until the next one is due."""

    def __init__(self, handlers: trio.Nursery, beside: trio.Nursery) -> None:
        super().__init__()
        self._nursery = handlers
        self._beside = beside

    def spawn(self, func: Callable[..., Awaitable[Any]], *args: Any) -> None:
        self._beside.start_soon(func, *args)


# The connection that the current task serves. None outside of one, and where `install` did nothing.
connection: ContextVar[Connection | None] = ContextVar("connection", default=None)


def reset_on_close(sock: socket.socket | trio.socket.SocketType) -> None:
    """Has closing drop what is unsent, and the peer see an RST, if it is still there to see it."""
    # macOS refuses when the peer has reset the connection itself.
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def _break_cycle(exc: BaseException) -> None:
    """Trio makes its exceptions of the system's within a context manager. From Python 3.12 on
    contextlib keeps the latter in a frame that it has in its traceback (CPython issue 129280), and
    only the garbage collector would free the connection, which hangs on it."""
    if exc.__context__ is not None:
        exc.__context__.__traceback__ = None


def _address_of_peer(stream: trio.SocketStream) -> str:
    try:
        name = stream.socket.getpeername()
    except OSError:
        return "gone"
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
