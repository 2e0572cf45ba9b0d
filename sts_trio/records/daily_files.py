"""Files of calls, in a directory for each day: where one is, and which are old."""

import contextlib
import datetime
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

DAY = 86400

_FIT = re.compile(r"[A-Za-z0-9_-]{1,64}")


def day_of(root: Path, began_at: float) -> Path:
    """The directory of what began then; in UTC, so that a day has as many hours as any."""
    return root / datetime.datetime.fromtimestamp(began_at, datetime.UTC).date().isoformat()


def name_of(call_sid: str) -> str:
    """Fit for a file's name. Whoever streams makes up that of the call."""
    if _FIT.fullmatch(call_sid):
        return call_sid
    digest = hashlib.blake2b(call_sid.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return f"call-{digest}"


def old_files(root: Path, suffix: str, before: float) -> Iterator[Path]:
    """The complete ones of days that were over by then: whatever the database knows."""
    for path in root.glob(f"*/*{suffix}"):
        try:
            day = datetime.date.fromisoformat(path.parent.name)
        except ValueError:
            continue  # not ours
        end = datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp() + DAY
        if end < before:
            yield path


def delete_old(root: Path, suffix: str, before: float) -> None:
    """What cannot be deleted now may be another time."""
    for path in old_files(root, suffix, before):
        with contextlib.suppress(OSError):
            path.unlink()
            path.parent.rmdir()  # if that was the last of its day
