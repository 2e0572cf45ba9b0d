"""What a load test tells: as JSON that others can compare with theirs, and as a table.

The JSON is a `Report`; `sts-trio load --schema` prints its JSON Schema. A field that is taken away
or means something else makes another `version`.
"""

from typing import Literal

import msgspec
from rich import box
from rich.table import Table

from sts_trio.load.criterion import short
from sts_trio.load.figures import Delays, Made, Run
from sts_trio.load.plan import Plan
from sts_trio.load.watched import Possessions


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One run. It is void if the generator was the bottleneck: then nothing is known of it."""

    calls: int
    verdict: Literal["well", "not well", "void"]
    reasons: list[str]  # why it is not well, or void
    run: Run


class Capacity(msgspec.Struct, frozen=True):
    """The most calls with which the bridge did well, to within 5 %.

    `is_least`: the bridge's end was not seen, as the search, the generator or the budget came to
    theirs first.
    """

    calls: int
    is_least: bool


class Report(msgspec.Struct, frozen=True, kw_only=True):
    schema: Literal["sts-trio load"] = "sts-trio load"
    version: Literal[1] = 1
    tool: str  # sts-trio's own version
    made: Made
    generator: Literal["C", "Python"]
    criterion: dict[str, float]
    plan: Plan
    tried: list[Tried]
    capacity: Capacity | None = None
    refusals: dict[str, int] = {}  # {what the webhook said: how often}
    before: Possessions | None = None
    after: Possessions | None = None
    left_behind: list[str] = []

    @property
    def last(self) -> Tried:
        return self.tried[-1]


def schema() -> bytes:
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Report)), indent=2)


def encode(report: Report) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def table(report: Report) -> Table:
    """Two rows a run, for the median and the 99th percentile of what takes time. No wider than a
    terminal of 80 columns."""
    own = report.last.run.heard is None
    watched = any(tried.run.rss_mb for tried in report.tried)
    heads = ["calls", "verdict", "ms", *DELAYS[own]]
    heads += ["audio %"] if own else []
    heads += ["a call"] if watched else []
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for head in heads:
        table.add_column(
            head, justify="left" if head in ("verdict", "ms") else "right", no_wrap=True
        )
    for tried in report.tried:
        for row in _rows(tried, own=own, watched=watched):
            table.add_row(*row)
    return table


# What a column is of, whether the agent is the generator's own.
DELAYS = {
    True: {"words": "up_ms", "voice": "down_ms", "barge-in": "clear_ms", "set-up": "setup_ms"},
    False: {"answer": "", "barge-in": "clear_ms", "set-up": "setup_ms"},
}


def _rows(tried: Tried, *, own: bool, watched: bool) -> list[list[str]]:
    run = tried.run
    heard = None if run.heard is None else run.heard.answer_ms
    each: list[Delays | None] = [
        getattr(run, name) if name else heard for name in DELAYS[own].values()
    ]
    rows = [
        [str(tried.calls), tried.verdict, "p50", *(short(it.p50) if it else "-" for it in each)],
        ["", f"{run.failed} failed", "p99", *(short(it.p99) if it else "-" for it in each)],
    ]
    if own:
        rows[0].append(f"{run.up.ok:.1f} up")
        rows[1].append(f"{run.down.ok:.1f} down")
    if watched:
        is_known = run.rss_mb > 0  # a process that died has none
        rows[0].append(f"{run.cpu_ms_per_call_second:.2f} ms" if is_known else "-")
        rows[1].append(f"{run.kb_per_call:.0f} KB" if is_known else "-")
    return rows


def _generator(report: Report) -> str:
    """Of the runs that tell something, the one in which it had most to do."""
    runs = [each.run for each in report.tried if each.verdict != "void"]
    if not runs:
        return f"Generator in {report.generator}: too slow in every run."
    share = max(run.own_utilisation for run in runs)
    late = max((run.own_lag.p99 for run in runs if run.own_lag is not None), default=0.0)
    return (
        f"Generator in {report.generator}: at most {100 * share:.0f} % of a core, and late by"
        f" {short(late)} ms (p99)."
    )


def sentences(report: Report) -> list[str]:
    """What the table does not say."""
    last = report.last
    found = [_generator(report)]
    if report.capacity is not None:
        more = "at least " if report.capacity.is_least else ""
        found.append(f"Capacity: {more}{report.capacity.calls} calls.")
    if last.reasons:
        found.append(f"{last.calls} calls, {last.verdict}: {'; '.join(last.reasons)}.")
    for reason, count in report.refusals.items():
        found.append(f"{count} time{'' if count == 1 else 's'}: {reason}.")
    kept, left = last.run.kept, last.run.left_open
    if kept:
        found.append(f"Callers kept for 5 s after their agent had ended the session: {kept}.")
    if left:
        found.append(f"Sockets of the agent open 2 s after their caller had gone: {left}.")
    if report.left_behind:
        found.append(f"Left behind in the server: {', '.join(report.left_behind)}.")
    if report.before is not None and report.after is not None:
        found.append(
            f"Memory: {report.before.rss_mb:.0f} MB before, {report.after.rss_mb:.0f} after."
        )
    return found
