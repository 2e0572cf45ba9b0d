"""What a call's own code may ask of it: the public methods, on the virtual clock."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing
from rig_dialogue import RECONNECTS, said_by_agent
from rig_peers import (
    CALL_SID,
    SETTINGS,
    START,
    STREAM_SID,
    FakeAgent,
    FakeTwilio,
    make_call,
    media,
    settle,
    talking,
)
from telephone import speaks

from sts_trio.audio.tones import tones
from sts_trio.bridge.run import Bridge
from sts_trio.call.api import Call
from sts_trio.call.info import CallInfo
from sts_trio.call.notes import Notes
from sts_trio.call.pending import Pending
from sts_trio.errors import AgentRefused, AgentTimedOut, CallOver, Cause, Ending, NumberRefused
from sts_trio.functions import Functions, function, hand_over
from sts_trio.logic.acts import ShutDown
from sts_trio.logic.dialogue import Dialogue
from sts_trio.observe import events
from sts_trio.observe.feed import CallEvent
from sts_trio.wire import deepgram, twilio
from sts_trio.wire.deepgram import AgentAudioDone, Audio, ConversationText

Clock = trio.testing.MockClock
Logs = list[Any]

SAID = ConversationText("assistant", "One moment.")


@pytest.fixture(autouse=True)
def logs() -> Iterator[Logs]:
    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        yield lines
    structlog.reset_defaults()


def told(agent: FakeAgent) -> list[deepgram.ToAgent]:
    """What it was told beside settings and audio."""
    return [message for message in agent.got[1:] if not isinstance(message, Audio)]


def echo(name: str) -> twilio.Mark:
    return twilio.Mark(twilio.MarkName(name), stream_sid=STREAM_SID)


def key(digit: str) -> twilio.Dtmf:
    return twilio.Dtmf(twilio.Digit(digit), stream_sid=STREAM_SID)


class Outcome:
    """What became of something that was awaited, and when."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.at: Any = None

    @property
    def is_known(self) -> bool:
        return self.at is not None

    async def of(self, ask: Callable[[], Awaitable[Any]]) -> None:
        try:
            self.result = await ask()
        except Exception as exc:
            self.error = exc
        self.at = trio.current_time()


# --- words and updates ----------------------------------------------------------------------------


async def test_say_returns_when_the_agent_begins_to(autojump_clock: Clock) -> None:
    phone, agent, outcome = FakeTwilio(), FakeAgent(), Outcome()
    async with talking(phone, agent) as call, trio.open_nursery() as tasks:
        tasks.start_soon(outcome.of, lambda: call.call.say("One moment."))
        await trio.sleep(1)
        assert not outcome.is_known
        await agent.say(SAID)
    assert (outcome.at, outcome.error) == (1, None)
    assert told(agent) == [deepgram.InjectAgentMessage("One moment.", "queue")]


async def test_say_is_refused_while_the_caller_speaks(autojump_clock: Clock) -> None:
    phone, agent, outcome = FakeTwilio(), FakeAgent(), Outcome()
    async with talking(phone, agent) as call, trio.open_nursery() as tasks:
        tasks.start_soon(outcome.of, lambda: call.call.say("One moment."))
        await settle(phone)
        await agent.say(deepgram.InjectionRefused("A turn is in progress."))
    assert isinstance(outcome.error, AgentRefused)
    assert str(outcome.error) == "A turn is in progress."


async def test_say_that_comes_to_nothing_is_given_up_after_ten_seconds(
    autojump_clock: Clock,
) -> None:
    phone, agent, outcome = FakeTwilio(), FakeAgent(), Outcome()
    async with talking(phone, agent) as call:
        phone.tell(media())
        await outcome.of(lambda: call.call.say("One moment."))
    assert isinstance(outcome.error, AgentTimedOut)
    assert outcome.at == 10


