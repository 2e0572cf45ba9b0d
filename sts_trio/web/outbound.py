"""Calls that we place: asked for by the operator, and told of by Twilio.

`/calls`          (POST) places a call
`/twiml/status`   Twilio: it rings, is answered, is over
`/twiml/amd`      Twilio: it was a human, or a machine, that answered
"""

import json
import math
from typing import Any

import msgspec
from quart import Response, request

from sts_trio.errors import DialRefused, TwilioFailed
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.outbound.dialler import Dialler
from sts_trio.outbound.progress import AMD_PATH, STATUS_PATH, TOKEN, of_answerer, of_status
from sts_trio.outbound.requests import OnMachine
from sts_trio.web import responses
from sts_trio.web.authentication import Authenticator
from sts_trio.web.responses import POST, WEBHOOK, Rules
from sts_trio.wire import webhook
from sts_trio.wire.printable import quoted

# {field of the request: its type, and what to expect there}
_FIELDS: dict[str, tuple[Any, str]] = {
    "to": (str, "a number like +15005550006"),
    "agent": (str | None, "the name of an agent"),
    "parameters": (dict[str, str] | None, "an object of strings"),
    "on_machine": (OnMachine | None, " or ".join(each.value for each in OnMachine)),
    "message": (str | None, "a text"),
}

# An answer, and a line of the log, do not grow with what is wrong.
MAX_UNKNOWN = 10
LONGEST_NAME = 80


class Outbound:
    def __init__(self, dialler: Dialler, authenticator: Authenticator) -> None:
        self._dialler = dialler
        self._authenticator = authenticator

    @property
    def rules(self) -> Rules:
        return [
            ("/calls", self.place, POST),
            (STATUS_PATH, self.status, WEBHOOK),
            (AMD_PATH, self.answerer, WEBHOOK),
        ]

    async def place(self) -> Response:
        """The operator's password is sent by a browser whatever page asks for it. A page of
        somebody else's is told by its origin, and could not send JSON without asking first."""
        if refusal := await self._authenticator.operator():
            return refusal
        key = request.headers.get("Idempotency-Key")
        try:
            body = await request.get_data(cache=True, as_text=False, parse_form_data=False)
            fields = _read(request.mimetype, body)
        except DialRefused as exc:
            report(events.DialRefused(exc.why, str(exc)))
            return _refused(exc)
        try:
            placed = await self._dialler.place(**fields, idempotency_key=key)
        except DialRefused as exc:
            return _refused(exc)
        except TwilioFailed as exc:
            twilio = {"status": exc.status, "code": exc.code, "message": exc.message}
            told = {"error": str(exc), "uncertain": exc.is_uncertain, "twilio": twilio}
            return responses.json(told, 502)
        return responses.json(placed, 201)

    async def status(self) -> Response:
        info, refusal = await self._authenticator.webhook()
        if refusal is not None:
            return refusal
        voice = webhook.read_request(info.fields)
        token = info.query_fields.first(TOKEN)
        await self._dialler.placed.consult(token, of_status(voice))
        self._dialler.placed.heard_status(voice, token)
        return _heard()

    async def answerer(self) -> Response:
        info, refusal = await self._authenticator.webhook()
        if refusal is not None:
            return refusal
        voice = webhook.read_request(info.fields)
        token = info.query_fields.first(TOKEN)
        await self._dialler.placed.consult(token, *of_answerer(voice))
        self._dialler.placed.heard_answerer(voice, token)
        return _heard()


def _heard() -> Response:
    # An empty text: for a response without any, Quart makes a generator that wants asyncio.
    return Response("", 204)


def _refused(refusal: DialRefused) -> Response:
    told: dict[str, Any] = {"error": str(refusal), "why": refusal.why}
    if refusal.fields:
        told["fields"] = refusal.fields
    response = responses.json(told, refusal.status)
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(refusal.retry_after))
    return response


def _read(mimetype: str, body: bytes) -> dict[str, Any]:
    """The fields of a request, those that are null left out.

    Raises:
        DialRefused: it is none; each field that is not as it should be is told.
    """
    if mimetype != "application/json":
        raise DialRefused("invalid", 415, "expected JSON, as application/json")
    try:
        given = msgspec.json.decode(body, type=dict[str, Any])
        # It takes the last of two that have one name; who looks at it before us may take the first.
        # Whole numbers stay text: Python takes long for long ones.
        json.loads(body, object_pairs_hook=_each_once, parse_int=str)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise _invalid({"body": f"expected a JSON object: {exc}"}) from None
    faults, fields = {}, {}
    unknown = 0
    for name in dict.fromkeys(["to", *given]):
        kind, expected = _FIELDS.get(name, (None, ""))
        if kind is None:
            unknown += 1
            if unknown <= MAX_UNKNOWN:
                faults[_short(name)] = f"unknown field; known are {', '.join(_FIELDS)}"
            continue
        try:
            fields[name] = msgspec.convert(given.get(name), kind)
        except msgspec.ValidationError:
            faults[name] = f"expected {expected}, got {_shown(given.get(name))}"
    if unknown > MAX_UNKNOWN:
        faults["body"] = f"{unknown - MAX_UNKNOWN} more unknown fields"
    if faults:
        raise _invalid(faults)
    return {name: value for name, value in fields.items() if value is not None}


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError(f"{quoted(name)} is given twice")
        fields[name] = value
    return fields


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _shown(value: Any) -> str:
    return "nothing" if value is None else quoted(value)


def _invalid(fields: dict[str, str]) -> DialRefused:
    told = "; ".join(f"{quoted(name)[1:-1]}: {fault}" for name, fault in fields.items())
    return DialRefused("invalid", 400, told, fields=fields)
