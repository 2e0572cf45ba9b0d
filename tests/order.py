"""Which tests are begun first, where several processes run them.

Some wait for real time: processes start, calls last, what was lost is noticed. Were they begun
where the alphabet has them, some would be begun last, and a machine with nothing to do would wait
for them. So they are begun at once, but in all processes save as many as there are cores: those
compute meanwhile, and take over from the others what these do not come to.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, TypeVar

# {file: seconds}, of those that wait for more than 3 s: as measured on two idle cores by
# `--durations=0`. One that is not here is begun later.
SECONDS = {
    "tests/load/test_load_story.py": 83,
    "tests/test_bench.py": 68,
    "tests/bridge/test_garbage.py": 36,
    "tests/net/test_attacks.py": 35,
    "tests/commands/test_hostile_servers.py": 35,
    "tests/testing/test_testing.py": 34,
    "tests/records/test_processes_together.py": 34,
    "tests/moves/test_moves_readings.py": 29,
    "tests/test_fleet_story.py": 26,
    "tests/commands/test_commands.py": 22,
    "tests/moves/test_moves_story.py": 22,
    "examples/dealership/test_dealership.py": 22,
    "tests/records/test_kept_calls.py": 22,
    "tests/bridge/test_endings_sockets.py": 20,
    "tests/simulate/test_carrier.py": 19,
    "tests/records/test_told_calls.py": 19,
    "tests/records/test_writer.py": 19,
    "tests/commands/test_call_through.py": 19,
    "tests/records/test_privacy.py": 15,
    "tests/simulate/test_carrier_rest.py": 15,
    "tests/bridge/test_floods.py": 14,
    "tests/records/test_recorded_calls.py": 12,
    "tests/offline/test_latency.py": 12,
    "tests/moves/test_after.py": 11,
    "tests/web/test_page.py": 10,
    "tests/demo/test_demo.py": 9,
    "tests/doctor/test_experiments.py": 9,
    "tests/legs/test_adoption.py": 8,
    "tests/records/test_shipper.py": 8,
    "tests/deploy/test_haproxy.py": 8,
    "tests/web/test_proxies.py": 8,
    "tests/records/test_database.py": 8,
    "tests/moves/test_moves_versions.py": 8,
    "tests/offline/test_sdk.py": 7,
    "tests/test_docs.py": 7,
    "tests/records/test_call_log.py": 6,
    "tests/observe/test_watch.py": 6,
}


class Test(Protocol):
    @property
    def nodeid(self) -> str: ...


T = TypeVar("T", bound=Test)


def spread(tests: Sequence[T], processes: int, cores: int) -> list[T]:
    """The tests as `--dist worksteal` is to have them: it gives each process as many as the others,
    one after the other, and they are run in this order.

    Those of a file stay together: they share fixtures.
    """
    waiting: dict[str, list[T]] = defaultdict(list)
    others: list[T] = []
    for test in tests:
        file = test.nodeid.partition("::")[0]
        (waiting[file] if file in SECONDS else others).append(test)
    first: list[list[T]] = [[] for _ in range(processes)]
    load = [0] * max(1, processes - cores)
    for file in sorted(waiting, key=SECONDS.__getitem__, reverse=True):
        least = load.index(min(load))
        load[least] += SECONDS[file]
        first[least] += waiting[file]
    ordered: list[T] = []
    for number, begun in enumerate(first):
        share = (len(tests) - len(ordered)) // (processes - number)
        rest = max(0, share - len(begun))
        ordered += begun + others[:rest]
        del others[:rest]
    return ordered + others
