"""What code of the user's raises gets past no boundary for exceptions but by right."""

import asyncio
from collections.abc import Callable

import pytest
import trio

from sts_trio.net.raised import NoException, OnlyExceptions, original


class Panic(BaseException):
    """As libraries in Rust have it."""


class Mute(BaseException):
    def __str__(self) -> str:
        raise ValueError


@pytest.fixture
async def cancelled() -> trio.Cancelled:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as exc:
            return exc
    raise AssertionError


def comes_out(raised: BaseException, *, in_thread: bool = False) -> BaseException:
    with pytest.raises(BaseException) as caught, OnlyExceptions(in_thread=in_thread):  # noqa: PT011
        raise raised
    return caught.value


def test_what_ends_well_is_let_be() -> None:
    with OnlyExceptions():
        pass


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (Panic("no"), "Panic: no"),
        (Mute(), "Mute: "),
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit(), "GeneratorExit: "),
        (asyncio.CancelledError(), "CancelledError: "),
        (BaseExceptionGroup("two", [Panic("no")]), "Panic: no"),
        (BaseExceptionGroup("two", [Panic("no"), ValueError()]), "BaseExceptionGroup: two"),
    ],
)
def test_what_is_no_exception_is_one(raised: BaseException, words: str) -> None:
    exception = comes_out(raised)
    assert isinstance(exception, NoException)
    assert words in str(exception)
    assert original(exception) is exception.__cause__ is not None


@pytest.mark.parametrize(
    "make", [lambda: ValueError("no"), lambda: ExceptionGroup("two", [ValueError("no")])]
)
def test_an_exception_comes_out_as_it_is(make: Callable[[], Exception]) -> None:
    raised = make()
    assert comes_out(raised) is raised


def test_what_the_code_has_not_raised_itself_passes() -> None:
    raised = KeyboardInterrupt()
    assert comes_out(raised) is raised
    group = BaseExceptionGroup("", [raised])
    assert comes_out(group) is group
    assert isinstance(comes_out(raised, in_thread=True), NoException)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_cancellation_passes(cancelled: trio.Cancelled, in_thread: bool) -> None:
    assert comes_out(cancelled, in_thread=in_thread) is cancelled
    group = BaseExceptionGroup("", [cancelled, ValueError("no")])
    assert comes_out(group, in_thread=in_thread) is group


async def test_cancellation_passes_beside_a_panic(cancelled: trio.Cancelled) -> None:
    group = comes_out(BaseExceptionGroup("", [cancelled, Panic("no")]))
    assert isinstance(group, BaseExceptionGroup)
    passes, own = group.split(trio.Cancelled)
    assert passes is not None
    assert isinstance(own, ExceptionGroup)
    assert str(own.exceptions[0]) == "Panic: no"
