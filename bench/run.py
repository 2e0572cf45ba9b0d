"""Measures sts_trio beside its ancestor, and writes `RESULTS.md`, `results.json` and the chart.

Servers have one core to themselves and the load generator another. Everything stays on loopback.
"""

import os
import tempfile
from pathlib import Path

import chart
import click
import generator
import hotspots
import micro
import report
import results
import rounds
import sums
import turns
from generator import NoRun
from results import Beside, Capacities, Capacity, Cell, Comparison, Hotspots, Micro, Results
from rich.console import Console
from rich.table import Table
from rounds import Bench
from servers import HERE, VARIANTS

from sts_trio.load import compiled, machine

progress = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    words = [word.strip() for word in value.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise click.BadParameter(f"expected numbers with commas between, got {value!r}")
    return [int(word) for word in words]


def _names(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    names = [word.strip() for word in value.split(",")]
    for name in names:
        if name not in VARIANTS:
            raise click.BadParameter(f"{name!r} is none of: {', '.join(VARIANTS)}")
    return list(dict.fromkeys(names))


@click.command(help=__doc__)
@click.option(
    "--calls",
    callback=_numbers,
    default="50,100,200,400",
    show_default=True,
    help="At the same time; several with commas between.",
)
@click.option(
    "--variants",
    callback=_names,
    default="ancestor,ours",
    show_default=True,
    help=f"Of: {', '.join(VARIANTS)}.",
)
@click.option("--rounds", "round_count", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(0.5, 600),
    default=10,
    show_default=True,
    help="How long to measure in each round.",
)
@click.option(
    "--forward",
    type=click.IntRange(20, 400),
    help="Ms of caller audio at once: STS_FORWARD_MS for ours, and for picows.",
)
@click.option("--tls", is_flag=True, help="TLS toward the agent, as in production.")
@click.option("--callers-tls", is_flag=True, help="TLS toward the callers, by the server itself.")
@click.option("--churn", type=click.FloatRange(0), default=0, help="Calls changed per second.")
@click.option("--rough", is_flag=True, help="Torn and fragmented frames, pings, odd chunks.")
@click.option("--records", "with_records", is_flag=True, help="Keeps it as what records cost.")
@click.option("--capacity", is_flag=True, help="Instead: the most calls on one core.")
@click.option("--by-load", is_flag=True, help="With --capacity: beside `sts-trio load`'s figure.")
@click.option("--most", type=click.IntRange(1), default=2000, help="Where --capacity ends.")
@click.option("--profile", is_flag=True, help="Instead: where the time goes, by py-spy.")
@click.option(
    "--micro", "with_micro", is_flag=True, help="Instead: single steps, and turns, in µs."
)
@click.option("--note", default="", help="What else the machine did, as a clause.")
@click.option("--at-least", type=float, help="Fail if ours is not so many times cheaper.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=HERE,
    help="The directory for what is written: bench/ unless told.",
)
def main(
    calls: list[int],
    variants: list[str],
    round_count: int,
    seconds: float,
    forward: int | None,
    tls: bool,
    callers_tls: bool,
    churn: float,
    rough: bool,
    with_records: bool,
    capacity: bool,
    by_load: bool,
    most: int,
    profile: bool,
    with_micro: bool,
    note: str,
    at_least: float | None,
    out: Path,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    kept = results.load(out / "results.json")
    measured: Comparison | None = None
    if with_micro:
        kept.micro = Micro(machine.describe(), micro.measure(), turns.measure())
        _show(micro.table(kept.micro.units))
        _show(turns.table(kept.micro.turns))
        _write(kept, out)
        return
    server_core, generator_core = _two_cores()
    compiled.allow_many_sockets()
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(
            binary=_build(Path(directory)),
            server_core=server_core,
            generator_core=generator_core,
            seconds=seconds,
            forward=forward,
            pem=generator.certify(Path(directory)) if tls else None,
            certificate=generator.certify(Path(directory)) if callers_tls else None,
            rough=rough,
            say=progress.print,
        )
        if profile:
            kept.hotspots = [_profile(bench, Cell(calls[-1], name, [])) for name in variants]
        elif capacity and by_load:
            had = kept.beside
            beside = kept.beside = Beside(machine.describe(), seconds, note)
            if had is not None and (had.made, had.seconds) == (beside.made, seconds):
                beside.by_bench, beside.by_load = had.by_bench, had.by_load
            for name in variants:
                beside.by_bench[name] = rounds.find_capacity(bench, name, calls[0], most)
                _write(kept, out)
                beside.by_load[name] = _by_load(bench, name, calls[0], most)
        elif capacity:
            found = [rounds.find_capacity(bench, name, calls[0], most) for name in variants]
            kept.capacities = Capacities(machine.describe(), seconds, tls, found)
        else:
            cells = rounds.compare(bench, calls, variants, round_count, churn)
            measured = Comparison(machine.describe(), round_count, seconds, churn, cells, note)
            if with_records:
                kept.with_records = measured
            else:
                _keep(kept, measured, tls=tls, callers_tls=callers_tls, rough=rough)
            _show(_table(measured))
    _write(kept, out)
    if measured is not None and at_least is not None:
        failures = sums.failures(measured, at_least)
        if failures:
            raise click.ClickException("; ".join(failures))


def _two_cores() -> tuple[int, int]:
    """One for the servers, one for the generator."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise click.ClickException("two cores are needed: one for the server, one for the load")
    return cores[0], cores[1]


def _build(directory: Path) -> Path:
    try:
        return compiled.build(directory)
    except compiled.NotCompiled as exc:
        raise click.ClickException(str(exc)) from exc


def _by_load(bench: Bench, variant: str, first: int, most: int) -> Capacity:
    try:
        return rounds.find_capacity_by_load(bench, variant, first, most)
    except NoRun as exc:
        raise click.ClickException(str(exc)) from exc


def _profile(bench: Bench, cell: Cell) -> Hotspots:
    try:
        stacks = bench.profile(cell)
    except NoRun as exc:
        raise click.ClickException(str(exc)) from exc
    layers = hotspots.by_layer(stacks)
    for layer in layers:
        progress.print(f"{cell.variant}: {100 * layer.share:5.1f} %  {layer.name}")
    made = machine.describe()
    return Hotspots(made, cell.variant, cell.calls, sum(stacks.values()), layers)


def _keep(
    kept: Results, measured: Comparison, *, tls: bool, callers_tls: bool, rough: bool
) -> None:
    """Puts the comparison where its kind belongs; what was measured so before is replaced."""
    if rough:
        kept.rough = measured
    elif measured.churn:
        kept.churn = measured
    elif callers_tls:
        kept.callers_tls = measured
    elif tls:
        kept.tls = measured
    else:
        kept.plain = measured


def _write(kept: Results, out: Path) -> None:
    results.save(kept, out / "results.json")
    (out / "RESULTS.md").write_text(report.write(kept))
    if kept.plain is not None:
        chart.draw(kept.plain, out)


def _show(table: Table) -> None:
    console = Console()
    # A file or a pipe is as wide as it needs to be.
    (console if console.is_terminal else Console(width=120)).print(table)


def _table(measured: Comparison) -> Table:
    heads = ("calls", "variant", "CPU ms", "times cheaper", "words ms", "barge-in ms", "audio %")
    table = Table(*heads, "KB/call", "left open")
    for row in sums.rows(measured):
        table.add_row(
            str(row.calls),
            row.variant,
            f"{row.cpu:.2f}",
            report.spread(row.ratio).replace("*", ""),
            report.pair(row.up_p50, row.up_p99),
            report.pair(row.clear_p50, row.clear_p99),
            f"{row.up_ok:.1f} / {row.down_ok:.1f}",
            f"{row.kb_per_call:.0f}",
            str(row.left_open),
        )
    return table


if __name__ == "__main__":
    main()
