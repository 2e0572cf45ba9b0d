"""Of which calls a flight is kept, where, and for how long."""

import os
import stat
import threading
from pathlib import Path

import pytest
import structlog
import trio
from rig_dialogue import LOST, STEPS, said_by_agent
from rig_peers import CALL_SID, SETTINGS
from rig_recordings import files

from sts_trio.config import load
from sts_trio.config.records import Records
from sts_trio.errors import Cause, Ending
from sts_trio.flight import keeper, recorder
from sts_trio.flight.file import pack_lot, unpack
from sts_trio.flight.keeper import Flights, flights_of, path_of, remove
from sts_trio.flight.recorder import FlightRecorder, Given
from sts_trio.flight.replay import differences
from sts_trio.logic.dialogue import any_call, no_call
from sts_trio.logic.policy import CallPolicy
from sts_trio.logic.requests import says_all
from sts_trio.observe import events
from sts_trio.wire import deepgram

AGENT = said_by_agent("It is the agent.").role
NOON = 1_796_000_000.0  # 2026-11-30
GIVEN: Given = {
    "is_expected": any_call,
    "forward": 0.02,
    "now": 0.0,
    "policy": CallPolicy(one_moment=b"\x10" * 160),
    "can_say": says_all,
    "needs_release": no_call,
}


def settings(root: Path, **variables: str) -> Records:
    given = {"STS_FLIGHT": "faults", **variables, "STS_FLIGHTS": str(root)}
    return load({"STS_AGENT": "offline", **given}, Path("/nonexistent")).records


def call(flights: Flights, ending: Ending) -> None:
    flight = flights.record(lambda wanted: SETTINGS, **GIVEN)
    assert flight is not None
    for step in (*STEPS.values(), LOST):
        flight.dialogue.hear([step], 0.5)
    flights.end(flight, ending)


async def keep(root: Path, *endings: Ending, wall: float = NOON, **variables: str) -> list[Path]:
    flights = Flights(settings(root, **variables), program="1.2.3", wall=lambda: wall)
    async with trio.open_nursery() as nursery:
        await nursery.start(flights.run)
        for ending in endings:
            call(flights, ending)
        await flights.flush(5.0)
        nursery.cancel_scope.cancel()
    return files(root)


@pytest.mark.parametrize(
    ("cause", "is_fault"),
    [
        (Cause.STOP, False),
        (Cause.CALLER_LOST, False),
        (Cause.AGENT_LOST, True),
        (Cause.AGENT_DENIED, True),
        (Cause.CRASHED, True),
        (Cause.SHUTDOWN, True),
    ],
)
async def test_a_flight_is_kept_of_calls_that_ended_by_a_fault_or_of_all(
    cause: Cause, is_fault: bool, tmp_path: Path
) -> None:
    assert bool(await keep(tmp_path / "faults", Ending(cause))) == is_fault
    assert len(await keep(tmp_path / "all", Ending(cause), STS_FLIGHT="all")) == 1


def test_no_flight_is_recorded_if_none_is_to_be_kept(tmp_path: Path) -> None:
    flights = Flights(settings(tmp_path, STS_FLIGHT="0"))
    assert flights.record(lambda wanted: SETTINGS, **GIVEN) is None


@pytest.mark.parametrize(
    ("variables", "kept"),
    [
        ({"STS_DATABASE_URL": "none"}, "0"),
        ({"STS_DATABASE_URL": "none", "STS_FLIGHT": "All"}, "all"),
        ({"STS_DATABASE_URL": "sqlite:///a.db"}, "faults"),
        ({"STS_DATABASE_URL": "sqlite:///a.db", "STS_FLIGHT": "0"}, "0"),
    ],
)
def test_who_keeps_no_calls_keeps_no_flights_unless_it_is_said(
    variables: dict[str, str], kept: str
) -> None:
    records = load({"STS_AGENT": "offline", **variables}, Path("/nonexistent")).records
    assert records.kept_flights.value == kept


async def test_what_is_kept_replays_and_tells_of_its_call(tmp_path: Path) -> None:
    [path] = await keep(tmp_path, Ending(Cause.AGENT_LOST, "why"))
    flight = unpack(path.read_bytes())
    assert (flight.program, flight.call_sid, flight.ending) == (
        "1.2.3",
        CALL_SID,
        "agent_lost",
    )
    assert (flight.verdict, flight.detail, flight.began_at) == ("agent", "why", NOON)
    assert flight.policy["one_moment"] == 160
    assert differences(flight) == []
    assert path == path_of(tmp_path, CALL_SID, NOON)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_numbers_and_words_are_kept_as_in_the_records(tmp_path: Path) -> None:
    key = "0123456789abcdef0123456789abcdef"
    [path] = await keep(
        tmp_path,
        Ending(Cause.AGENT_LOST),
        STS_KEEP_WORDS="0",
        STS_REDACT="1",
        STS_REDACT_KEY=key,
    )
    assert unpack(path.read_bytes()).masked == ["words", "numbers"]


