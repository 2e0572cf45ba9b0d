"""Calls as traces: what spans there are, of what, within what, and that they say nobody's words."""

import threading
from pathlib import Path
from typing import Any

import msgspec
import opentelemetry.trace
import pytest
import trio
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBasedTraceIdRatio, Sampler
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode
from rig_collector import Collector
from rig_peers import CALL_SID, STOP
from rig_server import talk, world

from sts_trio.errors import Cause
from sts_trio.observe import events, otel
from sts_trio.observe.feed import call_event
from sts_trio.observe.trace_ids import CallIds
from sts_trio.observe.traces import Traces
from sts_trio.records.redaction import Redaction

WITHIN = 60.0
BEGAN = 1_700_000_000_000_000_000  # nanoseconds since 1970, when the call began
STARTED = events.CallStarted("CA1", "MZ1", "+15005550006", "+15005550010", "inbound", "sales")
READY = [events.AgentWelcomed("r-1", "sales"), events.AgentReady()]
GREETING = [
    events.CallTranscript("agent", "Hello.", position=0.0),
    events.CallHeard("Hello.", "Hello.", 1.0, 1.0),
]
SECRETS = ["secret words", "+15005550006", "+15005550010"]


def ended(cause: Cause, **more: Any) -> events.CallEnded:
    return events.CallEnded(cause.label, cause.verdict.value, "why", 60.0, **more)


class Rig:
    def __init__(self, sampler: Sampler = ALWAYS_ON, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.now = 0.0
        self.traces = Traces(
            self.provider,
            functions=["book"],
            wall=lambda: BEGAN + round(self.now * 1e9),
            **options,
        )

    def tell(self, *told: events.OfCall, at: float | None = None, call_sid: str = "CA1") -> None:
        self.now = self.now if at is None else at
        for event in told:
            self.traces.hear(call_event(call_sid, self.now, event))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    @property
    def root(self) -> ReadableSpan:
        [root] = [span for span in self.spans if span.parent is None]
        return root


def attributes(span: ReadableSpan | Event) -> dict[str, Any]:
    return dict(span.attributes or {})


def times(span: ReadableSpan) -> tuple[float, float]:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.start_time - BEGAN) / 1e9, (span.end_time - BEGAN) / 1e9


def is_within(span: ReadableSpan, parent: ReadableSpan) -> bool:
    return (
        span.parent is not None
        and span.parent.span_id == parent.context.span_id
        and span.context.trace_id == parent.context.trace_id
    )


def a_call(rig: Rig) -> None:
    rig.tell(STARTED, at=0.2)
    rig.tell(*READY, at=0.5)
    rig.tell(*GREETING, at=2.0)
    rig.tell(events.CallTranscript("user", "secret words", until=3.0), at=3.5)
    rig.tell(events.FunctionCalled("f1", "book", '{"for": "secret words"}', False), at=4.0)
    rig.tell(events.FunctionFinished("f1", "book", "done", 0.5, '"secret words"'), at=4.5)
    rig.tell(events.CallTranscript("agent", "secret words", position=1.0), at=5.0)
    rig.tell(events.AgentAnswerHeard(1.8), events.AgentLatency(stt=0.2, total=1.5), at=5.5)
    rig.tell(events.CallHeard("secret words", "secret", 2.0, 1.2), at=7.0)
    rig.tell(events.CallNoted("name", "secret words"), at=8.0)
    rig.tell(events.TransferRefused("+15005550010"), at=8.5)
    rig.tell(ended(Cause.STOP, from_="+15005550006", barge_ins=1), at=60.0)


def test_a_call_is_a_trace_with_its_dial_its_turns_and_its_functions() -> None:
    rig = Rig()
    a_call(rig)
    root = rig.root
    assert root.name == "invoke_agent sales"
    assert times(root) == (0.0, 60.0)
    told = attributes(root)
    assert told["gen_ai.operation.name"] == "invoke_agent"
    assert told["gen_ai.conversation.id"] == "CA1"
    assert told["gen_ai.agent.name"] == "sales"
    assert told["sts.agent.request_id"] == "r-1"
    assert told["sts.call.ending"] == "stop"
    assert told["sts.call.barge_ins"] == 1
    assert root.status.status_code is StatusCode.UNSET
    [dial] = rig.named("dial")
    assert dial.kind is SpanKind.CLIENT
    assert times(dial) == (0.2, 0.5)
    greeting, turn = rig.named("turn")
    assert times(greeting) == (2.0, 2.0)
    assert attributes(greeting)["sts.turn.begun_by"] == "agent"
    assert times(turn) == (3.0, 7.0), "from where the caller's speech had ended"
    assert attributes(turn)["sts.turn.response_seconds"] == 1.8
    assert attributes(turn)["sts.turn.stt_seconds"] == 0.2
    assert attributes(turn)["sts.turn.heard_seconds"] == 1.2
    [tool] = rig.named("execute_tool book")
    assert times(tool) == (4.0, 4.5)
    assert attributes(tool)["gen_ai.tool.call.id"] == "f1"
    assert attributes(tool)["sts.function.outcome"] == "done"
    assert is_within(tool, turn)
    assert all(is_within(span, root) for span in (dial, greeting, turn))
    assert len(rig.spans) == 5


