"""`RESULTS.md` out of what was measured. Every figure is `results.json`'s or follows from it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import msgspec
import sums
from results import (
    BadAgent,
    BadAgents,
    Beside,
    Capacities,
    Capacity,
    Cell,
    Comparison,
    Garbage,
    Host,
    Hosts,
    Hotspots,
    Micro,
    Reconnects,
    Records,
    Results,
)
from servers import VARIANTS
from sums import Row, Spread

from sts_trio.load import criterion
from sts_trio.load.figures import Made

HEAD = """# What sts_trio costs, measured

Written by `bench/run.py` from `results.json`; how, what is measured and what it does not tell is in
[README.md](README.md). Compare within a table only: every table was measured in interleaved rounds
on one machine, and another hour or another machine has other milliseconds but much the same ratios.
"""

LEGEND = """\
In the tables, *CPU* is ms on a core per call and second; *times cheaper* than the ancestor that is,
the median of the rounds, with their range; *core* is how busy the bridge's core was. *words* are
the caller's, from Twilio to the agent, p50 / p99 in ms, including the wait until there is enough to
forward; *voice* is the agent's, to Twilio; *barge-in* is from the agent's `UserStartedSpeaking` to
Twilio's `clear`; *set-up* is from connecting to an open websocket. *audio* is what arrived, of the
caller's / of the agent's. *KB/call* is what the bridge grew by, shared out. *left open* are agent's
sockets that were still open 2 s after all callers had hung up. *times the limit*, where the relay
in C ran beside, is how many times its CPU that is, by round.
"""

TRIED = """\
## Tried, and not kept: the hot path compiled

mypyc 2.4.1 compiled 23 modules of it (2026-11-30): `wire/frames/reader` and `writer`,
`audio/frames`, of `logic` dialogue, caller_audio, agent_audio, playout, rest, routes, due, endings,
parts, agent_messages, history, limits, response, utterance, carryover, handing_over, reconnect and
perception, `bridge/outbox` and `net/cork`. It took all of them as they are. Modules that define
structs of msgspec were left out, as mypyc drops the arguments of their classes: of the hot path
these are stream, turns, session, closing, requests, answer_watch, output and ticker. The legs and
`bridge/run`, which are tasks of Trio, were not tried.

