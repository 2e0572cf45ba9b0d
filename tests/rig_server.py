"""A served app on real sockets, a phone that calls it, and the agents behind it.

For stories that need Hypercorn, TCP and the real clock. Nothing may be left when a story is over.
"""

import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from xml.etree import ElementTree

import hypercorn.trio
import msgspec
import structlog
import trio
import trio_websocket
from hypercorn.config import Config as HypercornConfig
from limits import HANG
from rig_peers import START, STREAM_SID, FakeAgent, media

from sts_trio.config import load, local_key
from sts_trio.logic.policy import CallPolicy
from sts_trio.net import tls_socket, wsproto_cycle
from sts_trio.observe import events
from sts_trio.web.app import App, create_app
from sts_trio.wire import deepgram, twilio


class Answer(NamedTuple):
    """TwiML that has a call streamed."""

    url: str
    parameters: dict[str, str]

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def token(self) -> str:
        assert self.path.startswith("/twilio/")
        return self.path.rpartition("/")[2]


def answer_in(twiml: str) -> Answer:
    [stream] = ElementTree.fromstring(twiml).iter("Stream")
    parameters = {each.attrib["name"]: each.attrib["value"] for each in stream.iter("Parameter")}
    return Answer(stream.attrib["url"], parameters)


PROMISE = 2.0
LANE: dict[str, str] = {}


class Phone:
    """Twilio's end of a websocket, on a socket that a test can mistreat."""

    def __init__(self, socket: trio_websocket.WebSocketConnection, tcp: trio.SocketStream) -> None:
        self.socket = socket
        self.tcp = tcp
        self.played: list[twilio.ToCaller] = []
        self.echoes = False  # marks, as soon as they come

    async def tell(self, *messages: twilio.Message) -> None:
        for message in messages:
            await self.socket.send_message(twilio.encode_as_twilio(message))

    async def play_until_closed(self) -> int:
        """Plays what comes; returns the close code."""
        try:
            while True:
                await self._play_one()
        except trio_websocket.ConnectionClosed as exc:
            return exc.reason.code if exc.reason else 1006

    async def play_until(self, enough: Callable[[bytes], bool]) -> None:
        while not enough(self.audio):
            await self._play_one()

    async def play_until_told(self, wanted: type[twilio.ToCaller]) -> None:
        """Plays what comes, until a message of that kind has."""
        while not self.played or not isinstance(self.played[-1], wanted):
            await self._play_one()

    async def _play_one(self) -> None:
        message = twilio.decode_as_twilio(await self.socket.get_message())
        self.played.append(message)
        if self.echoes and isinstance(message, twilio.PlayMark):
            await self.tell(twilio.Mark(message.mark, stream_sid=STREAM_SID))

    async def reset(self) -> None:
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(self.tcp)

    @property
    def audio(self) -> bytes:
        return b"".join(m.media.payload for m in self.played if isinstance(m, twilio.PlayMedia))


class World:
    """A served app, an agent it dials, and the means to look for what is left."""

    def __init__(self, app: App, agent: FakeAgent, address: tuple[str, int]) -> None:
        self.app = app
        self.agent = agent
        self.address = address
        self.logs: list[Any] = []
        self.shut_down = trio.Event()
        self.served = trio.Event()

    async def serve(self, config: HypercornConfig, task_status: trio.TaskStatus[list[str]]) -> None:
        await hypercorn.trio.serve(
            self.app,
            config,
            shutdown_trigger=self.shut_down.wait,
            task_status=task_status,
        )
        self.served.set()

    @contextlib.asynccontextmanager
    async def phone(
        self,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        path: str = "/twilio",
        signature: str | None = None,
    ) -> AsyncIterator[Phone]:
        async with trio.open_nursery() as nursery:
            raw = trio.socket.socket()
            if receive_buffer is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await raw.connect(self.address)
            tcp = trio.SocketStream(raw)
            stream = trio.SSLStream(tcp, tls, server_hostname="localhost") if tls else tcp
            connected = await trio_websocket.wrap_client_stream(
                nursery,
                stream,
                f"127.0.0.1:{self.address[1]}",
                path,
                extra_headers=[(b"X-Twilio-Signature", signature.encode())]
                if signature
                else self.key,
                message_queue_size=1000,
                max_message_size=2**24,
            )
            yield Phone(connected, tcp)
            nursery.cancel_scope.cancel()
            await trio.aclose_forcefully(tcp)
        wsproto_cycle.break_cycle(connected._wsproto.connection)
        tls_socket.break_cycle(stream)

    async def knock(self, path: str = "/twilio", signature: str | None = None) -> int:
        """The status of a handshake; one that is let in hangs up at once."""
        return await knock(self.address, path, signature)

    @property
    def key(self) -> list[tuple[bytes, bytes]]:
        """What lets a phone on this machine in, where nobody signs."""
        key = self.app.server.key
        return [] if key is None else [(b"authorization", b"Bearer " + key.encode())]

    @property
    def endings(self) -> list[str]:
        return [line["ending"] for line in self.logs if line["event"] == events.CallEnded.NAME]

    async def until_over(self) -> float:
        """How long it takes until no call is live."""
        began = trio.current_time()
        await self.app.live_calls.empty()
        return trio.current_time() - began


