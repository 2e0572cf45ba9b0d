"""The keys that functions of one call have collected, hidden in all that is told of it. Pure.

They may be a card's number. The function has them, and whoever it gives them to; they are to be
neither in the log nor in the event feed, and so in no record. They come back in many ways: in what
the function returns, in what the agent says, in the message of an exception.
"""

import re
from typing import Any

import msgspec

from sts_trio.observe.events import Kind, OfCall, kinds

MASK = "•••"
# So many keys in a row that were collected in a row are no coincidence. A collection of one less, a
# card's check number, is hidden as a whole. Of fewer, only a value that is nothing but them: "1" is
# in every other sentence.
LEAST = 4
# As people and models write numbers: together, in groups, or key by key.
_RUN = re.compile(r"[0-9*#](?:[\s,.-]{0,3}[0-9*#])*")
_KEY = re.compile("[0-9*#]")


class CollectedKeys:
    def __init__(self) -> None:
        # All, in the order in which they came, as a function may take them one by one.
        self._keys = ""
        self._whole: set[str] = set()

    def add(self, keys: str) -> None:
        """A function was given these."""
        if keys:
            self._keys += keys
            self._whole.add(keys)

    def hidden(self, event: OfCall) -> OfCall:
        """The event without them. The numbers of who calls whom are no keys, and stay."""
        held = kinds(type(event))
        names = zip(event.__struct_fields__, event.__struct_encode_fields__, strict=True)
        changed = {
            attribute: self._in_json(value) if kind is Kind.JSON else self._in_value(value)
            for attribute, name in names
            if (kind := held.get(name)) is not Kind.PHONE_NUMBER
            and isinstance(value := getattr(event, attribute), str | int if kind else str)
        }
        return msgspec.structs.replace(event, **changed)

    def without(self, text: str) -> str:
        """A text without them."""
        return MASK if text in self._whole else _RUN.sub(self._run, text)

    def _in_json(self, text: str) -> str:
        try:
            value = msgspec.json.decode(text)
            hidden = self._in_value(value)
        except (ValueError, RecursionError):  # a model writes what it likes
            return self.without(text)
        return text if hidden == value else msgspec.json.encode(hidden).decode()

    def _in_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.without(value)
        if isinstance(value, bool):
            return value
        if isinstance(value, int):
            shown = self.without(str(value))
            return value if shown == str(value) else shown
        if isinstance(value, dict):
            return {self.without(name): self._in_value(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._in_value(each) for each in value]
        return value

    def _run(self, found: re.Match[str]) -> str:
        run = found[0]
        places = [key.start() for key in _KEY.finditer(run)]
        keys = "".join(run[at] for at in places)
        covered = [False] * len(keys)
        for at in range(len(keys)):
            for size, known in ((LEAST, self._keys), (LEAST - 1, self._whole)):
                if len(part := keys[at : at + size]) == size and part in known:
                    covered[at : at + size] = [True] * size
        made, last = [], 0
        for at, is_covered in enumerate(covered):
            if is_covered:
                made += ["" if at and covered[at - 1] else run[last : places[at]] + MASK]
                last = places[at] + 1
        return "".join(made) + run[last:]
