"""The guard, on Hypercorn as it is: real sockets on loopback, the real clock, nothing replaced."""

import functools
import gc
import importlib.metadata
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import hypercorn.trio
import pytest
import structlog
import trio
import trio.testing
import trustme
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from limits import HANG
from trio_websocket import open_websocket_url

from sts_trio.errors import innermost
from sts_trio.net import hypercorn_guard
from sts_trio.net.hypercorn_guard import Connection, connection, tcp, unread
from sts_trio.observe import events

UPGRADE = (
    b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
PING = b"\x89\x00"
CLOSE_1001 = b"\x88\x02" + (1001).to_bytes(2, "big")
CLOSE_1011 = b"\x88\x02" + (1011).to_bytes(2, "big")
PONG_MASKED = b"\x8a\x80\x00\x00\x00\x00"
KILLERS = {
    "a frame in the segment of the upgrade": UPGRADE + b"\r\n\x81\x82\x00\x00\x00\x00hi",
    "a body after the upgrade": UPGRADE + b"Content-Length: 5\r\n\r\nhello",
}
killers = pytest.mark.parametrize("killer", KILLERS.values(), ids=KILLERS.keys())


@pytest.fixture(autouse=True)
def guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed for this test, whatever was installed before it. No test waits out the grace."""
    monkeypatch.setattr(hypercorn.trio.run, "TCPServer", TCPServer)
    monkeypatch.setattr(Config, "create_ssl_context", Config.create_ssl_context)
    monkeypatch.setattr(tcp, "CUT_OFF_GRACE", 60.0)
    hypercorn_guard.install()


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


class App:
    """A handler per path, and what the handlers have to tell."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.news_in, self.news = trio.open_memory_channel[str](100)
        self.go_on = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        here = connection.get()
        if here is not None:
            self.connections.append(here)
        await getattr(self, scope["path"][1:])(here, receive, send)

    async def hello(self, here: Connection, receive: Any, send: Any) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
        )
        await send({"type": "http.response.body", "body": b"hello"})

    async def listening_hello(self, here: Connection, receive: Any, send: Any) -> None:
        """As quart-trio's: it answers until it hears that the client is gone."""
        async with trio.open_nursery() as nursery:

            async def leave_with_the_client() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(leave_with_the_client)
            await self.hello(here, receive, send)
            nursery.cancel_scope.cancel()

    async def echo(self, here: Connection, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        self.news_in.send_nowait("disconnected")

    async def unread(self, here: Connection, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await self.go_on.wait()

    async def flood(self, here: Connection, receive: Any, send: Any) -> None:
        """Send more than any socket buffers, and hear how that goes."""
        await receive()
        await send({"type": "websocket.accept"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, {"type": "websocket.send", "bytes": bytes(32 * 1024 * 1024)})
            assert (await receive())["type"] == "websocket.disconnect"
            self.news_in.send_nowait("disconnected")

    async def until_terminated(self, here: Connection, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        assert not here.terminated.is_set()
        self.news_in.send_nowait("open")
        await here.terminated.wait()
        await send({"type": "websocket.close", "code": 1001})


class Server:
    def __init__(self, app: App, url: str, stop: trio.Event) -> None:
        self.app = app
        self.url = url
        self.ws_url = url.replace("http", "ws", 1)
        self.port = int(url.rsplit(":", 1)[1])
        self.stop = stop

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def upgrade(self, path: bytes, stream: trio.abc.Stream) -> bytes:
        """The websocket handshake by hand, then the first two bytes behind it: a ping, if short."""
        await stream.send_all(UPGRADE.replace(b"/echo", path) + b"\r\n")
        received = bytearray()
        while b"\r\n\r\n" not in received[:-2]:
            received += await stream.receive_some(1)
        assert received.startswith(b"HTTP/1.1 101 ")
        return bytes(received[-2:])


def _config(**settings: Any) -> Config:
    return Config.from_mapping(
        {"bind": "127.0.0.1:0", "errorlog": None, "graceful_timeout": 60.0, **settings}
    )


@asynccontextmanager
async def serving(app: App | None = None, **settings: Any) -> AsyncIterator[Server]:
    """A server that is told to stop at the end of the block, and has to."""
    app, stop = app or App(), trio.Event()
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            serve = functools.partial(
                hypercorn.trio.serve, app, _config(**settings), shutdown_trigger=stop.wait
            )
            (url,) = await nursery.start(serve)
            yield Server(app, url, stop)
            stop.set()


async def get_hello(server: Server) -> bytes:
    async with await server.connect() as stream:
        await stream.send_all(b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return await drain(stream)


async def drain(stream: trio.abc.Stream) -> bytes:
    return b"".join([bytes(data) async for data in stream])


async def read_to_the_end(stream: trio.abc.Stream) -> bytes:
    received = bytearray()
    # A reset is an end, too: it is what a socket sends that is closed with bytes unread.
    with suppress(trio.BrokenResourceError):
        async for data in stream:
            received += data
    return bytes(received)


@killers
async def test_one_packet_kills_a_server_without_the_guard(
    killer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypercorn.trio.run, "TCPServer", TCPServer)
    app = App()
    with trio.fail_after(HANG), pytest.raises(ExceptionGroup) as raised:  # noqa: PT012
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(hypercorn.trio.serve, app, _config())
            async with await Server(app, url, trio.Event()).connect() as stream:
                await stream.send_all(killer)
                await read_to_the_end(stream)
            await trio.sleep_forever()
    assert type(innermost(raised.value)).__name__ == "LocalProtocolError"


@killers
async def test_with_the_guard_it_is_refused_and_nothing_happens_to_anybody_else(
    killer: bytes, log: list[Any]
) -> None:
    async with serving() as server, open_websocket_url(server.ws_url + "/echo") as call:
        await call.send_message("before")
        assert await call.get_message() == "before"
        async with await server.connect() as stream:
            await stream.send_all(killer)
            assert (await read_to_the_end(stream)).startswith(b"HTTP/1.1 400 ")
        assert (await get_hello(server)).endswith(b"\r\n\r\nhello")
        await call.send_message("after")
        assert await call.get_message() == "after"
    [line] = log
    assert (line["log_level"], line["reason"]) == ("warning", unread.EARLY_FRAMES)


async def test_a_crash_ends_its_own_connection_only(log: list[Any]) -> None:
    async def crash() -> None:
        raise ValueError("a bug")

    async with serving() as server, open_websocket_url(server.ws_url + "/echo") as call:
        async with await server.connect() as stream:
            await server.upgrade(b"/echo", stream)
            _, here = server.app.connections
            here._task_group.spawn(crash)
            await read_to_the_end(stream)
        await call.send_message("after")
        assert await call.get_message() == "after"
    (line,) = (line for line in log if line["event"] == events.ConnectionCrashed.NAME)
    assert line["log_level"] == "error"
    assert line["client"].startswith("127.0.0.1:")
    assert repr(line["exc_info"]) == "ValueError('a bug')"
    assert line["exc_info"].__traceback__ is not None


async def test_a_crash_while_the_server_is_cancelled_is_logged_and_the_cancellation_goes_on(
    monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    """Cancelled and an error in one group: neither is lost."""

    async def crash_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("at the worst moment")

    async def serve(this: Connection, beside: trio.Nursery) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash_when_cancelled)
            nursery.start_soon(trio.sleep_forever)

    monkeypatch.setattr(Connection, "_serve", serve)
    went_on = False
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(hypercorn.trio.serve, App(), _config())
            async with await Server(App(), url, trio.Event()).connect():
                await trio.testing.wait_all_tasks_blocked(0.05)
                nursery.cancel_scope.cancel()
            went_on = True
    assert nursery.cancel_scope.cancelled_caught
    assert not went_on
    (line,) = log
    assert (line["event"], repr(line["exc_info"])) == (
        events.ConnectionCrashed.NAME,
        "ValueError('at the worst moment')",
    )


async def test_only_an_error_is_kept_in_not_what_ends_a_program(log: list[Any]) -> None:
    async def quit_program() -> None:
        raise SystemExit(3)

    app = App()
    with trio.fail_after(HANG), pytest.raises(BaseExceptionGroup) as raised:  # noqa: PT012
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(hypercorn.trio.serve, app, _config())
            server = Server(app, url, trio.Event())
            async with await server.connect() as stream:
                await server.upgrade(b"/echo", stream)
                app.connections[0]._task_group.spawn(quit_program)
                await trio.sleep_forever()
    assert isinstance(innermost(raised.value), SystemExit)
    assert not log


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["plain", "TLS"])
def transport(
    request: pytest.FixtureRequest, authority: trustme.CA, tmp_path: Path
) -> tuple[dict[str, Any], Callable[[trio.SocketStream], trio.abc.Stream]]:
    """The server's settings, and what the client makes of its socket."""
    if request.param == "plain":
        return {}, lambda stream: stream
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    for part in leaf.cert_chain_pems:
        part.write_to_path(tmp_path / "cert.pem", append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    settings = {"certfile": str(tmp_path / "cert.pem"), "keyfile": str(tmp_path / "key.pem")}
    return settings, lambda stream: trio.SSLStream(stream, context, server_hostname="127.0.0.1")


Transport = tuple[dict[str, Any], Callable[[trio.SocketStream], trio.abc.Stream]]


async def _block_the_writer(server: Server, stream: trio.abc.Stream) -> Connection:
    """A websocket whose peer reads no further than the handshake."""
    await server.upgrade(b"/flood", stream)
    await trio.testing.wait_all_tasks_blocked(0.1)
    (here,) = server.app.connections
    assert here.send_lock.locked()
    return here


async def test_abort_frees_a_blocked_writer_and_resets_the_peer(transport: Transport) -> None:
    settings, wrap = transport
    async with serving(**settings) as server:
        raw = await server.connect()
        stream = wrap(raw)
        here = await _block_the_writer(server, stream)
        assert (type(here.stream) is trio.SSLStream) == bool(settings)
        here.abort()
        here.abort()
        assert await server.app.news.receive() == "disconnected"
        with pytest.raises(trio.BrokenResourceError) as reset:
            await drain(stream)
        assert isinstance(reset.value.__cause__, ConnectionResetError)
        await trio.aclose_forcefully(stream)


async def test_a_cancelled_server_resets_a_peer_that_does_not_read(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "CUT_OFF_GRACE", 0.2)
    settings, wrap = transport
    app = App()
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(hypercorn.trio.serve, app, _config(**settings))
            server = Server(app, url, trio.Event())
            stream = wrap(await server.connect())
            await _block_the_writer(server, stream)
            nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(stream)


async def test_a_cancelled_handler_has_time_for_its_goodbye() -> None:
    """The socket is cut off after the grace, not at once: a shielded close frame still leaves."""

    async def goodbye(here: Connection, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(1, shield=True):
                await send({"type": "websocket.close", "code": 1001})

    app = App()
    app.goodbye = goodbye  # type: ignore[attr-defined]
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(hypercorn.trio.serve, app, _config())
            server = Server(app, url, trio.Event())
            stream = await server.connect()
            await server.upgrade(b"/goodbye", stream)
            nursery.cancel_scope.cancel()
        received = await read_to_the_end(stream)
        await stream.aclose()
    assert received.endswith(CLOSE_1001)


async def test_a_handler_that_leaves_messages_unread_does_not_leave_its_connection() -> None:
    """Hypercorn queues ten for a handler. Of forty that came at once, this one reads none."""
    async with serving() as server, await server.connect() as stream:
        await server.upgrade(b"/unread", stream)
        await stream.send_all(b"\x81\x82\x00\x00\x00\x00hi" * 40)
        await trio.testing.wait_all_tasks_blocked(0.05)
        server.app.go_on.set()
        assert (await read_to_the_end(stream)).endswith(CLOSE_1011)


@pytest.mark.parametrize("header", [b"", b"Connection: close\r\n"], ids=["idle", "close"])
async def test_an_answered_connection_is_closed_though_its_handler_listens(header: bytes) -> None:
    """At once, or when it has been idle for its time; nobody may hold on to it for nothing."""
    async with serving(keep_alive_timeout=0.1) as server, await server.connect() as stream:
        await stream.send_all(b"GET /listening_hello HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n")
        assert (await drain(stream)).endswith(b"\r\n\r\nhello")


async def test_a_finished_websocket_does_not_wait_for_its_next_ping() -> None:
    """The server is given a minute to stop, and pings once a minute: it stops at once."""
    async with serving(websocket_ping_interval=60) as server:
        async with open_websocket_url(server.ws_url + "/echo") as call:
            await call.send_message("hello")
            assert await call.get_message() == "hello"
        assert await server.app.news.receive() == "disconnected"


async def test_pings_are_sent_unless_the_operator_chose_otherwise() -> None:
    config = _config()
    app = App()
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(hypercorn.trio.serve, app, config)
            server = Server(app, url, trio.Event())
            async with await server.connect() as stream:
                assert await server.upgrade(b"/echo", stream) == PING
            assert config.websocket_ping_interval == 10
            nursery.cancel_scope.cancel()
    async with serving(websocket_ping_interval=7) as server:
        assert (await get_hello(server)).endswith(b"hello")
        assert server.app.connections[0].config.websocket_ping_interval == 7


async def test_every_byte_of_the_peer_counts_as_heard_even_a_pong() -> None:
    async with serving() as server, await server.connect() as stream:
        before = trio.current_time()
        await server.upgrade(b"/echo", stream)
        (here,) = server.app.connections
        heard = here.last_heard
        assert before <= heard <= trio.current_time()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert here.last_heard == heard
        await stream.send_all(PONG_MASKED)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert heard < here.last_heard <= trio.current_time()
        here.abort()


async def test_a_peer_that_hangs_up_is_not_heard_by_that() -> None:
    async with serving() as server:
        async with await server.connect() as stream:
            await server.upgrade(b"/echo", stream)
            (here,) = server.app.connections
            heard = here.last_heard
        assert await server.app.news.receive() == "disconnected"
        assert here.last_heard == heard


async def test_a_handler_notices_the_shutdown_and_says_goodbye() -> None:
    async with serving() as server, await server.connect() as stream:
        await server.upgrade(b"/until_terminated", stream)
        assert await server.app.news.receive() == "open"
        server.stop.set()
        assert (await drain(stream)).endswith(CLOSE_1001)


async def test_the_kernel_is_told_to_give_up_on_dead_peers() -> None:
    async with serving() as server, await server.connect() as stream:
        await server.upgrade(b"/echo", stream)
        (here,) = server.app.connections
        assert type(here.stream) is trio.SocketStream
        assert here.stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert here.stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            user_timeout = here.stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert user_timeout == 20_000
        here.abort()


async def test_an_option_that_this_system_does_not_have_is_done_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = (*tcp.SOCKET_OPTIONS, (socket.SOL_SOCKET, "SO_OF_ANOTHER_SYSTEM", 1))
    monkeypatch.setattr(tcp, "SOCKET_OPTIONS", options)
    async with serving() as server:
        assert (await get_hello(server)).startswith(b"HTTP/1.1 200 ")


async def test_a_peer_that_was_gone_before_it_was_served_is_no_crash(log: list[Any]) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        peer = await trio.open_tcp_stream(*listener.socket.getsockname())
        served = await listener.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, tcp._RESET_ON_CLOSE)
        await peer.aclose()
    config, context = _config(), WorkerContext(None)
    await Connection(ASGIWrapper(App()), config, context, cast(Any, ConnectionState({})), served)
    assert not log


async def test_a_unix_socket_is_served_and_guarded_too(tmp_path: Path) -> None:
    app = App()
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            path = tmp_path / "s"
            await nursery.start(hypercorn.trio.serve, app, _config(bind=f"unix:{path}"))
            async with await trio.open_unix_socket(path) as stream:
                await stream.send_all(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
            nursery.cancel_scope.cancel()
    (here,) = app.connections
    assert type(here.stream) is trio.SocketStream


@pytest.mark.parametrize("is_websocket", [False, True])
async def test_a_connection_leaves_nothing_for_the_collector(is_websocket: bool) -> None:
    class Forgetful(App):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await super().__call__(scope, receive, send)
            if scope["type"] != "lifespan":
                here.append(weakref.ref(self.connections.pop()))

    here: list[weakref.ref[Connection]] = []
    gc.collect()
    gc.disable()
    try:
        async with serving(app=Forgetful()) as server:
            for _ in range(3):
                async with await server.connect() as stream:
                    if is_websocket:
                        await server.upgrade(b"/echo", stream)
                    else:
                        await stream.send_all(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
                        await stream.receive_some()
            while len(here) < 3 or any(each() is not None for each in here):  # noqa: ASYNC110
                await trio.sleep(0.01)
    finally:
        gc.enable()


async def test_each_connection_is_known_to_its_own_handlers_only() -> None:
    assert connection.get() is None
    async with serving() as server:
        await get_hello(server)
        await get_hello(server)
        first, second = server.app.connections
        assert first is not second
    assert connection.get() is None


def test_installing_twice_guards_once() -> None:
    create = Config.create_ssl_context
    hypercorn_guard.install()
    assert hypercorn.trio.run.TCPServer is Connection  # type: ignore[attr-defined]
    assert Config.create_ssl_context is create


def test_plain_hypercorn_keeps_connections_for_longer_than_proxies_unless_told_otherwise() -> None:
    hypercorn_guard.install()
    assert Config().keep_alive_timeout == hypercorn_guard.KEEP_ALIVE > 120
    assert Config.from_mapping(keep_alive_timeout=7).keep_alive_timeout == 7


def test_an_unknown_hypercorn_is_left_alone_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    monkeypatch.setattr(hypercorn.trio.run, "TCPServer", TCPServer)
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "0.19.0")
    hypercorn_guard.install()
    assert hypercorn.trio.run.TCPServer is TCPServer  # type: ignore[attr-defined]
    (line,) = log
    assert (line["event"], line["log_level"]) == (events.GuardNotInstalled.NAME, "warning")
    assert line["hypercorn"] == "0.19.0"
    assert "may end the server" in line["unprotected"]


def test_a_socket_that_cannot_be_told_to_reset_is_closed_all_the_same() -> None:
    with socket.socket() as gone:
        gone.close()
        hypercorn_guard.reset_on_close(gone)
