"""The dealership put to the test: a function by itself, then whole calls. Run `pytest`."""

from pathlib import Path

import dealership
import pytest
from trio.testing import MockClock

from sts_trio.errors import Cause
from sts_trio.observe.events import CallHeard, CallTranscript, FunctionFinished
from sts_trio.testing import (
    CallEvent,
    CallFunction,
    call,
    offline_agent,
    running,
    scripted_agent,
)

PROJECT = Path(__file__).with_name("sts-trio.toml")
RECEPTION, SALES = "+15005550006", "+15005550007"
BOOK = {"day": "Tuesday", "time": "10:00", "name": "Mary"}


@pytest.fixture(autouse=True)
def test_drives(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """Nothing is booked when a test begins."""
    booked: dict[tuple[str, str], str] = {}
    monkeypatch.setattr(dealership, "TEST_DRIVES", booked)
    return booked


def finished(happened: list[CallEvent]) -> list[tuple[str, str]]:
    """The functions that were called, and what came of each."""
    ends = [each.event for each in happened if isinstance(each.event, FunctionFinished)]
    return [(end.name, end.outcome) for end in ends]


def said(happened: list[CallEvent]) -> list[str]:
    """The agents' sentences."""
    words = [each.event for each in happened if isinstance(each.event, CallTranscript)]
    return [each.text for each in words if each.role != "user"]


# --- a function is a function ---------------------------------------------------------------------


def test_a_car_has_its_price() -> None:
    assert dealership.find_car("Otter") == {"model": "Otter", "price": 14_000, "in_stock": 4}


# --- whole calls, with an agent that does as it is told -------------------------------------------


@pytest.mark.parametrize(("caller", "outcome"), [("+15005550001", "done"), ("+1500555", "failed")])
async def test_an_order_is_found_by_the_callers_number(
    caller: str, outcome: str, autojump_clock: MockClock
) -> None:
    async with (
        scripted_agent(CallFunction("order_status"), "Here you are.") as agent,
        running(PROJECT, agent=agent) as server,
    ):
        report = await call(server.url, ["Where is my car?"], parameters={"from": caller})
        happened = await server.happened_in(report)
    assert finished(happened) == [("order_status", outcome)]
    # Nobody is left in silence while it takes its time.
    assert "One moment, I am looking for your order." in said(happened)


@pytest.mark.parametrize("wrong", [{"day": "Sunday"}, {"time": "10:15"}])
async def test_nonsense_is_not_booked(
    wrong: dict[str, str], test_drives: dict[tuple[str, str], str], autojump_clock: MockClock
) -> None:
    book = CallFunction("book_test_drive", BOOK | wrong)
    async with (
        scripted_agent(book, "I am sorry.") as agent,
        running(PROJECT, agent=agent) as server,
    ):
        report = await call(server.url, ["Book it!"], parameters={"to": SALES})
        happened = await server.happened_in(report)
    assert finished(happened) == [("book_test_drive", "failed")]
    assert test_drives == {}


async def test_two_people_do_not_come_at_one_time(
    test_drives: dict[tuple[str, str], str], autojump_clock: MockClock
) -> None:
    mary, tom = (CallFunction("book_test_drive", BOOK | {"name": n}) for n in ("Mary", "Tom"))
    async with (
        scripted_agent(mary, "Booked.", mary, "Booked.", tom, "I am sorry.") as agent,
        running(PROJECT, agent=agent) as server,
    ):
        report = await call(server.url, ["Yes."] * 3, parameters={"to": SALES})
        happened = await server.happened_in(report)
    assert [outcome for _, outcome in finished(happened)] == ["done", "done", "failed"]
    assert test_drives == {("Tuesday", "10:00"): "Mary"}


@pytest.mark.parametrize(
    ("number", "cause"), [("+15005550009", Cause.TRANSFERRED), ("+19005550000", Cause.STOP)]
)
async def test_callers_are_transferred_to_numbers_of_ours_only(
    number: str, cause: Cause, autojump_clock: MockClock
) -> None:
    transfer = CallFunction("transfer", {"number": number})
    async with (
        scripted_agent(transfer, "Goodbye!") as agent,
        running(PROJECT, agent=agent) as server,
    ):
        report = await call(server.url, ["A human being, please."], parameters={"to": RECEPTION})
        ending = await server.ending_of(report)
    assert ending is not None
    assert ending.cause is cause


# --- a whole call, with an agent that has ears ----------------------------------------------------


async def test_a_test_drive_is_booked_by_two_agents(
    test_drives: dict[tuple[str, str], str], autojump_clock: MockClock
) -> None:
    async with offline_agent() as agent, running(PROJECT, agent=agent) as server:
        report = await call(
            server.url,
            [
                "How much does the Heron cost?",
                "Yes, please.",  # to a test drive
                "On Tuesday at ten.",
                "My name is Mary.",
                "Yes, that is right.",
                "Thank you, goodbye.",
            ],
        )
        happened = await server.happened_in(report)
        ending = await server.ending_of(report)
    assert finished(happened) == [
        ("find_car", "done"),
        ("hand_over_to_sales", "done"),
        ("book_test_drive", "done"),
        ("hang_up", "done"),
    ]
    assert test_drives == {("Tuesday", "10:00"): "Mary"}
    # The reception was told about the car, and it is sales who repeats it.
    assert any("the Heron" in text and "for Mary" in text for text in said(happened))
    # The agent hangs up, but not before its goodbye was heard.
    assert ending is not None
    assert ending.cause is Cause.HUNG_UP
    assert report.closed_by == "bridge"
    *_, last = (each.event for each in happened if isinstance(each.event, CallHeard))
    assert last.heard == last.said == "Thank you for calling. Goodbye!"
