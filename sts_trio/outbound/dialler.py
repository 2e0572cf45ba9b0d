"""Calls that we place: who may be dialled, how often, and what became of it.

Theory of operation
-------------------
A request is checked, then stands in line, and has its turn when the last was long enough ago;
Twilio takes one call a second by default, and queues the rest where nobody sees them. It is placed
by a task of the dialler's, not of whoever asked, so that a client that leaves in mid-request cannot
leave behind a call that nobody knows of. One that leaves before its turn is not called for at all.

The request is remembered by a token in the URLs that Twilio is given, since Twilio may ask `/twiml`
before its own answer, with the call's SID, has arrived here; from then on by the SID as well.

Twilio repeats what it thinks unheard, and whoever has caught a signed request may send it again for
ever. What was told before is told to nobody and has nothing done: no second hang-up of one call.

Everything is in the memory of this process: the day's budget, the idempotency keys, the requests.
A restart forgets them, and of several processes behind a proxy each needs an STS_PUBLIC_URL of its
own (a prefix will do), so that Twilio comes back to the one that placed the call.
"""

import collections
import datetime
import enum
import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
import structlog
import trio

from sts_trio.call.info import OUR_PARAMETERS
from sts_trio.config import Config
from sts_trio.config.variables import NUMBER, shown
from sts_trio.errors import DialRefused, StsTrioError, TwilioFailed
from sts_trio.observe.feed import EventFeed, call_event
from sts_trio.outbound.twilio_rest import Placed, TwilioRest
from sts_trio.wire import webhook

TWIML_PATH = "/twiml"
STATUS_PATH = "/twiml/status"
AMD_PATH = "/twiml/amd"
# Names the request in the queries of these.
TOKEN = "outbound"

# Seconds until one's turn, after which a client or a proxy has given up.
LONGEST_WAIT = 30.0
# Twilio rings for a minute, "a few seconds are added", and a status callback may get lost.
RINGING = 70.0
# Requests that are remembered: one a second, and calls of a quarter of an hour. The oldest go.
REMEMBERED = 1000
# Things that Twilio has told, some six of a call: at one call a second, those of half an hour.
TOLD = 10_000
# In a request that nobody has signed, a word may be longer than any SID or status.
MAX_WORD = 64
# Keys are remembered for a day, which may have the budgets of two days in it: 10000 each at most.
KEY_LIFETIME = 24 * 3600.0
# Of our own making, so bounded.
MAX_PARAMETERS = 20
MAX_MESSAGE = 3000  # Twilio's limit for the stricter voices (warning 13521)

_KEY = re.compile("[!-~]{1,255}")
_DAY = datetime.timedelta(days=1)
_A_NUMBER = "a number like +15005550006"

_logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class OnMachine(enum.Enum):
    """What to do when a machine answers."""

    HANG_UP = "hang_up"
    LEAVE_MESSAGE = "leave_message"  # after the beep


class Order(msgspec.Struct, frozen=True):
    """A call that was asked for, checked."""

    to: str
    agent: str
    parameters: dict[str, str]
    on_machine: OnMachine
    message: str


