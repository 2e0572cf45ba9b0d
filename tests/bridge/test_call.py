"""Whole calls on the virtual clock: stories that are not about how a call ends.

For the endings see `test_endings.py`, for the acts in detail `logic/test_dialogue.py`.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import pytest
import structlog
import trio
import trio.testing
from rig_peers import (
    CALL_SID,
    SETTINGS,
    START,
    STOP,
    STREAM_SID,
    FakeAgent,
    FakeTwilio,
    Lines,
    Phone,
    SocketTwilio,
    broken,
    make_call,
    media,
    names,
    settle,
    talking,
    tap,
)

from sts_trio.bridge.leg_tasks import AGENT_OUTBOX, HANG_UP_GRACE
from sts_trio.bridge.outbox import Outbox
from sts_trio.bridge.run import Bridge
from sts_trio.errors import AgentUnreachable, Cause, Ending, How, Leg, LegEnded
from sts_trio.legs.agent import AgentLeg
from sts_trio.legs.handshake import converse
from sts_trio.logic.acts import Heard, ShutDown
from sts_trio.logic.caller_audio import GAP
from sts_trio.logic.dialogue import Dialogue
from sts_trio.observe import events
from sts_trio.observe.feed import CallEvent
from sts_trio.wire import deepgram, deepgram_settings, twilio
from sts_trio.wire.deepgram import Audio
from sts_trio.wire.dialect import Dialect

Clock = trio.testing.MockClock
Logs = list[Any]


@pytest.fixture(autouse=True)
def every_level_is_logged() -> Iterator[None]:
    """Whatever the tests of the log and of the app have set up."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture
def logs() -> Iterator[Logs]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def only(logs: Logs, event: str) -> Any:
    """The one line of that event."""
    [line] = [line for line in logs if line["event"] == event]
    return line


# --- a whole call -----------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("kind", [FakeTwilio, SocketTwilio])
async def test_a_whole_call(
    kind: type[Phone], dialect: Dialect, autojump_clock: Clock, logs: Logs
) -> None:
    phone, agent = kind(), FakeAgent(dialect=dialect)
    async with talking(phone, agent) as call:
        phone.tell(media(b"\x01" * 160), media(b"\x02" * 160))
        await agent.say(
            deepgram.ConversationText("assistant", "Hello."),
            Audio(b"\x11" * 4000),
            Audio(b"\x12" * 900),
            deepgram.AgentAudioDone(),
        )
        await settle(phone)
        phone.tell(twilio.Mark(twilio.MarkName("e0-1"), stream_sid=STREAM_SID))
        await settle(phone)
        await agent.say(
            deepgram.UserStartedSpeaking(),
            Audio(b"\x13" * 1600),
            deepgram.ConversationText("user", "Wait."),
            Audio(b"\x14" * 160),
            deepgram.AgentAudioDone(),
        )
        phone.tell(media(b"\x03" * 160))
        await settle(phone)
        phone.tell(twilio.Mark(twilio.MarkName("e1-4"), stream_sid=STREAM_SID))
        await settle(phone)

    assert call.ending == Ending(Cause.STOP)
    assert agent.got[0] == SETTINGS
    assert agent.audio == b"\x01" * 160 + b"\x02" * 160 + b"\x03" * 160
    assert phone.audio == b"\x11" * 4000 + b"\x12" * 900 + b"\xff" * 60 + b"\x14" * 160
    controls = [message for message in phone.played if not isinstance(message, twilio.PlayMedia)]
    assert controls == [
        twilio.PlayMark(STREAM_SID, twilio.MarkName("e0-1")),
        twilio.PlayMark(STREAM_SID, twilio.MarkName("e0-2")),
        twilio.Clear(STREAM_SID),
        twilio.PlayMark(STREAM_SID, twilio.MarkName("e1-3")),
        twilio.PlayMark(STREAM_SID, twilio.MarkName("e1-4")),
    ]
    ended = only(logs, events.CallEnded.NAME)
    del ended["seconds"]
    assert ended == {
        "event": events.CallEnded.NAME,
        "log_level": "info",
        "call_sid": CALL_SID,
        "stream_sid": STREAM_SID,
        "ending": "stop",
        "verdict": "success",
        "detail": "",
        "direction": "inbound",
        "request_id": "request",
        "agent": "default",
        "caller_audio": 0.06,
        "agent_audio": 0.833,
        "heard": 0.52,
        "cut": 0.12,
        "barge_ins": 1,
    }


