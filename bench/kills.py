"""What a kill -9 costs: servers are killed in the midst of conversations, and what they had told is
looked for in the database, once the next start has written what was in the spool.

python bench/kills.py [--kills 100] [--calls 20] [URL]

Without a URL: a file in a directory of its own. A database that is named is filled.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import structlog
import trio
from records import keeping, kind, percentiles
from results import Kills
from rich.console import Console

from sts_trio.records.database import Database
from sts_trio.records.rows import Row
from sts_trio.records.shipper import Shipper
from sts_trio.records.spool import Spool
from sts_trio.records.store import Store
from sts_trio.records.writer import Writer
from sts_trio.testing import call, running, scripted_agent

SENTENCES = ["I would like a car.", "A red one.", "How fast is it?", "And what does it cost?"] * 3
# From the first call on, until all of them talk.
WARM_UP = 2.5
# Seconds in which the kill comes.
AT_SOME_TIME = 1.0


class Told:
    """A row that the server had put, as it told before it did."""

    __slots__ = ("at", "key")

    def __init__(self, line: str) -> None:
        sid, epoch, seq, at = line.split()
        self.key = (sid, int(epoch), int(seq))
        self.at = float(at)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    wanted = parser.parse_args()
    console = Console()
    lost: list[int] = []
    windows: list[float] = []
    rows = 0
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        url = wanted.url or f"sqlite:///{place / 'calls.db'}"
        for number in range(wanted.kills):
            spool = place / f"spool-{number}"
            told, killed_at = _kill_one(url, spool, wanted.calls)
            found = _found(url, spool, {each.key[0] for each in told})
            missing = [each for each in told if each.key not in found]
            rows += len(told)
            lost.append(len(missing))
            windows.append(killed_at - min(each.at for each in missing) if missing else 0.0)
            if (number + 1) % 10 == 0:
                console.print(f"{number + 1} kills, {rows} rows, {sum(lost)} lost")
    measured = Kills(
        database=kind(Database(url)),
        kills=wanted.kills,
        calls=wanted.calls,
        rows=rows,
        lost=sum(lost),
        most_lost=max(lost),
        oldest_ms=percentiles(windows),
    )
    console.print(measured)
    with keeping(wanted.out) as kept:
        others = [each for each in kept.kills if each.database != measured.database]
        kept.kills = [*others, measured]


def _kill_one(url: str, spool: Path, calls: int) -> tuple[list[Told], float]:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            _serve(url, spool, calls, write)
        finally:
            os._exit(1)
    os.close(write)
    lines: list[str] = []
    kill_at = time.monotonic() + WARM_UP + random.uniform(0, AT_SOME_TIME)
    killed_at = 0.0
    with open(read) as pipe:
        os.set_blocking(read, True)
        for line in pipe:
            lines.append(line)
            if not killed_at and time.monotonic() >= kill_at:
                os.kill(pid, signal.SIGKILL)
                killed_at = time.time()
    os.waitpid(pid, 0)
    if not killed_at:
        sys.exit("the server ended by itself")
    return [Told(line) for line in lines if line.endswith("\n")], killed_at


def _serve(url: str, spool: Path, calls: int, out: int) -> None:
    """In the child: calls, and each row told before it is put."""
    put = Writer.put

    def told(writer: Writer, row: Row) -> None:
        os.write(out, f"{row.call_sid} {row.epoch} {row.seq} {time.time()}\n".encode())
        put(writer, row)

    Writer.put = told  # type: ignore[method-assign]
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    environ = {"STS_DATABASE_URL": url, "STS_SPOOL": str(spool), "STS_LOG_LEVEL": "error"}

    async def talk() -> None:
        async with (
            scripted_agent() as agent,
            running(environ, agent=agent) as server,
            trio.open_nursery() as nursery,
        ):
            for _ in range(calls):
                nursery.start_soon(call, server.url, SENTENCES)

    trio.run(talk)


def _found(url: str, spool: Path, sids: set[str]) -> set[tuple[str, int, int]]:
    """What there is after the next start."""
    database = Database(url)
    database.open()
    store = Store(database)
    left = Spool(spool, "next")
    shipper = Shipper(store, left, "next")
    shipper.ship()
    while shipper.has_more:
        shipper.ship()
    found = {(row.call_sid, row.epoch, row.seq) for sid in sorted(sids) for row in store.rows(sid)}
    shipper.close()
    left.close()
    return found


if __name__ == "__main__":
    main()
