from collections.abc import Iterator

import pytest
import sqlalchemy as sa
import structlog
from rig_databases import (
    cluster,
    empty_url,
    found_binaries,
    migrate,
    migrated_database,
    migrated_file,
    sqlite_url,
    url,
)
from rig_postgresql import Cluster, running

from sts_trio.records import schema
from sts_trio.records.database import Database
from sts_trio.records.store import Store


@pytest.fixture(scope="session")
def own_cluster() -> Iterator[Cluster]:
    """One that may be stopped: nobody else uses it."""
    with running(found_binaries()) as cluster:
        yield cluster


__all__ = [
    "cluster",
    "empty_url",
    "migrated_database",
    "migrated_file",
    "sqlite_url",
    "url",
]


@pytest.fixture
def own_database(own_cluster: Cluster) -> Iterator[Database]:
    database = Database(own_cluster.create())
    database.open()
    yield database
    database.close()


@pytest.fixture(scope="session")
def emptied(cluster: Cluster) -> str:
    """A database on the PostgreSQL with our tables: quicker emptied than copied.

    To delete a few rows takes it 1 ms of CPU, to truncate the tables 13 ms.
    """
    url = cluster.create()
    migrate(url)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An open one, with nothing in it."""
    is_sqlite = request.param == "sqlite"
    database = Database(request.getfixturevalue("sqlite_url" if is_sqlite else "emptied"))
    database.open()
    if not is_sqlite:
        kept = {schema.schema_version.name}
        with database.writing() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                if table.name not in kept:
                    connection.execute(sa.delete(table))
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Nothing is logged, whatever a test before has set up."""
    structlog.reset_defaults()
    with structlog.testing.capture_logs():
        yield
    structlog.reset_defaults()