async def test_a_call_of_the_old_dialect_to_its_error(autojump_clock: Clock, logs: Logs) -> None:
    phone, agent = FakeTwilio(), FakeAgent(dialect=Dialect.LEGACY)
    async with talking(phone, agent):
        await agent.say_raw('{"type":"FunctionCalling"}')
        await agent.say(
            deepgram.FunctionCallRequest((deepgram.FunctionToCall("fc_1", "get_order", "{}"),))
        )
        await settle(phone)
        await agent.say_raw('{"type":"Error","message":"no credit left"}')
        await settle(phone)
    assert agent.got == [
        SETTINGS,
        deepgram.FunctionResult("fc_1", "", '{"error":"there is no such function"}'),
    ]
    ended = only(logs, events.CallEnded.NAME)
    assert (ended["ending"], ended["detail"]) == ("agent_error", ": no credit left")
    assert ended["violations"] == {
        "agent: unknown message 'FunctionCalling'": 1,
    }


async def test_every_line_after_the_start_carries_the_call(
    autojump_clock: Clock, logs: Logs
) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent):
        await agent.say(deepgram.AgentWarning("SLOW_THINK_REQUEST", "five seconds"))
        phone.tell_text("odd")
        await settle(phone)
    story = [line["event"] for line in logs]
    assert story[0] == events.CallStarted.NAME
    assert story[-1] == events.CallEnded.NAME
    assert {
        events.AgentWelcomed.NAME,
        events.AgentReady.NAME,
        events.AgentWarned.NAME,
        events.CallerProtocolError.NAME,
    } < set(story)
    for line in logs:
        assert (line["call_sid"], line["stream_sid"]) == (CALL_SID, STREAM_SID)
    numbers = only(logs, events.CallEnded.NAME)
    # Zeros say nothing.
    assert not {"heard", "cut", "barge_ins", "caller_audio_dropped"} & numbers.keys()


async def test_how_long_a_call_took_is_told_in_seconds(autojump_clock: Clock, logs: Logs) -> None:
    await trio.sleep(1000)
    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent):
        phone.tell(media())
        await trio.sleep(12.345)
    assert only(logs, events.CallEnded.NAME)["seconds"] == 12.345


# --- odd input through the real legs ------------------------------------------------------------


@pytest.mark.parametrize("kind", [FakeTwilio, SocketTwilio])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hello", "not JSON"),
        ("", "empty message"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("1e999", "not JSON"),
        ("{}", "no event"),
        ('{"event":7}', "no event"),
        ('{"event":"media"', "not JSON"),
        ('{"event":"something-new"}', "unknown message 'something-new'"),
        ('{"event":"media","media":{"payload":"@@"}}', None),
        ('{"event":"media","media":null}', None),
        ("[" * 10_000, "not JSON"),
        ('{"event":"media","media":' + "[" * 10_000, "not JSON"),
        ('{"event":"\\ud800"}', None),
        ('{"event":"mark","mark":{"name":"e' + "9" * 5000 + '-1"}}', "a mark we never sent"),
        (b"\x00\xff" * 100, "binary frame"),
        (b"", "binary frame"),
    ],
)
async def test_garbage_from_the_caller_is_survived_and_logged_once(
    kind: type[Phone],
    text: str | bytes,
    reason: str | None,
    autojump_clock: Clock,
    logs: Logs,
) -> None:
    phone, agent = kind(), FakeAgent()
    async with talking(phone, agent):
        for _ in range(3):
            if isinstance(text, bytes):
                phone.tell_bytes(text)
            else:
                phone.tell_text(text)
        phone.tell(media(b"\x01" * 160))
        await settle(phone)
    assert agent.audio == b"\x01" * 160
    ended = only(logs, events.CallEnded.NAME)
    assert ended["ending"] == "stop"
    [(counted, count)] = ended["violations"].items()
    assert count == 3
    line = only(logs, events.CallerProtocolError.NAME)
    assert counted == f"caller: {line['reason']}"
    assert reason is None or line["reason"] == reason


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("hello", "not JSON"),
        ("", "empty message"),
        ("[]", "no type"),
        ("null", "no type"),
        ("{}", "no type"),
        ('{"type":7}', "no type"),
        ('{"type":"Welcome"', "not JSON"),
        ('{"type":"SomethingNew"}', "unknown message 'SomethingNew'"),
        ('{"type":"ConversationText","role":"user"}', None),
        ('{"type":"ConversationText","role":7,"content":[]}', None),
        ("[" * 10_000, "no type"),
        ('{"type":"AgentThinking","content":' + "[" * 10_000, "not JSON"),
        (b"", "empty audio"),
    ],
)
async def test_garbage_from_the_agent_is_survived_and_logged_once(
    frame: str | bytes,
    reason: str | None,
    dialect: Dialect,
    autojump_clock: Clock,
    logs: Logs,
) -> None:
    phone, agent = FakeTwilio(), FakeAgent(dialect=dialect)
    async with talking(phone, agent):
        for _ in range(3):
            await agent.say_raw(frame)
        await agent.say(Audio(b"\x01" * 160))
        await settle(phone)
    assert phone.audio == b"\x01" * 160
    ended = only(logs, events.CallEnded.NAME)
    assert ended["ending"] == "stop"
    [(counted, count)] = ended["violations"].items()
    assert count == 3
    line = only(logs, events.AgentProtocolError.NAME)
    assert counted == f"agent: {line['reason']}"
    assert reason is None or line["reason"] == reason


