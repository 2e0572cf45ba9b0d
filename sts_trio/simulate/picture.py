"""A call as a picture: both voices and their words, waits, barge-ins and marks, on one time axis.

Needs matplotlib, from the `demo` extra; it is imported when something is drawn.
"""

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sts_trio.audio import g711
from sts_trio.audio.frames import BYTES_PER_SECOND
from sts_trio.errors import StsTrioError
from sts_trio.simulate.report import Report
from sts_trio.simulate.transcript import AGENT, CALLER, Line
from sts_trio.wire.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# From Okabe and Ito's palette, which people tell apart whatever colours they see.
COLOURS = {CALLER: "#0072B2", AGENT: "#D55E00"}
WAIT, BARGE_IN, MARK = "#F0E442", "#CC79A7", "#009E73"
ABSENCE = "#999999"
INK = "#333333"

# Inches. A second has room for a short word; a picture has an end.
SECOND, NARROWEST, WIDEST, HEIGHT = 0.36, 9.0, 16.0, 5.4
DPI = 110
# A voice is drawn from -1 to 1; below are its marks, above its words, where nothing else is drawn.
BOTTOM, VOICE, TOP = -1.5, 1.05, 3.4
VOICE_SHARE = (VOICE - BOTTOM) / (TOP - BOTTOM)
CHARACTER, TITLE_CHARACTER = 0.082, 0.108  # of the small print, and of the title
MAX_LINES = 5
MAX_EVENT = 60  # characters of what else happened
STEP = 160  # bytes of µ-law in one column of a waveform: 20 ms


# Words are no formulas, whatever is between two dollars in them.
PLAIN: dict[str, Any] = {"parse_math": False, "usetex": False}


class NoMatplotlib(StsTrioError):
    """It is not installed."""


def check() -> None:
    """Raises `NoMatplotlib` where nothing can be drawn."""
    try:
        import matplotlib  # noqa: F401 # whether it can be
    except ImportError as exc:
        raise NoMatplotlib(
            "no pictures are drawn: matplotlib is missing; pip install -e '.[demo]' brings it"
        ) from exc


def draw(
    target: Path,
    title: str,
    report: Report,
    lines: Sequence[Line],
    events: Sequence[tuple[float, str]] = (),
    absence: tuple[float, float] | None = None,
) -> None:
    """Writes the picture as PNG. `events` are other things that happened, and when; `absence` is
    when there was no agent.

    Raises:
        NoMatplotlib: it is not installed.
        OSError: the file cannot be written.
    """
    check()
    with warnings.catch_warnings():
        # Words may be in letters that the font has not: boxes, and no word on the terminal.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        _draw(target, title, report, lines, events, absence)


def _draw(
    target: Path,
    title: str,
    report: Report,
    lines: Sequence[Line],
    events: Sequence[tuple[float, str]],
    absence: tuple[float, float] | None,
) -> None:
    from matplotlib.figure import Figure

    width = min(max(report.seconds * SECOND + 1.5, NARROWEST), WIDEST)
    figure = Figure(figsize=(width, HEIGHT), dpi=DPI, layout="constrained")
    title = "\n".join(textwrap.wrap(printable(title), int(width / TITLE_CHARACTER)))
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK, **PLAIN)
    upper, lower = figure.subplots(2, 1, sharex=True)
    end = max(report.seconds, 1.0)
    upper.set_xlim(-0.01 * end, 1.03 * end)
    for ax, who, track in ((upper, CALLER, report.said), (lower, AGENT, report.heard)):
        _speaker(ax, who, track)
        _words(ax, [line for line in lines if line.who == who], end, (width - 1.5) / end)
    if absence is not None:
        _absence(lower, *absence)
    _waits(upper, lower, lines)
    _barge_ins(upper, lower, lines)
    _marks(lower, report)
    for row, (at, what) in enumerate(sorted(events)):
        _event(upper, lower, at, what, end, row)
    lower.set_xlabel("seconds since the call began", color=INK)
    handles = {
        label: handle
        for ax in (upper, lower)
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    if handles:
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=len(handles),
            frameon=False,
            fontsize=9,
        )
    figure.savefig(target, format="png")


