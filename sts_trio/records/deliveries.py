"""What is still to be told to the operator's receiver, and what could not be. For threads.

A delivery is written with the end of its call, in the same transaction, so no end is forgotten. Any
process that shares the database may send it: who does claims it for a while, and nobody else does
meanwhile. A receiver may be told twice all the same, if a process dies in between.

Each method is a transaction, and raises `DatabaseAway`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from sts_trio.records import schema
from sts_trio.records.database import Database, insert_into

WAITING, DELIVERED, DEAD = "waiting", "delivered", "dead"
# Three times as long as an attempt may take.
CLAIMED_FOR = 60.0

delivery = schema.delivery


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table. Times are seconds since 1970; the body is as it is signed, and gone once
    it has been delivered."""

    webhook_id: str
    call_sid: str
    kind: str
    body: str
    attempts: int
    next_at: float
    state: str  # waiting, delivered, dead


_COLUMNS = [delivery.c[name] for name in Delivery.__struct_fields__]


def insert(
    connection: sa.Connection, webhook_id: str, call_sid: str, kind: str, body: str, at: float
) -> None:
    """In a transaction of somebody else's. What is there already stays as it is."""
    connection.execute(
        insert_into(connection, delivery)
        .values(
            webhook_id=webhook_id,
            call_sid=call_sid,
            kind=kind,
            body=body,
            attempts=0,
            next_at=at,
            state=WAITING,
        )
        .on_conflict_do_nothing()
    )


class Deliveries:
    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, now: float, most: int) -> list[Delivery]:
        """Those that are due, the oldest first, for `CLAIMED_FOR` seconds."""
        due = (
            sa.select(*_COLUMNS)
            .where(
                delivery.c.state == WAITING,
                delivery.c.next_at <= now,
                sa.or_(delivery.c.claimed_until.is_(None), delivery.c.claimed_until <= now),
            )
            .order_by(delivery.c.next_at)
            .limit(most)
        )
        # Mostly there are none, and whoever writes is not to be kept from it.
        with self._database.reading() as connection:
            if connection.execute(due.limit(1)).first() is None:
                return []
        with self._database.writing() as connection:
            found = _structs(connection.execute(due.with_for_update(skip_locked=True)))
            connection.execute(
                sa.update(delivery)
                .where(delivery.c.webhook_id.in_([each.webhook_id for each in found]))
                .values(claimed_until=now + CLAIMED_FOR)
            )
        return found

    def settle_delivered(self, webhook_id: str) -> None:
        self._settle(webhook_id, state=DELIVERED, body="")

    def settle_failed(self, webhook_id: str, next_at: float | None) -> None:
        """It is tried again then; `None`: it is dead."""
        if next_at is None:
            self._settle(webhook_id, state=DEAD)
        else:
            self._settle(webhook_id, next_at=next_at)

    def _settle(self, webhook_id: str, **values: Any) -> None:
        with self._database.writing() as connection:
            connection.execute(
                sa.update(delivery)
                .where(delivery.c.webhook_id == webhook_id)
                .values(attempts=delivery.c.attempts + 1, claimed_until=None, **values)
            )

    def all(self, states: Sequence[str], most: int = 100) -> list[Delivery]:
        """Those in one of these states, the newest first."""
        with self._database.reading() as connection:
            return _structs(
                connection.execute(
                    sa.select(*_COLUMNS)
                    .where(delivery.c.state.in_(states))
                    .order_by(delivery.c.next_at.desc())
                    .limit(most)
                )
            )

    def send_again(self, now: float, *, webhook_id: str | None = None) -> int:
        """Has that dead one, or all of them, sent again from now on. Returns how many."""
        dead = sa.update(delivery).where(delivery.c.state == DEAD)
        if webhook_id is not None:
            dead = dead.where(delivery.c.webhook_id == webhook_id)
        with self._database.writing() as connection:
            return connection.execute(
                dead.values(state=WAITING, attempts=0, next_at=now, claimed_until=None)
            ).rowcount


def _structs(rows: sa.CursorResult[Any]) -> list[Delivery]:
    names = Delivery.__struct_fields__
    return [Delivery(**dict(zip(names, row, strict=True))) for row in rows]
