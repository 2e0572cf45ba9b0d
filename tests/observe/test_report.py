"""The way of an event into the log."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from sts_trio.observe import events
from sts_trio.observe.report import report


@pytest.fixture(autouse=True)
def warnings_and_worse() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(events.Level.WARNING))
    yield
    structlog.reset_defaults()


def test_of_what_the_log_does_not_want_no_field_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def log_fields(event: events.Event, **_: Any) -> dict[str, Any]:
        written.append(event)
        return {}

    monkeypatch.setattr(events.Event, "log_fields", log_fields)
    quiet, loud = events.CallTranscript("user", "hello"), events.CallCrashed()
    assert quiet.level < events.Level.WARNING <= loud.level
    with structlog.testing.capture_logs() as logs:
        report(quiet)
        report(loud)
    assert written == [loud]
    assert [line["event"] for line in logs] == [loud.NAME]