Judged by instructions (`valgrind --tool=callgrind`), as they are the same on a busy machine. A
scripted dialogue of the load generator's kind, through whole bridges on loopback, five frames a
tick: 1.744 million a call-second interpreted, 1.582 million compiled, both with what the rig does,
without the kernel. That is 1.10 times, and 1.3 was asked for. What is left is calls into C: reading
JSON, masks, sockets, and the loop.
"""


def write(results: Results) -> str:
    comparisons = [
        ("Calls", results.plain),
        ("Calls, with TLS to the agent", results.tls),
        ("Calls, with TLS to the callers", results.callers_tls),
        ("Calls with torn and fragmented frames, and pings", results.rough),
    ]
    sections = [
        *((made.made, _comparison(title, made)) for title, made in comparisons if made),
        *((made.made, _churn(made)) for made in (results.churn,) if made),
        *((made.made, _with_records(made)) for made in (results.with_records,) if made),
        *((made.made, _records(made)) for made in (results.records,) if made),
        *((made.made, _capacities(made)) for made in (results.capacities,) if made),
        *((made.made, _beside(made)) for made in (results.beside,) if made),
        *((made.made, _hosts(made)) for made in (results.hosts,) if made),
        *((made.made, _micro(made)) for made in (results.micro,) if made),
        *((made.made, _hotspots(made)) for made in results.hotspots),
        *((made.made, _reconnects(made)) for made in (results.reconnects,) if made),
        *((made.made, _bad_agents(made)) for made in (results.bad_agents,) if made),
        *((made.made, _garbage(results.garbage)) for made in [*results.garbage.values()][-1:]),
    ]
    parts = [HEAD]
    if sections:
        usual = sections[0][0]
        parts += [f"Unless a section says otherwise: {_machine(usual)}.\n", _variants(), LEGEND]
        for made, (title, *rest) in sections:
            parts += [f"## {title}\n", _when(made, usual), *rest]
        parts.append(TRIED)
    return "\n".join(parts)


def _when(made: Made, usual: Made) -> str:
    is_usual = msgspec.structs.replace(made, date=usual.date) == usual
    return f"Measured on {made.date}{'' if is_usual else f'; {_machine(made)}'}.\n"


def _machine(made: Made) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    return f"{made.cpu}, {made.cores} cores, {made.kernel}, {made.python}, {versions}"


def _variants() -> str:
    return "".join(f"- **{variant.name}**: {variant.what}.\n" for variant in VARIANTS.values())


# --- each kind of section: its title, then its paragraphs ----------------------------------------


def _comparison(title: str, comparison: Comparison) -> list[str]:
    rows = sums.rows(comparison)
    head = (
        *("calls", "variant", "CPU ms", "times cheaper", "core", "words ms", "voice ms"),
        *("barge-in ms", "set-up ms", "audio %", "KB/call", "left open"),
    )
    cells: Iterable[Sequence[str]] = map(_comparison_row, rows)
    if any(row.variant == sums.LIMIT for row in rows):
        head = (*head, "times the limit")
        cells = ((*_comparison_row(row), spread(row.beyond_limit)) for row in rows)
    return [
        title,
        f"Rounds: {comparison.rounds}, of {comparison.seconds:g} s for every variant in"
        f" turn{_note(comparison.note)}.\n",
        *(["![Calls against CPU and against delay](chart.svg)\n"] if title == "Calls" else []),
        _table(head, cells),
        *_memory(comparison),
        *_faults(rows, comparison.cells),
    ]


def _comparison_row(row: Row) -> Sequence[str]:
    return (
        str(row.calls),
        row.variant,
        f"{row.cpu:.2f}",
        spread(row.ratio),
        f"{100 * row.utilisation:.0f} %",
        pair(row.up_p50, row.up_p99),
        pair(row.down_p50, row.down_p99),
        pair(row.clear_p50, row.clear_p99),
        pair(row.setup_p50, row.setup_p99),
        f"{row.up_ok:.1f} / {row.down_ok:.1f}",
        f"{row.kb_per_call:.0f}",
        str(row.left_open),
    )


def _memory(comparison: Comparison) -> list[str]:
    """The slope, as the table's column has in it what every process needs once."""
    each = [f"{name} {kb:.0f}" for name, kb in sums.memory_per_call(comparison).items()]
    return [f"One call more takes so many KB: {', '.join(each)}.\n"] if each else []


def _faults(rows: Iterable[Row], cells: Iterable[Cell]) -> list[str]:
    found = [f"- {row.calls} {row.variant}: {', '.join(row.faults)}" for row in rows if row.faults]
    for cell in cells:
        missing = cell.runs.count(None)
        if missing:
            found.append(f"- {cell.calls} {cell.variant}: rounds without figures: {missing}")
    parts = ["No call was refused or cut off, no block damaged, no barge-in unanswered.\n"]
    if found:
        parts = ["What went wrong, in all rounds together:\n", *found, ""]
    voids = sum(cell.voids for cell in cells)
    if voids:
        parts.append(f"Runs done again because the generator had been too slow: {voids}.\n")
    return parts


def _churn(comparison: Comparison) -> list[str]:
    rows = sums.rows(comparison)
    head = ("calls", "variant", "CPU ms a set-up", "set-up ms", "audio %", "KB/call", "left open")
    return [
        "Calls that come and go",
        f"{comparison.churn:g} calls ended and {comparison.churn:g} started per second beside those"
        " that stand. *CPU* here is what one more set-up and tear-down costs: the difference to the"
        " same rounds without any. What is on its way when its caller hangs up counts as lost.\n",
        _table(head, map(_churn_row, rows)),
        *_faults(rows, comparison.cells),
    ]


def _with_records(comparison: Comparison) -> list[str]:
    rows = sums.rows(comparison)
    kept_nothing = {cell.calls: cell for cell in comparison.cells if cell.variant == "ours"}
    more = {
        (cell.calls, cell.variant): sums.ratio(cell, kept_nothing[cell.calls])
        for cell in comparison.cells
    }
    late = {(cell.calls, cell.variant): cell.late_ticks for cell in comparison.cells}
    table = [
        (
            str(row.calls),
            row.variant,
            f"{row.cpu:.3f}",
            spread(more[row.calls, row.variant]),
            pair(row.up_p50, row.up_p99),
            pair(row.clear_p50, row.clear_p99),
            ", ".join(map(str, late[row.calls, row.variant])),
            f"{row.up_ok:.1f} / {row.down_ok:.1f}",
        )
        for row in rows
    ]
    head = (
        *("calls", "variant", "CPU ms", "of what ours takes", "words ms", "barge-in ms"),
        *("late ticks", "audio %"),
    )
    return [
        "What records cost the calls",
        f"Rounds: {comparison.rounds}, of {comparison.seconds:g} s for every variant in turn. Here"
        " *ours* keeps nothing. The CPU of the records' threads is in it, PostgreSQL's is not."
        " *late ticks* are told round by round.\n",
        _table(head, table),
        *_faults(rows, comparison.cells),
    ]


