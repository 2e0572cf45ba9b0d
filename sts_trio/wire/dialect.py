"""Which of Deepgram's two dialects a call speaks.

Each dialect is a module; both take and give the messages of `deepgram.py`. The agent leg is handed
one `Language` and never asks which it is.
"""

import enum
from typing import Protocol

from sts_trio.wire import deepgram, legacy
from sts_trio.wire.deepgram import Audio, FromAgent, TextFromAgent, ToAgent


class Dialect(enum.Enum):
    V1 = "v1"
    LEGACY = "legacy"


class Language(Protocol):
    """The four functions of a dialect: ours to use, and the other side of the same wire."""

    def decode(self, data: str | bytes) -> FromAgent:
        """Total: never raises, whatever the bytes."""
        ...

    def encode(self, message: ToAgent) -> str | bytes:
        """Raises `legacy.Untranslatable` where the dialect has no words for `message`."""
        ...

    def decode_as_agent(self, data: str | bytes) -> ToAgent:
        """Raises `msgspec.MsgspecError` where Deepgram would refuse the frame."""
        ...

    def encode_as_agent(self, message: TextFromAgent | Audio) -> str | bytes:
        """Raises `legacy.Untranslatable` like `encode`."""
        ...


def language(dialect: Dialect) -> Language:
    return legacy if dialect is Dialect.LEGACY else deepgram


def can_say(dialect: Dialect, message: ToAgent) -> bool:
    """Whether the dialect has words for `message`."""
    try:
        language(dialect).encode(message)
    except legacy.Untranslatable:
        return False
    return True
