"""How a caller goes on to somebody else, and how a call ends that its stream does not end.

A call that came by our webhook comes back to `/twiml/after` when its stream has ended, and is given
its `<Dial>` there. One that came by a TwiML Bin does not: the Bin's own TwiML goes on. It has to be
redirected, or hung up, by the REST API, and before its stream is closed: after that, the Bin's next
verb runs, and mostly there is none.

Who may be dialled is the operator's list, asked again here: it is their money.
"""

import structlog

from sts_trio.config import Config
from sts_trio.errors import DialRefused, TwilioFailed
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.wire import webhook

AFTER_PATH = "/twiml/after"

_logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def transfer_twiml(config: Config, number: str, *, inbound: bool, base: str | None) -> str:
    """TwiML that dials `number`, and comes back to us when that is over or came to nothing.

    `base` is this server's address as Twilio knows it. Whoever called in is shown to the called one
    by their own number, who was called by us by ours.

    Raises:
        DialRefused: the number is not on the list.
    """
    if not config.may_transfer(number):
        raise DialRefused(
            "transfer",
            403,
            f"nobody may be transferred to {number[:40]!r}: STS_TRANSFER_NUMBERS"
            " is the list of the numbers that may",
        )
    caller_id = None if inbound else config.caller_id
    return webhook.dial(number, caller_id, None if base is None else base + AFTER_PATH)


async def transfer_by_rest(config: Config, rest: TwilioRest, call_sid: str, number: str) -> bool:
    """Transfers a call that came by a TwiML Bin. False if it is over.

    Await this before closing the caller's stream, which Twilio then ends by itself. While Twilio
    cannot be reached it takes up to a minute: somebody should be saying something.

    Raises:
        DialRefused: the number is not on the list.
        TwilioFailed: the call goes on as it was; among other things, no account is configured.
    """
    twiml = transfer_twiml(config, number, inbound=True, base=config.public_url)
    return await rest.redirect(call_sid, twiml)


async def hang_up_by_rest(rest: TwilioRest, call_sid: str) -> bool:
    """Hangs up on a call that came by a TwiML Bin, if there is an account to do so by.

    False, with the reason logged, if the Bin's TwiML goes on.
    """
    if rest.missing:
        _logger.info(
            "call.left_to_its_twiml",
            call_sid=call_sid,
            reason=f"to have it hung up, set {' and '.join(rest.missing)}, or end the"
            " TwiML Bin with <Hangup/>",
        )
        return False
    try:
        await rest.hang_up(call_sid)
    except TwilioFailed as exc:
        _logger.warning("call.left_to_its_twiml", call_sid=call_sid, reason=str(exc))
        return False
    return True
