from typing import Any

import msgspec
import pytest
from hypothesis import given
from strategies import json_values

from sts_trio.wire.schema import prune


class Leaf(msgspec.Struct):
    size: int = 0


class Tree(msgspec.Struct, rename="camel"):
    main_leaf: Leaf | None = None
    leaves: list[Leaf] | Leaf | None = None
    notes: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("raw", "known", "unknown"),
    [
        ({}, {}, []),
        ({"mainLeaf": {"size": 1}}, {"mainLeaf": {"size": 1}}, []),
        # Under its name on the wire, not ours.
        ({"main_leaf": {"size": 1}}, {}, ["main_leaf"]),
        ({"mainLeaf": {"hue": 1, "size": 2}}, {"mainLeaf": {"size": 2}}, ["mainLeaf.hue"]),
        ({"leaves": {"hue": 1}}, {"leaves": {}}, ["leaves.hue"]),
        ({"leaves": [{}, {"hue": 1}]}, {"leaves": [{}, {}]}, ["leaves[1].hue"]),
        # Whatever is in a dict is data, not fields.
        ({"notes": {"hue": [{"a": 1}]}}, {"notes": {"hue": [{"a": 1}]}}, []),
        # Of a wrong type: left for the conversion to complain about.
        ({"mainLeaf": [1], "notes": 5}, {"mainLeaf": [1], "notes": 5}, []),
        ([1], [1], []),
    ],
)
def test_unknown_fields_are_taken_out_and_named(
    raw: object, known: object, unknown: list[str]
) -> None:
    assert prune(raw, Tree) == (known, unknown)


@given(json_values)
def test_what_is_given_is_left_untouched(raw: Any) -> None:
    tree = {"mainLeaf": raw, "leaves": [raw], "other": raw}
    before = msgspec.json.encode(tree)
    prune(tree, Tree)
    assert msgspec.json.encode(tree) == before
