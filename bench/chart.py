"""The headline as a picture: calls against CPU, and against delay, ours beside the ancestor.

On a card of its own colour, so that it reads the same on a light page and on a dark one, and
upright with large letters, so that it reads on a phone as well.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import sums
from results import Comparison
from sums import Row

SHOWN = ("ancestor", "ours")
INK, FAINT, CARD = "#1d2733", "#c9d1da", "#fbfaf7"
# Told apart without colour as well: by marker, and by the label at the line's end.
COLOURS = {"ancestor": "#b3541e", "ours": "#1769aa"}
MARKERS = {"ancestor": "s", "ours": "o"}
NAMES = {"ancestor": "ancestor", "ours": "sts_trio"}
DELAYS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
WIDTH, HEIGHT = 5.2, 8.4  # inches; 375 pixels of a phone show 12-point letters at 9


def draw(comparison: Comparison, directory: Path) -> None:
    """Writes `chart.svg` and `chart.png`.

    Raises:
        click.ClickException: there is no matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        raise click.ClickException("matplotlib: not found: install it for the chart") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: Any = {
        "font.size": 12,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "axes.facecolor": CARD,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 13,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "xtick.color": INK,
        "ytick.color": INK,
        "grid.color": FAINT,
        "figure.facecolor": CARD,
        "savefig.facecolor": CARD,
        "svg.hashsalt": "sts_trio",  # the same figures make the same file
    }
    rows = [row for row in sums.rows(comparison) if row.variant in SHOWN]
    with matplotlib.rc_context(style):
        figure, (cpu, delay) = pyplot.subplots(2, 1, figsize=(WIDTH, HEIGHT), sharex=True)
        _draw_cpu(cpu, rows)
        _draw_delay(delay, rows)
        _label_calls(delay, sorted({row.calls for row in rows}))
        figure.tight_layout(h_pad=2)
        figure.savefig(directory / "chart.svg", metadata={"Date": None})
        figure.savefig(directory / "chart.png", dpi=160)
        pyplot.close(figure)


def _draw_cpu(axes: Any, rows: Sequence[Row]) -> None:
    axes.set_title("CPU per call")
    axes.set_ylabel("ms of a core, per second")
    for variant in SHOWN:
        _line(axes, rows, variant, lambda row: row.cpu, "-", NAMES[variant])
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, labelcolor=INK)
    axes.grid(axis="y")


def _draw_delay(axes: Any, rows: Sequence[Row]) -> None:
    axes.set_title("Delay of the caller's words")
    axes.set_ylabel("ms added by the bridge")
    axes.set_yscale("log", subs=[])
    for variant in SHOWN:
        _line(axes, rows, variant, lambda row: row.up_p50, "-", f"{NAMES[variant]}, p50")
        _line(axes, rows, variant, lambda row: row.up_p99, ":", f"{NAMES[variant]}, p99")
    low, high = axes.get_ylim()
    ticks = [tick for tick in DELAYS if low / 2 <= tick <= high * 2]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.legend(frameon=False, labelcolor=INK, fontsize=11, loc="lower right")
    axes.grid(axis="y")


def _line(
    axes: Any,
    rows: Sequence[Row],
    variant: str,
    value: Callable[[Row], float],
    style: str,
    label: str,
) -> None:
    mine = sorted(row for row in rows if row.variant == variant)
    axes.plot(
        [row.calls for row in mine],
        [value(row) for row in mine],
        style,
        marker=MARKERS[variant],
        color=COLOURS[variant],
        linewidth=2.5,
        markersize=7,
        label=label,
    )


def _label_calls(axes: Any, calls: Sequence[int]) -> None:
    axes.set_xlabel("calls at the same time")
    axes.set_xscale("log")
    axes.set_xticks(calls, [str(number) for number in calls])
    axes.minorticks_off()
