"""Who keeps the loop from its other tasks: a thread that looks, as the loop itself cannot.

In each round the loop runs all tasks whose turn it is, and then waits for what comes. An instrument
of Trio's notes when a round begins and ends, which is all that is paid while nobody takes too long:
not for a task's step, and nothing while the loop waits. A thread looks when a round may have taken
`STOOD`, some ten times a second. Where one has, it takes the stack of the loop's thread, finds the
task that runs by its outermost frame, and looks again until the round is over. What was found most
often is told.

A loop may stand because nobody gives it a processor. That is no task's doing: it had no processor,
and was waiting for nothing else.
"""

import collections
import functools
import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from math import inf
from pathlib import Path
from types import CodeType, FrameType

import msgspec
import trio

from sts_trio.observe import events
from sts_trio.observe.report import report

# From one look to the next, at the least.
EVERY = 0.05
# A caller hears nothing of less: a phone holds more than that of the agent's audio.
STOOD = 0.1
# From one look to the next, while the loop waits: of a round that begins meanwhile it is too early
# to say anything.
PAUSE = STOOD
# Whoever stands for so long may never go on, so it is told before it is over.
STUCK = 5.0
LOOKS = 200  # ten seconds of them
# Of a stack; the innermost are those that say something.
FRAMES = 12


class _Look(msgspec.Struct, frozen=True):
    """What the loop's thread was doing."""

    since: float  # when the round began
    began: tuple[float, float]  # when this was looked at first, and `_cpu_of` the thread then
    task: str
    where: str
    function: str | None
    frames: str
    is_running: bool | None  # rather than waiting in the system; None: that is not known here


class LoopWatch(trio.abc.Instrument):
    """`functions` are the user's, by their code, and how they are called."""

    def __init__(
        self, functions: Mapping[CodeType, str], tell: Callable[[events.Event], None] = report
    ) -> None:
        self._functions = functions
        self._tell = tell
        self._since = inf  # by `time.perf_counter`: when this round began; `inf`: the loop waits
        self._looks: collections.deque[_Look] = collections.deque(maxlen=LOOKS)
        self._is_over = False
        self._thread = 0
        self._native_thread = 0
        self._root: trio.lowlevel.Task

    async def run(self) -> None:
        """Watches until cancelled; the thread ends a moment later."""
        root = trio.lowlevel.current_root_task()
        assert root is not None
        self._root = root
        self._thread, self._native_thread = threading.get_ident(), threading.get_native_id()
        trio.lowlevel.add_instrument(self)
        threading.Thread(target=self._keep_looking, name="loop watch", daemon=True).start()
        try:
            await trio.sleep_forever()
        finally:
            trio.lowlevel.remove_instrument(self)
            self._is_over = True

    # --- Trio's, in the loop --------------------------------------------------------------------

    def after_io_wait(self, timeout: float) -> None:
        self._since = time.perf_counter()

    def before_io_wait(self, timeout: float) -> None:
        since, self._since = self._since, inf
        if self._looks:
            looks = [look for look in self._looks if look.since == since]
            self._looks.clear()
            if looks:
                self._tell_of(looks, time.perf_counter(), time.thread_time(), goes_on=True)

    def _tell_of(self, looks: list[_Look], now: float, cpu: float, *, goes_on: bool) -> None:
        at, before = looks[0].began
        taken = max(0.0, cpu - before)
        is_starved = taken < (now - at) / 2 and all(look.is_running for look in looks)
        if not is_starved:
            self._tell(_blocked(looks, now - looks[0].since, taken, goes_on=goes_on))

    # --- in the thread --------------------------------------------------------------------------

    def _keep_looking(self) -> None:
        told_of = 0.0  # the round
        began, pause = (time.perf_counter(), _cpu_of(self._thread)), PAUSE
        while not self._is_over:
            time.sleep(pause)
            since, now, cpu = self._since, time.perf_counter(), _cpu_of(self._thread)
            if now - since < STOOD:
                began = now, cpu
                pause = max(EVERY, PAUSE - max(0.0, now - since))
                continue
            pause = EVERY
            look = self._look(since, began)
            if look is None or since != self._since:
                continue
            self._looks.append(look)
            if now - since >= STUCK and told_of != since:
                told_of = since
                looks = [each for each in list(self._looks) if each.since == since]
                self._tell_of(looks, now, cpu, goes_on=False)

    def _look(self, since: float, began: tuple[float, float]) -> _Look | None:
        innermost = sys._current_frames().get(self._thread)
        frames = list(_outward(innermost))
        found = self._task_in(frames)
        if found is None:
            return None
        task, outermost = found
        is_running = _is_running(self._native_thread)
        own = frames[: frames.index(outermost) + 1]
        function = next((name for f in own if (name := self._functions.get(f.f_code))), None)
        shown = [_shown(frame) for frame in own[:FRAMES]]
        own_frames = " < ".join(shown)
        return _Look(since, began, task.name, shown[0], function, own_frames, is_running)

    def _task_in(self, frames: list[FrameType]) -> tuple[trio.lowlevel.Task, FrameType] | None:
        """The task whose step this is, and its outermost frame; None: the loop's own."""
        waiting = [self._root]
        while waiting:
            task = waiting.pop()
            outermost = getattr(task.coro, "cr_frame", None)
            if outermost in frames:
                return task, outermost
            for nursery in task.child_nurseries:
                waiting.extend(nursery.child_tasks)
        return None


def _blocked(
    looks: list[_Look], seconds: float, cpu: float, *, goes_on: bool
) -> events.LoopBlocked:
    [((task, function), _)] = collections.Counter(
        (look.task, look.function) for look in looks
    ).most_common(1)
    look = next(each for each in looks if (each.task, each.function) == (task, function))
    return events.LoopBlocked(
        round(seconds, 3),
        task,
        look.where,
        look.frames,
        function=function,
        cpu=round(cpu, 3),
        goes_on=goes_on,
    )


def _outward(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _shown(frame: FrameType) -> str:
    file = Path(frame.f_code.co_filename)
    return f"{frame.f_code.co_qualname} ({file.parent.name}/{file.name}:{frame.f_lineno})"


def _cpu_of(thread: int) -> float:
    """Seconds that a thread has taken of the processor; 0 where the system tells nobody else."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(thread))


def _is_running(native_thread: int) -> bool | None:
    """Whether that thread has a processor or waits for one, as Linux tells."""
    try:
        stat = Path(f"/proc/self/task/{native_thread}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[0] == "R"


def codes(functions: Mapping[str, Callable[..., object]]) -> dict[CodeType, str]:
    """{the code of a function: how it is called}. What is written in C has none."""
    found = {}
    for name, function in functions.items():
        while isinstance(function, functools.partial):
            function = function.func
        function = inspect.unwrap(function)
        if not hasattr(function, "__code__"):
            function = type(function).__call__
        if isinstance(code := getattr(function, "__code__", None), CodeType):
            found[code] = name
    return found
