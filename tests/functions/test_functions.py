import dataclasses
import enum
import inspect
import json
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from limits import HANG
from strategies import any_text, json_values

import sts_trio
from sts_trio import Call, FunctionFailed, function, hand_over
from sts_trio.config import load
from sts_trio.config.agents import AgentSettings
from sts_trio.errors import ConfigError
from sts_trio.functions import Function, Functions, HandOver, confirmation
from sts_trio.functions.attach import with_functions
from sts_trio.functions.schema import Parameters
from sts_trio.server import Server
from sts_trio.wire import deepgram_settings, legacy

UUID = "00000000-0000-4000-8000-000000000000"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Doors(enum.Enum):
    THREE = 3
    FIVE = 5


class Car(msgspec.Struct):
    """A car on the lot."""

    make: str
    year: Annotated[int, msgspec.Meta(ge=1900)] = 2000
    colour: Colour | None = None


@dataclasses.dataclass
class Order:
    cars: list[Car]


class Buyer(TypedDict):
    name: str


class Tree(msgspec.Struct):
    branches: list["Tree"] = []


class Cat(msgspec.Struct, tag="cat"):
    lives: int = 9


class Dog(msgspec.Struct, tag="dog"):
    pass


def one(run: Callable[..., Any]) -> Function:
    return next(iter(Functions([run])))


def schema_of(hint: Any) -> dict[str, Any]:
    """What a model is told of a parameter with this annotation."""

    def run(it: Any) -> None: ...

    run.__annotations__["it"] = hint
    return dict(one(run).parameters.schema["properties"]["it"])


def refusal(*given: Callable[..., Any] | str) -> str:
    with pytest.raises(ConfigError) as caught:
        Functions(given)
    message = str(caught.value)
    assert message.isprintable()
    return message


# --- what a model is told ---------------------------------------------------------------------


@function
async def book_test_drive(
    call: Call,
    stock_number: Annotated[str, msgspec.Meta(description="As in the list of cars.")],
    day: date,
    *,
    guests: int = 1,
) -> dict[str, str]:
    """Book a test drive.
    For one car.

    Ask for the day first.
    """
    return {}


def test_name_docstring_and_annotations_make_the_definition() -> None:
    definition = one(book_test_drive).definition()
    assert definition == {
        "name": "book_test_drive",
        "description": "Book a test drive.\nFor one car.\n\nAsk for the day first.",
        "parameters": {
            "type": "object",
            "properties": {
                "stock_number": {"type": "string", "description": "As in the list of cars."},
                "day": {"type": "string", "format": "date"},
                "guests": {"type": "integer", "default": 1},
            },
            "required": ["stock_number", "day"],
        },
    }
    agent = {"think": {"provider": {"type": "open_ai"}, "functions": [definition]}}
    deepgram_settings.check_agent(
        agent
    )  # Deepgram ends the session at a field that it does not know


def test_a_marked_function_stays_the_function_it_is() -> None:
    def plain() -> int:
        """Count."""
        return 5

    marked = function(plain)
    assert marked is plain
    assert function(timeout=3)(plain) is plain
    assert inspect.iscoroutinefunction(book_test_drive)


def test_options_say_more_than_the_function() -> None:
    @function(
        name="charge-card",
        description="""
            Charge the card.

            Only once.
        """,
        timeout=20,
        shield=True,
        defer_until_eot=True,
        filler="One moment.",
        filler_after=0.5,
        agents=["sales", "till"],
    )
    def charge() -> None: ...

    found = one(charge)
    assert found.definition() == {
        "name": "charge-card",
        "description": "Charge the card.\n\nOnly once.",
        "parameters": {"type": "object", "properties": {}},
        "defer_until_eot": True,
    }
    options = found.options
    assert (options.timeout, options.shield, options.filler_after) == (20, True, 0.5)
    assert not found.is_async


