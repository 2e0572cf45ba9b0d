"""What `sts-trio load` is asked, refuses, decides and draws."""

import contextlib
import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from limits import HANG
from rich.console import Console
from rig_commands import failure, run
from rig_load import AUDIO, DELAYS, RUN

from sts_trio.commands.load import _Screen
from sts_trio.load import compiled, conduct, criterion, load_test, machine, watched
from sts_trio.load.figures import Heard, Progress, Run, read_line
from sts_trio.load.picture import LEFT, LETTER, RIGHT, WIDTH, Line, Panel, card
from sts_trio.load.places import Place, Places, Refused
from sts_trio.load.plan import Agent, Plan
from sts_trio.load.python.options import read
from sts_trio.load.report import Capacity, Report, Tried, encode, sentences, table
from sts_trio.load.target import NotOurs, Target, find, is_of_this_machine
from sts_trio.load.watched import Possessions
from sts_trio.net import http
from sts_trio.simulate import twiml as twiml_of
from sts_trio.simulate.carrier import signer

FAR = "203.0.113.9"  # RFC 5737: of documentation, nobody's


def a_run(**changes: Any) -> Run:
    changes = {"own_lag": msgspec.structs.replace(DELAYS, p99=1.0), **changes}
    return msgspec.structs.replace(RUN, **changes)


# --- a bridge that takes no call ------------------------------------------------------------------

# A generator all of whose calls are refused in its first second, and not later.
BUSY = """
import sys
sys.stderr.write("{said}")
sys.stderr.flush()
print('{progress}', flush=True)
print('{run}', flush=True)
"""


REFUSES = r"generator: the bridge refuses: HTTP/1.1 503\n"


async def begin(
    *, placed: int, is_known: bool, said: str = REFUSES, refusals: Sequence[str] = ()
) -> Run:
    """`refusals` are the webhook's."""
    progress = Progress(placed, 0, False, 1, 0, 0, 0, 0.0)
    script = BUSY.format(
        progress=msgspec.json.encode(progress).decode(),
        run=msgspec.json.encode(RUN).decode(),
        said=said,
    )
    places = Places(at("ws://bridge:9/twilio"), None, {}, is_ours=False)
    places.refusals.update(dict.fromkeys(refusals, 1))
    with trio.fail_after(HANG):
        return await conduct.measure(
            Plan(calls=1, ramp=1, seconds=1),
            (sys.executable, "-c", script),
            places,
            lambda told: None,
            is_known=is_known,
        )


async def test_a_bridge_that_takes_no_call_ends_the_run_at_once() -> None:
    expected = pytest.RaisesExc(conduct.NoRun, match="no call is taken: HTTP/1.1 503$")
    with pytest.RaisesGroup(expected, flatten_subgroups=True):
        await begin(placed=1, is_known=False)


async def test_a_webhook_that_leads_nowhere_tells_why_no_call_is_taken() -> None:
    """The generator knows only that there is no place to call."""
    expected = pytest.RaisesExc(conduct.NoRun, match="no call is taken: the webhook rejects it$")
    with pytest.RaisesGroup(expected, flatten_subgroups=True):
        await begin(placed=1, is_known=False, said="", refusals=["the webhook rejects it"])


async def test_a_bridge_that_has_taken_calls_may_refuse_some() -> None:
    """It may have its hands full with the run before."""
    assert await begin(placed=1, is_known=True) == RUN


async def test_a_bridge_that_is_slow_to_answer_may_refuse_some() -> None:
    """Whether it takes a call is not known while one waits for its answer."""
    assert await begin(placed=2, is_known=False) == RUN


def test_what_to_do_about_a_refusal_is_told() -> None:
    assert "--signed" in conduct.refusal("HTTP/1.1 403 Forbidden")
    assert "/twilio" in conduct.refusal("HTTP/1.1 404 Not Found")
    assert conduct.refusal("HTTP/1.1 500 Oops") == "HTTP/1.1 500 Oops"


