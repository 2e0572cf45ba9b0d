"""A bridge for tests of the carrier: webhooks that answer what they are told to, and a media socket
that does."""

import contextlib
import functools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple
from urllib.parse import parse_qsl
from xml.sax.saxutils import quoteattr

import trio
import trio_websocket

from sts_trio.net import http
from sts_trio.testing.clock import jumping_only_when_nothing_works
from sts_trio.wire import twilio

Reply = str | int | http.Answer | Callable[[], Awaitable[http.Answer | None]]


class Hit(NamedTuple):
    """A request that a webhook got."""

    path: str
    fields: dict[str, str]
    headers: dict[str, str]
    query: str


class Media:
    """A stream that came, and what came by it."""

    def __init__(self, socket: trio_websocket.WebSocketConnection, headers: dict[str, str]) -> None:
        self.socket = socket
        self.tcp: trio.abc.Stream = socket._stream
        self.headers = headers
        self.heard: list[twilio.Message] = []
        self.sid = ""

    async def hear(self) -> twilio.Message:
        message = twilio.decode(await self.socket.get_message())
        assert isinstance(message, twilio.Message)
        self.heard.append(message)
        if isinstance(message, twilio.Start):
            self.sid = message.start.stream_sid
        return message

    async def begin(self) -> twilio.StreamStart:
        while not isinstance(message := await self.hear(), twilio.Start):
            pass
        return message.start

    async def hear_to_the_end(self) -> None:
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            while True:
                await self.hear()

    async def hear_for(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.hear_to_the_end()

    async def say(self, message: twilio.ToCaller) -> None:
        await self.socket.send_message(twilio.encode(message).decode())

    async def play(self, audio: bytes) -> None:
        await self.say(twilio.PlayMedia(self.sid, twilio.Outbound(audio)))

    async def mark(self, name: str) -> None:
        await self.say(twilio.PlayMark(self.sid, twilio.MarkName(name)))

    def of(self, kind: type[twilio.Message]) -> list[twilio.Message]:
        return [each for each in self.heard if isinstance(each, kind)]


Behaviour = Callable[[Media], Awaitable[None]]


async def listen(media: Media) -> None:
    await media.begin()
    await media.hear_to_the_end()


class Site:
    """`replies` are by path, each given in turn, the last again and again: TwiML, a status, an
    answer, or what makes one. `behaviours` are those of its streams, in turn likewise."""

    def __init__(self) -> None:
        self.base = ""
        self.media = ""
        self.hits: list[Hit] = []
        self.replies: dict[str, deque[Reply]] = {}
        self.streams: list[Media] = []
        self.behaviours: deque[Behaviour] = deque([listen])

    def reply(self, path: str, *replies: Reply) -> None:
        self.replies[path] = deque(replies)

    def connect(self, *, action: str = "", attributes: str = "", after: str = "") -> str:
        """TwiML that streams the call here."""
        given = f" action={quoteattr(action)}" if action else ""
        stream = f'<Stream url="{self.media}"{attributes}/>'
        return f"<Response><Connect{given}>{stream}</Connect>{after}</Response>"

    def hits_of(self, path: str) -> list[Hit]:
        return [each for each in self.hits if each.path == path]

    async def respond(self, request: http.Request) -> http.Answer | None:
        fields = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        self.hits.append(Hit(request.path, fields, request.headers, request.query))
        replies = self.replies.get(request.path, deque([404]))
        reply = replies.popleft() if len(replies) > 1 else replies[0]
        if isinstance(reply, str):
            return http.Answer(200, {"content-type": "text/xml"}, reply.encode())
        if isinstance(reply, int):
            return http.Answer(reply, {}, b"")
        return reply if isinstance(reply, http.Answer) else await reply()

    async def stream(self, request: trio_websocket.WebSocketRequest) -> None:
        headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        socket = await request.accept()
        media = Media(socket, headers)
        self.streams.append(media)
        behave = self.behaviours.popleft() if len(self.behaviours) > 1 else self.behaviours[0]
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            await behave(media)


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """On the loopback; a clock that jumps waits for its sockets."""
    here = Site()
    with jumping_only_when_nothing_works():
        async with trio.open_nursery() as nursery:
            answer = functools.partial(http.answer, respond=here.respond, longest=65536)
            serve = functools.partial(trio.serve_tcp, answer, 0, host="127.0.0.1")
            listeners = await nursery.start(serve)
            port = listeners[0].socket.getsockname()[1]
            here.base = f"http://127.0.0.1:{port}"
            server = await nursery.start(
                functools.partial(
                    trio_websocket.serve_websocket, here.stream, "127.0.0.1", 0, ssl_context=None
                )
            )
            here.media = f"ws://127.0.0.1:{server.port}/media"
            yield here
            nursery.cancel_scope.cancel()