def test_a_function_without_a_docstring_has_no_description() -> None:
    def bare() -> None: ...

    assert one(bare).definition() == {
        "name": "bare",
        "parameters": {"type": "object", "properties": {}},
    }


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        (bool, {"type": "boolean"}),
        (Any, {}),
        (float | None, {"anyOf": [{"type": "number"}, {"type": "null"}]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal["a", 1], {"enum": [1, "a"]}),
        (Colour, {"type": "string", "enum": ["blue", "red"]}),
        (Doors, {"type": "integer", "enum": [3, 5]}),
        (tuple[int, str], {"prefixItems": [{"type": "integer"}, {"type": "string"}]}),
        (dict[str, Colour], {"additionalProperties": {"type": "string", "enum": ["blue", "red"]}}),
        (Buyer, {"type": "object", "properties": {"name": {"type": "string"}}}),
        (Annotated[Buyer, msgspec.Meta(description="Who.")], {"description": "Who."}),
    ],
)
def test_types_are_told_as_json_schema(hint: Any, told: dict[str, Any]) -> None:
    schema = schema_of(hint)
    assert {key: schema.get(key) for key in told} == told


def test_a_schema_has_nothing_to_look_up_elsewhere() -> None:
    assert schema_of(Order) == {
        "type": "object",
        "properties": {
            "cars": {
                "type": "array",
                "items": {
                    "description": "A car on the lot.",
                    "type": "object",
                    "properties": {
                        "make": {"type": "string"},
                        "year": {"type": "integer", "minimum": 1900, "default": 2000},
                        "colour": {
                            "anyOf": [
                                {"type": "string", "enum": ["blue", "red"]},
                                {"type": "null"},
                            ],
                            "default": None,
                        },
                    },
                    "required": ["make"],
                },
            }
        },
        "required": ["cars"],
    }
    for hint in (Cat | Dog, Annotated[Car, msgspec.Meta(description="Which.")], Order):
        written = json.dumps(schema_of(hint))
        assert "$" not in written
        assert "discriminator" not in written
    # What is said of the parameter goes before what is said of its type.
    assert schema_of(Annotated[Car, msgspec.Meta(description="Which.")])["description"] == "Which."


def test_a_default_that_json_cannot_say_makes_a_parameter_optional_all_the_same() -> None:
    class Local:
        pass

    def run(a: str = "x", b: str | None = None, c: Any = Local(), d: Colour = Colour.RED) -> None:  # noqa: B008
        """Take what is given."""

    schema = one(run).parameters.schema
    assert "required" not in schema
    defaults = {name: each.get("default", "") for name, each in schema["properties"].items()}
    assert defaults == {"a": "x", "b": "", "c": "", "d": "red"}


def test_methods_can_be_functions_with_a_state_of_their_own() -> None:
    class Desk:
        @function(timeout=3)
        async def look_up(self, number: int) -> int:
            """Look it up."""
            return number

        @staticmethod
        @function
        def helps() -> None: ...

    desk = Desk()
    found = one(desk.look_up)
    assert found.definition()["parameters"]["required"] == ["number"]
    assert (found.is_async, found.options.timeout) == (True, 3)
    assert one(Desk.helps).name == "helps"


# --- what is refused at start-up --------------------------------------------------------------


def no_annotation(day) -> None: ...  # type: ignore[no-untyped-def]
def of_pythons_alone(what: complex) -> None: ...
def anything(*what: str) -> None: ...
def any_name(**what: str) -> None: ...
def unnamed(what: str, /) -> None: ...
def recursive(tree: Tree) -> None: ...
def unknown_name(what: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
def two_calls(call: Call, other: Call) -> None: ...
def a_door(door: trio.Event) -> None: ...


HERE = __name__


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (no_annotation, "no_annotation: parameter day: has no annotation; expected a type that"),
        (of_pythons_alone, "of_pythons_alone: parameter what: expected a type that JSON can carry"),
        (anything, "anything: parameter what: expected named parameters, not *args"),
        (any_name, "any_name: parameter what: expected named parameters, not **kwargs"),
        (unnamed, "unnamed: parameter what: cannot be given by name; take the / away"),
        (recursive, "recursive: parameter tree: expected a type that does not contain itself"),
        (unknown_name, "unknown_name: parameter what: its annotation 'Nowhere' means nothing"),
        (two_calls, "two_calls: parameter other: there is one call, and call is it"),
        (a_door, "a_door: parameter door: expected a type that JSON can carry"),
    ],
)
def test_a_parameter_that_no_model_could_give_is_refused_by_name(
    run: Callable[..., Any], said: str
) -> None:
    assert refusal(run).startswith(f"{HERE}.{said}")


def test_the_refusal_shows_what_was_found() -> None:
    assert "got complex (" in refusal(of_pythons_alone)


