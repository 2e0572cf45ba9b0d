"""The catalogue of events: all that is told of calls and of the process. Pure.

An event is a class here: its name, its level, its fields with their types, units and meanings. No
other file writes a name; tests hold the package, the page's scripts and docs/events.md to that.

What happens in a call is an `OfCall`: it goes to the log and to the event feed. Everything else
goes to the log alone. To add an event, add a class, emit it (in `logic/` as an act, for a call by
`Reports.report`, else by `sts_trio.observe.report`), and run docs/generate.py.
"""

import enum
import functools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, get_args, get_type_hints

import msgspec

from sts_trio.errors import Verdict


class Level(enum.IntEnum):
    """As the log knows them; the numbers are `logging`'s."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Kind(enum.Enum):
    """What a field holds, beyond its type."""

    SECONDS = "seconds"
    PHONE_NUMBER = "phone number"
    WORDS = "words"  # that were said or keyed in the call, or noted of it
    JSON = "JSON"  # what a function was given, or what the agent was told of it


Seconds = Annotated[float, Kind.SECONDS]
PhoneNumber = Annotated[str, Kind.PHONE_NUMBER]
Words = Annotated[str, Kind.WORDS]
Json = Annotated[str, Kind.JSON]


def _public_name(attribute: str) -> str:
    """`from` is a word of Python's."""
    return attribute.rstrip("_")


class Event(msgspec.Struct, frozen=True, rename=_public_name):
    """Something that happened. Fields that are `None` are left out wherever it is told."""

    NAME: ClassVar[str]
    LEVEL: ClassVar[Level]

    @property
    def level(self) -> Level:
        return self.LEVEL

    def fields(self) -> dict[str, Any]:
        """What there is to tell, by name."""
        names = zip(self.__struct_encode_fields__, self.__struct_fields__, strict=True)
        return {
            name: value
            for name, attribute in names
            if (value := getattr(self, attribute)) is not None
        }

    def log_fields(self, *, with_words: bool = False) -> dict[str, Any]:
        """The same for the log, with texts of bounded length. Words, and what functions are given
        and return, which is mostly words of the caller's too, are only for an operator who has
        asked for them, and for the debug level alone."""
        has_words = with_words and self.level is Level.DEBUG
        held = kinds(type(self))
        return {
            name: shortened(value)
            for name, value in self.fields().items()
            if has_words or held.get(name) not in (Kind.WORDS, Kind.JSON)
        }


class OfCall(Event, frozen=True):
    """Something that happened in a call."""


# Letters of a text. A peer may write a mebibyte into a sentence; the longest that is read out is
# under a minute.
MAX_TEXT = 2000
# Of what functions are told and tell: as much as a result may have at most.
MAX_JSON = 16 * 1024


def shortened(value: Any, limit: int = MAX_TEXT) -> Any:
    """No text longer than that."""
    if isinstance(value, str) and len(value) > limit:
        return f"{value[: limit - 1]}…"
    return value


def bounded(event: OfCall) -> OfCall:
    """The event with no text too long to be kept."""
    changed = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, str) and len(value) > MAX_TEXT:
            limit = MAX_JSON if kinds(type(event)).get(name) is Kind.JSON else MAX_TEXT
            changed[name] = shortened(value, limit)
    return msgspec.structs.replace(event, **changed) if changed else event


@functools.cache
def kinds(event: type[Event]) -> Mapping[str, Kind]:
    """{field: what it holds}, of those fields that have a kind."""
    found = {}
    for name, hint in get_type_hints(event, include_extras=True).items():
        for kind in _metadata(hint):
            if isinstance(kind, Kind):
                found[_public_name(name)] = kind
    return found


def _metadata(hint: Any) -> list[Any]:
    """What stands beside the type in `Annotated`, also within `… | None`."""
    beside = list(getattr(hint, "__metadata__", ()))
    for part in get_args(hint):
        beside += _metadata(part)
    return beside


# --- of a call ------------------------------------------------------------------------------------


class CallStarted(OfCall, frozen=True):
    """The call's media stream has begun: who calls whom is known."""

    NAME = "call.started"
    LEVEL = Level.INFO
    call_sid: str
    stream_sid: str
    from_: Annotated[PhoneNumber | None, "the caller's number, as Twilio writes it"] = None
    to: Annotated[PhoneNumber | None, "the number that was dialled"] = None
    direction: Annotated[
        str | None, "`inbound`, or `outbound-api` of a call that was placed by REST"
    ] = None
    agent: Annotated[str | None, "the agent that was chosen, if it is known yet"] = None


