"""A mover with a database that tells of one call, and addresses that answer as a test has it."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import trio
from call_stories import NOON, sid

from sts_trio.errors import StsTrioError
from sts_trio.moves.decision import Answer
from sts_trio.moves.mover import Mover
from sts_trio.records.movable import CallState, Claim, Owner
from sts_trio.records.rows import Kind, Row

OTHER = Owner("p1", "s1", "127.0.0.1:1", is_alive=True)
LIVE = CallState(call_sid=sid(1), state="live", process_id="p1", epoch=10, owner=OTHER)
T = TypeVar("T")


class Store:
    """A database that tells of one call. `wins` are whether a claim does, one after another."""

    def __init__(self, state: CallState | None, rows: Sequence[Row] = (), *wins: bool) -> None:
        self.state = state
        self.kept = list(rows)
        self.wins = list(wins)
        self.claims: list[tuple[str, bool, str]] = []
        self.given_up: list[tuple[str, int, str | None]] = []
        self.is_away = False

    def look(self, call_sid: str) -> CallState | None:
        if self.is_away:
            raise StsTrioError("no route to host")
        state = self.state
        return None if state is None else msgspec.structs.replace(state, call_sid=call_sid)

    def claim(self, seen: CallState, by: str, *, is_crash: bool, road: str) -> Claim | None:
        self.claims.append((by, is_crash, road))
        won = self.wins.pop(0) if self.wins else True
        if not won:
            return None
        epoch, now = seen.epoch + 1, NOON + 100.0
        self.kept.append(Row(seen.call_sid, epoch, 0, now, Kind.MOVED, {"is_crash": is_crash}))
        return Claim(epoch, now)

    def give_up(self, call_sid: str, epoch: int, by: str | None) -> bool:
        if self.is_away:
            raise StsTrioError("no route to host")
        self.given_up.append((call_sid, epoch, by))
        return True

    def rows(self, call_sid: str) -> list[Row]:
        if self.is_away:
            raise StsTrioError("no route to host")
        return self.kept


def mover(store: Store, *answers: Answer, left: Sequence[Row] = ()) -> tuple[Mover, list[Owner]]:
    """With what the address answers, the last one for ever."""
    asked: list[Owner] = []

    async def ask(owner: Owner) -> Answer:
        await trio.lowlevel.checkpoint()
        asked.append(owner)
        return answers[min(len(asked), len(answers)) - 1]

    def left_behind(process_id: str, call_sid: str) -> list[Row]:
        return list(left)

    return Mover(store, "me", left_behind, ask=ask, wait_for=at_once), asked


async def at_once(work: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
    """A thread takes no time of a test's clock, which jumps while it is waited for."""
    await trio.lowlevel.checkpoint()
    return work()
