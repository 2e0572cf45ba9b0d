"""What the page is made of and asks for. All of it is for who has the key of this run, or the admin
token.

`/` and `/web/…`          the page; `/?key=KEY` opens it
`/past`                   the page of past calls
`/state`                  who answers, how many calls there are, what is odd
`/calls`                  the live calls, and those of other processes that share the database; with
                          `ended=1` past ones, see `past_calls`
`/calls/CALL_SID`         one of them, and what has happened in it; of one that is over, its record
`/calls/CALL_SID/hang-up` (POST) ends it
`/calls/CALL_SID/transcript.txt`, `.json`, `.vtt`: what was said in one that is kept
`/calls/CALL_SID/recording.wav`  what was said in it, where calls are recorded
`/events`                 what happens in all calls, as server-sent events
`/calls/CALL_SID/events`  ... in one
`/stream-token`           (POST) lets one websocket in, at `/twilio/TOKEN`
"""

import secrets
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import trio
from quart import Response, request

from sts_trio import __version__
from sts_trio.bridge.run import Bridge
from sts_trio.call.info import streamed
from sts_trio.config import AgentKind
from sts_trio.errors import TwilioFailed
from sts_trio.logic.acts import OperatorHangsUp
from sts_trio.net import hypercorn_guard
from sts_trio.observe.feed import FROM_THE_OLDEST, CallEvent, Subscription
from sts_trio.offline.mode import choose
from sts_trio.server import Server
from sts_trio.web import responses
from sts_trio.web.access import cookie_of, has_key, request_info
from sts_trio.web.authentication import Authenticator
from sts_trio.web.files import Files
from sts_trio.web.past_calls import PastCalls
from sts_trio.web.responses import GET, POST, UNKEPT, Rules
from sts_trio.web.tokens import LIFETIME, StreamTokens

if TYPE_CHECKING:
    from sts_trio.records.fleet_calls import FleetCall

# Each is a task and a connection of its own.
MAX_FOLLOWERS = 100
MAX_DIGITS = 20  # of an event's number
_NOT_KNOWN = "It is no call of this process, and the database that knows of others does not answer."
_TOO_MANY = f"{MAX_FOLLOWERS} are following the calls already."
# Within what proxies take for an idle connection, which is a minute or more.
KEEP_ALIVE = 15.0
# Seconds from what was told to what is told next; all that happens meanwhile goes in one piece.
# With a hundred who follow 500 calls, each call would else wait for them, for 13 ms at the median.
PACE = 0.1
# Milliseconds until a browser asks again.
RETRY = 2000


News = tuple[int, list[tuple[int, CallEvent]]]  # how many are missed, and what came
NOTHING: News = (0, [])


