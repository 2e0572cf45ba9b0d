"""What an event is: its level, what its fields hold, and what of it goes into a log. Pure."""

import enum
import functools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, get_args, get_type_hints

import msgspec


class Level(enum.IntEnum):
    """As the log knows them; the numbers are `logging`'s."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Kind(enum.Enum):
    """What a field holds, beyond its type."""

    SECONDS = "seconds"
    PHONE_NUMBER = "phone number"
    WORDS = "words"  # that were said or keyed in the call, or noted of it
    JSON = "JSON"  # what a function was given, or what the agent was told of it


Seconds = Annotated[float, Kind.SECONDS]
PhoneNumber = Annotated[str, Kind.PHONE_NUMBER]
Words = Annotated[str, Kind.WORDS]
Json = Annotated[str, Kind.JSON]


def _public_name(attribute: str) -> str:
    """`from` is a word of Python's."""
    return attribute.rstrip("_")


class Event(msgspec.Struct, frozen=True, rename=_public_name):
    """Something that happened. Fields that are `None` are left out wherever it is told."""

    NAME: ClassVar[str]
    LEVEL: ClassVar[Level]

    @property
    def level(self) -> Level:
        return self.LEVEL

    def fields(self) -> dict[str, Any]:
        """What there is to tell, by name."""
        values = zip(self.__struct_encode_fields__, msgspec.structs.astuple(self), strict=True)
        return {name: value for name, value in values if value is not None}

    def log_fields(self, *, with_words: bool = False) -> dict[str, Any]:
        """The same for the log, with texts of bounded length. Words, and what functions are given
        and return, which is mostly words of the caller's too, are only for an operator who has
        asked for them, and for the debug level alone."""
        has_words = with_words and self.level is Level.DEBUG
        held = kinds(type(self))
        return {
            name: shortened(value)
            for name, value in self.fields().items()
            if has_words or held.get(name) not in (Kind.WORDS, Kind.JSON)
        }


class OfCall(Event, frozen=True):
    """Something that happened in a call."""


# Letters of a text. A peer may write a mebibyte into a sentence; the longest that is read out is
# under a minute.
MAX_TEXT = 2000
# Of what functions are told and tell: as much as a result may have at most.
MAX_JSON = 16 * 1024


def shortened(value: Any, limit: int = MAX_TEXT) -> Any:
    """No text longer than that."""
    if isinstance(value, str) and len(value) > limit:
        return f"{value[: limit - 1]}…"
    return value


def bounded(event: OfCall) -> OfCall:
    """The event with no text too long to be kept."""
    if letters(event) <= MAX_TEXT:
        return event  # as nearly all: no text of it can be too long
    changed = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, str) and len(value) > MAX_TEXT:
            limit = MAX_JSON if kinds(type(event)).get(name) is Kind.JSON else MAX_TEXT
            changed[name] = shortened(value, limit)
    return msgspec.structs.replace(event, **changed) if changed else event


def letters(event: Event) -> int:
    """Of all its texts together: what it takes to keep it grows with these."""
    count = 0
    for value in msgspec.structs.astuple(event):
        if isinstance(value, str):
            count += len(value)
    return count


@functools.cache
def kinds(event: type[Event]) -> Mapping[str, Kind]:
    """{field: what it holds}, of those fields that have a kind."""
    found = {}
    for name, hint in get_type_hints(event, include_extras=True).items():
        for kind in _metadata(hint):
            if isinstance(kind, Kind):
                found[_public_name(name)] = kind
    return found


def _metadata(hint: Any) -> list[Any]:
    """What stands beside the type in `Annotated`, also within `… | None`."""
    beside = list(getattr(hint, "__metadata__", ()))
    for part in get_args(hint):
        beside += _metadata(part)
    return beside
