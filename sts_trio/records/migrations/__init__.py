"""Alembic's directory: `versions/` has one module for each version of the schema.

To change the schema, write the next module there by hand, raise `schema.VERSION`, and change the
tables in `schema.py`; a test tells where the two differ. Expand only: what an older release reads
or writes stays, and a new column may be null. What is to go is taken away by a later release, whose
migration raises `oldest` in the table `sts_trio_schema`.
"""
