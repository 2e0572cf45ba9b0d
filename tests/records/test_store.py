"""What is written into the tables is found again: the same on both databases."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from call_stories import FROM, NOON, TO, Story, many, sid, whole
from rig_processes import ME, last_told

from sts_trio.config.records import Prices
from sts_trio.observe import events
from sts_trio.records import processes, retention, schema
from sts_trio.records.database import Database
from sts_trio.records.redaction import Redaction
from sts_trio.records.rows import Kind, Row, storable
from sts_trio.records.search import BadCursor, Wanted
from sts_trio.records.store import Store

KEY = "0123456789abcdef0123456789abcdef"


def found(store: Store, limit: int = 50, **wanted: Any) -> list[str]:
    return [call.call_sid for call in store.calls(Wanted(**wanted), limit).calls]


def test_a_call_is_found_again_with_all_that_was_said(store: Store) -> None:
    rows = whole()
    store.write(rows)
    record = store.record(sid(1))
    assert record is not None
    assert record.events == rows
    assert (record.call.from_, record.call.to, record.call.agent) == (FROM, TO, "default")
    assert (record.call.created_at, record.call.answered_at) == (NOON, NOON + 1)
    assert (record.call.state, record.call.ending, record.call.verdict) == (
        "ended",
        "stop",
        "success",
    )
    assert record.call.schema_version == schema.VERSION
    assert record.call.ended_at == rows[-1].at
    [stream] = record.streams
    assert (stream.stream_sid, stream.how, stream.started_at) == ("MZ1", "first", NOON + 1)
    assert (stream.ended_at, stream.ending) == (rows[-1].at, "stop")
    assert [(turn.role, turn.said, turn.heard) for turn in record.turns] == [
        ("agent", "Hello!", "Hello!"),
        ("caller", "What cars do you have?", None),
        ("agent", "Three of them.", "Three of"),
    ]
    assert record.call.summary is not None
    assert record.call.summary["cut_turns"] == 1
    assert record.call.summary["hung_up_by"] == "caller"


def test_what_is_not_kept_is_not_found(store: Store) -> None:
    assert store.record(sid(1)) is None
    assert store.record("\0") is None
    assert store.record("\ud800") is None
    assert store.rows(sid(1)) == []
    assert store.calls(Wanted()).calls == []


def test_writing_again_changes_nothing(store: Store) -> None:
    rows = whole()
    for part in (rows, rows, rows[:3], rows[3:], rows[-1:], rows[:1]):
        store.write(part)
    assert store.rows(sid(1)) == rows
    again = Store(store.database)
    record = again.record(sid(1))
    store.write(rows)
    assert again.record(sid(1)) == record


def test_rows_that_come_one_by_one_make_the_same_record(store: Store, database: Database) -> None:
    for row in whole():
        store.write([row])
    one_by_one = store.record(sid(1))
    store.forget(call_sid=sid(1))
    store.write(whole())
    assert store.record(sid(1)) == one_by_one


def test_a_call_is_there_from_the_moment_it_is_announced(store: Store) -> None:
    store.write(Story().announce().rows)
    record = store.record(sid(1))
    assert record is not None
    assert (record.call.state, record.call.answered_at, record.call.summary) == (
        "announced",
        None,
        None,
    )
    assert found(store, has_ended=False) == [sid(1)]
    assert found(store, has_ended=True) == []


def test_a_call_that_was_refused_has_an_ending_and_no_stream(store: Store) -> None:
    store.write(Story().announce().end("busy", "ours").rows)
    record = store.record(sid(1))
    assert record is not None
    assert (record.call.ending, record.streams, record.call.answered_at) == ("busy", [], None)
    assert record.call.summary is not None
    assert record.call.summary["seconds"] is None


def test_an_ending_alone_makes_a_record(store: Store) -> None:
    """All else may have been lost."""
    store.write(Story().end("busy", "ours").rows)
    assert found(store, ending="busy") == [sid(1)]


def test_a_stream_that_comes_before_its_announcement_is_as_good(store: Store) -> None:
    announced, started, *_ = whole()
    store.write([started])
    store.write([announced])
    record = store.record(sid(1))
    assert record is not None
    assert (record.call.state, record.call.created_at, record.call.from_) == ("live", NOON, FROM)


def test_a_call_goes_on_in_another_process_and_the_old_one_cannot_end_it(store: Store) -> None:
    first = Story().announce().start().talk()
    second = Story(at=first.at, epoch=20).start(how="moved", process_id="p2", gap_seconds=0.4)
    store.write(first.rows)
    store.write(second.rows)
    store.write([first.tell(Kind.ENDED, ending="cut_off", verdict="ours")])
    record = store.record(sid(1))
    assert record is not None
    assert (record.call.state, record.call.process_id, record.call.moves) == ("live", "p2", 1)
    assert [stream.ending for stream in record.streams] == ["cut_off", None]
    store.write(second.talk().end().rows)
    record = store.record(sid(1))
    assert record is not None
    assert (record.call.ending, record.call.epoch, record.call.moves) == ("stop", 20, 1)
    assert [stream.how for stream in record.streams] == ["first", "moved"]
    assert record.events == [*first.rows, *second.rows]


def test_the_cost_of_a_call_is_in_its_summary(database: Database) -> None:
    prices = Prices("EUR", agent_per_minute=0.6, phone_per_minute=0.01)
    store = Store(database, prices=prices)
    store.write(whole())
    record = store.record(sid(1))
    assert record is not None
    assert record.call.summary is not None
    # A minute that has begun, and eight seconds.
    assert record.call.summary["cost"] == {"agent": 0.08, "phone": 0.01, "currency": "EUR"}


# --- the list -----------------------------------------------------------------------------------


def test_the_list_is_newest_first_and_goes_on_where_a_page_ended(store: Store) -> None:
    for rows in many(7):
        store.write(rows)
    expected = [sid(number) for number in reversed(range(7))]
    assert found(store) == expected
    seen: list[str] = []
    after = None
    for _ in range(4):
        page = store.calls(Wanted(), 2, after)
        seen += [call.call_sid for call in page.calls]
        after = page.after
    assert seen == expected
    assert after is None


def test_calls_of_the_same_moment_are_all_in_the_list_once(store: Store) -> None:
    for rows in many(5, every=0.0):
        store.write(rows)
    page = store.calls(Wanted(), 3)
    rest = store.calls(Wanted(), 3, page.after)
    assert sorted(call.call_sid for call in [*page.calls, *rest.calls]) == [
        sid(number) for number in range(5)
    ]


def test_the_list_is_filtered(store: Store) -> None:
    store.write(whole(1, agent="sales"))
    store.write(whole(2, at=NOON + 100, caller="+4420", called=FROM))
    store.write(Story(sid(3), at=NOON + 200).announce().end("busy", "ours").rows)
    store.write(Story(sid(4), at=NOON + 300).announce().start().rows)
    assert found(store, agent="sales") == [sid(1)]
    assert found(store, number="+4420") == [sid(2)]
    assert found(store, number=FROM) == [sid(4), sid(3), sid(2), sid(1)]
    assert found(store, 2, number=FROM) == [sid(4), sid(3)]
    assert found(store, ending="busy") == found(store, verdict="ours") == [sid(3)]
    assert found(store, since=NOON + 100, until=NOON + 300) == [sid(3), sid(2)]
    assert found(store, has_ended=False) == [sid(4)]
    assert found(store, has_ended=True, verdict="success") == [sid(2), sid(1)]
    assert found(store, number=FROM, agent="sales") == [sid(1)]


def plan_of(store: Store, ask: Callable[[], object]) -> str:
    """SQLite's, of the first query that has an order."""
    asked: list[tuple[str, Any]] = []

    @sa.event.listens_for(store.database.engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        asked.append((statement, parameters))

    ask()
    statement, parameters = next(each for each in asked if "ORDER BY" in each[0])
    with store.database.reading() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return str(plan.all())


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(has_ended=True),
        Wanted(since=NOON, until=NOON + 9),
        Wanted(agent="sales"),
        Wanted(ending="crashed", has_ended=True),
        Wanted(verdict="ours", agent="sales", has_ended=True),
    ],
)
def test_the_list_is_read_in_its_order_and_not_sorted(store: Store, wanted: Wanted) -> None:
    """Of a hundred thousand calls a page would take a tenth of a second."""
    store.write(whole())
    plan = plan_of(store, lambda: store.calls(wanted))
    assert "INDEX call_by_" in plan
    assert "TEMP B-TREE" not in plan


