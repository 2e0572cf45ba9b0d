"""What the generator in Python counts, and the line that it makes of it."""

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import trio

from sts_trio.load.figures import Audio, Clears, Heard, Pings, Progress, Run
from sts_trio.load.python.blocks import Counts, Way
from sts_trio.load.python.histogram import Histogram
from sts_trio.load.python.options import Options
from sts_trio.load.watched import dead, look


class Meters:
    def __init__(self, options: Options) -> None:
        self._options = options
        self.is_open = False
        self.opened = self.closed = float("inf")
        self.counts = {way: Counts() for way in Way}
        self.setup = Histogram()
        self.reach = Histogram()
        self.clear = Histogram()
        self.gone = Histogram()
        self.released = Histogram()
        self.answers = Histogram()  # of a bridge's own agent, see `listener`
        self.lag = Histogram()
        self._worst_lag = 0.0  # told each second: to look for it among all would be our lateness
        self.clears_asked = self.clears_answered = self.clears_unasked = 0
        self.marks = self.churned = self.strange = 0
        self.refused = self.cut_off = self.kept = 0
        self.live = 0
        self._cpu = self._own_cpu = 0.0
        self._rss_before = self._rss_after = _rss_mb(options.pid)

    def in_window(self, at: float) -> bool:
        return self.opened <= at < self.closed

    def note_lag(self, lag: float, now: float) -> None:
        if self.in_window(now):
            self.lag.add(lag)
            self._worst_lag = max(self._worst_lag, lag)

    def open(self, live: int) -> None:
        self.live = live
        self._cpu = -cpu_seconds(self._options.pid)
        self._own_cpu = -time.process_time()
        self.is_open = True
        self.opened = trio.current_time()

    def close(self) -> None:
        self._own_cpu += time.process_time()
        pids = self._options.pid
        if dead(pids):  # and took what it has cost with it
            self._cpu = self._rss_before = self._rss_after = 0.0
        else:
            self._cpu += cpu_seconds(pids)
            self._rss_after = _rss_mb(pids)
        self.is_open = False
        self.closed = trio.current_time()

    def progress(self, placed: int, through: int) -> Progress:
        return Progress(
            placed=placed,
            through=through,
            is_open=self.is_open,
            refused=self.refused,
            cut_off=self.cut_off,
            up=self.counts[Way.UP].arrived,
            down=self.counts[Way.DOWN].arrived,
            own_lag_ms=1000 * self._worst_lag,
        )

    def run(self, *, placed: int, failed: int, left_open: int, heard: Heard | None) -> Run:
        options = self._options
        window = self.closed - self.opened
        utilisation = self._cpu / window
        share = self._own_cpu / window
        return Run(
            calls=options.calls,
            seconds=window,
            live=self.live,
            churned=self.churned,
            cpu_ms_per_call_second=1000 * utilisation / options.calls,
            utilisation=utilisation,
            kb_per_call=1024 * (self._rss_after - self._rss_before) / options.calls,
            rss_mb=self._rss_after,
            up=_audio(self.counts[Way.UP]),
            down=_audio(self.counts[Way.DOWN]),
            up_ms=self.counts[Way.UP].delays.delays(),
            down_ms=self.counts[Way.DOWN].delays.delays(),
            clear_ms=self.clear.delays(),
            setup_ms=self.setup.delays(),
            reach_ms=self.reach.delays(),
            gone_ms=self.gone.delays(),
            released_ms=self.released.delays(),
            clears=Clears(self.clears_asked, self.clears_answered, self.clears_unasked),
            pings=Pings(0, 0),
            marks=self.marks,
            refused=self.refused,
            cut_off=self.cut_off,
            strange=self.strange,
            left_open=left_open,
            kept=self.kept,
            placed=placed,
            failed=failed,
            died=dead(options.pid),
            heard=heard,
            own_utilisation=share,
            own_lag_ms=1000 * self._worst_lag,
            own_lag=self.lag.delays(),
            void=_why_void(options, share, self._worst_lag),
        )


def _why_void(options: Options, share: float, lag: float) -> str | None:
    if share > options.most_cpu:
        most = options.most_cpu
        return f"the generator used {share:.2f} of a core, more than {most:.2f}"
    if lag > options.most_lag:
        most = 1000 * options.most_lag
        return f"the generator was late by {1000 * lag:.1f} ms, more than {most:.1f}"
    return None


def _audio(counts: Counts) -> Audio:
    return Audio(
        sent=counts.sent,
        arrived=counts.arrived,
        ok=100 * counts.arrived / counts.sent if counts.sent else 0.0,
        lost=counts.lost,
        disordered=counts.disordered,
        corrupt=counts.corrupt,
        foreign=counts.foreign,
        filler=counts.filler,
    )


def cpu_seconds(pids: Sequence[int]) -> float:
    """The time on a CPU of every thread of these processes, which schedstat counts in ns."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has died, see `dead`
            for thread in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(OSError):  # it ended just now
                    told = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text()
                    total += int(told.split()[0])
    return total / 1e9


def _rss_mb(pids: Sequence[int]) -> float:
    return look(pids).rss_mb if pids else 0.0
