"""A fleet behind HAProxy, for real: a call whose process is killed is remembered by who goes on.

One fault, few calls: all of them are tried by `nox -s fleet`. Debian's package haproxy; where it is
missing the test is skipped, but not where the suite decides what lands (CI=true).
"""

from pathlib import Path

import fleet
import haproxy
import trio
from fleet_rig import ROOT
from limits import HANG
from rig_deploy import needed


async def test_calls_of_a_process_that_is_killed_go_on_and_are_remembered(tmp_path: Path) -> None:
    needed("haproxy", haproxy.program())
    with trio.fail_after(3 * HANG):
        async with fleet.running(tmp_path, ("a-1", "a-2"), False, ROOT, ROOT) as run:
            row = await fleet.measure(run, "kill-a-1", 1000, calls=4, talks=0)
    assert (row.calls, row.remembered, row.ended, row.twice) == (4, 4, 0, 0)
    assert row.moves >= 1
    assert row.sessions == row.calls
