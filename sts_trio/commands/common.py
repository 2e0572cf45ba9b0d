"""How a command runs, and how it ends: one line on stderr for whatever an operator can cause."""

import contextlib
import math
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeVar

import click

from sts_trio.errors import ConfigError, StsTrioError, first_of
from sts_trio.net.signals import Terminated, deadly_signals, die_of, terminating
from sts_trio.wire.printable import encodable, printable, quoted

T = TypeVar("T")
FILE = click.Path(exists=True, dir_okay=False)

INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it


def own_server(form: str) -> Callable[[], str]:
    """The default of an option: `form` with the host and port of a server on this machine."""

    def url() -> str:
        from sts_trio.config import own_port

        return form.format(f"127.0.0.1:{own_port()}")

    return url


class Failure(click.ClickException):
    """Told in one line, whoever's words are in it."""

    def format_message(self) -> str:
        return _fit(self.message, sys.stderr)


class Misuse(Failure):
    """Told like any other failure, with the status for what was asked for wrongly."""

    exit_code = 2


class Command(click.Command):
    """Takes no value that is never what was meant, whatever the option.

    A shell gives an empty one for a variable that is not set: `--host ""` is every address of the
    machine, `--out ""` is here. "nan" and "inf" are in every range that click knows. And bytes that
    are no text are none to whoever is told of them, unless they name a file.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        left = super().parse_args(ctx, args)
        for param in self.params:
            given = ctx.params.get(param.name or "")
            for value in given if isinstance(given, tuple) else (given,):
                if (expected := _expected(value, param.type)) is not None:
                    told = f"expected {expected}, got {quoted(value)}"
                    raise click.BadParameter(told, ctx, param)
        return left


def _expected(value: Any, type: Any) -> str | None:
    """What was to be in its place; None: it will do."""
    if isinstance(value, float):
        return None if math.isfinite(value) else "a number"
    if not isinstance(value, str):
        return None
    if not value:
        return "a value"
    is_text = isinstance(type, click.Path) or value == value.encode(errors="replace").decode()
    return None if is_text else "text in UTF-8"


class Group(click.Group):
    """Commands in which every error that is not a bug reaches the operator as one line.

    Whatever tells the process to end, what a command has open is closed first. Then it dies of the
    signal, as whoever sent it expects.
    """

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with terminating():
                return super().invoke(ctx)
        except ConfigError as exc:
            raise Misuse(str(exc)) from exc
        except StsTrioError as exc:
            raise Failure(str(exc)) from exc
        except Terminated as exc:
            for each in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):  # the terminal may be gone
                    each.flush()
            die_of(exc.signum)
            raise
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None


def run(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Runs it in Trio. An error of ours, or what interrupts it, comes out of the groups it was in.

    Raises:
        KeyboardInterrupt, Terminated: it was cancelled, and has ended.
    """
    import trio

    cause: BaseException
    try:
        return trio.run(_unless_told, deadly_signals(), function, *args)
    except* (StsTrioError, KeyboardInterrupt) as group:
        cause = first_of(group)
    raise cause


async def _unless_told(
    deadly: Sequence[int], function: Callable[..., Awaitable[T]], *args: Any
) -> T:
    import trio

    if not deadly:
        return await function(*args)
    # Until the very end: there may be a second signal while it is being cancelled.
    with trio.open_signal_receiver(*deadly) as signals:
        async with trio.open_nursery() as nursery:

            async def end_when_told() -> None:
                raise Terminated(await anext(signals))

            nursery.start_soon(end_when_told)
            result = await function(*args)
            nursery.cancel_scope.cancel()
    return result


def say(text: str, *, err: bool = False) -> None:
    """A line on the terminal, whoever's words are in it."""
    click.echo(_fit(text, sys.stderr if err else sys.stdout), err=err)


def _fit(text: str, file: TextIO) -> str:
    shown: str = printable(text)
    return encodable(shown, getattr(file, "encoding", None) or "utf-8")


def fail(reason: str, status: int = 1) -> NoReturn:
    Failure(reason).show()
    raise SystemExit(status)


def pairs(option: str, given: Iterable[str]) -> dict[str, str]:
    """NAME=VALUE, as an option takes it."""
    found = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise Misuse(f"{option} {each!r}: expected NAME=VALUE")
        if name in found:
            raise Misuse(f"{option} {each!r}: expected each name once, got {quoted(name)} again")
        found[name] = value
    return found


def make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise Misuse(f"{path}: expected a directory, got a file") from None
    except OSError as exc:
        raise Misuse(f"{path}: cannot be made: {exc.strerror}") from exc


def check_writable(path: Path) -> None:
    """Before something is done that is to be written down there."""
    is_new = not path.exists()
    try:
        with path.open("ab"):
            pass
        if is_new:
            path.unlink()
    except OSError as exc:
        raise Misuse(f"{path}: cannot be written: {exc.strerror}") from exc


def save(write: Callable[..., None], target: Path, *what: Any) -> None:
    """Calls `write` with the target and what is to be written."""
    try:
        write(target, *what)
    except OSError as exc:
        fail(f"{target}: cannot be written: {exc.strerror}")
