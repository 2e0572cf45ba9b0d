"""Files that keep rows for a while: in order, bounded, whatever happens to process and disk."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from call_stories import NOON, sid
from limits import HANG

from sts_trio.errors import ConfigError
from sts_trio.records import spool as spools
from sts_trio.records.rows import Kind, Row
from sts_trio.records.spool import Spool, SpoolFull


def rows(first: int, last: int) -> list[Row]:
    return [
        Row(sid(1), 10, seq, NOON + seq, Kind.USER, {"text": f"word {seq}"})
        for seq in range(first, last)
    ]


def drained(spool: Spool, most: int = 7) -> list[Row]:
    """All there is, as the shipper takes it."""
    found: list[Row] = []
    while part := spool.first(most):
        assert spool.first(most) == part
        found += part
        spool.done(len(part))
    assert spool.is_empty
    assert (spool.rows, spool.bytes, spool.oldest) == (0, 0, None)
    return found


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", "p1")
    yield spool
    spool.close()


def test_rows_come_out_as_they_went_in(spool: Spool) -> None:
    assert spool.is_empty
    assert spool.first(1) == []
    spool.append(rows(0, 10))
    spool.append(rows(10, 20))
    assert (spool.rows, spool.oldest) == (20, NOON)
    assert drained(spool) == rows(0, 20)


def test_what_comes_while_others_are_read_goes_behind_them(spool: Spool) -> None:
    spool.append(rows(0, 5))
    assert spool.first(3) == rows(0, 3)
    spool.append(rows(5, 10))
    spool.done(3)
    assert spool.oldest == NOON + 3
    spool.append(rows(10, 15))
    assert drained(spool, 4) == rows(3, 15)


def test_many_rows_make_several_files(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools, "MAX_SEGMENT", 1000)
    for first in range(0, 100, 5):
        spool.append(rows(first, first + 5))
    assert len(list(tmp_path.glob("spool/p1/*.ndjson"))) > 5
    assert drained(spool) == rows(0, 100)
    # The last one is gone on with.
    [last] = tmp_path.glob("spool/p1/*.ndjson")
    assert last.stat().st_size == 0


def test_it_takes_no_more_than_it_may(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "p1", max_bytes=1000)
    spool.append(rows(0, 5))
    with pytest.raises(SpoolFull):
        spool.append(rows(5, 50))
    assert spool.bytes <= 1000
    spool.append(rows(5, 6))
    assert drained(spool) == rows(0, 6)
    spool.append(rows(6, 8))
    assert drained(spool) == rows(6, 8)
    spool.close()


@contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_a_full_disk_does_not_take_waits_in_memory_and_tears_no_line(
    spool: Spool, tmp_path: Path
) -> None:
    spool.append(rows(0, 3))
    with no_file_grows_beyond(spool.bytes + 50):  # the next line ends in the middle
        spool.append(rows(3, 6))
    assert (spool.rows, spool.unfiled) == (6, 3)
    spool.append(rows(6, 9))
    assert (spool.rows, spool.unfiled) == (9, 3)
    files = sorted(tmp_path.glob("spool/p1/*.ndjson"))
    assert [file.read_bytes().count(b"\n") for file in files] == [3, 3]
    assert drained(spool) == rows(0, 9)
    assert (spool.refused, spool.unfiled) == (0, 0)


def test_no_more_wait_in_memory_than_there_is_room_for(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools, "MAX_UNFILED", 5)
    with no_file_grows_beyond(0):
        spool.append(rows(0, 3))
        with pytest.raises(SpoolFull):
            spool.append(rows(3, 6))
        spool.append(rows(3, 5))
    assert drained(spool) == rows(0, 5)


def test_where_a_torn_line_cannot_be_taken_back_the_next_file_is_whole(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.append(rows(0, 3))

    def broken(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", broken)
        with no_file_grows_beyond(spool.bytes + 50):
            spool.append(rows(3, 6))
    assert spool.first(3) == rows(0, 3)
    spool.done(3)
    spool.append(rows(6, 9))
    assert drained(spool) == rows(3, 9)
    spool.append(rows(9, 10))
    assert drained(spool) == rows(9, 10)


def test_a_file_that_cannot_be_emptied_is_given_up(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, "broken")

    spool.append(rows(0, 3))
    monkeypatch.setattr(os, "ftruncate", broken)
    assert drained(spool) == rows(0, 3)
    assert list(tmp_path.glob("spool/p1/*.ndjson")) == []
    spool.append(rows(3, 6))
    assert drained(spool) == rows(3, 6)


BAD_LINES = [
    b"",
    b"{",
    b"\xff\xfe",
    b'{"call_sid":1}',
    b"null",
    b"[" * 5000,
    b'{"call_sid":"CA1","epoch":1,"seq":1,"at":1,"kind":"telepathy","body":{}}',
    b"\0" * 100,
]


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_line_that_is_no_row_is_put_aside_and_the_others_are_kept(
    tmp_path: Path, line: bytes
) -> None:
    left = Spool(tmp_path, "p0")
    left.append(rows(0, 4))
    left.close()
    [file] = tmp_path.glob("p0/*.ndjson")
    before, after = file.read_bytes().splitlines()[:2], file.read_bytes().splitlines()[2:]
    file.write_bytes(b"\n".join([*before, line, *after]) + b"\n")
    spool = Spool(tmp_path, "p1")
    assert drained(spool) == rows(0, 4)
    assert spool.refused == 1
    assert (tmp_path / "refused.ndjson").read_bytes() == line + b"\n"
    spool.close()


def test_what_is_put_aside_is_bounded_and_goes_with_time(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools, "MAX_REFUSED", 100)
    for _ in range(100):
        spool.refuse(b"0123456789")
    refused = tmp_path / "spool" / "refused.ndjson"
    assert refused.stat().st_size <= 110
    assert spool.refused == 100
    spool.expire(refused.stat().st_mtime)
    assert refused.exists()
    spool.expire(refused.stat().st_mtime + 1)
    assert not refused.exists()
    spool.expire(0.0)


def test_a_file_that_is_gone_or_unreadable_keeps_nobody_waiting(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those between the first and the last are not in memory."""
    monkeypatch.setattr(spools, "MAX_SEGMENT", 1)
    for first in range(5):
        spool.append(rows(first, first + 1))
    _, gone, unreadable, _, _ = sorted(tmp_path.glob("spool/p1/*.ndjson"))
    gone.unlink()
    unreadable.unlink()
    unreadable.mkdir()
    assert drained(spool) == [*rows(0, 1), *rows(3, 5)]
    assert spool.refused == 2