class CallEnded(OfCall, frozen=True):
    """The call is over, and nothing of it is left. The last event of each call, once for each.

    Counts and durations that are zero are left out.
    """

    NAME = "call.ended"
    LEVEL = Level.INFO
    ending: Annotated[str, "why it ended, see [endings](endings.md)"]
    verdict: Annotated[str, "who is answerable for it"]
    detail: Annotated[str, "for people: a status, a code, a peer's own words"]
    seconds: Annotated[Seconds, "how long the call lasted"]
    from_: Annotated[PhoneNumber | None, "the caller's number"] = None
    to: Annotated[PhoneNumber | None, "the number that was dialled"] = None
    direction: Annotated[str | None, "as in `call.started`"] = None
    agent: Annotated[str | None, "the agent that talked with the caller last"] = None
    request_id: Annotated[str | None, "of its last session, as in `agent.welcomed`"] = None
    apologised: Annotated[
        bool | None, "the caller was told that something went wrong, or that the server has to go"
    ] = None
    caller_audio: Annotated[Seconds | None, "that came from the caller"] = None
    caller_audio_dropped: Annotated[Seconds | None, "of it, what the agent never got"] = None
    caller_audio_muted: Annotated[Seconds | None, "of it, what the agent got silence for"] = None
    caller_audio_repeated: Annotated[Seconds | None, "that a second agent got as well"] = None
    caller_audio_waited: Annotated[Seconds | None, "that came while there was no agent"] = None
    agent_audio: Annotated[Seconds | None, "that came from the agent"] = None
    heard: Annotated[Seconds | None, "of it, what the caller heard"] = None
    cut: Annotated[Seconds | None, "of it, what the caller cut off"] = None
    barge_ins: Annotated[int | None, "times the caller cut the agent off"] = None
    false_interruptions: Annotated[int | None, "times it was but a noise that did"] = None
    functions: Annotated[int | None, "functions that were called"] = None
    reconnects: Annotated[int | None, "times a lost agent was replaced"] = None
    longest_gap: Annotated[Seconds | None, "that the caller was without an agent"] = None
    longest_silence: Annotated[
        Seconds | None, "that the caller waited for an answer and heard nothing"
    ] = None
    violations: Annotated[
        dict[str, int] | None, "`{leg: reason}` and how often: what the peers did wrong"
    ] = None

    @property
    def level(self) -> Level:
        """info; warning where `verdict` is `agent`, error where it is `ours`"""
        if self.verdict == Verdict.OURS.value:
            return Level.ERROR
        return Level.WARNING if self.verdict == Verdict.AGENT.value else Level.INFO


class CallCrashed(OfCall, frozen=True):
    """A bug of this package ended the call. In the log, with its traceback."""

    NAME = "call.crashed"
    LEVEL = Level.ERROR


class CallTranscript(OfCall, frozen=True):
    """A sentence, as the agent tells of it. No log line without `STS_LOG_TRANSCRIPTS`."""

    NAME = "call.transcript"
    LEVEL = Level.DEBUG
    role: Annotated[str, "`user`; else it is the agent's, and called as the agent calls it"]
    text: Words
    until: Annotated[
        Seconds | None,
        "of the caller's: when in the call the speech ended, if that was in its last two seconds",
    ] = None
    position: Annotated[
        Seconds | None, "of the agent's: where in all of its audio the sentence begins"
    ] = None


class CallHeard(OfCall, frozen=True):
    """A turn of the agent's has been played or cut: what was said, and what of it the caller heard.
    No log line without `STS_LOG_TRANSCRIPTS`."""

    NAME = "call.heard"
    LEVEL = Level.DEBUG
    said: Words
    heard: Words
    said_seconds: Annotated[Seconds, "of its audio"]
    heard_seconds: Annotated[Seconds, "of it, what was played"]


class CallBargeIn(OfCall, frozen=True):
    """The caller spoke up, and what the agent was saying is not played any further."""

    NAME = "call.barge_in"
    LEVEL = Level.DEBUG
    cut: Annotated[Seconds, "of audio that goes unheard"]