THINK = {"provider": {"type": "open_ai", "model": "gpt-4o-mini"}, "prompt": "Be brief."}
LISTEN = {"provider": {"type": "deepgram", "keyterms": ["Otter"]}}
SPEAK = {"provider": {"type": "deepgram", "model": "aura-2-apollo-en"}}


@pytest.mark.parametrize(
    ("ask", "message", "answer"),
    [
        (
            lambda call: call.call.inject("Hello."),
            deepgram.InjectUserMessage("Hello."),
            ConversationText("user", "Hello."),
        ),
        (
            lambda call: call.call.update_prompt("more"),
            deepgram.UpdatePrompt("more"),
            deepgram.PromptUpdated(),
        ),
        (
            lambda call: call.call.update_think(THINK),
            deepgram.UpdateThink(THINK),
            deepgram.ThinkUpdated(),
        ),
        (
            lambda call: call.call.update_speak(SPEAK),
            deepgram.UpdateSpeak(SPEAK),
            deepgram.SpeakUpdated(),
        ),
        (
            lambda call: call.call.update_think([THINK, THINK]),
            deepgram.UpdateThink([THINK, THINK]),
            deepgram.ThinkUpdated(),
        ),
        (
            lambda call: call.call.update_speak([SPEAK, SPEAK]),
            deepgram.UpdateSpeak([SPEAK, SPEAK]),
            deepgram.SpeakUpdated(),
        ),
        (
            lambda call: call.call.update_listen(LISTEN),
            deepgram.UpdateListen(LISTEN),
            deepgram.ListenUpdated(),
        ),
    ],
)
async def test_each_update_waits_for_its_acknowledgement(
    ask: Callable[[Bridge], Awaitable[None]],
    message: deepgram.ToAgent,
    answer: deepgram.TextFromAgent,
    autojump_clock: Clock,
) -> None:
    phone, agent, outcome = FakeTwilio(), FakeAgent(), Outcome()
    async with talking(phone, agent) as call, trio.open_nursery() as tasks:
        tasks.start_soon(outcome.of, lambda: ask(call))
        await trio.sleep(0.5)
        assert told(agent) == [message]
        assert not outcome.is_known
        await agent.say(answer)
    assert (outcome.at, outcome.error) == (0.5, None)


@pytest.mark.parametrize(
    ("method", "block"),
    [
        ("update_think", THINK | {"new": {"field": 1}}),
        ("update_think", [THINK, THINK | {"new": 1}]),
        ("update_speak", SPEAK | {"new": [None]}),
        ("update_listen", {"provider": {"type": "deepgram", "new": 1}, "newer": 2}),
    ],
)
async def test_a_field_that_is_newer_than_we_are_is_sent_as_it_was(
    method: str, block: Any, autojump_clock: Clock
) -> None:
    heard: list[Any] = []
    reported: list[events.OfCall] = []
    call = Call(
        Dialogue(lambda wanted: SETTINGS),
        heard.append,
        Pending(),
        reported.append,
        Notes(reported.append),
    )
    with trio.move_on_after(1):
        await getattr(call, method)(block)
    [asked, _] = heard
    assert json.loads(deepgram.encode(asked.message))[method.removeprefix("update_")] == block


async def test_the_callers_turn_is_ended_at_once(autojump_clock: Clock) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent) as call:
        await call.call.force_end_turn()
        await trio.testing.wait_all_tasks_blocked()
        assert told(agent) == [deepgram.ForceEndTurn()]


async def test_words_that_interrupt_cut_what_is_being_said(autojump_clock: Clock) -> None:
    phone, agent, outcome = FakeTwilio(), FakeAgent(), Outcome()
    async with talking(phone, agent) as call, trio.open_nursery() as tasks:
        await agent.say(Audio(b"\x01" * 8000))
        await settle(phone)
        tasks.start_soon(outcome.of, lambda: call.call.say("Fire!", interrupt=True))
        await settle(phone)
        assert told(agent) == [deepgram.InjectAgentMessage("Fire!", "interrupt")]
        assert twilio.Clear(STREAM_SID) in phone.played
        begun = speaks("Fire!")[0][1]
        assert isinstance(begun, ConversationText)
        await agent.say(begun)
    assert outcome.error is None


