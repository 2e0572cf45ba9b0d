"""Measures what calls leave to the garbage collector, and how long it stops all others for that.

    python bench/garbage.py                     # some minutes
    python bench/garbage.py --name before       # the same with another tree on PYTHONPATH

Writes its section of `RESULTS.md`, and its picture; what is not measured this time, as by
`--calls 0`, stays as it was. Server and collector are this process, callers and agents another one
(`crowd.py`), on loopback.
"""

import collections
import contextlib
import gc
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import chart
import click
import cycles
import report
import results
import trio
from results import Garbage, Left, Memory, Pauses
from rich.console import Console
from servers import HERE, free_ports

from sts_trio import config
from sts_trio.load import machine
from sts_trio.logic.states import BACK_WITHIN
from sts_trio.testing.background import running_beside
from sts_trio.web.app import App, create_app
from sts_trio.web.serve import serve

LANES = {"adopted": "1", "portable": "0"}
# Calls that stand are placed so fast, those that come and go come so fast and stay so long.
RAMP = 50.0
RATE = 20.0
STAY = 1.0
# From the end of a stream until nothing of its call runs: another is waited for, then comes the
# goodbye.
SETTLE = BACK_WITHIN + 3.0
# A look at memory each so many calls.
STEP = 250
PAGE = os.sysconf("SC_PAGE_SIZE")

progress = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


class Crowd:
    """The other process; see `crowd.py` for what it may be told."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._said = b""

    async def stand(self, count: int) -> None:
        await self._tell(f"stand {count} {RAMP}", count)

    async def come_and_go(self, count: int, rate: float = RATE, stay: float = STAY) -> None:
        await self._tell(f"pass {count} {rate} {stay}", count)

    async def _tell(self, line: str, count: int) -> None:
        """Returns when it is done.

        Raises:
            click.ClickException: it cannot be done.
        """
        assert self._process.stdin is not None
        await self._process.stdin.send_all(line.encode() + b"\n")
        through = await self.hear()
        if through < count:
            raise click.ClickException(f"of {count} calls {through} came through: is it too busy?")

    async def hear(self) -> int:
        assert self._process.stdout is not None
        while b"\n" not in self._said:
            data = await self._process.stdout.receive_some()
            if not data:
                raise click.ClickException("the callers and agents of bench/crowd.py have died")
            self._said += data
        said, _, self._said = self._said.partition(b"\n")
        return int(said)


@contextlib.asynccontextmanager
async def served(lane: str) -> AsyncIterator[tuple[App, Crowd]]:
    """A server of this process, and who calls it."""
    _, agent_port = free_ports()
    variables = {
        "DEEPGRAM_API_KEY": "x",
        "DEEPGRAM_URL": f"ws://127.0.0.1:{agent_port}/v1/agent/converse",
        "STS_MAX_CALLS": "5000",
        "STS_LOG_LEVEL": "error",
        "STS_ALLOW_UNSIGNED": "1",
        "STS_FAST_LANE": LANES[lane],
        "STS_DATABASE_URL": "none",
        # Nobody speaks here.
        "STS_ANSWER_WITHIN_SECONDS": "0",
        "STS_ASK_AFTER_SECONDS": "0",
        "STS_HANG_UP_AFTER_SECONDS": "0",
    }
    with tempfile.TemporaryDirectory() as nowhere:
        settings = config.load(variables, Path(nowhere))
    app = create_app(settings)
    thresholds, was_frozen = gc.get_threshold(), gc.get_freeze_count() > 0
    start = partial(serve, settings, port=0, app=app, take_signals=False)
    async with running_beside(start) as url:
        command = [sys.executable, str(HERE / "crowd.py"), url.rpartition(":")[2], str(agent_port)]
        run = partial(
            trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, check=False
        )
        async with running_beside(run) as process:
            crowd = Crowd(process)
            await crowd.hear()  # it is ready
            yield app, crowd
    gc.set_threshold(*thresholds)
    if not was_frozen:
        gc.unfreeze()


# --- what is left ---------------------------------------------------------------------------------


async def measure_left(lane: str, calls: int) -> Left:
    """What so many calls, each with its webhook and in turn with another end, leave in cycles."""
    async with served(lane) as (app, crowd):
        await crowd.come_and_go(30)  # what is made once, by the first
        await trio.sleep(SETTLE)
        # What it would free is to be counted.
        app.server.collector = Idle()  # type: ignore[assignment]
        with cycles.uncollected() as garbage:
            await crowd.come_and_go(calls)
            await trio.sleep(SETTLE)
        owners = collections.Counter(_owner(each) for each in garbage)
        paths: collections.Counter[str] = collections.Counter()
        for cycle in cycles.find(garbage):
            paths[cycle.path] += cycle.objects
    return Left(
        lane,
        calls,
        {name: count / calls for name, count in owners.most_common()},
        {path: count / calls for path, count in paths.most_common(5)},
    )


class Idle:
    """In the place of `sts_trio.bridge.collector.Collector`, which a tree of before has not."""

    def note_begin(self) -> None:
        pass

    def note_end(self, live: int, now: float) -> None:
        pass


def _owner(each: Any) -> str:
    package = cycles.home(each).partition(".")[0]
    if package in sys.stdlib_module_names:
        return "standard library"
    return package or "plain containers"


# --- how long everything waits --------------------------------------------------------------------


class Watch:
    """The collector's runs while inside."""

    def __init__(self) -> None:
        self.took: list[tuple[float, float]] = []  # seconds, and of the CPU
        self.objects: list[int] = []  # looked at
        self._began = 0.0, 0.0

    def _note(self, phase: str, info: dict[str, int]) -> None:
        now = time.perf_counter(), time.thread_time()
        if phase == "stop":
            self.took.append((now[0] - self._began[0], now[1] - self._began[1]))
            return
        generations = range(info["generation"] + 1)
        self.objects.append(sum(len(gc.get_objects(each)) for each in generations))
        self._began = time.perf_counter(), time.thread_time()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        gc.callbacks.append(self._note)
        try:
            yield
        finally:
            gc.callbacks.remove(self._note)


