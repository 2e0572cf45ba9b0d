"""Writes figures and pictures of `docs/scaling.md`: what a call costs, and a day of a fleet.

python docs/scaling.py

Costs are taken from `bench/results.json` and from the code's own constants. The day is reckoned,
not drawn by lot: in steps of ten seconds so many calls come and go as are expected. Only what
stands between the markers is replaced. A test fails while page and pictures are not current.
"""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec

from sts_trio.load.picture import Line, Panel, card
from sts_trio.records import database, writer

DOCS = Path(__file__).parent
PAGE = DOCS / "scaling.md"
PICTURES = DOCS / "pictures"
BENCH = DOCS.parent / "bench" / "results.json"
BEGIN = "<!-- {name}: written by docs/scaling.py, do not edit -->"
END = "<!-- /{name} -->"

PROXIED = "two behind HAProxy, TLS to it"  # of bench/host.py
SIZES = (1_000, 10_000, 100_000)  # calls at the same time, in the busiest minute of the day

# --- what is not measured by bench/run.py, and where it is from -----------------------------------

# Of what one process takes at the most, so much is planned: deploys, a lost zone and the next step
# of the scaler have to fit in.
PLANNED = 0.6
# Bytes of a Twilio media message, with its frame's head; of IP and TCP for each segment.
MEDIA, SEGMENT = 398, 52
# The share of a call in which the agent speaks.
AGENT_SPEAKS = 0.4
# The gap that a caller hears, p50 and p99 in seconds (bench/README.md): of a killed process, of a
# node with all of its calls, of one that is drained.
KILLED, DRAINED = (0.9, 1.4), (0.15, 1.1)
# The way back through Twilio and HAProxy is looked for by three checks, one a second.
NOTICED = 4.5
# Deepgram's documented sessions at once, of a project; Twilio's calls placed a second (both read
# 2026-11-30). Streams at once have no documented limit at Twilio.
DEEPGRAM = {"pay as you go": 45, "growth, North America": 60, "enterprise, from": 100}
TWILIO_PLACED = 1

# --- a day ----------------------------------------------------------------------------------------

STEP = 10.0
TALK = 240.0  # seconds that a call lasts, on average
# Arrivals by the hour, as shares of the busiest: those of an office, with its noon.
HOURS = (
    *(0.08, 0.06, 0.05, 0.05, 0.06, 0.10, 0.20, 0.45, 0.80, 1.00, 0.98, 0.90),
    *(0.75, 0.85, 0.95, 0.92, 0.85, 0.70, 0.50, 0.38, 0.30, 0.22, 0.16, 0.11),
)
ZONES = 3
SCALER_EVERY = 60.0  # looks once a minute; a process is ready within it
SCALE_IN_AFTER = 300.0  # of too many processes, before one goes
DEPLOYS = (10.5, 15.5)  # o'clock: one process after the other
DEPLOY_SECONDS = 1800.0  # for all of them
ZONE_LOST = 13.5  # o'clock


class Cost(NamedTuple):
    """Of one call, or of one process."""

    cpu_ms: float  # for each second of a call, at 1000 calls
    set_up_ms: float
    kb: float
    base_mb: float  # of a process without calls
    most: int  # calls of one process on the machine of the benchmark
    rows: int  # of a call, in all
    stored_kb: float
    deleted_a_second: float  # calls, by retention
    writer_cpu: float  # seconds of a core for each row, of the process that writes
    proxy_ms: float  # of HAProxy's, with TLS, for each second of a call

    @property
    def planned(self) -> int:
        return int(PLANNED * self.most)

    @property
    def down_bytes(self) -> float:
        """Out of Twilio each second, as it sends every 20 ms a segment."""
        return 50 * (MEDIA + SEGMENT)

    @property
    def up_bytes(self) -> float:
        """To Twilio each second: base64, in a message for each tenth of a second of speech."""
        return AGENT_SPEAKS * (8000 * 4 / 3 + 10 * (90 + SEGMENT))

    @property
    def agent_bytes(self) -> float:
        """To the agent and from it, without TLS: raw, in a frame for each tenth of a second."""
        return 8000 + 10 * (8 + SEGMENT) + AGENT_SPEAKS * (8000 + 8 * (4 + SEGMENT))


