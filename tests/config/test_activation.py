"""What a supervisor passes is taken by the process that it is for, and once."""

import os

import pytest

from sts_trio.config.activation import FIRST, take_descriptors


@pytest.mark.parametrize(
    ("pid", "count", "taken"),
    [
        ("ours", "1", 1),
        ("ours", "2", 2),
        ("ours", "0", 0),
        ("ours", "-1", 0),
        ("ours", "two", 0),
        ("ours", "", 0),
        ("1", "1", 0),
        ("", "1", 0),
    ],
)
def test_descriptors_are_those_that_are_passed_to_this_process(
    pid: str, count: str, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()) if pid == "ours" else pid)
    monkeypatch.setenv("LISTEN_FDS", count)
    monkeypatch.setenv("LISTEN_FDNAMES", "web")
    assert take_descriptors() == range(FIRST, FIRST + taken)
    assert not [name for name in os.environ if name.startswith("LISTEN_")]
    assert take_descriptors() == range(FIRST, FIRST)


def test_a_process_that_nobody_supervises_is_passed_none() -> None:
    assert not take_descriptors()
