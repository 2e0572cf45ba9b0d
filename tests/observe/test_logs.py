import errno
import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypercorn.config import Config as HypercornConfig

from sts_trio.config import Config, load
from sts_trio.observe import events
from sts_trio.observe.logs import configure

LIBRARIES = ("hypercorn", "hypercorn.error", "hypercorn.access", "sts_trio.test_log")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    loggers = [logging.getLogger(), *map(logging.getLogger, LIBRARIES)]
    before = [
        (logger, logger.handlers, logger.filters, logger.level, logger.propagate)
        for logger in loggers
    ]
    yield
    for logger, handlers, filters, level, propagate in before:
        logger.handlers, logger.filters, logger.propagate = handlers, filters, propagate
        logger.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def config(**environ: str) -> Config:
    return load({"STS_AGENT": "offline", **environ}, Path("/nonexistent"))


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_a_line_of_json_has_its_level_its_time_and_what_was_bound(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(config(STS_LOG="json"))
    with structlog.contextvars.bound_contextvars(call_sid="CA1", stream_sid="MZ1"):
        structlog.get_logger().info(events.CallEnded.NAME, ending="stop", seconds=3.5)
    (line,) = json_lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": events.CallEnded.NAME,
        "level": "info",
        "call_sid": "CA1",
        "stream_sid": "MZ1",
        "ending": "stop",
        "seconds": 3.5,
    }


def test_a_line_for_people_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure(config())
    with structlog.contextvars.bound_contextvars(call_sid="CA1"):
        structlog.get_logger().warning(events.CallEnded.NAME, detail="two\nlines \x1b[31m")
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert "[warning  ] call.ended" in line
    assert "call_sid=CA1" in line
    # What a peer sent can neither start a line of its own nor paint the terminal.
    assert r"two\nlines \x1b[31m" in line
    assert "\x1b" not in line


def test_a_terminal_gets_colours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "")
    configure(config())
    structlog.get_logger().info(events.CallStarted.NAME)
    assert "\x1b[" in capsys.readouterr().err


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_whose_user_wants_no_colours_gets_none(
    variable: str,
    value: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    configure(config())
    structlog.get_logger().info(events.CallStarted.NAME)
    assert "\x1b" not in capsys.readouterr().err


class Gone:
    """A terminal that was closed; on what it is told fails that."""

    def __init__(self, failing: str) -> None:
        self._failing = failing
        self.tried: list[str] = []

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> None:
        self._try("write")

    def flush(self) -> None:
        self._try("flush")

    def _try(self, what: str) -> None:
        self.tried.append(what)
        if what == self._failing:
            raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("failing", ["write", "flush"])
@pytest.mark.parametrize("logger", [structlog.get_logger, lambda: logging.getLogger("hypercorn")])
def test_a_line_that_nobody_can_be_told_costs_nothing_else(
    monkeypatch: pytest.MonkeyPatch, failing: str, logger: Callable[[], Any]
) -> None:
    terminal = Gone(failing)
    monkeypatch.setattr(sys, "stderr", terminal)
    configure(config())
    logger().warning("said to nobody")
    assert terminal.tried == ["write", "flush"]


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("debug", ["d", "i", "w", "e"]),
        ("info", ["i", "w", "e"]),
        ("warning", ["w", "e"]),
        ("error", ["e"]),
    ],
)
def test_the_level_is_the_least_that_is_said(
    level: str, events: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    configure(config(STS_LOG="json", STS_LOG_LEVEL=level))
    log = structlog.get_logger()
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    assert [line["event"] for line in json_lines(capsys)] == events


def test_libraries_look_like_us(capsys: pytest.CaptureFixture[str]) -> None:
    configure(config(STS_LOG="json"))
    with structlog.contextvars.bound_contextvars(call_sid="CA1"):
        logging.getLogger("sts_trio.test_log").warning("Odd: %s", "x")
    (line,) = json_lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "Odd: x",
        "level": "warning",
        "logger": "sts_trio.test_log",
        "call_sid": "CA1",
    }


