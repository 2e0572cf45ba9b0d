"""Counts what something costs in steps, which are the same on every machine.

A step is one instruction of CPython's in code of this package: every turn of a loop, of a
comprehension or of a generator is some. What a builtin loops over by itself is not seen; where that
matters, a test counts with a container of its own.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import sts_trio

PACKAGE = str(Path(sts_trio.__file__).parent)


class Steps:
    def __init__(self) -> None:
        self.count = 0


class TooManySteps(BaseException):
    """Nobody catches it, as who takes too many might take minutes."""


def too_many(most: int) -> TooManySteps:
    return TooManySteps(f"expected {most} at the most")


@contextlib.contextmanager
def at_most(most: int) -> Iterator[Steps]:
    """Counts what functions take that are called inside. A tool that traces is put off meanwhile.

    Raises:
        TooManySteps: as soon as it is more than `most`.
    """
    steps = Steps()
    with _each_instruction(steps, most):
        yield steps


if sys.version_info >= (3, 12):
    # Since then `settrace` misses what a function does when it is called for the first time.
    @contextlib.contextmanager
    def _each_instruction(steps: Steps, most: int) -> Iterator[None]:
        monitoring, event = sys.monitoring, sys.monitoring.events.INSTRUCTION
        tool = monitoring.PROFILER_ID

        def executed(code: CodeType, offset: int) -> Any:
            if not code.co_filename.startswith(PACKAGE):
                return monitoring.DISABLE
            steps.count += 1
            if steps.count > most:
                raise too_many(most)
            return None

        monitoring.use_tool_id(tool, "steps")
        monitoring.register_callback(tool, event, executed)
        monitoring.set_events(tool, event)
        try:
            yield
        finally:
            monitoring.set_events(tool, 0)
            monitoring.free_tool_id(tool)

else:

    @contextlib.contextmanager
    def _each_instruction(steps: Steps, most: int) -> Iterator[None]:
        # Called a million times: it calls nothing itself.
        def called(frame: FrameType, event: str, arg: Any) -> Any:
            if not frame.f_code.co_filename.startswith(PACKAGE):
                return None
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
            return executed

        def executed(frame: FrameType, event: str, arg: Any) -> Any:
            if event == "opcode":
                steps.count += 1
                if steps.count > most:
                    raise too_many(most)
            return executed

        before = sys.gettrace()
        sys.settrace(called)
        try:
            yield
        finally:
            sys.settrace(before)
