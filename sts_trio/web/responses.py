"""Answers of the routes that are the operator's, and whether to give one at all."""

from typing import TYPE_CHECKING, Any

import msgspec
import structlog
import trio
from quart import Response, request

from sts_trio.web.access import RequestInfo, admin_denial, is_guess, request_info
from sts_trio.web.files import HEADERS
from sts_trio.web.guesses import LONGEST

if TYPE_CHECKING:
    from sts_trio.server import App

_WITHOUT_PHONES = (
    "Refused: this is for who runs the server. Open the address that it told at its start, with"
    " ?key= in it: the key is another at each start. Or set STS_ADMIN_TOKEN on the server, and give"
    " it as the password (the name does not matter). The server's log says more."
)
_WITH_PHONES = (
    "Refused: on a server for phones, this is for who has the admin token. Set STS_ADMIN_TOKEN on"
    " the server, and give it as the password (the name does not matter). The server's log says"
    " more."
)
_REALM = 'Basic realm="sts_trio: any name, STS_ADMIN_TOKEN as password", charset="UTF-8"'

_logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()


async def refusal(app: "App", *, is_page: bool = False) -> Response | None:
    """What the visitor gets who is not the operator; None if this is the operator."""
    scope: Any = request.scope
    visit = request_info(scope)
    refused = admin_denial(visit, app.settings, app.key, is_page=is_page)
    if refused is None:
        return None
    guesses = is_guess(visit, app.settings, app.key)
    if response := await held_back(app, visit, refused.reason, guesses=guesses):
        return response
    response = text(_WITH_PHONES if app.key is None else _WITHOUT_PHONES, refused.status)
    if refused.status == 401:
        response.headers["WWW-Authenticate"] = _REALM
    return response


async def held_back(
    app: "App", visit: RequestInfo, reason: str, *, guesses: bool
) -> Response | None:
    """Logs that a request is refused, and keeps those who guess waiting (see `guesses`).
    Returns what to answer instead if there are too many of them."""
    if not guesses:
        _logger.warning("request.refused", path=visit.path, reason=reason)
        return None
    pause = app.guesses.pause()
    if pause is None:
        response = text("Too many wrong tokens and keys are given here: try again later.", 429)
        response.headers["Retry-After"] = str(round(LONGEST))
        return response
    _logger.warning("request.refused", path=visit.path, reason=reason, guesses=app.guesses.wrong)
    await trio.sleep(pause)
    return None


def text(words: str, status: int) -> Response:
    return Response(
        words + "\n", status, content_type="text/plain; charset=utf-8", headers={**HEADERS}
    )


def json(value: Any, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(value),
        status,
        content_type="application/json",
        headers={**HEADERS, "Cache-Control": "no-store"},
    )