class LiveCalls(Protocol):
    """What the dialler needs of `sts_trio.bridge.live_calls.LiveCalls`."""

    @property
    def event_feed(self) -> EventFeed: ...
    @property
    def live(self) -> int: ...
    @property
    def is_draining(self) -> bool: ...


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Dialler:
    """Run it once, for as long as the server lives."""

    def __init__(
        self,
        config: Config,
        rest: TwilioRest,
        live_calls: LiveCalls,
        *,
        utc_now: Callable[[], datetime.datetime] = _utc_now,
    ) -> None:
        self._config = config
        self._rest = rest
        self._live_calls = live_calls
        self._budget = _Budget(config.dial_per_day, utc_now)
        self._pause = 1 / config.dials_per_second
        self._line: collections.deque[_Attempt] = collections.deque()
        self._has_line = trio.Event()
        self._keys: collections.OrderedDict[str, _Attempt] = collections.OrderedDict()
        self._remembered: collections.OrderedDict[str, _Remembered] = collections.OrderedDict()
        self._tokens: dict[str, str] = {}  # {call SID: token}
        self._told: collections.OrderedDict[tuple[str, ...], None] = collections.OrderedDict()
        self._nursery: trio.Nursery

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Places what stands in line, in order, each when its turn has come."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                while not self._line:
                    self._has_line = trio.Event()
                    await self._has_line.wait()
                attempt = self._line.popleft()
                if self._is_wanted(attempt):
                    self._nursery.start_soon(self._run_attempt, attempt)
                    await trio.sleep(self._pause)

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
            order = self._checked(to, agent, parameters, on_machine, message)
            attempt = self._attempt_at(order, idempotency_key)
        except DialRefused as exc:
            _logger.warning("dial.refused", why=exc.why, reason=str(exc), to=to[:32])
            raise
        attempt.waiting += 1
        try:
            await attempt.done.wait()
        finally:
            attempt.waiting -= 1
        return attempt.result()

    def _checked(
        self,
        to: str,
        agent: str | None,
        parameters: Mapping[str, str] | None,
        on_machine: OnMachine,
        message: str | None,
    ) -> Order:
        faults = {
            "to": None if re.fullmatch(NUMBER, to) else f"expected {_A_NUMBER}, got {shown(to)}",
            "agent": self._agent_fault(agent),
            "parameters": _parameters_fault(parameters or {}),
            "message": _message_fault(on_machine, message),
        }
        fields = {name: fault for name, fault in faults.items() if fault is not None}
        if fields:
            told = "; ".join(f"{name}: {fault}" for name, fault in fields.items())
            raise DialRefused("invalid", 400, told, fields=fields)
        if missing := self._missing():
            if not self._config.dial_prefixes:
                missing.append("STS_DIAL_PREFIXES")
            raise DialRefused(
                "not_configured", 503, f"no call can be placed: set {', '.join(missing)}"
            )
        if not self._config.dial_prefixes:
            raise DialRefused(
                "prefix",
                403,
                "nothing may be dialled: set STS_DIAL_PREFIXES to the beginnings of the numbers"
                " that may, such as +1",
            )
        if not self._config.may_dial(to):
            raise DialRefused(
                "prefix", 403, f"{to} may not be dialled: no prefix in STS_DIAL_PREFIXES allows it"
            )
        # Of an outbound call, `From` is the number of ours that [numbers] may know.
        name = agent or self._config.agent_for(self._config.caller_id or "")
        return Order(to, name, dict(parameters or {}), on_machine, message or "")

    def _agent_fault(self, agent: str | None) -> str | None:
        if agent is None or agent in self._config.agents:
            return None
        return f"expected one of {', '.join(self._config.agents)}, got {shown(agent)}"

    def _missing(self) -> list[str]:
        """The variables without which there is nothing to be placed, or no way back to us."""
        needed = {
            "STS_CALLER_ID": self._config.caller_id,
            "STS_PUBLIC_URL": self._config.public_url,
        }
        return [*self._rest.missing, *(name for name, value in needed.items() if value is None)]

    def _attempt_at(self, order: Order, key: str | None) -> "_Attempt":
        """The attempt that this is about: one that is known by its key, or a new one, in line."""
        digest = hashlib.sha256(msgspec.json.encode(order, order="sorted")).digest()
        if key is not None:
            if not _KEY.fullmatch(key):
                what = "expected 1 to 255 visible ASCII characters"
                raise DialRefused("invalid", 400, f"Idempotency-Key: {what}")
            self._forget_old_keys()
            known = self._keys.get(key)
            if known is not None and known.digest != digest:
                raise DialRefused(
                    "conflict", 409, "this idempotency key was given with another request"
                )
            if known is not None:
                return known
        self._check_lines()
        if len(self._line) * self._pause > LONGEST_WAIT:
            raise DialRefused(
                "rate",
                429,
                f"{len(self._line)} calls stand in line, at {self._config.dials_per_second:g} a"
                " second (STS_DIALS_PER_SECOND): ask again later",
                retry_after=LONGEST_WAIT,
            )
        day = self._budget.spend()
        attempt = _Attempt(order, key, digest, day, trio.current_time())
        if key is not None:
            self._keys[key] = attempt
        self._line.append(attempt)
        self._has_line.set()
        return attempt

    def _check_lines(self) -> None:
        """Raises `DialRefused` if whoever answers could not be talked with."""
        if self._live_calls.is_draining:
            raise _draining()
        calls = self._live_calls.live + self._ringing() + len(self._line)
        if calls >= self._config.max_calls:
            raise DialRefused(
                "full", 503, f"all {self._config.max_calls} lines are busy (STS_MAX_CALLS)"
            )

    def _ringing(self) -> int:
        """Calls that may be answered at any moment."""
        since = trio.current_time() - RINGING
        return sum(
            not each.is_answered and each.placed_at > since for each in self._remembered.values()
        )

    def _forget_old_keys(self) -> None:
        before = trio.current_time() - KEY_LIFETIME
        while self._keys and next(iter(self._keys.values())).asked_at <= before:
            self._keys.popitem(last=False)

    # --- placing it -------------------------------------------------------------------------------

    def _is_wanted(self, attempt: "_Attempt") -> bool:
        """Whether it is still to be placed, now that it is its turn."""
        if not attempt.waiting:
            _logger.info("dial.given_up")
            self._settle(attempt, DialRefused("given_up", 503, "nobody waits for this any more"))
            return False
        if self._live_calls.is_draining:
            busy = _draining()
            _logger.warning("dial.refused", why=busy.why, reason=str(busy), to=attempt.order.to)
            self._settle(attempt, busy)
            return False
        return True

    async def _run_attempt(self, attempt: "_Attempt") -> None:
        outcome: Placed | StsTrioError = TwilioFailed(
            "broken off by us; the call may have been placed all the same", is_uncertain=True
        )
        try:
            outcome = await self._create(attempt.order)
        except TwilioFailed as exc:
            _logger.warning("dial.failed", reason=str(exc), uncertain=exc.is_uncertain)
            outcome = exc
        except Exception:
            # A boundary: above this there are only the server and all of its calls.
            _logger.exception("dial.crashed")
        finally:
            self._settle(attempt, outcome)

    async def _create(self, order: Order) -> Placed:
        token = secrets.token_urlsafe(16)
        self._remembered[token] = remembered = _Remembered(token, order, trio.current_time())
        while len(self._remembered) > REMEMBERED:
            self._forget(next(iter(self._remembered.values())))
        base = self._config.public_url
        try:
            placed = await self._rest.create_call(
                to=order.to,
                from_=self._config.caller_id or "",
                url=f"{base}{TWIML_PATH}?{TOKEN}={token}",
                status_callback=f"{base}{STATUS_PATH}?{TOKEN}={token}",
                amd_callback=f"{base}{AMD_PATH}?{TOKEN}={token}",
            )
        except TwilioFailed as exc:
            if not exc.is_uncertain:
                self._forget(remembered)
            raise
        self._find(placed.call_sid, token)
        seconds = round(trio.current_time() - remembered.placed_at, 3)
        _logger.info("dial.placed", call_sid=placed.call_sid, agent=order.agent, seconds=seconds)
        return placed

    def _settle(self, attempt: "_Attempt", outcome: Placed | StsTrioError) -> None:
        """That is what came of it. What surely is no call costs nothing, and may be asked again."""
        attempt.outcome = outcome
        is_uncertain = isinstance(outcome, TwilioFailed) and outcome.is_uncertain
        if not isinstance(outcome, Placed) and not is_uncertain:
            self._budget.give_back(attempt.day)
            if attempt.key is not None:
                self._keys.pop(attempt.key, None)
        attempt.done.set()

    # --- what Twilio tells of it ------------------------------------------------------------------

    def request_of(self, call_sid: str) -> Order | None:
        """What was asked for with that call, if it is one of ours and not over."""
        remembered = self._find(call_sid, "")
        return None if remembered is None else remembered.order

    def answered(self, call_sid: str, token: str) -> Order | None:
        """Twilio asks what to do with the call: somebody answered, or something did."""
        remembered = self._find(call_sid, token)
        if remembered is None:
            if token:
                _logger.warning(
                    "dial.unknown",
                    call_sid=call_sid,
                    reason="placed by another process, or before a restart: the agent is the"
                    " default one, and a machine is hung up on",
                )
            return None
        remembered.is_answered = True
        return remembered.order

    def heard_status(self, voice: webhook.VoiceRequest, token: str) -> None:
        """A call, of ours or not, rings, is answered, is over."""
        remembered = self._find(voice.call_sid, token)
        fields = {
            "status": voice.call_status,
            "seconds": voice.call_duration,
            "sip_response_code": voice.sip_response_code,
        }
        if self._is_news("status", voice.call_sid, voice.call_status):
            self._tell("call.status", voice.call_sid, remembered, fields)
        if voice.is_over and remembered is not None:
            self._forget(remembered)

    def heard_answerer(self, voice: webhook.VoiceRequest, token: str) -> None:
        """It is known who or what answered. On a machine, does what was asked for."""
        remembered = self._find(voice.call_sid, token)
        if self._is_news("answered_by", voice.call_sid, voice.answered_by):
            self._tell("call.answered_by", voice.call_sid, remembered, {"by": voice.answered_by})
        if voice.is_on_machine and self._is_news("machine", voice.call_sid):
            message = ""
            if remembered is not None and voice.takes_message:
                message = remembered.order.message
            self._nursery.start_soon(self._mind_machine, voice.call_sid, message)

    def _is_news(self, *told: str) -> bool:
        """Whether this is told for the first time."""
        news = tuple(word[:MAX_WORD] for word in told)
        if news in self._told:
            return False
        self._told[news] = None
        if len(self._told) > TOLD:
            self._told.popitem(last=False)
        return True

    async def _mind_machine(self, call_sid: str, message: str) -> None:
        did = OnMachine.LEAVE_MESSAGE if message else OnMachine.HANG_UP
        log = _logger.bind(call_sid=call_sid, act=did.value)
        try:
            if message:
                await self._rest.redirect(call_sid, webhook.leave_message(message))
            else:
                await self._rest.hang_up(call_sid)
        except TwilioFailed as exc:
            log.warning("dial.machine_not_minded", reason=str(exc))
        except Exception:
            log.exception("dial.crashed")  # a boundary, as above
        else:
            log.info("dial.machine_minded")

    def _tell(
        self, event: str, call_sid: str, remembered: "_Remembered | None", fields: dict[str, str]
    ) -> None:
        told: dict[str, Any] = {name: value for name, value in fields.items() if value}
        _logger.info(event, call_sid=call_sid, **told)
        at = 0.0 if remembered is None else trio.current_time() - remembered.placed_at
        self._live_calls.event_feed.tell(call_event(call_sid, at, event, told))

    def _find(self, call_sid: str, token: str) -> "_Remembered | None":
        """The request by its token or its call's SID; with both, the one leads to the other."""
        known = token or self._tokens.get(call_sid, "")
        remembered = self._remembered.get(known)
        if remembered is not None and call_sid:
            self._tokens.pop(remembered.call_sid, None)
            self._tokens[call_sid] = known
            remembered.call_sid = call_sid
        return remembered

    def _forget(self, remembered: "_Remembered") -> None:
        self._remembered.pop(remembered.token, None)
        self._tokens.pop(remembered.call_sid, None)