def all_that_is_told(rig: Rig) -> str:
    return "".join(span.to_json() for span in rig.spans)


def test_nobodys_words_or_number_are_told_unless_they_are_asked_for() -> None:
    rig = Rig()
    a_call(rig)
    told = all_that_is_told(rig)
    assert [secret for secret in SECRETS if secret in told] == []
    assert "sts.pii" not in told


def test_what_is_asked_for_stands_under_one_name_that_a_collector_can_take_out() -> None:
    rig = Rig(with_words=True)
    a_call(rig)
    found: set[str] = set()
    for span in rig.spans:
        holders: list[ReadableSpan | Event] = [span, *span.events]
        for holder in holders:
            for name, value in attributes(holder).items():
                if any(secret in str(value) for secret in SECRETS):
                    found.add(name)
        assert not any(secret in span.name for secret in SECRETS)
    names = ("caller", "called", "user_input", "agent_output", "arguments", "result", "number")
    assert found | {"sts.pii.agent_output"} == {f"sts.pii.{name}" for name in names}


def test_where_numbers_are_hidden_calls_are_told_apart_and_no_more() -> None:
    redaction = Redaction("k" * 32)
    rig = Rig(with_words=True, conversation_id=redaction.identifier, clean=redaction.text)
    a_call(rig)
    told = all_that_is_told(rig)
    assert '"CA1"' not in told
    assert "+1500" not in told
    assert attributes(rig.root)["gen_ai.conversation.id"] == redaction.identifier("CA1")


@pytest.mark.parametrize("cause", [Cause.AGENT_LOST, Cause.CRASHED])
def test_what_is_our_fault_or_the_agents_is_an_error(cause: Cause) -> None:
    rig = Rig()
    rig.tell(STARTED, *READY, ended(cause))
    assert rig.root.status.status_code is StatusCode.ERROR
    assert attributes(rig.root)["error.type"] == cause.label


def test_each_session_is_dialled_for_by_itself() -> None:
    rig = Rig()
    rig.tell(STARTED, at=0.0)
    rig.tell(events.AgentLost("agent_rejected", "HTTP 500"), at=1.0)
    rig.tell(*READY, at=2.0)
    rig.tell(events.AgentHandedOver("sales", "support"), at=30.0)
    rig.tell(events.AgentWelcomed("r-2", "support"), events.AgentReady(), at=31.0)
    rig.tell(events.AgentLost("agent_lost", ""), at=40.0)
    rig.tell(ended(Cause.AGENT_LOST), at=41.0)
    dials = rig.named("dial")
    assert [times(dial) for dial in dials] == [(0, 1), (1, 2), (30, 31), (40, 41)]
    assert [dial.status.status_code for dial in dials][:2] == [StatusCode.ERROR, StatusCode.UNSET]
    assert rig.root.name == "invoke_agent support"
    assert [each.name for each in rig.root.events] == [
        events.AgentLost.NAME,
        events.AgentHandedOver.NAME,
        events.AgentLost.NAME,
    ]


def test_a_function_that_failed_is_an_error_and_one_that_is_made_up_names_no_span() -> None:
    rig = Rig()
    rig.tell(STARTED, *READY)
    rig.tell(events.FunctionCalled("f1", "made up", "{}", False))
    rig.tell(events.FunctionFinished("f1", "made up", "failed", 0.0))
    rig.tell(events.FunctionFinished("f2", "book", "late", 0.0))
    rig.tell(
        events.FunctionCalled("f3", "book", "{}", False),
        events.FunctionCalled("f3", "book", "{}", False),
    )
    rig.tell(ended(Cause.STOP))
    [made_up] = rig.named("execute_tool")
    assert made_up.status.status_code is StatusCode.ERROR
    assert attributes(made_up)["error.type"] == "failed"
    assert len(rig.named("execute_tool book")) == 2, "none is left open"


