"""What the dialogue decides by content: whether a sound is a voice, and whether words are the same.

All else it decides by kind, number, length and time. So a replay that has neither the sound nor the
words of a call gives the answers that were given in it, and decides as the call did. Pure.
"""

from sts_trio.audio.g711 import is_audible
from sts_trio.logic.spelling import is_retold


class Perception:
    __slots__ = ()

    def is_audible(self, audio: bytes) -> bool:
        """Whether somebody may be speaking in it."""
        return is_audible(audio)

    def is_retold(self, text: str, whole: str | None) -> bool:
        """Whether a text may be a sentence of what was to be said; `None`: of whatever."""
        return is_retold(text, whole)

    def is_same(self, text: str, other: str | None) -> bool:
        """Whether the caller has said the same again."""
        return text == other


PERCEPTION = Perception()
