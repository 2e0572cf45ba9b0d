"""The kit for other people's tests: its own examples, and what it promises of clean-up."""

import gc
import logging
import re
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from limits import HANG

import sts_trio.testing
from sts_trio import Call, config, function
from sts_trio.audio import wav
from sts_trio.audio.frames import length
from sts_trio.config import local_key
from sts_trio.errors import Cause, ConfigError, Ending
from sts_trio.observe import events
from sts_trio.offline.workers import pool as workers
from sts_trio.testing import (
    CallEvent,
    CallFunction,
    Faults,
    HangUp,
    Keys,
    NotConnected,
    Report,
    Result,
    Said,
    Speak,
    Step,
    WaitForQuiet,
    WaitForSpeech,
    call,
    inventory,
    leftovers,
    running,
    scripted_agent,
)
from sts_trio.testing import fast_clock as fast_clock
from sts_trio.testing.background import running_beside
from sts_trio.testing.clock import jumping_only_when_nothing_works
from sts_trio.web.app import create_app

LOUD = b"\x00"
SPEECH = Path(__file__).parent.parent / "data" / "speech"


def look_up(order: int) -> str:
    """What an agent may call."""
    return f"order {order} is on its way"


BRIEFLY: list[Step] = [WaitForSpeech(0.3), HangUp()]


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever is configured here is not to be read: it would be refused."""
    monkeypatch.setenv("STS_MAX_CALLS", "many")
    (tmp_path / "sts-trio.toml").write_text("colour = 'red'\n")
    monkeypatch.chdir(tmp_path)


# --- the examples ---------------------------------------------------------------------------------


def examples() -> dict[str, Any]:
    """{name of its function: the example in the documentation}"""
    doc = sts_trio.testing.__doc__ or ""
    blocks = re.findall(r"(?:^    .*\n|^\n)+", doc, re.MULTILINE)
    namespace: dict[str, Any] = {}
    exec(textwrap.dedent("".join(blocks)), namespace)
    return {name: each for name, each in namespace.items() if name.startswith("test_")}


def test_there_are_examples() -> None:
    assert len(examples()) == 3


@pytest.mark.parametrize("name", examples())
async def test_an_example_in_the_documentation_works(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    with trio.fail_after(HANG):
        await examples()[name](autojump_clock)


# --- the server -----------------------------------------------------------------------------------


async def test_without_an_agent_the_offline_one_answers(autojump_clock: Any) -> None:
    with trio.fail_after(HANG):
        async with running() as server:
            report = await call(server.url, BRIEFLY)
            assert server.base.startswith("http://127.0.0.1:")
            assert await server.ending_of(report) == Ending(Cause.STOP)
    assert report.result is Result.PROPER


async def test_a_client_of_ones_own_is_let_in_by_the_servers_headers(autojump_clock: Any) -> None:
    def ask(base: str, headers: dict[str, str]) -> int:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{base}/calls", None, headers)
            ) as r:
                return int(r.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    with trio.fail_after(HANG):
        async with running() as server:
            assert await trio.to_thread.run_sync(ask, server.base, server.headers) == 200
            assert await trio.to_thread.run_sync(ask, server.base, {}) == 403
        async with running({"TWILIO_AUTH_TOKEN": "12345"}) as server:
            assert server.headers == {}


async def test_a_call_of_another_user_is_refused(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who cannot read the key's file."""
    monkeypatch.setattr(local_key, "find", lambda address: None)
    with trio.fail_after(HANG):
        async with running() as server:
            with pytest.raises(NotConnected, match="HTTP 403"):
                await call(server.url, BRIEFLY)
            report = await call(f"{server.url}?key={server.app.server.key}", BRIEFLY)
    assert report.result is Result.PROPER