def test_what_came_too_late_to_be_heard_is_no_turn() -> None:
    rig = Rig()
    rig.tell(STARTED, *READY)
    rig.tell(events.CallTranscript("agent", "Late."), events.CallHeard("Late.", "", 0.0, 0.0))
    rig.tell(ended(Cause.STOP))
    assert rig.named("turn") == []


def test_a_turn_that_nothing_comes_of_ends_with_the_next_or_with_the_call() -> None:
    rig = Rig()
    rig.tell(STARTED, *READY, at=0.0)
    rig.tell(events.CallTranscript("user", "Hello?"), at=1.0)
    rig.tell(events.CallTranscript("user", "Hello?"), at=2.0)
    rig.tell(ended(Cause.STOP), at=3.0)
    assert [times(turn) for turn in rig.named("turn")] == [(1, 2), (2, 3)]


def test_what_is_no_call_or_over_makes_no_span_and_nothing_is_left_of_a_call() -> None:
    rig = Rig()
    rig.tell(*READY, ended(Cause.CALLER_NO_START), call_sid="")
    rig.tell(STARTED, *READY)
    rig.tell(STARTED)  # streamed a second time
    rig.tell(ended(Cause.STOP))
    rig.tell(events.FunctionFinished("f1", "book", "late", 0.0))
    again, first = rig.named("invoke_agent sales")
    assert is_within(again, first) or is_within(first, again), "one phone call, one trace"
    rig.tell(events.CallStarted("CA1", "MZ1", how="moved"), ended(Cause.CALLER_LOST))
    assert rig.traces._calls == {}
    assert rig.traces._arriving == {}


# --- moves ----------------------------------------------------------------------------------------


MOVED = msgspec.structs.replace(STARTED, how="moved")
RECOVERED = msgspec.structs.replace(STARTED, how="recovered")


def test_a_call_that_is_moved_is_one_trace_in_the_first_processs_span() -> None:
    here, there = Rig(), Rig()
    here.tell(STARTED, *READY, at=0.0)
    here.tell(ended(Cause.MOVED), at=30.0)
    there.tell(MOVED, at=0.2)  # it is 31 s since the call began, and 0.2 s since the socket is open
    there.tell(*GREETING, events.CallMoved("moved", 1.0, 30.0), *READY, at=0.3)
    there.tell(events.CallTranscript("user", "Hello?"), at=5.0)
    there.tell(ended(Cause.STOP), at=9.0)
    [part] = there.named("invoke_agent sales")
    [move] = there.named("move")
    [turn] = there.named("turn")
    assert is_within(part, here.root)
    assert is_within(move, here.root)
    assert is_within(turn, part)
    assert times(move) == (-1.0, 0.0), "until the stream was here"
    assert attributes(move) == {"sts.move.how": "moved", "sts.move.gap_seconds": 1.0}
    assert times(part) == (0.0, 9.0)


def test_the_span_that_a_dead_process_cannot_tell_is_told_by_who_goes_on() -> None:
    here, there = Rig(), Rig()
    here.tell(STARTED, *READY, *GREETING, at=1.0)  # and never ends
    there.tell(RECOVERED, at=0.0)
    there.tell(events.CallMoved("recovered", 2.5, 40.0), *READY, at=0.1)
    there.tell(ended(Cause.STOP), at=9.0)
    [greeting] = here.named("turn")
    assert is_within(greeting, there.root)
    assert times(there.root) == (-42.5, 9.0), "from where the call began"
    [move] = there.named("move")
    assert times(move) == (-2.5, 0.0)
    assert is_within(move, there.root)


def test_what_one_process_has_told_is_not_told_again_when_the_next_one_dies() -> None:
    first, third = Rig(), Rig()
    first.tell(STARTED, *READY, ended(Cause.MOVED))
    third.tell(RECOVERED, events.CallMoved("recovered", None, 40.0, moves=1), ended(Cause.STOP))
    [part] = third.named("invoke_agent sales")
    assert is_within(part, first.root)
    [move] = third.named("move")
    assert attributes(move) == {"sts.move.how": "recovered"}, "nobody knows for how long"


def test_a_stream_that_comes_back_to_its_process_is_a_span_of_its_gap() -> None:
    rig = Rig()
    rig.tell(STARTED, *READY, at=0.0)
    rig.tell(events.CallMoved("returned", 0.75), at=20.0)
    rig.tell(ended(Cause.STOP), at=30.0)
    [move] = rig.named("move")
    assert is_within(move, rig.root)
    assert times(move) == (19.25, 20.0)


