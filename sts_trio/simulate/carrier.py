"""A simulated carrier: places phone calls through a bridge's webhook, and follows its TwiML.

What is documented of Twilio is built as documented, see `twiml` and `webhook`; what nobody knows is
a switch, see `unknowns`.

Sources: Twilio, "TwiML for Programmable Voice" and its verbs, "Media Streams", "Call resource", and
its error pages, read 2026-11-30.
"""

from collections.abc import Mapping, Sequence

from sts_trio.simulate.carrier_call import Call, Party, Url
from sts_trio.simulate.connect import HTTP, parts_of
from sts_trio.simulate.media_stream import Sids
from sts_trio.simulate.phone import Watch
from sts_trio.simulate.phone_call import PhoneCall
from sts_trio.simulate.script import IsBusy, Step, never
from sts_trio.simulate.unknowns import Unknowns
from sts_trio.simulate.webhook import NUMBERS, Numbers, Sign, Webhooks
from sts_trio.wire.webhook import SIGNATURE_HEADER
from sts_trio.wire.webhook import sign as signature


class Carrier:
    """One account of a carrier. `calls` are its live ones, `over` the SIDs of those that were.

    `token` is the account's auth token, which signs its requests; or `sign` makes what signs them.
    `headers` go with every request. `parties` are those who can be dialled, by number, and `queues`
    those who take a caller out of a queue, by its name. `parameters` are given to every stream.
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
        unknowns: Unknowns | None = None,
    ) -> None:
        self.account_sid = account_sid or Sids().account
        self.token = token
        self.sign = sign if token is None else signer(token)
        self.headers = headers or {}
        self.parameters = dict(parameters or {})
        self.parties = dict(parties or {})
        self.queues = dict(queues or {})
        self.unknowns = unknowns or Unknowns()
        self.calls: dict[str, Call] = {}
        self.over: set[str] = set()
        self.webhooks = Webhooks(self.sign, self.headers, pause=self.unknowns.retry_pause)

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
        call = Call(self, steps, limit, is_busy or never, watch, sids, numbers, fallback)
        self.calls[sids.call] = call
        try:
            await call.run(Url(url, method), status_callback)
        finally:
            del self.calls[sids.call]
            self.over.add(sids.call)
        return call.told()


def signer(token: str) -> Sign:
    """Signs as Twilio does with this auth token."""

    def sign(url: str, form: Mapping[str, str]) -> dict[str, str]:
        # Twilio streams by wss alone; on the loopback, where ws will do, it is signed as such.
        url = "wss://" + url.removeprefix("ws://") if url.startswith("ws://") else url
        return {SIGNATURE_HEADER: signature(token, url, form)}

    return sign
