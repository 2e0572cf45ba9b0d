"""TwiML as a carrier reads it: a document becomes steps, in order. Pure.

What is read is whatever a bridge answers. So entities are refused with the DOCTYPE that declares
them, a document is no longer than Twilio takes, and an attribute that is not as documented is the
document's fault. A verb that Twilio knows and this carrier does not becomes `NotFollowed`, where
the call ends and says so: a test must not pass because something was left out.

Sources: Twilio, "TwiML for Programmable Voice", its verbs, and its error pages, read 2026-11-30.
"""

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import msgspec

from sts_trio.errors import StsTrioError

MAX_TWIML = 64 * 1024  # (11750)
# "For each <Parameter>, name and value together must be under 500 characters."
PARAMETER_LIMIT = 500

# What Twilio's debugger has for a document that is none.
TOO_LONG, UNREADABLE, NO_RESPONSE, NOT_VALID, NO_TWIML = 11750, 12100, 12102, 12200, 12300

_XML = ("text/xml", "application/xml", "text/html")


class NotTwiml(StsTrioError):
    """Twilio could not execute this; with the `code` of its error."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class Say(msgspec.Struct, frozen=True):
    text: str
    loop: int = 1


class Play(msgspec.Struct, frozen=True):
    """The audio at `url`, or `digits` as tones for the far end."""

    url: str
    digits: str = ""
    loop: int = 1


class Pause(msgspec.Struct, frozen=True):
    length: float = 1.0


class Redirect(msgspec.Struct, frozen=True):
    url: str
    method: str = "POST"


class Reject(msgspec.Struct, frozen=True):
    reason: str = "rejected"


class Hangup(msgspec.Struct, frozen=True):
    pass


class Dial(msgspec.Struct, frozen=True, kw_only=True):
    """Rings all of `numbers` at once."""

    numbers: tuple[str, ...]
    action: str = ""
    method: str = "POST"
    timeout: float = 30.0
    time_limit: float = 14400.0
    caller_id: str = ""


class Enqueue(msgspec.Struct, frozen=True, kw_only=True):
    queue: str
    action: str = ""
    method: str = "POST"


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    parameters: dict[str, str] = {}
    name: str = ""
    status_callback: str = ""
    status_callback_method: str = "POST"


class Connect(msgspec.Struct, frozen=True, kw_only=True):
    stream: Stream
    action: str = ""
    method: str = "POST"


class NotFollowed(msgspec.Struct, frozen=True):
    """A verb, or a noun in one, that the simulated carrier does not know."""

    tag: str


Step = Say | Play | Pause | Redirect | Reject | Hangup | Dial | Enqueue | Connect | NotFollowed


def read(document: bytes, content_type: str = "text/xml") -> tuple[Step, ...]:
    """The steps of an answer to a voice webhook, which is of a kind that Twilio takes.

    Raises:
        NotTwiml: Twilio would not execute it.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _XML:
        return _steps(document)
    if kind == "text/plain":
        try:
            return _steps(document)
        except NotTwiml:
            return (Say(document.decode(errors="replace").strip()),)
    raise NotTwiml(NO_TWIML, f"{kind[:60]!r} is no content type of TwiML")


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, *_: object) -> None:
        raise NotTwiml(UNREADABLE, "no TwiML: it has a DOCTYPE")


def _steps(document: bytes) -> tuple[Step, ...]:
    if len(document) > MAX_TWIML:
        raise NotTwiml(TOO_LONG, f"longer than {MAX_TWIML} bytes")
    try:
        parser = ElementTree.XMLParser(target=_Builder())
        parser.feed(document)
        response = parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as exc:  # an encoding there is not
        raise NotTwiml(UNREADABLE, f"no TwiML: {exc}") from None
    if response.tag != "Response":
        raise NotTwiml(NO_RESPONSE, f"no TwiML: its root is {_shown(response.tag)}, not Response")
    return tuple(map(_step, response))


def _step(verb: ElementTree.Element) -> Step:
    read_verb = _VERBS.get(verb.tag)
    return NotFollowed(_shown(verb.tag)) if read_verb is None else read_verb(_Attributes(verb))


