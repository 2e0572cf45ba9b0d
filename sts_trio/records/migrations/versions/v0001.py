"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

Json = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    versions = op.create_table(
        "sts_trio_schema",
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("oldest", sa.Integer, nullable=False),
    )
    op.bulk_insert(versions, [{"version": 1, "oldest": 1}])
    op.create_table(
        "process",
        sa.Column("process_id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("address", sa.String, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("live", sa.Integer, nullable=False),
        sa.Column("capacity", sa.Integer, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("heartbeat_at", sa.Double, nullable=False),
    )
    op.create_table(
        "call",
        sa.Column("call_sid", sa.String, primary_key=True),
        sa.Column("direction", sa.String, nullable=False),
        sa.Column("from_", sa.String, nullable=False),
        sa.Column("to", sa.String, nullable=False),
        sa.Column("agent", sa.String, nullable=False),
        sa.Column("parameters", Json, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("answered_at", sa.Double),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("process_id", sa.String, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("moves", sa.Integer, nullable=False),
        sa.Column("claimed_by", sa.String),
        sa.Column("claimed_until", sa.Double),
        sa.Column("ended_at", sa.Double),
        sa.Column("ending", sa.String),
        sa.Column("verdict", sa.String),
        sa.Column("detail", sa.Text),
        sa.Column("apologised", sa.Boolean),
        sa.Column("summary", Json),
        sa.Column("schema_version", sa.Integer, nullable=False),
        sa.Column("redacted_at", sa.Double),
    )
    op.create_index("call_by_time", "call", ["created_at", "call_sid"])
    op.create_index("call_by_from", "call", ["from_", "created_at", "call_sid"])
    op.create_index("call_by_to", "call", ["to", "created_at", "call_sid"])
    op.create_index("call_by_agent", "call", ["agent", "created_at", "call_sid"])
    op.create_index("call_by_ending", "call", ["ending", "created_at", "call_sid"])
    op.create_index("call_by_verdict", "call", ["verdict", "created_at", "call_sid"])
    op.create_index("call_by_state", "call", ["state", "process_id"])
    op.create_table(
        "stream",
        sa.Column("call_sid", sa.String, primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("stream_sid", sa.String, nullable=False),
        sa.Column("process_id", sa.String, nullable=False),
        sa.Column("how", sa.String, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("ending", sa.String),
        sa.Column("gap_seconds", sa.Double),
    )
    op.create_table(
        "event",
        sa.Column("call_sid", sa.String, primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("body", Json, nullable=False),
        postgresql_partition_by="RANGE (day)",
    )
    if op.get_context().dialect.name == "postgresql":
        # Takes what has no partition of its own: a day for which nobody made one in time.
        op.execute("CREATE TABLE event_other PARTITION OF event DEFAULT")
    op.create_table(
        "recording",
        sa.Column("call_sid", sa.String, primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("uri", sa.String, nullable=False),
        sa.Column("began_at", sa.Double, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("result", sa.String, nullable=False),
        sa.Column("deleted_at", sa.Double),
    )
    op.create_table(
        "delivery",
        sa.Column("webhook_id", sa.String, primary_key=True),
        sa.Column("call_sid", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", sa.Double, nullable=False),
        sa.Column("claimed_until", sa.Double),
        sa.Column("state", sa.String, nullable=False),
    )
    op.create_index("delivery_due", "delivery", ["state", "next_at"])
    op.create_index("delivery_by_call", "delivery", ["call_sid"])
    op.create_table(
        "allowance",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("used", sa.Integer, nullable=False),
        sa.Column("most", sa.Integer, nullable=False),
    )
    op.create_table(
        "token",
        sa.Column("token_id", sa.String, primary_key=True),
        sa.Column("call_sid", sa.String, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
    )
    op.create_index("token_by_expiry", "token", ["expires_at"])
