"""The signals by which a process is told to end."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

# By these a process is told to stop by whoever manages it; by the last one that its terminal is
# gone, unless `nohup` has it ignored.
STOPS = (signal.SIGTERM,) if sys.platform == "win32" else (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """`signum` has told this process to end, as Ctrl+C does: what is open is closed on the way."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signal.Signals(signum)


def terminate(signum: int, frame: FrameType | None) -> NoReturn:
    """A signal's handler, for code that runs without Trio."""
    raise Terminated(signum)


@contextlib.contextmanager
def terminating() -> Iterator[None]:
    """Meanwhile a signal that would end this process on the spot raises `Terminated` instead."""
    taken = {each: signal.signal(each, terminate) for each in deadly_signals()}
    try:
        yield
    finally:
        for each, before in taken.items():
            signal.signal(each, before)


def deadly_signals() -> list[signal.Signals]:
    """Those that nobody takes care of: that would end this process on the spot, as `hypercorn
    --workers 0`, and any of its workers when the whole process group is told, as service managers
    and terminals do. Or that `terminate` would raise for, which nobody may do within Trio."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [each for each in STOPS if signal.getsignal(each) in (signal.SIG_DFL, terminate)]


def die_of(signum: signal.Signals) -> None:
    """As if it had never been taken."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    if os.getpid() == 1:
        # To the first process of a container the kernel does nothing that it has not asked for.
        os._exit(128 + signum)
