"""What Hypothesis draws for several test files, and how often."""

import functools
import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from msgspec import inspect


def examples(times: float) -> int:
    """So many times what is usual (`conftest.py`), for what wants more or costs much."""
    return round(times * settings().max_examples)


finite = st.floats(allow_nan=False, allow_infinity=False)  # what JSON has words for
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4)
    ),
    max_leaves=8,
)

# Surrogates too: a text frame cannot hold them, a caller of `decode` can.
any_text = st.text(st.characters(exclude_categories=[]))


def structs(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a msgspec Struct, or of a union of them, that its JSON can carry."""
    return _of(inspect.type_info(kind))


@functools.singledispatch
def _of(info: inspect.Type) -> st.SearchStrategy[Any]:
    raise NotImplementedError(info)


@_of.register
def _(info: inspect.AnyType) -> st.SearchStrategy[Any]:
    return json_values


@_of.register
def _(info: inspect.Metadata) -> st.SearchStrategy[Any]:
    return _of(info.type)


@_of.register
def _(info: inspect.NoneType) -> st.SearchStrategy[Any]:
    return st.none()


@_of.register
def _(info: inspect.BoolType) -> st.SearchStrategy[Any]:
    return st.booleans()


@_of.register
def _(info: inspect.IntType) -> st.SearchStrategy[Any]:
    return st.integers(info.ge, info.le)


@_of.register
def _(info: inspect.FloatType) -> st.SearchStrategy[Any]:
    return finite


@_of.register
def _(info: inspect.StrType) -> st.SearchStrategy[Any]:
    return st.text(max_size=20)


@_of.register
def _(info: inspect.BytesType) -> st.SearchStrategy[Any]:
    return st.binary()


@_of.register
def _(info: inspect.ListType) -> st.SearchStrategy[Any]:
    return st.lists(_of(info.item_type), max_size=3)


@_of.register
def _(info: inspect.VarTupleType) -> st.SearchStrategy[Any]:
    return st.lists(_of(info.item_type), max_size=3).map(tuple)


@_of.register
def _(info: inspect.DictType) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.text(max_size=10), _of(info.value_type), max_size=3)


@_of.register
def _(info: inspect.UnionType) -> st.SearchStrategy[Any]:
    return st.one_of(*(_of(member) for member in info.types))


@_of.register
def _(info: inspect.StructType) -> st.SearchStrategy[Any]:
    return st.builds(info.cls, **{field.name: _of(field.type) for field in info.fields})


@st.composite
def damaged(draw: st.DrawFn, examples: list[dict[str, Any]]) -> str:
    """The text of a valid message with something in it, at any depth, replaced, lost or added."""
    message = json.loads(json.dumps(draw(st.sampled_from(examples))))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = message
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            deeper = [key for key in keys if isinstance(place[key], dict | list) and place[key]]
            if not deeper or draw(st.booleans()):
                break
            place = place[draw(st.sampled_from(deeper))]
        if isinstance(place, dict) and draw(st.booleans()):
            place[draw(st.text(max_size=10))] = draw(json_values)
        elif keys:
            key = draw(st.sampled_from(keys))
            if draw(st.booleans()):
                place[key] = draw(json_values)
            else:
                del place[key]
    text = json.dumps(message)
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 9)) == 0 else text
