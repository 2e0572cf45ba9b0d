"""A call that a bridge places by REST: what it asks for, and who is called. Pure.

Sources: Twilio, "Call resource" and "Answering machine detection", read 2026-11-30.
"""

from collections.abc import Mapping, Sequence

import msgspec

from sts_trio.errors import StsTrioError
from sts_trio.simulate.connect import HTTP, NotAUrl, parts_of
from sts_trio.simulate.script import Step
from sts_trio.wire.webhook import REST_TWIML_LIMIT

# "Default is 60 seconds, the maximum is 600."
RINGING, MOST_RINGING = 60.0, 600.0

# Twilio's errors: no number, none to call from, no URL, a value that is none, TwiML too long.
NO_TO, NO_FROM, BAD_URL, BAD_VALUE, LONG_TWIML = 21201, 21213, 21205, 20001, 32018
NOT_FOLLOWED = 0  # of this carrier's own

_KNOWN = frozenset(
    {"To", "From", "Url", "Twiml", "Method", "FallbackUrl", "Timeout", "MachineDetection"}
    | {"StatusCallback", "StatusCallbackEvent", "StatusCallbackMethod"}
    | {"AsyncAmd", "AsyncAmdStatusCallback", "AsyncAmdStatusCallbackMethod"}
)
_EVENTS = frozenset({"initiated", "ringing", "answered", "completed"})


class Callee(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whom a bridge may call, and what they do when they have answered."""

    steps: Sequence[Step] = ()
    answers_after: float = 2.0  # seconds; `math.inf`: nobody is there
    is_busy: bool = False
    # Twilio's word for who or what has answered, and after how many seconds that is known.
    answered_by: str = "human"
    known_after: float = 1.0
    limit: float = 120.0  # seconds until they hang up, whatever is said


class NotPlaced(StsTrioError):
    """Twilio would not call; with the `code` of its error."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """What `POST …/Calls.json` asks for. Either `url` or `twiml` tells how the call goes on."""

    to: str
    from_: str
    url: str = ""
    method: str = "POST"
    twiml: str = ""
    fallback: str = ""
    status_callback: str = ""
    status_callback_method: str = "POST"
    events: frozenset[str] = frozenset({"completed"})
    timeout: float = RINGING
    detects: bool = False  # whether it is a human, or a machine
    amd_callback: str = ""  # else the URL is asked when that is known
    amd_callback_method: str = "POST"


def read(form: Mapping[str, Sequence[str]]) -> Placement:
    """What a form asks for: {name: values}.

    Raises:
        NotPlaced: Twilio would refuse it, or this carrier does not know one of its fields: a test
            must not pass because something was left out.
    """
    given = {name: values[0] for name, values in form.items()}
    unknown = sorted(given.keys() - _KNOWN)
    if unknown:
        raise NotPlaced(NOT_FOLLOWED, f"the simulated carrier does not know {', '.join(unknown)}")
    if not given.get("To"):
        raise NotPlaced(NO_TO, "No 'To' number specified")
    if not given.get("From"):
        raise NotPlaced(NO_FROM, "A 'From' phone number is required")
    url, twiml = given.get("Url", ""), given.get("Twiml", "")
    if len(twiml) > REST_TWIML_LIMIT:
        raise NotPlaced(LONG_TWIML, f"Twiml is longer than {REST_TWIML_LIMIT} characters")
    try:
        if url or not twiml:
            parts_of(url, HTTP)
    except NotAUrl:
        raise NotPlaced(BAD_URL, "Url is not a valid URL") from None
    events = frozenset(form.get("StatusCallbackEvent", ("completed",)))
    if not events <= _EVENTS:
        raise NotPlaced(NOT_FOLLOWED, f"StatusCallbackEvent: expected {', '.join(sorted(_EVENTS))}")
    is_async = given.get("AsyncAmd") == "true"
    return Placement(
        to=given["To"],
        from_=given["From"],
        url=url,
        method=given.get("Method", "POST"),
        twiml="" if url else twiml,  # "If both are given, Url wins."
        fallback=given.get("FallbackUrl", ""),
        status_callback=given.get("StatusCallback", ""),
        status_callback_method=given.get("StatusCallbackMethod", "POST"),
        events=events,
        timeout=_timeout(given.get("Timeout")),
        detects="MachineDetection" in given,
        amd_callback=given.get("AsyncAmdStatusCallback", "") if is_async else "",
        amd_callback_method=given.get("AsyncAmdStatusCallbackMethod", "POST"),
    )


def _timeout(given: str | None) -> float:
    if given is None:
        return RINGING
    if not given.isdecimal() or not 1 <= int(given[:4]) <= MOST_RINGING:
        raise NotPlaced(BAD_VALUE, f"Timeout: expected 1 to {MOST_RINGING:g}")
    return float(given)
