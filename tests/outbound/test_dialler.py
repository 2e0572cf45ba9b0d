"""The dialler: who may be dialled, how often, in what order, and never twice by mistake."""

import datetime
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from rig_rest import ACCOUNT, REFUSED, TOKEN, UNCERTAIN, FakeAccount

from sts_trio.bridge.live_calls import LiveCalls
from sts_trio.config import load
from sts_trio.errors import DialRefused, TwilioFailed
from sts_trio.observe import events
from sts_trio.outbound import progress
from sts_trio.outbound.dialler import Dialler
from sts_trio.outbound.requests import OnMachine
from sts_trio.outbound.twilio_rest import Placed
from sts_trio.wire.webhook import VoiceRequest

TO = "+15005550010"
ENVIRON = {
    "STS_AGENT": "offline",
    "TWILIO_ACCOUNT_SID": ACCOUNT,
    "TWILIO_AUTH_TOKEN": TOKEN,
    "STS_CALLER_ID": "+15005550006",
    "STS_PUBLIC_URL": "https://bridge.example.com/a",
    "STS_DIAL_PREFIXES": "+1500, +44",
}
AGENTS = """
[agents.default.think]
provider = { type = "open_ai", model = "m" }
[agents.sales.think]
provider = { type = "open_ai", model = "m" }
[agents.support.think]
provider = { type = "open_ai", model = "m" }
[numbers]
"+15005550006" = "support"
"""


