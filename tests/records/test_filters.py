"""What people write when they look for calls."""

from datetime import datetime
from pathlib import Path

import pytest
from call_stories import NOON
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.records.filters import ENDINGS, BadFilter, read_wanted
from sts_trio.records.search import Wanted

DOCS = Path(__file__).parents[2] / "docs"


def test_nothing_is_asked_for_by_nothing_and_by_blanks() -> None:
    assert read_wanted({}, NOON) == Wanted()
    assert read_wanted({"since": " ", "number": "", "words": "  "}, NOON) == Wanted()


def test_a_name_that_is_misspelt_is_told_with_those_that_there_are() -> None:
    expected = (
        "^expected since, until, number, agent, ending, verdict, words or ended, got 'sinec'$"
    )
    with pytest.raises(BadFilter, match=expected):
        read_wanted({"ended": "1", "sinec": "24h"}, NOON, ["ended"])
    assert read_wanted({"ended": "1"}, NOON, ["ended"]) == Wanted()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1796040000", NOON),
        ("1796040000.5", NOON + 0.5),
        ("90m", NOON - 5400),
        ("24h", NOON - 86400),
        ("7d", NOON - 7 * 86400),
        ("2026-11-30T12:00Z", NOON),
        ("2026-11-30T13:00:00+01:00", NOON),
        ("2026-11-30", datetime(2026, 11, 30).timestamp()),
        ("2026-11-30T09:30", datetime(2026, 11, 30, 9, 30).timestamp()),
    ],
)
def test_a_time_may_be_written_in_several_ways(text: str, seconds: float) -> None:
    assert read_wanted({"since": text}, NOON) == Wanted(since=seconds)
    assert read_wanted({"until": f" {text} "}, NOON) == Wanted(until=seconds)


@pytest.mark.parametrize("text", ["yesterday", "7 d", "nan", "inf", "2026-13-01", "99999-01-01"])
def test_a_time_that_is_none_is_told_in_one_line(text: str) -> None:
    with pytest.raises(BadFilter, match=r"^until: expected a date like 2026-11-30, ") as caught:
        read_wanted({"until": text}, NOON)
    assert repr(text) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["+15005550006", " 15005550006", "15005550006"])
def test_a_number_may_have_lost_its_plus_in_a_query(text: str) -> None:
    assert read_wanted({"number": text}, NOON) == Wanted(number="+15005550006")


def test_a_number_that_is_kept_as_a_hash_is_looked_for_as_it_is() -> None:
    assert read_wanted({"number": "#0123-06"}, NOON) == Wanted(number="#0123-06")


def test_a_verdict_that_no_call_has_is_told_with_those_that_there_are() -> None:
    expected = "^verdict: expected success, caller, agent, ours or unclear, got 'sucess'$"
    with pytest.raises(BadFilter, match=expected):
        read_wanted({"verdict": "sucess"}, NOON)


@pytest.mark.parametrize(
    ("ending", "meant"), [("agent-lost", "agent_lost"), ("no_streem", "no_stream"), ("x", "stop")]
)
def test_an_ending_that_no_call_has_is_told_with_one_that_there_is(ending: str, meant: str) -> None:
    expected = f"^ending: expected one of docs/endings.md, such as {meant}, got '{ending}'$"
    with pytest.raises(BadFilter, match=expected):
        read_wanted({"ending": ending}, NOON)


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_each_ending_is_explained_where_the_message_leads(ending: str) -> None:
    documents = [DOCS / name for name in ("endings.md", "records.md")]
    assert any(f"`{ending}`" in document.read_text("utf-8") for document in documents)
    assert read_wanted({"ending": ending}, NOON) == Wanted(ending=ending)


def test_the_rest_is_taken_as_it_is() -> None:
    given = {"agent": "sales", "ending": "stop", "verdict": "success", "words": "a car"}
    assert read_wanted(given, NOON) == Wanted(
        agent="sales", ending="stop", verdict="success", words="a car"
    )


@pytest.mark.parametrize(("since", "until"), [("1h", "2h"), ("2026-11-30", "2026-11-30")])
def test_a_stretch_in_which_no_call_can_begin_is_told(since: str, until: str) -> None:
    expected = f"^until: expected a time behind since, '{since}', got '{until}'$"
    with pytest.raises(BadFilter, match=expected):
        read_wanted({"since": since, "until": until}, NOON)
    assert read_wanted({"since": "2h", "until": "1h"}, NOON).since == NOON - 7200


@given(st.text())
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        wanted = read_wanted({"since": text}, NOON)
    except BadFilter:
        return
    assert wanted.since is None or wanted.since == wanted.since
