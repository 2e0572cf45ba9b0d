"""What was sent to a phone, in order, and has no place in the recording yet. Pure."""

import collections
from collections.abc import Iterable


class Audio:
    __slots__ = ("audio", "sent_at")

    def __init__(self, audio: bytes, sent_at: int) -> None:
        self.audio = audio
        self.sent_at = sent_at


class Mark:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Clear:
    __slots__ = ("sent_at",)

    def __init__(self, sent_at: int) -> None:
        self.sent_at = sent_at


Sent = Audio | Mark | Clear


class Unplaced:
    __slots__ = ("_clears", "_marks", "_sent")

    def __init__(self) -> None:
        self._sent: collections.deque[Sent] = collections.deque()
        self._marks: dict[str, bool] = {}  # {name: whether it stands behind a `clear`}, of those
        self._clears = 0  # of those

    def say(self, audio: bytes, at: int) -> None:
        self._sent.append(Audio(audio, at))

    def mark(self, name: str) -> None:
        self._marks[name] = bool(self._sent) and isinstance(self._sent[-1], Clear)
        self._sent.append(Mark(name))

    def clear(self, at: int) -> None:
        self._sent.append(Clear(at))
        self._clears += 1

    @property
    def first(self) -> Sent | None:
        return self._sent[0] if self._sent else None

    @property
    def first_audio(self) -> Audio | None:
        return next((each for each in self._sent if isinstance(each, Audio)), None)

    @property
    def first_clear(self) -> Clear | None:
        if not self._clears:
            return None
        return next(each for each in self._sent if isinstance(each, Clear))

    def has_mark(self, name: str) -> bool:
        return name in self._marks

    def may_be_cleared(self, name: str) -> bool:
        """Whether a mark that comes back may do so because of a `clear`: one was sent behind it."""
        if not self._clears or self._marks[name]:
            return False
        for sent in reversed(self._sent):
            if isinstance(sent, Clear):
                return True
            if isinstance(sent, Mark) and sent.name == name:
                return False
        return False

    def take(self) -> Sent:
        sent = self._sent.popleft()
        if isinstance(sent, Mark):
            self._marks.pop(sent.name, None)
        elif isinstance(sent, Clear):
            self._clears -= 1
        return sent

    def take_to(self, name: str) -> list[Sent]:
        """All before that mark, which is taken, too."""
        sent: list[Sent] = []
        while True:
            first = self.take()
            if isinstance(first, Mark) and first.name == name:
                return sent
            sent.append(first)

    def take_all(self) -> list[Sent]:
        return [self.take() for _ in range(len(self._sent))]


def by_clears(sent: Iterable[Sent]) -> list[list[Sent]]:
    """Each up to its `clear`, which is the last of it, and what is behind the last."""
    groups: list[list[Sent]] = [[]]
    for each in sent:
        groups[-1].append(each)
        if isinstance(each, Clear):
            groups.append([])
    return groups


def audio_of(sent: Iterable[Sent]) -> list[Audio]:
    return [each for each in sent if isinstance(each, Audio)]
