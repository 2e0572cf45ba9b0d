"""Whole conversations on real sockets: Hypercorn and TCP, on both kinds of caller leg."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from rig_peers import START, STOP, STREAM_SID, FakeAgent, media
from rig_server import LANE, PROMISE, Phone, World, talk, world

from sts_trio import Call, call_control, function
from sts_trio.logic import reconnect
from sts_trio.logic.policy import CallPolicy
from sts_trio.observe import events
from sts_trio.wire import deepgram, deepgram_settings, twilio
from sts_trio.wire.deepgram import Audio, ConversationText, FunctionCallRequest, FunctionToCall


@pytest.fixture(params=["fast", "portable"], autouse=True)
def lane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every story is told on both kinds of caller leg."""
    monkeypatch.setitem(LANE, "STS_FAST_LANE", str(int(request.param == "fast")))
    return str(request.param)


async def hang_up(here: World, phone: Phone) -> None:
    await phone.tell(STOP)
    assert await phone.play_until_closed() == 1000
    assert await here.until_over() < PROMISE


async def until(agent: FakeAgent, kind: type[deepgram.ToAgent]) -> deepgram.ToAgent:
    """The first message of that kind that the agent has been told."""
    while True:
        for message in agent.got:
            if isinstance(message, kind):
                return message
        await trio.sleep(0.002)  # real sockets: there is no event to wait for


