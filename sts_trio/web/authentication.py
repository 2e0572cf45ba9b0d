"""Asks `access` about the request that is being handled, and answers it if it is refused."""

from typing import Any

import trio
from quart import Response, request

from sts_trio.config import Config
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.web.access import RequestInfo, admin_denial, denial, is_guess, request_info
from sts_trio.web.guesses import LONGEST, Guesses
from sts_trio.web.responses import text
from sts_trio.wire import webhook

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


class Authenticator:
    """`key` is that of this run, see `local_key`; None where there is an auth token."""

    def __init__(self, config: Config, key: str | None, guesses: Guesses) -> None:
        self.key = key
        self._config = config
        self._guesses = guesses

    async def webhook(self) -> tuple[RequestInfo, Response | None]:
        """The request, its body read, and the response to give if it is not from Twilio."""
        scope: Any = request.scope
        body = await request.get_data(cache=True, as_text=False, parse_form_data=False)
        is_form = request.method == "POST" and request.mimetype != "application/json"
        info = request_info(
            scope,
            form=webhook.read_form(body) if is_form else None,
            body=b"" if is_form else body,
        )
        reason = denial(info, self._config, self.key, is_stream=False)
        return info, None if reason is None else await self.refuse(info, reason)

    def stream_denial(self, info: RequestInfo) -> str | None:
        """Why this websocket's handshake is not taken for Twilio's; None if it is."""
        return denial(info, self._config, self.key, is_stream=True)

    async def refuse(self, info: RequestInfo, reason: str) -> Response:
        """The response to what should have come from Twilio; `reason` goes to the log alone."""
        guesses = self.key is not None and is_guess(info, self._config, self.key)
        response = await self._hold_back(info, reason, guesses=guesses)
        return response or Response("Refused. The server's log says why.\n", 403)

    async def operator(self, *, is_page: bool = False) -> Response | None:
        """The response to give if the request is not the operator's; None if it is."""
        scope: Any = request.scope
        info = request_info(scope)
        refused = admin_denial(info, self._config, self.key, is_page=is_page)
        if refused is None:
            return None
        guesses = is_guess(info, self._config, self.key)
        if response := await self._hold_back(info, refused.reason, guesses=guesses):
            return response
        response = text(_WITH_PHONES if self.key is None else _WITHOUT_PHONES, refused.status)
        if refused.status == 401:
            response.headers["WWW-Authenticate"] = _REALM
        return response

    async def _hold_back(self, info: RequestInfo, reason: str, *, guesses: bool) -> Response | None:
        """Logs that a request is refused, and keeps those who guess waiting (see `guesses`).
        Returns what to answer instead if there are too many of them."""
        if not guesses:
            report(events.RequestRefused(info.path, reason))
            return None
        pause = self._guesses.pause()
        if pause is None:
            response = text("Too many wrong tokens and keys are given here: try again later.", 429)
            response.headers["Retry-After"] = str(round(LONGEST))
            return response
        report(events.RequestRefused(info.path, reason, self._guesses.wrong))
        await trio.sleep(pause)
        return None