def test_pages_of_one_number_miss_none_and_repeat_none(store: Store) -> None:
    """A call from a number to itself is in both indexes."""
    for number in range(6):
        store.write(whole(number, at=NOON + number, caller=TO if number % 2 else FROM))
    page = store.calls(Wanted(number=TO), 4)
    rest = store.calls(Wanted(number=TO), 4, page.after)
    seen = [call.call_sid for call in [*page.calls, *rest.calls]]
    assert seen == [sid(number) for number in reversed(range(6))]


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("cars", 1),
        ("CARS DO", 1),
        ("three of them", 1),
        ("boats", 0),
        ("c%s", 0),
        ("c_rs", 0),
        ('"text"', 0),
        ("' OR 1=1 --", 0),
        ("\0", 0),
        ("\ud800", 0),
    ],
)
def test_calls_are_found_by_words_of_either_side(store: Store, words: str, count: int) -> None:
    store.write(whole())
    assert len(found(store, words=words)) == count


def test_words_are_looked_for_a_few_calls_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a page takes no longer in a year of calls than in a day."""
    monkeypatch.setattr("sts_trio.records.search.SEARCHED", 4)
    for number in range(11):
        story = Story(sid(number), at=NOON + number).announce().start()
        story.tell(Kind.USER, text="a boat" if number in (0, 3, 9) else "a car")
        store.write(story.rows)
    pages: list[list[str]] = []
    after: str | None = None
    for _ in range(10):
        page = store.calls(Wanted(words="BOAT"), after=after)
        pages.append([call.call_sid for call in page.calls])
        after = page.after
        if after is None:
            break
    assert pages == [[sid(9)], [sid(3)], [sid(0)]]
    page = store.calls(Wanted(words="boat", since=NOON + 3), 1)
    assert [call.call_sid for call in page.calls] == [sid(9)]
    page = store.calls(Wanted(words="boat", since=NOON + 3), 1, page.after)
    assert [call.call_sid for call in page.calls] == [sid(3)]


def test_words_with_quotes_and_percent_signs_are_found(store: Store) -> None:
    story = Story().announce().start()
    story.tell(Kind.USER, text='I want "100 %" of_it \\ Ünder')
    store.write(story.rows)
    for words in ('"100 %"', "of_it", "\\ Unde", "%of"):
        assert found(store, words=words) == [sid(1)]
    assert found(store, words="%") == found(store, words="\\ ") == []


INJECTIONS = ["'; DROP TABLE call; --", '" OR ""="', "%", "\\", "Robert');--", "{0}", "%(x)s", ":x"]


@pytest.mark.parametrize("text", INJECTIONS)
def test_what_callers_and_peers_say_is_never_sql(store: Store, text: str) -> None:
    store.write(whole(1, agent=text, caller=text, parameters={text: text}))
    story = Story(text).announce().start()
    story.tell(Kind.USER, text=text)
    store.write(story.rows)
    assert found(store, agent=text) == [sid(1)]
    assert found(store, number=text) == [sid(1)]
    assert found(store, ending=text) == []
    record = store.record(text)
    assert record is not None
    assert record.turns[0].said == text
    said = [text] if any(letter.isalnum() for letter in text) else []
    assert found(store, words=text) == said
    assert store.forget(call_sid=text) == []  # it is under way
    store.write(story.end().rows[-1:])
    assert found(store, words=text) == said
    assert store.forget(call_sid=text) == [text]
    assert store.record(text) is None


@pytest.mark.parametrize("after", ["", "x", "1", "x~CA", "~", "1~\0", "1~\ud800"])
def test_a_place_that_no_page_gave_is_refused(store: Store, after: str) -> None:
    with pytest.raises(BadCursor):
        store.calls(Wanted(), after=after)


@pytest.mark.parametrize("limit", [-1, 0, 10**9])
def test_a_page_is_never_empty_nor_endless(store: Store, limit: int) -> None:
    store.write(whole())
    assert len(store.calls(Wanted(), limit).calls) == 1


# --- whatever a row holds -----------------------------------------------------------------------


class Unwritable:
    def __str__(self) -> str:
        raise ValueError("no")


def endless() -> list[Any]:
    own: list[Any] = []
    own.append(own)
    return own


@pytest.mark.parametrize(
    "value",
    [
        "\0",
        "half \ud83d",
        {"\0": "\0"},
        2**70,
        -(2**70),
        float("nan"),
        float("inf"),
        b"bytes",
        object(),
        Unwritable(),
        {1, 2},
        {1: 2},
        endless(),
        "long " * 100_000,
        ["x" * 1000] * 1000,
        {f"name {number}": number for number in range(20_000)},
        "emoji 🚗 and é",
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_that_a_peer_or_a_function_gives_can_be_kept(store: Store, value: Any) -> None:
    story = Story().announce().start()
    story.tell(Kind.NOTE, value=value)
    store.write([storable(row) for row in story.rows])
    rows = store.rows(sid(1))
    assert [row.seq for row in rows] == [0, 1, 2]
    assert len(msgspec.json.encode(rows)) < 100_000


def test_an_odd_call_sid_can_be_kept() -> None:
    row = Row("CA\0\ud800", 1, 0, NOON, Kind.NOTE, {})
    assert storable(row).call_sid == "CA\N{REPLACEMENT CHARACTER}?"


def test_what_is_fit_stays_as_it_is() -> None:
    for row in whole():
        assert storable(row) is row


def test_a_row_of_a_newer_release_is_left_out(store: Store, database: Database) -> None:
    store.write(whole())
    with database.writing() as connection:
        connection.execute(
            sa.update(schema.event).where(schema.event.c.seq == 3).values(kind="telepathy")
        )
    assert [row.seq for row in store.rows(sid(1))] == [0, 1, 2, 4, 5, 6, 7, 8, 9][:8]


# --- processes ----------------------------------------------------------------------------------


def test_what_a_killed_process_had_is_lost_with_what_is_known(store: Store) -> None:
    talking = Story().announce().start().talk()
    store.write([*talking.rows, *whole(2), *Story(sid(3)).announce().rows])
    store.write(Story(sid(4)).announce(process_id="p2").start(process_id="p2").rows)
    store.beat(ME)
    last_told(store.database, "p1", talking.at + 0.5)
    assert sorted(store.mark_lost("p1")) == [sid(1), sid(3)]
    record = store.record(sid(1))
    assert record is not None
    assert (record.call.state, record.call.ending, record.call.verdict) == ("lost", "lost", "ours")
    assert record.call.ended_at == talking.at + 0.5
    assert record.streams[0].ended_at == talking.at + 0.5
    assert record.call.summary is not None
    assert record.call.summary["agent_turns"] == 2
    assert found(store, has_ended=False) == [sid(4)]
    assert store.mark_lost("p1") == []


def test_all_that_a_full_process_had_is_lost_step_by_step(store: Store) -> None:
    rows: list[Row] = []
    for number in range(120):
        rows += Story(sid(number)).announce().start().rows
    store.write(rows)
    store.beat(ME)
    last_told(store.database, "p1", NOON + 5)
    assert sorted(store.mark_lost("p1")) == [sid(number) for number in range(120)]
    assert len(found(store, 500, ending="lost")) == 120
    assert {call.ended_at for call in store.calls(Wanted(), 500).calls} == {NOON + 5}
    assert store.processes() == []


def test_a_call_that_two_processes_have_is_that_ones_which_had_its_newest_stream(
    store: Store,
) -> None:
    """The other one is a zombie: its death costs nobody a call, and its word ends none."""
    zombie = Story(epoch=10).announce().start()
    store.write([*zombie.rows, *Story(epoch=20).start(process_id="p2", how="moved").rows])
    assert store.mark_lost("p1") == []
    store.write(zombie.end().rows)
    [call] = store.calls(Wanted()).calls
    assert (call.state, call.process_id) == ("live", "p2")
    assert store.mark_lost("p2") == [sid(1)]


def test_who_is_marked_lost_by_mistake_ends_all_the_same(store: Store) -> None:
    story = Story().announce().start()
    store.write(story.rows)
    assert store.mark_lost("p1") == [sid(1)]
    store.write(story.talk().end().rows)
    record = store.record(sid(1))
    assert record is not None
    assert (record.call.state, record.call.ending) == ("ended", "stop")


def test_what_another_process_is_about_to_go_on_with_is_not_lost(
    store: Store, database: Database
) -> None:
    """Nor is its old process forgotten: if it is not gone on with after all, it is lost then."""
    store.write([*Story().announce().start().rows, *Story(sid(2)).announce().start().rows])
    store.beat(ME)
    claim = sa.update(schema.call).where(schema.call.c.call_sid == sid(2))
    with database.writing() as connection:
        until = processes.clock(connection)
        connection.execute(claim.values(claimed_by="p2", claimed_until=until + 60))
    assert store.mark_lost("p1") == [sid(1)]
    assert [each.process.process_id for each in store.processes()] == ["p1"]
    with database.writing() as connection:
        connection.execute(claim.values(claimed_until=processes.clock(connection) - 1))
    assert store.mark_lost("p1") == [sid(2)]
    assert store.processes() == []


def test_an_announced_call_that_never_had_a_stream_is_closed(store: Store) -> None:
    store.write([*Story(sid(1)).announce().rows, *Story(sid(2), at=NOON + 1000).announce().rows])
    assert store.close_unanswered(NOON + 1000) == 1
    assert found(store, ending="no_stream") == [sid(1)]
    assert found(store, has_ended=False) == [sid(2)]


# --- deleting -----------------------------------------------------------------------------------


def test_old_calls_are_deleted_and_no_others(store: Store) -> None:
    day = 86400.0
    live = Story(sid(8), at=NOON - 1.2 * day).announce().start()
    store.write(live.rows)
    for number, age in enumerate((40, 35, 31, 29, 1)):
        store.write(whole(number, at=NOON - age * day))
    assert store.expire(NOON - 30 * day).calls == 3
    assert found(store) == [sid(4), sid(8), sid(3)]
    assert store.expire(NOON).calls == 2
    assert found(store) == [sid(8)]
    assert store.rows(sid(8)) == live.rows
    assert all(store.rows(sid(number)) == [] for number in range(5))


def test_many_old_calls_are_deleted_in_lots(store: Store) -> None:
    count = 2 * retention.LOT + 1
    store.write(list(itertools.chain.from_iterable(many(count, every=1.0))))
    deleted = store.expire(NOON + 86400 * 2)
    assert deleted.calls == count
    assert found(store) == []


def test_who_writes_meanwhile_waits_for_one_lot_at_most(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite one writes at a time, and a wait has a limit: all that is written meanwhile would
    be late, and a call that is to be moved would not be."""
    monkeypatch.setattr(retention, "LOT", 4)
    store.write(list(itertools.chain.from_iterable(many(18, every=1.0))))
    other = Database(str(database.url.render_as_string(hide_password=False)))
    rests: list[float] = []

    def rest(seconds: float) -> None:
        rests.append(seconds)
        with other.writing() as connection:
            token = {"token_id": str(len(rests)), "call_sid": sid(1), "expires_at": NOON}
            connection.execute(sa.insert(schema.token).values(**token))

    monkeypatch.setattr("sts_trio.records.database.time.sleep", rest)
    assert store.expire(NOON + 86400 * 2).calls == 18
    other.close()
    if database.is_postgresql:
        assert rests == []
    else:
        assert len(rests) > 18 / 4
        assert min(rests) > 0


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_is_too_old_is_found_by_its_time(store: Store) -> None:
    """Of a hundred thousand calls each lot would else be looked for in all that have ended."""
    store.write(whole())
    plan = plan_of(store, lambda: store.expire(NOON))
    assert "INDEX call_by_time" in plan
    assert "TEMP B-TREE" not in plan


