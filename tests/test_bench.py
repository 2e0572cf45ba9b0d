"""The benchmark: that it counts what it says it counts, and draws the right conclusions.

The load generator runs against a bridge of this file's own, so that audio can be harmed on its way
on purpose. That needs a C compiler; everything else is sums.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing
import trio_websocket
from hypothesis import given
from hypothesis import strategies as st
from limits import HANG
from rig_hypercorn import free_port
from rig_load import AUDIO, DELAYS, RUN
from wsproto.utilities import LocalProtocolError

from sts_trio.audio.frames import FRAME, SILENCE, length
from sts_trio.load import compiled, criterion, figures
from sts_trio.load.figures import Made, Run
from sts_trio.logic.states import BACK_WITHIN
from sts_trio.offline.speech import voice
from sts_trio.wire import frames, twilio

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import bad_agent  # noqa: E402
import garbage  # noqa: E402
import generator  # noqa: E402
import hotspots  # noqa: E402
import reconnect  # noqa: E402
import report  # noqa: E402
import results  # noqa: E402
import rounds  # noqa: E402
import sums  # noqa: E402
import turns  # noqa: E402
from results import (  # noqa: E402
    BadAgents,
    Cell,
    Comparison,
    Garbage,
    Layer,
    Left,
    Memory,
    Pauses,
    Reconnects,
    Results,
)


def test_what_was_measured_can_be_read_and_is_what_the_document_tells() -> None:
    kept = results.load(BENCH / "results.json")
    assert (BENCH / "RESULTS.md").read_text() == report.write(kept)


def test_the_readme_tells_of_speed_what_was_measured() -> None:
    readme = (BENCH.parent / "README.md").read_text()
    kept = results.load(BENCH / "results.json")
    assert kept.plain is not None
    cpu = {(row.calls, row.variant): row.cpu for row in sums.rows(kept.plain)}
    assert "At 400 calls the server needs **two fifths of the CPU**" in readme
    assert 0.35 < cpu[400, "ours"] / cpu[400, "ancestor"] < 0.45
    assert kept.capacities is not None
    (most,) = [each.calls for each in kept.capacities.found if each.variant == "ours"]
    assert f"[{most} calls](bench/RESULTS.md)" in readme


# --- the generator, against a bridge that harms what it carries ----------------------------------

# The audio of one direction, block after block, as it leaves the bridge.
Harm = Callable[[int, bytes], list[bytes]]


def unharmed(number: int, block: bytes) -> list[bytes]:
    return [block]


def harmed(number: int, block: bytes) -> list[bytes]:
    """One fault of each kind, always at the same places."""
    if number == 3:
        return []
    if number == 5:
        return [block, block]
    if number == 7:
        return [block[:80] + bytes([block[80] ^ 1]) + block[81:]]
    if number == 9:
        return [SILENCE * FRAME, block]
    return [block]


class Bridge:
    """Relays between the generator's two peers; `harm` is done to the blocks both ways."""

    def __init__(self, harm: Harm, *, answers_barge_in: bool = True) -> None:
        self._harm = harm
        self._answers_barge_in = answers_barge_in
        self.is_over = trio.Event()  # the call's sockets are closed

    async def run(
        self, agent_port: int, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, partial(self._carry, agent_port), 0, host="127.0.0.1")
            listeners: list[trio.SocketListener] = await nursery.start(serve)
            task_status.started(listeners[0].socket.getsockname()[1])

    async def _carry(self, agent_port: int, stream: trio.SocketStream) -> None:
        # Streams of our own, as trio-websocket does not close one that its peer has dropped.
        try:
            async with (
                await trio.open_tcp_stream("127.0.0.1", agent_port) as agent_stream,
                trio.open_nursery() as nursery,
            ):
                request = await trio_websocket.wrap_server_stream(nursery, stream)
                caller = await request.accept()
                agent = await trio_websocket.wrap_client_stream(
                    nursery, agent_stream, "127.0.0.1", "/v1/agent/converse"
                )
                await agent.send_message('{"type":"Settings","audio":{},"agent":{}}')
                nursery.start_soon(self._carry_words, caller, agent)
                await self._carry_voice(agent, caller)
        except* LocalProtocolError:
            pass  # trio-websocket's, when a ping comes while it closes (its issue 184)
        self.is_over.set()

    async def _carry_words(self, caller: Any, agent: Any) -> None:
        number = 0
        try:
            while True:
                message = msgspec.json.decode(await caller.get_message(), type=dict[str, Any])
                if message["event"] == "start":
                    self._stream_sid = message["streamSid"]
                if message["event"] == "media":
                    media = msgspec.convert(message, twilio.Media, strict=False)
                    for block in self._harm(number, media.media.payload):
                        await agent.send_message(block)
                    number += 1
        except trio_websocket.ConnectionClosed:
            await agent.aclose()

    async def _carry_voice(self, agent: Any, caller: Any) -> None:
        number = 0
        try:
            while True:
                data = await agent.get_message()
                if isinstance(data, bytes):
                    for start in range(0, len(data), FRAME):
                        for block in self._harm(number, data[start : start + FRAME]):
                            await self._tell(
                                caller,
                                twilio.PlayMedia(self._stream_sid, twilio.Outbound(block)),
                            )
                        number += 1
                elif "UserStartedSpeaking" in data and self._answers_barge_in:
                    await self._tell(caller, twilio.Clear(self._stream_sid))
        except trio_websocket.ConnectionClosed:
            return

    async def _tell(self, caller: Any, message: twilio.ToCaller) -> None:
        await caller.send_message(twilio.encode(message).decode())


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    header = "#include <openssl/ssl.h>"
    if (
        compiler is None
        or subprocess.run(
            [compiler, "-E", "-"], input=header, text=True, capture_output=True
        ).returncode
    ):
        pytest.skip("the generator needs cc and OpenSSL's headers")
    return compiled.build(tmp_path_factory.mktemp("loadgen"), ["-Werror"])