def test_libraries_do_not_chat(capsys: pytest.CaptureFixture[str]) -> None:
    configure(config(STS_LOG="json", STS_LOG_LEVEL="debug"))
    logging.getLogger("trio-websocket").debug("received event: ...")
    logging.getLogger("twilio.http_client").info("Request: ...")
    assert json_lines(capsys) == []


@pytest.mark.parametrize("first", ["hypercorn", "we"])
def test_a_line_of_hypercorn_is_not_doubled_whoever_comes_first(
    first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hypercorn = HypercornConfig()
    hypercorn.accesslog = "-"
    if first == "we":
        configure(config(STS_LOG="json"))
    assert hypercorn.log.error_logger is not None
    assert hypercorn.log.access_logger is not None
    if first == "hypercorn":
        configure(config(STS_LOG="json"))
    hypercorn.log.error_logger.info("Running on %s", "http://127.0.0.1:5000")
    hypercorn.log.access_logger.info("GET /healthz")
    assert [(line["event"], line["logger"]) for line in json_lines(capsys)] == [
        ("Running on http://127.0.0.1:5000", "hypercorn.error"),
        ("GET /healthz", "hypercorn.access"),
    ]


def test_hypercorn_keeps_to_the_level_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure(config(STS_LOG="json", STS_LOG_LEVEL="warning"))
    hypercorn = HypercornConfig()
    assert hypercorn.log.error_logger is not None
    hypercorn.log.error_logger.info("Running on %s", "http://127.0.0.1:5000")
    hypercorn.log.error_logger.warning("Odd.")
    assert [line["event"] for line in json_lines(capsys)] == ["Odd."]


def test_a_handler_that_was_there_before_us_does_not_double_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logging.getLogger("sts_trio.test_log").addHandler(logging.StreamHandler(sys.stderr))
    configure(config(STS_LOG="json"))
    logging.getLogger("sts_trio.test_log").error("Once.")
    assert [line["event"] for line in json_lines(capsys)] == ["Once."]


def test_setting_up_again_replaces_what_was_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    log = structlog.get_logger()
    configure(config())
    log.info("first")
    assert "first" in capsys.readouterr().err
    configure(config(STS_LOG="json"))
    log.info("second")
    logging.getLogger("hypercorn.error").info("third")
    assert [line["event"] for line in json_lines(capsys)] == ["second", "third"]


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_crash_has_its_traceback_and_no_local_variables(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(config(STS_LOG=log_format))

    def crash() -> None:
        api_key = "s3cret"
        raise RuntimeError(f"after {len(api_key)} letters")

    for log in (structlog.get_logger(), logging.getLogger("sts_trio.test_log")):
        try:
            crash()
        except RuntimeError:
            log.exception(events.CallCrashed.NAME)
    err = capsys.readouterr().err
    assert err.count(events.CallCrashed.NAME) == 2
    assert err.count("RuntimeError: after 6 letters") == 2
    assert err.count("in crash") == 2
    # The line that raised is shown, the values around it are not.
    assert err.count("s3cret") == 0


# --- what others say ----------------------------------------------------------------------------

COLOUR = re.compile("\x1b\\[[0-9;]*m")
FORGED = "2026-11-26T00:00:00Z [info] call.ended"
EVIL = f"\x1b]0;pwned\x07\x9b2J\u202e\x7f\ud800\r\u2028\x85\n{FORGED}"


class Evil(Exception):
    pass


class Nameless(Exception):
    def __str__(self) -> str:
        raise ValueError(EVIL)


def _chained() -> None:
    try:
        raise Evil(EVIL)
    except Evil as exc:
        raise ValueError(EVIL) from exc


def _while_handling() -> None:
    try:
        raise Evil(EVIL)
    except Evil:
        raise KeyError(EVIL)  # noqa: B904


def _with_notes() -> None:
    error = Evil("x")
    error.add_note(EVIL)
    raise error


def _in_a_group() -> None:
    raise ExceptionGroup(EVIL, [Evil(EVIL), ExceptionGroup(EVIL, [ValueError(EVIL)])])


def _of_syntax() -> None:
    raise SyntaxError(EVIL, ("file" + EVIL, 1, 2, "code" + EVIL))


def _nameless() -> None:
    raise Nameless


def _odd_notes() -> None:
    error = Evil(EVIL)
    error.__notes__ = 7  # type: ignore[assignment]
    raise error


def logged(exc: Callable[[], None] | None = None, **fields: Any) -> None:
    """Said by ours and by a library, in whatever way there is."""
    ours, theirs = structlog.get_logger(), logging.getLogger("sts_trio.test_log")
    if exc is None:
        ours.warning("plain", **fields)
        ours.warning(EVIL, **fields)
        theirs.warning("Odd: %s", EVIL)
        theirs.warning(EVIL)
        return
    try:
        exc()
    except Exception as caught:
        ours.exception(EVIL, **fields)
        ours.error("plain", exc_info=caught)
        theirs.exception("plain")
        theirs.error(EVIL, exc_info=caught)


CASES: dict[str, dict[str, Any]] = {
    "a value": {"reason": EVIL},
    "a value with spaces": {"reason": f"it said {EVIL!s} = 'x'"},
    "a key": {EVIL: 1},
    "a key named as the log's own": {"stack": EVIL, "exception": EVIL, "logger": EVIL},
    "in a table": {"odd": {EVIL: {EVIL: [EVIL, (EVIL,)]}}},
    "bytes": {"data": EVIL.encode("utf-8", "surrogatepass")},
    "an exception as a value": {"cause": Evil(EVIL)},
    "an exception": {"exc": lambda: (_ for _ in ()).throw(Evil(EVIL))},
    "chained": {"exc": _chained},
    "while handling": {"exc": _while_handling},
    "notes": {"exc": _with_notes},
    "odd notes": {"exc": _odd_notes},
    "a group": {"exc": _in_a_group},
    "syntax": {"exc": _of_syntax},
    "without a message": {"exc": _nameless},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["console", "terminal", "json"])
def test_nothing_that_others_say_paints_the_terminal_or_forges_a_line(
    kind: str,
    case: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind == "terminal":
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    configure(config(STS_LOG="json" if kind == "json" else "console"))
    with structlog.contextvars.bound_contextvars(call_sid=EVIL):
        logged(**CASES[case])
    out, err = capsys.readouterr()
    assert out == ""
    lines = COLOUR.sub("", err).rstrip("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith("2026-11-26")]
    assert "pwned" in err
    err.encode()
    if kind == "json":
        assert len(lines) == 4
        for line in lines:
            told = json.loads(line)
            told.pop("exception", None)
            # Parsed as well, as another program shows it.
            assert json.dumps(told, ensure_ascii=False).isprintable()
    elif "exc" not in CASES[case]:
        assert len(lines) == 4


def test_a_traceback_is_as_ever_where_there_is_nothing_odd_in_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(config())
    try:
        _ = 1 / 0
    except ZeroDivisionError as exc:
        structlog.get_logger().exception(events.CallCrashed.NAME)
        usual = "".join(traceback.format_exception(exc))
    assert usual.rstrip("\n") in capsys.readouterr().err


def test_a_chain_of_a_thousand_causes_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure(config(STS_LOG="json"))
    error = Evil("0")
    for number in range(1, 2000):
        following = Evil(str(number))
        following.__cause__ = error
        error = following
    structlog.get_logger().error("deep", exc_info=error)
    (line,) = json_lines(capsys)
    assert line["exception"].endswith("Evil: 1999")


def test_what_fills_a_message_fills_no_log(capsys: pytest.CaptureFixture[str]) -> None:
    configure(config(STS_LOG="json"))
    structlog.get_logger().warning("odd", reason="x" * 10**6)
    logging.getLogger("sts_trio.test_log").warning("%s", "y" * 10**6)
    for line in capsys.readouterr().err.splitlines():
        assert len(line) < 5000