# --- whose bridge it is ---------------------------------------------------------------------------


async def test_this_machine_is_what_nobody_else_can_be_reached_by() -> None:
    assert all(map(is_of_this_machine, ("127.0.0.1", "127.8.9.10", "::1")))
    assert not is_of_this_machine(FAR)


@pytest.mark.parametrize("scheme", ["ws", "wss", "http", "https"])
def test_another_machine_has_to_be_asked_for_twice(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = failure("load", f"{scheme}://{FAR}/twilio", code=2)
    assert f"it leads to {FAR}, which is not this machine" in told
    assert "--yes-i-own-it" in told
    assert not list(tmp_path.iterdir())


async def test_a_name_with_one_foreign_address_is_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(*_: Any, **__: Any) -> list[Any]:
        return [(2, 1, 6, "", ("127.0.0.1", 80)), (2, 1, 6, "", (FAR, 80))]

    monkeypatch.setattr(trio.socket, "getaddrinfo", found)
    with pytest.raises(NotOurs, match=FAR):
        await find("ws://bridge.example/twilio", is_ours=False)
    assert (await find("ws://bridge.example/twilio", is_ours=True)).address == "127.0.0.1"


# --- money ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [[], ["--budget", "1"]])
def test_an_agent_that_may_cost_money_needs_a_budget_that_is_enough(
    budget: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = failure("load", "ws://127.0.0.1:9/twilio", "--agent", "bridge", *budget, code=2)
    assert "minutes of calls" in told
    assert "--budget 1:" in told if budget else "no --budget" in told


@pytest.mark.parametrize("option", [["--budget", "5"], ["--say", "x.wav"]])
def test_options_of_a_bridges_agent_are_of_no_use_without_it(option: list[str]) -> None:
    told = failure("load", "ws://127.0.0.1:9/twilio", *option, code=2)
    assert "only with --agent bridge" in told


def test_a_plan_states_no_fewer_minutes_than_it_may_take() -> None:
    plan = Plan(calls=10, ramp=5, seconds=60)
    assert plan.call_minutes >= 10 * (60 + 2) / 60
    assert msgspec.structs.replace(plan, churn=1).call_minutes >= 2 * plan.call_minutes


async def test_a_search_stops_where_the_budget_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(calls=2, ramp=5, seconds=30, agent=Agent.BRIDGE)
    budget = 7 * msgspec.structs.replace(plan, calls=1).call_minutes
    heard = Heard(10.0, 0, 0, 0, None)
    test, tried = searching(monkeypatch, plan, lambda calls: a_run(heard=heard), budget)
    report = await test.run("ws://127.0.0.1:9/twilio", None, {}, is_ours=False, most=100)
    assert report.capacity == Capacity(4, is_least=True)
    assert tried == [2, 4]


# --- what else cannot be --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["foo"], "not a URL"),
        (["ws://127.0.0.1:9/", "--endings", "1:1"], "three weights"),
        (["ws://127.0.0.1:9/", "--endings", "0:0:0"], "more than 0"),
        (["ws://127.0.0.1:9/", "--endings", "1:.:."], "three weights"),
        (["ws://127.0.0.1:9/", "--parameter", "x"], "NAME=VALUE"),
        (["ws://127.0.0.1:9/", "--out", "/none/x"], "cannot be written"),
        (
            ["ws://127.0.0.1:9/", "--agent", "bridge", "--budget", "99", "--generator", "c"],
            "take python",
        ),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    asked: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    python = [] if "--generator" in asked else ["--generator", "python"]
    assert told in failure("load", *asked, *python, code=2)


def test_a_process_that_is_not_there_is_told() -> None:
    with pytest.raises(watched.NotThere, match="--pid 99999999: there is no such process"):
        watched.look([99_999_999])
    assert watched.dead([99_999_999, os.getpid()]) == [99_999_999]


def test_a_process_that_has_died_is_not_taken_for_one_that_has_nothing() -> None:
    """Until its parent asks how it ended it is listed, with a memory of 0."""
    child = subprocess.Popen(["sleep", "60"])
    try:
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert watched.dead([child.pid]) == [child.pid]
        with pytest.raises(watched.NotThere, match="it has died"):
            watched.look([child.pid])
    finally:
        child.wait()


def test_what_a_server_has_more_than_before_was_left_behind() -> None:
    before, after = Possessions(50, 2, 10, 5), Possessions(90, 3, 13, 7)
    assert watched.left_behind(before, after) == [
        "2 sockets more than before",
        "3 descriptors more than before",
        "1 thread more than before",
    ]
    assert watched.left_behind(after, before) == []


def test_nothing_is_run_from_a_directory_that_others_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(compiled.NotCompiled, match="others may write"):
        compiled.cached(tmp_path)


def test_options_of_the_generator_are_read_as_they_are_written() -> None:
    words = ["--calls", "3", "--seconds", "1", "--host", "::1", "--port", "80", "--agent-port", "1"]
    options = read([*words, "--pid", "4", "--pid", "5", "--endings", "8,1,1", "--places"])
    assert (options.calls, options.pid, options.weights) == (3, [4, 5], [8, 1, 1])
    with pytest.raises(msgspec.ValidationError):
        read([*words, "--calls", "many"])
    with pytest.raises(ValueError, match="value is missing"):
        read([*words, "--speech"])


# --- when it does well ----------------------------------------------------------------------------


def test_a_bridge_does_well_by_the_criterion() -> None:
    assert load_test.judge(100, a_run(), 0).verdict == "well"


LATE = msgspec.structs.replace(DELAYS, p99=60.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"live": 99}, "1 of 100 calls were not through"),
        ({"refused": 1}, "1 call was refused"),
        ({"cut_off": 2}, "2 calls were cut off"),
        ({"failed": 1}, "1 of 100 calls failed, 1 %"),
        ({"failed": 100}, "100 of 100 calls failed, 100 %"),
        ({"up": msgspec.structs.replace(AUDIO, ok=99.4)}, "99.40 % of the audio"),
        ({"down": msgspec.structs.replace(AUDIO, foreign=1)}, "1 blocks came"),
        ({"up_ms": LATE}, "words took 60 ms"),
        ({"up_ms": None}, "no audio came to the agent"),
        ({"clear_ms": LATE}, "barge-in took 60 ms"),
        ({"clear_ms": None}, "no barge-in was answered"),
        ({"reach_ms": None}, "point the bridge at it"),
        ({"died": [4711]}, "process 4711 of the bridge died"),
    ],
)
def test_whatever_falls_short_is_named(changes: dict[str, Any], reason: str) -> None:
    found = load_test.judge(100, a_run(**changes), 0)
    assert found.verdict == "not well"
    assert reason in "; ".join(found.reasons)


