"""What waits is begun first, in some of the processes that run the suite."""

import itertools
from pathlib import Path
from typing import NamedTuple

import order
import pytest

ROOT = Path(__file__).parents[1]


class Known(NamedTuple):
    nodeid: str


def all_of(counts: dict[str, int]) -> list[Known]:
    return [Known(f"{file}::test_{n}") for file, count in counts.items() for n in range(count)]


def test_each_file_that_is_begun_first_is_there() -> None:
    assert [file for file in order.SECONDS if not (ROOT / file).is_file()] == []


@pytest.mark.parametrize(("processes", "cores"), [(6, 2), (3, 2), (2, 2), (2, 8)])
def test_none_is_lost_and_those_of_a_file_stay_together(processes: int, cores: int) -> None:
    counts = {"tests/a.py": 50, **dict.fromkeys(order.SECONDS, 3), "tests/z.py": 51}
    tests = all_of(counts)
    ordered = order.spread(tests, processes, cores)
    assert sorted(ordered) == sorted(tests)
    files = [
        file for file, _ in itertools.groupby(ordered, lambda each: each.nodeid.split("::")[0])
    ]
    assert len([file for file in files if file in order.SECONDS]) == len(order.SECONDS)


def test_what_waits_longest_is_begun_first_and_as_many_processes_as_cores_compute() -> None:
    longest = list(order.SECONDS)[:4]
    tests = all_of({"tests/a.py": 56, **dict.fromkeys(longest, 1)})
    ordered = order.spread(tests, 6, 2)
    begun = [each.nodeid.split("::")[0] for each in ordered[::10]]
    assert begun == [*longest, "tests/a.py", "tests/a.py"]


def test_more_tests_that_wait_than_a_process_is_given_are_all_run() -> None:
    longest = next(iter(order.SECONDS))
    tests = all_of({longest: 20, "tests/a.py": 4})
    assert sorted(order.spread(tests, 6, 2)) == sorted(tests)
