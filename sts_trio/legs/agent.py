"""The agent's socket as typed messages; the only place that dials with trio-websocket.

trio-websocket is in life-support maintenance, and nothing of it shows outside this module. What it
leaves undone is done here: time limits come from the call's own deadlines, pings find a dead peer,
and a reader task that ends or fails (python-trio/trio-websocket#184 among others) ends the leg
instead of the program.
"""

import contextlib
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import h11
import trio
import trio_websocket
from wsproto.utilities import ProtocolError

from sts_trio.errors import AgentRejected, AgentUnreachable, How, Leg, LegEnded
from sts_trio.legs import Idle, ignore
from sts_trio.legs.sockets import TcpStream, TlsStream
from sts_trio.legs.tap import Message, Tap
from sts_trio.wire import deepgram, frames
from sts_trio.wire.dialect import Language
from sts_trio.wire.oddity import Malformed, TooBig

# A dead peer is to be found within 30 s: a ping every 10 s, its pong within 10 s.
PING_EVERY = 10.0
PONG_WITHIN = 10.0
# Audio of six minutes in one message is served; Deepgram's own are 4 KiB.
MOST_PER_MESSAGE = 4 * 1024 * 1024
# The reader answers no pings while the queue is full; the call's listener empties it at once.
QUEUED_MESSAGES = 16
# trio-websocket reads 4 KiB at a time by default: five reads for what comes in one.
RECEIVE_BUFFER = 65536
Hear = Callable[[Sequence[deepgram.FromAgent | TooBig | LegEnded]], None]

_TOO_BIG = "Exceeded maximum message size"

# HTTP bodies may be long; a reason is for people.
_MOST_REASON = 300


class _Reader:
    """Stands in for the nursery that trio-websocket starts its reader task in.

    Its exceptions stop here, and its end is known.
    """

    def __init__(self, nursery: trio.Nursery, over: Callable[[], None]) -> None:
        self._nursery = nursery
        self._over = over
        self.rejection: trio_websocket.ConnectionRejected | None = None
        self.fault = ""

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, reader)

    async def _run(self, reader: Callable[[], Awaitable[None]]) -> None:
        try:
            await reader()
        except trio_websocket.ConnectionRejected as exc:
            self.rejection = exc
        except (ProtocolError, h11.ProtocolError) as exc:
            # To a garbled handshake it would answer as only a server may, and h11 forbids it.
            self.fault = str(exc)
        finally:
            self._over()


def _hear_no_more(batch: Sequence[object]) -> None:
    """What comes when the leg has ended, or its listener has failed."""


class AgentLeg:
    """An open session with the agent. See `sts_trio.legs` for the contract."""

    is_polled = False
    is_prepared = False

    def __init__(self, stream: trio.abc.Stream, language: Language) -> None:
        self._stream = stream
        self._language = language
        self._socket: trio_websocket.WebSocketConnection
        self._is_silent = False
        self._hear: Hear | None = None
        self._early: list[deepgram.FromAgent] = []
        self._listening = trio.CancelScope()
        self._bug: Exception | None = None
        # Other streams (memory streams in tests) know only `await`.
        self._try_write = getattr(stream, "try_send", None)

    def deliver(self, message: Message) -> None:
        """Takes a tapped message, in the task that read it."""
        if isinstance(message, UnicodeError):
            decoded: deepgram.FromAgent = Malformed(Leg.AGENT, "not UTF-8")
        else:
            decoded = self._language.decode(message)
        if self._hear is None:
            self._early.append(decoded)
            return
        try:
            self._hear([decoded])
        except Exception as exc:
            self._bug = exc
            self._hear = _hear_no_more
            self._listening.cancel()

    async def shake_hands(
        self, reader: _Reader, host: str, path: str, headers: list[tuple[bytes, bytes]]
    ) -> None:
        """The websocket handshake. Waits for ever if there is none: `reader` tells."""
        self._socket = trio_websocket.WebSocketConnection(
            self._stream,
            Tap(MOST_PER_MESSAGE, self.deliver),
            host=host,
            path=path,
            client_extra_headers=headers,
            message_queue_size=QUEUED_MESSAGES,
            max_message_size=MOST_PER_MESSAGE,
            receive_buffer_size=RECEIVE_BUFFER,
        )
        # What `wrap_client_stream` does; it cannot be given a connection of ours.
        reader.start_soon(self._socket._reader_task)
        await self._socket._open_handshake.wait()

    async def listen(self, hear: Hear, idle: Idle = ignore) -> None:
        try:
            if self._early:
                hear(self._early)
            self._hear = hear
            with self._listening:
                try:
                    while True:
                        hear([self._language.decode(await self._socket.get_message())])
                except trio_websocket.ConnectionClosed as exc:
                    hear(self._ended(exc.reason))
        finally:
            # An agent may go on talking until it has read our goodbye.
            self._hear = _hear_no_more
        if self._bug is not None:
            raise self._bug

    def try_send(self, message: deepgram.ToAgent) -> bool:
        """For audio, nearly all there is: a frame of ours goes past trio-websocket, in order.

        Order is kept as the stream takes nothing while trio-websocket is sending.
        """
        if (
            type(message) is not deepgram.Audio
            or self._try_write is None
            or self._socket.closed is not None
        ):
            return False
        sent: bool = self._try_write(frames.masked_binary(message.data))
        return sent

    async def send(self, message: deepgram.ToAgent) -> None:
        try:
            await self._socket.send_message(self._language.encode(message))
        except (trio_websocket.ConnectionClosed, ProtocolError):
            # The listener hears of it; there is nobody left to send to.
            await trio.lowlevel.checkpoint()

    async def aclose(self, code: int) -> None:
        """Sends the close frame and waits for the agent's."""
        with contextlib.suppress(ProtocolError):
            await self._socket.aclose(code)

    async def ping_until_silent(self) -> None:
        """Returns when a ping goes unanswered, or cannot even be sent; the leg then ends."""
        while True:
            await trio.sleep(PING_EVERY)
            with trio.move_on_after(PONG_WITHIN):
                try:
                    await self._socket.ping()
                except (trio_websocket.ConnectionClosed, ProtocolError):
                    return
                continue
            self._is_silent = True
            await trio.aclose_forcefully(self._stream)
            return

    def _ended(self, reason: trio_websocket.CloseReason | None) -> Sequence[TooBig | LegEnded]:
        if self._is_silent:
            return [LegEnded(Leg.AGENT, How.SILENT)]
        if reason is None or reason.code == 1006:
            return [LegEnded(Leg.AGENT, How.LOST)]
        ended = LegEnded(Leg.AGENT, How.CLOSED, reason.code, reason.reason or "")
        if reason.code == 1009 and ended.reason.startswith(_TOO_BIG):
            return [TooBig(Leg.AGENT, MOST_PER_MESSAGE), ended]
        return [ended]


