"""Values that no option or argument takes: empty ones, as a shell gives them for a variable that is
not set, numbers that are none, and text that is none."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from rig_commands import NUMBER, failure

from sts_trio import cli
from sts_trio.commands.common import Command


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


ALL = dict(commands(cli.main))


def _required(path: tuple[str, ...]) -> list[str]:
    params = ALL[path].params
    return ["x"] * sum(isinstance(each, click.Argument) and each.required for each in params)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_no_command_takes_an_empty_value(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert isinstance(command, Command)
    texts = [
        each
        for each in command.params
        if isinstance(each, click.Option) and not each.is_flag and not each.is_eager
    ]
    for option in texts:
        told = failure(*path, *_required(path), f"{option.opts[-1]}=", code=2)
        assert f"'{option.opts[-1]}'" in told or f"{option.opts[-1]} ''" in told


OPTIONS = [
    (path, each)
    for path, command in ALL.items()
    for each in command.params
    if isinstance(each, click.Option) and not each.is_flag and not each.is_eager
]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_no_option_takes_a_number_that_is_none(value: str) -> None:
    numbers = [each for each in OPTIONS if isinstance(each[1].type, click.types.FloatParamType)]
    assert len(numbers) > 10
    for path, option in numbers:
        failure(*path, *_required(path), f"{option.opts[-1]}={value}", code=2)


def test_no_option_but_of_a_file_takes_bytes_that_are_no_text() -> None:
    texts = [
        each
        for each in OPTIONS
        if isinstance(each[1].type, click.types.StringParamType) and each[1].callback is None
    ]
    assert len(texts) > 20
    for path, option in texts:
        told = failure(*path, *_required(path), f"{option.opts[-1]}=a=\udcff", code=2)
        assert "expected text in UTF-8, got 'a=\\udcff'" in told
    told = failure("calls", "send-again", "\udcff", code=2)
    assert "expected text in UTF-8, got '\\udcff'" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("serve", "--print-deploy", "--take-over"), "--take-over: not with --print-deploy"),
        (
            ("serve", "--print-deploy", "--keep-alive", "9", "--keyfile", __file__),
            "--keep-alive, --keyfile: not with --print-deploy",
        ),
        (("load", "ws://127.0.0.1:1/", "--most", "9"), "--most: is for --find-capacity"),
        (
            ("load", "ws://127.0.0.1:1/", "--turn", "2", "--speech", "1.6"),
            "--speech 1.6: expected at most 1.5, three quarters of --turn",
        ),
        (("load", "ws://127.0.0.1:1/", "--turn", "2"), "--speech 2: expected at most 1.5"),
        (
            ("load", "ws://127.0.0.1:1/", "--agent", "bridge", "--turn", "9", "--barge-in", "0.5"),
            "--turn, --barge-in: not with --agent bridge",
        ),
        (
            ("load", "ws://127.0.0.1:1/", "--agent", "bridge", "--agent-port", "9002"),
            "--agent-port: not with --agent bridge",
        ),
        (
            ("load", "ws://127.0.0.1:1/", "--endings", "0:0:0"),
            "more than 0 among them, got '0:0:0'",
        ),
        (("call", "--barge-in-after", "1"), "--barge-in-after: expected what to say then"),
        (("call", "--parameter", "a=b", "--parameter", "a=c"), "name once, got 'a' again"),
        (("dial", NUMBER, "--message", "Hello"), "expected both, or neither"),
        (("dial", NUMBER, "--on-machine", "leave-message"), "expected both, or neither"),
        (("replay", "x", "--until", "soon"), "or a step like 17, got 'soon'"),
        (("replay", "x", "--test", "test.txt"), "like test_call.py, got 'test.txt'"),
        (("replay", "x", "--test", "test_x.py", "--diff"), "expected neither --diff nor --until"),
        (("replay", "x", "--test", "test_x.py", "--until", "3"), "expected neither --diff nor"),
        (("doctor", "--yes"), "--yes: is for --twilio"),
        (("doctor", "--to", NUMBER), "--to: is for --twilio"),
    ],
)
def test_what_has_no_meaning_together_is_told_before_anything_is_done(
    arguments: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STS_AGENT", "offline")
    assert told in failure(*arguments, code=2)


def test_a_database_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv("STS_DATABASE_URL", "postgresql://ann:secret@127.0.0.1:1/calls")
    told = failure("calls", "list", code=1)
    assert "STS_DATABASE_URL: postgresql+psycopg://ann:***@127.0.0.1:1/calls cannot" in told


def test_a_name_that_no_file_can_have_is_a_call_that_is_not_kept() -> None:
    assert "neither a file, nor a call" in failure("replay", "x" * 300, code=1)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command in ("call", "demo"):
        told = failure(command, "--out", str(tmp_path / "file"), code=2)
        assert "file" in told
        assert "exists" not in told.lower()


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
