"""The keys that the caller presses. Functions that collect digits get them in turn; without one,
they are gathered for the agent. Pure.
"""

import collections
from math import inf

import msgspec

from sts_trio.logic.acts import Collect, Collected

# A caller who keys in a number pauses no longer than this between two keys.
PAUSE = 1.5
# The longest card number has 19 digits; more at once is a child at play.
MAX_KEYS = 32
MAX_COLLECTORS = 10

KEYS = "0123456789*#ABCD"


class _Collector(msgspec.Struct):
    wanted: Collect
    limit: float  # for all keys
    deadline: float  # for the next one
    digits: str = ""


class Keypad:
    """Collectors are served in the order in which they asked; each key goes to one."""

    __slots__ = ("_collectors", "_gathered", "_pause")

    def __init__(self) -> None:
        self._collectors: collections.deque[_Collector] = collections.deque()
        self._gathered = ""
        self._pause = inf

    @property
    def deadline(self) -> float:
        if not self._collectors:
            return self._pause
        return min(self._pause, *(each.deadline for each in self._collectors))

    def collect(self, wanted: Collect, now: float) -> list[Collected]:
        if len(self._collectors) >= MAX_COLLECTORS:
            return [Collected(wanted.number, "")]
        limit = now + wanted.within
        self._collectors.append(_Collector(wanted, limit, limit))
        return []

    def cancel(self, number: int) -> None:
        self._collectors = collections.deque(
            each for each in self._collectors if each.wanted.number != number
        )

    def press(self, key: str, now: float) -> list[Collected]:
        """Something is pressed. Returns what is complete by it."""
        if len(key) != 1 or key not in KEYS:
            return []
        if not self._collectors:
            self._gathered = (self._gathered + key)[-MAX_KEYS:]
            self._pause = now + PAUSE
            return []
        first = self._collectors[0]
        if key in first.wanted.finish:
            return [self._complete()]
        first.digits += key
        first.deadline = min(first.limit, now + first.wanted.between)
        return [self._complete()] if len(first.digits) >= first.wanted.most else []

    def tick(self, now: float) -> tuple[list[Collected], str]:
        """Those whose time is up, and the keys that were gathered, once there was a pause."""
        collected = [
            Collected(each.wanted.number, each.digits)
            for each in self._collectors
            if each.deadline <= now
        ]
        self._collectors = collections.deque(
            each for each in self._collectors if each.deadline > now
        )
        gathered = ""
        if self._pause <= now:
            gathered, self._gathered, self._pause = self._gathered, "", inf
        return collected, gathered

    def _complete(self) -> Collected:
        first = self._collectors.popleft()
        return Collected(first.wanted.number, first.digits)
