"""What a carrier finds at our public URL while it is examined: webhooks and a media socket that
misbehave as they are told to, on one port.

It is not the bridge: who wants to see what becomes of a stream that is reset, or of a handshake
without an answer, needs a server that does so. It talks WebSocket itself, frame by frame, as what
it does to a connection no library would.

Only what the account has signed is answered, since anybody may find a public URL.
"""

import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import msgspec
import trio
from wsproto.utilities import generate_accept_token

from sts_trio.wire import frames, twilio, webhook

MAX_HEAD = 16 * 1024
MAX_BODY = 64 * 1024
MAX_MESSAGE = 1 << 20
RECEIVE = 64 * 1024
# For a request's head and body, so that nobody holds a connection.
REQUEST_TIMEOUT = 10.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for no time

FORBIDDEN, NOT_FOUND = 403, 404

Reply = str | int  # TwiML, or a status


class Hit(msgspec.Struct, frozen=True):
    """A request that came, and when on Trio's clock."""

    at: float
    path: str
    fields: dict[str, str]


class Happened(msgspec.Struct, frozen=True):
    """A message that came by a stream, or a ping, or the end of its connection (None)."""

    at: float
    what: twilio.FromCaller | frames.Ping | frames.Close | None


class Stream:
    """A media stream that came. `beside` tells how many others had not been stopped by then. While
    it `is_mute`, nothing is answered, no ping either."""

    def __init__(
        self, connection: trio.SocketStream, path: str, beside: int, notice: Callable[[], None]
    ) -> None:
        self.path = path
        self.beside = beside
        self.opened = trio.current_time()
        self.happened: list[Happened] = []
        self.is_mute = False
        self.sid = ""
        self._is_closed = False
        self._sending = trio.Lock()
        self._connection = connection
        self._notice = notice
        self._reader = frames.FrameReader(MAX_MESSAGE)

    @property
    def ended(self) -> float | None:
        """When its connection was closed by the other side."""
        return next((each.at for each in self.happened if each.what is None), None)

    def first(self, kind: type[object]) -> float | None:
        """When the first message of that kind came."""
        return next((each.at for each in self.happened if isinstance(each.what, kind)), None)

    async def listen(self) -> None:
        """Until the connection is closed."""
        data = b""
        while True:
            for frame in self._reader.feed(data):
                await self._hear(frame)
            if self._is_closed:  # and so the connection is, by us
                self._put(None)
                return
            try:
                data = bytes(await self._connection.receive_some(RECEIVE))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                self._put(None)
                return

    async def _hear(self, frame: frames.Frame) -> None:
        match frame:
            case bytes():
                message = twilio.decode(frame)
                if isinstance(message, twilio.Start):
                    self.sid = message.stream_sid
                if not isinstance(message, twilio.Media):
                    self._put(message)
            case frames.Ping(payload):
                self._put(frame)
                if not self.is_mute:
                    await self._send(frames.pong(payload))
            case frames.Close(code):
                self._put(frame)
                self._is_closed = not self.is_mute
                if not self.is_mute:
                    await self._send(frames.close(code))

    async def play(self, audio: bytes, mark: str) -> None:
        """Audio, and a mark behind it."""
        for message in (
            twilio.PlayMedia(self.sid, twilio.Outbound(audio)),
            twilio.PlayMark(self.sid, twilio.MarkName(mark)),
        ):
            await self._send(frames.text(twilio.encode(message)))

    async def close(self, code: int) -> None:
        """Says goodbye; the other side closes the connection."""
        await self._send(frames.close(code))

    async def reset(self) -> None:
        """As the kernel does for a process that is killed."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        await trio.aclose_forcefully(self._connection)

    async def _send(self, data: bytes) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with self._sending:
                await self._connection.send_all(data)

    def _put(self, what: twilio.FromCaller | frames.Ping | frames.Close | None) -> None:
        self.happened.append(Happened(trio.current_time(), what))
        self._notice()


Behave = Callable[[Stream], Awaitable[None]]


async def stay(stream: Stream) -> None:
    """Nothing is done but listening."""


class Held(msgspec.Struct):
    """A stream's handshake that got no answer."""

    opened: float
    ended: float | None = None  # when the other side gave up