class CallSilenced(OfCall, frozen=True):
    """Twilio has echoed that nothing of what was cut is played any more."""

    NAME = "call.silenced"
    LEVEL = Level.DEBUG
    after: Annotated[Seconds, "since the barge-in"]


class CallFalseInterruption(OfCall, frozen=True):
    """It was but a noise that cut the agent off: what it was saying is played on."""

    NAME = "call.false_interruption"
    LEVEL = Level.INFO
    seconds: Annotated[Seconds, "of audio that is played on"]
    whole: Annotated[bool, "nothing more of it is to come from the agent"]


class CallNoted(OfCall, frozen=True):
    """The call's own code has noted something (`Call.note`)."""

    NAME = "call.noted"
    LEVEL = Level.DEBUG
    name: str
    value: Annotated[str | int | float | bool, Kind.WORDS]


class CallStatus(OfCall, frozen=True):
    """Twilio tells what became of a call that it placed for us."""

    NAME = "call.status"
    LEVEL = Level.INFO
    status: Annotated[str, "Twilio's word: `ringing`, `in-progress`, `busy` …"]
    seconds: Annotated[str | None, "Twilio's `CallDuration`"] = None
    sip_response_code: str | None = None


class CallAnsweredBy(OfCall, frozen=True):
    """Twilio tells who or what has answered a call that it placed for us."""

    NAME = "call.answered_by"
    LEVEL = Level.INFO
    by: Annotated[str, "Twilio's word: `human`, `machine_end_beep` …"]


class CallNotTransferred(OfCall, frozen=True):
    """A call that was to be transferred is not."""

    NAME = "call.not_transferred"
    LEVEL = Level.ERROR
    reason: str
    number: Annotated[PhoneNumber | None, "to which it was to be transferred"] = None


class CallBrokenOff(OfCall, frozen=True):
    """A caller is on the line whose call is over without a goodbye, and is told so by Twilio."""

    NAME = "call.broken_off"
    LEVEL = Level.WARNING
    words: Annotated[str, "what they hear: `apology` or `busy`"]
    ending: Annotated[str | None, "of the call, if it was known here"] = None


class CallTransferEnded(OfCall, frozen=True):
    """Twilio tells how a transfer went."""

    NAME = "call.transfer_ended"
    LEVEL = Level.INFO
    status: Annotated[str, "Twilio's word: `completed`, `busy`, `no-answer` …"]


class TransferRefused(OfCall, frozen=True):
    """The call's own code wanted it transferred to a number that is not allowed."""

    NAME = "transfer.refused"
    LEVEL = Level.WARNING
    number: PhoneNumber


class CallerStartedSpeaking(OfCall, frozen=True):
    """The agent hears the caller, who cuts nothing off."""

    NAME = "caller.started_speaking"
    LEVEL = Level.DEBUG


class CallerDtmf(OfCall, frozen=True):
    """The caller pressed a key. Which one is not told: a function may collect it yet, and it may be
    one of a card's number. Those that are the agent's are in what it is told."""

    NAME = "caller.dtmf"
    LEVEL = Level.DEBUG
    collected: Annotated[bool | None, "a function was collecting the keys"] = None


class CallerProtocolError(OfCall, frozen=True):
    """Twilio's side did what its protocol does not allow. Each reason is told once in a call."""

    NAME = "caller.protocol_error"
    LEVEL = Level.WARNING
    reason: str


# --- of a call: its agent -------------------------------------------------------------------------


class AgentWelcomed(OfCall, frozen=True):
    """The agent has taken the connection."""

    NAME = "agent.welcomed"
    LEVEL = Level.DEBUG
    request_id: Annotated[str, "the agent's own name for the session, for its support"]
    agent: Annotated[str, "the configured agent"]


class AgentReady(OfCall, frozen=True):
    """The agent has taken its settings: the two sides can talk."""

    NAME = "agent.ready"
    LEVEL = Level.DEBUG


class AgentMessage(OfCall, frozen=True):
    """The agent sent something that changes nothing here."""

    NAME = "agent.message"
    LEVEL = Level.DEBUG
    kind: Annotated[str, "its `type`"]


