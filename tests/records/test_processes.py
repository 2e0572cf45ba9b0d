"""Who shares the database, and who of them lives: by its clock, the same on both databases."""

import socket
import time

import pytest
import sqlalchemy as sa
from limits import HANG
from rig_processes import ME, process, silence

from sts_trio.records import processes
from sts_trio.records.database import Database
from sts_trio.records.process_state import ALIVE_WITHIN, GONE, Seen
from sts_trio.records.processes import own_address
from sts_trio.records.store import Store


def test_the_databases_clock_is_that_of_its_machine(database: Database) -> None:
    with database.reading() as connection:
        before = time.time()
        told = connection.execute(sa.select(processes.clock(connection))).scalar()
    assert told is not None
    assert before - 0.1 < told < time.time() + 0.1


def test_a_process_is_known_from_its_first_word_to_its_clean_end(store: Store) -> None:
    [seen] = store.beat(ME)
    assert (seen.process, seen.is_alive) == (ME, True)
    assert 0 <= seen.age < ALIVE_WITHIN
    other = process("p2", name="s2", state="draining", live=3)
    assert [each.process for each in store.beat(other)] == [ME, other]
    assert [each.process for each in store.processes()] == [ME, other]
    store.leave("p1")
    assert [each.process for each in store.processes()] == [other]


def test_a_later_word_changes_how_it_is_and_not_when_it_began(store: Store) -> None:
    store.beat(ME)
    [first] = store.processes()
    full = process("p1", state="full", live=500)
    store.beat(full)
    [seen] = store.processes()
    assert (seen.process, seen.started_at) == (full, first.started_at)


def found(store: Store, process_id: str) -> Seen | None:
    with store.database.reading() as connection:
        return processes.find(connection, process_id)


def test_who_has_been_silent_for_four_seconds_does_not_live(store: Store) -> None:
    store.beat(ME)
    silence(store.database, "p1", ALIVE_WITHIN - 2)
    seen = found(store, "p1")
    assert seen is not None
    assert seen.is_alive
    silence(store.database, "p1", 2)
    seen = found(store, "p1")
    assert seen is not None
    assert not seen.is_alive
    assert found(store, "p9") is None


def test_who_is_known_to_be_dead_does_not_live_and_died_with_its_last_word(store: Store) -> None:
    store.beat(ME)
    silence(store.database, "p1", 2)
    store.note_gone("p1")
    [seen] = store.processes()
    assert (seen.process.state, seen.process.live, seen.is_alive) == (GONE, 0, False)
    assert 2 <= seen.age < HANG


def test_of_who_never_told_of_itself_the_end_is_now(store: Store) -> None:
    store.note_gone("p1")
    [seen] = store.processes()
    assert (seen.process.state, seen.is_alive) == (GONE, False)
    assert seen.age < HANG


def test_names_are_kept_apart_by_the_id_of_the_start(store: Store) -> None:
    """A database that knows one name twice knows two processes."""
    store.beat(ME)
    store.beat(process("p2"))
    assert [each.process.process_id for each in store.processes()] == ["p1", "p2"]


@pytest.mark.parametrize(
    ("listens_at", "told"),
    [
        ("192.0.2.7:5000", "192.0.2.7:5000"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("[::1]:5000", "[::1]:5000"),
        ("0.0.0.0:5000", "127.0.0.1:5000"),
        ("[::]:5000", "127.0.0.1:5000"),
    ],
)
@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///calls.db",
        "postgresql+psycopg:///calls?host=/run/postgresql",
        "postgresql+psycopg:///calls",
        "postgresql+psycopg://user@127.0.0.1:5432/calls",
    ],
)
def test_others_are_told_an_address_that_leads_somewhere(
    url: str, listens_at: str, told: str
) -> None:
    assert own_address(sa.make_url(url), listens_at) == told


def test_who_listens_everywhere_is_reached_where_the_way_to_the_database_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Way:
        def __init__(self, family: int, kind: int) -> None:
            assert (family, kind) == (socket.AF_INET6, socket.SOCK_DGRAM)

        def __enter__(self) -> "Way":
            return self

        def __exit__(self, *exc: object) -> None: ...
        def connect(self, place: tuple[str, int]) -> None:
            assert place[:2] == ("2001:db8::1", 6432)

        def getsockname(self) -> tuple[str, int]:
            return "2001:db8::7", 40000

    monkeypatch.setattr("sts_trio.records.processes.socket.socket", Way)
    url = sa.make_url("postgresql+psycopg://user@[2001:db8::1]:6432/calls")
    assert own_address(url, "0.0.0.0:5000") == "[2001:db8::7]:5000"


def test_a_database_whose_name_leads_nowhere_leaves_the_loopback() -> None:
    url = sa.make_url("postgresql+psycopg://user@nowhere.invalid/calls")
    assert own_address(url, "0.0.0.0:5000") == "127.0.0.1:5000"
