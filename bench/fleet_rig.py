"""A fleet on this machine: processes of the bridge behind HAProxy, a database, and an agent.

All of them are real programs on the loopback, or in a network namespace of ours. Each process is
started again however it ends, as systemd has it. What is done to one is done by its pid.
"""

import http.client
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import trio
from haproxy import HAProxy, free_port

HERE = Path(__file__).parent
ROOT = HERE.parent
PYTHON = sys.executable
LOCAL = "127.0.0.1"

TOKEN = "0123456789abcdef0123456789abcdef"
ADMIN = "a-token-of-twenty-letters"
# As RestartSec of the unit.
RESTART_AFTER = 0.1
# Until HAProxy has noticed who is back: it looks twice a second at who was down.
NOTICED = 1.5
# Seconds that only what hangs takes.
PATIENCE = 60.0
TRIES = 20

CONFIG = """
functions = ["fleet_functions"]

[agents.default]
greeting = "DDDD"
listen.provider = { type = "deepgram", model = "nova-3" }
think.provider = { type = "open_ai", model = "gpt-4o-mini" }
think.prompt = "You keep what you are told."
speak.provider = { type = "deepgram", model = "aura-2-thalia-en" }
"""


class Process:
    """One of the fleet, which may be another process after a while. `tree` is whose code it is;
    `before` is what its command begins with."""

    def __init__(self, name: str, log: Path, tree: Path) -> None:
        self.name = name
        self.address = LOCAL
        self.port = free_port()
        self.log = log
        self.tree = tree
        self.before: Sequence[str] = ()
        self.is_wanted = True  # else it is not started again
        self.running: subprocess.Popen[bytes] | None = None

    def start(self, variables: Mapping[str, str], api: str) -> None:
        paths = os.pathsep.join(map(str, (self.tree, HERE)))
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [*self.before, PYTHON, HERE / "fleet_server.py", self.address, str(self.port), api],
                env={**os.environ, **variables, "PYTHONPATH": paths, "STS_PROCESS_NAME": self.name},
                cwd=self.log.parent,
                stdout=log,
                stderr=log,
            )

    def signal(self, signum: signal.Signals) -> None:
        assert self.running is not None
        self.running.send_signal(signum)

    def is_ready(self) -> bool:
        """Whether it takes calls."""
        return status(self.address, self.port, "/readyz") == 200

    async def gone(self) -> None:
        """Whoever runs now is over."""
        assert self.running is not None
        await trio.to_thread.run_sync(self.running.wait, abandon_on_cancel=True)


class Fleet:
    """`names` of processes, which run the code of `tree`. Calls come by `webhook`. `database` is as
    in `use_database`."""

    def __init__(
        self,
        directory: Path,
        names: Sequence[str],
        database: str | None,
        variables: Mapping[str, str],
        tree: Path = ROOT,
    ) -> None:
        self.directory = directory
        self.notes = directory / "notes"
        self.agent_log = directory / "agent"
        self.agent_port = free_port()
        self.api = ""  # of the carrier
        self.processes = {name: Process(name, directory / f"{name}.log", tree) for name in names}
        self.proxy = HAProxy(directory, free_port())
        (directory / "sts-trio.toml").write_text(CONFIG)
        self.base = f"http://{LOCAL}:{self.proxy.port}"
        self.variables = {
            "STS_CONFIG": str(directory / "sts-trio.toml"),
            "STS_PUBLIC_URL": self.base,
            "STS_ADMIN_TOKEN": ADMIN,
            "STS_DRAIN_SECONDS": "10",
            "STS_LOG": "json",
            "DEEPGRAM_API_KEY": "any",
            "DEEPGRAM_URL": f"ws://{LOCAL}:{self.agent_port}/v1/agent/converse",
            "TWILIO_AUTH_TOKEN": TOKEN,
            "FLEET_NOTES": str(self.notes),
            **variables,
        }
        self._files = itertools.count()
        self.use_database(database)
        self._agent: subprocess.Popen[bytes] | None = None

    def use_database(self, url: str | None) -> None:
        """Whoever is started from now on has it; None: a new file."""
        file = self.directory / f"calls-{next(self._files)}.db"
        self.variables["STS_DATABASE_URL"] = url or f"sqlite:///{file}"

    @property
    def webhook(self) -> str:
        """As docs/deploying.md has it."""
        return f"{self.base}/twiml#rc=5&rp=all&ct=1000"

    async def open(self, nursery: trio.Nursery) -> None:
        """Returns when all of it takes calls; `nursery` is for what has processes started again."""
        host = "0.0.0.0" if is_alone() else LOCAL
        log = str(self.agent_log)
        command = [PYTHON, str(HERE / "keeper.py"), str(self.agent_port), log, host]
        self._agent = subprocess.Popen(command, env={"PYTHONPATH": str(ROOT)})  # noqa: ASYNC220
        servers = {each.name: (each.address, each.port) for each in self.processes.values()}
        self.proxy.write(servers)
        self.proxy.start()
        for process in self.processes.values():
            nursery.start_soon(self._supervise, process)
        for name in self.processes:
            await self.ready(name)

    async def _supervise(self, process: Process) -> None:
        while True:
            while not process.is_wanted:  # noqa: ASYNC110
                await trio.sleep(RESTART_AFTER)
            process.start(self.variables, self.api)
            await process.gone()
            await trio.sleep(RESTART_AFTER)

    async def ready(self, name: str) -> None:
        """It takes calls, and HAProxy knows."""
        with trio.fail_after(PATIENCE):
            is_ready = self.processes[name].is_ready
            while not await trio.to_thread.run_sync(is_ready):  # noqa: ASYNC110
                await trio.sleep(0.1)
        await trio.sleep(NOTICED)

    def record(self, call_sid: str) -> dict[str, Any]:
        """What any process of the fleet knows of a call, with its events, once it is over."""
        for _ in range(TRIES):
            try:
                with _get(LOCAL, self.proxy.port, f"/calls/{call_sid}") as answer:
                    told: dict[str, Any] = json.load(answer)
                    return told
            except urllib.error.HTTPError:  # the database, or all of us, are busy
                time.sleep(1.0)
        raise RuntimeError(f"{call_sid}: nobody knows it, see {self.directory}")

    def close(self) -> None:
        running = [each.running for each in self.processes.values()]
        for each in (*running, self._agent):
            if each is not None:
                each.kill()
                each.wait()
        self.proxy.stop()
        if is_alone():
            _forget_namespace()


