"""Metrics as rows.

Invariants: a metric that was deleted is gone for every function here but ``deleted`` and
``expunge`` (and a listing that asks for it); deleting moves ``state.deletions`` in the same
transaction; whatever takes many ids needs a number of statements that does not grow with them
(one for each 10,000).

A metric that belongs to a resource keeps it from being deleted by anything but ``resources``;
moving metrics from one to another is in ``attachments``.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer import conflicts, listing, many, policies, tables, versions
from gnocchi.indexer.columns import storable
from gnocchi.indexer.failures import Failure
from gnocchi.model import ACTIVE, DELETED, Metric, project_of
from gnocchi.resource_type import GENERIC

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gnocchi.indexer.database import Database
    from gnocchi.model import Resource

_metrics = tables.metric
_resources = tables.resource

# Everything a listing can be sorted by or filtered on.
_LISTED = {
    name: _metrics.c[name]
    for name in (
        "id", "name", "unit", "creator", "archive_policy_name", "resource_id", "status",
    )
}  # fmt: skip

SELECT = sa.select(*_LISTED.values(), policies.VERSION)
"""What ``fetch`` reads, for conditions and joins."""

WIDTH = len(_LISTED) + 1
"""How many columns of a row are those of ``SELECT``."""


@dataclass(frozen=True, slots=True)
class Visibility:
    """What a listing may show: whatever fulfils one of the conditions.

    Attributes:
        creator_project: the part of its creator behind the first colon is this.
        resource_project: its resource belongs to this project.
    """

    creator_project: str | None = None
    resource_project: str | None = None


# ------------------------------------------------------------------ writing


def create(db: Database, metric: Metric) -> None:
    """Store a new metric.

    Raises: as ``create_many``.
    """
    create_many(db, [metric])


def create_many(db: Database, metrics: Iterable[Metric]) -> None:
    """Store new metrics, all of them or none.

    Raises:
        errors.NoSuchArchivePolicy: the policy of one does not exist (any more).
        errors.NoSuchResource: the resource of one does not exist.
        errors.NamedMetricAlreadyExists: the resource of one has a metric of that name.
        errors.Invalid: a name, unit or creator cannot be stored.
    """
    wanted = list(metrics)
    if not wanted:
        return
    now = time.time_ns()
    rows = [_to_row(metric, now) for metric in wanted]
    conflicts.run(
        db,
        lambda connection: connection.execute(_metrics.insert(), rows),
        lambda failure: (_missing if failure is Failure.FOREIGN_KEY else _taken)(db, wanted),
    )


def delete(db: Database, metric_id: UUID) -> None:
    """Delete a metric: from the commit on nobody sees it, and its resource has lost it.

    Its rows in the segments go with the next compactions, its identity with ``expunge``.

    Raises:
        errors.NoSuchMetric: there is none, or it has been deleted before.
    """

    def work(connection: sa.Connection) -> None:
        done = connection.execute(
            _metrics.update()
            .where(_metrics.c.id == metric_id, _metrics.c.status == ACTIVE)
            .values(status=DELETED, resource_id=None)
        )
        if done.rowcount == 0:
            raise errors.NoSuchMetric(metric_id)
        connection.execute(
            tables.state.update()
            .where(tables.state.c.name == tables.DELETIONS)
            .values(value=tables.state.c.value + 1)
        )

    db.run(work)


def deleted(db: Database, limit: int) -> list[UUID]:
    """Return up to ``limit`` metrics that have been deleted and not yet expunged."""
    with db.read() as connection:
        return list(
            connection.execute(
                sa.select(_metrics.c.id)
                .where(_metrics.c.status == DELETED)
                .order_by(_metrics.c.id)
                .limit(limit)
            ).scalars()
        )


def expunge(db: Database, ids: Iterable[UUID]) -> None:
    """Forget deleted metrics for good; ids of others are left alone."""
    wanted = list(ids)

    def work(connection: sa.Connection) -> None:
        for chunk in many.chunks(wanted):
            connection.execute(
                _metrics.delete().where(
                    many.one_of(db, _metrics.c.id, chunk),
                    _metrics.c.status == DELETED,
                )
            )

    if wanted:
        db.run(work)


def _to_row(metric: Metric, now: int) -> dict[str, Any]:
    for text in (metric.name, metric.unit, metric.creator):
        if not storable(text):
            raise errors.Invalid(f"{text!r} contains characters that cannot be stored")
    return {
        "id": metric.id,
        "archive_policy_name": metric.archive_policy.name,
        "creator": metric.creator,
        "creator_project": project_of(metric.creator),
        "resource_id": metric.resource_id,
        "name": metric.name,
        "unit": metric.unit,
        "status": metric.status,
        "created_at": now,
    }


def _taken(db: Database, wanted: list[Metric]) -> Exception | None:
    """Find out which resource has a metric of that name."""
    with db.read() as connection:
        taken = set[tuple[UUID, str]]()
        resources = {m.resource_id for m in wanted if m.resource_id is not None}
        for chunk in many.chunks(sorted(resources)):
            rows = connection.execute(
                sa.select(_metrics.c.resource_id, _metrics.c.name).where(
                    many.one_of(db, _metrics.c.resource_id, chunk), _metrics.c.name.is_not(None)
                )
            )
            taken.update((row.resource_id, row.name) for row in rows)
    for metric in wanted:
        if metric.resource_id is not None and metric.name is not None:
            key = metric.resource_id, metric.name
            if key in taken:
                return errors.NamedMetricAlreadyExists(metric.name)
            taken.add(key)
    return None


def _missing(db: Database, wanted: list[Metric]) -> Exception | None:
    """Find out which policy or resource there is not."""
    policy = policies.missing(db, (metric.archive_policy.name for metric in wanted))
    if policy is not None:
        return policy
    named = list({m.resource_id for m in wanted if m.resource_id is not None})
    with db.read() as connection:
        for chunk in many.chunks(named):
            query = sa.select(_resources.c.id).where(many.one_of(db, _resources.c.id, chunk))
            found = set(connection.execute(query).scalars())
            for resource_id in chunk:
                if resource_id not in found:
                    return errors.NoSuchResource(resource_id)
    return None


# ------------------------------------------------------------------ reading


def get(db: Database, metric_id: UUID) -> Metric:
    """Return an active metric.

    Raises:
        errors.NoSuchMetric: there is none, or it has been deleted.
    """
    with db.read() as connection:
        found = fetch(
            db, connection, SELECT.where(_metrics.c.id == metric_id, _metrics.c.status == ACTIVE)
        )
    if not found:
        raise errors.NoSuchMetric(metric_id)
    return found[0]


def get_with_resource(db: Database, metric_id: UUID) -> tuple[Metric, Resource | None]:
    """Return an active metric and what it belongs to, as generic and without metrics.

    Raises:
        errors.NoSuchMetric: there is none, or it has been deleted.
    """
    source = versions.current(db, GENERIC)
    query = (
        SELECT.add_columns(*versions.columns(source, attributes=False))
        .select_from(_metrics.outerjoin(_resources, _resources.c.id == _metrics.c.resource_id))
        .where(_metrics.c.id == metric_id, _metrics.c.status == ACTIVE)
    )
    with db.read() as connection:
        row = connection.execute(query).one_or_none()
        found = [] if row is None else from_rows(db, connection, [row])
    if row is None or not found:
        raise errors.NoSuchMetric(metric_id)
    resource = row[WIDTH:]
    return found[0], None if resource[0] is None else versions.resource(resource, ())


def get_many(db: Database, ids: Iterable[UUID]) -> list[Metric]:
    """Return those of the metrics that are active, each once, in the order they were given."""
    wanted = list(dict.fromkeys(ids))
    found: dict[UUID, Metric] = {}
    with db.read() as connection:
        for chunk in many.chunks(wanted):
            query = SELECT.where(many.one_of(db, _metrics.c.id, chunk))
            for metric in fetch(db, connection, query):
                if metric.status == ACTIVE:
                    found[metric.id] = metric
    return [found[metric_id] for metric_id in wanted if metric_id in found]


def list_(
    db: Database,
    *,
    filters: Mapping[str, Any],
    visible: Visibility | None = None,
    limit: int,
    marker: UUID | None = None,
    sorts: Sequence[tuple[str, str]] = (),
) -> list[Metric]:
    """Return one page of the metrics that fulfil all filters.

    One statement for the page; one more, by primary key, for the marker; one more when archive
    policies have changed since the last call.

    Args:
        filters: exact values by name: id and resource_id as UUID, the others as text, None for
            null. ``status`` is ``active`` unless given.
        visible: what may be shown at all; None shows everything.
        limit: rows of a page.
        marker: the last metric of the page before; this one starts after it.
        sorts: (key, direction) pairs; the id follows by itself. Keys are the names of the
            filters; nulls come last when ascending and first when descending, unless the
            direction says otherwise (``asc-nullsfirst``, …).

    Raises:
        errors.InvalidPagination: unknown marker, key or direction.
    """
    order = listing.orders(sorts, _LISTED, unique="id")
    conditions = [_matches(name, value) for name, value in filters.items()]
    if "status" not in filters:
        conditions.append(_metrics.c.status == ACTIVE)
    ways = _ways(visible)
    with db.read() as connection:
        if marker is not None:
            conditions.append(_after_marker(connection, order, marker, ways))
        parts = [_page(db, conditions, way, order, limit) for way in ways]
        if not parts:
            return []
        return fetch(
            db, connection, parts[0] if len(parts) == 1 else _merge(db, parts, order, limit)
        )


@dataclass(frozen=True, slots=True)
class _Way:
    """A condition by which metrics are seen, and whether few are, as far as one can tell."""

    condition: sa.ColumnElement[bool]
    selective: bool = False


def _ways(visible: Visibility | None) -> list[_Way]:
    """Return the conditions one of which must be fulfilled; a metric fulfils one at the most.

    Each on its own can be answered from an index, and both at once cannot.
    """
    if visible is None:
        return [_Way(sa.true())]
    ways: list[_Way] = []
    creator, owner = visible.creator_project, visible.resource_project
    # A text that cannot be stored is that of no row, and some drivers refuse to ask.
    if creator is not None and storable(creator):
        ways.append(_Way(_metrics.c.creator_project == creator))
    if owner is not None and storable(owner):
        owned = sa.select(_resources.c.id).where(_resources.c.project_id == owner)
        belongs: sa.ColumnElement[bool] = _metrics.c.resource_id.in_(owned)
        others = _metrics.c.creator_project.is_distinct_from(creator)
        ways.append(_Way(sa.and_(belongs, others) if ways else belongs, selective=True))
    return ways


def _page(
    db: Database,
    conditions: Sequence[sa.ColumnElement[bool]],
    way: _Way,
    order: Sequence[listing.Order],
    limit: int,
) -> sa.Select[Any]:
    """Return the first rows of what is seen by one way."""
    chosen = SELECT.where(*conditions, way.condition)
    if way.selective and db.postgresql:
        # PostgreSQL would rather read all metrics in order until it has met enough of the few:
        # 1.1 s instead of 26 ms for one project of a hundred. An offset keeps it from mixing the
        # order into the condition. A project that owns half of 500,000 pays 0.2 s for it.
        inner = chosen.offset(0).subquery()
        order = _within(inner, order)
        chosen = sa.select(inner)
    return chosen.order_by(*listing.order_by(order, db.dialect)).limit(limit)


def _merge(
    db: Database, parts: Sequence[sa.Select[Any]], order: Sequence[listing.Order], limit: int
) -> sa.Select[Any]:
    """Return the first rows of several pages of the same order."""
    # SQLite orders and cuts the whole of a union only, so each part is a subquery.
    merged = sa.union_all(*(sa.select(part.subquery()) for part in parts)).subquery()
    by = listing.order_by(_within(merged, order), db.dialect)
    return sa.select(merged).order_by(*by).limit(limit)


def _within(rows: sa.Subquery, order: Sequence[listing.Order]) -> list[listing.Order]:
    return [replace(part, column=rows.c[str(part.column.key)]) for part in order]


def identities(db: Database, ids: Sequence[bytes]) -> dict[bytes, tuple[str | None, str]]:
    """Return creator and archive policy name of those metrics that are active.

    Args:
        ids: UUIDs as 16 bytes each.
    """
    found: dict[bytes, tuple[str | None, str]] = {}
    unhex = bytes.fromhex
    with db.read() as connection:
        for chunk in many.chunks(ids):
            rows = _identity_rows(db, connection, [metric_id.hex() for metric_id in chunk])
            for digits, creator, policy, status in rows:
                if status == ACTIVE:
                    found[unhex(digits)] = (creator, policy)
    return found


def _identity_rows(db: Database, connection: sa.Connection, ids: list[str]) -> Any:
    """Run the look-up of thousands of ids without building an expression of thousands of terms."""
    digits = "REPLACE(CAST(id AS text), '-', '')" if db.postgresql else "id"
    select = f"SELECT {digits}, creator, archive_policy_name, status FROM metric WHERE id "  # noqa: S608
    if db.sqlite:
        return connection.exec_driver_sql(
            select + "IN (SELECT value FROM json_each(?))",  # noqa: S608
            (json.dumps(ids),),
        )
    if db.postgresql:
        return connection.exec_driver_sql(
            select + "= ANY (CAST(%(ids)s AS uuid[]))", {"ids": "{" + ",".join(ids) + "}"}
        )
    # Hexadecimal digits need no quoting, which is most of the driver's work otherwise.
    return connection.exec_driver_sql(select + "IN ('" + "','".join(ids) + "')")


def _matches(name: str, value: Any) -> sa.ColumnElement[bool]:
    column = _LISTED[name]
    if value is None:
        return column.is_(None)
    if isinstance(value, str) and not storable(value):
        return sa.false()  # no row can have it, and some drivers refuse to ask
    matches: sa.ColumnElement[bool] = column == value
    return matches


def _after_marker(
    connection: sa.Connection,
    order: Sequence[listing.Order],
    marker: UUID,
    ways: Sequence[_Way],
) -> sa.ColumnElement[bool]:
    # A marker that may not be seen is as good as none: its place would tell its values.
    row = connection.execute(
        sa.select(*(part.column for part in order)).where(
            _metrics.c.id == marker, sa.or_(sa.false(), *(way.condition for way in ways))
        )
    ).one_or_none()
    if row is None:
        raise errors.InvalidPagination(f"Invalid marker: `{marker}'")
    return listing.after(order, list(row))


def fetch(db: Database, connection: sa.Connection, query: sa.Select[Any]) -> list[Metric]:
    """Return the metrics that a query on ``SELECT`` finds."""
    return from_rows(db, connection, connection.execute(query).all())


def from_rows(db: Database, connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[Metric]:
    """Make values of the rows of a query on ``SELECT``; what else is in them is ignored."""
    if not rows:
        return []
    known = policies.cached(db, connection, rows[0].policies_version)
    # A policy that is missing was deleted since, which takes that the metric was expunged.
    return [
        Metric(metric_id, known[policy], creator, name, unit, resource_id, status)
        for metric_id, name, unit, creator, policy, resource_id, status in (
            row[: WIDTH - 1] for row in rows
        )
        if policy in known
    ]