class AgentLatency(OfCall, frozen=True):
    """The agent tells what part of its last answer took how long."""

    NAME = "agent.latency"
    LEVEL = Level.DEBUG
    stt: Annotated[Seconds | None, "speech to text"] = None
    ttt_token: Annotated[Seconds | None, "the model's first token"] = None
    ttt_text: Annotated[Seconds | None, "the model's first text"] = None
    ttt_tool: Annotated[Seconds | None, "the model's first function call"] = None
    ttt_thinking: Annotated[Seconds | None, "the model's thinking"] = None
    tts: Annotated[Seconds | None, "text to speech"] = None
    total: Seconds | None = None


class AgentWarned(OfCall, frozen=True):
    """The agent sent a `Warning`. Each is told once in a call."""

    NAME = "agent.warned"
    LEVEL = Level.WARNING
    reason: Annotated[str, "its code and description"]


class AgentProtocolError(OfCall, frozen=True):
    """The agent did what its protocol does not allow. Each reason is told once in a call."""

    NAME = "agent.protocol_error"
    LEVEL = Level.WARNING
    reason: str


class AgentResponseDue(OfCall, frozen=True):
    """From now on the caller waits for the agent."""

    NAME = "agent.response_due"
    LEVEL = Level.DEBUG
    what: Annotated[str, "an answer, a greeting, what came of a function …"]


class AgentUnresponsive(OfCall, frozen=True):
    """The caller waits for the agent for too long, and hears "One moment, please"."""

    NAME = "agent.unresponsive"
    LEVEL = Level.WARNING
    due: Annotated[str, "as `what` of `agent.response_due`"]
    seconds: Annotated[Seconds, "without a sound"]


class AgentLost(OfCall, frozen=True):
    """The agent's session is lost, and another one is dialled."""

    NAME = "agent.lost"
    LEVEL = Level.WARNING
    ending: Annotated[str, "as `ending` of `call.ended` would be without another session"]
    detail: Annotated[str, "for people"]


class AgentReconnected(OfCall, frozen=True):
    """After a loss the caller has an agent again."""

    NAME = "agent.reconnected"
    LEVEL = Level.INFO
    agent: str
    gap: Annotated[Seconds, "without an agent"]


class AgentHandedOver(OfCall, frozen=True):
    """Another configured agent is to go on."""

    NAME = "agent.handed_over"
    LEVEL = Level.INFO
    agent: Annotated[str, "who talked with the caller"]
    to: Annotated[str, "who is to go on"]


class AgentRenewed(OfCall, frozen=True):
    """The agent's session is near its longest duration, and is replaced by a fresh one."""

    NAME = "agent.renewed"
    LEVEL = Level.INFO
    agent: str


class AgentTookOver(OfCall, frozen=True):
    """After a hand-over or a renewal the caller has an agent again."""

    NAME = "agent.took_over"
    LEVEL = Level.INFO
    agent: str
    gap: Annotated[Seconds, "without an agent"]


class AgentContextReduced(OfCall, frozen=True):
    """What the last session may have died of is not told to the next one."""

    NAME = "agent.context_reduced"
    LEVEL = Level.INFO


# --- of a call: functions -------------------------------------------------------------------------


class FunctionCalled(OfCall, frozen=True):
    """The agent called a function, which begins to run."""

    NAME = "function.called"
    LEVEL = Level.DEBUG
    id: Annotated[str, "of this call of it"]
    name: str
    arguments: Annotated[Json, "as the model wrote them"]
    shield: Annotated[bool, "it is not torn when nobody waits for it any more"]


class FunctionFinished(OfCall, frozen=True):
    """A function has come to its end."""

    NAME = "function.finished"
    LEVEL = Level.DEBUG
    id: str
    name: str
    outcome: Annotated[
        str,
        "`done`, `failed`, `timed_out`, `cancelled`, `late`: after its time was up, or"
        " `unconfirmed`: the caller has to be asked first",
    ]
    seconds: Annotated[Seconds, "since it was called"]
    result: Annotated[Json | None, "what the agent is told, if it is told anything"] = None
    shield: bool | None = None
    unawaited: Annotated[bool | None, "the agent no longer wanted its result"] = None

    @property
    def level(self) -> Level:
        """debug; warning where it timed out, info where the agent did not wait for it"""
        if self.unawaited:
            return Level.INFO
        return Level.WARNING if self.outcome == "timed_out" else Level.DEBUG


class FunctionRefused(OfCall, frozen=True):
    """The agent called a function that is not run."""

    NAME = "function.refused"
    LEVEL = Level.WARNING
    id: str
    name: str
    reason: str