def test_what_a_clean_end_leaves_is_found_by_the_next_start(tmp_path: Path) -> None:
    first = Spool(tmp_path, "p1")
    first.append(rows(0, 5))
    first.close()
    second = Spool(tmp_path, "p2")
    assert second.dead == ["p1"]
    second.append(rows(5, 8))
    assert drained(second) == rows(0, 8)
    second.release("p1")
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_half_of_what_was_left_may_have_been_written_already(tmp_path: Path) -> None:
    """Then the whole file is read again: rows are known by their key."""
    first = Spool(tmp_path, "p1")
    first.append(rows(0, 5))
    first.first(3)
    first.done(3)
    first.close()
    second = Spool(tmp_path, "p2")
    assert drained(second) == rows(0, 5)
    second.close()


def test_a_process_that_lives_is_left_alone(tmp_path: Path) -> None:
    alive = Spool(tmp_path, "p1")
    alive.append(rows(0, 5))
    other = Spool(tmp_path, "p2")
    assert (other.dead, other.is_empty) == ([], True)
    assert drained(alive) == rows(0, 5)
    for each in (alive, other):
        each.close()


KILLED = """
import os, signal, sys
from pathlib import Path
import msgspec
from sts_trio.records.rows import Row
from sts_trio.records.spool import Spool
spool = Spool(Path(sys.argv[1]), "killed")
spool.append(msgspec.json.decode(sys.stdin.buffer.read(), type=list[Row]))
os.write(spool._file, b'{"call_sid":"CA1","epo')
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_had_is_found_by_the_next_start(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        input=msgspec.json.encode(rows(0, 5)),
        check=False,
        timeout=HANG,
    )
    spool = Spool(tmp_path, "p2")
    assert spool.dead == ["killed"]
    assert drained(spool) == rows(0, 5)
    assert spool.refused == 1
    spool.release("killed")
    spool.close()


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null"])
def test_a_directory_that_cannot_be_made_is_a_mistake_of_one_line(place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Spool(Path(place), "p1")
    assert str(caught.value).startswith(f"STS_SPOOL: {place} cannot be written to (")
    assert str(caught.value).isprintable()
