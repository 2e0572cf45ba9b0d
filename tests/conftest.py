"""How the suite runs, and how a test tells what it has measured."""

import gc
import math
import os
import signal
import sys
import types
from collections.abc import Callable, Generator
from typing import Any

import order
import pytest
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, is_hypothesis_test, settings
from werkzeug.routing import Rule

from sts_trio.bridge import collector
from sts_trio.config import records
from sts_trio.observe import watch

# Nothing is kept of a test's calls, neither here nor in processes that it starts, unless it says so
# or asks for what is the default.
os.environ["STS_DATABASE_URL"] = records.DEFAULT_URL = records.NOTHING

# Who shares a machine with other tests is kept waiting by them.
watch.STOOD = math.inf


def look_at_new(generation: int = 2) -> int:
    """As the collector; but not at everything, which a server of a test need not wait for."""
    return gc.collect(generation) if generation < 2 else 0


# A server freezes what it has made at its start, as that lasts. That of a test does not: it would
# never be freed. And whoever thawed it would thaw all that was collected (below): half a second for
# each further look at everything. Without that it is 20 to 40 ms at the start of each server, and
# as much when its first call has ended: a fifth of what its test takes.
THAWED = types.SimpleNamespace(
    collect=look_at_new,
    get_count=gc.get_count,
    get_threshold=gc.get_threshold,
    freeze=lambda: None,
    unfreeze=lambda: None,
    # The collector counts what is frozen one by one: 30 ms for all that was collected.
    get_freeze_count=lambda: 1,
    set_threshold=lambda *thresholds: None,
)
collector.gc = THAWED  # type: ignore[attr-defined, assignment]

# Each test that makes an app would have Werkzeug write and compile 60 functions, 8 ms of CPU: they
# build the URLs of routes, which nobody asks for. What they do depends on the route alone.
_compiled: dict[Any, Any] = {}
_compile = Rule._compile_builder


def _compile_once(rule: Rule, append_unknown: bool = True) -> Any:
    route = (rule.rule, tuple(rule._trace), bool(rule.defaults), append_unknown)
    if rule.defaults or route not in _compiled:
        _compiled[route] = _compile(rule, append_unknown)
    return _compiled[route]


Rule._compile_builder = _compile_once  # type: ignore[method-assign, assignment]

# Seconds from which on `--durations` is to tell what a test takes to be set up, or afterwards.
SLOW = 0.1

# Under `nohup` signals of a terminal that closes are ignored, also by processes that tests start.
# Behind an `&` so is Ctrl+C.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no fault of what is tested. A failure is told with what repeats it
# (`print_blob`), so no database is kept: it would be one more thing that differs between runs.
# A fifth of Hypothesis's own number of examples: what more would find is found by some of the next
# runs. Each night CI makes fifty times as many (`nox -s thorough`).
settings.register_profile(
    "suite",
    max_examples=20,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("suite"), max_examples=1000)
settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    # What chance finds is not counted as covered: another time it may not.
    if config.pluginmanager.hasplugin("_cov"):
        for item in items:
            if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj):
                item.add_marker("no_cover")
    yield
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes > 1:
        items[:] = order.spread(items, processes, os.cpu_count() or 1)


# Of what is collected nearly nothing is garbage: to look for it takes a fifth of the time.
gc.disable()


def pytest_collection_finish() -> None:
    """All that was collected stays until the end. Whoever runs the garbage collector in a test, and
    some do so two times each, need not look at it."""
    gc.collect()
    gc.freeze()
    gc.enable()
    if (running := sys.modules.get("sts_trio.testing.running")) is not None:
        running.gc = THAWED  # type: ignore[attr-defined]


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """One of several processes tells how a test ended, and what is slow or red beside it.

    It would tell five things of each, 50,000 in all: ten seconds of CPU, here and where they are
    read.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return None
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed or report.duration > SLOW:
            item.ihook.pytest_runtest_logreport(report=report)
    return True


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Tells a figure below the results, whichever process the test ran in."""
    return lambda figure: record_property("figure", figure)


@pytest.fixture
def calls_kept_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STS_DATABASE_URL", raising=False)
    monkeypatch.setattr(records, "DEFAULT_URL", f"sqlite:///{records.FILE}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    properties = [
        each for report in terminalreporter.getreports("passed") for each in report.user_properties
    ]
    figures = [figure for name, figure in properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
        for figure in figures:
            terminalreporter.write_line(figure)
