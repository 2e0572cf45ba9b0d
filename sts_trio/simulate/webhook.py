"""A carrier's request to a webhook, with what Twilio does when it fails.

"15 s hard limit in all for a voice request." Within it a URL's fragment may ask for other limits
and for repetition, `#rc=3&rp=all&ct=1000`; it is neither sent nor signed. A repetition has the same
`I-Twilio-Idempotency-Token`.

Sources: Twilio, "Webhooks: connection overrides", "TwiML for Programmable Voice" and its error
pages, read 2026-11-30.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, urldefrag, urlencode, urljoin, urlsplit, urlunsplit

import h11
import msgspec
import trio

from sts_trio.errors import StsTrioError
from sts_trio.net import http
from sts_trio.simulate.connect import (
    HTTP,
    NotAUrl,
    NotConnected,
    connect,
    host_of,
    key_for,
    parts_of,
    target_of,
)
from sts_trio.simulate.twiml import MAX_TWIML

ANSWER_TIMEOUT = 15.0
MAX_REDIRECTS = 10  # (11215)

# Twilio's errors of a request.
NOT_FETCHED, TIMED_OUT, REDIRECTED, NO_URL, BAD_POLICY = 11200, 11205, 11215, 11100, 11243

# The headers that a request for this URL, with this form if it is a webhook's, is signed with.
Sign = Callable[[str, Mapping[str, str]], Mapping[str, str]]


class NotAnswered(StsTrioError):
    """No webhook's answer was to be had: Twilio's `code`, and the `status` if it was HTTP's."""

    def __init__(self, code: int, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.status = status


class Numbers(msgspec.Struct, frozen=True):
    """Who calls whom, in any of the forms that Twilio has for it."""

    from_: str = "+15005550010"  # both are Twilio's for tests
    to: str = "+15005550006"


NUMBERS = Numbers()


def form(
    call_sid: str,
    account_sid: str,
    numbers: Numbers = NUMBERS,
    *,
    status: str = "ringing",
    direction: str = "inbound",
) -> dict[str, str]:
    """What Twilio tells of a call in each request."""
    return {
        "AccountSid": account_sid,
        "ApiVersion": "2010-04-01",
        "CallSid": call_sid,
        "CallStatus": status,
        "Direction": direction,
        "From": numbers.from_,
        "To": numbers.to,
    }


class Overrides(msgspec.Struct, frozen=True):
    """How long a request may take, in seconds, and after what it is repeated."""

    connect: float = 5.0
    read: float = 15.0
    total: float = ANSWER_TIMEOUT
    repeats: int = 1
    # "4xx", "5xx", "ct" (no connection), "rt" (no answer)
    after: frozenset[str] = frozenset({"ct"})


_KINDS = frozenset({"4xx", "5xx", "ct", "rt"})
_LIMITS = {"ct": (100, 10000), "rt": (100, 15000), "tt": (100, 15000), "rc": (0, 5)}


def overrides(fragment: str) -> Overrides:
    """What a URL's fragment asks for; what it leaves out is as Twilio has it.

    Raises:
        NotAnswered: it asks for what there is not.
    """
    given = dict(parse_qsl(fragment))
    numbers: dict[str, int] = {}
    for name, (least, most) in _LIMITS.items():
        if (value := given.get(name)) is None:
            continue
        if not re.fullmatch("[0-9]{1,5}", value) or not least <= int(value) <= most:
            raise NotAnswered(BAD_POLICY, f"#{name}={value[:20]}: expected {least} to {most}")
        numbers[name] = int(value)
    kinds = frozenset(given.get("rp", "ct").split(","))
    if "all" in kinds:
        kinds = _KINDS
    if not kinds <= _KINDS:
        raise NotAnswered(BAD_POLICY, f"#rp={given['rp'][:20]}: expected 4xx, 5xx, ct, rt or all")
    default = Overrides()
    return Overrides(
        connect=numbers["ct"] / 1000 if "ct" in numbers else default.connect,
        read=numbers["rt"] / 1000 if "rt" in numbers else default.read,
        total=numbers["tt"] / 1000 if "tt" in numbers else default.total,
        repeats=numbers.get("rc", default.repeats),
        after=kinds,
    )


class _Failed(Exception):
    """An attempt came to nothing: of which kind, for the policy, and how it is told."""

    def __init__(self, kind: str, told: NotAnswered) -> None:
        super().__init__(kind)
        self.kind = kind
        self.told = told


class _Request(msgspec.Struct, frozen=True):
    """One of a webhook, however often it is tried. `longest`: bytes of an answer."""

    url: str
    fields: Mapping[str, str]
    method: str
    wanted: Overrides
    longest: int
    token: str


class Webhooks:
    """Asks as one account does. `sign` makes headers for a URL and a form; `pause` is between two
    attempts."""

    def __init__(
        self, sign: Sign | None, headers: Mapping[str, str] | None = None, *, pause: float = 0.0
    ) -> None:
        self._sign = sign
        self._headers = headers or {}
        self._pause = pause

    async def ask(
        self, url: str, fields: Mapping[str, str], method: str = "POST", *, longest: int = MAX_TWIML
    ) -> http.Answer:
        """What the webhook answers.

        Raises:
            NotAnswered: it did not, in time and with success.
        """
        url, fragment = urldefrag(url)
        wanted = overrides(fragment)
        request = _Request(url, fields, method, wanted, longest, token=str(uuid.uuid4()))
        told: NotAnswered | None = None
        with trio.move_on_after(wanted.total):
            for attempt in range(1 + wanted.repeats):
                if attempt:
                    await trio.sleep(self._pause)
                try:
                    return await self._follow(request)
                except _Failed as exc:
                    told = exc.told
                    if exc.kind not in wanted.after:
                        break
        raise told or NotAnswered(TIMED_OUT, f"no answer to the webhook in {wanted.total:g} s")

    async def _follow(self, request: _Request) -> http.Answer:
        for _ in range(1 + MAX_REDIRECTS):
            answer = await self._attempt(request)
            if answer.status < 300:
                return answer
            elsewhere = answer.headers.get("location", "")
            if answer.status not in (301, 302, 303, 307, 308) or not elsewhere:
                kind = "5xx" if answer.status >= 500 else "4xx"
                status = answer.status
                raise _Failed(kind, NotAnswered(NOT_FETCHED, f"HTTP {status}", status))
            url, _ = urldefrag(urljoin(request.url, elsewhere))
            method = "GET" if answer.status < 304 else request.method
            request = msgspec.structs.replace(request, url=url, method=method)
        raise _Failed("", NotAnswered(REDIRECTED, f"more than {MAX_REDIRECTS} redirections"))

    async def _attempt(self, request: _Request) -> http.Answer:
        url, wanted = request.url, request.wanted
        body = b""
        if request.method == "GET":
            parts = urlsplit(url)
            query = "&".join(filter(None, (parts.query, urlencode(request.fields))))
            url = urlunsplit(parts._replace(query=query))
        else:
            body = urlencode(request.fields).encode()
        try:
            parts, port = parts_of(url, HTTP)
        except NotAUrl as exc:
            raise _Failed("", NotAnswered(NO_URL, str(exc))) from None
        try:
            is_secure = parts.scheme == "https"
            stream = await connect(parts.hostname or "", port, is_secure, wanted.connect)
        except NotConnected as exc:
            raise _Failed("ct", NotAnswered(NOT_FETCHED, str(exc))) from None
        signed = {} if self._sign is None else self._sign(url, request.fields if body else {})
        headers = {
            "Host": host_of(parts),
            "User-Agent": "TwilioProxy/1.1",
            "I-Twilio-Idempotency-Token": request.token,
            **({"Content-Type": FORM} if body else {}),
            **key_for(stream),
            **self._headers,
            **signed,
        }
        try:
            with trio.fail_after(wanted.read):
                return await http.ask(
                    stream,
                    request.method,
                    target_of(parts),
                    headers,
                    body,
                    longest=request.longest,
                )
        except trio.TooSlowError:
            reason = f"no answer to the webhook in {wanted.read:g} s"
            raise _Failed("rt", NotAnswered(TIMED_OUT, reason)) from None
        except http.TooLong:
            reason = f"the webhook's answer is longer than {request.longest} bytes"
            raise _Failed("", NotAnswered(NOT_FETCHED, reason)) from None
        except trio.BrokenResourceError:
            reason = "no answer to the webhook: the connection broke"
            raise _Failed("rt", NotAnswered(NOT_FETCHED, reason)) from None
        except h11.RemoteProtocolError as exc:
            reason = f"no HTTP is spoken there: {exc}"
            raise _Failed("rt", NotAnswered(NOT_FETCHED, reason)) from None
        finally:
            await trio.aclose_forcefully(stream)


FORM = "application/x-www-form-urlencoded; charset=UTF-8"
