"""Run by Alembic: on the connection, and in the transaction, of `database.migrate`."""

from alembic import context

from sts_trio.records import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    version_table=schema.REVISIONS,
)
context.run_migrations()
