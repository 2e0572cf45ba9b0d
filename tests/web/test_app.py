"""What holds for all routes."""

import itertools
from pathlib import Path

import pytest
import trio
import trio.testing
from rig_app import client_of, make_app, post
from werkzeug.exceptions import NotFound
from werkzeug.routing import MapAdapter, WebsocketMismatch

from sts_trio.web.app import BODY_TIMEOUT
from sts_trio.web.media import Media


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


async def test_streams_go_past_quarts_routing_where_it_would_lead_to_them(tmp_path: Path) -> None:
    routes = make_app(tmp_path).url_map.bind("localhost")
    pieces = ("", "/", "/twilio", "/at", "/a", "/b", "/c", "/a.b-c_d", "/é", "/twiml", "\n")
    for some in itertools.product(pieces, repeat=4):
        path = "".join(some)
        # What has two slashes in a row, or one at its end, is not asked about.
        if path.startswith("/") and "//" not in path and not path[1:].endswith("/"):
            assert Media.is_at(path) == _leads_to_a_stream(routes, path), path


def _leads_to_a_stream(routes: MapAdapter, path: str) -> bool:
    try:
        endpoint, _ = routes.match(path, method="GET", websocket=True)
    except (NotFound, WebsocketMismatch):
        return False
    return endpoint in Media.paths
