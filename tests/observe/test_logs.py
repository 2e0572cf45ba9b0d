import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypercorn.config import Config as HypercornConfig

from sts_trio.config import Config, load
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
        structlog.get_logger().info("call.ended", ending="stop", seconds=3.5)
    (line,) = json_lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "call.ended",
        "level": "info",
        "call_sid": "CA1",
        "stream_sid": "MZ1",
        "ending": "stop",
        "seconds": 3.5,
    }


def test_a_line_for_people_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure(config())
    with structlog.contextvars.bound_contextvars(call_sid="CA1"):
        structlog.get_logger().warning("call.ended", detail="two\nlines \x1b[31m")
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
    configure(config())
    structlog.get_logger().info("call.started")
    assert "\x1b[" in capsys.readouterr().err


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
            log.exception("call.crashed")
    err = capsys.readouterr().err
    assert err.count("call.crashed") == 2
    assert err.count("RuntimeError: after 6 letters") == 2
    assert err.count("in crash") == 2
    # The line that raised is shown, the values around it are not.
    assert err.count("s3cret") == 0
