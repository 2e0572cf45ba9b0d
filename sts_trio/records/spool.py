"""Rows on their way to the database, in files beside it: bounded, in order, one a line.

Each row is in a file before the database is asked to take it, so an end of this process loses none
that is here, whatever the database is doing. A file is given up only once all of it has been
written to the database. Killed before, it is read again from its beginning: writing a row twice
does no harm.

Each process has a directory of its own below the spool's, and holds a lock in it for as long as it
lives, however it ends. So whoever gets the lock of another's knows that process to be dead, and
goes on with what it left.
"""

import collections
import contextlib
import errno
import os
import sys
import threading
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from sts_trio.errors import ConfigError
from sts_trio.records.rows import Row

if sys.platform != "win32":
    import fcntl

# A full hour of a full process: 400 calls, a row a second each, of 0.3 kB.
MAX_BYTES = 512 * 1024 * 1024
# Read at once, so it has to fit into memory; and long enough that an hour makes few files.
MAX_SEGMENT = 1024 * 1024
# Rows that no file takes and that wait in memory for the database alone, 5 MB or so.
MAX_UNFILED = 10_000
# Of a dead process's, read by who goes on with a call: what was written in its last minutes.
MAX_LEFT_FILES = 8
# What nobody could read or write is kept for people to look at, up to here.
MAX_REFUSED = 16 * 1024 * 1024

_LOCK = "lock"
_SUFFIX = ".ndjson"
_REFUSED = "refused.ndjson"

_decode = msgspec.json.Decoder(Row).decode
_encode = msgspec.json.Encoder().encode


class SpoolFull(OSError):
    """There is no room: neither for these rows, nor is there any to be expected."""


class _Segment:
    """One file; or none, where the disk took no row."""

    __slots__ = ("first_at", "path", "rows", "size")

    def __init__(self, path: Path | None, size: int = 0) -> None:
        self.path = path
        self.size = size
        # What is left of it for the database; None: to be read from the file.
        self.rows: list[Row] | None = [] if size == 0 else None
        self.first_at: float | None = None


