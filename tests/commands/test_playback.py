"""A past call told in its own time."""

import os
import stat
from pathlib import Path

import pytest
import trio
from limits import HANG
from trio.testing import MockClock

from sts_trio.commands import playback
from sts_trio.commands.playback import Sound

LINES = [(0.5, "agent   Hello!"), (3.0, "caller  Goodbye."), (3.0, "agent   Goodbye!")]


def a_player(directory: Path, *lines: str, name: str = "paplay") -> str:
    path = directory / name
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


class Teller:
    def __init__(self) -> None:
        self.began = trio.current_time()
        self.told: list[tuple[float, str]] = []

    def __call__(self, line: str) -> None:
        self.told.append((round(trio.current_time() - self.began, 3), line))


async def test_each_line_is_told_when_it_was_said(autojump_clock: MockClock) -> None:
    teller = Teller()
    await playback.play(LINES, teller)
    assert teller.told == LINES


async def test_at_twice_the_speed_it_takes_half_the_time(autojump_clock: MockClock) -> None:
    teller = Teller()
    await playback.play(LINES, teller, speed=2.0)
    assert teller.told == [(at / 2, words) for at, words in LINES]


async def test_a_recording_is_played_beside_the_words(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    teller = Teller()
    player = a_player(tmp_path, 'echo "$@" >"$1.played"')
    sound = Sound(0.2, tmp_path / "a.wav")
    await playback.play(LINES, teller, sounds=[sound], player=[player])
    assert teller.told == LINES
    assert (tmp_path / "a.wav.played").read_text() == f"{sound.file}\n"


async def test_words_wait_for_a_recording_that_begins_before_the_answer(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    teller = Teller()
    sound = Sound(-1.5, tmp_path / "a.wav")
    await playback.play(LINES, teller, sounds=[sound], player=[a_player(tmp_path, "exit 0")])
    assert teller.told == [(at + 1.5, words) for at, words in LINES]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (("echo first >&2", "echo 'no sound server' >&2", "exit 1"), "no sound server"),
        (("exit 3",), "exit status 3"),
    ],
)
async def test_a_player_that_fails_is_told_of_and_the_words_go_on(
    script: tuple[str, ...], reason: str, autojump_clock: MockClock, tmp_path: Path
) -> None:
    teller = Teller()
    player = a_player(tmp_path, *script)
    await playback.play(LINES, teller, sounds=[Sound(0.0, Path("a.wav"))], player=[player])
    told = [words for _, words in teller.told]
    assert f"{player} could not play a.wav: {reason}" in told
    assert [words for words in told if "could not" not in words] == [words for _, words in LINES]


async def test_a_player_is_stopped_when_nobody_listens_any_more(tmp_path: Path) -> None:
    """In real time: a process has no other. A pipe is at its end once nobody can write to it."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    player = a_player(tmp_path, f'exec sleep 600 >"{pipe}"')
    sound = Sound(0.0, Path("a.wav"))
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: playback.play([], print, sounds=[sound], player=[player]))
            opened = await trio.open_file(pipe, "rb")
            nursery.cancel_scope.cancel()
        async with opened:
            assert await opened.read() == b""


def test_the_first_player_that_is_there_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert playback.find_player() is None
    a_player(tmp_path, name="ffplay")
    assert playback.find_player() == ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error")
    a_player(tmp_path, name="aplay")
    assert playback.find_player() == ("aplay", "-q")
