"""The tasks of the process as a tree, as they are now: who waits for what, and since when.

By Trio's own introspection, and when somebody asks. Since when a task waits Trio does not note, so
an instrument is there while somebody looks, and for `LOOKED_FOR` after: it notes the step of each
task. What has taken none since it came waits for at least so long. Otherwise this costs nothing.
"""

import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path

import msgspec
import trio

# As long as a person needs to look again; a page does so every other second.
LOOKED_FOR = 10.0
# The first look lasts so long: with nothing seen there is nothing to say.
WINDOW = 0.5
# Described in a row; some 2 ms, as calls wait meanwhile.
AT_ONCE = 50
_TRIO = str(Path(trio.__file__).parent)
_PATHS = sorted((path for path in sys.path if path), key=len, reverse=True)


class TaskState(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the tree; those that are `depth` deeper and follow are its children's."""

    depth: int
    name: str
    awaits: str  # what was called; "" for who is running now
    where: str  # and by whom: the innermost code that is not Trio's
    waits: float | None  # seconds; None: it does not wait
    is_longer: bool  # it waited before anybody looked, so for longer than that
    steps: int  # that it took since somebody looks
    deadline: float | None  # seconds until its innermost scope is cancelled; None: never
    call_sid: str | None = None  # of the call that this task and those below it are


class TaskWatch(trio.abc.Instrument):
    """`run` it, or nobody can look."""

    def __init__(self) -> None:
        self._began = inf  # when somebody began to look; `inf`: nobody does
        self._until = -inf
        self._steps: dict[trio.lowlevel.Task, tuple[int, float]] = {}  # {task: steps, the last}
        self._wanted = trio.Event()

    async def run(self) -> None:
        """Has the instrument there while somebody looks, until cancelled."""
        while True:
            await self._wanted.wait()
            trio.lowlevel.add_instrument(self)
            try:
                while trio.current_time() < self._until:  # noqa: ASYNC110  it may move
                    await trio.sleep_until(self._until)
            finally:
                trio.lowlevel.remove_instrument(self)
                self._began, self._wanted = inf, trio.Event()
                self._steps.clear()

    async def look(
        self,
        top: trio.lowlevel.Task | None = None,
        call_sids: dict[trio.lowlevel.Task, str] | None = None,
    ) -> list[TaskState]:
        """All tasks from the `top` one down, or from the process's. `call_sids` are those of the
        tasks that calls run in. Who ends meanwhile is left out."""
        now = trio.current_time()
        is_first = self._began == inf
        self._until = now + LOOKED_FOR
        if is_first:
            self._began = now
            self._wanted.set()
            await trio.sleep(WINDOW)
        top = top or trio.lowlevel.current_root_task()
        assert top is not None
        found = []
        for number, (depth, task) in enumerate(list(_below(top))):
            if number % AT_ONCE == AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            if (state := self._state(task, depth, (call_sids or {}).get(task))) is not None:
                found.append(state)
        return found

    # --- Trio's ---------------------------------------------------------------------------------

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        steps, _ = self._steps.get(task, (0, 0.0))
        self._steps[task] = steps + 1, trio.current_time()

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self._steps.pop(task, None)

    # --- one task -------------------------------------------------------------------------------

    def _state(
        self, task: trio.lowlevel.Task, depth: int, call_sid: str | None
    ) -> TaskState | None:
        now = trio.current_time()
        frames = list(task.iter_await_frames())
        if not frames:
            return None  # it has ended
        is_running = task is trio.lowlevel.current_task()
        own = [at for at, (each, _) in enumerate(frames) if not _is_trios(each.f_code.co_filename)]
        innermost = own[-1] if own else 0
        frame, line = frames[innermost]
        called = frames[innermost + 1][0].f_code.co_qualname if innermost + 1 < len(frames) else ""
        steps, last = self._steps.get(task, (0, self._began))
        return TaskState(
            depth=depth,
            name=task.name.removeprefix("sts_trio."),
            awaits="" if is_running else called,
            where=f"{frame.f_code.co_qualname} ({_shown(frame.f_code.co_filename)}:{line})",
            waits=None if is_running else round(max(0.0, now - last), 3),
            is_longer=not steps and not is_running,
            steps=steps,
            deadline=_deadline(task, now),
            call_sid=call_sid,
        )


def _below(top: trio.lowlevel.Task) -> Iterator[tuple[int, trio.lowlevel.Task]]:
    """It, and its children, each with how deep it lies; those of a nursery in no order that stays,
    so by name."""
    waiting = [(0, top)]
    while waiting:
        depth, task = waiting.pop()
        yield depth, task
        children = [each for nursery in task.child_nurseries for each in nursery.child_tasks]
        children.sort(key=lambda each: each.name, reverse=True)
        waiting += [(depth + 1, each) for each in children]


def _deadline(task: trio.lowlevel.Task, now: float) -> float | None:
    """Trio tells the deadline of a task only to that task, so this asks what it asks. Where that is
    no more, no deadline is told."""
    status = getattr(task, "_cancel_status", None)
    if status is None or not hasattr(status, "effective_deadline"):
        return None
    deadline = float(status.effective_deadline())
    return None if deadline == inf else round(deadline - now, 3)


def _is_trios(file: str) -> bool:
    return file.startswith(_TRIO)


def _shown(file: str) -> str:
    """The path as it is imported."""
    for path in _PATHS:
        if file.startswith(f"{path}/"):
            return file[len(path) + 1 :].removeprefix("sts_trio/")
    return Path(file).name