def _records(records: Records) -> list[str]:
    steady = [
        (
            each.database,
            str(each.rate),
            f"{100 * each.cpu_share:.1f} %",
            _three(each.safe_ms),
            _three(each.stored_ms),
            _three(each.loop_late_ms),
        )
        for each in records.steady
    ]
    kills = [
        (
            each.database,
            f"{each.kills} × {each.calls}",
            str(each.rows),
            str(each.lost),
            str(each.most_lost),
            _three(each.oldest_ms),
        )
        for each in records.kills
    ]
    parts = [
        "Records",
        "Rows at a steady rate, by one process: its CPU, of a core; then p50 / p99 / most in ms"
        " from the event on, until an end of the process does not lose it, and until it is in the"
        " database; and how late the loop was.\n",
        _table(("database", "rows/s", "CPU", "safe ms", "stored ms", "loop late ms"), steady),
        "Servers that were killed (-9) in the midst of conversations: how many with how many calls"
        " each, and what of the events that they had told is in no database after the next start;"
        " *before* is when the oldest that it lost had happened, p50 / p99 / most in ms.\n",
        _table(("database", "kills", "events", "lost", "by one", "before ms"), kills),
    ]
    for day in records.days:
        lists = [(name, f"{p50:.1f}", f"{p99:.1f}") for name, (p50, p99) in day.lists_ms.items()]
        parts += [
            f"A day of {day.calls} calls with {day.rows_a_call} events each, {day.database}:"
            f" {day.mb:.0f} MB, {1000 * day.mb / day.calls:.1f} kB a call; retention deletes all of"
            f" it in {day.retention_seconds:.0f} s. What a page of 50 calls takes to be found:\n",
            _table(("list", "p50 ms", "p99 ms"), lists),
        ]
    return parts


def _three(ms: tuple[float, float, float]) -> str:
    return " / ".join(f"{each:.0f}" for each in ms)


def _churn_row(row: Row) -> Sequence[str]:
    return (
        str(row.calls),
        row.variant,
        number(row.cpu_per_set_up),
        pair(row.setup_p50, row.setup_p99),
        f"{row.up_ok:.1f} / {row.down_ok:.1f}",
        f"{row.kb_per_call:.0f}",
        str(row.left_open),
    )


def _capacities(capacities: Capacities) -> list[str]:
    rows = ((found.variant, _most(found)) for found in capacities.found)
    tls = ", with TLS to the agent" if capacities.tls else ""
    return [
        "Calls on one core",
        _criterion(capacities.seconds, tls) + "\n",
        _table(("variant", "calls"), rows),
    ]


def _beside(beside: Beside) -> list[str]:
    load = beside.by_load
    rows = (
        (variant, _most(found), _most(load[variant]) if variant in load else "-")
        for variant, found in beside.by_bench.items()
    )
    return [
        "Calls on one core, by two tools",
        f"{_criterion(beside.seconds)} By `bench/run.py --capacity`, with a fresh server for each"
        " number, and by `sts-trio load --find-capacity`, with one server for all of them, in which"
        " the ancestor keeps the agents of calls that are over; both with the generator in"
        f" C{_note(beside.note)}.\n",
        _table(("variant", "by the bench", "by `sts-trio load`"), rows),
    ]


def _criterion(seconds: float, more: str = "") -> str:
    return (
        f"The most calls with {criterion.LEAST_OK} % of the audio delivered each way, words delayed"
        f" by less than {criterion.MAX_UP_P99:.0f} ms (p99) beyond what is gathered before"
        f" forwarding, and barge-in within {criterion.MAX_CLEAR_P99:.0f} ms (p99), over"
        f" {seconds:g} s{more}. To within 5 %; a failure had to be one twice."
    )


def _most(found: Capacity) -> str:
    return f"{'more than ' if found.is_least else ''}{found.calls}"


def _note(note: str) -> str:
    return f"; {note}" if note else ""


