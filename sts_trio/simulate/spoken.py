"""Any text as something a caller says."""

import functools
from typing import TYPE_CHECKING

from sts_trio.errors import StsTrioError
from sts_trio.offline import mode
from sts_trio.offline.speech import voice
from sts_trio.simulate.script import Speak

if TYPE_CHECKING:
    from sts_trio.offline.speech.espeak import Speech

PITCH = 195.0  # of the base install's voice; the agent's is another
# The offline agent's ears hear nearly every word of this one, and of espeak-ng's usual voice a
# fifth wrong.
VOICE, WORDS_PER_MINUTE = "en-us+adam", 140


class Speechless(StsTrioError):
    """There is no voice to be had."""


def without_words() -> str | None:
    """Why the voice only sounds like somebody talking, if it does, and what to do about it."""
    reason = mode.missing()
    return reason and f"the voice of the base install says no words ({reason})"


def spoken(text: str) -> Speak:
    """The step of saying it: in words, where what that takes is installed.

    Raises:
        Speechless: it is installed and does not work.
    """
    return Speak(_say(text), text)


@functools.lru_cache(maxsize=64)
def _say(text: str) -> bytes:
    if without_words() is not None:
        return voice.say(text, PITCH)
    try:
        return _speech().say(text)
    except (OSError, RuntimeError) as exc:
        raise Speechless(f"the voice does not work: {exc}") from exc


@functools.cache
def _speech() -> "Speech":
    from sts_trio.offline.speech.espeak import Speech

    return Speech(VOICE, WORDS_PER_MINUTE)
