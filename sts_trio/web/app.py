"""The ASGI application: the routes of all groups, around one `Server`."""

import functools
import re
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import trio
from quart import (
    Response,
    has_request_context,
    has_websocket_context,
    request,
    websocket,
)
from quart.wrappers.base import BaseRequestWebsocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import MapAdapter, WebsocketMismatch

from sts_trio.agents.credentials import AskCredential
from sts_trio.agents.routing import ChooseAgent
from sts_trio.bridge.live_calls import LiveCalls
from sts_trio.config import Config
from sts_trio.errors import ConfigError, first_of
from sts_trio.net import hypercorn_guard
from sts_trio.net.bound import Bound, bound_of
from sts_trio.observe import events
from sts_trio.observe import logs as log
from sts_trio.observe.report import report
from sts_trio.outbound.progress import TWIML_PATH
from sts_trio.server import Server
from sts_trio.web.access import request_info
from sts_trio.web.authentication import Authenticator
from sts_trio.web.guesses import Guesses
from sts_trio.web.health import Health
from sts_trio.web.media import TWILIO_PATH, Media
from sts_trio.web.metrics import Metrics
from sts_trio.web.misdirected import MAX_PATH, likely_cause
from sts_trio.web.outbound import Outbound
from sts_trio.web.page import Page
from sts_trio.web.responses import Rules
from sts_trio.web.tasks import Tasks
from sts_trio.web.tokens import StreamTokens
from sts_trio.web.voice import Voice

# Twilio's webhooks are 2 KiB; a body is read before its signature can be checked.
MAX_PER_WEBHOOK = 64 * 1024
# RFC 6761, section 6.4.
NO_HOST = "invalid"
BODY_TIMEOUT = 10.0  # Twilio itself gives a webhook 15 s
OF_TWILIO = (f"{TWIML_PATH}/", f"{TWILIO_PATH}/")


