"""Figures out of runs: medians, ratios, verdicts, and the search for the capacity. Pure."""

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from results import Cell, Comparison

from sts_trio.load import criterion
from sts_trio.load.figures import Delays, Run

BASE = "ancestor"
LIMIT = "C"


class Spread(NamedTuple):
    median: float
    least: float
    most: float


NONE = Spread(math.nan, math.nan, math.nan)


class Row(NamedTuple):
    """A cell in figures. Delays in ms, NaN where there was nothing to be measured."""

    calls: int
    variant: str
    rounds: int
    cpu: float  # ms of CPU per call and second
    ratio: Spread  # how many times the base's CPU is this one's, round by round
    beyond_limit: Spread  # how many times this one's CPU is the limit's
    utilisation: float
    up_p50: float
    up_p99: float
    down_p50: float
    down_p99: float
    clear_p50: float
    clear_p99: float
    setup_p50: float
    setup_p99: float
    kb_per_call: float
    rss_mb: float
    up_ok: float
    down_ok: float
    left_open: int
    cpu_per_set_up: float  # ms of CPU for one call more, started and ended
    faults: list[str]


def rows(comparison: Comparison) -> list[Row]:
    """One row for each cell that has a run."""
    named = {(cell.calls, cell.variant): cell for cell in comparison.cells}
    return [
        _row(cell, named.get((cell.calls, BASE)), named.get((cell.calls, LIMIT)))
        for cell in comparison.cells
        if any(runs_of(cell))
    ]


def runs_of(cell: Cell) -> list[Run]:
    return [run for run in cell.runs if run is not None]


def _row(cell: Cell, base: Cell | None, limit: Cell | None) -> Row:
    runs = runs_of(cell)

    def middle(value: Callable[[Run], float]) -> float:
        return median(map(value, runs))

    return Row(
        calls=cell.calls,
        variant=cell.variant,
        rounds=len(runs),
        cpu=middle(lambda run: run.cpu_ms_per_call_second),
        ratio=ratio(base, cell),
        beyond_limit=NONE if limit is None else ratio(cell, limit),
        utilisation=middle(lambda run: run.utilisation),
        up_p50=delay(runs, "up_ms", "p50"),
        up_p99=delay(runs, "up_ms", "p99"),
        down_p50=delay(runs, "down_ms", "p50"),
        down_p99=delay(runs, "down_ms", "p99"),
        clear_p50=delay(runs, "clear_ms", "p50"),
        clear_p99=delay(runs, "clear_ms", "p99"),
        setup_p50=delay(runs, "setup_ms", "p50"),
        setup_p99=delay(runs, "setup_ms", "p99"),
        kb_per_call=middle(lambda run: run.kb_per_call),
        rss_mb=middle(lambda run: run.rss_mb),
        up_ok=middle(lambda run: run.up.ok),
        down_ok=middle(lambda run: run.down.ok),
        left_open=max(run.left_open for run in runs),
        cpu_per_set_up=_cpu_per_set_up(cell),
        faults=faults(runs) + ([f"{cell.warnings} lines logged"] if cell.warnings else []),
    )


def delay(runs: Sequence[Run], which: str, percentile: str) -> float:
    """In the middle of the runs that have any of that kind; NaN: none has."""
    found: list[Delays] = [d for run in runs if (d := getattr(run, which)) is not None]
    return median(getattr(d, percentile) for d in found) if found else math.nan


def ratio(base: Cell | None, cell: Cell) -> Spread:
    """How many times cheaper the cell is than the base, compared within each round only."""
    pairs = zip(base.runs, cell.runs, strict=True) if base is not None else ()
    each = [
        b.cpu_ms_per_call_second / run.cpu_ms_per_call_second
        for b, run in pairs
        if b is not None and run is not None and run.cpu_ms_per_call_second
    ]
    if not each:
        return NONE
    return Spread(median(each), min(each), max(each))


def memory_per_call(comparison: Comparison) -> dict[str, float]:
    """{variant: KB for one call more}, from the least calls to the most: what is there once, and
    the first call needs, is no part of it."""
    found = {}
    for variant in {cell.variant: None for cell in comparison.cells}:
        mine = sorted(
            (row for row in rows(comparison) if row.variant == variant), key=lambda row: row.calls
        )
        if mine and mine[-1].calls > mine[0].calls:
            more_kb = (mine[-1].rss_mb - mine[0].rss_mb) * 1024
            found[variant] = more_kb / (mine[-1].calls - mine[0].calls)
    return found


def _cpu_per_set_up(cell: Cell) -> float:
    each = [
        (run.utilisation - still.utilisation) * 1000 * run.seconds / run.churned
        for still, run in zip(cell.still, cell.runs, strict=False)
        if still is not None and run is not None and run.churned
    ]
    return median(each) if each else math.nan


def faults(runs: Sequence[Run]) -> list[str]:
    """What went wrong, in words; nothing if all went as it should."""
    counts = {
        "calls not through": sum(run.calls - run.live for run in runs),
        "calls refused": sum(run.refused for run in runs),
        "calls cut off": sum(run.cut_off for run in runs),
        "blocks damaged": sum(run.up.faults + run.down.faults for run in runs),
        "blocks missing in between": sum(run.up.lost + run.down.lost for run in runs),
        "strange messages": sum(run.strange for run in runs),
        "barge-ins unanswered": sum(run.clears.asked - run.clears.answered for run in runs),
        "clears unasked for": sum(run.clears.unasked for run in runs),
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def search(does_well: Callable[[int], bool], first: int, most: int) -> int:
    """As `criterion.searching` has it."""
    search = criterion.searching(first, most)
    number = next(search)
    while True:
        try:
            number = search.send(does_well(number))
        except StopIteration as found:
            return int(found.value)


def failures(comparison: Comparison, at_least: float) -> list[str]:
    """Why this comparison must not pass: judged by ratios and by harm done, never by ms."""
    found = []
    for row in rows(comparison):
        if row.variant != "ours":
            continue
        where = f"{row.calls} calls"
        # A ratio that could not be measured is no success.
        if not row.ratio.median >= at_least:
            found.append(f"{where}: {row.ratio.median:.2f} times cheaper, not {at_least:g}")
        if min(row.up_ok, row.down_ok) < criterion.LEAST_OK:
            found.append(f"{where}: {row.up_ok:.2f} / {row.down_ok:.2f} % of the audio arrived")
        found += [f"{where}: {fault}" for fault in row.faults]
        if row.left_open:
            found.append(f"{where}: {row.left_open} sockets left open")
    if not any(row.variant == "ours" for row in rows(comparison)):
        found.append("ours: nothing was measured")
    return found
