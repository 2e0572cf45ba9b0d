"""HTTP/1.1 and websockets as Hypercorn speaks them, one request after the other, and nothing else.

Nothing in here waits for what only another task of the connection brings about, so the reader is
never kept from hearing that the peer is gone. Upstream, it stops reading behind a request.

- Requests are not pipelined. Who sends more before the answer has begun gets that answer, with
  `Connection: close`, and the rest is dropped. What comes once it has begun may be the next request
  of a peer who is quicker than our bookkeeping: up to a head's size is kept for its turn.
- HTTP/2 is not spoken, neither by its preface nor by `Upgrade: h2c` (RFC 9113, section 3.1: a
  server may ignore that), nor any version that only looks like it.
- Who sends behind a websocket's handshake before it was answered gets 400 (RFC 6455, section 4.1:
  the client has to wait). Upstream that ends the server (Hypercorn issue #225).
- A websocket's handshake is looked at before Hypercorn sees it (`opening.py`).
- What Hypercorn refuses by itself is closed by itself, too. Upstream nobody does.
"""

import dataclasses
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import h11
from hypercorn.events import Event, RawData
from hypercorn.protocol.events import (
    Body,
    Data,
    EndBody,
    Response,
    StreamClosed,
)
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.typing import ConnectionState, TaskGroup

from sts_trio.net import wsproto_cycle
from sts_trio.net.hypercorn_guard import unread
from sts_trio.net.hypercorn_guard.law import Step
from sts_trio.net.hypercorn_guard.opening import opening
from sts_trio.net.hypercorn_guard.unread import Unread

if TYPE_CHECKING:
    from sts_trio.net.hypercorn_guard.tcp import Connection

# Then a connection that is no call ends with its next answer: a client with a pool opens another.
MAX_AGE = 300.0

_SPOKEN = (b"1.1", b"1.0")
# (host and port, path and query)
_ABSOLUTE = re.compile(
    rb"https?://((?:[\w.~-]+|\[[0-9a-f:.]+\])(?::[0-9]+)?)((?:[/?].*)?)", re.IGNORECASE
)


