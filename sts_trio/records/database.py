"""The way to the database, by its URL: connections, the schema brought up to date, and whose fault
it is when something fails.

Nothing here waits without a bound: a database that is locked, slow or gone is `DatabaseAway`
within seconds, and `interrupt` ends what a thread is waiting for even where it would not end.
"""

import contextlib
import errno
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.dialects import postgresql, sqlite

from sts_trio.errors import ConfigError, StsTrioError
from sts_trio.records import schema

# Seconds. Until it is over the rows of one batch are nowhere but in memory.
LOCKED = 0.5
STATEMENT = 2.0
# Whoever looks for words in a year of calls may wait a little.
READING = 10.0
# The least that psycopg takes.
CONNECT = 2
# A peer that has vanished is noticed after as long.
UNACKNOWLEDGED = 3.0
# Another process may be migrating: on a table of millions of rows that takes a while.
MIGRATION = 60.0
# Connections for those who read, beside the writer's own.
READERS = 4
HIGHEST_PORT = 65535
# `RETURNING` and upserts. Python 3.11 may be linked with one that is older.
OLDEST_SQLITE = (3, 35, 0)
# Whoever migrates holds this lock of PostgreSQL's: "sts-trio" in ASCII.
LOCK = int.from_bytes(b"sts-trio")

VARIABLE = "STS_DATABASE_URL"

# What PostgreSQL says before it hangs up on who wants to connect, and will not say a minute later.
_PASSING = ("starting up", "shutting down", "recovery mode", "too many clients", "connection slots")
# The resolver's words for a name that does not exist, as opposed to one that it cannot ask about.
_NO_SUCH_HOST = ("Name or service not known", "nodename nor servname", "No address associated")


def is_postgresql(connection: sa.Connection) -> bool:
    return connection.dialect.name == "postgresql"


