"""What a fleet's callers notice when something dies, hangs, or is replaced: calls with a code word.

    python bench/fleet.py [--calls 12] [--database postgresql|sqlite] [FAULT …]

Three processes of the bridge behind HAProxy, by deploy/haproxy.cfg, with a PostgreSQL; or with
`--database sqlite` a single one. Each is started again however it ends. Each caller says a code
word first, and is asked for it at the end: by then the agent knows it only if whoever goes on with
the call does. Everything runs on this machine, on the loopback, and is gone afterwards.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from signal import Signals

import fleet_picture
import fleet_rig
import msgspec
import trio
from fleet_calls import (
    Outcome,
    code_of,
    complete,
    outcome,
    percentile,
    poison,
    spans,
    steps,
    told_by_agent,
)
from fleet_functions import POISON
from fleet_rig import ROOT, TOKEN, Fleet
from keeper import keys
from rich.console import Console
from rich.table import Table

from sts_trio.audio.frames import length
from sts_trio.moves.lookout import after_url
from sts_trio.net import http
from sts_trio.simulate.call_requests import Url
from sts_trio.simulate.carrier import Carrier
from sts_trio.simulate.media_stream import Sids
from sts_trio.simulate.rest import Rest
from sts_trio.simulate.script import Step

sys.path.insert(0, str(ROOT / "tests"))

import rig_postgresql

NAMES = ("a-1", "a-2", "a-3")
# Calls that begin in a second, when the fleet is a few processes on a desk.
RATE = 8.0
# Seconds until something happens, once the agent has heard the code words of all: by then they are
# known to the database, and most callers are in the midst of a talk.
UNTIL_FAULT = 3.0
LONGEST_CALL = 180.0
# A gap that is to be looked at: was the line away, or did caller and agent wait for each other?
LATE = 3.0


class Run:
    """A fleet with calls, and what can be done to it."""

    def __init__(
        self, fleet: Fleet, carrier: Carrier, database: rig_postgresql.Cluster | None, old: Path
    ) -> None:
        self.fleet = fleet
        self.carrier = carrier
        self.database = database
        self.old = old  # code of an earlier version
        self.fallback = ""  # the URL of the number's, see `serve_bin`
        self.drop: Callable[[bool], None] | None = None  # see `set_apart`
        self.outcomes: list[Outcome] = []

    def signal(self, name: str, signum: Signals) -> None:
        self.fleet.processes[name].signal(signum)

    async def again(self, name: str) -> None:
        """What runs now is gone, and what is started then takes calls."""
        await self.fleet.processes[name].gone()
        await trio.sleep(2 * fleet_rig.RESTART_AFTER)
        await self.fleet.ready(name)

    async def hold(self, *names: str, by: Signals = Signals.SIGTERM) -> None:
        """They are gone, and stay so."""
        for name in names:
            self.fleet.processes[name].is_wanted = False
            self.signal(name, by)
            await self.fleet.processes[name].gone()

    async def release(self, *names: str) -> None:
        for name in names:
            self.fleet.processes[name].is_wanted = True
        await trio.sleep(2 * fleet_rig.RESTART_AFTER)
        for name in names:
            await self.fleet.ready(name)

    async def place(self, number: int, taken: Sequence[Step]) -> None:
        call = await self.carrier.place(
            self.fleet.webhook,
            taken,
            sids=Sids(account=self.carrier.account_sid),
            fallback=self.fallback,
            limit=LONGEST_CALL,
        )
        self.outcomes.append(outcome(number, call))

    async def has_heard(self, codes: Iterable[str]) -> None:
        """The agent knows these words."""
        wanted = set(codes)
        with trio.fail_after(fleet_rig.PATIENCE):
            while wanted - told_by_agent(self.fleet.agent_log).keys():  # noqa: ASYNC110
                await trio.sleep(0.5)


class Fault(msgspec.Struct, frozen=True):
    """What is done in the midst of calls, and before the first and after the last of them."""

    do: Callable[[Run], Awaitable[None]]
    before: Callable[[Run], Awaitable[None]] | None = None
    after: Callable[[Run], Awaitable[None]] | None = None
    alone: bool = False  # for one process, with SQLite, too
    lasts: int = 0  # turns that calls need to have more, to be there until it is over


async def nothing(run: Run) -> None:
    pass


async def kill(name: str, run: Run) -> None:
    run.signal(name, Signals.SIGKILL)
    await run.again(name)


async def hang(run: Run) -> None:
    """It stands still, is taken for dead, and comes back as if nothing had been."""
    run.signal("a-1", Signals.SIGSTOP)
    await trio.sleep(10.0)
    run.signal("a-1", Signals.SIGCONT)


async def roll(run: Run) -> None:
    for name in run.fleet.processes:
        run.signal(name, Signals.SIGTERM)
        await run.again(name)


async def reload(run: Run) -> None:
    run.fleet.proxy.reload()


async def restart_proxy(run: Run) -> None:
    run.fleet.proxy.stop()
    run.fleet.proxy.start()


async def restart_database(run: Run) -> None:
    assert run.database is not None
    await trio.to_thread.run_sync(run.database.stop)
    await trio.sleep(2.0)
    await trio.to_thread.run_sync(run.database.start)


async def two_roads(run: Run) -> None:
    """Calls of a process that is killed are redirected by REST while their action is asked."""
    theirs = [call for call in run.carrier.calls.values() if "/at/a-1/" in call.stream_url]
    run.signal("a-1", Signals.SIGKILL)
    for call in theirs:
        call.redirect(Url(after_url(run.fleet.base)))
    await run.again("a-1")


async def poisoned(run: Run) -> None:
    """A call kills each process that it comes to: the first two, and then it is let go."""
    await run.place(int(POISON * 4), poison())


async def herd(run: Run) -> None:
    """All calls are of the process that is killed, and the others have had none yet."""
    await run.release("a-2", "a-3")
    await kill("a-1", run)


async def of_old(run: Run) -> None:
    """a-1 runs an earlier version. First its calls come to others, then calls of those to it."""
    await kill("a-1", run)
    run.signal("a-2", Signals.SIGTERM)
    await run.again("a-2")


async def becomes_old(run: Run) -> None:
    run.fleet.processes["a-1"].tree = run.old
    await kill("a-1", run)


async def becomes_new(run: Run) -> None:
    run.fleet.processes["a-1"].tree = run.fleet.processes["a-2"].tree
    await kill("a-1", run)


async def before_upgrade(run: Run) -> None:
    """On a database that has seen no newer version. a-1 is away, and about to be one."""
    run.fleet.processes["a-1"].tree = fleet_rig.newer(
        run.fleet.processes["a-1"].tree, run.fleet.directory / "newer"
    )
    names = tuple(run.fleet.processes)
    await run.hold(*names)
    run.fleet.use_database(run.database.create() if run.database else None)
    await run.release(*names[1:])


async def upgrade(run: Run) -> None:
    """A newer version changes the schema under the calls of this one. It gets all of them, by a
    kill and by drains, and then gives them back to processes that start on its schema."""
    new, killed, *drained = run.fleet.processes
    await run.release(new)
    await run.hold(killed, by=Signals.SIGKILL)
    await run.hold(*drained)
    await run.release(killed, *drained)
    await run.hold(new)


async def after_upgrade(run: Run) -> None:
    """It stays as it was."""
    run.fleet.processes["a-1"].tree = run.fleet.processes["a-2"].tree
    await run.release("a-1")


async def vanish(run: Run) -> None:
    """a-3 and its network are gone without a word, and come back after a while."""
    assert run.drop is not None
    run.drop(True)
    await trio.sleep(12.0)
    run.drop(False)


FAULTS: dict[str, Fault] = {
    "nothing": Fault(nothing, alone=True),
    "kill-a-1": Fault(partial(kill, "a-1"), alone=True),
    "kill-a-2": Fault(partial(kill, "a-2")),
    "kill-a-3": Fault(partial(kill, "a-3")),
    "hang": Fault(hang),
    "roll": Fault(roll, alone=True),
    "reload": Fault(reload, alone=True),
    "restart-proxy": Fault(restart_proxy, alone=True),
    "restart-database": Fault(restart_database),
    "two-roads": Fault(two_roads),
    "poison": Fault(poisoned),
    "herd": Fault(herd, before=lambda run: run.hold("a-2", "a-3")),
    "versions": Fault(of_old, before=becomes_old, after=becomes_new),
    "upgrade": Fault(upgrade, before=before_upgrade, after=after_upgrade, lasts=8),
    "vanish": Fault(vanish),
}
# Those that want more than a machine: a tree of an earlier version, and a network.
OLD, ALONE = "versions", "vanish"


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
    moved: list[Outcome]  # one of them, if there was one

    @property
    def cells(self) -> list[str]:
        p50, p99 = percentile(self.gaps, 0.5), percentile(self.gaps, 0.99)
        gap = f"{p50:.2f} / {p99:.2f} s" if self.gaps else "-"
        counts = (self.calls, self.remembered, self.ended, self.moves)
        sessions = f"{self.sessions / self.calls:.3g}" if self.calls else "-"
        return [self.fault, *map(str, counts), sessions, str(self.twice), str(self.missing), gap]


COLUMNS = (
    "fault", "calls", "remem-\nbered", "ended", "moves", "agent\nsessions", "run\ntwice",
    "words\nmissing", "gap\np50 / p99",
)  # fmt: skip


async def serve_bin(twiml: str, *, task_status: trio.TaskStatus[str]) -> None:
    """A TwiML Bin: it is Twilio's, and there whatever is not of ours."""

    async def respond(request: http.Request) -> http.Answer:
        return http.Answer(200, {"content-type": "text/xml"}, twiml.encode())

    listeners = await trio.open_tcp_listeners(0, host=fleet_rig.LOCAL)
    port = listeners[0].socket.getsockname()[1]
    task_status.started(f"http://{fleet_rig.LOCAL}:{port}")
    await trio.serve_listeners(partial(http.answer, respond=respond, longest=65536), listeners)


