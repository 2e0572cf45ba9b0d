"""The parts of a call stay siblings: who imports whom in `logic/`, read from its source."""

import ast
from pathlib import Path

import sts_trio.logic

HERE = Path(sts_trio.logic.__file__).parent
VOCABULARY = {"acts", "states", "perception", "policy", "spelling"}
SIBLINGS = {
    "stream",
    "session",
    "closing",
    "turns",
    "function_calls",
    "handing_over",
    "requests",
    "response",
    "answer_watch",
    "limits",
    "caller_audio",
    "keypad",
    "output",
}
# {a part: who owns it}
OWNERS = {
    "reconnect": {"session"},
    "agent_audio": {"turns"},
    "asked": {"turns"},
    "carryover": {"turns"},
    "hearing_out": {"closing", "handing_over"},
    "history": {"turns", "carryover"},
    "playout": {"turns", "agent_audio"},
    "rest": {"turns", "agent_audio"},
    "utterance": {"history"},
}
COMPOSERS = [
    "parts",
    "endings",
    "agent_messages",
    "due",
    "routes",
    "dialogue",
]  # each may import those before it, and all parts


def imported(source: str) -> set[str]:
    """The modules of `logic/` that this source imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return {
        module.removeprefix("sts_trio.logic.").partition(".")[0]
        for module in found
        if module.startswith("sts_trio.logic.")
    }


def allowed(module: str) -> set[str]:
    if module in VOCABULARY:
        return VOCABULARY
    if module in COMPOSERS:
        before = COMPOSERS[: COMPOSERS.index(module)]
        return VOCABULARY | SIBLINGS | set(OWNERS) | set(before)
    return VOCABULARY | {part for part, owners in OWNERS.items() if module in owners}


def violations(module: str, source: str) -> set[str]:
    return {name for name in imported(source) if name not in allowed(module) | {module}}


def test_every_module_of_the_logic_has_its_place() -> None:
    modules = {path.stem for path in HERE.glob("*.py")} - {"__init__"}
    assert modules == VOCABULARY | SIBLINGS | set(OWNERS) | set(COMPOSERS)


def test_no_part_imports_another_that_it_does_not_own() -> None:
    found = {path.stem: violations(path.stem, path.read_text()) for path in HERE.glob("*.py")}
    assert {module: names for module, names in found.items() if names} == {}


def test_an_import_of_a_sibling_would_be_found() -> None:
    hidden = "def f():\n    from sts_trio.logic.closing import Closing\n"
    assert violations("session", hidden) == {"closing"}
    assert violations("session", "from sts_trio.logic import turns") == {"turns"}
    assert violations("turns", "import sts_trio.logic.reconnect") == {"reconnect"}
    assert violations("parts", "from sts_trio.logic.dialogue import Dialogue") == {"dialogue"}
    assert violations("acts", "from sts_trio.logic.stream import Stream") == {"stream"}
    assert violations("session", "from sts_trio.logic.reconnect import Reconnect") == set()
