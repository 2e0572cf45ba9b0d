"""Databases that are fit for us, and those that are not: one line that says what to do."""

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from call_stories import NOON, Story, sid, whole
from limits import HANG
from rig_postgresql import Cluster

from sts_trio.errors import ConfigError
from sts_trio.records import database as databases
from sts_trio.records import schema, word_index
from sts_trio.records.database import Database, DatabaseAway
from sts_trio.records.search import Wanted
from sts_trio.records.store import Store


def mistake(url: str) -> str:
    """The one line."""
    with pytest.raises(ConfigError) as caught:
        Database(url).open()
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith("STS_DATABASE_URL: ")
    return message


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Without our tables, as `url` here: who makes them is what is tested."""
    return f"sqlite:///{tmp_path / 'calls.db'}"


@pytest.fixture
def url(empty_url: str) -> str:
    return empty_url


# --- the schema ---------------------------------------------------------------------------------


def test_an_empty_database_gets_our_tables_and_no_others(url: str) -> None:
    """Migrations and `schema.py` say the same, on both databases."""
    database = Database(url)
    database.open()
    with database.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": schema.REVISIONS, "compare_type": True}
        )
        different = [
            each
            for each in compare_metadata(context, schema.metadata)
            # Days are made as they come. These, and the index of words, are not in the metadata.
            if not each[0].startswith("remove_")
            or not (each[1] if each[0] == "remove_table" else each[1].table).name.startswith(
                ("event_", word_index.TABLE)
            )
        ]
        assert different == []
        assert context.get_current_revision() == f"{schema.VERSION:04d}"
    database.close()


def test_opening_again_changes_nothing(url: str) -> None:
    for _ in range(2):
        database = Database(url)
        database.open()
        Store(database).write(whole())
        assert len(Store(database).calls(Wanted()).calls) == 1
        database.close()


def test_many_processes_may_open_an_empty_database_at_once(url: str) -> None:
    failed: list[BaseException] = []
    barrier = threading.Barrier(4)

    def open_it() -> None:
        try:
            database = Database(url)
            barrier.wait(10)
            for _ in range(200):
                try:
                    database.open()
                    break
                except DatabaseAway:
                    continue  # locked by the others: to be tried again
            assert database.is_open
            database.close()
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []


NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "{next:04d}"
down_revision = "{now:04d}"

def upgrade():
    op.add_column("call", sa.Column("mood", sa.String))
    op.add_column("event", sa.Column("size", sa.Integer))
    op.create_table("judgement", sa.Column("call_sid", sa.String, primary_key=True))
    op.execute("UPDATE sts_trio_schema SET version = {next}, oldest = {oldest}")
"""


def upgrade(database: Database, directory: Path, oldest: int) -> None:
    """As a later release would."""
    ours = Path(databases.__file__).parent / "migrations"
    (directory / "versions").mkdir(parents=True)
    for file in (ours / "env.py", *(ours / "versions").glob("v*.py")):
        (directory / file.relative_to(ours)).write_text(file.read_text())
    now = schema.VERSION
    newer = NEXT.format(now=now, next=now + 1, oldest=oldest)
    (directory / f"versions/v{now + 1:04d}.py").write_text(newer)
    migrate(database, directory, "head")


def migrate(database: Database, directory: Path, revision: str) -> None:
    settings = Config()
    settings.set_main_option("script_location", str(directory))
    with database.writing() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, revision)


