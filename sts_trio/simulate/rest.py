"""The part of Twilio's REST API that a bridge asks for calls, on the loopback.

`POST …/Calls.json` places a call to one of the carrier's `callees`, see `placement`. `POST
…/Calls/SID.json` with `Status`, `Url` or `Twiml` does what it asks for to a call of the carrier's;
`GET` tells of it. Refusals are Twilio's, by code. `refusals` come first, in turn, and `latency` is
how long an answer takes.

Sources: Twilio, "Call resource" and "Twilio's response", read 2026-11-30.
"""

import base64
import collections
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec
import trio

from sts_trio.net import http
from sts_trio.simulate import placement
from sts_trio.simulate.call_requests import Text, Url
from sts_trio.simulate.carrier import Carrier
from sts_trio.simulate.carrier_call import Call
from sts_trio.wire.webhook import REST_TWIML_LIMIT

LONGEST = 64 * 1024
NONE: Mapping[str, str] = {}

_CALL = re.compile("/2010-04-01/Accounts/([^/]+)/Calls(?:/([^/]+))?[.]json")


class Refusal(msgspec.Struct, frozen=True):
    """As Twilio refuses."""

    status: int
    code: int
    message: str
    retry_after: int | None = None


DENIED = Refusal(401, 20003, "Authenticate")
NOT_FOUND = Refusal(404, 20404, "The requested resource was not found")
NOT_ALLOWED = Refusal(405, 20004, "Method not allowed")
NOT_IN_PROGRESS = Refusal(400, 21220, "Call is not in-progress. Cannot redirect.")
TOO_LONG = Refusal(400, 32018, f"Twiml is longer than {REST_TWIML_LIMIT} characters")
NOTHING_ASKED = Refusal(400, 21218, "expected a Status, a Url or Twiml")
TOO_MANY = Refusal(429, 20429, "Too Many Requests", 1)


class Rest:
    """Serve it once; `url` is then what stands for https://api.twilio.com."""

    def __init__(self, carrier: Carrier) -> None:
        self.url = ""
        self.latency = 0.0
        self.refusals: collections.deque[Refusal] = collections.deque()
        self.asked: list[tuple[str, dict[str, str]]] = []  # (call SID, form)
        self._carrier = carrier
        self._nursery: trio.Nursery

    async def serve(
        self, *, task_status: trio.TaskStatus["Rest"] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serves until cancelled, and with it the calls that were placed by it."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        answer = functools.partial(http.answer, respond=self._respond, longest=LONGEST)
        async with trio.open_nursery() as self._nursery:
            task_status.started(self)
            await trio.serve_listeners(answer, listeners)

    async def _respond(self, request: http.Request) -> http.Answer:
        await trio.sleep(self.latency)
        told = await self._told(request)
        if not isinstance(told, Refusal):
            return told
        body = {"code": told.code, "message": told.message, "status": told.status}
        after = {} if told.retry_after is None else {"retry-after": str(told.retry_after)}
        return _answer(told.status, body, after)

    async def _told(self, request: http.Request) -> http.Answer | Refusal:
        if self.refusals:
            return self.refusals.popleft()
        if not self._is_known(request.headers.get("authorization", "")):
            return DENIED
        found = _CALL.fullmatch(unquote(request.path))
        if found is None or found[1] != self._carrier.account_sid:
            return NOT_FOUND
        fields = parse_qs(request.body.decode())
        form = {name: values[0] for name, values in fields.items()}
        sid = found[2]
        if sid is None:
            if request.method != "POST":
                return NOT_ALLOWED
            return await self._place(fields, form)
        call = self._carrier.calls.get(sid)
        if request.method == "POST":
            self.asked.append((sid, form))
            if (refusal := self._update(sid, call, form)) is not None:
                return refusal
        elif request.method != "GET":
            return NOT_ALLOWED
        if call is None and sid not in self._carrier.over:
            return NOT_FOUND
        status = self._carrier.over[sid] if call is None else call.status
        return self._of_call(200, sid, status)

    async def _place(
        self, fields: Mapping[str, Sequence[str]], form: dict[str, str]
    ) -> http.Answer | Refusal:
        try:
            wanted = placement.read(fields)
        except placement.NotPlaced as exc:
            return Refusal(400, exc.code, str(exc))
        call: Call = await self._nursery.start(self._carrier.run_placed, wanted)
        self.asked.append((call.sids.call, form))
        return self._of_call(201, call.sids.call, "queued")

    def _of_call(self, status: int, sid: str, call_status: str) -> http.Answer:
        account = self._carrier.account_sid
        return _answer(status, {"sid": sid, "account_sid": account, "status": call_status})

    def _update(self, sid: str, call: Call | None, form: dict[str, str]) -> Refusal | None:
        if call is None or call.is_over:
            return NOT_IN_PROGRESS if call or sid in self._carrier.over else NOT_FOUND
        status, twiml, url = form.get("Status"), form.get("Twiml"), form.get("Url")
        if status == "completed" or (status == "canceled" and call.status == "ringing"):
            call.hang_up()
        elif status == "canceled":
            return None  # "no effect later"
        elif url is not None:
            call.redirect(Url(url, form.get("Method", "POST")), form.get("FallbackUrl"))
        elif twiml is None:
            return NOTHING_ASKED
        elif len(twiml) > REST_TWIML_LIMIT:
            return TOO_LONG
        else:
            call.redirect(Text(twiml))
        return None

    def _is_known(self, authorization: str) -> bool:
        """Whether it is the account's SID and token, if that has one."""
        given = f"{self._carrier.account_sid}:{self._carrier.token}"
        expected = "Basic " + base64.b64encode(given.encode()).decode()
        return self._carrier.token is None or authorization == expected


def _answer(
    status: int, body: dict[str, Any], headers: dict[str, str] | None = None
) -> http.Answer:
    given = {"content-type": "application/json", **(headers or {})}
    return http.Answer(status, given, msgspec.json.encode(body))