def _hosts(hosts: Hosts) -> list[str]:
    seconds = sorted({round(run.seconds) for each in hosts.found for run in each.runs})
    return [
        "One host, two cores",
        f"Rounds: {max(len(each.runs) for each in hosts.found)}, of"
        f" {' or '.join(map(str, seconds))} s, the setups in turn{_note(hosts.note)}. By"
        " `bench/host.py`: CPU in ms for a call and second, by whose it is; records in one"
        " PostgreSQL. The generator shares the second core, and its own is in none of this.\n",
        _table(
            ("calls", "setup", *OWNERS, "together", "of a process's", "audio %"),
            (_host_row(each) for each in hosts.found if each.runs),
        ),
        "*of a process's*: how much HAProxy takes of what the processes behind it take.\n",
    ]


# Whose CPU a call takes.
OWNERS = PROCESSES, PROXY, DATABASE = "processes", "HAProxy", "PostgreSQL"


def _host_row(host: Host) -> Sequence[str]:
    cpu = {owner: median(each.get(owner, 0.0) for each in host.cpu) for owner in OWNERS}
    audio = [median(getattr(run, way).ok for run in host.runs) for way in ("up", "down")]
    share = f"{cpu[PROXY] / cpu[PROCESSES]:.2f}" if cpu[PROXY] else "-"
    return (
        str(host.calls),
        host.setup,
        *(f"{cpu[owner]:.2f}" if cpu[owner] else "-" for owner in OWNERS),
        f"{sum(cpu.values()):.2f}",
        share,
        " / ".join(f"{each:.1f}" for each in audio),
    )


def _micro(micro: Micro) -> list[str]:
    rows = (
        (unit.name, f"{unit.ours:.2f}", f"{unit.stdlib:.2f}" if unit.stdlib else "")
        for unit in micro.units
    )
    turns = [(turn.name, f"{turn.warm:.1f}", f"{turn.cold:.1f}") for turn in micro.turns]
    told = [
        "All that is done for one call, system calls included, in µs: the median of several rounds"
        " of all calls, with warm caches and with cold ones. In service they are rather cold.\n",
        _table(("for one call", "warm", "cold"), turns),
    ]
    return [
        "Single steps",
        "µs, the best of several tries in a tight loop.\n",
        _table(("step", "ours", "json and base64"), rows),
        *(told if turns else []),
    ]


def _hotspots(hotspots: Hotspots) -> list[str]:
    rows = ((layer.name, f"{100 * layer.share:.1f} %") for layer in hotspots.layers)
    return [
        f"Where the time goes: {hotspots.variant}, {hotspots.calls} calls",
        f"{hotspots.samples} samples of py-spy; each counts for the innermost layer it is in. Some"
        " of the waiting is sleep taken for work: the less busy the bridge, the more.\n",
        _table(("layer", "share"), rows),
    ]


def _reconnects(reconnects: Reconnects) -> list[str]:
    head = (
        "the agent dies",
        "calls",
        "first word after",
        "of that, silence",
        "wait for the answer",
    )
    rows = (
        (
            each.died,
            str(len(each.gaps_ms)),
            spread_of(each.gaps_ms),
            spread_of(each.silences_ms),
            spread_of(each.waits_ms),
        )
        for each in reconnects.found
    )
    return [
        "The gap that a caller hears when the agent is lost",
        "By `bench/reconnect.py`: from the agent's death to the first word that the phone plays of"
        " the fresh one, in ms, p50 / p99 / most. The agent sends faster than it speaks, so while"
        " it answers there is something left to be heard, and the fresh one is there before that"
        " is over. *wait for the answer* is from the end of the question; half a second of it is"
        f" the agent's way to tell that a question is over. {reconnects.calls} calls lose their"
        " agents at one moment; bridge, agent and phones share a process: scripted agent, loopback."
        "\n",
        _table(head, rows),
    ]