async def test_a_flight_that_cannot_be_written_is_told_and_harms_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    with structlog.testing.capture_logs() as logs:
        await keep(blocked, Ending(Cause.AGENT_LOST), Ending(Cause.AGENT_LOST))
    [first, second] = [log for log in logs if log["event"] == events.FlightNotKept.NAME]
    assert first["call_sid"] == second["call_sid"] == CALL_SID
    assert first["reason"]
    assert first["log_level"] == "warning"


async def test_nothing_half_written_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with structlog.testing.capture_logs() as logs:
        assert await keep(tmp_path, Ending(Cause.AGENT_LOST)) == []
    assert [log["reason"] for log in logs if log["event"] == events.FlightNotKept.NAME] == [
        "No space left on device"
    ]


async def test_a_call_that_ends_when_the_process_has_is_told_to_be_lost(tmp_path: Path) -> None:
    flights = Flights(settings(tmp_path))
    async with trio.open_nursery() as nursery:
        await nursery.start(flights.run)
        nursery.cancel_scope.cancel()
    with structlog.testing.capture_logs() as logs:
        call(flights, Ending(Cause.CUT_OFF))
    assert [log["reason"] for log in logs] == ["the process ends"]


async def test_what_waits_is_still_written_when_the_process_ends(tmp_path: Path) -> None:
    flights = Flights(settings(tmp_path))
    async with trio.open_nursery() as nursery:
        await nursery.start(flights.run)
        call(flights, Ending(Cause.AGENT_LOST))
        nursery.cancel_scope.cancel()
    assert len(files(tmp_path)) == 1


async def test_memory_is_given_back(tmp_path: Path) -> None:
    flights = Flights(settings(tmp_path))
    before = flights._allowance._left
    async with trio.open_nursery() as nursery:
        await nursery.start(flights.run)
        for cause in (Cause.STOP, Cause.AGENT_LOST):
            call(flights, Ending(cause))
        await flights.flush(5.0)
        nursery.cancel_scope.cancel()
    assert flights._allowance._left == before


async def test_flights_are_deleted_when_they_are_old(tmp_path: Path) -> None:
    old = path_of(tmp_path, "CA1", NOON - 31 * 86400)
    recent = path_of(tmp_path, "CA2", NOON - 20 * 86400)
    part = recent.with_suffix(keeper.PART)
    others = tmp_path / "not-a-day" / "CA3-1.flight"
    for path in (old, recent, part, others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    os.utime(part, (NOON - 86400, NOON - 86400))
    await keep(tmp_path)
    assert not old.parent.exists()
    assert not part.exists()
    assert recent.exists()
    assert others.exists()
    await keep(tmp_path, wall=NOON + 365 * 86400, STS_KEEP_DAYS="0")
    assert recent.exists()


def test_the_flights_of_a_call_are_found_and_removed_and_no_others(tmp_path: Path) -> None:
    root = tmp_path / "flights"
    names = ["CA1", "CA1", "CA1-2", "../../etc", "CA*", ""]
    for number, name in enumerate(names):
        path = path_of(root, name, NOON + number)
        assert path.parent.parent == root
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert flights_of(root, "CA1") == [path_of(root, "CA1", NOON + at) for at in (0, 1)]
    assert len(flights_of(root, "CA*")) == 1
    remove(root, ["CA1", "unknown"])
    assert flights_of(root, "CA1") == []
    assert len([*root.rglob("*.flight")]) == len(names) - 2
    assert flights_of(tmp_path / "nowhere", "CA1") == []


@pytest.mark.parametrize(("many", "after"), [(1, 0.0), (keeper.MANY_LOTS, 3600.0)])
async def test_what_is_recorded_of_a_live_call_is_packed_by_a_thread(
    many: int, after: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()
    has_packed = trio.Event()
    replace = FlightRecorder.replace

    def pack(lot: bytes) -> bytes:
        threads.add(threading.get_ident())
        return pack_lot(lot)

    def note(recorder: FlightRecorder, number: int, packed: bytes) -> None:
        replace(recorder, number, packed)
        has_packed.set()

    monkeypatch.setattr(recorder, "LOT", 500)
    monkeypatch.setattr(keeper, "PACK_AFTER", after)
    monkeypatch.setattr(keeper, "pack_lot", pack)
    monkeypatch.setattr(FlightRecorder, "replace", note)
    flights = Flights(settings(tmp_path, STS_FLIGHT="all"), wall=lambda: NOON)
    async with trio.open_nursery() as nursery:
        await nursery.start(flights.run)
        flight = flights.record(lambda wanted: SETTINGS, **GIVEN)
        assert flight is not None
        for step in STEPS.values():
            flight.dialogue.hear([step], 0.5)
        while len(flight.lots) < many:
            flight.dialogue.hear([deepgram.ConversationText(AGENT, "One, two, three.")], 1.0)
        before = flight.size
        await has_packed.wait()
        assert flight.size == sum(map(len, flight.lots)) < before
        flight.dialogue.hear([LOST], 2.0)
        flights.end(flight, Ending(Cause.AGENT_LOST))
        await flights.flush(60.0)
        nursery.cancel_scope.cancel()
    assert threads
    assert threading.get_ident() not in threads
    [path] = files(tmp_path)
    kept = unpack(path.read_bytes())
    assert len(kept.steps) > many
    assert differences(kept) == []