class Page:
    def __init__(self, server: Server, authenticator: Authenticator, tokens: StreamTokens) -> None:
        self._past_calls = PastCalls(server)
        self._server = server
        self._authenticator = authenticator
        self._tokens = tokens
        self._files = Files()
        # Numbers of entries begin anew with the server; so that a browser cannot mix them up.
        self._era = secrets.token_hex(4)
        self._agent = server.config.agent.value
        self._turn = trio.Lock()
        self._warnings = list(server.config.warnings)
        if server.config.agent is AgentKind.OFFLINE:
            mode, reason = choose(server.config.offline_mode)
            self._agent += f" {mode.value}"
            if reason is not None:
                self._warnings.append(f"The offline agent recognises no words: {reason}")

    @property
    def rules(self) -> Rules:
        return [
            ("/", self.page, GET),
            ("/past", self.past, GET),
            ("/web/<name>", self.file, GET),
            ("/state", self.state, GET),
            ("/calls", self.calls, GET),
            ("/calls/<call_sid>", self.call, GET),
            ("/calls/<call_sid>/transcript.<form>", self.transcript, GET),
            ("/calls/<call_sid>/hang-up", self.hang_up, POST),
            ("/calls/<call_sid>/recording.wav", self.recording, GET),
            ("/events", self.events, GET),
            ("/calls/<call_sid>/events", self.events, GET),
            ("/stream-token", self.stream_token, POST),
        ]

    async def page(self) -> Response:
        return await self._page("./", "index.html")

    async def past(self) -> Response:
        return await self._page("past", "past.html")

    async def _page(self, address: str, file: str) -> Response:
        refusal = await self._authenticator.operator(is_page=True)
        if refusal is None and "key" in request.args:
            return _without_key_in_the_address(self._authenticator.key, address)
        return refusal or self._file(file)

    async def file(self, name: str) -> Response:
        return await self._authenticator.operator() or self._file(name)

    def _file(self, name: str) -> Response:
        return self._files.get(name) or responses.text("There is no such file.", 404)

    async def state(self) -> Response:
        if refusal := await self._authenticator.operator():
            return refusal
        live_calls = self._server.live_calls
        return responses.json(
            {
                "version": __version__,
                "agent": self._agent,
                "status": live_calls.status,
                "live": live_calls.live,
                "max_calls": self._server.config.max_calls,
                "warnings": self._warnings,
                "lines": self._server.agent_connections.state,
                "ticker": self._server.ticker.stats,
            }
        )

    async def calls(self) -> Response:
        if refusal := await self._authenticator.operator():
            return refusal
        if request.args and (answer := await self._past_calls.list(request.args)):
            return answer
        live = sorted(self._server.live_calls.calls, key=lambda call: call.began)
        return responses.json(
            {
                "live": len(live),
                "process": self._server.name,
                "calls": [_facts(call) for call in live],
                # None: it is not known now.
                "elsewhere": await self._elsewhere(),
            }
        )

    async def _elsewhere(self) -> "list[FleetCall] | None":
        """The live calls of other processes, by what the database has of them."""
        records = self._server.records
        if records is None or not records.writer.others:
            return []
        found = await records.shared.live_calls()
        if found is None:
            return None
        # One that has just come here is still another's in the database.
        return [each for each in found if not self._server.live_calls.find(each.call_sid)]

    async def call(self, call_sid: str) -> Response:
        """A live one, by `?after=NUMBER` only what happened behind that event; else its record."""
        if refusal := await self._authenticator.operator():
            return refusal
        found = self._server.live_calls.find(call_sid)
        if not found:
            return await self._past_calls.record(call_sid)
        call, events = found.popitem()  # Twilio's newest stream is the one that is listened to
        after = request.args.get("after", "0")
        is_whole, kept = events.beyond(int(after) if _is_number(after) else 0)
        return responses.json({**_facts(call), "is_whole": is_whole, "events": kept})

    async def transcript(self, call_sid: str, form: str) -> Response:
        if refusal := await self._authenticator.operator():
            return refusal
        return await self._past_calls.transcript(call_sid, form)

    async def recording(self, call_sid: str) -> Response:
        """Of a call with several streams all as one, or by `?part=NUMBER` the first, second …"""
        if refusal := await self._authenticator.operator():
            return refusal
        part = request.args.get("part")
        if part is None:
            return await self._past_calls.recording(call_sid, None)
        return await self._past_calls.recording(call_sid, int(part) if _is_number(part) else 0)

    async def hang_up(self, call_sid: str) -> Response:
        """Whoever the caller is, and whatever is being said."""
        if refusal := await self._authenticator.operator():
            return refusal
        found = self._server.live_calls.find(call_sid)
        if not found:
            return await self._hang_up_elsewhere(call_sid)
        for call in found:
            call.tell(OperatorHangsUp())
        return responses.json({"call_sid": call_sid}, 202)

    async def _hang_up_elsewhere(self, call_sid: str) -> Response:
        """Of another process's call it is Twilio that is asked."""
        shared = self._server.shared
        found = [] if shared is None else await shared.live_calls(call_sid)
        if found is None:
            return responses.text(_NOT_KNOWN, 503)
        if not found:
            return responses.text(responses.NOT_LIVE, 404)
        [call] = found
        twilio = self._server.twilio
        if twilio.missing:
            return responses.text(
                f"That call is at the process {call.process} ({call.address}): hang up there, or"
                f" set {', '.join(twilio.missing)} here.",
                409,
            )
        try:
            await twilio.hang_up(call_sid)
        except TwilioFailed as exc:
            return responses.text(f"{exc}.", 502)
        return responses.json({"call_sid": call_sid, "process": call.process}, 202)

    async def stream_token(self) -> Response:
        if refusal := await self._authenticator.operator():
            return refusal
        live_calls = self._server.live_calls
        if not live_calls.takes_calls:
            return responses.text(
                f"No call can be placed now: the server is {live_calls.status}.", 503
            )
        token = self._tokens.mint()
        return responses.json({"token": token, "path": f"twilio/{token}", "expires": LIFETIME})

    async def events(self, call_sid: str | None = None) -> Response:
        if refusal := await self._authenticator.operator():
            return refusal
        event_feed = self._server.live_calls.event_feed
        if event_feed.followers >= MAX_FOLLOWERS:
            return responses.text(_TOO_MANY, 503)
        # Browsers send the header only when they come back by themselves.
        last = request.headers.get("Last-Event-ID") or request.args.get("after", "")
        era, _, number = last.partition("-")
        after: int | None = None
        if era:
            # Behind what it had, or from the beginning of what is kept.
            known = era == self._era and _is_number(number)
            after = int(number) if known else FROM_THE_OLDEST
        elif call_sid is not None:
            after = FROM_THE_OLDEST
        response = Response(
            self._stream(after if after is not None else event_feed.count, call_sid),
            content_type="text/event-stream",
            headers={**UNKEPT, "X-Accel-Buffering": "no"},
        )
        response.timeout = None
        return response

    async def _stream(self, after: int, call_sid: str | None) -> AsyncIterator[bytes]:
        event_feed = self._server.live_calls.event_feed
        if event_feed.followers >= MAX_FOLLOWERS:
            # They have come since it was looked at. A browser asks again, and is told by a status.
            yield f": {_TOO_MANY}\n\n".encode()
            return
        with event_feed.follow(after) as follower:
            yield f"retry: {RETRY}\n\n".encode()
            while (news := await _receive(follower)) is not None:
                # One after the other, so that calls have their turns between them.
                async with self._turn:
                    lines = self._lines(news, call_sid)
                # Even if it is nothing: it keeps proxies from taking the connection for dead.
                yield lines or b":\n\n"
                if news != NOTHING:
                    await trio.sleep(PACE)

    def _lines(self, news: News, call_sid: str | None) -> bytes:
        missed, entries = news
        era = self._era.encode()
        lines = [f"event: missed\ndata: {missed}\n\n".encode()] if missed else []
        lines += [
            b"id: %s-%d\ndata: %s\n\n" % (era, number, entry.json)
            for number, entry in entries
            if call_sid is None or entry.call_sid == call_sid
        ]
        return b"".join(lines)


