"""Who is calling whom: what is known of a call before a word is said. Pure.

Twilio's webhook announces a call; its media stream begins on a socket of its own, and brings along
what our answer gave it as `<Parameter>`s. Whatever is to be known in the call goes that way, as it
may be streamed to another process than the one that was asked.
"""

from collections.abc import Mapping

import msgspec

from sts_trio.wire import twilio, webhook
from sts_trio.wire.addresses import INBOUND, Parties

# The parameters. `to` and `from` may be written into a TwiML Bin as well: {{To}}, {{From}}.
TO = "to"
FROM = "from"
DIRECTION = "direction"
LINE = "line"
CHOSEN = "chosen_agent"
TAILORED = "tailored"
FORWARDED_FROM = "forwarded_from"
CALLER_NAME = "caller_name"
# Before the names of what the caller's side gave along.
CALLER = "caller:"
# A call without this one came by a TwiML Bin, which has no `action` to come back to.
WEBHOOK = "webhook"
# How another process has let go of the call, of which this stream is to go on.
MOVED = "moved"
# The one by which an operator's Bin names an agent.
NAMED = "agent"
# All names that mean something to us, and are nobody else's to give.
OUR_PARAMETERS = frozenset(
    {
        TO,
        FROM,
        DIRECTION,
        LINE,
        CHOSEN,
        TAILORED,
        WEBHOOK,
        MOVED,
        NAMED,
        FORWARDED_FROM,
        CALLER_NAME,
    }
)


class Elsewhere(msgspec.Struct, frozen=True):
    """Where a call was before: in another process, until `lost_at` (seconds since 1970), under an
    epoch below `epoch`. `how`: it was `moved`, or is `recovered`; or it is `returned` to the
    same."""

    how: str
    epoch: int
    lost_at: float

    def __str__(self) -> str:
        return f"{self.how} {self.epoch} {self.lost_at:.3f}"

    def gap(self, now: float) -> float:
        """For how many seconds it had no stream, if it has one now (seconds since 1970)."""
        return round(max(0.0, now - self.lost_at), 3)

    @classmethod
    def read(cls, text: str) -> "Elsewhere | None":
        """None: it is none of ours."""
        try:
            how, epoch, lost_at = text.split(" ")
            return cls(how, int(epoch), float(lost_at))
        except ValueError:
            return None


class CallInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A call, as Twilio announced it. Whatever Twilio did not say is "" or empty.

    `from_` and `to` are as Twilio writes them: E.164, `client:…`, `sip:…` or `anonymous`.
    """

    call_sid: str = ""
    account_sid: str = ""
    stream_sid: str = ""  # "" until the stream has begun
    from_: str = ""
    to: str = ""
    direction: str = INBOUND  # or outbound-api, outbound-dial
    parameters: dict[str, str] = {}  # {<Parameter> name: value}, ours left out
    # {name: value}, as the caller's side gave it along, and as little to be believed as what they
    # say: `SipHeader_NAME` of a SIP call, the parameters of `connect` of one by the Voice SDK.
    caller_parameters: dict[str, str] = {}
    caller_name: str = ""  # by Twilio's lookup, if that is on for the number
    forwarded_from: str = ""  # the number that was dialled, if another one forwards to ours
    agent: str = ""  # who answers, as our webhook decided; "" if the call did not come by it
    is_tailored: bool = False  # our webhook found out more of it than who answers
    line: str = ""  # a token for the agent leg that was dialled ahead for this call
    elsewhere: Elsewhere | None = None  # another process had it before
    is_from_bin: bool = False  # the stream was started by somebody else's TwiML, not by our webhook

    @property
    def parties(self) -> Parties:
        """Which of `from_` and `to` is ours."""
        return Parties.of(self.direction, self.from_, self.to)


def is_ours(name: str) -> bool:
    """Whether a parameter of that name means something to us, and is nobody else's to give."""
    return name in OUR_PARAMETERS or name.startswith(CALLER)


def announced(
    voice: webhook.VoiceRequest, caller_parameters: Mapping[str, str] | None = None
) -> CallInfo:
    """The call as Twilio's webhook tells of it."""
    return CallInfo(
        call_sid=voice.call_sid,
        account_sid=voice.account_sid,
        from_=voice.from_,
        to=voice.to,
        direction=voice.direction or INBOUND,
        caller_parameters=dict(caller_parameters or {}),
        caller_name=voice.caller_name,
        forwarded_from=voice.forwarded_from,
    )


def parameters(info: CallInfo) -> dict[str, str]:
    """What the stream of this call is to bring along, as far as Twilio carries it."""
    given = {
        **info.parameters,
        **{f"{CALLER}{name}": value for name, value in info.caller_parameters.items()},
        CALLER_NAME: info.caller_name,
        FORWARDED_FROM: info.forwarded_from,
        TO: info.to,
        FROM: info.from_,
        DIRECTION: "" if info.direction == INBOUND else info.direction,
        CHOSEN: info.agent,
        TAILORED: "1" if info.is_tailored else "",
        LINE: info.line,
        MOVED: "" if info.elsewhere is None else str(info.elsewhere),
        WEBHOOK: "1",
    }
    return {
        name: value
        for name, value in given.items()
        if value and len(name) + len(value) < webhook.PARAMETER_LIMIT
    }


def is_from_bin(start: twilio.StreamStart) -> bool:
    """Whether the stream was started by somebody else's TwiML, not by our webhook."""
    return not start.custom_parameters.get(WEBHOOK)


def was_elsewhere(start: twilio.StreamStart) -> bool:
    """Whether another process had the call before."""
    return Elsewhere.read(start.custom_parameters.get(MOVED, "")) is not None


def streamed(start: twilio.StreamStart | None) -> CallInfo:
    """The call as its stream tells of it; nothing is known before it has begun."""
    if start is None:
        return CallInfo()
    rest = dict(start.custom_parameters)
    rest.pop(WEBHOOK, None)
    given = {name: rest.pop(name) for name in [*rest] if name.startswith(CALLER)}
    return CallInfo(
        call_sid=start.call_sid,
        account_sid=start.account_sid,
        stream_sid=start.stream_sid,
        to=rest.pop(TO, ""),
        from_=rest.pop(FROM, ""),
        direction=rest.pop(DIRECTION, INBOUND),
        agent=rest.pop(CHOSEN, ""),
        is_tailored=rest.pop(TAILORED, "") != "",
        line=rest.pop(LINE, ""),
        elsewhere=Elsewhere.read(rest.pop(MOVED, "")),
        is_from_bin=is_from_bin(start),
        caller_name=rest.pop(CALLER_NAME, ""),
        forwarded_from=rest.pop(FORWARDED_FROM, ""),
        caller_parameters={name.removeprefix(CALLER): value for name, value in given.items()},
        parameters=rest,
    )
