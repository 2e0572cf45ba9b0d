"""Simulated calls on a terminal: who speaks and what while it runs, and what came of it."""

import math
from collections.abc import Iterable, Sequence

from rich.console import Console, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from sts_trio.simulate.phone import Moment
from sts_trio.simulate.report import Report
from sts_trio.simulate.transcript import AGENT, CALLER, CARRIER, Line
from sts_trio.wire.printable import encodable, printable

STEP = 0.25  # seconds in one character of a timeline
STYLES = {CALLER: "cyan", AGENT: "magenta", CARRIER: "dim"}
REFRESH = 8  # times a second


class Timeline:
    """Who spoke when, a character for each quarter of a second; the newest at the right."""

    def __init__(self) -> None:
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
        text = Text(f"{self._seconds:8.1f} s\n", "bold")
        for who, track in ((CALLER, self._caller), (AGENT, self._agent)):
            text.append(f"  {who:<7}")
            text.append(_bar(track[-width:], console), STYLES[who])
            text.append("\n")
        return text


def _bar(track: Iterable[bool], console: Console) -> str:
    loud, quiet = "█·" if console.encoding.startswith("utf") else "#."
    return "".join(loud if speaks else quiet for speaks in track)


class Screen:
    """One call: its lines as they are told, and below them on a terminal a timeline that moves."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._timeline = Timeline()
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._shown = -math.inf

    def __enter__(self) -> "Screen":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()

    def watch(self, moment: Moment) -> None:
        self._timeline.add(moment)
        if self._live.is_started and moment.seconds >= self._shown + 1 / REFRESH:
            self._shown = moment.seconds
            self._live.update(self._timeline.render(self._console), refresh=True)

    def tell(self, line: Line) -> None:
        show(self._console, shown(line, self._console.encoding))


def show(console: Console, what: RenderableType) -> None:
    """Into a file or a pipe without the spaces with which a terminal's lines are filled.

    A table that is wider than the terminal is told row by row: rich would cut its figures off.
    """
    if isinstance(what, Table) and what.show_header and _width(console, what) > console.width:
        what = _row_by_row(what)
    if console.is_terminal:
        console.print(what)
        return
    with console.capture() as lines:
        console.print(what)
    for line in lines.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def _width(console: Console, table: Table) -> int:
    unbounded = console.options.update(width=1000)
    return Measurement.get(console, unbounded, table).maximum


def _row_by_row(table: Table) -> Table:
    """Each cell on a line, behind the head of its column."""
    heads = [" ".join(str(column.header).split()) for column in table.columns]
    lines = Table.grid(padding=(0, 2, 0, 0))
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        for head, cell in zip(heads, cells, strict=True):
            lines.add_row(head, cell)
        lines.add_row()
    return lines


def words(text: str, style: str = "", encoding: str = "utf-8") -> Text:
    """Anybody's words: they can neither paint the terminal nor mark themselves up."""
    return Text(encodable(printable(text), encoding), style)


def shown(line: Line, encoding: str = "utf-8") -> RenderableType:
    """A line of a transcript: when, who, what is to be noticed, the words."""
    table = Table.grid(padding=(0, 2))
    for width, justify in ((7, "right"), (6, "left"), (12, "left"), (None, "left")):
        table.add_column(width=width, justify=justify)  # type: ignore[arg-type] # of literals
    if not line.text and line.understood is not None:
        table.add_row("", "", "", words(f"understood: {line.understood}", "dim", encoding))
        return table
    if line.heard is not None:
        table.add_row("", "", "", words(f"heard: {line.heard} …", "dim", encoding))
        return table
    note = Text()
    if line.waited is not None:
        note = Text(f"after {line.waited:.2f} s", "green")
    elif line.silenced is not None:
        note = Text("barges in", "yellow")
    said = words(line.text, "", encoding) if line.text else Text("(speaks)", "dim")
    if line.who:
        table.add_row(f"{line.at:.1f} s", Text(line.who, STYLES[line.who]), note, said)
    else:
        table.add_row("", "", "", said)
    return table


def summary(report: Report, encoding: str = "utf-8") -> Table:
    """The figures of one call."""
    table = Table.grid(padding=(0, 2))
    first = report.first_agent_audio
    rows = [
        ("length", f"{report.seconds:.1f} s, hung up by the {report.closed_by}"),
        ("sent", f"{report.frames_sent} frames of 20 ms"),
        ("agent", f"{report.agent_heard:.1f} s heard of {report.agent_received:.1f} s received"),
        ("first heard", seconds([] if first is None else [first])),
        ("answered after", seconds(report.waits)),
        ("silent after barge-in", seconds(report.talked_over)),
        ("marks, clears", f"{report.marks}, {report.clears}"),
    ]
    rows += [
        (f"Twilio warning {warning}", f"{count} messages; the first: {report.first_refusal}")
        for warning, count in report.refused.items()
    ]
    if report.out_of_time:
        rows.append(("limit", "reached: the caller hung up"))
    for name, value in rows:
        table.add_row("", name, words(value, "", encoding))
    return table


def seconds(durations: Sequence[float]) -> str:
    return ", ".join(f"{each:.2f} s" for each in durations) or "-"
