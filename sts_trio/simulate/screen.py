"""Simulated calls on a terminal: who speaks while it runs, and what came of it."""

import math
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sts_trio.simulate.demo import Outcome
from sts_trio.simulate.phone import Moment
from sts_trio.simulate.report import Report

STEP = 0.25  # seconds in one character of a timeline
CALLER, AGENT = "cyan", "magenta"
REFRESH = 8  # times a second


class Timeline:
    """Who spoke when, a character for each quarter of a second; the newest at the right."""

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._seconds = 0.0
        self._caller: list[bool] = []
        self._agent: list[bool] = []

    def add(self, moment: Moment) -> None:
        self._seconds = moment.seconds
        cell = int(moment.seconds / STEP)
        for track, speaks in (
            (self._caller, moment.caller_speaks),
            (self._agent, moment.agent_speaks),
        ):
            track.extend([False] * (cell + 1 - len(track)))
            track[cell] = track[cell] or speaks

    def render(self, console: Console) -> Text:
        width = max(20, console.width - 30)
        text = Text()
        if self._name:
            text.append(f"{self._name}, {self._seconds:.1f} s\n", "bold")
        else:
            text.append(f"{self._seconds:.1f} s\n", "bold")
        for label, track, style in (
            ("caller", self._caller, CALLER),
            ("agent", self._agent, AGENT),
        ):
            text.append(f"  {label:<7}")
            text.append(_bar(track[-width:], console), style)
            text.append("\n")
        return text


def _bar(track: Iterable[bool], console: Console) -> str:
    loud, quiet = "█·" if console.encoding.startswith("utf") else "#."
    return "".join(loud if speaks else quiet for speaks in track)


class Screen:
    """Live timelines of calls by name, on a terminal; where there is none, nothing moves."""

    def __init__(self, console: Console, names: Sequence[str]) -> None:
        self._console = console
        self._timelines = {name: Timeline(name) for name in names}
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._shown = -math.inf

    def __enter__(self) -> "Screen":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()

    def watch(self, name: str, moment: Moment) -> None:
        self._timelines[name].add(moment)
        if self._live.is_started and moment.seconds >= self._shown + 1 / REFRESH:
            self._shown = moment.seconds
            self._live.update(self.render(), refresh=True)

    def render(self) -> Group:
        return Group(*(timeline.render(self._console) for timeline in self._timelines.values()))


def who_spoke_when(report: Report) -> Table:
    """A line for each time somebody spoke, with what is to be noticed about it."""
    answers = {
        round(turn.ended + turn.wait, 3): turn.wait
        for turn in report.turns
        if turn.wait is not None
    }
    lines = []
    for turn in report.turns:
        remark = ""
        if turn.talked_over is not None:
            remark = f"barges in; the agent is silent {turn.talked_over:.2f} s later"
        lines.append((turn.began, turn.ended, "caller", remark))
    for began, ended in report.agent_spans:
        wait = answers.get(round(began, 3))
        lines.append((began, ended, "agent", "" if wait is None else f"answers after {wait:.2f} s"))
    table = Table.grid(padding=(0, 2))
    for began, ended, who, remark in sorted(lines):
        style = CALLER if who == "caller" else AGENT
        table.add_row("", f"{began:5.1f} to {ended:5.1f} s", Text(who, style), remark)
    return table


def summary(report: Report) -> Table:
    """The figures of one call."""
    table = Table.grid(padding=(0, 2))
    first = report.first_agent_audio
    rows = [
        ("length", f"{report.seconds:.1f} s, hung up by the {report.closed_by}"),
        ("sent", f"{report.frames_sent} frames of 20 ms"),
        ("agent", f"{report.agent_heard:.1f} s heard of {report.agent_received:.1f} s received"),
        ("first heard", _list([] if first is None else [first])),
        ("answered after", _list(report.waits)),
        ("silent after barge-in", _list(report.talked_over)),
        ("marks, clears", f"{report.marks}, {report.clears}"),
    ]
    rows += [
        (f"Twilio warning {warning}", f"{count} messages; the first: {report.first_refusal}")
        for warning, count in report.refused.items()
    ]
    if report.out_of_time:
        rows.append(("limit", "reached: the caller hung up"))
    for name, value in rows:
        table.add_row("", name, value)
    return table


def outcomes_table(outcomes: Sequence[Outcome]) -> Table:
    """A line for each call of the demonstration."""
    columns = ("call", "turns", "answered after", "silent after barge-in", "result")
    table = Table(*columns, box=box.SIMPLE)
    for outcome in outcomes:
        report = outcome.report
        result = Text("as it should", "green")
        if outcome.fault is not None:
            result = Text(outcome.fault, "red")
        table.add_row(
            outcome.name,
            str(len(report.turns)) if report else "-",
            _list(report.waits if report else []),
            _list(report.talked_over if report else []),
            result,
        )
    return table


def _list(seconds: Sequence[float]) -> str:
    return ", ".join(f"{each:.2f} s" for each in seconds) or "-"
