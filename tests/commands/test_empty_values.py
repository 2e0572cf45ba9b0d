"""An option or argument that is empty, as a shell gives it for a variable that is not set."""

from collections.abc import Iterator

import click
import pytest
from rig_commands import failure

from sts_trio import cli
from sts_trio.commands.common import Command


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


ALL = dict(commands(cli.main))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_no_command_takes_an_empty_value(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert isinstance(command, Command)
    texts = [
        each
        for each in command.params
        if isinstance(each, click.Option) and not each.is_flag and not each.is_eager
    ]
    arguments = ["x"] * sum(
        isinstance(each, click.Argument) and each.required for each in command.params
    )
    for option in texts:
        told = failure(*path, *arguments, f"{option.opts[-1]}=", code=2)
        assert f"'{option.opts[-1]}'" in told or f"{option.opts[-1]} ''" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ("calls", "show", ""),
        ("calls", "forget", "", "--yes"),
        ("replay", ""),
        ("call", "one.wav", ""),
        ("load", ""),
        ("dial", ""),
    ],
)
def test_no_argument_is_empty(arguments: tuple[str, ...]) -> None:
    assert "expected a value, got ''" in failure(*arguments, code=2)


def test_an_empty_host_does_not_open_a_server_to_all_the_world() -> None:
    for command in ("serve", "agent", "doctor"):
        told = failure(command, "--host", "", code=2)
        assert "Invalid value for '--host': expected a value, got ''" in told