@pytest.mark.parametrize("kind", [FakeTwilio, SocketTwilio])
async def test_a_flood_from_the_caller_costs_neither_audio_nor_lines_of_log(
    kind: type[Phone], autojump_clock: Clock, logs: Logs
) -> None:
    phone, agent = kind(), FakeAgent()
    async with talking(phone, agent):
        # A thousand a second, for three seconds.
        for number in range(150):
            for kind_of_message in range(20):
                phone.tell_text(f'{{"event":"kind {number % 10 * 20 + kind_of_message}"}}')
            phone.tell(media(bytes([number]) * 160))
            await trio.sleep(0.02)
        await settle(phone)
    assert agent.audio == b"".join(bytes([number]) * 160 for number in range(150))
    ended = only(logs, events.CallEnded.NAME)
    assert ended["ending"] == "stop"
    assert sum(ended["violations"].values()) == 3000
    assert (
        len([line for line in logs if line["event"] == events.CallerProtocolError.NAME])
        == len(ended["violations"])
        == 51
    )


async def test_a_flood_from_the_agent_costs_neither_audio_nor_lines_of_log(
    autojump_clock: Clock, logs: Logs
) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent):
        for number in range(50):
            for _ in range(20):
                await agent.say_raw('{"type":"SomethingNew"}')
            await agent.say(Audio(bytes([number]) * 160))
            await trio.sleep(0.02)
    assert phone.audio == b"".join(bytes([number]) * 160 for number in range(50))
    assert only(logs, events.AgentProtocolError.NAME)["reason"] == "unknown message 'SomethingNew'"
    assert only(logs, events.CallEnded.NAME)["violations"] == {
        "agent: unknown message 'SomethingNew'": 1000
    }


async def test_an_audio_message_of_three_megabytes_is_played_whole(
    autojump_clock: Clock, logs: Logs
) -> None:
    audio = bytes(position * 7 % 251 for position in range(3 * 1024 * 1024))
    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent):
        await agent.say(Audio(audio), deepgram.AgentAudioDone())
        await settle(phone)
    assert phone.audio == audio + b"\xff" * (-len(audio) % 160)
    assert (
        max(len(m.media.payload) for m in phone.played if isinstance(m, twilio.PlayMedia)) == 8000
    )
    assert "violations" not in only(logs, events.CallEnded.NAME)


async def test_the_last_word_of_a_call_names_the_agents_session_for_its_support(
    autojump_clock: Clock, logs: Logs
) -> None:
    async with talking(FakeTwilio(), FakeAgent()):
        pass
    welcomed = only(logs, events.AgentWelcomed.NAME)["request_id"]
    assert welcomed == only(logs, events.CallEnded.NAME)["request_id"] == "request"


async def test_a_call_without_an_agent_has_no_session_to_be_named(
    autojump_clock: Clock, logs: Logs
) -> None:
    phone = FakeTwilio()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(make_call(tasks, phone, FakeAgent(refuse=401)).run)
        phone.tell(twilio.Connected(), START)
    assert "request_id" not in only(logs, events.CallEnded.NAME)


# --- what is never logged -----------------------------------------------------------------------


async def test_sentences_are_logged_only_behind_the_switch(
    autojump_clock: Clock, logs: Logs
) -> None:
    for log_transcripts, expected in ((False, []), (True, ["Hello there.", "My name is Ann."])):
        logs.clear()
        phone, agent = FakeTwilio(), FakeAgent()
        async with talking(phone, agent, log_transcripts=log_transcripts):
            await agent.say(
                deepgram.ConversationText("assistant", "Hello there."),
                deepgram.ConversationText("user", "My name is Ann."),
                deepgram.History("user", "My name is Ann."),
            )
            await settle(phone)
        lines = [line for line in logs if line["event"] == events.CallTranscript.NAME]
        assert [line["text"] for line in lines] == expected
        assert {line["log_level"] for line in lines} <= {"debug"}
        assert str(logs).count("Ann") == log_transcripts


