"""What can go wrong, by fault, and how a call ends.

Expected ends are values: a call ends with exactly one `Ending`. Bugs are exceptions.
"""

import enum

import msgspec

# A violation that is ours to tell of: a leg reads too slowly. It is counted by these words.
OUTBOX_FULL = "outbox full: audio dropped"


class StsTrioError(Exception):
    """Anything this package raises on purpose."""


class ConfigError(StsTrioError):
    """The operator's fault, found at start-up: one line, with what was expected."""


class TwilioFailed(StsTrioError):
    """Twilio's REST API refused, or gave no answer.

    `status` is HTTP's, 0 without an answer; `code` is Twilio's own, if it gave one. What was asked
    for may have happened all the same when it `is_uncertain`: no answer is not a no.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: int | None = None,
        is_uncertain: bool = False,
        retry_after: float | None = None,
    ) -> None:
        said = [f"HTTP {status}"] if status else []
        said += [str(code)] if code is not None else []
        super().__init__(f"Twilio: {', '.join(said)}: {message}" if said else f"Twilio: {message}")
        self.message = message
        self.status = status
        self.code = code
        self.is_uncertain = is_uncertain
        self.retry_after = retry_after  # seconds

    def with_hint(self, hint: str) -> "TwilioFailed":
        """The same, and what to look at."""
        return TwilioFailed(
            f"{self.message}; {hint}",
            status=self.status,
            code=self.code,
            is_uncertain=self.is_uncertain,
            retry_after=self.retry_after,
        )


class DialRefused(StsTrioError):
    """We did not even ask Twilio to place that call.

    `why` is one word for the log, `status` the HTTP status that says it best, `fields` tells what
    is wrong with the request, field by field.
    """

    def __init__(
        self,
        why: str,
        status: int,
        reason: str,
        *,
        fields: dict[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.why = why
        self.status = status
        self.fields = fields or {}
        self.retry_after = retry_after  # seconds


class AgentUnreachable(StsTrioError):
    """Dialling the agent failed before there was a websocket."""


class AgentRejected(AgentUnreachable):
    """The agent answered the handshake with an HTTP status instead of 101."""

    def __init__(self, status: int, body: str = "") -> None:
        super().__init__(f"HTTP {status}" + (f": {body}" if body else ""))
        self.status = status


class NoCredential(AgentUnreachable):
    """There was nothing to show to the agent at the dial."""


class AgentRefused(StsTrioError):
    """The agent did not do what a call asked of it, and said why."""


class AgentTimedOut(StsTrioError):
    """The agent did not answer in time."""


class NumberRefused(StsTrioError):
    """A phone number is not on the list of those that may be called."""


class CallOver(StsTrioError):
    """The call has ended, so nothing can be asked of it."""


class FunctionFailed(StsTrioError):
    """A function that the agent called could not do it; never fatal.

    Functions may raise it: its text is told to the agent, word for word.
    """


def first_of(error: BaseException) -> BaseException:
    """The first exception in a group of groups: of several that say the same, one is told."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def innermost(error: BaseException) -> BaseException:
    """The exception itself where nurseries have only wrapped one, group in group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class Leg(enum.Enum):
    """One side of a call: its socket and its language."""

    CALLER = "caller"
    AGENT = "agent"


class Verdict(enum.Enum):
    """Who is answerable for a call's end."""

    SUCCESS = "success"
    CALLER = "caller"
    AGENT = "agent"
    OURS = "ours"
    UNCLEAR = "unclear"


