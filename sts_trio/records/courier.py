"""Tells the operator's receiver of ended calls, again and again until it has taken it.

One task of the process, which has a thread for the database. A few deliveries are on their way at
once; a receiver that is slow holds up nothing but what is to be told to it.
"""

import random
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import trio

from sts_trio.net.threads import run_in_thread
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.records.database import DatabaseAway
from sts_trio.records.deliveries import Delivery
from sts_trio.records.receiver import Answer, NotDelivered
from sts_trio.records.webhook import Signer, retry_after

EVERY = 1.0
AT_ONCE = 8
# The database is away: what is due waits in it.
AWAY = 5.0
# At the end, for a thread that is at work: a statement takes no longer.
LAST_WITHIN = 3.0
# A receiver may ask for more patience than we have, but not for a day of it.
LONGEST_WAIT = 86_400.0
# The receiver wants no more of this.
GONE = 410

# What came of an attempt. It is `DEAD` where there is no other.
DELIVERED, FAILED, DEAD = "delivered", "failed", "dead"

T = TypeVar("T")


class Deliveries(Protocol):
    """What is needed here of `deliveries.Deliveries`, in a thread."""

    def claim(self, now: float, most: int, /) -> list[Delivery]: ...
    def settle_delivered(self, webhook_id: str, /) -> None: ...
    def settle_failed(self, webhook_id: str, next_at: float | None, /) -> None: ...


class Receiver(Protocol):
    """What is needed here of `receiver.Receiver`."""

    async def post(self, body: bytes, headers: Mapping[str, str], /) -> Answer: ...


class Courier:
    """`close` is called at the end, unless a thread hangs in the database. `chance` gives numbers
    from 0 to 1."""

    def __init__(
        self,
        deliveries: Deliveries,
        receiver: Receiver,
        signer: Signer,
        *,
        close: Callable[[], None] = lambda: None,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._deliveries = deliveries
        self._receiver = receiver
        self._signer = signer
        self._close = close
        self._wall = wall
        self._chance = chance
        self.results = dict.fromkeys((DELIVERED, FAILED, DEAD), 0)  # {what came of it: how often}
        self._on_their_way = 0
        self._limiter = trio.CapacityLimiter(1)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until it is cancelled. What is on its way then is sent again by whoever comes next."""
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    wait = await self._send_due(nursery)
                    await trio.sleep(wait)
        finally:
            # Its thread is not to be left with a connection of a database that is closed.
            with trio.CancelScope(shield=True, relative_deadline=LAST_WITHIN):
                async with self._limiter:
                    self._close()

    async def _send_due(self, nursery: trio.Nursery) -> float:
        """Returns how long to wait until there may be more."""
        free = AT_ONCE - self._on_their_way
        if not free:
            return EVERY
        try:
            due = await self._in_thread(lambda: self._deliveries.claim(self._wall(), free))
        except DatabaseAway:
            return AWAY  # of which the writer tells
        except Exception:
            report(events.WebhookCrashed(), exc_info=True)
            return AWAY
        for delivery in due:
            self._on_their_way += 1
            nursery.start_soon(self._deliver, delivery)
        return 0.0 if len(due) == free else EVERY

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await self._try(delivery)
        except DatabaseAway:
            pass  # it is still claimed, and is sent again when that is over
        except Exception:
            report(events.WebhookCrashed(), exc_info=True)
        finally:
            self._on_their_way -= 1

    async def _try(self, delivery: Delivery) -> None:
        headers = self._signer.headers(delivery.webhook_id, delivery.body, self._wall())
        wanted: float | None = None  # by the receiver
        is_final = False
        try:
            answer = await self._receiver.post(delivery.body.encode(), headers)
        except NotDelivered as exc:
            reason = str(exc)
        else:
            if 200 <= answer.status < 300:
                await self._in_thread(
                    lambda: self._deliveries.settle_delivered(delivery.webhook_id)
                )
                self.results[DELIVERED] += 1
                report(events.WebhookDelivered(delivery.call_sid, delivery.attempts + 1))
                return
            reason, wanted = f"HTTP {answer.status}", answer.retry_after
            is_final = answer.status == GONE
        attempts = delivery.attempts + 1
        wait = None if is_final else retry_after(attempts, self._chance())
        if wait is not None and wanted is not None:
            wait = max(wait, min(wanted, LONGEST_WAIT))
        next_at = None if wait is None else self._wall() + wait
        await self._in_thread(lambda: self._deliveries.settle_failed(delivery.webhook_id, next_at))
        ids = (delivery.call_sid, delivery.webhook_id, reason, attempts)
        self.results[DEAD if wait is None else FAILED] += 1
        if wait is None:
            report(events.WebhookDead(*ids))
        else:
            report(events.WebhookFailed(*ids, round(wait, 1)))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await run_in_thread(work, self._limiter)
