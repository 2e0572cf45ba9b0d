"""What never becomes a request is told once in a while, with its likely cause."""

import contextlib
import functools
import socket
import ssl
from pathlib import Path
from typing import Any

import hypercorn.trio
import pytest
import structlog
import trio
import trio.testing
import trustme
from hypercorn.config import Config
from limits import HANG

from sts_trio.net import hypercorn_guard
from sts_trio.net.hypercorn_guard import unread
from sts_trio.net.hypercorn_guard.unread import Unread
from sts_trio.observe import events

UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TLS_HELLO = bytes.fromhex("1603010005010000010303")


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "lifespan", "nothing of this reaches the app"
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def told(what: bytes, port_has_tls: Path | None = None, times: int = 1) -> list[Any]:
    """The lines after it was sent, to a server of its own."""
    hypercorn_guard.install()
    config = Config()
    config.bind = ["127.0.0.1:0"]
    if port_has_tls is not None:
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
            str(port_has_tls)
        )
        config.certfile = config.keyfile = str(port_has_tls)
    stop = trio.Event()
    with structlog.testing.capture_logs() as logs, trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            serve = functools.partial(hypercorn.trio.serve, app, config, shutdown_trigger=stop.wait)
            (url,) = await nursery.start(serve)
            port = int(url.rpartition(":")[2])
            for _ in range(times):
                await send(port, what)
            stop.set()
    return [line for line in logs if line["event"] == events.ConnectionNotUnderstood.NAME]


async def send(port: int, what: bytes) -> None:
    if not what:
        # Trio's own client sends no alert.
        await trio.to_thread.run_sync(distrust, port)
        return
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(what)
        with contextlib.suppress(trio.BrokenResourceError):
            async for _ in stream:
                pass


def distrust(port: int) -> None:
    with (
        socket.create_connection(("127.0.0.1", port)) as tcp,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(tcp, server_hostname="localhost")


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (UPGRADE + KEY + VERSION + b"\r\n\x81\x82\x00\x00\x00\x00hi", unread.EARLY_FRAMES),
        (UPGRADE + KEY + VERSION + b"Content-Length: 5\r\n\r\nhello", unread.EARLY_FRAMES),
        (UPGRADE + KEY + b"\r\n", unread.NO_HANDSHAKE),
        (UPGRADE + VERSION + b"\r\n", unread.NO_HANDSHAKE),
        (UPGRADE.replace(b"/1.1", b"/1.0") + KEY + VERSION + b"\r\n", unread.NO_HANDSHAKE),
        (PREFACE, unread.HTTP2),
        (TLS_HELLO, unread.TLS),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n", unread.PROXY_PROTOCOL),
        (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", unread.PROXY_PROTOCOL),
        (b"hello\r\n\r\n", unread.NOT_HTTP),
    ],
)
async def test_the_likely_cause_is_told(what: bytes, reason: str) -> None:
    [line] = await told(what)
    assert line["reason"] == reason
    assert line["log_level"] == "warning"
    assert line["client"].startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("what", "reason"), [(b"GET / HTTP/1.1\r\n\r\n", unread.NO_TLS), (b"", unread.DISTRUST)]
)
async def test_so_is_that_of_a_tls_handshake_that_fails(
    tmp_path: Path, what: bytes, reason: str
) -> None:
    [line] = await told(what, tmp_path / "server.pem")
    assert line["reason"] == reason


async def test_who_sends_the_same_again_and_again_is_one_line() -> None:
    assert len(await told(b"hello\r\n\r\n", times=20)) == 1


async def test_each_kind_has_a_line_a_minute_with_how_many_more_there_were(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here = Unread()
    with structlog.testing.capture_logs() as logs:
        for second in range(130):
            here.tell("192.0.2.1:5", unread.TLS)
            if second == 70:
                here.tell("192.0.2.1:6", unread.HTTP2)
            await trio.sleep(1)
    lines = [(line["reason"], line.get("more")) for line in logs]
    assert lines == [
        (unread.TLS, None),
        (unread.TLS, 59),
        (unread.HTTP2, None),
        (unread.TLS, 59),
    ]


async def test_there_is_an_end_to_kinds() -> None:
    here = Unread()
    with structlog.testing.capture_logs() as logs:
        for number in range(2 * unread.MAX_KINDS):
            here.tell("192.0.2.1:5", f"TLS handshake failed: {number}")
    assert len(logs) == unread.MAX_KINDS


@pytest.mark.parametrize(
    ("reason", "is_told"),
    [
        ("", False),
        ("UNEXPECTED_EOF_WHILE_READING", False),
        ("NO_SHARED_CIPHER", True),
        ("TLSV1_ALERT_UNKNOWN_CA", True),
    ],
)
def test_a_peer_that_only_went_is_no_failed_handshake(reason: str, is_told: bool) -> None:
    assert (unread.no_tls(reason) is not None) is is_told
