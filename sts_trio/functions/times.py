"""Dates and times among a function's arguments: how a model is told to write them, and how models
write them all the same. Pure.

msgspec takes what RFC 3339 allows, to the second: "19:00" is no time to it, and it tells a model
nothing of how a `datetime` or a `time` is written. Here a format is told, and before msgspec reads
an argument what can mean one thing only is written as it wants it.
"""

import datetime
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import inspect as mi

Reader = Callable[[Any], Any]

# What is told for a type, by whether its `Meta(tz=…)` wants an offset: RFC 3339's names, and
# OpenAPI's (its registry of formats) for what has none.
_FORMATS: dict[tuple[type[mi.Type], bool | None], str] = {
    (mi.DateTimeType, None): "date-time",
    (mi.DateTimeType, True): "date-time",
    (mi.DateTimeType, False): "date-time-local",
    (mi.TimeType, None): "time",
    (mi.TimeType, True): "time",
    (mi.TimeType, False): "time-local",
}
# How what msgspec says of a wrong one is told to a model.
EXPECTED = {
    "Invalid RFC3339 encoded datetime": "expected date and time, like 2026-12-01T19:00",
    "Invalid RFC3339 encoded date": "expected a date, like 2026-12-01",
    "Invalid RFC3339 encoded time": "expected a time, like 19:00",
}

# 9:00, 9.00, 7 pm, 7:30 p.m.
_CLOCK = re.compile(r"(\d{1,2})(?:[:.](\d\d))?\s*(?:([ap])\.?m\.?)?", re.IGNORECASE)
_BETWEEN = re.compile(r"[T\s,]+", re.IGNORECASE)  # a date and a time


# --- what is told ---------------------------------------------------------------------------------