async def test_no_secret_is_ever_logged(autojump_clock: Clock, logs: Logs) -> None:
    """Every place a secret passes through in a call, one that ends in a crash."""
    agent = FakeAgent()
    settings = deepgram_settings.phone_settings(
        {"greeting": "s3cret", "think": {"provider": {"type": "s3cret"}, "prompt": "s3cret"}}
    )
    start = twilio.Start(
        twilio.StreamStart(STREAM_SID, CALL_SID, custom_parameters={"s3cret": "s3cret"})
    )
    phone = FakeTwilio()
    async with trio.open_nursery() as tasks:
        call = Bridge(
            Dialogue(lambda start: settings, now=trio.current_time()),
            phone.open,
            Lines(_dial_with_key(tasks, agent, b"Token s3cret")),
        )
        tasks.start_soon(call.run)
        phone.tell(twilio.Connected(), start, media(b"s3cret" * 40))
        await agent.ready.wait()
        phone.tell(
            twilio.Dtmf(twilio.Digit("s3cret")),
            twilio.Media(twilio.Inbound(b"s3cret"), stream_sid="another"),
        )
        function = deepgram.FunctionToCall("fc_1", "get_order", '{"card": "s3cret"}')
        called = deepgram.CalledFunction("fc_1", "get_order", True, "s3cret", "s3cret")
        await agent.say(
            Audio(b"s3cret" * 40),
            deepgram.ConversationText("user", "s3cret"),
            deepgram.AgentThinking("s3cret"),
            deepgram.History("user", "s3cret"),
            deepgram.History(function_calls=(called,)),
            deepgram.FunctionCallRequest((function,)),
            deepgram.FunctionCallResponse("lookup", "s3cret"),
            deepgram.CustomFromThinkProvider("s3cret"),
        )
        await settle(phone)
        tap(call, broken)
        phone.tell(media(b"s3cret" * 40))
    assert agent.audio.count(b"s3cret") >= 40
    assert only(logs, events.CallEnded.NAME)["ending"] == "crashed"
    assert only(logs, events.CallCrashed.NAME)["exc_info"]
    assert "s3cret" not in str(logs)


@pytest.mark.parametrize("is_a_crash", [False, True])
async def test_keys_that_a_function_collected_are_in_no_line_of_the_call(
    is_a_crash: bool, autojump_clock: Clock, logs: Logs
) -> None:
    async with talking(FakeTwilio(), FakeAgent(), log_transcripts=True) as call:
        call.reports.hide("4929123412341234")
        call.reports.hide("557799")
        try:
            raise ValueError("4929 1234 1234 1234 is no card, nor is 557799")
        except ValueError as exc:
            call.reports.report(
                events.FunctionFailed("fc_1", "pay", str(exc), crashed=is_a_crash),
                exc_info=is_a_crash,
            )
    failed = only(logs, events.FunctionFailed.NAME)
    assert "is no card" in failed["reason"]
    assert ("is no card" in failed.get("exception", "")) == is_a_crash
    assert "4929" not in str(logs)
    assert "5577" not in str(logs)


async def test_a_refused_key_is_not_logged(autojump_clock: Clock, logs: Logs) -> None:
    phone, agent = FakeTwilio(), FakeAgent(refuse=401)
    async with trio.open_nursery() as tasks:
        call = Bridge(
            Dialogue(lambda start: SETTINGS, now=trio.current_time()),
            phone.open,
            Lines(_dial_with_key(tasks, agent, b"Token s3cret")),
        )
        phone.tell(twilio.Connected(), START)
        await call.run()
    ended = only(logs, events.CallEnded.NAME)
    assert (ended["ending"], ended["detail"]) == ("agent_denied", "HTTP 401")
    assert "s3cret" not in str(logs)


def _dial_with_key(
    nursery: trio.Nursery, agent: FakeAgent, key: bytes
) -> Callable[[], contextlib.AbstractAsyncContextManager[AgentLeg]]:
    @contextlib.asynccontextmanager
    async def open_leg() -> AsyncIterator[AgentLeg]:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(agent.serve, theirs)
        headers = [(b"authorization", key)]
        async with converse(ours, "agent.test", "/", headers, agent.language) as leg:
            yield leg

    return open_leg


# --- time and outboxes, with legs that do as they are told ----------------------------------------

M = TypeVar("M")


