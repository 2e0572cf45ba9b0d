"""The index of words."""

import sqlalchemy as sa
from alembic import op

from sts_trio.records.database import has_fts5

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("call", sa.Column("word_place", sa.BigInteger))
    op.create_index("call_by_word_place", "call", ["word_place"])
    is_null = sa.text("word_place IS NULL")
    op.create_index(
        "call_without_words",
        "call",
        ["created_at", "call_sid"],
        sqlite_where=is_null,
        postgresql_where=is_null,
    )
    # Whoever deletes a call, also a release that knows of no such index, deletes its words.
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            "CREATE TABLE call_words ("
            " call_sid VARCHAR PRIMARY KEY REFERENCES call ON DELETE CASCADE,"
            " words TSVECTOR NOT NULL)"
        )
        op.execute("CREATE INDEX call_words_by_word ON call_words USING gin (words)")
    elif has_fts5(op.get_bind()):
        # The words come as they are to be found: ASCII splits them at their spaces.
        op.execute(
            "CREATE VIRTUAL TABLE call_words USING fts5(words, tokenize = 'ascii', columnsize = 0)"
        )
        op.execute(
            "CREATE TRIGGER call_words_gone AFTER DELETE ON call WHEN OLD.word_place IS NOT NULL"
            " BEGIN DELETE FROM call_words WHERE rowid = OLD.word_place; END"
        )
    op.execute("UPDATE sts_trio_schema SET version = 3")
