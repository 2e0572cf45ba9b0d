"""What is done with a phone call before its stream is closed, where a TwiML Bin streams it.

Our own webhook's calls come back to `/twiml/after`: see `test_outbound_routes.py`.
"""

from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from rig_peers import CALL_SID, STOP, STREAM_SID, FakeAgent, FakeTwilio, make_call, media
from rig_rest import REFUSED, FakeAccount
from rig_server import Phone, World, world

from sts_trio import call_control
from sts_trio.bridge.leg_tasks import HANG_UP_GRACE
from sts_trio.bridge.run import GOODBYE_WITHIN
from sts_trio.call.info import CallInfo
from sts_trio.errors import Cause, Ending
from sts_trio.wire import deepgram, twilio

Clock = trio.testing.MockClock

BIN = twilio.Start(
    twilio.StreamStart(STREAM_SID, CALL_SID, custom_parameters={"from": "+15005550001"}),
    stream_sid=STREAM_SID,
)
OURS = twilio.Start(
    twilio.StreamStart(STREAM_SID, CALL_SID, custom_parameters={"webhook": "1"}),
    stream_sid=STREAM_SID,
)


# --- the call, on the virtual clock -------------------------------------------------------------


async def end(
    ending: str, release_phone_call: Any, *, answers_close: bool = True
) -> tuple[FakeTwilio, FakeAgent, Ending]:
    """A call that comes to an end of that kind, once nothing of it is left."""
    phone, agent = FakeTwilio(answers_close=answers_close), FakeAgent()
    async with trio.open_nursery() as tasks:
        call = make_call(
            tasks,
            phone,
            agent,
            release_phone_call=release_phone_call,
            may_transfer=lambda number: True,
        )
        tasks.start_soon(call.run)
        phone.tell(BIN, media())
        await agent.ready.wait()
        if ending == "hang up":
            await call.call.hang_up()
            await agent.say(deepgram.AgentAudioDone())
        elif ending == "transfer":
            await call.call.transfer("+15005550020")
            await agent.say(deepgram.AgentAudioDone())
        else:
            phone.tell(STOP)
    assert call.ending is not None
    return phone, agent, call.ending


@pytest.mark.parametrize("kind", ["hang up", "transfer"])
async def test_a_call_is_seen_off_before_its_caller_and_after_its_agent(
    kind: str, autojump_clock: Clock
) -> None:
    seen: list[tuple[CallInfo, Ending]] = []

    async def release_phone_call(info: CallInfo, ending: Ending) -> None:
        await trio.sleep(3)
        seen.append((info, ending))

    phone, agent, ending = await end(kind, release_phone_call)
    [(info, told)] = seen
    assert told == ending
    assert info.is_from_bin
    assert info.from_ == "+15005550001"
    assert agent.closed == (0, 1000)
    assert phone.goodbye == (3, 1000)


async def test_who_hangs_up_is_not_seen_off(autojump_clock: Clock) -> None:
    async def release_phone_call(info: CallInfo, ending: Ending) -> None:
        pytest.fail("the caller is gone")

    phone, _, ending = await end("stop", release_phone_call)
    assert ending.cause is Cause.STOP
    assert phone.goodbye == (0, 1000)


async def test_seeing_off_takes_no_longer_than_it_may(autojump_clock: Clock) -> None:
    async def release_phone_call(info: CallInfo, ending: Ending) -> None:
        await trio.sleep_forever()

    with structlog.testing.capture_logs() as logs:
        phone, _, _ = await end("transfer", release_phone_call)
    assert phone.goodbye == (GOODBYE_WITHIN, 1000)
    assert trio.current_time() <= GOODBYE_WITHIN + HANG_UP_GRACE
    [line] = [line for line in logs if line["event"] == "call.not_released"]
    assert line["log_level"] == "error"


@pytest.mark.parametrize("takes", [None, 0, 1])
async def test_a_caller_who_never_answers_the_goodbye_is_not_waited_for_longer(
    takes: int | None, autojump_clock: Clock
) -> None:
    async def release_phone_call(info: CallInfo, ending: Ending) -> None:
        assert takes is not None
        await trio.sleep(takes)

    await end("hang up", None if takes is None else release_phone_call, answers_close=False)
    assert trio.current_time() == (takes or 0) + HANG_UP_GRACE


async def test_a_bug_in_seeing_off_is_logged_and_closes_both_sockets(
    autojump_clock: Clock,
) -> None:
    async def release_phone_call(info: CallInfo, ending: Ending) -> None:
        raise ZeroDivisionError("a bug")

    with structlog.testing.capture_logs() as logs:
        phone, agent, ending = await end("hang up", release_phone_call)
    assert ending.cause is Cause.HUNG_UP
    assert [line["event"] for line in logs].count("call.crashed") == 1
    assert phone.gone_at is not None
    assert agent.closed == (0, 1000)


