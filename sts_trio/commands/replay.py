"""`sts-trio replay`: a call again, from what was recorded of it. No server has to run."""

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sts_trio.commands.common import FILE, Command, Misuse, fail, save, say
from sts_trio.wire.printable import quoted

if TYPE_CHECKING:
    from sts_trio.flight.file import Flight
    from sts_trio.flight.replay import Replayed

_TEST = '''"""The call {call_sid} goes as it went when it was recorded: see `sts-trio replay`."""

from pathlib import Path

from sts_trio.testing import replay_flight


def test_the_call_goes_as_it_went() -> None:
    replay_flight(Path(__file__).with_name({name!r}))
'''


@click.command(cls=Command)
@click.argument("what", metavar="FILE|CALL_SID")
@click.option(
    "--until",
    metavar="SECONDS|N",
    help="No further: 12.5 or 12s are seconds since the call began, 17 is a step.",
)
@click.option("--diff", is_flag=True, help="Only the steps in which something else is done now.")
@click.option(
    "--test",
    type=click.Path(dir_okay=False),
    metavar="FILE.py",
    help="Write a pytest of it, with the flight beside it.",
)
@click.option("--config", "file", type=FILE, help="Instead of ./sts-trio.toml.")
def replay(what: str, until: str | None, diff: bool, test: str | None, file: str | None) -> None:
    """Do again what was done in a call, step by step, and compare.

    A flight is what the dialogue of a call heard, and when. It is kept of calls that ended by a
    fault (STS_FLIGHT). The exit status is 1 where something else is done now.
    """
    from sts_trio.flight.replay import replay as replay_flight
    from sts_trio.flight.shown import head, story

    if test is not None and (diff or until is not None):
        raise Misuse("--test: expected neither --diff nor --until: a test replays all of it")
    if test is not None and not test.endswith(".py"):
        raise Misuse(f"--test: expected a name like test_call.py, got {quoted(test)}")
    cut = _cut_at(until)
    path = _path(what, file)
    flight = _read(path)
    if test is not None:
        _write_test(Path(test), path, flight)
        return
    counted = _Counted(cut(replay_flight(flight)))
    for line in head(flight):
        _show(line)
    for line in _differences(counted) if diff else story(counted):
        _show(line)
    say("")
    if counted.first_difference is not None:
        fail(
            f"{counted.differences} of {counted.steps} steps differ, from step"
            f" {counted.first_difference.number} on, at {counted.first_difference.at:.3f} s"
        )
    say(f"{counted.steps} steps, all as they were.")


def _differences(steps: "Iterable[Replayed]") -> Iterator[str]:
    from sts_trio.flight.shown import difference

    for step in steps:
        if not step.is_same:
            yield from difference(step)


class _Counted:
    """Steps, counted while they are gone through."""

    def __init__(self, steps: "Iterable[Replayed]") -> None:
        self._steps = steps
        self.steps = self.differences = 0
        self.first_difference: Replayed | None = None

    def __iter__(self) -> "Iterator[Replayed]":
        for step in self._steps:
            self.steps += 1
            if not step.is_same:
                self.differences += 1
                self.first_difference = self.first_difference or step
            yield step


def _path(what: str, file: str | None) -> Path:
    if os.path.isfile(what):  # and no name that none can be
        return Path(what)
    from sts_trio import config
    from sts_trio.flight.keeper import flights_of

    root = config.from_environment(file).records.flights
    found = flights_of(root, what)
    if not found:
        fail(f"{what}: neither a file, nor a call of which a flight is kept in {root}")
    for other in found[:-1]:
        say(f"Of an earlier stream of that call: {other}", err=True)
    return found[-1]


def _read(path: Path) -> "Flight":
    from sts_trio.flight.file import BadFlight, unpack

    try:
        return unpack(path.read_bytes())
    except OSError as exc:
        fail(f"{path}: cannot be read: {exc.strerror}")
    except BadFlight as exc:
        fail(f"{path}: {exc}")


def _cut_at(until: str | None) -> "Callable[[Iterator[Replayed]], Iterator[Replayed]]":
    """What leaves out the steps behind that."""
    if until is None:
        return iter
    try:
        if until.isdigit():
            count = int(until)
            return lambda steps: itertools.islice(steps, count)
        last = float(until.removesuffix("s"))
    except ValueError:
        raise Misuse(
            f"--until: expected seconds like 12.5, or a step like 17, got {until!r}"
        ) from None
    return lambda steps: itertools.takewhile(lambda step: step.at <= last, steps)


def _write_test(target: Path, path: Path, flight: "Flight") -> None:
    beside = target.with_suffix(path.suffix)
    text = _TEST.format(call_sid=flight.call_sid, name=beside.name)
    save(lambda to: shutil.copyfile(path, to), beside)
    save(lambda to: to.write_text(text, encoding="utf-8"), target)
    say(f"{target}, with {beside.name} beside it. Whoever has them has what is in the flight.")


def _show(line: str) -> None:
    """No longer than a terminal is wide; a file gets all of it."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        line = line if len(line) <= width else f"{line[: width - 1]}…"
    say(line)
