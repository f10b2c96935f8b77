"""Archive policies, metrics, sacks and the catalog of segments."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from gnocchi.indexer.columns import Id, Json, Name

revision = "a1c40e52"
down_revision = None
branch_labels = None
depends_on = None

OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    """Create everything in an empty database."""
    _create_policies()
    _create_metrics()
    _create_catalog()


def _create_policies() -> None:
    op.create_table(
        "archive_policy",
        sa.Column("name", Name(), nullable=False),
        _number("back_window"),
        sa.Column("definition", Json, nullable=False),
        sa.Column("aggregation_methods", Json, nullable=False),
        sa.Column("changes", Json, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_archive_policy"),
        **OPTIONS,
    )
    op.create_table(
        "archive_policy_rule",
        sa.Column("name", Name(), nullable=False),
        sa.Column("metric_pattern", Name(), nullable=False),
        sa.Column("archive_policy_name", Name(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_archive_policy_rule"),
        sa.ForeignKeyConstraint(
            ["archive_policy_name"],
            ["archive_policy.name"],
            name="fk_archive_policy_rule_archive_policy_name_archive_policy",
            ondelete="RESTRICT",
        ),
        **OPTIONS,
    )
    op.create_index(
        "ix_archive_policy_rule_archive_policy_name",
        "archive_policy_rule",
        ["archive_policy_name"],
    )


def _create_metrics() -> None:
    op.create_table(
        "metric",
        sa.Column("id", Id, nullable=False),
        sa.Column("archive_policy_name", Name(), nullable=False),
        sa.Column("creator", Name()),
        sa.Column("resource_id", Id),
        sa.Column("name", Name()),
        sa.Column("unit", Name(31)),
        sa.Column("status", sa.String(6), nullable=False),
        _number("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_metric"),
        sa.UniqueConstraint("resource_id", "name", name="uq_metric_resource_id_name"),
        sa.ForeignKeyConstraint(
            ["archive_policy_name"],
            ["archive_policy.name"],
            name="fk_metric_archive_policy_name_archive_policy",
            ondelete="RESTRICT",
        ),
        **OPTIONS,
    )
    for column in ("archive_policy_name", "creator", "name", "status"):
        op.create_index(f"ix_metric_{column}_id", "metric", [column, "id"])


def _create_catalog() -> None:
    state = op.create_table(
        "state",
        sa.Column("name", sa.String(16), nullable=False),
        _number("value"),
        sa.PrimaryKeyConstraint("name", name="pk_state"),
        **OPTIONS,
    )
    op.bulk_insert(
        state, [{"name": name, "value": 0} for name in ("catalog", "deletions", "policies")]
    )
    op.create_table(
        "sack",
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        _number("generation"),
        _number("accepted"),
        _number("too_old"),
        _number("unknown"),
        _number("not_a_number"),
        sa.PrimaryKeyConstraint("number", name="pk_sack"),
        **OPTIONS,
    )
    op.create_table(
        "segment",
        sa.Column("name", Name(64), nullable=False),
        *(
            _number(name)
            for name in (
                "first",
                "last",
                "low",
                "high",
                "start",
                "stop",
                "rows_",
                "size",
                "tail",
                "tail_crc",
                "deletions",
                "crc",
            )
        ),
        sa.Column("copy", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_segment"),
        **OPTIONS,
    )
    op.create_table(
        "retired",
        sa.Column("name", Name(64), nullable=False),
        _number("retired_at"),
        _number("catalog"),
        sa.PrimaryKeyConstraint("name", name="pk_retired"),
        **OPTIONS,
    )
    op.create_index("ix_retired_retired_at", "retired", ["retired_at"])
    op.create_table(
        "damage",
        sa.Column("name", Name(255), nullable=False),
        sa.Column("reason", Name(255), nullable=False),
        _number("found_at"),
        sa.PrimaryKeyConstraint("name", name="pk_damage"),
        **OPTIONS,
    )
