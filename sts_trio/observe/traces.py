"""Calls as traces, for OpenTelemetry: one for each call, with spans for its dials, turns,
functions and moves.

A call that moves is one trace. Its first span is told by the process that had it first. If that one
has died, nobody has told it: then it is the span of the process that goes on with the call, and
begins where the call began. Other processes tell of their parts in spans within it.

Made from the event feed, so a call pays for it by the turn, and not at all where no traces are
wanted. Names are those of the conventions for generative AI (`invoke_agent`, `execute_tool`,
`gen_ai.conversation.id`), where they have one; what is ours begins with `sts.`. Conventions for
voice are not decided yet, so a turn is a span of ours. What was said, keyed in or handed to a
function, and who called whom, stands under `sts.pii.` alone, and only if it is asked for: a
collector can take it out by that name. No span is named by any of it.

Source: open-telemetry/semantic-conventions-genai, gen-ai-agent-spans, status Development, read
2026-11-30.
"""

import time
from collections.abc import Callable, Collection
from typing import Any

from opentelemetry.context import Context, attach
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
    set_span_in_context,
)

from sts_trio.errors import Verdict
from sts_trio.observe import events
from sts_trio.observe.events import Kind, Level, kinds
from sts_trio.observe.feed import CallEvent
from sts_trio.observe.trace_ids import CallIds

PROVIDER = "deepgram"
# Functions that end otherwise have failed.
_FINE = frozenset({"done", "unconfirmed", "cancelled"})
_FAULTS = frozenset({Verdict.AGENT.value, Verdict.OURS.value})

Attributes = dict[str, Any]


class _Call:
    """The spans of one call that are open."""

    __slots__ = ("agent", "dial", "functions", "root", "started", "turn", "whole")

    def __init__(self, root: Span, whole: Context, agent: str, started: int) -> None:
        self.root = root  # of what this process has of the call
        self.whole = whole  # the first span of the call's trace: this one, or another process's
        self.agent = agent
        self.started = started  # nanoseconds since 1970, of second 0 of the call
        self.dial: Span | None = None
        self.turn: Span | None = None
        self.functions: dict[str, Span] = {}  # {id of the function call: its span}