def _bad_agents(bad: BadAgents) -> list[str]:
    head = ["what the bad agent sends", "turn", "barge-in", "/healthz"]
    if bad.before:
        head += ["before: turn", "barge-in", "/healthz"]
    rows = []
    for name, after in bad.after.items():
        row = [name, *_noticed(after)]
        if bad.before:
            row += _noticed(bad.before[name]) if name in bad.before else [""] * 3
        rows.append(row)
    return [
        "One agent that misbehaves, and another call",
        "By `bench/bad_agent.py`: one bad agent, which sends as fast as the bridge takes it, for"
        f" {bad.seconds:g} s, and beside it a good one, whose caller speaks up a hundred times a"
        " second. *turn* is the longest that any task of the bridge took, in ms of CPU time:"
        " nobody else is served meanwhile. *barge-in* is from the good agent's"
        " `UserStartedSpeaking` to its caller's `clear`, in ms, p50 / p99 / most, from when it was"
        " due; */healthz* is the latest answer of twenty a second. The first row is without a bad"
        " agent: what is in it is the machine's own, which had other things to do. So what was"
        " above 20 ms (p99) was tried again, at most four times, and the best is told. Before,"
        " one message could stop every call.\n",
        _table(head, rows),
    ]


def _noticed(bad: BadAgent) -> list[str]:
    return [
        number(bad.turn_ms),
        " / ".join(map(number, bad.barge_in_ms)),
        number(bad.health_ms),
    ]


def _garbage(garbage: Mapping[str, Garbage]) -> list[str]:
    *_, last = garbage.values()
    owners = dict.fromkeys(
        owner for measured in garbage.values() for left in measured.left for owner in left.owners
    )
    lefts = [(name, left) for name, measured in garbage.items() for left in measured.left]
    pauses = (
        (
            name,
            each.lane,
            str(each.standing),
            number(each.longest_ms),
            number(each.longest_cpu_ms),
            str(each.most_objects),
            str(each.runs),
            number(each.all_cpu_ms),
            number(each.latest_tick_ms),
        )
        for name, measured in garbage.items()
        for each in measured.pauses
    )
    memory = (
        (
            name,
            each.lane,
            str(each.step * (len(each.mb) - 1)),
            *(f"{each.mb[round(share * (len(each.mb) - 1))]:.0f}" for share in (0, 0.1, 0.5, 1)),
        )
        for name, measured in garbage.items()
        for each in measured.memory
    )
    return [
        "What calls leave to the garbage collector",
        "By `bench/garbage.py`, before calls were seen to leave nothing, and now."
        f" {last.rate:g} calls a second come by the webhook and go by `stop`, a lost socket or the"
        " agent's goodbye, in turn.\n",
        "![Longest run of the collector, and memory](garbage.svg)\n",
        "Objects in cycles, for each call, by the package whose classes they are of:\n",
        _table(
            ("", *(f"{name}, {left.lane}" for name, left in lefts)),
            [
                (owner, *(f"{left.owners.get(owner, 0):.1f}" for _, left in lefts))
                for owner in owners
            ]
            + [("**all**", *(f"**{sum(left.owners.values()):.1f}**" for _, left in lefts))],
        ),
        "What is left now: "
        + "; ".join(
            f"`{path.removesuffix(' ->')}` ({count:.0f} objects)"
            for path, count in (last.left[0].cycles if last.left else {}).items()
        )
        + ". Werkzeug leaves it with each request, of which such a call has two.\n",
        f"The collector's runs while so many calls stand and others come and go, for"
        f" {last.seconds:g} s: the longest in ms, what of that was this process's own turn on the"
        " CPU, the most objects looked at in one, how many runs there were, what all of them took;"
        " and the latest tick.\n",
        _table(
            (
                *("", "leg", "calls", "longest ms", "of the CPU", "objects", "runs", "all ms"),
                "latest tick ms",
            ),
            pauses,
        ),
        "RSS in MB before the first call, and after a tenth of all, a half, and all:\n",
        _table(("", "leg", "calls", "before", "a tenth", "half", "all"), memory),
    ]


# --- figures as text -----------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def spread(value: Spread) -> str:
    if math.isnan(value.median):
        return "-"
    if value.least == value.most:
        return f"**{value.median:.2f}**"
    return f"**{value.median:.2f}** ({value.least:.2f} to {value.most:.2f})"


def pair(middle: float, tail: float) -> str:
    return f"{number(middle)} / {number(tail)}"


def spread_of(values: Sequence[float]) -> str:
    """p50 / p99 / most, by nearest rank."""
    ordered = sorted(values)
    if not ordered:
        return "-"
    ranks = (math.ceil(share * len(ordered)) - 1 for share in (0.5, 0.99, 1.0))
    return " / ".join(f"{ordered[rank]:.0f}" for rank in ranks)


def number(value: float) -> str:
    """Three digits at the most: the rest would be noise."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
