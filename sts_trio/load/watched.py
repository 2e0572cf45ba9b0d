"""What the bridge's processes have, as Linux tells of them."""

import contextlib
import os
from collections.abc import Iterable
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
        NotThere: one of them cannot be looked at.
    """
    rss_kb = threads = descriptors = sockets = 0
    for pid in pids:
        folder = Path(f"/proc/{pid}")
        try:
            status = dict(
                line.split(":", 1) for line in (folder / "status").read_text().splitlines()
            )
            links = list((folder / "fd").iterdir())
        except OSError as exc:
            raise NotThere(f"--pid {pid}: cannot be looked at: {exc.strerror}") from None
        # One that has just died has no memory any more.
        rss_kb += int(status.get("VmRSS", "0").split()[0])
        threads += int(status["Threads"])
        descriptors += len(links)
        for link in links:
            with contextlib.suppress(OSError):  # it was closed meanwhile
                sockets += os.readlink(link).startswith("socket:")
    return Possessions(rss_kb / 1024, threads, descriptors, sockets)


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
