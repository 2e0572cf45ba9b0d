"""What processes that share the database know of each other's doings: calls that are placed, and
sessions with agents."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

Json = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("process", sa.Column("agent_sessions", sa.Integer))
    op.create_table(
        "dial",
        sa.Column("token", sa.String, primary_key=True),
        sa.Column("idempotency_key", sa.String),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("request", Json),
        sa.Column("process_id", sa.String, nullable=False),
        sa.Column("asked_at", sa.Double, nullable=False),
        sa.Column("call_sid", sa.String),
        sa.Column("outcome", Json),
    )
    op.create_index("dial_by_key", "dial", ["idempotency_key"], unique=True)
    op.create_index("dial_by_call", "dial", ["call_sid"])
    op.create_index("dial_by_time", "dial", ["asked_at"])
    op.execute("UPDATE sts_trio_schema SET version = 2")
