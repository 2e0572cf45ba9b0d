"""Variables in prompts and greetings: which there are, and what they are filled with."""

import json
from typing import Any

import pytest

from sts_trio.config.templates import fields, filled


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Hello {caller_name}!", "Hello Ann!"),
        ("{caller_name}{n}{caller_name}", "Ann7Ann"),
        ("{{caller_name}} is {caller_name}", "{caller_name} is Ann"),
        ('Answer as {"name": "x", "n": {}}', 'Answer as {"name": "x", "n": {}}'),
        ('{"a": {"b": 1}} { caller_name } {1} {}', '{"a": {"b": 1}} { caller_name } {1} {}'),
        ("{caller_name.__class__} {caller_name!r} {n:>9}",) * 2,
        ("", ""),
    ],
)
def test_a_name_in_braces_is_a_variable_and_nothing_else_is(text: str, told: str) -> None:
    values = {"caller_name": "Ann", "n": "7"}
    assert filled({"greeting": text}, values) == {"greeting": told}


def test_a_value_is_data_whatever_it_looks_like() -> None:
    values = {"a": "{b} {{b}} {a}", "b": "secret"}
    assert filled({"greeting": "{a}"}, values) == {"greeting": "{b} {{b}} {a}"}


def test_each_fallback_has_its_prompt_filled_and_all_else_stays() -> None:
    agent: dict[str, Any] = {
        "language": "{x}",
        "think": [{"prompt": "Say {x}."}, {"provider": {"model": "{x}"}}, {"prompt": None}],
    }
    before = json.dumps(agent)
    assert filled(agent, {"x": "1"}) == {
        "language": "{x}",
        "think": [{"prompt": "Say 1."}, {"provider": {"model": "{x}"}}, {"prompt": None}],
    }
    assert json.dumps(agent) == before
    assert filled({"think": {"prompt": "{x}"}}, {"x": "1"}) == {"think": {"prompt": "1"}}
    assert filled({"think": None, "greeting": None}, {}) == {"think": None, "greeting": None}


def test_what_is_used_is_found_where_it_stands() -> None:
    agent = {"greeting": "{a} {{b}}", "think": [{"prompt": "{c}"}, {"prompt": "{d}{a}"}]}
    assert list(fields(agent)) == [
        ("greeting", "a"),
        ("think[0].prompt", "c"),
        ("think[1].prompt", "d"),
        ("think[1].prompt", "a"),
    ]
    assert list(fields({"think": {"prompt": "{x}"}})) == [("think.prompt", "x")]
    assert list(fields({"think": None})) == []
