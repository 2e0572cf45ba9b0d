import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from sts_trio.net.signals import STOPS, Terminated, deadly_signals, die_of, terminating

Handler = Callable[[int, FrameType | None], object]


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in STOPS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def test_a_signal_that_nobody_takes_is_deadly() -> None:
    for each in STOPS:
        signal.signal(each, signal.SIG_DFL)
    assert deadly_signals() == list(STOPS)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda signum, frame: None])
def test_one_that_somebody_takes_or_ignores_is_not(handler: Handler | signal.Handlers) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, handler)
    assert deadly_signals() == [signal.SIGHUP]


def test_beside_the_main_thread_none_can_be_taken() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    found = []
    thread = threading.Thread(target=lambda: found.append(deadly_signals()))
    thread.start()
    thread.join()
    assert found == [[]]


def test_meanwhile_a_signal_that_nobody_takes_is_raised_as_ctrl_c_is() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with terminating():
        assert deadly_signals() == [signal.SIGTERM]  # Trio is to take it, if it runs
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(signal.SIGTERM)
    assert isinstance(caught.value, Terminated)
    assert caught.value.signum is signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_process_dies_of_what_it_was_told() -> None:
    code = "from sts_trio.net.signals import *; signal.signal(15, print); die_of(signal.SIGTERM)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGTERM


@pytest.mark.parametrize(("pid", "code"), [(1, [128 + signal.SIGTERM]), (2, [])])
def test_the_first_process_of_a_container_ends_by_itself(
    monkeypatch: pytest.MonkeyPatch, pid: int, code: list[int]
) -> None:
    """The kernel gives it no signal that it has not asked for."""
    killed: list[tuple[int, int]] = []
    codes: list[int] = []
    monkeypatch.setattr(os, "getpid", lambda: pid)
    monkeypatch.setattr(os, "kill", lambda pid, signum: killed.append((pid, signum)))
    monkeypatch.setattr(os, "_exit", codes.append)
    die_of(signal.SIGTERM)
    assert killed == [(pid, signal.SIGTERM)]
    assert codes == code