async def test_an_app_of_ones_own_is_served(autojump_clock: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    environ = {"STS_AGENT": "offline", "STS_LOG_LEVEL": "warning"}
    app = create_app(config.load(environ, tmp_path / "empty"))
    with trio.fail_after(HANG):
        async with running(app) as server:
            assert server.app is app
            report = await call(server.url, BRIEFLY)
    assert report.result is Result.PROPER


async def test_an_app_has_its_agent_already(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    app = create_app(config.load({"STS_AGENT": "offline"}, tmp_path / "empty"))
    with pytest.raises(ValueError, match="comes with its agent"):
        async with running(app, agent="ws://127.0.0.1:1"):
            pass


async def test_an_app_has_its_functions_already(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    app = create_app(config.load({"STS_AGENT": "offline"}, tmp_path / "empty"))
    with pytest.raises(ValueError, match="comes with its agent and its functions"):
        async with running(app, functions=[look_up]):
            pass


async def test_a_project_is_run_by_its_file_wherever_one_is(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "my.toml").write_text("max_calls = 7\n")
    for file in (tmp_path / "mine" / "my.toml", str(tmp_path / "mine" / "my.toml"), "mine/my.toml"):
        async with running(file) as server:
            assert server.app.server.config.max_calls == 7
    async with running({"STS_CONFIG": "mine/my.toml", "STS_FORWARD_MS": "40"}) as server:
        assert (server.app.server.config.max_calls, server.app.server.config.forward) == (7, 0.04)


@pytest.mark.parametrize("odd", [7, ["my.toml"], b"my.toml"])
async def test_what_is_no_configuration_is_told_plainly(odd: Any) -> None:
    with pytest.raises(TypeError, match="expected the path of a configuration, or variables"):
        async with running(odd):
            pass


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*nowhere\.toml"):
        async with running("nowhere.toml"):
            pass


async def test_a_module_with_functions_can_be_given_alone(tmp_path: Path) -> None:
    async with running(functions="sts_trio.call_control") as server:
        assert "hang_up" in [each.name for each in server.app.server.functions]


async def test_what_happened_in_a_call_is_told_and_nothing_of_others(autojump_clock: Any) -> None:
    asks = CallFunction("look_up", {"order": 7})
    with trio.fail_after(HANG):
        async with (
            scripted_agent(asks, "It is on its way.") as agent,
            running(agent=agent, functions=[look_up]) as server,
        ):
            report = await call(server.url, ["Where is my order?"])
            other = await call(server.url, BRIEFLY)
            happened = await server.happened_in(report)
            assert await server.happened_in(other)
    assert {each.call_sid for each in happened} == {report.call_sid}
    story = [each.event for each in happened]
    assert isinstance(story[0], events.CallStarted)
    assert isinstance(story[-1], events.CallEnded)
    said = [each.text for each in story if isinstance(each, events.CallTranscript)]
    assert said[-1] == "It is on its way."


async def test_a_configuration_goes_with_an_agent(autojump_clock: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    settings = config.load({"STS_AGENT": "offline"}, tmp_path / "empty")
    with trio.fail_after(HANG):
        async with scripted_agent() as agent, running(settings, agent=agent.url) as server:
            await call(server.url, BRIEFLY)
    assert agent.sessions == 1


async def test_variables_that_make_no_configuration_are_an_error_and_no_group() -> None:
    with pytest.raises(ConfigError, match="STS_MAX_CALLS: expected a whole number"):
        async with running({"STS_MAX_CALLS": "many"}):
            pass


async def test_a_database_that_cannot_be_used_is_an_error_and_no_group(tmp_path: Path) -> None:
    with trio.fail_after(HANG):
        with pytest.raises(ConfigError, match=r"STS_DATABASE_URL: .* cannot be used"):
            async with running({"STS_DATABASE_URL": f"sqlite:///{tmp_path}"}):
                pass


async def test_so_is_a_directory_that_cannot_be_recorded_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    variables = {"STS_RECORD": "1", "STS_RECORDINGS": str(tmp_path / "file")}
    variables["STS_DATABASE_URL"] = f"sqlite:///{tmp_path / 'calls.db'}"
    with trio.fail_after(HANG):
        with pytest.raises(ConfigError, match=r"STS_RECORDINGS: .* cannot be written to"):
            async with running(variables):
                pass


async def test_the_process_is_left_as_it_was() -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, structlog.get_config())
    async with running():
        assert (list(root.handlers), root.level, structlog.get_config()) != before
    assert (list(root.handlers), root.level, structlog.get_config()) == before


async def test_what_was_frozen_before_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["sts_trio.testing.running"], "gc", gc)  # tests/conftest.py
    frozen = gc.get_freeze_count()
    assert frozen > 0, "by the suite itself"
    async with running():
        pass
    assert gc.get_freeze_count() >= frozen


# --- the agent ------------------------------------------------------------------------------------


async def test_the_agent_tells_who_is_connected(autojump_clock: Any) -> None:
    with trio.fail_after(HANG):
        async with scripted_agent() as agent, running(agent=agent) as server:
            assert (agent.live, agent.sessions, agent.last_gone) == (0, 0, None)
            live: list[int] = []
            report = await call(server.url, BRIEFLY, watch=lambda _: live.append(agent.live))
            await agent.empty()
            assert agent.last_gone is not None
            assert report.hung_up_at is not None
            assert 0 <= agent.last_gone - report.began - report.hung_up_at < 2
    assert live[-1] == 1
    assert (agent.live, agent.sessions) == (0, 1)


async def test_faults_count_for_the_sessions_that_begin_then(autojump_clock: Any) -> None:
    async with scripted_agent(faults=Faults(refuse_status=503)) as agent:
        with trio.fail_after(HANG):
            async with running({"STS_RECONNECT": "0"}, agent=agent) as server:
                # An apology is heard first.
                refused = await call(server.url, [WaitForQuiet(silence=3.0)])
                agent.faults = Faults()
                proper = await call(server.url, BRIEFLY)
    assert refused.closed_by == "bridge"
    assert proper.result is Result.PROPER


# --- the caller -----------------------------------------------------------------------------------


async def test_a_caller_says_texts_files_and_bytes(autojump_clock: Any, tmp_path: Path) -> None:
    wav.write(tmp_path / "clip.wav", LOUD * length(0.5))
    said: list[Said] = [
        "Hello.",
        tmp_path / "clip.wav",
        LOUD * length(0.4),
        Speak(LOUD * length(0.3), "hm"),
    ]
    with trio.fail_after(HANG):
        async with scripted_agent("Yes.") as agent, running(agent=agent) as server:
            report = await call(server.url, said)
    assert [turn.text for turn in report.turns] == ["Hello.", "clip.wav", "", "hm"]
    assert len(report.waits) == 4


def answers(happened: list[CallEvent]) -> list[str]:
    """What the agent said."""
    said = [each.event for each in happened if isinstance(each.event, events.CallTranscript)]
    return [each.text for each in said if each.role != "user"]


def outcomes_of(happened: list[CallEvent]) -> list[str]:
    """What the functions came to."""
    return [
        each.event.outcome for each in happened if isinstance(each.event, events.FunctionFinished)
    ]


async def heard(
    slow: Callable[..., Any], *says: Said, url: str = "url"
) -> tuple[list[CallEvent], Report]:
    """A call in which the agent runs that function in each turn."""
    script: list[str | CallFunction] = []
    for number, _ in enumerate(says, 1):
        script += [CallFunction(slow.__name__), f"That is answer {number}."]
    with trio.fail_after(300):
        async with (
            scripted_agent(*script) as agent,
            running(agent=agent, functions=slow) as server,
        ):
            report = await call(getattr(server, url), says)
            return await server.happened_in(report), report


@pytest.mark.parametrize(
    ("filler", "seconds"), [("Let me look that up.", 6.0), (None, 9.5)], ids=["filler", "none"]
)
async def test_a_slow_function_is_waited_for(
    filler: str | None, seconds: float, fast_clock: Any
) -> None:
    """The filler is not the answer, and a function without one is no reason to hang up."""

    @function(filler=filler)
    async def slow() -> str:
        await trio.sleep(seconds)
        return "found"

    happened, report = await heard(slow, "Where is my order?", "And the other one?")
    outcomes = outcomes_of(happened)
    assert outcomes == ["done", "done"]
    assert answers(happened)[-1] == "That is answer 2."
    assert "That is answer 1." in answers(happened)
    assert report.turns[1].began > report.turns[0].ended + seconds
    assert report.fault is None


async def test_a_function_in_a_thread_is_waited_for_too(fast_clock: Any) -> None:
    @function(filler="Let me look that up.")
    def slow() -> str:
        trio.from_thread.run(trio.sleep, 4.0)
        return "found"

    happened, _ = await heard(slow, "Where is my order?", url="webhook")
    (outcome,) = outcomes_of(happened)
    assert (outcome, answers(happened)[-1]) == ("done", "That is answer 1.")


async def test_a_caller_who_barges_in_interrupts_a_filler(fast_clock: Any) -> None:
    @function(filler="Let me look that up, it may take a moment.")
    async def slow() -> str:
        await trio.sleep(5)
        return "found"

    with trio.fail_after(300):
        async with (
            scripted_agent(CallFunction("slow"), "It is here.") as agent,
            running(agent=agent, functions=slow) as server,
        ):
            says = ["Where is it?", "Wait."]
            report = await call(server.url, says, barge_in_after=0.5)
            happened = await server.happened_in(report)
    outcomes = outcomes_of(happened)
    assert outcomes == ["cancelled"]


async def test_keys_are_pressed_and_collected(fast_clock: Any) -> None:
    typed: list[str] = []

    @function
    async def ask_for_pin(call: Call) -> str:
        typed.append(await call.collect_digits(4))
        return "thanks"

    with trio.fail_after(300):
        async with (
            scripted_agent("Hm?", CallFunction("ask_for_pin"), "Thank you.") as agent,
            running(agent=agent, functions=[ask_for_pin]) as server,
        ):
            exactly: list[Said | Step] = [
                WaitForQuiet(),
                "Hello.",
                WaitForQuiet(),
                "My account, please.",
                WaitForSpeech(0.1, patience=2.0),
                Keys("1234"),
                WaitForQuiet(),
            ]
            report = await call(server.url, exactly)
            assert "Thank you." in answers(await server.happened_in(report))
    assert typed == ["1234"]


async def test_keys_are_told_to_the_agent_where_nobody_collects_them(fast_clock: Any) -> None:
    with trio.fail_after(HANG):
        async with scripted_agent("Yes.") as agent, running(agent=agent) as server:
            report = await call(server.url, [Keys("42"), "Hello."])
            happened = await server.happened_in(report)
    told = [each.event.text for each in happened if isinstance(each.event, events.CallTranscript)]
    assert "I have keyed in: 4 2" in told
    assert len(report.turns) == 1


async def test_one_thing_may_be_said_and_one_function_be_given(fast_clock: Any) -> None:
    with trio.fail_after(HANG):
        async with (
            scripted_agent(CallFunction("look_up", {"order": 7}), "It is on its way.") as agent,
            running(agent=agent, functions=look_up) as server,
        ):
            report = await call(server.url, "Where is my order?")
            assert answers(await server.happened_in(report))[-1] == "It is on its way."
    assert [turn.text for turn in report.turns] == ["Where is my order?"]


async def test_the_bridge_is_told_who_calls_whom(fast_clock: Any) -> None:
    seen: list[tuple[str, str]] = []

    def note(call: Call) -> None:
        """Note who calls."""
        seen.append((call.info.from_, call.info.to))

    with trio.fail_after(HANG):
        async with (
            scripted_agent(CallFunction("note"), "Noted.") as agent,
            running(agent=agent, functions=note) as server,
        ):
            await call(server.webhook, "Hi.", from_="+15005550001", to="+15005550002")
    assert seen == [("+15005550001", "+15005550002")]


async def test_a_file_that_is_no_wav_is_an_error_before_anybody_is_called(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(wav.NotAWav, match=r"text\.wav: not a WAV file"):
        await call("ws://127.0.0.1:1/twilio", [tmp_path / "text.wav"])


async def test_who_tells_every_step_tells_when_to_barge_in() -> None:
    with pytest.raises(ValueError, match="leave barge_in_after out"):
        await call("ws://127.0.0.1:1/twilio", ["Hi", WaitForQuiet()], barge_in_after=1.0)


async def test_where_nobody_listens_there_is_no_call() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(NotConnected, match="refused"):
        await call(f"ws://127.0.0.1:{port}/twilio")


# --- what is left ---------------------------------------------------------------------------------


async def test_a_task_and_a_socket_that_are_left_are_found(autojump_clock: Any) -> None:
    before = inventory()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        with socket.socket():
            await trio.testing.wait_all_tasks_blocked()
            left = await leftovers(before, within=1.0)
            assert left.tasks == {"trio.sleep_forever": 1}
            assert left.sockets == 1
            assert str(left) == "tasks: 1 trio.sleep_forever; sockets: 1"
            assert trio.current_time() == pytest.approx(1.0, abs=0.1)
        nursery.cancel_scope.cancel()
    assert (await leftovers(before)).is_empty
    assert trio.current_time() == pytest.approx(1.0, abs=0.1)


async def test_what_goes_in_time_is_not_left(autojump_clock: Any) -> None:
    before = inventory()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1.5)
        left = await leftovers(before, within=2.0)
        assert left.is_empty
        assert trio.current_time() == pytest.approx(1.5, abs=0.1)


async def test_where_descriptors_cannot_be_listed_sockets_are_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def not_here(path: str) -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr("os.listdir", not_here)
    before = inventory()
    assert before.sockets is None
    left = await leftovers(before)
    assert left.is_empty
    assert str(left) == "no task; sockets: not counted"


# --- the clock ------------------------------------------------------------------------------------


@pytest.fixture
def eager_clock() -> trio.testing.MockClock:
    """Real bytes take longer than it waits."""
    return trio.testing.MockClock(autojump_threshold=0)


async def test_a_clock_that_jumps_does_not_while_a_thread_works(
    eager_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 60)
        with jumping_only_when_nothing_works():
            await trio.to_thread.run_sync(time.sleep, 0.05)
            assert 0.05 <= trio.current_time() < 60
        assert (eager_clock.autojump_threshold, eager_clock.rate) == (0, 0)
    assert 60 <= trio.current_time() < 61


async def test_a_thread_may_wait_for_time_to_pass(eager_clock: trio.testing.MockClock) -> None:
    with jumping_only_when_nothing_works():
        await trio.to_thread.run_sync(trio.from_thread.run, trio.sleep, 0.05)
    assert trio.current_time() >= 0.05


async def test_a_clock_that_jumps_does_not_while_words_are_recognised(
    eager_clock: trio.testing.MockClock,
) -> None:
    clip = (SPEECH / "rms-02.ulaw").read_bytes()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 60)
        with jumping_only_when_nothing_works():
            async with workers.open_pool() as pool:
                await trio.lowlevel.checkpoint()  # a thread has started the process
                started = trio.current_time()
                assert await pool.hear(clip) == "what cars do you have"
                assert trio.current_time() == started
            assert trio.current_time() < 60


async def test_within_another_block_the_clock_is_held_and_beyond_it(
    eager_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 60)
        with jumping_only_when_nothing_works():
            with jumping_only_when_nothing_works():
                await trio.sleep(1)
            await trio.to_thread.run_sync(time.sleep, 0.05)
            assert 1.05 <= trio.current_time() < 60


async def test_a_test_with_the_fixture_takes_no_real_time(fast_clock: Any) -> None:
    assert isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
    started, real = trio.current_time(), time.monotonic()
    await trio.sleep(3600)
    assert trio.current_time() - started == pytest.approx(3600)
    assert time.monotonic() - real < HANG


async def test_the_clock_of_the_fixture_leaves_bytes_their_time(fast_clock: Any) -> None:
    """Also outside of `running`."""
    async with scripted_agent("Yes.") as agent, trio.open_nursery() as nursery:
        stream = await trio.open_tcp_stream("127.0.0.1", int(agent.url.split(":")[2].split("/")[0]))
        nursery.start_soon(stream.send_all, b"GET /nowhere HTTP/1.1\r\n\r\n")
        with trio.fail_after(0.05):
            assert b"HTTP/1.1 4" in await stream.receive_some()
        await stream.aclose()
        nursery.cancel_scope.cancel()


def test_the_fixture_is_had_when_it_is_asked_for() -> None:
    loaded = "'sts_trio.testing.fixtures' in sys.modules"
    script = f"import sys, sts_trio.testing as t; print({loaded}); t.fast_clock; print({loaded})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG, check=True
    )
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = sts_trio.testing.nonsense


async def test_the_real_clock_is_left_alone() -> None:
    with jumping_only_when_nothing_works():
        await trio.to_thread.run_sync(time.sleep, 0)


# --- beside a block -------------------------------------------------------------------------------


async def wait(*, task_status: trio.TaskStatus[str]) -> None:
    task_status.started("ready")
    await trio.sleep_forever()


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    with pytest.raises(AssertionError, match="not so"):  # noqa: PT012 # that it is raised inside
        async with running_beside(wait) as value:
            assert value == "ready"
            raise AssertionError("not so")


async def test_what_runs_beside_and_fails_ends_the_block() -> None:
    async def fail(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with running_beside(fail):
            await trio.sleep_forever()


async def test_two_failures_stay_a_group() -> None:
    async def fail(*, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(two)
            task_status.started()

    async def one() -> None:
        raise ZeroDivisionError

    async def two() -> None:
        raise KeyError

    with pytest.raises(ExceptionGroup):
        async with running_beside(fail):
            await trio.sleep_forever()


async def test_a_deadline_around_the_block_is_kept(autojump_clock: Any) -> None:
    with trio.move_on_after(3) as scope:
        async with running_beside(wait):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(3)
