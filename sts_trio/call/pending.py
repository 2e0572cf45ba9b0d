"""What a call's own code waits for: each question gets a number, and an answer by that number."""

import itertools
from collections.abc import Callable

import msgspec
import trio

from sts_trio.errors import AgentRefused, AgentTimedOut, CallOver
from sts_trio.logic.acts import Collected, RequestDone

Answer = RequestDone | Collected


class _Waiter(msgspec.Struct):
    arrived: trio.Event
    answer: Answer | None = None


class Answers:
    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiters: dict[int, _Waiter] = {}
        self._is_over = False

    async def get(self, ask: Callable[[int], None], forget: Callable[[int], None]) -> Answer:
        """Asks by a new number and waits for the answer. Cancelled, `forget` is told the number.

        Raises:
            CallOver: the call has ended, before or meanwhile.
            AgentRefused, AgentTimedOut: the answer is one that says so.
        """
        if self._is_over:
            raise CallOver("the call has ended")
        number = next(self._numbers)
        waiter = self._waiters[number] = _Waiter(trio.Event())
        try:
            ask(number)
            await waiter.arrived.wait()
        finally:
            del self._waiters[number]
            if waiter.answer is None and not self._is_over:
                forget(number)
        match waiter.answer:
            case None:
                raise CallOver("the call has ended")
            case RequestDone(refusal=str(refusal), timed_out=timed_out):
                raise (AgentTimedOut if timed_out else AgentRefused)(refusal)
            case answer:
                return answer

    def give(self, answer: Answer) -> None:
        waiter = self._waiters.get(answer.number)
        if waiter is not None:
            waiter.answer = answer
            waiter.arrived.set()

    def close(self) -> None:
        """The call has ended: whoever waits is told so."""
        self._is_over = True
        for waiter in self._waiters.values():
            waiter.arrived.set()
