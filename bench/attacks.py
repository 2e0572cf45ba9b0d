"""What a stranger can do to a connection: one function for each thing, on a stream that is open.

When it returns, the stranger has done all that it does, and either is gone or holds on without a
byte, reading or not: the server is to end it. Nothing here has a credential, but for the last ones.
"""

import contextlib
import itertools
import struct
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

ADMIN_TOKEN = "bench-admin-token-of-32-letters--"
GET = b"GET /healthz HTTP/1.1\r\nHost: phone.example.com\r\n\r\n"
POST = (
    b"POST /twiml HTTP/1.1\r\nHost: phone.example.com\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n"
)
UPGRADE = (
    b"GET /twilio HTTP/1.1\r\nHost: phone.example.com\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
FRAME = b"\x81\x82\x00\x00\x00\x00hi"
DRIP = 1.0  # seconds between two bytes, or pieces
FOR = 100.0  # seconds that anything dripping goes on, if nobody ends it

# HTTP/2 (RFC 9113): the preface, and frames by hand.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload
    )


SETTINGS = _frame(4, 0, 0)
SHUT_WINDOW = _frame(4, 0, 0, struct.pack(">HI", 4, 0))
PATH = b"/healthz"
# HPACK: GET, http, a literal path and authority.
FIELDS = b"\x82\x86\x04" + bytes([len(PATH)]) + PATH + b"\x01\x01x"
POST_FIELDS = b"\x83\x86\x04\x06/twiml\x01\x01x"


class Peer(NamedTuple):
    """Where a stranger stands. `raw` is the TCP stream beneath `stream`; the same without TLS."""

    stream: trio.abc.Stream
    raw: trio.SocketStream

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def drip(self, *pieces: bytes) -> None:
        """One after the other, again and again, until the server has ended it."""
        with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(FOR):
            while True:
                for piece in pieces:
                    await self.send(piece)
                    await trio.sleep(DRIP)

    async def sip(self) -> None:
        """Reads what comes, as slowly, until the server has ended it."""
        with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(FOR):
            while await self.stream.receive_some(1):  # noqa: ASYNC110 - slowness is the point
                await trio.sleep(DRIP)

    async def answer(self) -> bytes:
        return bytes(await self.stream.receive_some(65536))

    async def goes(self) -> None:
        """FIN."""
        await trio.aclose_forcefully(self.stream)

    async def resets(self) -> None:
        self.raw.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(self.stream)


Attack = Callable[[Peer], Awaitable[None]]


class Kind(NamedTuple):
    what: str
    attack: Attack
    # Whether it is about TCP, before any TLS is spoken.
    is_raw: bool = False


KINDS: dict[str, Kind] = {}


def kind(name: str, what: str, *, is_raw: bool = False) -> Callable[[Attack], Attack]:
    def add(attack: Attack) -> Attack:
        KINDS[name] = Kind(what, attack, is_raw)
        return attack

    return add


# --- before a request -----------------------------------------------------------------------------


@kind("nothing", "nothing")
async def nothing(peer: Peer) -> None:
    pass


@kind("raw", "TCP alone, where TLS is spoken", is_raw=True)
async def raw(peer: Peer) -> None:
    pass


@kind("half-tls", "half a TLS handshake", is_raw=True)
async def half_tls(peer: Peer) -> None:
    await peer.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32))


@kind("slow-head", "half a head, dripping")
async def slow_head(peer: Peer) -> None:
    await peer.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Drip: ")
    await peer.drip(b"a")


@kind("big-head", "16 KiB of head, unfinished")
async def big_head(peer: Peer) -> None:
    await peer.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 16_200)


@kind("line-ends", "line ends, dripping")
async def line_ends(peer: Peer) -> None:
    await peer.drip(b"\r\n")


# --- a request, but not all of it -----------------------------------------------------------------


@kind("slow-body", "a body that drips")
async def slow_body(peer: Peer) -> None:
    await peer.send(POST + b"Content-Length: 10000\r\n\r\n")
    await peer.drip(b"a")


@kind("continue", "`Expect: 100-continue`, and then nothing")
async def expect(peer: Peer) -> None:
    await peer.send(POST + b"Content-Length: 10000\r\nExpect: 100-continue\r\n\r\n")


@kind("big-body", "a body of 64 KiB, less one byte")
async def big_body(peer: Peer) -> None:
    await peer.send(POST + b"Content-Length: 65536\r\n\r\n" + b"a&" * 32767 + b"a")


@kind("endless-chunks", "chunks without end, dripping")
async def endless_chunks(peer: Peer) -> None:
    await peer.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    await peer.drip(b"4\r\na=1&\r\n")


