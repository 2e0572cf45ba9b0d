"""A call that a bridge has placed by REST, until somebody answers: it rings, and the bridge is told
how it comes along, as far as it has asked for that.
"""

from collections.abc import Callable

import trio

from sts_trio.simulate.call_requests import CallRequests, Source, Text, Url
from sts_trio.simulate.placement import Callee, Placement

# {what became of a call that nobody answered: the SIP response that told}
_SIP = {"busy": "486", "failed": "404", "no-answer": "487", "canceled": "487"}


class PlacedCall:
    """`callee` is None where nobody has that number. `form` is what is told of the call anyway."""

    def __init__(
        self,
        placement: Placement,
        callee: Callee | None,
        requests: CallRequests,
        form: Callable[[], dict[str, str]],
    ) -> None:
        self._placement = placement
        self._callee = callee
        self._requests = requests
        self._form = form
        self._sequence = 0

    async def ring(self, on_ringing: Callable[[], None]) -> str | None:
        """What became of it, in Twilio's word; None: it is answered."""
        callee = self._callee
        if callee is None or callee.is_busy:
            return "failed" if callee is None else "busy"
        on_ringing()
        self.tell("ringing")
        await trio.sleep(min(callee.answers_after, self._placement.timeout))
        return None if callee.answers_after <= self._placement.timeout else "no-answer"

    async def answered(self, nursery: trio.Nursery) -> Source:
        """Where it goes on. Who has answered is told first if it was asked for that, or meanwhile,
        in the `nursery`."""
        self.tell("answered")
        placement, callee = self._placement, self._callee
        known: dict[str, str] = {}
        if callee is not None and placement.detects:
            if placement.amd_callback:
                nursery.start_soon(self._tell_answerer, callee)
            else:
                await trio.sleep(callee.known_after)
                known = {"AnsweredBy": callee.answered_by}
        if placement.twiml:
            return Text(placement.twiml)
        return Url(placement.url, placement.method, known)

    def tell(self, event: str, fields: dict[str, str] | None = None) -> None:
        wanted = self._placement
        if wanted.status_callback and event in wanted.events:
            told = self._form() | {"SequenceNumber": str(self._sequence), **(fields or {})}
            self._requests.tell_soon(wanted.status_callback, told, wanted.status_callback_method)
        self._sequence += 1

    def tell_over(self, status: str, outcome: dict[str, str]) -> None:
        self.tell("completed", outcome | {"SipResponseCode": _SIP.get(status, "200")})

    async def _tell_answerer(self, callee: Callee) -> None:
        await trio.sleep(callee.known_after)
        form = self._form()
        fields = {
            "AccountSid": form["AccountSid"],
            "CallSid": form["CallSid"],
            "AnsweredBy": callee.answered_by,
            "MachineDetectionDuration": str(round(callee.known_after * 1000)),
        }
        url, method = self._placement.amd_callback, self._placement.amd_callback_method
        await self._requests.tell(url, fields, method)