def costs() -> Cost:
    kept = msgspec.json.decode(BENCH.read_bytes())
    ours = {
        cell["calls"]: [run for run in cell["runs"] if run]
        for cell in kept["plain"]["cells"]
        if cell["variant"] == "ours"
    }
    few, many = min(ours), max(ours)
    churned = next(cell for cell in kept["churn"]["cells"] if cell["variant"] == "ours")
    set_ups = [
        (run["utilisation"] - still["utilisation"]) * 1000 * run["seconds"] / run["churned"]
        for still, run in zip(churned["still"], churned["runs"], strict=True)
        if still and run and run["churned"]
    ]
    day = next(each for each in kept["records"]["days"] if each["database"] == "PostgreSQL")
    steady = next(e for e in kept["records"]["steady"] if e["database"] == "PostgreSQL")
    found = next(each for each in kept["capacities"]["found"] if each["variant"] == "ours")
    proxied = [each for each in kept["hosts"]["found"] if each["setup"] == PROXIED]
    proxy = max(proxied, key=lambda each: each["calls"])["cpu"]
    more_kb = 1024 * (_median(ours[many], "rss_mb") - _median(ours[few], "rss_mb"))
    return Cost(
        cpu_ms=_median(ours[many], "cpu_ms_per_call_second"),
        set_up_ms=median(set_ups),
        kb=more_kb / (many - few),
        base_mb=_median(ours[few], "rss_mb") - more_kb / (many - few) * few / 1024,
        most=found["calls"],
        rows=day["rows_a_call"],
        stored_kb=1000 * day["mb"] / day["calls"],
        deleted_a_second=day["calls"] / day["retention_seconds"],
        writer_cpu=steady["cpu_share"] / steady["rate"],
        proxy_ms=median(each["HAProxy"] for each in proxy),
    )


def _median(runs: list[dict[str, float]], name: str) -> float:
    return median(run[name] for run in runs)


class Moment(NamedTuple):
    at: float  # o'clock
    calls: float
    processes: int
    moved: float  # calls, in this step
    rows: float  # a second


class Day(NamedTuple):
    moments: list[Moment]
    calls: float  # in all
    moved: dict[str, float]  # {why: calls}
    herd: float  # calls of the lost zone that each process left has to take
    full: float  # seconds in which calls were refused

    @property
    def most_processes(self) -> int:
        return max(moment.processes for moment in self.moments)

    @property
    def most_rows(self) -> float:
        return max(moment.rows for moment in self.moments)


def day(cost: Cost, peak: int) -> Day:
    """A day whose busiest minute has `peak` calls at the same time."""
    rate = peak / TALK
    calls = rate * _share(0.0) * TALK
    processes = _wanted(calls, cost)
    moments: list[Moment] = []
    moved = {"scale-in": 0.0, "deploys": 0.0, "lost zone": 0.0}
    total = herd = full = too_many_for = 0.0
    for step in range(round(86_400 / STEP)):
        at = step * STEP / 3600
        came = rate * _share(at) * STEP
        calls = calls * math.exp(-STEP / TALK) + came
        total += came
        now = 0.0
        for begins in DEPLOYS:
            if begins <= at < begins + DEPLOY_SECONDS / 3600:
                # Each process once; the next ones are up already.
                now += _note(moved, "deploys", calls * STEP / DEPLOY_SECONDS)
        if at <= ZONE_LOST < at + STEP / 3600:
            now += _note(moved, "lost zone", calls / ZONES)
            left = processes - math.ceil(processes / ZONES)
            herd = calls / ZONES / left
            processes = left
        if calls > processes * cost.most:
            full += STEP
        if step * STEP % SCALER_EVERY == 0:
            wanted = _wanted(calls, cost)
            too_many_for = too_many_for + SCALER_EVERY if wanted < processes else 0.0
            if wanted > processes:
                processes = wanted
            elif too_many_for > SCALE_IN_AFTER:
                now += _note(moved, "scale-in", calls / processes * (processes - wanted))
                processes, too_many_for = wanted, 0.0
        # A move claims the call, opens another leg and has another session; a process tells of
        # itself once a beat.
        rows = came / STEP * cost.rows + now / STEP * ROWS_OF_A_MOVE + processes / writer.BEAT_EVERY
        moments.append(Moment(at, calls, processes, now, rows))
    return Day(moments, total, moved, herd, full)


