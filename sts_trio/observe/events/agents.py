"""What the agent of a call does, and what becomes of the way to agents."""

from typing import Annotated

from sts_trio.observe.events.event import Event, Level, OfCall, Seconds

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


class AgentAnswerHeard(OfCall, frozen=True):
    """The caller hears the agent's answer begin. It is told half a second later, when the phone has
    echoed so, and not of each turn: not where it is unknown when the caller had stopped speaking,
    nor of an answer that was cut off before."""

    NAME = "agent.answer_heard"
    LEVEL = Level.DEBUG
    after: Annotated[Seconds, "of silence, since the caller's last sound, as they heard it"]


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
    past: Annotated[bool, "all but the last of what was said"] = False
    question: Annotated[bool, "the caller's last: they are to say it in other words"] = False


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


class AgentSessionsRefused(Event, frozen=True):
    """The agent's vendor has refused a session, as there were too many (429). Nobody is dialled for
    a second, and then one after the other. Not told again before there was none for ten seconds."""

    NAME = "agent.sessions_refused"
    LEVEL = Level.WARNING
    open: Annotated[int, "sessions that this process had"]


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
