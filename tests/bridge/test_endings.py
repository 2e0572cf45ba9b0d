"""Every cause of a call's end, in every phase it can happen: the product's promise.

For each: both sockets closed within 2 s of the cause, with the right close code where the peer can
still receive one; one `call.ended` with cause and verdict; no task left.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import pytest
import structlog
import trio
import trio.testing
from rig_dialogue import APOLOGY, RECONNECTS
from rig_peers import (
    CALL_SID,
    START,
    STOP,
    STREAM_SID,
    FakeAgent,
    FakeTwilio,
    Phone,
    SocketTwilio,
    broken,
    make_call,
    media,
    tap,
)

from sts_trio.bridge.leg_tasks import HANG_UP_GRACE
from sts_trio.bridge.run import Bridge
from sts_trio.errors import Cause
from sts_trio.logic.acts import OperatorHangsUp, ShutDown, Tick
from sts_trio.logic.caller_audio import GAP
from sts_trio.logic.hearing_out import LAST_WORDS_GRACE
from sts_trio.logic.policy import CallPolicy
from sts_trio.observe import events
from sts_trio.wire import deepgram, twilio

PROMISE = 2.0


class Stage(NamedTuple):
    """A call held in some phase, and the means to end it."""

    phone: Phone
    agent: FakeAgent
    call: Bridge
    tasks: trio.Nursery

    async def settle(self) -> None:
        """Until what was sent has been heard."""
        await trio.testing.wait_all_tasks_blocked()
        if isinstance(self.phone, SocketTwilio):
            await trio.sleep(LEGS[SocketTwilio])


# --- phases: how a call gets there ------------------------------------------------------------

PHASES: dict[str, tuple[str, ...]] = {
    # {phase: the agent's doors that are shut}
    "dialling": ("handshake",),
    "welcoming": ("welcome",),
    "applying": ("applied",),
    "listening": (),
    "speaking": (),
    "hanging up": (),
}
CONNECTED = ("welcoming", "applying", "listening", "speaking", "hanging up")


async def reach(phase: str, stage: Stage) -> None:
    stage.phone.tell(twilio.Connected(), START, media())
    await stage.settle()
    if phase in ("speaking", "hanging up"):
        await stage.agent.say(deepgram.Audio(b"\x11" * 8000))
    if phase == "hanging up":
        # The caller's stop came first; neither peer answers our close frame.
        stage.phone.answers_close = stage.agent.answers_close = False
        stage.phone.tell(STOP)
    await stage.settle()


# --- causes -----------------------------------------------------------------------------------


class End(NamedTuple):
    """What ends the call, and what is then to be seen."""

    act: Callable[[Stage], Awaitable[None]]
    cause: Cause
    phases: tuple[str, ...] = tuple(PHASES)
    caller_hears: bool = True  # whether the caller can still receive a close frame
    agent_hears: bool = True
    found_within: float = 0.0  # how long the cause may go unnoticed


async def stop(stage: Stage) -> None:
    stage.phone.tell(STOP)


async def caller_closes(stage: Stage) -> None:
    stage.phone.close()


async def caller_lost(stage: Stage) -> None:
    stage.phone.lose()


async def caller_vanishes(stage: Stage) -> None:
    stage.phone.vanish()


async def caller_stops_reading(stage: Stage) -> None:
    stage.phone.reads = False
    await stage.agent.say(deepgram.Audio(b"\x11" * 400_000))


async def caller_sends_too_much(stage: Stage) -> None:
    stage.phone.tell_text("x" * (1024 * 1024 + 1))


async def agent_errs(stage: Stage) -> None:
    await stage.agent.say(deepgram.AgentError("FAILED_TO_THINK", "no provider left"))


async def agent_errs_and_closes(stage: Stage) -> None:
    await agent_errs(stage)
    stage.agent.close(1000)


def agent_closes(code: int) -> Callable[[Stage], Awaitable[None]]:
    async def act(stage: Stage) -> None:
        stage.agent.close(code)

    return act


async def agent_lost(stage: Stage) -> None:
    await stage.agent.drop()


async def agent_goes_mute(stage: Stage) -> None:
    stage.agent.is_mute = True


async def agent_sends_too_much(stage: Stage) -> None:
    stage.tasks.start_soon(stage.agent.say, deepgram.Audio(bytes(5 * 1024 * 1024)))


async def agent_breaks_the_websocket(stage: Stage) -> None:
    await stage.agent.stream.send_all(b"\xff\xff not a frame")


async def crash_while_listening(stage: Stage) -> None:
    tap(stage.call, broken)
    stage.phone.tell(media())


async def crash_in_the_timer(stage: Stage) -> None:
    hear = stage.call.dialogue.hear

    def hear_all_but_ticks(batch: Sequence[Any], now: float) -> Any:
        return broken() if Tick() in batch else hear(batch, now)

    tap(stage.call, hear_all_but_ticks)


async def shut_down(stage: Stage) -> None:
    stage.call.tell(ShutDown())


async def operator_hangs_up(stage: Stage) -> None:
    stage.call.tell(OperatorHangsUp())


ENDS = {
    "stop": End(stop, Cause.STOP),
    "close frame without stop": End(caller_closes, Cause.CALLER_CLOSED, caller_hears=False),
    "caller lost": End(caller_lost, Cause.CALLER_LOST, caller_hears=False),
    "caller vanishes": End(
        caller_vanishes,
        Cause.CALLER_SILENT,
        ("listening", "speaking"),
        caller_hears=False,
        found_within=30,
    ),
    "caller stops reading": End(
        caller_stops_reading,
        Cause.CALLER_STALLED,
        ("listening", "speaking"),
        caller_hears=False,
        found_within=10,
    ),
    "caller sends 1 MiB": End(caller_sends_too_much, Cause.CALLER_TOO_BIG),
    "agent errs": End(agent_errs, Cause.AGENT_ERROR, CONNECTED),
    "agent errs and closes": End(
        agent_errs_and_closes, Cause.AGENT_ERROR, CONNECTED, agent_hears=False
    ),
    "agent closes 1000": End(
        agent_closes(1000),
        Cause.AGENT_FINISHED,
        ("listening", "hanging up"),
        agent_hears=False,
    ),
    # A second of its words is still to be heard, by a phone that echoes no marks.
    "agent closes 1000 after its last words": End(
        agent_closes(1000),
        Cause.AGENT_FINISHED,
        ("speaking",),
        agent_hears=False,
        found_within=1 + LAST_WORDS_GRACE,
    ),
    "agent closes 1000 too early": End(
        agent_closes(1000), Cause.AGENT_CLOSED, ("welcoming", "applying"), agent_hears=False
    ),
    "agent closes 1001": End(agent_closes(1001), Cause.AGENT_CLOSED, CONNECTED, agent_hears=False),
    "agent closes 1011": End(agent_closes(1011), Cause.AGENT_CLOSED, CONNECTED, agent_hears=False),
    "agent closes 4000": End(agent_closes(4000), Cause.AGENT_CLOSED, CONNECTED, agent_hears=False),
    "agent lost": End(agent_lost, Cause.AGENT_LOST, CONNECTED, agent_hears=False),
    "agent breaks the websocket": End(
        agent_breaks_the_websocket, Cause.AGENT_CLOSED, CONNECTED, agent_hears=False
    ),
    "agent goes mute": End(
        agent_goes_mute,
        Cause.AGENT_SILENT,
        ("listening", "speaking"),
        agent_hears=False,
        found_within=30,
    ),
    "agent sends 5 MiB": End(agent_sends_too_much, Cause.AGENT_TOO_BIG, CONNECTED),
    "a bug while listening": End(crash_while_listening, Cause.CRASHED),
    "a bug in the timer": End(
        crash_in_the_timer, Cause.CRASHED, ("listening", "speaking"), found_within=GAP
    ),
    "shutdown": End(shut_down, Cause.SHUTDOWN),
    "the operator hangs up": End(operator_hangs_up, Cause.OPERATOR_HUNG_UP),
}


# How late a leg may be, in the virtual time of its own tick.
LEGS: dict[type[Phone], float] = {FakeTwilio: 0.0, SocketTwilio: 0.05}


@pytest.mark.parametrize("kind", LEGS)
@pytest.mark.parametrize(
    ("name", "phase"), [(name, phase) for name, end in ENDS.items() for phase in end.phases]
)
async def test_both_sockets_close_together(
    name: str, phase: str, kind: type[Phone], autojump_clock: trio.testing.MockClock
) -> None:
    end, late = ENDS[name], LEGS[kind]
    before = trio.lowlevel.current_statistics().tasks_living
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as tasks:
            phone, agent = kind(), FakeAgent(*PHASES[phase])
            stage = Stage(phone, agent, make_call(tasks, phone, agent), tasks)
            tasks.start_soon(stage.call.run)
            await reach(phase, stage)
            began = trio.current_time()
            await end.act(stage)
    over = trio.current_time()

    assert trio.lowlevel.current_statistics().tasks_living == before
    assert over - began <= end.found_within + PROMISE
    assert phone.gone_at is not None or phone.goodbye is not None
    assert agent.gone_at is not None

    cause = Cause.STOP if phase == "hanging up" else end.cause
    ended = [line for line in logs if line["event"] == events.CallEnded.NAME]
    assert [line["ending"] for line in ended] == [cause.label]
    assert ended[0]["verdict"] == cause.verdict.value
    assert ended[0]["call_sid"] == CALL_SID
    assert ended[0]["stream_sid"] == STREAM_SID
    crashes = [line for line in logs if line["event"] == events.CallCrashed.NAME]
    assert len(crashes) == (cause is Cause.CRASHED)
    if phase == "hanging up":
        return
    if end.caller_hears:
        assert phone.goodbye is not None
        time, code = phone.goodbye
        assert code == cause.caller_code
        assert time <= began + end.found_within + late
    if end.agent_hears and phase != "dialling":
        assert agent.closed is not None
        time, code = agent.closed
        assert code == cause.agent_code
        assert time <= began + end.found_within + late


async def run_to_the_end(phone: FakeTwilio, agent: FakeAgent) -> tuple[Cause, float]:
    """The cause and the time of the end of a call that is left to itself."""
    async with trio.open_nursery() as tasks:
        call = make_call(tasks, phone, agent)
        ending = await call.run()
        ended_at = trio.current_time()
    return ending.cause, ended_at


async def test_a_caller_who_never_sends_start_is_refused_after_ten_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    phone = FakeTwilio()
    phone.tell(twilio.Connected())
    assert await run_to_the_end(phone, FakeAgent()) == (Cause.CALLER_NO_START, 10)
    assert phone.goodbye == (10, 1008)


async def test_a_caller_who_sends_no_frame_after_start_is_refused_after_thirty_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    phone.tell(twilio.Connected(), START)
    assert await run_to_the_end(phone, agent) == (Cause.CALLER_NO_MEDIA, 30)
    assert phone.goodbye == (30, 1008)
    assert agent.closed == (30, 1000)


@pytest.mark.parametrize(
    ("door", "cause"),
    [
        ("handshake", Cause.AGENT_NO_HANDSHAKE),
        ("welcome", Cause.AGENT_NO_WELCOME),
        ("applied", Cause.AGENT_NO_SETTINGS_APPLIED),
    ],
)
async def test_each_step_of_the_agent_may_take_five_seconds(
    door: str, cause: Cause, autojump_clock: trio.testing.MockClock
) -> None:
    phone, agent = FakeTwilio(), FakeAgent(door)
    phone.tell(twilio.Connected(), START, media())
    assert await run_to_the_end(phone, agent) == (cause, 5)
    assert phone.goodbye == (5, 1011)
    assert agent.gone_at == 5


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (401, Cause.AGENT_DENIED),
        (402, Cause.AGENT_DENIED),
        (403, Cause.AGENT_DENIED),
        (404, Cause.AGENT_DENIED),
        (429, Cause.AGENT_REJECTED),
        (301, Cause.AGENT_REJECTED),
        (500, Cause.AGENT_REJECTED),
        (503, Cause.AGENT_REJECTED),
    ],
)
async def test_a_refused_handshake_ends_the_call_at_once(
    status: int, cause: Cause, autojump_clock: trio.testing.MockClock
) -> None:
    phone, agent = FakeTwilio(), FakeAgent(refuse=status)
    phone.tell(twilio.Connected(), START, media())
    assert await run_to_the_end(phone, agent) == (cause, 0)
    assert phone.goodbye == (0, 1011)
    assert agent.gone_at == 0


async def test_peers_who_answer_no_close_frame_are_dropped_after_the_grace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    phone, agent = FakeTwilio(answers_close=False), FakeAgent(answers_close=False)
    phone.tell(twilio.Connected(), START, media())
    async with trio.open_nursery() as tasks:
        tasks.start_soon(make_call(tasks, phone, agent).run)
        await agent.ready.wait()
        phone.tell(STOP)
    assert trio.current_time() == HANG_UP_GRACE
    assert phone.goodbye == (0, 1000)
    assert agent.closed == (0, 1000)
    assert agent.gone_at == HANG_UP_GRACE


async def test_an_agent_is_let_go_at_once_while_the_callers_socket_is_stuck(
    autojump_clock: trio.testing.MockClock,
) -> None:
    phone, agent = FakeTwilio(reads=False), FakeAgent()
    phone.tell(twilio.Connected(), START, media())
    async with trio.open_nursery() as tasks:
        tasks.start_soon(make_call(tasks, phone, agent).run)
        await agent.ready.wait()
        await agent.say(deepgram.Audio(b"\x11" * 800))
        await trio.testing.wait_all_tasks_blocked()
        phone.tell(STOP)
    assert agent.closed == (0, 1000)
    assert agent.gone_at == 0
    assert phone.gone_at == HANG_UP_GRACE


async def test_a_minute_of_audio_at_once_reaches_the_caller_whole_and_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    minute = bytes(position * 7 % 251 for position in range(60 * 8000))
    phone, agent = FakeTwilio(), FakeAgent()
    phone.tell(twilio.Connected(), START, media())
    async with trio.open_nursery() as tasks:
        tasks.start_soon(make_call(tasks, phone, agent).run)
        await agent.ready.wait()
        for start in range(0, len(minute), 4096):
            await agent.say(deepgram.Audio(minute[start : start + 4096]))
        await trio.testing.wait_all_tasks_blocked()
        phone.tell(STOP)
    assert phone.audio == minute


async def test_a_call_that_is_cancelled_leaves_nothing_and_says_so(
    autojump_clock: trio.testing.MockClock,
) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    phone.tell(twilio.Connected(), START, media())
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as tasks:
            call = make_call(tasks, phone, agent)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as running:
                    running.start_soon(call.run)
                    await agent.ready.wait()
                    scope.cancel()
    assert agent.gone_at == 0
    assert [line["ending"] for line in logs if line["event"] == events.CallEnded.NAME] == [
        "cut_off"
    ]


async def test_a_goodbye_into_a_socket_that_hypercorn_is_closing_is_no_crash(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Closing(FakeTwilio):
        async def app_send(self, message: Any) -> None:
            if message["type"] == "websocket.close":
                raise trio.BusyResourceError("another task is currently sending data")
            await super().app_send(message)

    phone = Closing()
    phone.tell(twilio.Connected(), START, media())
    phone.lose()
    with structlog.testing.capture_logs() as logs:
        assert await run_to_the_end(phone, FakeAgent()) == (Cause.CALLER_LOST, 0)
    assert events.CallCrashed.NAME not in [line["event"] for line in logs]


# --- with policy that reconnect, or apologise -----------------------------------------------------

APOLOGISES = CallPolicy(apology=APOLOGY)
GAPS: dict[str, tuple[str, ...]] = {
    # {where the call is when the end comes: the doors of the second agent that are shut}
    "the second agent is dialled": ("handshake",),
    "the second agent is welcoming": ("welcome",),
    "the second agent is applying": ("applied",),
    "the second agent talks": (),
    "the apology is heard": (),
    "the goodbye is heard": (),
}
# What ends a call whatever its policy are; the agent's ways are those of a loss.
OUTRIGHT = (
    "stop",
    "close frame without stop",
    "caller lost",
    "caller sends 1 MiB",
    "a bug while listening",
    "shutdown",
)


async def reach_gap(gap: str, stage: Stage, first: FakeAgent) -> None:
    stage.phone.tell(twilio.Connected(), START, media())
    await first.ready.wait()
    await stage.settle()
    if gap == "the goodbye is heard":
        await first.say(deepgram.Audio(b"\x11" * 8000))
        await stage.settle()
        await stage.call.call.hang_up()
    await first.drop()
    await stage.settle()
    if gap == "the second agent talks":
        await stage.agent.ready.wait()
    await stage.settle()
    assert stage.call.ending is None


@pytest.mark.parametrize("kind", LEGS)
@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("name", OUTRIGHT)
async def test_both_sockets_close_together_when_an_agent_was_lost_before(
    name: str, gap: str, kind: type[Phone], autojump_clock: trio.testing.MockClock
) -> None:
    end, late = ENDS[name], LEGS[kind]
    before = trio.lowlevel.current_statistics().tasks_living
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as tasks:
            phone, first, second = kind(), FakeAgent(), FakeAgent(*GAPS[gap])
            policy = APOLOGISES if gap == "the apology is heard" else RECONNECTS
            call = make_call(tasks, phone, first, second, policy=policy)
            stage = Stage(phone, second, call, tasks)
            tasks.start_soon(call.run)
            await reach_gap(gap, stage, first)
            began = trio.current_time()
            await end.act(stage)
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert trio.current_time() - began <= PROMISE
    assert phone.gone_at is not None or phone.goodbye is not None
    assert first.gone_at is not None
    if second.dialled.is_set():
        assert second.gone_at is not None
    ended = [line for line in logs if line["event"] == events.CallEnded.NAME]
    assert [line["ending"] for line in ended] == [end.cause.label]
    if end.caller_hears:
        assert phone.goodbye is not None
        assert phone.goodbye[1] == end.cause.caller_code
        assert phone.goodbye[0] <= began + late


LOSSES = (
    "agent errs",
    "agent errs and closes",
    "agent closes 1001",
    "agent closes 1011",
    "agent lost",
    "agent breaks the websocket",
    "agent goes mute",
    "agent sends 5 MiB",
)


@pytest.mark.parametrize("kind", LEGS)
@pytest.mark.parametrize("phase", ["listening", "speaking"])
@pytest.mark.parametrize("name", LOSSES)
async def test_after_any_loss_the_caller_hears_the_apology_and_then_the_sockets_close(
    name: str, phase: str, kind: type[Phone], autojump_clock: trio.testing.MockClock
) -> None:
    end, late = ENDS[name], LEGS[kind]
    before = trio.lowlevel.current_statistics().tasks_living
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as tasks:
            phone, agent = kind(), FakeAgent()
            call = make_call(tasks, phone, agent, policy=APOLOGISES)
            stage = Stage(phone, agent, call, tasks)
            tasks.start_soon(call.run)
            await reach(phase, stage)
            began = trio.current_time()
            await end.act(stage)
    assert trio.lowlevel.current_statistics().tasks_living == before
    # No mark comes back: a second of what the agent said, one of apology, and the grace.
    unheard = 2.0 if phase == "speaking" else 1.0
    assert trio.current_time() - began <= end.found_within + unheard + LAST_WORDS_GRACE + PROMISE
    assert call.ending is not None
    assert (call.ending.cause, call.ending.apologised) == (end.cause, True)
    assert [line["event"] for line in logs].count(events.CallEnded.NAME) == 1
    assert phone.audio.endswith(APOLOGY)
    assert phone.goodbye is not None
    assert phone.goodbye[1] == end.cause.caller_code
    assert agent.gone_at is not None
    assert agent.gone_at <= began + end.found_within + PROMISE + late


@pytest.mark.parametrize("kind", LEGS)
@pytest.mark.parametrize("name", LOSSES)
async def test_after_any_loss_another_agent_goes_on(
    name: str, kind: type[Phone], autojump_clock: trio.testing.MockClock
) -> None:
    end = ENDS[name]
    before = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as tasks:
        phone, first, second = kind(), FakeAgent(), FakeAgent()
        call = make_call(tasks, phone, first, second, policy=RECONNECTS)
        stage = Stage(phone, first, call, tasks)
        tasks.start_soon(call.run)
        await reach("listening", stage)
        began = trio.current_time()
        await end.act(stage)
        await second.ready.wait()
        assert trio.current_time() <= began + end.found_within + LEGS[kind]
        phone.tell(media(b"\x55" * 160))
        await second.say(deepgram.Audio(b"\x12" * 160))
        await stage.settle()
        assert phone.audio.endswith(b"\x12" * 160)
        assert second.audio.endswith(b"\x55" * 160)
        phone.tell(STOP)
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert call.ending is not None
    assert call.ending.cause is Cause.STOP
    assert first.gone_at is not None
    assert first.gone_at <= began + end.found_within + PROMISE
