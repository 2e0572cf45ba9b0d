"""What the records cost: the loop for each event, the thread for each row, and how far behind the
database is. And how long the list of calls takes in a database with a day of them.

python bench/records.py [--rate 500] [--seconds 10] [--calls 0] [URL ...]

Without a URL: a file in a directory of its own. A database that is named is filled: let it be an
empty one of yours, such as postgresql+psycopg://me@localhost/bench.
"""

import argparse
import contextlib
import os
import random
import resource
import tempfile
import time
import timeit
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import report
import results
import sqlalchemy as sa
import trio
from results import Day, Records, Steady
from rich.console import Console
from rich.table import Table

from sts_trio.call.info import CallInfo
from sts_trio.load import machine
from sts_trio.observe.events import CallTranscript
from sts_trio.observe.feed import CallEvent
from sts_trio.records import schema
from sts_trio.records.call_log import CallLog
from sts_trio.records.database import Database
from sts_trio.records.process_state import Process
from sts_trio.records.rows import Kind, Row
from sts_trio.records.search import Wanted
from sts_trio.records.shipper import Shipper
from sts_trio.records.spool import Spool
from sts_trio.records.store import Store
from sts_trio.records.writer import Writer

SENTENCE = "The last one leaves at ten past eleven, from platform four, and arrives at noon. " * 2
# What one call in 50 has in it.
RARE = "lost property"
TICK = 0.01
DAY = 86400
# Rows of one call of a good minute.
ROWS_A_CALL = 24
# A part of the day is written as it would be, and then doubled in the database so many times.
DOUBLED = 6


class Kept:
    """A sink that keeps nothing, to see what the mapping costs alone."""

    def put(self, row: Row) -> None: ...
    def put_at_once(self, row: Row) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="*")
    parser.add_argument("--rate", type=int, default=500, help="rows a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--calls", type=int, default=0, help="a day of so many, and its lists")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    wanted = parser.parse_args()
    steady: list[Steady] = []
    days: list[Day] = []
    console = Console()
    _show_loop(console)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        for url in wanted.urls or [f"sqlite:///{place / 'calls.db'}"]:
            database = Database(url)
            database.open()
            console.print(f"\n[bold]{database.shown}[/bold]")
            _show_top(console, database)
            steady += [trio.run(_steady, console, database, place, wanted.rate, wanted.seconds)]
            database.open()
            if wanted.calls:
                days += [_day(console, database, wanted.calls)]
            database.close()
    with keeping(wanted.out) as kept:
        kept.steady, kept.days = steady, days or kept.days


@contextlib.contextmanager
def keeping(out: Path) -> Iterator[Records]:
    """The section, to be changed; then it is written."""
    kept = results.load(out / "results.json")
    kept.records = kept.records or Records(machine.describe())
    kept.records.made = machine.describe()
    yield kept.records
    results.save(kept, out / "results.json")
    (out / "RESULTS.md").write_text(report.write(kept))


def _show_loop(console: Console) -> None:
    entry = CallEvent("CA1", 1.0, CallTranscript("user", SENTENCE))
    writer = Writer.__new__(Writer)
    Writer.__init__(writer, None, None, _process)  # type: ignore[arg-type]
    row = _row(0, 0)
    mapped = CallLog(Kept(), "p1")
    mapped.start(CallInfo(call_sid="CA1"))

    def put() -> None:
        writer.put(row)

    table = Table("on the loop, for each event", "ns")
    number = 40_000  # fewer than the deque holds
    for name, run in (("put a row", put), ("map an event to a row", lambda: mapped.hear(entry))):
        best = []
        for _ in range(7):
            writer._rows.clear()
            best.append(timeit.timeit(run, number=number) / number)
        table.add_row(name, f"{min(best) * 1e9:.0f}")
    console.print(table)


def _show_top(console: Console, database: Database) -> None:
    """As fast as one thread can."""
    store = Store(database)
    took, cpu = time.perf_counter(), time.thread_time()
    count, lot = 20_000, 500
    for first in range(0, count, lot):
        store.write([_row(first % 97, first + each) for each in range(lot)])
    took, cpu = time.perf_counter() - took, time.thread_time() - cpu
    console.print(
        f"at most {count / took:.0f} rows/s in lots of {lot};"
        f" {cpu / count * 1e6:.0f} µs of CPU a row in this process"
    )


