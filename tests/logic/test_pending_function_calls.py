"""The functions that an agent waits for: ours, and those that Deepgram runs itself."""

from sts_trio.logic.function_calls import MAX_THEIRS, Interrupted, PendingFunctionCalls
from sts_trio.wire.deepgram import FunctionCallResponse, FunctionToCall


def ours(id: str = "f1") -> FunctionToCall:
    return FunctionToCall(id, "book", client_side=True)


def theirs(id: str = "t1", name: str = "search") -> FunctionToCall:
    return FunctionToCall(id, name, client_side=False)


def test_only_ours_are_to_be_run_and_each_id_once() -> None:
    calls = PendingFunctionCalls()
    assert calls.request([ours("f1"), theirs(), ours("f2"), ours("f1")]) == (
        (ours("f1"), ours("f2")),
        1,
    )
    assert calls.count == 4
    assert calls.are_awaited


def test_one_that_is_done_or_cancelled_is_awaited_no_longer() -> None:
    calls = PendingFunctionCalls()
    calls.request([ours("f1"), ours("f2"), theirs()])
    assert calls.complete("f1")
    assert not calls.complete("f1")
    assert calls.cancel(["f1", "f2", "t1", "unknown"]) == ("f2",)
    assert not calls.are_awaited
    assert calls.complete_theirs(FunctionCallResponse("search", "{}", "t1")) is None


def test_theirs_are_known_by_id_or_else_by_name() -> None:
    calls = PendingFunctionCalls()
    calls.request([theirs("t1"), theirs("t2"), theirs("t3", "book")])
    assert not calls.are_awaited
    assert calls.complete_theirs(FunctionCallResponse("search", "{}", "t2")) == theirs("t2")
    assert calls.complete_theirs(FunctionCallResponse("search", "{}", None)) == theirs("t1")
    assert calls.complete_theirs(FunctionCallResponse("book", "{}", "t9")) is None
    assert calls.complete_theirs(FunctionCallResponse("search", "{}", None)) is None


def test_an_agent_that_tells_nothing_of_its_own_calls_fills_no_memory() -> None:
    calls = PendingFunctionCalls()
    calls.request([theirs(f"t{place}") for place in range(MAX_THEIRS + 1)])
    assert len(calls.close_session(0.0).functions) == MAX_THEIRS


def test_a_session_that_is_gone_interrupts_all_that_it_asked_for() -> None:
    calls = PendingFunctionCalls()
    calls.request([theirs(), ours("f1"), ours("f2")])
    assert calls.close_session(0.0) == Interrupted((ours("f1"), ours("f2"), theirs()), ("f1", "f2"))
    assert not calls.are_awaited
    assert calls.close_session(0.0) == Interrupted((), ())
    assert calls.request([ours("f1")]) == ((ours("f1"),), 0), "the id is free again"