async def measure_pauses(lane: str, standing: int, seconds: float) -> Pauses:
    """The collector's runs while so many calls stand, and others come and go."""
    async with served(lane) as (app, crowd):
        ticks = app.server.ticker if lane == "adopted" else app.server.portable_ticker
        watch = Watch()
        with watch.running():
            await crowd.stand(standing)
            await trio.sleep(1)
            ticks.stats.worst = 0.0
            await crowd.come_and_go(round(seconds * RATE))
        live = app.server.live_calls.live
        if live < standing:
            raise click.ClickException(
                f"of {standing} calls only {live} stand: the machine is too busy"
            )
        worst = ticks.stats.worst
    return Pauses(
        lane=lane,
        standing=standing,
        runs=len(watch.took),
        longest_ms=1000 * max((wall for wall, _ in watch.took), default=0.0),
        longest_cpu_ms=1000 * max((cpu for _, cpu in watch.took), default=0.0),
        most_objects=max(watch.objects, default=0),
        all_cpu_ms=1000 * sum(cpu for _, cpu in watch.took),
        latest_tick_ms=1000 * worst,
    )


# --- memory ---------------------------------------------------------------------------------------


async def measure_memory(lane: str, calls: int) -> Memory:
    """What the process has of memory, after each `STEP` of so many calls."""
    async with served(lane) as (_, crowd):
        sizes = [_resident_mb()]
        for _ in range(calls // STEP):
            await crowd.come_and_go(STEP, 2 * RATE, STAY / 2)
            sizes.append(_resident_mb())
    return Memory(lane, STEP, sizes)


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


async def measure(
    lanes: list[str], left: int, standing: list[int], seconds: float, calls: int
) -> Garbage:
    measured = Garbage(machine.describe(), seconds, RATE, [], [], [])
    for lane in lanes if left else ():
        measured.left.append(await measure_left(lane, left))
        progress.print(measured.left[-1])
    for lane in lanes:
        for number in standing:
            measured.pauses.append(await measure_pauses(lane, number, seconds))
            progress.print(measured.pauses[-1])
    for lane in lanes if calls else ():
        measured.memory.append(await measure_memory(lane, calls))
        progress.print(measured.memory[-1])
    return measured


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    return [int(word) for word in value.split(",") if word]


@click.command(help=__doc__)
@click.option("--name", default="now", show_default=True, help="Under which it is kept and shown.")
@click.option("--lanes", default="adopted,portable", show_default=True)
@click.option(
    "--left",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="Calls, whose cycles are counted.",
)
@click.option("--standing", callback=_numbers, default="100,400,1000", show_default=True)
@click.option("--seconds", type=click.FloatRange(1, 600), default=40, show_default=True)
@click.option(
    "--calls",
    type=click.IntRange(0),
    default=10_000,
    show_default=True,
    help="Calls, while memory is watched.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=HERE)
def main(
    name: str,
    lanes: str,
    left: int,
    standing: list[int],
    seconds: float,
    calls: int,
    out: Path,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    measured = trio.run(measure, lanes.split(","), left, standing, seconds, calls)
    kept = results.load(out / "results.json")
    before = kept.garbage.get(name, measured)
    measured.left = measured.left or before.left
    measured.pauses = measured.pauses or before.pauses
    measured.memory = measured.memory or before.memory
    kept.garbage[name] = measured
    results.save(kept, out / "results.json")
    (out / "RESULTS.md").write_text(report.write(kept))
    if any(each.pauses and each.memory for each in kept.garbage.values()):
        chart.draw_garbage(kept.garbage, out)


if __name__ == "__main__":
    main()
