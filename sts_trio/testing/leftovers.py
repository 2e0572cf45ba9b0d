"""What a process has: Trio's tasks and open sockets, counted where nothing can hide.

Not what a server says of itself, but the tasks that Trio knows and the descriptors that the
operating system does.
"""

import collections
import os
import stat

import msgspec
import trio

ASK_EVERY = 0.05


class Inventory(msgspec.Struct, frozen=True):
    """`sockets` is None where descriptors cannot be listed, as on Windows."""

    tasks: dict[str, int]  # {name of its function: how many}
    sockets: int | None

    @property
    def is_empty(self) -> bool:
        return not self.tasks and not self.sockets

    def __str__(self) -> str:
        names = ", ".join(f"{count} {name}" for name, count in self.tasks.items())
        tasks = f"tasks: {names}" if names else "no task"
        return f"{tasks}; sockets: {'not counted' if self.sockets is None else self.sockets}"


def inventory() -> Inventory:
    """All there is now, but for the task that asks."""
    names: collections.Counter[str] = collections.Counter()
    asks = trio.lowlevel.current_task()
    waiting = [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        if task is None:
            continue
        if task is not asks:
            names[task.name] += 1
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)
    return Inventory(dict(names), _sockets())


async def leftovers(before: Inventory, *, within: float = 2.0) -> Inventory:
    """What there is beyond `before`; waits for it to go, no longer than that many seconds."""
    deadline = trio.current_time() + within
    while True:
        left = _beyond(before, inventory())
        if left.is_empty or trio.current_time() >= deadline:
            return left
        await trio.sleep(ASK_EVERY)


def _beyond(before: Inventory, now: Inventory) -> Inventory:
    tasks = collections.Counter(now.tasks) - collections.Counter(before.tasks)
    if before.sockets is None or now.sockets is None:
        return Inventory(dict(tasks), None)
    return Inventory(dict(tasks), max(0, now.sockets - before.sockets))


def _sockets() -> int | None:
    try:
        descriptors = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        return None
    return sum(map(_is_socket, descriptors))


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False  # the one that listed them
