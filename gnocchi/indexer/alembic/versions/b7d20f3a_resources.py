"""Resource types, resources and their history; metrics refer to resources."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from alembic import op

from gnocchi.indexer.columns import MYSQL, Attributes, Id, Json, Name

revision = "b7d20f3a"
down_revision = "a1c40e52"
branch_labels = None
depends_on = None

_KEY = "fk_metric_resource_id_resource"
_INDEX = "ix_metric_creator_project_id"

OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}


def upgrade() -> None:
    """Add resources to a database that has metrics only."""
    if op.get_context().dialect.name in MYSQL:
        _drop_leftovers()
    _add_state()
    _create_resource_types()
    _create_resources()
    _create_history()
    _attach_metrics()


def _drop_leftovers() -> None:
    """Clear what was made by an upgrade to this version that was killed half-way.

    Changes of tables cannot be rolled back there. Nobody can have stored anything in them: the
    version is written last, and until then ``check`` keeps every process out.
    """
    inspector = sa.inspect(op.get_bind())
    there = set(inspector.get_table_names())
    if any(key["name"] == _KEY for key in inspector.get_foreign_keys("metric")):
        op.drop_constraint(_KEY, "metric", type_="foreignkey")
    if any(index["name"] == _INDEX for index in inspector.get_indexes("metric")):
        op.drop_index(_INDEX, "metric")
    if any(column["name"] == "creator_project" for column in inspector.get_columns("metric")):
        op.drop_column("metric", "creator_project")
    for name in ("resource_history", "resource", "resource_type"):
        if name in there:
            op.drop_table(name)
    state = sa.table("state", sa.column("name"))
    op.execute(sa.delete(state).where(state.c.name.in_(["links", "resource_types"])))


def _add_state() -> None:
    state = sa.table("state", sa.column("name"), sa.column("value"))
    op.bulk_insert(state, [{"name": name, "value": 0} for name in ("links", "resource_types")])


def _create_resource_types() -> None:
    table = op.create_table(
        "resource_type",
        sa.Column("name", Name(), nullable=False),
        sa.Column("attributes", Json, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_resource_type"),
        **OPTIONS,
    )
    op.bulk_insert(
        table,
        [{"name": "generic", "attributes": {}, "state": "active", "updated_at": time.time_ns()}],
    )


def _versioned() -> list[sa.Column[Any]]:
    return [
        sa.Column("creator", Name()),
        sa.Column("creator_project", Name()),
        sa.Column("original_resource_id", Name(289), nullable=False),
        sa.Column("user_id", Name()),
        sa.Column("project_id", Name()),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("revision_start", sa.BigInteger, nullable=False),
        sa.Column("attributes", Attributes, nullable=False),
    ]


def _create_resources() -> None:
    op.create_table(
        "resource",
        sa.Column("id", Id, nullable=False),
        sa.Column("type", Name(), nullable=False),
        *_versioned(),
        sa.PrimaryKeyConstraint("id", name="pk_resource"),
        sa.ForeignKeyConstraint(
            ["type"],
            ["resource_type.name"],
            name="fk_resource_type_resource_type",
            ondelete="RESTRICT",
        ),
        **OPTIONS,
    )
    _index(
        "resource",
        ["revision_start", "started_at", "id"],
        ["type", "revision_start", "started_at", "id"],
        ["project_id", "revision_start"],
        ["creator", "revision_start"],
        ["creator_project", "revision_start"],
        ["original_resource_id"],
        ["started_at"],
        ["ended_at"],
    )


def _create_history() -> None:
    op.create_table(
        "resource_history",
        sa.Column(
            "revision",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            autoincrement=True,
        ),
        sa.Column("id", Id, nullable=False),
        sa.Column("type", Name(), nullable=False),
        sa.Column("revision_end", sa.BigInteger, nullable=False),
        *_versioned(),
        sa.PrimaryKeyConstraint("revision", name="pk_resource_history"),
        sa.ForeignKeyConstraint(
            ["id"], ["resource.id"], name="fk_resource_history_id_resource", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
        **OPTIONS,
    )
    _index(
        "resource_history",
        ["id", "revision_start"],
        ["revision_start", "started_at", "id", "revision"],
        ["type", "revision_start", "started_at", "id", "revision"],
        ["project_id", "revision_start"],
        ["creator_project", "revision_start"],
    )


def _index(table: str, *indexes: list[str]) -> None:
    for columns in indexes:
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)
    if op.get_context().dialect.name == "postgresql":
        op.create_index(
            f"ix_{table}_attributes",
            table,
            ["attributes"],
            postgresql_using="gin",
            postgresql_ops={"attributes": "jsonb_path_ops"},
        )


def _attach_metrics() -> None:
    # Until now a metric could name a resource although there was none.
    metric = sa.table("metric", sa.column("resource_id"))
    op.execute(sa.update(metric).values(resource_id=None))
    with op.batch_alter_table("metric") as batch:
        batch.add_column(sa.Column("creator_project", Name()))
        batch.create_foreign_key(
            _KEY,
            "resource",
            ["resource_id"],
            ["id"],
            ondelete="RESTRICT",
        )
    op.create_index(_INDEX, "metric", ["creator_project", "id"])
    _fill_projects()


def _fill_projects() -> None:
    metric = sa.table("metric", sa.column("creator"), sa.column("creator_project"))
    find = sa.func.strpos if op.get_context().dialect.name == "postgresql" else sa.func.instr
    colon = find(metric.c.creator, ":")
    op.execute(
        sa.update(metric)
        .where(colon > 0)
        .values(creator_project=sa.func.substr(metric.c.creator, colon + 1))
    )