# --- the server, on sockets ---------------------------------------------------------------------


async def answer_of(here: World) -> deepgram.FunctionResult:
    """The first one that the agent gets."""
    while True:
        for told in here.agent.got:
            if isinstance(told, deepgram.FunctionResult):
                return told
        await trio.sleep(0.002)  # real sockets tell no event


async def say_goodbye(
    here: World, phone: Phone, start: twilio.Start, function: str, arguments: str = "{}"
) -> None:
    await phone.tell(twilio.Connected(), start, media())
    await here.agent.ready.wait()
    asked = deepgram.FunctionToCall("fc_1", function, arguments)
    await here.agent.say(deepgram.FunctionCallRequest((asked,)))
    await answer_of(here)
    await here.agent.say(deepgram.AgentAudioDone())
    assert await phone.play_until_closed() == 1000
    await here.until_over()


async def end_on_sockets(
    directory: Path,
    start: twilio.Start,
    function: str,
    arguments: str = "{}",
    *,
    by_token: bool = False,
    **failure: Exception,
) -> tuple[World, FakeAccount]:
    """A call whose agent calls that function; both sockets are gone when this returns."""
    account = FakeAccount()
    account.failures.extend(failure.values())
    async with (
        world(
            directory,
            functions=[call_control.hang_up, call_control.transfer],
            TWILIO_ACCOUNT_SID="AC00000000000000000000000000000001",
            TWILIO_AUTH_TOKEN="s3cret-auth-token",
            STS_TRANSFER_NUMBERS="+15005550020",
            STS_ALLOW_UNSIGNED="1",
        ) as here,
        here.phone(
            path=f"/twilio/{here.app.stream_tokens.mint()}" if by_token else "/twilio"
        ) as phone,
    ):
        here.app.server.twilio = account
        await say_goodbye(here, phone, start, function, arguments)
    return here, account


async def test_a_bins_call_is_hung_up_by_the_api(tmp_path: Path) -> None:
    here, account = await end_on_sockets(tmp_path, BIN, "hang_up")
    assert account.hung_up == [CALL_SID]
    assert here.endings == ["hung_up"]


async def test_a_bins_call_is_transferred_by_the_api(tmp_path: Path) -> None:
    number = '{"number": "+15005550020"}'
    here, account = await end_on_sockets(tmp_path, BIN, "transfer", number)
    [(call_sid, twiml)] = account.redirected
    assert call_sid == CALL_SID
    assert "<Dial" in twiml
    assert "+15005550020" in twiml
    assert here.endings == ["transferred"]


@pytest.mark.parametrize("function", ["hang_up", "transfer"])
async def test_a_softphone_ends_no_phone_call_by_naming_it(tmp_path: Path, function: str) -> None:
    """What its stream says of a call is its own to write, and not Twilio's."""
    arguments = '{"number": "+15005550020"}' if function == "transfer" else "{}"
    _, account = await end_on_sockets(tmp_path, BIN, function, arguments, by_token=True)
    assert account.hung_up == []
    assert account.redirected == []


async def test_a_transfer_that_twilio_refuses_is_told(tmp_path: Path) -> None:
    number = '{"number": "+15005550020"}'
    here, _ = await end_on_sockets(tmp_path, BIN, "transfer", number, refused=REFUSED)
    [line] = [line for line in here.logs if line["event"] == "call.not_transferred"]
    assert line["log_level"] == "error"
    assert "not a valid number" in line["reason"]


async def test_a_call_that_comes_back_to_us_needs_no_api(tmp_path: Path) -> None:
    number = '{"number": "+15005550020"}'
    here, account = await end_on_sockets(tmp_path, OURS, "transfer", number)
    assert here.app.live_calls.ending_of(CALL_SID) == Ending(Cause.TRANSFERRED, "+15005550020")
    assert account.redirected == []


async def test_a_number_off_the_list_is_told_to_the_agent(tmp_path: Path) -> None:
    async with world(tmp_path, functions=[call_control.transfer]) as here, here.phone() as phone:
        await phone.tell(twilio.Connected(), BIN, media())
        await here.agent.ready.wait()
        asked = deepgram.FunctionToCall("fc_1", "transfer", '{"number": "+15005550021"}')
        await here.agent.say(deepgram.FunctionCallRequest((asked,)))
        answer = await answer_of(here)
        await phone.tell(STOP)
        await phone.play_until_closed()
        await here.until_over()
    assert "not among the numbers" in answer.content
    assert here.endings == ["stop"]
