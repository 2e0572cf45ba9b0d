"""What a fleet's callers notice when something dies, hangs, or is replaced: calls with a code word.

    python bench/fleet.py [--calls 12] [--database postgresql|sqlite] [FAULT …]

Three processes of the bridge behind HAProxy, by deploy/haproxy.cfg, with a PostgreSQL; or with
`--database sqlite` a single one, which is started again however it ends. Each caller says a code
word first, and is asked for it at the end: by then the agent knows it only if whoever goes on with
the call does. Everything runs on this machine, on the loopback, and is gone afterwards.
"""

import argparse
import contextlib
import math
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import trio
from fleet_calls import Outcome, complete, outcome, steps, told_by_agent
from fleet_rig import ROOT, TOKEN, Fleet
from rich.console import Console
from rich.table import Table

from sts_trio.simulate.carrier import Carrier
from sts_trio.simulate.media_stream import Sids
from sts_trio.simulate.rest import Rest

sys.path.insert(0, str(ROOT / "tests"))

import rig_postgresql

NAMES = ("a-1", "a-2", "a-3")
# Calls that begin in a second, when the fleet is a few processes on a desk.
RATE = 8.0
# Seconds from the first call on until something happens, by when all talk.
UNTIL_FAULT = 9.0


class Run:
    """A fleet with calls, and what is to be done to it."""

    def __init__(self, fleet: Fleet, carrier: Carrier, database: rig_postgresql.Cluster | None):
        self.fleet = fleet
        self.carrier = carrier
        self.database = database


Fault = Callable[[Run], Awaitable[None]]


async def nothing(run: Run) -> None:
    """nothing"""


async def kill(name: str, run: Run) -> None:
    """kill -9 of {name}"""
    run.fleet.processes[name].kill()
    await trio.sleep(3.0)
    await run.fleet.start(name)


async def hang(run: Run) -> None:
    """SIGSTOP of a-1, and SIGCONT"""
    process = run.fleet.processes["a-1"]
    process.signal(signal.SIGSTOP)
    await trio.sleep(9.0)
    process.signal(signal.SIGCONT)


async def roll(run: Run) -> None:
    """rolling restart"""
    for name, process in run.fleet.processes.items():
        process.signal(signal.SIGTERM)
        await process.gone()
        await run.fleet.start(name)


async def reload(run: Run) -> None:
    """HAProxy reloaded"""
    run.fleet.proxy.reload()


async def restart_proxy(run: Run) -> None:
    """HAProxy restarted"""
    run.fleet.proxy.stop()
    run.fleet.proxy.start()


async def restart_database(run: Run) -> None:
    """PostgreSQL restarted"""
    assert run.database is not None
    await trio.to_thread.run_sync(run.database.stop)
    await trio.sleep(2.0)
    await trio.to_thread.run_sync(run.database.start)


FAULTS: dict[str, Fault] = {
    "nothing": nothing,
    **{f"kill-{name}": partial(kill, name) for name in NAMES},
    "hang": hang,
    "roll": roll,
    "reload": reload,
    "restart-proxy": restart_proxy,
    "restart-database": restart_database,
}


class Row(msgspec.Struct):
    """A line of the table."""

    fault: str
    calls: int
    remembered: int
    ended: int
    moves: int
    sessions: int  # at the end, of all calls
    twice: int
    missing: int
    gaps: list[float]

    @property
    def cells(self) -> list[str]:
        p50, p99 = percentile(self.gaps, 0.5), percentile(self.gaps, 0.99)
        gap = f"{p50:.2f} / {p99:.2f} s" if self.gaps else "-"
        counts = (self.calls, self.remembered, self.ended, self.moves)
        more = (f"{self.sessions / self.calls:g}", str(self.twice), str(self.missing), gap)
        return [self.fault, *map(str, counts), *more]


COLUMNS = (
    "fault", "calls", "remembered", "ended", "moves", "agent sessions per call", "functions twice",
    "words missing", "gap p50 / p99",
)  # fmt: skip


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


