"""The queue of calls that are to be placed.

Theory of operation
-------------------
A request is checked, then queued, and has its turn when the last was long enough ago; Twilio takes
one call a second by default, and queues the rest where nobody sees them. A task of the dialler's
places it, not the task of whoever asked, so that a client that leaves in mid-request cannot leave
behind a call that nobody knows of. A request whose client leaves before its turn is not placed.

The day's budget, the idempotency keys, the pace and the requests are in the memory of this process,
and in the database, where there is one: there they are those of all processes that share it, and of
the next start. A key that another process has is waited for there. While the database is away each
process goes on by what it has itself counted and heard.
"""

import collections
import datetime
import functools
import hashlib
import hmac
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec
import trio

from sts_trio.call.info import CallInfo
from sts_trio.config import Config
from sts_trio.errors import DialRefused, StsTrioError, TwilioFailed
from sts_trio.observe import events
from sts_trio.observe.feed import EventFeed
from sts_trio.observe.report import report
from sts_trio.outbound.attempt import Attempt, read_outcome, told
from sts_trio.outbound.budget import Budget, utc_now
from sts_trio.outbound.progress import AMD_PATH, STATUS_PATH, TOKEN, TWIML_PATH, PlacedCalls
from sts_trio.outbound.requests import DialRequest, OnMachine, checked
from sts_trio.outbound.twilio_rest import Placed, TwilioRest
from sts_trio.wire.addresses import OUTBOUND

# Seconds until one's turn, after which a client or a proxy has given up.
LONGEST_WAIT = 30.0
# Keys are remembered for a day, which may have the budgets of two days in it: 10000 each at most.
KEY_LIFETIME = 24 * 3600.0
# The database itself is asked for no longer than two seconds.
TOGETHER_WITHIN = 5.0
# How often another process is looked after that is placing the same call, and for how long: until
# its turn, and then what Twilio takes to answer.
FOLLOW_EVERY = 0.5
FOLLOW_FOR = LONGEST_WAIT + 30.0

_KEY = re.compile("[!-~]{1,255}")

if TYPE_CHECKING:
    from sts_trio.records.dials import Asked
    from sts_trio.records.shared import Shared


class LiveCalls(Protocol):
    """What the dialler needs of `sts_trio.bridge.live_calls.LiveCalls`."""

    @property
    def event_feed(self) -> EventFeed: ...
    @property
    def live(self) -> int: ...
    @property
    def is_draining(self) -> bool: ...


