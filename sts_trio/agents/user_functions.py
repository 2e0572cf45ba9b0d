"""Functions of the user's that are asked about calls and dials: found and checked at start-up."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sts_trio.errors import ConfigError
from sts_trio.functions.modules import import_module, make_importable
from sts_trio.wire.printable import quoted


def load(path: str, where: str) -> Any:
    """The function at `path`, "module:function"; `where` is what to name in a mistake.

    Modules are looked for in the working directory too: a command's own is where it is installed.

    Raises:
        ConfigError: there is no such function.
    """
    module_name, _, name = path.partition(":")
    make_importable([Path()])
    module = import_module(module_name, where)
    function = getattr(module, name, None)
    if function is None:
        raise ConfigError(f"{where}: there is no {name} in {module_name} ({module.__file__})")
    return function


def check(
    function: Callable[..., Any], where: str, expected: str, argument: object, meaning: str
) -> None:
    """
    Raises:
        ConfigError: it is not an async function that can be called with that one argument.
    """
    call = getattr(function, "__call__", None)  # noqa: B004 (an object may be async to call)
    if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(call):
        raise ConfigError(
            f"{where}: expected an async function, {expected}, got {quoted(repr(function))}"
        )
    try:
        inspect.signature(function).bind(argument)
    except TypeError as exc:
        raise ConfigError(
            f"{where}: expected a function of one argument, {meaning}: {exc}"
        ) from exc
