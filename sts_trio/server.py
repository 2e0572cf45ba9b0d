"""The app: voice webhook, media socket, health; what runs as long as it does; the last boundary."""

import contextlib
import functools
import os
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import structlog
import trio
from quart import Response, request, websocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from sts_trio.agents.connections import AgentConnections
from sts_trio.agents.endpoints import AgentLeg, Endpoint
from sts_trio.agents.routing import ChooseAgent, Routing, check_chooser, load_chooser
from sts_trio.bridge.collector import Collector
from sts_trio.bridge.live_calls import LiveCalls
from sts_trio.bridge.run import Bridge
from sts_trio.call.info import INBOUND, CallInfo, announced, parameters
from sts_trio.config import AgentKind, Config, local_key
from sts_trio.errors import Cause, ConfigError, DialRefused, Ending, TwilioFailed, Verdict
from sts_trio.functions.attach import attached
from sts_trio.legs.adoption import can_adopt, open_adopted
from sts_trio.legs.caller_asgi import TURNS_AT_ONCE, WEIGHT, DirectWebsocket, open_caller
from sts_trio.legs.contract import OpenCaller
from sts_trio.legs.handshake import open_agent
from sts_trio.logic.dialogue import Dialogue, SettingsWanted, any_call
from sts_trio.net import hypercorn_guard
from sts_trio.net.bound import Bound, bound_of
from sts_trio.net.hypercorn_guard import Connection
from sts_trio.net.poller import Poller
from sts_trio.net.ticker import Ticker
from sts_trio.observe import logs as log
from sts_trio.observe.feed import call_event
from sts_trio.offline.mode import Mode, choose, missing
from sts_trio.offline.protocol import server as offline
from sts_trio.outbound.dialler import Dialler
from sts_trio.outbound.progress import TOKEN, TWIML_PATH
from sts_trio.outbound.transfer import AFTER_PATH, hang_up_by_rest, transfer_by_rest, transfer_twiml
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.web import responses as answers
from sts_trio.web.access import RequestInfo, base_of, denial, is_guess, request_info
from sts_trio.web.guesses import Guesses
from sts_trio.web.outbound import OutboundRoutes
from sts_trio.web.page import Routes
from sts_trio.web.tokens import StreamToken, StreamTokens
from sts_trio.wire import deepgram_settings, webhook
from sts_trio.wire.dialect import Dialect, can_say, language

TWILIO_PATH = "/twilio"
# Twilio's webhooks are 2 KiB; a body is read before its signature can be checked.
MAX_PER_WEBHOOK = 64 * 1024
BODY_TIMEOUT = 10.0  # Twilio itself gives a webhook 15 s
# What a call takes to hang up on both its peers, whatever they do.
GOODBYE = 2.0
# Twilio speaks about 15 letters a second, and the stream begins only then. A longer notice would
# outlast the agent that is dialled ahead.
LONGEST_NOTICE = 200

_logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class App(QuartTrio):
    """The ASGI application. `live_calls` knows its live calls, `key` lets this machine in."""

    asgi_websocket_class = DirectWebsocket

    def __init__(
        self,
        config: Config,
        functions: Iterable[Callable[..., Any] | str] = (),
        choose_agent: ChooseAgent | None = None,
    ) -> None:
        # No static folder: nothing is served that is not a route.
        super().__init__("sts_trio", static_folder=None)
        self.settings, self.functions = attached(config, functions)
        # With Twilio's token this machine is trusted no more than any other.
        self.key = None if config.twilio_auth_tokens else local_key.mint()
        self.key_is_told = False  # whoever tells the operator the page's address says so here
        self.guesses = Guesses(trio.current_time)
        self._key_files = contextlib.ExitStack()
        self._bounds: list[Bound] = []
        self.live_calls = LiveCalls(config.max_calls)
        self.stream_tokens = StreamTokens(
            time.time,
            # What all processes behind one number have in common.
            config.twilio_auth_tokens or config.deepgram_api_keys,
            notice=config.notice or "",
        )
        self.twilio = TwilioRest.of(config)
        self.dialler = Dialler(config, self.twilio, self.live_calls)
        self.collector = Collector()
        self.poller = Poller()
        self.ticker = Ticker(self.poller)
        self.portable_ticker = Ticker(turns_at_once=TURNS_AT_ONCE, weight=WEIGHT)
        self._background = trio.CancelScope()
        # One for the process: building one costs 20 ms of CPU.
        self.ssl_context = ssl.create_default_context()
        routing = Routing(config.agents, config.numbers, choose_agent)
        self.agent_connections = AgentConnections(
            _endpoints(config),
            self._dial,
            routing,
            self._first_settings,
            max_calls=config.max_calls,
            live=lambda: self.live_calls.live,
        )
        self.config["MAX_CONTENT_LENGTH"] = MAX_PER_WEBHOOK
        self.config["BODY_TIMEOUT"] = BODY_TIMEOUT

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" and not trio.lowlevel.in_trio_run():
            # A worker of another kind would serve on, and answer every request with 500.
            await receive()
            message = "sts_trio runs in Trio: add --worker-class trio"
            await send({"type": "lifespan.startup.failed", "message": message})
            return
        if scope["type"] == "lifespan":
            self._bounds = bound_of(receive)
        await super().__call__(scope, receive, send)

    async def start(self) -> None:
        for warning in self.settings.warnings:
            _logger.warning("config.odd", warning=warning)
        hypercorn_guard.raise_limit(self.settings.max_calls)
        await self.nursery.start(self._run_background)
        self.collector.start()
        if self.key is not None:
            self._tell_key(self.key)
        addresses = [endpoint.address for endpoint in self.agent_connections.endpoints]
        _logger.info(
            "server.started",
            agent=self.settings.agent.value,
            endpoints=addresses,
            agents=list(self.settings.agents),
            functions=[function.name for function in self.functions],
        )

    def _tell_key(self, key: str) -> None:
        """To those who may know it: who started the server, and this user's commands."""
        addresses = [(bound.host, bound.port) for bound in self._bounds]
        self._key_files.enter_context(local_key.published(key, addresses))
        if not self.key_is_told:
            base = self._bounds[0].url if self._bounds else "http://WHERE-IT-LISTENS"
            _logger.info("page.address", url=local_key.page_url(base, key))

    async def stop(self) -> None:
        await self.agent_connections.aclose()
        self._background.cancel()

    async def _run_background(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """What runs as long as the server; an offline agent of our own too, if it answers."""
        with self._background, self._key_files:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.ticker.run)
                nursery.start_soon(self.portable_ticker.run)
                nursery.start_soon(self.poller.run)
                await nursery.start(self.dialler.run)
                if _nobody_minds_sigterm():
                    nursery.start_soon(self._mind_sigterm)
                if self.settings.agent is AgentKind.OFFLINE:
                    mode, reason = choose(self.settings.offline_mode)
                    if reason is not None:
                        _logger.warning("offline_agent.scripted", reason=reason)
                    serve = functools.partial(offline.serve, mode=mode)
                    port = await nursery.start(serve, "127.0.0.1", 0)
                    legacy = self.settings.dialect is Dialect.LEGACY
                    path = "/agent" if legacy else "/v1/agent/converse"
                    self.agent_connections.endpoints = [Endpoint(f"ws://127.0.0.1:{port}{path}")]
                await nursery.start(self.agent_connections.run)
                task_status.started()

    async def _mind_sigterm(self) -> None:
        """Hangs up on everyone before the process dies as it would have died."""
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                _logger.info("server.draining", live=self.live_calls.live, signal="SIGTERM")
                self._shut_down()
                with trio.move_on_after(GOODBYE):
                    await self.live_calls.empty()
                break
        self._key_files.close()
        os.kill(os.getpid(), signal.SIGTERM)

    # --- the voice webhook ----------------------------------------------------------------------

    async def answer(self) -> Response:
        """A call comes in: TwiML that connects it to the media socket."""
        visit, refusal = await self.authenticate()
        if refusal is not None:
            return refusal
        voice = webhook.read_request(visit.fields)
        order = self.dialler.placed.answered(voice.call_sid, visit.query_fields.first(TOKEN))
        if not self.live_calls.takes_calls:
            _logger.warning("call.refused", call_sid=voice.call_sid, live=self.live_calls.live)
            return _twiml(webhook.busy(answered=voice.is_answered))
        base = base_of(visit, self.settings)
        if base is None:
            return Response("No Host header.\n", 400)
        info = announced(voice)
        if order is not None:
            info = msgspec.structs.replace(info, agent=order.agent, parameters=order.parameters)
        info = msgspec.structs.replace(info, agent=await self.agent_connections.choose(info))
        if self.settings.dial_ahead and not voice.is_over:
            info = self._dial_ahead(info)
        twiml = webhook.connect_stream(
            webhook.media_url(base, f"{TWILIO_PATH}/{self.stream_tokens.mint(info.call_sid)}"),
            base + AFTER_PATH,
            notice=self.settings.notice,
            parameters=parameters(info),
        )
        return _twiml(twiml)

    def _dial_ahead(self, info: CallInfo) -> CallInfo:
        """The agent is dialled while the phone still rings, and the stream brings its line."""
        if len(self.settings.notice or "") > LONGEST_NOTICE:
            return info
        line = self.agent_connections.dial_ahead(info.agent, info)
        return msgspec.structs.replace(info, line=line)

    async def after(self) -> Response:
        """The call's stream is over: an apology if the caller is owed one, then the end."""
        visit, refusal = await self.authenticate()
        if refusal is not None:
            return refusal
        voice = webhook.read_request(visit.fields)
        if voice.dial_call_status:
            # A transfer is over. Whoever was talked with has said goodbye.
            was_taken = voice.dial_call_status in ("completed", "answered")
            over = was_taken or voice.is_over
            return _twiml(webhook.hang_up() if over else webhook.not_taken())
        ending = self.live_calls.ending_of(voice.call_sid)
        if ending is not None and ending.cause is Cause.TRANSFERRED and not voice.is_over:
            return _twiml(self._transfer(visit, voice, ending.detail))
        owed = (
            ending is not None
            and ending.verdict in (Verdict.AGENT, Verdict.OURS)
            and not ending.apologised
        )
        return _twiml(webhook.apology() if owed and not voice.is_over else webhook.hang_up())

    def _transfer(self, visit: RequestInfo, voice: webhook.VoiceRequest, number: str) -> str:
        inbound = voice.direction in ("", INBOUND)
        try:
            base = base_of(visit, self.settings)
            return transfer_twiml(self.settings, number, inbound=inbound, base=base)
        except DialRefused as exc:
            _logger.error("call.not_transferred", call_sid=voice.call_sid, reason=str(exc))
            return webhook.not_taken()

    async def authenticate(self) -> tuple[RequestInfo, Response | None]:
        """The visit, and the response to give if it is not welcome."""
        scope: Any = request.scope
        body = await request.get_data(cache=True, as_text=False, parse_form_data=False)
        is_form = request.method == "POST" and request.mimetype != "application/json"
        visit = request_info(
            scope,
            form=webhook.read_form(body) if is_form else None,
            body=b"" if is_form else body,
        )
        reason = denial(visit, self.settings, self.key, is_stream=False)
        return visit, await self._refuse(visit, reason)

    async def _refuse(self, visit: RequestInfo, reason: str | None) -> Response | None:
        if reason is None:
            return None
        guesses = self.key is not None and is_guess(visit, self.settings, self.key)
        response = await answers.held_back(self, visit, reason, guesses=guesses)
        return response or Response("Refused. The server's log says why.\n", 403)

    # --- the media socket -----------------------------------------------------------------------

    async def media(self, token: str | None = None) -> Response | None:
        """One call, from its websocket's handshake to its end."""
        scope: Any = websocket.scope
        visit = request_info(scope)
        stream = None if token is None else self.stream_tokens.read(token)
        if token is None:
            reason = self._why_no_bin(visit)
        elif stream is None:
            reason = "no stream token, or one that is spent or too old"
        else:
            reason = self._why_not_by(stream, visit)
        refusal = await self._refuse(visit, reason)
        if refusal is not None:
            return refusal
        await scope["asgi.receive"]()  # "websocket.connect"
        # From here to the call's admission nobody else has a turn, and so none takes its place.
        if not self.live_calls.takes_calls:
            _logger.warning("call.refused", live=self.live_calls.live)
            return Response("All lines are busy.\n", 503)
        await self._run_call(scope, stream)
        return None

    def _why_no_bin(self, visit: RequestInfo) -> str | None:
        if not self.settings.bins:
            return (
                f"{TWILIO_PATH} without a token is for TwiML Bins, and closed by STS_BINS=0: have"
                f" the number's voice webhook be {TWIML_PATH}, or set STS_BINS=1"
            )
        return denial(visit, self.settings, self.key, is_stream=True)

    def _why_not_by(self, stream: StreamToken, visit: RequestInfo) -> str | None:
        """Spends the token, if it is for this visit. Twilio's signature comes first, so that who
        has only seen the path cannot spend the token of a call."""
        if not stream.is_softphone:
            reason = denial(visit, self.settings, self.key, is_stream=True)
            if reason is not None:
                return reason
        return None if self.stream_tokens.spend(stream) else "too many stream tokens are spent"

    async def _run_call(self, scope: Any, stream: StreamToken | None) -> None:
        """A softphone writes what its stream says itself: it is to end no phone call by that."""
        connection = hypercorn_guard.connection.get()
        is_phone = stream is None or not stream.is_softphone
        call = Bridge(
            Dialogue(
                self._settings_for,
                is_expected=any_call if stream is None else stream.is_for,
                forward=self.settings.forward,
                now=trio.current_time(),
                policy=self.settings.manners,
                can_say=functools.partial(can_say, self.settings.dialect),
            ),
            self._caller_opener(scope, connection),
            self.agent_connections,
            functions=self.functions,
            hands_over_to=self.settings.agents,
            may_transfer=self.settings.may_transfer,
            release_phone_call=self._release_phone_call if is_phone else None,
            log_transcripts=self.settings.log_transcripts,
            tell=self.live_calls.event_feed.tell,
        )
        # The boundary: quart-trio 0.12 drops the real error from a group that also holds
        # `Cancelled`, so no group of ours may reach it.
        try:
            with self.live_calls.admit(call):
                async with trio.open_nursery() as nursery:
                    if connection is not None:
                        nursery.start_soon(self._end_with, connection.terminated)
                    await call.run()
                    nursery.cancel_scope.cancel()
        except* Exception:
            _logger.exception("call.crashed", ending=Cause.CRASHED.label)
            seconds = trio.current_time() - call.began
            crashed = call_event(call.dialogue.call_sid, seconds, "call.crashed", {})
            self.live_calls.event_feed.tell(crashed)
        except* trio.Cancelled:
            pass  # raised anew, alone: in a group, Quart and Hypercorn leave it in cycles of theirs
        self.collector.note_end(self.live_calls.live, trio.current_time())
        await trio.lowlevel.checkpoint_if_cancelled()

    async def _release_phone_call(self, info: CallInfo, ending: Ending) -> None:
        """A call that our webhook answered comes back to it when its stream ends. Any other goes on
        with the TwiML that started the stream, unless the REST API is asked before."""
        if not info.is_from_bin or not info.call_sid:
            return
        if ending.cause is not Cause.TRANSFERRED:
            await hang_up_by_rest(self.twilio, info.call_sid)
            return
        try:
            await transfer_by_rest(self.settings, self.twilio, info.call_sid, ending.detail)
        except (DialRefused, TwilioFailed) as exc:
            _logger.error("call.not_transferred", call_sid=info.call_sid, reason=str(exc))

    def _caller_opener(self, scope: Any, connection: Connection | None) -> OpenCaller:
        send = scope["asgi.send"]
        if connection is not None and self.settings.fast_lane and can_adopt(send, connection):
            return functools.partial(open_adopted, send, connection, self.ticker)
        return functools.partial(
            open_caller, scope["asgi.receive"], send, connection, self.portable_ticker
        )

    async def _end_with(self, terminated: Any) -> None:
        """Under plain `hypercorn` this is the only word of a shutdown: seconds later it cuts."""
        await terminated.wait()
        self._shut_down()

    def _shut_down(self) -> None:
        self.live_calls.shut_down()
        self.agent_connections.shut_down()

    def _settings_for(self, wanted: SettingsWanted) -> deepgram_settings.Settings:
        agent = self.settings.agents[wanted.agent]
        return deepgram_settings.phone_settings(
            deepgram_settings.resumed(agent, wanted.history, greets=wanted.greets)
        )

    def _first_settings(self, agent: str, info: CallInfo) -> deepgram_settings.Settings:
        """The same, before the call has begun."""
        return deepgram_settings.phone_settings(self.settings.agents[agent])

    def _dial(self, endpoint: Endpoint) -> contextlib.AbstractAsyncContextManager[AgentLeg]:
        return open_agent(
            endpoint.url,
            endpoint.key,
            language(self.settings.dialect),
            self.ssl_context,
            self.poller,
        )

    # --- health ---------------------------------------------------------------------------------

    async def health(self) -> dict[str, Any]:
        beats = [self.ticker.lateness, self.portable_ticker.lateness]
        return {
            "status": "ok",
            "live": self.live_calls.live,
            # Of a process that has more to do than it can, this is the first to grow.
            "late_beats": sum(lateness.late for lateness in beats),
            "latest_beat": round(max(lateness.worst for lateness in beats), 3),
        }

    async def readiness(self) -> tuple[dict[str, Any], int]:
        status = {"status": self.live_calls.status, "live": self.live_calls.live}
        return status, 200 if self.live_calls.takes_calls else 503