def test_what_is_no_function_is_refused() -> None:
    def numbers() -> Any:
        yield 1

    async def more() -> AsyncIterator[int]:
        yield 1

    assert "expected a plain or async function" in refusal(print)
    assert "not a generator" in refusal(numbers)
    assert "not a generator" in refusal(more)
    with pytest.raises(ConfigError, match="beneath @staticmethod"):
        function(staticmethod(numbers))
    with pytest.raises(ConfigError, match="got \"'name'\""):
        function("name")  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["", "look up", "é", "x" * 65, "line\n"])
def test_a_name_that_providers_refuse_is_refused(name: str) -> None:
    @function(name=name)
    def run() -> None: ...

    assert "expected a name of 1 to 64 letters, digits, - and _, got " in refusal(run)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": 0}, "> 0.0 - at `$.timeout`"),
        ({"timeout": float("inf")}, "<= 3600.0 - at `$.timeout`"),
        ({"filler_after": "soon"}, "Expected `float`, got `str` - at `$.filler_after`"),
        ({"agents": [5]}, "Expected `str`, got `int` - at `$.agents[0]`"),
    ],
)
def test_options_are_checked_at_start_up(options: dict[str, Any], said: str) -> None:
    @function(**options)
    def run() -> None: ...

    message = refusal(run)
    assert said in message
    assert ".run: @function: " in message


@pytest.mark.parametrize(
    ("confirm", "said"),
    [
        ("Book the {colour}?", "confirm: {colour} is none of its parameters; known are {car}, {n}"),
        ("Book {}?", "confirm: {} is none of its parameters"),
        ("Book the {call.info.from_}?", "confirm: {call} is none of its parameters"),
        ("Book the {car?", "confirm: expected '}' before end of string"),
        ("Book the {car:{n}}?", "confirm: expected no braces within braces"),
        ("{car}?", "confirm: expected a question, got "),
        ("", "confirm: expected a question, got "),
        (5, "Expected `str | null`, got `int` - at `$.confirm`"),
    ],
)
def test_a_question_to_be_confirmed_is_checked_at_start_up(confirm: Any, said: str) -> None:
    @function(confirm=confirm)
    def run(call: Call, car: str, n: int = 1) -> None: ...

    assert said in refusal(run)


def test_the_model_is_told_that_the_caller_is_asked_first() -> None:
    @function(confirm="Shall I book the {car}?")
    def book(car: str) -> None:
        """Book a car."""

    (told,) = Functions([book]).definitions("default")
    assert told["description"] == f"Book a car.\n\n{confirmation.RULE}"


def test_two_functions_of_one_name_are_refused_by_both_their_names() -> None:
    @function(name="recursive")
    def other() -> None: ...

    def recursive() -> None: ...

    message = refusal(recursive, other)
    assert "two are named recursive: " in message
    assert "<locals>.recursive and " in message
    assert len(Functions([other, other])) == 1


# --- what a model gives -----------------------------------------------------------------------


def arguments(run: Callable[..., Any], text: str) -> dict[str, Any]:
    return Parameters(run, "here", {}).read(text)


def faults(run: Callable[..., Any], text: str) -> str:
    with pytest.raises(FunctionFailed) as caught:
        arguments(run, text)
    return str(caught.value)


def sell(car: Car, price: float, paid: bool = False, note: str | None = None) -> None: ...


def test_arguments_become_what_the_annotations_say() -> None:
    text = '{"car": {"make": "VW", "colour": "red"}, "price": "9.5", "note": null}'
    car = Car("VW", colour=Colour.RED)
    assert arguments(sell, text) == {"car": car, "price": 9.5, "note": None}
    assert arguments(book_test_drive, '{"stock_number": "7", "day": "2026-02-01"}') == {
        "stock_number": "7",
        "day": date(2026, 2, 1),
    }


@pytest.mark.parametrize("text", ["", " ", "{}", "null", " null\n", '"{}"'])
def test_a_model_that_gives_no_arguments_gives_none(text: str) -> None:
    def run(limit: int = 3) -> None: ...

    assert arguments(run, text) == {}


