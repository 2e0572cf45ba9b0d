"""How calls are to be led: what an operator may write, and the clips for when there is no agent."""

from math import inf
from pathlib import Path

import pytest

from sts_trio.audio import wav
from sts_trio.audio.clips import clip, whole_frames
from sts_trio.config import load
from sts_trio.errors import ConfigError
from sts_trio.logic.policy import CallPolicy

NOWHERE = Path("/nonexistent")  # a directory without a file


def policy(directory: Path = NOWHERE, words: str = "", **environ: str) -> CallPolicy:
    if words:
        (directory / "sts-trio.toml").write_text(f"[words]\n{words}\n")
    return load(environ, directory).policy


def complaint(directory: Path, words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        policy(directory, words)
    return str(caught.value).removeprefix(f"{directory / 'sts-trio.toml'}: ")


def test_by_default_calls_go_on_and_come_to_an_end() -> None:
    assert policy() == CallPolicy(
        reconnects=True,
        resumes=True,
        one_moment=clip("one-moment"),
        apology=clip("apology"),
        answer_within=5.0,
        ask_after=30.0,
        hang_up_after=30.0,
        longest=7200.0,
    )


def test_each_may_be_turned_off() -> None:
    off = policy(
        STS_RECONNECT="0",
        STS_ANSWER_WITHIN_SECONDS="0",
        STS_ASK_AFTER_SECONDS="0",
        STS_HANG_UP_AFTER_SECONDS="0",
        STS_LONGEST_CALL_SECONDS="0",
    )
    assert not off.reconnects
    assert off.answer_within == inf
    assert (off.ask_after, off.hang_up_after, off.longest) == (inf, inf, inf)


def test_times_are_seconds() -> None:
    some = policy(STS_ASK_AFTER_SECONDS="5", STS_HANG_UP_AFTER_SECONDS="7.5")
    assert (some.ask_after, some.hang_up_after) == (5, 7.5)


def test_the_words_are_the_operators(tmp_path: Path) -> None:
    words = """asks = "Sind Sie noch da?"
farewell = "Auf Wiederh\u00f6ren."
warning = "Noch eine Minute."
time_is_up = "Die Zeit ist um."
"""
    some = policy(tmp_path, words)
    assert (some.asks, some.farewell) == ("Sind Sie noch da?", "Auf Wiederh\u00f6ren.")
    assert (some.warning, some.time_is_up) == ("Noch eine Minute.", "Die Zeit ist um.")


def test_clips_are_read_from_files_and_made_of_whole_frames(tmp_path: Path) -> None:
    wav.write(tmp_path / "sorry.wav", b"\x01" * 200)
    some = policy(tmp_path, f"apology = '{tmp_path}/sorry.wav'\none_moment = ''")
    assert some.one_moment == b""
    assert len(some.apology) == 320
    assert some.apology[200:] == b"\xff" * 120


@pytest.mark.parametrize("key", ["apology", "one_moment"])
def test_a_clip_that_is_not_there_is_a_mistake(key: str, tmp_path: Path) -> None:
    said = complaint(tmp_path, f"{key} = '{tmp_path}/nowhere.wav'")
    assert said == f"words.{key}: {tmp_path}/nowhere.wav: no such file"


def test_a_clip_is_looked_for_beside_the_file_that_names_it(tmp_path: Path) -> None:
    wav.write(tmp_path / "sorry.wav", bytes(160))
    assert len(policy(tmp_path, "apology = 'sorry.wav'").apology) == 160


def test_a_clip_may_last_half_a_minute(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    wav.write(path, bytes(30 * 8000))
    assert len(policy(tmp_path, f"apology = '{path}'").apology) == 30 * 8000
    wav.write(path, bytes(31 * 8000))
    assert complaint(tmp_path, f"apology = '{path}'") == (
        f"words.apology: expected up to 30 s of audio, {path} has 31.0"
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("asks = 7", "words.asks: expected `str`, got `int`"),
        ("functions = ['mine']", "words.functions: write functions above the first [table]"),
        ("apology = 7", "words.apology: expected `str | null`, got `int`"),
    ],
)
def test_what_is_no_word_of_ours_is_a_mistake(words: str, reason: str, tmp_path: Path) -> None:
    assert complaint(tmp_path, words) == reason


@pytest.mark.parametrize("name", ["one-moment", "apology"])
def test_our_own_clips_are_short_speech_in_whole_frames(name: str) -> None:
    audio = clip(name)
    assert len(audio) % 160 == 0
    assert 0.5 < len(audio) / 8000 < 10
    assert len(set(audio)) > 50


@pytest.mark.parametrize(("length", "whole"), [(0, 0), (1, 160), (160, 160), (161, 320)])
def test_the_last_frame_of_a_clip_is_padded(length: int, whole: int) -> None:
    assert whole_frames(b"\x01" * length) == (b"\x01" * length).ljust(whole, b"\xff")


def test_an_unknown_word_is_told_with_the_known_ones(tmp_path: Path) -> None:
    told = complaint(tmp_path, "goodbye = 'Bye.'")
    assert told.startswith("words.goodbye: unknown key; known are asks, say_again, ")
    assert told.endswith(", one_moment, apology")
