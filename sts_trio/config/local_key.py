"""The key of this run: who has it is the user who runs this server, on the machine it runs on.

Without Twilio's token nothing else can tell. A loopback address is what every forwarder on this
machine has, and a web page reaches it too. So each run makes up a key. Whoever starts the server is
told an address with it, and the page keeps it as a cookie. Our own commands find it in a file that
only this user can read: by the address they have connected to, so no other server is given it.
"""

import base64
import contextlib
import hmac
import ipaddress
import multiprocessing
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from sts_trio.config import runtime_directories
from sts_trio.observe import events
from sts_trio.observe.report import report

NAME = "sts-trio"
MAX_BYTES = 200  # of a file

Address = tuple[str, int]  # host as digits, port


def mint() -> str:
    """A new key; the same for all workers that one process has started.

    They accept from one socket, so that none knows whom another has told what. What they share is
    multiprocessing's `authkey`, which their parent has made of `os.urandom`.
    """
    if multiprocessing.parent_process() is None:
        return secrets.token_urlsafe(32)
    shared = multiprocessing.current_process().authkey
    digest = hmac.digest(shared, b"sts_trio: the key of this run", "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def page_url(base: str, key: str) -> str:
    """The address that opens the page."""
    return f"{base}/?key={key}"


@contextlib.contextmanager
def published(key: str, addresses: Sequence[Address]) -> Iterator[None]:
    """Keeps the key in the files that `find` looks for, as long as the block lasts."""
    with contextlib.ExitStack() as files:
        for address in addresses:
            files.enter_context(_published(key, _name(address)))
        yield


class Socket(Protocol):
    """One of TCP, of whichever library."""

    def getpeername(self) -> Any: ...


def of_peer(connected: Socket) -> str | None:
    """The key of the server that this socket is connected to, if this user runs it here."""
    try:
        return find(connected.getpeername()[:2])
    except OSError:  # it is gone again
        return None


def find(address: Address) -> str | None:
    """The key of the server that this user runs at `address` on this machine."""
    host, port = _plain(address[0]), address[1]
    if not ipaddress.ip_address(host).is_loopback:
        return None
    everywhere = ["::"] if ":" in host else ["0.0.0.0", "::"]
    found = []
    for directory in _directories():
        with contextlib.suppress(OSError), _opened(directory) as folder:
            for name in (host, *everywhere):
                with contextlib.suppress(OSError):
                    found.append(_read(folder, _name((name, port))))
    # One that was killed has left its file; who serves there now has come later.
    return max(found)[1] if found else None


# --- files ----------------------------------------------------------------------------------------
#
# The directory is opened once and everything is done in what was opened, so that nobody can put
# another in its place. It is used only if it is this user's and nobody else may enter; so what is
# in it was put there by this user. Whoever made a directory or a link of that name before us
# keeps us from that place, and no more.


@contextlib.contextmanager
def _published(key: str, name: str) -> Iterator[None]:
    reasons = []
    for directory in _directories():
        try:
            with _opened(directory, make=True) as folder:
                _write(folder, name, key)
        except OSError as exc:
            reasons.append(f"{directory}: {exc.strerror or exc}")
            continue
        try:
            yield
        finally:
            with contextlib.suppress(OSError), _opened(directory) as folder:
                if _read(folder, name)[1] == key:  # and not that of who came after us
                    os.unlink(name, dir_fd=folder)
        return
    report(events.KeyNotPublished("; ".join(reasons)))
    yield


def _directories() -> list[Path]:
    if os.open not in os.supports_dir_fd:  # as on Windows
        return []
    *own, shared = runtime_directories()
    return [*(each / NAME for each in own), shared / f"{NAME}-{os.geteuid()}"]


@contextlib.contextmanager
def _opened(directory: Path, *, make: bool = False) -> Iterator[int]:
    """The directory's descriptor.

    Raises:
        OSError: it is not there, or not to be trusted.
    """
    if make:
        _make(directory)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check(os.fstat(folder), "it is another user's, or others may enter")
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


def _check(status: os.stat_result, reason: str) -> None:
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(0, reason)


def _write(folder: int, name: str, key: str) -> None:
    new = f"{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(new, flags, 0o600, dir_fd=folder)
    try:
        with open(file, "w", encoding="ascii") as text:
            text.write(f"{key}\n")
        os.replace(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(new, dir_fd=folder)
        raise


def _read(folder: int, name: str) -> tuple[float, str]:
    """When it was written, and the key in it.

    Raises:
        OSError: there is none, or it is not to be trusted.
    """
    # Not to wait for somebody to write, if it is a pipe.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(name, flags, dir_fd=folder), "rb") as file:
        status = os.fstat(file.fileno())
        _check(status, "it is another user's, or others may read it")
        key = file.read(MAX_BYTES).decode(errors="replace").strip()
    if not stat.S_ISREG(status.st_mode) or not re.fullmatch("[A-Za-z0-9_-]+", key):
        raise OSError(0, "there is no key in it")
    return status.st_mtime, key


def _name(address: Address) -> str:
    return f"{_plain(address[0])}_{address[1]}"


def _plain(host: str) -> str:
    """An IPv4 address as such, though a socket of IPv6 tells it."""
    return host.removeprefix("::ffff:") if "." in host else host
