"""A past call on the terminal, in its own time: its words, and its recording."""

import math
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import trio

# What plays a WAV with µ-law where a desktop or a Mac has its sound. Each ends with the file.
_PLAYERS = (
    ("paplay",),
    ("aplay", "-q"),
    ("afplay",),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"),
    ("play", "-q"),
)


class Sound(msgspec.Struct, frozen=True):
    """A recording. `at` is when it begins, in seconds of the call: below zero before its answer."""

    at: float
    file: Path


def find_player() -> tuple[str, ...] | None:
    """The command that plays a file on this machine."""
    return next((player for player in _PLAYERS if shutil.which(player[0])), None)


async def play(
    lines: Sequence[tuple[float, str]],
    say: Callable[[str], None],
    *,
    speed: float = 1.0,
    sounds: Sequence[Sound] = (),
    player: Sequence[str] = (),
) -> None:
    """Says each line when it was said, at that speed, and has `player` play the sounds meanwhile.

    Ends with the last of both. Cancelled, the player is stopped. A player that fails is told of,
    and the words go on.
    """
    first = min((sound.at for sound in sounds), default=math.inf)
    began = trio.current_time() - min(0.0, first) / speed

    async def sound_out(sound: Sound) -> None:
        await trio.sleep_until(began + sound.at / speed)
        done = await trio.run_process(
            [*player, str(sound.file)], check=False, stdin=subprocess.DEVNULL, capture_stderr=True
        )
        if done.returncode:
            told = done.stderr.decode(errors="replace").strip().splitlines()
            reason = told[-1] if told else f"exit status {done.returncode}"
            say(f"{player[0]} could not play {sound.file}: {reason}")

    async with trio.open_nursery() as nursery:
        for sound in sounds:
            nursery.start_soon(sound_out, sound)
        for at, words in lines:
            await trio.sleep_until(began + at / speed)
            say(words)
