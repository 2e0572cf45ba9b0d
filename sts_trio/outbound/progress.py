"""What becomes of the calls that we have placed: what Twilio tells of each, and what is done then.

A request is remembered by a token in the URLs that Twilio is given, since Twilio may ask `/twiml`
before its own answer, with the call's SID, has arrived here; from then on by the SID as well.

Twilio repeats what it thinks unheard, and a client that has caught a signed request may send it
again for ever. A repetition is published to nobody and does nothing: no second hang-up of one call.

What Twilio tells may come to any process that shares the database: `consult` has each know what the
others do, before it is told.
"""

import collections
import functools
import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
import trio

from sts_trio.errors import TwilioFailed
from sts_trio.observe import events
from sts_trio.observe.feed import Tell, call_event
from sts_trio.observe.report import report
from sts_trio.outbound.requests import DialRequest, OnMachine
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.wire import webhook

if TYPE_CHECKING:
    from sts_trio.records.shared import Shared

TWIML_PATH = "/twiml"
STATUS_PATH = "/twiml/status"
AMD_PATH = "/twiml/amd"
# Names the request in the queries of these.
TOKEN = "outbound"

# Twilio rings for a minute, "a few seconds are added", and a status callback may get lost.
RINGING = 70.0
# Requests that are remembered: one a second, and calls of a quarter of an hour. The oldest go.
REMEMBERED = 1000
# Things that Twilio has told, some six of a call: at one call a second, those of half an hour.
TOLD = 10_000
# Twilio repeats what it thinks unheard within minutes.
NEWS_FOR = 3600.0
# Ours have 22 letters.
MAX_TOKEN = 64
# In a request that nobody has signed, a word may be longer than any SID or status.
MAX_WORD = 64


