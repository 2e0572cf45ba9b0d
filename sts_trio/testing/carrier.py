"""A carrier for a test: whole phone calls, from the webhook to the end of the last verb."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from sts_trio.simulate.carrier import Carrier
from sts_trio.simulate.media_stream import Sids
from sts_trio.simulate.party import Party
from sts_trio.simulate.phone import Watch
from sts_trio.simulate.phone_call import PhoneCall
from sts_trio.simulate.placement import Callee
from sts_trio.simulate.rest import Rest
from sts_trio.simulate.script import HangUp, WaitForQuiet, WaitForSpeech
from sts_trio.simulate.unknowns import Unknowns
from sts_trio.simulate.webhook import NUMBERS, Numbers
from sts_trio.testing.background import running_beside
from sts_trio.testing.caller import Said, at_work_in, steps_of

# Of any account's form: a secret of nobody's.
TOKEN = "0123456789abcdef0123456789abcdef"


class Account:
    """An account at a carrier, made by `carrier`: give it to `running`, and call by it.

    `rest` is its REST API, which the bridge asks. `parties` and `queues` are who can be dialled, by
    number, and who takes a caller out of a queue, by its name; set them anew at any time. The same
    with `callees`, whom the bridge may call, by number; `placed` tells what came of these calls, in
    the order in which they were over.
    """

    def __init__(self, simulated: Carrier, rest: Rest) -> None:
        self.rest = rest
        self.parties = simulated.account.parties
        self.queues = simulated.account.queues
        self.callees = simulated.callees
        self.placed = simulated.placed
        self._simulated = simulated

    @property
    def variables(self) -> dict[str, str]:
        """What a bridge is configured with to be this account's."""
        return {
            "TWILIO_ACCOUNT_SID": self._simulated.account_sid,
            "TWILIO_AUTH_TOKEN": self._simulated.token or "",
        }

    async def call(
        self,
        webhook: str,
        says: Said | Sequence[Said | WaitForQuiet | WaitForSpeech | HangUp] = (),
        *,
        barge_in_after: float | None = None,
        fallback: str = "",
        status_callback: str = "",
        limit: float = 120.0,
        watch: Watch | None = None,
        from_: str = NUMBERS.from_,
        to: str = NUMBERS.to,
    ) -> PhoneCall:
        """Calls the number whose voice webhook is at that URL, such as `Server.webhook`.

        All TwiML is followed until the caller hangs up, or there is no more of it. What the caller
        says and does is told as in `sts_trio.testing.call`. `fallback` and `status_callback` are
        URLs that a number has, too.

        Raises:
            NotAWav: one of the files cannot be read; nobody is called then.
        """
        sids = Sids(account=self._simulated.account_sid)
        return await self._simulated.place(
            webhook,
            steps_of(says, barge_in_after),
            fallback=fallback,
            status_callback=status_callback,
            limit=limit,
            watch=watch,
            is_busy=at_work_in(webhook, sids.call),
            sids=sids,
            numbers=Numbers(from_, to),
        )


@contextlib.asynccontextmanager
async def carrier(
    *,
    parties: Mapping[str, Party] | None = None,
    queues: Mapping[str, Party] | None = None,
    callees: Mapping[str, Callee] | None = None,
    unknowns: Unknowns | None = None,
) -> AsyncIterator[Account]:
    """An account at a carrier that follows TwiML as Twilio does, with its REST API on the loopback.

    `unknowns` are what nobody knows of Twilio; a bridge has to come through all of `readings()`.
    """
    simulated = Carrier(
        token=TOKEN, parties=parties, queues=queues, callees=callees, unknowns=unknowns
    )
    rest = Rest(simulated)
    async with running_beside(rest.serve):
        yield Account(simulated, rest)