async def test_protected_words_are_heard_before_those_that_interrupt(autojump_clock: Clock) -> None:
    phone, agent, outcome = FakeTwilio(), FakeAgent(), Outcome()
    async with talking(phone, agent) as call, trio.open_nursery() as tasks:
        async with call.call.protected():
            await agent.say(Audio(b"\x01" * 160))
            await settle(phone)
            tasks.start_soon(outcome.of, lambda: call.call.say("Fire!", interrupt=True))
            await settle(phone)
            assert told(agent) == [deepgram.InjectAgentMessage("Fire!", "queue")]
            await agent.say(AgentAudioDone())
            await settle(phone)
            [mark] = [each for each in phone.played if isinstance(each, twilio.PlayMark)]
            phone.tell(twilio.Mark(mark.mark, stream_sid=STREAM_SID))
        assert twilio.Clear(STREAM_SID) not in phone.played
        tasks.cancel_scope.cancel()


async def test_a_block_that_is_none_never_reaches_the_agent(autojump_clock: Clock) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent) as call:
        with pytest.raises(msgspec.ValidationError, match="prompt"):
            await call.call.update_think({"provider": {}, "prompt": 7})
        with pytest.raises(msgspec.ValidationError, match="provider"):
            await call.call.update_speak([SPEAK, {"modle": "x"}])
        with pytest.raises(msgspec.ValidationError, match="keyterms"):
            await call.call.update_listen({"provider": {"type": "deepgram", "keyterms": 5}})
    assert told(agent) == []


async def test_who_is_cancelled_while_it_waits_leaves_nothing_behind(
    autojump_clock: Clock,
) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent) as call:
        with trio.move_on_after(1):
            await call.call.update_prompt("one")
        outcome = Outcome()
        async with trio.open_nursery() as tasks:
            tasks.start_soon(outcome.of, lambda: call.call.update_prompt("two"))
            await agent.say(deepgram.PromptUpdated())  # for the first
            await settle(phone)
            assert not outcome.is_known
            await agent.say(deepgram.PromptUpdated())
    assert outcome.error is None


# --- words that must be heard ---------------------------------------------------------------------


async def test_protected_words_are_heard_to_the_end(autojump_clock: Clock) -> None:
    phone, agent, outcome = FakeTwilio(), FakeAgent(), Outcome()

    async with talking(phone, agent) as call, trio.open_nursery() as tasks:

        async def legal() -> None:
            async with call.call.protected():
                await call.call.say("Legal words.")

        tasks.start_soon(outcome.of, legal)
        await settle(phone)
        await agent.say(ConversationText("assistant", "Legal words."), Audio(b"\x11" * 1600))
        await settle(phone)
        phone.tell(media(b"\x55" * 160))
        await settle(phone)
        await agent.say(deepgram.UserStartedSpeaking(), Audio(b"\x12" * 160), AgentAudioDone())
        await trio.sleep(0.5)
        assert not outcome.is_known
        phone.tell(echo("e0-1"))
        await settle(phone)
        assert outcome.at == 0.5
        phone.tell(media(b"\x56" * 160))
        await settle(phone)
    assert outcome.error is None
    assert phone.audio == b"\x11" * 1600 + b"\x12" * 160
    assert agent.audio == b"\xff" * 160 + b"\x56" * 160
    assert not [message for message in phone.played if isinstance(message, twilio.Clear)]


async def test_a_failure_amid_protected_words_ends_the_protection_at_once(
    autojump_clock: Clock,
) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent) as call:
        await agent.say(Audio(b"\x11" * 160))
        await settle(phone)
        with pytest.raises(ZeroDivisionError):
            async with call.call.protected():
                raise ZeroDivisionError
        await agent.say(deepgram.UserStartedSpeaking())
        await settle(phone)
    assert [message for message in phone.played if isinstance(message, twilio.Clear)]


