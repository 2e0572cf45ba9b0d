"""The three state machines of a call, as tables: which input is allowed, and what state follows.

A call is three small machines side by side: Twilio's stream, the agent's session, and the closing
of the call. `stream`, `session` and `closing` look everything up here. An input that has no entry
in its state's row is not allowed there: a peer's is a protocol violation, counted and otherwise
ignored, as is one of our own that comes too late. The diagrams in `docs/architecture.md` are drawn
from these tables.

Also here: how long a state may last, what it means when a leg ends, and after which causes another
session is tried. Pure.
"""

import enum
from collections.abc import Mapping

import msgspec

from sts_trio.errors import Cause, How, Leg, LegEnded

# Twilio sends `connected` and `start` at once; ten seconds is a stranger, not a slow network.
START_TIMEOUT = 10.0
# After `start`, frames come every 20 ms unless the phone is muted from the first moment on.
FIRST_FRAME_TIMEOUT = 30.0
# Of a stream that was cut: Twilio asks what comes next, and connects again, within a second or two.
BACK_WITHIN = 5.0
# Each step of the agent's session: socket, `Welcome`, `SettingsApplied`. The slowest takes 0.2 s.
AGENT_TIMEOUT = 5.0
# A redial that comes to nothing is repeated after a moment: a provider that restarts needs one.
RETRY_AFTER = 1.0


class Violation(msgspec.Struct, frozen=True):
    """News of any part: a peer did what its protocol does not allow."""

    reason: str


class Limit(msgspec.Struct, frozen=True):
    """How long a state may last, and the cause if it lasts longer (`None`: that is no fault)."""

    seconds: float
    cause: Cause | None


class _Named(enum.Enum):
    """A state or an input. The tables are looked up by them with each message, and `Enum` makes its
    hash of the name, each time anew, in Python; each of these is there once."""

    __hash__ = object.__hash__


# --- Twilio's stream ----------------------------------------------------------------------------


class StreamState(_Named):
    AWAITING_START = "awaiting start"
    STARTED = "started"
    FLOWING = "flowing"
    AWAY = "away"
    ENDED = "ended"


class StreamInput(_Named):
    START = "start"
    REFUSED_START = "a start that is refused"
    MEDIA = "media"
    MARK = "mark"
    DTMF = "dtmf"
    STOP = "stop"
    LEG_ENDED = "its socket ends"
    LEG_CUT = "its socket is cut, and Twilio asks us what comes next"
    TIMEOUT = "time is up"


STREAM: Mapping[StreamState, Mapping[StreamInput, StreamState]] = {
    StreamState.AWAITING_START: {
        StreamInput.START: StreamState.STARTED,
        StreamInput.REFUSED_START: StreamState.ENDED,
        # There is but one stream on a socket; its `start` may have been unreadable.
        StreamInput.STOP: StreamState.ENDED,
        StreamInput.LEG_ENDED: StreamState.ENDED,
        StreamInput.TIMEOUT: StreamState.ENDED,
    },
    StreamState.STARTED: {
        StreamInput.MEDIA: StreamState.FLOWING,
        StreamInput.MARK: StreamState.FLOWING,
        StreamInput.DTMF: StreamState.FLOWING,
        StreamInput.STOP: StreamState.ENDED,
        StreamInput.LEG_ENDED: StreamState.ENDED,
        StreamInput.LEG_CUT: StreamState.AWAY,
        StreamInput.TIMEOUT: StreamState.ENDED,
    },
    StreamState.FLOWING: {
        StreamInput.MEDIA: StreamState.FLOWING,
        StreamInput.MARK: StreamState.FLOWING,
        StreamInput.DTMF: StreamState.FLOWING,
        StreamInput.STOP: StreamState.ENDED,
        StreamInput.LEG_ENDED: StreamState.ENDED,
        StreamInput.LEG_CUT: StreamState.AWAY,
    },
    # On a socket of its own, in the same call.
    StreamState.AWAY: {
        StreamInput.START: StreamState.STARTED,
        StreamInput.REFUSED_START: StreamState.ENDED,
        StreamInput.STOP: StreamState.ENDED,
        StreamInput.LEG_ENDED: StreamState.ENDED,
        StreamInput.TIMEOUT: StreamState.ENDED,
    },
    StreamState.ENDED: {},
}
STREAM_LIMITS: Mapping[StreamState, Limit] = {
    StreamState.AWAITING_START: Limit(START_TIMEOUT, Cause.CALLER_NO_START),
    StreamState.STARTED: Limit(FIRST_FRAME_TIMEOUT, Cause.CALLER_NO_MEDIA),
    StreamState.AWAY: Limit(BACK_WITHIN, Cause.CALLER_LOST),
}

