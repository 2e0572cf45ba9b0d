"""Functions of one call, on the virtual clock. Threads are real, and waited for by events."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing
from limits import HANG
from steps import at_most
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from sts_trio import Call, FunctionFailed, function, hand_over
from sts_trio.call.info import CallInfo
from sts_trio.errors import StsTrioError
from sts_trio.functions import Functions
from sts_trio.functions import runner as module
from sts_trio.functions.runner import (
    AT_ONCE,
    HIDDEN,
    MAX_AT_ONCE,
    MAX_PER_CALL,
    MAX_REFUSED,
    RUNAWAY,
    FunctionCalls,
)
from sts_trio.logic.acts import FunctionDone, FunctionsRunAway
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.wire.deepgram import FunctionToCall

Log = list[Any]
Answer = tuple[float, str, str, Any, str | None]  # when, id, name, what its JSON says, hand-over


class FakeCall:
    """What functions do to a call, written down."""

    def __init__(self) -> None:
        self.info = CallInfo(call_sid="CA1")
        self.agent = "default"
        self.said: list[tuple[float, str]] = []
        self.refusal: Exception | None = None
        self.pauses = 0

    def pause_recording(self) -> None:
        self.pauses += 1

    def resume_recording(self) -> None:
        self.pauses -= 1

    async def say(self, text: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.said.append((trio.current_time(), text))


class Desk:
    """A call's functions in a nursery that ends as a call's would."""

    def __init__(self, nursery: trio.Nursery, *given: Callable[..., Any]) -> None:
        self.call = FakeCall()
        self.answers: list[Answer] = []
        self.unasked: list[Answer] = []  # nobody waited for them any more
        self.told: list[events.OfCall] = []
        self.runaways: list[float] = []
        self.turns: dict[str, int] = {}  # {question that was heard: the turn that came after}
        self.nursery = nursery
        self.calls = FunctionCalls(
            Functions(given),
            ["default", "sales"],
            self.call,
            nursery,
            self._done,
            self._report,
            self.turns.get,
            self._make_safe,
        )
        self.safe_after = 0.0  # seconds
        self.made_safe: list[float] = []

    async def _make_safe(self) -> None:
        assert isinstance(self.told[-1], events.FunctionCalled)
        await trio.sleep(self.safe_after)
        self.made_safe.append(trio.current_time())

    def _report(self, event: events.OfCall, /, *, exc_info: BaseException | bool = False) -> None:
        self.told.append(event)
        report(event, exc_info=exc_info)

    def _done(self, done: FunctionDone | FunctionsRunAway) -> None:
        if isinstance(done, FunctionsRunAway):
            self.runaways.append(trio.current_time())
            return
        asked, said = done.asked, json.loads(done.content)
        answer = (trio.current_time(), asked.id, asked.name, said, done.hand_over)
        (self.unasked if done.is_void else self.answers).append(answer)

    def ask(self, run: Callable[..., Any] | str, *, id: str = "f1", **arguments: Any) -> None:
        name = run if isinstance(run, str) else run.__name__
        self.calls.start(FunctionToCall(id, name, json.dumps(arguments)))

    async def ends(self) -> list[Answer]:
        """What was answered once nothing runs any more."""
        while self.calls.running:  # noqa: ASYNC110 - a shielded one is told to nobody
            await trio.sleep(0.01)
        return self.answers

    def outcomes(self) -> list[str]:
        return [each.outcome for each in self.told if isinstance(each, events.FunctionFinished)]


@asynccontextmanager
async def desk(*given: Callable[..., Any]) -> AsyncIterator[Desk]:
    async with trio.open_nursery() as nursery:
        it = Desk(nursery, *given)
        yield it
        it.calls.cancel_all()


@pytest.fixture
def log() -> Any:
    structlog.reset_defaults()
    with capture_logs() as lines:
        yield lines


def of(log: Log, event: str) -> list[dict[str, Any]]:
    return [line for line in log if line["event"] == event]


@function
async def add(a: int, b: int = 1) -> int:
    await trio.sleep(1)
    return a + b


async def test_one_with_a_shield_is_run_once_it_is_safe_that_it_was_asked_for(
    autojump_clock: MockClock,
) -> None:
    run_at: list[float] = []

    @function(shield=True)
    async def pay() -> None:
        run_at.append(trio.current_time())

    async with desk(pay, add) as it:
        it.safe_after = 0.25
        it.ask(pay)
        await it.ends()
        assert run_at == it.made_safe == [0.25]
        it.ask(add, id="f2", a=1)
        await it.ends()
        assert it.made_safe == [0.25]


async def test_one_whose_arguments_do_not_fit_is_not_waited_for(autojump_clock: MockClock) -> None:
    @function(shield=True)
    async def pay(amount: int) -> None: ...

    async with desk(pay) as it:
        it.ask(pay, amount="much")
        await it.ends()
        assert it.made_safe == []


class Fragile(msgspec.Struct):
    a: int

    def __post_init__(self) -> None:
        raise KeyError(self.a)


async def take(it: Fragile) -> None: ...


@function
async def forever() -> None:
    await trio.sleep_forever()


@function(shield=True, timeout=5)
async def charge() -> str:
    await trio.sleep(3)
    return "charged"


@function(shield=True, timeout=5)
async def hang() -> None:
    await trio.sleep_forever()


# --- answers ----------------------------------------------------------------------------------


async def test_a_function_runs_beside_the_call_and_its_result_is_told(
    autojump_clock: MockClock,
) -> None:
    async with desk(add) as it:
        it.ask(add, id="a", a=1)
        it.ask(add, id="b", a=1, b=5)
        assert it.answers == []  # `start` waits for nothing
        assert it.calls.running == 2
        await trio.sleep(0.5)
        assert it.answers == []
        assert sorted(await it.ends()) == [(1, "a", "add", 2, None), (1, "b", "add", 6, None)]
    assert it.outcomes() == ["done", "done"]


async def test_no_answer_comes_from_within_start() -> None:
    """Whoever performs acts must not hear of new ones in the middle."""
    async with desk() as it:
        for number in range(MAX_AT_ONCE + 1):
            it.ask("nothing", id=str(number))
            assert it.answers == []
        assert len(await it.ends()) == MAX_AT_ONCE + 1


@pytest.mark.parametrize("result", [None, "text", 0, [1, "ä"], {"a": {"b": None}}, True])
async def test_a_result_is_told_as_json(result: Any) -> None:
    async def run() -> Any:
        return result

    async with desk(run) as it:
        it.ask(run)
        (answer,) = await it.ends()
    assert answer[3:] == (result, None)


async def test_the_call_is_given_to_who_asks_for_it(autojump_clock: MockClock) -> None:
    async def greet(name: str, call: Call) -> str:
        await call.say(f"Hello {name}")
        return str(call.info.call_sid)

    async with desk(greet) as it:
        it.ask(greet, name="Ann")
        (answer,) = await it.ends()
    assert answer[3] == "CA1"
    assert it.call.said == [(0, "Hello Ann")]


async def test_the_agent_may_ask_the_same_twice_under_one_id(autojump_clock: MockClock) -> None:
    async with desk(add) as it:
        it.ask(add, a=1)
        it.ask(add, a=2)
        assert sorted(answer[3] for answer in await it.ends()) == [2, 3]


# --- failures ---------------------------------------------------------------------------------


async def errors(*given: Callable[..., Any], name: str = "run", arguments: str = "") -> Any:
    async with desk(*given) as it:
        it.calls.start(FunctionToCall("f1", name, arguments))
        (answer,) = await it.ends()
    (error,) = answer[3].items()
    assert error[0] == "error"
    return error[1]


async def test_an_exception_is_logged_and_the_agent_told_that_it_failed(log: Log) -> None:
    async def run() -> None:
        raise KeyError("secret")

    assert await errors(run) == "the function failed"
    (line,) = of(log, events.FunctionFailed.NAME)
    assert (line["log_level"], line["reason"]) == ("error", "KeyError: 'secret'")
    assert isinstance(line["exc_info"], KeyError)
    assert (line["name"], line["id"]) == ("run", "f1")


async def test_a_failure_meant_for_the_agent_is_told_word_for_word(log: Log) -> None:
    async def run() -> None:
        raise FunctionFailed("We are closed on Sundays.")

    assert await errors(run) == "We are closed on Sundays."
    (line,) = of(log, events.FunctionFailed.NAME)
    assert (line["log_level"], "exc_info" in line) == ("warning", False)


async def test_a_group_of_exceptions_is_one_failure(log: Log) -> None:
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, "one")
            nursery.start_soon(fail, "two")

    async def fail(text: str) -> None:
        raise ValueError(text)

    assert await errors(run) == "the function failed"
    assert of(log, events.FunctionFailed.NAME)[0]["reason"].startswith("ExceptionGroup: ")


class Panic(BaseException):
    """As libraries in Rust have it."""


@pytest.mark.parametrize("raised", [SystemExit(3), Panic("no"), GeneratorExit()])
async def test_not_even_an_exit_or_a_panic_ends_the_call(raised: BaseException, log: Log) -> None:
    def run() -> None:
        raise raised

    async def leave() -> None:
        raise raised

    async def leave_together() -> None:
        raise BaseExceptionGroup("", [raised])

    assert await errors(run) == "the function failed"
    assert await errors(leave, name="leave") == "the function failed"
    assert await errors(leave_together, name="leave_together") == "the function failed"
    failed = [each["reason"] for each in of(log, events.FunctionFailed.NAME)]
    assert failed == [f"{type(raised).__name__}: {raised}"] * 2 + failed[2:]
    assert all("exc_info" in each for each in of(log, events.FunctionFailed.NAME))


async def test_arguments_that_panic_while_they_are_read_end_no_call(log: Log) -> None:
    class Day(msgspec.Struct):
        number: int

        def __post_init__(self) -> None:
            raise Panic("no")

    def run(day: Day) -> None:
        raise AssertionError

    assert await errors(run, arguments='{"day": {"number": 1}}') == "the function failed"
    assert of(log, events.FunctionFailed.NAME)[0]["reason"] == "Panic: no"


async def test_an_interrupt_of_a_thread_is_its_own() -> None:
    def run() -> None:
        raise KeyboardInterrupt

    assert await errors(run) == "the function failed"


class Unspeakable(FunctionFailed):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (asyncio.CancelledError(), "the function failed"),
        (Unspeakable(), "the function failed"),
        (FunctionFailed("\ud800" * 2), "??"),
        (FunctionFailed("x" * 5000), "x" * 999 + "…"),
    ],
)
async def test_no_exception_is_too_odd_to_be_told(failure: BaseException, told: str) -> None:
    async def run() -> None:
        raise failure

    def plain() -> None:
        raise failure

    assert await errors(run) == told
    assert await errors(plain, name="plain") == told


async def test_time_runs_out(autojump_clock: MockClock, log: Log) -> None:
    async with desk(forever) as it:
        it.ask(forever)
        (answer,) = await it.ends()
    error = {"error": "no result within 10 s; whether it was done is not known"}
    assert answer == (10, "f1", "forever", error, None)
    (line,) = of(log, events.FunctionFinished.NAME)
    assert (line["outcome"], line["seconds"], line["log_level"]) == ("timed_out", 10, "warning")


async def test_a_result_that_ignores_the_time_limit_is_told_all_the_same(
    autojump_clock: MockClock,
) -> None:
    @function(timeout=1)
    async def stubborn() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(2)
        return "late"

    async with desk(stubborn) as it:
        it.ask(stubborn)
        assert [answer[3] for answer in await it.ends()] == ["late"]


async def test_an_exception_on_the_way_out_of_time_is_a_failure(
    autojump_clock: MockClock, log: Log
) -> None:
    @function(timeout=1)
    async def run() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while leaving")

    assert await errors(run) == "the function failed"


async def test_arguments_that_do_not_fit_are_told_field_by_field(log: Log) -> None:
    assert await errors(add, name="add", arguments='{"b": "x", "c": 1}') == (
        "a: missing; b: expected `int`, got `str`; c: unknown, known are: a, b"
    )
    assert (await errors(add, name="add", arguments="{")).startswith("the arguments are not JSON")
    assert [line["log_level"] for line in of(log, events.FunctionFailed.NAME)] == ["warning"] * 2


async def test_a_type_that_fails_while_it_is_made_is_a_failure_too(log: Log) -> None:
    assert await errors(take, name="take", arguments='{"it": {"a": 1}}') == "the function failed"


async def test_a_function_the_model_made_up_is_an_error(log: Log) -> None:
    name = "x" * 1000
    assert await errors(name=name) == "there is no such function"
    assert len(of(log, events.FunctionFailed.NAME)[0]["name"]) == 64


async def test_a_function_of_another_agent_is_no_function(autojump_clock: MockClock) -> None:
    @function(agents="sales")
    async def quote() -> int:
        return 9

    async with desk(quote) as it:
        it.ask(quote)
        await it.ends()
        it.call.agent = "sales"
        it.ask(quote)
        await it.ends()
    assert [answer[3] for answer in it.answers] == [{"error": "there is no such function"}, 9]


async def test_a_result_that_is_not_json_is_an_error_with_a_traceback(log: Log) -> None:
    async def run() -> Any:
        return {"lock": threading.Lock()}

    assert await errors(run) == "its result cannot be told: it is not JSON"
    (line,) = of(log, events.FunctionFailed.NAME)
    assert line["log_level"] == "error"
    assert "lock is unsupported" in line["reason"]


async def test_a_result_that_is_too_long_is_an_error_that_says_so() -> None:
    async def run() -> str:
        return "é" * 8192

    expected = "the result is too long, 16386 bytes of at most 16384: ask for less"
    assert await errors(run) == expected

    async def run_(size: int = 16382) -> str:
        return "e" * size

    async with desk(run_) as it:
        it.ask(run_)
        assert len((await it.ends())[0][3]) == 16382


# --- cancelling -------------------------------------------------------------------------------


async def test_what_the_agent_cancels_ends_and_is_not_answered(autojump_clock: MockClock) -> None:
    async with desk(forever, add) as it:
        it.ask(forever, id="a")
        it.ask(add, id="b", a=1)
        await wait_all_tasks_blocked()
        it.calls.cancel(["a", "of nobody"])
        assert await it.ends() == [(1, "b", "add", 2, None)]
    assert it.outcomes() == ["cancelled", "done"]


async def test_what_is_cancelled_before_it_has_begun_does_not_begin() -> None:
    begun = []

    @function(shield=True)
    async def pay() -> None:
        begun.append("pay")

    async def look() -> None:
        begun.append("look")

    async with desk(pay, look) as it:
        it.ask(pay, id="a")
        it.ask(look, id="b")
        it.calls.cancel(["a", "b"])
        assert await it.ends() == []
    assert begun == []


async def test_a_hang_up_cancels_all_and_nothing_is_answered(autojump_clock: MockClock) -> None:
    async with desk(forever, add) as it:
        it.ask(forever)
        it.ask(add, a=1)
        it.ask("nothing")
        it.calls.cancel_all()
        assert await it.ends() == []
    assert trio.current_time() < 1


async def test_a_call_that_is_cut_off_takes_its_functions_along(autojump_clock: MockClock) -> None:
    async with desk(forever, add) as it:
        it.ask(forever)
        await wait_all_tasks_blocked()
        it.ask(add, a=1)  # has not begun
        it.nursery.cancel_scope.cancel()
    assert (it.answers, it.calls.running, it.outcomes()) == ([], 0, ["cancelled"])


async def test_an_exception_on_the_way_out_of_a_call_stays_with_its_function(
    autojump_clock: MockClock, log: Log
) -> None:
    async def untidy() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("while leaving")

    async with desk(untidy) as it:
        it.ask(untidy)
        await wait_all_tasks_blocked()
        it.nursery.cancel_scope.cancel()
    assert it.answers == []
    assert of(log, events.FunctionFailed.NAME)[0]["reason"] == "ValueError: while leaving"


async def test_what_is_shielded_is_torn_neither_by_the_agent_nor_by_a_hang_up(
    autojump_clock: MockClock, log: Log
) -> None:
    async with desk(charge) as it:
        it.ask(charge, id="a")
        await trio.sleep(1)
        it.calls.cancel(["a"])
        it.calls.cancel_all()
        it.nursery.cancel_scope.cancel()
    assert (trio.current_time(), it.answers) == (3, [])
    (line,) = of(log, events.FunctionFinished.NAME)
    assert (line["outcome"], line["seconds"], line["log_level"]) == ("done", 3, "info")


async def test_what_is_shielded_has_its_time_limit_still(
    autojump_clock: MockClock, log: Log
) -> None:
    async with desk(hang) as it:
        it.ask(hang)
        await trio.sleep(1)
        it.calls.cancel_all()
    assert (trio.current_time(), it.answers, it.outcomes()) == (5, [], ["timed_out"])


async def test_what_is_shielded_is_answered_if_anybody_listens(autojump_clock: MockClock) -> None:
    async with desk(charge, hang) as it:
        it.ask(charge)
        it.ask(hang)
        await it.ends()
    assert [(answer[0], answer[2]) for answer in it.answers] == [(3, "charge"), (5, "hang")]


async def test_what_goes_on_unawaited_is_not_done_twice(
    autojump_clock: MockClock, log: Log
) -> None:
    """An agent that was lost in the middle of a charge, and dialled again, asks again."""
    async with desk(charge, add) as it:
        it.ask(charge, id="a")
        await trio.sleep(1)
        it.calls.cancel(["a"])
        it.ask(charge, id="b")
        it.ask(add, id="c", a=1)
        await it.ends()
        it.ask(charge, id="d")
        await it.ends()
    [refused, added, again] = it.answers
    assert refused[1] == "b"
    assert "being done already" in refused[3]["error"]
    assert added[1] == "c"
    assert again[1:4] == ("d", "charge", "charged")
    assert [answer[1] for answer in it.unasked] == ["a"]
    assert of(log, events.FunctionRefused.NAME)[0]["reason"] == "it is being done already"


async def test_what_is_shielded_does_not_answer_into_a_call_that_was_cut_off(
    autojump_clock: MockClock,
) -> None:
    async with desk(charge) as it:
        it.ask(charge)
        await trio.sleep(1)
        it.nursery.cancel_scope.cancel()
    assert (trio.current_time(), it.answers, it.outcomes()) == (3, [], ["done"])


# --- plain functions, in threads --------------------------------------------------------------


async def test_a_plain_function_runs_in_a_thread_and_the_call_goes_on() -> None:
    go = threading.Event()

    def look_up(number: int) -> dict[str, Any]:
        go.wait(HANG)
        return {"number": number, "here": threading.current_thread() is threading.main_thread()}

    with trio.fail_after(HANG):
        async with desk(look_up) as it:
            it.ask(look_up, number=7)
            await trio.sleep(0.01)
            assert it.answers == []
            go.set()
            (answer,) = await it.ends()
    assert answer[3] == {"number": 7, "here": False}


async def test_a_plain_function_talks_to_the_call_through_trio() -> None:
    def report(call: Call) -> str:
        trio.from_thread.run(call.say, "still looking")
        return "done"

    with trio.fail_after(HANG):
        async with desk(report) as it:
            it.ask(report)
            (answer,) = await it.ends()
    assert answer[3] == "done"
    assert [text for _, text in it.call.said] == ["still looking"]


async def test_a_thread_that_is_stuck_is_left_behind() -> None:
    go = threading.Event()

    @function(timeout=0.01)
    def stuck() -> None:
        go.wait(HANG)

    def stuck_too() -> None:
        go.wait(HANG)

    try:
        with trio.fail_after(HANG):
            async with desk(stuck, stuck_too) as it:
                it.ask(stuck, id="a")
                it.ask(stuck_too, id="b")
                await trio.sleep(0.01)
                it.calls.cancel(["b"])
                (answer,) = await it.ends()
    finally:
        go.set()
    assert "no result within 0.01 s" in answer[3]["error"]


async def test_what_is_left_in_its_thread_is_not_done_twice_and_told_late(log: Log) -> None:
    has_begun, go = threading.Event(), threading.Event()
    booked: list[int] = []

    def book(table: int) -> str:
        has_begun.set()
        go.wait(2 * HANG)
        booked.append(table)
        return f"table {table}"

    with trio.fail_after(HANG):
        async with desk(book) as it:
            it.ask(book, id="a", table=7)
            while not has_begun.is_set():  # noqa: ASYNC110 - told by a thread
                await trio.sleep(0.001)
            it.calls.cancel(["a"])
            await wait_all_tasks_blocked(0.01)
            it.ask(book, id="b", table=7)
            ((_, id, _, said, _),) = await it.ends()
            assert (id, said) == (
                "b",
                {"error": "it is being done already; you will be told what came of it"},
            )
            go.set()
            while not it.unasked:  # noqa: ASYNC110 - told by a thread
                await trio.sleep(0.001)
            it.ask(book, id="c", table=8)
            assert [answer[3] for answer in await it.ends()][-1] == "table 8"
    assert [(id, said) for _, id, _, said, _ in it.unasked] == [("a", "table 7")]
    assert booked == [7, 8]
    assert it.outcomes() == ["cancelled", "late", "done"]


async def test_over_its_time_it_goes_on_in_its_thread_and_the_agent_is_told_so(
    autojump_clock: MockClock,
) -> None:
    """By a clock that stands until the thread is there: on a busy machine it comes late."""
    go = threading.Event()

    @function(timeout=5.0)
    def book() -> str:
        go.wait(2 * HANG)
        raise FunctionFailed("no table is free")

    async with desk(book) as it:
        it.ask(book, id="a")
        ((_, _, _, said, _),) = await it.ends()
        assert said == {
            "error": "no result within 5 s; it goes on, and you will be told what came of it"
        }
        it.ask(book, id="b")
        assert "being done already" in (await it.ends())[-1][3]["error"]
        go.set()
        give_up = time.monotonic() + HANG
        while not it.unasked:
            assert time.monotonic() < give_up
            await trio.lowlevel.checkpoint()
    assert [answer[3] for answer in it.unasked] == [{"error": "no table is free"}]


@pytest.mark.parametrize("shield", [False, True])
async def test_a_hang_up_does_not_wait_for_a_thread(shield: bool) -> None:
    """Only for a shielded one, and for that until its time is up."""
    go = threading.Event()

    @function(shield=shield, timeout=0.1)
    def stuck() -> None:
        go.wait(2 * HANG)

    try:
        with trio.fail_after(HANG):
            async with desk(stuck) as it:
                it.ask(stuck)
                await wait_all_tasks_blocked(0.01)
                it.calls.cancel_all()
    finally:
        go.set()
    assert it.answers == []
    assert it.outcomes() == ["timed_out" if shield else "cancelled"]


async def test_what_is_left_in_its_thread_is_left_for_good_by_a_hang_up() -> None:
    go = threading.Event()

    @function(timeout=0.01)
    def stuck() -> None:
        go.wait(2 * HANG)

    try:
        with trio.fail_after(HANG):
            async with desk(stuck) as it:
                it.ask(stuck)
                await it.ends()
                it.calls.cancel_all()
    finally:
        go.set()
    assert it.unasked == []


async def test_stuck_threads_take_no_more_than_their_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one waits for a thread, runs out of time, and Trio's own threads are untouched."""
    monkeypatch.setattr(module, "THREADS", 2)
    go = threading.Event()
    entered: list[str] = []

    @function(timeout=0.05)
    def stuck(name: str) -> None:
        entered.append(name)
        go.wait(HANG)

    try:
        with trio.fail_after(HANG):
            async with desk(stuck) as it:
                for name in "abc":
                    it.ask(stuck, id=name, name=name)
                while len(entered) < 2:  # noqa: ASYNC110 - threads set no event of Trio's
                    await trio.sleep(0.001)
                assert len(await it.ends()) == 3
            assert await trio.to_thread.run_sync(lambda: "free") == "free"
    finally:
        go.set()
    assert len(entered) == 2