class PlacedCalls:
    """The calls that may be under way.

    `start_soon` starts what takes longer than a webhook may wait: it has to run as long as the
    server does.
    """

    def __init__(
        self,
        rest: TwilioRest,
        tell: Tell,
        start_soon: Callable[[Callable[[], Awaitable[None]]], None],
        shared: "Callable[[], Shared | None]" = lambda: None,
    ) -> None:
        self._shared = shared
        self._rest = rest
        self._tell = tell
        self._start_soon = start_soon
        self._calls: collections.OrderedDict[str, _PlacedCall] = collections.OrderedDict()
        self._tokens: dict[str, str] = {}  # {call SID: token}
        self._told: collections.OrderedDict[tuple[str, ...], None] = collections.OrderedDict()

    def remember(self, token: str, request: DialRequest) -> "_PlacedCall":
        """From now on Twilio may ask for the call; of too many, the oldest are forgotten."""
        self._calls[token] = placed = _PlacedCall(token, request, trio.current_time())
        while len(self._calls) > REMEMBERED:
            self.forget(next(iter(self._calls.values())))
        return placed

    def ringing(self) -> int:
        """How many may be answered at any moment."""
        since = trio.current_time() - RINGING
        return sum(not each.is_answered and each.placed_at > since for each in self._calls.values())

    def request_of(self, call_sid: str) -> DialRequest | None:
        """What was asked for with that call, if it is one of ours and not over."""
        placed = self.find(call_sid, "")
        return None if placed is None else placed.request

    def answered(self, call_sid: str, token: str) -> DialRequest | None:
        """Twilio asks what to do with the call: somebody answered, or something did."""
        placed = self.find(call_sid, token)
        if placed is None:
            if token:
                reason = (
                    "placed by another process, or before a restart: the agent is the"
                    " default one, and a machine is hung up on"
                )
                report(events.DialUnknown(call_sid, reason))
            return None
        placed.is_answered = True
        return placed.request

    async def consult(self, token: str, *news: tuple[str, ...]) -> None:
        """Twilio asks, or tells this, and perhaps the call is another process's: what is known of
        it there is known here then. Waits for a quarter of a second at most; then, and where there
        is no other process, what is known here decides."""
        shared = self._shared()
        unheard = [told for each in news if (told := _cut(each)) not in self._told]
        is_known = not token or token in self._calls
        if shared is None or (is_known and not unheard):
            return
        names = {_name(told): told for told in unheard}
        found = await shared.consult("" if is_known else token[:MAX_TOKEN], list(names), NEWS_FOR)
        if found is None:
            return
        request, unused = found
        if request is not None and token not in self._calls:
            known = self.remember(token, msgspec.json.decode(request, type=DialRequest))
            known.is_answered = True  # or rings for the process that has placed it, which counts it
        for name in names.keys() - unused:
            self._note(names[name])

    def heard_status(self, voice: webhook.VoiceRequest, token: str) -> None:
        """A call, of ours or not, rings, is answered, is over."""
        placed = self.find(voice.call_sid, token)
        if self._is_news(*of_status(voice)):
            event = events.CallStatus(
                voice.call_status, voice.call_duration or None, voice.sip_response_code or None
            )
            self._report(event, voice.call_sid, placed)
        if voice.is_over and placed is not None:
            self.forget(placed)
            if (shared := self._shared()) is not None:
                self._start_soon(functools.partial(shared.end, placed.token))

    def heard_transfer(self, voice: webhook.VoiceRequest) -> None:
        """A call, of ours or not, was connected with another number, and that is over."""
        if self._is_news("transfer", voice.call_sid, voice.dial_call_status):
            placed = self.find(voice.call_sid, "")
            ended = events.CallTransferEnded(voice.dial_call_status[:MAX_WORD])
            self._report(ended, voice.call_sid, placed)

    def heard_answerer(self, voice: webhook.VoiceRequest, token: str) -> None:
        """It is known who or what answered. On a machine, does what was asked for."""
        placed = self.find(voice.call_sid, token)
        answered, *machine = of_answerer(voice)
        if self._is_news(*answered):
            self._report(events.CallAnsweredBy(voice.answered_by), voice.call_sid, placed)
        if machine and self._is_news(*machine[0]):
            message = ""
            if placed is not None and voice.takes_message:
                message = placed.request.message
            self._start_soon(functools.partial(self._handle_machine, voice, message))

    def _is_news(self, *told: str) -> bool:
        """Whether this is told for the first time."""
        news = _cut(told)
        is_news = news not in self._told
        if is_news:
            self._note(news)
        return is_news

    def _note(self, news: tuple[str, ...]) -> None:
        self._told[news] = None
        if len(self._told) > TOLD:
            self._told.popitem(last=False)

    async def _handle_machine(self, voice: webhook.VoiceRequest, message: str) -> None:
        act = (OnMachine.LEAVE_MESSAGE if message else OnMachine.HANG_UP).value
        call_sid, account_sid = voice.call_sid, voice.account_sid
        try:
            if message:
                twiml = webhook.leave_message(message)
                is_done = await self._rest.redirect(call_sid, twiml, account_sid)
            else:
                is_done = await self._rest.hang_up(call_sid, account_sid)
        except TwilioFailed as exc:
            report(events.DialMachineNotHandled(call_sid, act, str(exc)))
        except Exception:
            report(events.DialCrashed(call_sid, act), exc_info=True)  # a boundary, as above
        else:
            # A machine, too, hangs up, or its caller does.
            done = events.DialMachineHandled if is_done else events.DialMachineGone
            report(done(call_sid, act))

    def _report(self, event: events.OfCall, call_sid: str, placed: "_PlacedCall | None") -> None:
        report(event, call_sid=call_sid)
        at = 0.0 if placed is None else trio.current_time() - placed.placed_at
        self._tell(call_event(call_sid, at, event))

    def find(self, call_sid: str, token: str) -> "_PlacedCall | None":
        """The request by its token or its call's SID; with both, the one leads to the other."""
        known = token or self._tokens.get(call_sid, "")
        placed = self._calls.get(known)
        if placed is not None and call_sid:
            self._tokens.pop(placed.call_sid, None)
            self._tokens[call_sid] = known
            placed.call_sid = call_sid
        return placed

    def forget(self, placed: "_PlacedCall") -> None:
        self._calls.pop(placed.token, None)
        self._tokens.pop(placed.call_sid, None)


def of_status(voice: webhook.VoiceRequest) -> tuple[str, ...]:
    """What is told by a status callback, for `consult`."""
    return ("status", voice.call_sid, voice.call_status)


def of_answerer(voice: webhook.VoiceRequest) -> list[tuple[str, ...]]:
    """What is told once it is known who answered, and what is done then."""
    heard: list[tuple[str, ...]] = [("answered_by", voice.call_sid, voice.answered_by)]
    return [*heard, ("machine", voice.call_sid)] if voice.is_on_machine else heard


def _cut(told: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word[:MAX_WORD] for word in told)


def _name(told: tuple[str, ...]) -> str:
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()


class _PlacedCall:
    """A request whose call may be under way."""

    def __init__(self, token: str, request: DialRequest, placed_at: float) -> None:
        self.token = token
        self.request = request
        self.placed_at = placed_at
        self.call_sid = ""
        self.is_answered = False