class ObedientLeg(Generic[M]):
    """A leg on no socket: what it hears a test says, and when it sends as well."""

    def __init__(self, which: Leg, *, writes_through: bool = False) -> None:
        self.which = which
        self.writes_through = writes_through
        self.sent: list[tuple[float, M]] = []
        self.awaited = 0  # of them, how many the speaker sent
        self.goodbye: tuple[float, int] | None = None
        self.may_send = trio.Event()
        self.may_send.set()
        self.fault: Exception | None = None
        self._heard, self._hears = trio.open_memory_channel[Sequence[Heard]](1000)

    def say(self, *heard: Heard) -> None:
        self._heard.send_nowait(heard)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["ObedientLeg[M]"]:
        yield self

    is_polled = False
    is_prepared = False

    async def listen(
        self, hear: Callable[[Sequence[Any]], None], idle: Callable[[float], None]
    ) -> None:
        async for heard in self._hears:
            hear(heard)
            if isinstance(heard[-1], LegEnded):
                return

    def try_send(self, message: M) -> bool:
        if self.writes_through:
            self.sent.append((trio.current_time(), message))
        return self.writes_through

    async def send(self, message: M) -> None:
        if self.fault is not None:
            raise self.fault
        await self.may_send.wait()
        self.awaited += 1
        self.sent.append((trio.current_time(), message))

    async def aclose(self, code: int) -> None:
        await trio.lowlevel.checkpoint()
        self.goodbye = (trio.current_time(), code)
        self.say(LegEnded(self.which, How.CLOSED, code))

    @property
    def messages(self) -> list[M]:
        return [message for _, message in self.sent]


class Pair:
    """A call between two obedient legs, to be run by the test."""

    def __init__(self, *, writes_through: bool = False, forward: float = 0.02) -> None:
        self.caller = ObedientLeg[twilio.ToCaller](Leg.CALLER, writes_through=writes_through)
        self.agent = ObedientLeg[deepgram.ToAgent](Leg.AGENT, writes_through=writes_through)
        self.call = Bridge(
            Dialogue(lambda start: SETTINGS, forward=forward, now=trio.current_time()),
            self.caller.open,
            Lines(self.agent.open),
        )

    async def talk(self) -> None:
        """As far as talking, with nothing said yet."""
        self.caller.say(START)
        self.agent.say(deepgram.Welcome("r"), deepgram.SettingsApplied())
        await trio.testing.wait_all_tasks_blocked()
        self.agent.sent.clear()
        self.agent.awaited = self.caller.awaited = 0


@pytest.mark.parametrize("writes_through", [False, True])
async def test_messages_reach_each_leg_in_order(
    writes_through: bool, autojump_clock: Clock
) -> None:
    pair = Pair(writes_through=writes_through)
    async with trio.open_nursery() as tasks:
        tasks.start_soon(pair.call.run)
        await pair.talk()
        frames = [bytes([number]) * 160 for number in range(100)]
        for frame in frames:
            pair.caller.say(media(frame))
            pair.agent.say(Audio(frame))
        await trio.testing.wait_all_tasks_blocked()
        assert pair.agent.messages == [Audio(frame) for frame in frames]
        played = [m for m in pair.caller.messages if isinstance(m, twilio.PlayMedia)]
        assert [message.media.payload for message in played] == frames
        # What a leg takes at once needs no speaker to wake.
        assert (pair.agent.awaited == pair.caller.awaited == 0) == writes_through
        pair.caller.say(STOP)
    assert pair.caller.goodbye == pair.agent.goodbye == (0, 1000)


async def test_the_timer_wakes_for_a_deadline_that_moved_earlier(autojump_clock: Clock) -> None:
    """A part of a batch is due in 200 ms, while the timer sleeps toward the next gap."""
    pair = Pair(forward=0.1)
    async with trio.open_nursery() as tasks:
        tasks.start_soon(pair.call.run)
        await pair.talk()
        await trio.sleep(0.5)
        pair.caller.say(media(b"\x01" * 160))
        await trio.sleep(0.3)
        assert pair.agent.sent == [(0.7, Audio(b"\x01" * 160))]
        pair.caller.say(STOP)


