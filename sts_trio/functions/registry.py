"""The registry of the functions that agents may call: found, read and checked at start-up.

A function is a plain or async Python function. What a model is told of it is read from it: name,
docstring, annotations. `runner.py` runs them.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from sts_trio.config.raw import config_error
from sts_trio.functions import confirmation
from sts_trio.functions.decorator import MARK, Options
from sts_trio.functions.modules import import_module
from sts_trio.functions.schema import Parameters
from sts_trio.wire.printable import quoted

# OpenAI's rule, the narrowest of the providers'.
_NAME = re.compile("[a-zA-Z0-9_-]{1,64}")


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """A function that agents may call, as registered."""

    run: Callable[..., Any]
    is_async: bool
    name: str
    description: str
    parameters: Parameters
    options: Options
    described_in_vain: tuple[str, ...]  # by the docstring, as parameters that there are not

    def may_be_called_by(self, agent: str) -> bool:
        return self.options.agents is None or agent in self.options.agents

    def definition(self) -> dict[str, Any]:
        """As Deepgram takes it. There is no `client_side`: it would end the session."""
        definition: dict[str, Any] = {"name": self.name}
        rule = confirmation.RULE if self.options.confirm is not None else ""
        if description := f"{self.description}\n\n{rule}".strip():
            definition["description"] = description
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
            for run in load(each, "functions") if isinstance(each, str) else [each]:
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
        raise config_error(
            f"functions: expected a plain or async function, got {quoted(repr(run))}"
        )
    where = _where(run)
    if inspect.isgeneratorfunction(run) or inspect.isasyncgenfunction(run):
        raise config_error(f"{where}: expected a function with one result, not a generator")
    options: Options = getattr(run, MARK, Options())
    name = run.__name__ if options.name is None else options.name
    if not _NAME.fullmatch(name):
        raise config_error(
            f"{where}: expected a name of 1 to 64 letters, digits, - and _, got {quoted(name)}"
        )
    try:
        msgspec.convert(msgspec.structs.asdict(options), Options)
    except msgspec.ValidationError as exc:
        raise config_error(f"{where}: @function: {exc}") from None
    # A tenth of all that a server imports, and only needed by those whose agents have functions.
    from sts_trio.functions import docstring

    told = docstring.read(inspect.getdoc(run) or "", inspect.signature(run).parameters)
    parameters = Parameters(run, where, told.parameters)
    if options.confirm is not None:
        confirmation.check(options.confirm, parameters.names, where)
    return Function(
        run=run,
        is_async=inspect.iscoroutinefunction(run),
        name=name,
        description=inspect.cleandoc(options.description or told.description),
        parameters=parameters,
        options=options,
        described_in_vain=told.unknown,
    )


# What a module may have beside functions, or instead: called when a call has ended.
HOOK = "on_call_ended"

# --- finding them ---------------------------------------------------------------------------------


def load(spec: str, where: str) -> list[Callable[..., Any]]:
    """What `spec` names; `where` is what to name in a mistake.

    Raises:
        ConfigError: there is no such module or function.
    """
    module_name, _, name = spec.partition(":")
    module = import_module(module_name, where)
    marked: dict[str, Any] = {
        name: each
        for name, each in vars(module).items()
        if inspect.isroutine(each) and hasattr(each, MARK)
    }
    if name:
        if not hasattr(module, name):
            others = f"; its functions are {', '.join(marked)}" if marked else ""
            raise config_error(f"{where}: {module_name} holds no {name}{others}")
        return [getattr(module, name)]
    if not marked and not hasattr(module, HOOK):
        raise config_error(
            f"{where}: {module_name} holds none: mark them with @function,"
            f" or name one: {module_name}:NAME"
        )
    return list(marked.values())
