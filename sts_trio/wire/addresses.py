"""The forms in which Twilio writes who calls and who is called. Pure.

`+15005550006`                 a phone number (E.164)
`sip:+15005550006@host;a=b`    a SIP address; its user part may be a number
`whatsapp:+15005550006`        a number, reached by WhatsApp
`client:ann`                   somebody with the Voice SDK; what is behind the colon is any name
`anonymous`, `+266696687`, …   who does not want to be known: a word, or a number that spells one

And which of the two is ours: `To` of a call that comes in, `From` of one that we, or a `<Dial>`,
have placed. Source: Twilio, "Request parameters" of the voice webhook, read 2026-11-30.
"""

import re
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import unquote

import msgspec

T = TypeVar("T")

# The direction of a call. The second was placed, by us or by somebody else by REST.
INBOUND = "inbound"
OUTBOUND = "outbound-api"

# Up to 15 digits behind the plus, the first of the country code (ITU-T E.164).
NUMBER = r"\+[1-9][0-9]{1,14}"

# ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN and UNAVAILABLE on a phone's keys.
_WITHHELD = {"+266696687", "+7378742833", "+2562533", "+8656696", "+86282452253"}

_FORM = re.compile(r"\s*(?P<scheme>[a-z]+):(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_SCHEMES_OF_NUMBERS = ("tel", "whatsapp")


class Parties(msgspec.Struct, frozen=True):
    """Who talks with whom, each as Twilio writes it."""

    ours: str
    theirs: str

    @classmethod
    def of(cls, direction: str, from_: str, to: str) -> "Parties":
        return cls(to, from_) if direction in ("", INBOUND) else cls(from_, to)


def is_number(address: str) -> bool:
    """Whether it is a plain phone number that can be called, and shown to who is called."""
    return re.fullmatch(NUMBER, address) is not None and address not in _WITHHELD


def number_in(address: str) -> str:
    """The phone number in it, whatever it is written with; "" if there is none."""
    scheme, rest = _split(address)
    if scheme in ("sip", "sips"):
        user, at, _ = rest.partition("@")
        rest = unquote(user.partition(";")[0].partition(":")[0]) if at else ""
    elif scheme not in ("", *_SCHEMES_OF_NUMBERS):
        return ""
    rest = rest.strip().partition(";")[0]
    return rest if is_number(rest) else ""


def canonical(address: str) -> str:
    """One way of writing it: two addresses that are one are equal so.

    Of a SIP address, the user and the host: neither its parameters nor its port tell who it is.
    """
    scheme, rest = _split(address)
    if scheme in ("sip", "sips"):
        user, at, host = rest.partition("@")
        if not at:
            user, host = "", user
        host = re.split("[;?>]", host, maxsplit=1)[0].strip().lower()
        host = re.sub(r"(\s*:[0-9]*\s*)+$", "", host)
        return f"sip:{user}@{host}" if user else f"sip:{host}"
    if scheme in _SCHEMES_OF_NUMBERS:
        return number_in(address) or f"{scheme}:{rest.strip()}"
    if scheme:
        return f"{scheme}:{rest.strip()}"
    return address.strip()


def is_address(text: str) -> bool:
    """Whether it has one of these forms, and says who is meant."""
    scheme, rest = _split(text)
    if scheme in ("sip", "sips", "client"):
        return bool(rest.strip(" @"))
    return re.fullmatch(NUMBER, canonical(text)) is not None


def look_up(entries: Mapping[str, T], address: str, default: T) -> T:
    """What stands there for the address; its keys are `canonical`. One that is written out goes
    before one that only has the same number."""
    exact = canonical(address)
    return entries.get(exact, entries.get(number_in(address), default))


def _split(address: str) -> tuple[str, str]:
    """The scheme, in lower case, and the rest; without a scheme all of it is the rest."""
    text = address.strip()
    match = _FORM.fullmatch(text[1:-1] if text[:1] == "<" and text[-1:] == ">" else text)
    return (match["scheme"].lower(), match["rest"]) if match else ("", address)
