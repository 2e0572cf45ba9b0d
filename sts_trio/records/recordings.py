"""The directory of recordings: a directory for each day, in it a file for each stream of a call."""

import errno
import os
import re
from pathlib import Path

from sts_trio.config.raw import config_error
from sts_trio.records.daily_files import day_of, name_of
from sts_trio.records.recording_file import SUFFIX

_NAME = re.compile(r"([A-Za-z0-9_-]{1,64})-([0-9]{1,18})")


def path_of(root: Path, call_sid: str, epoch: int, began_at: float) -> Path:
    return day_of(root, began_at) / f"{name_of(call_sid)}-{epoch}{SUFFIX}"


def named(path: Path) -> tuple[str, int] | None:
    """The call and the epoch that are told by a file's name; None where it is not one of ours. That
    of a call whose name is not fit for a file is not the call's."""
    found = _NAME.fullmatch(path.stem)
    return None if found is None else (found[1], int(found[2]))


def prepare(root: Path) -> None:
    """Raises `ConfigError`: it cannot be written to."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(root, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as exc:
        raise config_error(
            f"STS_RECORDINGS: {root} cannot be written to: {exc.strerror}; name another directory"
        ) from None


def remove(root: Path, uri: str) -> None:
    """Deletes a recording by its URI, if there is one. Raises `OSError`."""
    if (path := find(root, uri)) is not None:
        path.unlink(missing_ok=True)


def find(root: Path, uri: str) -> Path | None:
    """Where it is, if it is there: never outside."""
    path = root / uri
    is_inside = path.suffix == SUFFIX and ".." not in path.parts and path.is_relative_to(root)
    return path if uri and is_inside and path.is_file() else None
