"""Who has Twilio ask about a call that has lost its process, where it did not by itself."""

import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest
import structlog
import trio
import trio.testing
from call_stories import Story, sid
from rig_mover import LIVE, OTHER, Store, mover
from rig_rest import ACCOUNT, UNCERTAIN, FakeAccount

from sts_trio.errors import TwilioFailed
from sts_trio.moves.decision import Answer
from sts_trio.moves.lookout import (
    AGAIN_AFTER,
    ASK_WITHIN,
    GRACE,
    LOOK_EVERY,
    MAX_HEARD,
    PER_SECOND,
    REST,
    Lookout,
    after_url,
)
from sts_trio.moves.mover import Mover, Taken
from sts_trio.observe import events
from sts_trio.records.movable import CallState, Left, Owner

Clock = trio.testing.MockClock
BASE = "https://a.example"
URL = after_url(BASE)
LEFT = msgspec.structs.replace(LIVE, account_sid=ACCOUNT)
TOO_MANY = TwilioFailed("Too Many Requests", status=429, code=20429)


class Site:
    """A process that looks out, with an account that is asked nothing yet."""

    def __init__(
        self, state: CallState | None = LEFT, *answers: Answer, base: str | None = BASE
    ) -> None:
        self.base = base
        self.store = Store(state, Story().start().talk().rows)
        self.mover, self.asked = mover(self.store, *(answers or (Answer.REFUSED,)))
        self.account = FakeAccount()
        self.takes_calls = True
        self.left: list[Left] = []
        self.lookout = self.another(self.mover)

    def another(self, mover: Mover) -> Lookout:
        return Lookout(
            mover,
            lambda: self.account,
            left=lambda: self.left,
            may_take=lambda: self.takes_calls,
            base=self.base,
        )

    @contextlib.asynccontextmanager
    async def looks_out(self, *lookouts: Lookout) -> AsyncIterator[None]:
        with structlog.testing.capture_logs() as self.logs:
            async with trio.open_nursery() as nursery:
                for each in lookouts or (self.lookout,):
                    await nursery.start(each.run)
                yield
                nursery.cancel_scope.cancel()

    @property
    def reasons(self) -> list[str]:
        return [each["reason"] for each in self.logs if each["event"] == events.CallNotRescued.NAME]


@pytest.fixture
def site() -> Site:
    return Site()


async def test_twilio_is_had_to_ask_about_a_call_that_nobody_was_asked_about(
    site: Site, autojump_clock: Clock
) -> None:
    async with site.looks_out():
        began = trio.current_time()
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(GRACE - 0.1)
        assert site.account.sent == []
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(1.0)
        assert site.account.sent == [(sid(1), URL)]
        assert site.account.accounts == [ACCOUNT]
        assert site.store.claims == [("me", True, "stream")]
        assert trio.current_time() - began < 2 * GRACE
    assert site.reasons == []


async def test_who_is_asked_then_knows_how_it_was_lost(site: Site, autojump_clock: Clock) -> None:
    """The claim is its own, so by the database alone it was let go of."""
    async with site.looks_out():
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(2 * GRACE)
    claimed = msgspec.structs.replace(LEFT, state="moving", claimed_by="me", epoch=11)
    site.store.state = msgspec.structs.replace(claimed, epoch=10)  # the store's claims add one
    taken = await site.mover.decide(sid(1), ACCOUNT, "action")
    assert isinstance(taken, Taken)
    assert taken.how == "recovered"
    again = await site.mover.decide(sid(1), ACCOUNT, "action")
    assert isinstance(again, Taken)
    assert again.how == "moved"
    # And if another process is asked, the stream that it leads here finds all of it.
    assert (await site.mover.recall(sid(1), 0.0)).told


async def test_a_later_claim_is_not_that_of_the_rescue(site: Site, autojump_clock: Clock) -> None:
    async with site.looks_out():
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(2 * GRACE)
    site.store.state = msgspec.structs.replace(LEFT, state="moving", epoch=40)
    taken = await site.mover.decide(sid(1), ACCOUNT, "action")
    assert isinstance(taken, Taken)
    assert (taken.how, taken.claim.epoch) == ("moved", 41)


