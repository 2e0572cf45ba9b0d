"""How many calls may be placed a day."""

import datetime
from collections.abc import Callable

from sts_trio.errors import DialRefused

_DAY = datetime.timedelta(days=1)


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Budget:
    """So many calls a day, a day being UTC's."""

    def __init__(
        self,
        per_day: int,
        utc_now: Callable[[], datetime.datetime],
        where: str = "STS_DIAL_PER_DAY",
    ) -> None:
        """`where` is the place where it was decided."""
        self._per_day = per_day
        self._where = where
        self._utc_now = utc_now
        self._day = datetime.date.min
        self._spent = 0

    @property
    def spent(self) -> int:
        """Calls of today's that are taken."""
        return self._spent if self._utc_now().date() <= self._day else 0

    def spend(self) -> datetime.date:
        """Takes one call, of the day that is returned.

        Raises:
            DialRefused: there is none left.
        """
        now = self._utc_now()
        if now.date() > self._day:  # a clock may be set back
            self._day = now.date()
            self._spent = 0
        if self._spent >= self._per_day:
            tomorrow = datetime.datetime.combine(self._day + _DAY, datetime.time(), datetime.UTC)
            raise self.refusal((tomorrow - now).total_seconds())
        self._spent += 1
        return self._day

    def refusal(self, seconds_left: float) -> DialRefused:
        return DialRefused(
            "budget",
            429,
            f"today's {self._per_day} calls are used up ({self._where}); the day is UTC's",
            retry_after=seconds_left,
        )

    def give_back(self, day: datetime.date) -> None:
        if day == self._day:
            self._spent -= 1
