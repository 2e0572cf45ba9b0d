"""`sts-trio load` against real bridges on the loopback, with each of its generators.

How fast this machine is tells nothing of the bridge here: what depends on that is not judged.
"""

import base64
import contextlib
import hashlib
import os
import re
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trustme
from limits import HANG
from rig_commands import run

import sts_trio
from sts_trio.commands import load
from sts_trio.load import compiled, criterion, load_test, plan
from sts_trio.load.figures import Progress
from sts_trio.load.report import Report

ROOT = Path(sts_trio.__file__).parents[1]
ANCESTOR = (str(ROOT / "bench" / "ancestor.py"),)
OURS = ("-m", "sts_trio", "serve", "--port")
CALLS = 3
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


@pytest.fixture(autouse=True)
def whatever_the_machine_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_UP_P99", "MAX_CLEAR_P99", "MOST_CPU", "MOST_LAG", "MOST_LAG_P99"):
        monkeypatch.setattr(criterion, name, 1e6)
    monkeypatch.setattr(plan, "WARM_UP", 2.0)
    monkeypatch.setattr(plan, "FAREWELL", 4.0)
    monkeypatch.setattr(plan, "PATIENCE", HANG)
    # A busy machine is late with what is left of the calls.
    monkeypatch.setattr(load_test, "LEFT_WITHIN", 30.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the generator in C is compiled, once."""
    directory = tmp_path_factory.mktemp("cache")
    try:
        compiled.cached(directory / "sts-trio")
    except compiled.NotCompiled:
        if shutil.which("cc"):
            raise
        pytest.skip("the generator in C needs a compiler")
    return directory


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def bridge(
    arguments: tuple[str, ...], agent_port: int, directory: Path
) -> Iterator[tuple[int, int]]:
    """Its pid and its port."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("STS_")},
        "PORT": str(port),
        "DEEPGRAM_URL": f"ws://127.0.0.1:{agent_port}/v1/agent/converse",
        "DEEPGRAM_API_KEY": "x",
        "STS_AGENT": "deepgram",
        "STS_DATABASE_URL": "none",
        "PYTHONPATH": str(ROOT),
    }
    words = [*arguments, str(port)] if arguments is OURS else list(arguments)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *words], env=environment, cwd=directory, stdout=log, stderr=log
        )
        try:
            give_up = time.monotonic() + HANG
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert process.poll() is None, (directory / "log").read_text()
                    assert time.monotonic() < give_up
                    time.sleep(0.05)
            yield process.pid, port
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("arguments", "url", "generator"),
    [
        (ANCESTOR, "ws://127.0.0.1:{port}/twilio", "c"),
        (OURS, "http://127.0.0.1:{port}/twiml", "c"),
        (OURS, "ws://127.0.0.1:{port}/twilio", "python"),
    ],
    ids=["ancestor", "ours-by-webhook", "ours-in-python"],
)
def test_a_bridge_under_load(
    arguments: tuple[str, ...],
    url: str,
    generator: str,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ancestor does its work as long as callers are there, and keeps its agents afterwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    agent_port, out = free_port(), tmp_path / "out"
    with bridge(arguments, agent_port, tmp_path) as (pid, port):
        # The first call of a server takes what all of them need.
        with socket.create_connection(("127.0.0.1", port)) as visitor:
            visitor.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            visitor.recv(100)
        asked = ["--calls", str(CALLS), "--ramp", "20", "--seconds", "2", "--turn", "1"]
        asked += ["--speech", "0.4", "--endings", "1:0:0", "--agent-port", str(agent_port)]
        asked += ["--generator", generator, "--pid", str(pid), "--out", str(out)]
        result = run("load", url.format(port=port), *asked)
    report = msgspec.json.decode(out.with_suffix(".json").read_bytes(), type=Report)
    assert result.exit_code == 0, result.output
    assert report.last.verdict == "well"
    assert report.generator == {"c": "C", "python": "Python"}[generator]
    measured = report.last.run
    assert (measured.live, measured.placed, measured.failed) == (CALLS, CALLS, 0)
    assert measured.up.arrived > 0
    assert measured.down.arrived > 0
    assert measured.cpu_ms_per_call_second > 0
    assert measured.own_lag is not None
    assert measured.left_open == (CALLS if arguments is ANCESTOR else 0)
    if arguments is OURS:
        # A server may have opened what it keeps for all calls.
        assert report.before is not None
        assert report.after is not None
        assert report.after.sockets - report.before.sockets < CALLS
    agent, verdict = result.stderr.strip().splitlines()
    assert f"ws://127.0.0.1:{agent_port}/v1/agent/converse" in agent
    assert verdict == f"{CALLS} calls: well"
    assert out.with_suffix(".svg").read_text().startswith("<svg")


def test_a_port_of_the_agents_that_is_taken_is_told_before_anything_is_started(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        asked = ["--agent-port", str(port), "--out", str(tmp_path / "x")]
        result = run("load", "http://127.0.0.1:1/twiml", *asked)
    assert result.exit_code == 2
    told = f"cannot listen on 127.0.0.1:{port} (Address already in use): give another --agent-port"
    assert result.stderr == f"Error: {told}\n"
    assert not list(tmp_path.iterdir())


def test_nobody_there_is_told_before_anything_is_started(tmp_path: Path) -> None:
    result = run("load", f"ws://127.0.0.1:{free_port()}/twilio", "--out", str(tmp_path / "x"))
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "Connection refused" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_bridge_that_is_not_pointed_here_is_told_so(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    with bridge(ANCESTOR, free_port(), tmp_path) as (_, port):
        asked = ["--calls", "1", "--seconds", "1", "--agent-port", str(free_port())]
        asked += ["--turn", "1", "--speech", "0.4"]
        result = run("load", f"ws://127.0.0.1:{port}/twilio", *asked, "--out", str(tmp_path / "x"))
    assert result.exit_code == 1
    assert "point the bridge at it" in result.stdout


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that answers all that comes so, and closes; its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("answer", "told", "generator"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 404", "c"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "--signed", "python"),
        (b"", "no call is taken", "c"),
    ],
    ids=["404", "403", "nothing"],
)
def test_a_path_that_takes_no_call_is_told_at_once(
    answer: bytes,
    told: str,
    generator: str,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not after all of a run, and in a line."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    with answering(answer) as port:
        asked = ["--generator", generator, "--agent-port", str(free_port())]
        url = f"ws://127.0.0.1:{port}/wrong"
        result = run("load", url, *asked, "--out", str(tmp_path / "x"))
    assert result.exit_code == 1
    _, error = result.stderr.splitlines()
    assert url in error
    assert told in error
    assert not result.stdout
    assert not list(tmp_path.iterdir())


def test_a_bridge_that_resets_secure_connections_ends_calls_and_not_the_test(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written to such a connection raises SIGPIPE, unless it is told not to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)

    class Resets(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                contextlib.suppress(OSError),  # who asks whether anybody is there does not stay
                server.wrap_socket(self.request, server_side=True) as stream,
            ):
                key = re.findall(rb"(?i)sec-websocket-key: (\S+)", stream.recv(65536))[0]
                proof = base64.b64encode(hashlib.sha1(key + GUID).digest())
                answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                answer += b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + proof + b"\r\n\r\n"
                stream.sendall(answer)
                for _ in range(3):  # so the call is taken
                    stream.recv(65536)
                # A goodbye, to which one is due, and no more an ear for it.
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.sendall(b"\x88\x02\x03\xe8")
                socket.socket.shutdown(stream, socket.SHUT_WR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Resets) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        asked = [
            "--calls",
            "50",
            "--ramp",
            "500",
            "--seconds",
            "1",
            "--turn",
            "1",
            "--speech",
            "0.4",
        ]
        asked += ["--generator", "c", "--agent-port", str(free_port())]
        url = f"wss://127.0.0.1:{listener.server_address[1]}/twilio"
        result = run("load", url, *asked, "--out", str(tmp_path / "x"))
        listener.shutdown()
    assert "not well" in result.stdout, result.output
    assert result.exit_code == 1


@pytest.mark.parametrize("generator", ["c", "python"])
def test_what_is_known_of_a_bridge_whose_process_dies_is_told(
    generator: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    other = subprocess.Popen(["sleep", "600"])
    agent_port, out = free_port(), tmp_path / "out"

    def kill(screen: object, progress: Progress) -> None:
        if progress.is_open and other.returncode is None:
            other.kill()
            other.wait()

    monkeypatch.setattr(load._Screen, "tell", kill)
    try:
        with bridge(ANCESTOR, agent_port, tmp_path) as (pid, port):
            asked = ["--calls", "1", "--seconds", "3", "--endings", "1:0:0"]
            asked += ["--turn", "1", "--speech", "0.4"]
            asked += ["--agent-port", str(agent_port), "--generator", generator]
            asked += ["--pid", str(pid), "--pid", str(other.pid), "--out", str(out)]
            result = run("load", f"ws://127.0.0.1:{port}/twilio", *asked)
    finally:
        other.kill()
        other.wait()
    report = msgspec.json.decode(out.with_suffix(".json").read_bytes(), type=Report)
    assert result.exit_code == 1
    assert report.last.run.died == [other.pid]
    assert report.last.run.up.arrived > 0
    assert report.last.run.cpu_ms_per_call_second == 0
    assert report.before is not None
    assert report.after is None
    assert f"not well: process {other.pid} of the bridge died" in result.stdout
    assert f"--pid {other.pid}: there is no such process" in result.stderr
