"""Both databases, for tests of several folders: their `conftest.py` takes these fixtures."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig_postgresql import Cluster, binaries, shared

ADVICE = "there is no PostgreSQL on this machine: install Debian's package postgresql"


def found_binaries() -> Path:
    found = binaries()
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(ADVICE)
        pytest.skip(ADVICE)
    return found


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A PostgreSQL of this run's own, with databases for each of its processes."""
    meeting = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        meeting = meeting.parent
    with shared(found_binaries(), meeting) as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: each test that asks for it runs on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'calls.db'}"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.create()