def test_all_that_is_of_a_caller_is_forgotten(store: Store, database: Database) -> None:
    removed: list[str] = []
    store = Store(database, remove=removed.append)
    store.write([*whole(1), *whole(2), *whole(3, caller="+4420", called="+4930")])
    with database.writing() as connection:
        connection.execute(
            sa.insert(schema.recording).values(
                call_sid=sid(1),
                epoch=10,
                uri="one.wav",
                began_at=NOON,
                seconds=1.0,
                bytes=1,
                result="ok",
            )
        )
        connection.execute(
            sa.insert(schema.delivery).values(
                webhook_id="w",
                call_sid=sid(1),
                kind=events.CallEnded.NAME,
                body=FROM,
                attempts=0,
                next_at=NOON,
                state="waiting",
            )
        )
    assert sorted(store.forget(number=FROM)) == [sid(1), sid(2)]
    assert found(store) == [sid(3)]
    assert removed == ["one.wav"]
    with database.reading() as connection:
        for table in (schema.recording, schema.delivery, schema.stream, schema.event):
            left = connection.execute(sa.select(table.c.call_sid).distinct()).scalars().all()
            assert set(left) <= {sid(3)}
    assert store.forget(number=FROM) == store.forget(call_sid=sid(1)) == []


def test_words_are_kept_while_a_call_lasts_and_no_longer(database: Database) -> None:
    store = Store(database, keeps_words=False)
    story = Story().announce().start().talk()
    story.tell(Kind.FUNCTION_ASKED, id="f", name="look_up", arguments={"who": "Ann"}, shield=False)
    store.write(story.rows)
    assert store.rows(sid(1)) == story.rows
    store.write(story.end().rows[-1:])
    store.write([story.tell(Kind.FUNCTION_ANSWERED, id="f", outcome="done", content="Ann Lee")])
    record = store.record(sid(1))
    assert record is not None
    kept = msgspec.json.encode(record).decode()
    for words in ("Hello", "cars", "Three", "Ann"):
        assert words not in kept
    with_words = Store(database)
    with_words.forget(call_sid=sid(1))
    with_words.write(story.rows[:-1])
    other = with_words.record(sid(1))
    assert other is not None
    assert record.call.summary == other.call.summary


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_words_that_are_not_kept_are_in_no_file(database: Database) -> None:
    """Neither in free pages, nor in the write-ahead log once it is shrunk."""
    store = Store(database, keeps_words=False)
    path = Path(str(database.url.database))

    def files() -> bytes:
        return b"".join(file.read_bytes() for file in path.parent.iterdir() if file.is_file())

    for number in range(50):
        story = Story(sid(number)).announce().start()
        story.tell(Kind.USER, text="Xanthippe " * (1 + number * 20))
        store.write(story.rows)
        if number == 25:
            assert b"Xanthippe" in files()
        store.write(story.end().rows[-1:])
    database.shrink_log()
    assert b"Xanthippe" not in files()
    assert len(found(store)) == 50


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_caller_who_is_forgotten_is_in_no_file(database: Database) -> None:
    store = Store(database)
    path = Path(str(database.url.database))
    for number in range(20):
        story = Story(sid(number)).announce("+14155550188" if number % 2 else FROM).start()
        story.tell(Kind.USER, text="Xanthippe " * 200 if number % 2 else "Hello.")
        store.write(story.end().rows)
    assert len(store.forget(number="+14155550188")) == 10
    content = b"".join(file.read_bytes() for file in path.parent.iterdir() if file.is_file())
    assert b"Xanthippe" not in content
    assert b"4155550188" not in content


def test_of_a_process_that_was_killed_no_words_are_kept_either(database: Database) -> None:
    store = Store(database, keeps_words=False)
    store.write(Story().announce().start().talk().rows)
    store.mark_lost("p1")
    assert "Hello" not in msgspec.json.encode(store.record(sid(1))).decode()


def test_a_number_is_found_and_forgotten_by_its_hash(database: Database) -> None:
    redaction = Redaction(KEY)
    store = Store(database, redaction=redaction)
    store.write([redaction.row(row) for row in whole()])
    record = store.record(sid(1))
    assert record is not None
    assert FROM not in msgspec.json.encode(record).decode()
    assert record.call.from_.endswith("-01")
    assert record.call.redacted_at == NOON
    assert found(store, number=FROM) == found(store, number=record.call.from_) == [sid(1)]
    assert store.forget(number=FROM) == [sid(1)]
