"""A load test as a picture: of one run the spread of its delays, of a search what came of more and
more calls. Pure."""

from collections.abc import Callable

from sts_trio.load.figures import Delays, Run
from sts_trio.load.picture import Line, Panel, card
from sts_trio.load.report import Report

_PERCENTILES = ((0, "p50"), (1, "p90"), (2, "p99"), (3, "p99.9"), (4, "most"))
_DELAYS: tuple[tuple[str, Callable[[Run], Delays | None]], ...] = (
    ("words", lambda run: run.up_ms),
    ("voice", lambda run: run.down_ms),
    ("barge-in", lambda run: run.clear_ms),
    ("set-up", lambda run: run.setup_ms),
    ("answer", lambda run: None if run.heard is None else run.heard.answer_ms),
)


def draw(report: Report) -> str:
    """SVG."""
    return card(_search(report) if report.capacity is not None else [_run(report)])


def _run(report: Report) -> Panel:
    last = report.last
    lines = [
        Line(name, list(enumerate((d.p50, d.p90, d.p99, d.p999, d.max))))
        for name, delays in _DELAYS
        if (d := delays(last.run)) is not None
    ]
    return Panel(
        title=f"{last.calls} calls: {last.verdict}",
        x="percentile",
        y="ms of delay",
        lines=lines,
        is_logarithmic=True,
        ticks=_PERCENTILES,
    )


def _search(report: Report) -> list[Panel]:
    tried = sorted((t for t in report.tried if t.verdict != "void"), key=lambda t: t.calls)
    most = report.capacity.calls if report.capacity is not None else 0
    delays = [
        Line(f"{name}, p99", [(t.calls, d.p99) for t in tried if (d := value(t.run)) is not None])
        for name, value in _DELAYS[:3]
    ]
    panels = [
        Panel(
            title=f"Well up to {most} calls",
            x="calls at the same time",
            y="ms of delay",
            lines=delays,
            is_logarithmic=True,
        )
    ]
    if report.plan.pids:
        cost = Line("CPU", [(t.calls, t.run.cpu_ms_per_call_second) for t in tried])
        panels.append(
            Panel(
                title="CPU of a call",
                x="calls at the same time",
                y="ms of a core, per second",
                lines=[cost],
            )
        )
    return panels
