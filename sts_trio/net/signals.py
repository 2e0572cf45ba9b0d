"""The signals by which a process is told to end."""

import os
import signal
import sys
import threading

# By these a process is told to stop by whoever manages it; by the last one that its terminal is
# gone, unless `nohup` has it ignored.
STOPS = (signal.SIGTERM,) if sys.platform == "win32" else (signal.SIGTERM, signal.SIGHUP)


def deadly_signals() -> list[signal.Signals]:
    """Those that would end this process on the spot: `hypercorn --workers 0`, and any of its
    workers when the whole process group is told, as service managers and terminals do."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [each for each in STOPS if signal.getsignal(each) is signal.SIG_DFL]


def die_of(signum: signal.Signals) -> None:
    """As if it had never been taken."""
    os.kill(os.getpid(), signum)
    if os.getpid() == 1:
        # To the first process of a container the kernel does nothing that it has not asked for.
        os._exit(128 + signum)
