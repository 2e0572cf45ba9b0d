"""How a call is to be led where the protocols leave it open: as the operator decided. Pure."""

from math import inf

import msgspec


class CallPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """By default nothing is done of our own accord. Durations in seconds, clips in µ-law."""

    reconnects: bool = False  # a lost agent is dialled again
    # Pre-rendered, as they are needed when there is no agent to say them; may be empty.
    one_moment: bytes = b""
    apology: bytes = b""
    resumes: bool = False  # what a noise has cut is played on
    # How long a caller may hear nothing while the agent owes them something.
    answer_within: float = inf
    # Silence of both sides, until the agent asks whether somebody is there, and until it hangs up.
    ask_after: float = inf
    asks: str = "Are you still there?"
    hang_up_after: float = inf
    say_again: str = "I am sorry, could you say that again?"
    not_transferred: str = "I am sorry, I could not put you through. Is there anything else?"
    farewell: str = "I cannot hear you any more, so I will hang up now. Goodbye."
    # The longest call, and how long before its end the caller is warned.
    longest: float = inf
    warn_before: float = 60.0
    warning: str = "We have about one minute left."
    time_is_up: str = "Our time is up, so I have to end the call here. Goodbye."
