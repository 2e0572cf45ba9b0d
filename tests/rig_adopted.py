"""An adopted leg on a socket pair, with TLS or without, and the caller at its other end."""

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import trio
import trio.testing
from rig_frames import frame
from rig_streams import TRUSTED

from sts_trio.legs.caller_adopted import AdoptedLeg, Socket
from sts_trio.net.ticker import SHORTEST_PERIOD, Ticker
from sts_trio.net.tls_socket import TlsSocket, TlsState
from sts_trio.wire import twilio
from sts_trio.wire.frames import PING, TEXT
from sts_trio.wire.twilio import Mark, MarkName, Outbound, PlayMedia

TICK = SHORTEST_PERIOD
LIMIT = 800.0  # of virtual seconds
IS_TLS = False  # whether lines are, unless told


def told(*messages: twilio.Message) -> bytes:
    """Frames as Twilio sends them."""
    return b"".join(frame(TEXT, twilio.encode_as_twilio(message).encode()) for message in messages)


def mark(name: object) -> Mark:
    return Mark(MarkName(str(name)), stream_sid="MZ1")


def play(number: int, length: int = 160) -> PlayMedia:
    return PlayMedia("MZ1", Outbound(bytes([number % 251]) * length))


def split(data: bytes) -> list[tuple[int, bytes]]:
    """Whole frames of ours, as (opcode, payload), with nothing over."""
    heard = []
    while data:
        assert data[0] & 0xF0 == 0x80, "ours are neither fragmented nor extended"
        length, begin = data[1], 2
        if length >= 126:
            begin = 4 if length == 126 else 10
            length = int.from_bytes(data[2:begin])
        assert len(data) >= begin + length, "half a frame"
        heard.append((data[0] & 0x0F, data[begin : begin + length]))
        data = data[begin + length :]
    return heard


def in_agreement() -> tuple[TlsState, TlsState]:
    """A client and a server that have shaken hands; what one says is not brought to the other."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = TRUSTED.client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    client = TlsState(tls, incoming, outgoing)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = TRUSTED.server.wrap_bio(incoming, outgoing, server_side=True)
    server = TlsState(tls, incoming, outgoing)
    for _ in range(2):
        for one, other in ((client, server), (server, client)):
            with contextlib.suppress(ssl.SSLWantReadError):
                one.tls.do_handshake()
            other.incoming.write(one.outgoing.read())
    with contextlib.suppress(ssl.SSLWantReadError):
        client.tls.read()  # tickets for another time
    return client, server


class Watched(socket.socket):
    """Knows when it was read."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.read_at: list[float] = []

    def recv(self, *args: Any) -> bytes:
        self.read_at.append(trio.current_time())
        return super().recv(*args)


class Line:
    """A socket with a caller at one end, who does what a test tells, and a leg at the other."""

    def __init__(self, ticker: Ticker, *, small: bool = False) -> None:
        self.socket, theirs = socket.socketpair()
        self.bridge = Watched(theirs.family, theirs.type, fileno=theirs.detach())
        for end in (self.socket, self.bridge):
            end.setblocking(False)
        if small:
            self.bridge.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.ticker = ticker
        self._end: Socket = self.socket
        leg_end: Socket = self.bridge
        if IS_TLS:
            client, server = in_agreement()
            self._end = TlsSocket(self.socket, client)
            leg_end = TlsSocket(self.bridge, server)
        self.leg = AdoptedLeg(leg_end, ticker)
        self.batches: list[Sequence[Any]] = []
        self.ended_at: float | None = None
        self.got = b""
        self.on_hear: Callable[[Sequence[Any]], None] = lambda batch: None

    @property
    def heard(self) -> list[Any]:
        return [message for batch in self.batches for message in batch]

    def say(self, *data: bytes) -> None:
        """All at once: it has to fit into the socket."""
        whole = b"".join(data)
        assert self._end.send(whole) == len(whole)

    async def say_much(self, data: bytes) -> None:
        """As fast as it is read."""
        while data:
            with contextlib.suppress(BlockingIOError):
                data = data[self._end.send(data) :]
            await trio.sleep(TICK / 2)

    def read(self, most: int = 1 << 20) -> None:
        with contextlib.suppress(BlockingIOError):
            while most > 0 and (data := self._end.recv(min(65536, most))):
                self.got += data
                most -= len(data)

    @property
    def frames(self) -> list[tuple[int, bytes]]:
        """What has come, but for pings."""
        self.read()
        return [(opcode, payload) for opcode, payload in split(self.got) if opcode != PING]

    async def listen(self) -> None:
        await self.leg.listen(self.hear)
        self.ended_at = trio.current_time()

    def hear(self, batch: Sequence[Any]) -> None:
        assert batch
        self.batches.append(batch)
        self.on_hear(batch)

    def close(self) -> None:
        self.socket.close()
        self.bridge.close()


@contextlib.asynccontextmanager
async def a_line(*, small: bool = False) -> AsyncIterator[Line]:
    """A line whose leg listens, a tick and a half ago."""
    ticker = Ticker()
    line = Line(ticker, small=small)
    try:
        with trio.fail_after(LIMIT):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ticker.run)
                nursery.start_soon(line.listen)
                await trio.sleep(1.5 * TICK)
                yield line
                nursery.cancel_scope.cancel()
    finally:
        line.close()