class Cause(enum.Enum):
    """Why a call ended: name, verdict, close code for the caller, close code for the agent.

    Close codes are RFC 6455, section 7.4.1: 1000 a normal end, 1001 going away, 1008 refused,
    1009 too big, 1011 a fault on our side of that socket. Seen from the caller, a dead agent is a
    fault on our side.
    """

    STOP = ("stop", Verdict.SUCCESS, 1000, 1000)
    AGENT_FINISHED = ("agent_finished", Verdict.SUCCESS, 1000, 1000)
    # By a function, or by the app.
    HUNG_UP = ("hung_up", Verdict.SUCCESS, 1000, 1000)
    # By a person who looks on, at once.
    OPERATOR_HUNG_UP = ("operator_hung_up", Verdict.SUCCESS, 1000, 1000)
    TRANSFERRED = ("transferred", Verdict.SUCCESS, 1000, 1000)
    # Nobody was there any more, or the longest call was over: both with a goodbye.
    SILENCE = ("silence", Verdict.CALLER, 1000, 1000)
    TIME_UP = ("time_up", Verdict.SUCCESS, 1000, 1000)
    # Decided, and said to the caller, but Twilio did not do it.
    NOT_HUNG_UP = ("not_hung_up", Verdict.OURS, 1000, 1000)
    NOT_TRANSFERRED = ("not_transferred", Verdict.OURS, 1011, 1000)

    # A close frame without `stop`: Twilio's REST API, a proxy, a simulator. Nobody's fault.
    CALLER_CLOSED = ("caller_closed", Verdict.UNCLEAR, 1000, 1000)
    CALLER_LOST = ("caller_lost", Verdict.CALLER, 1000, 1000)
    CALLER_SILENT = ("caller_silent", Verdict.CALLER, 1008, 1000)
    CALLER_STALLED = ("caller_stalled", Verdict.CALLER, 1008, 1000)
    CALLER_NO_START = ("caller_no_start", Verdict.CALLER, 1008, 1000)
    CALLER_NO_MEDIA = ("caller_no_media", Verdict.CALLER, 1008, 1000)
    CALLER_REFUSED = ("caller_refused", Verdict.CALLER, 1008, 1000)
    CALLER_TOO_BIG = ("caller_too_big", Verdict.CALLER, 1009, 1000)

    # The agent does not know us: key, funds, rights or path, all set by the operator.
    AGENT_DENIED = ("agent_denied", Verdict.OURS, 1011, 1000)
    AGENT_REJECTED = ("agent_rejected", Verdict.AGENT, 1011, 1000)
    AGENT_UNREACHABLE = ("agent_unreachable", Verdict.AGENT, 1011, 1000)
    AGENT_NO_HANDSHAKE = ("agent_no_handshake", Verdict.AGENT, 1011, 1000)
    AGENT_NO_WELCOME = ("agent_no_welcome", Verdict.AGENT, 1011, 1000)
    AGENT_NO_SETTINGS_APPLIED = ("agent_no_settings_applied", Verdict.AGENT, 1011, 1000)
    AGENT_ERROR = ("agent_error", Verdict.AGENT, 1011, 1000)
    AGENT_CLOSED = ("agent_closed", Verdict.AGENT, 1011, 1000)
    AGENT_LOST = ("agent_lost", Verdict.AGENT, 1011, 1000)
    AGENT_SILENT = ("agent_silent", Verdict.AGENT, 1011, 1000)
    # It is there, owes the caller something, and says nothing.
    AGENT_MUTE = ("agent_mute", Verdict.AGENT, 1011, 1000)
    # It calls function after function, whatever it is answered.
    AGENT_RAN_AWAY = ("agent_ran_away", Verdict.AGENT, 1011, 1000)
    AGENT_TOO_BIG = ("agent_too_big", Verdict.AGENT, 1011, 1009)

    # Another process goes on with the call. It is the end of this one's part alone.
    MOVED = ("moved", Verdict.SUCCESS, 1001, 1000)
    CRASHED = ("crashed", Verdict.OURS, 1011, 1011)
    SHUTDOWN = ("shutdown", Verdict.OURS, 1001, 1001)
    # The server cut the call off before we could say goodbye.
    CUT_OFF = ("cut_off", Verdict.OURS, 1001, 1001)

    def __init__(self, label: str, verdict: Verdict, caller_code: int, agent_code: int) -> None:
        self.label = label
        self.verdict = verdict
        self.caller_code = caller_code
        self.agent_code = agent_code

    @classmethod
    def labelled(cls, label: str | None) -> "Cause":
        """As it was written down. A newer version may end calls in other ways."""
        return next((each for each in cls if each.label == label), cls.CUT_OFF)

    def close_code(self, leg: Leg) -> int:
        return self.caller_code if leg is Leg.CALLER else self.agent_code


class Ending(msgspec.Struct, frozen=True):
    """How a call ended. `detail` is for people: a status, a code, a peer's own words.

    `apologised`: the caller has been told that something went wrong, or that we have to go.
    """

    cause: Cause
    detail: str = ""
    apologised: bool = False

    @property
    def verdict(self) -> Verdict:
        return self.cause.verdict


class How(enum.Enum):
    """How a leg's socket went."""

    CLOSED = "closed"  # a close frame
    LOST = "lost"  # FIN or RST without one, or the peer broke the websocket protocol
    SILENT = "silent"  # our pings went unanswered
    STALLED = "stalled"  # the peer stopped reading


class LegEnded(msgspec.Struct, frozen=True):
    """The last thing heard of a leg. `code` is the peer's close code where one is known."""

    leg: Leg
    how: How
    code: int | None = None
    reason: str = ""
