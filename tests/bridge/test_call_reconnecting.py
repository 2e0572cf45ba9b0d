"""Whole calls whose agent dies under them, on the virtual clock and through the real legs."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from rig_dialogue import APOLOGY, LOST, ONE_MOMENT, RECONNECTS
from rig_peers import (
    START,
    STREAM_SID,
    FakeAgent,
    FakeTwilio,
    Phone,
    SocketTwilio,
    make_call,
    media,
    settle,
    talking,
)

from sts_trio.errors import Cause, Ending
from sts_trio.functions import Functions, function
from sts_trio.logic.dialogue import SettingsWanted
from sts_trio.logic.requests import GO_ON
from sts_trio.observe import events
from sts_trio.wire import deepgram, deepgram_settings, twilio
from sts_trio.wire.deepgram import Audio, ConversationText, InjectUserMessage
from sts_trio.wire.dialect import Dialect

Clock = trio.testing.MockClock
Logs = list[Any]
KINDS = [FakeTwilio, SocketTwilio]


@pytest.fixture(autouse=True)
def logs() -> Iterator[Logs]:
    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        yield lines
    structlog.reset_defaults()


def settings(wanted: SettingsWanted) -> deepgram_settings.Settings:
    agent: dict[str, Any] = {"context": {"messages": wanted.history}}
    if wanted.greets:
        agent["greeting"] = "Hello."
    return deepgram_settings.phone_settings(agent)


def told(agent: FakeAgent) -> list[deepgram.ToAgent]:
    """What it was told beside audio."""
    return [message for message in agent.got if not isinstance(message, Audio)]


def block(agent: FakeAgent) -> dict[str, Any]:
    """The `agent` object in its settings."""
    first = agent.got[0]
    assert isinstance(first, deepgram_settings.Settings)
    assert isinstance(first.agent, dict)
    return first.agent


def history(agent: FakeAgent) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = block(agent)["context"]["messages"]
    return messages


def greets(agent: FakeAgent) -> bool:
    return "greeting" in block(agent)


def only(logs: Logs, event: str) -> Any:
    [line] = [line for line in logs if line["event"] == event]
    return line


async def until_ready(agent: FakeAgent, phone: Phone) -> None:
    with trio.fail_after(10):
        await agent.ready.wait()
    await settle(phone)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_outlives_its_agent_three_times(
    kind: type[Phone], autojump_clock: Clock, logs: Logs
) -> None:
    phone, agents = kind(), [FakeAgent() for _ in range(4)]
    async with talking(phone, *agents, policy=RECONNECTS, settings=settings):
        for number, agent in enumerate(agents):
            await until_ready(agent, phone)
            phone.tell(media(bytes([number + 1]) * 160))
            await settle(phone)
            await agent.say(
                ConversationText("user", f"Question {number}."),
                ConversationText("assistant", f"Answer {number}."),
                Audio(bytes([number + 0x41]) * 160),
                deepgram.AgentAudioDone(),
            )
            await settle(phone)
            if number < 3:
                await trio.sleep(30)
                await agent.drop()
    assert only(logs, events.CallEnded.NAME)["ending"] == "stop"
    assert only(logs, events.CallEnded.NAME)["reconnects"] == 3
    assert phone.audio == b"".join(bytes([number + 0x41]) * 160 for number in range(4))
    for number, agent in enumerate(agents):
        assert agent.audio.replace(b"\xff", b"") == bytes([number + 1]) * 160
    assert [item["content"] for item in history(agents[3])] == [
        text for number in range(3) for text in (f"Question {number}.", f"Answer {number}.")
    ]
    greeted = [
        isinstance(a.got[0], deepgram_settings.Settings) and "greeting" in a.got[0].agent
        for a in agents
    ]
    assert greeted == [True, False, False, False]


@pytest.mark.parametrize("kind", KINDS)
async def test_no_frame_of_the_gap_is_lost_and_the_callers_question_is_answered(
    kind: type[Phone], autojump_clock: Clock, logs: Logs
) -> None:
    phone, first, second = kind(), FakeAgent(), FakeAgent("welcome")
    async with talking(phone, first, second, policy=RECONNECTS, settings=settings):
        await first.say(ConversationText("user", "Where is it?"))
        await settle(phone)
        await first.drop()
        await settle(phone)
        for number in range(1, 41):
            phone.tell(media(bytes([number]) * 160))
            await trio.sleep(0.02)
        second.doors["welcome"].set()
        await until_ready(second, phone)
        for number in range(41, 61):
            phone.tell(media(bytes([number]) * 160))
            await trio.sleep(0.02)
        await second.say(ConversationText("user", "Where is it?"))
        await settle(phone)
    frames = b"".join(bytes([number]) * 160 for number in range(1, 61))
    assert second.audio.replace(b"\xff", b"") == frames
    assert told(second)[1:] == [InjectUserMessage("Where is it?")]
    assert phone.audio == ONE_MOMENT
    ended = only(logs, events.CallEnded.NAME)
    assert "caller_audio_dropped" not in ended
    assert 0.8 <= ended["longest_gap"] <= 0.95


async def test_what_still_waited_for_the_agent_that_is_lost_goes_to_the_next(
    autojump_clock: Clock,
) -> None:
    phone, first, second = FakeTwilio(), FakeAgent(), FakeAgent()
    said = [bytes([number]) * 8000 for number in range(1, 7)]
    async with talking(phone, first, second, policy=RECONNECTS, settings=settings) as call:
        # In one go. The first is the speaker's at once, which has waited for it; the other waits.
        call._hear([ConversationText("user", "Where is it?")])
        for second_of_speech in said:
            call._hear([media(second_of_speech)])
        call._hear([LOST])
        await until_ready(second, phone)
    assert first.audio.replace(b"\xff", b"") == said[0]
    assert second.audio.replace(b"\xff", b"").endswith(b"".join(said[1:]))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_caller_without_an_agent_hears_the_apology(
    kind: type[Phone], autojump_clock: Clock, logs: Logs
) -> None:
    phone, first, other = kind(), FakeAgent(), FakeAgent(refuse=401)
    async with trio.open_nursery() as tasks:
        call = make_call(tasks, phone, first, other, policy=RECONNECTS)
        tasks.start_soon(call.run)
        phone.tell(twilio.Connected(), START, media())
        await until_ready(first, phone)
        await first.drop()
        await settle(phone)
        assert call.ending is None
        phone.tell(twilio.Mark(twilio.MarkName("e0-1"), stream_sid=STREAM_SID))
    assert call.ending == Ending(Cause.AGENT_DENIED, "HTTP 401", apologised=True)
    assert phone.audio == APOLOGY
    assert phone.goodbye is not None
    assert phone.goodbye[1] == 1011


async def test_a_lost_agent_is_dropped_with_a_goodbye_where_it_can_hear_one(
    autojump_clock: Clock,
) -> None:
    phone, first, second = FakeTwilio(), FakeAgent(), FakeAgent()
    async with talking(phone, first, second, policy=RECONNECTS):
        await first.say(deepgram.AgentError("SERVER_GOING_AWAY", "bye"))
        await until_ready(second, phone)
        assert first.closed == (0, 1000)
    assert second.closed == (0, 1000)


async def test_an_agent_that_answers_no_goodbye_does_not_hold_the_call(
    autojump_clock: Clock,
) -> None:
    phone, first, second = FakeTwilio(), FakeAgent(answers_close=False), FakeAgent()
    async with talking(phone, first, second, policy=RECONNECTS):
        await first.say(deepgram.AgentError("SERVER_GOING_AWAY", "bye"))
        await until_ready(second, phone)
        await second.say(Audio(b"\x41" * 160))
        await settle(phone)
        assert phone.audio == b"\x41" * 160
        # What the old one still says is nobody's.
        await first.say_raw(b"\x42" * 160)
        await trio.sleep(1.6)
        assert first.gone_at == 1.5
    assert phone.audio == b"\x41" * 160


async def test_a_redial_that_hangs_is_abandoned(autojump_clock: Clock, logs: Logs) -> None:
    phone, first, stuck, third = FakeTwilio(), FakeAgent(), FakeAgent("handshake"), FakeAgent()
    async with talking(phone, first, stuck, third, policy=RECONNECTS):
        await first.drop()
        await until_ready(third, phone)
        assert trio.current_time() == 4
        assert stuck.gone_at == 3
    assert only(logs, events.AgentReconnected.NAME)["gap"] == 4
    assert only(logs, events.CallEnded.NAME)["reconnects"] == 2


async def test_a_function_under_way_is_torn_with_its_agent_and_the_next_one_knows(
    autojump_clock: Clock,
) -> None:
    ends = []

    @function
    async def slow() -> str:
        """Slow."""
        try:
            await trio.sleep(5)
        finally:
            ends.append(trio.current_time())
        return "done"

    phone, first, second = FakeTwilio(), FakeAgent(), FakeAgent()
    options: dict[str, Any] = {"policy": RECONNECTS, "functions": Functions([slow])}
    async with talking(phone, first, second, settings=settings, **options):
        await first.say(
            ConversationText("user", "Do it."),
            deepgram.FunctionCallRequest((deepgram.FunctionToCall("fc_1", "slow", "{}"),)),
        )
        await trio.sleep(1)
        await first.drop()
        await until_ready(second, phone)
        await trio.sleep(6)
    assert ends == [1]
    assert told(second)[1:] == [InjectUserMessage(GO_ON)]
    assert [item.get("content", "called") for item in history(second)] == ["Do it.", "called"]


async def test_an_agent_of_the_old_dialect_is_dialled_again_too(autojump_clock: Clock) -> None:
    phone = FakeTwilio()
    first, second = FakeAgent(dialect=Dialect.LEGACY), FakeAgent(dialect=Dialect.LEGACY)
    async with talking(phone, first, second, policy=RECONNECTS, settings=settings):
        await first.say(
            ConversationText("assistant", "Hello."), Audio(bytes(160)), deepgram.AgentAudioDone()
        )
        await settle(phone)
        await first.drop()
        await until_ready(second, phone)
    assert [item["content"] for item in history(second)] == ["Hello."]


async def test_who_asked_the_lost_agent_is_answered_by_the_next(autojump_clock: Clock) -> None:
    phone, first, second = FakeTwilio(), FakeAgent(), FakeAgent()
    async with (
        talking(phone, first, second, policy=RECONNECTS) as call,
        trio.open_nursery() as tasks,
    ):
        tasks.start_soon(call.call.update_prompt, "The caller is verified.")
        await settle(phone)
        await first.drop()
        await until_ready(second, phone)
        assert told(second)[1:] == [deepgram.UpdatePrompt("The caller is verified.")]
        await second.say(deepgram.PromptUpdated())
