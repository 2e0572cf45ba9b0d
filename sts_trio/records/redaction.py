"""What is not to be kept of a call, taken out of its rows before they leave the process. Pure.

Numbers become a keyed hash and their last two digits: whoever has the key finds a caller again, and
nobody finds the number. Without the key a hash of so few digits would be undone by trying them all.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgspec

from sts_trio.records.rows import Kind, Row

# Sixteen hexadecimal digits: two of a million callers share one once in 40 million years of calls.
HASH_BYTES = 8
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
# What Twilio says instead of a number.
_NOBODY = frozenset({"", "anonymous", "restricted", "unavailable", "unknown"})


class Redaction:
    def __init__(self, key: str) -> None:
        self._key = hashlib.blake2b(key.encode()).digest()

    def number(self, number: str) -> str:
        """A caller's or a called number, as it is kept. One that is kept already stays."""
        if number.lower() in _NOBODY or number.startswith("#"):
            return number
        digest = hashlib.blake2b(number.encode(), digest_size=HASH_BYTES, key=self._key).hexdigest()
        digits = re.sub("[^0-9]", "", number)[-2:]
        return f"#{digest}-{digits}" if len(digits) == 2 else f"#{digest}"

    def row(self, row: Row) -> Row:
        """The row without a number: neither those of the call, nor any other that is written with
        its plus, wherever it stands."""
        body = each_text(row.body, self.text)
        if row.kind in (Kind.ANNOUNCED, Kind.STARTED):
            for name in ("from", "to"):
                if isinstance(value := body.get(name), str):
                    body[name] = self.number(value)
            body["redacted"] = True
        return msgspec.structs.replace(row, body=body)

    def identifier(self, identifier: str) -> str:
        """What stands for an identifier of Twilio's, to who is to tell calls apart and no more."""
        return hashlib.blake2b(identifier.encode(), digest_size=16, key=self._key).hexdigest()

    def text(self, text: str) -> str:
        """A text without a number that is written with its plus."""
        return _NUMBER.sub(lambda found: self.number(found[0]), text)


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of something like JSON, with each text in it, names included, as `change` has it."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {each_text(name, change): each_text(each, change) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [each_text(each, change) for each in value]
    return value
