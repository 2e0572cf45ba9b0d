"""Where the exceptions of a call end."""

from collections.abc import Callable
from types import TracebackType


class Boundary:
    """Calls `crash` while an exception of its block is being handled, and lets none through.

    Of a group that holds `Cancelled` as well, that part goes on. It is no generator with `except*`:
    that makes another group, and contextlib keeps the first in a frame of its own traceback.
    """

    __slots__ = ("_crash",)

    def __init__(self, crash: Callable[[], None]) -> None:
        self._crash = crash

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if isinstance(raised, Exception):
            self._crash()
            return True
        if not isinstance(raised, BaseExceptionGroup):
            return False
        bugs, others = raised.split(Exception)
        if bugs is None or others is None:
            return False
        self._crash()
        try:
            raise others
        finally:
            del raised, bugs, others  # this frame is in their tracebacks
