"""Who is calling whom: what is known of a call before a word is said. Pure.

Twilio's webhook announces a call; its media stream begins on a socket of its own, and brings along
what our answer gave it as `<Parameter>`s.
"""

import msgspec

from sts_trio.wire import twilio, webhook

INBOUND = "inbound"

# The parameters. `to` and `from` may be written into a TwiML Bin as well: {{To}}, {{From}}.
TO = "to"
FROM = "from"
DIRECTION = "direction"
LINE = "line"
CHOSEN = "chosen_agent"
# A call without this one came by a TwiML Bin, which has no `action` to come back to.
WEBHOOK = "webhook"
# The one by which an operator's Bin names an agent.
NAMED = "agent"
# All names that mean something to us, and are nobody else's to give.
OUR_PARAMETERS = frozenset({TO, FROM, DIRECTION, LINE, CHOSEN, WEBHOOK, NAMED})


class CallInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A call, as Twilio announced it. Whatever Twilio did not say is "" or empty.

    `from_` and `to` are as Twilio writes them: E.164, `client:…`, `sip:…` or `anonymous`.
    """

    call_sid: str = ""
    stream_sid: str = ""  # "" until the stream has begun
    from_: str = ""
    to: str = ""
    direction: str = INBOUND  # or outbound-api, outbound-dial
    parameters: dict[str, str] = {}  # {<Parameter> name: value}, ours left out
    agent: str = ""  # who answers, as our webhook decided; "" if the call did not come by it
    line: str = ""  # a token for the agent leg that was dialled ahead for this call
    is_from_bin: bool = False  # the stream was started by somebody else's TwiML, not by our webhook


def announced(voice: webhook.VoiceRequest) -> CallInfo:
    """The call as Twilio's webhook tells of it."""
    return CallInfo(
        call_sid=voice.call_sid,
        from_=voice.from_,
        to=voice.to,
        direction=voice.direction or INBOUND,
    )


def parameters(info: CallInfo) -> dict[str, str]:
    """What the stream of this call is to bring along, as far as Twilio carries it."""
    given = {
        **info.parameters,
        TO: info.to,
        FROM: info.from_,
        DIRECTION: "" if info.direction == INBOUND else info.direction,
        CHOSEN: info.agent,
        LINE: info.line,
        WEBHOOK: "1",
    }
    return {
        name: value
        for name, value in given.items()
        if value and len(name) + len(value) < webhook.PARAMETER_LIMIT
    }


def streamed(start: twilio.StreamStart | None) -> CallInfo:
    """The call as its stream tells of it; nothing is known before it has begun."""
    if start is None:
        return CallInfo()
    rest = dict(start.custom_parameters)
    return CallInfo(
        call_sid=start.call_sid,
        stream_sid=start.stream_sid,
        to=rest.pop(TO, ""),
        from_=rest.pop(FROM, ""),
        direction=rest.pop(DIRECTION, INBOUND),
        agent=rest.pop(CHOSEN, ""),
        line=rest.pop(LINE, ""),
        is_from_bin=rest.pop(WEBHOOK, "") == "",
        parameters=rest,
    )
