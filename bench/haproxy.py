"""HAProxy by deploy/haproxy.cfg, on the loopback, in front of servers that are named."""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

CONFIG = Path(__file__).parents[1] / "deploy" / "haproxy.cfg"


def program() -> str | None:
    """Debian has it where only root looks."""
    return shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")


def on_loopback(
    port: int, servers: Mapping[str, tuple[str, int]], certificate: Path | None = None
) -> str:
    """The file as it is deployed, but for where it listens and logs, and for who is behind it; and
    without TLS, unless there is a certificate."""
    text = CONFIG.read_text()
    tls = f" ssl crt {certificate} alpn http/1.1" if certificate else ""
    text = re.sub(r"bind :443 .*", f"bind 127.0.0.1:{port}{tls}", text)
    text = text.replace("log /dev/log local0", "log stdout format raw local0")
    text = re.sub(r"(?m)^  server .*\n", "", text)
    behind = (f"  server {name} {host}:{at}\n" for name, (host, at) in servers.items())
    return text + "".join(behind)


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


class HAProxy:
    """Write its file, start it, and stop it. What it says is in `directory`/haproxy.log."""

    def __init__(self, directory: Path, port: int, certificate: Path | None = None) -> None:
        self.port = port
        self._certificate = certificate
        self._config = directory / "haproxy.cfg"
        self._log = directory / "haproxy.log"
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, servers: Mapping[str, tuple[str, int]]) -> None:
        """`servers` are (host, port) by name."""
        self._config.write_text(on_loopback(self.port, servers, self._certificate))

    def start(self) -> None:
        found = program()
        assert found is not None
        # A master and its worker, as systemd has it: a reload is another worker.
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [found, "-W", "-f", str(self._config)], stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        """The master's; its workers are its children."""
        assert self._process is not None
        return self._process.pid

    def reload(self) -> None:
        """Calls stay with the old worker, and new ones come to the next."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR2)

    def stop(self) -> None:
        """At once, with all connections."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None
