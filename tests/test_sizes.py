"""No file and no class is more than a reader holds in the head."""

import ast
from pathlib import Path

import sts_trio

HERE = Path(sts_trio.__file__).parent
FILES = {path.relative_to(HERE).as_posix(): path for path in sorted(HERE.rglob("*.py"))}
MAX_LINES = 470
MAX_METHODS = 25
METHODS = ast.FunctionDef | ast.AsyncFunctionDef


def test_a_file_is_short() -> None:
    lines = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    long = {name for name, count in lines.items() if count > MAX_LINES}
    assert not long, "part them by what they have, not by their length"


def test_a_class_has_few_methods() -> None:
    kinds = [
        (name, node.name, sum(isinstance(each, METHODS) for each in node.body))
        for name, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    assert len(kinds) > len(FILES)
    big = [f"{name}: {kind} has {count}" for name, kind, count in kinds if count > MAX_METHODS]
    assert not big, "part it by its states"