class Site:
    """`replies` are by path, in turn, the last again and again. `behaviours` are of the streams, by
    path, and begin with `start`. What has a path of `refusals` becomes no stream: it is answered
    with that status, or with nothing at all (None).
    """

    def __init__(self, base: str, tokens: Sequence[str] = ()) -> None:
        self.base = base
        self._tokens = tokens
        self._changed = trio.Event()
        self._over: set[str] = set()
        self.hits: list[Hit] = []
        self.clear()

    def clear(self) -> None:
        """For the next call: what is told of the others from now on is nobody's."""
        self._over |= {each.fields.get("CallSid", "") for each in self.hits}
        self.hits = []
        self.streams: list[Stream] = []
        self.held: list[Held] = []
        self.replies: dict[str, list[Reply]] = {}
        self.behaviours: dict[str, Behave] = {}
        self.refusals: dict[str, int | None] = {}

    def hit(self, *paths: str) -> Hit | None:
        """The first request for one of them."""
        return next((each for each in self.hits if each.path in paths), None)

    async def wait(self, is_so: Callable[[], object], within: float) -> bool:
        """Whether it came to be so in that time."""
        with trio.move_on_after(within):
            while not is_so():
                await self._changed.wait()
        return bool(is_so())

    async def serve(self, connection: trio.SocketStream) -> None:
        """One connection, with one request."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with connection:
                request = None
                with trio.move_on_after(REQUEST_TIMEOUT):
                    request = await _read(connection)
                if request is None:
                    return
                if request.headers.get("upgrade", "").lower() == "websocket":
                    await self._stream(connection, request)
                else:
                    await self._answer(connection, request)

    async def _answer(self, connection: trio.SocketStream, request: "_Request") -> None:
        form = webhook.read_form(request.body)
        urls = webhook.webhook_urls([self.base], path=request.path, query=request.query)
        reply: Reply = FORBIDDEN
        if self._is_signed(request, urls, form):
            fields = {name: values[0] for name, values in form.items()}
            if fields.get("CallSid") not in self._over:
                self.hits.append(Hit(trio.current_time(), request.path, fields))
            given = self.replies.get(request.path, [NOT_FOUND])
            reply = given.pop(0) if len(given) > 1 else given[0]
        status, twiml = (200, reply) if isinstance(reply, str) else (reply, "")
        body = twiml.encode()
        await connection.send_all(
            f"HTTP/1.1 {status} -\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + body
        )
        self._notice()

    async def _stream(self, connection: trio.SocketStream, request: "_Request") -> None:
        urls = webhook.stream_urls([self.base], path=request.path)
        status: int | None = FORBIDDEN
        if self._is_signed(request, urls, webhook.Form()):
            if request.path in self.behaviours:
                await self._run_stream(connection, request)
                return
            status = self.refusals.get(request.path, NOT_FOUND)
        if status is not None:
            head = f"HTTP/1.1 {status} -\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            await connection.send_all(head.encode())
            return
        held = Held(trio.current_time())
        self.held.append(held)
        try:
            while await connection.receive_some(RECEIVE):
                pass
        finally:
            held.ended = trio.current_time()
            self._notice()

    async def _run_stream(self, connection: trio.SocketStream, request: "_Request") -> None:
        key = request.headers.get("sec-websocket-key", "")
        accept = generate_accept_token(key.encode()).decode()
        await connection.send_all(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        beside = sum(not (each.first(twilio.Stop) or each.ended) for each in self.streams)
        stream = Stream(connection, request.path, beside, self._notice)
        self.streams.append(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._behave, stream)
            await stream.listen()
            nursery.cancel_scope.cancel()

    async def _behave(self, stream: Stream) -> None:
        if await self.wait(lambda: stream.sid, REQUEST_TIMEOUT):
            await self.behaviours[stream.path](stream)

    def _is_signed(self, request: "_Request", urls: list[str], form: webhook.Form) -> bool:
        signature = request.headers.get(webhook.SIGNATURE_HEADER.lower(), "")
        return webhook.is_signed(tokens=self._tokens, signature=signature, urls=urls, form=form)

    def _notice(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


class _Request(msgspec.Struct, frozen=True):
    path: str
    query: str
    headers: dict[str, str]  # names in lower case
    body: bytes


async def _read(connection: trio.SocketStream) -> _Request | None:
    """None if it is none, or too long, or does not all come."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        received = await connection.receive_some(RECEIVE)
        if not received or len(data) > MAX_HEAD:
            return None
        data += received
    head, _, rest = bytes(data).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    target = urlsplit(first.split(" ")[1] if first.count(" ") == 2 else "")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:9]) > MAX_BODY:
        return None
    body = bytearray(rest)
    while len(body) < int(length):
        received = await connection.receive_some(RECEIVE)
        if not received:
            return None
        body += received
    return _Request(target.path, target.query, headers, bytes(body))
