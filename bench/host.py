"""One host, many cores: a process alone, the same behind HAProxy, and two behind it, on two cores.
All keep their calls in one PostgreSQL. What each call costs, whose CPU it is, and what it hears.

python bench/host.py [--calls 100] [--seconds 60] [--rounds 1] [--cpu-only]

Two cores, Debian's packages gcc, libssl-dev, haproxy and postgresql. The generator shares the
second core, so this tells CPU and delays at a modest load, and no capacity.
"""

import contextlib
import http.client
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import click
import generator
import msgspec
from generator import GeneratorTooSlow, NoRun
from haproxy import HAProxy, free_port
from rich.console import Console
from rich.table import Table
from rounds import FAREWELL, RAMP, WARM_UP
from servers import VARIANTS, Bridge, serve

from sts_trio.load import compiled
from sts_trio.load.figures import Delays, Run

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import rig_postgresql

# {setup: (processes, whether HAProxy is in between)}
SETUPS = {
    "one process": (1, False),
    "one behind HAProxy": (1, True),
    "two behind HAProxy": (2, True),
}
READY_WITHIN = 30.0
# From here to there the callers talk, whatever the generator took to begin.
MARGIN = 1.0

# So the generator may be, where no delays are told.
LATE = {"--most-lag": 10, "--most-cpu": 10}

Pids = dict[str, Sequence[int]]


class Host(NamedTuple):
    """What runs, and where callers come to."""

    port: int
    agent_port: int
    pids: Pids


class Measured(NamedTuple):
    """ms of CPU for each call-second, by whose they are."""

    cpu: dict[str, float]
    run: Run


@click.command(help=__doc__)
@click.option("--calls", type=click.IntRange(1), default=100, show_default=True)
@click.option("--seconds", type=click.FloatRange(5), default=60.0, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--cpu-only", is_flag=True, help="Also where a busy machine has the generator late.")
def main(calls: int, seconds: float, rounds: int, cpu_only: bool) -> None:
    binaries = rig_postgresql.binaries()
    if binaries is None:
        raise click.ClickException("no PostgreSQL: install Debian's package postgresql")
    compiled.allow_many_sockets()
    console = Console(width=120)
    table = Table("setup", "calls", *("processes", "HAProxy", "PostgreSQL", "together"), "")
    table.title = "ms of CPU for a call and second; then words and barge-in, p50 / p99 ms; audio %"
    with rig_postgresql.running(binaries) as cluster, tempfile.TemporaryDirectory() as directory:
        binary = compiled.build(Path(directory))
        for _ in range(rounds):
            for name, (processes, is_proxied) in SETUPS.items():
                url = cluster.create()
                postmaster = int(
                    (cluster.directory / "data" / "postmaster.pid").read_text().split()[0]
                )
                try:
                    with host(url, Path(directory), processes, is_proxied=is_proxied) as running:
                        running.pids["PostgreSQL"] = [postmaster]
                        more = LATE if cpu_only else {}
                        measured = measure(binary, running, calls, seconds, more)
                except (GeneratorTooSlow, NoRun) as exc:
                    console.print(f"{name}: {exc}")
                    continue
                cpu = [
                    measured.cpu.get(each, 0.0) for each in ("processes", "HAProxy", "PostgreSQL")
                ]
                table.add_row(
                    *(name, str(calls), *(f"{each:.3f}" for each in (*cpu, sum(cpu)))),
                    heard(measured.run, delays=not cpu_only),
                )
    console.print(table)


def heard(run: Run, *, delays: bool) -> str:
    words = [_both(run.up_ms), _both(run.clear_ms)] if delays else []
    words += [f"{run.up.ok:.1f} / {run.down.ok:.1f} %"]
    return "  ".join(words)


def _both(delays: Delays | None) -> str:
    return "-" if delays is None else f"{delays.p50:.0f} / {delays.p99:.0f}"


@contextlib.contextmanager
def host(url: str, directory: Path, processes: int, *, is_proxied: bool) -> Iterator[Host]:
    cores = sorted(os.sched_getaffinity(0))
    agent_port = free_port()
    with contextlib.ExitStack() as stack:
        servers: dict[str, Bridge] = {}
        for number in range(processes):
            name = f"a-{number}"
            environment = {
                "STS_DATABASE_URL": url,
                "STS_PROCESS_NAME": name,
                "DEEPGRAM_URL": f"ws://127.0.0.1:{agent_port}/v1/agent/converse",
            }
            ours = msgspec.structs.replace(VARIANTS["ours"], environment=environment)
            servers[name] = stack.enter_context(serve(ours, cores[number % len(cores)]))
        for each in servers.values():
            wait_until_answered(each.port, "/readyz")
        pids: Pids = {"processes": [each.pid for each in servers.values()]}
        port = servers["a-0"].port
        if is_proxied:
            proxy = HAProxy(directory, free_port())
            proxy.write({name: ("127.0.0.1", each.port) for name, each in servers.items()})
            proxy.start()
            stack.callback(proxy.stop)
            wait_until_answered(proxy.port, "/")  # by a process: HAProxy itself says 503
            port, pids["HAProxy"] = proxy.port, [proxy.pid]
        yield Host(port, agent_port, pids)


def wait_until_answered(port: int, path: str) -> None:
    """By anything but 503. It listens before: a database that is new takes it a while."""
    give_up = time.monotonic() + READY_WITHIN
    while time.monotonic() < give_up:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with (
            contextlib.closing(connection),
            contextlib.suppress(OSError, http.client.HTTPException),
        ):
            connection.request("GET", path)
            if connection.getresponse().status != HTTPStatus.SERVICE_UNAVAILABLE:
                return
        time.sleep(0.1)
    raise NoRun("no process takes calls")


def measure(
    binary: Path, host: Host, calls: int, seconds: float, more: dict[str, float]
) -> Measured:
    """Raises `GeneratorTooSlow` or `NoRun`."""
    options = {
        "--calls": calls,
        "--seconds": seconds,
        "--warm-up": WARM_UP,
        "--ramp": RAMP,
        "--port": host.port,
        "--agent-port": host.agent_port,
        "--pid": host.pids["processes"][0],
        "--farewell": 0,
        **more,
    }
    words = [str(word) for pair in options.items() for word in pair]
    core = sorted(os.sched_getaffinity(0))[1]
    before_all = calls / RAMP + WARM_UP
    with ThreadPoolExecutor(1) as executor:
        length = before_all + seconds + FAREWELL
        run = executor.submit(generator.run, binary, core, length, words)
        time.sleep(before_all + MARGIN)
        began = {name: cpu(pids) for name, pids in host.pids.items()}
        time.sleep(seconds - 2 * MARGIN)
        used = {name: cpu(pids) - began[name] for name, pids in host.pids.items()}
        call_seconds = calls * (seconds - 2 * MARGIN)
        result = run.result()
        if result.failed:
            raise NoRun(f"{result.failed} of {result.placed} calls failed")
        return Measured({name: 1000 * each / call_seconds for name, each in used.items()}, result)


def cpu(pids: Sequence[int]) -> float:
    """Seconds of it that these have had, with their children that live."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has just ended
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
                children = (task / "children").read_text().split()
                total += int(1e9 * cpu([*map(int, children)]))
    return total / 1e9


if __name__ == "__main__":
    main()
