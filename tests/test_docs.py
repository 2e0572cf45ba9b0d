"""The pages say what is so: their snippets run, their commands exist, their links lead somewhere.

What of a page is written by a script is what the script writes today.
"""

import ast
import inspect
import logging
import os
import re
import runpy
import shlex
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import structlog
import trio.testing

import sts_trio
from sts_trio import config
from sts_trio.cli import main
from sts_trio.config.variables import SETTINGS
from sts_trio.errors import Cause
from sts_trio.functions import Functions
from sts_trio.functions.decorator import MARK, Options
from sts_trio.offline import domain
from sts_trio.offline.answers.policy import Policy
from sts_trio.offline.protocol import functions as offline_functions
from sts_trio.offline.protocol.script import CallFunction
from sts_trio.wire import deepgram_settings

ROOT = Path(sts_trio.__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.glob("*.md")),
    ROOT / "bench" / "README.md",
    ROOT / "examples" / "dealership" / "README.md",
]
SCRIPT = runpy.run_path(str(DOCS / "generate.py"))


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(language: str) -> list[Any]:
    """The code in a language, of all pages."""
    return [
        pytest.param(code, id=f"{named(page)}-{number}")
        for page in PAGES
        for number, code in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S), 1
        )
    ]


def section(page: str, heading: str) -> str:
    """What stands below a heading, up to the next one."""
    _, found, rest = (DOCS / page).read_text().partition(f"\n## {heading}\n")
    assert found, heading
    return rest.partition("\n## ")[0]


def cells(text: str) -> list[list[str]]:
    """The rows of the tables in `text`, heads and rules left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    rules = {number for number, line in enumerate(lines) if set(line) <= set("|-")}
    return [row for number, row in enumerate(rows) if not {number, number + 1} & rules]


@pytest.fixture
def undisturbed() -> Iterator[None]:
    """An app sets up the log of the process it runs in."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no variables of ours."""
    for variable in os.environ:
        if variable.startswith(("STS_", "DEEPGRAM_", "TWILIO_")):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- snippets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", blocks("python"))
def test_a_python_snippet_runs(
    code: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: None
) -> None:
    """Its functions are fit for an agent, and its tests pass."""
    monkeypatch.setenv("STS_AGENT", "offline")
    namespace: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(code, "snippet", "exec", dont_inherit=True), namespace)
    marked = [each for each in namespace.values() if hasattr(each, MARK)]
    assert len(Functions(marked)) == len(marked) == code.count("@function")
    for name, test in namespace.items():
        if name.startswith("test_"):
            trio.run(run_test, test, clock=trio.testing.MockClock(autojump_threshold=0))


async def run_test(test: Callable[..., Awaitable[None]]) -> None:
    with trio.fail_after(600):  # of a clock that jumps
        await test(*[None for _ in inspect.signature(test).parameters])


@pytest.mark.parametrize("code", blocks("toml"))
def test_a_toml_snippet_is_a_configuration(code: str, elsewhere: Path) -> None:
    agents = tomllib.loads(code).get("agents", {"default": {}})
    assert "default" in agents
    (elsewhere / "sts-trio.toml").write_text(code)
    read = config.load({"STS_AGENT": "offline"}, elsewhere)
    assert read.file is not None
    assert read.warnings == ()


COMMANDS = main.commands
# Programs of the system, whose options are theirs.
SYSTEM = {".", "cd", "export", "python3", "pytest", "hypercorn"}


@pytest.mark.parametrize("code", blocks("sh"))
def test_a_command_line_can_be_typed(code: str) -> None:
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for command in split_at(words, "&&"):
            check_command(command)


def split_at(words: list[str], separator: str) -> Iterator[list[str]]:
    part: list[str] = []
    for word in [*words, separator]:
        if word != separator:
            part.append(word)
        elif part:
            yield part
            part = []