def schema_of(hint: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """msgspec's JSON Schema of a type, and the definitions it refers to, with formats.

    Raises:
        TypeError, ValueError: JSON has no way to carry it.
    """
    info = mi.type_info(hint)
    classes: dict[Any, Any] = {}
    _find_classes(info, classes)
    template = "#/$defs/{name}"
    schemas, definitions = msgspec.json.schema_components([hint, *classes], ref_template=template)
    for schema, each in zip(schemas[1:], classes.values(), strict=True):
        own = definitions[schema["$ref"].removeprefix("#/$defs/")]
        for field, told in zip(each.fields, _told_fields(own, each), strict=True):
            _tell(told, field.type)
    _tell(schemas[0], info)
    return schemas[0], definitions


def _find_classes(info: Any, found: dict[Any, Any]) -> None:
    """Those with named fields in the type, and in their fields: {class: msgspec's word of it}."""
    if hasattr(info, "fields"):
        if info.cls in found:
            return
        found[info.cls] = info
    for child in _children(info):
        _find_classes(child, found)


def _told_fields(schema: dict[str, Any], info: Any) -> list[Any]:
    """The schemas of a class's fields: by name, or in order behind its tag, if it has one."""
    if "prefixItems" in schema:
        return list(schema["prefixItems"][-len(info.fields) :])
    return [schema["properties"][field.encode_name] for field in info.fields]


def _children(info: Any) -> Iterator[mi.Type]:
    match info:
        case mi.Metadata(type=inner):
            yield inner
        case mi.UnionType(types=types) | mi.TupleType(item_types=types):
            yield from types
        case mi.CollectionType(item_type=item):
            yield item
        case mi.DictType(value_type=value):
            yield value
        case _ if hasattr(info, "fields"):
            for field in info.fields:
                yield field.type


def _tell(schema: Any, info: mi.Type) -> None:
    """Adds the formats, but for those of classes, whose definitions are elsewhere."""
    while isinstance(info, mi.Metadata):
        info = info.type
    if not isinstance(schema, dict) or "$ref" in schema:
        return
    match info:
        case mi.DateTimeType(tz=tz) | mi.TimeType(tz=tz):
            if schema.get("format") in (None, "partial-time"):
                schema["format"] = _FORMATS[type(info), tz]
        case mi.UnionType(types=types):
            # One text, one list and one object is all that a union may have.
            for option in schema.get("anyOf", []):
                for each in types:
                    if option.get("type") == _kind(each):
                        _tell(option, each)
        case mi.CollectionType(item_type=item):
            _tell(schema.get("items"), item)
        case mi.TupleType(item_types=items):
            for child, item in zip(schema.get("prefixItems", []), items, strict=False):
                _tell(child, item)
        case mi.DictType(value_type=value):
            _tell(schema.get("additionalProperties"), value)


def _kind(info: mi.Type) -> str:
    while isinstance(info, mi.Metadata):
        info = info.type
    match info:
        case mi.DateTimeType() | mi.TimeType():
            return "string"
        case mi.CollectionType() | mi.TupleType():
            return "array"
        case mi.DictType():
            return "object"
    return ""


# --- what is given --------------------------------------------------------------------------------


def reader_of(hint: Any) -> Reader | None:
    """What writes the dates and times in an argument of this type as msgspec reads them; None if
    there can be none in it."""
    return _reader(mi.type_info(hint))


def _reader(info: Any) -> Reader | None:
    match info:
        case mi.Metadata(type=inner):
            return _reader(inner)
        case mi.DateTimeType():
            return _text_by(_date_time)
        case mi.DateType():
            return _text_by(_date)
        case mi.TimeType():
            return _text_by(_time)
        case mi.UnionType(types=types):
            return _one_of(types)
        case mi.CollectionType(item_type=item):
            return _list_by([], _reader(item))
        case mi.TupleType(item_types=items):
            return _list_by([_reader(each) for each in items], None)
        case mi.DictType(value_type=value):
            return _dict_by({}, _reader(value))
    if isinstance(info, mi.NamedTupleType) or getattr(info, "array_like", False):
        tag = [None] if getattr(info, "tag_field", None) else []
        return _list_by([*tag, *(_reader(each.type) for each in info.fields)], None)
    if hasattr(info, "fields"):
        return _dict_by({each.encode_name: _reader(each.type) for each in info.fields}, None)
    return None


def _text_by(read: Callable[[str], str | None]) -> Reader:
    return lambda value: (read(value) or value) if isinstance(value, str) else value


def _list_by(firsts: list[Reader | None], rest: Reader | None) -> Reader | None:
    if rest is None and not any(firsts):
        return None

    def read(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        readers = [*firsts, *[rest] * max(0, len(value) - len(firsts))]
        return [by(each) if by else each for by, each in zip(readers, value, strict=False)]

    return read


def _dict_by(known: dict[str, Reader | None], rest: Reader | None) -> Reader | None:
    if rest is None and not any(known.values()):
        return None

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        readers = {name: known.get(name) or rest for name in value}
        return {name: by(each) if (by := readers[name]) else each for name, each in value.items()}

    return read


def _one_of(types: Any) -> Reader | None:
    """Of several structs, the one whose tag the object has."""
    readers = [(each, reader) for each in types if (reader := _reader(each)) is not None]
    if not readers:
        return None

    def read(value: Any) -> Any:
        for info, by in readers:
            tag = getattr(info, "tag_field", None)
            if tag is None or not isinstance(value, dict) or value.get(tag) == info.tag:
                value = by(value)
        return value

    return read


def _time(text: str) -> str | None:
    text = text.strip()
    match = _CLOCK.fullmatch(text)
    try:
        if match is None or not (match[2] or match[3]):
            return datetime.time.fromisoformat(text.upper()).isoformat()
        hour = int(match[1])
        if match[3]:
            if not 1 <= hour <= 12:
                return None
            hour = hour % 12 + (12 if match[3].lower() == "p" else 0)
        return datetime.time(hour, int(match[2] or 0)).isoformat()
    except ValueError:
        return None


def _date(text: str) -> str | None:
    """Of a date with a time, the date."""
    date = _BETWEEN.split(text.strip())[0]
    try:
        return datetime.date.fromisoformat(date).isoformat()
    except ValueError:
        return None


def _date_time(text: str) -> str | None:
    """None for a date alone: midnight is not what is meant."""
    date, _, _ = (parts := _BETWEEN.sub("T", text.strip(), count=1)).partition("T")
    day, time = _date(date), _time(parts[len(date) + 1 :])
    return f"{day}T{time}" if day and time else None
