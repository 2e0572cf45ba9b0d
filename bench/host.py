"""One host, many cores: a process alone, the same behind HAProxy, and two behind it, on two cores.
All keep their calls in one PostgreSQL. What each call costs, whose CPU it is, and what it hears.

python bench/host.py [--calls 100] [--seconds 60] [--rounds 1] [--cpu-only] [--note TEXT]

Two cores, Debian's packages gcc, libssl-dev, haproxy and postgresql. The generator shares the
second core, so this tells CPU and delays at a modest load, and no capacity.
"""

import contextlib
import http.client
import os
import ssl
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
import report
import results
from generator import GeneratorTooSlow, NoRun
from haproxy import HAProxy, free_port
from results import Host, Hosts
from rich.console import Console
from rounds import FAREWELL, RAMP, WARM_UP
from servers import HERE, VARIANTS, Bridge, serve

from sts_trio.load import compiled, machine
from sts_trio.load.figures import Run

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import rig_postgresql


class Setup(NamedTuple):
    processes: int
    is_proxied: bool = False
    is_secure: bool = False  # callers speak TLS, to HAProxy


SETUPS = {
    "one process": Setup(1),
    "one behind HAProxy": Setup(1, is_proxied=True),
    "two behind HAProxy": Setup(2, is_proxied=True),
    "two behind HAProxy, TLS to it": Setup(2, is_proxied=True, is_secure=True),
}
READY_WITHIN = 30.0
# From here to there the callers talk, whatever the generator took to begin.
MARGIN = 1.0

# So the generator may be, where no delays are told.
LATE = {"--most-lag": 10.0, "--most-cpu": 10.0}

Pids = dict[str, Sequence[int]]


class Running(NamedTuple):
    """What runs, and where callers come to. `certificate` is what they are shown, and trust."""

    port: int
    agent_port: int
    pids: Pids
    certificate: Path | None


class Measured(NamedTuple):
    """ms of CPU for each call-second, by whose they are."""

    cpu: dict[str, float]
    run: Run


@click.command(help=__doc__)
@click.option("--calls", type=click.IntRange(1), default=100, show_default=True)
@click.option("--seconds", type=click.FloatRange(5), default=60.0, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--cpu-only", is_flag=True, help="Also where a busy machine has the generator late.")
@click.option("--note", default="", help="What else the machine did, as a clause.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=HERE,
    help="The directory for what is written: bench/ unless told.",
)
def main(calls: int, seconds: float, rounds: int, cpu_only: bool, note: str, out: Path) -> None:
    binaries = rig_postgresql.binaries()
    if binaries is None:
        raise click.ClickException("no PostgreSQL: install Debian's package postgresql")
    compiled.allow_many_sockets()
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    found = {name: Host(name, calls) for name in SETUPS}
    with rig_postgresql.running(binaries) as cluster, tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        binary = compiled.build(directory)
        certificate = generator.certify(directory)
        for _ in range(rounds):
            for name, setup in SETUPS.items():
                url = cluster.create()
                postmaster = (cluster.directory / "data" / "postmaster.pid").read_text().split()[0]
                try:
                    with host(url, directory, setup, certificate) as running:
                        running.pids["PostgreSQL"] = [int(postmaster)]
                        more = LATE if cpu_only else {}
                        measured = measure(binary, running, calls, seconds, more)
                except (GeneratorTooSlow, NoRun) as exc:
                    console.print(f"{name}: {exc}")
                    continue
                console.print(name, *(f"{whose} {ms:.3f}" for whose, ms in measured.cpu.items()))
                found[name].cpu.append(measured.cpu)
                found[name].runs.append(measured.run)
    kept = results.load(out / "results.json")
    kept.hosts = Hosts(machine.describe(), note, [*found.values()])
    results.save(kept, out / "results.json")
    (out / "RESULTS.md").write_text(report.write(kept))


@contextlib.contextmanager
def host(url: str, directory: Path, setup: Setup, certificate: Path) -> Iterator[Running]:
    cores = sorted(os.sched_getaffinity(0))
    agent_port = free_port()
    with contextlib.ExitStack() as stack:
        servers: dict[str, Bridge] = {}
        for number in range(setup.processes):
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
        shown = certificate if setup.is_secure else None
        if setup.is_proxied:
            proxy = HAProxy(directory, free_port(), shown)
            proxy.write({name: ("127.0.0.1", each.port) for name, each in servers.items()})
            proxy.start()
            stack.callback(proxy.stop)
            wait_until_answered(proxy.port, "/", shown)  # by a process: HAProxy itself says 503
            port, pids["HAProxy"] = proxy.port, [proxy.pid]
        yield Running(port, agent_port, pids, shown)


def wait_until_answered(port: int, path: str, certificate: Path | None = None) -> None:
    """By anything but 503. It listens before: a database that is new takes it a while."""
    give_up = time.monotonic() + READY_WITHIN
    while time.monotonic() < give_up:
        if certificate is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        else:
            tls = ssl.create_default_context(cafile=certificate)
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=tls)
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
    binary: Path, host: Running, calls: int, seconds: float, more: dict[str, float]
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
    words += ["--secure"] if host.certificate else []
    core = sorted(os.sched_getaffinity(0))[1]
    before_all = calls / RAMP + WARM_UP
    with ThreadPoolExecutor(1) as executor:
        length = before_all + seconds + FAREWELL
        run = executor.submit(generator.run, binary, core, length, words, host.certificate)
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
