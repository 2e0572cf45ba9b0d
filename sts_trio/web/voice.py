"""Twilio's voice webhooks.

`/twiml`         a call comes in, or one that we placed is answered
`/twiml/after`   its stream is over, or the transfer that came after it
"""

from typing import assert_never

import msgspec
from quart import Response

from sts_trio.call.info import announced, parameters
from sts_trio.call.owed import Owed, owed
from sts_trio.errors import DialRefused, Ending
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.outbound.progress import TOKEN, TWIML_PATH
from sts_trio.outbound.transfer import AFTER_PATH, transfer_twiml
from sts_trio.server import Server
from sts_trio.web import responses
from sts_trio.web.access import KEY, RequestInfo, base_of
from sts_trio.web.authentication import Authenticator
from sts_trio.web.media import stream_path
from sts_trio.web.responses import WEBHOOK, Rules
from sts_trio.web.tokens import StreamTokens
from sts_trio.wire import webhook

# Of the query of a webhook, what we know its call by, and what lets this machine in.
OUR_FIELDS = frozenset({TOKEN, KEY})


class Voice:
    def __init__(self, server: Server, authenticator: Authenticator, tokens: StreamTokens) -> None:
        self._server = server
        self._authenticator = authenticator
        self._tokens = tokens

    @property
    def rules(self) -> Rules:
        return [(TWIML_PATH, self.answer, WEBHOOK), (AFTER_PATH, self.after, WEBHOOK)]

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
        token = self._tokens.mint(call.call_sid)
        return responses.twiml(
            webhook.connect_stream(
                webhook.media_url(base, stream_path(token, self._server.name_in_fleet)),
                base + AFTER_PATH,
                notice=config.notice,
                parameters=parameters(call),
            )
        )

    async def after(self) -> Response:
        """The call's stream is over, or the transfer that came behind it."""
        request, refusal = await self._authenticator.webhook()
        if refusal is not None:
            return refusal
        voice = webhook.read_request(request.fields)
        if voice.dial_call_status:
            self._server.dialler.placed.heard_transfer(voice)
        ending = self._server.live_calls.ending_of(voice.call_sid)
        match owed(voice, ending):
            case Owed.NOTHING:
                twiml = webhook.hang_up()
            case Owed.TRANSFER:
                assert ending is not None
                twiml = self._transfer(request, voice, ending.detail)
            case Owed.REGRET:
                twiml = webhook.not_taken()
            case Owed.CALL:
                twiml = self._break_off(voice, ending)
            case never:
                assert_never(never)
        return responses.twiml(twiml)

    def _break_off(self, voice: webhook.VoiceRequest, ending: Ending | None) -> str:
        """Nobody can go on with the call, but somebody is on the line: they are told."""
        is_full = not self._server.live_calls.takes_calls
        label = None if ending is None else ending.cause.label
        told = events.CallBrokenOff("busy" if is_full else "apology", label)
        report(told, call_sid=voice.call_sid)
        return webhook.busy(answered=True) if is_full else webhook.apology()

    def _transfer(self, request: RequestInfo, voice: webhook.VoiceRequest, number: str) -> str:
        config = self._server.config
        try:
            return transfer_twiml(config, number, announced(voice), base_of(request, config))
        except DialRefused as exc:
            report(events.CallNotTransferred(str(exc), number), call_sid=voice.call_sid)
            return webhook.not_taken()
