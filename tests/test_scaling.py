"""docs/scaling.md: its figures are those of its script, and the script reckons what it says."""

import itertools
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import sts_trio

ROOT = Path(sts_trio.__file__).parents[1]
SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "scaling.py"))
COST = SCRIPT["costs"]()
DAYS = {size: SCRIPT["day"](COST, size) for size in SCRIPT["SIZES"]}


def test_page_and_pictures_are_what_the_script_writes_today() -> None:
    old = [path.name for path, text in SCRIPT["written"]().items() if path.read_text() != text]
    assert not old, "run docs/scaling.py"


def test_costs_are_those_of_the_benchmark() -> None:
    told = (ROOT / "bench" / "RESULTS.md").read_text()
    assert f"| ours | {COST.set_up_ms:.2f} |" in told
    assert f"ours {COST.kb:.0f}," in told
    assert f"more than {COST.most} |" in told
    assert f"{COST.stored_kb:.1f} kB a call" in told
    [proxied] = re.findall(r"^\| 400 \| two behind HAProxy, TLS to it .*$", told, re.M)
    assert f" {COST.proxy_ms:.2f} | " in proxied


def test_no_moment_of_many_rows_is_missing_in_the_picture() -> None:
    """Each is over in seconds, which may be between two points of its line."""
    moments, drawn = DAYS[10_000].moments, SCRIPT["rows_drawn"](DAYS[10_000])
    sudden = [m for before, m in itertools.pairwise(moments) if m.rows > before.rows + 100]
    assert len(sudden) > 5  # a lost zone, and each time that a process is drained
    for moment in sudden:
        assert any(0 <= moment.at - at < 0.05 and rows >= moment.rows for at, rows in drawn)


@pytest.mark.parametrize("size", DAYS)
def test_the_busiest_minute_has_as_many_calls_as_it_is_told_for(size: int) -> None:
    assert max(m.calls for m in DAYS[size].moments) == pytest.approx(size, rel=0.03)


@pytest.mark.parametrize("size", DAYS)
def test_calls_that_came_have_gone_or_are_there(size: int) -> None:
    """What comes in a day fills each second of it with calls of their length."""
    day = DAYS[size]
    at_the_same_time = sum(m.calls for m in day.moments) * SCRIPT["STEP"] / SCRIPT["TALK"]
    assert day.calls == pytest.approx(at_the_same_time, rel=0.03)


@pytest.mark.parametrize("size", DAYS)
def test_a_lost_zone_moves_a_third_of_the_calls_and_leaves_room_for_them(size: int) -> None:
    day = DAYS[size]
    (lost,) = [m for m in day.moments if m.at == SCRIPT["ZONE_LOST"]]
    assert day.moved["lost zone"] == pytest.approx(lost.calls / 3)
    assert day.full == 0


def test_a_deploy_moves_each_call_once() -> None:
    day = DAYS[10_000]
    (begins, _) = SCRIPT["DEPLOYS"]
    then = next(m.calls for m in day.moments if m.at >= begins)
    assert day.moved["deploys"] / 2 == pytest.approx(then, rel=0.1)


def test_a_plan_without_headroom_refuses_calls_when_a_zone_is_lost() -> None:
    """The reckoning would show it."""
    tight = COST._replace(most=int(COST.most * 0.6))
    full = {"PLANNED": 0.99}
    day = SCRIPT["day"]
    before = day.__globals__["PLANNED"]
    day.__globals__.update(full)
    try:
        assert day(tight, 10_000).full > 0
    finally:
        day.__globals__["PLANNED"] = before


def test_ten_times_the_calls_are_ten_times_the_rows() -> None:
    rows = [DAYS[size].most_rows for size in (10_000, 100_000)]
    assert rows[1] == pytest.approx(10 * rows[0], rel=0.01)
