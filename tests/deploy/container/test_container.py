"""What the image of deploy/Dockerfile is made of, and how it behaves."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import haproxy
import pytest
from rig_container import WITHIN, Container, Image, running
from rig_deploy import ROOT

from sts_trio.audio import wav

pytestmark = pytest.mark.container

TOKEN = "0123456789abcdef0123456789abcdef"
SERVES = {
    "STS_AGENT": "offline",
    "TWILIO_AUTH_TOKEN": TOKEN,
    "STS_ADMIN_TOKEN": TOKEN,
    "STS_DRAIN_SECONDS": "20",
}
SPEECH = ROOT / "tests" / "data" / "speech"


def status(port: int, path: str) -> int | None:
    """None: nobody is there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", path)
        return connection.getresponse().status
    return None


def until(port: int, path: str, wanted: int, container: Container) -> None:
    by = time.monotonic() + WITHIN
    while (found := status(port, path)) != wanted:
        assert time.monotonic() < by, (found, container.log.read_text())
        time.sleep(0.05)


def call(port: int, directory: Path, seconds: int) -> "subprocess.Popen[bytes]":
    directory.mkdir()
    speech = directory / "speech.wav"
    wav.write(speech, (SPEECH / "slt-01.ulaw").read_bytes())
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "sts_trio", "call", str(speech), "--signed"),
            *("--url", f"http://127.0.0.1:{port}/twiml", "--seconds", str(seconds)),
            *("--out", str(directory)),
        ],
        env=os.environ | {"TWILIO_AUTH_TOKEN": TOKEN},
        stdout=subprocess.DEVNULL,
    )


def output(container: Container) -> str:
    assert container.ended() == 0, container.log.read_text()
    return container.log.read_text()


def python(image: Image, volume: Path, code: str) -> str:
    with running(image, volume, {}, ["-c", code], ["tini", "--", "python"]) as container:
        return output(container)


def test_it_takes_calls_says_that_it_is_well_and_lets_them_finish_when_it_is_told_to_stop(
    image: Image, volume: Path, tmp_path: Path
) -> None:
    port = haproxy.free_port()
    with running(image, volume, SERVES | {"PORT": str(port)}) as container:
        until(port, "/lbz", 200, container)
        assert is_well(image, tmp_path, port)
        # 0: the agent was heard, and all said goodbye.
        assert call(port, tmp_path / "first", 8).wait(WITHIN) == 0
        second = call(port, tmp_path / "second", 8)
        time.sleep(3)  # in its midst
        container.signal(signal.SIGTERM)
        until(port, "/lbz", 404, container)
        assert second.wait(WITHIN) == 0
        assert container.ended() == 0
    assert not is_well(image, tmp_path, port)
    assert (volume / "sts-trio.db").exists()


def is_well(image: Image, directory: Path, port: int) -> bool:
    """By the image's own check, as an engine would run it."""
    kind, *command = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    volume = directory / f"health-{time.monotonic_ns()}"
    volume.mkdir()
    with running(image, volume, {"PORT": str(port)}, command, []) as container:
        return container.ended() == 0


def test_nothing_can_be_written_but_the_volume(image: Image, volume: Path) -> None:
    code = """
import os
for directory, inner, files in os.walk('/'):
    inner[:] = [each for each in inner if f'{directory}/{each}' not in ('//proc', '//sys', '//dev')]
    for each in [directory, *(os.path.join(directory, each) for each in files)]:
        if os.access(each, os.W_OK): print(each)
print(os.getuid(), os.getgid(), os.getgroups())
"""
    assert python(image, volume, code).splitlines() == [image.data, "10001 10001 []"]


def test_it_has_no_tools_to_build_or_to_fetch_with(image: Image, volume: Path) -> None:
    tools = ("gcc", "cc", "make", "pip", "pip3", "git", "curl", "wget")
    code = f"import shutil; print([each for each in {tools} if shutil.which(each)])"
    assert python(image, volume, code) == "[]\n"


def test_children_of_dead_parents_are_buried(image: Image, volume: Path) -> None:
    code = """
import os, time
if not (child := os.fork()):
    if os.fork(): os._exit(0)
    time.sleep(0.2)
    os._exit(0)
os.waitpid(child, 0)
time.sleep(1)
stats = [open(f'/proc/{each}/stat').read() for each in os.listdir('/proc') if each.isdigit()]
print(sorted(each.split()[1] for each in stats))
"""
    assert python(image, volume, code) == "['(python)', '(tini)']\n"


def test_a_mistake_in_the_configuration_ends_it_with_its_line_and_status_2(
    image: Image, volume: Path
) -> None:
    with running(image, volume, {"STS_MAX_CALLS": "many"}) as container:
        assert container.ended() == 2
        assert "STS_MAX_CALLS" in container.log.read_text()