def test_a_call_that_is_hung_up_before_it_is_known_what_was_is_in_its_trace_all_the_same() -> None:
    here, there = Rig(), Rig()
    here.tell(STARTED, ended(Cause.MOVED))
    there.tell(MOVED, ended(Cause.STOP))
    assert is_within(there.named("invoke_agent sales")[0], here.root)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_processes_that_take_samples_take_the_whole_of_a_call_or_nothing(share: float) -> None:
    here = Rig(sampler=ParentBasedTraceIdRatio(share))
    there = Rig(sampler=ParentBasedTraceIdRatio(share))
    here.tell(STARTED, *READY, ended(Cause.MOVED))
    there.tell(MOVED, events.CallMoved("moved", 0.1, 9.0), *READY, ended(Cause.STOP))
    assert len(here.spans) == 2 * share
    assert len(there.spans) == 3 * share


def test_calls_are_not_mixed_up_and_nobody_elses_spans_get_their_ids() -> None:
    rig = Rig()
    rig.provider.get_tracer("yours").start_span("yours", Context()).end()
    for sid in ("CA1", "CA2"):
        rig.tell(msgspec.structs.replace(STARTED, call_sid=sid), call_sid=sid)
    rig.tell(ended(Cause.STOP), call_sid="CA1")
    rig.tell(ended(Cause.STOP), call_sid="CA2")
    roots = [span for span in rig.spans if span.parent is None]
    assert len({span.context.trace_id for span in roots}) == 3
    ids = {span.context.span_id for span in rig.spans}
    assert len(ids) == len(rig.spans), "each has one of its own"


def test_where_nobody_may_choose_ids_a_moved_call_is_told_in_a_trace_of_its_own() -> None:
    tracer = NoOpTracerProvider().get_tracer("sts_trio")
    assert CallIds.of(tracer) is None
    rig = Rig()
    rig.traces._ids = None
    rig.tell(MOVED, events.CallMoved("moved", 0.5, 9.0), *READY, ended(Cause.STOP))
    [move] = rig.named("move")
    assert is_within(move, rig.root)


# --- on the wire ----------------------------------------------------------------------------------


async def test_what_a_function_of_yours_traces_is_within_its_own_span() -> None:
    rig = Rig()
    rig.tell(STARTED, *READY)
    current = opentelemetry.trace.get_current_span
    before = current()

    async def run_function() -> None:
        rig.tell(events.FunctionCalled("f1", "book", "{}", False))
        with rig.provider.get_tracer("yours").start_as_current_span("yours"):
            await trio.lowlevel.checkpoint()
        rig.tell(events.FunctionFinished("f1", "book", "done", 0.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_function)
    [yours], [tool] = rig.named("yours"), rig.named("execute_tool book")
    assert is_within(yours, tool)
    assert current() is before, "and nobody else's is"


async def test_a_served_call_comes_to_a_collector_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector()
    with trio.fail_after(WITHIN):
        async with trio.open_nursery() as nursery:
            await nursery.start(collector.run)
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
            async with world(tmp_path, STS_TRACES="calls") as here, here.phone() as phone:
                await talk(here, phone)
                await phone.tell(STOP)
                await here.until_over()
            assert collector.names() == {"sts-trio": ["dial", "invoke_agent default"]}
            nursery.cancel_scope.cancel()


async def test_a_collector_that_is_gone_keeps_no_server_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take_all_say_nothing(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    with trio.fail_after(WITHIN):
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, take_all_say_nothing, [listener])
            port = listener.socket.getsockname()[1]
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
            tracing = otel.Tracing()
            tracing.traces.hear(call_event(CALL_SID, 0.0, STARTED))
            tracing.traces.hear(call_event("CA1", 0.0, ended(Cause.STOP)))
            began = trio.current_time()
            await tracing.aclose(0.2)
            assert trio.current_time() - began < 5
            while any("Span" in each.name for each in threading.enumerate()):  # noqa: ASYNC110
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()


def test_a_provider_that_the_process_has_is_used_and_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exporter = InMemorySpanExporter()
    mine = TracerProvider()
    mine.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(opentelemetry.trace, "get_tracer_provider", lambda: mine)
    tracing = otel.Tracing()
    trio.run(tracing.aclose, 1.0)
    tracing.traces.hear(call_event("CA1", 0.0, STARTED))
    tracing.traces.hear(call_event("CA1", 1.0, ended(Cause.STOP)))
    assert [span.name for span in exporter.get_finished_spans()] == ["dial", "invoke_agent sales"]
