"""The keys that the caller presses. Functions that collect digits get them in turn; without one,
they are gathered for the agent. Pure.

Callers type while they are still being asked. So keys belong to whoever collects next, as long as
the agent has not been told of them.
"""

from math import inf

import msgspec

from sts_trio.logic.acts import Collect, Collected

# A caller who keys in a number pauses no longer than this between two keys.
PAUSE = 1.5
# The longest card number has 19 digits; more at once is a child at play.
MAX_KEYS = 32
MAX_COLLECTORS = 10

KEYS = "0123456789*#ABCD"


def is_key(key: str) -> bool:
    return len(key) == 1 and key in KEYS


class _Collector(msgspec.Struct):
    wanted: Collect
    limit: float  # for all keys
    deadline: float  # for the next one
    digits: str = ""


class Keypad:
    """Collectors are served in the order in which they asked; each key goes to one."""

    __slots__ = ("_collectors", "_ends", "_ends_until", "_gathered", "_pause")

    def __init__(self) -> None:
        self._collectors: list[_Collector] = []
        self._gathered = ""
        self._pause = inf
        # Keys that would have ended the last collection, which was complete without.
        self._ends = ""
        self._ends_until = -inf

    @property
    def deadline(self) -> float:
        if not self._collectors:
            return self._pause
        return min(self._pause, *(each.deadline for each in self._collectors))

    @property
    def is_collecting(self) -> bool:
        """Whether the next key is a function's."""
        return bool(self._collectors)

    def collect(self, wanted: Collect, now: float) -> list[Collected]:
        if len(self._collectors) >= MAX_COLLECTORS:
            return [Collected(wanted.number, "")]
        limit = now + wanted.within
        self._collectors.append(_Collector(wanted, limit, limit))
        gathered, self._gathered, self._pause = self._gathered, "", inf
        return self._press_again(gathered, now)

    def keyed_in(self, number: int) -> str:
        """So far, for who collects by that number."""
        return "".join(each.digits for each in self._collectors if each.wanted.number == number)

    def cancel(self, number: int, now: float) -> list[Collected]:
        """Nobody collects by that number any more; what was keyed in is the next one's. Returns
        what is complete by it."""
        digits = self.keyed_in(number)
        self._collectors = [each for each in self._collectors if each.wanted.number != number]
        return self._press_again(digits, now)

    def _press_again(self, keys: str, now: float) -> list[Collected]:
        return [collected for key in keys for collected in self.press(key, now)]

    def press(self, key: str, now: float) -> list[Collected]:
        """Something is pressed. Returns what is complete by it."""
        if not is_key(key):
            return []
        if key in self._ends and now < self._ends_until:
            self._ends = ""
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
        if len(first.digits) < first.wanted.most:
            return []
        self._ends, self._ends_until = first.wanted.finish, now + PAUSE
        return [self._complete()]

    def tick(self, now: float) -> tuple[list[Collected], str]:
        """Those whose time is up, and the keys that were gathered, once there was a pause."""
        collected = [
            Collected(each.wanted.number, each.digits)
            for each in self._collectors
            if each.deadline <= now
        ]
        self._collectors = [each for each in self._collectors if each.deadline > now]
        gathered = ""
        if self._pause <= now:
            gathered, self._gathered, self._pause = self._gathered, "", inf
        return collected, gathered

    def _complete(self) -> Collected:
        first = self._collectors.pop(0)
        return Collected(first.wanted.number, first.digits)
