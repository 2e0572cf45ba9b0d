"""What holds for all routes."""

import itertools
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
import structlog
import trio
import trio.testing
from limits import HANG
from rig_app import client_of, make_app, post
from werkzeug.exceptions import NotFound
from werkzeug.routing import MapAdapter, WebsocketMismatch

from sts_trio.observe import events
from sts_trio.web.app import BODY_TIMEOUT
from sts_trio.web.authentication import Authenticator
from sts_trio.web.media import Media
from sts_trio.web.serve import serve

WEBSOCKET = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


async def test_any_other_path_is_not_found(tmp_path: Path) -> None:
    client = client_of(make_app(tmp_path))
    for path in ("/nothing", "/static/x", "/twiml/x"):
        assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    "host", ["x" * 64, "a..b", ".a", "a b", "%", "a:b", "localhost:99999", "\xe4" * 64]
)
async def test_what_is_no_host_is_no_crash(tmp_path: Path, host: str) -> None:
    client = client_of(make_app(tmp_path))
    for path, status in (("/healthz", 200), ("/twiml", 403), ("/nothing", 404)):
        assert (await client.get(path, headers={"Host": host})).status_code == status


async def test_a_body_too_big_for_a_webhook_is_refused(tmp_path: Path) -> None:
    response = await post(make_app(tmp_path), "/twiml", {"CallSid": "x" * 70_000})
    assert response.status_code == 413


@pytest.mark.parametrize("path", ["/twiml", "/twiml/status"])
async def test_a_body_that_does_not_come_is_not_waited_for(
    path: str, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Nobody has been asked for a signature yet."""
    headers = {"Content-Length": "10", "Host": "localhost"}
    client = client_of(make_app(tmp_path))
    with trio.fail_after(20):
        async with client.request(path, method="POST", headers=headers) as connection:
            await connection.send(b"C")
            await trio.sleep(BODY_TIMEOUT + 1)
    assert (await connection.as_response()).status_code == 408


class Bug(Exception):
    pass


async def broken(*args: Any) -> NoReturn:
    raise Bug


@pytest.mark.parametrize(
    ("request_line", "path", "headers"),
    [
        ("GET /twilio/TOKEN HTTP/1.1", "/twilio/TOKEN", WEBSOCKET),
        ("POST /twiml?key=SECRET HTTP/1.1", "/twiml", "Content-Length: 0\r\n"),
    ],
)
async def test_a_bug_is_told_with_its_request_and_answered_with_500(
    request_line: str, path: str, headers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says is not told to who asks, nor what the query has to the log."""
    monkeypatch.setattr(Media, "serve", broken)
    monkeypatch.setattr(Authenticator, "webhook", broken)
    app = make_app(tmp_path)
    with trio.fail_after(HANG), structlog.testing.capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            start = partial(serve, app.server.config, app=app, port=0, take_signals=False)
            url = urlsplit(await nursery.start(start))
            async with await trio.open_tcp_stream(url.hostname or "", url.port or 0) as stream:
                await stream.send_all(f"{request_line}\r\nHost: x\r\n{headers}\r\n".encode())
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 500 ")
            nursery.cancel_scope.cancel()
    [line] = [each for each in lines if each["event"] == events.RequestCrashed.NAME]
    assert isinstance(line.pop("exc_info"), Bug)
    assert line == {
        "event": events.RequestCrashed.NAME,
        "log_level": "error",
        "method": request_line.split()[0],
        "path": path,
        "client": "127.0.0.1",
    }


async def test_streams_go_past_quarts_routing_where_it_would_lead_to_them(tmp_path: Path) -> None:
    routes = make_app(tmp_path).url_map.bind("localhost")
    pieces = ("", "/", "/twilio", "/at", "/a", "/b", "/c", "/a.b-c_d", "/é", "/twiml", "\n")
    for some in itertools.product(pieces, repeat=4):
        path = "".join(some)
        # What has two slashes in a row, or one at its end, is not asked about.
        if path.startswith("/") and "//" not in path and not path[1:].endswith("/"):
            assert (Media.place(path) is not None) == _leads_to_a_stream(routes, path), path


def _leads_to_a_stream(routes: MapAdapter, path: str) -> bool:
    try:
        endpoint, _ = routes.match(path, method="GET", websocket=True)
    except (NotFound, WebsocketMismatch):
        return False
    return endpoint in Media.paths
