"""What nobody knows of Twilio: each is a switch of the simulated carrier.

Its documents do not tell, and reports differ. A bridge has to come through whichever is true, so
tests of it run in every one of the `readings`.
"""

from math import inf
from typing import Any

import msgspec


class Unknowns(msgspec.Struct, frozen=True, kw_only=True):
    """The default is what is likeliest. Times are seconds."""

    # Whether `<Connect action>` is asked when the stream's connection was lost without a close
    # frame (31903). Else the document goes on.
    action_on_reset: bool = True
    # ... when no stream came about at all (31901, 31902, 31920).
    action_after_failed_handshake: bool = True
    # ... when it was the caller who hung up. What is answered then is followed by nobody.
    action_after_hang_up: bool = True
    # From the end of the stream to the request.
    action_delay: float = 0.0
    # Which fields an action gets that are those of `<Stream>`.
    action_fields: dict[str, str] = {}
    # After how long without a sign of life a connection is given up as lost; `inf`: Twilio does not
    # look.
    notices_silence_after: float = inf
    # Whether the new document of a call that is redirected by REST is asked for, and its stream
    # opened, while the old stream still runs. The newer stream wins, whichever it is.
    redirect_overlaps: bool = False
    # Whether marks that were not reached come back before `stop`.
    echoes_marks_at_stop: bool = False
    # Whether what is in the playout is heard to its end when the bridge has closed the stream.
    plays_out_after_close: bool = False
    # How long a `<Stream statusCallback>` comes after what it tells.
    status_callback_delay: float = 0.0
    # Between the attempts that `#rc=` asks for.
    retry_pause: float = 0.5
    # For the answer to a stream's handshake.
    handshake_timeout: float = 5.0


# What each may be, other than by default.
_OTHERS: dict[str, Any] = {
    "action_on_reset": False,
    "action_after_failed_handshake": False,
    "action_after_hang_up": False,
    "action_delay": 1.5,
    "action_fields": {"StreamSid": "MZ" + "0" * 32, "StreamEvent": "stream-stopped"},
    "notices_silence_after": 5.0,
    "redirect_overlaps": True,
    "echoes_marks_at_stop": True,
    "plays_out_after_close": True,
    "status_callback_delay": 2.0,
    "retry_pause": 2.0,
    "handshake_timeout": 10.0,
}


def readings() -> dict[str, Unknowns]:
    """{name: settings}: the likeliest, each other one by itself, and all others together."""
    return {
        "likeliest": Unknowns(),
        **{name: Unknowns(**{name: value}) for name, value in _OTHERS.items()},
        "all others": Unknowns(**_OTHERS),
    }
