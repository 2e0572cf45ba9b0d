"""Deepgram's end of a socket, byte by byte."""

import contextlib
from typing import Any

import trio
import trio.testing
import wsproto.events
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.utilities import generate_accept_token

from sts_trio.wire import deepgram, frames
from sts_trio.wire.deepgram import Audio
from sts_trio.wire.dialect import Dialect, language

LANGUAGE = language(Dialect.V1)


def said(*messages: deepgram.TextFromAgent | Audio) -> bytes:
    """Frames as an agent sends them."""
    encoded = [LANGUAGE.encode_as_agent(message) for message in messages]
    return b"".join(
        frames.binary(data) if isinstance(data, bytes) else frames.text(data.encode())
        for data in encoded
    )


class Peer:
    """The agent's end. `got` has what it was told, in order: messages, pings, pongs, and at last
    the close frame; `gone` is set when the stream has ended."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        *behind: bytes,
        answers_pings: bool = True,
        answers_close: bool = True,
        reads: bool = True,
    ) -> None:
        self.stream = stream
        self.answers_pings = answers_pings
        self.answers_close = answers_close
        self.request: wsproto.events.Request
        self.got: list[Any] = []
        self.closed_with: int | None = None
        self.gone = trio.Event()
        self.reading = trio.Event()  # until then it reads the handshake only
        if reads:
            self.reading.set()
        self._behind = b"".join(behind)  # comes in one piece with the handshake
        self._wire = WSConnection(ConnectionType.SERVER)
        self._part: Any = None
        self._sending = trio.Lock()

    @property
    def messages(self) -> list[deepgram.ToAgent]:
        return [LANGUAGE.decode_as_agent(m) for m in self.got if isinstance(m, str | bytes)]

    async def say(self, *data: bytes) -> None:
        async with self._sending:
            await self.stream.send_all(b"".join(data))

    async def run(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await self.stream.receive_some(65536):
                self._wire.receive_data(bytes(data))
                for event in self._wire.events():
                    await self._hear(event)
                await self.reading.wait()
        self.gone.set()

    async def _hear(self, event: wsproto.events.Event) -> None:
        match event:
            case wsproto.events.Request():
                self.request = event
                accept = self._wire.send(wsproto.events.AcceptConnection())
                await self.say(accept, self._behind)
            case wsproto.events.Message():
                self._part = event.data if self._part is None else self._part + event.data
                if event.message_finished:
                    self.got.append(self._part)
                    self._part = None
            case wsproto.events.Ping():
                self.got.append(event)
                if self.answers_pings:
                    await self.say(self._wire.send(event.response()))
            case wsproto.events.CloseConnection():
                self.got.append(event)
                self.closed_with = event.code
                if self.answers_close:
                    if self._wire.state is ConnectionState.REMOTE_CLOSING:
                        await self.say(self._wire.send(event.response()))
                    await self.stream.aclose()
            case _:
                self.got.append(event)


def accept(request: bytes, line_end: bytes = b"\r\n") -> bytes:
    [key] = [
        line.partition(b": ")[2]
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key")
    ]
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + generate_accept_token(key),
        b"",
        b"",
    ]
    return line_end.join(lines)
