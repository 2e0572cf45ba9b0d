"""The functions an agent may call: what marks one, and the registry of a process.

A function is a plain or async Python function. What a model is told of it is read from it: name,
docstring, annotations. All that can be wrong with one is found at start-up.
Running them is the business of `calls.py`.
"""

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar, overload

import msgspec

from sts_trio.config.variables import config_error, shown
from sts_trio.functions.schema import Parameters

# What callers bear in silence, and what samples of Deepgram's impose on themselves. Its own limit
# is published nowhere.
TIMEOUT = 10.0
# Two seconds after the caller's last word, silence begins to sound like a lost line.
FILLER_AFTER = 2.0

# OpenAI's rule, the narrowest of the providers'.
_NAME = re.compile("[a-zA-Z0-9_-]{1,64}")
_MARK = "__sts_trio_function__"

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
    agents: tuple[str, ...] | None = None


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
    agents: str | Iterable[str] | None = None,
) -> Callable[[F], F]: ...
def function(
    run: Any = None, /, *, agents: str | Iterable[str] | None = None, **options: Any
) -> Any:
    """Marks a function as one that agents may call. It stays the function it is.

    A parameter annotated `Call` is given the call; all others are the model's to give, and need
    an annotation. Describe one by `Annotated[str, msgspec.Meta(description="…")]`.

    Args:
        name: what the model calls it; unset: the function's own name.
        description: what the model reads; unset: the docstring's first paragraph.
        timeout: seconds until it is cancelled, and the agent told so.
        shield: once begun it is not torn by a hang-up, nor by the agent; only by its time limit.
            For what must not be half done, such as a payment.
        defer_until_eot: not before the caller has surely finished speaking. For what cannot be
            undone: agents begin to answer on a guess, and take it back.
        filler: said to the caller when it takes longer than `filler_after` seconds.
        agents: the names of those that may call it; unset: all.
    """
    names = (agents,) if isinstance(agents, str) else agents
    chosen = Options(agents=None if names is None else tuple(names), **options)

    def mark(run: F) -> F:
        if not inspect.isfunction(run):
            raise config_error(
                f"@function: expected a plain or async function, got {shown(repr(run))};"
                " it goes beneath @staticmethod and the like"
            )
        setattr(run, _MARK, chosen)
        return run

    return mark if run is None else mark(run)


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """A function that agents may call, as registered."""

    run: Callable[..., Any]
    is_async: bool
    name: str
    description: str
    parameters: Parameters
    options: Options

    def may_be_called_by(self, agent: str) -> bool:
        return self.options.agents is None or agent in self.options.agents

    def definition(self) -> dict[str, Any]:
        """As Deepgram takes it. There is no `client_side`: it would end the session."""
        definition: dict[str, Any] = {"name": self.name}
        if self.description:
            definition["description"] = self.description
        definition["parameters"] = self.parameters.schema
        if self.options.defer_until_eot:
            definition["defer_until_eot"] = True
        return definition


class Functions:
    """The functions of a process, by name; they do not change.

    `given` are functions, marked or not, and specifications of them: "package.module" for all
    that are marked in it (imported ones too), "package.module:name" for one.

    Raises:
        ConfigError: one of them cannot be had, or not be told to a model.
    """

    def __init__(self, given: Iterable[Callable[..., Any] | str] = ()) -> None:
        self._by_name: dict[str, Function] = {}
        for each in given:
            for run in _load(each) if isinstance(each, str) else [each]:
                self._add(_read(run))

    def _add(self, new: Function) -> None:
        old = self._by_name.setdefault(new.name, new)
        if old.run != new.run:
            raise config_error(
                f"functions: two are named {new.name}: {_where(old.run)} and {_where(new.run)};"
                " give one of them another: @function(name=…)"
            )

    def __iter__(self) -> Iterator[Function]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, name: str, agent: str) -> Function | None:
        """The function, if there is one that this agent may call."""
        found = self._by_name.get(name)
        return found if found is not None and found.may_be_called_by(agent) else None

    def definitions(self, agent: str) -> list[dict[str, Any]]:
        """What that agent is told of the functions it may call."""
        return [each.definition() for each in self if each.may_be_called_by(agent)]


# --- reading one ----------------------------------------------------------------------------------


def _where(run: Callable[..., Any]) -> str:
    return f"{run.__module__}.{run.__qualname__}"


def _read(run: Callable[..., Any]) -> Function:
    if not (inspect.isfunction(run) or inspect.ismethod(run)):
        raise config_error(f"functions: expected a plain or async function, got {shown(repr(run))}")
    where = _where(run)
    if inspect.isgeneratorfunction(run) or inspect.isasyncgenfunction(run):
        raise config_error(f"{where}: expected a function with one result, not a generator")
    options: Options = getattr(run, _MARK, Options())
    name = run.__name__ if options.name is None else options.name
    if not _NAME.fullmatch(name):
        raise config_error(
            f"{where}: expected a name of 1 to 64 letters, digits, - and _, got {shown(name)}"
        )
    try:
        msgspec.convert(msgspec.structs.asdict(options), Options)
    except msgspec.ValidationError as exc:
        raise config_error(f"{where}: @function: {exc}") from None
    first = (inspect.getdoc(run) or "").partition("\n\n")[0]
    return Function(
        run=run,
        is_async=inspect.iscoroutinefunction(run),
        name=name,
        description=" ".join((options.description or first).split()),
        parameters=Parameters(run, where),
        options=options,
    )


# --- finding them ---------------------------------------------------------------------------------


def make_importable(directories: Iterable[Path]) -> None:
    """Modules in these can be imported from now on, as a script imports what lies beside it.

    For good: a function may import its neighbours when it is called.
    """
    for directory in directories:
        path = str(directory.resolve())
        if path not in sys.path:
            sys.path.insert(0, path)


def _load(spec: str) -> list[Callable[..., Any]]:
    module_name, _, name = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as exc:
        places = traceback.extract_tb(exc.__traceback__)
        # An option that @function does not have is found out in here.
        place = next((each for each in reversed(places) if each.filename != __file__), places[-1])
        at = "" if "importlib" in place.filename else f" ({place.filename}, line {place.lineno})"
        raise config_error(
            f"functions: {module_name} cannot be imported: {type(exc).__name__}: {exc}{at}"
        ) from exc
    if name:
        if not hasattr(module, name):
            raise config_error(f"functions: {module_name} holds no {name}")
        return [getattr(module, name)]
    routines: list[Any] = [each for each in vars(module).values() if inspect.isroutine(each)]
    marked = [each for each in routines if hasattr(each, _MARK)]
    if not marked:
        raise config_error(
            f"functions: {module_name} holds none: mark them with @function,"
            f" or name one: {module_name}:NAME"
        )
    return marked