def _without_key_in_the_address(key: str | None, address: str) -> Response:
    """The page keeps the key as a cookie, and its address is one that may be shown."""
    info = request_info(request.scope)
    response = responses.text("The page is at the same address, without the key.", 303)
    if info.headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        response.headers["Location"] = address
    else:
        # A strict cookie does not go along with what another site has begun, redirections and all:
        # this is the page's own request.
        response.status_code = 200
        response.headers["Refresh"] = f"0; url={address}"
    response.headers["Cache-Control"] = "no-store"
    if has_key(info, key):
        secure = "; Secure" if info.scheme == "https" else ""
        cookie = f"{cookie_of(info)}={key}; Path=/; HttpOnly; SameSite=Strict{secure}"
        response.headers["Set-Cookie"] = cookie
    return response


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < MAX_DIGITS


def _facts(call: Bridge) -> dict[str, Any]:
    """What there is to know of a live call."""
    dialogue = call.dialogue
    info = streamed(dialogue.start)
    return {
        "call_sid": dialogue.call_sid,
        "stream_sid": dialogue.stream_sid,
        "from": info.from_,
        "to": info.to,
        "direction": info.direction,
        "agent": dialogue.agent or info.agent,
        "phase": dialogue.phase.name.lower(),
        "seconds": round(trio.current_time() - call.began, 3),
        "statistics": dialogue.statistics(),
    }


async def _receive(follower: Subscription) -> News | None:
    """What is new, nothing after a while, or None when the server goes away."""
    connection = hypercorn_guard.connection.get()
    news: News | None = None
    async with trio.open_nursery() as nursery:
        if connection is not None:
            nursery.start_soon(_end_with, connection.terminated, nursery.cancel_scope)
        with trio.move_on_after(KEEP_ALIVE) as waiting:
            news = await follower.receive()
        if waiting.cancelled_caught:
            news = NOTHING
        nursery.cancel_scope.cancel()
    return news


async def _end_with(terminated: Any, scope: trio.CancelScope) -> None:
    await terminated.wait()
    scope.cancel()