@contextlib.asynccontextmanager
async def open_agent(
    url: str, key: str | None, language: Language, ssl_context: ssl.SSLContext
) -> AsyncIterator[AgentLeg]:
    """Dials the agent at `url` (`ws` or `wss`). Set no time limit here: the call does.

    Raises:
        AgentRejected: it answered the handshake with something other than 101.
        AgentUnreachable: there is no websocket to be had at that address.
    """
    parts = urllib.parse.urlsplit(url)
    is_tls = parts.scheme == "wss"
    host = parts.hostname or ""
    port = parts.port or (443 if is_tls else 80)
    try:
        tcp = TcpStream(await trio.open_tcp_stream(host, port))
    except OSError as exc:
        raise AgentUnreachable(f"cannot connect to {host}:{port}: {exc}") from exc
    stream = TlsStream(tcp, ssl_context, host) if is_tls else tcp
    headers = [(b"authorization", f"Token {key}".encode())] if key else []
    path = parts.path or "/"
    async with converse(stream, parts.netloc, path, headers, language) as leg:
        yield leg


@contextlib.asynccontextmanager
async def converse(
    stream: trio.abc.Stream,
    host: str,
    path: str,
    headers: list[tuple[bytes, bytes]],
    language: Language,
) -> AsyncIterator[AgentLeg]:
    """The websocket handshake over any stream, then the leg. Closes the stream.

    Raises:
        AgentRejected, AgentUnreachable: as `open_agent`.
    """
    failure: AgentUnreachable | None = None
    try:
        async with trio.open_nursery() as nursery:
            leg = AgentLeg(stream, language)
            with trio.CancelScope() as shaking_hands:
                reader = _Reader(nursery, shaking_hands.cancel)
                try:
                    if isinstance(stream, TlsStream):
                        await stream.do_handshake()
                    await leg.shake_hands(reader, host, path, headers)
                except trio.BrokenResourceError as exc:
                    failure = AgentUnreachable(f"{host}: {exc}")
            if shaking_hands.cancelled_caught:
                failure = _why_not(host, reader)
            if failure is None:
                nursery.start_soon(leg.ping_until_silent)
                yield leg
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)
    if failure is not None:
        raise failure


def _why_not(host: str, reader: _Reader) -> AgentUnreachable:
    rejection = reader.rejection
    if rejection is None:
        return AgentUnreachable(f"{host}: no websocket handshake {reader.fault}".rstrip())
    body = (rejection.body or b"").decode("utf-8", "replace").strip()
    return AgentRejected(rejection.status_code, body[:_MOST_REASON])
