"""The tables, for SQLite and for PostgreSQL. They are made by `migrations/`; a test compares.

Times are seconds since 1970 as floats, durations seconds. Nothing refers to anything by a foreign
key: rows of one call may come from several processes, and late.

A schema changes in two steps. A release expands it: new columns that may be null, new tables. One
that comes later may contract it. So two releases run side by side on one database. `version` is
this code's; a database tells its own, and the least that a program needs to know (`oldest`).
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

# Raise it with each migration, whose revision is the same number.
VERSION = 3
# Alembic's own table: in a database that is shared, another program may use Alembic, too.
REVISIONS = "sts_trio_revision"

# The index of words (`word_index`), which either database has in its own way.
WORDS = "call_words"

metadata = MetaData()
Json = JSON().with_variant(JSONB(), "postgresql")

schema_version = Table(
    "sts_trio_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("oldest", Integer, nullable=False),  # code of at least this version may use it
)

process = Table(
    "process",
    metadata,
    Column("process_id", String, primary_key=True),  # anew at each start
    Column("name", String, nullable=False),
    Column("address", String, nullable=False),
    Column("version", String, nullable=False),
    Column("state", String, nullable=False),  # ready, full, draining
    Column("live", Integer, nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("heartbeat_at", Double, nullable=False),
    Column("agent_sessions", Integer),  # that it has taken of those that there may be; None: none
)

call = Table(
    "call",
    metadata,
    Column("call_sid", String, primary_key=True),
    Column("direction", String, nullable=False),
    Column("from_", String, nullable=False),
    Column("to", String, nullable=False),
    Column("agent", String, nullable=False),
    Column("parameters", Json, nullable=False),  # {name: value}
    Column("source", String, nullable=False),  # webhook, bin, outbound
    Column("created_at", Double, nullable=False),
    Column("answered_at", Double),
    Column("state", String, nullable=False),  # announced, live, moving, ended, lost
    Column("process_id", String, nullable=False),
    Column("epoch", BigInteger, nullable=False),  # of its newest stream; 0: none yet
    Column("moves", Integer, nullable=False),
    Column("claimed_by", String),
    Column("claimed_until", Double),
    Column("ended_at", Double),
    Column("ending", String),
    Column("verdict", String),
    Column("detail", Text),
    Column("apologised", Boolean),
    Column("summary", Json),  # see `record.Summary`
    Column("schema_version", Integer, nullable=False),
    Column("redacted_at", Double),
    # Where its words are in the index of words; null: they are not in it yet.
    Column("word_place", BigInteger),
    # The list of calls: newest first, by what it is filtered by.
    Index("call_by_time", "created_at", "call_sid"),
    Index("call_by_from", "from_", "created_at", "call_sid"),
    Index("call_by_to", "to", "created_at", "call_sid"),
    Index("call_by_agent", "agent", "created_at", "call_sid"),
    Index("call_by_ending", "ending", "created_at", "call_sid"),
    Index("call_by_verdict", "verdict", "created_at", "call_sid"),
    Index("call_by_state", "state", "process_id"),
    Index("call_by_word_place", "word_place"),
)
Index(
    "call_without_words",
    call.c.created_at,
    call.c.call_sid,
    sqlite_where=call.c.word_place.is_(None),
    postgresql_where=call.c.word_place.is_(None),
)

stream = Table(
    "stream",
    metadata,
    Column("call_sid", String, primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("stream_sid", String, nullable=False),
    Column("process_id", String, nullable=False),
    Column("how", String, nullable=False),  # first, moved, recovered, returned
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("ending", String),
    Column("gap_seconds", Double),
)

event = Table(
    "event",
    metadata,
    Column("call_sid", String, primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    # Days since 1970 of `at`. Part of the key because PostgreSQL keeps a partition for each: to
    # drop one takes no time, to delete its millions of rows takes minutes.
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("kind", String, nullable=False),
    Column("body", Json, nullable=False),
    postgresql_partition_by="RANGE (day)",
)

recording = Table(
    "recording",
    metadata,
    Column("call_sid", String, primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("uri", String, nullable=False),
    Column("began_at", Double, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("result", String, nullable=False),  # ok, degraded, failed, blocked
    Column("deleted_at", Double),
)

delivery = Table(
    "delivery",
    metadata,
    Column("webhook_id", String, primary_key=True),
    Column("call_sid", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("body", Text, nullable=False),  # as signed: byte for byte the same at each attempt
    Column("attempts", Integer, nullable=False),
    Column("next_at", Double, nullable=False),
    Column("claimed_until", Double),
    Column("state", String, nullable=False),  # waiting, delivered, dead
    Index("delivery_due", "state", "next_at"),
    Index("delivery_by_call", "call_sid"),
)

allowance = Table(
    "allowance",
    metadata,
    Column("name", String, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("used", Integer, nullable=False),
    Column("most", Integer, nullable=False),
)

token = Table(
    "token",
    metadata,
    Column("token_id", String, primary_key=True),
    Column("call_sid", String, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("token_by_expiry", "expires_at"),
)

# Calls that were asked for, until a day later: so that none is placed twice, and any process knows
# what to do once it is answered.
dial = Table(
    "dial",
    metadata,
    Column("token", String, primary_key=True),  # in the URLs that Twilio is given
    Column("idempotency_key", String),  # a hash of it
    Column("digest", String, nullable=False),  # of what was asked for with that key
    # Who answers, and what a machine is told, as long as the call is not over: not the number.
    Column("request", Json),
    Column("process_id", String, nullable=False),  # that places it
    Column("asked_at", Double, nullable=False),
    Column("call_sid", String),
    Column("outcome", Json),  # None: it is not placed yet, or its process was killed
    Index("dial_by_key", "idempotency_key", unique=True),
    Index("dial_by_call", "call_sid"),
    Index("dial_by_time", "asked_at"),
)
