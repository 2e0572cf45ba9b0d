"""Goes on with calls that other processes had: finds out what is to be done, claims, and recalls.

Waits for a database and for other processes, each for a bounded time, so that whoever asks has an
answer before Twilio gives up.
"""

import collections
import functools
import itertools
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

import h11
import msgspec
import trio

from sts_trio.call.info import CallInfo
from sts_trio.errors import StsTrioError
from sts_trio.logic.acts import Recalled
from sts_trio.moves.decision import (
    Answer,
    Apologise,
    AskAddress,
    AskAgain,
    Ended,
    Move,
    Returned,
    decide,
)
from sts_trio.moves.past import recalled
from sts_trio.net import http
from sts_trio.net.threads import run_in_thread
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.records.movable import CallState, Claim, Owner
from sts_trio.records.rows import Kind, Row

# A process that lives answers within milliseconds.
ASK_WITHIN = 0.5
ASK_PATH = "/healthz"
MAX_ANSWER = 64 * 1024
# Seconds from one look to the next, the last one for ever. An ending is written within a tenth of a
# second, and the caller hears nothing meanwhile; the last look comes when there will be none
# (`ENDING_WITHIN`). No more of them than that: a proxy that is started anew has all calls asked
# about at once, and each look is four queries.
PAUSES = (0.05, 0.1, 0.2, 0.15)
# Twilio waits for 15 s.
DECIDE_WITHIN = 10.0
# A lock is over by then, and a server back that was started anew. The caller hears nothing so long.
AWAY_FOR = 3.0
# For the rows of a call, which are read while its stream is there already.
RECALL_WITHIN = 2.0
# A stream comes within a second of our answer, or not at all. Of a long call this is a megabyte.
MAX_EXPECTED = 200
# Threads that ask the database at once: a dead process's calls come all together. Each takes turns
# with the loop, and of four the loop got so few that HAProxy, which waits for a second, took the
# process for dead over a herd of 150, and cut all that it had.
THREADS = 2

# What a row tells of a call that Twilio tells but once.
_GIVEN = ("parameters", "caller_parameters", "caller_name", "forwarded_from")

T = TypeVar("T")
# Who is to go on with a call of that process; None: nobody can.
HeirOf = Callable[[str], Owner | None]


class WaitFor(Protocol):
    """As `run_in_thread`."""

    async def __call__(self, work: Callable[[], T], limiter: trio.CapacityLimiter, /) -> T: ...


class Store(Protocol):
    """What is needed here of `sts_trio.records.store.Store`."""

    def look(self, call_sid: str, /) -> CallState | None: ...
    def claim(self, seen: CallState, by: str, /, *, is_crash: bool, road: str) -> Claim | None: ...
    def give_up(self, call_sid: str, epoch: int, by: str | None, /) -> bool: ...
    def rows(self, call_sid: str, /) -> list[Row]: ...


class Taken(msgspec.Struct, frozen=True):
    """A call that this process goes on with. `how`: `moved` or `recovered`."""

    call_sid: str
    how: str
    claim: Claim
    rows: list[Row]
    account_sid: str = ""  # "": that is not known

    def known(self, call: CallInfo) -> CallInfo:
        """The call as Twilio tells of it now, with what its own webhook was told."""
        for row in self.rows:
            if row.kind in (Kind.ANNOUNCED, Kind.STARTED):
                given = {name: row.body[name] for name in _GIVEN if row.body.get(name)}
                return msgspec.structs.replace(call, **given)
        return call

    @property
    def past(self) -> Recalled:
        return recalled(self.rows, self.lost_at)

    @property
    def lost_at(self) -> float:
        """A process that has let go of it has written when that was."""
        # Behind that row stands the claim's own.
        rows = (row for row in reversed(self.rows) if row.kind is not Kind.MOVED)
        last = next(rows, None) if self.how == "moved" else None
        return last.at if last is not None and last.kind is Kind.ENDED else self.claim.lost_at


Outcome = Taken | Returned | Ended | Apologise