def create_app(
    config: Config,
    functions: Iterable[Callable[..., Any] | str] = (),
    *,
    choose_agent: ChooseAgent | None = None,
) -> App:
    """The app for this configuration. Any ASGI server may run it; all it promises, Hypercorn's
    Trio worker keeps.

    `functions` are what agents may call beside those that are configured: functions, or modules
    that hold them, see `sts_trio.functions`. `choose_agent` names the agent that answers a call, in
    at most two seconds; what it leaves open, by "", is decided by parameter and number. It goes
    before `STS_CHOOSE_AGENT`.

    Raises:
        ConfigError: one of them is not fit for it, or not where the configuration says.
    """
    wants_ears = config.agent is AgentKind.OFFLINE and config.offline_mode is Mode.EARS
    if wants_ears and (reason := missing()) is not None:
        raise ConfigError(f"STS_OFFLINE_MODE: ears cannot be had: {reason}")
    if choose_agent is not None:
        check_chooser(choose_agent, "choose_agent")
    elif config.choose_agent is not None:
        choose_agent = load_chooser(config.choose_agent, "STS_CHOOSE_AGENT")
    log.configure(config)
    hypercorn_guard.install()
    app = App(config, functions, choose_agent)
    app.before_serving(app.start)
    app.after_serving(app.stop)
    app.add_url_rule(TWIML_PATH, "answer", app.answer, methods=["GET", "POST"])
    app.add_url_rule(AFTER_PATH, "after", app.after, methods=["GET", "POST"])
    app.add_url_rule("/healthz", "health", app.health)
    app.add_url_rule("/readyz", "readiness", app.readiness)
    app.add_websocket(TWILIO_PATH, "media", app.media)
    app.add_websocket(f"{TWILIO_PATH}/<token>", "media_by_token", app.media)
    app.register_error_handler(HTTPException, _error)
    Routes(app).add()
    OutboundRoutes(app).add()
    return app


def _nobody_minds_sigterm() -> bool:
    """Whether SIGTERM would end this process on the spot: `hypercorn --workers 0`, and any of its
    workers when the whole process group is told, as service managers do."""
    return (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )


def _endpoints(config: Config) -> list[Endpoint]:
    keys: tuple[str | None, ...] = config.deepgram_api_keys or (None,)
    if len(keys) == 1:
        keys *= len(config.deepgram_urls)
    return [Endpoint(url, key) for url, key in zip(config.deepgram_urls, keys, strict=True)]


async def _error(exc: HTTPException) -> Any:
    """As Quart answers it; but there the exception itself is the result, which is kept by a frame
    of its own traceback: hundreds of objects for the collector, for each unknown path."""
    exc.__traceback__ = exc.__context__ = None
    return exc.get_response()


def _twiml(document: str) -> Response:
    # Twilio keeps answers to a GET as HTTP's headers allow; what is in this one is good once.
    return Response(document, content_type="text/xml", headers={"Cache-Control": "no-store"})
