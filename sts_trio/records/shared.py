"""What processes that share the database do together: the loop's side. Each question has its
thread, and its time. A database that is away, or slow, is answered for by None: whoever asks goes
on by what this process alone knows, and the others are asked again a moment later.
"""

import threading
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, TypeVar

import sqlalchemy as sa
import trio

from sts_trio.net.threads import run_in_thread
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.records import dials, fleet_calls, limits, processes
from sts_trio.records.database import READERS, Database, DatabaseAway
from sts_trio.records.dials import Asked
from sts_trio.records.fleet_calls import FleetCall
from sts_trio.records.process_state import Seen

T = TypeVar("T")

# A caller, or Twilio, waits meanwhile: less than a breath.
WITHIN = 0.25
# Of a call that is to be placed the phone does not ring yet, and money is counted exactly.
DIAL_WITHIN = 2.0
# After a question that was not answered; else each call would wait for its answer anew.
REST = 1.0
# A statement that nobody waits for any more ends by itself.
STATEMENT = 2.0


class Shared:
    """`process_id` is ours."""

    def __init__(self, database: Database, process_id: str) -> None:
        self._database = database
        self._process_id = process_id
        # In SQLite who writes is alone: several threads would only be in each other's way.
        self._threads = trio.CapacityLimiter(READERS if database.is_postgresql else 1)
        self._rests_until = 0.0
        self._asking = 0  # threads, those that nobody waits for any more among them
        self._changed = threading.Condition()

    def close(self) -> None:
        """Waits for questions that are under way. Blocks."""
        with self._changed:
            self._changed.wait_for(lambda: not self._asking, STATEMENT)
        self._database.close()

    async def use_once(self, names: Sequence[str], seconds: float) -> set[str] | None:
        """See `limits.use_once`."""
        return await self._ask(lambda connection: limits.use_once(connection, names, seconds))

    async def others(self) -> list[Seen] | None:
        """The other processes that live."""
        found = await self._ask(processes.seen, DIAL_WITHIN, writes=False)
        return found and [
            each for each in found if each.is_alive and each.process.process_id != self._process_id
        ]

    async def live_calls(self, call_sid: str | None = None) -> list[FleetCall] | None:
        """Those of other processes; or, if it is theirs, the one of that SID."""
        return await self._ask(
            lambda connection: fleet_calls.live_calls(
                connection, but=self._process_id, call_sid=call_sid
            ),
            writes=False,
        )

    # --- calls that are to be placed ------------------------------------------------------------

    async def ask(
        self, token: str, key: str | None, digest: str, request: str, per_day: int
    ) -> Asked | None:
        """See `dials.ask`. Of an answer that comes too late the row stays, and its budget."""
        return await self._ask(
            lambda connection: dials.ask(
                connection,
                token=token,
                key=key,
                digest=digest,
                request=request,
                process_id=self._process_id,
                per_day=per_day,
            ),
            DIAL_WITHIN,
            is_durable=True,
        )

    async def look(self, token: str) -> Asked | None:
        """What came of it; None also where that is not known now."""
        return await self._ask(
            lambda connection: dials.look(connection, token), DIAL_WITHIN, writes=False
        )

    async def settle(self, token: str, call_sid: str | None, outcome: dict[str, Any]) -> None:
        await self._ask(
            lambda connection: dials.settle(connection, token, call_sid, outcome), DIAL_WITHIN
        )

    async def give_up(self, token: str, day: int) -> None:
        await self._ask(lambda connection: dials.give_up(connection, token, day), DIAL_WITHIN)

    async def take_turn(self, per_second: float) -> bool | None:
        """See `limits.take_turn`."""
        return await self._ask(
            lambda connection: limits.take_turn(connection, per_second), DIAL_WITHIN
        )

    async def consult(
        self, token: str, news: Sequence[str], seconds: float
    ) -> tuple[str | None, set[str]] | None:
        """What was asked for with that token, if any, and which of these news nobody has heard."""

        def work(connection: sa.Connection) -> tuple[str | None, set[str]]:
            request = dials.request_of(connection, token) if token else None
            return request, limits.use_once(connection, news, seconds)

        return await self._ask(work, writes=bool(news))

    async def end(self, token: str) -> None:
        """The call of that token is over."""
        await self._ask(lambda connection: dials.end(connection, token))

    # --- sessions with agents -------------------------------------------------------------------

    async def take_sessions(self, count: int, most: int) -> float | None:
        """0: we have so many, see `limits.take_sessions`; `inf`: all are taken. Else for so many
        seconds nobody is to dial."""

        def take(connection: sa.Connection) -> float:
            if (rest := limits.rest_left(connection)) > 0:
                return rest
            is_had = limits.take_sessions(connection, self._process_id, count, most)
            return 0.0 if is_had else inf

        return await self._ask(take)

    async def tell_sessions(self, count: int, rest: float) -> bool:
        """Whether the others know now that we have so many, and that the vendor has refused one:
        for `rest` seconds nobody is to dial."""

        def tell(connection: sa.Connection) -> bool:
            limits.tell_sessions(connection, self._process_id, count)
            if rest > 0:
                limits.rest(connection, rest)
            return True

        return await self._ask(tell, DIAL_WITHIN) is True

    # --------------------------------------------------------------------------------------------

    async def _ask(
        self,
        work: Callable[[sa.Connection], T],
        within: float = WITHIN,
        *,
        is_durable: bool = False,
        writes: bool = True,
    ) -> T | None:
        if trio.current_time() < self._rests_until:
            await trio.lowlevel.checkpoint()
            return None

        until = time.monotonic() + within

        def ask() -> T:
            while True:
                try:
                    if not writes:
                        with self._database.reading(within=STATEMENT) as connection:
                            return work(connection)
                    with self._database.writing(
                        is_durable=is_durable, within=STATEMENT
                    ) as connection:
                        return work(connection)
                except DatabaseAway as exc:
                    # Another process writes. Nothing was done, so it may be tried again.
                    if "locked" not in str(exc) or time.monotonic() > until:
                        raise

        try:
            with trio.move_on_after(within):
                return await run_in_thread(lambda: self._counted(ask), self._threads)
        except DatabaseAway:
            pass
        except sa.exc.SQLAlchemyError:
            report(events.RecordsCrashed(0), exc_info=True)
            return None
        self._rests_until = trio.current_time() + REST
        return None

    def _counted(self, ask: Callable[[], T]) -> T:
        with self._changed:
            self._asking += 1
        try:
            return ask()
        finally:
            with self._changed:
                self._asking -= 1
                self._changed.notify_all()
