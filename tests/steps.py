"""Counts what something costs in steps, which are the same on every machine.

A step is one instruction of CPython's in code of this package: every turn of a loop, of a
comprehension or of a generator is some. What a builtin loops over by itself is not seen; where that
matters, a test counts with a container of its own.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import sts_trio

PACKAGE = str(Path(sts_trio.__file__).parent)


class Steps:
    def __init__(self) -> None:
        self.count = 0


class TooManySteps(BaseException):
    """Nobody catches it, as who takes too many might take minutes."""


@contextlib.contextmanager
def at_most(most: int) -> Iterator[Steps]:
    """Counts what functions take that are called inside.

    Raises:
        TooManySteps: as soon as it is more than `most`.
    """
    steps = Steps()

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return step

    def step(frame: FrameType, event: str, arg: Any) -> Any:
        steps.count += event == "opcode"
        if steps.count > most:
            raise TooManySteps(f"expected {most} at the most")
        return step

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield steps
    finally:
        sys.settrace(before)
