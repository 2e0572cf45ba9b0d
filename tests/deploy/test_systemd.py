"""`deploy/systemd/` as systemd reads it. Debian's package systemd; skipped as in `test_haproxy`."""

import re
import shutil
import subprocess
from pathlib import Path

from rig_deploy import ROOT, needed

from sts_trio.web.serve import GRACE, LEAVE_TAKING, _Settings

UNITS = ROOT / "deploy" / "systemd"


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    needed("systemd", program)
    for unit in UNITS.iterdir():
        # What it starts has to be there.
        text = unit.read_text().replace("/opt/sts-trio/bin/sts-trio", "/bin/true")
        (tmp_path / unit.name).write_text(text.replace("/usr/bin/curl", "/bin/true"))
    done = subprocess.run(
        [
            str(program),
            "verify",
            *(tmp_path / f"sts-trio@5001.{each}" for each in ("service", "socket")),
            tmp_path / "sts-trio.target",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "sts-trio" in line]


def test_a_process_has_the_time_that_it_takes_to_stop() -> None:
    unit = (UNITS / "sts-trio@.service").read_text()
    [given] = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.M)
    assert int(given) >= 30 + LEAVE_TAKING + GRACE  # 30: STS_DRAIN_SECONDS by default
    assert re.search("^Restart=always$", unit, re.M)


def test_the_socket_is_the_one_that_the_process_would_listen_on_itself() -> None:
    service = (UNITS / "sts-trio@.service").read_text()
    unit = (UNITS / "sts-trio@.socket").read_text()
    [(host, port)] = re.findall(r"serve --host (\S+) --port (\S+)", service)
    assert re.findall("^ListenStream=(.*)$", unit, re.M) == [f"{host}:{port}"]
    assert re.findall("^Backlog=(.*)$", unit, re.M) == [str(_Settings.backlog)]
