"""What happens in calls, as rows: the one place that knows both.

Runs on the loop, where calls wait for each event to be told: there it is only put aside, with the
time. The rows are made of many at once, ten times a second, which takes less than half of what it
takes for one amid a call. What is no part of a call's record is let go.
"""

import collections
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sts_trio.call.info import CallInfo
from sts_trio.observe import events
from sts_trio.observe.feed import CallEvent
from sts_trio.observe.report import report
from sts_trio.records.recorder import Recorded
from sts_trio.records.rows import OURS, Kind, Row

# Calls whose rows are still numbered though they have no stream: some have yet to get one, and a
# shielded function may end after its call. What comes of one that is forgotten begins a new epoch.
REMEMBERED = 2000
# The ending of a call for which there was no room.
REFUSED = "refused"
# As notes of ours: what the log tells of a call by default, and these. Of all else there is much.
_NOTED_TOO = frozenset({events.CallAskedAnew.NAME, events.CallBargeIn.NAME})
_LOGGED = frozenset(
    name
    for name, event in events.EVENTS.items()
    if issubclass(event, events.OfCall) and event.LEVEL >= events.Level.INFO
)
# These are told by rows that are the call's own.
_OF_THE_CALL = frozenset({events.CallStarted.NAME, events.CallEnded.NAME})
# Of which something is taken.
_OTHERS = (
    events.AgentAnswerHeard.NAME,
    events.AgentLatency.NAME,
    events.CallEnded.NAME,
    events.CallerStartedSpeaking.NAME,
)
# Twilio's last words on a call that nobody took.
NEVER_ANSWERED = frozenset({"busy", "no-answer", "failed", "canceled"})
_NUMBERS_ASIDE = ("ending", "verdict", "detail", "apologised", "agent")
# What is told at the end, and is known since the start.
_KNOWN = ("call_sid", "from", "to", "direction")
# What is not to wait: the ends of calls, and functions that may be about to do something.
_AT_ONCE = frozenset({events.CallEnded.NAME, events.CallStatus.NAME, events.FunctionCalled.NAME})
# Of what waits to become rows: what a thousand calls make in a second.
MAX_WAITING = 1000
# Sentences of the agent's that are not heard yet. Twilio's buffer holds a few minutes of them.
_SENTENCES = 200


# What Twilio tells of some calls.
_TOLD_SOMETIMES = ("caller_name", "forwarded_from", "caller_parameters")


class Sink(Protocol):
    """What is needed here of `writer.Writer`."""

    def put(self, row: Row, /) -> None: ...
    def put_at_once(self, row: Row, /) -> None: ...


class _Run:
    """The rows that this process makes of one call, or of one stream of it."""

    __slots__ = (
        "_stt",
        "agent",
        "epoch",
        "latency",
        "sentences",
        "seq",
        "speaks_since",
        "spoke_until",
        "waited",
    )

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.seq = 0
        self.agent = ""
        self.speaks_since: float | None = None  # the caller, seconds since 1970
        self.spoke_until: float | None = None
        # By the caller, for the turn that is being heard, as the phone has told.
        self.waited: float | None = None
        # What the agent tells of its latency in the turn that is under way, and its sentences with
        # that of their turns.
        self.latency: dict[str, float] = {}
        self.sentences: list[tuple[str, dict[str, float]]] = []
        self._stt: float | None = None

    def hear_latency(self, told: dict[str, float]) -> None:
        """Each step is told by itself. That of hearing comes while the caller speaks, over and
        over, and so before the turn that it is of."""
        if "stt" in told:
            self._stt = told["stt"]
        self.latency |= {step: seconds for step, seconds in told.items() if step != "stt"}

    def hear_sentence(self, text: str) -> None:
        """Of the agent's, in the turn that is under way."""
        self.sentences.append((text, self.latency))
        if len(self.sentences) > _SENTENCES:
            del self.sentences[0]

    def next_turn(self) -> None:
        """The caller has said something, which the agent answers from here on."""
        self.latency = {} if self._stt is None else {"stt": self._stt}
        self._stt = None

    def reported(self, said: str) -> dict[str, float]:
        """The latency of the turn in which the agent said that, which has been settled. It is told
        of the first turn that answers the caller, and of no other."""
        latency: dict[str, float] = {}
        left = said
        while self.sentences and left.startswith(self.sentences[0][0]):
            text, told = self.sentences.pop(0)
            left = left[len(text) :].lstrip(" ")
            latency = latency or dict(told)
            told.clear()
        return latency


