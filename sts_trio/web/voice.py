"""Twilio's voice webhooks.

`/twiml`         a call comes in, or one that we placed is answered
`/twiml/after`   its stream is over, or the transfer that came after it
`/twiml/stream`  the same, told and not asked; for when the former is not
"""

import time
from typing import assert_never

import msgspec
from quart import Response

from sts_trio.bridge.run import Bridge
from sts_trio.call.info import CallInfo, Elsewhere, announced, parameters
from sts_trio.call.owed import Owed, owed
from sts_trio.errors import Cause, DialRefused, Ending
from sts_trio.logic.acts import CallerGone
from sts_trio.moves.decision import Apologise, Ended, Returned
from sts_trio.moves.lookout import AGAIN, ASKED_FOR, after_url
from sts_trio.moves.mover import Outcome, Taken
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.outbound.progress import TOKEN, TWIML_PATH
from sts_trio.outbound.transfer import AFTER_PATH, transfer_twiml
from sts_trio.records.movable import HowEnded, Owner
from sts_trio.server import Server
from sts_trio.web import responses
from sts_trio.web.access import KEY, base_of
from sts_trio.web.authentication import Authenticator
from sts_trio.web.media import stream_path
from sts_trio.web.responses import WEBHOOK, Rules
from sts_trio.web.tokens import StreamTokens
from sts_trio.wire import webhook

# Of the query of a webhook, what we know its call by, and what lets this machine in.
OUR_FIELDS = frozenset({TOKEN, KEY})

STREAM_PATH = "/twiml/stream"


