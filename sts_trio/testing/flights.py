"""Calls that were recorded, as tests."""

from itertools import islice
from pathlib import Path

from sts_trio.flight.file import unpack
from sts_trio.flight.replay import differences
from sts_trio.flight.shown import difference

_SHOWN = 3


def replay_flight(path: Path) -> None:
    """The call goes as it went when it was recorded, step by step.

    Raises:
        AssertionError: it goes otherwise now; with the first steps that differ.
        BadFlight: it cannot be replayed by this version.
        OSError: it cannot be read.
    """
    found = differences(unpack(path.read_bytes()))
    if found:
        lines = [line for step in islice(found, _SHOWN) for line in difference(step)]
        raise AssertionError("\n".join([f"{path.name}: {len(found)} steps differ", *lines]))
