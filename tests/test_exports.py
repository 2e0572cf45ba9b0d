"""The public names of `sts_trio`: what users' code may import, and nothing is taken from it."""

import ast
import builtins
import importlib
import inspect
import re
import subprocess
import sys

import pytest

import sts_trio
from sts_trio import errors
from sts_trio.call.api import Call

PUBLIC = {
    "AgentChoice": "sts_trio.agents.choice",
    "AgentRefused": "sts_trio.errors",
    "AgentTimedOut": "sts_trio.errors",
    "Call": "sts_trio.call.api",
    "CallInfo": "sts_trio.call.info",
    "CallOver": "sts_trio.errors",
    "Cause": "sts_trio.errors",
    "Ending": "sts_trio.errors",
    "FunctionFailed": "sts_trio.errors",
    "HandOver": "sts_trio.functions.decorator",
    "NumberRefused": "sts_trio.errors",
    "create_app": "sts_trio.web.app",
    "function": "sts_trio.functions.decorator",
    "hand_over": "sts_trio.functions.decorator",
}


def test_the_public_names_are_these() -> None:
    assert set(sts_trio.__all__) == PUBLIC.keys()


@pytest.mark.parametrize(("name", "home"), PUBLIC.items())
def test_a_public_name_is_the_very_object_of_its_home(name: str, home: str) -> None:
    assert getattr(sts_trio, name) is getattr(importlib.import_module(home), name)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'sts_trio' has no attribute 'Switchboard'"):
        sts_trio.Switchboard  # type: ignore[attr-defined]  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    """They read `if TYPE_CHECKING`, which no program runs."""
    tree = ast.parse(inspect.getsource(sts_trio))
    [block] = [each for each in tree.body if isinstance(each, ast.If)]
    seen = {
        alias.name: statement.module
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == PUBLIC


def test_the_package_is_imported_without_its_libraries() -> None:
    """`sts-trio --help` and shell completion would wait for them."""
    code = (
        "import sys, sts_trio;"
        "print(*sorted({'trio', 'quart', 'msgspec', 'twilio'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_what_a_call_raises_can_be_imported_beside_it() -> None:
    named = {
        name
        for method in vars(Call).values()
        for name in re.findall(r"^ +([A-Z]\w+): ", inspect.getdoc(method) or "", re.MULTILINE)
        if hasattr(errors, name) or hasattr(builtins, name)
    }
    assert {"AgentRefused", "AgentTimedOut", "CallOver", "NumberRefused"} <= named
    assert {name for name in named if not hasattr(builtins, name)} <= PUBLIC.keys()
