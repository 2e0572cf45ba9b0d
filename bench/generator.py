"""The load generator of `sts-trio load`, run on a core of its own."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from sts_trio.load.figures import Run, read_run

# Beyond the run itself: connecting at the ramp's pace, and what a saturated bridge adds to it.
PATIENCE = 60.0


class GeneratorTooSlow(Exception):
    """The generator could not keep its own pace: no figure of that run means anything."""


class NoRun(Exception):
    """There is nothing to be measured: the bridge died, or could not be reached."""


def certify(directory: Path) -> Path:
    """A PEM with a key and its own certificate for 127.0.0.1, good for the hours of a benchmark.

    Raises:
        click.ClickException: there is no `openssl`.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise click.ClickException("openssl: not found: --tls makes its certificate with it")
    key, certificate, both = (directory / name for name in ("key.pem", "cert.pem", "agent.pem"))
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=agent"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both


def run(
    binary: Path, core: int, seconds: float, options: Sequence[str], trusted: Path | None = None
) -> Run:
    """One run of about `seconds`, on that core, with bridges whose certificate is `trusted`.

    Raises:
        GeneratorTooSlow: the run is void.
        NoRun: there was none.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        environment = os.environ | ({"SSL_CERT_FILE": str(trusted)} if trusted else {})
        process = subprocess.Popen([str(binary), *options], stdout=out, stderr=err, env=environment)
        try:
            os.sched_setaffinity(process.pid, {core})
            code = process.wait(seconds + PATIENCE)
        except subprocess.TimeoutExpired:
            raise NoRun(f"the generator did not end within {seconds + PATIENCE:.0f} s") from None
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        err.seek(0)
        if code not in (0, 1):
            raise NoRun(err.read().strip()[-500:] or f"the generator exited with {code}")
        measured = read_run(out.read())
    if measured.void is not None:
        raise GeneratorTooSlow(measured.void)
    return measured
