"""Files for other programs."""

import csv
import io
from typing import Any

import msgspec
import pytest
from call_stories import FROM, NOON, Story, sid, whole
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.records.database import Database
from sts_trio.records.export import COLUMNS, csv_header, csv_line, iso, json_line
from sts_trio.records.record import CallRow
from sts_trio.records.store import Store


@pytest.fixture
def store(sqlite_url: str) -> Store:
    database = Database(sqlite_url)
    database.open()
    return Store(database)


def kept(store: Store, story: list[Any]) -> CallRow:
    store.write(story)
    record = store.record(story[0].call_sid)
    assert record is not None
    store.database.close()
    return record.call


def cells(call: CallRow) -> dict[str, str]:
    [header, line] = csv.reader((csv_header() + csv_line(call)).splitlines(keepends=True))
    return dict(zip(header, line, strict=True))


def test_a_call_is_a_line_of_csv(store: Store) -> None:
    line = cells(kept(store, whole()))
    assert (line["call_sid"], line["from"], line["ending"]) == (sid(1), FROM, "stop")
    assert line["created_at"] == "2026-11-30T12:00:00.000Z"
    assert (line["agent_turns"], line["cut_turns"], line["wait_p50"]) == ("2", "1", "2.4")
    assert (line["apologised"], line["parameters"], line["cost_agent"]) == ("0", "{}", "")


def test_a_call_that_is_only_announced_is_one_too(store: Store) -> None:
    line = cells(kept(store, Story().announce().rows))
    assert (line["state"], line["ended_at"], line["seconds"]) == ("announced", "", "")


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_what_a_caller_is_called_is_no_formula(store: Store, begin: str) -> None:
    evil = f'{begin}cmd|"/c calc"!A1'
    line = cells(kept(store, whole(caller=evil, agent=evil, parameters={"name": evil})))
    assert line["from"] == line["agent"] == f"'{evil}"
    assert msgspec.json.decode(line["parameters"]) == {"name": evil}


@given(st.text())
def test_whatever_a_call_has_is_one_row_of_csv_with_no_formula(text: str) -> None:
    call = CallRow(
        call_sid=text,
        direction=text,
        from_=text,
        to=text,
        agent=text,
        parameters={},
        source="webhook",
        created_at=NOON,
        answered_at=None,
        state="ended",
        process_id="p1",
        epoch=0,
        moves=0,
        ended_at=None,
        ending=text,
        verdict=text,
        detail=text,
        apologised=None,
        summary=None,
        schema_version=1,
        redacted_at=None,
    )
    [row] = csv.reader(io.StringIO(csv_line(call), newline=""))
    assert len(row) == len(COLUMNS)
    for cell in row:
        assert cell[:1] not in ("=", "-", "@", "\t")
        assert cell[:1] != "+" or cell[1:].isdigit()


def test_a_call_and_a_record_are_a_line_of_json(store: Store) -> None:
    store.write(whole())
    record = store.record(sid(1))
    assert record is not None
    call = msgspec.json.decode(json_line(record.call))
    assert (call["from"], call["summary"]["agent_turns"]) == (FROM, 2)
    told = msgspec.json.decode(json_line(record))
    assert told["call"] == call
    assert told["turns"][0]["said"] == "Hello!"
    assert json_line(record).count("\n") == 1
    store.database.close()


def test_a_time_that_is_not_known_is_none() -> None:
    assert iso(None) is None