@pytest.mark.parametrize(
    "state",
    [
        None,
        msgspec.structs.replace(LEFT, state="ended"),
        msgspec.structs.replace(LEFT, state="lost"),
        msgspec.structs.replace(LEFT, state="announced"),
        msgspec.structs.replace(LEFT, state="moving", claimed_by="p3"),
        msgspec.structs.replace(LEFT, state="moving", claimed_by="me"),
        msgspec.structs.replace(LEFT, process_id="me"),
    ],
)
async def test_what_is_over_or_somebodys_is_left_alone(
    state: CallState | None, autojump_clock: Clock
) -> None:
    site = Site(state)
    async with site.looks_out():
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(60.0)
    assert (site.account.sent, site.store.claims, site.asked) == ([], [], [])


async def test_a_process_that_lives_keeps_its_call(autojump_clock: Clock) -> None:
    """It may be `after` that has moved it there meanwhile."""
    site = Site(LEFT, Answer.SAME)
    async with site.looks_out():
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(60.0)
    assert (site.account.sent, site.store.claims) == ([], [])


async def test_who_finds_it_claimed_after_all_stops(site: Site, autojump_clock: Clock) -> None:
    """`after` was quicker by a moment."""
    site.store.wins = [False]
    look = site.store.look

    def changed(call_sid: str) -> CallState | None:
        claimed = msgspec.structs.replace(LEFT, state="moving", claimed_by="p3")
        return claimed if site.store.claims else look(call_sid)

    site.store.look = changed  # type: ignore[method-assign]
    async with site.looks_out():
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(60.0)
    assert (site.account.sent, len(site.store.claims)) == ([], 1)


async def test_nothing_is_asked_for_without_an_account_room_or_database(
    site: Site, autojump_clock: Clock
) -> None:
    async with site.looks_out():
        site.account = FakeAccount(None)
        site.lookout.hear(sid(1), ACCOUNT, URL)
        site.account = FakeAccount()
        site.takes_calls = False
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(2 * GRACE)
        site.takes_calls, site.store.is_away = True, True
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(2 * GRACE)
    assert (site.account.sent, site.store.claims, site.reasons) == ([], [], [])


async def test_a_call_that_is_poison_is_not_asked_about(autojump_clock: Clock) -> None:
    site = Site(msgspec.structs.replace(LEFT, epoch=-1))
    async with site.looks_out():
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(60.0)
    assert (site.account.sent, site.store.claims) == ([], [])


async def test_what_twilio_says_to_it_is_told(site: Site, autojump_clock: Clock) -> None:
    async with site.looks_out():
        site.account.failures.append(UNCERTAIN)
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(2 * GRACE)
        site.account.are_over = True
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(2 * GRACE)
        site.account.takes = 60.0
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(60.0)
    assert site.reasons == [
        "Twilio: no answer",
        "Twilio says that the call is over",
        f"no answer within {ASK_WITHIN:g} s",
    ]


async def test_a_bug_is_of_one_call(site: Site, autojump_clock: Clock) -> None:
    async with site.looks_out():
        site.account.failures.append(ZeroDivisionError("oh"))
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(2 * GRACE)
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(2 * GRACE)
    assert len(site.account.sent) == 2
    assert site.reasons == ["a bug of ours: ZeroDivisionError('oh')"]


async def test_of_many_calls_twenty_a_second_are_asked_about(
    site: Site, autojump_clock: Clock
) -> None:
    """And no more are listened to than there may be."""
    async with site.looks_out():
        for number in range(MAX_HEARD + 5):
            site.lookout.hear(sid(number), ACCOUNT, URL)
        await trio.sleep(GRACE + 1.0)
        assert len(site.account.sent) == pytest.approx(PER_SECOND, abs=2)
        await trio.sleep(MAX_HEARD / PER_SECOND + 1.0)
        assert len(site.account.sent) == MAX_HEARD


async def test_twilio_is_left_in_peace_when_there_were_too_many(
    site: Site, autojump_clock: Clock
) -> None:
    async with site.looks_out():
        site.account.failures.append(TOO_MANY)
        for number in range(10):
            site.lookout.hear(sid(number), ACCOUNT, URL)
        await trio.sleep(GRACE + REST)
        assert len(site.account.sent) <= 2  # the next had its turn already
        await trio.sleep(2.0)
        assert len(site.account.sent) == 10


async def test_the_question_that_was_on_its_way_waits_for_it(
    site: Site, autojump_clock: Clock
) -> None:
    """The answer to it would be a stream that is ended at once."""
    async with site.looks_out():
        await site.lookout.until_asked(sid(1))
        site.account.takes = 2.0
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(GRACE + 1.0)
        began = trio.current_time()
        await site.lookout.until_asked(sid(2))
        assert trio.current_time() == began
        await site.lookout.until_asked(sid(1))
        assert trio.current_time() - began == pytest.approx(1.0, abs=0.1)