async def test_a_plain_function_that_is_async_after_all_fails(log: Log) -> None:
    def disguised() -> Any:
        return add(a=1)

    assert await errors(disguised, name="disguised") == "its result cannot be told: it is not JSON"
    assert "make it async" in of(log, events.FunctionFailed.NAME)[0]["reason"]


# --- fillers ----------------------------------------------------------------------------------


@function(filler="Still looking.", filler_after=2)
async def search(seconds: float) -> str:
    await trio.sleep(seconds)
    return "found"


async def test_a_caller_who_waits_long_is_told_something_once(autojump_clock: MockClock) -> None:
    async with desk(search) as it:
        it.ask(search, seconds=1)
        await it.ends()
        assert it.call.said == []
        began = trio.current_time()
        it.ask(search, seconds=9)
        await it.ends()
    assert it.call.said == [(began + 2, "Still looking.")]
    assert [answer[3] for answer in it.answers] == ["found", "found"]


async def test_a_filler_that_cannot_be_said_is_no_failure(
    autojump_clock: MockClock, log: Log
) -> None:
    async with desk(search) as it:
        it.call.refusal = StsTrioError("the agent is talking")
        it.ask(search, seconds=3)
        assert [answer[3] for answer in await it.ends()] == ["found"]
    assert of(log, events.FunctionFillerNotSaid.NAME)[0]["reason"] == "the agent is talking"