async def _steady(
    console: Console, database: Database, place: Path, rate: int, seconds: float
) -> Steady:
    spool = Spool(place / "spool", f"p{os.getpid()}")
    store = Store(database)
    safe: list[float] = []  # seconds from `put` until a kill does not lose it
    stored: list[float] = []  # ... until it is in the database
    put_at: list[float] = []

    def timed(step: Any, times: list[float]) -> Any:
        def run(rows: list[Row]) -> None:
            step(rows)
            now = time.perf_counter()
            times.extend(now - put_at[row.seq] for row in rows)

        return run

    spool.append = timed(spool.append, safe)  # type: ignore[method-assign]
    store.write = timed(store.write, stored)  # type: ignore[method-assign]
    writer = Writer(spool, Shipper(store, spool, "p1"), _process)
    late: list[float] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        began = resource.getrusage(resource.RUSAGE_SELF)
        start = trio.current_time()
        seq = 0
        epoch = time.time_ns() // 1000
        while (now := trio.current_time()) < start + seconds:
            while seq < (now - start) * rate:
                put_at.append(time.perf_counter())
                writer.put(_row(seq % 400, seq, epoch))
                seq += 1
            await trio.sleep(TICK)
            late.append(trio.current_time() - now - TICK)
        await writer.flush(30)
        while spool.rows:  # noqa: ASYNC110 - a thread sets no event
            await trio.sleep(TICK)
        ended = resource.getrusage(resource.RUSAGE_SELF)
        figures = writer.figures
        nursery.cancel_scope.cancel()
    cpu = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    measured = Steady(
        database=kind(database),
        rate=rate,
        cpu_share=round(cpu / seconds, 4),
        safe_ms=percentiles(safe),
        stored_ms=percentiles(stored),
        loop_late_ms=percentiles(late),
    )
    console.print(measured, f"status {figures.status}, lost {figures.lost}")
    return measured


def kind(database: Database) -> str:
    return "PostgreSQL" if database.is_postgresql else "SQLite"


