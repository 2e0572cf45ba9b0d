"""A call outlives its process: `sts-trio serve`, several times on one database, for real."""

import signal
from pathlib import Path

import trio
from limits import HANG
from rig_moves import Line, fleet, until

from sts_trio.simulate.unknowns import Unknowns


async def test_a_call_outlives_its_process_and_remembers_a_word(url: str, tmp_path: Path) -> None:
    line = Line()
    with trio.fail_after(HANG):
        async with fleet(tmp_path, url) as there:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(line.run, there)
                first = await there.talk(0)
                await first.speak("Hello.")
                await first.hear("The word is heron.")
                await first.speak("Heron it is.")
                await until(lambda: there.knows("Heron it is."))
                there.kill(there.ports[0])
                second = await there.goes_on(1)
                assert "The word is heron." in second.told
                await second.hear("What is the word?")
                await second.speak("It is heron.")
                second.close(1000)
            record = await there.ended(line.call.call_sid)
    # The connection was lost, and a process that dies may still have accepted what was asked next.
    codes = [each.code for each in line.call.problems]
    assert (codes[0], {*codes[1:]} <= {11200, 11205}) == (31903, True)
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
    with trio.fail_after(HANG):
        async with fleet(tmp_path, url, STS_DRAIN_SECONDS="10") as there:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(line.run, there)
                first = await there.talk(0)
                await first.speak("Hello.")
                await until(lambda: there.knows("Hello."))
                there.kill(there.ports[0], signal.SIGTERM)
                second = await there.goes_on(1)
                assert second.told == ["Hello."]
                assert second.asked == []
                second.close(1000)
            record = await there.ended(line.call.call_sid)
    assert [stream.how for stream in record.streams] == ["first", "moved"]
    assert first.closed is not None
    assert first.closed[1] == 1000
    assert [each.close_code for each in line.call.streams] == [1001, 1000]


async def test_a_call_of_the_only_process_goes_on_in_its_successor(tmp_path: Path) -> None:
    """Twilio asks again until it is there."""
    line = Line()
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    patient = Unknowns(retry_pause=2.5)  # a busy machine takes seconds to start a process
    with trio.fail_after(HANG):
        async with (
            fleet(tmp_path, url, size=1, unknowns=patient, STS_RESTARTS="1") as there,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(line.run, there)
            first = await there.talk(0)
            await first.speak("Hello.")
            await until(lambda: there.knows("Hello."))
            async with there.restarted(there.ports[0], signal.SIGTERM):
                second = await there.goes_on(1)
                assert second.told == ["Hello."]
                second.close(1000)
                record = await there.ended(there.newest)
    assert [stream.how for stream in record.streams] == ["first", "moved"]