async def test_a_late_answer_is_of_no_consequence_to_others(
    site: Site, autojump_clock: Clock
) -> None:
    """Of two that look after one call, who has its claim has it asked about."""
    hung = Owner(OTHER.process_id, OTHER.name, OTHER.address, is_alive=False)
    site.store.state = msgspec.structs.replace(LEFT, owner=hung)
    site.store.wins = [True, False]
    claim = site.store.claim

    def claimed(seen: CallState, by: str, *, is_crash: bool, road: str) -> object:
        won = claim(seen, by, is_crash=is_crash, road=road)
        site.store.state = msgspec.structs.replace(LEFT, state="moving", claimed_by="p3")
        return won

    site.store.claim = claimed  # type: ignore[method-assign,assignment]
    second = site.another(site.mover)
    async with site.looks_out(site.lookout, second):
        site.lookout.hear(sid(1), ACCOUNT, URL)
        second.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(2 * GRACE)
    assert site.account.sent == [(sid(1), URL)]


# --- told by the database -------------------------------------------------------------------------


def left(*numbers: int) -> list[Left]:
    return [Left(sid(number), 10, "live") for number in numbers]


async def test_what_the_database_tells_of_is_looked_after(
    site: Site, autojump_clock: Clock
) -> None:
    site.left = left(1, 2)
    async with site.looks_out():
        await trio.sleep(2 * LOOK_EVERY)
        assert sorted(site.account.sent) == [(sid(1), URL), (sid(2), URL)]
        assert {road for _, _, road in site.store.claims} == {"lookout"}
        site.left = []
        await trio.sleep(60.0)
    assert len(site.account.sent) == 2


async def test_who_has_no_address_or_no_account_looks_after_none(autojump_clock: Clock) -> None:
    nowhere = Site(base=None)
    nobody = Site()
    nobody.account = FakeAccount(None)
    for site in (nowhere, nobody):
        site.left = left(1)
        async with site.looks_out():
            await trio.sleep(60.0)
        assert (site.account.sent, site.store.claims) == ([], [])


async def test_of_a_dead_processs_calls_twenty_a_second_are_asked_about(
    site: Site, autojump_clock: Clock
) -> None:
    """And none that cannot be had keeps the others from it."""
    site.left = left(*range(100))
    async with site.looks_out():
        await trio.sleep(LOOK_EVERY + 2.0)
        assert PER_SECOND <= len(site.account.sent) <= 2.0 * PER_SECOND + 1
        await trio.sleep(100 / PER_SECOND + 10 * LOOK_EVERY)
        assert {call_sid for call_sid, _ in site.account.sent} == {sid(n) for n in range(100)}


async def test_one_that_is_still_left_is_looked_after_again_later(
    site: Site, autojump_clock: Clock
) -> None:
    """Its process lives, and could not tell."""
    site = Site(LEFT, Answer.SAME)
    site.left = left(1)
    async with site.looks_out():
        await trio.sleep(AGAIN_AFTER)
        assert len(site.asked) == 1
        await trio.sleep(2 * LOOK_EVERY)
        assert len(site.asked) == 2
    assert site.account.sent == []


@pytest.mark.parametrize("code", [None, 20404])
async def test_a_call_that_twilio_says_is_over_is_given_up(
    code: int | None, site: Site, autojump_clock: Clock
) -> None:
    site.account.are_over = code is None
    if code is not None:
        site.account.failures.append(TwilioFailed("not found", status=404, code=code))
    async with site.looks_out():
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(2 * GRACE)
    assert site.store.given_up == [(sid(1), 11, "me")]


async def test_one_that_twilio_did_not_answer_for_is_not_given_up(
    site: Site, autojump_clock: Clock
) -> None:
    site.account.failures += [UNCERTAIN, TOO_MANY]
    async with site.looks_out():
        for _ in range(2):
            site.lookout.hear(sid(1), ACCOUNT, URL)
            await trio.sleep(2 * GRACE)
    assert site.store.given_up == []


async def test_a_database_that_is_away_gives_nothing_up(site: Site, autojump_clock: Clock) -> None:
    site.account.are_over, site.account.takes = True, 1.0
    async with site.looks_out():
        site.lookout.hear(sid(1), ACCOUNT, URL)
        await trio.sleep(GRACE + 0.5)
        site.store.is_away = True
        await trio.sleep(GRACE)
    assert site.store.given_up == []
    assert site.reasons == ["Twilio says that the call is over"]