def _day(console: Console, database: Database, calls: int) -> Day:
    store = Store(database)
    began = 1_796_000_000.0 // DAY * DAY
    pattern = calls >> DOUBLED
    took = time.perf_counter()
    for number in range(pattern):
        store.write(_call(number, began + number * DAY / calls))
    took = time.perf_counter() - took
    console.print(f"{pattern / took:.0f} calls/s of {ROWS_A_CALL} rows, call by call")
    for step in range(DOUBLED):
        _double(database, step, (pattern << step) * DAY / calls)
    if database.is_postgresql:  # it does so by itself, sooner or later; SQLite never does
        with database.writing(within=600) as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            connection.exec_driver_sql("ANALYZE")
    if not database.is_postgresql:
        size = Path(str(database.url.database)).stat().st_size
        console.print(f"{size / 1e6:.0f} MB, {size / calls / 1000:.1f} kB a call")
    else:
        with database.reading() as connection:
            size = connection.exec_driver_sql(
                "SELECT pg_database_size(current_database())"
            ).scalar_one()
        console.print(f"{size / 1e6:.0f} MB, {size / calls / 1000:.1f} kB a call")
    lists: dict[str, tuple[float, float]] = {}
    middle = began + DAY / 2
    for name, wanted in {
        "newest": Wanted(),
        "of an hour": Wanted(since=middle, until=middle + 3600),
        "of a number": Wanted(number="+15005550042"),
        "of our own number": Wanted(number="+15005550006"),
        "of an agent": Wanted(agent="sales"),
        "by a rare ending": Wanted(ending="crashed"),
        "that went wrong, of an agent": Wanted(verdict="ours", agent="sales"),
        "that have ended": Wanted(has_ended=True),
        "with words that all say": Wanted(words="platform four"),
        "with words that few say": Wanted(words=RARE),
        "with words that nobody says": Wanted(words="submarine"),
        "with words that all say, of an agent": Wanted(words="platform", agent="sales"),
        "with words that all say, that went wrong": Wanted(words="platform", verdict="ours"),
        "with words that few say, of an hour": Wanted(
            since=middle, until=middle + 3600, words=RARE
        ),
    }.items():
        times = []
        for _ in range(60):
            at = time.perf_counter()
            page = store.calls(wanted)
            store.calls(wanted, after=page.after)
            times.append((time.perf_counter() - at) / 2)
        lists[name] = percentiles(times)[:2]
    times = []
    for number in range(0, pattern, max(1, pattern // 200)):
        at = time.perf_counter()
        store.record(f"CA{number:032x}")
        times.append(time.perf_counter() - at)
    lists["one record"] = percentiles(times)[:2]
    took = time.perf_counter()
    deleted = store.expire(began + 3 * DAY)
    took = time.perf_counter() - took
    console.print(
        f"retention: {deleted.calls} calls gone in {took:.1f} s, {deleted.events} events deleted"
    )
    measured = Day(
        database=kind(database),
        calls=calls,
        rows_a_call=ROWS_A_CALL,
        mb=round(size / 1e6, 1),
        lists_ms=lists,
        retention_seconds=round(took, 1),
    )
    console.print(measured)
    return measured


def _double(database: Database, step: int, later: float) -> None:
    """All calls once more, later: lists are asked of what is there, however it came."""
    # Where words are in their index goes by time, see `word_index`.
    place_later = int(later * 1_000_000) * 1024
    for table, time_columns in (
        (schema.call, ("created_at", "answered_at", "ended_at")),
        (schema.stream, ("started_at", "ended_at")),
        (schema.event, ("at",)),
    ):
        chosen: list[sa.ColumnElement[Any]] = []
        for column in table.c:
            if column.name == "call_sid":
                chosen.append(column + f"-{step}")
            elif column.name in time_columns:
                chosen.append(column + later)
            elif column.name == "word_place":
                chosen.append(column + place_later)
            elif column.name == "day":
                chosen.append(sa.cast(table.c.at + later, sa.BigInteger) // DAY)
            else:
                chosen.append(column)
        pattern = sa.select(*chosen).where(table.c.call_sid.startswith("CA"))
        with database.writing(within=600) as connection:
            connection.execute(sa.insert(table).from_select(list(table.c.keys()), pattern))
    columns = "call_sid, words" if database.is_postgresql else "rowid, words"
    copied = f"call_sid || '-{step}'" if database.is_postgresql else f"rowid + {place_later}"
    with database.writing(within=600) as connection:
        connection.exec_driver_sql(
            f"INSERT INTO {schema.WORDS} ({columns}) SELECT {copied}, words FROM {schema.WORDS}"
        )


def _process() -> Process:
    return Process(
        process_id="p1",
        name="bench",
        address="",
        version="0",
        state="ready",
        live=0,
        capacity=500,
    )


def _row(call: int, seq: int, epoch: int = 1) -> Row:
    return Row(f"CX{call:032x}", epoch, seq, time.time(), Kind.USER, {"text": SENTENCE})


def _call(number: int, at: float) -> list[Row]:
    sid, epoch = f"CA{number:032x}", int(at * 1e6)
    info = {
        "direction": "inbound",
        "from": f"+1500555{number % 5000:04d}",
        "to": "+15005550006",
        "agent": "sales" if number % 7 == 0 else "default",
        "source": "webhook",
        "process_id": "p1",
    }
    made: list[tuple[Kind, dict[str, Any]]] = [
        (Kind.ANNOUNCED, info),
        (Kind.STARTED, {**info, "stream_sid": "MZ1", "how": "first"}),
        (Kind.AGENT_DIALLED, {"agent": "default", "request_id": "r"}),
    ]
    while len(made) < ROWS_A_CALL - 2:
        made += [
            (Kind.USER, {"text": SENTENCE}),
            (Kind.AGENT, {"text": SENTENCE}),
            (Kind.AGENT, {"text": SENTENCE}),
            (Kind.HEARD, {"said": SENTENCE, "heard": SENTENCE, "said_seconds": 3.0}),
        ]
    # Callers say different things.
    chance = random.Random(number)
    said = " ".join(f"w{int(1 / chance.uniform(1e-4, 1))}" for _ in range(60))
    made.append((Kind.USER, {"text": f"{said} {RARE if number % 50 == 0 else ''}"}))
    is_crash = number % 997 == 0
    made.append(
        (
            Kind.ENDED,
            {
                "ending": "crashed" if is_crash else "stop",
                "verdict": "ours" if is_crash else "success",
            },
        )
    )
    return [Row(sid, epoch, seq, at + seq * 3, kind, body) for seq, (kind, body) in enumerate(made)]


def percentiles(times: Sequence[float]) -> tuple[float, float, float]:
    """p50, p99 and most of these seconds, in ms."""
    ordered = sorted(times)
    p50, p99, most = (
        round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1)
        for share in (0.5, 0.99, 1)
    )
    return p50, p99, most


if __name__ == "__main__":
    main()
