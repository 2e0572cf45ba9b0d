"""Rules of routes, and the responses that several of them give."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from quart import Response

from sts_trio.web.files import HEADERS

GET = ("GET",)
POST = ("POST",)
WEBHOOK = ("POST", "GET")  # Twilio asks as the number is configured
# Of what is told of calls: nobody is to keep it.
UNKEPT = {**HEADERS, "Cache-Control": "no-store"}
NOT_LIVE = "There is no live call of that SID."
# (path, view, methods)
Rules = Sequence[tuple[str, Callable[..., Awaitable[Any]], Sequence[str]]]


def text(words: str, status: int) -> Response:
    return Response(
        words + "\n", status, content_type="text/plain; charset=utf-8", headers={**HEADERS}
    )


def json(value: Any, status: int = 200) -> Response:
    return data(msgspec.json.encode(value), status)


def data(encoded: bytes, status: int = 200) -> Response:
    """JSON."""
    return Response(encoded, status, content_type="application/json", headers={**UNKEPT})


def twiml(document: str) -> Response:
    # Twilio keeps answers to a GET as HTTP's headers allow; what is in this one is good once.
    return Response(document, content_type="text/xml", headers={"Cache-Control": "no-store"})
