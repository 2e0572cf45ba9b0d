"""Sentences that are being rendered, to be said in their order whichever is ready first. Pure."""

import collections
import re

import msgspec

from sts_trio.audio.frames import SILENCE, length
from sts_trio.offline.speech.pacing import Said, pieces
from sts_trio.wire.deepgram import AgentAudioDone, TextFromAgent

PAUSE = SILENCE * length(0.25)  # between sentences


def sentences(text: str) -> list[str]:
    """What can be spoken on its own: the first is heard while the others are being rendered."""
    return [each.strip() for each in re.split(r"(?<=[.!?])\s+|\n", text) if each.strip()]


class _Line(msgspec.Struct):
    ticket: int
    messages: list[TextFromAgent]  # that go before its audio
    is_last: bool  # of its utterance
    audio: bytes | None = None


class Recital:
    def __init__(self) -> None:
        self._lines: collections.deque[_Line] = collections.deque()
        self._begun = False

    @property
    def is_on(self) -> bool:
        """Whether something is still to come."""
        return bool(self._lines)

    def add(self, ticket: int, messages: list[TextFromAgent], *, is_last: bool) -> None:
        """The line behind the others: its messages, and the audio to be delivered."""
        self._lines.append(_Line(ticket, messages, is_last))

    def __contains__(self, ticket: int) -> bool:
        """Whether somebody still waits for this line."""
        return any(line.ticket == ticket for line in self._lines)

    def deliver(self, ticket: int, audio: bytes) -> list[Said]:
        """A line is rendered: all that can be said by now."""
        for line in self._lines:
            if line.ticket == ticket:
                line.audio = audio
        said: list[Said] = []
        while self._lines and self._lines[0].audio is not None:
            line = self._lines.popleft()
            said += [*line.messages, *pieces(line.audio or b"")]
            self._begun = not line.is_last
            said += [AgentAudioDone()] if line.is_last else pieces(PAUSE)
        return said

    def drop(self) -> bool:
        """Forgets all of it; whether an utterance was cut short by that."""
        cut, self._begun = self._begun, False
        self._lines.clear()
        return cut
