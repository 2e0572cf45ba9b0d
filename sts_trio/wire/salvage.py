"""Of a message in which something is not as it should be, what can be used. Pure.

A model writes parts of what an agent sends, and servers change without notice. A field that is of
no use costs that field, if the message means something without it, and an entry of a list costs
that entry: to drop the whole message may leave the agent waiting for an answer for ever.
"""

import contextlib
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import inspect

# A string that holds JSON, which some write without the quotes around it.
JsonText = Annotated[str, msgspec.Meta(extra={"holds": "JSON"})]
# Of one list: more than may be asked for at once, so that this is still found out.
MAX_ENTRIES = 128


def salvaged(data: str | bytes, kind: Any) -> Any:
    """A message of that Struct, from JSON that was no such message; `None`: there is none in it."""
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return _read(raw, kind)


def _read(raw: Any, kind: Any) -> Any:
    if not isinstance(raw, dict):
        return None
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    found: dict[str, Any] = {}
    for field in info.fields:
        if field.encode_name not in raw:
            continue
        value = raw[field.encode_name]
        match field.type:
            case inspect.StrType() if isinstance(value, int | float):
                found[field.name] = _text(value)
            case inspect.Metadata(extra={"holds": "JSON"}) if value is not None:
                found[field.name] = value if isinstance(value, str) else _text(value)
            case inspect.VarTupleType(inspect.StructType(cls=entry)):
                if entries := tuple(_entries(value, entry)):
                    found[field.name] = entries
            case _:
                # Else the field's default, if it has one.
                with contextlib.suppress(msgspec.ValidationError):
                    found[field.name] = msgspec.convert(value, types[field.name], strict=False)
    is_whole = all(field.name in found for field in info.fields if field.required)
    return kind(**found) if is_whole else None


def _entries(value: Any, kind: Any) -> Iterable[Any]:
    several = value if isinstance(value, list) else [value]
    entries = (_read(each, kind) for each in several[:MAX_ENTRIES])
    return (entry for entry in entries if entry is not None)


def _text(value: Any) -> str:
    """What should have been written as a string."""
    return msgspec.json.encode(value).decode()