class FunctionFailed(OfCall, frozen=True):
    """A function raised."""

    NAME = "function.failed"
    LEVEL = Level.WARNING
    id: str
    name: str
    reason: Annotated[str, "the exception's type and text"]
    crashed: Annotated[bool, "by an exception that is none of those meant for the agent"]
    hint: Annotated[str | None, "what to do about it, where that is known"] = None

    @property
    def level(self) -> Level:
        """warning; error where it crashed, in the log with its traceback"""
        return Level.ERROR if self.crashed else Level.WARNING


class FunctionFillerNotSaid(OfCall, frozen=True):
    """What was to be said while a function runs could not be."""

    NAME = "function.filler_not_said"
    LEVEL = Level.WARNING
    id: str
    name: str
    reason: str


class FunctionRunByAgent(OfCall, frozen=True):
    """The agent's own side has run a function, by its `endpoint`."""

    NAME = "function.run_by_agent"
    LEVEL = Level.DEBUG
    id: str
    name: str
    arguments: Json
    result: Json


# --- of the process: calls ------------------------------------------------------------------------


class CallRefused(Event, frozen=True):
    """All lines are busy, or the server is draining: a call was not taken."""

    NAME = "call.refused"
    LEVEL = Level.WARNING
    live: Annotated[int, "calls under way"]
    call_sid: str | None = None


class CallNotHungUp(Event, frozen=True):
    """Twilio would not hang up on a call of a TwiML Bin: the Bin's TwiML goes on."""

    NAME = "call.not_hung_up"
    LEVEL = Level.WARNING
    call_sid: str
    reason: str
    crashed: Annotated[bool | None, "it was a bug of this package"] = None

    @property
    def level(self) -> Level:
        """warning; error where it crashed, with its traceback"""
        return Level.ERROR if self.crashed else Level.WARNING


class CallLeftToBin(Event, frozen=True):
    """There is no account to hang up by on a call of a TwiML Bin: the Bin's TwiML goes on."""

    NAME = "call.left_to_bin"
    LEVEL = Level.INFO
    call_sid: str
    reason: Annotated[str, "and what to do"]


class DialPlaced(Event, frozen=True):
    """Twilio has taken a call that is to be placed."""

    NAME = "dial.placed"
    LEVEL = Level.INFO
    call_sid: str
    agent: str
    seconds: Annotated[Seconds, "that Twilio took"]


class DialRefused(Event, frozen=True):
    """A call was not placed: Twilio was not even asked."""

    NAME = "dial.refused"
    LEVEL = Level.WARNING
    why: Annotated[str, "one word"]
    reason: str
    to: PhoneNumber | None = None


class DialFailed(Event, frozen=True):
    """Twilio would not place a call, or gave no answer."""

    NAME = "dial.failed"
    LEVEL = Level.WARNING
    reason: str
    uncertain: Annotated[bool, "it may have been placed all the same"]


class DialGivenUp(Event, frozen=True):
    """Nobody waits any more for a call that was queued to be placed."""

    NAME = "dial.given_up"
    LEVEL = Level.INFO


class DialUnknown(Event, frozen=True):
    """Twilio asks about a call that this process does not know to have placed."""

    NAME = "dial.unknown"
    LEVEL = Level.WARNING
    call_sid: str
    reason: str


class DialMachineHandled(Event, frozen=True):
    """A machine has answered a placed call, and what was asked for is done."""

    NAME = "dial.machine_handled"
    LEVEL = Level.INFO
    call_sid: str
    act: Annotated[str, "`hang_up` or `leave_message`"]


class DialMachineGone(Event, frozen=True):
    """A machine has answered a placed call, which ended before anything could be done."""

    NAME = "dial.machine_gone"
    LEVEL = Level.INFO
    call_sid: str
    act: Annotated[str, "`hang_up` or `leave_message`"]


class DialMachineNotHandled(Event, frozen=True):
    """A machine has answered a placed call, and Twilio would not do what was asked for."""

    NAME = "dial.machine_not_handled"
    LEVEL = Level.WARNING
    call_sid: str
    act: Annotated[str, "`hang_up` or `leave_message`"]
    reason: str


