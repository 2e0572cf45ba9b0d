"""Reading data that may hold more than its published schema.

Pure. msgspec either ignores unknown fields or refuses the first one it meets; a configuration wants
neither: keep them all, and name them.
"""

from typing import Annotated, Any

import msgspec
from msgspec import inspect

# Of what a peer counts. Bounded, as a number of 400 digits would break the arithmetic, or the
# format, that it ends up in.
Counter = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


def prune(raw: Any, schema: Any) -> tuple[Any, list[str]]:
    """`raw` less the fields that `schema` does not know, and the paths of those.

    A path reads `think.functions[0].colour`.
    Values of a wrong type are left as they are, for `msgspec.convert` to complain about.
    """
    unknown: list[str] = []
    return _prune(raw, inspect.type_info(schema), "", unknown), unknown


def _prune(raw: Any, info: inspect.Type, path: str, unknown: list[str]) -> Any:
    for member in info.types if isinstance(info, inspect.UnionType) else (info,):
        if isinstance(member, inspect.StructType) and isinstance(raw, dict):
            fields = {field.encode_name: field.type for field in member.fields}
            known = {}
            for key, value in raw.items():
                where = f"{path}.{key}" if path else str(key)
                if key in fields:
                    known[key] = _prune(value, fields[key], where, unknown)
                else:
                    unknown.append(where)
            return known
        if isinstance(member, inspect.ListType) and isinstance(raw, list):
            return [
                _prune(value, member.item_type, f"{path}[{number}]", unknown)
                for number, value in enumerate(raw)
            ]
    return raw