class Spool:
    """One thread may append while another takes out what comes first.

    Raises:
        ConfigError: the directory cannot be made or written to.
    """

    def __init__(self, root: Path, process_id: str, max_bytes: int = MAX_BYTES) -> None:
        self._root = root
        self._own = root / process_id
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._segments: collections.deque[_Segment] = collections.deque()
        self._file: int | None = None  # of the last segment, while it is written to
        self._count = 0  # of segments so far
        self._locks: dict[str, int] = {}  # {process: descriptor}, ours and those of the dead
        self.dead: list[str] = []  # processes that left something, or nothing but their lock
        # These may be read at any time, by anybody.
        self.rows = 0  # that wait; of the dead's files it is not known before they are read
        self.oldest: float | None = None  # when the first of them happened, if that is known
        self.unfiled = 0  # of these, in memory alone
        self.refused = 0  # lines that are no rows, and rows that no database takes
        self.bytes = 0
        self._refused_bytes = 0
        try:
            self._own.mkdir(parents=True, mode=0o700, exist_ok=True)
            lock = _lock(self._own / _LOCK)
            assert lock is not None, "another process has our id"
            self._locks[process_id] = lock
            self._adopt()
        except OSError as exc:
            raise ConfigError(
                f"STS_SPOOL: {root} cannot be written to ({exc.strerror}): name another directory"
            ) from None

    @property
    def is_empty(self) -> bool:
        """Nothing waits here for the database. May wait for a thread that writes."""
        with self._lock:
            return not any(segment.rows is None or segment.rows for segment in self._segments)

    def append(self, rows: Sequence[Row]) -> None:
        """Puts these behind all others. When it returns, an end of this process loses none of them,
        unless the disk takes nothing: then they wait in memory (`unfiled`).

        Raises:
            SpoolFull: none is taken.
        """
        data = b"".join(_encode(row) + b"\n" for row in rows)
        with self._lock:
            if self.bytes + len(data) > self._max_bytes:
                raise SpoolFull(errno.ENOSPC, f"the spool has {self._max_bytes} bytes")
            try:
                segment = self._open_segment()
                self._write(segment, data)
            except OSError as exc:
                if self.unfiled + len(rows) > MAX_UNFILED:
                    raise SpoolFull(exc.errno, exc.strerror) from None
                self._finish_segment()
                segment = _Segment(None)
                self._segments.append(segment)
                self.unfiled += len(rows)
            self.rows += len(rows)
            assert segment.rows is not None  # only those between the first and the last have none
            segment.first_at = segment.first_at or rows[0].at
            segment.rows += rows
            self._note_oldest()

    def first(self, most: int) -> list[Row]:
        """The rows that come next, `most` of them at most. Empty only if there are no more.

        What cannot be read is put aside.
        """
        with self._lock:
            while self._segments:
                segment = self._segments[0]
                if segment.rows is None:
                    segment.rows = self._read(segment)
                if segment.rows:
                    return segment.rows[:most]
                if len(self._segments) == 1 and self._file is not None:
                    break  # it is ours, and written to
                self._drop_segment()
        return []

    def done(self, count: int) -> None:
        """So many of the first are in the database now."""
        with self._lock:
            segment = self._segments[0]
            assert segment.rows is not None
            del segment.rows[:count]
            self.rows = max(0, self.rows - count)
            if segment.path is None:
                self.unfiled -= count
            if not segment.rows:
                if len(self._segments) == 1 and self._file is not None:
                    self._empty_segment(segment)
                else:
                    self._drop_segment()
            self._note_oldest()

    def _note_oldest(self) -> None:
        first = self._segments[0] if self._segments else None
        if first is None or not first.rows:
            self.oldest = None if first is None else first.first_at
        else:
            self.oldest = first.rows[0].at

    def refuse(self, line: bytes) -> None:
        """Puts aside what nobody can use."""
        self.refused += 1
        self._refused_bytes += len(line)
        if self._refused_bytes <= MAX_REFUSED:
            with contextlib.suppress(OSError):  # counted it is
                descriptor = os.open(
                    self._root / _REFUSED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
                )
                try:
                    os.write(descriptor, line.rstrip(b"\n") + b"\n")
                finally:
                    os.close(descriptor)

    def expire(self, before: float) -> None:
        """Deletes what was put aside if the last of it was before that time."""
        path = self._root / _REFUSED
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()

    def release(self, process_id: str) -> None:
        """A dead process is seen to: what it left is written, and its calls are marked."""
        self.dead.remove(process_id)
        self._remove(process_id)

    def close(self) -> None:
        """What waits is left for the next start. Call it once."""
        is_empty = self.is_empty
        with self._lock:
            self._finish_segment()
            while is_empty and self._segments:
                self._drop_segment()
        for process_id in list(self._locks):
            if process_id == self._own.name and is_empty:
                self._remove(process_id)
            else:
                os.close(self._locks.pop(process_id))

    # --- segments -------------------------------------------------------------------------------

    def _open_segment(self) -> _Segment:
        """The one that is written to."""
        if self._file is not None and self._segments[-1].size >= MAX_SEGMENT:
            self._finish_segment()
            if len(self._segments) > 1:
                # Read again when it is due: only the first and the last are in memory.
                self._segments[-1].rows = None
        if self._file is None:
            self._count += 1
            path = self._own / f"{self._count:08d}{_SUFFIX}"
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            self._segments.append(_Segment(path))
        return self._segments[-1]

    def _finish_segment(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _empty_segment(self, segment: _Segment) -> None:
        """All of it is in the database, and more may come."""
        assert self._file is not None
        try:
            os.ftruncate(self._file, 0)
        except OSError:
            self._finish_segment()
            self._drop_segment()
            return
        self.bytes -= segment.size
        segment.size = 0
        segment.first_at = None
        self.rows = 0

    def _write(self, segment: _Segment, data: bytes) -> None:
        assert self._file is not None
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            # A line that is torn in the middle would spoil the next one, too.
            try:
                os.ftruncate(self._file, segment.size)
            except OSError:
                self._finish_segment()
            raise
        segment.size += len(data)
        self.bytes += len(data)

    def _read(self, segment: _Segment) -> list[Row]:
        assert segment.path is not None
        rows = []
        try:
            data = segment.path.read_bytes()
        except OSError:
            # Somebody has cleared up, or the disk is broken: no reason to keep the others waiting.
            self.refused += 1
            data = b""
        for line in data.splitlines():
            try:
                rows.append(_decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                # Torn by the end of its process, or by the disk.
                self.refuse(line)
        if segment.path.parent != self._own:  # ours are counted as they are written
            self.rows += len(rows)
        return rows

    def _drop_segment(self) -> None:
        segment = self._segments.popleft()
        if segment.path is not None:
            with contextlib.suppress(OSError):  # what stays is read again at the next start
                segment.path.unlink(missing_ok=True)
        self.bytes -= segment.size
        if not self._segments:
            self.rows = 0

    # --- other processes ------------------------------------------------------------------------

    def _adopt(self) -> None:
        for directory in sorted(self._root.iterdir()):
            if not directory.is_dir() or directory.name in self._locks:
                continue
            lock = _lock(directory / _LOCK)
            if lock is None:
                continue  # it lives
            self._locks[directory.name] = lock
            self.dead.append(directory.name)
            for path in sorted(directory.glob(f"*{_SUFFIX}")):
                if size := path.stat().st_size:
                    self._segments.append(_Segment(path, size))
                    self.bytes += size
                else:
                    path.unlink()

    def _remove(self, process_id: str) -> None:
        lock = self._locks.pop(process_id)
        directory = self._root / process_id
        with contextlib.suppress(OSError):
            (directory / _LOCK).unlink(missing_ok=True)
            directory.rmdir()
        os.close(lock)


def left_behind(root: Path, process_id: str, call_sid: str) -> list[Row]:
    """The rows of a call that a process of this machine has not brought to the database yet: of the
    newest files, in order. None of a process that is not of this machine, or never was. It is the
    next start that brings them there."""
    directory = root / Path(process_id).name
    rows = []
    needle = _encode(call_sid)
    for path in sorted(directory.glob(f"*{_SUFFIX}"))[-MAX_LEFT_FILES:]:
        with contextlib.suppress(OSError):
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    if needle in line and (row := _decode(line)).call_sid == call_sid:
                        rows.append(row)
    return rows


def is_refused(root: Path, texts: Collection[str]) -> bool:
    """Whether something was put aside that has one of these texts in it. Raises `OSError`."""
    lines, kept = _without(root / _REFUSED, texts)
    return len(kept) < len(lines)


def forget_refused(root: Path, texts: Collection[str]) -> int:
    """Deletes what was put aside and has one of these texts in it. Returns how many lines.

    Raises:
        OSError: it could not be read or written.
    """
    path = root / _REFUSED
    lines, kept = _without(path, texts)
    if len(kept) < len(lines):
        # In place: a process may be about to append.
        path.write_bytes(b"".join(kept))
    return len(lines) - len(kept)


def _without(path: Path, texts: Collection[str]) -> tuple[list[bytes], list[bytes]]:
    """All lines, and those that have none of these texts in them."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return [], []
    sought = [text.encode("utf-8", "replace") for text in texts]
    return lines, [line for line in lines if not any(text in line for text in sought)]


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock; None if somebody else does, or has just given it up."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if sys.platform == "win32":
        return descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:  # else whoever had it has removed it meanwhile
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None
