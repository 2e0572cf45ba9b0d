"""Runs, in rounds: every variant once, then all of them again, so that a noisy minute of the
machine is shared by all and not one variant's luck."""

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import generator
import hotspots
import load_command
import msgspec
import servers
import sums
from generator import GeneratorTooSlow, NoRun
from results import Capacity, Cell
from servers import VARIANTS, Bridge, serve

from sts_trio.load import criterion
from sts_trio.load.figures import Run

# A run whose generator was too slow is done again this often; then the machine is too busy.
TRIES = 3
WARM_UP = 2.0
RAMP = 100.0  # calls started per second
FAREWELL = 3.0

Say = Callable[[str], None]


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """What all runs of a measurement have in common."""

    binary: Path
    server_core: int
    generator_core: int
    seconds: float
    forward: int | None  # ms, for the variants that let it be chosen
    pem: Path | None  # TLS toward the agent
    certificate: Path | None  # TLS toward the callers, by the bridge itself
    rough: bool
    say: Say  # a line of progress

    def measure(
        self, cell: Cell, *, churn: float = 0.0, farewell: bool = False, tries: int = TRIES
    ) -> Run | None:
        """One run on a freshly started server. None if there is no telling, after some tries."""
        for _ in range(tries):
            try:
                return self._run(cell, churn, farewell)
            except GeneratorTooSlow as exc:
                cell.voids += 1
                self.say(f"{cell.calls} {cell.variant}: void: {exc}")
            except NoRun as exc:
                self.say(f"{cell.calls} {cell.variant}: no run: {exc}")
                return None
        return None

    def profile(self, cell: Cell) -> dict[str, int]:
        """{stack: samples} of a server under that load, once it is under way.

        Raises:
            NoRun: it did not get under way.
            click.ClickException: see `hotspots.record`.
        """
        ramp = cell.calls / RAMP + WARM_UP
        with self.serve(cell) as bridge, ThreadPoolExecutor(1) as executor:
            # The recorder takes turns with the generator, whose figures nobody reads here.
            options = {"--seconds": self.seconds + 2, "--most-lag": 10, "--most-cpu": 10}
            run = executor.submit(self._generate, cell, bridge, options)
            time.sleep(ramp)
            stacks = hotspots.record(bridge.pid, self.seconds)
            run.result()
        return stacks

    def _run(self, cell: Cell, churn: float, farewell: bool) -> Run:
        options = {"--churn": churn, "--farewell": FAREWELL if farewell else 0}
        with self.serve(cell) as bridge:
            run = self._generate(cell, bridge, options)
            if VARIANTS[cell.variant].is_ours:
                cell.late_ticks.append(_late_ticks(bridge.port, self.certificate))
            self._note_what_was_said(cell, bridge.said())
        return run

    def serve(self, cell: Cell) -> AbstractContextManager[Bridge]:
        variant = VARIANTS[cell.variant]
        return serve(
            variant,
            self.server_core,
            forward=self.forward,
            pem=self.pem,
            certificate=self.certificate,
        )

    def _generate(self, cell: Cell, bridge: Bridge, more: dict[str, float]) -> Run:
        options = {
            "--calls": cell.calls,
            "--seconds": self.seconds,
            "--warm-up": WARM_UP,
            "--ramp": RAMP,
            "--port": bridge.port,
            "--agent-port": bridge.agent_port,
            "--pid": bridge.pid,
            **({"--tls": self.pem} if self.pem else {}),
            **more,
        }
        words = [str(word) for pair in options.items() for word in pair]
        words += ["--rough"] if self.rough else []
        words += ["--secure"] if self.certificate else []
        length = cell.calls / RAMP + WARM_UP + self.seconds + FAREWELL
        return generator.run(self.binary, self.generator_core, length, words, self.certificate)

    def _note_what_was_said(self, cell: Cell, lines: Sequence[str]) -> None:
        if VARIANTS[cell.variant].is_ours and lines:
            cell.warnings += len(lines)
            self.say(f"{cell.calls} {cell.variant} logged {len(lines)} lines: {lines[0][:200]}")


def _late_ticks(port: int, certificate: Path | None) -> int:
    """Of all that the server had, as it tells itself."""
    told = servers.health(port, certificate)
    return int(next(value for name, value in told.items() if name.startswith("late_")))


def compare(
    bench: Bench, calls: Sequence[int], variants: Sequence[str], rounds: int, churn: float
) -> list[Cell]:
    """All variants at all numbers of calls, interleaved. The last round ends with a farewell."""
    cells = []
    for number in calls:
        row = [Cell(number, variant, []) for variant in variants]
        for index in range(rounds):
            for cell in row:
                if churn:
                    cell.still.append(bench.measure(cell))
                run = bench.measure(cell, churn=churn, farewell=index == rounds - 1)
                cell.runs.append(run)
                if run is not None:
                    bench.say(f"{number} {cell.variant}: {brief(run)}")
        cells += row
    return cells


def find_capacity(bench: Bench, variant: str, first: int, most: int) -> Capacity:
    """The most calls with which the variant is well. A failure has to be one twice."""
    runs: list[Run] = []
    # {calls at which it did not do well: whether that was the generator's doing}
    failed: dict[int, bool] = {}

    def does_well(number: int) -> bool:
        cell = Cell(number, variant, [])
        for _ in range(2):
            run = bench.measure(cell)
            if run is None:
                continue
            runs.append(run)
            well = not criterion.shortcomings(run, VARIANTS[variant].gathers)
            bench.say(f"{number} {variant}: {'well' if well else 'not well'}: {brief(run)}")
            if well:
                return True
            cell.runs.append(run)
        failed[number] = not cell.runs and cell.voids > 0
        return False

    calls = sums.search(does_well, first, most)
    # Where the generator came to its end first, the bridge's end was not seen.
    is_least = failed[min(failed)] if failed else True
    return Capacity(variant, calls, is_least, runs)


def find_capacity_by_load(bench: Bench, variant: str, first: int, most: int) -> Capacity:
    """The same by `sts-trio load`, on one server for the whole search.

    Raises:
        NoRun: there was nothing to be found, and why.
    """
    cell = Cell(first, variant, [])
    with bench.serve(cell) as bridge, tempfile.TemporaryDirectory() as directory:
        report = load_command.run(
            bridge,
            Path(directory),
            bench.generator_core,
            {
                "--calls": first,
                "--most": most,
                "--seconds": bench.seconds,
                "--ramp": RAMP,
                "--gathers": VARIANTS[variant].gathers,
            },
        )
    for tried in report.tried:
        bench.say(f"{tried.calls} {variant} by load: {tried.verdict}: {brief(tried.run)}")
    found = report.capacity
    if found is None:
        raise NoRun(f"{variant}: `sts-trio load` has found no capacity")
    return Capacity(variant, found.calls, found.is_least, [each.run for each in report.tried])


def brief(run: Run) -> str:
    """A run in one line, for whoever watches."""
    up, clear = run.up_ms, run.clear_ms
    words = [
        f"{run.cpu_ms_per_call_second:.3f} ms/call-s",
        f"util {run.utilisation:.2f}",
        f"up {up.p50:.0f}/{up.p99:.0f} ms" if up else "up -",
        f"clear {clear.p50:.2f}/{clear.p99:.1f} ms" if clear else "clear -",
        f"ok {run.up.ok:.1f}/{run.down.ok:.1f} %",
        f"{run.kb_per_call:.0f} KB/call",
        *sums.faults([run]),
    ]
    return "  ".join(words)
