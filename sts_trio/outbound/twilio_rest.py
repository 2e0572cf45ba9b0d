"""Twilio's REST API: place a call, give a live one other TwiML, hang up. The only `twilio.rest`.

The package is synchronous, so each request runs in a worker thread, of which there are few. Trio
waits and repeats: what Twilio turned away (429) always, what found no answer or a fault of Twilio's
only where asking twice does no harm. A call is never asked for twice when the first may have been
placed: the API has no key by which Twilio would know one for the other.

One answer has one meaning. 21220 alone says that a call is over. 20404 says that the account asked
for has no such call: it is another account's, and may well go on. So each call is asked for under
the account that it is of, if that is known: a parent's credentials are good for its subaccounts.

`TWILIO_REGION` and `TWILIO_EDGE` are the package's own, and read by it.

Sources: Twilio, "Call resource", "Twilio's response" and "Subaccounts", read 2026-11-25.
"""

import math
import random
import re
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import trio

from sts_trio.errors import TwilioFailed
from sts_trio.net.threads import run_in_thread
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.wire.webhook import REST_TWIML_LIMIT

if TYPE_CHECKING:
    from sts_trio.config import Config

T = TypeVar("T")

API = "https://api.twilio.com"
# Within Twilio's answer times there is a factor of ten; a caller waits for some of these.
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 15.0
# So that callers who are told goodbye at once are hung up on at once: a request takes 0.2 s, at
# times 1 s, and a call waits 5 s for its turn and its answer.
THREADS = 16
# Seconds to wait before asking again, each up to twice as long: together 7 to 14.
BACKOFF = (1.0, 2.0, 4.0)
# A client that is told to come back later than this is gone by then.
MAX_WAIT = 30.0

_CALL_SID = re.compile("CA[0-9a-fA-F]{32}")
_ACCOUNT_SID = re.compile("AC[0-9a-fA-F]{32}")
_NOT_IN_PROGRESS = 21220
_NOT_FOUND = 20404
_TOO_MANY = 20429
_DENIED = 20003
# For a log line, whatever a proxy in between may answer.
_MAX_TEXT = 500

# Of those that an account has: what a person looks through.
MAX_NUMBERS = 50


class Placed(msgspec.Struct, frozen=True):
    """A call that Twilio has taken on."""

    call_sid: str
    status: str  # "queued"


class Account(msgspec.Struct, frozen=True):
    status: str  # "active", "suspended" or "closed"
    type: str  # "Full" or "Trial"


class Number(msgspec.Struct, frozen=True):
    number: str
    voice_url: str  # where its calls are asked about; "": nowhere


