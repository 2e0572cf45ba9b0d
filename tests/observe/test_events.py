"""The catalogue of events, and that nobody writes an event's name beside it."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest

from sts_trio.errors import Verdict
from sts_trio.logic.output import Statistics
from sts_trio.observe import events
from sts_trio.observe.events import EVENTS, MAX_JSON, MAX_TEXT, Event, Kind, Level, OfCall
from sts_trio.observe.feed import CallEvent

ROOT = Path(__file__).parent.parent.parent
CATALOGUE = ROOT / "sts_trio" / "observe" / "events"
SCRIPTS = sorted((ROOT / "sts_trio" / "web" / "static").glob("*.js"))
SAMPLES: dict[Any, Any] = {
    str: "x",
    int: 7,
    float: 1.5,
    bool: True,
    list[str]: ["x"],
    dict[str, int] | None: {"x": 1},
}


def sample(event: type[Event]) -> Event:
    """One of it, with something in every field."""
    values = {}
    for name, hint in get_type_hints(event).items():
        if name in event.__struct_fields__:
            options = [hint, *getattr(hint, "__args__", ())]
            values[name] = next(SAMPLES[each] for each in options if each in SAMPLES)
    return event(**values)


EACH = pytest.mark.parametrize("event", EVENTS.values(), ids=list(EVENTS))


# --- the catalogue --------------------------------------------------------------------------------


def test_every_event_of_the_files_is_in_the_catalogue() -> None:
    classes = [
        node.name
        for path in CATALOGUE.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    ]
    listed = [event.__name__ for event in EVENTS.values()]
    assert {name for name in classes if hasattr(getattr(events, name), "NAME")} == set(listed)
    assert len(listed) > 50


@EACH
def test_an_event_is_noun_and_verb_and_named_as_its_class(event: type[Event]) -> None:
    assert re.fullmatch(r"[a-z_]+\.[a-z_]+", event.NAME)
    assert event.__name__.lower() == re.sub("[._]", "", event.NAME)


@EACH
def test_an_event_says_what_happened(event: type[Event]) -> None:
    assert event.__doc__
    assert event.__doc__.strip().endswith(".") or "`" in event.__doc__
    if event.level is not Event.level:
        assert event.level.__doc__, "where the level depends, it is told on what"
        assert isinstance(sample(event).level, Level)


@EACH
def test_an_event_is_read_back_from_what_was_told_of_it(event: type[Event]) -> None:
    told = sample(event)
    fields = json.loads(msgspec.json.encode(told.fields()))
    assert events.read(event.NAME, fields) == told


def test_an_event_of_another_version_is_none_and_one_with_other_fields_is_an_error() -> None:
    assert events.read("call.nonesuch", {}) is None
    with pytest.raises(msgspec.ValidationError):
        events.read(events.CallStatus.NAME, {"status": ["busy"]})


def test_what_is_none_is_not_told() -> None:
    started = events.CallStarted("CA1", "MZ1", from_="+15550100")
    assert started.fields() == {"call_sid": "CA1", "stream_sid": "MZ1", "from": "+15550100"}


def test_an_event_in_the_feed_has_its_name_and_its_fields() -> None:
    told = CallEvent("CA1", 1.5, events.CallStatus("busy"))
    assert json.loads(told.json) == {
        "call_sid": "CA1",
        "at": 1.5,
        "event": "call.status",
        "fields": {"status": "busy"},
    }


# --- levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", Verdict)
def test_the_level_of_an_end_follows_the_verdict(verdict: Verdict) -> None:
    expected = {Verdict.AGENT: Level.WARNING, Verdict.OURS: Level.ERROR}.get(verdict, Level.INFO)
    assert events.CallEnded("stop", verdict.value, "", 1.0).level is expected


def test_the_level_of_a_functions_end_follows_what_the_log_would_not_know_else() -> None:
    def level(outcome: str, unawaited: bool | None = None) -> Level:
        ended = events.FunctionFinished("f1", "look_up", outcome, 1.0, unawaited=unawaited)
        return ended.level

    assert level("done") is Level.DEBUG
    assert level("timed_out") is Level.WARNING
    assert level("late", True) is level("timed_out", True) is Level.INFO


def test_a_function_that_fails_on_purpose_is_no_error() -> None:
    assert events.FunctionFailed("f1", "look_up", "no", crashed=False).level is Level.WARNING
    assert events.FunctionFailed("f1", "look_up", "no", crashed=True).level is Level.ERROR


# --- what is told to whom -------------------------------------------------------------------------


def test_what_functions_are_told_is_in_the_log_for_who_asked_for_it_and_at_debug_only() -> None:
    ended = events.FunctionFinished("f1", "look_up", "done", 1.0, result='"secret"')
    assert "result" not in ended.log_fields()
    assert ended.log_fields(with_words=True)["result"] == '"secret"'
    late = msgspec.structs.replace(ended, outcome="late", unawaited=True)
    assert "result" not in late.log_fields(with_words=True)
    assert late.fields()["result"] == '"secret"'


@EACH
@pytest.mark.parametrize("with_words", [False, True])
def test_a_log_line_has_words_only_at_debug_and_for_who_asked_for_them(
    event: type[Event], with_words: bool
) -> None:
    told = sample(event)
    kinds = events.kinds(event)
    secret = {name for name, kind in kinds.items() if kind in (Kind.WORDS, Kind.JSON)}
    left_out = set() if with_words and told.level is Level.DEBUG else secret
    fields = told.log_fields(with_words=with_words)
    assert told.fields().keys() - fields.keys() == left_out


def test_texts_are_kept_short() -> None:
    long = "x" * 1_000_000
    called = events.bounded(events.FunctionCalled(long, "look_up", long, shield=False))
    assert isinstance(called, events.FunctionCalled)
    assert (len(called.id), len(called.arguments)) == (MAX_TEXT, MAX_JSON)
    assert len(called.log_fields(with_words=True)["arguments"]) == MAX_TEXT
    short = events.FunctionCalled("f1", "look_up", "{}", shield=False)
    assert events.bounded(short) is short


def test_all_the_statistics_of_a_call_are_told_at_its_end() -> None:
    assert set(Statistics.__struct_fields__) <= set(events.CallEnded.__struct_fields__)


# --- nobody else writes a name --------------------------------------------------------------------


NAMES = re.compile("|".join(map(re.escape, EVENTS)))


def python_files() -> Iterator[Path]:
    for folder in ("sts_trio", "tests", "examples", "bench", "docs"):
        yield from (
            path for path in sorted((ROOT / folder).rglob("*.py")) if CATALOGUE not in path.parents
        )


def literals(path: Path) -> Iterator[ast.Constant]:
    text = path.read_text()
    if NAMES.search(text) is None:  # most files: to parse one takes much longer
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node


def test_no_python_file_writes_the_name_of_an_event() -> None:
    here = Path(__file__)
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value!r}"
        for path in python_files()
        if path != here
        for node in literals(path)
        if node.value in EVENTS
    ]
    assert found == []


def test_the_test_sees_a_name_that_is_written(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('log("call.ended", ending="stop")\n"""call.ended is told"""\n')
    assert [node.value for node in literals(path) if node.value in EVENTS] == ["call.ended"]


def test_only_one_place_of_the_package_writes_log_lines_of_ours() -> None:
    """Else an event could be written past the catalogue."""
    writers = [
        path.relative_to(ROOT / "sts_trio").as_posix()
        for path in sorted((ROOT / "sts_trio").rglob("*.py"))
        if "structlog.get_logger(" in path.read_text().replace("`structlog.get_logger()`", "")
    ]
    assert writers == ["observe/report.py"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_of_the_page_knows_no_other_events(script: Path) -> None:
    text = script.read_text()
    written = set(re.findall(r"""["'`]([a-z_]+\.[a-z_]+)["'`]""", text))
    nouns = {name.partition(".")[0] for name in EVENTS}
    unknown = {name for name in written if name.partition(".")[0] in nouns} - EVENTS.keys()
    files = (".js", ".css", ".svg", ".wav")
    assert not {name for name in unknown if not name.endswith(files)}
    of_calls = {name for name in written & EVENTS.keys() if issubclass(EVENTS[name], OfCall)}
    assert written & EVENTS.keys() == of_calls, "the page is told of calls only"


def test_the_page_asks_events_for_fields_that_they_have() -> None:
    fields = {name for event in EVENTS.values() for name in event.__struct_encode_fields__}
    asked = {
        name
        for script in SCRIPTS
        for name in re.findall(r"\bfields\.([A-Za-z_]+)", script.read_text())
    }
    assert asked
    assert asked <= fields