def test_that_no_call_came_to_the_agent_is_told_first_and_nothing_that_follows_from_it() -> None:
    silent = msgspec.structs.replace(AUDIO, ok=0.0)
    lost = a_run(live=0, failed=100, reach_ms=None, up=silent, down=silent, up_ms=None)
    assert load_test.judge(100, lost, 0).reasons == [
        "no call came to the agent of this test: point the bridge at it",
        "100 of 100 calls were not through",
        "100 of 100 calls failed, 100 %",
    ]
    refused = msgspec.structs.replace(lost, refused=100, setup_ms=None)
    assert "agent" not in "; ".join(load_test.judge(100, refused, 0).reasons)


def test_less_than_one_of_a_thousand_may_fail() -> None:
    assert load_test.judge(100, a_run(placed=2000, failed=1), 0).verdict == "well"
    assert load_test.judge(100, a_run(placed=1000, failed=1), 0).verdict == "not well"


@pytest.mark.parametrize(
    "changes",
    [{"void": "the generator used 0.9 of a core"}, {"own_lag": LATE}],
)
def test_a_generator_that_was_the_bottleneck_voids_the_run(changes: dict[str, Any]) -> None:
    found = load_test.judge(100, a_run(**changes, cut_off=50), 0)
    assert found.verdict == "void"
    assert "generator" in found.reasons[0]


