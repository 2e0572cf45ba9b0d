"""Serving and shutting down, over loopback and with real signals sent to this process."""

import logging
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import hypercorn.trio.run
import pytest
import structlog
import trio
import trustme
from cryptography.hazmat.primitives import serialization
from hypercorn.trio.tcp_server import TCPServer
from limits import HANG

from sts_trio.bridge.live_calls import Remember
from sts_trio.config import Config, load, local_key
from sts_trio.errors import ConfigError
from sts_trio.net import tls_socket
from sts_trio.net.hypercorn_guard import KEEP_ALIVE, Connection
from sts_trio.observe import events
from sts_trio.web import serve as serve_module
from sts_trio.web.app import create_app
from sts_trio.web.serve import serve

CLOSE_1001 = b"\x88\x02" + (1001).to_bytes(2, "big")
FOREVER = "3600"


class Lines:
    """A stand-in for the live_calls."""

    def __init__(self) -> None:
        self.live = 0
        self.is_draining = False
        self.changed = trio.Event()
        self.is_told = trio.Event()
        self.hang_up = trio.Event()

    def drain(self, heir: Remember | None = None) -> None:
        self.is_draining = True

    async def follow(self, predecessor: Callable[[Remember], Awaitable[None]]) -> None:
        """Nobody asks how calls have ended."""

    async def empty(self) -> None:
        while self.live:
            await self.changed.wait()

    def wind_up(self) -> None:
        self.is_told.set()

    def shut_down(self) -> None:
        self.hang_up.set()

    def change(self, by: int) -> None:
        self.live += by
        self.changed.set()
        self.changed = trio.Event()


class App:
    """A stand-in for ours: echoes on websockets, each a call. `/polite` says goodbye when it is
    told that the time is up, `/deaf` ignores the live_calls."""

    def __init__(self) -> None:
        self.live_calls = Lines()

    async def open_records(self) -> None:
        """There are none."""

    async def move_calls(self, within: float) -> None:
        """Nobody would go on with them."""
        await trio.sleep(within)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        elif scope["type"] == "http":
            if scope["path"] == "/crash":
                raise ValueError("as it was told to")
            status = 503 if self.live_calls.is_draining else 200
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"hello"})
        else:
            await receive()
            await send({"type": "websocket.accept"})
            self.live_calls.change(+1)
            try:
                async with trio.open_nursery() as nursery:
                    lines = self.live_calls
                    word = lines.is_told if scope["path"] == "/polite" else lines.hang_up
                    if scope["path"] != "/deaf":
                        nursery.start_soon(self._hang_up, word, send, nursery.cancel_scope)
                    while (message := await receive())["type"] == "websocket.receive":
                        await send({"type": "websocket.send", "text": message["text"]})
                    nursery.cancel_scope.cancel()
            finally:
                self.live_calls.change(-1)

    async def _hang_up(self, word: trio.Event, send: Any, call: trio.CancelScope) -> None:
        await word.wait()
        await send({"type": "websocket.close", "code": 1001})
        call.cancel()


