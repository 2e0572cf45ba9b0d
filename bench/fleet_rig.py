"""A fleet on this machine: processes of the bridge behind HAProxy, a database, and an agent.

All of them are real programs on the loopback. What can be done to them is done by pid.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import trio
from haproxy import HAProxy, free_port

HERE = Path(__file__).parent
ROOT = HERE.parent

TOKEN = "0123456789abcdef0123456789abcdef"
ADMIN = "a-token-of-twenty-letters"
PYTHON = sys.executable

CONFIG = """
functions = ["fleet_functions"]

[agents.default]
greeting = "DDDD"
listen.provider = { type = "deepgram", model = "nova-3" }
think.provider = { type = "open_ai", model = "gpt-4o-mini" }
think.prompt = "You keep what you are told."
speak.provider = { type = "deepgram", model = "aura-2-thalia-en" }
"""

# Seconds that only what hangs takes.
PATIENCE = 60.0


class Process:
    """One of the fleet, which may be another process after a while."""

    def __init__(self, name: str, port: int, log: Path, tree: Path) -> None:
        self.name = name
        self.port = port
        self.log = log
        self.tree = tree  # whose code it is
        self.running: subprocess.Popen[bytes] | None = None

    def start(self, variables: Mapping[str, str], api: str) -> None:
        paths = os.pathsep.join(map(str, (self.tree, HERE)))
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [PYTHON, HERE / "fleet_server.py", str(self.port), api],
                env={**os.environ, **variables, "PYTHONPATH": paths, "STS_PROCESS_NAME": self.name},
                cwd=self.log.parent,
                stdout=log,
                stderr=log,
            )

    def signal(self, signum: signal.Signals) -> None:
        assert self.running is not None
        self.running.send_signal(signum)

    def kill(self) -> None:
        """At once, whatever it is at, and whether or not it was stopped."""
        self.signal(signal.SIGKILL)
        assert self.running is not None
        self.running.wait()

    async def gone(self) -> None:
        assert self.running is not None
        await trio.to_thread.run_sync(self.running.wait, abandon_on_cancel=True)

    def is_ready(self) -> bool:
        """Whether it takes calls."""
        return status(self.port, "/readyz") == 200


class Fleet:
    """`names` of processes, which `start` starts. Calls come by `webhook`."""

    def __init__(
        self, directory: Path, names: Sequence[str], database: str, variables: Mapping[str, str]
    ) -> None:
        self.directory = directory
        self.notes = directory / "notes"
        self.agent_log = directory / "agent"
        self.agent_port = free_port()
        self.api = ""  # of the carrier
        self._agent: subprocess.Popen[bytes] | None = None
        self.processes = {
            name: Process(name, free_port(), directory / f"{name}.log", ROOT) for name in names
        }
        self.proxy = HAProxy(
            directory, free_port(), {each.name: each.port for each in self.processes.values()}
        )
        (directory / "sts-trio.toml").write_text(CONFIG)
        self.base = f"http://127.0.0.1:{self.proxy.port}"
        self.variables = {
            "STS_CONFIG": str(directory / "sts-trio.toml"),
            "STS_DATABASE_URL": database,
            "STS_PUBLIC_URL": self.base,
            "STS_ADMIN_TOKEN": ADMIN,
            "STS_DRAIN_SECONDS": "10",
            "STS_LOG": "json",
            "DEEPGRAM_API_KEY": "any",
            "DEEPGRAM_URL": f"ws://127.0.0.1:{self.agent_port}/v1/agent/converse",
            "TWILIO_AUTH_TOKEN": TOKEN,
            "FLEET_NOTES": str(self.notes),
            **variables,
        }

    @property
    def webhook(self) -> str:
        return f"{self.base}/twiml"

    def open(self) -> None:
        """All but the processes."""
        command = [PYTHON, HERE / "keeper.py", str(self.agent_port), self.agent_log]
        self._agent = subprocess.Popen(command, env={"PYTHONPATH": str(ROOT)})
        self.proxy.start()

    async def start(self, name: str) -> None:
        """Returns when it takes calls by HAProxy."""
        process = self.processes[name]
        process.start(self.variables, self.api)
        await self.until(process.is_ready)
        # HAProxy looks twice a second at who was down.
        await trio.sleep(1.5)

    async def until(self, is_so: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE):
            while not await trio.to_thread.run_sync(is_so):  # noqa: ASYNC110
                await trio.sleep(0.1)

    def record(self, call_sid: str) -> dict[str, Any]:
        """What any process of the fleet knows of a call, with its events."""
        with _get(self.proxy.port, f"/calls/{call_sid}") as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    def stop(self) -> None:
        for process in self.processes.values():
            if process.running is not None:
                process.kill()
        self.proxy.stop()
        if self._agent is not None:
            self._agent.kill()
            self._agent.wait()


def status(port: int, path: str) -> int:
    """0: nobody answers."""
    try:
        with _get(port, path) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code
    except OSError:
        return 0


def _get(port: int, path: str) -> http.client.HTTPResponse:
    url = f"http://127.0.0.1:{port}{path}"
    wanted = urllib.request.Request(url, headers={"Authorization": f"Bearer {ADMIN}"})
    answer: http.client.HTTPResponse = urllib.request.urlopen(wanted, timeout=5)
    return answer
