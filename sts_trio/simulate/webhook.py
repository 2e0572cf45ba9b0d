"""Twilio's request to a voice webhook, and what a simulated caller makes of the TwiML.

Of that, where the call is to be streamed to, and with which parameters. What Twilio would say or
play before is passed over, and what comes after the stream is not asked for.

Sources: Twilio, "TwiML for Programmable Voice" and its error pages, read 2026-11-30.
"""

import re
from collections.abc import Mapping
from urllib.parse import urlencode
from xml.etree import ElementTree

import h11
import msgspec
import trio

from sts_trio.errors import StsTrioError

# "15 s hard limit in all for a voice request" (11205).
ANSWER_TIMEOUT = 15.0
MAX_TWIML = 64 * 1024  # (11750)
# Header fields and the like, of which a hostile server may send without end.
MAX_HEAD = 16 * 1024
RECEIVE = 16 * 1024

# After which Twilio goes on with the next verb.
_IN_PASSING = ("Say", "Play", "Pause")


class NotStreamed(StsTrioError):
    """There is no stream to be had from the webhook; with the `status` if it was HTTP's fault."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class Numbers(msgspec.Struct, frozen=True):
    """Who calls whom, in any of the forms that Twilio has for it."""

    from_: str = "+15005550010"  # both are Twilio's for tests
    to: str = "+15005550006"


NUMBERS = Numbers()


class Streamed(msgspec.Struct, frozen=True):
    """What TwiML says of the stream."""

    url: str
    parameters: dict[str, str]


def form(call_sid: str, account_sid: str, numbers: Numbers = NUMBERS) -> dict[str, str]:
    """What Twilio tells of a call that comes in."""
    return {
        "AccountSid": account_sid,
        "ApiVersion": "2010-04-01",
        "CallSid": call_sid,
        "CallStatus": "ringing",
        "Direction": "inbound",
        "From": numbers.from_,
        "To": numbers.to,
    }


async def ask(
    stream: trio.abc.Stream,
    host: str,
    target: str,
    fields: Mapping[str, str],
    headers: Mapping[str, str],
) -> Streamed:
    """Posts `fields` over a connected stream, and reads the answer. Leaves the stream open.

    Raises:
        NotStreamed: there was no answer, or no call is streamed by it.
    """
    body = bytearray()
    try:
        with trio.fail_after(ANSWER_TIMEOUT):
            status = await _post(stream, host, target, urlencode(fields).encode(), headers, body)
    except trio.TooSlowError:
        raise NotStreamed(f"no answer to the webhook in {ANSWER_TIMEOUT:.0f} s") from None
    except trio.BrokenResourceError as exc:
        raise NotStreamed("no answer to the webhook: the connection broke") from exc
    except h11.RemoteProtocolError as exc:
        raise NotStreamed(f"no HTTP is spoken there: {exc}") from exc
    if status != 200:
        raise NotStreamed(f"HTTP {status}", status)
    return read_twiml(bytes(body))


async def _post(
    stream: trio.abc.Stream,
    host: str,
    target: str,
    content: bytes,
    headers: Mapping[str, str],
    body: bytearray,
) -> int:
    """The status; what the answer holds goes into `body`."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    request = h11.Request(
        method="POST",
        target=target,
        headers=[
            ("Host", host),
            ("User-Agent", "TwilioProxy/1.1"),
            ("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8"),
            ("Content-Length", str(len(content))),
            ("Connection", "close"),
            *headers.items(),
        ],
    )
    events = (request, h11.Data(data=content), h11.EndOfMessage())
    await stream.send_all(b"".join(http.send(event) or b"" for event in events))
    status = 0
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(RECEIVE)))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_TWIML:
                raise NotStreamed(f"the webhook's answer is longer than {MAX_TWIML} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return status


def read_twiml(document: bytes) -> Streamed:
    """Where Twilio would stream the call to.

    Raises:
        NotStreamed: it would do something else, or could not read this.
    """
    try:
        response = ElementTree.fromstring(document)
    except (ElementTree.ParseError, ValueError, LookupError) as exc:  # an encoding there is not
        raise NotStreamed(f"the webhook's answer is no TwiML: {exc}") from None
    for verb in response:
        stream = verb.find("Stream") if verb.tag == "Connect" else None
        if stream is not None:
            given = [(each.get("name", ""), each.get("value", "")) for each in stream]
            return Streamed(stream.get("url", ""), dict(given))
        if verb.tag not in _IN_PASSING:
            # Somebody else's words, which are to be shown.
            tag = verb.tag if re.fullmatch("[A-Za-z]{1,20}", verb.tag) else "something else"
            raise NotStreamed(f"the webhook has no call streamed, but answers {tag}")
    raise NotStreamed("the webhook has no call streamed")
