"""Who is calling whom: what is known of a call before a word is said. Pure."""

import msgspec

INBOUND = "inbound"


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