def test_tables_that_come_while_they_are_looked_for_are_no_other_programs(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process of ours starts at the same moment."""
    names = sa.Inspector.get_table_names

    def late(self: sa.Inspector, *args: Any, **options: Any) -> list[str]:
        monkeypatch.setattr(sa.Inspector, "get_table_names", names)
        with contextlib.closing(Database(url)) as other:
            other.open()
        return names(self, *args, **options)

    monkeypatch.setattr(sa.Inspector, "get_table_names", late)
    with contextlib.closing(Database(url)) as database:
        database.open()


def test_an_older_process_works_on_a_newer_schema(url: str, tmp_path: Path) -> None:
    running = Database(url)
    running.open()
    store = Store(running)
    story = Story().announce().start().talk()
    store.write(story.rows)
    upgrade(running, tmp_path / "newer", oldest=1)
    # One that runs, and one that starts.
    store.write(story.end().rows)
    running.close()
    starting = Database(url)
    starting.open()
    store = Store(starting)
    store.write(whole(2))
    assert {call.call_sid for call in store.calls(Wanted()).calls} == {sid(1), sid(2)}
    assert store.rows(sid(1)) == story.rows
    assert store.record(sid(1)) is not None
    store.expire(NOON + 86400 * 3)
    assert store.calls(Wanted()).calls == []
    starting.close()


def test_a_schema_from_the_future_is_refused(url: str, tmp_path: Path) -> None:
    database = Database(url)
    database.open()
    now = schema.VERSION
    upgrade(database, tmp_path / "newer", oldest=now + 1)
    database.close()
    told = f"of a newer sts-trio (schema {now + 1}, which takes {now + 1}; this one knows {now})"
    assert told in mistake(url)


def test_a_database_of_the_first_release_is_brought_up_to_date(url: str) -> None:
    database = Database(url)
    if not database.is_postgresql:
        database._prepare_file()
    migrate(database, Path(databases.__file__).parent / "migrations", "0001")
    told = {column.name: f"'{column.name}'" for column in schema.process.c}
    told |= dict.fromkeys(("live", "capacity", "started_at", "heartbeat_at"), "1")
    del told["agent_sessions"]
    with database.writing() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO process ({', '.join(told)}) VALUES ({', '.join(told.values())})"
        )
    database.open()
    [seen] = Store(database).processes()
    assert (seen.process.name, seen.is_alive) == ("name", False)
    with database.reading() as connection:
        row = connection.execute(sa.select(schema.schema_version)).one()
    assert (row.version, row.oldest) == (schema.VERSION, 1)
    database.close()


def test_another_programs_database_is_left_alone(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE call (name TEXT)")
    assert "another program's: it has a table call" in mistake(url)
    with engine.begin() as connection:
        assert sa.inspect(connection).get_table_names() == ["call"]
    engine.dispose()


def test_a_server_is_shared_but_a_file_is_not(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE recipes (name TEXT)")
    engine.dispose()
    if url.startswith("sqlite"):
        assert "it has a table recipes" in mistake(url)
    else:
        database = Database(url)
        database.open()
        database.close()


# --- files --------------------------------------------------------------------------------------


def test_the_file_and_what_lies_beside_it_are_nobody_elses_to_read(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new' / 'calls.db'}")
    before = os.umask(0)
    try:
        database.open()
        Store(database).write(whole())
        files = list((tmp_path / "new").iterdir())
        assert len(files) == 3  # the write-ahead log, and its index
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    finally:
        os.umask(before)
        database.close()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["calls.db"]


@pytest.mark.parametrize("content", [b"GIF89a" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "calls.db"
    path.write_bytes(content)
    assert "cannot be used: " in mistake(f"sqlite:///{path}")
    assert path.read_bytes() == content


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "Is a directory" in mistake(f"sqlite:///{tmp_path}")


def test_a_directory_that_cannot_be_made_is_refused() -> None:
    assert "cannot be used: " in mistake("sqlite:////proc/nowhere/calls.db")


def test_a_directory_that_cannot_be_written_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere, so it has to be told."""
    may: Callable[[Path, int], bool] = lambda path, mode: False  # noqa: E731
    monkeypatch.setattr("os.access", may)
    assert "its directory cannot be written to" in mistake(f"sqlite:///{tmp_path / 'calls.db'}")


def test_an_old_sqlite_is_refused(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "OLDEST_SQLITE", (9, 9, 9))
    assert f"this Python has SQLite {sqlite3.sqlite_version}, not 9.9.9" in mistake(sqlite_url)


# --- URLs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sts-trio.db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///calls.db?mode=ro",
        "mysql://hidden:hidden@there/calls",
        "postgresql+asyncpg://hidden:hidden@there/calls",
        "postgres://hidden:hidden@there/calls",
        "postgresql://hidden:hidden@there:port/calls",
        "postgresql://hidden:hidden@there:65536/calls",
        "postgresql://hidden:hidden@there:0/calls",
        "://hidden",
    ],
)
def test_a_url_that_is_none_of_ours_is_refused_and_its_password_not_shown(url: str) -> None:
    message = mistake(url)
    assert "expected sqlite:///PATH, postgresql+psycopg://USER:PASSWORD@HOST/DATABASE" in message
    assert ":hidden" not in message


