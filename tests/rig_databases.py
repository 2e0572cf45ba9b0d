"""Both databases, for tests of several folders: their `conftest.py` takes these fixtures."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig_postgresql import Cluster, binaries, shared

from sts_trio.records.database import Database

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


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with our tables: quicker copied than made anew."""
    path = tmp_path_factory.mktemp("migrated") / "calls.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_database(cluster: Cluster) -> str:
    """One with our tables on the PostgreSQL, to be copied: that takes that nobody has it open."""
    url = cluster.create()
    migrate(url)
    return url


def migrate(url: str) -> None:
    database = Database(url)
    database.open()
    database.close()


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    """A database in `calls.db` that has our tables and nothing in them."""
    return f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'calls.db')}"


BOTH = pytest.fixture(params=["sqlite", "postgresql"])


@BOTH
def url(request: pytest.FixtureRequest) -> str:
    """A database with our tables and nothing in them: who asks for it runs on both."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    migrated = request.getfixturevalue("migrated_database")
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.create(copy_of=migrated)


@BOTH
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without our tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'calls.db'}"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.create()
