"""For pytest, with pytest-trio: `from sts_trio.testing import fast_clock as fast_clock`, in a
`conftest.py` or beside the tests."""

import pytest
import trio.testing

from sts_trio.testing.clock import CUSHION


@pytest.fixture
def fast_clock() -> trio.testing.MockClock:
    """A test that takes it takes no longer than its work does.

    The clock jumps whenever all that the test has begun waits, but leaves bytes the time that they
    take through a socket, which pytest-trio's `autojump_clock` does not.
    """
    return trio.testing.MockClock(autojump_threshold=CUSHION)