class TwilioRest:
    """One account's calls, and those of its subaccounts. Without SID or token, every request fails
    and says what to set.

    `api` is for tests; `jitter` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        account_sid: str | None,
        auth_token: str | None,
        *,
        api: str = API,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        given = {"TWILIO_ACCOUNT_SID": account_sid, "TWILIO_AUTH_TOKEN": auth_token}
        self.missing = tuple(name for name, value in given.items() if not value)
        self._account_sid = account_sid
        self._auth_token = auth_token
        self.api = api  # until the first request
        self._jitter = jitter
        self._limiter = trio.CapacityLimiter(THREADS)
        self._lock = threading.Lock()
        self._client: Any = None

    @classmethod
    def of(cls, config: "Config") -> "TwilioRest":
        """For the configured account. Of several tokens, the first is the one in force."""
        return cls(config.twilio_account_sid, next(iter(config.twilio_auth_tokens), None))

    async def create_call(
        self, *, to: str, from_: str, url: str, status_callback: str, amd_callback: str
    ) -> Placed:
        """Has Twilio call `to`, and ask `url` for TwiML once that is answered.

        Who or what answered is told to `amd_callback` when it is known, which with a machine is
        when it has said its greeting; until then the TwiML runs as it would for a human.

        Raises:
            TwilioFailed: there is no such call, or, if it `is_uncertain`, there may be one.
        """
        call = await self._request(
            lambda client: client.calls.create(
                to=to,
                from_=from_,
                url=url,
                method="POST",
                status_callback=status_callback,
                status_callback_method="POST",
                status_callback_event=["initiated", "ringing", "answered", "completed"],
                machine_detection="DetectMessageEnd",
                async_amd="true",
                async_amd_status_callback=amd_callback,
                async_amd_status_callback_method="POST",
            ),
            is_repeatable=False,
        )
        if not isinstance(call.sid, str) or not _CALL_SID.fullmatch(call.sid):
            raise TwilioFailed(
                "an answer without a call SID; the call may have been placed all the same",
                is_uncertain=True,
            )
        return Placed(call.sid, str(call.status or "queued"))

    async def redirect(self, call_sid: str, twiml: str, account_sid: str = "") -> bool:
        """Has the call go on with `twiml`, which ends its stream. False if the call is over.

        `account_sid` is the account that the call is of, if it is not ours.

        Raises:
            TwilioFailed: it goes on as it was, as far as is known.
            ValueError: the TwiML is longer than Twilio takes.
        """
        if len(twiml) > REST_TWIML_LIMIT:
            raise ValueError(
                f"{len(twiml)} characters of TwiML: Twilio takes {REST_TWIML_LIMIT} here"
            )
        return await self._update(call_sid, account_sid, twiml=twiml)

    async def have_asked(self, call_sid: str, url: str, account_sid: str = "") -> bool:
        """Has the call go on with what `url` answers, which ends its stream. False if the call is
        over. Else as `redirect`."""
        return await self._update(call_sid, account_sid, url=url, method="POST")

    async def hang_up(self, call_sid: str, account_sid: str = "") -> bool:
        """Ends the call. False if it is over already.

        Raises:
            TwilioFailed: it may go on.
        """
        return await self._update(call_sid, account_sid, status="completed")

    async def account(self) -> Account:
        """How the account is. Raises `TwilioFailed`."""
        sid = self._account_sid or ""
        told = await self._request(
            lambda client: client.api.accounts(sid).fetch(), is_repeatable=True
        )
        return Account(str(told.status), str(told.type))

    async def numbers(self) -> list[Number]:
        """Those of the account, the first `MAX_NUMBERS`. Raises `TwilioFailed`."""
        told = await self._request(
            lambda client: client.incoming_phone_numbers.list(limit=MAX_NUMBERS),
            is_repeatable=True,
        )
        return [Number(str(each.phone_number), str(each.voice_url or "")) for each in told]

    async def _update(self, call_sid: str, account_sid: str, **changes: str) -> bool:
        # They become parts of a URL. Simulated calls have other ones.
        if not _CALL_SID.fullmatch(call_sid):
            raise TwilioFailed(f"{call_sid[:40]!r} is no call of Twilio's")
        if account_sid and not _ACCOUNT_SID.fullmatch(account_sid):
            raise TwilioFailed(f"{account_sid[:40]!r} is no account of Twilio's")
        account_sid = account_sid or self._account_sid or ""
        try:
            await self._request(
                lambda client: client.api.accounts(account_sid).calls(call_sid).update(**changes),
                is_repeatable=True,
            )
        except TwilioFailed as exc:
            if exc.code == _NOT_IN_PROGRESS:
                return False
            raise self._explained(exc, account_sid) from None
        return True

    def _explained(self, failed: TwilioFailed, account_sid: str) -> TwilioFailed:
        """With what to look at, if it is the account that is not right."""
        if account_sid != self._account_sid and failed.status in (401, 403, 404):
            asks = "is that a subaccount of TWILIO_ACCOUNT_SID?"
            return failed.with_hint(f"the call is of {account_sid}: {asks}")
        if failed.code == _NOT_FOUND:
            return failed.with_hint(f"{account_sid} has no such call, it is of another account")
        return failed

    async def _request(self, ask: Callable[[Any], T], *, is_repeatable: bool) -> T:
        """Asks until there is an answer worth having. Cancelled, a thread may finish unheeded."""
        if self.missing:
            raise TwilioFailed(f"the REST API needs an account: set {' and '.join(self.missing)}")
        backoffs = iter(BACKOFF)
        while True:
            try:
                return await run_in_thread(lambda: self._ask(ask), self._limiter)
            except TwilioFailed as exc:
                backoff = next(backoffs, math.inf) * (1 + self._jitter())
                wait = _wait_after(exc, backoff, is_repeatable)
                if wait > MAX_WAIT:
                    raise
                report(events.TwilioRetried(exc.status, wait, exc.code))
            await trio.sleep(wait)

    def _ask(self, ask: Callable[[Any], T]) -> T:
        """In a worker thread."""
        with self._lock:
            if self._client is None:
                self._client = _make_client(self._account_sid, self._auth_token, self.api)
        try:
            return ask(self._client)
        except ValueError as exc:  # of a proxy that answers 200 with a page, for instance
            raise TwilioFailed(
                "an answer that is no JSON; it may have been done all the same", is_uncertain=True
            ) from exc


def _wait_after(failed: TwilioFailed, backoff: float, is_repeatable: bool) -> float:
    """Seconds until this may be asked again; endless if it must not be.

    429 says that nothing was done. No answer and a fault of Twilio's say nothing of the sort.
    """
    if backoff == math.inf:
        return math.inf
    if failed.status == 429 or failed.code == _TOO_MANY:
        return backoff if failed.retry_after is None else failed.retry_after
    if is_repeatable and (failed.status == 0 or failed.status >= 500):
        return backoff
    return math.inf


# --- in a worker thread ---------------------------------------------------------------------------


def _make_client(account_sid: str | None, auth_token: str | None, api: str) -> Any:
    # Imported here: it takes long, and brings an HTTP stack that only these few requests need.
    import requests
    from twilio.http.http_client import TwilioHttpClient  # type: ignore[import-untyped]
    from twilio.rest import Client  # type: ignore[import-untyped]

    http = TwilioHttpClient()
    # The package's own keeps a few connections, and what is beyond them is made anew each time.
    http.session.mount(api, requests.adapters.HTTPAdapter(pool_maxsize=THREADS))
    return Client(account_sid, auth_token, http_client=_Http(http, api))


class _Http:
    """The package's extension point: its own HTTP client, with time limits, and with every failure
    told as ours. The package's exceptions know no headers, and so no `Retry-After`."""

    def __init__(self, client: Any, api: str) -> None:
        self._client = client
        self._api = api

    def request(self, method: str, url: str, **options: Any) -> Any:
        import requests

        # The package takes one number for the limit, requests takes two.
        self._client.timeout = (CONNECT_TIMEOUT, READ_TIMEOUT)
        url = url.replace(API, self._api, 1)
        try:
            response = self._client.request(method, url, **options)
        except requests.RequestException as exc:
            raise _no_answer(exc) from None
        if response.status_code >= 300:
            raise _refused(response.status_code, response.headers or {}, response.text)
        return response


