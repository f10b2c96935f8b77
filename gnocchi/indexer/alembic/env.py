"""Run the migrations on the connection that ``Database.upgrade`` hands over.

The caller has begun the transaction (where the database has transactions around DDL), holds the
lock against a second upgrade, and commits.
"""

from __future__ import annotations

from alembic import context

from gnocchi.indexer import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.metadata,
    version_table=context.config.attributes["version_table"],
    transactional_ddl=context.config.attributes["transactional"],
)
with context.begin_transaction():
    context.run_migrations()