async def measure(binary: Path, bridge: Bridge, *options: str) -> Run:
    """A short run with one call, whose generator may be as late as a busy machine makes it."""
    agent_port = free_port()
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(bridge.run, agent_port)
            command = [str(binary), "--port", str(port), "--agent-port", str(agent_port)]
            command += ["--calls", "1", "--seconds", "0.6", "--warm-up", "1.5", "--turn", "0.4"]
            # A busy machine is late with the call, and with what it echoes.
            command += ["--late", "2", "--most-lag", "10", *options]
            done = await trio.run_process(command, capture_stdout=True)
            await bridge.is_over.wait()
            nursery.cancel_scope.cancel()
    return figures.read_run(done.stdout.decode())


async def test_a_faithful_bridge_is_found_faithful(binary: Path) -> None:
    run = await measure(binary, Bridge(unharmed))
    assert run.calls == run.live == 1
    assert run.up.sent == pytest.approx(30, abs=2)
    assert run.down.sent >= 100
    for audio in (run.up, run.down):
        assert audio.arrived == audio.sent
        assert (audio.ok, audio.lost, audio.faults, audio.filler) == (100, 0, 0, 0)
    assert run.clears.asked == run.clears.answered >= 1
    assert run.up_ms is not None
    assert run.up_ms.count == run.up.arrived
    assert sums.faults([run]) == []


async def test_the_same_holds_for_torn_and_fragmented_frames(binary: Path) -> None:
    run = await measure(binary, Bridge(unharmed), "--rough")
    assert run.up.arrived == run.up.sent
    assert run.down.arrived == run.down.sent >= 100
    assert run.pings.sent > 0
    assert sums.faults([run]) == []


async def test_every_harm_is_counted_as_what_it_is(binary: Path) -> None:
    run = await measure(binary, Bridge(harmed, answers_barge_in=False), "--warm-up", "0")
    for audio in (run.up, run.down):
        assert audio.disordered == 1
        assert audio.corrupt == 1
        assert audio.filler == 1
        assert audio.lost == 2  # the one that was dropped, and the one that is not itself any more
    assert run.down.ok < 100
    assert run.clears.asked >= 1
    assert run.clears.answered == 0
    assert "blocks damaged" in " ".join(sums.faults([run]))


def run_alone(binary: Path, *options: str) -> Run:
    """A run to which no bridge answers."""
    core = min(os.sched_getaffinity(0))
    ports = ["--port", str(free_port()), "--agent-port", str(free_port())]
    quick = ["--calls", "2", "--seconds", "0.1", "--warm-up", "0", "--late", "0"]
    return generator.run(binary, core, 0.1, [*ports, *quick, *options])


def test_calls_that_nobody_answers_are_refused(binary: Path) -> None:
    run = run_alone(binary, "--most-lag", "10")
    assert (run.live, run.refused, run.up.sent) == (0, 2, 0)


