"""What a load test tells: as JSON that others can compare with theirs, and as a table.

The JSON is a `Report`; `sts-trio load --schema` prints its JSON Schema. A field that is taken away
or means something else makes another `version`.
"""

from typing import Literal

import msgspec
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
    """One row a run."""
    heads = ("calls", "verdict", "failed", "words ms", "voice ms", "barge-in ms", "set-up ms")
    table = Table(*heads, "audio %", "CPU ms", "KB/call", "generator")
    for tried in report.tried:
        table.add_row(*_row(report, tried))
    return table


def _row(report: Report, tried: Tried) -> list[str]:
    run = tried.run
    is_own = run.heard is None
    watched = bool(report.plan.pids)
    return [
        str(tried.calls),
        tried.verdict,
        f"{run.failed} of {run.placed}",
        _pair(run.up_ms),
        _pair(run.down_ms) if run.heard is None else _pair(run.heard.answer_ms),
        _pair(run.clear_ms),
        _pair(run.setup_ms),
        f"{run.up.ok:.1f} / {run.down.ok:.1f}" if is_own else "-",
        f"{run.cpu_ms_per_call_second:.2f}" if watched else "-",
        f"{run.kb_per_call:.0f}" if watched else "-",
        f"{100 * run.own_utilisation:.0f} %, {_pair(run.own_lag)} ms late",
    ]


def _pair(delays: Delays | None) -> str:
    """p50 / p99."""
    return "-" if delays is None else f"{short(delays.p50)} / {short(delays.p99)}"


def sentences(report: Report) -> list[str]:
    """What the table does not say."""
    last, found = report.last, []
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
