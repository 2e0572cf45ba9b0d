"""Two versions side by side, as in a deploy: the newer one changes the schema."""

import signal
from pathlib import Path

import fleet_rig
import trio
from rig_moves import LONG, Line, fleet, until
from rig_postgresql import Cluster

from sts_trio.records import schema
from sts_trio.records.database import Database


def version(url: str) -> int:
    database = Database(url)
    found = database.look()
    database.engine.dispose()
    assert found is not None
    return found[0]


async def test_a_call_moves_to_a_version_that_changes_the_schema_under_it_and_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    url = cluster.create()
    newer = str(fleet_rig.newer(fleet_rig.ROOT, tmp_path / "newer"))
    line = Line()
    with trio.fail_after(LONG):
        async with (
            fleet(tmp_path, url, size=1, STS_DRAIN_SECONDS="10") as there,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(line.run, there)
            first = await there.talk(0)
            await first.speak("Hello.")
            await until(lambda: there.knows("Hello."))
            assert version(url) == schema.VERSION
            async with there.joined(PYTHONPATH=newer, PYTHONSAFEPATH="1") as second_port:
                assert version(url) == schema.VERSION + 1
                # Its tables have changed, and the process that has the call writes on.
                await first.hear("The word is heron.")
                await first.speak("Heron it is.")
                await until(lambda: there.knows("Heron it is."))
                there.kill(there.ports[0], signal.SIGTERM)
                second = await there.goes_on(1)
                assert "The word is heron." in second.told
                await second.hear("And the number is nine.")
                await second.speak("Nine.")
                await until(lambda: there.knows("number is nine."))
                # One of this version that starts on the newer schema.
                async with there.joined():
                    there.kill(second_port, signal.SIGTERM)
                    third = await there.goes_on(2)
                    assert {"The word is heron.", "And the number is nine."} <= {*third.told}
                    third.close(1000)
                    record = await there.ended(there.newest)
    assert [stream.how for stream in record.streams] == ["first", "moved", "moved"]
    assert record.call.ending == "agent_finished"
