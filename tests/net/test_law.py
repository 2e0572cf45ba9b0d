"""Whatever a peer does, and whatever its handler waits for, a connection is over within its time.

The connection is Hypercorn's in our hands, on one end of a socket pair, plain or with TLS; the
clock is virtual. What is there before is there afterwards, of tasks and of descriptors.
"""

import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import structlog
import trio
import trio.testing
import trustme
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import RawData
from hypercorn.logging import Logger
from hypercorn.trio.tcp_server import MAX_RECV
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from sts_trio.net import hypercorn_guard
from sts_trio.net.hypercorn_guard import Connection, unread
from sts_trio.net.hypercorn_guard.http import MAX_AGE
from sts_trio.net.hypercorn_guard.law import (
    ANSWER_TIME,
    BODY_TIME,
    CALL_GRACE,
    CUT_OFF_GRACE,
    HEAD_TIME,
    PIECE,
    WRITE_TIME,
)
from sts_trio.net.hypercorn_guard.strangers import Strangers
from sts_trio.observe import events

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FRAME = b"\x81\x82\x00\x00\x00\x00hi"
MANY = 50 * PIECE
LONG = 3600.0

Handler = Callable[[Any, Any, Any], Awaitable[None]]


class Peer:
    """The far end, and what there is to know of ours."""

    def __init__(
        self, stream: trio.abc.Stream, raw: trio.SocketStream, context: WorkerContext
    ) -> None:
        self.stream = stream
        self.raw = raw
        self.context = context
        self.over = trio.Event()

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def drip(self, data: bytes, every: float = 0.5) -> None:
        """Until the other end has had enough of it."""
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await self.send(data)
                await trio.sleep(every)

    async def answer(self, *, of: bytes = b"hello") -> bytes:
        """One whole answer, by the end of its body."""
        received = b""
        while not received.endswith(b"\r\n\r\n" + of):
            data = bytes(await self.stream.receive_some())
            assert data, f"only {received!r}"
            received += data
        return received

    async def rest(self) -> bytes:
        """All that comes until the end; a reset is an end, too."""
        received = b""
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in self.stream:
                received += data
        return received

    async def leave(self, how: str = "FIN") -> None:
        if how == "RST":
            hypercorn_guard.reset_on_close(self.raw.socket)
        await trio.aclose_forcefully(self.stream)

    async def until_over(self, seconds: float) -> None:
        """Our end is over in so many seconds, and no earlier."""
        began = trio.current_time()
        await self.over.wait()
        assert trio.current_time() - began == pytest.approx(seconds, abs=0.5)


class Tls:
    def __init__(self) -> None:
        authority = trustme.CA()
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("x").configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


TLS = Tls()


@pytest.fixture(params=["plain", "TLS"])
def tls(request: pytest.FixtureRequest) -> Tls | None:
    return TLS if request.param == "TLS" else None


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0


@contextlib.asynccontextmanager
async def served(
    handler: Handler, tls: Tls | None = None, *, shakes_hands: bool = True, **settings: Any
) -> AsyncIterator[Peer]:
    """One connection, whose requests the handler answers. It may not outlive its peer by more than
    a call's grace, and nothing may be left of it."""
    tasks, files = trio.lowlevel.current_statistics().tasks_living, descriptors()
    config = Config.from_mapping({"errorlog": None, **settings})
    hypercorn_guard.install()
    ours, theirs = (
        trio.SocketStream(trio.socket.from_stdlib_socket(s)) for s in socket.socketpair()
    )
    stream: Any = ours
    far: Any = theirs
    if tls is not None:
        stream = trio.SSLStream(ours, tls.server, server_side=True, https_compatible=True)
        far = trio.SSLStream(theirs, tls.client, server_hostname="x", https_compatible=True)
    context = WorkerContext(None)
    peer = Peer(far, theirs, context)

    async def serve() -> None:
        """As `trio.serve_listeners` does."""
        try:
            await Connection(ASGIWrapper(handler), config, context, ConnectionState({}), stream)
        finally:
            await trio.aclose_forcefully(stream)
            peer.over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        if tls is not None and shakes_hands:
            await far.do_handshake()
        yield peer
        await trio.aclose_forcefully(far)
        with trio.fail_after(CALL_GRACE + 0.1):
            await peer.over.wait()
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert descriptors() == files


