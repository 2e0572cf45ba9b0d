"""What is measured as pictures: calls against CPU, and against delay, ours beside the ancestor;
and how long the garbage collector stops calls, before and now.

Each is on a card of its own colour, so that it reads the same on a light page and on a dark one,
and upright with large letters, so that it reads on a phone as well.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import sums
from results import Comparison, Garbage
from sums import Row

SHOWN = ("ancestor", "ours")
INK, FAINT, CARD = "#1d2733", "#c9d1da", "#fbfaf7"
# Told apart without colour as well: by marker, and by the label at the line's end.
COLOURS = {"ancestor": "#b3541e", "ours": "#1769aa"}
MARKERS = {"ancestor": "s", "ours": "o"}
NAMES = {"ancestor": "ancestor", "ours": "sts_trio"}
DELAYS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
LANE_STYLES = {"adopted": "-", "portable": ":"}
UNHEARD = 10  # ms
WIDTH, HEIGHT = 5.2, 8.4  # inches; 375 pixels of a phone show 12-point letters at 9


def draw(comparison: Comparison, directory: Path) -> None:
    """Writes `chart.svg` and `chart.png`.

    Raises:
        click.ClickException: there is no matplotlib.
    """
    rows = [row for row in sums.rows(comparison) if row.variant in SHOWN]
    with _card(directory / "chart", sharex=True) as (cpu, delay):
        _draw_cpu(cpu, rows)
        _draw_delay(delay, rows)
        _label_calls(delay, sorted({row.calls for row in rows}))


def draw_garbage(garbage: Mapping[str, Garbage], directory: Path) -> None:
    """Writes `garbage.svg` and `garbage.png`. Raises as `draw`."""
    with _card(directory / "garbage") as (pauses, memory):
        _draw_pauses(pauses, garbage)
        _draw_memory(memory, garbage)


@contextlib.contextmanager
def _card(path: Path, *, sharex: bool = False) -> Iterator[tuple[Any, Any]]:
    """Two pictures, one below the other, and their files when they are drawn."""
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
    with matplotlib.rc_context(style):
        figure, axes = pyplot.subplots(2, 1, figsize=(WIDTH, HEIGHT), sharex=sharex)
        yield axes[0], axes[1]
        figure.tight_layout(h_pad=2)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(path.with_suffix(".png"), dpi=160)
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


# --- garbage --------------------------------------------------------------------------------------


def _draw_pauses(axes: Any, garbage: Mapping[str, Garbage]) -> None:
    axes.set_title("Longest run of the garbage collector")
    axes.set_ylabel("ms in which everything waits")
    axes.set_yscale("log", subs=[])
    axes.axhline(UNHEARD, color=INK, linewidth=1, linestyle="--")
    every = [each for measured in garbage.values() for each in measured.pauses]
    for name, measured in garbage.items():
        for lane in dict.fromkeys(each.lane for each in measured.pauses):
            mine = [each for each in measured.pauses if each.lane == lane]
            axes.plot(
                [each.standing for each in mine],
                [each.longest_ms for each in mine],
                LANE_STYLES[lane],
                **_look(name),
                label=f"{name}, {lane} leg",
            )
    low, high = axes.get_ylim()
    ticks = [tick for tick in DELAYS if low / 2 <= tick <= high * 2]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.legend(frameon=False, labelcolor=INK, fontsize=11)
    axes.grid(axis="y")
    _label_calls(axes, sorted({each.standing for each in every}))
    axes.set_xlabel("calls that stand, while others come and go")


def _draw_memory(axes: Any, garbage: Mapping[str, Garbage]) -> None:
    axes.set_title("Memory")
    axes.set_ylabel("MB resident")
    for name, measured in garbage.items():
        for each in measured.memory:
            axes.plot(
                [each.step * index for index in range(len(each.mb))],
                each.mb,
                LANE_STYLES[each.lane],
                **{**_look(name), "marker": ""},
                label=f"{name}, {each.lane} leg",
            )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("calls that have come and gone")
    axes.legend(frameon=False, labelcolor=INK, fontsize=11, loc="lower right")
    axes.grid(axis="y")


def _look(name: str) -> dict[str, Any]:
    variant = "ours" if name == "now" else "ancestor"
    return {
        "color": COLOURS[variant],
        "marker": MARKERS[variant],
        "linewidth": 2.5,
        "markersize": 7,
    }
