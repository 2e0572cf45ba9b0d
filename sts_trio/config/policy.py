"""How calls are to be led, as the operator wrote it: times, and the words for what has no agent."""

from math import inf

import msgspec

from sts_trio.audio import wav
from sts_trio.audio.clips import clip, whole_frames
from sts_trio.audio.frames import BYTES_PER_SECOND
from sts_trio.config.raw import RawConfig, config_error
from sts_trio.logic.policy import CallPolicy

# Two seconds of silence are a pause, five are a dead line to most callers.
ANSWER_WITHIN = 5.0
# Who says nothing for so long is gone, or has laid the phone down.
ASK_AFTER = 30.0
LEAVE_AFTER = 30.0
# As long as Deepgram lets an agent's session be.
LONGEST_CALL = 7200.0
# A caller is to be told something, not to be entertained; Twilio's buffer is not endless either.
MAX_CLIP = 30.0


class _Words(msgspec.Struct, frozen=True):
    """The table `[words]`: sentences for the agent to say, and WAV files for when it cannot.

    "" for a file: nothing is to be heard.
    """

    asks: str = CallPolicy().asks
    say_again: str = CallPolicy().say_again
    not_transferred: str = CallPolicy().not_transferred
    farewell: str = CallPolicy().farewell
    warning: str = CallPolicy().warning
    time_is_up: str = CallPolicy().time_is_up
    one_moment: str | None = None
    apology: str | None = None


def read_policy(given: RawConfig) -> CallPolicy:
    """Raises `ConfigError`: something in it is wrong."""
    words = given.read_table("words", _Words)
    return CallPolicy(
        reconnects=given("STS_RECONNECT", True),
        resumes=True,
        one_moment=_clip(given, "one_moment", words.one_moment, "one-moment"),
        apology=_clip(given, "apology", words.apology, "apology"),
        answer_within=given("STS_ANSWER_WITHIN_SECONDS", ANSWER_WITHIN) or inf,
        ask_after=given("STS_ASK_AFTER_SECONDS", ASK_AFTER) or inf,
        hang_up_after=given("STS_HANG_UP_AFTER_SECONDS", LEAVE_AFTER) or inf,
        longest=given("STS_LONGEST_CALL_SECONDS", LONGEST_CALL) or inf,
        asks=words.asks,
        say_again=words.say_again,
        not_transferred=words.not_transferred,
        farewell=words.farewell,
        warning=words.warning,
        time_is_up=words.time_is_up,
    )


def _clip(given: RawConfig, key: str, path: str | None, ours: str) -> bytes:
    if path is None:
        return clip(ours)
    if not path:
        return b""
    where = given.in_file("words", key)
    try:
        audio = wav.read(given.beside_file(path))
    except wav.NotAWav as exc:
        raise config_error(f"{where}: {exc}") from None
    if len(audio) > MAX_CLIP * BYTES_PER_SECOND:
        seconds = len(audio) / BYTES_PER_SECOND
        raise config_error(
            f"{where}: expected up to {MAX_CLIP:g} s of audio, {path} has {seconds:.1f}"
        )
    return whole_frames(audio)