# --- hand-over --------------------------------------------------------------------------------


async def to(agent: str) -> Any:
    return hand_over(agent)


async def test_a_function_hands_over_to_another_agent() -> None:
    async with desk(to) as it:
        it.ask(to, agent="sales")
        (answer,) = await it.ends()
    assert answer[3:] == ({"handed_over_to": "sales"}, "sales")


@pytest.mark.parametrize(
    ("agent", "error"),
    [
        ("nobody", "there is no agent nobody to hand over to; there are: default, sales"),
        ("default", "default is already the one who talks with the caller"),
    ],
)
async def test_a_hand_over_that_leads_nowhere_is_an_error(agent: str, error: str) -> None:
    async with desk(to) as it:
        it.ask(to, agent=agent)
        (answer,) = await it.ends()
    assert answer[3:] == ({"error": error}, None)


# --- the budget -------------------------------------------------------------------------------


async def test_a_model_that_runs_away_is_refused_and_reported(
    autojump_clock: MockClock, log: Log
) -> None:
    ran = 0

    def granted() -> list[Answer]:
        return [answer for answer in it.answers if answer[3] == 1]

    async def once() -> int:
        nonlocal ran
        ran += 1
        return 1

    async with desk(once) as it:
        for number in range(MAX_AT_ONCE + RUNAWAY - 1):
            it.ask(once, id=str(number))
        await it.ends()
        assert (ran, len(granted()), it.runaways) == (MAX_AT_ONCE, MAX_AT_ONCE, [])
        errors = [answer[3] for answer in it.answers if answer[3] != 1]
        assert errors == [{"error": "too many function calls"}] * (RUNAWAY - 1)
        it.ask(once)
        it.ask(once)
        await it.ends()
        assert len(it.runaways) == 1
    assert len(it.answers) == MAX_AT_ONCE + RUNAWAY + 1
    assert len(of(log, events.FunctionRefused.NAME)) == 1
    assert len([each for each in it.told if isinstance(each, events.FunctionRefused)]) == 1