def test_null_for_an_optional_parameter_is_its_default() -> None:
    def run(limit: int = 3, day: date = date(2026, 2, 1), note: str | None = "none") -> None: ...

    assert arguments(run, '{"limit": null, "day": null}') == {}
    assert arguments(run, '{"limit": null, "note": null}') == {"note": None}
    assert faults(sell, '{"car": {"make": "VW"}, "price": null}') == (
        "price: expected `float`, got `null`"
    )


def test_null_for_an_optional_member_is_its_default_too() -> None:
    car = '{"make": "VW", "year": null, "colour": null}'
    assert arguments(sell, f'{{"car": {car}, "price": 1}}') == {"car": Car("VW"), "price": 1.0}
    assert faults(sell, '{"car": {"make": null}, "price": 1}') == (
        "car.make: expected `str`, got `null`"
    )

    def run(cars: list[Car]) -> None: ...

    assert arguments(run, f'{{"cars": [{car}]}}') == {"cars": [Car("VW")]}
    assert faults(run, '{"cars": [null]}') == "cars[0]: expected `object`, got `null`"


def test_arguments_that_are_written_as_a_string_are_read() -> None:
    text = json.dumps(json.dumps({"car": {"make": "VW"}, "price": 1}))
    assert arguments(sell, text) == {"car": Car("VW"), "price": 1.0}


def test_all_that_is_wrong_is_told_at_once() -> None:
    text = '{"car": {"make": "VW", "year": 12}, "paid": "perhaps", "colour": "red"}'
    assert faults(sell, text) == (
        "car.year: expected `int` >= 1900; price: missing; paid: expected `bool`, got `str`;"
        " colour: unknown, known are: car, price, paid, note"
    )
    assert faults(sell, '{"car": {}, "price": 1}') == "car: object missing required field `make`"


def test_arguments_nobody_asked_for_are_told() -> None:
    def run(call: Call) -> None: ...

    assert faults(run, '{"call": 1}') == "call: unknown, known are: none"


@pytest.mark.parametrize("text", ["{", '{"car": ]', "\ud800", "nonsense"])
def test_what_is_not_json_is_told(text: str) -> None:
    assert faults(sell, text).startswith("the arguments are not JSON: ")


@pytest.mark.parametrize("text", ["[]", "7", '"car"', '"[1]"', '"\\"{}\\""'])
def test_what_is_no_object_is_told(text: str) -> None:
    assert faults(sell, text) == "the arguments have to be one JSON object"


def test_arguments_nested_too_deeply_are_told() -> None:
    def run(what: Any) -> None: ...

    text = '{"what": ' + "[" * 100_000 + "]" * 100_000 + "}"
    assert "recursion" in faults(run, text)


@given(any_text | json_values.map(json.dumps))
def test_arguments_are_read_or_refused_whatever_they_are(text: str) -> None:
    try:
        told = repr(arguments(sell, text))
    except FunctionFailed as exc:
        told = str(exc)
    assert told


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=3))
def test_an_argument_of_any_type_comes_as_it_is(given_: dict[str, Any]) -> None:
    def run(what: dict[str, Any]) -> None: ...

    assert arguments(run, json.dumps({"what": given_})) == {"what": given_}


# --- modules named in the configuration -------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with sts-trio.toml and a place for modules, forgotten at the end."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    write(
        tmp_path / "my_functions.py",
        """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        from my_colours import Colour
        from sts_trio import function
        from sts_trio.call_control import hang_up
        if TYPE_CHECKING:
            from collections.abc import Mapping
            from sts_trio import Call

        @function
        async def paint(call: Call, colour: Colour) -> Mapping[str, str]:
            "Paint the car."

        def _helper(): ...

        def unmarked(number: int): ...
        """,
    )
    write(tmp_path / "my_colours.py", "from typing import Literal\nColour = Literal['red']\n")
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def write(path: Path, text: str) -> None:
    path.write_text(textwrap.dedent(text))


def functions_of(project: Path, *specs: str) -> Functions:
    write(project / "sts-trio.toml", f"agent = 'offline'\nfunctions = {list(specs)}\n")
    return Server(load({}, project)).functions


def complaint(project: Path, *specs: str) -> str:
    with pytest.raises(ConfigError) as caught:
        functions_of(project, *specs)
    message = str(caught.value)
    assert message.isprintable()
    return message


