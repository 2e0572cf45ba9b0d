"""How a caller goes on to somebody else, and how a call ends that its stream does not end.

A call that came by our webhook comes back to `/twiml/after` when its stream has ended, and is given
its `<Dial>` there. One that came by a TwiML Bin does not: the Bin's own TwiML goes on. It has to be
redirected, or hung up, by the REST API, and before its stream is closed: after that, the Bin's next
verb runs, and mostly there is none. What comes of that decides how the call ends.

Who may be dialled is the operator's list, asked again here: it is their money.
"""

from collections.abc import Callable

import trio

from sts_trio.call.info import CallInfo
from sts_trio.config import Config
from sts_trio.errors import Cause, DialRefused, Ending, TwilioFailed
from sts_trio.logic.acts import CallReleased
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.wire import webhook
from sts_trio.wire.addresses import INBOUND, is_number

AFTER_PATH = "/twiml/after"
# For the hang-ups that are still being asked for when the server goes away: a request or two.
LAST_HANG_UPS = 5.0


def transfer_twiml(config: Config, number: str, info: CallInfo, base: str | None) -> str:
    """TwiML that dials `number`, and comes back to us when that is over or came to nothing.

    `base` is this server's address as Twilio knows it.

    Raises:
        DialRefused: the number is not on the list, or Twilio would not dial it.
    """
    if not config.may_transfer(number):
        raise DialRefused(
            "transfer",
            403,
            f"nobody may be transferred to {number[:40]!r}: {config.where('STS_TRANSFER_NUMBERS')}"
            " is the list of the numbers that may",
        )
    action = None if base is None else base + AFTER_PATH
    return webhook.dial(number, _caller_id(config, info), action)


def _caller_id(config: Config, info: CallInfo) -> str | None:
    """Whom the called one sees: who called us by their own number (`None`: that is what Twilio
    does by itself), who was called by us by ours.

    "callerId must be the calling number, called number, or a validated outgoing number. If the
    calling leg is a client leg, the caller ID is required." A number that is withheld is passed on
    as it is, and "some destination providers reject the call" (Twilio, warning 13214, read
    2026-11-30). So who has no number to show is shown by ours.
    """
    caller = info.from_.strip()
    if info.direction == INBOUND and (not caller or is_number(caller)):
        return None
    ours = info.parties.ours
    if config.caller_id is not None or is_number(ours):
        return config.caller_id or ours
    if ":" in caller:
        raise DialRefused(
            "caller_id",
            503,
            f"Twilio dials nobody for {caller[:40]!r}, who has no number: set STS_CALLER_ID",
        )
    return None


class PhoneCalls:
    """Ends and transfers the phone calls that only the REST API can.

    Run it once, for as long as the server lives: a hang-up is seen through, even if the call that
    asked for it is gone.
    """

    def __init__(self, config: Config, rest: Callable[[], TwilioRest]) -> None:
        self._config = config
        self._rest = rest
        self._nursery: trio.Nursery
        self._pending = 0
        self._settled = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    async def settle(self) -> None:
        """Waits for the hang-ups that are still being asked for, `LAST_HANG_UPS` at most."""
        with trio.move_on_after(LAST_HANG_UPS):
            while self._pending:
                self._settled = trio.Event()
                await self._settled.wait()

    async def release(self, info: CallInfo, ending: Ending) -> CallReleased:
        """Ends the phone call, or transfers it, as `ending` says.

        Await it before the caller's stream is closed. While Twilio cannot be reached it takes up to
        a minute. Cancelled, a transfer is given up, unless it is done already; a hang-up goes on.
        """
        if ending.cause is Cause.TRANSFERRED:
            return await self._transfer(info, ending.detail)
        return await self._hang_up(info)

    async def _transfer(self, info: CallInfo, number: str) -> CallReleased:
        try:
            twiml = transfer_twiml(self._config, number, info, self._config.public_url)
            is_done = await self._rest().redirect(info.call_sid, twiml, info.account_sid)
        except (DialRefused, TwilioFailed) as exc:
            return CallReleased(str(exc))
        return CallReleased(was_over=not is_done)

    async def _hang_up(self, info: CallInfo) -> CallReleased:
        if missing := self._rest().missing:
            # What the operator wants: it ends as the Bin says.
            reason = (
                f"to have it hung up, set {' and '.join(missing)}, or end the TwiML Bin with"
                " <Hangup/>"
            )
            report(events.CallLeftToBin(info.call_sid, reason))
            return CallReleased()
        results: list[CallReleased] = []
        is_done = trio.Event()

        async def see_through() -> None:
            try:
                results.append(await self._hang_up_now(info))
            finally:
                self._pending -= 1
                self._settled.set()
                is_done.set()

        self._pending += 1
        self._nursery.start_soon(see_through)
        await is_done.wait()
        return results[0] if results else CallReleased("broken off by us, it may be done yet")

    async def _hang_up_now(self, info: CallInfo) -> CallReleased:
        """A boundary, too: above this there are only the server and all of its calls."""
        try:
            is_done = await self._rest().hang_up(info.call_sid, info.account_sid)
        except TwilioFailed as exc:
            report(events.CallNotHungUp(info.call_sid, str(exc)))
            return CallReleased(str(exc))
        except Exception as exc:
            reason = f"a bug of ours: {exc!r}"
            report(events.CallNotHungUp(info.call_sid, reason, crashed=True), exc_info=True)
            return CallReleased(reason)
        return CallReleased(was_over=not is_done)