def test_a_bridge_that_died_did_not_do_well_however_late_the_generator_was() -> None:
    found = load_test.judge(100, a_run(void="too slow", died=[4711], reach_ms=None), 0)
    assert found.verdict == "not well"
    assert found.reasons == ["process 4711 of the bridge died"]


def searching(
    monkeypatch: pytest.MonkeyPatch,
    plan: Plan,
    run_of: Callable[[int], Run],
    budget: float | None = None,
) -> tuple[load_test.LoadTest, list[int]]:
    """A load test of a bridge of which only the runs are there, and what it tries."""
    tried: list[int] = []

    async def measure(plan: Plan, *_: Any, is_known: bool) -> Run:
        tried.append(plan.calls)
        return msgspec.structs.replace(run_of(plan.calls), calls=plan.calls, live=plan.calls)

    async def connect(*_: Any) -> trio.abc.Stream:
        return trio.testing.memory_stream_pair()[0]

    monkeypatch.setattr(conduct, "measure", measure)
    monkeypatch.setattr(load_test, "connect", connect)
    generator: load_test.Generator = ("C", ("none",))
    test = load_test.LoadTest(
        plan, generator, gathers=0, budget=budget, say=lambda line: None, progress=lambda told: None
    )
    return test, tried


async def test_capacity_is_found_by_bisection_and_a_failure_has_to_be_one_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def up_to_130(calls: int) -> Run:
        return a_run(cut_off=int(calls > 130))

    test, tried = searching(monkeypatch, Plan(calls=50, ramp=50, seconds=1), up_to_130)
    report = await test.run("ws://127.0.0.1:9/twilio", None, {}, is_ours=False, most=2000)
    assert report.capacity is not None
    assert 122 <= report.capacity.calls <= 130
    assert not report.capacity.is_least
    assert all(tried.count(calls) == (2 if calls > 130 else 1) for calls in tried)
    assert "Capacity: 1" in "\n".join(sentences(report))
    document = read_svg(report)
    assert len(document.findall("{http://www.w3.org/2000/svg}g")) == 1


