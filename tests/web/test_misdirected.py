"""Requests that no view gets: served where it is plain what is meant, else told with the cause."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hypercorn.trio
import pytest
import structlog
import trio
from hypercorn.config import Config
from hypercorn.middleware import ProxyFixMiddleware
from limits import HANG
from rig_app import body_of, client_of, make_app, post
from rig_server import answer_in

from sts_trio.observe import events
from sts_trio.web.access import RequestInfo
from sts_trio.web.misdirected import (
    NO_UPGRADE,
    NO_WEBHOOKS_METHOD,
    NOT_OURS,
    STREAM_AT_WEBHOOK,
    WEBHOOK_AT_STREAM,
    likely_cause,
)

CALL = {"CallSid": "CA1", "CallStatus": "ringing"}
SIGNED = {"x-twilio-signature": "bm90IGl0"}
HANDSHAKE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]


def cause(
    path: str,
    *,
    method: str = "POST",
    is_websocket: bool = False,
    headers: Mapping[str, str] | None = None,
    root_path: str = "",
) -> str | None:
    info = RequestInfo(
        client="192.0.2.1",
        scheme="http",
        path=path,
        query="",
        headers=headers or {},
        method=method,
        root_path=root_path,
    )
    return likely_cause(info, path, is_websocket=is_websocket)


@pytest.mark.parametrize("path", ["/twilio", "/twilio/", "/twilio/t0ken"])
def test_a_stream_without_upgrade_is_a_proxys_doing(path: str) -> None:
    assert cause(path, method="GET") == NO_UPGRADE
    assert cause(path, method="POST") == WEBHOOK_AT_STREAM


@pytest.mark.parametrize("path", ["/twiml", "/twiml/", "/twiml/after"])
def test_a_webhook_by_another_method_is_told_as_such(path: str) -> None:
    assert cause(path, method="PUT") == NO_WEBHOOKS_METHOD


@pytest.mark.parametrize("path", ["/twiml", "/twiml/", "/twiml/after"])
def test_a_stream_at_a_webhooks_path_is_a_bins_mistake(path: str) -> None:
    assert cause(path, is_websocket=True) == STREAM_AT_WEBHOOK


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/Twiml", "/twiml"),
        ("/TWILIO/", "/twilio"),
        ("/twillio", "/twilio"),
        ("/twiml/afterwards", "/twiml/after"),
        ("/twml", "/twiml"),
    ],
)
def test_a_slip_of_the_pen_is_told(path: str, meant: str) -> None:
    told = cause(path)
    assert told is not None
    assert told.endswith(f"did you mean {meant}?")


@pytest.mark.parametrize("path", ["/voice/twiml", "/voice/twilio/t0ken", "/voice/twiml/after"])
def test_a_prefix_that_nobody_takes_off_is_told(path: str) -> None:
    told = cause(path, is_websocket="twilio" in path)
    assert told is not None
    assert told.startswith("a path below /voice:")


def test_a_mount_and_a_proxy_that_disagree_are_told() -> None:
    told = cause("/twiml", root_path="/voice")
    assert told is not None
    assert "mounted at /voice" in told


def test_whatever_twilio_asks_for_is_told() -> None:
    assert cause("/incoming-call", headers=SIGNED) == NOT_OURS
    assert cause("/media-stream", headers={"user-agent": "Twilio.TmeWs/1.0"}) == NOT_OURS


@pytest.mark.parametrize("path", ["/", "/wp-login.php", "/.env", "/" + "twiml" * 100, " ", ""])
def test_scanners_are_not_worth_a_line(path: str) -> None:
    assert cause(path, method="GET") is None


# --- by the app -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/twiml/", "//twiml", "/twiml//", "//twiml/"])
async def test_slashes_too_many_change_nothing(tmp_path: Path, path: str) -> None:
    response = await post(make_app(tmp_path), path, CALL)
    assert answer_in(await body_of(response)).path.startswith("/twilio/")


async def test_a_prefix_of_the_public_address_may_be_left_on(tmp_path: Path) -> None:
    app = make_app(tmp_path, STS_PUBLIC_URL="https://bot.example.com/voice")
    for path in ("/twiml", "/voice/twiml", "/voice/twiml/"):
        response = await post(app, path, CALL)
        url = answer_in(await body_of(response)).url
        assert url.startswith("wss://bot.example.com/voice/twilio/")


async def test_what_nobody_answers_is_one_line_with_the_cause(tmp_path: Path) -> None:
    client = client_of(make_app(tmp_path))
    with structlog.testing.capture_logs() as logs:
        refused = await client.get("/twilio")
        missing = await client.post("/twillio")
        method = await client.put("/twiml", headers=SIGNED)
        await client.get("/favicon.ico")
    assert (refused.status_code, refused.headers["upgrade"]) == (426, "websocket")
    assert (missing.status_code, method.status_code) == (404, 405)
    lines = [(line["event"], line["path"], line["reason"]) for line in logs]
    assert lines == [
        (events.RequestMisdirected.NAME, "/twilio", NO_UPGRADE),
        (
            events.RequestMisdirected.NAME,
            "/twillio",
            "there is no such path: did you mean /twilio?",
        ),
        (events.RequestMisdirected.NAME, "/twiml", NO_WEBHOOKS_METHOD),
    ]


@pytest.mark.parametrize("path", ["/twilio", "/twilio/t0ken", "/twilio/at/a", "/twilio/at/a/t0ken"])
async def test_a_webhook_at_a_streams_path_is_asked_by_the_wrong_method(
    tmp_path: Path, path: str
) -> None:
    client = client_of(make_app(tmp_path))
    with structlog.testing.capture_logs() as logs:
        for ask in (client.post, client.put, client.delete):
            response = await ask(path)
            assert (response.status_code, "upgrade" in response.headers) == (405, False)
            assert "GET" in response.headers["allow"]
    assert [line["reason"] for line in logs] == [WEBHOOK_AT_STREAM] * 3


# --- on sockets -----------------------------------------------------------------------------------


async def shake_hands(
    directory: Path, path: str, *headers: str, behind: Any = None
) -> tuple[str, list[Any]]:
    """The status line that a stream's handshake is answered with, and the log."""
    app: Any = make_app(directory, STS_ALLOW_UNSIGNED="1")
    config = Config()
    config.bind = ["127.0.0.1:0"]
    stop = trio.Event()
    serve = functools.partial(
        hypercorn.trio.serve,
        app if behind is None else behind(app),
        config,
        shutdown_trigger=stop.wait,
        mode="asgi",
    )
    with structlog.testing.capture_logs() as logs, trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(serve)
            port = int(url.rpartition(":")[2])
            lines = [f"GET {path} HTTP/1.1", "Host: x", *HANDSHAKE, *headers, "", ""]
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all("\r\n".join(lines).encode())
                received = b""
                while b"\r\n" not in received:
                    received += await stream.receive_some()
            stop.set()
    return received.split(b"\r\n")[0].decode().strip(), logs


