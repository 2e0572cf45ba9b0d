"""Ids of a call's trace, which are the same in every process that has the call.

A phone call that moves is one trace: collectors show a trace as one picture, and links as two
pictures that one may jump between. Nothing has to be handed over for that, as the trace's id, and
that of its first span, are made from the call's.

OpenTelemetry's SDK asks a generator for the ids of a tracer's spans. Tracers of other makes have
none: there each process's part of a call is a trace of its own, and `gen_ai.conversation.id` tells
which belong together.
"""

import hashlib
from collections import deque

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Tracer as AnyTracer

# Calls whose first span was told. An operator's TwiML may stream a call again when its stream is
# over. It does so at once, so the last of them are enough.
MAX_TOLD = 1000


class CallIds(IdGenerator):
    """The ids of a tracer's spans: chosen for the one that is begun next after `first_of`, else as
    its provider makes them. The tracer must be used by one thread alone."""

    def __init__(self, tracer: Tracer) -> None:
        self._sampler = tracer.sampler
        self._others = tracer.id_generator
        self._next: tuple[int, int] | None = None
        self._told: deque[str] = deque(maxlen=MAX_TOLD)
        tracer.id_generator = self

    @classmethod
    def of(cls, tracer: AnyTracer) -> "CallIds | None":
        """None: the tracer lets nobody choose its ids."""
        if not isinstance(tracer, Tracer):
            return None
        held = tracer.id_generator
        return held if isinstance(held, cls) else cls(tracer)

    def first_of(self, conversation: str, name: str) -> Context:
        """Of the span that is begun next, by that name: it is the first one of the call's trace."""
        if conversation in self._told:
            return self.within(conversation, name)  # its first span is told already
        self._told.append(conversation)
        self._next = _ids(conversation)
        return Context()

    def within(self, conversation: str, name: str) -> Context:
        """Of a span of that name, within the first one of the call's trace, which is told by
        somebody else.

        The sampler is asked as it was there. It answers the same if it goes by the trace's id, as
        OpenTelemetry's own do.
        """
        trace_id, span_id = _ids(conversation)
        answer = self._sampler.should_sample(Context(), trace_id, name, SpanKind.SERVER)
        is_sampled = answer.decision is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags(TraceFlags.SAMPLED if is_sampled else TraceFlags.DEFAULT)
        first = SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
        return set_span_in_context(NonRecordingSpan(first), Context())

    def generate_trace_id(self) -> int:
        return self._others.generate_trace_id() if self._next is None else self._next[0]

    def generate_span_id(self) -> int:
        # The last that is asked of a span.
        chosen, self._next = self._next, None
        return self._others.generate_span_id() if chosen is None else chosen[1]

    def is_trace_id_random(self) -> bool:
        """A hash is as evenly spread, which is what samplers that look at it need."""
        return self._next is not None or self._others.is_trace_id_random()


def _ids(conversation: str) -> tuple[int, int]:
    """Of the trace, and of its first span. Neither may be 0."""
    digest = hashlib.sha256(conversation.encode()).digest()
    return int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1