class _Attempt:
    """One call that is to be placed, or was, and who waits for the outcome."""

    def __init__(
        self, order: Order, key: str | None, digest: bytes, day: datetime.date, asked_at: float
    ) -> None:
        self.order = order
        self.key = key
        self.digest = digest
        self.day = day  # whose budget it was taken from
        self.asked_at = asked_at
        self.waiting = 0
        self.done = trio.Event()
        self.outcome: Placed | StsTrioError = StsTrioError("not done yet")

    def result(self) -> Placed:
        """Once it is `done`.

        Raises:
            DialRefused, TwilioFailed: what came of it instead.
        """
        if isinstance(self.outcome, Placed):
            return self.outcome
        # The same exception for whoever asks: else each would leave its traceback in there, for as
        # long as the key is remembered.
        raise self.outcome.with_traceback(None)


class _Remembered:
    """A request whose call may be under way."""

    def __init__(self, token: str, order: Order, placed_at: float) -> None:
        self.token = token
        self.order = order
        self.placed_at = placed_at
        self.call_sid = ""
        self.is_answered = False


class _Budget:
    """So many calls a day, a day being UTC's."""

    def __init__(self, per_day: int, utc_now: Callable[[], datetime.datetime]) -> None:
        self._per_day = per_day
        self._utc_now = utc_now
        self._day = datetime.date.min
        self._spent = 0

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
            raise DialRefused(
                "budget",
                429,
                f"today's {self._per_day} calls are used up (STS_DIAL_PER_DAY); the day is UTC's",
                retry_after=(tomorrow - now).total_seconds(),
            )
        self._spent += 1
        return self._day

    def give_back(self, day: datetime.date) -> None:
        if day == self._day:
            self._spent -= 1