def test_without_the_driver_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    assert "pip install 'sts-trio[postgres]'" in mistake("postgresql://u:hidden@localhost/calls")


def test_a_wrong_password_is_refused_and_not_shown(cluster: Cluster) -> None:
    with cluster.asking_for_passwords("somebody", "right"):
        url = cluster.url("postgres").replace("postgres@", "somebody:hidden-wrong@")
        message = mistake(url)
        assert "password authentication failed" in message
        assert "hidden-wrong" not in message
        assert ":***@" in message


def test_a_database_that_is_not_there_is_refused(cluster: Cluster) -> None:
    assert 'database "nowhere" does not exist' in mistake(cluster.url("nowhere"))


def test_a_host_that_does_not_exist_is_refused() -> None:
    """Where there is nobody to ask for it, it is away; that a test cannot choose."""
    with pytest.raises((ConfigError, DatabaseAway)) as caught:
        Database("postgresql://u:hidden@no-such-host.invalid/calls").open()
    is_unknown = "Name or service not known" in str(caught.value)
    assert isinstance(caught.value, ConfigError) == is_unknown
    assert "hidden" not in str(caught.value)


def test_a_user_who_may_not_make_tables_is_told_so(cluster: Cluster) -> None:
    url = cluster.create()
    name = url.partition("@/")[2].partition("?")[0]
    cluster.query("postgres", "DROP ROLE IF EXISTS guest")
    cluster.query("postgres", "CREATE ROLE guest LOGIN")
    cluster.query(name, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    assert "permission denied for schema public" in mistake(url.replace("postgres@", "guest@"))


def test_a_server_that_does_not_answer_is_away_and_no_mistake(own_cluster: Cluster) -> None:
    database = Database("postgresql://u:hidden@127.0.0.1:9/calls")
    with pytest.raises(DatabaseAway) as caught:
        database.open()
    assert "hidden" not in str(caught.value)
    url = own_cluster.create()
    own_cluster.stop()
    try:
        with pytest.raises(DatabaseAway):
            Database(url).open()
    finally:
        own_cluster.start()
    database = Database(url)
    database.open()
    database.close()


def test_a_file_that_another_process_writes_is_away_and_no_mistake(sqlite_url: str) -> None:
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseAway, match="locked"):
        Database(sqlite_url).open()
    other.execute("ROLLBACK")
    other.close()


# --- in the midst -------------------------------------------------------------------------------


def test_what_an_error_says_has_nothing_of_what_was_said(database: Database) -> None:
    store = Store(database)
    with database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE event RENAME TO elsewhere")
    try:
        with pytest.raises(DatabaseAway) as caught:
            store.write(whole())
        exc: BaseException | None = caught.value
        while exc is not None:
            assert "Hello" not in str(exc)
            exc = exc.__cause__
    finally:
        with database.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO event")


def test_a_transaction_leaves_nothing_behind_where_it_fails(database: Database) -> None:
    token = sa.insert(schema.token).values(token_id="t", call_sid="c", expires_at=NOON)

    def spend_it_twice() -> None:
        with database.writing() as connection:
            connection.execute(token)
            connection.execute(token)

    with pytest.raises(sa.exc.IntegrityError):
        spend_it_twice()
    with database.reading() as connection:
        assert connection.execute(sa.select(schema.token)).all() == []


