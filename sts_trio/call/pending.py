"""Requests of a call's own code that wait for their result, each by a number of its own."""

import itertools
from collections.abc import Callable

import msgspec
import trio

from sts_trio.errors import AgentRefused, AgentTimedOut, CallOver
from sts_trio.logic.acts import Collected, RequestDone

Result = RequestDone | Collected


class _Waiter(msgspec.Struct):
    arrived: trio.Event
    result: Result | None = None


class Pending:
    """The requests of one call. Nobody waits any more once it is closed."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiters: dict[int, _Waiter] = {}
        self.is_over = False

    async def request(self, ask: Callable[[int], None], cancel: Callable[[int], None]) -> Result:
        """Asks by a new number and waits for the result. Cancelled, `cancel` is told the number.

        Raises:
            CallOver: the call has ended, before or meanwhile.
            AgentRefused, AgentTimedOut: the result says so.
        """
        if self.is_over:
            raise CallOver("the call has ended")
        number = next(self._numbers)
        waiter = self._waiters[number] = _Waiter(trio.Event())
        try:
            ask(number)
            await waiter.arrived.wait()
        finally:
            del self._waiters[number]
            if waiter.result is None and not self.is_over:
                cancel(number)
        match waiter.result:
            case None:
                raise CallOver("the call has ended")
            case RequestDone(refusal=str(refusal), timed_out=timed_out):
                raise (AgentTimedOut if timed_out else AgentRefused)(refusal)
            case result:
                return result

    def resolve(self, result: Result) -> None:
        waiter = self._waiters.get(result.number)
        if waiter is not None:
            waiter.result = result
            waiter.arrived.set()

    def close(self) -> None:
        """The call has ended: whoever waits is told so."""
        self.is_over = True
        for waiter in self._waiters.values():
            waiter.arrived.set()