class App(QuartTrio):
    """All that speaks HTTP for `server`, which lives as long as the application's lifespan."""

    def __init__(self, server: Server) -> None:
        # No static folder: nothing is served that is not a route.
        super().__init__("sts_trio", static_folder=None)
        config = server.config
        self.server = server
        self.guesses = Guesses(trio.current_time)
        self.stream_tokens = StreamTokens(
            time.time,
            # What all processes behind one number have in common.
            config.twilio_auth_tokens or config.deepgram_api_keys,
            notice=config.notice or "",
        )
        self._bounds: list[Bound] = []
        self._prefix = urlsplit(config.public_url or "").path
        self.config["MAX_CONTENT_LENGTH"] = MAX_PER_WEBHOOK
        self.config["BODY_TIMEOUT"] = BODY_TIMEOUT
        self.before_serving(self._start)
        self.after_serving(server.stop)
        self.register_error_handler(HTTPException, self._answer_error)
        authenticator = Authenticator(config, server.key, self.guesses)
        self._add(Voice(server, authenticator, self.stream_tokens).rules)
        self._add(Health(server).rules)
        self._add(Metrics(server, authenticator).rules)
        self._add(Tasks(server, authenticator).rules)
        self._add(Page(server, authenticator, self.stream_tokens).rules)
        self._add(Outbound(server.dialler, authenticator).rules)
        self._media = Media(server, authenticator, self.stream_tokens)
        for path in Media.paths:
            # That they are no mistake, and no HTTP's: `asgi_app` has them.
            rule = self.url_rule_class(path, methods={"GET"}, endpoint=path, websocket=True)
            self.url_map.add(rule)

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """What a client calls its host is for each route to judge; none depends on it. To Quart it
        may be no name of a host, which it finds before it can answer: by a traceback, and 500."""
        try:
            return super().create_url_adapter(request)
        except HTTPException:
            assert request is not None
            return self.url_map.bind(
                NO_HOST, request.root_path, None, request.scheme, request.method, request.path
            )

    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        """Streams go past Quart: nothing of it is used, and all of it is a twentieth of what a
        call's set-up takes."""
        if scope["type"] == "websocket" and (place := Media.place(_path(scope))) is not None:
            await self._media.serve(place, scope, receive, send)
        else:
            await super().asgi_app(scope, receive, send)

    def _add(self, rules: Rules) -> None:
        for path, view, methods in rules:
            self.add_url_rule(path, f"{methods[0]} {path}", view, methods=list(methods))

    @property
    def live_calls(self) -> LiveCalls:
        return self.server.live_calls

    async def open_records(self) -> None:
        """Opens the database of past calls. Its lifespan does, too, where nobody has.

        Raises:
            ConfigError: it cannot be used.
        """
        await self.server.open_records()

    async def move_calls(self, within: float) -> None:
        """Lets go of calls that other processes can go on with; see `LiveCalls.move_away`."""
        await self.live_calls.move_away(within, self.server.has_successor)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" and not trio.lowlevel.in_trio_run():
            # A worker of another kind would serve on, and answer every request with 500.
            await receive()
            message = "sts_trio runs in Trio: add --worker-class trio"
            await send({"type": "lifespan.startup.failed", "message": message})
            return
        if scope["type"] == "lifespan":
            self._bounds = bound_of(receive)
            try:
                await self.open_records()
            except ConfigError as exc:
                # Not from within Quart, which would log a traceback.
                await receive()
                await send({"type": "lifespan.startup.failed", "message": str(exc)})
                return
            await super().__call__(scope, receive, send)
            return
        try:
            await super().__call__(self._plain(scope), receive, send)
        except* Exception as bugs:
            # Hypercorn closes a websocket, and answers any other request with 500, if nothing was.
            _report_crash(scope, first_of(bugs))

    def log_exception(self, exception_info: Any) -> None:
        """Of a route. Quart answers with 500."""
        if has_request_context():
            _report_crash(request.scope, exception_info[1])
        elif has_websocket_context():
            _report_crash(websocket.scope, exception_info[1])
        else:
            super().log_exception(exception_info)

    def _plain(self, scope: Any) -> Any:
        """The scope with what is meant in it: the signature is for what it has as raw.

        Hypercorn's `ProxyFixMiddleware` writes what a proxy says, so "https" into the scope of a
        websocket, which ASGI has no such scheme for. And a prefix of the public address is taken
        off by some proxies only.
        """
        is_secure = scope["scheme"].lower() in ("https", "wss")
        names = ("ws", "wss") if scope["type"] == "websocket" else ("http", "https")
        path = re.sub("/{2,}", "/", scope["path"])
        if self._prefix and not scope.get("root_path") and path.startswith(f"{self._prefix}/"):
            path = path.removeprefix(self._prefix)
        if path.startswith(OF_TWILIO):  # who asks for "/twiml/" means "/twiml"
            path = path.rstrip("/")
        return {**scope, "scheme": names[is_secure], "path": path}

    async def _answer_error(self, exc: HTTPException) -> Any:
        """As Quart answers it; but there the exception itself is the result, which is kept by a
        frame of its own traceback: hundreds of objects for the collector, for each unknown path."""
        exc.__traceback__ = exc.__context__ = None
        if not isinstance(exc, NotFound | MethodNotAllowed | WebsocketMismatch):
            return exc.get_response()
        is_websocket = has_websocket_context()
        scope: Any = websocket.scope if is_websocket else request.scope
        info = request_info(scope)
        reason = likely_cause(info, scope["path"], is_websocket=is_websocket)
        if reason is not None:
            report(events.RequestMisdirected(info.path[:MAX_PATH], reason))
        if isinstance(exc, WebsocketMismatch) and not is_websocket:
            # RFC 9110, section 15.5.22.
            headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
            return Response("Expected a websocket's handshake.\n", 426, headers)
        return exc.get_response()

    async def _start(self) -> None:
        await self.nursery.start(functools.partial(self.server.run, self._bounds))


def _report_crash(scope: Any, bug: BaseException) -> None:
    info = request_info(scope)
    crashed = events.RequestCrashed(info.method, info.path[:MAX_PATH], info.client)
    report(crashed, exc_info=bug)


def _path(scope: Any) -> str:
    """Below the root, as Quart has it."""
    path: str = scope["path"]
    root = scope.get("root_path", "")
    return path.partition(root)[2] if root else path


def create_app(
    config: Config,
    functions: Iterable[Callable[..., Any] | str] = (),
    *,
    choose_agent: ChooseAgent | None = None,
    credential: AskCredential | None = None,
) -> App:
    """The app for this configuration. Any ASGI server may run it; all it promises, Hypercorn's
    Trio worker keeps.

    `functions` are what agents may call beside those that are configured: functions, or modules
    that hold them, see `sts_trio.functions`. `choose_agent` names the agent that answers a call, in
    at most two seconds; what it leaves open, by "", is decided by parameter and number.
    `credential` is asked for what Deepgram is shown at a dial. They go before `STS_CHOOSE_AGENT`
    and `STS_CREDENTIAL`.

    Raises:
        ConfigError: one of them is not fit for it, or not where the configuration says.
    """
    server = Server(config, functions, choose_agent, credential)
    log.configure(config)
    hypercorn_guard.install()
    return App(server)
