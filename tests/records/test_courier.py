"""Telling again and again, on the virtual clock: when, for how long, and what comes of it."""

import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import pytest
import structlog
import trio
import trio.testing
from call_stories import NOON, sid
from standardwebhooks import Webhook

from sts_trio.observe import events
from sts_trio.records.courier import AT_ONCE, AWAY, EVERY, Courier
from sts_trio.records.database import DatabaseAway
from sts_trio.records.deliveries import Delivery
from sts_trio.records.receiver import Answer, NotDelivered
from sts_trio.records.webhook import ENDED, Signer

T = TypeVar("T")

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OK = Answer(200)


@pytest.fixture(autouse=True)
def _logging_as_it_is_by_default() -> Iterator[None]:
    """Whatever a test before has set up, and its loggers keep."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


class Deliveries:
    """The table, in memory."""

    def __init__(
        self, count: int, now: Callable[[], float], clock: trio.testing.MockClock | None = None
    ) -> None:
        self.waiting = {
            f"msg_{number}": Delivery(
                webhook_id=f"msg_{number}",
                call_sid=sid(number),
                kind=ENDED,
                body=f'{{"number":{number}}}',
                attempts=0,
                next_at=NOON,
                state="waiting",
            )
            for number in range(count)
        }
        self.claimed: set[str] = set()
        self.delivered: list[str] = []
        self.dead: list[str] = []
        self.faults: list[Exception] = []
        self.claims: list[float] = []
        self.now = now
        self.clock = clock  # else nobody leaves out the hours in which nothing happens

    def claim(self, now: float, most: int) -> list[Delivery]:
        self.claims.append(now)
        if self.faults:
            raise self.faults.pop()
        due = [
            each
            for each in self.waiting.values()
            if each.next_at <= now and each.webhook_id not in self.claimed
        ]
        self.claimed |= {each.webhook_id for each in due[:most]}
        if self.clock is not None and not self.claimed and self.waiting:
            next_at = min(each.next_at for each in self.waiting.values())
            self.clock.jump(max(0.0, next_at - now - 2 * EVERY))
        return due[:most]

    def settle_delivered(self, webhook_id: str) -> None:
        del self.waiting[webhook_id]
        self.delivered.append(webhook_id)

    def settle_failed(self, webhook_id: str, next_at: float | None) -> None:
        failed = self.waiting.pop(webhook_id)
        self.claimed.discard(webhook_id)
        if next_at is None:
            self.dead.append(webhook_id)
            return
        self.waiting[webhook_id] = Delivery(
            webhook_id=webhook_id,
            call_sid=failed.call_sid,
            kind=failed.kind,
            body=failed.body,
            attempts=failed.attempts + 1,
            next_at=next_at,
            state="waiting",
        )


class Receiver:
    """Answers as it is told, the last for ever."""

    def __init__(self, *answers: Answer | Exception, takes: float = 0.0) -> None:
        self.answers = list(answers)
        self.takes = takes
        self.posts: list[tuple[float, bytes, Mapping[str, str]]] = []
        self.at_once = self.most_at_once = 0

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        self.posts.append((trio.current_time(), body, dict(headers)))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await trio.sleep(self.takes)
        self.at_once -= 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def wall() -> float:
    return NOON + trio.current_time()


@pytest.fixture
def threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the fakes waits, and a virtual clock does not wait for threads."""

    async def run(work: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        async with limiter:
            return work()

    monkeypatch.setattr("sts_trio.records.courier.run_in_thread", run)


pytestmark = pytest.mark.usefixtures("threads_at_once")


async def run(deliveries: Deliveries, receiver: Receiver, until: float) -> list[str]:
    """The events of that time."""
    courier = Courier(deliveries, receiver, Signer([SECRET]), wall=wall, chance=lambda: 0.0)
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            await nursery.start(courier.run)
            await trio.sleep(until)
            nursery.cancel_scope.cancel()
    return [log["event"] for log in logs]


async def test_an_end_is_told_once_and_signed(autojump_clock: trio.testing.MockClock) -> None:
    deliveries, receiver = Deliveries(1, wall), Receiver(OK)
    assert await run(deliveries, receiver, 100.0) == [events.WebhookDelivered.NAME]
    assert deliveries.delivered == ["msg_0"]
    [(at, body, headers)] = receiver.posts
    assert (at, body) == (0.0, b'{"number":0}')
    signed_at = datetime.datetime.fromtimestamp(NOON, datetime.UTC)
    assert headers == {
        "webhook-id": "msg_0",
        "webhook-timestamp": str(int(NOON)),
        "webhook-signature": Webhook(SECRET).sign("msg_0", signed_at, body.decode()),
    }


async def test_a_receiver_that_is_down_is_asked_again_and_again_until_it_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    deliveries = Deliveries(1, wall, autojump_clock)
    receiver = Receiver(NotDelivered("Connection refused"), Answer(503), Answer(302), Answer(404))
    told = await run(deliveries, receiver, 64_000.0)
    waits = [5, 300, 1800, 7200, 18000, 36000]
    assert [len(receiver.posts), len({body for _, body, _ in receiver.posts})] == [7, 1]
    expected = 0.0
    for wait, (at, _, _) in zip([0, *waits], receiver.posts, strict=True):
        expected += wait
        assert expected <= at <= expected + len(waits) * EVERY
    assert {headers["webhook-id"] for _, _, headers in receiver.posts} == {"msg_0"}
    assert len({headers["webhook-timestamp"] for _, _, headers in receiver.posts}) == 7
    assert deliveries.dead == ["msg_0"]
    assert told == [events.WebhookFailed.NAME] * 6 + [events.WebhookDead.NAME]


async def test_a_receiver_that_is_up_again_is_told(autojump_clock: trio.testing.MockClock) -> None:
    deliveries, receiver = Deliveries(1, wall), Receiver(Answer(500), Answer(204))
    assert await run(deliveries, receiver, 100.0) == [
        events.WebhookFailed.NAME,
        events.WebhookDelivered.NAME,
    ]
    assert deliveries.delivered == ["msg_0"]


async def test_a_receiver_that_wants_no_more_is_told_no_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    deliveries, receiver = Deliveries(1, wall), Receiver(Answer(410))
    assert await run(deliveries, receiver, 1000.0) == [events.WebhookDead.NAME]
    assert len(receiver.posts) == 1


@pytest.mark.parametrize(("wanted", "waits"), [(1.0, 5.0), (60.0, 60.0), (10.0**6, 86_400.0)])
async def test_a_receiver_may_ask_for_patience(
    autojump_clock: trio.testing.MockClock, wanted: float, waits: float
) -> None:
    deliveries = Deliveries(1, wall, autojump_clock)
    receiver = Receiver(Answer(429, wanted), OK)
    await run(deliveries, receiver, waits + 10.0)
    assert waits <= receiver.posts[1][0] <= waits + 2 * EVERY


async def test_a_slow_receiver_is_told_a_few_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    deliveries, receiver = Deliveries(30, wall), Receiver(OK, takes=10.0)
    await run(deliveries, receiver, 60.0)
    assert len(deliveries.delivered) == 30
    assert receiver.most_at_once == AT_ONCE


async def test_while_the_database_is_away_nothing_is_told_nor_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    deliveries, receiver = Deliveries(1, wall), Receiver(OK)
    deliveries.faults = [DatabaseAway("locked"), DatabaseAway("locked")]
    assert await run(deliveries, receiver, 100.0) == [events.WebhookDelivered.NAME]
    assert receiver.posts[0][0] == 2 * AWAY


async def test_a_bug_ends_nothing(autojump_clock: trio.testing.MockClock) -> None:
    deliveries = Deliveries(2, wall)
    deliveries.faults = [ZeroDivisionError()]
    receiver = Receiver(ZeroDivisionError(), OK)
    told = await run(deliveries, receiver, 100.0)
    assert told.count(events.WebhookCrashed.NAME) == 2
    assert len(deliveries.delivered) == 1


async def test_one_that_cannot_be_settled_now_is_sent_again_by_its_claim(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliveries, receiver = Deliveries(1, wall), Receiver(OK)

    def away(webhook_id: str) -> None:
        raise DatabaseAway("locked")

    monkeypatch.setattr(deliveries, "settle_delivered", away)
    assert await run(deliveries, receiver, 10.0) == []
    assert list(deliveries.waiting) == ["msg_0"]
