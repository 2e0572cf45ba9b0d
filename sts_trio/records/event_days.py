"""The events' table is parted by days in PostgreSQL: to drop one takes no time, to delete its
millions of rows takes minutes. In SQLite there is nothing to do.
"""

from collections.abc import Iterable

import sqlalchemy as sa

from sts_trio.records.database import Database, DatabaseAway

DAY = 86400


def day_of(at: float) -> int:
    """Days since 1970, of seconds."""
    return int(at // DAY)


class EventDays:
    """Each method is a transaction for each day, and leaves what it cannot do for another time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._made: set[int] = set()

    def make(self, times: Iterable[float]) -> None:
        """Partitions for these times. Where one cannot be made its rows go to `event_other`."""
        if not self._database.is_postgresql:
            return
        for day in sorted({day_of(at) for at in times} - self._made):
            self._made.add(day)  # to be tried once
            try:
                with self._database.writing() as connection:
                    connection.exec_driver_sql(
                        f"CREATE TABLE IF NOT EXISTS event_{day} PARTITION OF event"
                        f" FOR VALUES FROM ({day}) TO ({day + 1})"
                    )
            except (DatabaseAway, sa.exc.SQLAlchemyError):
                # Somebody reads at length, or rows of that day are in `event_other` already.
                continue

    def drop(self, before: float) -> None:
        """Those that are over, all their calls with them: no call lasts longer than a day.

        Raises:
            DatabaseAway: it is not known which there are.
        """
        if not self._database.is_postgresql:
            return
        with self._database.reading() as connection:
            names = connection.exec_driver_sql(
                "SELECT inhrelid::regclass::text FROM pg_inherits"
                " WHERE inhparent = 'event'::regclass"
            ).scalars()
            days = [
                int(day) for day in (name.rpartition("_")[2] for name in names) if day.isdigit()
            ]
        for day in days:
            if day < day_of(before) - 1:
                try:
                    with self._database.writing() as connection:
                        connection.exec_driver_sql(f"DROP TABLE IF EXISTS event_{day}")
                except DatabaseAway:
                    continue  # somebody reads at length; tomorrow will do
