"""What was measured, as it is kept in `results.json`. No figures are made up here: see `sums.py`.

Each kind of measurement is a section with its own date and machine, so that one can be measured
again without the others. Times are milliseconds, as their names say.
"""

from pathlib import Path

import msgspec

from sts_trio.load.figures import Made, Run


class Cell(msgspec.Struct):
    """One variant at one number of calls: its runs by round, None where a round gave none."""

    calls: int
    variant: str
    runs: list[Run | None]
    still: list[Run | None] = []  # with churn: the same rounds without any
    voids: int = 0  # tries that were thrown away because the generator was too slow
    warnings: int = 0  # lines that ours logged, at level `warning` and above
    late_ticks: list[int] = []  # of each run of ours


class Comparison(msgspec.Struct):
    made: Made
    rounds: int
    seconds: float
    churn: float
    cells: list[Cell]
    note: str = ""  # what else the machine did


class Capacity(msgspec.Struct):
    """The most calls with which a variant still does its work; `runs` are all that were tried."""

    variant: str
    calls: int
    is_least: bool  # the search was stopped before the variant was at its end
    runs: list[Run]


class Capacities(msgspec.Struct):
    made: Made
    seconds: float
    tls: bool
    found: list[Capacity]


class Beside(msgspec.Struct):
    """Capacities of the same variants by this bench, and by `sts-trio load --find-capacity`."""

    made: Made
    seconds: float
    note: str  # what else the machine did
    by_bench: dict[str, Capacity] = {}  # {variant: what was found}
    by_load: dict[str, Capacity] = {}


class Host(msgspec.Struct):
    """Processes of one host: what each call costs in ms of a core per second, by whose it is, and
    how it went, by round."""

    setup: str
    calls: int
    cpu: list[dict[str, float]] = []
    runs: list[Run] = []


class Hosts(msgspec.Struct):
    made: Made
    note: str  # what else the machine did
    found: list[Host]


class Unit(msgspec.Struct, frozen=True):
    """One operation in µs, ours and, where there is such a thing, with json and base64."""

    name: str
    ours: float
    stdlib: float | None


class Turn(msgspec.Struct, frozen=True):
    """What is done for one call in µs, with warm and with cold caches."""

    name: str
    warm: float
    cold: float


class Micro(msgspec.Struct):
    made: Made
    units: list[Unit]
    turns: list[Turn] = []


class Layer(msgspec.Struct, frozen=True):
    name: str
    share: float  # of the samples on the CPU


class Hotspots(msgspec.Struct):
    made: Made
    variant: str
    calls: int
    samples: int
    layers: list[Layer]


class Reconnect(msgspec.Struct, frozen=True):
    """Calls whose agent died: from then on, for each, how long until the next one was heard, how
    much of that was silence, and how long the caller waited for an answer, from the question on."""

    died: str  # where in the conversation
    gaps_ms: list[float]
    silences_ms: list[float]
    waits_ms: list[float]


class Reconnects(msgspec.Struct):
    made: Made
    calls: int  # at once
    found: list[Reconnect]


class BadAgent(msgspec.Struct, frozen=True):
    """What a good call, and who looks at /healthz, noticed of an agent that misbehaves."""

    barge_in_ms: tuple[float, float, float]  # p50, p99 and most of its barge-ins
    health_ms: float  # the latest answer
    turn_ms: float  # the longest of any task in the bridge, in CPU time
    sent_mb: float  # what the bad agent got rid of


class BadAgents(msgspec.Struct):
    made: Made
    seconds: float  # of each
    before: dict[str, BadAgent] = {}  # {misbehaviour: ...}; kept to compare with
    after: dict[str, BadAgent] = {}


class Left(msgspec.Struct, frozen=True):
    """What a call leaves to the collector, on average, in objects."""

    lane: str
    calls: int
    owners: dict[str, float]  # {package whose class it is: objects}
    cycles: dict[str, float]  # {way round: objects that it keeps}, the greatest first


class Pauses(msgspec.Struct, frozen=True, kw_only=True):
    """The collector's runs beside calls that stand, while others come and go."""

    lane: str
    standing: int
    runs: int
    longest_ms: float
    longest_cpu_ms: float  # what of it was this process's, and not another's turn
    most_objects: int  # looked at in one run
    all_cpu_ms: float
    latest_tick_ms: float


class Memory(msgspec.Struct, frozen=True):
    """RSS before the first call, and after each `step` of them."""

    lane: str
    step: int
    mb: list[float]


class Garbage(msgspec.Struct):
    made: Made
    seconds: float
    rate: float  # calls that come and go a second
    left: list[Left]
    pauses: list[Pauses]
    memory: list[Memory]


class Steady(msgspec.Struct, frozen=True, kw_only=True):
    """Rows put at a steady rate. Times in ms are p50, p99 and most, from `put` on."""

    database: str
    rate: int  # rows a second
    cpu_share: float  # of a core, of the whole process
    safe_ms: tuple[float, float, float]  # until a kill does not lose it
    stored_ms: tuple[float, float, float]  # until it is in the database
    loop_late_ms: tuple[float, float, float]


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """A day of calls in a database."""

    database: str
    calls: int
    rows_a_call: int
    mb: float
    lists_ms: dict[str, tuple[float, float]]  # {what is asked for: p50 and p99}
    retention_seconds: float  # until all of it is deleted


class Kills(msgspec.Struct, frozen=True, kw_only=True):
    """Servers that were killed in the midst of conversations."""

    database: str
    kills: int
    calls: int  # of each server, at once
    rows: int  # that they had put
    lost: int
    most_lost: int  # by one kill
    oldest_ms: tuple[float, float, float]  # p50, p99, most: before the kill


class Records(msgspec.Struct):
    made: Made
    steady: list[Steady] = []
    days: list[Day] = []
    kills: list[Kills] = []


class Results(msgspec.Struct, omit_defaults=True):
    plain: Comparison | None = None
    tls: Comparison | None = None
    callers_tls: Comparison | None = None
    churn: Comparison | None = None
    rough: Comparison | None = None
    with_records: Comparison | None = None
    records: Records | None = None
    capacities: Capacities | None = None
    beside: Beside | None = None
    hosts: Hosts | None = None
    micro: Micro | None = None
    hotspots: list[Hotspots] = []
    reconnects: Reconnects | None = None
    bad_agents: BadAgents | None = None
    garbage: dict[str, Garbage] = {}  # {"before" or "now": what was measured}


def load(path: Path) -> Results:
    """What was measured before; nothing if there is no such file."""
    if not path.exists():
        return Results()
    return msgspec.json.decode(path.read_bytes(), type=Results)


def save(results: Results, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
