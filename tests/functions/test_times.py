"""Dates and times in arguments: told with a format, and read as models write them."""

import contextlib
import dataclasses
import json
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.errors import FunctionFailed
from sts_trio.functions.schema import Parameters

LOCAL = msgspec.Meta(tz=False)


class Slot(msgspec.Struct):
    day: date
    at: time
    until: time | None = None


@dataclasses.dataclass
class Booking:
    slot: Slot
    made: datetime


class Shop(TypedDict):
    opens: time


class Hours(NamedTuple):
    opens: time
    closes: time


class Row(msgspec.Struct, array_like=True, tag=True):
    name: str
    at: time


class Visit(msgspec.Struct, tag="visit"):
    at: time


class Memo(msgspec.Struct, tag="memo"):
    at: str


def parameters(hint: Any) -> Parameters:
    def run(it: Any) -> None: ...

    run.__annotations__["it"] = hint
    return Parameters(run, "here", {})


def read(hint: Any, value: Any) -> Any:
    return parameters(hint).read(json.dumps({"it": value}))["it"]


def formats(hint: Any) -> list[str]:
    """All that are told, in order."""
    found: list[str] = []

    def look(schema: Any) -> None:
        for key, child in schema.items() if isinstance(schema, dict) else enumerate(schema):
            if key == "format":
                found.append(child)
            elif isinstance(child, dict | list):
                look(child)

    look(parameters(hint).schema)
    return found


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        (date, ["date"]),
        (time, ["time"]),
        (datetime, ["date-time"]),
        (Annotated[datetime, LOCAL], ["date-time-local"]),
        (Annotated[time, LOCAL], ["time-local"]),
        (Annotated[time, msgspec.Meta(tz=True)], ["time"]),
        (time | None, ["time"]),
        (time | int, ["time"]),
        (list[datetime], ["date-time"]),
        (list[time] | None, ["time"]),
        (dict[str, time], ["time"]),
        (dict[str, time] | None, ["time"]),
        (tuple[time, str, datetime], ["time", "date-time"]),
        (Slot, ["date", "time", "time"]),
        (list[Booking], ["date", "time", "time", "date-time"]),
        (Shop, ["time"]),
        (Hours, ["time", "time"]),
        (Row, ["time"]),
        (Visit | Memo | None, ["time"]),
        (Annotated[time, msgspec.Meta(extra_json_schema={"format": "hour"})], ["hour"]),
        (str, []),
    ],
)
def test_the_model_is_told_the_format(hint: Any, told: list[str]) -> None:
    assert formats(hint) == told


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("19:00", time(19)),
        ("19:00:00", time(19)),
        ("9:05", time(9, 5)),
        ("19.30", time(19, 30)),
        ("T19:00", time(19)),
        ("19", time(19)),
        ("7 pm", time(19)),
        ("7PM", time(19)),
        ("7:30 p.m.", time(19, 30)),
        ("12 am", time(0)),
        ("12:15 pm", time(12, 15)),
        (" 19:00 ", time(19)),
        ("19:00Z", time(19, tzinfo=UTC)),
        ("19:00+00:00", time(19, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_as_models_write_it(text: str, meant: time) -> None:
    assert read(time, text) == meant
    assert read(datetime, f"2026-12-01T{text}") == datetime.combine(date(2026, 12, 1), meant)
    assert read(datetime, f"2026-12-01 {text}") == datetime.combine(date(2026, 12, 1), meant)
    assert read(Slot, {"day": "2026-12-01", "at": text}) == Slot(date(2026, 12, 1), meant)
    assert read(list[time] | None, [text, text]) == [meant, meant]
    assert read(dict[str, time], {"it": text}) == {"it": meant}
    assert read(tuple[time, str], [text, text]) == (meant, text)
    assert read(Hours, [text, text]) == Hours(meant, meant)
    assert read(Row, ["Row", text, text]) == Row(text, meant)
    assert read(Shop, {"opens": text}) == {"opens": meant}
    assert read(Visit | Memo, {"type": "visit", "at": text}) == Visit(meant)
    assert read(Visit | Memo, {"type": "memo", "at": text}) == Memo(text)
    assert read(str, text) == text


@pytest.mark.parametrize("text", ["2026-12-01", "20261201", "2026-12-01T00:00", "2026-12-01 9:00"])
def test_a_date_may_be_written_with_a_time(text: str) -> None:
    assert read(date, text) == date(2026, 12, 1)


@pytest.mark.parametrize(
    ("hint", "value", "told"),
    [
        (time, "noon", "it: expected a time, like 19:00"),
        (time, "25:00", "it: expected a time, like 19:00"),
        (time, "13 pm", "it: expected a time, like 19:00"),
        (time, "7", "it: expected a time, like 19:00"),
        (time, "", "it: expected a time, like 19:00"),
        (date, "01/12/2026", "it: expected a date, like 2026-12-01"),
        (date, "tomorrow", "it: expected a date, like 2026-12-01"),
        # Not midnight: nobody has said so.
        (datetime, "2026-12-01", "it: expected date and time, like 2026-12-01T19:00"),
        (datetime, "Friday 19:00", "it: expected date and time, like 2026-12-01T19:00"),
        (Slot, {"day": "2026-12-01", "at": "late"}, "it.at: expected a time, like 19:00"),
        (list[time], ["19:00", "late"], "it[1]: expected a time, like 19:00"),
        (time, 19, "it: expected `time`, got `int`"),
        (Slot, [], "it: expected `object`, got `array`"),
        (list[time], {}, "it: expected `array`, got `object`"),
        (Hours, {}, "it: expected `array`, got `object`"),
    ],
)
def test_what_can_mean_more_than_one_thing_is_refused_with_an_example(
    hint: Any, value: Any, told: str
) -> None:
    with pytest.raises(FunctionFailed) as caught:
        read(hint, value)
    assert str(caught.value) == told


def test_where_an_offset_is_not_wanted_it_is_refused() -> None:
    assert read(Annotated[datetime, LOCAL], "2026-12-01 19:00") == datetime(2026, 12, 1, 19)
    with pytest.raises(FunctionFailed, match="no timezone"):
        read(Annotated[datetime, LOCAL], "2026-12-01T19:00Z")


@given(st.datetimes() | st.datetimes(timezones=st.just(UTC)))
def test_every_moment_is_read_as_python_and_msgspec_write_it(moment: datetime) -> None:
    for hint, value in ((datetime, moment), (time, moment.timetz()), (date, moment.date())):
        assert read(hint, value.isoformat()) == value
        assert read(hint, msgspec.to_builtins(value)) == value


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for hint in (date, time, datetime):
        with contextlib.suppress(FunctionFailed):
            assert isinstance(read(hint, text), hint)