async def test_words_that_are_never_heard_are_not_waited_for_for_ever(
    autojump_clock: Clock,
) -> None:
    phone, agent, outcome = FakeTwilio(), FakeAgent(), Outcome()
    async with talking(phone, agent) as call:
        phone.tell(media())
        await agent.say(Audio(b"\x11" * 160))
        await settle(phone)

        async def legal() -> None:
            async with call.call.protected():
                pass

        await outcome.of(legal)
    assert isinstance(outcome.error, AgentTimedOut)
    assert outcome.at == 120


async def test_protected_words_may_be_cut_by_the_end_of_the_call(autojump_clock: Clock) -> None:
    phone, agent, outcome = FakeTwilio(), FakeAgent(), Outcome()
    async with trio.open_nursery() as tasks, talking(phone, agent) as call:
        await agent.say(Audio(b"\x11" * 160))
        await settle(phone)

        async def legal() -> None:
            async with call.call.protected():
                pass

        tasks.start_soon(outcome.of, legal)
        await settle(phone)
    assert isinstance(outcome.error, CallOver)


# --- keys -----------------------------------------------------------------------------------------


async def test_digits_are_collected_as_they_are_keyed_in(autojump_clock: Clock) -> None:
    phone, agent, outcome = FakeTwilio(), FakeAgent(), Outcome()
    async with talking(phone, agent) as call, trio.open_nursery() as tasks:
        tasks.start_soon(outcome.of, lambda: call.call.collect_digits(most=4))
        for digit in "4711":
            await trio.sleep(2)
            phone.tell(key(digit))
        await settle(phone)
    assert (outcome.result, outcome.at) == ("4711", 8)
    assert told(agent) == []


async def test_digits_end_with_a_key_or_a_pause(autojump_clock: Clock) -> None:
    phone, agent, outcome = FakeTwilio(), FakeAgent(), Outcome()
    async with talking(phone, agent) as call, trio.open_nursery() as tasks:
        tasks.start_soon(outcome.of, call.call.collect_digits)
        await settle(phone)
        phone.tell(key("4"), key("7"), key("#"))
        await settle(phone)
        assert outcome.result == "47"
        tasks.start_soon(outcome.of, lambda: call.call.collect_digits(between=3))
        await settle(phone)
        phone.tell(key("4"))
        await trio.sleep(4)
    assert (outcome.result, outcome.at) == ("4", 3)


async def test_who_collects_is_told_of_the_end_of_the_call(autojump_clock: Clock) -> None:
    phone, agent, outcome = FakeTwilio(), FakeAgent(), Outcome()
    async with trio.open_nursery() as tasks, talking(phone, agent) as call:
        tasks.start_soon(outcome.of, call.call.collect_digits)
        await settle(phone)
    assert isinstance(outcome.error, CallOver)


async def test_tones_are_played_to_the_caller(autojump_clock: Clock) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent) as call:
        await call.call.send_dtmf("4#")
        with pytest.raises(ValueError, match="expected keys"):
            await call.call.send_dtmf("x")
        await settle(phone)
    assert phone.audio == tones("4#")


# --- the end, and other agents --------------------------------------------------------------------


async def test_the_call_is_hung_up_after_the_goodbye(autojump_clock: Clock) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with trio.open_nursery() as tasks:
        call = make_call(tasks, phone, agent)
        tasks.start_soon(call.run)
        phone.tell(twilio.Connected(), START, media())
        await agent.ready.wait()
        await settle(phone)
        await call.call.hang_up()
        await trio.sleep(1)
        await agent.say(
            ConversationText("assistant", "Goodbye."), Audio(b"\x11" * 8000), AgentAudioDone()
        )
        await trio.sleep(1)
        assert call.ending is None
        phone.tell(echo("e0-1"))
    assert call.ending == Ending(Cause.HUNG_UP)
    assert phone.goodbye == (2, 1000)
    assert agent.closed == (2, 1000)


