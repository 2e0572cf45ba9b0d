"""Cancels at a step of the scheduler's."""

import trio
import trio.testing


class CancelAtStep(trio.abc.Instrument):
    """Cancels the scope just before the given step of any task; counts the steps it saw."""

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self._scope = scope
        self._step = step
        self.seen = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.seen == self._step:
            self._scope.cancel()
        self.seen += 1
