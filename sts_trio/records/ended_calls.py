"""What is done with the rows of a call once it is over: its figures are computed, what was said is
forgotten if that is not to be kept, and the operator's receiver is to be told.

In the transaction that writes the end, so that none of it is forgotten.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
import sqlalchemy as sa

from sts_trio.config.records import Prices
from sts_trio.records import deliveries, schema, webhook, word_index
from sts_trio.records.lifecycle import OVER
from sts_trio.records.reading import read_record, read_rows
from sts_trio.records.record import summary, without_words
from sts_trio.records.rows import Row

# Calls that are looked at with one statement.
LOT = 200

call, event = schema.call, schema.event


class EndedCalls:
    """If it `tells`, a delivery is written with each end of a call."""

    def __init__(self, prices: Prices, *, keeps_words: bool, tells: bool) -> None:
        self._prices = prices
        self._keeps_words = keeps_words
        self._tells = tells

    def settle(
        self, connection: sa.Connection, ended: Mapping[str, Row], touched: Iterable[str] = ()
    ) -> None:
        """These calls have `ended` with these rows. Of those `touched` that were over already rows
        came late."""
        self._sum_up(connection, ended)
        if self._keeps_words:
            # They are put in again, with what came late.
            word_index.take_out(connection, [sid for sid in touched if sid not in ended])
        else:
            self._forget_words(connection, {*ended, *touched})
        if self._tells:
            self._tell(connection, ended)

    def _sum_up(self, connection: sa.Connection, ended: Mapping[str, Row]) -> None:
        for lot in _lots(list(ended)):
            answered = dict(
                connection.execute(
                    sa.select(call.c.call_sid, call.c.answered_at).where(call.c.call_sid.in_(lot))
                ).all()
            )
            rows = read_rows(connection, lot)
            if self._keeps_words:
                word_index.put(connection, {sid: rows[sid] for sid in lot})
            connection.execute(
                sa.update(call).where(call.c.call_sid == sa.bindparam("of")),
                [
                    {
                        "of": sid,
                        "summary": msgspec.to_builtins(
                            summary(
                                rows[sid],
                                answered_at=answered[sid],
                                ended_at=ended[sid].at,
                                ending=str(ended[sid].body.get("ending", "")),
                                prices=self._prices,
                            )
                        ),
                    }
                    for sid in lot
                ],
            )

    def _tell(self, connection: sa.Connection, ended: Mapping[str, Row]) -> None:
        """The receiver is to be told of these ends."""
        for sid, row in ended.items():
            told = read_record(connection, sid)
            if told is None:
                continue
            ending = str(row.body.get("ending", ""))
            webhook_id = webhook.webhook_id(sid, told.call.epoch, ending)
            body = webhook.ended(told, row.at)
            deliveries.insert(connection, webhook_id, sid, webhook.ENDED, body, row.at)

    def _forget_words(self, connection: sa.Connection, sids: set[str]) -> None:
        for lot in _lots(sorted(sids)):
            query = sa.select(call.c.call_sid).where(
                call.c.call_sid.in_(lot), call.c.state.in_(OVER)
            )
            over = list(connection.execute(query).scalars())
            changed = [
                {"sid": row.call_sid, "of": row.epoch, "number": row.seq, "body": bare.body}
                for rows in read_rows(connection, over).values()
                for row in rows
                if (bare := without_words(row)) is not row
            ]
            if changed:
                connection.execute(
                    sa.update(event).where(
                        event.c.call_sid == sa.bindparam("sid"),
                        event.c.epoch == sa.bindparam("of"),
                        event.c.seq == sa.bindparam("number"),
                    ),
                    changed,
                )
            word_index.put(connection, {sid: [] for sid in over})


def _lots(values: Sequence[str]) -> Iterator[list[str]]:
    waiting = iter(values)
    while lot := list(itertools.islice(waiting, LOT)):
        yield lot