def test_a_module_beside_the_configuration_gives_all_that_is_marked_in_it(project: Path) -> None:
    functions = functions_of(project, "my_functions")
    assert [each.name for each in functions] == ["hang_up", "paint"]
    paint = functions.find("paint", "default")
    assert paint is not None
    # `Call` exists for the type checker alone there, and so does what it returns.
    assert paint.parameters.call == "call"
    assert list(paint.parameters.schema["properties"]) == ["colour"]


def test_one_function_can_be_named_marked_or_not(project: Path) -> None:
    functions = functions_of(project, "my_functions:unmarked", "sts_trio.call_control:transfer")
    assert [each.name for each in functions] == ["unmarked", "transfer"]


def test_a_module_in_the_working_directory_is_found(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    server = Server(load({"STS_AGENT": "offline", "STS_FUNCTIONS": "my_functions:paint"}, project))
    assert [each.name for each in server.functions] == ["paint"]


def test_without_modules_the_path_stays_as_it_was(project: Path) -> None:
    before = list(sys.path)
    functions_of(project)
    assert sys.path == before


def test_a_module_that_is_not_there_is_named(project: Path) -> None:
    assert complaint(project, "my_funktions") == (
        f"{project / 'sts-trio.toml'}: functions: my_funktions cannot be imported:"
        " ModuleNotFoundError: No module named 'my_funktions'"
    )
    with pytest.raises(ConfigError) as caught:
        Server(load({"STS_AGENT": "offline", "STS_FUNCTIONS": "my_funktions"}, project))
    assert str(caught.value).startswith("STS_FUNCTIONS: my_funktions cannot be imported")
    assert refusal("my_funktions").startswith("functions: my_funktions cannot be imported")


def test_a_module_that_fails_says_how_and_where(project: Path) -> None:
    write(project / "broken.py", "import trio\n1 / 0\n")
    assert complaint(project, "broken").endswith(
        "functions: broken cannot be imported: ZeroDivisionError: division by zero"
        f" ({project / 'broken.py'}, line 2)"
    )
    write(project / "leaving.py", "raise SystemExit(3)\n")
    assert "cannot be imported: SystemExit: 3" in complaint(project, "leaving")
    write(
        project / "misspelt.py",
        "from sts_trio import function\n@function(filer='Wait.')\ndef f(): ...\n",
    )
    told = complaint(project, "misspelt")
    assert "Unexpected keyword argument 'filer'" in told
    assert told.endswith("misspelt.py, line 2)")


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("import os\n\nKEY = os.environ['NO_SUCH_KEY']\n", "KeyError: 'NO_SUCH_KEY'", 3),
        ("import json\njson.loads('{')\n", "JSONDecodeError: Expecting property name", 2),
        ("import click\nclick.Choice(5)\n", "TypeError: ", 2),
        ("import nonsense_\n", "ModuleNotFoundError: No module named 'nonsense_'", 1),
        ("from os import nonsense_\n", "ImportError: cannot import name 'nonsense_' from 'os'", 1),
        ("\ndef f(:\n    pass\n", "SyntaxError: invalid syntax", 2),
        ("def f():\n\tpass\n        pass\n", "TabError: inconsistent use of tabs", 3),
        ("import my_colours\nmy_colours.Kolour\n", "AttributeError: module 'my_colours'", 2),
    ],
)
def test_a_module_that_fails_is_told_by_the_line_of_the_user(
    project: Path, text: str, reason: str, line: int
) -> None:
    """Not by that of Python's, or of a library, which it has called."""
    (project / "failing.py").write_text(text)
    told = complaint(project, "failing")
    assert f"functions: failing cannot be imported: {reason}" in told
    assert told.endswith(f"({project / 'failing.py'}, line {line})")
    assert "<" not in told


def test_a_module_that_another_one_imports_is_told_by_its_own_line(project: Path) -> None:
    write(project / "outer.py", "import inner_\n")
    write(project / "inner_.py", "import os\nos.environ['NO_SUCH_KEY']\n")
    assert complaint(project, "outer").endswith(f"({project / 'inner_.py'}, line 2)")


def test_a_module_of_somebody_elses_that_fails_is_told_by_its_line(project: Path) -> None:
    assert "cannot be imported: ModuleNotFoundError" in complaint(project, "json.nonsense_")