class Traces:
    """`functions` are the names of yours: no span is named by one that an agent has made up.
    `conversation_id` makes a call's from its SID; `clean` is given all that is under `sts.pii.`,
    which is told only `with_words`."""

    def __init__(
        self,
        provider: TracerProvider,
        *,
        functions: Collection[str] = (),
        with_words: bool = False,
        conversation_id: Callable[[str], str] = str,
        clean: Callable[[str], str] = str,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._tracer = provider.get_tracer("sts_trio")
        self._functions = frozenset(functions)
        self._with_words = with_words
        self._conversation_id = conversation_id
        self._clean = clean
        self._wall = wall
        self._ids = CallIds.of(self._tracer)
        self._calls: dict[str, _Call] = {}  # {SID: of a call under way}
        # {SID: of a call that was elsewhere, of which it is about to be known what was there}
        self._arriving: dict[str, tuple[events.CallStarted, int]] = {}
        self._listeners: dict[type[events.OfCall], Callable[[_Call, int, Any], None]] = {
            events.AgentAnswerHeard: self._hear_answer,
            events.AgentHandedOver: self._hear_gone,
            events.AgentLatency: self._hear_latency,
            events.AgentLost: self._hear_lost,
            events.AgentReady: self._hear_ready,
            events.AgentRenewed: self._hear_gone,
            events.AgentWelcomed: self._hear_welcome,
            events.CallHeard: self._hear_heard,
            events.CallMoved: self._hear_moved,
            events.CallTranscript: self._hear_transcript,
            events.FunctionCalled: self._hear_called,
            events.FunctionFinished: self._hear_finished,
        }

    def hear(self, entry: CallEvent) -> None:
        """What happens in a call, as it happens."""
        event, now = entry.event, self._wall()
        if isinstance(event, events.CallStarted):
            started = now - _nanoseconds(entry.at)
            if event.how is None:
                self._begin(event, now, started)
            else:
                self._arriving[entry.call_sid] = event, started
            return
        if self._arriving and isinstance(event, events.CallMoved | events.CallEnded):
            self._arrive(entry.call_sid, event, now)
        call = self._calls.get(entry.call_sid)
        if call is None:
            return  # a socket that never became a call, or a function that outlives its own
        if isinstance(event, events.CallEnded):
            self._end(self._calls.pop(entry.call_sid), event, now)
        elif (listener := self._listeners.get(type(event))) is not None:
            listener(call, now, event)
        elif event.level >= Level.INFO or isinstance(event, events.CallBargeIn):
            span = call.turn or call.root
            span.add_event(event.NAME, self._fields(event), now)

    # --- the call -------------------------------------------------------------------------------

    def _begin(
        self,
        event: events.CallStarted,
        now: int,
        started: int,
        *,
        whole: Context | None = None,
        began: int | None = None,
    ) -> None:
        """`whole` is the call's first span, if another process tells it. `began` is when this one
        begins, if that is not when the stream did."""
        if (left := self._calls.pop(event.call_sid, None)) is not None:
            self._close(left, now)  # Twilio streams it a second time
        conversation = self._conversation_id(event.call_sid)
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.conversation.id": conversation,
            "gen_ai.agent.name": event.agent or "",
            "sts.call.direction": event.direction or "",
            **self._pii(caller=event.from_, called=event.to),
        }
        name = _named("invoke_agent", event.agent)
        context = whole
        if context is None:  # whatever runs now is no part of it
            context = Context() if self._ids is None else self._ids.first_of(conversation, name)
        root = self._tracer.start_span(
            name,
            context=context,
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=started if began is None else began,
        )
        whole = set_span_in_context(root) if whole is None else whole
        call = self._calls[event.call_sid] = _Call(root, whole, event.agent or "", started)
        self._dial(call, now)

    def _arrive(self, call_sid: str, event: events.CallMoved | events.CallEnded, now: int) -> None:
        """Another process had it until now."""
        arriving = self._arriving.pop(call_sid, None)
        if arriving is None:
            return
        start, started = arriving
        if isinstance(event, events.CallMoved) and event.how == "recovered" and not event.moves:
            # Nobody else has told of it, or will.
            before = _nanoseconds((event.gap or 0.0) + (event.lasted or 0.0))
            self._begin(start, now, started, began=started - before)
        elif self._ids is None:
            self._begin(start, now, started)
        else:
            name = _named("invoke_agent", start.agent)
            conversation = self._conversation_id(call_sid)
            self._begin(start, now, started, whole=self._ids.within(conversation, name))

    def _hear_moved(self, call: _Call, now: int, event: events.CallMoved) -> None:
        """The span is for as long as there was no stream."""
        attributes: Attributes = {"sts.move.how": event.how}
        if event.gap is not None:
            attributes["sts.move.gap_seconds"] = event.gap
        until = now if event.how == "returned" else call.started
        began = until - _nanoseconds(event.gap or 0.0)
        self._span(call.whole, "move", began, attributes).end(until)

    def _end(self, call: _Call, event: events.CallEnded, now: int) -> None:
        for name, value in event.fields().items():
            if name not in ("from", "to", "violations", "request_id", "agent", "direction"):
                call.root.set_attribute(f"sts.call.{name}", value)
        if event.verdict in _FAULTS:
            call.root.set_attribute("error.type", event.ending)
            call.root.set_status(Status(StatusCode.ERROR, event.detail or event.ending))
        self._close(call, now)

    def _close(self, call: _Call, now: int) -> None:
        for span in (*call.functions.values(), call.turn, call.dial):
            if span is not None:
                span.end(now)
        call.root.end(now)

    # --- its agent ------------------------------------------------------------------------------

    def _dial(self, call: _Call, now: int) -> None:
        if call.dial is None:
            attributes = {"gen_ai.provider.name": PROVIDER, "gen_ai.agent.name": call.agent}
            call.dial = self._span(call.root, "dial", now, attributes, SpanKind.CLIENT)

    def _hear_welcome(self, call: _Call, now: int, event: events.AgentWelcomed) -> None:
        call.agent = event.agent
        call.root.update_name(_named("invoke_agent", event.agent))
        for span in (call.root, call.dial):
            if span is not None:
                span.set_attribute("gen_ai.agent.name", event.agent)
                span.set_attribute("sts.agent.request_id", event.request_id)

    def _hear_ready(self, call: _Call, now: int, event: events.AgentReady) -> None:
        if call.dial is not None:
            call.dial.end(now)
            call.dial = None

    def _hear_lost(self, call: _Call, now: int, event: events.AgentLost) -> None:
        if call.dial is not None:
            call.dial.set_attribute("error.type", event.ending)
            call.dial.set_status(Status(StatusCode.ERROR, event.detail))
            call.dial.end(now)
            call.dial = None
        self._hear_gone(call, now, event)

    def _hear_gone(self, call: _Call, now: int, event: events.OfCall) -> None:
        """Another session is to come."""
        call.root.add_event(event.NAME, self._fields(event), now)
        self._dial(call, now)

    # --- a turn ---------------------------------------------------------------------------------

    def _hear_transcript(self, call: _Call, now: int, event: events.CallTranscript) -> None:
        if event.role == "user":
            if call.turn is not None:
                call.turn.end(now)  # nothing came of the last one
            began = now if event.until is None else call.started + _nanoseconds(event.until)
            call.turn = self._turn(call, began, "user")
            self._add(call.turn, user_input=event.text)
        elif call.turn is None and event.position is not None:
            call.turn = self._turn(call, now, "agent")

    def _turn(self, call: _Call, began: int, first: str) -> Span:
        """It begins where the caller's speech ended, or with the agent's own first sentence."""
        return self._span(call.root, "turn", began, {"sts.turn.begun_by": first})

    def _hear_answer(self, call: _Call, now: int, event: events.AgentAnswerHeard) -> None:
        if call.turn is not None:
            call.turn.set_attribute("sts.turn.response_seconds", event.after)

    def _hear_latency(self, call: _Call, now: int, event: events.AgentLatency) -> None:
        if call.turn is not None:
            for name, seconds in event.fields().items():
                call.turn.set_attribute(f"sts.turn.{name}_seconds", seconds)

    def _hear_heard(self, call: _Call, now: int, event: events.CallHeard) -> None:
        turn = call.turn
        if turn is None or not event.said_seconds:
            return  # it was on its way when its turn was cut, and is none
        turn.set_attribute("sts.turn.said_seconds", event.said_seconds)
        turn.set_attribute("sts.turn.heard_seconds", event.heard_seconds)
        self._add(turn, agent_output=event.heard)
        turn.end(now)
        call.turn = None

    # --- a function -----------------------------------------------------------------------------

    def _hear_called(self, call: _Call, now: int, event: events.FunctionCalled) -> None:
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": event.name,
            "gen_ai.tool.call.id": event.id,
            "gen_ai.tool.type": "function",
            **self._pii(arguments=event.arguments),
        }
        parent = call.turn or call.root
        if (before := call.functions.get(event.id)) is not None:
            before.end(now)
        name = _named("execute_tool", event.name if event.name in self._functions else "")
        span = call.functions[event.id] = self._span(parent, name, now, attributes)
        # The function's own task tells that it begins, so spans of its own are within this one.
        attach(set_span_in_context(span))

    def _hear_finished(self, call: _Call, now: int, event: events.FunctionFinished) -> None:
        span = call.functions.pop(event.id, None)
        if span is None:
            return
        span.set_attribute("sts.function.outcome", event.outcome)
        self._add(span, result=event.result)
        if event.outcome not in _FINE:
            span.set_attribute("error.type", event.outcome)
            span.set_status(Status(StatusCode.ERROR, event.outcome))
        span.end(now)

    # --- spans ----------------------------------------------------------------------------------

    def _span(
        self,
        parent: Span | Context,
        name: str,
        began: int,
        attributes: Attributes,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        return self._tracer.start_span(
            name,
            context=set_span_in_context(parent) if isinstance(parent, Span) else parent,
            kind=kind,
            attributes=attributes,
            start_time=began,
        )

    def _fields(self, event: events.OfCall) -> Attributes:
        """Of an event, those that are nobody's words or number."""
        held = kinds(type(event))
        shown, private = {}, {}
        for name, value in event.fields().items():
            if held.get(name) in (Kind.WORDS, Kind.JSON, Kind.PHONE_NUMBER):
                private[name] = value
            else:
                shown[f"sts.{name}"] = value
        return {**shown, **self._pii(**private)}

    def _pii(self, **private: object) -> Attributes:
        if not self._with_words:
            return {}
        return {
            f"sts.pii.{name}": self._clean(value) if isinstance(value, str) else value
            for name, value in private.items()
            if value is not None
        }

    def _add(self, span: Span, **private: str | None) -> None:
        for name, value in self._pii(**private).items():
            span.set_attribute(name, value)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _named(operation: str, what: str | None) -> str:
    return f"{operation} {what}" if what else operation