class Dialler:
    """Run it once, for as long as the server lives. `placed` knows what became of the calls, and
    `on_placed` is told of each that Twilio has taken. `shared` is what other processes know, if
    there may be any."""

    def __init__(
        self,
        config: Config,
        rest: TwilioRest,
        live_calls: LiveCalls,
        *,
        on_placed: Callable[[CallInfo], None] = lambda call: None,
        shared: "Callable[[], Shared | None]" = lambda: None,
        utc_now: Callable[[], datetime.datetime] = utc_now,
    ) -> None:
        self._on_placed = on_placed
        self._config = config
        self._rest = rest
        self._live_calls = live_calls
        self._budget = Budget(config.dial_per_day, utc_now, config.where("STS_DIAL_PER_DAY"))
        self._pause = 1 / config.dials_per_second
        self._shared = shared
        self._queue: collections.deque[Attempt] = collections.deque()
        self._entering = 0  # attempts that are about to be queued
        self._has_queued = trio.Event()
        self._keys: collections.OrderedDict[str, Attempt] = collections.OrderedDict()
        self._nursery: trio.Nursery
        self.placed = PlacedCalls(rest, live_calls.event_feed.tell, self._start_soon, shared)

    @property
    def placed_today(self) -> int:
        """Calls of the day's budget that are taken."""
        return self._budget.spent

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Places what is queued, in order, each when its turn has come."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                while not self._queue:
                    self._has_queued = trio.Event()
                    await self._has_queued.wait()
                attempt = self._queue.popleft()
                if not self._is_wanted(attempt):
                    continue
                await self._take_turn()
                if self._is_wanted(attempt):
                    self._nursery.start_soon(self._run_attempt, attempt)
                    await trio.sleep(self._pause)

    async def _take_turn(self) -> None:
        """Waits for one: all processes together place no more calls in a second than one may."""
        shared = self._shared()
        # Whoever is away says nothing, and our own pace is kept in any case.
        while shared is not None and await shared.take_turn(1 / self._pause) is False:  # noqa: ASYNC110
            await trio.sleep(self._pause * random.uniform(0.2, 0.6))

    def _start_soon(self, run: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(run)

    # --- asking for a call ------------------------------------------------------------------------

    async def place(
        self,
        to: str,
        *,
        agent: str | None = None,
        parameters: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        on_machine: OnMachine = OnMachine.HANG_UP,
        message: str | None = None,
    ) -> Placed:
        """Has Twilio call `to`, when it is this call's turn; whoever answers talks with `agent`.

        Cancelled before its turn there will be no call, after that there may be. The same request
        with the same key within 24 hours is the same call: nobody is called twice, however often
        and however soon it is asked for.

        Raises:
            DialRefused: we will not, or not now.
            TwilioFailed: Twilio will not; if it `is_uncertain`, the call may be under way.
        """
        try:
            request = checked(
                self._config, to, agent, parameters, on_machine, message, missing=self._missing()
            )
            attempt, is_new = self._attempt_at(request, idempotency_key)
        except DialRefused as exc:
            report(events.DialRefused(exc.why, str(exc), to[:32]))
            raise
        attempt.waiting += 1
        try:
            if is_new:
                await self._enter(attempt)
            await attempt.done.wait()
        finally:
            attempt.waiting -= 1
        return attempt.result()

    def _missing(self) -> list[str]:
        """The variables without which there is nothing to be placed, or no way back to us."""
        needed = {
            "STS_CALLER_ID": self._config.caller_id,
            "STS_PUBLIC_URL": self._config.public_url,
        }
        return [*self._rest.missing, *(name for name, value in needed.items() if value is None)]

    def _attempt_at(self, request: DialRequest, key: str | None) -> tuple[Attempt, bool]:
        """The attempt that this is about: one that is known by its key, or a new one, which is to
        be entered."""
        digest = b""
        if key is not None:
            if not _KEY.fullmatch(key):
                what = "expected 1 to 255 visible ASCII characters"
                raise DialRefused("invalid", 400, f"Idempotency-Key: {what}")
            # Keyed: others keep it too, and a number is soon guessed from a mere hash.
            asked = msgspec.json.encode(request, order="sorted")
            digest = hmac.digest(key.encode(), asked, hashlib.sha256)
            self._forget_old_keys()
            known = self._keys.get(key)
            if known is not None and known.digest != digest:
                raise _conflict()
            if known is not None:
                return known, False
        self._check_lines()
        if self._waiting * self._pause > LONGEST_WAIT:
            raise DialRefused(
                "rate",
                429,
                f"{self._waiting} calls are queued, at {self._config.dials_per_second:g} a"
                f" second ({self._config.where('STS_DIALS_PER_SECOND')}): ask again later",
                retry_after=LONGEST_WAIT,
            )
        day = self._budget.spend()
        attempt = Attempt(request, key, digest, day, trio.current_time())
        if key is not None:
            self._keys[key] = attempt
        return attempt, True

    @property
    def _waiting(self) -> int:
        return len(self._queue) + self._entering

    def _check_lines(self) -> None:
        """Raises `DialRefused` if whoever answers could not be talked with."""
        if self._live_calls.is_draining:
            raise _draining()
        calls = self._live_calls.live + self.placed.ringing() + self._waiting
        if calls >= self._config.max_calls:
            raise DialRefused(
                "full",
                503,
                f"all {self._config.max_calls} lines are busy"
                f" ({self._config.where('STS_MAX_CALLS')})",
            )

    # --- together with other processes ------------------------------------------------------------

    async def _enter(self, attempt: Attempt) -> None:
        """Puts it in line, unless another process has the key, or all have used the budget up."""
        shared = self._shared()
        if shared is None:
            self._enqueue(attempt)
            return
        self._entering += 1
        try:
            # What it takes is to be known of.
            asked = None
            with trio.move_on_after(TOGETHER_WITHIN, shield=True):
                asked = await shared.ask(
                    attempt.token,
                    None if attempt.key is None else _hashed(attempt.key),
                    attempt.digest.hex(),
                    msgspec.json.encode(attempt.told).decode(),
                    self._config.dial_per_day,
                )
        finally:
            self._entering -= 1
        if asked is None or asked.is_new:
            attempt.day_of_all = None if asked is None else asked.day
            self._enqueue(attempt)
        elif asked.is_other_request:
            self._refuse(attempt, _conflict())
        elif asked.used_up_for is not None:
            self._refuse(attempt, self._budget.refusal(asked.used_up_for))
        else:
            self._start_soon(functools.partial(self._follow, attempt, asked))

    def _enqueue(self, attempt: Attempt) -> None:
        self._queue.append(attempt)
        self._has_queued.set()

    def _refuse(self, attempt: Attempt, refusal: DialRefused) -> None:
        report(events.DialRefused(refusal.why, str(refusal), attempt.request.to))
        self._settle(attempt, refusal)

    async def _follow(self, attempt: Attempt, asked: "Asked") -> None:
        """Another process has the key: what comes of it there is what comes of it here."""
        shared = self._shared()
        outcome: Placed | StsTrioError = TwilioFailed(
            "another process is placing it, and has not told what came of it", is_uncertain=True
        )
        with trio.move_on_after(FOLLOW_FOR):
            while shared is not None:
                if asked.may_be_asked:
                    await self._enter(attempt)
                    return
                if asked.outcome is not None:
                    outcome = read_outcome(asked.outcome)
                    break
                if asked.is_gone:
                    outcome = TwilioFailed(
                        "its process is gone; the call may have been placed all the same",
                        is_uncertain=True,
                    )
                    break
                await trio.sleep(FOLLOW_EVERY)
                asked = await shared.look(asked.token) or asked
        self._budget.give_back(attempt.day)
        attempt.outcome = outcome
        attempt.done.set()

    async def _tell_others(
        self, shared: "Shared", attempt: Attempt, outcome: Placed | None
    ) -> None:
        # Were it not done, the others would have to think that there may be a call.
        with trio.move_on_after(TOGETHER_WITHIN, shield=True):
            if outcome is None and not attempt.is_uncertain:
                await shared.give_up(attempt.token, attempt.day_of_all or 0)
            else:
                sid = None if outcome is None else outcome.call_sid
                await shared.settle(attempt.token, sid, told(attempt.outcome))

    def _forget_old_keys(self) -> None:
        before = trio.current_time() - KEY_LIFETIME
        while self._keys and next(iter(self._keys.values())).asked_at <= before:
            self._keys.popitem(last=False)

    # --- placing it -------------------------------------------------------------------------------

    def _is_wanted(self, attempt: Attempt) -> bool:
        """Whether it is still to be placed, now that it is its turn."""
        if not attempt.waiting:
            report(events.DialGivenUp())
            self._settle(attempt, DialRefused("given_up", 503, "nobody waits for this any more"))
            return False
        if self._live_calls.is_draining:
            self._refuse(attempt, _draining())
            return False
        return True

    async def _run_attempt(self, attempt: Attempt) -> None:
        outcome: Placed | StsTrioError = TwilioFailed(
            "broken off by us; the call may have been placed all the same", is_uncertain=True
        )
        try:
            outcome = await self._create(attempt.token, attempt.request)
        except TwilioFailed as exc:
            report(events.DialFailed(str(exc), exc.is_uncertain))
            outcome = exc
        except Exception:
            # A boundary: above this there are only the server and all of its calls.
            report(events.DialCrashed(), exc_info=True)
        finally:
            self._settle(attempt, outcome)

    async def _create(self, token: str, request: DialRequest) -> Placed:
        remembered = self.placed.remember(token, request)
        base = self._config.public_url
        try:
            placed = await self._rest.create_call(
                to=request.to,
                from_=self._config.caller_id or "",
                url=f"{base}{TWIML_PATH}?{TOKEN}={token}",
                status_callback=f"{base}{STATUS_PATH}?{TOKEN}={token}",
                amd_callback=f"{base}{AMD_PATH}?{TOKEN}={token}",
            )
        except TwilioFailed as exc:
            if not exc.is_uncertain:
                self.placed.forget(remembered)
            raise
        self.placed.find(placed.call_sid, token)
        self._on_placed(
            CallInfo(
                call_sid=placed.call_sid,
                from_=self._config.caller_id or "",
                to=request.to,
                direction=OUTBOUND,
                agent=request.agent,
                parameters=dict(request.parameters),
            )
        )
        seconds = round(trio.current_time() - remembered.placed_at, 3)
        report(events.DialPlaced(placed.call_sid, request.agent, seconds))
        return placed

    def _settle(self, attempt: Attempt, outcome: Placed | StsTrioError) -> None:
        """That is what came of it. What surely is no call costs nothing, and may be asked again."""
        attempt.outcome = outcome
        placed = outcome if isinstance(outcome, Placed) else None
        if placed is None and not attempt.is_uncertain:
            self._budget.give_back(attempt.day)
            if attempt.key is not None:
                self._keys.pop(attempt.key, None)
        attempt.done.set()
        shared = self._shared()
        if shared is not None and attempt.day_of_all is not None:
            self._start_soon(functools.partial(self._tell_others, shared, attempt, placed))


def _hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _conflict() -> DialRefused:
    return DialRefused("conflict", 409, "this idempotency key was given with another request")


def _draining() -> DialRefused:
    return DialRefused("draining", 503, "the server is shutting down and takes no calls")
