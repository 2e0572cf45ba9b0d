"""A simulated carrier: places phone calls through a bridge's webhook, and follows its TwiML.

What is documented of Twilio is built as documented, see `twiml` and `webhook`; what nobody knows is
a switch, see `unknowns`.

Sources: Twilio, "TwiML for Programmable Voice" and its verbs, "Media Streams", "Call resource", and
its error pages, read 2026-11-30.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import trio

from sts_trio.simulate.account import Account
from sts_trio.simulate.call_requests import Url
from sts_trio.simulate.carrier_call import Call
from sts_trio.simulate.connect import HTTP, parts_of
from sts_trio.simulate.media_stream import Sids
from sts_trio.simulate.party import Party
from sts_trio.simulate.phone import Watch
from sts_trio.simulate.phone_call import PhoneCall
from sts_trio.simulate.placement import Callee, Placement
from sts_trio.simulate.script import IsBusy, Step, never
from sts_trio.simulate.unknowns import Unknowns
from sts_trio.simulate.webhook import NUMBERS, Numbers, Sign, Webhooks
from sts_trio.wire.addresses import OUTBOUND
from sts_trio.wire.webhook import SIGNATURE_HEADER
from sts_trio.wire.webhook import sign as signature


class Carrier:
    """One account of a carrier. `calls` are its live ones by SID, `over` how others ended.

    `token` is the account's auth token, which signs its requests; or `sign` makes what signs them.
    `callees` are those whom the bridge may call by REST, by number, and `placed` what came of these
    calls, in the order in which they were over. The rest is as in `Account`.
    """

    def __init__(
        self,
        account_sid: str | None = None,
        *,
        token: str | None = None,
        sign: Sign | None = None,
        headers: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
        parties: Mapping[str, Party] | None = None,
        queues: Mapping[str, Party] | None = None,
        callees: Mapping[str, Callee] | None = None,
        unknowns: Unknowns | None = None,
    ) -> None:
        self.account_sid = account_sid or Sids().account
        self.token = token
        unknowns = unknowns or Unknowns()
        sign = sign if token is None else signer(token)
        headers = headers or {}
        self.account = Account(
            webhooks=Webhooks(sign, headers, pause=unknowns.retry_pause),
            sign=sign,
            headers=headers,
            parameters=dict(parameters or {}),
            parties=dict(parties or {}),
            queues=dict(queues or {}),
            unknowns=unknowns,
        )
        self.callees = dict(callees or {})
        self.placed: list[PhoneCall] = []
        self.calls: dict[str, Call] = {}
        self.over: dict[str, str] = {}  # {SID: status}

    async def place(
        self,
        url: str,
        steps: Sequence[Step],
        *,
        method: str = "POST",
        fallback: str = "",
        status_callback: str = "",
        limit: float = 120.0,
        watch: Watch | None = None,
        is_busy: IsBusy | None = None,
        sids: Sids | None = None,
        numbers: Numbers = NUMBERS,
    ) -> PhoneCall:
        """Calls the number whose voice webhook is `url`, and returns when the call is over.

        `fallback` and `status_callback` are URLs of the number, too. The rest is as in
        `caller.place_call`. Whatever becomes of the call is told by what is returned.

        Raises:
            NotAUrl: nothing can be asked by that URL.
        """
        parts_of(url, HTTP)
        sids = sids or Sids(account=self.account_sid)
        call = Call(self.account, steps, limit, is_busy or never, watch, sids, numbers, fallback)
        with self._live(call):
            await call.run(Url(url, method), status_callback)
        return call.told()

    async def run_placed(
        self,
        placement: Placement,
        *,
        task_status: trio.TaskStatus[Call] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Places a call as a bridge has asked by REST; `placed` has it when it is over."""
        callee = self.callees.get(placement.to)
        steps, limit = (callee.steps, callee.limit) if callee is not None else ((), 0.0)
        call = Call(
            self.account,
            steps,
            limit,
            never,
            None,
            Sids(account=self.account_sid),
            Numbers(placement.from_, placement.to),
            placement.fallback,
            OUTBOUND,
        )
        with self._live(call):
            task_status.started(call)
            await call.run_placed(placement, callee)
        self.placed.append(call.told())

    @contextlib.contextmanager
    def _live(self, call: Call) -> Iterator[None]:
        sid = call.sids.call
        self.calls[sid] = call
        try:
            yield
        finally:
            del self.calls[sid]
            self.over[sid] = call.status


def signer(token: str) -> Sign:
    """Signs as Twilio does with this auth token."""

    def sign(url: str, form: Mapping[str, str]) -> dict[str, str]:
        # Twilio streams by wss alone; on the loopback, where ws will do, it is signed as such.
        url = "wss://" + url.removeprefix("ws://") if url.startswith("ws://") else url
        return {SIGNATURE_HEADER: signature(token, url, form)}

    return sign