def check_command(words: list[str]) -> None:
    """Raises what click raises for an argument that is not fit."""
    words = [*words]
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        assert words[0].partition("=")[0] in SETTINGS
        del words[0]
    program, *arguments = words
    match Path(program).name or program:
        case "sts-trio":
            # A command keeps its help option, which its first parent names.
            parent = click.Context(main, **main.context_settings)
            COMMANDS[arguments[0]].make_context(arguments[0], arguments[1:], parent)
        case "pip":
            assert arguments[0] == "install"
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            for extra in re.findall(r"\[(\w+)\]", " ".join(arguments)):
                assert extra in extras["optional-dependencies"]
        case "nox":
            for name in arguments[1:]:
                assert re.search(rf"^def {name}\(", (ROOT / "noxfile.py").read_text(), re.M)
        case other:
            assert other in SYSTEM
    for variable in re.findall(r"\b([A-Z]+_[A-Z_]+)=", " ".join(words)):
        assert variable in SETTINGS


def test_a_command_with_a_wrong_option_is_found() -> None:
    with pytest.raises(click.NoSuchOption):
        check_command(["STS_LOG=json", "sts-trio", "call", "--barge-in", "1"])


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_and_variables_in_a_sentence_exist(page: Path) -> None:
    text = page.read_text()
    for name, rest in re.findall(r"`sts-trio ([a-z]+)([^`]*)`", text):
        known = {option for each in COMMANDS[name].params for option in each.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known
    for name in re.findall(r"nox -s ([a-z]+)", text):
        assert re.search(rf"^def {name}\(", (ROOT / "noxfile.py").read_text(), re.M)
    variables = re.findall(r"\b((?:STS|DEEPGRAM|TWILIO)_[A-Z_]+[A-Z])\b", text)
    assert set(variables) <= {*SETTINGS, "STS_CONFIG"}


# --- links ----------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), target
        assert not anchor or anchor in anchors(to), target


# --- what is written by a script, or held against the code ----------------------------------------


@pytest.mark.parametrize("page", SCRIPT["PAGES"])
def test_a_page_with_a_written_table_is_current(page: str) -> None:
    name, written = SCRIPT["PAGES"][page]
    text = (DOCS / page).read_text()
    assert text == SCRIPT["updated"](text, name, written()), "run: python docs/generate.py"


def test_a_page_without_its_markers_is_not_overwritten() -> None:
    with pytest.raises(ValueError, match="expected the markers"):
        SCRIPT["updated"]("# Configuration\n", "variables", "")


def test_every_variable_and_every_ending_has_its_row() -> None:
    variables = [row[0] for row in cells(section("configuration.md", "Variables"))]
    assert variables == [f"`{name}`" for name in SETTINGS]
    assert SCRIPT["HAPPENED"].keys() == set(Cause)


@pytest.mark.parametrize(
    "name", [name for name, setting in SETTINGS.items() if setting.default], ids=str
)
def test_a_default_is_what_holds_where_nothing_is_written(
    name: str, tmp_path: Path, calls_kept_by_default: None
) -> None:
    unset = {"STS_AGENT": "offline"}
    written = unset | {name: SETTINGS[name].default}
    assert config.load(written, tmp_path) == config.load(unset, tmp_path)


def test_a_switch_says_its_default() -> None:
    switches = [setting for setting in SETTINGS.values() if setting.type is bool]
    assert {each.default for each in switches} == {"0", "1"}


def test_the_routes_are_those_of_the_app(elsewhere: Path, undisturbed: None) -> None:
    app = sts_trio.create_app(config.load({"STS_AGENT": "offline"}, elsewhere))
    rows = " ".join(row[0] for row in cells(section("configuration.md", "Routes")))
    told = re.findall(r"(?:POST )?(?:/[a-zA-Z/.-]*)", rows.replace("`", ""))
    routes = set()
    for rule in app.url_map.iter_rules():
        path = re.sub("<[^>]+>", "X", rule.rule)
        methods = rule.methods or set()
        routes.add(f"POST {path}" if "POST" in methods and "GET" not in methods else path)
    assert {re.sub("TOKEN|FILE|SID|FORM|NAME", "X", each) for each in told} == routes


def test_the_options_of_function_are_told_with_their_defaults() -> None:
    rows = cells(section("functions.md", "Options of `@function`"))
    told = {row[0].strip("`"): ast.literal_eval(row[1].strip("`")) for row in rows}
    fields = Options.__struct_fields__
    assert told == {name: getattr(Options(), name) for name in fields}


def test_all_of_a_call_is_told() -> None:
    told = [row[0] for row in cells(section("functions.md", "The `Call`"))]
    for name, member in vars(sts_trio.Call).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            assert f"`call.{name}`" in told
            continue
        parameters = inspect.signature(member).replace(return_annotation=inspect.Signature.empty)
        bare = [
            each.replace(annotation=inspect.Parameter.empty)
            for each in list(parameters.parameters.values())[1:]
        ]
        text = str(parameters.replace(parameters=bare)).replace("'", '"')
        [row] = [each for each in told if each.startswith(f"`{name}(")]
        assert row.removesuffix(" ⏱") == f"`{name}{text}`"


def test_the_tree_names_every_folder_and_module_of_the_top() -> None:
    tree = section("architecture.md", "The tree")
    told = set(re.findall(r"^  ([\w./]+)  ", tree, re.M))
    package = ROOT / "sts_trio"
    folders = {f"{each.parent.name}/" for each in package.glob("*/__init__.py")}
    modules = {each.name for each in package.glob("*.py")} - {"__main__.py"}
    assert told == folders | modules


def test_no_room_imports_from_a_layer_above_its_own() -> None:
    layers = section("architecture.md", "The layers").split("```")[1].split("\n")
    level = {room: number for number, line in enumerate(layers) for room in line.split()}
    package = ROOT / "sts_trio"
    above = []
    for path in sorted(package.rglob("*.py")):
        own = ".".join(path.relative_to(package).with_suffix("").parts)
        if own in ("__init__", "__main__"):  # the public names, and another way to the command
            continue
        for module in map(layer_of, imported(path)):
            if module in level and level[module] < level[layer_of(own)]:
                above.append(f"{path.relative_to(package)} imports {module}")
    assert above == []


def layer_of(module: str) -> str:
    """A room, or one of the modules that lie above their own."""
    return module if module in ("observe.logs", "observe.otel") else module.partition(".")[0]


def imported(path: Path) -> Iterator[str]:
    """The modules that a module takes something from, wherever in it it says so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "sts_trio":
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sts_trio."):
            room = (node.module or "").removeprefix("sts_trio.")
            yield from (f"{room}.{name.name}" for name in node.names)
            yield room


# --- the README is a door -------------------------------------------------------------------------


def test_the_readme_is_a_door() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= 130
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("asked", ["I would like to try the Heron on Tuesday at ten", "Tuesday"])
def test_its_function_can_be_tried_without_a_key(asked: str) -> None:
    """What the offline agent gives it is what it takes."""
    [code] = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S)
    namespace: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(code, "snippet", "exec", dont_inherit=True), namespace)
    [function] = Functions([each for each in namespace.values() if hasattr(each, MARK)])
    told = offline_functions.Functions()
    blocks = {"provider": {}, "functions": [function.definition()]}
    told.configure(msgspec.convert(blocks, deepgram_settings.Think))
    policy = Policy(domain.load())
    for said in ("book a test drive", asked, "at ten", "my name is Mary"):
        policy.reply(said, told.ours)
    line = policy.reply("yes", told.ours)
    assert isinstance(line, CallFunction)
    [call] = told.call(line).functions
    assert function.parameters.read(call.arguments)["day"] == "Tuesday"


def test_its_picture_is_small() -> None:
    [picture] = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README.read_text())
    assert (ROOT / picture).stat().st_size < 150_000