@kind("unread-body", "a dripping body that nobody asked for (405)")
async def unread_body(peer: Peer) -> None:
    await peer.send(b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    await peer.drip(b"a" * 1000)


# --- answered, and kept ---------------------------------------------------------------------------


@kind("kept", "one request, then nothing")
async def kept(peer: Peer) -> None:
    await peer.send(GET)
    await peer.answer()


@kind("keep-alive", "a request each 2 s")
async def keep_alive(peer: Peer) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while True:
            await peer.send(GET)
            if not await peer.answer():
                return
            await trio.sleep(2.0)


@kind("not-read", "a request each 20 ms, no answer read")
async def not_read(peer: Peer) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        for _ in range(2000):
            await peer.send(GET.replace(b"/healthz", b"/no/such/page"))
            await trio.sleep(0.02)


@kind("refused-websocket", "a websocket that is refused, kept")
async def refused_websocket(peer: Peer) -> None:
    await peer.send(UPGRADE + b"Sec-WebSocket-Version: 13\r\n\r\n")


@kind("bad-websocket", "a websocket of no known version, kept")
async def bad_websocket(peer: Peer) -> None:
    await peer.send(UPGRADE + b"Sec-WebSocket-Version: 12\r\n\r\n")


@kind("half-websocket", "half a websocket's handshake")
async def half_websocket(peer: Peer) -> None:
    await peer.send(UPGRADE)


@kind("early-frames", "frames behind a websocket's handshake")
async def early_frames(peer: Peer) -> None:
    await peer.send(UPGRADE + b"Sec-WebSocket-Version: 13\r\n\r\n" + FRAME * 20)


@kind("upgrade", "an upgrade to nothing known, then gone")
async def upgrade(peer: Peer) -> None:
    await peer.send(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: foo\r\n\r\n")
    await peer.goes()


@kind("connect", "CONNECT, then gone")
async def connect(peer: Peer) -> None:
    await peer.send(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
    await peer.goes()


# --- pipelined ------------------------------------------------------------------------------------


@kind("pipelined-2-reset", "2 requests in one packet, and a reset")
async def pipelined_2(peer: Peer) -> None:
    await peer.send(GET * 2)
    await peer.resets()


@kind("pipelined-20-gone", "20 requests in one packet, and gone")
async def pipelined_20(peer: Peer) -> None:
    await peer.send(GET * 20)
    await peer.goes()


@kind("pipelined-20-half", "20 requests in one packet, half-closed")
async def pipelined_half(peer: Peer) -> None:
    await peer.send(GET * 20)
    await peer.raw.send_eof()


@kind("pipelined-2000", "2,000 requests at once, no answer read")
async def pipelined_2000(peer: Peer) -> None:
    with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(FOR):
        await peer.send(GET * 2000)


@kind("pipelined-body", "20 requests behind one with a body, and gone")
async def pipelined_body(peer: Peer) -> None:
    await peer.send(POST + b"Content-Length: 3\r\n\r\na=1" + GET * 20)
    await peer.goes()


# --- HTTP/2 ---------------------------------------------------------------------------------------


@kind("h2", "HTTP/2: preface, no stream")
async def h2(peer: Peer) -> None:
    await peer.send(PREFACE + SETTINGS)


@kind("h2-shut-window", "HTTP/2: a request, the window shut, and gone (63 bytes)")
async def h2_shut_window(peer: Peer) -> None:
    await peer.send(PREFACE + SHUT_WINDOW + _frame(1, 5, 1, FIELDS))
    await trio.sleep(0.2)
    await peer.goes()


@kind("h2-100-streams", "HTTP/2: 100 streams without a body")
async def h2_100_streams(peer: Peer) -> None:
    streams = b"".join(_frame(1, 4, 2 * n + 1, POST_FIELDS) for n in range(100))
    await peer.send(PREFACE + SETTINGS + streams)


@kind("h2c", "`Upgrade: h2c`")
async def h2c(peer: Peer) -> None:
    await peer.send(
        GET[:-2] + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )


# --- read slowly ----------------------------------------------------------------------------------


@kind("slow-reader", "one request, its answer read a byte a second")
async def slow_reader(peer: Peer) -> None:
    await peer.send(GET.replace(b"/healthz", b"/no/such/page"))
    await peer.sip()


# --- with the admin token -------------------------------------------------------------------------

AUTHORIZED = b"Host: x\r\nAuthorization: Bearer " + ADMIN_TOKEN.encode() + b"\r\n"
# All that has a body worth reading slowly.
PAGES = (b"/", b"/web/page.js", b"/web/page.css", b"/state", b"/calls", b"/events", b"/readyz")
JSON_POST = b"POST /calls HTTP/1.1\r\n" + AUTHORIZED + b"Content-Type: application/json\r\n"
BRACKETS = 32_000
_pages = itertools.cycle(PAGES)


@kind("events-gone", "(with the admin token) events followed, then gone")
async def events_gone(peer: Peer) -> None:
    await peer.send(b"GET /events HTTP/1.1\r\n" + AUTHORIZED + b"\r\n")
    await trio.sleep(0.5)
    await peer.goes()


@kind("slow-pages", "(with the admin token) all pages and lists, read a byte a second")
async def slow_pages(peer: Peer) -> None:
    peer.raw.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 2048)
    await peer.send(b"GET " + next(_pages) + b" HTTP/1.1\r\n" + AUTHORIZED + b"\r\n")
    await peer.sip()


@kind("slow-json", "(with the admin token) a call asked for by a body that drips")
async def slow_json(peer: Peer) -> None:
    await peer.send(JSON_POST + b'Content-Length: 10000\r\n\r\n{"to": "')
    await peer.drip(b"5")


@kind("deep-json", "(with the admin token) a call asked for by 32,000 brackets, and gone")
async def deep_json(peer: Peer) -> None:
    body = b'{"to": ' + b"[" * BRACKETS + b"]" * (BRACKETS - 8) + b"}"
    await peer.send(JSON_POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    await peer.answer()
    await peer.goes()


async def open_peer(port: int, attack: Kind, tls: "object | None") -> Peer:
    """A connection for this kind of attack; `tls` is the client's `ssl.SSLContext`, if any."""
    tcp = await trio.open_tcp_stream("127.0.0.1", port)
    if tls is None or attack.is_raw:
        return Peer(tcp, tcp)
    stream = trio.SSLStream(tcp, tls, server_hostname="localhost", https_compatible=True)  # type: ignore[arg-type]
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(tcp)
        raise
    return Peer(stream, tcp)