@contextlib.asynccontextmanager
async def running(
    directory: Path, names: Sequence[str], wants_postgresql: bool, tree: Path, old: Path
) -> AsyncIterator[Run]:
    """A fleet that takes calls."""
    with contextlib.ExitStack() as stack:
        cluster = None
        url = None
        if wants_postgresql:
            binaries = rig_postgresql.binaries()
            if binaries is None:
                sys.exit("PostgreSQL is missing: install Debian's package postgresql")
            cluster = stack.enter_context(rig_postgresql.running(binaries))
            url = cluster.create()
        carrier = Carrier(token=TOKEN)
        rest = Rest(carrier)
        variables = {"TWILIO_ACCOUNT_SID": carrier.account_sid}
        if len(names) == 1:
            variables["STS_RESTARTS"] = "1"  # who is told to stop leaves its calls to the next one
        fleet = Fleet(directory, names, url, variables, tree)
        run = Run(fleet, carrier, cluster, old)
        if fleet_rig.is_alone():
            run.drop = fleet_rig.set_apart(fleet, "a-3")
        async with trio.open_nursery() as nursery:
            await nursery.start(rest.serve)
            fleet.api = rest.url
            # As docs/deploying.md has it.
            waits = f'<Pause length="3"/><Redirect>{fleet.base}/twiml/after</Redirect>'
            run.fallback = await nursery.start(serve_bin, f"<Response>{waits}</Response>")
            try:
                await fleet.open(nursery)
                yield run
            finally:
                nursery.cancel_scope.cancel()
                fleet.close()


