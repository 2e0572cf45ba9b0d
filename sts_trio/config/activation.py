"""Listening sockets that a supervisor has opened for this process, as systemd passes them.

They stay open while the process is restarted: who connects meanwhile waits, and is not refused.
Source: sd_listen_fds(3), systemd 252.
"""

import os

# Behind standard input, output and error.
FIRST = 3


def take_descriptors() -> range:
    """Those that were passed. To be asked once: what this process starts has to know of none."""
    pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    # They may be another's, which has started this process and left its variables.
    is_ours = pid == str(os.getpid()) and count.isascii() and count.isdecimal()
    return range(FIRST, FIRST + int(count)) if is_ours else range(FIRST, FIRST)