class Mover:
    """`me` is this process's id. `left_behind` reads what a process of this machine has left of a
    call that the database does not have yet: it blocks, as the store does. `ask` and `wait_for` are
    for tests."""

    def __init__(
        self,
        store: Store,
        me: str,
        left_behind: Callable[[str, str], list[Row]],
        *,
        ask: Callable[[Owner], Awaitable[Answer]] | None = None,
        wait_for: WaitFor = run_in_thread,
    ) -> None:
        self._store = store
        self._me = me
        self._left_behind = left_behind
        self._ask = ask or ask_address
        self._wait_for = wait_for
        self._limiter = trio.CapacityLimiter(THREADS)
        self._expected: collections.OrderedDict[str, Recalled] = collections.OrderedDict()
        self._rescued: collections.OrderedDict[str, Taken] = collections.OrderedDict()

    async def decide(
        self, call_sid: str, account_sid: str, road: str, heir_of: HeirOf | None = None
    ) -> Outcome:
        """What becomes of a call whose stream is over, and of which nothing is known here. If it is
        `Taken`, it is claimed, and this process is to go on with it. With `heir_of` another one is:
        then it is claimed for that one, and `Returned`."""
        outcome: Outcome = Apologise(f"the database has not answered for {DECIDE_WITHIN:g} s")
        began = trio.current_time()
        with trio.move_on_after(DECIDE_WITHIN):
            while True:
                try:
                    decided = await self._decide(call_sid, account_sid, road, heir_of=heir_of)
                    assert decided is not None
                    return decided
                except StsTrioError as exc:
                    outcome = Apologise(f"the database is away: {exc}")
                    if trio.current_time() - began >= AWAY_FOR:
                        break
                await trio.sleep(PAUSES[-1])
        return outcome

    async def rescue(
        self, call_sid: str, account_sid: str, road: str, turn: Callable[[], Awaitable[None]]
    ) -> Taken | None:
        """Claims, in its `turn`, a call that has lost its process, and of which Twilio has asked
        nobody. None: it has not, or somebody has it, or nobody is to go on with it, or that cannot
        be known now."""
        try:
            outcome = await self._decide(call_sid, account_sid, road, turn)
        except StsTrioError:
            return None
        if not isinstance(outcome, Taken):
            return None
        # Whoever is asked then, we or another one, the stream is led here.
        _put(self._rescued, call_sid, outcome)
        self.expect(call_sid, outcome.past)
        return outcome

    async def give_up(self, taken: Taken) -> None:
        """Nobody can go on with a call that was claimed for it."""
        self._rescued.pop(taken.call_sid, None)
        give_up = partial(self._store.give_up, taken.call_sid, taken.claim.epoch, self._me)
        try:
            await self._in_thread(give_up)
        except StsTrioError:
            return  # a minute after the claim has run out, somebody else does

    async def _decide(
        self,
        call_sid: str,
        account_sid: str,
        road: str,
        turn: Callable[[], Awaitable[None]] | None = None,
        heir_of: HeirOf | None = None,
    ) -> Outcome | None:
        """With a `turn` nobody has asked, so only what nobody has is taken; None: it is not so."""
        began = trio.current_time()
        pauses = itertools.chain(PAUSES, itertools.repeat(PAUSES[-1]))
        asked: tuple[Owner, Answer] | None = None
        while True:
            seen = await self._in_thread(partial(self._store.look, call_sid))
            if turn is not None and not _is_left(seen, self._me):
                return None
            known = partial(decide, seen, self._me, account_sid=account_sid)
            answer = asked[1] if asked is not None and _has(seen, asked[0]) else None
            decision = known(answer=answer, waited=trio.current_time() - began)
            if isinstance(decision, AskAddress):
                answer = await self._ask(decision.of)
                asked = decision.of, answer
                # By what was seen before: of what has changed since, the claim fails.
                decision = known(answer=answer, waited=trio.current_time() - began)
            match decision:
                case AskAgain():
                    await trio.sleep(next(pauses))
                    asked = None if answer is Answer.SILENT else asked
                case Move(is_crash):
                    assert seen is not None
                    if turn is not None:
                        await turn()
                    if heir_of is not None:
                        heir = heir_of(seen.owner_id)
                        if heir is None:
                            return Apologise("there is no room for it in any process")
                        claim = partial(self._store.claim, seen, heir.process_id)
                        if await self._in_thread(partial(claim, is_crash=is_crash, road=road)):
                            return Returned(heir)
                        continue
                    taken = await self._in_thread(
                        partial(self._take, seen, is_crash=is_crash, road=road)
                    )
                    if taken is not None:
                        return self._as_rescued(taken)
                case Returned() | Ended() | Apologise():
                    return decision

    def expect(self, call_sid: str, past: Recalled) -> None:
        """The stream of that call is about to come."""
        _put(self._expected, call_sid, past)

    def _as_rescued(self, taken: Taken) -> Taken:
        """As it was when it was claimed first: by then it is known how it was lost."""
        rescued = self._rescued.pop(taken.call_sid, None)
        is_same = rescued is not None and rescued.claim.epoch == taken.claim.epoch
        return rescued if rescued is not None and is_same else taken

    async def recall(self, call_sid: str, lost_at: float) -> Recalled:
        """What was before. It is known unless another process was asked about the call, or nobody
        was; what cannot be found out now is forgotten: the caller has an agent all the same."""
        await trio.lowlevel.checkpoint()
        if (past := self._expected.pop(call_sid, None)) is not None:
            return past
        rows: list[Row] = []
        with trio.move_on_after(RECALL_WITHIN):
            try:
                rows = await self._in_thread(partial(self._store.rows, call_sid))
            except StsTrioError as exc:
                report(events.CallNotRecalled(call_sid, str(exc)))
        return recalled(rows, lost_at)

    def _take(self, seen: CallState, *, is_crash: bool, road: str) -> Taken | None:
        """In a thread."""
        claim = self._store.claim(seen, self._me, is_crash=is_crash, road=road)
        if claim is None:
            return None
        rows = {(row.epoch, row.seq): row for row in self._store.rows(seen.call_sid)}
        if is_crash:
            left = self._left_behind(seen.process_id, seen.call_sid)
            rows |= {(row.epoch, row.seq): row for row in left}
        known = [rows[place] for place in sorted(rows)]
        how = "recovered" if is_crash else "moved"
        return Taken(seen.call_sid, how, claim, known, seen.account_sid)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await self._wait_for(work, self._limiter)


