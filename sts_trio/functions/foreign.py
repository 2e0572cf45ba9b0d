"""asyncio in a function of the user's: seen before a call where it can be, told plainly in one.

An `async def` runs on Trio, so what needs asyncio's event loop fails in it, in words that name
neither: "no running event loop", or "'NoneType' object has no attribute 'create_future'". Pure.
"""

import asyncio
import dis
import inspect
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

REMEDY = (
    "make it a plain def that calls asyncio.run(…), or take a library that runs on Trio, such as"
    " httpx"
)
_HINT = {
    True: f"an async function runs on Trio, and this needs asyncio: {REMEDY}",
    False: "a plain function runs in a thread without an event loop: start one by asyncio.run(…)",
}

# Libraries that wait by asyncio's event loop alone, as their modules are named.
_LIBRARIES = (
    *("asyncio", "uvloop", "aiohttp", "aiofiles", "aioboto3", "aiobotocore", "asyncssh", "nats"),
    *("asyncpg", "aiopg", "aiomysql", "asyncmy", "aiosqlite", "aioredis", "redis.asyncio", "motor"),
    *("sqlalchemy.ext.asyncio", "databases", "tortoise", "beanie", "grpc.aio", "telegram"),
)
# Of asyncio, what needs no loop.
_HARMLESS = {"CancelledError", "TimeoutError", "InvalidStateError", "iscoroutinefunction"}
# What asyncio and aiohttp say where none runs.
_NO_LOOP = ("no running event loop", "no current event loop", "used inside a task")
_OWN = str(Path(asyncio.__file__).parent)


def foreign_to(run: Callable[..., Any]) -> str | None:
    """What of asyncio, or of a library that needs it, an async function uses, as far as its code
    and that of the async functions beside it show. None if it is not async."""
    if not inspect.iscoroutinefunction(run):
        return None
    return next(_uses(inspect.unwrap(run), set()), None)


def hint(error: BaseException, is_async: bool) -> str | None:
    """What to do about it, if a function failed as there is no event loop of asyncio's."""
    seen: BaseException | None = error
    while seen is not None:
        if _lacks_loop(seen, is_async):
            return _HINT[is_async]
        seen = seen.__cause__ or seen.__context__
    return None


def _lacks_loop(error: BaseException, is_async: bool) -> bool:
    text = str(error)
    match error:
        case TypeError():
            # Trio's words for a future of asyncio's that was awaited.
            return "unrecognized yield message" in text
        case RuntimeError() if any(each in text for each in _NO_LOOP):
            return True
        case AttributeError() | RuntimeError():
            # asyncio's locks and queues ask for no loop, and then use the one that they have not.
            return is_async and _raised_in(error).startswith(_OWN)
    return False


def _raised_in(error: BaseException) -> str:
    """The file of the innermost frame."""
    trace, file = error.__traceback__, ""
    while trace is not None:
        file, trace = trace.tb_frame.f_code.co_filename, trace.tb_next
    return file


# --- reading code ---------------------------------------------------------------------------------


def _uses(run: Any, seen: set[Any]) -> Iterator[str]:
    if run in seen:
        return
    seen.add(run)
    outside = {**run.__globals__, **inspect.getclosurevars(run).nonlocals}
    for code in _codes(run.__code__):
        yield from _imported(code)
        for name, attribute in _names(code):
            value = outside.get(name)
            if isinstance(value, types.ModuleType):
                if attribute not in _HARMLESS:
                    yield from _library(f"{value.__name__}.{attribute}")
            elif value is not None and name not in _HARMLESS:
                kind = value if inspect.isroutine(value) or inspect.isclass(value) else type(value)
                yield from _library(str(getattr(kind, "__module__", "")))
                if inspect.iscoroutinefunction(value) and value.__module__ == run.__module__:
                    yield from _uses(inspect.unwrap(value), seen)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's, and those of what is defined in it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _codes(each)


def _imported(code: types.CodeType) -> Iterator[str]:
    for each in dis.get_instructions(code):
        if each.opname == "IMPORT_NAME":
            yield from _library(each.argval)


def _names(code: types.CodeType) -> Iterator[tuple[str, str]]:
    """Each name from outside, and the attribute that is taken of it, if one is."""
    instructions = list(dis.get_instructions(code))
    for each, then in zip(instructions, [*instructions[1:], None], strict=True):
        if each.opname in ("LOAD_GLOBAL", "LOAD_DEREF"):
            takes = then is not None and then.opname in ("LOAD_ATTR", "LOAD_METHOD")
            yield each.argval, then.argval if then is not None and takes else ""


def _library(module: str) -> Iterator[str]:
    for each in _LIBRARIES:
        if f"{module}.".startswith(f"{each}."):
            yield each