async def test_a_gap_is_filled_in_time_and_the_timer_rests_between(autojump_clock: Clock) -> None:
    pair = Pair()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(pair.call.run)
        await pair.talk()
        heard = 0
        hear = pair.call.dialogue.hear

        def counting(*arguments: Any) -> Any:
            nonlocal heard
            heard += 1
            return hear(*arguments)

        tap(pair.call, counting)
        await trio.sleep(0.5)
        pair.caller.say(media(b"\x01" * 160))
        await trio.sleep(2.9)
        assert [round(time, 6) for time, _ in pair.agent.sent] == [0.5] + [
            round(1.5 + 0.2 * step, 6) for step in range(10)
        ]
        assert set(pair.agent.messages[1:]) == {Audio(b"\xff" * 1600)}
        # One for the frame, one for the deadline it moved, one for each silence.
        assert heard <= 12
        pair.caller.say(STOP)


async def test_an_agent_that_stalls_for_three_seconds_gets_all_that_was_said(
    autojump_clock: Clock, logs: Logs
) -> None:
    pair = Pair()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(pair.call.run)
        await pair.talk()
        pair.agent.may_send = trio.Event()
        frames = [bytes([number]) * 160 for number in range(150)]
        for frame in frames:
            pair.caller.say(media(frame))
            await trio.testing.wait_all_tasks_blocked()
        pair.agent.may_send.set()
        await trio.testing.wait_all_tasks_blocked()
        assert pair.agent.messages == [Audio(frame) for frame in frames]
        pair.caller.say(STOP)
    assert "caller_audio_dropped" not in only(logs, events.CallEnded.NAME)


async def test_an_agent_slow_to_read_gets_the_newest_ten_seconds(
    autojump_clock: Clock, logs: Logs
) -> None:
    pair = Pair()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(pair.call.run)
        await pair.talk()
        pair.agent.may_send = trio.Event()
        frames = [bytes([number % 250]) * 160 for number in range(550)]
        for frame in frames:
            pair.caller.say(media(frame))
            await trio.testing.wait_all_tasks_blocked()
        pair.agent.may_send.set()
        await trio.testing.wait_all_tasks_blocked()
        # The first was already being sent.
        assert pair.agent.messages == [Audio(frame) for frame in [frames[0], *frames[50:]]]
        pair.caller.say(STOP)
    assert AGENT_OUTBOX == 10.0
    ended = only(logs, events.CallEnded.NAME)
    assert ended["caller_audio_dropped"] == 0.98
    assert ended["violations"] == {"agent: outbox full: audio dropped": 49}
    assert only(logs, events.AgentProtocolError.NAME)["reason"] == "outbox full: audio dropped"


async def test_what_waits_for_the_caller_is_flushed_by_a_barge_in(autojump_clock: Clock) -> None:
    pair = Pair()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(pair.call.run)
        await pair.talk()
        pair.caller.may_send = trio.Event()
        pair.agent.say(Audio(b"\x01" * 160))
        await trio.testing.wait_all_tasks_blocked()
        pair.agent.say(Audio(b"\x02" * 8000), deepgram.AgentAudioDone())
        pair.agent.say(deepgram.UserStartedSpeaking())
        pair.agent.say(deepgram.EndOfTurn(), Audio(b"\x03" * 160))
        await trio.testing.wait_all_tasks_blocked()
        pair.caller.may_send.set()
        await trio.testing.wait_all_tasks_blocked()
        # The first was already being sent.
        assert pair.caller.messages == [
            twilio.PlayMedia(STREAM_SID, twilio.Outbound(b"\x01" * 160)),
            twilio.Clear(STREAM_SID),
            twilio.PlayMark(STREAM_SID, twilio.MarkName("e1-2")),
            twilio.PlayMedia(STREAM_SID, twilio.Outbound(b"\x03" * 160)),
        ]
        pair.caller.say(STOP)


async def test_what_waits_at_the_end_is_sent_before_the_goodbye(autojump_clock: Clock) -> None:
    pair = Pair(forward=0.1)
    async with trio.open_nursery() as tasks:
        tasks.start_soon(pair.call.run)
        await pair.talk()
        pair.agent.say(Audio(b"\x02" * 160))
        pair.caller.say(media(b"\x01" * 160), STOP)
    assert pair.agent.messages == [Audio(b"\x01" * 160)]
    assert pair.agent.goodbye == pair.caller.goodbye == (0, 1000)


async def test_what_happens_is_told_in_order_with_the_words(autojump_clock: Clock) -> None:
    told: list[CallEvent] = []
    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent, tell=told.append):
        await trio.sleep(0.5)
        await agent.say(deepgram.ConversationText("user", "Hello."))
        await settle(phone)
    assert [(entry.at, type(entry.event)) for entry in told] == [
        (0, events.CallStarted),
        (0, events.AgentWelcomed),
        (0, events.AgentReady),
        (0.5, events.CallTranscript),
        (0.5, events.CallEnded),
    ]
    assert told[3].event == events.CallTranscript("user", "Hello.")
    assert told[4].event.fields()["ending"] == "stop"
    assert {entry.call_sid for entry in told} == {CALL_SID}