def insert_into(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that may say what to do where the row is there already."""
    return (postgresql.insert if is_postgresql(connection) else sqlite.insert)(table)


class DatabaseAway(StsTrioError):
    """The database is gone, locked, full or too slow. It is to be tried again later."""


class Database:
    """One database and its connections. Nothing is opened before `open`; threads may share it.

    Raises:
        ConfigError: the URL is none of ours.
    """

    def __init__(self, url: str) -> None:
        self.url = _url(url)
        self.is_postgresql = self.url.get_backend_name() == "postgresql"
        self.is_open = False
        self._busy: Any = None  # the driver's connection that is worked on now
        self.engine = _postgresql(self.url) if self.is_postgresql else _sqlite(self.url)
        # What PostgreSQL reads is of the moment of each statement, unless it is told otherwise.
        of_one_moment = {"isolation_level": "REPEATABLE READ"} if self.is_postgresql else {}
        self._snapshots = self.engine.execution_options(**of_one_moment)

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    def open(self) -> None:
        """Looks whether the database is fit for us, and brings its schema up to date.

        Raises:
            ConfigError: it is not, and will not be by itself.
            DatabaseAway: it does not answer now.
        """
        if not self.is_postgresql:
            self._prepare_file()
        try:
            with self._translated():
                self._migrate()
            self.is_open = True
        except DatabaseAway as exc:
            if (reason := self._lasting(exc)) is not None:
                raise self._mistake(reason) from None
            raise
        finally:
            if not self.is_open:
                self.engine.dispose()

    def look(self) -> tuple[int, int] | None:
        """The schema's version, and the oldest that it takes, as they are; None where there is none
        of ours. Changes nothing, and makes no file.

        Raises:
            ConfigError, DatabaseAway: as `open`.
        """
        engine = self.engine
        if not self.is_postgresql:
            path = Path(self.url.database or "").absolute()
            # To read a file in WAL mode SQLite makes two beside it, unless it takes it to be fixed;
            # it is, if nobody has it open.
            is_open = path.with_name(f"{path.name}-wal").exists()
            uri = f"{path.as_uri()}?mode=ro{'' if is_open else '&immutable=1'}"
            engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True))
        try:
            with self._translated(), engine.connect() as connection:
                return self._checked_version(connection)
        except DatabaseAway as exc:
            if (reason := self._lasting(exc)) is not None:
                raise self._mistake(reason) from None
            raise
        finally:
            engine.dispose()

    def close(self) -> None:
        """Leaves the database as it is best left. It may be opened again."""
        with contextlib.suppress(DatabaseAway):
            self.shrink_log()
        self.engine.dispose()
        self.is_open = False

    # --- transactions ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self, *, within: float = READING) -> Iterator[sa.Connection]:
        """All that is read is of one moment, whatever others write meanwhile.

        Raises `DatabaseAway`, also where a server has been started anew since the last time.
        """
        with self._translated(), self._snapshots.connect() as connection:
            self._busy = connection.connection.dbapi_connection
            try:
                self._limit(connection, within, is_durable=False)
                yield connection
            finally:
                self._busy = None

    @contextlib.contextmanager
    def writing(
        self, *, is_durable: bool = True, within: float = STATEMENT
    ) -> Iterator[sa.Connection]:
        """A transaction, committed when it is left.

        What is not `is_durable` may be lost when the machine of a PostgreSQL goes down, with its
        last half second; ours may go down in either case. A statement takes `within` seconds at
        most.

        Raises:
            DatabaseAway: it is not known whether it was committed.
            sqlalchemy.exc.SQLAlchemyError: the database does not take these rows.
        """
        with self._translated(), self.engine.connect() as connection:
            connection = connection.execution_options(sts_writes=True)
            self._busy = connection.connection.dbapi_connection
            try:
                with connection.begin():
                    self._limit(connection, within, is_durable=is_durable)
                    yield connection
            finally:
                self._busy = None  # not before the commit, which may be what never ends

    @contextlib.contextmanager
    def giving_way(self, *, within: float) -> Iterator[sa.Connection]:
        """As `writing`, for one of many steps that nobody waits for.

        On SQLite one writes at a time, and who waits looks only now and then whether it may. So
        behind the step the others have as much time as it has taken.
        """
        began = time.monotonic()
        with self.writing(within=within) as connection:
            yield connection
        if not self.is_postgresql:
            time.sleep(time.monotonic() - began)

    def _limit(self, connection: sa.Connection, within: float, *, is_durable: bool) -> None:
        if self.is_postgresql:
            # For this transaction alone, so that it is right behind a pooler too.
            limits = {
                "statement": f"{within * 1000:.0f}",
                "lock": f"{LOCKED * 1000:.0f}",
                "durable": "on" if is_durable else "off",
            }
            connection.execute(_LIMITS, limits)

    def interrupt(self) -> None:
        """Ends what another thread is doing here, with `DatabaseAway`; only one thread may.

        The last resort against a server that neither answers nor hangs up.
        """
        connection = self._busy
        if connection is None:
            return
        if not self.is_postgresql:
            connection.interrupt()
            return
        with (
            contextlib.suppress(OSError, ValueError, self.engine.dialect.loaded_dbapi.Error),
            socket.socket(fileno=os.dup(connection.fileno())) as twin,
        ):
            twin.shutdown(socket.SHUT_RDWR)  # else it has ended by itself meanwhile

    def shrink_log(self) -> None:
        """What was deleted is not to be read in SQLite's write-ahead log. Raises `DatabaseAway`."""
        if not self.is_postgresql and self.is_open:
            with self._translated(), self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlalchemy_errors.DataError, sqlalchemy_errors.IntegrityError):
            raise  # the fault of a row
        except sqlalchemy_errors.DBAPIError as exc:
            raise DatabaseAway(_first_line(exc.orig)) from exc
        except sqlalchemy_errors.TimeoutError:
            raise DatabaseAway("all connections are in use") from None

    # --- the schema -----------------------------------------------------------------------------

    def _migrate(self) -> None:
        with self.engine.connect() as connection:
            found = self._checked_version(connection)
        if found is not None and found[0] >= schema.VERSION:
            return
        with self.writing(within=MIGRATION) as connection:
            if self.is_postgresql:  # in SQLite a transaction that writes is alone anyway
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{MIGRATION:g}s'")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
            found = _version(connection)  # whoever had the lock before us may have done it
            if found is None or found[0] < schema.VERSION:
                _upgrade(connection)

    def _checked_version(self, connection: sa.Connection) -> tuple[int, int] | None:
        """As `_version`, of a database that we may use."""
        tables = sa.inspect(connection).get_table_names()
        # Behind them: another process may be making both, which are there at one moment.
        found = _version(connection)
        if found is None:
            ours = [name for name in tables if name in schema.metadata.tables]
            # A database server is shared; a file is somebody's own.
            foreign = ours if self.is_postgresql else tables
            if foreign:
                raise self._mistake(f"another program's: it has a table {foreign[0]}")
            return None
        version, oldest = found
        if oldest > schema.VERSION:
            raise self._mistake(
                f"of a newer sts-trio (schema {version}, which takes {oldest}; this one knows"
                f" {schema.VERSION}): install that one"
            )
        has_index = not self.is_postgresql and sa.inspect(connection).has_table(schema.WORDS)
        if has_index and not has_fts5(connection):
            # Not even a call could be deleted: its words would be left.
            raise self._mistake(
                f"its index of words takes FTS5, which SQLite {sqlite3.sqlite_version} of this"
                " Python is compiled without; install a Python whose SQLite has it"
            )
        return found

    def _lasting(self, exc: DatabaseAway) -> str | None:
        """Why it would be in vain to try again; None if it would not."""
        reason = str(exc)
        if not self.is_postgresql:
            is_passing = "locked" in reason or "busy" in reason
            return None if is_passing else reason
        _, fatal, refusal = reason.partition("FATAL:")
        if fatal and not any(words in refusal for words in _PASSING):
            return refusal.strip()
        if any(words in reason for words in _NO_SUCH_HOST):
            return reason
        # It answers, but not to us: no right to make tables, and the like.
        is_answer = isinstance(exc.__cause__, sqlalchemy_errors.ProgrammingError)
        return reason if is_answer else None

    def _mistake(self, reason: str) -> ConfigError:
        return ConfigError(
            f"{VARIABLE}: {self.shown} cannot be used: {reason}; name another database, or none to"
            " keep nothing"
        )

    def _prepare_file(self) -> None:
        """What callers said is nobody else's to read: not the file, nor what SQLite puts beside."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            wanted = ".".join(map(str, OLDEST_SQLITE))
            raise self._mistake(f"this Python has SQLite {sqlite3.sqlite_version}, not {wanted}")
        path = Path(self.url.database or "")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                # Only one that is new: to close a file that SQLite has open takes all locks of this
                # process from it (https://sqlite.org/howtocorrupt.html, 2.2, read 2026-11-30).
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not os.access(path.parent, os.W_OK):
                raise PermissionError(errno.EACCES, "its directory cannot be written to")
            if not os.access(path, os.R_OK | os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as exc:
            raise self._mistake(exc.strerror or str(exc)) from None


_LIMITS = sa.text(
    "SELECT set_config('statement_timeout', :statement, true),"
    " set_config('lock_timeout', :lock, true),"
    " set_config('synchronous_commit', :durable, true)"
)


def _url(url: str) -> sa.URL:
    expected = "expected sqlite:///PATH, postgresql+psycopg://USER:PASSWORD@HOST/DATABASE or none"
    try:
        parsed = sa.make_url(url)
    except (sqlalchemy_errors.ArgumentError, ValueError):
        raise ConfigError(f"{VARIABLE}: {expected}") from None  # there may be a password in it
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        if not parsed.database or parsed.database == ":memory:" or parsed.query:
            raise ConfigError(f"{VARIABLE}: {expected}, got {parsed.render_as_string()}")
        return parsed
    if parsed.port is not None and not 1 <= parsed.port <= HIGHEST_PORT:
        raise ConfigError(f"{VARIABLE}: {expected}, with a port from 1 to {HIGHEST_PORT}")
    if parsed.drivername in ("postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    raise ConfigError(f"{VARIABLE}: {expected}, got {parsed.render_as_string()}")


def _first_line(exc: object) -> str:
    """PostgreSQL's further lines quote rows, and so what callers said."""
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    return lines[0]


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _sqlite(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(
        url,
        connect_args={"timeout": LOCKED, "isolation_level": None, "check_same_thread": False},
        pool_size=READERS + 1,
        max_overflow=0,
        pool_timeout=STATEMENT,
        json_serializer=_encode,
        json_deserializer=msgspec.json.decode,
        hide_parameters=True,  # in errors: they are what callers said
    )

    @sa.event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, record: object) -> None:
        # NORMAL: a commit survives the end of this process, and mostly a power cut.
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        # One that reads first and then writes could not wait for another that writes.
        writes = connection.get_execution_options().get("sts_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: sa.URL) -> sa.Engine:
    options = {
        "connect_timeout": CONNECT,
        "tcp_user_timeout": int(UNACKNOWLEDGED * 1000),
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "application_name": "sts-trio",
        # Batches differ in length, so that little is gained by preparing them; and poolers that
        # share connections between clients do not know what was prepared.
        "prepare_threshold": None,
    }
    given = {name: value for name, value in options.items() if name not in url.query}
    try:
        return sa.create_engine(
            url,
            connect_args=given,
            pool_size=READERS + 1,
            max_overflow=0,
            pool_timeout=STATEMENT,
            json_serializer=_encode,
            json_deserializer=msgspec.json.decode,
            hide_parameters=True,
        )
    except ImportError:
        raise ConfigError(
            f"{VARIABLE}: PostgreSQL takes psycopg: pip install 'sts-trio[postgres]'"
        ) from None


def has_fts5(connection: sa.Connection) -> bool:
    """Not every SQLite is compiled with it."""
    return "ENABLE_FTS5" in connection.exec_driver_sql("PRAGMA compile_options").scalars().all()


def _version(connection: sa.Connection) -> tuple[int, int] | None:
    """The schema's version, and the oldest that it takes; None where there is none of ours."""
    if not sa.inspect(connection).has_table(schema.schema_version.name):
        return None
    row = connection.execute(sa.select(schema.schema_version)).one()
    return row.version, row.oldest


def _upgrade(connection: sa.Connection, directory: Path | None = None) -> None:
    # Half a second to import, and only needed once in a schema's life.
    from alembic import command
    from alembic.config import Config

    settings = Config()
    place = directory or Path(__file__).parent / "migrations"
    # Percent signs mean something in a configuration.
    settings.set_main_option("script_location", str(place).replace("%", "%%"))
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")
