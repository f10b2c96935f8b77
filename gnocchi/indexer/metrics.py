"""Metrics as rows.

Invariants: a metric that was deleted is gone for every function here but ``deleted`` and
``expunge`` (and a listing that asks for it); deleting moves ``state.deletions`` in the same
transaction; whatever takes many ids needs a number of statements that does not grow with them
(one for each 10,000).

Resources are not known here yet: ``resource_id`` is a plain value that nothing refers to.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer import listing, policies, tables
from gnocchi.indexer.columns import storable
from gnocchi.indexer.failures import Failure, classify
from gnocchi.model import ACTIVE, DELETED, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gnocchi.indexer.database import Database

_metrics = tables.metric

_CHUNK = 10_000

# Everything a listing can be sorted by or filtered on.
_LISTED = {
    name: _metrics.c[name]
    for name in (
        "id", "name", "unit", "creator", "archive_policy_name", "resource_id", "status",
    )
}  # fmt: skip

_SELECT = sa.select(*_LISTED.values(), policies.VERSION)


@dataclass(frozen=True, slots=True)
class Visibility:
    """What a listing may show: whatever fulfils one of the conditions.

    Attributes:
        creator_suffix: the creator of the metric ends with this text.
        resource_project: the resource of the metric belongs to this project. There are no
            resources yet, so this lets nothing through.
    """

    creator_suffix: str | None = None
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
        errors.NamedMetricAlreadyExists: the resource of one has a metric of that name.
        errors.Invalid: a name, unit or creator cannot be stored.
    """
    wanted = list(metrics)
    if not wanted:
        return
    now = time.time_ns()
    rows = [_to_row(metric, now) for metric in wanted]
    try:
        db.run(lambda connection: connection.execute(_metrics.insert(), rows))
    except sa.exc.IntegrityError as error:
        raise _explain(db, wanted, error) from error


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
        for chunk in _chunks(wanted):
            connection.execute(
                _metrics.delete().where(
                    _is_one_of(db, chunk),
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
        "resource_id": metric.resource_id,
        "name": metric.name,
        "unit": metric.unit,
        "status": metric.status,
        "created_at": now,
    }


def _explain(db: Database, wanted: list[Metric], error: sa.exc.IntegrityError) -> Exception:
    """Find out which of the metrics broke a constraint."""
    if classify(error) is Failure.FOREIGN_KEY:
        existing = {policy.name for policy in policies.all(db)}
        for metric in wanted:
            if metric.archive_policy.name not in existing:
                return errors.NoSuchArchivePolicy(metric.archive_policy.name)
        return error
    with db.read() as connection:
        taken = set[tuple[UUID, str]]()
        resources = {m.resource_id for m in wanted if m.resource_id is not None}
        for chunk in _chunks(sorted(resources)):
            rows = connection.execute(
                sa.select(_metrics.c.resource_id, _metrics.c.name).where(
                    _metrics.c.resource_id.in_(chunk), _metrics.c.name.is_not(None)
                )
            )
            taken.update((row.resource_id, row.name) for row in rows)
    for metric in wanted:
        if metric.resource_id is not None and metric.name is not None:
            key = metric.resource_id, metric.name
            if key in taken:
                return errors.NamedMetricAlreadyExists(metric.name)
            taken.add(key)
    return error


# ------------------------------------------------------------------ reading


def get(db: Database, metric_id: UUID) -> Metric:
    """Return an active metric.

    Raises:
        errors.NoSuchMetric: there is none, or it has been deleted.
    """
    with db.read() as connection:
        found = _fetch(
            db, connection, _SELECT.where(_metrics.c.id == metric_id, _metrics.c.status == ACTIVE)
        )
    if not found:
        raise errors.NoSuchMetric(metric_id)
    return found[0]


def get_many(db: Database, ids: Iterable[UUID]) -> list[Metric]:
    """Return those of the metrics that are active, each once, in the order they were given."""
    wanted = list(dict.fromkeys(ids))
    found: dict[UUID, Metric] = {}
    with db.read() as connection:
        for chunk in _chunks(wanted):
            query = _SELECT.where(_is_one_of(db, chunk))
            for metric in _fetch(db, connection, query):
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
    seen = sa.true() if visible is None else _is_visible(db, visible)
    with db.read() as connection:
        if marker is not None:
            conditions.append(_after_marker(connection, order, marker, seen))
        query = (
            _SELECT.where(*conditions, seen)
            .order_by(*listing.order_by(order, db.dialect))
            .limit(limit)
        )
        return _fetch(db, connection, query)


def identities(db: Database, ids: Sequence[bytes]) -> dict[bytes, tuple[str | None, str]]:
    """Return creator and archive policy name of those metrics that are active.

    Args:
        ids: UUIDs as 16 bytes each.
    """
    found: dict[bytes, tuple[str | None, str]] = {}
    unhex = bytes.fromhex
    with db.read() as connection:
        for chunk in _chunks(ids):
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


def _is_one_of(db: Database, chunk: Sequence[UUID]) -> sa.ColumnElement[bool]:
    """Match any of these ids, which are one parameter where the database can do that."""
    ids = [metric_id.hex for metric_id in chunk]
    if db.sqlite:
        every = sa.func.json_each(json.dumps(ids)).table_valued("value")
        return sa.type_coerce(_metrics.c.id, sa.String).in_(sa.select(every.c.value))
    if db.postgresql:
        array = sa.cast(sa.literal("{" + ",".join(ids) + "}", sa.String), sa.ARRAY(sa.Uuid))
        return sa.type_coerce(_metrics.c.id, sa.Uuid) == sa.any_(array)
    return sa.type_coerce(_metrics.c.id, sa.String).in_(ids)


def _matches(name: str, value: Any) -> sa.ColumnElement[bool]:
    column = _LISTED[name]
    if value is None:
        return column.is_(None)
    if isinstance(value, str) and not storable(value):
        return sa.false()  # no row can have it, and some drivers refuse to ask
    matches: sa.ColumnElement[bool] = column == value
    return matches


def _is_visible(db: Database, visible: Visibility) -> sa.ColumnElement[bool]:
    # No LIKE: wildcards need no quoting then, and SQLite's ignores case.
    suffix = visible.creator_suffix
    if suffix is None or not storable(suffix):
        return sa.false()
    creator = _metrics.c.creator
    end: sa.ColumnElement[str] = (
        sa.func.substr(creator, -len(suffix), type_=sa.String)
        if db.sqlite
        else sa.func.right(creator, len(suffix), type_=sa.String)
    )
    return end == suffix


def _after_marker(
    connection: sa.Connection,
    order: Sequence[listing.Order],
    marker: UUID,
    seen: sa.ColumnElement[bool],
) -> sa.ColumnElement[bool]:
    # A marker that may not be seen is as good as none: its place would tell its values.
    row = connection.execute(
        sa.select(*(part.column for part in order)).where(_metrics.c.id == marker, seen)
    ).one_or_none()
    if row is None:
        raise errors.InvalidPagination(f"Invalid marker: `{marker}'")
    return listing.after(order, list(row))


def _fetch(db: Database, connection: sa.Connection, query: sa.Select[Any]) -> list[Metric]:
    rows = connection.execute(query).all()
    if not rows:
        return []
    known = policies.cached(db, connection, rows[0].policies_version)
    # A policy that is missing was deleted since, which takes that the metric was expunged.
    return [
        Metric(metric_id, known[policy], creator, name, unit, resource_id, status)
        for metric_id, name, unit, creator, policy, resource_id, status, _version in rows
        if policy in known
    ]


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
