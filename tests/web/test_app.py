"""What holds for all routes."""

from pathlib import Path

import pytest
import trio
import trio.testing
from rig_app import client_of, make_app, post

from sts_trio.web.app import BODY_TIMEOUT


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
