"""`sts-trio serve --print-deploy`: what it writes is what systemd and HAProxy take."""

import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import haproxy
import msgspec
import pytest
from click.testing import CliRunner, Result
from rig_deploy import ROOT, needed

from sts_trio.cli import main
from sts_trio.commands import deployment
from sts_trio.commands.deployment import Machine
from sts_trio.config.variables import SETTINGS

FILES = [
    *("environment", "haproxy.cfg"),
    *("sts-trio.target", "sts-trio@.service", "sts-trio@.socket"),
]
GENERATE = runpy.run_path(str(ROOT / "deploy" / "generate.py"))
MACHINE: Machine = GENERATE["MACHINE"]


def printed(*arguments: str, **variables: str) -> Result:
    return CliRunner(env=variables).invoke(main, ["serve", "--print-deploy", *arguments])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", GENERATE["written"]())
def test_a_file_of_deploy_is_what_is_printed(path: str) -> None:
    text = (ROOT / "deploy" / path).read_text()
    assert text == GENERATE["written"]()[path], "run: python deploy/generate.py"


def test_it_is_for_the_cores_the_host_and_the_drain_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    done = printed("--out", "files", "--port", "6001", STS_DRAIN_SECONDS="60")
    assert done.exit_code == 0, done.output
    files = {path.name: path.read_text() for path in (tmp_path / "files").iterdir()}
    assert sorted(files) == FILES
    host = os.uname().nodename.partition(".")[0]
    ports = [6001, 6002]  # the other cores are HAProxy's
    servers = re.findall(r"^  server (\S+) (\S+)$", files["haproxy.cfg"], re.M)
    assert servers == [(f"{host}-{port}", f"127.0.0.1:{port}") for port in ports]
    assert "TimeoutStopSec=75\n" in files["sts-trio@.service"]
    assert "sts-trio@6001" in done.output
    assert "2 processes for 4 cores: HAProxy takes as much" in done.output


@pytest.mark.parametrize(
    ("cores", "processes"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 3), (8, 4), (64, 32)]
)
def test_of_two_cores_one_is_haproxys(
    cores: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are but two, it has to share them: calls of one process move to another."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    done = printed()
    why = "takes as much as the processes do" if cores > 2 else "has no core of its own"
    assert re.match(rf"# {processes} process(es)? for {cores} cores?: HAProxy {why}", done.output)
    assert len(re.findall("^  server ", done.output, re.M)) == processes


@pytest.mark.parametrize("port", ["0", "65535"])
def test_each_process_has_a_port(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    assert printed("--port", "65534").exit_code == 0
    done = printed("--port", port)
    assert done.exit_code == 2
    assert "--port" in done.output
    assert "65534" in done.output


@pytest.mark.parametrize("host", ["my_box", "ü", "a" * 58, ""])
def test_a_host_after_which_no_process_can_be_called_is_told(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else none of them would start."""
    monkeypatch.setattr(socket, "gethostname", lambda: f"{host}.example.com")
    done = printed()
    assert done.exit_code == 2
    assert f"this machine is called {host}, and so its processes: expected up to" in done.output


def test_the_longest_name_of_a_host_makes_a_name_of_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "a" * 57)
    done = printed("--port", "65534")
    names = re.findall(r"^  server (\S+)", done.output, re.M)
    assert names
    for name in names:
        msgspec.convert(name, SETTINGS["STS_PROCESS_NAME"].type)


def test_systemd_and_haproxy_take_it(tmp_path: Path) -> None:
    analyze, proxy = shutil.which("systemd-analyze"), haproxy.program()
    needed("systemd", analyze)
    needed("haproxy", proxy)
    assert printed("--out", "files").exit_code == 0
    unit = tmp_path / "files" / "sts-trio@.service"
    unit.write_text(re.sub(r"/\S*/curl", "/bin/true", unit.read_text()))
    instance = unit.rename(unit.with_name("sts-trio@5001.service"))
    done = subprocess.run(
        [str(analyze), "verify", instance, unit.with_name("sts-trio.target")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "sts-trio" in line]
    config = tmp_path / "files" / "haproxy.cfg"
    config.write_text(re.sub("ssl crt .*", "", config.read_text()))  # who has the certificate?
    done = subprocess.run([str(proxy), "-c", "-f", config], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_all_of_it_is_printed_where_no_directory_is_named() -> None:
    done = printed()
    assert done.exit_code == 0, done.output
    assert re.findall(r"^# ==> .*/(\S+)$", done.output, re.M) == [
        *("sts-trio@.service", "sts-trio@.socket", "sts-trio.target", "haproxy.cfg", "environment")
    ]


def test_a_secret_is_not_printed() -> None:
    secrets = {
        "TWILIO_AUTH_TOKEN": "k" * 32,
        "STS_ADMIN_TOKEN": "m" * 32,
        "DEEPGRAM_API_KEY": "n" * 32,
    }
    done = printed(**secrets, STS_DATABASE_URL="postgresql+psycopg://me:hunter2@db/calls")
    assert done.exit_code == 0, done.output
    assert not re.search("k{32}|m{32}|n{32}|hunter2", done.output)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "environment").write_text("TWILIO_AUTH_TOKEN=mine\n")
    done = printed("--out", ".")
    assert (done.exit_code, done.output) == (
        2,
        "Error: environment: is there already: give another --out\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["environment"]


def test_only_its_owner_can_read_the_file_for_secrets(tmp_path: Path) -> None:
    assert printed("--out", ".").exit_code == 0
    assert (tmp_path / "environment").stat().st_mode & 0o777 == 0o600


def test_a_directory_without_files_to_write_is_a_mistake() -> None:
    done = CliRunner().invoke(main, ["serve", "--out", "."])
    assert (done.exit_code, done.output) == (2, "Error: --out: is for --print-deploy\n")


def test_a_program_in_somebodys_home_can_be_read_there() -> None:
    at_home = msgspec.structs.replace(MACHINE, program="/home/ann/venv/bin/sts-trio")
    assert "ProtectHome=read-only\n" in deployment.units(at_home)["sts-trio@.service"]
    assert "ProtectHome=yes\n" in deployment.units(MACHINE)["sts-trio@.service"]


@pytest.mark.parametrize("place", ["/tmp", "/var/tmp"])
def test_a_program_in_a_directory_for_temporary_files_can_be_read_there(place: str) -> None:
    here = msgspec.structs.replace(MACHINE, config=Path(place, "mine", "sts-trio.toml"))
    assert "PrivateTmp=no\n" in deployment.units(here)["sts-trio@.service"]
    assert "PrivateTmp=yes\n" in deployment.units(MACHINE)["sts-trio@.service"]


def test_how_a_user_is_made_is_told_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "nobody-of-that-name")
    assert "First: useradd --system" in printed("--out", "one").output
    monkeypatch.setenv("LOGNAME", "daemon")
    assert "useradd" not in printed("--out", "other").output


@pytest.mark.parametrize("name", ["of mine", "50%", "$HOME"])
def test_a_path_that_a_unit_cannot_say_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "sts-trio.toml").touch()
    done = printed("--config", f"{name}/sts-trio.toml")
    assert done.exit_code == 2
    assert "systemd takes no such path" in done.output


def test_where_there_is_no_systemd_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    done = printed()
    assert (done.exit_code, done.output) == (
        2,
        "Error: --print-deploy: there is no systemd on darwin: expected Linux\n",
    )