def _no_answer(exc: Exception) -> TwilioFailed:
    """What the HTTP library says, without its text, which tells the address of an object."""
    import requests
    from urllib3.exceptions import NewConnectionError

    reason = getattr(exc.args[0] if exc.args else None, "reason", None)
    if isinstance(exc, requests.ConnectTimeout) or isinstance(reason, NewConnectionError):
        return TwilioFailed(f"cannot be reached ({_why(exc)}), so nothing was done")
    what = f"no answer within {READ_TIMEOUT:g} s"
    if not isinstance(exc, requests.Timeout):
        what = f"the connection broke ({_why(exc)})"
    return TwilioFailed(f"{what}; it may have been done all the same", is_uncertain=True)


def _why(exc: BaseException) -> str:
    """The operating system's words for it, if they are somewhere in there."""
    inner: BaseException | None = exc
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return str(inner.strerror)
        inner = inner.__cause__ or inner.__context__
    return type(exc).__name__


class _Body(msgspec.Struct):
    """Twilio's error, in both of its forms; newer APIs have a `title` (RFC 9457)."""

    code: int | None = None
    message: str = ""
    title: str = ""


def _refused(status: int, headers: Mapping[str, str], text: str) -> TwilioFailed:
    try:
        body = msgspec.json.decode(text, type=_Body)
    except msgspec.MsgspecError:
        body = _Body()
    message = (body.message or body.title or "no reason was given")[:_MAX_TEXT]
    if body.code == _DENIED or status == 401:
        message += "; TWILIO_ACCOUNT_SID and the first TWILIO_AUTH_TOKEN have to be of one account"
    is_uncertain = status >= 500
    if is_uncertain:
        message += "; it may have been done all the same"
    # Names of headers are of any case, and so is the mapping that requests has for them.
    after = headers.get("Retry-After", "")
    return TwilioFailed(
        message,
        status=status,
        code=body.code,
        is_uncertain=is_uncertain,
        retry_after=float(after) if re.fullmatch("[0-9]{1,9}", after) else None,
    )