class DialCrashed(Event, frozen=True):
    """A bug of this package, while a call was placed. With its traceback."""

    NAME = "dial.crashed"
    LEVEL = Level.ERROR
    call_sid: str | None = None
    act: Annotated[str | None, "`hang_up` or `leave_message`"] = None


class TwilioRetried(Event, frozen=True):
    """Twilio's REST API refused for now, and is asked again."""

    NAME = "twilio.retried"
    LEVEL = Level.WARNING
    status: Annotated[int, "HTTP's, 0 without an answer"]
    wait: Annotated[Seconds, "until then"]
    code: Annotated[int | None, "Twilio's own"] = None


# --- of the process: the way to agents ------------------------------------------------------------


class AgentUnknown(Event, frozen=True):
    """A call asks for an agent that is not configured."""

    NAME = "agent.unknown"
    LEVEL = Level.WARNING
    call_sid: str
    agent: str
    named_by: str


class AgentChoiceFailed(Event, frozen=True):
    """`choose_agent` raised or took too long. With its traceback if it raised."""

    NAME = "agent.choice_failed"
    LEVEL = Level.ERROR
    call_sid: str
    reason: str
    hint: Annotated[str | None, "what to do about it, where that is known"] = None


class AgentNoCredential(Event, frozen=True):
    """The function of `STS_CREDENTIAL` raised, took too long, or answered none, so the agent is not
    dialled. With its traceback if it raised."""

    NAME = "agent.no_credential"
    LEVEL = Level.ERROR
    endpoint: Annotated[str, "host and port that were to be dialled"]
    reason: str
    hint: Annotated[str | None, "what to do about it, where that is known"] = None


class AgentNotPrewarmed(Event, frozen=True):
    """The agent is not dialled while the phone rings, but when the stream begins."""

    NAME = "agent.not_prewarmed"
    LEVEL = Level.INFO
    call_sid: str
    reason: str


class AgentPrewarmDiscarded(Event, frozen=True):
    """A session that was dialled ahead is not used."""

    NAME = "agent.prewarm_discarded"
    LEVEL = Level.INFO
    call_sid: str
    reason: str


class AgentPrewarmCrashed(Event, frozen=True):
    """A bug of this package, in a session that was dialled ahead. With its traceback."""

    NAME = "agent.prewarm_crashed"
    LEVEL = Level.ERROR
    call_sid: str


class AgentEndpointFailed(Event, frozen=True):
    """One of the agent's addresses failed, and the next one is tried."""

    NAME = "agent.endpoint_failed"
    LEVEL = Level.WARNING
    endpoint: str
    reason: str


class AgentEndpointSuspended(Event, frozen=True):
    """One of the agent's addresses failed too often, and is not dialled for a while."""

    NAME = "agent.endpoint_suspended"
    LEVEL = Level.WARNING
    endpoint: str
    seconds: Annotated[Seconds, "until it is tried again"]
    reason: str


class AgentEndpointRecovered(Event, frozen=True):
    """One of the agent's addresses is dialled again."""

    NAME = "agent.endpoint_recovered"
    LEVEL = Level.INFO
    endpoint: str


class OfflineAgentScripted(Event, frozen=True):
    """The offline agent recognises no words, and answers by script."""

    NAME = "offline_agent.scripted"
    LEVEL = Level.WARNING
    reason: str


class OfflineAgentWorkerFailed(Event, frozen=True):
    """A process that recognises words for the offline agent has died, and another one begins."""

    NAME = "offline_agent.worker_failed"
    LEVEL = Level.WARNING
    reason: str


class OfflineAgentCrashed(Event, frozen=True):
    """A bug of this package, in a session of the offline agent. With its traceback."""

    NAME = "offline_agent.crashed"
    LEVEL = Level.ERROR


# --- of the process: records ----------------------------------------------------------------------


class RecordsAway(Event, frozen=True):
    """At the start, the database cannot be reached: what is to be kept waits on disk."""

    NAME = "records.away"
    LEVEL = Level.WARNING
    database: str
    reason: str


class RecordsBehind(Event, frozen=True):
    """The database takes nothing for now: what is to be kept waits on disk."""

    NAME = "records.behind"
    LEVEL = Level.WARNING
    reason: str


class RecordsCaughtUp(Event, frozen=True):
    """What waited on disk is in the database."""

    NAME = "records.caught_up"
    LEVEL = Level.INFO
    seconds: Annotated[Seconds, "since the records fell behind"]