async def test_a_transfer_ends_the_call_with_the_number(autojump_clock: Clock) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with trio.open_nursery() as tasks:
        call = make_call(tasks, phone, agent, may_transfer=lambda number: True)
        tasks.start_soon(call.run)
        phone.tell(twilio.Connected(), START, media())
        await agent.ready.wait()
        await settle(phone)
        await call.call.transfer("+15005550006")
    assert call.ending == Ending(Cause.TRANSFERRED, "+15005550006")
    assert phone.goodbye == (4, 1000)


async def test_a_number_off_the_list_is_refused_and_logged(
    autojump_clock: Clock, logs: Logs
) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent) as call:
        with pytest.raises(NumberRefused, match=r"\+15005550009 is not among"):
            await call.call.transfer("+15005550009")
        await trio.sleep(5)
        assert call.ending is None
    [line] = [line for line in logs if line["event"] == events.TransferRefused.NAME]
    assert (line["log_level"], line["number"]) == ("warning", "+15005550009")


async def test_another_agent_goes_on(autojump_clock: Clock) -> None:
    phone, first, second = FakeTwilio(), FakeAgent(), FakeAgent()
    agents = ["default", "sales"]
    async with talking(phone, first, second, hands_over_to=agents) as call:
        assert call.call.agent == "default"
        with pytest.raises(ValueError, match="expected one of default, sales, got 'service'"):
            await call.call.hand_over("service")
        await call.call.hand_over("sales")
        await second.ready.wait()
        await second.say(Audio(b"\x41" * 160))
        await settle(phone)
        assert call.call.agent == "sales"
        assert first.closed == (0, 1000)
    assert phone.audio == b"\x41" * 160


async def test_nothing_can_be_asked_of_a_call_that_has_ended(autojump_clock: Clock) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(
        phone, agent, hands_over_to=["sales"], may_transfer=lambda number: True
    ) as call:
        pass
    asks: list[Callable[[], Awaitable[Any]]] = [
        lambda: call.call.say("Hello."),
        lambda: call.call.inject("Hello."),
        lambda: call.call.update_prompt("more"),
        call.call.hang_up,
        lambda: call.call.transfer("+15005550006"),
        lambda: call.call.hand_over("sales"),
        lambda: call.call.send_dtmf("1"),
        call.call.collect_digits,
        lambda: call.call.protected().__aenter__(),
    ]
    for ask in asks:
        with pytest.raises(CallOver, match="the call has ended"):
            await ask()


async def test_who_waits_when_the_call_ends_is_told_so(autojump_clock: Clock) -> None:
    phone, agent, outcome = FakeTwilio(), FakeAgent(), Outcome()
    async with trio.open_nursery() as tasks, talking(phone, agent) as call:
        tasks.start_soon(outcome.of, lambda: call.call.say("Hello."))
        await settle(phone)
    assert isinstance(outcome.error, CallOver)


async def test_what_is_noted_is_told_until_the_call_is_over(autojump_clock: Clock) -> None:
    told: list[CallEvent] = []
    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent, tell=told.append) as call:
        call.call.note(order=4711, mood="good")
        call.call.note()
    notes = [each.event for each in told if isinstance(each.event, events.CallNoted)]
    assert notes == [events.CallNoted("order", 4711), events.CallNoted("mood", "good")]
    with pytest.raises(CallOver):
        call.call.note(order=1)


