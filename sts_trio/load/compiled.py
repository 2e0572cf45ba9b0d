"""The generator in C: its source is in `generator/`, and it is compiled where it is used.

That takes Linux, `cc`, and the headers of libc and OpenSSL.
"""

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import as_file, files
from pathlib import Path

from sts_trio.errors import StsTrioError

FLAGS = ("-O2", "-Wall", "-Wextra")
LIBRARIES = ("-lssl", "-lcrypto")


class NotCompiled(StsTrioError):
    """There is no generator in C, and why."""


def build(directory: Path, flags: Sequence[str] = ()) -> Path:
    """The generator, compiled into `directory`, with `flags` besides the usual ones.

    Raises:
        NotCompiled: there is no compiler, or no OpenSSL to compile with.
    """
    if not sys.platform.startswith("linux"):
        raise NotCompiled("the load generator in C needs Linux")
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotCompiled("cc: not found: the load generator in C needs a compiler")
    binary = directory / "loadgen"
    with as_file(files("sts_trio.load") / "generator") as folder:
        sources = sorted(map(str, folder.glob("*.c")))
        command = [compiler, *FLAGS, *flags, "-o", str(binary), *sources, *LIBRARIES]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotCompiled(
            "the load generator does not compile; it needs libc's and OpenSSL's headers"
            f" (Debian: gcc, libssl-dev):\n{done.stderr[-2000:]}"
        )
    return binary


def cached(directory: Path) -> Path:
    """The generator, compiled into `directory` unless it was before, of just this source.

    What is in there is run, so it has to be this user's, and nobody else's to write.

    Raises:
        NotCompiled: as `build`, or the directory is not to be trusted.
    """
    digest = sha256(repr((sys.platform, os.uname().machine)).encode())
    for each in sorted(_sources(), key=lambda each: each[0]):
        digest.update(repr(each).encode())
    binary = directory / f"loadgen-{digest.hexdigest()[:16]}"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check(directory.stat(), directory)
        if binary.exists():
            _check(binary.stat(), binary)
            return binary
        with tempfile.TemporaryDirectory(dir=directory) as folder:
            build(Path(folder)).replace(binary)
    except OSError as exc:
        raise NotCompiled(f"{directory}: {exc.strerror or exc}") from exc
    return binary


def _sources() -> list[tuple[str, bytes]]:
    folder = files("sts_trio.load") / "generator"
    return [(each.name, each.read_bytes()) for each in folder.iterdir() if each.is_file()]


def _check(status: os.stat_result, path: Path) -> None:
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotCompiled(f"{path}: it is another user's, or others may write there")


def allow_many_sockets() -> None:
    """As many as may be, for this process and those it starts: a call has two at either end."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # where the hard limit is "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