class RecordsCallsLost(Event, frozen=True):
    """A process has died with calls under way, which are marked so."""

    NAME = "records.calls_lost"
    LEVEL = Level.WARNING
    process: str
    calls: int


class RecordsExpired(Event, frozen=True):
    """Calls that were older than they are to be kept are deleted."""

    NAME = "records.expired"
    LEVEL = Level.INFO
    calls: int
    events: int


class RecordsNotTidied(Event, frozen=True):
    """What is too old could not be deleted; it is tried again."""

    NAME = "records.not_tidied"
    LEVEL = Level.WARNING
    reason: str


class RecordsRefused(Event, frozen=True):
    """The database will never take this row, which is put aside."""

    NAME = "records.refused"
    LEVEL = Level.ERROR
    call_sid: str
    kind: str
    reason: Annotated[str, "the type of the error"]


class RecordsLost(Event, frozen=True):
    """The process ends, and these rows are written nowhere."""

    NAME = "records.lost"
    LEVEL = Level.ERROR
    rows: int


class RecordsCrashed(Event, frozen=True):
    """A bug of this package, in what keeps records. With its traceback."""

    NAME = "records.crashed"
    LEVEL = Level.ERROR
    lost: Annotated[int, "rows that it cost"]


# --- of the process: recordings -------------------------------------------------------------------


class RecordingsBehind(Event, frozen=True):
    """The disk does not take all that is recorded: from here on seconds are missing."""

    NAME = "recordings.behind"
    LEVEL = Level.WARNING
    reason: str


class RecordingsCaughtUp(Event, frozen=True):
    """The disk takes what is recorded again."""

    NAME = "recordings.caught_up"
    LEVEL = Level.INFO


class RecordingFinished(Event, frozen=True):
    """A call is over, and so is its recording."""

    NAME = "recording.finished"
    LEVEL = Level.DEBUG
    call_sid: str
    result: Annotated[str, "ok; degraded: with gaps; failed: there is none"]
    duration: Annotated[Seconds, "of what it plays"]

    @property
    def level(self) -> Level:
        """debug; warning where it is not ok"""
        return Level.DEBUG if self.result == "ok" else Level.WARNING


class RecordingsLeft(Event, frozen=True):
    """The process ends, and these recordings are not complete: the next start sees to them."""

    NAME = "recordings.left"
    LEVEL = Level.ERROR
    recordings: int


# --- of the process: webhooks ---------------------------------------------------------------------


class WebhookDelivered(Event, frozen=True):
    """The receiver has been told of the end of a call."""

    NAME = "webhook.delivered"
    LEVEL = Level.DEBUG
    call_sid: str
    attempts: int


class WebhookFailed(Event, frozen=True):
    """The receiver has not taken it; it is told again."""

    NAME = "webhook.failed"
    LEVEL = Level.WARNING
    call_sid: str
    webhook_id: str
    reason: str
    attempts: Annotated[int, "so far"]
    retry_in: Seconds


class WebhookDead(Event, frozen=True):
    """The receiver has not taken it, and is told no more: `sts-trio calls deliveries` has it."""

    NAME = "webhook.dead"
    LEVEL = Level.ERROR
    call_sid: str
    webhook_id: str
    reason: str
    attempts: int


class WebhookCrashed(Event, frozen=True):
    """A bug of this package, in what tells of ended calls. With its traceback."""

    NAME = "webhook.crashed"
    LEVEL = Level.ERROR


class HookFailed(Event, frozen=True):
    """`on_call_ended` has raised, or was not done in time. If it raised, with its traceback."""

    NAME = "hook.failed"
    LEVEL = Level.WARNING
    call_sid: str
    reason: str


class HookSkipped(Event, frozen=True):
    """`on_call_ended` is not called for that call: too many wait, or its record cannot be read."""

    NAME = "hook.skipped"
    LEVEL = Level.WARNING
    call_sid: str
    reason: str


# --- of the process: the server -------------------------------------------------------------------


class ServerStarted(Event, frozen=True):
    """The server takes calls."""

    NAME = "server.started"
    LEVEL = Level.INFO
    agent: Annotated[str, "`deepgram` or `offline`"]
    endpoints: Annotated[list[str], "where the agent is dialled"]
    agents: Annotated[list[str], "those that are configured"]
    functions: Annotated[list[str], "those that agents may call"]