async def measure(run: Run, name: str, first: int, calls: int, talks: int) -> Row:
    """Calls that are numbered from `first` on, with that fault in their midst."""
    run.outcomes = []
    fault = FAULTS[name]
    if fault.before is not None:
        await fault.before(run)
    async with trio.open_nursery() as nursery:
        numbers = range(first, first + calls)
        for number in numbers:
            nursery.start_soon(run.place, number, steps(number, talks + fault.lasts))
            await trio.sleep(1 / RATE)
        await run.has_heard(map(code_of, numbers))
        await trio.sleep(UNTIL_FAULT)
        await fault.do(run)
    if fault.after is not None:
        await fault.after(run)
    await trio.sleep(1.0)  # what was told last is on its way into the database
    return await trio.to_thread.run_sync(_row, run.fleet, name, run.outcomes)


def _row(fleet: Fleet, name: str, outcomes: list[Outcome]) -> Row:
    told_of = told_by_agent(fleet.agent_log)
    notes = fleet.notes.read_text().splitlines() if fleet.notes.exists() else []
    for each in outcomes:
        sid = each.call.call_sid
        of_call = [line for line in notes if line.startswith(sid)]
        complete(each, told_of.get(f"{each.number:04d}", []), fleet.record(sid), of_call)
        explain(each)
    moves = [move for each in outcomes for move in each.moves]
    return Row(
        fault=name,
        calls=len(outcomes),
        remembered=sum(each.is_remembered for each in outcomes),
        ended=sum(each.is_ended for each in outcomes),
        moves=len(moves),
        sessions=sum(each.sessions for each in outcomes),
        twice=sum(each.twice for each in outcomes),
        missing=sum(len(each.missing) for each in outcomes),
        gaps=[gap for _, gap in moves],
        moved=[each for each in outcomes if each.moves][:1],
    )