async def test_a_call_that_is_ending_is_transferred_nowhere(autojump_clock: Clock) -> None:
    """The agent would else tell the caller so, and nobody would be there."""
    phone, agent = FakeTwilio(), FakeAgent()
    async with trio.open_nursery() as tasks:
        call = make_call(tasks, phone, agent, may_transfer=lambda number: True)
        tasks.start_soon(call.run)
        phone.tell(START, media())
        await agent.ready.wait()
        await trio.testing.wait_all_tasks_blocked()
        await call.call.hang_up()
        with pytest.raises(CallOver, match="ending already"):
            await call.call.transfer("+15005550020")
        await agent.say(deepgram.AgentAudioDone())
    assert call.ending == Ending(Cause.HUNG_UP)


async def test_a_call_that_parts_is_transferred_nowhere_either(autojump_clock: Clock) -> None:
    """The agent is gone, and its last words are still being heard."""
    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent, may_transfer=lambda number: True) as call:
        await agent.say(Audio(b"\x11" * 16000), AgentAudioDone())
        await settle(phone)
        agent.close(1000)
        await settle(phone)
        assert call.ending is None
        with pytest.raises(CallOver, match="ending already"):
            await call.call.transfer("+15005550020")


async def test_what_is_known_of_a_call(autojump_clock: Clock) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with trio.open_nursery() as tasks:
        call = make_call(tasks, phone, agent)
        assert (call.call.info, call.call.agent) == (CallInfo(), "")
        tasks.start_soon(call.run)
        parameters = {"from": "+1", "to": "+2", "direction": "outbound-api", "shop": "7"}
        phone.tell(
            twilio.Connected(),
            twilio.Start(
                twilio.StreamStart(STREAM_SID, CALL_SID, custom_parameters=parameters),
                stream_sid=STREAM_SID,
            ),
        )
        await agent.ready.wait()
        await agent.say(Audio(b"\x11" * 8000))
        await settle(phone)
        assert call.call.playout.unheard_seconds == 1
        assert (call.call.playout.heard_seconds, call.call.playout.cut_seconds) == (0, 0)
        call.tell(ShutDown())
    assert call.call.info == CallInfo(
        call_sid=CALL_SID,
        stream_sid=STREAM_SID,
        from_="+1",
        to="+2",
        direction="outbound-api",
        is_from_bin=True,
        parameters={"shop": "7"},
    )


# --- functions and the end ------------------------------------------------------------------------


def ask_for(name: str) -> deepgram.FunctionCallRequest:
    return deepgram.FunctionCallRequest((deepgram.FunctionToCall("fc_1", name, "{}"),))


async def test_a_function_that_runs_ends_with_the_call(autojump_clock: Clock) -> None:
    ends = []

    @function
    async def slow() -> str:
        """Slow."""
        try:
            await trio.sleep(9)
        finally:
            ends.append(trio.current_time())
        return "done"

    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent, functions=Functions([slow])):
        await agent.say(ask_for("slow"))
        await trio.sleep(1)
    assert ends == [1]
    assert trio.current_time() == 1
    assert told(agent) == []


async def test_a_function_that_is_not_to_be_torn_outlives_the_sockets(
    autojump_clock: Clock,
) -> None:
    @function(shield=True, timeout=8)
    async def charge() -> str:
        """Never ends."""
        await trio.sleep_forever()
        return "done"

    phone, agent = FakeTwilio(answers_close=False), FakeAgent(answers_close=False)
    async with talking(phone, agent, functions=Functions([charge])):
        await agent.say(ask_for("charge"))
        await trio.sleep(1)
    # Its own limit, while the sockets went within theirs.
    assert trio.current_time() == 8
    assert phone.goodbye == (1, 1000)
    assert agent.closed == (1, 1000)
    assert agent.gone_at == 2.5


async def test_a_function_hands_the_call_over(autojump_clock: Clock) -> None:
    @function
    async def to_sales() -> Any:
        """To sales."""
        return hand_over("sales")

    phone, first, second = FakeTwilio(), FakeAgent(), FakeAgent()
    options: dict[str, Any] = {
        "functions": Functions([to_sales]),
        "hands_over_to": ["default", "sales"],
    }
    async with talking(phone, first, second, policy=RECONNECTS, **options) as call:
        await first.say(ask_for("to_sales"))
        await second.ready.wait()
        await settle(phone)
        assert call.call.agent == "sales"
    assert told(first) == []