@pytest.mark.parametrize("limit", ["--most-lag", "--most-cpu"])
def test_a_generator_that_was_too_slow_voids_its_run(binary: Path, limit: str) -> None:
    with pytest.raises(generator.GeneratorTooSlow, match="the generator"):
        run_alone(binary, limit, "0")


def test_a_mistaken_option_is_told_in_one_line(binary: Path) -> None:
    with pytest.raises(generator.NoRun, match="--calls: expected a number of at least 1"):
        run_alone(binary, "--calls", "none")


# --- sums ----------------------------------------------------------------------------------------

MADE = Made("2026-11-22", "a CPU", 2, "Linux 6", "CPython 3.11", {"trio": "0.35"})


def a_run(**changes: Any) -> Run:
    return msgspec.structs.replace(RUN, **changes)


def runs(*costs: float | None) -> list[Run | None]:
    return [a_run(cpu_ms_per_call_second=cost) if cost else None for cost in costs]


def compare(*cells: Cell) -> Comparison:
    return Comparison(MADE, rounds=3, seconds=10.0, churn=0.0, cells=list(cells))


def test_ratios_are_taken_within_rounds_and_then_their_median() -> None:
    """The second round was slow for both: across rounds it would look like a difference."""
    ratio = sums.ratio(
        Cell(100, "ancestor", runs(4.0, 9.0, 4.4)), Cell(100, "ours", runs(2.0, 3.0, 1.0))
    )
    assert ratio == pytest.approx((3.0, 2.0, 4.4))


def test_a_round_that_gave_no_figures_is_left_out() -> None:
    base = Cell(100, "ancestor", runs(4.0, None, 4.0))
    assert sums.ratio(base, Cell(100, "ours", runs(2.0, 1.0, None))) == (2.0, 2.0, 2.0)


def test_one_set_up_more_costs_the_difference_to_the_same_round_without() -> None:
    churned = a_run(utilisation=0.15, churned=200)
    row = sums.rows(compare(Cell(100, "ours", [churned], still=[a_run(utilisation=0.10)])))[0]
    assert row.cpu_per_set_up == pytest.approx(2.5)


def test_memory_per_call_is_a_slope() -> None:
    few = Cell(50, "ours", [a_run(rss_mb=40.0)])
    many = Cell(450, "ours", [a_run(rss_mb=80.0)])
    assert sums.memory_per_call(compare(few, many)) == {"ours": pytest.approx(102.4)}


def test_a_comparison_passes_by_its_ratio_if_no_harm_was_done() -> None:
    base = Cell(100, "ancestor", runs(4.0))
    assert sums.failures(compare(base, Cell(100, "ours", runs(2.0))), 2.0) == []
    assert sums.failures(compare(base, Cell(100, "ours", runs(2.1))), 2.0)
    assert sums.failures(compare(Cell(100, "ours", runs(2.0))), 2.0)  # against nothing
    assert sums.failures(compare(base), 2.0) == ["ours: nothing was measured"]
    less = msgspec.structs.replace(AUDIO, ok=99.0)
    for harm in ({"down": less}, {"left_open": 1}, {"cut_off": 1}, {"live": 99}):
        harmed_run = a_run(**harm)
        assert sums.failures(compare(base, Cell(100, "ours", [harmed_run])), 2.0), harm


def test_a_bridge_is_well_within_what_it_gathers() -> None:
    late = msgspec.structs.replace(DELAYS, p99=80.0)
    assert criterion.shortcomings(a_run(up_ms=late), 100) == []
    assert criterion.shortcomings(a_run(up_ms=late), 20)
    assert criterion.shortcomings(a_run(clear_ms=late), 100)
    assert criterion.shortcomings(a_run(clear_ms=None), 100)
    assert criterion.shortcomings(a_run(live=99), 100)


