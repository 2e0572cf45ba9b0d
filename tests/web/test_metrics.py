"""`/metrics`, as a scraper asks for it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import prometheus_client
import pytest
import structlog
import trio
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from rig_app import body_of, client_of, key, make_app
from rig_peers import STOP
from rig_server import World, talk, world

from sts_trio.observe import events
from sts_trio.web.app import App

HERE = ("127.0.0.1", 5)
# As Prometheus asks for it.
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"


async def scrape(app: App, **headers: str) -> str:
    response = await client_of(app).get(
        "/metrics", headers=key(app) | headers, scope_base={"client": HERE}
    )
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    return await body_of(response)


def value(text: str, name: str, **labels: str) -> float:
    [found] = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return found


async def test_a_process_tells_how_it_is(tmp_path: Path) -> None:
    app = make_app(tmp_path, STS_MAX_CALLS="7", STS_DIAL_PER_DAY="100", STS_DATABASE_URL="none")
    app.server.ticker.stats.late, app.server.portable_ticker.stats.late = 2, 1
    app.server.refuse()
    text = await scrape(app)
    assert value(text, "sts_calls_live") == 0
    assert value(text, "sts_calls_capacity") == 7
    assert value(text, "sts_draining") == 0
    assert value(text, "sts_beat_late_total") == 3
    assert value(text, "sts_calls_refused_total", reason="full") == 1
    assert value(text, "sts_quota_limit", quota="dials") == 100
    assert value(text, "sts_quota_used", quota="dials") == 0
    app.live_calls.drain()
    app.server.refuse()
    text = await scrape(app)
    assert value(text, "sts_draining") == 1
    assert value(text, "sts_calls_refused_total", reason="draining") == 1


async def test_of_two_apps_each_tells_its_own(tmp_path: Path) -> None:
    one, other = make_app(tmp_path), make_app(tmp_path)
    one.server.refuse()
    assert value(await scrape(other), "sts_calls_refused_total", reason="full") == 0


async def test_both_forms_are_spoken(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    assert (await scrape(app, accept=OPENMETRICS)).endswith("# EOF\n")
    assert "# EOF" not in await scrape(app)


async def test_what_your_functions_count_stands_beside_ours(tmp_path: Path) -> None:
    mine = prometheus_client.Counter("bookings_of_a_test", "Tables that were booked.")
    try:
        mine.inc(3)
        text = await scrape(make_app(tmp_path))
        assert value(text, "bookings_of_a_test_total") == 3
        assert "process_resident_memory_bytes" in text
    finally:
        prometheus_client.REGISTRY.unregister(mine)


async def test_a_collector_of_yours_that_raises_takes_none_of_our_figures_with_it(
    tmp_path: Path,
) -> None:
    class Broken(Collector):
        def describe(self) -> list[Metric]:
            return []

        def collect(self) -> Iterator[Metric]:
            raise ValueError("no table is free")

    app = make_app(tmp_path)
    broken = Broken()
    prometheus_client.REGISTRY.register(broken)
    try:
        with structlog.testing.capture_logs() as lines:
            text = await scrape(app, accept=OPENMETRICS)
    finally:
        prometheus_client.REGISTRY.unregister(broken)
    assert value(text, "sts_calls_live") == 0
    assert text.endswith("# EOF\n")
    [line] = [each for each in lines if each["event"] == events.MetricsIncomplete.NAME]
    assert line["reason"] == "ValueError: no table is free"


async def test_the_admin_token_lets_a_scraper_in_and_nobody_else_sees_a_figure(
    tmp_path: Path,
) -> None:
    app = make_app(
        tmp_path, TWILIO_AUTH_TOKEN="12345", STS_AGENT="offline", STS_ADMIN_TOKEN="x" * 32
    )
    for headers, status in [
        ({"authorization": "Bearer " + "x" * 32}, 200),
        ({"authorization": "Bearer wrong"}, 401),
        ({}, 401),
    ]:
        response = await client_of(app).get(
            "/metrics", headers=headers, scope_base={"client": HERE}
        )
        assert response.status_code == status
        assert ("sts_calls_live" in await body_of(response)) is (status == 200)


async def ask(here: World, request: str) -> trio.SocketStream:
    raw = trio.socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    await raw.connect(here.address)
    stream = trio.SocketStream(raw)
    await stream.send_all(request.encode())
    return stream


async def test_scrapers_that_read_nothing_hold_nobody_up(tmp_path: Path) -> None:
    async with world(tmp_path, STS_ADMIN_TOKEN="x" * 32) as here:
        lines = ["GET /metrics HTTP/1.1", "Host: localhost", f"Authorization: Bearer {'x' * 32}"]
        request = "\r\n".join([*lines, "", ""])
        hanging = [await ask(here, request) for _ in range(20)]
        async with here.phone() as phone:
            await talk(here, phone)
            last = await ask(here, request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))
            text = ""
            while piece := await last.receive_some(65536):
                text += piece.decode()
            await last.aclose()
            assert "\nsts_calls_live 1.0\n" in text.replace("\r\n", "\n")
            assert "sts_agent_dial_seconds_count 1.0" in text
            await phone.tell(STOP)
            await here.until_over()
        for stream in hanging:
            await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("path", ["/metrics/", "//metrics"])
async def test_a_slash_too_many_gives_nothing_away(tmp_path: Path, path: str) -> None:
    response = await client_of(make_app(tmp_path)).get(path, scope_base={"client": HERE})
    assert response.status_code in (403, 404)


async def test_how_late_ticks_are_is_counted_for_both_kinds_of_leg(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    app.server.ticker._note(0.0)
    app.server.ticker._note(0.03)
    app.server.portable_ticker._note(-0.001)
    app.server.portable_ticker._note(9.0)
    text = await scrape(app)
    assert value(text, "sts_loop_lag_seconds_count") == 4
    assert value(text, "sts_loop_lag_seconds_sum") == pytest.approx(9.03)
    assert value(text, "sts_loop_lag_seconds_bucket", le="0.001") == 2
    assert value(text, "sts_loop_lag_seconds_bucket", le="0.05") == 3
    assert value(text, "sts_loop_lag_seconds_bucket", le="+Inf") == 4
