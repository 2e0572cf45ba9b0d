"""A question, its number, and the answer by that number."""

import pytest
import trio
import trio.testing

from sts_trio.call.pending import Pending
from sts_trio.errors import AgentRefused, AgentTimedOut, CallOver
from sts_trio.logic.acts import Collected, RequestDone


class Desk:
    """What was asked and forgotten, by number."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.forgotten: list[int] = []
        self.pending = Pending()

    async def get(self) -> RequestDone | Collected:
        return await self.pending.request(self.asked.append, self.forgotten.append)


async def test_each_gets_the_answer_to_its_own_number() -> None:
    desk, got = Desk(), {}

    async def ask(name: str) -> None:
        got[name] = await desk.get()

    async with trio.open_nursery() as tasks:
        tasks.start_soon(ask, "a")
        await trio.testing.wait_all_tasks_blocked()
        tasks.start_soon(ask, "b")
        await trio.testing.wait_all_tasks_blocked()
        first, second = desk.asked
        desk.pending.resolve(Collected(second, "47"))
        desk.pending.resolve(RequestDone(first))
    assert got == {"a": RequestDone(first), "b": Collected(second, "47")}
    assert desk.forgotten == []


async def test_an_answer_may_come_while_the_question_is_put() -> None:
    pending = Pending()
    answer = await pending.request(lambda number: pending.resolve(RequestDone(number)), _nobody)
    assert isinstance(answer, RequestDone)


@pytest.mark.parametrize(("timed_out", "kind"), [(False, AgentRefused), (True, AgentTimedOut)])
async def test_a_refusal_is_an_exception_with_the_reason(
    timed_out: bool, kind: type[Exception]
) -> None:
    pending = Pending()

    def refuse(number: int) -> None:
        pending.resolve(RequestDone(number, "A turn is in progress.", timed_out))

    with pytest.raises(kind, match=r"A turn is in progress\."):
        await pending.request(refuse, _nobody)


async def test_who_is_cancelled_is_forgotten_and_a_late_answer_is_nobodys() -> None:
    desk = Desk()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(desk.get)
        await trio.testing.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert desk.forgotten == desk.asked != []
    desk.pending.resolve(RequestDone(desk.asked[0]))


async def test_a_question_that_cannot_be_put_is_forgotten() -> None:
    desk = Desk()

    def broken(number: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await desk.pending.request(broken, desk.forgotten.append)
    assert len(desk.forgotten) == 1


async def test_the_end_of_the_call_is_told_to_who_waits_and_who_comes_later() -> None:
    desk = Desk()
    raised = []

    async def ask() -> None:
        try:
            await desk.get()
        except CallOver as exc:
            raised.append(str(exc))

    async with trio.open_nursery() as tasks:
        tasks.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        desk.pending.close()
    await ask()
    assert raised == ["the call has ended"] * 2
    assert len(desk.asked) == 1
    assert desk.forgotten == []


async def test_an_answer_that_came_before_the_end_is_not_taken_back() -> None:
    pending = Pending()

    def last(number: int) -> None:
        pending.resolve(RequestDone(number))
        pending.close()

    assert isinstance(await pending.request(last, _nobody), RequestDone)


def _nobody(number: int) -> None:
    raise AssertionError("nothing was to be forgotten")
