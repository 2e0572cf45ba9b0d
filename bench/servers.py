"""The bridges that are compared, and how each is started: alone on one core, on a free port."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from generator import NoRun

HERE = Path(__file__).parent
# Where "ours PostgreSQL" keeps its calls: an empty database of yours, such as
# postgresql+psycopg://me@localhost/bench.
POSTGRESQL = os.environ.get("BENCH_POSTGRESQL", "")
MAX_LOG = 1_000_000
START_WITHIN = 20.0
STOP_WITHIN = 5.0
# From the first accepted connection until imports, caches and garbage have settled.
SETTLE = 0.5
OURS = (
    *("-m", "hypercorn", "sts_trio.app:app", "--worker-class", "trio", "--workers", "0"),
    *("--bind", "127.0.0.1:{port}"),
)


class Variant(msgspec.Struct, frozen=True):
    name: str
    arguments: tuple[str, ...]  # of Python; {port} is filled in
    gathers: float  # ms of caller audio that it holds back at the most, when it is well
    what: str
    environment: dict[str, str] = {}

    @property
    def is_ours(self) -> bool:
        return self.arguments is OURS


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(
            "ancestor",
            (str(HERE / "ancestor.py"),),
            400,
            "the 120-line asyncio script that sts_trio descends from, its faults kept",
        ),
        Variant(
            "ancestor+uvloop",
            (str(HERE / "ancestor.py"), "--uvloop"),
            400,
            "the same on uvloop",
        ),
        Variant(
            "ours",
            OURS,
            100,
            "sts_trio as it comes: the caller's socket is adopted from Hypercorn and read in"
            " ticks of 20 to 100 ms, the longer the more calls there are",
        ),
        Variant(
            "ours portable",
            OURS,
            100,
            "sts_trio with STS_FAST_LANE=0: everything through ASGI, Hypercorn reading once a tick",
            {"STS_FAST_LANE": "0"},
        ),
        Variant(
            "ours SQLite",
            OURS,
            100,
            "sts_trio that keeps its calls in a file, which it does unless told otherwise; the"
            " others keep nothing",
            {"STS_DATABASE_URL": "sqlite:///calls.db"},
        ),
        Variant(
            "ours recorded",
            OURS,
            100,
            "the same in a file, and with each call recorded in stereo, 16 kB a second",
            {"STS_DATABASE_URL": "sqlite:///calls.db", "STS_RECORD": "1"},
        ),
        Variant(
            "ours PostgreSQL",
            OURS,
            100,
            "the same in a PostgreSQL on the same machine, by a Unix socket",
            {"STS_DATABASE_URL": POSTGRESQL},
        ),
        Variant(
            "ours flights",
            OURS,
            100,
            "sts_trio that records what the dialogue of each call hears, to be replayed",
            {"STS_FLIGHT": "faults", "STS_FLIGHTS": "flights"},
        ),
        Variant(
            "plain Trio",
            (str(HERE / "plain_trio.py"),),
            20,
            "Hypercorn, ASGI, trio-websocket and a nursery a call: the same stack, nothing of ours",
        ),
        Variant(
            "picows",
            (str(HERE / "peer_picows.py"),),
            60,
            "a bare relay on picows and uvloop (Cython): the outer limit of Python, no product",
        ),
        Variant(
            "C",
            (str(HERE / "peer_c.py"),),
            60,
            "a bare relay in C, with a read and a write for each message: the limit, no product",
        ),
    )
}


class Bridge(NamedTuple):
    """A bridge under way."""

    pid: int
    port: int
    agent_port: int
    log: int  # the descriptor of what it writes

    def said(self) -> list[str]:
        """The lines it has logged so far."""
        return os.pread(self.log, MAX_LOG, 0).decode(errors="replace").strip().splitlines()


def free_ports() -> tuple[int, int]:
    """Two ports that nobody listens on, by the kernel's choice."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@contextlib.contextmanager
def serve(
    variant: Variant,
    core: int,
    *,
    forward: int | None = None,
    pem: Path | None = None,
    certificate: Path | None = None,
) -> Iterator[Bridge]:
    """Runs the bridge on that core while inside. `forward` is for those that let it be chosen;
    `pem` is the agent's, and `certificate` is what the bridge shows its callers.

    Raises:
        NoRun: it does not start, with the end of what it had to say.
    """
    port, agent_port = free_ports()
    environment = _environment(variant, port, agent_port, forward, pem)
    arguments = [argument.format(port=port) for argument in variant.arguments]
    if certificate is not None:
        environment["CERTIFICATE"] = str(certificate)
        if variant.is_ours:
            arguments += ["--certfile", str(certificate), "--keyfile", str(certificate)]
    # An empty directory to run in: no `sts-trio.toml` of the operator's there.
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, stdout=log, stderr=log, cwd=directory
        )
        bridge = Bridge(process.pid, port, agent_port, log.fileno())
        try:
            # Its threads, which it does not have yet, will stay here as well.
            os.sched_setaffinity(process.pid, {core})
            _wait_until_it_listens(process, variant, bridge, certificate)
            yield bridge
        finally:
            _stop(process)


def _environment(
    variant: Variant, port: int, agent_port: int, forward: int | None, pem: Path | None
) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        # What is set for the operator's own server is not to be measured, nor is a proxy.
        if not name.startswith(("STS_", "TWILIO_", "DEEPGRAM_"))
        and not name.lower().endswith("_proxy")
    }
    scheme = "wss" if pem else "ws"
    inherited |= {
        "PORT": str(port),
        "DEEPGRAM_URL": f"{scheme}://127.0.0.1:{agent_port}/v1/agent/converse",
        "DEEPGRAM_API_KEY": "x",
        "STS_AGENT": "deepgram",
        "STS_MAX_CALLS": "5000",
        "STS_LOG_LEVEL": "warning",
        "STS_DATABASE_URL": "none",
        # The generator signs nothing.
        "STS_ALLOW_UNSIGNED": "1",
    }
    if pem:
        inherited["SSL_CERT_FILE"] = str(pem)
    if forward is not None:
        inherited |= {"STS_FORWARD_MS": str(forward), "FORWARD_MS": str(forward)}
    inherited["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(HERE.parent), inherited.get("PYTHONPATH")))
    )
    return inherited | variant.environment


def health(port: int, certificate: Path | None) -> dict[str, Any]:
    """What ours tells of itself. Raises `OSError`: it does not answer yet."""
    tls = ssl.create_default_context(cafile=certificate) if certificate else None
    address = f"{'https' if certificate else 'http'}://127.0.0.1:{port}/healthz"
    with urllib.request.urlopen(address, timeout=10, context=tls) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def _wait_until_it_listens(
    process: subprocess.Popen[bytes], variant: Variant, bridge: Bridge, certificate: Path | None
) -> None:
    give_up = time.monotonic() + START_WITHIN
    while time.monotonic() < give_up and process.poll() is None:
        try:
            if variant.is_ours:  # which listens for a while before it takes calls
                health(bridge.port, certificate)
            else:
                socket.create_connection(("127.0.0.1", bridge.port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            time.sleep(SETTLE)
            return
    raise NoRun(f"{variant.name} does not start: {(bridge.said() or ['it said nothing'])[-1]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
