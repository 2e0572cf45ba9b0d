"""A websocket's opening handshake, before Hypercorn reads it. Pure.

Hypercorn reads the last line of each name alone, so that what a proxy has added a line to is no
handshake to it; it asks for no more of a key than that there is one; and letters that are no ASCII
raise in it.
"""

import re
from typing import NamedTuple

import h11

# 16 bytes in base64 (RFC 6455, section 4.2.1).
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_READ = (
    b"upgrade",
    b"connection",
    b"sec-websocket-key",
    b"sec-websocket-version",
    b"sec-websocket-protocol",
    b"sec-websocket-extensions",
)


class Opening(NamedTuple):
    """A request for a websocket."""

    request: h11.Request  # the same, as Hypercorn understands it
    is_sound: bool


def opening(request: h11.Request) -> Opening | None:
    """None: it asks for no websocket."""
    said: dict[bytes, bytes] = {}
    for name, value in request.headers:
        # Several lines of one name are one list (RFC 9110, section 5.3).
        said[name] = said[name] + b", " + value if name in said else value
    if (
        request.method != b"GET"
        or b"websocket" not in _options(said.get(b"upgrade", b""))
        or b"upgrade" not in _options(said.get(b"connection", b""))
    ):
        return None
    is_sound = (
        request.http_version == b"1.1"
        and _KEY.fullmatch(said.get(b"sec-websocket-key", b"")) is not None
        and said.get(b"sec-websocket-version") == b"13"
        and all(said.get(name, b"").isascii() for name in _READ)
        # What is announced would be taken for frames.
        and b"transfer-encoding" not in said
        and not said.get(b"content-length", b"").strip(b"0")
    )
    return Opening(_in_usual_form(request, said), is_sound)


def _options(value: bytes) -> list[bytes]:
    return [each.strip() for each in value.lower().split(b",")]


def _in_usual_form(request: h11.Request, said: dict[bytes, bytes]) -> h11.Request:
    """With nothing but a websocket to upgrade to, and one line for that."""
    if len(said) == len(request.headers) and said[b"upgrade"].lower() == b"websocket":
        return request
    usual = {b"upgrade": b"websocket", b"connection": b"Upgrade"}
    others = [each for each in request.headers.raw_items() if each[0].lower() not in usual]
    return h11.Request(
        method=request.method,
        target=request.target,
        headers=[*others, *usual.items()],
        http_version=request.http_version,
    )