class Http(H11Protocol):
    def __init__(
        self,
        connection: "Connection",
        tasks: TaskGroup,
        *,
        ssl: bool,
        client: Any,
        server: Any,
    ) -> None:
        super().__init__(
            connection.app,
            connection.config,
            connection.context,
            tasks,
            ConnectionState(connection.state),
            ssl,
            client,
            server,
            connection.protocol_send,
        )
        self._connection = connection
        self._has_begun_to_answer = False  # the request under way, or what came instead of one
        self._has_refused = False  # what came too early; the answer under way is the last
        self._websocket: Any = None  # once it is accepted
        self._beginning = b""  # of all that came

    async def handle(self, event: Event) -> None:
        if isinstance(event, RawData) and not self._beginning:
            self._beginning = event.data[:16]
        if not isinstance(event, RawData):
            await super().handle(event)
        elif self._has_refused:
            pass
        elif isinstance(self.stream, WSStream) and not self.stream.handshake.accepted:
            await self._refuse_frames()
        else:
            if self._connection.at is Step.IDLE:
                self._connection.step(Step.HEAD)
            self.connection.receive_data(event.data)
            await self._handle_events()

    def let_go(self) -> None:
        """The connection is over, and no task of it runs: no reference cycles are left."""
        if self._websocket is not None:
            wsproto_cycle.break_cycle(self._websocket.connection)
        self.stream = self._websocket = None

    async def go_on(self) -> None:
        """With what came while it was not its turn."""
        await self._handle_events()

    async def _handle_events(self) -> None:
        while True:
            if self.connection.they_are_waiting_for_100_continue:
                await self._send_continue()
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                self._tell(unread.not_http(self._beginning))
                await self._refuse(error.error_status_hint)
                return
            if isinstance(event, h11.Request):
                await self._begin(_in_origin_form(event))
            elif event is h11.PAUSED:
                self._look_ahead()
                return
            elif (
                event is h11.NEED_DATA
                or isinstance(event, h11.ConnectionClosed)
                or self.stream is None
            ):
                return
            elif isinstance(event, h11.Data):
                await self.stream.handle(Body(stream_id=STREAM_ID, data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._is_whole()
                self._look_ahead()  # before the handler can answer
                await self.stream.handle(EndBody(stream_id=STREAM_ID))
            else:
                assert isinstance(event, Data)  # of a websocket, as it came
                await self.stream.handle(event)

    async def _begin(self, request: h11.Request) -> None:
        self._connection.step(Step.BODY)
        if request.method == b"PRI":
            self._tell(unread.HTTP2)
            self._connection.finish()  # it would understand no answer of ours
        elif request.http_version not in _SPOKEN:
            await self._refuse(505)
        elif not _has_path(request.target):
            self._tell(unread.NOT_HTTP)
            await self._refuse(400)
        elif (asked := opening(request)) is None:
            await self._create(request)
        elif self.connection.trailing_data[0]:
            self._tell(unread.EARLY_FRAMES)
            await self._refuse(400)
        elif not asked.is_sound:
            self._tell(unread.NO_HANDSHAKE)
            await self._refuse(400)
        else:
            await self._create(asked.request)

    async def _create(self, request: h11.Request) -> None:
        await self._create_stream(request)
        if isinstance(self.connection, H11WSConnection):
            self._is_whole()
        if self.stream is not None and self.stream.closed:
            self._connection.finish()

    def _tell(self, reason: str) -> None:
        Unread.of_this_run().tell(self._connection.client, reason)

    def _is_whole(self) -> None:
        """The request. Its answer may be under way, or over."""
        if self._connection.at is Step.BODY:
            self._connection.step(Step.ANSWER)

    def _look_ahead(self) -> None:
        """At what came behind the request."""
        room = self.config.h11_max_incomplete_size if self._has_begun_to_answer else 0
        if len(self.connection.trailing_data[0]) > room:
            self._has_refused = True

    async def _refuse_frames(self) -> None:
        """They came before the handshake was answered. The handler can accept it no more."""
        await self._close_stream()
        await self._refuse(400)

    async def _refuse(self, status: int) -> None:
        self._has_refused = True
        if not self._has_begun_to_answer:
            self._has_begun_to_answer = True
            await self._send_error_response(status)
        self._connection.finish()

    async def _send_continue(self) -> None:
        headers = self.config.response_headers("h11")
        await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=headers))

    # --- answers --------------------------------------------------------------------------------

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, StreamClosed):
            await self._end_cycle()
            return
        if isinstance(event, Response):
            self._has_begun_to_answer = True
            if event.status_code == 101:
                self._websocket = self.stream
                self._connection.step(Step.CALL)
            elif self._is_last():
                headers = [*event.headers, (b"connection", b"close")]
                event = dataclasses.replace(event, headers=headers)
        await super().stream_send(event)
        if isinstance(event, EndBody) and self._connection.at in (Step.BODY, Step.ANSWER):
            self._connection.step(Step.ANSWERED)

    def _is_last(self) -> bool:
        age = self.context.time() - self._connection.began
        return (
            self._has_refused
            or self._connection.is_retired
            or self._connection.at is Step.BODY  # who is answered before may not want to finish
            or self.context.terminated.is_set()
            or age > MAX_AGE
        )

    async def _end_cycle(self) -> None:
        """On to the next request, or to the end."""
        if (
            self._has_refused
            or self._connection.is_retired
            or self.context.terminated.is_set()
            or self.connection.our_state is not h11.DONE
            or self.connection.their_state is not h11.DONE
        ):
            self._connection.finish()
            return
        stream, self.stream = self.stream, None
        self.connection.start_next_cycle()
        self._has_begun_to_answer = False
        self._connection.step(Step.IDLE)
        if self.connection.trailing_data[0]:
            self._connection.wake()
        # Last of all: on hearing that its request is over, quart-trio cancels its handler, and the
        # handler is who runs this.
        if stream is not None:
            await stream.handle(StreamClosed(stream_id=STREAM_ID))


def _in_origin_form(request: h11.Request) -> h11.Request:
    """RFC 9112, section 3.2.2: a server has to accept a target with scheme and host in it, as who
    asks a proxy writes it, and the host in there counts. Hypercorn takes all of it for the path."""
    if (absolute := _ABSOLUTE.fullmatch(request.target)) is None:
        return request
    host, rest = absolute.groups()
    others = [each for each in request.headers.raw_items() if each[0].lower() != b"host"]
    return h11.Request(
        method=request.method,
        target=rest if rest.startswith(b"/") else b"/" + rest,
        headers=[(b"Host", host), *others],
        http_version=request.http_version,
    )


def _has_path(target: bytes) -> bool:
    """Whether Quart finds one in it. What it does not would be a traceback, and 500."""
    path = unquote(target.partition(b"?")[0].decode("latin-1"))
    if path.startswith("/"):
        return True
    try:
        urlsplit(path)
    except ValueError:  # "http://["
        return False
    return bool(path)
