"""The softphone's way in, on real sockets: stream tokens, a browser's handshake, event streams."""

import contextlib
import http.client
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from limits import HANG
from rig_peers import START, STOP, media
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

from sts_trio.config import load
from sts_trio.observe import events
from sts_trio.web.app import App, create_app
from sts_trio.web.serve import serve
from sts_trio.wire import twilio

ADMIN = "operators-own"


class Served:
    def __init__(self, app: App, url: str) -> None:
        self.app = app
        self.port = int(url.rpartition(":")[2])

    async def ask(self, method: str, path: str, **headers: str) -> tuple[int, bytes]:
        def ask() -> tuple[int, bytes]:
            with contextlib.closing(
                http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG)
            ) as connection:
                connection.request(method, path, headers=self.key | headers)
                response = connection.getresponse()
                return response.status, response.read()

        return await trio.to_thread.run_sync(ask)

    @property
    def key(self) -> dict[str, str]:
        return (
            {}
            if self.app.server.key is None
            else {"Authorization": f"Bearer {self.app.server.key}"}
        )

    async def follow(self) -> trio.SocketStream:
        """A browser's connection that asks for all events, with its cookie."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        cookie = f"sts_trio_key_{self.port}={self.app.server.key}"
        request = f"GET /events HTTP/1.1\r\nHost: localhost:{self.port}\r\nCookie: {cookie}\r\n\r\n"
        await stream.send_all(request.encode())
        return stream

    async def mint(self, **headers: str) -> str:
        status, body = await self.ask("POST", "/stream-token", **headers)
        assert status == 200
        return str(json.loads(body)["token"])

    async def connect(self, path: str) -> "Websocket":
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        websocket = Websocket(stream, f"127.0.0.1:{self.port}")
        await websocket.shake_hands(path)
        return websocket

    async def status(self, path: str) -> int:
        websocket = await self.connect(path)
        async with websocket.stream:
            return websocket.status


class Websocket:
    """A browser's end: it offers to compress, and a second close frame is an error."""

    def __init__(self, stream: trio.SocketStream, host: str) -> None:
        self.stream = stream
        self.status = 101
        self.is_compressed = False
        self.closed: int | None = None
        self._host = host
        self._wire = WSConnection(ConnectionType.CLIENT)

    async def shake_hands(self, path: str) -> None:
        request = Request(
            host=self._host,
            target=path,
            extensions=[PerMessageDeflate()],
            extra_headers=[(b"origin", f"http://{self._host}".encode())],
        )
        await self.stream.send_all(self._wire.send(request))
        while self._wire.state is ConnectionState.CONNECTING:
            self._wire.receive_data(await self.stream.receive_some())
            for event in self._wire.events():
                if isinstance(event, RejectConnection):
                    self.status = event.status_code
                    return
                assert isinstance(event, AcceptConnection)
                self.is_compressed = bool(event.extensions)

    async def tell(self, *messages: twilio.Message) -> None:
        """All in one segment."""
        data = b"".join(
            self._wire.send(TextMessage(data=twilio.encode_as_twilio(message)))
            for message in messages
        )
        await self.stream.send_all(data)

    async def say_goodbye(self, last: twilio.Message) -> None:
        """A last message and the close frame in one segment; then reads to the end."""
        data = self._wire.send(TextMessage(data=twilio.encode_as_twilio(last)))
        await self.stream.send_all(data + self._wire.send(CloseConnection(code=1000)))
        while data := await self.stream.receive_some():
            self._wire.receive_data(data)
            for event in self._wire.events():
                if isinstance(event, CloseConnection):
                    self.closed = event.code


@contextlib.asynccontextmanager
async def served(tmp_path: Path, **environ: str) -> AsyncIterator[Served]:
    config = load({"STS_AGENT": "offline"} | environ, tmp_path)
    app = create_app(config)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(HANG):
            url = await nursery.start(partial(serve, config, port=0, app=app, take_signals=False))
            yield Served(app, url)
        nursery.cancel_scope.cancel()


async def test_a_token_opens_a_socket_once_though_only_twilio_is_let_in(tmp_path: Path) -> None:
    environ = {"TWILIO_AUTH_TOKEN": "12345", "STS_ADMIN_TOKEN": ADMIN}
    async with served(tmp_path, **environ) as here:
        assert (await here.ask("POST", "/stream-token"))[0] == 401
        token = await here.mint(Authorization=f"Bearer {ADMIN}")
        assert await here.status("/twilio") == 403
        assert await here.status(f"/twilio/{token}x") == 403
        assert await here.status(f"/twilio/{token}") == 101
        assert await here.status(f"/twilio/{token}") == 403


async def test_a_wrong_token_is_refused_before_the_upgrade_even_on_this_machine(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as here:
        assert await here.status("/twilio/guessed") == 403
        assert await here.status(f"/twilio/guessed?key={here.app.server.key}") == 403
        assert await here.status("/twilio") == 403
        assert here.app.guesses.wrong == 0
        assert await here.status("/twilio?key=guessed") == 403
        assert here.app.guesses.wrong == 1
        assert await here.status(f"/twilio?key={here.app.server.key}") == 101
        assert await here.status(f"/twilio/{await here.mint()}") == 101


@pytest.mark.parametrize("fast_lane", ["1", "0"])
async def test_a_call_of_a_browser_is_a_call(tmp_path: Path, fast_lane: str) -> None:
    """Chromium offers to compress; we do not agree to that."""
    async with served(tmp_path, STS_FAST_LANE=fast_lane) as here:
        websocket = await here.connect(f"/twilio/{await here.mint()}")
        assert not websocket.is_compressed
        async with websocket.stream:
            await websocket.tell(twilio.Connected(), START, media(), media())
            await until(lambda: any(call.dialogue.call_sid for call in here.app.live_calls.calls))
            await websocket.say_goodbye(STOP)
        assert websocket.closed == 1000
        await here.app.live_calls.empty()
        ending = here.app.live_calls.ending_of(START.start.call_sid)
        assert ending is not None
        assert ending.cause.label == "stop"


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for is beyond a socket
        await trio.sleep(0.01)


async def test_events_come_over_a_socket_and_end_with_it(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        event_feed = here.app.live_calls.event_feed
        stream = await here.follow()
        received = b""
        async with stream:
            while b"retry: 2000" not in received:
                received += await stream.receive_some()
            await until(lambda: event_feed.followers == 1)
            call = await here.connect(f"/twilio?key={here.app.server.key}")
            async with call.stream:
                await call.tell(START)
                while f'"event":"{events.AgentReady.NAME}"'.encode() not in received:
                    received += await stream.receive_some()
            while f'"event":"{events.CallEnded.NAME}"'.encode() not in received:
                received += await stream.receive_some()
        await until(lambda: event_feed.followers == 0)


async def test_a_browser_that_never_reads_holds_nobody_up(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        event_feed = here.app.live_calls.event_feed
        stream = await here.follow()
        await until(lambda: event_feed.followers == 1)
        # Far more than sockets hold.
        call = await here.connect(f"/twilio?key={here.app.server.key}")
        async with call.stream:
            await call.tell(START)
            await until(lambda: len(here.app.live_calls.calls) == 1)
            [live] = here.app.live_calls.calls
            for _ in range(10_000):
                live.reports.report(events.CallTranscript("user", "x" * 2000))
            assert (await here.ask("GET", "/calls"))[0] == 200
        await here.app.live_calls.empty()
        await trio.aclose_forcefully(stream)
        await until(lambda: event_feed.followers == 0)