class Server:
    def __init__(self, app: App, url: str, nursery: trio.Nursery) -> None:
        self.app = app
        self.url = url
        self.nursery = nursery
        self.port = int(url.rsplit(":", 1)[1])

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def call(self, path: str = "/") -> trio.SocketStream:
        """A websocket that has been answered and echoed to once."""
        stream = await self.connect()
        await stream.send_all(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        await read_until(stream, b"\r\n\r\n\x89\x00")  # the first ping is there at once
        await echo(stream)
        return stream

    async def get(self, path: str = "/") -> bytes:
        async with await self.connect() as stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            return await read_until(stream, b"\r\n\r\n")


async def read_until(stream: trio.abc.ReceiveStream, end: bytes) -> bytes:
    received = bytearray()
    while not received.endswith(end):
        data = await stream.receive_some(1)
        assert data, f"only {received!r}"
        received += data
    return bytes(received)


async def read_to_the_end(stream: trio.SocketStream) -> bytes:
    async with stream:
        return b"".join([data async for data in stream])


async def echo(stream: trio.SocketStream) -> None:
    await stream.send_all(b"\x81\x82\x00\x00\x00\x00hi")
    await read_until(stream, b"\x81\x02hi")


def tell(signum: signal.Signals) -> None:
    os.kill(os.getpid(), signum)


def configured(directory: Path, drain: str = "0") -> Config:
    return load({"STS_AGENT": "offline", "STS_DRAIN_SECONDS": drain}, directory)


@asynccontextmanager
async def serving(directory: Path, drain: str = FOREVER, **options: Any) -> AsyncIterator[Server]:
    """Serves till it returns: the block has to see to that, or it hangs."""
    app = App()
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            options = {"port": 0, "app": app, **options}
            run = partial(serve, configured(directory, drain), **options)
            yield Server(app, await nursery.start(run), nursery)


@pytest.fixture(autouse=True)
def no_stray_signal() -> Iterator[None]:
    """A signal that nobody takes fails the test, not the whole run."""

    def fail(signum: int, frame: object) -> None:
        raise AssertionError("nobody took the signal")

    before = {each: signal.signal(each, fail) for each in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


async def test_it_serves_on_a_free_port_and_says_where(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert (await server.get()).startswith(b"HTTP/1.1 200 ")
        tell(signal.SIGTERM)


async def test_nobody_is_told_that_it_listens_if_its_database_cannot_be_used(
    tmp_path: Path, log: list[Any]
) -> None:
    (tmp_path / "calls.db").write_text("none of ours")
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    config = load({"STS_AGENT": "offline", "STS_DATABASE_URL": url}, tmp_path)
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            mistake = pytest.RaisesExc(ConfigError, match="file is not a database")
            with pytest.RaisesGroup(mistake, flatten_subgroups=True):
                await nursery.start(partial(serve, config, port=0))
    assert log == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_to_stop_lets_calls_finish_and_the_server_answers_meanwhile(
    tmp_path: Path, log: list[Any], signum: signal.Signals
) -> None:
    async with serving(tmp_path) as server:
        call = await server.call()
        tell(signum)
        while not server.app.live_calls.is_draining:
            await trio.lowlevel.checkpoint()
        assert (await server.get()).startswith(b"HTTP/1.1 503 ")
        await echo(call)
        assert not server.app.live_calls.hang_up.is_set()
        await call.aclose()
    assert log == [
        {
            "event": events.ServerDraining.NAME,
            "log_level": "info",
            "signal": signum.name,
            "live": 1,
            "seconds": 3600.0,
        },
        {"event": events.ServerStopped.NAME, "log_level": "info"},
    ]


async def test_a_terminal_that_is_closed_does_not_end_the_draining_by_its_second_signal(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        call = await server.call()
        for _ in range(3):
            tell(signal.SIGHUP)
            await trio.testing.wait_all_tasks_blocked(0.05)
        await echo(call)
        assert not server.app.live_calls.is_told.is_set()
        tell(signal.SIGTERM)
        await server.app.live_calls.is_told.wait()
        tell(signal.SIGTERM)
        assert await read_to_the_end(call) == CLOSE_1001


async def test_who_is_started_by_nohup_outlives_the_terminal(tmp_path: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    async with serving(tmp_path) as server:
        call = await server.call()
        tell(signal.SIGHUP)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not server.app.live_calls.is_draining
        await call.aclose()
        tell(signal.SIGTERM)


async def test_a_connection_is_kept_for_longer_than_proxies_keep_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[float] = []
    monkeypatch.setattr(Connection, "run", lambda self: note(self.config.keep_alive_timeout))

    async def note(seconds: float) -> None:
        kept.append(seconds)

    given: list[dict[str, Any]] = [{}, {"keep_alive": 620.0}]
    for options in given:
        async with serving(tmp_path, **options) as server:
            await read_to_the_end(await server.connect())
            tell(signal.SIGTERM)
    assert kept == [KEEP_ALIVE, 620.0]
    assert KEEP_ALIVE > 120


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
async def test_who_still_talks_when_the_time_to_drain_is_over_is_told_that_it_is(
    tmp_path: Path, signum: signal.Signals
) -> None:
    async with serving(tmp_path, drain="0.1") as server:
        call = await server.call("/polite")
        before = trio.current_time()
        tell(signum)
        assert await read_to_the_end(call) == CLOSE_1001
        assert 0.1 <= trio.current_time() - before < serve_module.LEAVE_TAKING


async def test_who_still_talks_when_that_should_have_been_said_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_module, "LEAVE_TAKING", 0.1)
    async with serving(tmp_path, drain="0") as server:
        calls = [await server.call(), await server.call()]
        before = trio.current_time()
        tell(signal.SIGTERM)
        for call in calls:
            assert await read_to_the_end(call) == CLOSE_1001
        assert trio.current_time() - before >= 0.1


async def test_a_second_signal_ends_the_draining(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        call = await server.call()
        tell(signal.SIGTERM)
        while not server.app.live_calls.is_draining:
            await trio.lowlevel.checkpoint()
        tell(signal.SIGTERM)
        await server.app.live_calls.is_told.wait()
        tell(signal.SIGTERM)
        assert await read_to_the_end(call) == CLOSE_1001


async def test_ctrl_c_hangs_up_at_once_and_is_no_exception(tmp_path: Path, log: list[Any]) -> None:
    async with serving(tmp_path) as server:
        call = await server.call()
        tell(signal.SIGINT)
        assert await read_to_the_end(call) == CLOSE_1001
        assert not server.app.live_calls.is_told.is_set()
    assert [(line["event"], line.get("seconds")) for line in log] == [
        (events.ServerDraining.NAME, 0.0),
        (events.ServerStopped.NAME, None),
    ]


async def test_ctrl_c_without_calls_just_stops(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        tell(signal.SIGINT)
    with pytest.raises(OSError, match="all attempts to connect"):
        await server.connect()


async def test_a_call_that_does_not_hang_up_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_module, "GOODBYE", 0.05)
    monkeypatch.setattr(serve_module._Settings, "graceful_timeout", 0.05)
    async with serving(tmp_path) as server:
        call = await server.call("/deaf")
        tell(signal.SIGINT)
        assert CLOSE_1001 not in await read_to_the_end(call)


async def test_further_signals_end_every_wait_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_module, "GOODBYE", 3600.0)
    monkeypatch.setattr(serve_module._Settings, "graceful_timeout", 3600.0)
    async with serving(tmp_path) as server:
        call = await server.call("/deaf")
        # The first, and one for each: the draining, the words, the goodbye, Hypercorn.
        for _ in range(5):
            tell(signal.SIGTERM)
            await trio.testing.wait_all_tasks_blocked(0.05)
    await call.aclose()


async def test_it_can_be_started_again_at_once_where_it_was(tmp_path: Path) -> None:
    """The kernel remembers for a minute the connections that this side was the first to close."""
    async with serving(tmp_path) as server:
        call = await server.call()
        tell(signal.SIGINT)
        assert await read_to_the_end(call) == CLOSE_1001
    async with serving(tmp_path, port=server.port) as again:
        assert again.url == server.url
        tell(signal.SIGTERM)


async def test_when_cancelled_nothing_is_left(tmp_path: Path) -> None:
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with serving(tmp_path) as server:
        call = await server.call()
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) != handlers
        server.nursery.cancel_scope.cancel()
    assert server.app.live_calls.live == 0
    assert await read_to_the_end(call) == b""
    with pytest.raises(OSError, match="all attempts to connect"):
        await server.connect()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers


async def test_signals_can_be_left_to_others(tmp_path: Path) -> None:
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with serving(tmp_path, take_signals=False) as server:
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
        server.nursery.cancel_scope.cancel()


async def test_it_serves_in_another_thread_too_where_no_signal_ever_comes(tmp_path: Path) -> None:
    async def elsewhere() -> bytes:
        async with serving(tmp_path) as server:
            answer = await server.get()
            server.nursery.cancel_scope.cancel()
        return answer

    assert (await trio.to_thread.run_sync(trio.run, elsewhere)).startswith(b"HTTP/1.1 200 ")


async def test_connections_are_guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hypercorn_run = cast(Any, hypercorn.trio.run)
    monkeypatch.setattr(hypercorn_run, "TCPServer", TCPServer)
    async with serving(tmp_path) as server:
        assert hypercorn_run.TCPServer is Connection
        server.nursery.cancel_scope.cancel()


async def test_what_hypercorn_has_to_say_goes_to_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("hypercorn.error")
    monkeypatch.setattr(logger, "filters", [])  # our own logging, if set up by another test
    monkeypatch.setattr(logger, "handlers", [])
    with caplog.at_level(logging.INFO, logger="hypercorn.error"):
        async with serving(tmp_path) as server:
            assert (await server.get("/crash")).startswith(b"HTTP/1.1 500 ")
            tell(signal.SIGTERM)
    assert not logger.handlers
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [
        ("INFO", f"Running on {server.url} (CTRL + C to quit)"),
        ("ERROR", "Error in ASGI Framework"),
    ]


@pytest.mark.parametrize(
    ("host", "reached_at"),
    [("::1", "[::1]"), ("::", "[::1]"), ("0.0.0.0", "127.0.0.1"), ("", "127.0.0.1")],
)
async def test_the_url_is_one_that_this_machine_can_reach(
    tmp_path: Path, host: str, reached_at: str
) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    async with serving(tmp_path, host=host) as server:
        assert server.url == f"http://{reached_at}:{server.port}"
        await (await trio.open_tcp_stream(reached_at.strip("[]"), server.port)).aclose()
        server.nursery.cancel_scope.cancel()


async def test_our_own_app_is_served_when_no_other_is_given(tmp_path: Path) -> None:
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(partial(serve, configured(tmp_path), port=0))
            server = Server(App(), url, nursery)
            assert (await server.get("/healthz")).startswith(b"HTTP/1.1 200 ")
            tell(signal.SIGTERM)


async def test_our_own_app_keeps_its_key_in_a_file_as_long_as_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server that was killed may have left the key of that port where all others are.
    monkeypatch.setattr(local_key, "directories", lambda: [tmp_path / "keys"])
    with trio.fail_after(HANG):
        for host in ("127.0.0.1", "0.0.0.0"):
            app = create_app(configured(tmp_path))
            async with trio.open_nursery() as nursery:
                run = partial(serve, app.server.config, host=host, port=0, app=app)
                port = int((await nursery.start(run)).rpartition(":")[2])
                assert local_key.find(("127.0.0.1", port)) == app.server.key
                tell(signal.SIGTERM)
            assert local_key.find(("127.0.0.1", port)) is None


async def test_with_twilios_token_there_is_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_key, "directories", lambda: [tmp_path / "keys"])
    config = load({"STS_AGENT": "offline", "TWILIO_AUTH_TOKEN": "12345"}, tmp_path)
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(partial(serve, config, port=0))
            assert local_key.find(("127.0.0.1", int(url.rpartition(":")[2]))) is None
            nursery.cancel_scope.cancel()


async def test_a_port_in_use_is_the_operators_fault(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError) as error:
            await serve(configured(tmp_path), port=port, app=App())
    assert str(error.value) == (
        f"cannot listen on 127.0.0.1:{port} (Address already in use): give another --host or --port"
    )


@pytest.mark.parametrize("address", [("127.0.0.1", 65536), ("no.such.invalid", 0), ("a" * 99, 0)])
async def test_an_address_that_is_none_is_the_operators_fault(
    tmp_path: Path, address: tuple[str, int]
) -> None:
    host, port = address
    with pytest.raises(ConfigError, match=f"^cannot listen on {host}:{port} ") as error:
        await serve(configured(tmp_path), host=host, port=port, app=App())
    assert "\n" not in str(error.value)


class Tls:
    """Files of a certificate authority's making."""

    def __init__(self, directory: Path) -> None:
        self.authority = trustme.CA()
        self.cert, self.key, self.other_key, self.locked_key, self.text, self.missing = (
            directory / name
            for name in ("cert.pem", "key.pem", "other.pem", "locked.pem", "text.pem", "missing")
        )
        leaf = self.authority.issue_cert("127.0.0.1")
        leaf.cert_chain_pems[0].write_to_path(self.cert)
        leaf.private_key_pem.write_to_path(self.key)
        self.authority.issue_cert("127.0.0.1").private_key_pem.write_to_path(self.other_key)
        self.text.write_text("not a certificate")
        key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), password=None)
        self.locked_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return Tls(tmp_path)