# --- the agent's session ------------------------------------------------------------------------


class SessionState(_Named):
    NONE = "none"
    DIALLING = "dialling"
    AWAITING_WELCOME = "awaiting Welcome"
    AWAITING_APPLIED = "awaiting SettingsApplied"
    LIVE = "live"
    BACKOFF = "backing off"


class SessionInput(_Named):
    DIAL = "dial"
    REACHED = "socket open"
    WELCOME = "Welcome"
    APPLIED = "SettingsApplied"
    AUDIO = "audio"
    FUNCTION_CALLS = "FunctionCallRequest"
    LOST_REDIAL = "lost"
    LOST_AGAIN = "lost again"
    LOST = "lost for good"
    REPLACED = "hand-over, renewal"
    FINISHED = "closed with 1000"
    WAITED = "a second later"
    CLOSED = "the call closes"


# From any state with a session, or on the way to one. `LOST_REDIAL` and `LOST_AGAIN`: see `RETRY`
# and `reconnect`.
_ENDS_OF_SESSION: Mapping[SessionInput, SessionState] = {
    SessionInput.LOST_REDIAL: SessionState.DIALLING,
    SessionInput.LOST_AGAIN: SessionState.BACKOFF,
    SessionInput.LOST: SessionState.NONE,
    SessionInput.REPLACED: SessionState.DIALLING,
    SessionInput.CLOSED: SessionState.NONE,
}
# The agent's protocol asks for this order: nothing before `Welcome`, one `Settings`, no audio
# before `SettingsApplied`.
SESSION: Mapping[SessionState, Mapping[SessionInput, SessionState]] = {
    SessionState.NONE: {
        SessionInput.DIAL: SessionState.DIALLING,
        SessionInput.CLOSED: SessionState.NONE,
    },
    SessionState.DIALLING: {
        SessionInput.REACHED: SessionState.AWAITING_WELCOME,
        **_ENDS_OF_SESSION,
    },
    SessionState.AWAITING_WELCOME: {
        SessionInput.WELCOME: SessionState.AWAITING_APPLIED,
        **_ENDS_OF_SESSION,
    },
    SessionState.AWAITING_APPLIED: {
        SessionInput.APPLIED: SessionState.LIVE,
        **_ENDS_OF_SESSION,
    },
    SessionState.LIVE: {
        SessionInput.AUDIO: SessionState.LIVE,
        SessionInput.FUNCTION_CALLS: SessionState.LIVE,
        SessionInput.FINISHED: SessionState.NONE,
        **_ENDS_OF_SESSION,
    },
    SessionState.BACKOFF: {
        SessionInput.WAITED: SessionState.DIALLING,
        SessionInput.LOST: SessionState.NONE,
        SessionInput.REPLACED: SessionState.DIALLING,
        SessionInput.CLOSED: SessionState.NONE,
    },
}
SESSION_LIMITS: Mapping[SessionState, Limit] = {
    SessionState.DIALLING: Limit(AGENT_TIMEOUT, Cause.AGENT_NO_HANDSHAKE),
    SessionState.AWAITING_WELCOME: Limit(AGENT_TIMEOUT, Cause.AGENT_NO_WELCOME),
    SessionState.AWAITING_APPLIED: Limit(AGENT_TIMEOUT, Cause.AGENT_NO_SETTINGS_APPLIED),
    SessionState.BACKOFF: Limit(RETRY_AFTER, None),
}


class Retry(enum.Enum):
    """Whether another session is dialled after a loss, if the policy reconnects at all."""

    ALWAYS = enum.auto()
    # At a call's begin, for as long as a caller waits for the first word: it may pass.
    BRIEFLY = enum.auto()
    # Settings that were refused once will be again; what took too long would take as long again.
    ONCE_LIVE = enum.auto()
    NEVER = enum.auto()