async def knock(address: tuple[str, int], path: str, signature: str | None = None) -> int:
    """The status of a websocket's handshake, by a client of the user who runs the server."""
    key = None if signature else local_key.find(address)
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {address[0]}:{address[1]}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *([f"X-Twilio-Signature: {signature}"] if signature else []),
        *([f"Authorization: Bearer {key}"] if key else []),
    ]
    async with await trio.open_tcp_stream(*address) as stream:
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        received = b""
        while b"\r\n" not in received:
            received += await stream.receive_some()
        return int(received.split()[1])


@contextlib.asynccontextmanager
async def world(
    tmp_path: Path,
    agent: FakeAgent | None = None,
    *more: FakeAgent,
    serve_agent: Callable[[trio.SocketStream], Any] | None = None,
    certificate: tuple[str, str] | None = None,
    policy: CallPolicy | None = None,
    functions: Sequence[Callable[..., Any]] = (),
    **environ: str,
) -> AsyncIterator[World]:
    """An app on Hypercorn with an agent behind it, and those that answer when it is dialled again.

    Afterwards nothing may be left.
    """
    agent = agent or FakeAgent()
    agents = iter([agent, *more])

    async def serve_next(stream: trio.SocketStream) -> None:
        await next(agents).serve(stream)

    sockets_before = open_sockets()
    tasks_before = trio.lowlevel.current_statistics().tasks_living
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listener.socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, serve_agent or serve_next, [listener])
            config = load(
                {
                    "DEEPGRAM_API_KEY": "key",
                    "DEEPGRAM_URL": f"ws://127.0.0.1:{port}/v1/agent/converse",
                    # Who is let in is told elsewhere.
                    "STS_ALLOW_UNSIGNED": "0" if "TWILIO_AUTH_TOKEN" in environ else "1",
                }
                | LANE
                | environ,
                tmp_path,
            )
            # Unless the story is about them: a lost agent is the end, and at once.
            config = msgspec.structs.replace(config, policy=policy or CallPolicy())
            app = create_app(config, functions)
            server = HypercornConfig()
            server.bind = ["127.0.0.1:0"]
            if certificate:
                server.certfile, server.keyfile = certificate
            this = World(app, agent, ("127.0.0.1", 0))
            [bound] = await nursery.start(this.serve, server)
            this.address = ("127.0.0.1", int(bound.rpartition(":")[2]))
            # Not earlier: making an app sets the log up.
            with structlog.testing.capture_logs() as this.logs:
                yield this
            assert app.live_calls.live == 0
            this.shut_down.set()
            await this.served.wait()
            nursery.cancel_scope.cancel()
    assert trio.lowlevel.current_statistics().tasks_living == tasks_before
    assert open_sockets() <= sockets_before


def open_sockets() -> set[str]:
    """Sockets of this process (Linux), each by its number, which no other one has; none where there
    is no such list. Compared by what is new: what tests before have left may go at any time."""
    folder = Path("/proc/self/fd")
    names = list(folder.iterdir()) if folder.exists() else []
    return {target for name in names if (target := target_of(name)).startswith("socket:")}


def target_of(name: Path) -> str:
    try:
        return os.readlink(name)
    except OSError:
        return ""


async def talk(here: World, phone: Phone) -> None:
    """Brings a call to where caller and agent hear each other."""
    await phone.tell(twilio.Connected(), START, media(b"\x21" * 160))
    await here.agent.ready.wait()
    await here.agent.say(deepgram.Audio(b"\x11" * 1600))
    await phone.play_until(lambda audio: audio == b"\x11" * 1600)
