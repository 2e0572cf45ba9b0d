"""What happens in a call, and to calls as the process sees them."""

from typing import Annotated

from sts_trio.errors import Verdict
from sts_trio.observe.events.event import Event, Kind, Level, OfCall, PhoneNumber, Seconds, Words

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
    how: Annotated[
        str | None, "another process had the call before; then as in `call.moved`, which follows"
    ] = None


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


class CallMoved(OfCall, frozen=True):
    """The call goes on here: another process has moved it, or is gone (`recovered`); or its stream
    was cut, and is here again (`returned`)."""

    NAME = "call.moved"
    LEVEL = Level.INFO
    how: Annotated[str, "`moved`, `recovered` or `returned`"]
    gap: Annotated[Seconds | None, "without a stream, as far as that is known"] = None
    lasted: Annotated[Seconds | None, "that the call had lasted, in other processes"] = None
    moves: Annotated[int | None, "times that a process had let go of it before"] = None


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


class CallAskedAnew(OfCall, frozen=True):
    """What is still to be answered is asked in the caller's name, of an agent that does not know
    it."""

    NAME = "call.asked_anew"
    LEVEL = Level.DEBUG
    text: Annotated[
        str | None, "words of ours, where it is not known to what; else it is the caller's question"
    ] = None


class CallNoted(OfCall, frozen=True):
    """The call's own code has noted something (`Call.note`)."""

    NAME = "call.noted"
    LEVEL = Level.DEBUG
    name: str
    value: Annotated[str | int | float | bool, Kind.WORDS]


class CallRecordingPaused(OfCall, frozen=True):
    """The recording is silent from here on: the call's own code, or a sensitive function, wants it
    so."""

    NAME = "call.recording_paused"
    LEVEL = Level.INFO


class CallRecordingResumed(OfCall, frozen=True):
    """One of those who wanted the recording to be silent does not any more."""

    NAME = "call.recording_resumed"
    LEVEL = Level.INFO


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
    reason: Annotated[str | None, "why no process goes on with it"] = None


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


class CallNotRecalled(Event, frozen=True):
    """A call goes on here that another process had, and what was said in it cannot be found out."""

    NAME = "call.not_recalled"
    LEVEL = Level.WARNING
    call_sid: str
    reason: str


class CallNotRescued(Event, frozen=True):
    """A call has lost its process, Twilio has asked nobody about it, and now Twilio could not be
    had to: somebody tries again, as long as it is not given up for lost."""

    NAME = "call.not_rescued"
    LEVEL = Level.WARNING
    call_sid: str
    reason: str


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
