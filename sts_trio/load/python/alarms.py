"""What is to happen when. One task for all: a task for each would cost more than they do."""

import heapq
from collections.abc import Callable
from itertools import count

import trio

# Does what is due, and returns when it wants to be called next; None: not any more.
Step = Callable[[float], float | None]


class Alarms:
    """`lagged` is told how late each was, and when that was."""

    def __init__(self, lagged: Callable[[float, float], None]) -> None:
        self._lagged = lagged
        self._heap: list[tuple[float, int, Step]] = []
        self._numbers = count()
        self._sooner = trio.Event()

    def add(self, due: float, step: Step) -> None:
        if not self._heap or due < self._heap[0][0]:
            self._sooner.set()
        heapq.heappush(self._heap, (due, next(self._numbers), step))

    async def run(self) -> None:
        while True:
            # Only what is due by now: one that is late must still serve its sockets in between.
            start = trio.current_time()
            while self._heap and self._heap[0][0] <= start:
                due, _, step = heapq.heappop(self._heap)
                now = trio.current_time()
                self._lagged(now - due, now)
                if (again := step(due)) is not None:
                    self.add(again, step)
            await trio.lowlevel.checkpoint()
            self._sooner = trio.Event()
            wait = self._heap[0][0] - trio.current_time() if self._heap else 3600.0
            with trio.move_on_after(max(0.0, wait)):
                await self._sooner.wait()
