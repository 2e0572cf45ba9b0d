"""`sts-trio load`, as whoever measures their own bridge runs it, on a core of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from generator import NoRun
from servers import HERE, Bridge

from sts_trio.load.report import Report

# A search tries some ten numbers, a failure twice.
PATIENCE = 600.0


def run(bridge: Bridge, directory: Path, core: int, options: Mapping[str, float]) -> Report:
    """A search for the bridge's capacity; what is written is in `directory`.

    Raises:
        NoRun: it found nothing, or did not come to its end.
    """
    out = directory / "load"
    given = {
        **options,
        "--agent-port": bridge.agent_port,
        "--pid": bridge.pid,
        "--generator": "c",
        "--out": out,
    }
    url = f"ws://127.0.0.1:{bridge.port}/twilio"
    command = [sys.executable, "-m", "sts_trio", "load", url, "--find-capacity"]
    command += [str(word) for pair in given.items() for word in pair]
    paths = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
    log = directory / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": paths}, stdout=said, stderr=said
        )
        try:
            os.sched_setaffinity(process.pid, {core})  # of its generators, too
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise NoRun(f"`sts-trio load` did not end within {PATIENCE:.0f} s") from None
        finally:
            process.kill()
            process.wait()
    written = out.with_suffix(".json")
    if not written.exists():
        raise NoRun(log.read_text()[-500:])
    return msgspec.json.decode(written.read_bytes(), type=Report)