class _Attributes:
    """Those of an element, checked as they are asked for."""

    def __init__(self, element: ElementTree.Element) -> None:
        self.element = element

    def text(self, name: str, default: str = "") -> str:
        return self.element.get(name, default)

    def one_of(self, name: str, default: str, *others: str) -> str:
        value = self.text(name, default)
        if value not in (default, *others):
            raise self.fault(name, value, f"one of {', '.join((default, *others))}")
        return value

    @property
    def method(self) -> str:
        return self.one_of("method", "POST", "GET")

    def number(self, name: str, default: float) -> float:
        value = self.text(name)
        if value and not re.fullmatch(r"[0-9]{1,6}", value):
            raise self.fault(name, value, "a number")
        return float(value) if value else default

    def fault(self, name: str, value: str, expected: str) -> NotTwiml:
        tag = self.element.tag
        return NotTwiml(NOT_VALID, f"<{tag} {name}={value[:40]!r}>: expected {expected}")

    @property
    def content(self) -> str:
        return "".join(self.element.itertext()).strip()


def _say(given: _Attributes) -> Step:
    return Say(given.content, int(given.number("loop", 1)))


def _play(given: _Attributes) -> Step:
    digits = given.text("digits")
    if not digits and not given.content:
        raise NotTwiml(NOT_VALID, "<Play>: expected a URL, or digits")
    if not re.fullmatch("[0-9*#wWA-Da-d]*", digits):
        raise given.fault("digits", digits, "keys, and w for a pause")
    return Play(given.content, digits, int(given.number("loop", 1)))


def _pause(given: _Attributes) -> Step:
    return Pause(given.number("length", 1))


def _redirect(given: _Attributes) -> Step:
    return Redirect(given.content, given.method)


def _reject(given: _Attributes) -> Step:
    return Reject(given.one_of("reason", "rejected", "busy"))


def _hangup(given: _Attributes) -> Step:
    return Hangup()


# What a <Dial> may ring, and how that is told of in `To`.
_PARTIES = {"Number": "", "Client": "client:", "Sip": ""}


def _dial(given: _Attributes) -> Step:
    for noun in given.element:
        if noun.tag not in _PARTIES:
            return NotFollowed(f"Dial><{_shown(noun.tag)}")
    numbers = [_PARTIES[noun.tag] + _Attributes(noun).content for noun in given.element]
    return Dial(
        numbers=tuple(each for each in (numbers or [given.content]) if each),
        action=given.text("action"),
        method=given.method,
        timeout=given.number("timeout", 30),
        time_limit=given.number("timeLimit", 14400),
        caller_id=given.text("callerId"),
    )


def _enqueue(given: _Attributes) -> Step:
    return Enqueue(queue=given.content, action=given.text("action"), method=given.method)


def _connect(given: _Attributes) -> Step:
    nouns = list(given.element)
    if not nouns:
        raise NotTwiml(NOT_VALID, "<Connect>: expected a <Stream> in it")
    if nouns[0].tag != "Stream":
        return NotFollowed(f"Connect><{_shown(nouns[0].tag)}")
    return Connect(
        stream=_stream(_Attributes(nouns[0])), action=given.text("action"), method=given.method
    )


def _stream(given: _Attributes) -> Stream:
    given.one_of("track", "inbound_track")  # (31941)
    parameters = {}
    for each in given.element.iter("Parameter"):
        name, value = each.get("name", ""), each.get("value", "")
        if not name or len(name) + len(value) >= PARAMETER_LIMIT:
            raise NotTwiml(
                NOT_VALID,
                f"<Parameter name={name[:40]!r}>: expected a name, and with its value fewer than"
                f" {PARAMETER_LIMIT} characters",
            )
        parameters[name] = value
    return Stream(
        url=given.text("url"),
        parameters=parameters,
        name=given.text("name"),
        status_callback=given.text("statusCallback"),
        status_callback_method=given.one_of("statusCallbackMethod", "POST", "GET"),
    )


_VERBS: dict[str, Callable[[_Attributes], Step]] = {
    "Say": _say,
    "Play": _play,
    "Pause": _pause,
    "Redirect": _redirect,
    "Reject": _reject,
    "Hangup": _hangup,
    "Dial": _dial,
    "Enqueue": _enqueue,
    "Connect": _connect,
}


def _shown(tag: Any) -> str:
    """Somebody else's words, which are to be shown."""
    fits = isinstance(tag, str) and re.fullmatch("[A-Za-z]{1,30}", tag)
    return str(tag) if fits else "something else"