def test_a_module_without_functions_is_refused(project: Path) -> None:
    assert complaint(project, "my_colours").endswith(
        "functions: my_colours holds none: mark them with @function, or name one: my_colours:NAME"
    )
    assert complaint(project, "my_colours:pain").endswith("functions: my_colours holds no pain")
    told = "functions: my_functions holds no pain; its functions are hang_up, paint"
    assert complaint(project, "my_functions:pain").endswith(told)
    assert "expected a plain or async function" in complaint(project, "my_colours:Colour")


@pytest.mark.parametrize(
    "spec", ["my functions", "a:b:c", "a:", ":b", "a..b", "a/b.py", "a.py", "a.py:b", "a:b.c"]
)
def test_what_cannot_name_a_module_is_refused_when_the_configuration_is_read(
    project: Path, spec: str
) -> None:
    assert "sts-trio.toml: functions: expected modules with functions" in complaint(project, spec)


def test_a_function_may_be_named_as_python_files_end(project: Path) -> None:
    write(project / "named.py", "def py():\n    'Python.'\n")
    (function,) = functions_of(project, "named:py")
    assert function.name == "py"


# --- agents are told --------------------------------------------------------------------------

THINK = {"provider": {"type": "open_ai", "model": "gpt-4o-mini"}}
HTTP = {"name": "weather", "parameters": {}, "endpoint": {"url": "https://weather.example"}}
PING = {
    "name": "ping",
    "description": "Answer.",
    "parameters": {"type": "object", "properties": {}},
}


@function
def ping() -> None:
    """Answer."""


@function(agents="sales")
def quote(price: int) -> None:
    """Make an offer."""


@function
def bare() -> None: ...


def app_agents(project: Path, text: str, *functions: Callable[..., Any]) -> Any:
    write(project / "sts-trio.toml", "agent = 'offline'\n" + textwrap.dedent(text))
    return Server(load({}, project), functions).config


def test_an_agent_gets_the_functions_it_may_call_after_those_it_has() -> None:
    agent = {"greeting": "Hi.", "think": {**THINK, "functions": [HTTP]}}
    before = json.dumps(agent)
    told = with_functions(agent, Functions([ping, quote]).definitions("default"))
    assert told == {"greeting": "Hi.", "think": {**THINK, "functions": [HTTP, PING]}}
    assert json.dumps(agent) == before
    assert with_functions(agent, []) is agent
    deepgram_settings.check_agent(told)
    assert legacy.encode(deepgram_settings.phone_settings(told))


def test_each_fallback_of_an_agent_gets_them() -> None:
    told = with_functions({"think": [THINK, {**THINK, "functions": None}]}, [PING])
    assert told == {"think": [{**THINK, "functions": [PING]}] * 2}


THINKS = '[agents.default.think]\nprovider = { type = "open_ai", model = "gpt-4o-mini" }\n'


def test_the_app_tells_each_configured_agent_what_it_may_call(project: Path) -> None:
    settings = app_agents(
        project,
        """
        [agents.default.think]
        provider = { type = "open_ai", model = "gpt-4o-mini" }
        [agents.sales.think]
        provider = { type = "open_ai", model = "gpt-4o-mini" }
        functions = [{ name = "weather", endpoint = { url = "https://weather.example" } }]
        """,
        ping,
        quote,
    )
    names = {
        name: [each["name"] for each in agent["think"]["functions"]]
        for name, agent in settings.agents.items()
    }
    assert names == {"default": ["ping"], "sales": ["weather", "ping", "quote"]}
    assert settings.warnings == ()


def test_a_name_that_an_agent_has_already_is_refused(project: Path) -> None:
    text = """
        [agents.default.think]
        provider = { type = "open_ai", model = "gpt-4o-mini" }
        functions = [{ name = "ping", endpoint = { url = "https://ping.example" } }]
        """
    with pytest.raises(ConfigError) as caught:
        app_agents(project, text, ping)
    assert str(caught.value).startswith(
        "agents.default.think.functions: ping is a function of this server too; take it out"
    )