async def test_with_a_certificate_it_serves_https_and_only_http_1(tmp_path: Path, tls: Tls) -> None:
    context = ssl.create_default_context()
    tls.authority.configure_trust(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with serving(tmp_path, certfile=tls.cert, keyfile=str(tls.key)) as server:
        assert server.url == f"https://127.0.0.1:{server.port}"
        stream = trio.SSLStream(
            await server.connect(), context, server_hostname="127.0.0.1", https_compatible=True
        )
        async with stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert stream.selected_alpn_protocol() == "http/1.1"
        tell(signal.SIGTERM)


@pytest.mark.parametrize(("is_known", "told"), [(True, 0), (False, 1)])
async def test_where_tls_cannot_be_taken_over_that_is_told_at_the_start(
    tmp_path: Path, tls: Tls, monkeypatch: pytest.MonkeyPatch, is_known: bool, told: int
) -> None:
    if not is_known:
        monkeypatch.setattr(tls_socket, "tls_state", lambda stream: None)
    with structlog.testing.capture_logs() as lines:
        for cert, key in ((tls.cert, tls.key), (None, None)):
            async with serving(tmp_path, certfile=cert, keyfile=key) as server:
                server.nursery.cancel_scope.cancel()
    assert [each["event"] for each in lines].count(events.FastLaneClosed.NAME) == told


@pytest.mark.parametrize(
    ("cert", "key", "says"),
    [
        ("cert", None, "{cert}: TLS takes a certificate and its key: give both"),
        (None, "key", "{key}: TLS takes a certificate and its key: give both"),
        ("missing", "key", "{missing}: cannot be read (No such file or directory)"),
        ("cert", "missing", "{missing}: cannot be read (No such file or directory)"),
        ("text", "key", "{text}, {key}: expected a certificate and its key without a password"),
        ("cert", "text", "{cert}, {text}: expected a certificate and its key without a password"),
        ("cert", "other_key", "{cert}, {other_key}: expected a certificate and its key"),
        ("cert", "locked_key", "{cert}, {locked_key}: expected a certificate and its key"),
    ],
)
async def test_a_certificate_that_cannot_be_used_is_the_operators_fault(
    tmp_path: Path, tls: Tls, cert: str | None, key: str | None, says: str
) -> None:
    files: Any = {"certfile": cert and getattr(tls, cert), "keyfile": key and getattr(tls, key)}
    with pytest.raises(ConfigError) as error:
        await serve(configured(tmp_path), port=0, app=App(), **files)
    assert str(error.value).startswith(says.format(**vars(tls)))
    assert "\n" not in str(error.value)