ROWS_OF_A_MOVE = 4


def _note(moved: dict[str, float], why: str, calls: float) -> float:
    moved[why] += calls
    return calls


def _share(at: float) -> float:
    """Arrivals at that time, as a share of the most: from the middle of an hour to the next."""
    before = math.floor(at - 0.5)
    part = at - 0.5 - before
    return HOURS[before % 24] * (1 - part) + HOURS[(before + 1) % 24] * part


def _wanted(calls: float, cost: Cost) -> int:
    """Processes; at least one in each zone."""
    return max(ZONES, math.ceil(calls / cost.planned))


# --- what is told ---------------------------------------------------------------------------------


def cost_table(cost: Cost) -> str:
    rows = [
        ("CPU", f"{cost.cpu_ms:.2f} ms of a core for each second of it", "bench/RESULTS.md, Calls"),
        (
            "the same, of HAProxy",
            f"{cost.proxy_ms:.2f} ms, with TLS",
            "bench/RESULTS.md, One host, two cores",
        ),
        ("its set-up", f"{cost.set_up_ms:.1f} ms of a core, once", "bench/RESULTS.md, come and go"),
        ("memory", f"{cost.kb:.0f} KB", "bench/RESULTS.md, Calls"),
        ("sockets", "2: Twilio's, the agent's", "one nursery, two legs"),
        ("from Twilio", f"{cost.down_bytes * 8 / 1000:.0f} kbit/s", "a frame every 20 ms"),
        ("to Twilio", f"{cost.up_bytes * 8 / 1000:.0f} kbit/s", _speaks()),
        ("to and from the agent", f"{cost.agent_bytes * 8 / 1000:.0f} kbit/s", _speaks()),
        ("rows", f"{cost.rows}, {cost.stored_kb:.1f} kB stored", "bench/RESULTS.md, Records"),
        (
            "writing them",
            f"{cost.writer_cpu * cost.rows * 1000:.1f} ms of a core, in its process",
            "bench/RESULTS.md, Records",
        ),
        ("Deepgram", "1 session", "1 of what the project may have at once"),
    ]
    lines = ["| of a call | | from |", "|---|---|---|"]
    return "\n".join(lines + [f"| {what} | {value} | {source} |" for what, value, source in rows])


def _speaks() -> str:
    return f"the agent speaks {100 * AGENT_SPEAKS:.0f} % of the time"


def day_table(cost: Cost, days: dict[int, Day]) -> str:
    def row(what: str, *values: str) -> str:
        return f"| {what} | {' | '.join(values)} |"

    def each(value: Callable[[int, Day], float], form: str = "{:,.0f}") -> list[str]:
        return [form.format(value(size, made)) for size, made in days.items()]

    connections = 2 * (database.READERS + 1)
    table = [
        row("calls at the same time", *(f"{size:,}" for size in days)),
        "|---" * (1 + len(days)) + "|",
        row("calls a day", *each(lambda size, made: made.calls)),
        row("set-ups a second, at the most", *each(lambda size, made: size / TALK)),
        row(f"processes, of {cost.planned} calls", *each(lambda size, made: made.most_processes)),
        row("cores that are busy", *each(lambda s, m: s * _busy(cost), "{:,.1f}")),
        row("cores of HAProxy", *each(lambda s, m: s * cost.proxy_ms / 1000, "{:,.1f}")),
        row("memory of processes, GB", *each(lambda s, m: _memory(cost, s, m), "{:,.1f}")),
        row("from Twilio, Gbit/s", *each(lambda s, m: s * cost.down_bytes * 8 / 1e9, "{:,.2f}")),
        row("rows a second, in the busiest minute", *each(lambda s, m: s / TALK * cost.rows)),
        row("and in the seconds in which a zone is lost", *each(lambda s, m: m.most_rows)),
        row("database, GB a day", *each(lambda s, m: m.calls * cost.stored_kb / 1e6, "{:,.1f}")),
        row("a day of it deleted in, minutes", *each(lambda s, m: m.calls / _deleted(cost))),
        row(
            "connections to the database",
            *each(lambda size, made: made.most_processes * connections),
        ),
        row("moved by scale-in", *each(lambda size, made: made.moved["scale-in"])),
        row("moved by two deploys", *each(lambda size, made: made.moved["deploys"])),
        row("moved by a lost zone", *each(lambda size, made: made.moved["lost zone"])),
        row("of these to each process left", *each(lambda size, made: made.herd)),
        row("gap of a drained process, s", *[f"{DRAINED[0]:g} / {DRAINED[1]:g}"] * len(days)),
        row("gap of a lost zone, s", *each(lambda s, m: gap_of_a_herd(cost, m), "{:.1f}")),
        row("seconds in which calls are refused", *each(lambda size, made: made.full)),
        row(
            "Deepgram sessions, times the most of “growth”",
            *each(lambda s, m: s / DEEPGRAM["growth, North America"]),
        ),
    ]
    return "\n".join(table)