def test_a_function_for_an_agent_that_is_not_there_is_refused(project: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        app_agents(project, "", quote)
    assert str(caught.value) == (
        "functions: quote is for the agent sales, which is not configured; configured are default"
    )


def test_an_agent_that_does_not_think_cannot_be_told(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"agents\.default: expected a think block"):
        app_agents(project, "[agents.default]\ngreeting = 'Hi.'\n", ping)


def test_a_stored_agent_may_know_the_functions_itself_so_it_gets_a_warning(project: Path) -> None:
    text = f"[agents]\nstored = '{UUID}'\n{THINKS}"
    settings = app_agents(project, text, ping)
    assert settings.agents["stored"] == UUID
    (warning,) = settings.warnings
    assert warning.startswith("agents.stored: a stored agent cannot be told of functions;")
    assert "ping" in warning
    assert app_agents(project, text).warnings == ()


def test_a_function_that_nobody_will_run_gets_a_warning(project: Path) -> None:
    text = """
        [[agents.default.think]]
        provider = { type = "open_ai", model = "gpt-4o-mini" }
        functions = [{ name = "pong" }, { name = "weather", endpoint = { url = "https://x.y" } }]
        [[agents.default.think]]
        provider = { type = "groq", model = "m" }
        endpoint = { url = "https://x.y" }
        functions = [{ name = "pong" }]
        """
    (warning,) = app_agents(project, text, ping).warnings
    assert warning.startswith("agents.default.think.functions: pong has no endpoint, and this")


def test_a_function_that_the_model_is_told_nothing_of_gets_a_warning(project: Path) -> None:
    text = THINKS
    assert app_agents(project, text, ping, bare).warnings == (
        "functions: bare has no docstring: the model has to guess what it is for",
    )


def test_a_docstring_of_a_parameter_that_there_is_not_gets_a_warning(project: Path) -> None:
    def paint(call: Call, colour: str) -> None:
        """Paint.

        Args:
            call: The call.
            color: Which one.
        """

    text = THINKS
    assert app_agents(project, text, paint).warnings == (
        "functions: paint: its docstring describes color, but what it takes is colour",
    )


def test_a_description_that_the_models_provider_refuses_gets_a_warning(project: Path) -> None:
    def wordy() -> None: ...

    text = """
        [[agents.default.think]]
        provider = {{ type = "{}", model = "m" }}
        [[agents.default.think]]
        provider = {{ type = "anthropic", model = "m" }}
        """
    wordy.__doc__ = "x" * 1024
    assert app_agents(project, text.format("open_ai"), wordy).warnings == ()
    wordy.__doc__ = "x" * 1025
    assert app_agents(project, text.format("anthropic"), wordy).warnings == ()
    assert app_agents(project, text.format("open_ai"), wordy).warnings == (
        "agents.default: the description of the function wordy has 1025 letters, and OpenAI refuses"
        " more than 1024: shorten its docstring",
    )


def test_google_is_told_no_format_that_its_models_refuse() -> None:
    def remind(
        at: datetime,
        days: list[date],
        slot: Annotated[dict[str, time], msgspec.Meta(description="By name.")],
        format: Annotated[time, msgspec.Meta(description="When.")],
    ) -> None:
        """Remind."""

    definitions = Functions([remind]).definitions("default")
    before = json.dumps(definitions)
    google = {"provider": {"type": "google"}}
    told = with_functions({"think": [google, THINK]}, definitions)["think"]
    assert told[1]["functions"] == definitions
    assert json.dumps(definitions) == before
    properties = told[0]["functions"][0]["parameters"]["properties"]
    assert properties == {
        "at": {"type": "string", "format": "date-time"},
        "days": {"type": "array", "items": {"type": "string", "description": "format: date"}},
        "slot": {
            "type": "object",
            "description": "By name.",
            "additionalProperties": {"type": "string", "description": "format: time"},
        },
        "format": {"type": "string", "description": "When. (format: time)"},
    }


def test_a_hand_over_names_its_agent() -> None:
    assert hand_over("sales") == HandOver("sales")
    agents: dict[str, AgentSettings] = {"default": UUID}
    assert Functions().definitions(next(iter(agents))) == []


# --- the package's own face -------------------------------------------------------------------


def test_the_package_offers_what_functions_need_and_imports_it_when_asked() -> None:
    script = (
        "import sys, sts_trio\n"
        "early = [each for each in sys.modules if each.startswith('sts_trio.')]\n"
        "from sts_trio import Call, FunctionFailed, function, hand_over\n"
        "assert Call is sys.modules['sts_trio.call.api'].Call\n"
        "print(early, 'quart' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG, check=True
    )
    assert done.stdout.strip() == "[] False"
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = sts_trio.nonsense  # type: ignore[attr-defined]