@given(capacity=st.integers(0, 3000), first=st.integers(1, 500), most=st.integers(1, 3000))
def test_the_search_finds_the_capacity_to_within_a_twentieth(
    capacity: int, first: int, most: int
) -> None:
    tried: list[int] = []

    def does_well(number: int) -> bool:
        tried.append(number)
        return number <= capacity

    found = sums.search(does_well, first, most)
    if capacity >= most:
        assert found == most
    else:
        assert found <= capacity <= found + max(1, (capacity + 1) // 18)
    assert len(tried) < 30
    assert all(1 <= number <= most for number in tried)


class CannedBench:
    """Measures nothing: says what each number of calls gives."""

    def __init__(self, well_up_to: int, generator_up_to: int) -> None:
        self._well_up_to = well_up_to
        self._generator_up_to = generator_up_to

    def measure(self, cell: Cell) -> Run | None:
        if cell.calls > self._generator_up_to:
            cell.voids += 1
            return None
        live = cell.calls if cell.calls <= self._well_up_to else 0
        return a_run(calls=cell.calls, live=live)

    def say(self, line: str) -> None:
        pass


@pytest.mark.parametrize(
    ("well_up_to", "generator_up_to", "calls", "is_least"),
    [(300, 1000, 300, False), (2000, 1000, 1000, True), (5000, 5000, 3000, True)],
)
def test_the_generators_end_is_not_taken_for_the_bridges(
    well_up_to: int, generator_up_to: int, calls: int, is_least: bool
) -> None:
    bench: Any = CannedBench(well_up_to, generator_up_to)
    found = rounds.find_capacity(bench, "ours", 50, 3000)
    assert found.calls == pytest.approx(calls, rel=0.06)
    assert found.is_least is is_least


def test_samples_belong_to_the_innermost_layer_and_sleepers_to_none() -> None:
    call = "run (trio/_core/_run.py:9);_hear (sts_trio/bridge/run.py:5)"
    stacks = {
        f"{call};decode (sts_trio/wire/twilio.py:3);json_decode (msgspec/_core.so)": 3,
        f"{call};_write (sts_trio/net/streams.py:8);write (libc.so.6)": 6,
        "worker (threading.py:1);PyThread_acquire_lock_timed (libpython.so)": 100,
        "main (somewhere.py:1)": 1,
    }
    assert hotspots.by_layer(stacks) == [
        Layer("kernel: reading and writing sockets", 0.6),
        Layer("decoding and encoding (sts_trio/wire)", 0.3),
        Layer("other", 0.1),
    ]


# --- what is written -----------------------------------------------------------------------------


def all_results() -> Results:
    comparison = compare(
        Cell(100, "ancestor", runs(4.0, 4.0, 4.0)),
        Cell(100, "ours", [*runs(2.0, 1.0), None], voids=2),
    )
    return Results(
        plain=comparison,
        churn=msgspec.structs.replace(comparison, churn=20.0),
        capacities=results.Capacities(
            MADE, 10.0, False, [results.Capacity("ours", 900, is_least=True, runs=[RUN])]
        ),
        micro=results.Micro(
            msgspec.structs.replace(MADE, cpu="another CPU"),
            [results.Unit("decode", 0.4, 3.5)],
            [results.Turn("five frames", 18.25, 22.75)],
        ),
        hotspots=[results.Hotspots(MADE, "ours", 100, 500, [Layer("dialogue", 0.25)])],
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the poller needs epoll")
def test_turns_are_those_of_calls_that_talk() -> None:
    """Far ends that hear nothing raise, so all that is timed has been done."""
    found = turns.measure(calls=3, rounds=2)
    assert [turn.name for turn in found] == [step.name for step in turns.STEPS]
    assert all(turn.warm > 0 and turn.cold > 0 for turn in found)


def test_results_are_kept_as_they_were(tmp_path: Path) -> None:
    kept = all_results()
    results.save(kept, tmp_path / "results.json")
    assert results.load(tmp_path / "results.json") == kept
    assert results.load(tmp_path / "none.json") == Results()


def test_results_of_before_turns_were_measured_are_read(tmp_path: Path) -> None:
    kept = all_results()
    assert kept.micro is not None
    kept.micro.turns = []
    raw = msgspec.to_builtins(kept)
    del raw["micro"]["turns"]
    (tmp_path / "results.json").write_bytes(msgspec.json.encode(raw))
    assert results.load(tmp_path / "results.json") == kept
    assert "for one call" not in report.write(kept)


def test_the_report_tells_the_figures_and_what_went_wrong() -> None:
    text = report.write(all_results())
    assert "| 100 | ours | 1.50 | **3.00** (2.00 to 4.00) | 10 % | 5 / 10 |" in text
    assert "- 100 ours: rounds without figures: 1" in text
    assert "the generator had been too slow: 2." in text
    assert "| ours | more than 900 |" in text
    assert "| decode | 0.40 | 3.50 |" in text
    assert "| five frames | 18.2 | 22.8 |" in text
    assert "| dialogue | 25.0 % |" in text
    # A machine that is not the usual one is named where it was used, and only there.
    assert text.count("a CPU") == 1
    assert text.count("another CPU") == 1


def test_the_bytecodes_of_a_conversation_are_counted_by_function() -> None:
    # In a process of its own, as the tracing is the interpreter's.
    command = [sys.executable, str(BENCH / "talk.py"), "--calls", "1", "--turns", "1", "--flights"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "bytecodes a call-second" in told
    assert "logic/stream.py Stream." in told


def test_how_far_a_bridge_is_from_the_limit_is_told_where_the_limit_was_measured() -> None:
    cells = Cell(100, "ours", runs(2.0, 3.0, 1.0)), Cell(100, "C", runs(1.0, 1.0, 1.0))
    ours, limit = sums.rows(compare(*cells))
    assert ours.beyond_limit == (2.0, 1.0, 3.0)
    assert limit.beyond_limit == (1.0, 1.0, 1.0)
    text = report.write(Results(plain=compare(*cells)))
    assert "| times the limit |" in text
    assert "| **2.00** (1.00 to 3.00) |" in text
    assert "| times the limit |" not in report.write(Results(plain=compare(cells[0])))


def test_a_report_of_nothing_is_empty_but_whole() -> None:
    assert report.write(Results()) == report.HEAD


def test_the_chart_is_drawn_the_same_from_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import chart

    comparison = all_results().plain
    assert comparison is not None
    drawn = []
    for name in ("once", "again"):
        (tmp_path / name).mkdir()
        chart.draw(comparison, tmp_path / name)
        drawn.append((tmp_path / name / "chart.svg").read_bytes())
    assert drawn[0] == drawn[1]
    assert (tmp_path / "once" / "chart.png").stat().st_size > 0


# --- the gap at a lost agent ----------------------------------------------------------------------


def played(*parts: float | bytes) -> bytes:
    """What a phone played: audio, and seconds of silence."""
    return b"".join(part if isinstance(part, bytes) else SILENCE * length(part) for part in parts)


LAST, FRESH = voice.say(reconnect.ANSWER), voice.say(reconnect.REST)


@pytest.mark.parametrize(
    ("heard", "until_word", "silence"),
    [
        (played(1.0, LAST[:16000], FRESH), 1.5, 0.0),
        (played(1.0, LAST[:16000], 0.3, FRESH), 1.8, 0.3),
        (played(1.0, LAST[:2400], 2.0, FRESH), 1.8, 1.8),
    ],
)
def test_a_gap_lasts_until_the_fresh_agents_first_word(
    heard: bytes, until_word: float, silence: float
) -> None:
    """Death is at 1.5 s."""
    found = reconnect.gap(heard, 1.5, reconnect.ANSWER, reconnect.REST)
    assert found == pytest.approx((until_word, silence), abs=0.02)


def test_before_an_answer_all_of_the_gap_is_silence() -> None:
    found = reconnect.gap(played(2.0, LAST), 1.5, "", reconnect.ANSWER)
    assert found == pytest.approx((0.5, 0.5), abs=0.001)


def test_a_fresh_agent_that_is_not_heard_is_no_figure() -> None:
    with pytest.raises(reconnect.Unheard, match="As I was saying"):
        reconnect.gap(played(1.0, LAST), 1.5, reconnect.ANSWER, reconnect.REST)


async def test_agents_that_die_in_calls_are_replaced_and_heard(autojump_clock: Any) -> None:
    with trio.fail_after(HANG):
        found = await reconnect.measure(2, 1)
    assert [len(each.gaps_ms) for each in found] == [2, 2]
    assert all(max(each.silences_ms) < 1000 for each in found)
    written = report.write(Results(reconnects=Reconnects(MADE, 2, found)))
    assert "| in the middle of its answer | 2 |" in written


# --- a bad agent ---------------------------------------------------------------------------------


def test_every_misbehaviour_is_whole_messages_but_for_those_that_are_not_to_be() -> None:
    """What is sent again and again has to begin anew where it ended."""
    for name, make in bad_agent.MISBEHAVIOURS.items():
        payload = make()
        if name == "garbage":
            continue
        reader = frames.FrameReader(4 * 1024 * 1024, of_server=True)
        heard = [reader.feed(payload[at : at + 65536]) for at in range(0, len(payload), 65536)]
        assert not [each for some in heard for each in some if isinstance(each, frames.Violation)]
        ended = any(isinstance(each, frames.Close) for some in heard for each in some)
        assert ended or len(reader.feed(bad_agent.SPEAKS)) == 1


@pytest.mark.skipif(os.cpu_count() == 1, reason="the bridge has a core of its own")
def test_what_another_call_notices_of_a_bad_agent_is_measured_and_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bad_agent, "SECONDS", 0.5)
    found = bad_agent.measure("UserStartedSpeaking", 1)
    assert found.sent_mb > 0
    assert found.turn_ms > 0
    assert 0 < found.barge_in_ms[0] <= found.barge_in_ms[1] <= found.barge_in_ms[2]
    assert found.health_ms < 1000 * HANG
    bad = BadAgents(MADE, 0.5, before={"a": found}, after={"a": found, "b": found})
    written = report.write(Results(bad_agents=bad))
    row = " | ".join(report._noticed(found))
    assert f"| a | {row} | {row} |" in written
    assert f"| b | {row} |  |  |  |" in written


# --- what calls leave to the collector ------------------------------------------------------------


def of_before_and_now() -> dict[str, Garbage]:
    before = Garbage(
        MADE,
        40.0,
        20.0,
        [Left("adopted", 1000, {"trio": 79.74, "werkzeug": 4.0}, {"A.b -> B.a ->": 83.74})],
        [
            Pauses(
                lane="adopted",
                standing=standing,
                runs=3,
                longest_ms=standing / 4,
                longest_cpu_ms=standing / 8,
                most_objects=140_000,
                all_cpu_ms=2.5 * standing,
                latest_tick_ms=standing / 3,
            )
            for standing in (100, 400)
        ],
        [Memory("adopted", 250, [70.0, 90.0, 110.0, 130.0, 150.0])],
    )
    left = Left("adopted", 1000, {"werkzeug": 4.0}, {"match -> cell ->": 4.0})
    now = msgspec.structs.replace(before, left=[left])
    return {"before": before, "now": now}


def test_the_report_tells_what_calls_leave_before_and_now() -> None:
    written = report.write(Results(garbage=of_before_and_now()))
    assert "| trio | 79.7 | 0.0 |" in written
    assert "| **all** | **83.7** | **4.0** |" in written
    assert "What is left now: `match -> cell` (4 objects)." in written
    assert "| before | adopted | 400 | 100 | 50 | 140000 | 3 | 1000 | 133 |" in written
    assert "| now | adopted | 1000 | 70 | 70 | 110 | 150 |" in written


def test_the_picture_of_garbage_is_drawn_the_same_from_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import chart

    drawn = []
    for name in ("once", "again"):
        (tmp_path / name).mkdir()
        chart.draw_garbage(of_before_and_now(), tmp_path / name)
        drawn.append((tmp_path / name / "garbage.svg").read_bytes())
    assert drawn[0] == drawn[1]
    assert (tmp_path / "once" / "garbage.png").stat().st_size > 0


@pytest.fixture
def _no_log_is_left_set_up() -> Iterator[None]:
    """By the server that is measured in this process."""
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("_no_log_is_left_set_up")
@pytest.mark.parametrize("lane", garbage.LANES)
async def test_calls_of_a_crowd_come_stand_and_go(lane: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(garbage, "STAY", 0.3)
    monkeypatch.setattr(garbage, "SETTLE", BACK_WITHIN + 2.0)
    with trio.fail_after(HANG):
        left = await garbage.measure_left(lane, 6)
        pauses = await garbage.measure_pauses(lane, 4, 0.5)
    # Of each call its webhook, as a stream is led past the routes; and nothing of ours.
    assert left.owners.keys() == {"plain containers", "werkzeug"}
    assert sum(left.owners.values()) == pytest.approx(8, abs=2)
    [path] = left.cycles
    assert "StateMachineMatcher.match" in path
    assert (pauses.lane, pauses.standing) == (lane, 4)
    assert pauses.runs > 10
    assert 0 < pauses.longest_cpu_ms <= pauses.all_cpu_ms


@pytest.mark.usefixtures("_no_log_is_left_set_up")
async def test_memory_is_looked_at_after_each_step(monkeypatch: Any) -> None:
    monkeypatch.setattr(garbage, "STEP", 3)
    monkeypatch.setattr(garbage, "STAY", 0.2)
    with trio.fail_after(HANG):
        memory = await garbage.measure_memory("adopted", 6)
    assert len(memory.mb) == 3
    assert min(memory.mb) > 10


def test_a_spread_is_told_by_nearest_rank() -> None:
    assert report.spread_of([]) == "-"
    assert report.spread_of([float(n) for n in range(1, 101)]) == "50 / 99 / 100"