def _busy(cost: Cost) -> float:
    """Cores of one call, with its share of set-ups and of rows."""
    once = cost.set_up_ms + 1000 * cost.writer_cpu * cost.rows
    return (cost.cpu_ms + once / TALK) / 1000


def _memory(cost: Cost, size: int, made: Day) -> float:
    """GB."""
    return (size * cost.kb / 1024 + made.most_processes * cost.base_mb) / 1024


def _deleted(cost: Cost) -> float:
    """Calls a minute."""
    return 60 * cost.deleted_a_second


def gap_of_a_herd(cost: Cost, made: Day) -> float:
    """Of the last one, from the loss on: it is noticed, and who is left sets all of them up beside
    what they have, on what is left of a core."""
    idle = 1 - (made.herd + cost.planned) * cost.cpu_ms / 1000
    return NOTICED + KILLED[1] + made.herd * cost.set_up_ms / 1000 / max(idle, 0.05)


def breaks_table(cost: Cost, largest: Day) -> str:
    """Where it breaks first: calls at the same time, what, and what to do."""
    plans = ", ".join(f"{most} ({plan})" for plan, most in DEEPGRAM.items())
    connections = 2 * (database.READERS + 1)
    of_a_card = 10e9 / 8 / (cost.down_bytes + cost.up_bytes)
    rows = [
        (
            min(DEEPGRAM.values()),
            "**The agent's quota.** Sessions at once that Deepgram documents for a project:"
            f" {plans}. More are refused with 429",
            "ask for more before anything else. A second region has a quota of its own:"
            " `DEEPGRAM_URL` takes several addresses",
        ),
        (
            TALK * TWILIO_PLACED,
            "**Calls that are placed**, if all are: Twilio's REST API takes"
            f" {TWILIO_PLACED} a second unless an account has more, and has others wait. Calls that"
            " come in have no such limit",
            "ask Twilio. Calls at once (10004) are a limit of the account, too",
        ),
        (
            (1024 - 200) / 2,
            "**Descriptors**: two a call, and 200; most systems give a process 1024",
            "`LimitNOFILE=` of the units, `maxconn` of HAProxy",
        ),
        (
            cost.planned,
            f"**A core.** A process serves {cost.most} calls on one at the most, and is planned for"
            f" {cost.planned}",
            "more processes, each with a core, and as many cores for HAProxy"
            " ([deploying.md](deploying.md))",
        ),
        (
            100 / connections * cost.planned,
            f"**PostgreSQL's connections**: a process may open {connections}, of 100 that there are"
            " by default",
            "`max_connections`, or PgBouncer in front: no statement is prepared, so that it may"
            " share connections by transaction",
        ),
        (
            of_a_card,
            "**One HAProxy**: what comes in has to go out again, and fills 10 Gbit/s each way; with"
            f" TLS it takes {of_a_card * cost.proxy_ms / 1000:.0f} cores by then",
            "several, each with processes of its own; DNS or an announced address shares calls out."
            " Twilio is led back to a process by its name",
        ),
        (
            SIZES[-1],
            f"**One database.** {SIZES[-1] / TALK * cost.rows:,.0f} rows a second, twice as many as"
            " a zone is lost. One process was measured at 500; how many PostgreSQL takes was not."
            f" To delete a day takes {largest.calls / _deleted(cost):.0f} minutes",
            "a database for each region; partitions by day, which are dropped and not deleted; read"
            " replicas for lists and reports",
        ),
        (
            SIZES[-1],
            "**A way from one point to another**:"
            f" {SIZES[-1] * cost.down_bytes * 8 / 1e9:.0f} Gbit/s",
            "a fleet in each region that Twilio streams from (US1, IE1, AU1)",
        ),
    ]
    lines = ["| calls, about | what | what to do |", "|---|---|---|"]
    return "\n".join(lines + [f"| {_round(at):,} | {what} | {to_do} |" for at, what, to_do in rows])