def _put(kept: "collections.OrderedDict[str, T]", call_sid: str, what: T) -> None:
    """The oldest goes where there are too many."""
    kept[call_sid] = what
    kept.move_to_end(call_sid)
    while len(kept) > MAX_EXPECTED:
        kept.popitem(last=False)


def _is_left(seen: CallState | None, me: str) -> bool:
    """Whether it may be that nobody has it, and nobody has been asked."""
    return (
        seen is not None
        and seen.state in ("live", "moving")
        and seen.claimed_by is None
        and seen.process_id != me
    )


def _has(seen: CallState | None, owner: Owner) -> bool:
    """Whether it is that process which has the call."""
    return seen is not None and seen.owner_id == owner.process_id


async def ask_address(owner: Owner) -> Answer:
    """Whether that process still lives where it has told that it does."""
    host, _, port = owner.address.rpartition(":")
    if not host or not port.isdigit():
        return Answer.SILENT
    with trio.move_on_after(ASK_WITHIN):
        for tls in (False, True):  # it has not told which of the two it speaks
            try:
                return await _ask_at(host.strip("[]"), int(port), owner, tls=tls)
            except ConnectionRefusedError:
                return Answer.REFUSED
            except (OSError, trio.BrokenResourceError, h11.RemoteProtocolError, http.TooLong):
                continue
    return Answer.SILENT


async def _ask_at(host: str, port: int, owner: Owner, *, tls: bool) -> Answer:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with trio.socket.socket(family) as connection:
        await connection.connect((host, port))
        stream: trio.abc.Stream = trio.SocketStream(connection)
        if tls:
            # No secret is told, and a lie keeps a call waiting that whoever lies could have cut.
            stream = trio.SSLStream(stream, _believing(), server_hostname=host)
        told = await http.ask(stream, "GET", ASK_PATH, {"Host": owner.address}, longest=MAX_ANSWER)
    try:
        process_id = msgspec.json.decode(told.body, type=_Health).process
    except msgspec.DecodeError:
        return Answer.OTHER
    # An older version does not tell.
    return Answer.SAME if process_id in ("", owner.process_id) else Answer.OTHER


class _Health(msgspec.Struct):
    status: str
    process: str = ""


@functools.cache
def _believing() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which has no authorities to load
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