async def test_a_bridge_that_dies_in_a_search_leaves_what_was_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its webhook answers no more, and there is no process to be looked at."""

    def up_to_130(calls: int) -> Run:
        if calls > 130:
            raise ExceptionGroup("of a nursery", [conduct.NoRun("no call is answered: refused")])
        return a_run()

    seen = iter([Possessions(50, 2, 10, 5)])

    def look(pids: Any) -> Possessions:
        for each in seen:
            return each
        raise watched.NotThere("--pid 9: cannot be looked at: gone")

    monkeypatch.setattr(load_test, "look", look)
    plan = Plan(calls=50, ramp=50, seconds=1, pids=(9,))
    test, tried = searching(monkeypatch, plan, up_to_130)
    report = await test.run("ws://127.0.0.1:9/twilio", None, {}, is_ours=False, most=2000)
    assert tried == [50, 100, 200]
    assert report.capacity == Capacity(100, is_least=True)
    assert report.before is not None
    assert report.after is None


async def test_a_bridge_that_was_never_there_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(calls: int) -> Run:
        raise conduct.NoRun("no call is answered: refused")

    test, _ = searching(monkeypatch, Plan(calls=50, ramp=50, seconds=1), none)
    with pytest.RaisesGroup(conduct.NoRun, allow_unwrapped=True):
        await test.run("ws://127.0.0.1:9/twilio", None, {}, is_ours=False, most=2000)


async def test_a_generator_at_its_end_is_not_taken_for_the_bridges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slow_above_90(calls: int) -> Run:
        return a_run(void="too slow" if calls > 90 else None)

    test, tried = searching(monkeypatch, Plan(calls=50, ramp=50, seconds=1), slow_above_90)
    report = await test.run("ws://127.0.0.1:9/twilio", None, {}, is_ours=False, most=2000)
    assert report.capacity is not None
    assert report.capacity.is_least
    assert tried.count(100) == load_test.TRIES
    assert "at least" in "\n".join(sentences(report))


@given(st.integers(1, 3000), st.integers(1, 400), st.integers(1, 2000))
def test_a_search_ends_within_5_per_cent(capacity: int, first: int, most: int) -> None:
    search = criterion.searching(first, most)
    number = next(search)
    try:
        while True:
            number = search.send(number <= capacity)
    except StopIteration as found:
        end = found.value
    assert min(capacity, most) * 0.95 - 2 <= end <= min(capacity, most)


# --- where calls are placed -----------------------------------------------------------------------


def at(url: str) -> Target:
    return Target(url, "127.0.0.1", 9, False, False, "bridge", "bridge:9", "/twilio")


async def test_a_place_is_a_line_and_signed_as_twilio_signs() -> None:
    target = at("ws://bridge:9/twilio")
    place = await Places(target, signer("token"), {"a": "ü"}, is_ours=False).find()
    *fields, signature = place.line().decode().rstrip("\n").split("\t")
    assert fields == [place.call_sid, "bridge:9", "/twilio", '{"a":"ü"}']
    assert signature.startswith("X-Twilio-Signature: ")
    assert msgspec.structs.replace(place, headers={}).line().endswith(b"}\t\n")


TWIML = (
    "<Response><Say>Hello</Say><Connect><Stream url='{url}'><Parameter name='token' value='1'/>"
    "</Stream></Connect></Response>"
)


async def find_by_webhook(answer: http.Answer) -> Place:
    async def respond(request: http.Request) -> http.Answer:
        assert request.method == "POST"
        assert b"CallSid=CA" in request.body
        return answer

    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            serve = partial(http.answer, respond=respond, longest=4096)
            listeners: list[Any] = await nursery.start(
                partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
            )
            port = listeners[0].socket.getsockname()[1]
            target = await find(f"http://127.0.0.1:{port}/twiml", is_ours=False)
            places = Places(target, signer("token"), {}, is_ours=False)
            try:
                return await places.find()
            finally:
                nursery.cancel_scope.cancel()
    raise AssertionError


def twiml(document: str, status: int = 200) -> http.Answer:
    return http.Answer(status, {"content-type": "text/xml"}, document.encode())


async def test_a_webhook_says_where_a_call_is_placed() -> None:
    place = await find_by_webhook(twiml(TWIML.format(url="ws://127.0.0.1:7/twilio/abc?x=1")))
    assert (place.stream.port, place.stream.path) == (7, "/twilio/abc?x=1")
    assert place.parameters == {"token": "1"}
    assert "X-Twilio-Signature" in place.headers


async def test_each_address_that_a_webhook_says_is_read_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its host is looked up but once, and a line has to stay one."""
    target = msgspec.structs.replace(at("http://bridge:9/twiml"), is_webhook=True)
    places = Places(target, None, {}, is_ours=False)
    said = iter(["/a?x=1", "?x=1", "", "#x"])

    async def ask(call_sid: str) -> twiml_of.Stream:
        return twiml_of.Stream(url=f"ws://127.0.0.1:7{next(said)}")

    monkeypatch.setattr(places, "_ask", ask)
    found = [(await places.find()).stream.path for _ in range(4)]
    assert found == ["/a?x=1", "/?x=1", "/", "/"]
    said = iter(["/a\nb"])
    with pytest.raises(Refused, match="not a URL"):
        await places.find()


