"""The tasks as a tree: who waits for what, where, since when and until when at most."""

import re

import pytest
import trio
import trio.testing

from sts_trio.observe.tasks import AT_ONCE, LOOKED_FOR, WINDOW, TaskState, TaskWatch


async def sleeper() -> None:
    await trio.sleep_forever()


async def restless(pause: float) -> None:
    while True:  # noqa: ASYNC110
        await trio.sleep(pause)


async def bounded() -> None:
    with trio.move_on_after(100):
        await trio.sleep_forever()


async def parent() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleeper, name="child")


def named(states: list[TaskState], name: str) -> TaskState:
    [found] = [state for state in states if state.name == name]
    return found


async def test_each_task_tells_what_it_waits_for_and_where(
    autojump_clock: trio.testing.MockClock,
) -> None:
    watch = TaskWatch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        nursery.start_soon(parent, name="parent")
        nursery.start_soon(bounded, name="bounded")
        await trio.testing.wait_all_tasks_blocked()
        states = await watch.look()
        nursery.cancel_scope.cancel()
    child = named(states, "child")
    assert child.awaits == "sleep_forever"
    assert re.fullmatch(r"sleeper \(.*test_tasks\.py:\d+\)", child.where)
    assert child.depth == named(states, "parent").depth + 1
    assert named(states, "parent").awaits == "NurseryManager.__aexit__"
    assert child.deadline is None
    assert named(states, "bounded").deadline == pytest.approx(100 - WINDOW)
    [running] = [state for state in states if state.waits is None]
    assert running.awaits == ""
    assert "test_each_task" in running.name
    place = [state.name for state in states].index("parent")
    assert states[place + 1] == child, "who is below it follows"


async def test_since_when_it_waits_is_known_from_the_first_look_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    watch = TaskWatch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        nursery.start_soon(sleeper, name="sleeper")
        nursery.start_soon(restless, 0.2, name="restless")
        await trio.sleep(30.1)
        first = await watch.look()
        await trio.sleep(4)
        second = await watch.look()
        nursery.cancel_scope.cancel()
    slept, rested = named(first, "sleeper"), named(first, "restless")
    assert (slept.waits, slept.is_longer, slept.steps) == (WINDOW, True, 0)
    assert not rested.is_longer
    assert rested.steps in (2, 3)
    assert rested.waits is not None
    assert rested.waits < 0.2
    assert named(second, "sleeper").waits == pytest.approx(WINDOW + 4)


async def test_when_nobody_looks_any_more_nothing_is_noted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    watch = TaskWatch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        nursery.start_soon(restless, 0.2, name="restless")
        await watch.look()
        await trio.sleep(LOOKED_FOR - 1)
        await watch.look()
        await trio.sleep(LOOKED_FOR - 1)
        assert watch._steps
        await trio.sleep(2)
        assert not watch._steps
        with pytest.raises(KeyError):
            trio.lowlevel.remove_instrument(watch)
        again = named(await watch.look(), "restless")
        assert again.steps <= 3, "it is counted anew"
        nursery.cancel_scope.cancel()
    with pytest.raises(KeyError):
        trio.lowlevel.remove_instrument(watch)


async def test_who_ends_while_others_are_told_of_is_left_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    watch = TaskWatch()
    # Trio wakes whom it likes first, but all before the last of these are told of.
    many = 6 * AT_ONCE
    over = trio.Event()

    async def short(number: int) -> None:
        await over.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        for number in range(many):
            nursery.start_soon(short, number, name=f"short {number:03}")
        await watch.look()

        async def end_them() -> None:
            over.set()

        nursery.start_soon(end_them)
        states = await watch.look()
        left = [state for state in states if state.name.startswith("short")]
        assert 0 < len(left) < many
        await trio.testing.wait_all_tasks_blocked()
        assert not [task for task in watch._steps if task.name.startswith("short")]
        nursery.cancel_scope.cancel()


async def test_a_part_of_the_tree_can_be_asked_for_and_calls_are_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    watch = TaskWatch()
    found: dict[str, trio.lowlevel.Task] = {}

    async def call(name: str) -> None:
        found[name] = trio.lowlevel.current_task()
        await parent()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        nursery.start_soon(call, "CA1", name="call")
        await trio.testing.wait_all_tasks_blocked()
        states = await watch.look(found["CA1"], {found["CA1"]: "CA1"})
        nursery.cancel_scope.cancel()
    assert [(state.depth, state.name, state.call_sid) for state in states] == [
        (0, "call", "CA1"),
        (1, "child", None),
    ]


async def test_where_trio_tells_no_deadline_none_is_told(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sts_trio.observe.tasks.getattr", lambda *_: None, raising=False)
    watch = TaskWatch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        nursery.start_soon(bounded, name="bounded")
        assert named(await watch.look(), "bounded").deadline is None
        nursery.cancel_scope.cancel()
