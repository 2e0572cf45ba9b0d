"""No shield without a deadline, anywhere: one is enough to keep the whole server from stopping."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sts_trio

# What it looks at is read, not run.
pytestmark = pytest.mark.no_cover

SOURCES = sorted(Path(sts_trio.__file__).parent.rglob("*.py"))
# {what makes a scope: the arguments that are its deadline, by name, and by place}
SCOPES = {
    "CancelScope": ({"deadline", "relative_deadline"}, False),
    "move_on_after": ({"seconds"}, True),
    "move_on_at": ({"deadline"}, True),
    "fail_after": ({"seconds"}, True),
    "fail_at": ({"deadline"}, True),
}


def without_deadline(source: str) -> Iterator[int]:
    """The lines that shield something for as long as it likes, as far as the text tells."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in SCOPES:
                if _is_shield(node) and not _has_deadline(node, *SCOPES[name]):
                    yield node.lineno
            # A thread that is waited for is a shield, too.
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="to_thread"))):
                if "abandon_on_cancel=True" not in ast.unparse(node):
                    yield node.lineno
            # Nothing says which scope that is, and what deadline it has.
            case ast.Assign(targets=[*targets]) if not _is_false(node.value):
                if any(
                    isinstance(each, ast.Attribute) and each.attr == "shield" for each in targets
                ):
                    yield node.lineno
            case ast.AnnAssign(target=ast.Attribute(attr="shield")) if node.value is not None:
                yield node.lineno
            case ast.Call(func=ast.Name(id="setattr"), args=[_, ast.Constant("shield"), *_]):
                yield node.lineno


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _is_shield(call: ast.Call) -> bool:
    # What is given by `**` may be anything.
    return any(
        each.arg is None or (each.arg == "shield" and not _is_false(each.value))
        for each in call.keywords
    )


def _has_deadline(call: ast.Call, names: set[str], is_by_place: bool) -> bool:
    given = [each.value for each in call.keywords if each.arg in names]
    if is_by_place:
        given += call.args[:1]
    return any(not _is_inf(each) for each in given)


def _is_inf(node: ast.expr) -> bool:
    return ast.unparse(node) in ("inf", "math.inf", "float('inf')", "None")


@pytest.mark.parametrize(
    "source",
    [
        "with trio.CancelScope(shield=True): ...",
        "scope = CancelScope(shield=is_last)",
        "trio.CancelScope(shield=True, deadline=inf)",
        "trio.CancelScope(shield=True, relative_deadline=math.inf)",
        "trio.CancelScope(**options)",
        "trio.move_on_after(inf, shield=True)",
        "trio.move_on_after(seconds=float('inf'), shield=True)",
        "trio.fail_after(math.inf, shield=True)",
        "trio.move_on_at(inf, shield=True)",
        "nursery.cancel_scope.shield = True",
        "scope.shield = is_last",
        "a = scope.shield = True",
        "scope.shield: bool = True",
        "setattr(scope, 'shield', True)",
        "await trio.to_thread.run_sync(work)",
        "trio.to_thread.run_sync(work, abandon_on_cancel=may_be)",
    ],
)
def test_what_shields_without_a_deadline_is_found(source: str) -> None:
    assert list(without_deadline(source)) == [1]


@pytest.mark.parametrize(
    "source",
    [
        "with trio.move_on_after(2, shield=True): ...",
        "trio.fail_after(seconds=2, shield=True)",
        "trio.CancelScope(shield=True, deadline=now + 2)",
        "trio.CancelScope(shield=True, relative_deadline=2)",
        "trio.CancelScope(shield=False)",
        "trio.CancelScope()",
        "trio.move_on_after(inf)",
        "scope.shield = False",
        "function(shield=True)",
        "await trio.to_thread.run_sync(work, abandon_on_cancel=True)",
    ],
)
def test_what_does_not_is_left_alone(source: str) -> None:
    assert not list(without_deadline(source))


def test_no_shield_of_ours_is_without_a_deadline() -> None:
    found = {str(path): list(without_deadline(path.read_text())) for path in SOURCES}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_all_of_the_package_is_looked_at() -> None:
    assert len(SOURCES) > 100