async def test_a_webhook_leads_to_no_other_machine() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(NotOurs, match=FAR)):
        await find_by_webhook(twiml(TWIML.format(url=f"wss://{FAR}/twilio")))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (twiml("<Response><Reject/></Response>"), "streamed nowhere: <Reject>"),
        (twiml("<Response/>"), "streamed nowhere: <nothing>"),
        (twiml("no XML"), "the webhook's answer: 12100"),
        (twiml("", 503), "the webhook answered HTTP 503"),
        (http.Answer(302, {"location": f"http://{FAR}/"}, b""), "the webhook answered HTTP 302"),
        (twiml(" " * 100_000), "longer than TwiML"),
    ],
)
async def test_a_webhook_that_leads_nowhere_refuses_the_call(
    answer: http.Answer, reason: str
) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(Refused, match=reason)):
        await find_by_webhook(answer)


# --- what is told ---------------------------------------------------------------------------------


def a_report(*tried: Tried, **more: Any) -> Report:
    return Report(
        tool="0",
        made=machine.describe(),
        generator="C",
        criterion={},
        plan=Plan(calls=100, ramp=50, seconds=10),
        tried=list(tried),
        **more,
    )


def read_svg(report: Report) -> ElementTree.Element:
    from sts_trio.load.pictures import draw

    return ElementTree.fromstring(draw(report))


def test_what_is_written_is_what_its_schema_says() -> None:
    report = a_report(load_test.judge(100, a_run(), 0))
    assert msgspec.json.decode(encode(report), type=Report) == report
    schema = msgspec.json.decode(run("load", "--schema").stdout)
    assert schema["$defs"]["Report"]["properties"]["version"]["enum"] == [1]


def test_faults_are_told_below_the_table() -> None:
    bad = load_test.judge(100, a_run(kept=2, left_open=3, cut_off=1), 0)
    had = Possessions(50, 2, 10, 5)
    told = "\n".join(
        sentences(
            a_report(bad, refusals={"busy": 4}, before=had, after=had, left_behind=["a socket"])
        )
    )
    for expected in ("not well: 1 call was cut off", "4 times: busy", "session: 2", "gone: 3"):
        assert expected in told
    assert "Left behind in the server: a socket." in told
    assert table(a_report(bad)).row_count == 2


def drawn(report: Report, width: int = 80) -> list[str]:
    """The table, on a terminal."""
    terminal = Console(file=io.StringIO(), width=width)
    terminal.print(table(report))
    assert isinstance(terminal.file, io.StringIO)
    return [line.rstrip() for line in terminal.file.getvalue().splitlines()]


def test_a_slow_answer_is_told_in_plain_figures() -> None:
    slow = msgspec.structs.replace(DELAYS, p50=1264.0, p99=0.0871)
    *_, p50, p99 = drawn(a_report(load_test.judge(100, a_run(setup_ms=slow), 0)))
    assert p50.split()[6] == "1264"
    assert p99.split()[6] == "0.0871"


def test_the_table_of_a_bad_run_fits_a_terminal() -> None:
    slow = msgspec.structs.replace(DELAYS, p50=12345.0, p99=12345.0)
    audio = msgspec.structs.replace(AUDIO, ok=100.0)
    worst = a_run(
        failed=10_000, up_ms=slow, down_ms=slow, clear_ms=slow, setup_ms=slow, up=audio, down=audio
    )
    report = a_report(
        load_test.judge(10_000, worst, 0),
        load_test.judge(100, a_run(died=[1], rss_mb=0.0, clear_ms=None), 0),
    )
    lines = drawn(report)
    assert max(map(len, lines)) <= 80
    assert lines == drawn(report, width=200)  # nothing was cut
    assert [line.split()[-1] for line in lines[-2:]] == ["-", "-"]  # what a dead one costs