# --- what is wrong with a request -----------------------------------------------------------------


def _draining() -> DialRefused:
    return DialRefused("draining", 503, "the server is shutting down and takes no calls")


def _parameters_fault(parameters: Mapping[str, str]) -> str | None:
    if len(parameters) > MAX_PARAMETERS:
        return f"expected at most {MAX_PARAMETERS}, got {len(parameters)}"
    for name, value in parameters.items():
        if not name or len(name) + len(value) >= webhook.PARAMETER_LIMIT:
            return (
                f"expected a name, and with the value fewer than {webhook.PARAMETER_LIMIT}"
                f" characters, got {shown(name)} with {len(value)}"
            )
        if name in OUR_PARAMETERS:
            return f"{name} is a name of ours: give it another"
    return None


def _message_fault(on_machine: OnMachine, message: str | None) -> str | None:
    if on_machine is OnMachine.HANG_UP:
        return None if not message else "expected only together with on_machine leave_message"
    if not message:
        return "expected what to say after the beep"
    # What XML has to escape grows.
    fits = len(webhook.leave_message(message)) <= webhook.REST_TWIML_LIMIT
    if len(message) > MAX_MESSAGE or not fits:
        return f"expected at most {MAX_MESSAGE} characters, fewer with many of & < >"
    return None
