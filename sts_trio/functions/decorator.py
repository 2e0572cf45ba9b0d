"""What marks a Python function as one that agents may call, and what such a function may return."""

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar, overload

import msgspec

from sts_trio.config.raw import config_error
from sts_trio.wire.printable import quoted

# What callers bear in silence, and what samples of Deepgram's impose on themselves. Its own limit
# is published nowhere.
TIMEOUT = 10.0
# Two seconds after the caller's last word, silence begins to sound like a lost line.
FILLER_AFTER = 2.0

MARK = "__sts_trio_function__"  # the attribute that holds the `Options` of a marked function

# An hour outlasts any call that is not forgotten.
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
F = TypeVar("F", bound=Callable[..., Any])


class HandOver(msgspec.Struct, frozen=True):
    """A function's result that has another agent go on with the call."""

    agent: str


def hand_over(agent: str) -> HandOver:
    """To be returned by a function: the configured agent of that name takes the call over, with
    the conversation so far."""
    return HandOver(agent)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What `@function` was given."""

    name: str | None = None
    description: str | None = None
    timeout: Seconds = TIMEOUT
    shield: bool = False
    defer_until_eot: bool = False
    filler: str | None = None
    filler_after: Seconds = FILLER_AFTER
    confirm: str | None = None
    agents: tuple[str, ...] | None = None
    sensitive: bool = False


@overload
def function(run: F, /) -> F: ...
@overload
def function(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float = TIMEOUT,
    shield: bool = False,
    defer_until_eot: bool = False,
    filler: str | None = None,
    filler_after: float = FILLER_AFTER,
    confirm: str | None = None,
    agents: str | Iterable[str] | None = None,
    sensitive: bool = False,
) -> Callable[[F], F]: ...
def function(
    run: Any = None, /, *, agents: str | Iterable[str] | None = None, **options: Any
) -> Any:
    """Marks a function as one that agents may call. It stays the function it is.

    A parameter annotated `Call` is given the call; all others are the model's to give, and need
    an annotation. Describe one in the docstring, in Google's, NumPy's or Sphinx's way, or by
    `Annotated[str, msgspec.Meta(description="…")]`.

    Args:
        name: what the model calls it; unset: the function's own name.
        description: what the model reads; unset: the docstring, but for what that says of
            parameters, which the model reads there.
        timeout: seconds until it is cancelled, and the agent told so.
        shield: once begun it is not torn by a hang-up, nor by the agent; only by its time limit.
            For what must not be half done, such as a payment. A plain `def` runs in a thread, which
            nothing can tear: neither the agent nor its time limit ends it, and until it has ended
            it is not begun again. Only an `async def` can be torn, where it awaits something.
        defer_until_eot: not before the caller has surely finished speaking. For what cannot be
            undone: agents begin to answer on a guess, and take it back.
        filler: said to the caller when it takes longer than `filler_after` seconds.
        confirm: the question that names the deed, with parameters in braces, "Shall I book the
            {car} on {day:%A}?". It runs only if the caller has heard that to its end and has had
            a turn since, once for each time; else the agent is told to ask.
        agents: the names of those that may call it; unset: all.
        sensitive: for card numbers and the like. While it runs the call is not recorded, and what
            it is given, gives or raises is neither told nor kept: the agent alone knows it.
    """
    names = (agents,) if isinstance(agents, str) else agents
    chosen = Options(agents=None if names is None else tuple(names), **options)

    def mark(run: F) -> F:
        if not inspect.isfunction(run):
            raise config_error(
                f"@function: expected a plain or async function, got {quoted(repr(run))};"
                " it goes beneath @staticmethod and the like"
            )
        setattr(run, MARK, chosen)
        return run

    return mark if run is None else mark(run)
