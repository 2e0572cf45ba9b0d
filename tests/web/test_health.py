"""What a watcher is told of the process."""

from pathlib import Path

from rig_app import client_of, make_app


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