RETRY: Mapping[Cause, Retry] = {
    Cause.AGENT_CLOSED: Retry.ALWAYS,
    Cause.AGENT_LOST: Retry.ALWAYS,
    Cause.AGENT_SILENT: Retry.ALWAYS,
    Cause.AGENT_TOO_BIG: Retry.ALWAYS,
    Cause.AGENT_MUTE: Retry.ALWAYS,
    Cause.AGENT_REJECTED: Retry.BRIEFLY,
    Cause.AGENT_UNREACHABLE: Retry.BRIEFLY,
    Cause.AGENT_NO_HANDSHAKE: Retry.ONCE_LIVE,
    Cause.AGENT_NO_WELCOME: Retry.ONCE_LIVE,
    Cause.AGENT_NO_SETTINGS_APPLIED: Retry.ONCE_LIVE,
    Cause.AGENT_ERROR: Retry.ONCE_LIVE,
    Cause.AGENT_DENIED: Retry.NEVER,
    Cause.AGENT_RAN_AWAY: Retry.NEVER,
}
# By its code, what an `Error` asks for: another connection (`ALWAYS`: nothing was wrong with what
# the session was told), a retry (`BRIEFLY`), or that something be set right (`ONCE_LIVE`: what was
# told since the call began, if anything was). A code that is not here is one of the last kind.
# Source: developers.deepgram.com/docs/voice-agent-errors-warnings, read 2026-11-22.
ERRORS: Mapping[str, Retry] = {
    "SERVER_GOING_AWAY": Retry.ALWAYS,
    "MAXIMUM_SESSION_LENGTH_REACHED": Retry.ALWAYS,
    "CLIENT_MESSAGE_TIMEOUT": Retry.ALWAYS,
    "INTERNAL_SERVER_ERROR": Retry.BRIEFLY,
    "FAILED_TO_START_LISTENING": Retry.BRIEFLY,
    "ASR_CONNECTION_CLOSED": Retry.BRIEFLY,
    "ASR_DRIVER_TIMEOUT": Retry.BRIEFLY,
    "FAILED_TO_THINK": Retry.ONCE_LIVE,
    "FAILED_TO_SPEAK": Retry.ONCE_LIVE,
    "UNPARSABLE_CLIENT_MESSAGE": Retry.ONCE_LIVE,
    "NON_SETTINGS_MESSAGE_BEFORE_SETTINGS": Retry.ONCE_LIVE,
    "SETTINGS_ALREADY_APPLIED": Retry.ONCE_LIVE,
    "INVALID_SETTINGS": Retry.ONCE_LIVE,
    "INVALID_AGENT_ID": Retry.ONCE_LIVE,
    "AGENT_ID_NOT_SUPPORTED": Retry.ONCE_LIVE,
    "USER_AUDIO_FORMAT": Retry.ONCE_LIVE,
    "NON_EXISTENT_FUNCTION_CALLED": Retry.ONCE_LIVE,
    "DATA-0002": Retry.ONCE_LIVE,
}
# Close codes that say that the peer could not bear what it was told (RFC 6455, section 7.4.1).
# Others, and a socket that is lost, say nothing of that.
REFUSING_CLOSES = frozenset({1002, 1003, 1007, 1008, 1009, 1011})

# --- the closing of the call --------------------------------------------------------------------


class ClosingState(_Named):
    NO = "no"
    GOODBYE = "goodbye"
    LAST_WORDS = "last words"
    RELEASING = "releasing the phone call"
    OVER = "over"


class ClosingInput(_Named):
    CLOSE = "close"
    CLOSE_WITHOUT_SESSION = "close, no live session"
    DOWN_APOLOGY = "session down, there is an apology"
    DOWN = "session down"
    FINISHED_UNHEARD = "session finished, not all is heard"
    FINISHED = "session finished"
    HEARD = "all is heard"
    TIMEOUT = "time is up"
    RELEASE = "all is said, and Twilio has to be asked"
    RELEASED = "done"
    GO_ON = "not transferred, the agent is there"
    APOLOGISE = "not transferred, there is an apology"
    LEFT = "caller ends"
    END = "caller ends, operator ends, shut-down"