# --- bugs of ours ---------------------------------------------------------------------------------


def crashed(logs: Logs) -> None:
    assert only(logs, events.CallEnded.NAME)["ending"] == "crashed"
    assert only(logs, events.CallEnded.NAME)["verdict"] == "ours"
    line = only(logs, events.CallCrashed.NAME)
    assert (line["log_level"], line["exc_info"]) == ("error", True)


@pytest.mark.parametrize("which", Leg)
async def test_a_bug_while_sending_ends_the_call_and_says_1011_to_both(
    which: Leg, autojump_clock: Clock, logs: Logs
) -> None:
    pair = Pair()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(pair.call.run)
        await pair.talk()
        leg: ObedientLeg[Any] = pair.caller if which is Leg.CALLER else pair.agent
        leg.fault = ZeroDivisionError("a bug")
        pair.caller.say(media())
        pair.agent.say(Audio(bytes(160)))
    assert pair.caller.goodbye == pair.agent.goodbye == (0, 1011)
    crashed(logs)


async def test_what_its_server_has_to_tell_of_a_call_is_told_as_its_own(
    autojump_clock: Clock, logs: Logs
) -> None:
    async with talking(FakeTwilio(), FakeAgent()) as call:
        call.reports.report(events.CallCrashed())
    ended = only(logs, events.CallEnded.NAME)
    assert only(logs, events.CallCrashed.NAME)["call_sid"] == ended["call_sid"]


async def test_a_caller_leg_that_cannot_be_opened_is_a_crash(
    autojump_clock: Clock, logs: Logs
) -> None:
    pair = Pair()
    call = Bridge(Dialogue(lambda start: SETTINGS), broken, Lines(pair.agent.open))
    assert await call.run() == Ending(Cause.CRASHED)
    assert trio.current_time() == 0
    crashed(logs)


async def test_an_agent_leg_that_cannot_be_opened_through_a_bug_is_a_crash(
    autojump_clock: Clock, logs: Logs
) -> None:
    pair = Pair()
    call = Bridge(Dialogue(lambda start: SETTINGS), pair.caller.open, Lines(broken))
    pair.caller.say(START)
    assert await call.run() == Ending(Cause.CRASHED)
    assert pair.caller.goodbye == (0, 1011)
    crashed(logs)


async def test_settings_that_cannot_be_made_are_a_crash(autojump_clock: Clock, logs: Logs) -> None:
    pair = Pair()
    call = Bridge(Dialogue(broken), pair.caller.open, Lines(pair.agent.open))
    pair.caller.say(START)
    pair.agent.say(deepgram.Welcome("r"))
    assert await call.run() == Ending(Cause.CRASHED)
    assert pair.caller.goodbye == pair.agent.goodbye == (0, 1011)
    crashed(logs)


async def test_settings_the_dialect_has_no_words_for_are_a_crash(
    autojump_clock: Clock, logs: Logs
) -> None:
    phone, agent = FakeTwilio(), FakeAgent(dialect=Dialect.LEGACY)
    async with trio.open_nursery() as tasks:
        stored = deepgram_settings.phone_settings("a stored agent")
        call = make_call(tasks, phone, agent, settings=lambda wanted: stored)
        phone.tell(twilio.Connected(), START)
        assert await call.run() == Ending(Cause.CRASHED)
    assert phone.goodbye == (0, 1011)
    assert agent.closed == (0, 1011)
    crashed(logs)


async def test_an_agent_without_a_status_is_unreachable(autojump_clock: Clock, logs: Logs) -> None:
    pair = Pair()

    def unreachable() -> Any:
        raise AgentUnreachable("no such host")

    call = Bridge(Dialogue(lambda start: SETTINGS), pair.caller.open, Lines(unreachable))
    pair.caller.say(START)
    assert await call.run() == Ending(Cause.AGENT_UNREACHABLE, "no such host")
    assert events.CallCrashed.NAME not in [line["event"] for line in logs]


async def test_a_bug_in_the_timer_ends_the_call(autojump_clock: Clock, logs: Logs) -> None:
    pair = Pair()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(pair.call.run)
        await pair.talk()
        tap(pair.call, broken)
    assert pair.caller.goodbye == pair.agent.goodbye == (1, 1011)
    crashed(logs)