class Noon:
    """A wall clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)

    def __call__(self) -> datetime.datetime:
        return self.now


class Desk:
    """A dialler that runs, and what it is made of."""

    def __init__(self, directory: Path, account: FakeAccount, **environ: str) -> None:
        (directory / "sts-trio.toml").write_text(AGENTS)
        self.config = load(ENVIRON | environ, directory)
        self.account = account
        self.live_calls = LiveCalls(self.config.max_calls)
        self.clock = Noon()
        self.dialler = Dialler(self.config, account, self.live_calls, utc_now=self.clock)
        self.outcomes: list[Any] = []

    async def ask(self, to: str = TO, **options: Any) -> None:
        """Keeps what comes of it."""
        try:
            self.outcomes.append(await self.dialler.place(to, **options))
        except (DialRefused, TwilioFailed) as exc:
            self.outcomes.append(exc)

    async def refusal(self, to: str = TO, **options: Any) -> DialRefused:
        with pytest.raises(DialRefused) as caught, structlog.testing.capture_logs() as logs:
            await self.dialler.place(to, **options)
        [line] = logs
        assert (line["event"], line["why"]) == (events.DialRefused.NAME, caught.value.why)
        assert line["reason"] == str(caught.value)
        return caught.value

    def told(self) -> list[tuple[str, events.OfCall]]:
        _, entries = self.live_calls.event_feed.entries_beyond(0)
        return [(entry.call_sid, entry.event) for entry in entries]


@pytest.fixture
def open_desk(tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def open_desk(account: FakeAccount | None = None, **environ: str) -> AsyncIterator[Desk]:
        desk = Desk(tmp_path, account or FakeAccount(), **environ)
        async with trio.open_nursery() as nursery:
            await nursery.start(desk.dialler.run)
            yield desk
            nursery.cancel_scope.cancel()

    return open_desk


OpenDesk = Callable[..., Any]
Clock = trio.testing.MockClock


# --- a call is placed -----------------------------------------------------------------------------


async def test_a_call_is_placed_from_our_number_and_leads_back_to_us(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        placed = await desk.dialler.place(TO)
        assert placed == Placed(FakeAccount.sid(1), "queued")
        [(_, arguments)] = desk.account.created
        token = desk.account.token()
        assert len(token) >= 20
        assert arguments == {
            "to": TO,
            "from_": "+15005550006",
            "url": f"https://bridge.example.com/a/twiml?outbound={token}",
            "status_callback": f"https://bridge.example.com/a/twiml/status?outbound={token}",
            "amd_callback": f"https://bridge.example.com/a/twiml/amd?outbound={token}",
        }


async def test_the_request_is_known_by_the_calls_sid_until_the_call_is_over(
    open_desk: OpenDesk,
    autojump_clock: Clock,
) -> None:
    async with open_desk() as desk:
        placed = await desk.dialler.place(TO, agent="sales", parameters={"name": "Ann"})
        order = desk.dialler.placed.request_of(placed.call_sid)
        assert (order.to, order.agent, order.parameters) == (TO, "sales", {"name": "Ann"})
        assert desk.dialler.placed.request_of("CA-another") is None
        desk.dialler.placed.heard_status(VoiceRequest(placed.call_sid, call_status="ringing"), "")
        assert desk.dialler.placed.request_of(placed.call_sid) is order
        desk.dialler.placed.heard_status(VoiceRequest(placed.call_sid, call_status="busy"), "")
        assert desk.dialler.placed.request_of(placed.call_sid) is None


async def test_without_an_agent_it_is_the_one_that_our_number_has(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        placed = await desk.dialler.place(TO)
        assert desk.dialler.placed.request_of(placed.call_sid).agent == "support"


async def test_twilio_may_ask_for_twiml_before_it_has_answered(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk, trio.open_nursery() as nursery:
        desk.account.open = trio.Event()
        nursery.start_soon(desk.ask)
        await trio.testing.wait_all_tasks_blocked()
        order = desk.dialler.placed.answered(FakeAccount.sid(1), desk.account.token())
        assert order.to == TO
        assert desk.outcomes == []
        assert desk.dialler.placed.request_of(FakeAccount.sid(1)) is order
        desk.account.open.set()


async def test_a_call_may_be_over_before_twilio_has_answered(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk, trio.open_nursery() as nursery:
        desk.account.open = trio.Event()
        nursery.start_soon(desk.ask)
        await trio.testing.wait_all_tasks_blocked()
        failed = VoiceRequest(FakeAccount.sid(1), call_status="failed")
        desk.dialler.placed.heard_status(failed, desk.account.token())
        desk.account.open.set()
        await trio.testing.wait_all_tasks_blocked()
        assert desk.outcomes == [Placed(FakeAccount.sid(1), "queued")]
        assert desk.dialler.placed.request_of(FakeAccount.sid(1)) is None


async def test_a_call_that_nobody_here_placed_is_told_of(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        with structlog.testing.capture_logs() as logs:
            assert desk.dialler.placed.answered("CA1", "t0ken") is None
            assert desk.dialler.placed.answered("CA2", "") is None  # somebody called us
        assert [(line["event"], line["call_sid"]) for line in logs] == [
            (events.DialUnknown.NAME, "CA1")
        ]


async def test_what_is_remembered_has_a_bound(
    open_desk: OpenDesk, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REMEMBERED", 2)
    async with open_desk() as desk:
        placed = [await desk.dialler.place(TO) for _ in range(3)]
        known = [desk.dialler.placed.request_of(each.call_sid) is not None for each in placed]
        assert known == [False, True, True]


# --- who may be dialled ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"to": "15005550010"}, ["to"]),
        ({"to": "+0123"}, ["to"]),
        ({"to": "+1500555001012345"}, ["to"]),
        ({"to": "+15005550010\n"}, ["to"]),
        ({"to": "+1\u0665005550010"}, ["to"]),
        ({"to": "911"}, ["to"]),
        ({"agent": "nobody"}, ["agent"]),
        ({"agent": ""}, ["agent"]),
        ({"parameters": {"": "x"}}, ["parameters"]),
        ({"parameters": {"n": "x" * 499}}, ["parameters"]),
        ({"parameters": {"agent": "x"}}, ["parameters"]),
        ({"parameters": {"webhook": "1"}}, ["parameters"]),
        ({"parameters": {str(number): "" for number in range(21)}}, ["parameters"]),
        ({"message": "Hello."}, ["message"]),
        ({"on_machine": OnMachine.LEAVE_MESSAGE}, ["message"]),
        ({"on_machine": OnMachine.LEAVE_MESSAGE, "message": "x" * 3001}, ["message"]),
        ({"on_machine": OnMachine.LEAVE_MESSAGE, "message": "&" * 1000}, ["message"]),
        ({"to": "911", "agent": "nobody", "message": "x"}, ["to", "agent", "message"]),
    ],
)
async def test_what_is_wrong_with_a_request_is_told_field_by_field(
    open_desk: OpenDesk, autojump_clock: Clock, options: dict[str, Any], fields: list[str]
) -> None:
    async with open_desk() as desk:
        refused = await desk.refusal(**options)
        assert (refused.why, refused.status) == ("invalid", 400)
        assert list(refused.fields) == fields
        assert desk.account.created == []


async def test_a_message_may_be_as_long_as_twilio_takes(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        await desk.dialler.place(
            TO,
            on_machine=OnMachine.LEAVE_MESSAGE,
            message="x" * 3000,
            parameters={"n": "x" * 498},
        )
        assert len(desk.account.created) == 1


async def test_where_nothing_is_set_nothing_may_be_dialled(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk(STS_DIAL_PREFIXES="") as desk:
        refused = await desk.refusal()
        assert (refused.why, refused.status) == ("prefix", 403)
        assert "set STS_DIAL_PREFIXES" in str(refused)


@pytest.mark.parametrize("to", ["+15015550010", "+3315005550", "+4"])
async def test_a_number_that_no_prefix_allows_is_refused(
    open_desk: OpenDesk, autojump_clock: Clock, to: str
) -> None:
    async with open_desk() as desk:
        refused = await desk.refusal("+15" if to == "+4" else to)
        assert (refused.why, refused.status) == ("prefix", 403)
        await desk.dialler.place("+442071838750")


@pytest.mark.parametrize("variable", ["STS_CALLER_ID", "STS_PUBLIC_URL"])
async def test_what_is_not_configured_is_named(
    open_desk: OpenDesk, autojump_clock: Clock, variable: str
) -> None:
    async with open_desk(**{variable: ""}) as desk:
        refused = await desk.refusal()
        assert (refused.why, refused.status) == ("not_configured", 503)
        assert str(refused) == f"no call can be placed: set {variable}"
    async with open_desk(FakeAccount(None), **{variable: ""}) as desk:
        assert str(await desk.refusal()).endswith(f"set TWILIO_ACCOUNT_SID, {variable}")
    async with open_desk(STS_DIAL_PREFIXES="", **{variable: ""}) as desk:
        assert str(await desk.refusal()).endswith(f"set {variable}, STS_DIAL_PREFIXES")


async def test_a_server_that_shuts_down_calls_nobody(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        desk.live_calls.drain()
        assert (await desk.refusal()).status == 503


async def test_there_must_be_a_line_free_for_whoever_answers(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    """Calls that ring count as well: all of them may be answered at once."""
    async with open_desk(STS_MAX_CALLS="2") as desk:
        first = await desk.dialler.place(TO)
        await desk.dialler.place(TO)
        refused = await desk.refusal()
        assert (refused.why, refused.status) == ("full", 503)
        desk.dialler.placed.heard_status(VoiceRequest(first.call_sid, call_status="no-answer"), "")
        third = await desk.dialler.place(TO)
        # A call that is answered has its line, which the live_calls counts.
        desk.dialler.placed.answered(third.call_sid, "")
        await desk.dialler.place(TO)
        # Whatever became of those whose callbacks were lost.
        await desk.refusal()
        await trio.sleep(progress.RINGING)
        await desk.dialler.place(TO)


# --- how often ------------------------------------------------------------------------------------


async def test_calls_are_placed_one_a_second_in_the_order_asked_for(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk, trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(desk.ask, f"+1500555000{number}")
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(10)
        nursery.start_soon(desk.ask)
        nursery.start_soon(desk.ask)
        await trio.sleep(2)
        assert [(time, each["to"][-1]) for time, each in desk.account.created[:4]] == [
            (0, "0"),
            (1, "1"),
            (2, "2"),
            (3, "3"),
        ]
        assert [time for time, _ in desk.account.created[4:]] == [10, 11]


async def test_the_rate_can_be_set(open_desk: OpenDesk, autojump_clock: Clock) -> None:
    async with open_desk(STS_DIALS_PER_SECOND="4") as desk, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(desk.ask)
        await trio.sleep(2)
        assert [time for time, _ in desk.account.created] == [0, 0.25, 0.5]


async def test_a_call_that_twilio_is_slow_with_holds_no_other_up(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk, trio.open_nursery() as nursery:
        desk.account.open = trio.Event()
        nursery.start_soon(desk.ask)
        nursery.start_soon(desk.ask)
        await trio.sleep(5)
        assert [time for time, _ in desk.account.created] == [0, 1]
        desk.account.open.set()


async def test_the_line_has_an_end(open_desk: OpenDesk, autojump_clock: Clock) -> None:
    async with open_desk() as desk, trio.open_nursery() as nursery:
        nursery.start_soon(desk.ask)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(39):
            nursery.start_soon(desk.ask)
        await trio.testing.wait_all_tasks_blocked()
        # One had its turn, and those who wait have theirs within half a minute.
        turned_away = [each for each in desk.outcomes if isinstance(each, DialRefused)]
        assert len(turned_away) == 8
        refused = turned_away[0]
        assert (refused.why, refused.status, refused.retry_after) == ("rate", 429, 30)
        await trio.sleep(40)
        assert len(desk.account.created) == 32
        assert desk.account.created[-1][0] == 31


async def test_a_day_has_so_many_calls_and_ends_at_midnight_utc(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk(STS_DIAL_PER_DAY="2") as desk:
        await desk.dialler.place(TO)
        await desk.dialler.place(TO)
        refused = await desk.refusal()
        assert (refused.why, refused.status) == ("budget", 429)
        assert refused.retry_after == 12 * 3600
        assert "STS_DIAL_PER_DAY" in str(refused)
        desk.clock.now += datetime.timedelta(hours=12)
        await desk.dialler.place(TO)


async def test_a_clock_that_is_set_back_over_midnight_brings_no_new_day(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk(STS_DIAL_PER_DAY="1") as desk:
        desk.clock.now += datetime.timedelta(hours=12)
        await desk.dialler.place(TO)
        for seconds in (-1, 1):
            desk.clock.now += datetime.timedelta(seconds=seconds)
            assert (await desk.refusal()).why == "budget"


async def test_a_budget_of_nothing_allows_nothing(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk(STS_DIAL_PER_DAY="0") as desk:
        assert (await desk.refusal()).why == "budget"


async def test_what_is_surely_no_call_costs_nothing(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk(STS_DIAL_PER_DAY="1") as desk:
        desk.account.failures.append(REFUSED)
        with pytest.raises(TwilioFailed):
            await desk.dialler.place(TO)
        desk.account.failures.append(UNCERTAIN)
        with pytest.raises(TwilioFailed):
            await desk.dialler.place(TO)
        assert (await desk.refusal()).why == "budget"


async def test_yesterdays_failure_gives_nothing_back_today(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk(STS_DIAL_PER_DAY="1") as desk, trio.open_nursery() as nursery:
        desk.account.open = trio.Event()
        desk.account.failures.append(REFUSED)
        nursery.start_soon(desk.ask)
        await trio.sleep(2)
        desk.clock.now += datetime.timedelta(days=1)
        nursery.start_soon(desk.ask)
        await trio.sleep(2)
        desk.account.open.set()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(type(each).__name__ for each in desk.outcomes) == ["Placed", "TwilioFailed"]
        assert (await desk.refusal()).why == "budget"


# --- never twice ----------------------------------------------------------------------------------


async def test_the_same_request_with_the_same_key_is_the_same_call(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        options = {"idempotency_key": "k", "parameters": {"a": "1", "b": "2"}}
        first = await desk.dialler.place(TO, **options)
        desk.live_calls.drain()  # nor does it matter what would be said to a new one
        again = options | {"parameters": {"b": "2", "a": "1"}}
        assert await desk.dialler.place(TO, **again) == first
        assert len(desk.account.created) == 1


async def test_the_same_key_with_another_request_is_a_conflict(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        await desk.dialler.place(TO, idempotency_key="k")
        for other in ({"agent": "sales"}, {"parameters": {"a": "1"}}, {"to": "+15005550011"}):
            refused = await desk.refusal(**{"idempotency_key": "k", **other})
            assert (refused.why, refused.status) == ("conflict", 409)
        assert len(desk.account.created) == 1


async def test_two_at_once_with_the_same_key_place_one_call(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(lambda: desk.ask(idempotency_key="k"))
        await trio.sleep(5)
        assert desk.outcomes == [Placed(FakeAccount.sid(1), "queued")] * 2
        assert len(desk.account.created) == 1


async def test_without_a_key_twice_is_twice(open_desk: OpenDesk, autojump_clock: Clock) -> None:
    async with open_desk() as desk:
        assert await desk.dialler.place(TO) != await desk.dialler.place(TO)


async def test_a_key_is_forgotten_after_a_day(open_desk: OpenDesk, autojump_clock: Clock) -> None:
    async with open_desk() as desk:
        first = await desk.dialler.place(TO, idempotency_key="k")
        await trio.sleep(24 * 3600 - 1)
        assert await desk.dialler.place(TO, idempotency_key="k") == first
        await trio.sleep(1)
        assert await desk.dialler.place(TO, idempotency_key="k") != first


async def test_a_call_that_may_have_been_placed_is_not_placed_by_asking_again(
    open_desk: OpenDesk,
    autojump_clock: Clock,
) -> None:
    async with open_desk() as desk:
        desk.account.failures.append(UNCERTAIN)
        depths = []
        for _ in range(3):
            with pytest.raises(TwilioFailed) as caught:
                await desk.dialler.place(TO, idempotency_key="k")
            assert caught.value.is_uncertain
            depths.append(len(caught.traceback))
        assert len(set(depths)) == 1  # what is kept for a day does not grow by being told
        assert len(desk.account.created) == 1
        # Twilio may yet come to ask what to do with it.
        assert desk.dialler.placed.answered("CA9", desk.account.token()).to == TO


async def test_a_call_that_surely_failed_may_be_asked_for_again(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        desk.account.failures.append(REFUSED)
        with pytest.raises(TwilioFailed):
            await desk.dialler.place(TO, idempotency_key="k")
        assert desk.dialler.placed.answered("CA9", desk.account.token()) is None
        await desk.dialler.place(TO, idempotency_key="k")
        assert len(desk.account.created) == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "\u00e4"])
async def test_a_key_is_short_and_visible(
    open_desk: OpenDesk, autojump_clock: Clock, key: str
) -> None:
    async with open_desk() as desk:
        assert (await desk.refusal(idempotency_key=key)).status == 400


# --- clients that leave, and other trouble --------------------------------------------------------


async def test_who_leaves_before_his_turn_is_not_called_for(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk(STS_DIAL_PER_DAY="3") as desk, trio.open_nursery() as nursery:
        nursery.start_soon(desk.ask)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.5):
            await desk.dialler.place(TO, idempotency_key="k")
        await trio.sleep(2)
        assert len(desk.account.created) == 1
        # Neither the key nor the budget remembers it.
        await desk.dialler.place("+15005550011", idempotency_key="k")
        await desk.dialler.place(TO)
        assert (await desk.refusal()).why == "budget"


async def test_one_who_stays_is_enough(open_desk: OpenDesk, autojump_clock: Clock) -> None:
    async with open_desk() as desk, trio.open_nursery() as nursery:
        nursery.start_soon(desk.ask)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(lambda: desk.ask(idempotency_key="k"))
        with trio.move_on_after(0.5):
            await desk.dialler.place(TO, idempotency_key="k")
        await trio.sleep(2)
        assert len(desk.account.created) == 2


async def test_who_leaves_in_mid_request_leaves_no_unknown_call(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        desk.account.open = trio.Event()
        with trio.move_on_after(1):
            await desk.dialler.place(TO, idempotency_key="k")
        desk.account.open.set()
        placed = await desk.dialler.place(TO, idempotency_key="k")
        assert placed.call_sid == FakeAccount.sid(1)
        assert len(desk.account.created) == 1


async def test_who_stands_in_line_when_the_server_shuts_down_is_told(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk, trio.open_nursery() as nursery:
        nursery.start_soon(desk.ask)
        nursery.start_soon(desk.ask)
        await trio.testing.wait_all_tasks_blocked()
        desk.live_calls.drain()
        await trio.sleep(5)
        [placed, refused] = desk.outcomes
        assert isinstance(placed, Placed)
        assert (refused.why, refused.status) == ("draining", 503)


async def test_a_bug_ends_one_request_and_not_the_dialler(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        desk.account.failures.append(ZeroDivisionError())
        with structlog.testing.capture_logs() as logs, pytest.raises(TwilioFailed) as caught:
            await desk.dialler.place(TO)
        assert caught.value.is_uncertain
        assert [(line["event"], line["log_level"]) for line in logs] == [
            (events.DialCrashed.NAME, "error")
        ]
        await desk.dialler.place(TO)


# --- what Twilio tells ----------------------------------------------------------------------------


async def test_the_states_of_a_call_are_logged_and_told(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        placed = await desk.dialler.place(TO)
        over = VoiceRequest(placed.call_sid, call_status="completed", call_duration="37")
        await trio.sleep(40)
        with structlog.testing.capture_logs() as logs:
            desk.dialler.placed.heard_status(over, desk.account.token())
            desk.dialler.placed.heard_status(VoiceRequest("CA1", call_status="ringing"), "")
        assert desk.told() == [
            (placed.call_sid, events.CallStatus("completed", seconds="37")),
            ("CA1", events.CallStatus("ringing")),
        ]
        _, entries = desk.live_calls.event_feed.entries_beyond(0)
        assert [entry.at for entry in entries] == [40, 0]
        assert [line["event"] for line in logs] == [events.CallStatus.NAME] * 2


async def leave(desk: Desk, message: str = "Call <us> back.") -> str:
    placed = await desk.dialler.place(TO, on_machine=OnMachine.LEAVE_MESSAGE, message=message)
    return str(placed.call_sid)


@pytest.mark.parametrize("by", ["human", "unknown", ""])
async def test_a_human_goes_on_talking(open_desk: OpenDesk, autojump_clock: Clock, by: str) -> None:
    async with open_desk() as desk:
        call_sid = await leave(desk)
        desk.dialler.placed.heard_answerer(
            VoiceRequest(call_sid, answered_by=by), desk.account.token()
        )
        await trio.testing.wait_all_tasks_blocked()
        assert (desk.account.hung_up, desk.account.redirected) == ([], [])
        assert desk.told()[0] == (call_sid, events.CallAnsweredBy(by))


@pytest.mark.parametrize("by", ["machine_end_beep", "machine_end_silence", "machine_end_other"])
async def test_a_machine_is_left_a_message_once(
    open_desk: OpenDesk, autojump_clock: Clock, by: str
) -> None:
    async with open_desk() as desk:
        call_sid = await leave(desk)
        answered = VoiceRequest(call_sid, answered_by=by)
        for _ in range(2):
            desk.dialler.placed.heard_answerer(answered, desk.account.token())
            await trio.testing.wait_all_tasks_blocked()
        [(redirected, twiml)] = desk.account.redirected
        assert redirected == call_sid
        assert "<Say>Call &lt;us&gt; back.</Say><Hangup />" in twiml
        assert desk.account.hung_up == []


@pytest.mark.parametrize("by", ["machine_start", "machine_end_beep", "fax"])
async def test_a_machine_is_hung_up_on_unless_told_otherwise(
    open_desk: OpenDesk, autojump_clock: Clock, by: str
) -> None:
    async with open_desk() as desk:
        placed = await desk.dialler.place(TO)
        answered = VoiceRequest(placed.call_sid, answered_by=by)
        with structlog.testing.capture_logs() as logs:
            desk.dialler.placed.heard_answerer(answered, "")
            await trio.testing.wait_all_tasks_blocked()
        assert desk.account.hung_up == [placed.call_sid]
        assert [line["event"] for line in logs] == [
            events.CallAnsweredBy.NAME,
            events.DialMachineHandled.NAME,
        ]


async def test_a_machine_that_has_hung_up_is_told_as_gone_and_its_account_is_asked(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        desk.account.are_over = True
        for call_sid in (await leave(desk), "CA1"):
            machine = VoiceRequest(call_sid, "AC1", answered_by="machine_end_beep")
            with structlog.testing.capture_logs() as logs:
                desk.dialler.placed.heard_answerer(machine, "")
                await trio.testing.wait_all_tasks_blocked()
            assert [line["event"] for line in logs] == [
                events.CallAnsweredBy.NAME,
                events.DialMachineGone.NAME,
            ]
        assert (len(desk.account.redirected), len(desk.account.hung_up)) == (1, 1)
        assert desk.account.accounts == ["AC1", "AC1"]


@pytest.mark.parametrize("by", ["machine_start", "fax"])
async def test_what_takes_no_message_is_hung_up_on(
    open_desk: OpenDesk, autojump_clock: Clock, by: str
) -> None:
    async with open_desk() as desk:
        call_sid = await leave(desk)
        desk.dialler.placed.heard_answerer(VoiceRequest(call_sid, answered_by=by), "")
        await trio.testing.wait_all_tasks_blocked()
        assert (desk.account.hung_up, desk.account.redirected) == ([call_sid], [])


async def test_a_machine_that_nobody_here_dialled_is_hung_up_on(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        desk.dialler.placed.heard_answerer(
            VoiceRequest("CA1", answered_by="machine_end_beep"), "t0ken"
        )
        await trio.testing.wait_all_tasks_blocked()
        assert desk.account.hung_up == ["CA1"]


@pytest.mark.parametrize(
    ("failure", "event"),
    [
        (UNCERTAIN, events.DialMachineNotHandled.NAME),
        (ZeroDivisionError(), events.DialCrashed.NAME),
    ],
)
async def test_a_machine_that_cannot_be_handled_is_told_of(
    open_desk: OpenDesk, autojump_clock: Clock, failure: Exception, event: str
) -> None:
    async with open_desk() as desk:
        call_sid = await leave(desk)
        desk.account.failures.append(failure)
        with structlog.testing.capture_logs() as logs:
            desk.dialler.placed.heard_answerer(
                VoiceRequest(call_sid, answered_by="machine_end_beep"), ""
            )
            await trio.testing.wait_all_tasks_blocked()
        assert logs[-1]["event"] == event
        await desk.dialler.place(TO)


# --- what was caught, and is told again -----------------------------------------------------------


@pytest.mark.parametrize("placed_here", [True, False])
async def test_one_call_is_hung_up_on_once_however_often_a_machine_is_told_of(
    open_desk: OpenDesk, autojump_clock: Clock, placed_here: bool
) -> None:
    """Also when it is over, and its request forgotten."""
    async with open_desk() as desk:
        call_sid = (await desk.dialler.place(TO)).call_sid if placed_here else "CA1"
        machine = VoiceRequest(call_sid, answered_by="machine_end_beep")
        over = VoiceRequest(call_sid, call_status="completed")
        for told in [machine] * 20 + [over] * 20 + [machine] * 20:
            hear = (
                desk.dialler.placed.heard_status
                if told is over
                else desk.dialler.placed.heard_answerer
            )
            hear(told, desk.account.token() if placed_here else "")
            await trio.testing.wait_all_tasks_blocked()
        assert desk.account.hung_up == [call_sid]
        assert desk.account.redirected == []
        assert [type(event) for _, event in desk.told()] == [
            events.CallAnsweredBy,
            events.CallStatus,
        ]


async def test_a_hang_up_that_failed_is_not_repeated_by_whoever_tells_of_the_machine_again(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        desk.account.failures.append(UNCERTAIN)
        for _ in range(20):
            desk.dialler.placed.heard_answerer(VoiceRequest("CA1", answered_by="fax"), "")
            await trio.testing.wait_all_tasks_blocked()
        assert desk.account.hung_up == ["CA1"]


async def test_every_status_of_a_call_is_told_once(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    """Twilio tells them in any order, and may tell one again at any time."""
    states = ["ringing", "in-progress", "completed"]
    async with open_desk() as desk:
        call_sid = (await desk.dialler.place(TO)).call_sid
        for status in states + states[::-1] + ["ringing"] * 20:
            told = VoiceRequest(call_sid, call_status=status)
            desk.dialler.placed.heard_status(told, desk.account.token())
        assert [event for _, event in desk.told()] == [events.CallStatus(each) for each in states]
        # Of another call, it is news.
        desk.dialler.placed.heard_status(VoiceRequest("CA2", call_status="ringing"), "")
        assert len(desk.told()) == 4


async def test_a_request_is_known_by_one_call_and_not_by_all_that_name_it(
    open_desk: OpenDesk, autojump_clock: Clock
) -> None:
    async with open_desk() as desk:
        placed = await desk.dialler.place(TO)
        token = desk.account.token()
        for n in range(100):
            desk.dialler.placed.answered(f"CA of a stranger {n}", token)
        assert desk.dialler.placed.answered(placed.call_sid, token) is not None
        assert desk.dialler.placed._tokens == {placed.call_sid: token}
        desk.dialler.placed.heard_status(
            VoiceRequest(placed.call_sid, call_status="completed"), token
        )
        assert desk.dialler.placed._tokens == {}


async def test_what_was_told_is_remembered_within_bounds(
    open_desk: OpenDesk, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "TOLD", 10)
    async with open_desk() as desk:
        for n in range(100):
            told = VoiceRequest(f"CA{n}" + "x" * 1000, call_status="ringing" * 100)
            desk.dialler.placed.heard_status(told, "")
        assert len(desk.dialler.placed._told) == 10
        assert (
            max(len(word) for told in desk.dialler.placed._told for word in told)
            == progress.MAX_WORD
        )
