"""What a watcher is told of the process."""

from pathlib import Path
from typing import Any

from rig_app import client_of, make_app

from sts_trio.observe.kept import KeptEvents


async def test_health_tells_the_live_calls(tmp_path: Path) -> None:
    client = client_of(make_app(tmp_path))
    for path in ("/healthz", "/readyz"):
        response = await client.get(path)
        assert response.status_code == 200
        assert (await response.get_json())["live"] == 0


async def test_health_tells_the_beats_that_came_late_of_either_kind_of_leg(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    client = client_of(app)
    app.server.ticker.stats.late, app.server.ticker.stats.worst = 2, 0.0314159
    app.server.portable_ticker.stats.late = 1
    health = await (await client.get("/healthz")).get_json()
    assert (health["late_ticks"], health["latest_tick"]) == (3, 0.031)


async def test_a_balancer_is_told_whether_new_calls_may_come(tmp_path: Path) -> None:
    """404, and no more: a process that is full, or drains, is not to be taken for dead."""
    app = make_app(tmp_path, STS_MAX_CALLS="1")
    client = client_of(app)
    assert (await client.get("/lbz")).status_code == 200
    live_calls = app.live_calls
    bridge: Any = object()
    live_calls._calls[bridge] = KeptEvents(live_calls.event_feed)
    full = await client.get("/lbz")
    assert (full.status_code, await full.get_data(as_text=True)) == (404, "full\n")
    del live_calls._calls[bridge]
    assert (await client.get("/lbz")).status_code == 200
    live_calls.drain()
    draining = await client.get("/lbz")
    assert (draining.status_code, await draining.get_data(as_text=True)) == (404, "draining\n")
    # Another process has the address: whoever comes by a connection from before is let on.
    live_calls.drain(lambda call_sid, ending: None)
    assert (await client.get("/lbz")).status_code == 200