def test_of_an_agent_of_the_bridges_only_what_can_be_known_is_in_the_table() -> None:
    heard = Heard(10.0, 0, 0, 0, DELAYS)
    head, _, p50, p99 = drawn(a_report(load_test.judge(100, a_run(heard=heard, rss_mb=0.0), 0)))
    assert head.split() == ["calls", "verdict", "ms", "answer", "barge-in", "set-up"]
    assert (len(p50.split()), len(p99.split())) == (6, 6)


def test_the_generator_tells_of_itself_below_the_table() -> None:
    told = sentences(a_report(load_test.judge(100, a_run(own_utilisation=0.42), 0)))
    assert told[0] == "Generator in C: at most 42 % of a core, and late by 1 ms (p99)."
    void = sentences(a_report(load_test.judge(100, a_run(void="too slow"), 0)))
    assert void[0] == "Generator in C: too slow in every run."


def a_panel(*points: tuple[float, float], ticks: Sequence[tuple[float, str]] = ()) -> Panel:
    return Panel(title="title", x="x", y="y", lines=[Line("line", points)], ticks=ticks)


def test_a_picture_without_figures_says_so() -> None:
    assert "Nothing was measured" in card([a_panel()])
    assert "Nothing was measured" not in card([a_panel((1, 1))])


def test_a_single_figure_stands_in_the_middle_above_its_number() -> None:
    middle = f"{(LEFT + WIDTH - RIGHT) / 2:.1f}"
    drawn = card([a_panel((17, 3))])
    assert f'<circle cx="{middle}"' in drawn
    assert re.search(rf'<text x="{middle}" [^>]*>17<', drawn)


def test_a_long_name_at_the_end_of_the_axis_is_all_on_the_card() -> None:
    drawn = card([a_panel((3, 1), (5, 2), ticks=((3, "1,000"), (5, "100,000")))])
    found = re.search(r'<text x="([\d.]+)" [^>]*>100,000<', drawn)
    assert found
    assert float(found[1]) + LETTER * len("100,000") / 2 <= WIDTH


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=20),
    st.booleans(),
)
@example([(0.0, 5e-324)], False)
@example([(0.0, 5e-324)], True)
@example([(5e-324, 0.0), (0.0, 1e-300)], True)
@example([(0.0, 1e-9), (1.0, 1e6)], True)
def test_any_figures_can_be_drawn(points: list[tuple[float, float]], is_logarithmic: bool) -> None:
    panel = Panel(
        title="<a & b>",
        x="x",
        y="y",
        lines=[Line("one", points), Line("two", [])],
        is_logarithmic=is_logarithmic,
    )
    drawn = card([panel, panel])
    ElementTree.fromstring(drawn)
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_a_line_of_the_generators_is_progress_or_the_end() -> None:
    progress = Progress(1, 1, False, 0, 0, 0, 0, 0.0)
    assert read_line(msgspec.json.encode(progress)) == progress
    assert read_line(msgspec.json.encode(RUN)) == RUN
    with pytest.raises(msgspec.MsgspecError):
        read_line(b"{}")


@pytest.mark.parametrize(("columns", "length"), [(40, 39), (80, 79), (0, 79)])
def test_the_line_of_progress_stays_in_one_line_of_the_terminal(
    columns: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what is left of it in the line above would stay there, each second."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    told = b""
    with open(master, "rb", buffering=0) as terminal:
        with open(slave, "w") as stderr:
            monkeypatch.setattr(sys, "stderr", stderr)
            _Screen().tell(Progress(1000, 1000, True, 10, 10, 0, 0, 0.0))
            monkeypatch.undo()
        with contextlib.suppress(OSError):  # EIO: that was all
            while piece := terminal.read(4096):
                told += piece
    whole = "measuring: 1000 calls placed, 1000 through, 10 refused, 10 cut off"
    assert told.decode() == f"\r\x1b[K{whole[:length]}"
