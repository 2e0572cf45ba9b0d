"""The gap as callers heard it: of one moved call of each kind, some seconds around it, as SVG."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from fleet_calls import Outcome

from sts_trio.audio import g711
from sts_trio.audio.frames import BYTES_PER_SECOND
from sts_trio.simulate.picture import ABSENCE, COLOURS, INK
from sts_trio.simulate.transcript import AGENT, CALLER

mpl.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes

BEFORE, AFTER = 3.0, 7.0  # seconds around the end of a stream
HEIGHT, WIDTH = 1.0, 9.0  # inches, of a call and of all
COLUMN = 400  # bytes of µ-law: 50 ms

_LOUD = np.abs(np.array(g711.SAMPLES, dtype=np.float64)) / 32768


def draw(target: Path, calls: Sequence[tuple[str, Outcome]]) -> None:
    """`calls` are (what was done, a call that was moved by it)."""
    figure, axes = pyplot.subplots(
        len(calls), figsize=(WIDTH, 0.7 + HEIGHT * len(calls)), sharex=True, squeeze=False
    )
    for (fault, call), axis in zip(calls, axes[:, 0], strict=True):
        at, gap = call.moves[0]
        began = next(each.began for each in call.call.streams if each.began >= at)
        axis.axvspan(0, began - at, color=ABSENCE, alpha=0.4, linewidth=0)
        _voice(axis, call.call.report.said, at, COLOURS[CALLER], 1)
        _voice(axis, call.call.report.heard, at, COLOURS[AGENT], -1)
        axis.set_ylim(-1, 1)
        axis.set_yticks([])
        axis.set_ylabel(fault, rotation=0, ha="right", va="center", color=INK)
        axis.text(
            min(gap, AFTER - 2.5), 0.75, f" heard again after {gap:.2f} s", fontsize=8, color=INK
        )
        axis.axvline(gap, color=INK, linewidth=0.6)
    axes[-1, 0].set_xlim(-BEFORE, AFTER)
    axes[-1, 0].set_xlabel(
        "seconds from the end of the old stream; above what the caller said, below what they heard;"
        " grey: no stream"
    )
    figure.tight_layout()
    figure.savefig(target)
    pyplot.close(figure)


def _voice(axis: Axes, track: bytes, at: float, colour: str, sign: int) -> None:
    begin = max(0, round((at - BEFORE) * BYTES_PER_SECOND))
    part = track[begin : begin + round((BEFORE + AFTER) * BYTES_PER_SECOND)]
    columns = len(part) // COLUMN
    loud = _LOUD[np.frombuffer(part[: columns * COLUMN], dtype=np.uint8)]
    peaks = loud.reshape(columns, COLUMN).max(axis=1)
    times = (begin / BYTES_PER_SECOND - at) + np.arange(columns) * COLUMN / BYTES_PER_SECOND
    axis.fill_between(times, 0, sign * peaks / 0.6, color=colour, linewidth=0)