@pytest.fixture
def log() -> Any:
    with structlog.testing.capture_logs() as lines:
        yield lines


async def answers(send: Any, body: bytes = b"hello") -> None:
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})


async def hello(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["more_body"]:
        pass
    await answers(send)


async def like_quart(scope: Any, receive: Any, send: Any) -> None:
    """Listens while it answers, and is cancelled when it hears that the client is gone."""
    async with trio.open_nursery() as nursery:

        async def leave_with_the_client() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

        nursery.start_soon(leave_with_the_client)
        await answers(send)
        nursery.cancel_scope.cancel()


async def forgets(scope: Any, receive: Any, send: Any) -> None:
    await trio.sleep_forever()


async def accepts(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await trio.sleep_forever()


async def accept(peer: Peer, handshake: bytes = UPGRADE) -> None:
    await peer.send(handshake)
    received = b""
    while b"\r\n\r\n" not in received:
        data = await peer.stream.receive_some(1)
        assert data, f"only {received!r}"
        received += data
    assert received.startswith(b"HTTP/1.1 101 ")


# --- each step has its time -----------------------------------------------------------------------


async def test_who_says_nothing(autojump_clock: trio.testing.MockClock, tls: Tls | None) -> None:
    async with served(hello, tls) as peer:
        await peer.until_over(HEAD_TIME)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_who_does_not_shake_hands(
    autojump_clock: trio.testing.MockClock, said: bytes
) -> None:
    async with served(hello, TLS, shakes_hands=False, ssl_handshake_timeout=7.0) as peer:
        await peer.raw.send_all(said)
        await peer.until_over(7.0)


async def test_who_speaks_no_tls_where_it_is_spoken(autojump_clock: trio.testing.MockClock) -> None:
    async with served(hello, TLS, shakes_hands=False) as peer:
        await peer.raw.send_all(GET)
        await peer.until_over(0.0)


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_who_leaves_in_the_handshake_is_not_worth_a_line(
    autojump_clock: trio.testing.MockClock, how: str, log: list[Any]
) -> None:
    async with served(hello, TLS, shakes_hands=False) as peer:
        await peer.leave(how)
        await peer.until_over(0)
    assert log == []


async def test_a_head_that_drips(autojump_clock: trio.testing.MockClock, tls: Tls | None) -> None:
    async with served(hello, tls) as peer, trio.open_nursery() as nursery:
        await peer.send(GET[:-2] + b"X: ")
        nursery.start_soon(peer.drip, b"a")
        await peer.until_over(HEAD_TIME)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("handler", [hello, like_quart])
async def test_who_keeps_an_answered_connection(
    autojump_clock: trio.testing.MockClock, tls: Tls | None, handler: Handler
) -> None:
    async with served(handler, tls, keep_alive_timeout=75) as peer:
        for _ in range(3):
            await peer.send(GET)
            await peer.answer()
            await trio.sleep(70)
        await peer.until_over(5)


async def test_who_begins_another_request_on_it(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    """However long it may be kept, a head that has begun has the time of a head."""
    async with served(hello, tls, keep_alive_timeout=75) as peer, trio.open_nursery() as nursery:
        await peer.send(GET)
        await peer.answer()
        await trio.sleep(30)
        await peer.send(GET[:9])
        nursery.start_soon(peer.drip, b"a")
        await peer.until_over(HEAD_TIME)
        nursery.cancel_scope.cancel()


BODIES = {
    "of a length": b"Content-Length: 100000\r\n\r\n",
    "in chunks": b"Transfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("handler", [hello, forgets])
async def test_a_body_that_drips(
    autojump_clock: trio.testing.MockClock, tls: Tls | None, body: bytes, handler: Handler
) -> None:
    async with served(handler, tls) as peer, trio.open_nursery() as nursery:
        await peer.send(POST + body)
        nursery.start_soon(peer.drip, b"1\r\na\r\n")
        await peer.until_over(BODY_TIME)
        nursery.cancel_scope.cancel()


async def test_a_body_that_the_peer_was_told_to_send(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async with served(hello, tls) as peer:
        await peer.send(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert (await peer.stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await peer.until_over(BODY_TIME)


async def test_a_body_behind_an_answer_that_is_streamed(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    """The answer makes progress, the request makes none."""

    async def streams(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b".", "more_body": True})
            await trio.sleep(1)

    async with served(streams, tls) as peer:
        await peer.send(POST + b"Content-Length: 5\r\n\r\n")
        await peer.until_over(BODY_TIME)


async def test_a_handler_that_forgets_to_answer(
    autojump_clock: trio.testing.MockClock, tls: Tls | None, log: list[Any]
) -> None:
    async with served(forgets, tls) as peer:
        await peer.send(GET)
        await peer.until_over(ANSWER_TIME)
        assert await peer.rest() == b""
    assert [line["event"] for line in log] == [events.RequestNotAnswered.NAME]


async def test_a_websocket_that_is_neither_accepted_nor_refused(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async with served(forgets, tls) as peer:
        await peer.send(UPGRADE)
        await peer.until_over(ANSWER_TIME)


async def test_an_answer_that_is_streamed_goes_on_as_long_as_it_makes_progress(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async def streams(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await trio.sleep(ANSWER_TIME - 1)
            await send({"type": "http.response.body", "body": b".", "more_body": True})
        await trio.sleep_forever()

    async with served(streams, tls) as peer, trio.open_nursery() as nursery:
        await peer.send(GET)
        nursery.start_soon(peer.rest)
        await peer.until_over(100 * (ANSWER_TIME - 1) + ANSWER_TIME)


async def test_an_answer_that_is_not_read(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async def much(scope: Any, receive: Any, send: Any) -> None:
        await answers(send, bytes(MANY))

    async with served(much, tls) as peer:
        await peer.send(GET)
        await peer.until_over(WRITE_TIME)


async def test_an_answer_that_is_read_slowly_but_is_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As fast as the kernel needs to see that it is: a sender waits until much of what is queued
    has been taken."""

    async def much(scope: Any, receive: Any, send: Any) -> None:
        await answers(send, bytes(MANY))

    async with served(much) as peer:
        await peer.send(GET)
        received = 0
        while received < MANY:
            data = await peer.stream.receive_some(PIECE)
            assert data, (received, trio.current_time())
            received += len(data)
            await trio.sleep(WRITE_TIME / 10)
        assert trio.current_time() > ANSWER_TIME


async def test_a_call_has_no_limit(autojump_clock: trio.testing.MockClock, tls: Tls | None) -> None:
    """Neither side says a word for an hour. That is for the call to judge."""
    async with served(accepts, tls, websocket_ping_interval=2 * LONG) as peer:
        await accept(peer)
        await trio.sleep(LONG)
        assert not peer.over.is_set()


async def test_a_call_whose_caller_does_not_read(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async def talks(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "bytes": bytes(PIECE)})
            await trio.sleep(0.1)

    async with served(talks, tls) as peer:
        await accept(peer)
        await peer.until_over(WRITE_TIME + CALL_GRACE)


# --- the peer is gone -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize(
    "request_", [GET, POST + b"Content-Length: 5\r\n\r\nhello", UPGRADE], ids=["GET", "POST", "ws"]
)
async def test_while_a_handler_works_that_does_not_listen(
    autojump_clock: trio.testing.MockClock, tls: Tls | None, how: str, request_: bytes
) -> None:
    async with served(forgets, tls) as peer:
        await peer.send(request_)
        await trio.sleep(1)
        await peer.leave(how)
        await peer.until_over(CUT_OFF_GRACE)


async def test_while_a_handler_works_that_listens(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async def listens(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async with served(listens, tls) as peer:
        await peer.send(GET)
        await trio.sleep(1)
        await peer.leave()
        await peer.until_over(0)


async def test_while_what_it_sent_waits_for_a_handler_that_does_not_read(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    """The reader waits for room in the handler's queue, and so does not see the end."""
    async with served(forgets, tls) as peer:
        await peer.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 40)
        await trio.sleep(1)
        await peer.leave()
        await peer.until_over(BODY_TIME - 1)


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_in_the_midst_of_events(
    autojump_clock: trio.testing.MockClock, tls: Tls | None, how: str
) -> None:
    async def events(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
            await trio.sleep(15)

    async with served(events, tls) as peer:
        await peer.send(GET)
        await peer.stream.receive_some()
        await trio.sleep(LONG + 1)
        await peer.leave(how)
        await peer.until_over(CUT_OFF_GRACE)


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_in_the_midst_of_a_call_that_does_not_listen(
    autojump_clock: trio.testing.MockClock, tls: Tls | None, how: str
) -> None:
    async with served(accepts, tls) as peer:
        await accept(peer)
        await peer.leave(how)
        await peer.until_over(CALL_GRACE)


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_in_the_midst_of_a_call_that_reads_nothing(
    autojump_clock: trio.testing.MockClock, tls: Tls | None, how: str
) -> None:
    """The reader waits for room in the handler's queue. The next ping is what finds out."""
    async with served(accepts, tls) as peer:
        await accept(peer)
        await peer.send(FRAME * 40)
        await trio.sleep(1)
        await peer.leave(how)
        await peer.until_over(hypercorn_guard.PING_INTERVAL - 1 + CALL_GRACE)


async def test_a_call_that_is_told_so_is_over_at_once(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    """Not when its next ping is due."""

    async def listens(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with served(listens, tls) as peer:
        await accept(peer)
        await peer.leave()
        await peer.until_over(0)


@pytest.mark.parametrize("header", [b"Upgrade: foo\r\nConnection: Upgrade\r\n", b""])
async def test_behind_a_request_that_might_switch_protocols(
    autojump_clock: trio.testing.MockClock, tls: Tls | None, header: bytes
) -> None:
    """An upgrade, and CONNECT: h11 reads no further, so Hypercorn would not read on either."""
    method = GET if header else b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n"
    async with served(forgets, tls) as peer:
        await peer.send(method[:-2] + header + b"\r\n")
        await trio.sleep(1)
        await peer.leave()
        await peer.until_over(CUT_OFF_GRACE)


async def test_a_handler_has_what_it_shields_done_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    done: list[float] = []

    async def shields(scope: Any, receive: Any, send: Any) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 30):
            await trio.sleep(20)
            done.append(trio.current_time())

    async with served(shields) as peer:
        await peer.send(GET)
        await trio.sleep(1)
        await peer.leave()
        await peer.until_over(19)
    assert done == [20]


@pytest.mark.parametrize("handler", [hello, like_quart, forgets])
@pytest.mark.parametrize("count", [2, 20, 2000])
@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_behind_pipelined_requests(
    autojump_clock: trio.testing.MockClock,
    tls: Tls | None,
    handler: Handler,
    count: int,
    how: str,
) -> None:
    async with served(handler, tls) as peer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send, GET * count)
            await trio.sleep(0.1)
        await peer.leave(how)
        await peer.until_over(CUT_OFF_GRACE if handler is forgets else 0)


async def test_half_closed_behind_pipelined_requests(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with served(hello) as peer:
        await peer.send(GET * 20)
        await peer.raw.send_eof()
        await peer.until_over(0)


# --- one request after the other ------------------------------------------------------------------

PIPELINED = {
    "two": GET * 2,
    "two thousand": GET * 2000,
    "half of one": GET + GET[:5],
    "behind HEAD": GET.replace(b"GET", b"HEAD") + GET,
    "behind a body": POST + b"Content-Length: 3\r\n\r\nabc" + GET,
    "behind chunks": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET,
    "behind an upgrade": GET[:-2] + b"Upgrade: foo\r\nConnection: Upgrade\r\n\r\n" + GET,
    "what is no request": GET + b"\x00\x01",
}


@pytest.mark.parametrize("sent", PIPELINED.values(), ids=PIPELINED.keys())
@pytest.mark.parametrize("handler", [hello, like_quart])
async def test_who_pipelines_gets_one_answer_and_the_end(
    autojump_clock: trio.testing.MockClock, tls: Tls | None, handler: Handler, sent: bytes
) -> None:
    async with served(handler, tls) as peer, trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, sent)
        received = await peer.rest()
        assert received.count(b"HTTP/1.1 200 ") == received.count(b"HTTP/1.1") == 1
        assert b"\r\nconnection: close\r\n" in received.lower()
        await peer.until_over(0)


async def test_who_pipelines_while_its_answer_is_made(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    asked: list[str] = []
    kept: list[int] = []

    async def thinks(scope: Any, receive: Any, send: Any) -> None:
        here: Any = hypercorn_guard.connection.get()
        asked.append(scope["path"])
        await trio.sleep(3)
        kept.append(len(here.protocol.connection.trailing_data[0]))
        await answers(send)

    async with served(thinks, tls) as peer, trio.open_nursery() as nursery:
        await peer.send(GET)
        await trio.sleep(1)
        nursery.start_soon(peer.send, GET * 5000)
        received = await peer.rest()
        assert received.count(b"HTTP/1.1 200 ") == 1
        assert b"\r\nconnection: close\r\n" in received.lower()
    assert asked == ["/"]
    assert kept[0] <= MAX_RECV < len(GET * 5000)


async def in_two_parts(scope: Any, receive: Any, send: Any) -> None:
    """The peer has all of it a second before the handler is done."""
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
    )
    await send({"type": "http.response.body", "body": b"hello", "more_body": True})
    await trio.sleep(1)
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("pieces", [1, 3], ids=["in one piece", "in pieces"])
async def test_a_peer_that_is_quicker_than_the_bookkeeping_is_served(
    autojump_clock: trio.testing.MockClock, tls: Tls | None, pieces: int
) -> None:
    async with served(in_two_parts, tls) as peer:
        for _ in range(5):
            size = -(-len(GET) // pieces)
            for start in range(0, len(GET), size):
                await peer.send(GET[start : start + size])
                await trio.sleep(0.01)
            assert b"connection: close" not in (await peer.answer()).lower()
        await trio.sleep(1)
        assert not peer.over.is_set()


async def test_but_not_one_that_goes_on_and_on(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async with served(in_two_parts, tls) as peer, trio.open_nursery() as nursery:
        await peer.send(GET)
        await peer.answer()
        nursery.start_soon(peer.send, GET * 5000)
        assert await peer.rest() == b""
        await peer.until_over(0)
        assert trio.current_time() == pytest.approx(1, abs=0.1)


async def test_what_comes_in_the_moment_of_being_woken_is_not_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def hello_and_wake(scope: Any, receive: Any, send: Any) -> None:
        here: Any = hypercorn_guard.connection.get()
        receive_some = here.stream.receive_some

        async def receive_and_wake(max_bytes: int) -> bytes:
            data: bytes = await receive_some(max_bytes)
            if data:
                here.wake()
            return data

        here.stream.receive_some = receive_and_wake
        await answers(send)

    async with served(hello_and_wake) as peer:
        for _ in range(3):
            await peer.send(GET)
            await peer.answer()


async def test_who_is_woken_while_it_hands_something_on_goes_on_next(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    """As by a handler that wants what has come, and is to read the socket itself from then on."""
    did: list[object] = []
    handing, gone_on = trio.Event(), trio.Event()

    class TakesTime:
        async def handle(self, event: Any) -> None:
            if isinstance(event, RawData):
                handing.set()
                await trio.sleep(1)
                did.append(event.data)

        async def go_on(self) -> None:
            did.append("goes on")
            gone_on.set()
            await trio.sleep_forever()

    async def takes_over(scope: Any, receive: Any, send: Any) -> None:
        here: Any = hypercorn_guard.connection.get()
        here.protocol = TakesTime()
        await handing.wait()
        here.wake()
        await gone_on.wait()
        here.finish()

    async with served(takes_over, tls) as peer:
        await peer.send(GET)
        await trio.sleep(1)
        await peer.send(b"one")
        await trio.sleep(0.5)
        await peer.send(b"two")
        await peer.until_over(0.5)
    assert did == [b"one", "goes on"]


async def test_an_answer_that_nobody_waits_for_any_more(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async def answers_late(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(1)
        await answers(send)

    async with served(answers_late, tls) as peer:
        await peer.send(GET)
        await trio.sleep(0.1)
        await peer.leave()
        await peer.until_over(0.9)


async def test_who_says_no_more_and_reads_no_more(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async def answers_much(scope: Any, receive: Any, send: Any) -> None:
        await answers(send, bytes(MANY))

    async with served(answers_much, tls) as peer:
        await peer.send(GET)
        await trio.sleep(1)
        await peer.raw.send_eof()
        await peer.until_over(CUT_OFF_GRACE)


async def test_who_has_to_make_room_is_over_at_once(
    autojump_clock: trio.testing.MockClock, tls: Tls | None, log: list[Any]
) -> None:
    """Though its handler works, and does not listen."""
    async with served(forgets, tls) as peer:
        await peer.send(GET)
        await trio.sleep(1)
        Strangers.of_this_run().make_room()
        await peer.until_over(0)
    assert [line["event"] for line in log] == [events.ConnectionsEvicted.NAME]


async def test_an_answer_whose_bookkeeping_gets_stuck(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    class Stuck(Logger):
        async def access(self, *args: Any) -> None:
            await trio.sleep_forever()

    async with served(hello, tls, logger_class=Stuck) as peer:
        await peer.send(GET)
        await peer.answer()
        await peer.until_over(CUT_OFF_GRACE)


async def test_a_hundred_requests_and_no_more(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async with served(hello, tls) as peer:
        count = 0
        received = b""
        while b"connection: close" not in received.lower():
            await peer.send(GET)
            received = await peer.answer()
            count += 1
        assert count == 100
        await peer.until_over(0)


async def test_an_old_connection_ends_with_its_next_answer(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async with served(hello, tls, keep_alive_timeout=MAX_AGE / 2) as peer:
        for wait in (MAX_AGE / 3,) * 3:
            await peer.send(GET)
            assert b"connection: close" not in (await peer.answer()).lower()
            await trio.sleep(wait)
        await trio.sleep(1)
        await peer.send(GET)
        assert b"\r\nconnection: close\r\n" in (await peer.answer()).lower()
        await peer.until_over(0)


# --- what is not spoken ---------------------------------------------------------------------------

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@pytest.fixture(autouse=True)
def no_http_2(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise AssertionError("somebody speaks HTTP/2")

    monkeypatch.setattr("hypercorn.protocol.h2.H2Protocol.__init__", fail)


@pytest.mark.parametrize("pieces", [1, len(PREFACE)])
async def test_http_2_by_its_preface_is_hung_up_on(
    autojump_clock: trio.testing.MockClock, tls: Tls | None, pieces: int, log: list[Any]
) -> None:
    async with served(hello, tls) as peer:
        size = len(PREFACE) // pieces
        for start in range(0, len(PREFACE), size):
            with contextlib.suppress(trio.BrokenResourceError):
                await peer.send(PREFACE[start : start + size])
        assert await peer.rest() == b""
        await peer.until_over(0)
    assert [line["reason"] for line in log] == [unread.HTTP2]


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        (b"http://phone.example.com/twiml?a=b%2Fc", b"phone.example.com", b"/twiml|a=b%2Fc"),
        (b"HTTPS://phone.example.com:8443/twiml", b"phone.example.com:8443", b"/twiml|"),
        (b"http://phone.example.com", b"phone.example.com", b"/|"),
        (b"http://[::1]:5000?x", b"[::1]:5000", b"/|x"),
        # No server's address, but a path.
        (b"/http://phone.example.com/", b"x", b"/http://phone.example.com/|"),
        (b"/", b"x", b"/|"),
    ],
)
async def test_a_target_with_the_host_in_it_is_served_as_one_without(
    autojump_clock: trio.testing.MockClock, target: bytes, host: bytes, path: bytes
) -> None:
    async def tell(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        assert hosts == [host]
        await answers(send, scope["raw_path"] + b"|" + scope["query_string"])

    async with served(tell) as peer:
        head = b"POST " + target + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        for _ in range(2):
            await peer.send(head)
            assert (await peer.answer(of=path)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "just answered"])
async def test_who_only_keeps_a_connection_goes_when_another_process_is_there_to_be_asked(
    autojump_clock: trio.testing.MockClock, tls: Tls | None, is_kept: bool
) -> None:
    async with served(hello, tls) as peer:
        await peer.send(GET)
        await peer.answer()
        if is_kept:
            await trio.sleep(1)
        hypercorn_guard.retire()
        await peer.until_over(0)


async def test_who_has_just_come_is_answered_and_goes_then(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async with served(hello, tls) as peer:
        await peer.send(GET[:-2])
        await trio.sleep(1)
        hypercorn_guard.retire()
        await trio.sleep(1)
        await peer.send(GET[-2:])
        answer = await peer.answer()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer.lower()
        await peer.until_over(0)


async def test_an_upgrade_to_http_2_is_answered_by_http_1(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    headers = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
    async with served(hello, tls) as peer:
        for _ in range(3):
            await peer.send(GET[:-2] + headers + b"\r\n")
            assert (await peer.answer()).startswith(b"HTTP/1.1 200 ")
        await peer.until_over(hypercorn_guard.KEEP_ALIVE)


@pytest.mark.parametrize("version", [b"2.0", b"1.2", b"3.0", b"0.9"])
@pytest.mark.parametrize("request_", [GET, UPGRADE], ids=["GET", "ws"])
async def test_a_version_that_only_looks_like_it_is_refused(
    autojump_clock: trio.testing.MockClock, request_: bytes, version: bytes
) -> None:
    """Of a websocket in such a version Hypercorn would check nothing, and accept it with 200."""
    async with served(accepts) as peer:
        await peer.send(request_.replace(b"HTTP/1.1", b"HTTP/" + version))
        received = await peer.rest()
        assert received.startswith(b"HTTP/1.1 505 ")
        assert received.count(b"HTTP/") == 1
        await peer.until_over(0)


BAD = {
    "garbage": b"\x00\x01\x02\r\n\r\n",
    "TLS where there is none": b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "no path": b"GET ?x HTTP/1.1\r\nHost: x\r\n\r\n",
    "an address that is none": b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    "the same in disguise": b"GET http:%2f%2f[ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a head without end": GET[:-2] + b"X: " + b"a" * 70_000,
    "a version of websockets that is none": UPGRADE.replace(b"13", b"12"),
    "a websocket without a key": UPGRADE.replace(b"Sec-WebSocket-Key", b"X"),
    "a key that is none": UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"AA=="),
    "no letters of a key": UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b""),
    "two keys": UPGRADE[:-2] + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    "two versions of websockets": UPGRADE[:-2] + b"Sec-WebSocket-Version: 8\r\n\r\n",
    "a protocol that is no ASCII": UPGRADE[:-2] + b"Sec-WebSocket-Protocol: \xff\r\n\r\n",
    "an extension that is no ASCII": UPGRADE[:-2] + b"Sec-WebSocket-Extensions: \xff\r\n\r\n",
    "a connection that is no ASCII": UPGRADE[:-2] + b"Connection: \xff\r\n\r\n",
    "a body that a handshake announces": UPGRADE[:-2] + b"Content-Length: 5\r\n\r\n",
    "chunks that a handshake announces": UPGRADE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
    "frames behind the handshake": UPGRADE + FRAME,
    "a body behind the handshake": UPGRADE[:-2] + b"Content-Length: 5\r\n\r\nhello",
    "another request behind the handshake": UPGRADE + GET,
}


@pytest.mark.parametrize("sent", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("is_second", [False, True], ids=["", "behind a good one"])
async def test_what_is_no_request_is_refused_and_closed(
    autojump_clock: trio.testing.MockClock,
    tls: Tls | None,
    sent: bytes,
    is_second: bool,
    log: list[Any],
) -> None:
    async def both(scope: Any, receive: Any, send: Any) -> None:
        await (hello if scope["type"] == "http" else accepts)(scope, receive, send)

    async with served(both, tls) as peer, trio.open_nursery() as nursery:
        if is_second:
            await peer.send(GET)
            await peer.answer()
        nursery.start_soon(peer.drip, sent, LONG)
        received = await peer.rest()
        assert received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
        assert received.count(b"HTTP/1.1") == 1
        await peer.until_over(0)
        nursery.cancel_scope.cancel()
    assert [line["event"] for line in log] == [events.ConnectionNotUnderstood.NAME]


@pytest.mark.parametrize(
    "lines",
    [
        b"Connection: keep-alive\r\n",
        b"Connection:\r\n",
        b"Upgrade: h2c\r\n",
        b"Upgrade: h2c, WebSocket\r\n",
        b"Content-Length: 0\r\n",
        b"Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n",
    ],
)
@pytest.mark.parametrize("is_first", [False, True])
async def test_a_handshake_that_somebody_has_added_a_line_to(
    autojump_clock: trio.testing.MockClock,
    tls: Tls | None,
    lines: bytes,
    is_first: bool,
) -> None:
    """Lines of one name are one list (RFC 9110, section 5.3)."""
    host = b"Host: x\r\n"
    handshake = UPGRADE.replace(host, host + lines) if is_first else UPGRADE[:-2] + lines + b"\r\n"
    async with served(accepts, tls) as peer:
        await accept(peer, handshake)
        await peer.leave()
        await peer.until_over(CALL_GRACE)


async def test_frames_that_come_before_the_handshake_is_answered(
    autojump_clock: trio.testing.MockClock, tls: Tls | None, log: list[Any]
) -> None:
    """In a packet of their own. The handler can accept it no more, and hears why."""
    heard: list[str] = []

    async def thinks(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(1)
        await send({"type": "websocket.accept"})
        heard.extend([(await receive())["type"], (await receive())["type"]])

    async with served(thinks, tls) as peer:
        await peer.send(UPGRADE)
        await trio.sleep(0.5)
        await peer.send(FRAME)
        received = await peer.rest()
        assert received.startswith(b"HTTP/1.1 400 ")
        assert received.count(b"HTTP/1.1") == 1
        await peer.until_over(0.5)
    assert heard == ["websocket.connect", "websocket.disconnect"]
    assert log == []


async def test_a_handshake_that_is_accepted_while_it_is_refused(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    """The refusal is on its way when the handler accepts."""
    write = Connection._write

    async def write_slowly(this: Connection, data: bytes) -> None:
        await trio.sleep(1)
        await write(this, data)

    async def thinks(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(1)
        await send({"type": "websocket.accept"})

    monkeypatch.setattr(Connection, "_write", write_slowly)
    async with served(thinks) as peer:
        await peer.send(UPGRADE)
        await trio.sleep(0.5)
        await peer.send(FRAME)
        received = await peer.rest()
        assert received.startswith(b"HTTP/1.1 400 ")
        assert received.count(b"HTTP/1.1") == 1
    assert log == []


async def test_a_host_that_is_not_served_is_refused_and_closed(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async with served(hello, tls, server_names=["y"]) as peer:
        await peer.send(GET)
        assert (await peer.rest()).startswith(b"HTTP/1.1 404 ")
        await peer.until_over(0)


@pytest.mark.parametrize("target", [b"http://x/", b"http://x", b"*", b"//[/", b"/" + b"a" * 10_000])
async def test_odd_targets_are_the_handlers_business(
    autojump_clock: trio.testing.MockClock, target: bytes
) -> None:
    async with served(hello) as peer:
        await peer.send(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await peer.answer()).startswith(b"HTTP/1.1 200 ")


# --- shutting down --------------------------------------------------------------------------------


async def test_who_has_no_request_under_way_goes_at_once(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async with served(hello, tls, keep_alive_timeout=75) as peer:
        await peer.send(GET)
        await peer.answer()
        await trio.sleep(1)
        await peer.context.terminated.set()
        await peer.until_over(0)


@pytest.mark.parametrize("shakes_hands", [True, False])
async def test_who_has_not_even_begun_does_too(
    autojump_clock: trio.testing.MockClock, shakes_hands: bool
) -> None:
    async with served(hello, TLS, shakes_hands=shakes_hands) as peer:
        await trio.sleep(1)
        await peer.context.terminated.set()
        await peer.until_over(0)


async def test_who_has_one_is_answered_and_goes(
    autojump_clock: trio.testing.MockClock, tls: Tls | None
) -> None:
    async def thinks(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(3)
        await answers(send)

    async with served(thinks, tls) as peer:
        await peer.send(GET)
        await trio.sleep(1)
        await peer.context.terminated.set()
        assert b"\r\nconnection: close\r\n" in (await peer.answer()).lower()
        await peer.until_over(0)
        assert trio.current_time() == 3
