"""The media socket: `/twilio/TOKEN`, and `/twilio` for TwiML Bins.

In a fleet the path names a process, `/twilio/at/NAME/TOKEN`, for the proxy: that one has dialled
the agent already. Whichever gets it serves it.
"""

import functools
import re
from typing import Any

from quart import Response

from sts_trio.legs.adoption import can_adopt, open_adopted
from sts_trio.legs.caller_asgi import open_caller
from sts_trio.legs.contract import OpenCaller
from sts_trio.logic.dialogue import any_call
from sts_trio.net import hypercorn_guard
from sts_trio.net.hypercorn_guard import Connection
from sts_trio.outbound.progress import TWIML_PATH
from sts_trio.server import Server
from sts_trio.web.access import RequestInfo, request_info
from sts_trio.web.authentication import Authenticator
from sts_trio.web.tokens import StreamToken, StreamTokens

TWILIO_PATH = "/twilio"
AT = f"{TWILIO_PATH}/at"
# As Quart has it: what is between two slashes is not empty.
_PLACE = re.compile(f"{TWILIO_PATH}(?:/at/[^/]+)?(?:/(?P<token>[^/]+))?")


def stream_path(token: str, process: str | None) -> str:
    """Where the token's stream is let in, at best by that process of a fleet."""
    return f"{TWILIO_PATH}/{token}" if process is None else f"{AT}/{process}/{token}"


class Media:
    paths = (TWILIO_PATH, f"{TWILIO_PATH}/<token>", f"{AT}/<name>", f"{AT}/<name>/<token>")

    def __init__(self, server: Server, authenticator: Authenticator, tokens: StreamTokens) -> None:
        self._server = server
        self._authenticator = authenticator
        self._tokens = tokens

    @staticmethod
    def place(path: str) -> re.Match[str] | None:
        """None: it is none of `paths`."""
        return _PLACE.fullmatch(path)

    async def serve(self, place: re.Match[str], scope: Any, receive: Any, send: Any) -> None:
        """One websocket at such a place, from its handshake to its end.

        Quart would cancel its handler when the caller is gone, and queue what it has not read. The
        legs of callers are given ASGI's own two functions instead, so that a disconnect is a
        message like any other.
        """
        if (refusal := await self._stream(place["token"], scope, receive, send)) is not None:
            await _refuse(refusal, scope, send)

    async def _stream(
        self, token: str | None, scope: Any, receive: Any, send: Any
    ) -> Response | None:
        """A whole call; or what the handshake is answered instead."""
        request = request_info(scope)
        stream = None if token is None else self._tokens.read(token)
        if token is None:
            reason = self._bin_denial(request)
        elif stream is None:
            reason = "no stream token, or one that is spent or too old"
        else:
            reason = await self._token_denial(stream, request)
        if reason is not None:
            return await self._authenticator.refuse(request, reason)
        connection = hypercorn_guard.connection.get()
        opener = self._adopting_opener(send, connection)
        if opener is None:
            await receive()  # "websocket.connect"; of one that is adopted nothing is received
            ticker = self._server.portable_ticker
            opener = functools.partial(open_caller, receive, send, connection, ticker)
        # From here to the call's admission nobody else has a turn, and so none takes its place.
        live_calls = self._server.live_calls
        is_phones = stream is not None and not stream.is_softphone
        call = live_calls.awaiting(stream.is_for) if stream is not None and is_phones else None
        if call is not None:
            await call.come_back(opener)
            return None
        # Of a token it was said, and told, that the call is taken: before a drain that began since.
        if not (live_calls.takes_calls if stream is None else live_calls.has_room):
            self._server.refuse()
            return Response("All lines are busy.\n", 503)
        if connection is not None:
            self._server.shut_down_after(connection.terminated.wait)
        await self._server.run_call(
            opener,
            is_expected=any_call if stream is None else stream.is_for,
            is_phone=stream is None or not stream.is_softphone,
        )
        return None

    def _bin_denial(self, request: RequestInfo) -> str | None:
        """Why this request may not open a stream without a token."""
        if not self._server.config.bins:
            return (
                f"{TWILIO_PATH} without a token is for TwiML Bins, and closed by STS_BINS=0: have"
                f" the number's voice webhook be {TWIML_PATH}, or set STS_BINS=1"
            )
        return self._authenticator.stream_denial(request)

    async def _token_denial(self, stream: StreamToken, request: RequestInfo) -> str | None:
        """Why this request may not open the token's stream; else the token is spent. Twilio's
        signature comes first: a client that has only seen the path cannot spend a call's token.

        That another process has spent it is asked of the database, for a quarter of a second at
        most. Where it does not answer, a token is good once in each process."""
        if not stream.is_softphone:
            reason = self._authenticator.stream_denial(request)
            if reason is not None:
                return reason
        if not self._tokens.spend(stream):
            return "too many stream tokens are spent"
        shared = self._server.shared
        if stream.is_softphone or shared is None:
            return None
        unused = await shared.use_once([f"stream {stream.nonce.hex()}"], self._tokens.call_lifetime)
        return "its stream token was spent at another process" if unused == set() else None

    def _adopting_opener(self, send: Any, connection: Connection | None) -> OpenCaller | None:
        server = self._server
        if connection is None or not server.config.fast_lane or not can_adopt(send, connection):
            return None
        return functools.partial(open_adopted, send, connection, server.ticker)


async def _refuse(response: Response, scope: Any, send: Any) -> None:
    """Answers the handshake as Quart would. Without the extension there is no choice of words."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1000})
        return
    headers = [(key.lower().encode(), value.encode()) for key, value in response.headers.items()]
    start = {"type": "websocket.http.response.start", "status": response.status_code}
    await send({**start, "headers": headers})
    body = await response.get_data(as_text=False)
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})
