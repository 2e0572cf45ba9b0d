"""A real PostgreSQL for tests: its own directory, its own socket, nobody else's."""

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine import make_url

PORT = 54321  # only part of the socket's name: it listens on no network
WITHIN = 60.0


def binaries() -> Path | None:
    """Where `initdb` is: Debian's package keeps it off the path."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if (found := shutil.which("initdb")) is not None:
        places.append(Path(found).parent)
    return next((place for place in places if (place / "initdb").exists()), None)


# Of databases: several fixtures of a process may have one cluster.
_numbers = itertools.count(1)


class Cluster:
    def __init__(self, binaries: Path, directory: Path) -> None:
        self._binaries = binaries
        self.directory = directory

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={quote(str(self.directory))}&port={PORT}"

    def start(self) -> None:
        # Nothing of this has to survive a power cut.
        options = f"-c fsync=off -c listen_addresses= -c port={PORT} -k {self.directory}"
        self._run("pg_ctl", "-w", "-o", options, "-l", str(self.directory / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def create(self, copy_of: str | None = None) -> str:
        """A new database, empty or a copy of the one with that URL; returns its URL."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        template = "template1" if copy_of is None else make_url(copy_of).database
        self.query("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def query(self, database: str, sql: str) -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(
            host=str(self.directory), port=PORT, user="postgres", dbname=database, autocommit=True
        ) as connection:
            found = connection.execute(sql)
            return found.fetchall() if found.description else []

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Every process of the server stands still: it neither answers nor hangs up."""
        postmaster = int((self.directory / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        pids = [postmaster, *map(int, children)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def asking_for_passwords(self, user: str, password: str) -> Iterator[None]:
        """For a user of that name; others are believed."""
        rules = self.directory / "data" / "pg_hba.conf"
        before = rules.read_text()
        self.query("postgres", f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
        rules.write_text(f"local all {user} scram-sha-256\n{before}")
        self.query("postgres", "SELECT pg_reload_conf()")
        try:
            yield
        finally:
            rules.write_text(before)
            self.query("postgres", "SELECT pg_reload_conf()")
            self.query("postgres", f"DROP ROLE {user}")

    def make(self) -> None:
        self._run("initdb", "-N", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale")

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        # It refuses to run as root.
        user = "postgres" if os.geteuid() == 0 else None
        done = subprocess.run(
            [self._binaries / program, "-D", self.directory / "data", *arguments],
            user=user,
            group=user,
            extra_groups=[] if user else None,
            cwd=self.directory,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if program == "initdb" else subprocess.DEVNULL,
            timeout=WITHIN,
        )
        if done.returncode:
            log = self.directory / "log"
            said = done.stdout or (log.read_bytes() if log.exists() else b"")
            raise RuntimeError(f"{program} failed: {said.decode(errors='replace')[-2000:]}")


@contextlib.contextmanager
def shared(binaries: Path, meeting: Path) -> Iterator[Cluster]:
    """One for all processes of a run, which meet in a directory: the first starts it, and the last
    takes it down."""
    state = meeting / "postgresql.json"
    with _alone_in(meeting):
        if state.exists():
            found = json.loads(state.read_text())
            cluster = Cluster(binaries, Path(found["directory"]))
            users = found["users"] + 1
        else:
            cluster, users = started(binaries), 1
        state.write_text(json.dumps({"directory": str(cluster.directory), "users": users}))
    try:
        yield cluster
    finally:
        with _alone_in(meeting):
            users = json.loads(state.read_text())["users"] - 1
            if users:
                told = {"directory": str(cluster.directory), "users": users}
                state.write_text(json.dumps(told))
            else:
                state.unlink()
                cluster.remove()


@contextlib.contextmanager
def _alone_in(meeting: Path) -> Iterator[None]:
    with (meeting / "postgresql.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def running(binaries: Path) -> Iterator[Cluster]:
    """One for those who stop it, or have it stand still."""
    cluster = started(binaries)
    try:
        yield cluster
    finally:
        cluster.remove()


def started(binaries: Path) -> Cluster:
    # Not pytest's own directory: that is closed to any other user.
    directory = Path(tempfile.mkdtemp(prefix="sts-trio-pg-"))
    if os.geteuid() == 0:
        shutil.chown(directory, "postgres", "postgres")
    cluster = Cluster(binaries, directory)
    try:
        cluster.make()
        cluster.start()
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return cluster