class Voice:
    def __init__(self, server: Server, authenticator: Authenticator, tokens: StreamTokens) -> None:
        self._server = server
        self._authenticator = authenticator
        self._tokens = tokens

    @property
    def rules(self) -> Rules:
        return [
            (TWIML_PATH, self.answer, WEBHOOK),
            (AFTER_PATH, self.after, WEBHOOK),
            (STREAM_PATH, self.stream, WEBHOOK),
        ]

    async def answer(self) -> Response:
        """A call comes in: TwiML that connects it to the media socket."""
        request, refusal = await self._authenticator.webhook()
        if refusal is not None:
            return refusal
        voice = webhook.read_request(request.fields)
        call = announced(voice, webhook.caller_parameters(request.fields, OUR_FIELDS))
        asked = request.query_fields.first(TOKEN)
        await self._server.dialler.placed.consult(asked)
        placed = self._server.dialler.placed.answered(voice.call_sid, asked)
        if placed is not None:
            call = msgspec.structs.replace(call, agent=placed.agent, parameters=placed.parameters)
        config = self._server.config
        base = base_of(request, config)
        if base is None:
            return Response("No Host header.\n", 400)
        if self._server.live_calls.has_heir:
            # It came on a connection from before. The next one leads to who takes calls.
            query = f"?{request.query}" if request.query else ""
            return responses.twiml(webhook.redirect(f"{base}{TWIML_PATH}{query}"))
        if not self._server.live_calls.takes_calls:
            self._server.refuse(call)
            return responses.twiml(webhook.busy(answered=voice.is_answered))
        call = await self._server.announce(call, is_over=voice.is_over)
        return responses.twiml(self._connect(base, call, config.notice))

    async def after(self) -> Response:
        """The call's stream is over, or the transfer that came behind it."""
        request, refusal = await self._authenticator.webhook()
        if refusal is not None:
            return refusal
        voice = webhook.read_request(request.fields)
        moved_calls = self._server.moved_calls
        if moved_calls is not None and ASKED_FOR not in request.query_fields:
            await moved_calls.lookout.until_asked(voice.call_sid)
        if voice.dial_call_status:
            self._server.dialler.placed.heard_transfer(voice)
        base = base_of(request, self._server.config)
        if (call := self._still_here(voice)) is not None:
            return self._lead_back(base, voice, call)
        ending = await self._server.live_calls.ending_told(voice.call_sid)
        what = owed(voice, ending)
        reason: str | None = None
        is_open = what is Owed.CALL and (ending is None or ending.cause is Cause.MOVED)
        if is_open and base is not None:  # else nobody is to claim it, as nothing can lead to us
            if self._server.live_calls.is_draining and moved_calls is not None:
                # Twilio asks again: by then whoever is in between knows of somebody else, or our
                # successor is there.
                return responses.text("This process is about to end.", 503)
            outcome = await self._outcome(voice)
            match outcome:
                case Taken():
                    return await self._go_on(base, voice, outcome)
                case Ended(how) if how is not None:
                    ending = _ending(how)
                    what = owed(voice, ending)
                case Returned(owner):
                    return self._lead_to(base, voice, owner)
                case Apologise(why):
                    reason = why
        match what:
            case Owed.NOTHING:
                twiml = webhook.hang_up()
            case Owed.TRANSFER:
                assert ending is not None
                twiml = self._transfer(base, voice, ending.detail)
            case Owed.REGRET:
                twiml = webhook.not_taken()
            case Owed.CALL:
                twiml = self._break_off(voice, ending, reason)
            case never:
                assert_never(never)
        return responses.twiml(twiml)

    async def stream(self) -> Response:
        """What becomes of a call's stream. If it is over, Twilio is about to ask what comes next;
        should it not, and the process be gone that had the call, it is told to."""
        request, refusal = await self._authenticator.webhook()
        if refusal is not None:
            return refusal
        voice = webhook.read_request(request.fields)
        base = base_of(request, self._server.config)
        moved_calls = self._server.moved_calls
        is_over = voice.stream_event in ("stream-stopped", "stream-error")
        if is_over and base is not None and moved_calls is not None and self._may_be_left(voice):
            moved_calls.lookout.hear(voice.call_sid, voice.account_sid, after_url(base))
        return Response("", 204)

    def _may_be_left(self, voice: webhook.VoiceRequest) -> bool:
        """Whether it is not known here that the call is over, or goes on."""
        ending = self._server.live_calls.ending_of(voice.call_sid)
        is_over = ending is not None and ending.cause is not Cause.MOVED
        return not is_over and not self._server.live_calls.find(voice.call_sid)

    def _still_here(self, voice: webhook.VoiceRequest) -> Bridge | None:
        """The call, if it was but its stream that has ended."""
        if voice.dial_call_status:
            return None
        found = self._server.live_calls.find(voice.call_sid)
        return next((call for call in reversed(found) if call.may_come_back), None)

    def _lead_back(self, base: str | None, voice: webhook.VoiceRequest, call: Bridge) -> Response:
        """The stream was cut, the agent has noticed nothing: another one leads to the same."""
        if voice.is_over or base is None:
            call.tell(CallerGone())
            return responses.twiml(webhook.hang_up())
        call.expect_back()
        info = msgspec.structs.replace(call.call.info, line="", elsewhere=None)
        return responses.twiml(self._connect(base, info))

    async def _outcome(self, voice: webhook.VoiceRequest) -> Outcome | None:
        """What becomes of a call that did not end here; None: that is not to be known."""
        moved_calls = self._server.moved_calls
        if moved_calls is None:
            return None
        heir_of = None if self._server.live_calls.takes_calls else moved_calls.with_most_room
        return await moved_calls.mover.decide(voice.call_sid, voice.account_sid, "action", heir_of)

    async def _go_on(self, base: str, voice: webhook.VoiceRequest, taken: Taken) -> Response:
        assert self._server.moved_calls is not None
        call = await self._server.moved_calls.go_on(taken.known(announced(voice)), taken)
        return responses.twiml(self._connect(base, call))

    def _lead_to(self, base: str, voice: webhook.VoiceRequest, owner: Owner) -> Response:
        """Another process waits for the stream, or is about to. Should it come to one that does
        not, that one goes on with the call by what the database has."""
        before = Elsewhere("recovered", 0, time.time())
        call = msgspec.structs.replace(announced(voice), elsewhere=before)
        return responses.twiml(self._connect(base, call, process=owner.name))

    def _connect(
        self, base: str, call: CallInfo, notice: str | None = None, *, process: str | None = None
    ) -> str:
        """Has the call streamed, to that process, or here: if whoever is in between can lead it
        there."""
        token = self._tokens.mint(call.call_sid)
        moves = self._server.moved_calls is not None
        is_told = moves and not self._server.twilio.missing
        return webhook.connect_stream(
            webhook.media_url(base, stream_path(token, process or self._server.name_in_fleet)),
            base + AFTER_PATH + (AGAIN if moves else ""),
            notice=notice,
            parameters=parameters(call),
            status_url=base + STREAM_PATH if is_told else None,
        )

    def _break_off(
        self, voice: webhook.VoiceRequest, ending: Ending | None, reason: str | None = None
    ) -> str:
        """Nobody can go on with the call, but somebody is on the line: they are told."""
        is_full = not self._server.live_calls.takes_calls
        label = None if ending is None else ending.cause.label
        told = events.CallBrokenOff("busy" if is_full else "apology", label, reason)
        report(told, call_sid=voice.call_sid)
        return webhook.busy(answered=True) if is_full else webhook.apology()

    def _transfer(self, base: str | None, voice: webhook.VoiceRequest, number: str) -> str:
        config = self._server.config
        try:
            return transfer_twiml(config, number, announced(voice), base)
        except DialRefused as exc:
            report(events.CallNotTransferred(str(exc), number), call_sid=voice.call_sid)
            return webhook.not_taken()


def _ending(how: HowEnded) -> Ending:
    """As another process has written it."""
    return Ending(Cause.labelled(how.label), how.detail, how.apologised)
