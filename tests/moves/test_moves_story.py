"""A call outlives its process: `sts-trio serve`, several times on one database, for real."""

import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from rig_collector import Collector
from rig_moves import LONG, Line, fleet, until

from sts_trio.simulate.unknowns import Unknowns


@contextlib.asynccontextmanager
async def collected() -> AsyncIterator[tuple[Collector, dict[str, Any]]]:
    """A collector of traces, and what has a process send them there, at once."""
    collector = Collector()
    async with trio.open_nursery() as nursery:
        await nursery.start(collector.run)
        yield (
            collector,
            {
                "STS_TRACES": "calls",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                "OTEL_BSP_SCHEDULE_DELAY": "50",
            },
        )
        nursery.cancel_scope.cancel()


async def traced(collector: Collector, call_sid: str, parts: int) -> tuple[Span, str]:
    """The first span of a call's trace, and how it was moved, once all of it is there: one trace,
    of which no span is without its parent."""

    def told() -> list[Span]:
        return [span for span in collector.spans if span.name.startswith("invoke_agent")]

    def is_whole() -> bool:
        ids = {span.span_id for span in collector.spans}
        return {span.parent_span_id for span in collector.spans} <= {*ids, b""}

    # Each process sends its own, and neither waits for the other.
    await until(lambda: len(told()) == parts and is_whole())
    [whole] = [span for span in collector.spans if not span.parent_span_id]
    assert len({span.span_id for span in collector.spans}) == len(collector.spans)
    assert {span.trace_id for span in collector.spans} == {whole.trace_id}
    assert whole in told()
    [conversation] = {attributes(span)["gen_ai.conversation.id"].string_value for span in told()}
    assert conversation == call_sid
    [move] = [span for span in collector.spans if span.name == "move"]
    assert move.parent_span_id == whole.span_id
    gap = attributes(move)["sts.move.gap_seconds"].double_value
    assert (move.end_time_unix_nano - move.start_time_unix_nano) / 1e9 == pytest.approx(gap)
    return whole, attributes(move)["sts.move.how"].string_value


def attributes(span: Span) -> dict[str, AnyValue]:
    return {each.key: each.value for each in span.attributes}


async def test_a_call_outlives_its_process_and_remembers_a_word(url: str, tmp_path: Path) -> None:
    line = Line()
    with trio.fail_after(LONG):
        async with collected() as (collector, environ), fleet(tmp_path, url, **environ) as there:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(line.run, there)
                first = await there.talk(0)
                await first.speak("Hello.")
                await first.hear("The word is heron.")
                await first.speak("Heron it is.")
                await until(lambda: there.knows("Heron it is."))
                await until(lambda: "turn" in {span.name for span in collector.spans})
                there.kill(there.ports[0])
                second = await there.goes_on(1)
                assert "The word is heron." in second.told
                await second.hear("What is the word?")
                await second.speak("It is heron.")
                second.close(1000)
            record = await there.ended(line.call.call_sid)
            whole, move = await traced(collector, line.call.call_sid, parts=1)
    assert move == "recovered"
    turns = [span for span in collector.spans if span.name == "turn"]
    assert min(span.start_time_unix_nano for span in turns) > whole.start_time_unix_nano
    # The connection was lost, and a process that dies may still have accepted what was asked next.
    # On a busy machine that may be noticed first, or Twilio has to ask for the TwiML twice.
    codes = {each.code for each in line.call.problems}
    assert 31903 in codes
    assert codes <= {31903, 11200, 11205}
    assert len(there.agents) == 2
    assert [stream.how for stream in record.streams] == ["first", "recovered"]
    assert (record.call.state, record.call.ending, record.call.moves) == (
        "ended",
        "agent_finished",
        1,
    )
    said = [turn.said for turn in record.turns]
    assert [each for each in said if each != "Hello."] == [
        "The word is heron.",
        "Heron it is.",
        "What is the word?",
        "It is heron.",
    ]


async def test_a_call_is_moved_between_two_turns_by_a_process_that_is_told_to_stop(
    tmp_path: Path,
) -> None:
    line = Line()
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    with trio.fail_after(LONG):
        async with (
            collected() as (collector, environ),
            fleet(tmp_path, url, STS_DRAIN_SECONDS="10", **environ) as there,
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(line.run, there)
                first = await there.talk(0)
                await first.speak("Hello.")
                await until(lambda: there.heard("Hello."))
                there.kill(there.ports[0], signal.SIGTERM)
                second = await there.goes_on(1)
                assert second.told == ["Hello."]
                assert second.asked == []
                second.close(1000)
            record = await there.ended(line.call.call_sid)
            _, move = await traced(collector, line.call.call_sid, parts=2)
    assert move == "moved"
    assert [stream.how for stream in record.streams] == ["first", "moved"]
    assert first.closed is not None
    assert first.closed[1] == 1000
    assert [each.close_code for each in line.call.streams] == [1001, 1000]


async def test_a_call_of_the_only_process_goes_on_in_its_successor(tmp_path: Path) -> None:
    """Twilio asks again until it is there."""
    line = Line()
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    patient = Unknowns(retry_pause=5.0)  # a busy machine takes seconds to start a process
    with trio.fail_after(LONG):
        async with (
            fleet(tmp_path, url, size=1, unknowns=patient, STS_RESTARTS="1") as there,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(line.run, there)
            first = await there.talk(0)
            await first.speak("Hello.")
            await until(lambda: there.heard("Hello."))
            async with there.restarted(there.ports[0], signal.SIGTERM):
                second = await there.goes_on(1)
                assert second.told == ["Hello."]
                second.close(1000)
                record = await there.ended(there.newest)
    assert [stream.how for stream in record.streams] == ["first", "moved"]