class ServerDraining(Event, frozen=True):
    """The server takes no more calls, and is to stop."""

    NAME = "server.draining"
    LEVEL = Level.INFO
    live: Annotated[int, "calls under way"]
    signal: Annotated[str, "or `take-over`: another process has the address now"]
    seconds: Annotated[Seconds | None, "that they have at most"] = None


class ServerRelieved(Event, frozen=True):
    """Another process of this user listens in this one's place, which has but its calls left."""

    NAME = "server.relieved"
    LEVEL = Level.INFO
    live: Annotated[int, "calls under way"]


class ServerStopped(Event, frozen=True):
    """The server has no call and no connection any more."""

    NAME = "server.stopped"
    LEVEL = Level.INFO


class PageAddress(Event, frozen=True):
    """Where the page is, with the key of this run."""

    NAME = "page.address"
    LEVEL = Level.INFO
    url: str


class KeyNotPublished(Event, frozen=True):
    """The key of this run is in no file, so commands on this machine do not find it."""

    NAME = "key.not_published"
    LEVEL = Level.WARNING
    reason: str


class ConfigWarning(Event, frozen=True):
    """Something in the configuration is allowed, and yet hardly meant."""

    NAME = "config.warning"
    LEVEL = Level.WARNING
    warning: str


class RequestRefused(Event, frozen=True):
    """A request was not let in."""

    NAME = "request.refused"
    LEVEL = Level.WARNING
    path: str
    reason: str
    guesses: Annotated[int | None, "wrong tokens and keys, of late"] = None


class RequestMisdirected(Event, frozen=True):
    """A request came that no route takes, from Twilio or for a path that is nearly one of ours."""

    NAME = "request.misdirected"
    LEVEL = Level.WARNING
    path: str
    reason: Annotated[str, "the likely cause"]


class RequestNotAnswered(Event, frozen=True):
    """The application gave no answer to a request in time."""

    NAME = "request.not_answered"
    LEVEL = Level.WARNING
    client: str
    seconds: Annotated[Seconds, "that it had"]


class ConnectionNotUnderstood(Event, frozen=True):
    """What came over a connection is no request. Told once a minute of each reason."""

    NAME = "connection.not_understood"
    LEVEL = Level.WARNING
    client: str
    reason: Annotated[str, "the likely cause"]
    more: Annotated[int | None, "of the same, since the last line"] = None


class ConnectionCrashed(Event, frozen=True):
    """An exception ended a connection. With its traceback."""

    NAME = "connection.crashed"
    LEVEL = Level.ERROR
    client: str


class ConnectionsEvicted(Event, frozen=True):
    """Connections that are no calls had to make room. Told once a minute at most."""

    NAME = "connections.evicted"
    LEVEL = Level.WARNING
    reason: str
    ended: Annotated[int, "how many, since this was told last"]
    left: Annotated[int, "how many there are"]
    descriptors: Annotated[float, "how many the process may have"]


class DescriptorsTooFew(Event, frozen=True):
    """The system allows this process fewer descriptors than its calls may take."""

    NAME = "descriptors.too_few"
    LEVEL = Level.WARNING
    limit: float
    needed: int
    calls: int
    what_to_do: str


class GuardNotInstalled(Event, frozen=True):
    """This version of Hypercorn is not known here, so its connections are not guarded."""

    NAME = "guard.not_installed"
    LEVEL = Level.WARNING
    hypercorn: str
    expected: str
    unprotected: str


class GarbageCollected(Event, frozen=True):
    """Memory grew by more than calls explain, and garbage was looked for."""

    NAME = "garbage.collected"
    LEVEL = Level.WARNING
    objects: int
    seconds: Annotated[Seconds, "in which nothing else was done"]
    live: Annotated[int, "calls under way"]
    reason: str


# {name: its class}, in the order of this file.
EVENTS: Mapping[str, type[Event]] = {
    event.NAME: event for event in (*OfCall.__subclasses__(), *Event.__subclasses__()[1:])
}


def read(name: str, fields: Mapping[str, Any]) -> Event | None:
    """The event that was told of as JSON; `None`: none of this version's.

    Raises:
        msgspec.ValidationError: it has other fields.
    """
    event = EVENTS.get(name)
    return None if event is None else msgspec.convert(fields, event)
