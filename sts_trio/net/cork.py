"""Holds back what is written while many calls have their turns, and then writes all of it in a row.

A turn is Python, and a write is mostly the kernel: taken by turns, either finds its half of the
core's caches gone, and each write wakes its peer. With 400 calls a write in a row costs half
of one by itself, and nobody waits longer for it than the turns of a tick take.

Nothing waits in here when a task runs: what is held back is written before the next checkpoint.
"""

from collections.abc import Callable


class Cork:
    """To be put in and drawn by `with`, around what takes no checkpoint."""

    def __init__(self) -> None:
        self.is_in = False
        self._held: list[Callable[[], object]] = []
        # Has a write called when the cork is drawn; only while it is in. It must not raise.
        self.hold = self._held.append

    def __enter__(self) -> None:
        self.is_in = True

    def __exit__(self, *exc_info: object) -> None:
        self.is_in = False
        try:
            for write in self._held:
                write()
        finally:
            self._held.clear()