async def test_the_budget_in_any_half_minute_is_refilled_but_that_of_the_call_is_not(
    autojump_clock: MockClock,
) -> None:
    async def once() -> int:
        return 1

    async with desk(once) as it:
        for _ in range(MAX_PER_CALL // MAX_AT_ONCE):
            for _ in range(MAX_AT_ONCE):
                it.ask(once)
            await trio.sleep(AT_ONCE)
        assert [answer[3] for answer in it.answers] == [1] * MAX_PER_CALL
        it.ask(once)
        await it.ends()
    assert it.answers[-1][3] == {"error": "too many function calls"}


async def test_refusals_too_are_not_answered_after_a_hang_up() -> None:
    async with desk() as it:
        for _ in range(MAX_AT_ONCE + 1):
            it.ask("nothing")
        it.calls.cancel_all()
        assert await it.ends() == []


async def test_who_asks_again_and_again_for_what_is_being_done_runs_away_too(
    autojump_clock: MockClock,
) -> None:
    async with desk(charge) as it:
        it.ask(charge, id="a")
        await trio.sleep(1)
        it.calls.cancel(["a"])
        for number in range(RUNAWAY):
            it.ask(charge, id=str(number))
        await it.ends()
    assert it.runaways == [1]
    assert len(it.answers) == RUNAWAY


async def test_a_model_whose_refusals_are_cancelled_is_reported_all_the_same(
    autojump_clock: MockClock,
) -> None:
    ids = [str(number) for number in range(MAX_AT_ONCE + RUNAWAY)]
    async with desk() as it:
        for id in ids:
            it.ask("look_up", id=id)
        it.calls.cancel(ids)
        await it.ends()
    assert it.answers == []
    assert len(it.runaways) == 1


async def test_what_a_flood_of_functions_costs_does_not_depend_on_what_runs(
    autojump_clock: MockClock,
) -> None:
    """They are neither looked for among all others, nor a task each."""
    many = 10_000
    async with desk(charge, hang) as it:
        for number in range(MAX_AT_ONCE // 2):
            it.ask(charge, id=f"c{number}")
            it.ask(hang, id=f"h{number}")
        await trio.sleep(0.1)
        it.calls.cancel_all()
        with at_most(50_000 + 20 * many) as steps:
            for number in range(many):
                it.ask(charge if number % 2 else "look_up", id=str(number))
        assert steps.count > many
        assert it.calls.running == MAX_AT_ONCE + MAX_REFUSED
        await it.ends()
    assert len(it.answers) == MAX_REFUSED
    assert len(it.runaways) == 1


# --- what the caller has to agree to --------------------------------------------------------------


@function(confirm="Shall I book {count} {car} on {day:%A}?")
async def book(car: str, day: date, count: int = 1) -> str:
    await trio.sleep(1)
    return "booked"


ASK = "Shall I book 1 {Otter} on Tuesday?"
NOT_YET = {"error": f"not done yet, the caller has to agree first. Ask, word for word: {ASK}"}
DEED: dict[str, Any] = {"car": "{Otter}", "day": "2026-12-01"}


async def test_a_deed_is_done_once_for_each_time_that_the_caller_has_agreed_to_it(
    autojump_clock: MockClock,
) -> None:
    async with desk(book) as here:
        here.ask(book, **DEED)
        assert await here.ends() == [(0, "f1", "book", NOT_YET, None)]
        here.turns[ASK] = 3
        here.ask(book, id="f2", **DEED)
        here.ask(book, id="f3", **DEED)
        await here.ends()
        here.ask(book, id="f4", **DEED)
        await here.ends()
        here.turns[ASK] = 5
        here.ask(book, id="f5", **DEED)
        here.ask(book, id="f6", **DEED, count=2)
        await here.ends()
    said = {id: said for _, id, _, said, _ in here.answers}
    assert said["f1"] == said["f4"] == NOT_YET
    assert sorted([said["f2"], said["f3"]], key=str) == ["booked", NOT_YET]  # in either order
    assert said["f5"] == "booked"
    assert said["f6"] == json.loads(json.dumps(NOT_YET).replace("book 1", "book 2"))
    assert sorted(here.outcomes()) == ["done"] * 2 + ["unconfirmed"] * 4


async def test_what_the_agent_takes_back_need_not_be_agreed_to_again(
    autojump_clock: MockClock,
) -> None:
    """It had begun to answer on a guess."""
    async with desk(book) as here:
        here.turns[ASK] = 1
        here.ask(book, **DEED)
        await trio.sleep(0.5)
        here.calls.cancel(["f1"])
        await here.ends()
        here.ask(book, id="f2", **DEED)
        await here.ends()
    assert [(id, said) for _, id, _, said, _ in here.answers] == [("f2", "booked")]


async def test_what_is_not_known_to_be_undone_has_to_be_agreed_to_again(
    autojump_clock: MockClock,
) -> None:
    begun = 0

    @function(confirm="Really?", timeout=0.5)
    async def slow() -> None:
        nonlocal begun
        begun += 1
        await trio.sleep_forever()

    async with desk(slow) as here:
        here.turns["Really?"] = 1
        here.ask(slow)
        await here.ends()
        here.ask(slow, id="f2")
        await here.ends()
    assert begun == 1
    assert "not done yet" in here.answers[1][3]["error"]


async def test_a_question_that_cannot_be_put_fails_that_call_alone(
    autojump_clock: MockClock, log: Log
) -> None:
    @function(confirm="Shall I take {amount:%A}?")
    async def pay(amount: str) -> None:
        raise AssertionError

    async with desk(pay) as here:
        here.ask(pay, amount="5")
        [(_, _, _, said, _)] = await here.ends()
    assert said == {"error": module.FAILED}
    (line,) = of(log, events.FunctionFailed.NAME)
    assert line["reason"].startswith("ValueError: ")


# --- sensitive ones -----------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["done", "failed", "crashed", "timed_out", "hung_up"])
async def test_what_a_sensitive_function_is_about_is_told_to_the_agent_alone(
    autojump_clock: trio.testing.MockClock, ends: str
) -> None:
    during = []

    async def pay(card: str) -> dict[str, str]:
        """Pay."""
        during.append(it.call.pauses)
        if ends == "failed":
            raise FunctionFailed(f"{card} is no card")
        if ends == "crashed":
            raise ValueError(card)
        if ends in ("timed_out", "hung_up"):
            await trio.sleep(5.0)
        return {"paid with": card}

    with structlog.testing.capture_logs() as logs:
        async with desk(function(timeout=1.0, sensitive=True)(pay)) as it:
            it.ask("pay", card="4111111111111111")
            if ends == "hung_up":
                await trio.sleep(0.5)
                it.calls.cancel_all()
            answers = await it.ends()
    assert during == [1]
    assert it.call.pauses == 0
    assert "4111" not in repr(logs)
    assert "4111" not in repr(it.told)
    assert [each.arguments for each in it.told if isinstance(each, events.FunctionCalled)] == [
        HIDDEN
    ]
    if ends in ("done", "failed"):
        assert "4111" in repr(answers)


async def test_any_other_function_leaves_the_recording_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    during = []

    @function
    async def look_up(what: str) -> str:
        """Look it up."""
        during.append(it.call.pauses)
        return what

    async with desk(look_up) as it:
        it.ask(look_up, what="cars")
        await it.ends()
    assert during == [0]
    assert "cars" in repr(it.told)
