"""Answers of the routes that are the operator's, and whether to give one at all."""

from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from quart import Response, request

from sts_trio.web.access import admin_denial, request_info
from sts_trio.web.files import HEADERS

if TYPE_CHECKING:
    from sts_trio.server import App

_REALM = 'Basic realm="sts_trio: any name, STS_ADMIN_TOKEN as password", charset="UTF-8"'

_logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def refusal(app: "App") -> Response | None:
    """What the visitor gets who is not the operator; None if this is the operator."""
    scope: Any = request.scope
    visit = request_info(scope)
    refused = admin_denial(visit, app.settings)
    if refused is None:
        return None
    _logger.warning("request.refused", path=visit.path, reason=refused.reason)
    response = text(
        "Refused: this is for the machine the server runs on, as long as it serves no phone, and"
        " else for who has the admin token. Set STS_ADMIN_TOKEN on the server, and give it as the"
        " password (the name does not matter). The server's log says more.",
        refused.status,
    )
    if refused.status == 401:
        response.headers["WWW-Authenticate"] = _REALM
    return response


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