@contextlib.asynccontextmanager
async def running(
    directory: Path, names: Sequence[str], wants_postgresql: bool, variables: dict[str, str]
) -> AsyncIterator[Run]:
    """A fleet that takes calls."""
    with contextlib.ExitStack() as stack:
        cluster = None
        url = f"sqlite:///{directory / 'calls.db'}"
        if wants_postgresql:
            binaries = rig_postgresql.binaries()
            if binaries is None:
                sys.exit("PostgreSQL is missing: install Debian's package postgresql")
            cluster = stack.enter_context(rig_postgresql.running(binaries))
            url = cluster.create()
        carrier = Carrier(token=TOKEN)
        rest = Rest(carrier)
        account = {"TWILIO_ACCOUNT_SID": carrier.account_sid}
        fleet = Fleet(directory, names, url, account | variables)
        async with trio.open_nursery() as nursery:
            await nursery.start(rest.serve)
            fleet.api = rest.url
            try:
                fleet.open()
                for name in names:
                    await fleet.start(name)
                yield Run(fleet, carrier, cluster)
            finally:
                fleet.stop()
            nursery.cancel_scope.cancel()


async def measure(run: Run, told: str, fault: Fault, first: int, calls: int, talks: int) -> Row:
    """Calls that are numbered from `first` on, with that fault in their midst."""
    outcomes: list[Outcome] = []

    async def place(number: int) -> None:
        call = await run.carrier.place(
            run.fleet.webhook,
            steps(number, talks),
            sids=Sids(account=run.carrier.account_sid),
            limit=180.0,
        )
        outcomes.append(outcome(number, call))

    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        for number in range(first, first + calls):
            nursery.start_soon(place, number)
            await trio.sleep(1 / RATE)
        await trio.sleep_until(began + max(UNTIL_FAULT, calls / RATE + 5.0))
        await fault(run)
    await trio.sleep(1.0)  # what was told last is on its way into the database
    return await trio.to_thread.run_sync(_row, run.fleet, told, outcomes)


def _row(fleet: Fleet, told: str, outcomes: list[Outcome]) -> Row:
    told_of = told_by_agent(fleet.agent_log)
    notes = fleet.notes.read_text().splitlines() if fleet.notes.exists() else []
    for each in outcomes:
        sid = each.call.call_sid
        of_call = [line for line in notes if line.startswith(sid)]
        complete(each, told_of.get(f"{each.number:04d}", []), fleet.record(sid), of_call)
        explain(each)
    moves = [move for each in outcomes for move in each.moves]
    return Row(
        fault=told,
        calls=len(outcomes),
        remembered=sum(each.is_remembered for each in outcomes),
        ended=sum(each.is_ended for each in outcomes),
        moves=len(moves),
        sessions=sum(each.sessions for each in outcomes),
        twice=sum(each.twice for each in outcomes),
        missing=sum(len(each.missing) for each in outcomes),
        gaps=[gap for _, gap in moves],
    )


def explain(each: Outcome) -> None:
    """Whatever is not as it should be, a line each."""
    call = each.call
    fine = each.is_remembered and not each.is_ended and not each.missing and not each.twice
    if fine and each.sessions == 1:
        return
    print(f"call {each.number} {call.call_sid}: ended by {call.ended_by}, missing {each.missing},"
          f" sessions {each.sessions}, twice {each.twice}", file=sys.stderr)  # fmt: skip
    for problem in call.problems:
        print(f"  {problem.at:.1f} s {problem.code} {problem.reason}", file=sys.stderr)
    for stream in call.streams:
        told = f"{stream.began:.1f} to {stream.ended:.1f} s, by {stream.ended_by}"
        print(f"  stream {stream.url}: {told}", file=sys.stderr)


async def main(wanted: argparse.Namespace, console: Console) -> list[Row]:
    rows = []
    has_postgresql = wanted.database == "postgresql"
    names = NAMES if has_postgresql else ("a-1",)
    with tempfile.TemporaryDirectory(prefix="sts-trio-fleet-") as place:
        directory = Path(wanted.keep or place)
        async with running(directory, names, has_postgresql, {}) as run:
            for number, name in enumerate(wanted.faults or FAULTS):
                first = 1000 * (number + 1)
                row = await measure(run, name, FAULTS[name], first, wanted.calls, wanted.talks)
                console.print(*row.cells, sep="  ")
                rows.append(row)
    return rows


def table(rows: Sequence[Row]) -> Table:
    told = Table(*COLUMNS)
    for row in rows:
        told.add_row(*row.cells)
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--calls", type=int, default=12)
    parser.add_argument("--talks", type=int, default=3)
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--keep", type=Path, help="a directory for what all of them say")
    given = parser.parse_args()
    out = Console()
    out.print(table(trio.run(main, given, out)))