def explain(each: Outcome) -> None:
    """Whatever is not as it should be, a line each."""
    call = each.call
    fine = each.is_remembered and not each.is_ended and not each.missing and not each.twice
    late = [(at, gap) for at, gap in each.moves if gap > LATE]
    if fine and each.sessions == 1 and not late:
        return
    print(f"call {each.number} {call.call_sid}: ended by {call.ended_by}, missing {each.missing},"
          f" sessions {each.sessions}, twice {each.twice}", file=sys.stderr)  # fmt: skip
    for problem in call.problems:
        print(f"  {problem.at:.1f} s {problem.code} {problem.reason}", file=sys.stderr)
    for stream in call.streams:
        told = f"{stream.began:.1f} to {stream.ended:.1f} s, by {stream.ended_by}"
        print(f"  stream {stream.url}: {told}", file=sys.stderr)
    for at, gap in late:
        for who, track in (("caller", call.report.said), ("agent", call.report.heard)):
            told = ", ".join(
                f"{keys(track[length(begin) : length(end)])} {begin:.1f} to {end:.1f} s"
                for begin, end in spans(track, at - LATE)
                if begin < at + gap + 1.0
            )
            print(f"  around the gap at {at:.1f} s, {who}: {told}", file=sys.stderr)


async def main(wanted: argparse.Namespace, faults: Sequence[str], console: Console) -> list[Row]:
    rows = []
    has_postgresql = wanted.database == "postgresql"
    names = NAMES if has_postgresql else NAMES[:1]
    with tempfile.TemporaryDirectory(prefix="sts-trio-fleet-") as place:
        directory = Path(wanted.keep or place)
        tree, old = wanted.tree.resolve(), (wanted.old or wanted.tree).resolve()
        async with running(directory, names, has_postgresql, tree, old) as run:
            for number, name in enumerate(faults):
                row = await measure(run, name, 1000 * (number + 1), wanted.calls, wanted.talks)
                console.print(*row.cells, sep="  ")
                rows.append(row)
    return rows


def table(rows: Sequence[Row]) -> Table:
    told = Table(*COLUMNS)
    for row in rows:
        told.add_row(*row.cells)
    return told


def chosen(wanted: argparse.Namespace) -> list[str]:
    """The faults that are to be tried, and can be."""
    if wanted.faults:
        return list(wanted.faults)
    is_fleet = wanted.database == "postgresql"
    lacking = {OLD: wanted.old is not None, ALONE: fleet_rig.is_alone()}
    return [
        name
        for name, fault in FAULTS.items()
        if lacking.get(name, True) and (is_fleet or fault.alone)
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--calls", type=int, default=12)
    parser.add_argument("--talks", type=int, default=3, help="turns of each call")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--tree", type=Path, default=ROOT, help="whose code the processes run")
    parser.add_argument("--old", type=Path, help=f"a tree of an earlier version, for {OLD!r}")
    parser.add_argument("--keep", type=Path, help="a directory for what all of them say")
    parser.add_argument("--picture", type=Path, help="an SVG of the gap, a call of each fault")
    parser.add_argument("--alone", action="store_true", help=f"as root, for {ALONE!r}")
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    if given.alone and not fleet_rig.is_alone():
        fleet_rig.be_alone()
    out = Console(width=max(100, os.get_terminal_size().columns if sys.stdout.isatty() else 0))
    rows = trio.run(main, given, chosen(given), out)
    out.print(table(rows))
    moved = [(row.fault, each) for row in rows for each in row.moved]
    if given.picture and moved:
        fleet_picture.draw(given.picture, moved)
