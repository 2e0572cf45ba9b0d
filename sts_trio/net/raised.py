"""What code of the user's raises, as exceptions that a boundary may catch.

Not all of it is an `Exception`: `sys.exit()`, asyncio's way to cancel, and the panics of libraries
in Rust are none. One that got past a call's boundary would end the process, and every call in it.
"""

from types import TracebackType

import trio

from sts_trio.errors import innermost

# What is not the code's own: Trio's cancellation, and Ctrl-C.
_NOT_ITS_OWN = (trio.Cancelled, KeyboardInterrupt)


class NoException(Exception):
    """Something was raised that is no `Exception`: its cause, which says more."""


class OnlyExceptions:
    """A block of the user's code. What is no `Exception` comes out of it as `NoException`.

    `in_thread`: Ctrl-C ends none, so it has raised that itself.
    """

    __slots__ = ("_passes",)

    def __init__(self, *, in_thread: bool = False) -> None:
        self._passes = (trio.Cancelled,) if in_thread else _NOT_ITS_OWN

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if raised is None or isinstance(raised, (Exception, *self._passes)):
            return
        own: BaseException | None = raised
        others: BaseException | None = None
        if isinstance(raised, BaseExceptionGroup):
            others, own = raised.split(self._passes)
        try:
            if own is None or isinstance(own, Exception):
                return  # as it came
            if others is None:
                raise NoException(_words_of(own)) from own
            raise BaseExceptionGroup("", [NoException(_words_of(own)), others]) from own
        finally:
            del raised, own, others  # this frame is in their tracebacks


def original(exception: BaseException) -> BaseException:
    """What was raised, of what came out."""
    return (exception.__cause__ if isinstance(exception, NoException) else None) or exception


def _words_of(raised: BaseException) -> str:
    """As the last line of a traceback has it."""
    raised = innermost(raised)
    try:
        text = str(raised)
    except Exception:
        text = ""
    return f"{type(raised).__name__}: {text}"
