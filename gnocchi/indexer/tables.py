"""The schema as it is today. How it came about is in ``alembic/versions``; a test compares both.

Times are nanoseconds (those of resources: microseconds) and hashes unsigned 32-bit numbers, all in
BIGINT columns. ``state`` holds numbers that only grow; a process whose copies carry the same number
is up to date:

* ``catalog``: sequence number of the newest change of ``segment``;
* ``deletions``: metrics deleted so far;
* ``links``: times that a metric lost its resource, or its name there, without being deleted;
* ``policies``: changes of archive policies and their rules;
* ``resource_types``: changes of resource types.

A row of ``segment`` is kept twice, as columns with a checksum and as the text ``copy`` with a
checksum of its own (see ``catalog``). Nothing here knows a query.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gnocchi.indexer.columns import Attributes, Id, Json, Name

# MySQL: tables of other engines have no transactions. PostgreSQL and SQLite ignore these.
OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}

CATALOG = "catalog"
DELETIONS = "deletions"
LINKS = "links"
POLICIES = "policies"
RESOURCE_TYPES = "resource_types"
SACKS = "sacks"
# followed by a number of sacks: measures may still wait under it
FORMER_SACKS = "former_"

# The resource type that always exists.
GENERIC = "generic"

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

archive_policy = sa.Table(
    "archive_policy",
    metadata,
    sa.Column("name", Name(), primary_key=True),
    sa.Column("back_window", sa.BigInteger, nullable=False),
    sa.Column("definition", Json, nullable=False),
    sa.Column("aggregation_methods", Json, nullable=False),
    sa.Column("changes", Json, nullable=False),
    **OPTIONS,
)

archive_policy_rule = sa.Table(
    "archive_policy_rule",
    metadata,
    sa.Column("name", Name(), primary_key=True),
    sa.Column("metric_pattern", Name(), nullable=False),
    sa.Column(
        "archive_policy_name",
        Name(),
        sa.ForeignKey(archive_policy.c.name, ondelete="RESTRICT"),
        nullable=False,
        index=True,
    ),
    **OPTIONS,
)

resource_type = sa.Table(
    "resource_type",
    metadata,
    sa.Column("name", Name(), primary_key=True),
    sa.Column("attributes", Json, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    **OPTIONS,
)


def _versioned() -> list[sa.Column[Any]]:
    """What a version of a resource has, beside its id and its type."""
    return [
        sa.Column("creator", Name()),
        # The part of the creator behind its first colon: what tenants are told apart by.
        sa.Column("creator_project", Name()),
        sa.Column("original_resource_id", Name(289), nullable=False),
        sa.Column("user_id", Name()),
        sa.Column("project_id", Name()),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("revision_start", sa.BigInteger, nullable=False),
        sa.Column("attributes", Attributes, nullable=False),
    ]


# Pages are ordered by (revision_start, started_at, id) unless somebody asks for another order.
resource = sa.Table(
    "resource",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column(
        "type",
        Name(),
        sa.ForeignKey(resource_type.c.name, ondelete="RESTRICT"),
        nullable=False,
    ),
    *_versioned(),
    sa.Index(None, "revision_start", "started_at", "id"),
    sa.Index(None, "type", "revision_start", "started_at", "id"),
    sa.Index(None, "project_id", "revision_start"),
    sa.Index(None, "creator", "revision_start"),
    sa.Index(None, "creator_project", "revision_start"),
    sa.Index(None, "original_resource_id"),
    sa.Index(None, "started_at"),
    sa.Index(None, "ended_at"),
    **OPTIONS,
)

# What resources were before they changed; the last version of a resource is not here.
resource_history = sa.Table(
    "resource_history",
    metadata,
    sa.Column(
        "revision",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("id", Id, sa.ForeignKey(resource.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("type", Name(), nullable=False),
    sa.Column("revision_end", sa.BigInteger, nullable=False),
    *_versioned(),
    sa.Index(None, "id", "revision_start"),
    sa.Index(None, "revision_start", "started_at", "id", "revision"),
    sa.Index(None, "type", "revision_start", "started_at", "id", "revision"),
    sa.Index(None, "project_id", "revision_start"),
    sa.Index(None, "creator_project", "revision_start"),
    # numbers of revisions are never used again
    sqlite_autoincrement=True,
    **OPTIONS,
)

for _table in (resource, resource_history):
    # Finds an attribute of any name by its value; the others have nothing of the kind.
    sa.Index(
        None,
        _table.c.attributes,
        postgresql_using="gin",
        postgresql_ops={"attributes": "jsonb_path_ops"},
    ).ddl_if(dialect="postgresql")

# The id follows in the indexes because pages of a filtered listing are ordered by it.
metric = sa.Table(
    "metric",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column(
        "archive_policy_name",
        Name(),
        sa.ForeignKey(archive_policy.c.name, ondelete="RESTRICT"),
        nullable=False,
    ),
    sa.Column("creator", Name()),
    sa.Column("creator_project", Name()),
    sa.Column("resource_id", Id, sa.ForeignKey(resource.c.id, ondelete="RESTRICT")),
    sa.Column("name", Name()),
    sa.Column("unit", Name(31)),
    sa.Column("status", sa.String(6), nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("resource_id", "name"),
    sa.Index(None, "archive_policy_name", "id"),
    sa.Index(None, "creator", "id"),
    sa.Index(None, "creator_project", "id"),
    sa.Index(None, "name", "id"),
    sa.Index(None, "status", "id"),
    **OPTIONS,
)

state = sa.Table(
    "state",
    metadata,
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
    **OPTIONS,
)

sack = sa.Table(
    "sack",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("accepted", sa.BigInteger, nullable=False),
    sa.Column("too_old", sa.BigInteger, nullable=False),
    sa.Column("unknown", sa.BigInteger, nullable=False),
    sa.Column("not_a_number", sa.BigInteger, nullable=False),
    **OPTIONS,
)

segment = sa.Table(
    "segment",
    metadata,
    sa.Column("name", Name(64), primary_key=True),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("low", sa.BigInteger, nullable=False),
    sa.Column("high", sa.BigInteger, nullable=False),
    sa.Column("start", sa.BigInteger, nullable=False),
    sa.Column("stop", sa.BigInteger, nullable=False),
    sa.Column("rows_", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("tail", sa.BigInteger, nullable=False),
    sa.Column("tail_crc", sa.BigInteger, nullable=False),
    sa.Column("deletions", sa.BigInteger, nullable=False),
    sa.Column("crc", sa.BigInteger, nullable=False),
    sa.Column("copy", sa.Text, nullable=False),
    **OPTIONS,
)

# Objects that are not live any more, until their grace time is over.
retired = sa.Table(
    "retired",
    metadata,
    sa.Column("name", Name(64), primary_key=True),
    sa.Column("retired_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("catalog", sa.BigInteger, nullable=False),
    **OPTIONS,
)

# Objects that did not match their checksum. They stay where they are, or were set aside.
damage = sa.Table(
    "damage",
    metadata,
    sa.Column("name", Name(255), primary_key=True),
    sa.Column("reason", Name(255), nullable=False),
    sa.Column("found_at", sa.BigInteger, nullable=False),
    **OPTIONS,
)
