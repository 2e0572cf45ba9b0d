"""What the tests of the page stand on: a server, sounds for a microphone, and patience."""

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sts_trio.audio.g711 import SILENCE, decode
from sts_trio.demo import clips
from sts_trio.observe import events

PATIENCE = 60.0  # only what hangs takes so long


class Server:
    """A server in a process of its own, configured by these variables alone."""

    def __init__(self, log: Path, **environ: str) -> None:
        self._log = log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "server.py")],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={
                    "STS_AGENT": "offline",
                    "PATH": os.environ["PATH"],
                    # Some of them are killed, and leave the file of their key.
                    "XDG_RUNTIME_DIR": str(log.parent),
                    "STS_DATABASE_URL": f"sqlite:///{log.parent / 'calls.db'}",
                    # The package beside these tests, whatever is installed.
                    "PYTHONPATH": str(Path(__file__).parents[2]),
                }
                | environ,
            )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()  # what its page is opened by
        assert self.url, log.read_text()
        parts = urlsplit(self.url)
        self.port = parts.port or 0
        self._headers = {"Authorization": f"Bearer {parts.query.removeprefix('key=')}"}

    def ask(self, path: str) -> Any:
        return json.loads(self.get(path))

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with closing(connection):
            connection.request("GET", path, headers=self._headers)
            return connection.getresponse().read()

    def refusals(self, path: str) -> int:
        """As its log has them."""
        lines = self._log.read_text().splitlines()
        return sum(events.RequestRefused.NAME in line and f"path={path} " in line for line in lines)

    @property
    def live(self) -> int:
        return int(self.ask("/healthz")["live"])

    def story(self, call_sid: str) -> list[str]:
        """What has happened in that call, as far as `/calls/…/events` tells it at once."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with closing(connection):
            connection.request("GET", f"/calls/{call_sid}/events", headers=self._headers)
            response = connection.getresponse()
            story: list[str] = []
            while events.CallEnded.NAME not in story:
                line = response.readline().decode()
                assert line, f"the stream ended after {story}"
                if line.startswith("data: "):
                    story.append(json.loads(line.removeprefix("data: "))["event"])
            return story

    def pause(self) -> None:
        """As of a machine that sleeps, or of a network that loses everything."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(PATIENCE)
        finally:
            self.kill()
            assert self._process.stdout is not None
            self._process.stdout.close()


def silence(seconds: float) -> bytes:
    return bytes([SILENCE]) * round(8000 * seconds)


def question() -> bytes:
    """Words that the ears know: what is no speech, they take for noise."""
    return clips.speak("mary-test-drive").audio


def spoken(*pieces: bytes) -> str:
    """A script for the page: what reaches it by the microphone is these pieces of µ-law, whole.

    On a busy machine Chromium's own pretended microphone loses pieces of what it plays, and words
    with holes are a noise. What a node of the page plays is late at worst.
    """
    samples = base64.b64encode(decode(b"".join(pieces))).decode()
    return f"""
    AudioContext.prototype.createMediaStreamSource = function () {{
      const bytes = Uint8Array.from(atob("{samples}"), (each) => each.charCodeAt(0));
      const samples = Float32Array.from(new Int16Array(bytes.buffer), (each) => each / 32768);
      const buffer = new AudioBuffer({{ length: samples.length, sampleRate: 8000 }});
      buffer.copyToChannel(samples, 0);
      const node = new AudioBufferSourceNode(this, {{ buffer }});
      node.start();
      return node;
    }};
    """


def eventually(condition: Callable[[], bool], what: str, within: float = PATIENCE) -> float:
    """Waits for it; how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, f"{what}: not within {within:g} s"
        time.sleep(0.02)
    return time.monotonic() - began
