"""What is done with a phone call before its stream is closed, where a TwiML Bin streams it.

Our own webhook's calls come back to `/twiml/after`: see `test_outbound_routes.py`.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import structlog
import trio
import trio.testing
from rig_bin import BIN, talking_from_a_bin
from rig_peers import CALL_SID, STOP, STREAM_SID, FakeAgent, FakeTwilio, media, settle
from rig_rest import REFUSED, TOKEN, FakeAccount
from rig_server import Phone, World, world

from sts_trio import call_control
from sts_trio.bridge.leg_tasks import HANG_UP_GRACE
from sts_trio.bridge.release import RELEASE_WITHIN
from sts_trio.call.info import CallInfo
from sts_trio.config import load
from sts_trio.errors import Cause, Ending
from sts_trio.logic.acts import CallReleased, OperatorHangsUp
from sts_trio.logic.policy import CallPolicy
from sts_trio.observe import events
from sts_trio.outbound.transfer import LAST_HANG_UPS, PhoneCalls
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.wire import deepgram, twilio

NUMBER = "+15005550020"
T = TypeVar("T")
Clock = trio.testing.MockClock

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
    async with talking_from_a_bin(phone, agent, release_phone_call) as call:
        if ending == "hang up":
            await call.call.hang_up()
            await agent.say(deepgram.AgentAudioDone())
        elif ending == "transfer":
            await call.call.transfer(NUMBER)
            await agent.say(deepgram.AgentAudioDone())
        elif ending == "operator":
            call.tell(OperatorHangsUp())
        else:
            phone.tell(STOP)
    assert call.ending is not None
    return phone, agent, call.ending


@pytest.mark.parametrize(
    ("kind", "agent_gone_at"), [("hang up", 0), ("operator", 0), ("transfer", 3)]
)
async def test_a_call_is_released_while_its_caller_is_there(
    kind: str, agent_gone_at: float, autojump_clock: Clock
) -> None:
    """And a transfer that may fail, while its agent is."""
    seen: list[tuple[CallInfo, Ending]] = []

    async def release_phone_call(info: CallInfo, ending: Ending) -> CallReleased:
        await trio.sleep(3)
        seen.append((info, ending))
        return CallReleased()

    phone, agent, ending = await end(kind, release_phone_call)
    [(info, told)] = seen
    assert told == ending
    assert info.is_from_bin
    assert info.from_ == "+15005550001"
    assert agent.closed == (agent_gone_at, 1000)
    assert phone.goodbye == (3, 1000)


async def test_who_hangs_up_is_not_released(autojump_clock: Clock) -> None:
    async def release_phone_call(info: CallInfo, ending: Ending) -> CallReleased:
        pytest.fail("the caller is gone")

    phone, _, ending = await end("stop", release_phone_call)
    assert ending.cause is Cause.STOP
    assert phone.goodbye == (0, 1000)


async def test_releasing_takes_no_longer_than_it_may(autojump_clock: Clock) -> None:
    async def release_phone_call(info: CallInfo, ending: Ending) -> CallReleased:
        await trio.sleep_forever()
        raise AssertionError

    phone, _, ending = await end("hang up", release_phone_call)
    assert phone.goodbye == (RELEASE_WITHIN, 1000)
    assert trio.current_time() <= RELEASE_WITHIN + HANG_UP_GRACE
    assert ending.cause is Cause.NOT_HUNG_UP
    assert "it may be done yet" in ending.detail


@pytest.mark.parametrize("takes", [0, 1])
async def test_a_caller_who_never_answers_the_goodbye_is_not_waited_for_longer(
    takes: int, autojump_clock: Clock
) -> None:
    async def release_phone_call(info: CallInfo, ending: Ending) -> CallReleased:
        await trio.sleep(takes)
        return CallReleased()

    await end("hang up", release_phone_call, answers_close=False)
    assert trio.current_time() == takes + HANG_UP_GRACE


async def test_a_bug_in_releasing_is_logged_and_closes_both_sockets(
    autojump_clock: Clock,
) -> None:
    async def release_phone_call(info: CallInfo, ending: Ending) -> CallReleased:
        raise ZeroDivisionError("a bug")

    with structlog.testing.capture_logs() as logs:
        phone, agent, ending = await end("hang up", release_phone_call)
    assert ending.cause is Cause.CRASHED
    assert [line["event"] for line in logs].count(events.CallCrashed.NAME) == 1
    assert phone.gone_at is not None
    assert agent.closed == (0, 1000)


async def test_the_stream_that_a_transfer_stops_waits_for_twilios_answer(
    autojump_clock: Clock,
) -> None:
    phone, agent = FakeTwilio(), FakeAgent()

    async def release_phone_call(info: CallInfo, ending: Ending) -> CallReleased:
        phone.tell(STOP)
        phone.close()
        await trio.sleep(1)
        return CallReleased()

    async with talking_from_a_bin(phone, agent, release_phone_call) as call:
        await call.call.transfer(NUMBER)
        await agent.say(deepgram.AgentAudioDone())
        await trio.sleep(1)
    assert call.ending == Ending(Cause.TRANSFERRED, NUMBER)
    assert agent.closed == (1, 1000)


async def test_who_could_not_be_transferred_goes_on_talking(autojump_clock: Clock) -> None:
    phone, agent = FakeTwilio(), FakeAgent()

    async def release_phone_call(info: CallInfo, ending: Ending) -> CallReleased:
        return CallReleased("Twilio: no")

    async with talking_from_a_bin(phone, agent, release_phone_call) as call:
        await call.call.transfer(NUMBER)
        await agent.say(deepgram.AgentAudioDone())
        await settle(phone)
        assert call.ending is None
        said = [m.message for m in agent.got if isinstance(m, deepgram.InjectAgentMessage)]
        assert said == [CallPolicy().not_transferred]
        await agent.say(deepgram.PromptUpdated())
        await agent.say(deepgram.Audio(b"\x11" * 160))
        await settle(phone)
        assert phone.audio == b"\x11" * 160
        await call.call.send_dtmf("1")  # it is as open as ever
        phone.tell(STOP)
    assert call.ending == Ending(Cause.STOP)


# --- what is asked of Twilio ----------------------------------------------------------------------

SUBACCOUNT = "AC0000000000000000000000000000000a"
INFO = CallInfo(call_sid=CALL_SID, account_sid=SUBACCOUNT, from_="+15005550001", is_from_bin=True)
HUNG_UP = Ending(Cause.HUNG_UP)


@contextlib.asynccontextmanager
async def open_phone_calls(account: TwilioRest, directory: Path) -> AsyncIterator[PhoneCalls]:
    environ = {"STS_TRANSFER_NUMBERS": NUMBER, "STS_AGENT": "offline"}
    phone_calls = PhoneCalls(load(environ, directory), lambda: account)
    async with trio.open_nursery() as nursery:
        await nursery.start(phone_calls.run)
        yield phone_calls
        nursery.cancel_scope.cancel()


async def test_what_twilio_answers_is_what_came_of_it(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    account = FakeAccount()
    async with open_phone_calls(account, tmp_path) as phone_calls:
        for ending in (HUNG_UP, Ending(Cause.TRANSFERRED, NUMBER)):
            account.are_over = False
            assert await phone_calls.release(INFO, ending) == CallReleased()
            account.are_over = True
            assert await phone_calls.release(INFO, ending) == CallReleased(was_over=True)
            account.failures.append(REFUSED)
            assert await phone_calls.release(INFO, ending) == CallReleased(str(REFUSED))
        elsewhere = await phone_calls.release(INFO, Ending(Cause.TRANSFERRED, "+19005550020"))
    assert "STS_TRANSFER_NUMBERS" in elsewhere.failure
    assert len(account.hung_up) == len(account.redirected) == 3
    assert set(account.accounts) == {SUBACCOUNT}, "it may be a subaccount's"


async def test_without_an_account_a_bins_call_is_left_to_the_bin_and_not_transferred(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    transfer = Ending(Cause.TRANSFERRED, NUMBER)
    async with open_phone_calls(TwilioRest(None, TOKEN), tmp_path) as phone_calls:
        with structlog.testing.capture_logs() as logs:
            assert await phone_calls.release(INFO, HUNG_UP) == CallReleased()
            assert "set TWILIO_ACCOUNT_SID" in (await phone_calls.release(INFO, transfer)).failure
    [line] = logs
    assert (line["event"], line["log_level"]) == (events.CallLeftToBin.NAME, "info")


async def test_as_many_hang_ups_as_there_are_are_asked_for_and_none_is_given_up(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    """Whoever asked for it is gone after five seconds."""
    account = FakeAccount()
    account.takes = 8.0
    infos = [msgspec.structs.replace(INFO, call_sid=FakeAccount.sid(n)) for n in range(24)]
    async with open_phone_calls(account, tmp_path) as phone_calls:
        with trio.move_on_after(RELEASE_WITHIN):
            async with trio.open_nursery() as calls:
                for info in infos:
                    calls.start_soon(phone_calls.release, info, HUNG_UP)
        assert trio.current_time() == RELEASE_WITHIN
        await phone_calls.settle()
        assert trio.current_time() == account.takes
    assert sorted(account.hung_up) == [info.call_sid for info in infos]


async def test_a_server_that_goes_away_does_not_wait_for_ever(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    account = FakeAccount()
    account.takes = 60.0
    results: list[CallReleased] = []

    async def ask() -> None:
        results.append(await phone_calls.release(INFO, HUNG_UP))

    async with trio.open_nursery() as call, open_phone_calls(account, tmp_path) as phone_calls:
        call.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        await phone_calls.settle()
        assert trio.current_time() == LAST_HANG_UPS
    assert "may be done yet" in results[0].failure


async def test_a_bug_in_a_hang_up_ends_nothing_else(tmp_path: Path, autojump_clock: Clock) -> None:
    account = FakeAccount()
    account.failures.append(ZeroDivisionError("a bug"))
    async with open_phone_calls(account, tmp_path) as phone_calls:
        with structlog.testing.capture_logs() as logs:
            assert "a bug" in (await phone_calls.release(INFO, HUNG_UP)).failure
        assert await phone_calls.release(INFO, HUNG_UP) == CallReleased()
    assert logs[0]["log_level"] == "error"


# --- the server, on sockets ---------------------------------------------------------------------


async def first_of(here: World, kind: type[T]) -> T:
    """The first message of that kind that the agent gets."""
    while True:
        for told in here.agent.got:
            if isinstance(told, kind):
                return told
        await trio.sleep(0.002)  # real sockets tell no event


async def begin_goodbye(
    here: World, phone: Phone, start: twilio.Start, function: str, arguments: str = "{}"
) -> None:
    await phone.tell(twilio.Connected(), start, media())
    await here.agent.ready.wait()
    asked = deepgram.FunctionToCall("fc_1", function, arguments)
    await here.agent.say(deepgram.FunctionCallRequest((asked,)))
    await first_of(here, deepgram.FunctionResult)
    await here.agent.say(deepgram.AgentAudioDone())


@contextlib.asynccontextmanager
async def a_server(directory: Path) -> AsyncIterator[tuple[World, FakeAccount]]:
    account = FakeAccount()
    async with world(
        directory,
        functions=[call_control.hang_up, call_control.transfer],
        TWILIO_ACCOUNT_SID="AC00000000000000000000000000000001",
        TWILIO_AUTH_TOKEN="s3cret-auth-token",
        STS_TRANSFER_NUMBERS="+15005550020",
        STS_ALLOW_UNSIGNED="1",
    ) as here:
        here.app.server.twilio = account
        yield here, account


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
    async with (
        a_server(directory) as (here, account),
        here.phone(
            path=f"/twilio/{here.app.stream_tokens.mint()}" if by_token else "/twilio"
        ) as phone,
    ):
        account.failures.extend(failure.values())
        await begin_goodbye(here, phone, start, function, arguments)
        assert await phone.play_until_closed() == 1000
        await here.until_over()
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


async def test_a_hang_up_that_twilio_refuses_is_told(tmp_path: Path) -> None:
    here, _ = await end_on_sockets(tmp_path, BIN, "hang_up", refused=REFUSED)
    assert here.endings == ["not_hung_up"]


async def test_a_transfer_that_twilio_refuses_is_told_to_the_agent(tmp_path: Path) -> None:
    async with a_server(tmp_path) as (here, account), here.phone() as phone:
        account.failures.append(REFUSED)
        await begin_goodbye(here, phone, BIN, "transfer", '{"number": "+15005550020"}')
        said = await first_of(here, deepgram.InjectAgentMessage)
        assert said.message == CallPolicy().not_transferred
        await phone.tell(STOP)
        assert await phone.play_until_closed() == 1000
        await here.until_over()
    assert here.endings == ["stop"]
    [line] = [line for line in here.logs if line["event"] == events.CallNotTransferred.NAME]
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
        answer = await first_of(here, deepgram.FunctionResult)
        await phone.tell(STOP)
        await phone.play_until_closed()
        await here.until_over()
    assert "not among the numbers" in answer.content
    assert here.endings == ["stop"]
