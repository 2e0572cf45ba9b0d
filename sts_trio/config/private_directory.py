"""A directory that only this user can enter: what a process leaves there is for their others.

It is opened once and everything is done in what was opened, so that nobody can put another in its
place. It is used only if it is this user's and nobody else may enter; so what is in it was put
there by this user. Whoever made a directory or a link of that name before us keeps us from that
place, and no more.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sts_trio.config import runtime_directories

NAME = "sts-trio"

Address = tuple[str, int]  # host as digits, port


def directories() -> list[Path]:
    """Where it may be, the best first. None on Windows, where files have other rights."""
    if os.open not in os.supports_dir_fd:
        return []
    *own, shared = runtime_directories()
    return [*(each / NAME for each in own), shared / f"{NAME}-{os.geteuid()}"]


@contextlib.contextmanager
def opened(directory: Path, *, make: bool = False) -> Iterator[int]:
    """The directory's descriptor.

    Raises:
        OSError: it is not there, or not to be trusted.
    """
    if make:
        _make(directory)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        check(os.fstat(folder), "it is another user's, or others may enter")
        yield folder
    finally:
        os.close(folder)


def _make(directory: Path) -> None:
    parent = directory.parent
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = parent.stat()
    # Of somebody else's directory we could be locked out at any time: `sudo` leaves variables.
    if status.st_uid != os.geteuid() and not status.st_mode & stat.S_ISVTX:
        raise PermissionError(0, "the directory above it is another user's")
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)


def check(status: os.stat_result, reason: str) -> None:
    """Raises OSError, with the reason, unless it is this user's and nobody else's."""
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(0, reason)


def file_name(address: Address) -> str:
    """Of what belongs to the server at that address."""
    return f"{plain(address[0])}_{address[1]}"


def plain(host: str) -> str:
    """An IPv4 address as such, though a socket of IPv6 tells it."""
    return host.removeprefix("::ffff:") if "." in host else host