class CallLog:
    """`process_id` is ours; `versions` are those of the agents, by name."""

    def __init__(
        self,
        sink: Sink,
        process_id: str,
        versions: Mapping[str, str] | None = None,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._sink = sink
        self._process_id = process_id
        self._versions = versions or {}
        self._wall = wall
        self._runs: dict[str, _Run] = {}
        # Those without a stream, the one that came last at the end.
        self._idle: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._last_epoch = 0
        self._waiting: list[tuple[CallEvent, float]] = []  # with the time, since 1970
        self._makers: dict[str, Callable[[_Run, dict[str, Any]], tuple[Kind, dict[str, Any]]]] = {
            events.CallTranscript.NAME: self._transcript,
            events.CallHeard.NAME: self._heard,
            events.CallerDtmf.NAME: lambda run, fields: (Kind.KEYS, fields),
            events.FunctionCalled.NAME: lambda run, fields: (Kind.FUNCTION_ASKED, fields),
            events.FunctionFinished.NAME: self._answered,
            events.FunctionRunByAgent.NAME: self._run_by_agent,
            events.AgentWelcomed.NAME: self._agent_dialled,
            events.AgentLost.NAME: lambda run, fields: (Kind.AGENT_LOST, fields),
            events.AgentHandedOver.NAME: self._handed_over,
            events.CallNoted.NAME: self._noted,
        }
        # Most events are none of these, and calls wait for this.
        self._as_notes = _LOGGED.union(_NOTED_TOO).difference(self._makers, _OF_THE_CALL)
        self._kept = self._as_notes.union(self._makers, _OTHERS)

    def announce(self, info: CallInfo, source: str) -> None:
        """Our webhook has been asked about a call: from here on there is a record of it."""
        self.gather()
        self._put(info.call_sid, Kind.ANNOUNCED, self._info(info, source))

    def refuse(self, info: CallInfo, source: str, why: str) -> None:
        """It was not taken: the server is `full`, or `draining`."""
        self.announce(info, source)
        body = {"ending": REFUSED, "verdict": "ours", "detail": why}
        self._put(info.call_sid, Kind.ENDED, body, at_once=True)

    def start(
        self,
        info: CallInfo,
        *,
        how: str = "first",
        gap: float | None = None,
        known_epoch: int = 0,
    ) -> int:
        """Its stream has begun, here. Returns its epoch, which is greater than one that is known.

        To be called before anything else of the stream is heard.
        """
        if not info.call_sid:
            return 0
        self.gather()
        run = self._begin(info.call_sid, known_epoch)
        self._idle.pop(info.call_sid, None)
        run.agent = info.agent
        body = self._info(info, "bin" if info.is_from_bin else "webhook")
        body |= {"stream_sid": info.stream_sid, "how": how}
        if gap is not None:
            body["gap_seconds"] = gap
        self._put(info.call_sid, Kind.STARTED, body)
        return run.epoch

    def recorded(self, recorded: Recorded) -> None:
        """What came of a recording; the call is over by then."""
        self.gather()
        body = {
            "of": recorded.epoch,
            "uri": recorded.uri or "",
            "began_at": recorded.began_at,
            "seconds": recorded.seconds,
            "bytes": recorded.size,
            "result": recorded.result,
        }
        self._put(recorded.call_sid, Kind.RECORDED, body, at_once=True)

    def hear(self, entry: CallEvent) -> None:
        """Whatever happened. Its row is there by the next `gather`, or at once if it is not to wait
        for one."""
        event = entry.event.NAME
        if event not in self._kept or not entry.call_sid:
            return  # without a SID it is a socket that never became a call
        self._waiting.append((entry, self._wall()))
        if event in _AT_ONCE or len(self._waiting) >= MAX_WAITING:
            self.gather()

    def gather(self) -> None:
        """Makes the rows of all that was heard. A bug of ours that it meets ends no call."""
        waiting, self._waiting = self._waiting, []
        for entry, now in waiting:
            try:
                self._keep(entry, now)
            except Exception:
                report(events.RecordsCrashed(1), exc_info=True)

    def _keep(self, entry: CallEvent, now: float) -> None:
        event = entry.event.NAME
        fields = entry.event.fields()
        if (until := fields.get("until")) is not None:
            fields["until"] = now - (entry.at - until)
        if event == events.AgentLatency.NAME:
            self._run(entry.call_sid).hear_latency(fields)
        elif event == events.AgentAnswerHeard.NAME:
            self._run(entry.call_sid).waited = fields["after"]
        elif (maker := self._makers.get(event)) is not None:
            run = self._run(entry.call_sid)
            kind, body = maker(run, fields)
            self._put(
                entry.call_sid,
                kind,
                body,
                now,
                at_once=kind is Kind.FUNCTION_ASKED and bool(body.get("shield")),
            )
        elif event == events.CallEnded.NAME:
            self._end(entry.call_sid, fields, now)
        elif event in (events.CallerStartedSpeaking.NAME, events.CallBargeIn.NAME):
            self._run(entry.call_sid).speaks_since = now
        if event in self._as_notes:
            self._put(entry.call_sid, Kind.NOTE, {OURS + event: fields}, now)
        if event == events.CallStatus.NAME and fields.get("status") in NEVER_ANSWERED:
            # Of a call that was streamed, here or elsewhere, the store knows that it was.
            body = {"ending": str(fields["status"]), "verdict": "caller"}
            self._put(entry.call_sid, Kind.ENDED, body, now, at_once=True)

    # --- one kind each --------------------------------------------------------------------------

    def _transcript(self, run: _Run, fields: dict[str, Any]) -> tuple[Kind, dict[str, Any]]:
        if fields.pop("role") != "user":
            run.hear_sentence(fields["text"])
            return Kind.AGENT, fields
        run.next_turn()
        run.spoke_until, run.waited = fields.get("until"), None
        if run.speaks_since is not None:
            fields["began"] = run.speaks_since
            run.speaks_since = None
        return Kind.USER, fields

    def _heard(self, run: _Run, fields: dict[str, Any]) -> tuple[Kind, dict[str, Any]]:
        if reported := run.reported(fields["said"]):
            fields["reported"] = reported
        if run.waited is not None and fields["heard_seconds"]:
            # By the phone's own time. When a turn is settled tells less: that may be late.
            fields["waited"] = run.waited
            if run.spoke_until is not None:
                fields["began"] = run.spoke_until + run.waited
            run.waited = None
        return Kind.HEARD, fields

    def _answered(self, run: _Run, fields: dict[str, Any]) -> tuple[Kind, dict[str, Any]]:
        return Kind.FUNCTION_ANSWERED, _with_content(fields)

    def _run_by_agent(self, run: _Run, fields: dict[str, Any]) -> tuple[Kind, dict[str, Any]]:
        return Kind.FUNCTION_RUN_BY_AGENT, _with_content(fields)

    def _noted(self, run: _Run, fields: dict[str, Any]) -> tuple[Kind, dict[str, Any]]:
        return Kind.NOTE, {fields["name"]: fields["value"]}

    def _agent_dialled(self, run: _Run, fields: dict[str, Any]) -> tuple[Kind, dict[str, Any]]:
        run.agent = str(fields.get("agent", run.agent))
        version = self._versions.get(run.agent)
        told = {} if version is None else {"version": version}
        return Kind.AGENT_DIALLED, {"agent": run.agent, **fields, **told}

    def _handed_over(self, run: _Run, fields: dict[str, Any]) -> tuple[Kind, dict[str, Any]]:
        run.agent = str(fields.get("to", run.agent))
        return Kind.HANDED_OVER, fields

    def _end(self, call_sid: str, fields: dict[str, Any], now: float) -> None:
        body = {name: fields[name] for name in _NUMBERS_ASIDE if name in fields}
        body["statistics"] = {
            name: value
            for name, value in fields.items()
            if name not in _NUMBERS_ASIDE and name not in _KNOWN
        }
        self._put(call_sid, Kind.ENDED, body, now, at_once=True)
        self._set_aside(call_sid)

    # --- rows -----------------------------------------------------------------------------------

    def _info(self, info: CallInfo, source: str) -> dict[str, Any]:
        return {
            "direction": info.direction,
            "from": info.from_,
            "to": info.to,
            "agent": info.agent,
            "parameters": info.parameters,
            "source": source,
            "process_id": self._process_id,
            **({"account": info.account_sid} if info.account_sid else {}),
            **{name: value for name in _TOLD_SOMETIMES if (value := getattr(info, name))},
        }

    def _put(
        self,
        call_sid: str,
        kind: Kind,
        body: dict[str, Any],
        at: float | None = None,
        *,
        at_once: bool = False,
    ) -> None:
        run = self._run(call_sid)
        row = Row(call_sid, run.epoch, run.seq, self._wall() if at is None else at, kind, body)
        run.seq += 1
        if at_once:
            self._sink.put_at_once(row)
        else:
            self._sink.put(row)

    def _run(self, call_sid: str) -> _Run:
        run = self._runs.get(call_sid)
        return self._begin(call_sid, 0) if run is None else run

    def _begin(self, call_sid: str, known_epoch: int) -> _Run:
        """An epoch that no other process has for this call, nor we for any."""
        epoch = max(int(self._wall() * 1e6), self._last_epoch + 1, known_epoch + 1)
        self._last_epoch = epoch
        run = self._runs[call_sid] = _Run(epoch)
        self._set_aside(call_sid)
        return run

    def _set_aside(self, call_sid: str) -> None:
        self._idle[call_sid] = None
        self._idle.move_to_end(call_sid)
        while len(self._idle) > REMEMBERED:
            del self._runs[self._idle.popitem(last=False)[0]]


def _with_content(fields: dict[str, Any]) -> dict[str, Any]:
    return {{"result": "content"}.get(name, name): value for name, value in fields.items()}