def _round(calls: float) -> int:
    """Two digits of it."""
    unit = 10 ** max(0, math.floor(math.log10(calls)) - 1)
    return round(calls / unit) * unit


# --- pictures -------------------------------------------------------------------------------------

HOURS_OF_A_DAY = tuple((float(hour), f"{hour}:00") for hour in range(0, 25, 6))


POINT = 18  # steps: three minutes


def rows_drawn(made: Day) -> list[tuple[float, float]]:
    """The most of each three minutes: what breaks a database is over in seconds."""
    steps = range(0, len(made.moments), POINT)
    lots = [made.moments[first : first + POINT] for first in steps]
    return [(lot[0].at, max(moment.rows for moment in lot)) for lot in lots]


def day_picture(cost: Cost, made: Day) -> str:
    every = made.moments[::POINT]
    planned = [(m.at, m.processes * cost.planned) for m in every]
    hour = [(h, sum(m.moved for m in made.moments if h <= m.at < h + 1) or 0.0) for h in range(24)]
    return card(
        [
            Panel(
                title="A day with 10,000 calls at its busiest",
                x="o'clock",
                y="calls",
                lines=[
                    Line("at the same time", [(m.at, m.calls) for m in every]),
                    Line("planned for", planned),
                ],
                ticks=HOURS_OF_A_DAY,
            ),
            Panel(
                title="Moves",
                x="o'clock",
                y="calls that change their process, in an hour",
                lines=[Line("deploys, a lost zone, scale-in", [(h + 0.5, n) for h, n in hour])],
                ticks=HOURS_OF_A_DAY,
            ),
            Panel(
                title="The database",
                x="o'clock",
                y="rows a second",
                lines=[Line("at the most", rows_drawn(made))],
                ticks=HOURS_OF_A_DAY,
            ),
        ]
    )


# Calls at the same time, on the way from the least to the most that is told of.
ON_THE_WAY = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)


def limits_picture(cost: Cost) -> str:
    """What grows, beside the most that one of it does."""
    return card(
        [
            Panel(
                title="What there has to be",
                x="calls at the same time",
                y="how many",
                lines=[
                    _growing("processes", lambda size: day(cost, size).most_processes),
                    _growing("rows a second", lambda size: size / TALK * cost.rows),
                    _growing("set-ups a second", lambda size: size / TALK),
                    _growing("100 Mbit/s", lambda size: size * cost.down_bytes * 8 / 1e8),
                ],
                is_logarithmic=True,
                ticks=((3.0, "1,000"), (4.0, "10,000"), (5.0, "100,000")),
            )
        ]
    )


def _growing(name: str, value: Callable[[int], float]) -> Line:
    return Line(name, [(math.log10(size), value(size)) for size in ON_THE_WAY])


# --- the page -------------------------------------------------------------------------------------


def written() -> dict[Path, str]:
    """{file: what it says}"""
    cost = costs()
    days = {size: day(cost, size) for size in SIZES}
    page = PAGE.read_text()
    blocks = {
        "cost": cost_table(cost),
        "day": day_table(cost, days),
        "breaks": breaks_table(cost, days[SIZES[-1]]),
    }
    for name, text in blocks.items():
        begin, end = BEGIN.format(name=name), END.format(name=name)
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    return {
        PAGE: page,
        PICTURES / "scaling-day.svg": day_picture(cost, days[10_000]),
        PICTURES / "scaling-limits.svg": limits_picture(cost),
    }


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text)
