"""Dialling an agent: the websocket's handshake, and the leg that it opens.

trio-websocket shakes hands. Once the websocket is open, the socket is ours.
"""

import contextlib
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Callable
from typing import Any

import h11
import trio
import trio_websocket
from wsproto.utilities import ProtocolError

from sts_trio.errors import AgentRejected, AgentUnreachable
from sts_trio.legs.agent import AgentLeg
from sts_trio.net import wsproto_cycle
from sts_trio.net.poller import Poller
from sts_trio.net.side_tasks import side_tasks
from sts_trio.net.streams import TcpStream, TlsStream
from sts_trio.net.tls import trusted
from sts_trio.wire import handshake
from sts_trio.wire.dialect import Language

_SWITCHING = b"HTTP/1.1 101"


class _Door:
    """The agent's stream as far as the handshake goes; what comes behind it is the leg's.

    `rest` is what had come with it, None while the door is shut. There is nothing behind a refusal
    but its body, which may be without end.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._seen = bytearray()
        self.rest: bytes | None = None

    @property
    def refusal(self) -> tuple[int, bytes] | None:
        """Status and body, in whatever way that was cut off."""
        return handshake.refusal(self._seen)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self.rest is not None:
            await trio.sleep_forever()
        before = len(self._seen)
        if before >= handshake.MAX_ANSWER:
            return b""
        data = bytes(await self._stream.receive_some(max_bytes))
        self._seen += data
        blank = handshake.BLANK_LINE.search(self._seen, max(0, before - 2))
        if blank and self._seen.startswith(_SWITCHING):
            self.rest = bytes(self._seen[blank.end() :])
            return data[: blank.end() - before]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Reader:
    """Stands in for the nursery that trio-websocket starts its reader task in.

    Its exceptions stop here, and its end is known.
    """

    def __init__(self, nursery: trio.Nursery, over: Callable[[], None]) -> None:
        self._nursery = nursery
        self._over = over
        self.refusal: tuple[int, bytes] | None = None  # status and body
        self.fault = ""

    def start_soon(self, reader: Any) -> None:
        """A method of the connection's, without arguments."""
        self._nursery.start_soon(self._run, reader)

    async def _run(self, reader: Any) -> None:
        try:
            await reader()
        except trio_websocket.ConnectionRejected as exc:
            self.refusal = exc.status_code, exc.body or b""
        except (ProtocolError, h11.ProtocolError) as exc:
            # To a garbled handshake it would answer as only a server may, and h11 forbids it.
            self.fault = str(exc)
        finally:
            self._over()
            wsproto_cycle.break_cycle(reader.__self__._wsproto.connection)


@contextlib.asynccontextmanager
async def open_agent(
    url: str,
    key: str | None,
    language: Language,
    poller: Poller | None = None,
    *,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[AgentLeg]:
    """Dials the agent at `url` (`ws` or `wss`). Set no time limit here: the call does.

    `key` may be another credential, with its scheme: "Bearer …". Without an `ssl_context` whom this
    machine trusts is trusted.

    Raises:
        AgentRejected: it answered the handshake with something other than 101.
        AgentUnreachable: there is no websocket to be had at that address.
    """
    parts = urllib.parse.urlsplit(url)
    is_tls = parts.scheme == "wss"
    host = parts.hostname or ""
    port = parts.port or (443 if is_tls else 80)
    try:
        cork = None if poller is None else poller.cork
        tcp = TcpStream(await trio.open_tcp_stream(host, port), cork)
    except OSError as exc:
        raise AgentUnreachable(f"cannot connect to {host}:{port}: {exc}") from exc
    stream = TlsStream(tcp, ssl_context or trusted(), host) if is_tls else tcp
    headers = [(b"authorization", handshake.authorization(key).encode())] if key else []
    path = handshake.target(parts.path, parts.query)
    async with converse(stream, parts.netloc, path, headers, language, poller) as leg:
        yield leg


@contextlib.asynccontextmanager
async def converse(
    stream: trio.abc.Stream,
    host: str,
    path: str,
    headers: list[tuple[bytes, bytes]],
    language: Language,
    poller: Poller | None = None,
) -> AsyncIterator[AgentLeg]:
    """The websocket handshake over any stream, then the leg. Closes the stream.

    Raises:
        AgentRejected, AgentUnreachable: as `open_agent`.
    """
    try:
        early = await _shake_hands(stream, host, path, headers)
        async with side_tasks() as nursery:
            leg = AgentLeg(stream, language, nursery)
            try:
                if early:
                    leg.take(early)
                leg.read_with(poller)
                nursery.start_soon(leg.ping_until_silent)
                yield leg
            finally:
                leg.forget()
    finally:
        # Forcefully, and shielded: its own cancellation would take the place of what is raised.
        with trio.move_on_after(0, shield=True):
            await stream.aclose()


async def _shake_hands(
    stream: trio.abc.Stream, host: str, path: str, headers: list[tuple[bytes, bytes]]
) -> bytes:
    """Returns what had come behind the handshake already."""
    door: Any = _Door(stream)
    early: bytes | None = None
    failure = ""
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as waiting:
            reader: Any = _Reader(nursery, waiting.cancel)
            try:
                if isinstance(stream, TlsStream):
                    await stream.do_handshake()
                await trio_websocket.wrap_client_stream(
                    reader, door, host, path, extra_headers=headers
                )
                early = door.rest
            except trio.BrokenResourceError as exc:
                failure = str(exc)
        nursery.cancel_scope.cancel()
    if failure:
        raise AgentUnreachable(f"{host}: {failure}")
    if early is None:
        raise _failure(host, reader, door)
    return early


def _failure(host: str, reader: _Reader, door: _Door) -> AgentUnreachable:
    refusal = door.refusal
    if reader.refusal is not None:
        refusal = reader.refusal
    if refusal is not None:
        status, body = refusal
        return AgentRejected(status, handshake.reason(body))
    return AgentUnreachable(f"{host}: no websocket handshake {reader.fault}".rstrip())
