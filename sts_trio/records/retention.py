"""What is deleted of past calls, and of all that is known of them: when its time is over, or when
somebody asks for it. In small steps, as on SQLite nobody else writes meanwhile, and with time for
the others between them.
"""

from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from sts_trio.records import schema, word_index
from sts_trio.records.database import Database
from sts_trio.records.event_days import EventDays, day_of
from sts_trio.records.lifecycle import OVER
from sts_trio.records.reading import is_askable
from sts_trio.records.redaction import Redaction
from sts_trio.records.search import Wanted, find_calls, unindexed

# Calls that are deleted in one transaction: of a minute each, SQLite overwrites 0.4 MB in 30 ms.
# Whoever else writes is to wait for much less than it is given (`LOCKED`).
LOT = 25
# Seconds for a statement of those who delete: nobody waits for them.
DELETING = 30.0

call, event, recording, stream = schema.call, schema.event, schema.recording, schema.stream


class Deleted(msgspec.Struct, frozen=True):
    calls: int = 0
    events: int = 0


class Retention:
    """`remove` deletes a recording, by its URI, before it is forgotten that there was one."""

    def __init__(
        self,
        database: Database,
        days: EventDays,
        redaction: Redaction | None,
        remove: Callable[[str], None],
    ) -> None:
        self._database = database
        self._days = days
        self._redaction = redaction
        self._remove = remove

    def expire(self, before: float, is_wanted: Callable[[], bool] = lambda: True) -> Deleted:
        """Deletes the calls that began before that time, in small steps, and all that is of them.

        Those that still last are left; and between two steps all others, if it is not `is_wanted`
        any more.
        """
        deleted = Deleted()
        self._days.drop(before)
        while is_wanted():
            with self._database.reading() as connection:
                sids = list(
                    connection.execute(
                        sa.select(call.c.call_sid)
                        .where(call.c.created_at < before, unindexed(call.c.state).in_(OVER))
                        .order_by(call.c.created_at)
                        .limit(LOT)
                    ).scalars()
                )
            if not sids:
                break
            deleted = _sum(deleted, self._delete(sids))
        with self._database.writing(within=DELETING) as connection:
            connection.execute(
                sa.delete(schema.allowance).where(schema.allowance.c.day < day_of(before))
            )
        if deleted.calls:
            word_index.purge(self._database)
        self._database.shrink_log()
        return deleted

    def forget(self, *, call_sid: str | None = None, number: str | None = None) -> list[str]:
        """Deletes all that is known of a call, or of all calls from or to a number. Returns which.

        Of a call that is under way more is written later: it is left.
        """
        forgotten: list[str] = []
        if call_sid is not None and self._state(call_sid) in OVER:
            self._delete([call_sid])
            forgotten = [call_sid]
        while number is not None:
            with self._database.reading() as connection:
                ended = Wanted(number=number, has_ended=True)
                page = find_calls(connection, ended, LOT, redaction=self._redaction)
            if not page.calls:
                break
            sids = [each.call_sid for each in page.calls]
            self._delete(sids)
            forgotten += sids
        if forgotten:
            word_index.purge(self._database)
        self._database.shrink_log()
        return forgotten

    def _state(self, call_sid: str) -> str | None:
        if not is_askable(call_sid):
            return None
        with self._database.reading() as connection:
            query = sa.select(call.c.state).where(call.c.call_sid == call_sid)
            return connection.execute(query).scalar()

    def _delete(self, sids: list[str]) -> Deleted:
        with self._database.reading() as connection:
            for uri in connection.execute(
                sa.select(recording.c.uri).where(recording.c.call_sid.in_(sids))
            ).scalars():
                if uri:
                    self._remove(uri)
        with self._database.giving_way(within=DELETING) as connection:
            for table in (recording, schema.delivery, schema.dial, stream):
                connection.execute(sa.delete(table).where(table.c.call_sid.in_(sids)))
            events = connection.execute(sa.delete(event).where(event.c.call_sid.in_(sids)))
            calls = connection.execute(sa.delete(call).where(call.c.call_sid.in_(sids)))
        return Deleted(calls.rowcount, events.rowcount)


def _sum(one: Deleted, other: Deleted) -> Deleted:
    return Deleted(one.calls + other.calls, one.events + other.events)