async def test_a_barge_in_silences_the_agent_and_its_late_audio(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.phone() as phone:
        await talk(here, phone)
        phone.played.clear()
        await here.agent.say(
            Audio(b"\x12" * 16000),
            deepgram.UserStartedSpeaking(),
            Audio(b"\x13" * 1600),
            ConversationText("user", "Wait."),
            Audio(b"\x14" * 1600),
            deepgram.AgentAudioDone(),
        )
        await phone.play_until(lambda audio: audio.endswith(b"\x14" * 1600))
        assert b"\x13" not in phone.audio
        kinds = [type(message) for message in phone.played]
        assert kinds.count(twilio.Clear) == 1
        await hang_up(here, phone)
    ended = next(line for line in here.logs if line["event"] == events.CallEnded.NAME)
    assert ended["barge_ins"] == 1


def frame(number: int) -> twilio.Media:
    """A frame that can be told from all others."""
    return media(number.to_bytes(2, "big") * 80)


def numbers(agent: FakeAgent) -> list[int]:
    """Which frames that agent was given, the silence of gaps left out."""
    audio = agent.audio
    found = [int.from_bytes(audio[at : at + 2], "big") for at in range(0, len(audio), 160)]
    return [number for number in found if number not in (0xFFFF, 0x2121)]


async def test_an_agent_killed_three_times_costs_the_caller_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the last agent may have missed is given to the next one again, in order."""
    monkeypatch.setattr(reconnect, "WINDOW", 0.2)
    agents = [FakeAgent() for _ in range(4)]
    policy = CallPolicy(reconnects=True, one_moment=b"\x31" * 160, apology=b"\x32" * 160)
    sent = 0

    async def speak() -> None:
        nonlocal sent
        await phone.tell(frame(sent))
        sent += 1
        await trio.sleep(0.005)

    async with world(tmp_path, *agents, policy=policy) as here, here.phone() as phone:
        await talk(here, phone)
        await agents[0].say(ConversationText("user", "One."), ConversationText("assistant", "Two."))
        await agents[0].say(deepgram.AgentAudioDone())
        for agent, following in pairwise(agents):
            for _ in range(60):
                await speak()
            await agent.drop()
            while not following.ready.is_set():
                await speak()
        for _ in range(20):
            await speak()
        await phone.tell(STOP)
        await phone.play_until_closed()
        await here.until_over()
        await agents[-1].over.wait()

    heard: list[int] = []
    for agent in agents:
        given = numbers(agent)
        assert given == list(range(given[0], given[-1] + 1)), "out of order, lost, or doubled"
        assert not heard or given[0] <= heard[-1] + 1, "lost between two agents"
        heard += [number for number in given if not heard or number > heard[-1]]
    assert heard == list(range(sent))
    ended = next(line for line in here.logs if line["event"] == events.CallEnded.NAME)
    assert ended["reconnects"] == 3
    assert "caller_audio_dropped" not in ended
    for agent in agents[1:]:
        settings = agent.got[0]
        assert isinstance(settings, deepgram_settings.Settings)


async def test_a_fresh_agent_knows_what_was_said(tmp_path: Path) -> None:
    first, second = FakeAgent(), FakeAgent()
    policy = CallPolicy(reconnects=True)
    async with world(tmp_path, first, second, policy=policy) as here, here.phone() as phone:
        await talk(here, phone)
        await first.say(
            ConversationText("assistant", "Hello!"),
            deepgram.AgentAudioDone(),
            ConversationText("user", "Where is my order?"),
        )
        await phone.play_until_told(twilio.PlayMark)
        await first.drop()
        await second.ready.wait()
        asked = await until(second, deepgram.InjectUserMessage)
        await hang_up(here, phone)
    settings = second.got[0]
    assert isinstance(settings, deepgram_settings.Settings)
    assert isinstance(settings.agent, dict)
    assert "greeting" not in settings.agent
    assert settings.agent["context"]["messages"] == [
        {"type": "History", "role": "assistant", "content": "Hello!"}
    ]
    assert asked == deepgram.InjectUserMessage("Where is my order?")


async def test_a_caller_can_speak_and_interrupt_while_a_function_runs(tmp_path: Path) -> None:
    may_answer = trio.Event()

    @function
    async def look_up(model: str) -> str:
        """Find a car."""
        await may_answer.wait()
        return f"{model}: sold"

    async with world(tmp_path, functions=[look_up]) as here, here.phone() as phone:
        await talk(here, phone)
        asked = FunctionToCall("fc_1", "look_up", '{"model": "Beetle"}')
        await here.agent.say(FunctionCallRequest((asked,)), Audio(b"\x12" * 8000))
        await phone.play_until(lambda audio: audio.endswith(b"\x12" * 8000))
        await phone.tell(media(b"\x41" * 160))
        await here.agent.say(deepgram.UserStartedSpeaking())
        await phone.play_until_told(twilio.Clear)
        while b"\x41" not in here.agent.audio:  # noqa: ASYNC110 - real sockets tell no event
            await trio.sleep(0.002)
        may_answer.set()
        answer = await until(here.agent, deepgram.FunctionResult)
        await hang_up(here, phone)
    assert answer == deepgram.FunctionResult("fc_1", "look_up", '"Beetle: sold"')


async def test_the_call_ends_when_the_goodbye_has_been_heard(tmp_path: Path) -> None:
    async with world(tmp_path, functions=[call_control.hang_up]) as here, here.phone() as phone:
        await talk(here, phone)
        asked = FunctionToCall("fc_1", "hang_up", "{}")
        await here.agent.say(FunctionCallRequest((asked,)))
        answer = await until(here.agent, deepgram.FunctionResult)
        assert isinstance(answer, deepgram.FunctionResult)
        assert "status" in json.loads(answer.content)
        await here.agent.say(
            ConversationText("assistant", "Goodbye!"),
            Audio(b"\x15" * 8000),
            deepgram.AgentAudioDone(),
        )
        await phone.play_until(lambda audio: audio.endswith(b"\x15" * 8000))
        await phone.play_until_told(twilio.PlayMark)
        assert here.app.live_calls.live == 1  # the caller has not heard it yet
        for message in phone.played:
            if isinstance(message, twilio.PlayMark):
                await phone.tell(twilio.Mark(message.mark, stream_sid=STREAM_SID))
        assert await phone.play_until_closed() == 1000
        assert await here.until_over() < PROMISE
        assert here.endings == ["hung_up"]


async def test_what_is_protected_is_heard_to_the_end(tmp_path: Path) -> None:
    @function
    async def read_terms(call: Call) -> str:
        """Read the terms to the caller."""
        async with call.protected():
            await call.say("These are the terms.")
        return "read"

    async with world(tmp_path, functions=[read_terms]) as here, here.phone() as phone:
        await talk(here, phone)
        await here.agent.say(FunctionCallRequest((FunctionToCall("fc_1", "read_terms", "{}"),)))
        await until(here.agent, deepgram.InjectAgentMessage)
        await phone.tell(media(b"\x41" * 160))
        await here.agent.say(
            ConversationText("assistant", "These are the terms."),
            deepgram.UserStartedSpeaking(),
            Audio(b"\x16" * 4000),
            deepgram.AgentAudioDone(),
        )
        phone.echoes = True
        await phone.play_until(lambda audio: audio.endswith(b"\x16" * 4000))
        await phone.play_until_told(twilio.PlayMark)
        for message in phone.played:
            if isinstance(message, twilio.PlayMark):
                await phone.tell(twilio.Mark(message.mark, stream_sid=STREAM_SID))
        await until(here.agent, deepgram.FunctionResult)
        assert twilio.Clear(STREAM_SID) not in phone.played
        assert b"\x41" not in here.agent.audio
        await hang_up(here, phone)


async def test_a_caller_without_an_agent_hears_an_apology(tmp_path: Path) -> None:
    policy = CallPolicy(apology=b"\x32" * 1600)
    async with world(tmp_path, policy=policy) as here, here.phone() as phone:
        await talk(here, phone)
        phone.echoes = True
        await here.agent.drop()
        assert await phone.play_until_closed() == 1011
        assert phone.audio.endswith(b"\x32" * 1600)
        assert await here.until_over() < PROMISE
        assert here.endings == ["agent_lost"]


async def test_start_is_all_a_call_needs(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.phone() as phone:
        await phone.tell(twilio.Connected(), START)
        await here.agent.ready.wait()
        await hang_up(here, phone)