CLOSING: Mapping[ClosingState, Mapping[ClosingInput, ClosingState]] = {
    ClosingState.NO: {
        ClosingInput.CLOSE: ClosingState.GOODBYE,
        ClosingInput.CLOSE_WITHOUT_SESSION: ClosingState.LAST_WORDS,
        ClosingInput.DOWN_APOLOGY: ClosingState.LAST_WORDS,
        ClosingInput.DOWN: ClosingState.OVER,
        ClosingInput.FINISHED_UNHEARD: ClosingState.LAST_WORDS,
        ClosingInput.FINISHED: ClosingState.OVER,
        ClosingInput.RELEASE: ClosingState.RELEASING,
        ClosingInput.END: ClosingState.OVER,
    },
    ClosingState.GOODBYE: {
        # After a goodbye there is no apology.
        ClosingInput.DOWN: ClosingState.LAST_WORDS,
        ClosingInput.FINISHED_UNHEARD: ClosingState.LAST_WORDS,
        ClosingInput.FINISHED: ClosingState.OVER,
        ClosingInput.HEARD: ClosingState.OVER,
        ClosingInput.TIMEOUT: ClosingState.OVER,
        ClosingInput.RELEASE: ClosingState.RELEASING,
        ClosingInput.END: ClosingState.OVER,
    },
    ClosingState.LAST_WORDS: {
        ClosingInput.HEARD: ClosingState.OVER,
        ClosingInput.TIMEOUT: ClosingState.OVER,
        ClosingInput.RELEASE: ClosingState.RELEASING,
        ClosingInput.END: ClosingState.OVER,
    },
    # A phone call that our webhook did not answer. What comes of this decides how the call ends, so
    # the stream's end, which is how a transfer begins, is no end yet.
    ClosingState.RELEASING: {
        ClosingInput.RELEASED: ClosingState.OVER,
        ClosingInput.GO_ON: ClosingState.NO,
        ClosingInput.APOLOGISE: ClosingState.LAST_WORDS,
        ClosingInput.DOWN: ClosingState.RELEASING,
        ClosingInput.FINISHED_UNHEARD: ClosingState.RELEASING,
        ClosingInput.FINISHED: ClosingState.RELEASING,
        ClosingInput.LEFT: ClosingState.RELEASING,
        ClosingInput.END: ClosingState.OVER,
    },
    ClosingState.OVER: {},
}

# --- the call as one phase ----------------------------------------------------------------------


class Phase(enum.Enum):
    """What `/calls` shows."""

    AWAITING_START = enum.auto()
    DIALLING = enum.auto()
    AWAITING_WELCOME = enum.auto()
    AWAITING_APPLIED = enum.auto()
    TALKING = enum.auto()
    PARTING = enum.auto()
    HUNG_UP = enum.auto()


_CLOSED = {
    ClosingState.LAST_WORDS: Phase.PARTING,
    ClosingState.RELEASING: Phase.PARTING,
    ClosingState.OVER: Phase.HUNG_UP,
}
_OPEN = {
    # The stream's `start` begins the first dial, so there is none before it.
    SessionState.NONE: Phase.AWAITING_START,
    SessionState.DIALLING: Phase.DIALLING,
    SessionState.AWAITING_WELCOME: Phase.AWAITING_WELCOME,
    SessionState.AWAITING_APPLIED: Phase.AWAITING_APPLIED,
    SessionState.LIVE: Phase.TALKING,
    SessionState.BACKOFF: Phase.DIALLING,
}


def phase_of(session: SessionState, closing: ClosingState) -> Phase:
    return _CLOSED.get(closing) or _OPEN[session]


# --- how legs end -------------------------------------------------------------------------------

_ENDS = {
    (Leg.CALLER, How.CLOSED): Cause.CALLER_CLOSED,
    (Leg.CALLER, How.LOST): Cause.CALLER_LOST,
    (Leg.CALLER, How.SILENT): Cause.CALLER_SILENT,
    (Leg.CALLER, How.STALLED): Cause.CALLER_STALLED,
    (Leg.AGENT, How.CLOSED): Cause.AGENT_CLOSED,
    (Leg.AGENT, How.LOST): Cause.AGENT_LOST,
    (Leg.AGENT, How.SILENT): Cause.AGENT_SILENT,
    (Leg.AGENT, How.STALLED): Cause.AGENT_SILENT,
}
# Key, funds, rights, path: the operator's to set right.
_DENIED = {401, 402, 403, 404}


def cause_of_end(ended: LegEnded) -> Cause:
    """Why the call ends, if it ends by this."""
    return _ENDS[ended.leg, ended.how]


def cause_of_failed_dial(status: int | None) -> Cause:
    """The same for an agent that answered with that HTTP status, or (`None`) not at all."""
    if status is None:
        return Cause.AGENT_UNREACHABLE
    return Cause.AGENT_DENIED if status in _DENIED else Cause.AGENT_REJECTED


def retry_of_failed_dial(status: int | None) -> Retry:
    """Whether another dial may be answered otherwise: 408, 425, 429 and 5xx pass (RFC 9110)."""
    passes = status is None or status >= 500 or status in (408, 425, 429)
    cause = cause_of_failed_dial(status)
    return RETRY[cause] if passes or cause is Cause.AGENT_DENIED else Retry.ONCE_LIVE
