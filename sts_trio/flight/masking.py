"""What is not to be kept of a flight, taken out letter by letter, so that it still replays. Pure.

A dialogue decides by the length of words, by blanks between them and by whether there are any, and
by content only what its `Perception` is asked, of which the answers are written down. So a letter
may become any other letter: of words with `x` for each, and with a one for each digit where only
numbers are to go. The acts of a replay are masked as those that were recorded, and so are the same.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from sts_trio.flight.file import Flight, Step
from sts_trio.logic.history import is_object
from sts_trio.logic.keypad import KEYS
from sts_trio.observe import events
from sts_trio.wire import deepgram

# What may be masked: see `Masking`.
WORDS, DIGITS, NUMBERS = "words", "digits", "numbers"

Mask = Callable[[str], str]

# {what is heard or done: its fields with words in them}. A field of theirs that is JSON is of a
# function, and masked so that it stays JSON.
_TEXTS: dict[str, tuple[str, ...]] = {
    "ConversationText": ("content",),
    "AgentThinking": ("content",),
    "InjectionRefused": ("message",),
    "CustomFromThinkProvider": ("content",),
    "InjectUserMessage": ("content",),
    "InjectAgentMessage": ("message",),
    "UpdatePrompt": ("prompt",),
    "UpdateThink": ("think",),
    "UpdateThinkLive": ("think_live",),
    "UpdateSpeak": ("speak",),
    "UpdateListen": ("listen",),
    "CustomToThinkProvider": ("content",),
    "RequestDone": ("refusal",),
    events.CallAskedAnew.NAME: ("text",),
    **{
        event.NAME: tuple(
            name
            for name, kind in events.kinds(event).items()
            if kind in (events.Kind.WORDS, events.Kind.JSON)
        )
        for event in events.EVENTS.values()
        if issubclass(event, events.OfCall)
    },
}
# {the tag of what the agent is told: the name of its class}
_CLASSES = {
    str(each.__struct_config__.tag): each.__name__ for each in deepgram.TextToAgent.__args__
}
_NUMBER = re.compile(r"\+[1-9][0-9]+")
_DIGIT = re.compile("[0-9]")
_LETTER = re.compile(r"\S")
# Of a stream's parameters: a line that was dialled ahead, which is open to who knows its name.
_SECRET_PARAMETERS = ("line",)


def _ones(text: str) -> str:
    return _DIGIT.sub("1", text)


def _letters(text: str) -> str:
    return _LETTER.sub("x", text)


def _numbers(text: str) -> str:
    return _NUMBER.sub(lambda found: _ones(found[0]), text)


def _json(text: str, mask: Mask) -> str:
    """What an object is stays one, as arguments that are none are not told to an agent again."""
    masked = mask(text)
    if is_object(text) and not is_object(masked):
        return "{" + " " * (len(text) - 2) + "}"
    return masked


def _each_text(value: Any, mask: Mask) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {name: _each_text(each, mask) for name, each in value.items()}
    if isinstance(value, list):
        return [_each_text(each, mask) for each in value]
    return value


class Masking:
    """`what` is to be masked: all `words`; the `digits` in them, as keys were pressed; phone
    `numbers`, wherever they are. Of `sensitive` functions nothing is left in any case."""

    def __init__(self, what: Iterable[str], sensitive: Iterable[str] = ()) -> None:
        self._what = frozenset(what)
        self._sensitive = frozenset(sensitive)
        self._words: Mask = str
        if WORDS in self._what:
            self._words = _letters
        elif self._what:
            self._words = _ones

    def values(self, written: list[Any]) -> list[Any]:
        """What was heard, or acts, as `compact` has them: lists and dicts."""
        return [self._value(each) for each in written]

    def _value(self, written: Any) -> Any:
        if not isinstance(written, list) or not written:
            return written
        name, *fields = written
        if not fields or not isinstance(fields[0], dict):
            return self._aside(written)
        return [name, self._aside(self._fields(name, fields[0]))]

    def _aside(self, value: Any) -> Any:
        """Numbers may stand anywhere."""
        return _each_text(value, _numbers) if NUMBERS in self._what else value

    def _fields(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        fields = dict(fields)
        for field in _TEXTS.get(name, ()):
            if field in fields:
                fields[field] = _each_text(fields[field], self._words)
        match name:
            case "Ask":
                message = fields["message"]
                fields["message"] = self._fields(_CLASSES[message["type"]], message)
            case "FunctionCallRequest" | "CallFunctions":
                fields["functions"] = [self._function(each) for each in fields["functions"]]
            case "FunctionDone":
                fields["content"] = self._of_function(fields["asked"]["name"])(fields["content"])
                fields["asked"] = self._function(fields["asked"])
            case "FunctionResult" | "FunctionCallResponse":
                fields["content"] = self._of_function(fields["name"])(fields["content"])
            case "History":
                fields = {"type": "History"}
            case "Settings" if "history" in fields:
                fields["history"] = [self._past(each) for each in fields["history"]]
            case "Start":
                fields["start"] = self._start(fields["start"])
        return fields

    def _of_function(self, name: str) -> Mask:
        return _letters if name in self._sensitive else self._words

    def _function(self, function: dict[str, Any]) -> dict[str, Any]:
        mask = self._of_function(function.get("name", ""))
        masked = {**function, "arguments": _json(function.get("arguments", ""), mask)}
        if isinstance(response := function.get("response"), str):
            masked["response"] = mask(response)
        return masked

    def _past(self, item: dict[str, Any]) -> dict[str, Any]:
        if "function_calls" in item:
            return {**item, "function_calls": [self._function(f) for f in item["function_calls"]]}
        return {**item, "content": self._words(item["content"])}

    def _start(self, start: dict[str, Any]) -> dict[str, Any]:
        given = start.get("customParameters", {})
        kept = {name: text for name, text in given.items() if name not in _SECRET_PARAMETERS}
        if NUMBERS in self._what:
            kept = {name: _ones(text) for name, text in kept.items()}
        return {**start, "customParameters": kept}


class _Keys:
    """A key is known by what it ends, and by nothing else."""

    def __init__(self, finishes: Iterable[str]) -> None:
        finishes = list(finishes)
        self._same: dict[str, str] = {}  # {a key: one that is as good}
        classes: dict[tuple[bool, ...], str] = {}
        for key in KEYS:
            if key.isdigit():
                ends = tuple(key in finish for finish in finishes)
                self._same[key] = classes.setdefault(ends, key)

    def mask(self, key: str) -> str:
        return self._same.get(key) or _ones(key)


def masked(flight: Flight, *, keeps_words: bool, keeps_numbers: bool) -> Flight:
    """The flight as it may be kept: in any case without keys, and without the digits that may tell
    of them, if there were any."""
    written = [each for step in flight.steps for each in step.heard if isinstance(each, list)]
    named = [(each[0], each[1]) for each in written if len(each) == 2]
    what = []
    if not keeps_words:
        what.append(WORDS)
    if any(name == "Dtmf" for name, _ in named):
        what.append(DIGITS)
    if not keeps_numbers:
        what.append(NUMBERS)
    masking = Masking(what, flight.sensitive)
    keys = _Keys(fields["finish"] for name, fields in named if name == "Collect")
    steps = [_masked_step(step, masking, keys) for step in flight.steps]
    detail = flight.detail if keeps_numbers else _numbers(flight.detail)
    return msgspec.structs.replace(flight, steps=steps, masked=what, detail=detail)


def _masked_step(step: Step, masking: Masking, keys: _Keys) -> Step:
    heard = masking.values(step.heard)
    for each in heard:
        if isinstance(each, list) and each[0] == "Dtmf":
            each[1]["dtmf"] = {"digit": keys.mask(each[1]["dtmf"]["digit"])}
    acts = None if step.acts is None else masking.values(step.acts)
    return msgspec.structs.replace(step, heard=heard, acts=acts)