def status(address: str, port: int, path: str) -> int:
    """0: nobody answers."""
    try:
        with _get(address, port, path) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code
    except (OSError, http.client.HTTPException):
        return 0


def _get(address: str, port: int, path: str) -> http.client.HTTPResponse:
    url = f"http://{address}:{port}{path}"
    wanted = urllib.request.Request(url, headers={"Authorization": f"Bearer {ADMIN}"})
    answer: http.client.HTTPResponse = urllib.request.urlopen(wanted, timeout=5)
    return answer


# --- a newer version ------------------------------------------------------------------------------

# As a release expands a schema: what locks a table, what takes long, and what is new.
EXPANDS = """from alembic import op
import sqlalchemy as sa

revision, down_revision = "{new:04}", "{old:04}"


def upgrade() -> None:
    for table in ("call", "stream", "event", "process"):
        op.add_column(table, sa.Column("news", sa.Text))
    op.create_index("call_by_news", "call", ["news"])
    op.create_table("news", sa.Column("name", sa.String, primary_key=True))
    op.execute("UPDATE sts_trio_schema SET version = {new}")
"""


def newer(tree: Path, directory: Path) -> Path:
    """The next version of that code, in `directory`: one that changes the schema."""
    records = directory / "sts_trio" / "records"
    shutil.copytree(tree / "sts_trio", records.parent, ignore=shutil.ignore_patterns("__pycache__"))
    schema = records / "schema.py"
    code, old = schema.read_text(), 0
    for version in re.findall(r"(?m)^VERSION = (\d+)$", code):
        old = int(version)
        schema.write_text(code.replace(f"VERSION = {old}", f"VERSION = {old + 1}"))
    migration = records / "migrations" / "versions" / f"v{old + 1:04}.py"
    migration.write_text(EXPANDS.format(old=old, new=old + 1))
    return directory


# --- a process that can vanish --------------------------------------------------------------------

OURS, THEIRS = "10.77.0.1", "10.77.0.2"
NAMESPACE, NEAR, FAR = "sts-trio-fleet", "sts-near", "sts-far"
NOBODY = "02:00:00:00:00:01"  # a network card that nobody has


def is_alone() -> bool:
    """Whether this process has a network of its own, in which it may do as it likes."""
    return os.environ.get("FLEET_ALONE") == "1"


def be_alone() -> None:
    """Runs this program anew, in a network namespace of its own. Does not return.

    Raises:
        OSError: who runs this may not make one.
    """
    program = [PYTHON, *sys.argv]
    up = 'ip link set lo up && exec "$@"'
    os.environ["FLEET_ALONE"] = "1"
    os.execvp("unshare", ["unshare", "--net", "sh", "-c", up, "sh", *program])


def set_apart(fleet: Fleet, name: str) -> Callable[[bool], None]:
    """That process gets a network namespace, and an address in it. What is returned has its packets
    dropped, both ways and without a word, or no longer."""
    inside = ("ip", "netns", "exec", NAMESPACE)
    _forget_namespace()  # of a run that was killed
    for command in (
        f"ip netns add {NAMESPACE}",
        f"ip link add {NEAR} type veth peer name {FAR}",
        f"ip link set {FAR} netns {NAMESPACE}",
        f"ip addr add {OURS}/24 dev {NEAR}",
        f"ip link set {NEAR} up",
        f"{' '.join(inside)} ip addr add {THEIRS}/24 dev {FAR}",
        f"{' '.join(inside)} ip link set {FAR} up",
        f"{' '.join(inside)} ip link set lo up",
    ):
        subprocess.run(command.split(), check=True)
    process = fleet.processes[name]
    process.address, process.before = THEIRS, inside
    # Nobody else is in this network.
    fleet.variables["DEEPGRAM_URL"] = f"ws://{OURS}:{fleet.agent_port}/v1/agent/converse"
    fleet.variables["STS_INSECURE_AGENT"] = "1"

    def drop(is_dropped: bool) -> None:
        for prefix, address, card in (((), THEIRS, NEAR), (inside, OURS, FAR)):
            change = ["replace", address, "lladdr", NOBODY, "nud", "permanent"]
            way = change if is_dropped else ["del", address]
            command = [*prefix, "ip", "neigh", *way, "dev", card]
            subprocess.run(command, check=True)

    return drop


def _forget_namespace() -> None:
    subprocess.run(["ip", "netns", "del", NAMESPACE], stderr=subprocess.DEVNULL, check=False)