@pytest.mark.parametrize("path", ["/twilio", "/twilio/", "//twilio"])
async def test_a_stream_with_slashes_too_many_is_let_in(tmp_path: Path, path: str) -> None:
    status, _ = await shake_hands(tmp_path, path)
    assert status == "HTTP/1.1 101"


@pytest.mark.parametrize("mode", ["legacy", "modern"])
@pytest.mark.parametrize("scheme", ["https", "http", "wss", "HTTPS"])
async def test_hypercorns_own_middleware_for_proxies_may_stand_before_it(
    tmp_path: Path, mode: Any, scheme: str
) -> None:
    told = (
        f"Forwarded: for=192.0.2.1;proto={scheme};host=bot.example.com"
        if mode == "modern"
        else f"X-Forwarded-Proto: {scheme}"
    )
    status, _ = await shake_hands(
        tmp_path, "/twilio", told, behind=functools.partial(ProxyFixMiddleware, mode=mode)
    )
    assert status == "HTTP/1.1 101"


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/twiml", "HTTP/1.1 400", STREAM_AT_WEBHOOK),
        ("/media", "HTTP/1.1 404", NOT_OURS),
    ],
)
async def test_a_stream_to_nowhere_is_told(
    tmp_path: Path, path: str, status: str, reason: str
) -> None:
    got, logs = await shake_hands(tmp_path, path, "User-Agent: Twilio.TmeWs/1.0")
    assert got == status
    assert [line["reason"] for line in logs if line["event"] == events.RequestMisdirected.NAME] == [
        reason
    ]