def _speaker(ax: "Axes", who: str, track: bytes) -> None:
    peaks = [
        max((abs(g711.SAMPLES[code]) for code in track[at : at + STEP]), default=0) / 32768
        for at in range(0, len(track), STEP)
    ]
    times = [at / BYTES_PER_SECOND for at in range(0, len(track), STEP)]
    loudest = max(max(peaks, default=0.0), 0.1)
    heights = [peak / loudest for peak in peaks]
    depths = [-height for height in heights]
    ax.fill_between(times, depths, heights, color=COLOURS[who], linewidth=0)
    ax.set_ylim(BOTTOM, TOP)
    ax.set_yticks([])
    ax.set_ylabel(who, color=COLOURS[who], fontsize=12, fontweight="bold")
    ax.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _words(ax: "Axes", lines: Sequence[Line], end: float, second: float) -> None:
    """Above each stretch of speech what was said, in as much room as there is to the next."""
    ends = [*(line.at for line in lines[1:]), end]
    for line, until in zip(lines, ends, strict=False):
        room = until - line.at
        columns = max(14, int(room * second / CHARACTER) - 1)
        rows = textwrap.wrap(printable(line.text), min(columns, 34))
        if len(rows) > MAX_LINES:
            rows = [*rows[: MAX_LINES - 1], rows[MAX_LINES - 1][: columns - 2] + " …"]
        said = "\n".join(rows)
        # Legible where an event's line goes through.
        paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
        ax.text(
            line.at, 1.15, said, fontsize=8, va="bottom", ha="left", color=INK, bbox=paper, **PLAIN
        )


def _absence(ax: "Axes", since: float, until: float) -> None:
    ax.axvspan(
        since,
        until,
        ymax=VOICE_SHARE,
        color=ABSENCE,
        alpha=0.3,
        linewidth=0,
        zorder=0,
        label="no agent",
    )


def _waits(upper: "Axes", lower: "Axes", lines: Sequence[Line]) -> None:
    for line in lines:
        if line.waited is None:
            continue
        for ax in (upper, lower):
            ax.axvspan(
                line.at - line.waited,
                line.at,
                ymax=VOICE_SHARE,
                color=WAIT,
                alpha=0.55,
                linewidth=0,
                label="caller waits for the answer",
            )
        middle = line.at - line.waited / 2
        upper.text(middle, -1.02, f"{line.waited:.2f} s", fontsize=8, ha="center", va="top")


def _barge_ins(upper: "Axes", lower: "Axes", lines: Sequence[Line]) -> None:
    for line in lines:
        if line.silenced is None:
            continue
        for ax in (upper, lower):
            ax.axvline(
                line.at,
                ymax=VOICE_SHARE,
                color=BARGE_IN,
                linewidth=1.8,
                linestyle="--",
                label="barge-in",
            )
        lower.text(
            line.at + 0.1,
            -0.85,
            f"agent silent {line.silenced:.2f} s later",
            fontsize=8,
            va="center",
            ha="left",
            color=INK,
        )


def _marks(ax: "Axes", report: Report) -> None:
    for times, sign, colour, label in (
        (report.mark_times, "^", MARK, "mark echoed"),
        (report.clear_times, "X", BARGE_IN, "playout cleared"),
    ):
        if times:
            ax.plot(
                times,
                [-1.3] * len(times),
                sign,
                color=colour,
                markersize=6,
                linestyle="none",
                label=label,
                clip_on=False,
            )


def _event(upper: "Axes", lower: "Axes", at: float, what: str, end: float, row: int) -> None:
    for ax in (upper, lower):
        ax.axvline(at, color=INK, linewidth=1.4)
    left = at > end / 2
    what = textwrap.shorten(printable(what), MAX_EVENT, placeholder=" …")
    upper.text(
        at,
        TOP - 0.05 - 0.5 * row,
        f"{at:.1f} s: {what} " if left else f" {at:.1f} s: {what}",
        fontsize=8.5,
        fontweight="bold",
        va="top",
        ha="right" if left else "left",
        color=INK,
        **PLAIN,
    )
