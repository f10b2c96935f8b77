"""Attaching metrics to a resource, and detaching them, inside of a transaction.

Invariants: a metric of a resource has a name, and the resource no other metric of that name; rows
of metrics are locked in the order of their ids; when a metric loses its resource or its name
there, ``state.links`` moves in the same transaction (deleting moves ``state.deletions`` instead).

Callers hold a lock on the resource, so that it can neither vanish nor be changed by two at once.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer import many, tables
from gnocchi.indexer.columns import Id, storable
from gnocchi.model import ACTIVE, DELETED, project_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gnocchi.indexer.database import Database

_metrics = tables.metric
_state = tables.state


@dataclass(frozen=True, slots=True)
class NewMetric:
    """A metric to be made for a resource, under a name that is told beside it."""

    archive_policy_name: str
    unit: str | None = None
    id: UUID = field(default_factory=uuid.uuid4)


Wanted = UUID | NewMetric
"""What becomes a metric of a resource: one that exists, by id, or a new one."""


def to_row(
    metric: NewMetric, name: str, resource_id: UUID, creator: str | None, now: int
) -> dict[str, Any]:
    """Return a new metric as a row.

    Raises:
        errors.Invalid: a text cannot be stored.
    """
    for text in (name, metric.unit):
        if not storable(text):
            raise errors.Invalid(f"{text!r} contains characters that cannot be stored")
    return {
        "id": metric.id,
        "archive_policy_name": metric.archive_policy_name,
        "creator": creator,
        "creator_project": project_of(creator),
        "resource_id": resource_id,
        "name": name,
        "unit": metric.unit,
        "status": ACTIVE,
        "created_at": now,
    }


def attach(
    db: Database,
    connection: sa.Connection,
    resource_id: UUID,
    creator: str | None,
    wanted: Mapping[str, Wanted],
    *,
    replace: bool,
) -> None:
    """Attach metrics to a resource under new names.

    Args:
        creator: of the resource, and so of its new metrics.
        wanted: by name; those that exist may be attached elsewhere, and move.
        replace: detach all others.

    Raises:
        errors.NoSuchMetric: one does not exist, or somebody else created it.
        errors.NamedMetricAlreadyExists: without ``replace``, the name is that of another one.
        errors.Invalid: a name or unit cannot be stored.
    """
    now = time.time_ns()
    new = [
        to_row(metric, name, resource_id, creator, now)
        for name, metric in wanted.items()
        if isinstance(metric, NewMetric)
    ]
    names = {metric: name for name, metric in wanted.items() if isinstance(metric, UUID)}
    for name in names.values():
        if not storable(name):
            raise errors.Invalid(f"{name!r} contains characters that cannot be stored")
    rows = _lock(db, connection, resource_id, list(names))
    _check(rows, names, creator)
    current = [row for row in rows.values() if row.resource_id == resource_id]
    if not replace:
        _refuse_taken(current, wanted)

    moved = [
        metric_id
        for metric_id, name in names.items()
        if (rows[metric_id].resource_id, rows[metric_id].name) != (resource_id, name)
    ]
    detached = [row.id for row in current if row.id not in names] if replace else []
    lost = detached + [i for i in moved if rows[i].resource_id is not None]
    if lost:
        # first of all, so that names are free when others take them
        detach(db, connection, lost)
    if moved:
        connection.execute(
            _metrics.update()
            .where(many.one_of(db, _metrics.c.id, moved))
            .values(resource_id=resource_id, name=_by_id(names, moved))
        )
    if new:
        connection.execute(_metrics.insert(), new)
    if lost:
        bump(connection, tables.LINKS)


def _lock(
    db: Database, connection: sa.Connection, resource_id: UUID, ids: list[UUID]
) -> dict[UUID, sa.Row[Any]]:
    of_resource = _metrics.c.resource_id == resource_id
    query = (
        sa.select(
            _metrics.c.id,
            _metrics.c.name,
            _metrics.c.creator,
            _metrics.c.resource_id,
            _metrics.c.status,
        )
        .where(sa.or_(of_resource, many.one_of(db, _metrics.c.id, ids)) if ids else of_resource)
        .order_by(_metrics.c.id)
        .with_for_update(key_share=True)
    )
    rows: list[Any] = list(connection.execute(query))
    return {row.id: row for row in rows}


def _check(rows: Mapping[UUID, sa.Row[Any]], names: Iterable[UUID], creator: str | None) -> None:
    for metric_id in names:
        row = rows.get(metric_id)
        if row is None or row.status != ACTIVE or row.creator != creator:
            raise errors.NoSuchMetric(metric_id)


def _refuse_taken(current: Iterable[sa.Row[Any]], wanted: Mapping[str, Wanted]) -> None:
    holders = {row.name: row.id for row in current}
    for name, metric in wanted.items():
        if name in holders and holders[name] != metric:
            raise errors.NamedMetricAlreadyExists(name)


def _by_id(names: Mapping[UUID, str], ids: Sequence[UUID]) -> sa.ColumnElement[Any]:
    cases = [(sa.literal(i, Id), sa.literal(names[i], _metrics.c.name.type)) for i in ids]
    return sa.case(*((_metrics.c.id == key, name) for key, name in cases), else_=_metrics.c.name)


def detach(db: Database, connection: sa.Connection, ids: Sequence[UUID]) -> None:
    """Take metrics away from their resources; they keep their names."""
    connection.execute(
        _metrics.update().where(many.one_of(db, _metrics.c.id, ids)).values(resource_id=None)
    )


def mark_deleted(db: Database, connection: sa.Connection, resources: Sequence[UUID]) -> int:
    """Delete all metrics of resources, and return how many that were."""
    done = connection.execute(
        _metrics.update()
        .where(many.one_of(db, _metrics.c.resource_id, resources))
        .values(status=DELETED, resource_id=None)
    )
    return done.rowcount


def bump(connection: sa.Connection, name: str) -> None:
    """Move a number of the state; last of all, because others wait for it until the commit."""
    connection.execute(
        _state.update().where(_state.c.name == name).values(value=_state.c.value + 1)
    )
