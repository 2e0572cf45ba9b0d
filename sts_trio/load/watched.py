"""What the bridge's processes have, as Linux tells of them."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from sts_trio.errors import StsTrioError


class NotThere(StsTrioError):
    """There is no such process, or it is another user's."""


class Possessions(msgspec.Struct, frozen=True):
    rss_mb: float
    threads: int
    descriptors: int
    sockets: int  # among them


def look(pids: Iterable[int]) -> Possessions:
    """Of all of them together.

    Raises:
        NotThere: one of them cannot be looked at, or has died.
    """
    rss_kb = threads = descriptors = sockets = 0
    for pid in pids:
        folder = Path(f"/proc/{pid}")
        try:
            status = _status(pid)
            links = list((folder / "fd").iterdir())
        except OSError as exc:
            is_gone = isinstance(exc, FileNotFoundError | ProcessLookupError)
            reason = (
                "there is no such process" if is_gone else f"cannot be looked at: {exc.strerror}"
            )
            raise NotThere(f"--pid {pid}: {reason}") from None
        if _is_dead(status):
            raise NotThere(f"--pid {pid}: it has died")
        # A task of the kernel's has no memory of its own.
        rss_kb += int(status.get("VmRSS", "0").split()[0])
        threads += int(status["Threads"])
        descriptors += len(links)
        for link in links:
            with contextlib.suppress(OSError):  # it was closed meanwhile
                sockets += os.readlink(link).startswith("socket:")
    return Possessions(rss_kb / 1024, threads, descriptors, sockets)


def dead(pids: Iterable[int]) -> list[int]:
    """Those of them that are no more."""
    found = []
    for pid in pids:
        try:
            is_dead = _is_dead(_status(pid))
        except OSError:
            is_dead = True
        if is_dead:
            found.append(pid)
    return found


def _status(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":", 1) for line in text.splitlines())


def _is_dead(status: Mapping[str, str]) -> bool:
    """Also who is only waited for by their parent, and has nothing any more."""
    return status["State"].split()[0] in ("Z", "X")


def left_behind(before: Possessions, after: Possessions) -> list[str]:
    """What is there once all calls are over that was not there before; memory is not judged, as
    some of it is there once for all calls."""
    more = {
        "socket": after.sockets - before.sockets,
        "descriptor": after.descriptors - before.descriptors,
        "thread": after.threads - before.threads,
    }
    return [
        f"{count} {what}{'' if count == 1 else 's'} more than before"
        for what, count in more.items()
        if count > 0
    ]