async def test_a_function_that_hangs_up_has_the_goodbye_heard(autojump_clock: Clock) -> None:
    phone, agent = FakeTwilio(), FakeAgent()
    async with trio.open_nursery() as tasks:
        call = make_call(
            tasks, phone, agent, functions=Functions(["sts_trio.call_control:hang_up"])
        )
        tasks.start_soon(call.run)
        phone.tell(twilio.Connected(), START, media())
        await agent.ready.wait()
        await agent.say(ask_for("hang_up"))
        await settle(phone)
        [answer] = told(agent)
        assert isinstance(answer, deepgram.FunctionResult)
        await trio.sleep(1)
        await agent.say(
            ConversationText("assistant", "Goodbye."), Audio(b"\x11" * 160), AgentAudioDone()
        )
        await settle(phone)
        phone.tell(echo("e0-1"))
    assert call.ending == Ending(Cause.HUNG_UP)
    assert phone.goodbye == (1, 1000)


async def test_what_needs_a_yes_is_done_once_the_question_was_heard_and_answered(
    autojump_clock: Clock,
) -> None:
    done: list[str] = []

    @function(confirm="Shall I cancel order {number}?")
    async def cancel(number: int) -> str:
        """Cancel an order."""
        done.append(f"{trio.current_time():g}: {number}")
        return "cancelled"

    def results(agent: FakeAgent) -> list[str]:
        return [m.content for m in told(agent) if isinstance(m, deepgram.FunctionResult)]

    def call(id: str) -> deepgram.FunctionCallRequest:
        return deepgram.FunctionCallRequest(
            (deepgram.FunctionToCall(id, "cancel", '{"number":7}'),)
        )

    phone, agent = FakeTwilio(), FakeAgent()
    async with talking(phone, agent, functions=Functions([cancel])):
        await agent.say(call("f1"))
        await trio.sleep(0.1)
        [asked] = results(agent)
        question = "Shall I cancel order 7?"
        assert json.loads(asked)["error"].endswith(question)
        role = said_by_agent(question).role
        await agent.say(ConversationText(role, question), Audio(b"\x01" * 16000), AgentAudioDone())
        await agent.say(call("f2"))
        await trio.sleep(2)
        marks = [each for each in phone.played if isinstance(each, twilio.PlayMark)]
        phone.tell(echo(marks[-1].mark.name))
        await settle(phone)
        await agent.say(ConversationText("user", "Yes."), call("f3"))
        await trio.sleep(0.1)
    assert done == ["2.1: 7"]
    assert results(agent) == [asked, asked, '"cancelled"']


# --- the recording --------------------------------------------------------------------------------


class Tape:
    def __init__(self) -> None:
        self.done: list[str] = []

    def pause(self) -> None:
        self.done.append("pause")

    def resume(self) -> None:
        self.done.append("resume")


def test_a_recording_is_paused_and_that_is_told() -> None:
    tape = Tape()
    told: list[events.OfCall] = []
    dialogue = Dialogue(lambda wanted: SETTINGS)
    call = Call(
        dialogue, lambda heard: None, Pending(), told.append, Notes(told.append), recording=tape
    )
    call.pause_recording()
    call.resume_recording()
    assert tape.done == ["pause", "resume"]
    assert told == [events.CallRecordingPaused(), events.CallRecordingResumed()]


def test_of_a_call_that_is_not_recorded_nothing_is_paused() -> None:
    told: list[events.OfCall] = []
    dialogue = Dialogue(lambda wanted: SETTINGS)
    call = Call(dialogue, lambda heard: None, Pending(), told.append, Notes(told.append))
    call.pause_recording()
    call.resume_recording()
    assert told == []