@pytest.mark.parametrize("is_slow", [True, False])
def test_what_a_thread_is_waiting_for_can_be_ended_from_outside(
    database: Database, is_slow: bool
) -> None:
    """Or has ended already, which harms nothing."""
    database.interrupt()
    count = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {}) "
    slow = (count + "SELECT max(x) FROM n").format(10**9 if is_slow else 10)
    outcome: list[BaseException | None] = []
    is_running = threading.Event()

    def work() -> None:
        try:
            with database.writing(within=60) as connection:
                is_running.set()
                connection.exec_driver_sql(slow)
            outcome.append(None)
        except DatabaseAway as exc:
            outcome.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    assert is_running.wait(30)
    while thread.is_alive():
        if is_slow:
            database.interrupt()
        thread.join(0.05)
    database.interrupt()
    assert isinstance(outcome[0], DatabaseAway) == is_slow
    Store(database).write(whole())
    assert Store(database).rows(sid(1)) == whole()


def test_a_commit_that_nobody_answers_is_ended_from_outside_too(
    own_database: Database, own_cluster: Cluster
) -> None:
    outcome: list[BaseException] = []
    is_stopped = threading.Event()

    with contextlib.ExitStack() as stack:

        @sa.event.listens_for(own_database.engine, "commit", once=True)
        def stop(connection: sa.Connection) -> None:
            stack.enter_context(own_cluster.stopped())
            is_stopped.set()

        def work() -> None:
            try:
                Store(own_database).write(whole())
            except DatabaseAway as exc:
                outcome.append(exc)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert is_stopped.wait(HANG)
        until = time.monotonic() + HANG
        while thread.is_alive() and time.monotonic() < until:
            own_database.interrupt()
            thread.join(0.05)
        assert not thread.is_alive()
    assert len(outcome) == 1


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_connection_that_is_gone_is_not_interrupted(database: Database) -> None:
    gone = database.engine.raw_connection()
    assert gone.driver_connection is not None
    gone.driver_connection.close()
    database._busy = gone.driver_connection
    database.interrupt()
    gone.invalidate()


def test_more_readers_than_connections_wait_no_longer_than_is_said(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.05)
    with contextlib.ExitStack() as stack:
        for _ in range(databases.READERS + 1):
            stack.enter_context(database.reading())
        with pytest.raises(DatabaseAway, match="all connections are in use"):
            stack.enter_context(database.reading())


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_day_that_somebody_reads_is_dropped_another_time(database: Database) -> None:
    store = Store(database)
    store.write(whole(at=NOON - 86400 * 10))
    with database.reading() as connection:
        connection.execute(sa.select(schema.event)).all()
        assert store.expire(NOON).calls == 1
    names = f"SELECT to_regclass('event_{int(NOON // 86400) - 10}')"
    with database.reading() as connection:
        assert connection.exec_driver_sql(names).scalar() is not None
    store.expire(NOON)
    with database.reading() as connection:
        assert connection.exec_driver_sql(names).scalar() is None


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_day_without_a_partition_of_its_own_is_kept_with_the_others(database: Database) -> None:
    """Rows of that day are there already, so that none can be made."""
    at = NOON + 86400 * 400
    day = int(at // 86400)
    store = Store(database)
    store._days._made.add(day)  # as if it had been tried
    store.write(whole(at=at))
    another = Store(database)
    another.write(whole(2, at=at))
    assert another.rows(sid(1)) == whole(at=at)
    assert another.rows(sid(2)) == whole(2, at=at)
    with database.reading() as connection:
        found = connection.exec_driver_sql("SELECT count(*) FROM event_other").scalar()
    assert found == 2 * len(whole())


def test_a_process_that_looks_and_leaves_takes_nothing_from_who_has_the_file(
    tmp_path: Path,
) -> None:
    """Locks are of a process, not of a connection. Without ours, whoever else closes the file takes
    itself for the last, and deletes the log that we go on writing."""
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    written, read = Database(url), Database(url)
    written.open()
    read.open()
    look = (
        "import sys; from sts_trio.records.database import Database;"
        " database = Database(sys.argv[1]); database.open(); database.close()"
    )
    subprocess.run([sys.executable, "-c", look, url], check=True, timeout=HANG)
    Store(written).write(whole())
    third = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, sqlite3; print(sqlite3.connect(sys.argv[1])"
            ".execute('SELECT count(*) FROM call').fetchone()[0])",
            str(tmp_path / "calls.db"),
        ],
        check=True,
        timeout=HANG,
        capture_output=True,
        text=True,
    )
    assert third.stdout.strip() == "1"
    written.close()
    read.close()