async def test_a_bug_in_a_shutdown_still_hangs_up(autojump_clock: Clock, logs: Logs) -> None:
    pair = Pair()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(pair.call.run)
        await pair.talk()
        tap(pair.call, broken)
        pair.call.tell(ShutDown())
    assert pair.caller.goodbye == pair.agent.goodbye == (0, 1011)
    crashed(logs)


async def test_a_bug_after_hanging_up_is_logged_and_changes_nothing(
    autojump_clock: Clock, logs: Logs
) -> None:
    pair = Pair()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(pair.call.run)
        await pair.talk()
        pair.caller.may_send = trio.Event()
        pair.agent.say(Audio(bytes(160)), Audio(bytes(160)))
        await trio.testing.wait_all_tasks_blocked()
        # One is being sent, the other waits for it, and for the bug.
        pair.caller.fault = ZeroDivisionError("a bug")
        pair.caller.say(LegEnded(Leg.CALLER, How.CLOSED))
        await trio.testing.wait_all_tasks_blocked()
        pair.caller.may_send.set()
    assert only(logs, events.CallEnded.NAME)["ending"] == "caller_closed"
    assert only(logs, events.CallCrashed.NAME)
    assert pair.agent.goodbye == (0, 1000)


async def test_a_second_shutdown_changes_nothing(autojump_clock: Clock, logs: Logs) -> None:
    pair = Pair()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(pair.call.run)
        await pair.talk()
        pair.caller.say(STOP)
        await trio.testing.wait_all_tasks_blocked()
        pair.call.tell(ShutDown())
    assert only(logs, events.CallEnded.NAME)["ending"] == "stop"


async def test_a_call_that_is_shut_down_before_it_runs_runs_to_its_end_at_once(
    autojump_clock: Clock, logs: Logs
) -> None:
    pair = Pair()
    pair.call.tell(ShutDown())
    assert await pair.call.run() == Ending(Cause.SHUTDOWN)
    assert trio.current_time() <= HANG_UP_GRACE
    assert only(logs, events.CallEnded.NAME)["ending"] == "shutdown"


async def test_audio_that_the_callers_outbox_drops_is_told_of(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock, logs: Logs
) -> None:
    agent = FakeAgent()
    async with talking(FakeTwilio(), agent) as call:
        monkeypatch.setattr(
            Outbox, "put", lambda outbox, message: 160 * (outbox is call._to_caller)
        )
        await agent.say(Audio(bytes(1600)))
        await trio.testing.wait_all_tasks_blocked()
        assert "caller: outbox full: audio dropped" in call.dialogue.statistics().violations


async def test_of_a_group_that_holds_more_than_bugs_only_those_stop_at_the_boundary(
    autojump_clock: Clock,
) -> None:
    async with talking(FakeTwilio(), FakeAgent()) as call:
        with pytest.raises(BaseExceptionGroup) as caught, call._boundary():
            raise BaseExceptionGroup("", [ValueError("a bug"), KeyboardInterrupt()])
    assert [type(each) for each in caught.value.exceptions] == [KeyboardInterrupt]
    assert call.ending == Ending(Cause.CRASHED)


async def test_what_a_slow_phone_has_yet_to_take_can_be_asked_for(autojump_clock: Clock) -> None:
    phone, agent = FakeTwilio(reads=False), FakeAgent()
    async with talking(phone, agent) as call:
        assert call.waiting == {Leg.CALLER: 0.0, Leg.AGENT: 0.0}
        for _ in range(3):
            await agent.say(deepgram.Audio(b"\x11" * 8000))
        await settle(phone)
        assert call.waiting == {Leg.CALLER: 2.0, Leg.AGENT: 0.0}, "one is on its way"


async def test_the_task_that_a_call_runs_in_is_known_while_it_does(autojump_clock: Clock) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with trio.open_nursery() as nursery:
        assert make_call(nursery, phone, agent).task is None
        async with talking(phone, agent) as call:
            assert call.task is not None
            assert call.task.child_nurseries


async def test_a_deadline_that_has_moved_later_tells_the_dialogue_nothing(
    autojump_clock: Clock,
) -> None:
    phone = FakeTwilio()
    async with talking(phone, FakeAgent()) as call:
        told: list[Any] = []
        hear = call.dialogue.hear

        def hear_and_note(batch: Any, now: float) -> Any:
            told.extend(batch)
            return hear(batch, now)

        tap(call, hear_and_note)
        for _ in range(5):  # each moves the end of a gap in the caller's frames
            phone.tell(media())
            await trio.sleep(0.6 * GAP)
        assert names(told) == ["Media"] * 5
        await trio.sleep(GAP)
        assert "Tick" in names(told)
