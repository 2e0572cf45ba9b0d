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
from typing import Any, Protocol

from sts_trio.config.private_directory import (
    Address,
    check,
    directories,
    file_name,
    opened,
    plain,
)
from sts_trio.observe import events
from sts_trio.observe.report import report

MAX_BYTES = 200  # of a file


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
            files.enter_context(_published(key, file_name(address)))
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
    host, port = plain(address[0]), address[1]
    if not ipaddress.ip_address(host).is_loopback:
        return None
    everywhere = ["::"] if ":" in host else ["0.0.0.0", "::"]
    found = []
    for directory in directories():
        with contextlib.suppress(OSError), opened(directory) as folder:
            for name in (host, *everywhere):
                with contextlib.suppress(OSError):
                    found.append(_read(folder, file_name((name, port))))
    # One that was killed has left its file; who serves there now has come later.
    return max(found)[1] if found else None


# --- files ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _published(key: str, name: str) -> Iterator[None]:
    reasons = []
    for directory in directories():
        try:
            with opened(directory, make=True) as folder:
                _write(folder, name, key)
        except OSError as exc:
            reasons.append(f"{directory}: {exc.strerror or exc}")
            continue
        try:
            yield
        finally:
            with contextlib.suppress(OSError), opened(directory) as folder:
                if _read(folder, name)[1] == key:  # and not that of who came after us
                    os.unlink(name, dir_fd=folder)
        return
    report(events.KeyNotPublished("; ".join(reasons)))
    yield


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
        check(status, "it is another user's, or others may read it")
        key = file.read(MAX_BYTES).decode(errors="replace").strip()
    if not stat.S_ISREG(status.st_mode) or not re.fullmatch("[A-Za-z0-9_-]+", key):
        raise OSError(0, "there is no key in it")
    return status.st_mtime, key
