"""Resources as rows: making, changing and deleting them.

Invariants:

* versions of a resource follow one another without gap or overlap: a version ends at the very
  microsecond the next one begins, and begins later than the one before, whatever the clock says;
* a version is written only when something other than the metrics differs;
* a deleted resource is gone with its history, and its metrics are deleted, in one transaction;
* locks are taken in one order: the type, resources by id, metrics by id, the state. What waits for
  each other all the same, the database ends, and ``Database.run`` repeats it.

Every call takes a fixed number of statements, however many metrics a resource has; deleting many
takes a fixed number for each 10,000. Reading pages is in ``resource_listing``.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer import (
    attachments,
    conflicts,
    many,
    policies,
    query,
    resource_types,
    tables,
    versions,
)
from gnocchi.indexer import metrics as metrics_
from gnocchi.indexer.attachments import NewMetric
from gnocchi.indexer.columns import storable
from gnocchi.indexer.failures import Failure
from gnocchi.indexer.query import Visibility
from gnocchi.indexer.resource_listing import history, list_
from gnocchi.model import ACTIVE
from gnocchi.resource_type import GENERIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from uuid import UUID

    from gnocchi import search
    from gnocchi.indexer.attachments import Wanted
    from gnocchi.indexer.database import Database
    from gnocchi.model import Metric, Resource
    from gnocchi.resource_type import ResourceType

__all__ = [
    "NewMetric", "Visibility", "add_metrics", "create", "delete", "delete_many", "get", "get_many",
    "history", "list_", "metric_named", "metrics_of", "update",
]  # fmt: skip

_resources = tables.resource
_history = tables.resource_history
_metrics = tables.metric

_CHANGEABLE = ("started_at", "ended_at", "user_id", "project_id")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


# ------------------------------------------------------------------ writing


def create(
    db: Database, resource: Resource, metrics: Mapping[str, Wanted] | None = None
) -> Resource:
    """Store a new resource with its metrics, and return it as it can be read from now on.

    Args:
        resource: its revision and metrics are ignored.
        metrics: by name, existing ones of the same creator or new ones.

    Raises:
        errors.NoSuchResourceType: there is none of that name.
        errors.ResourceTypeChanged: the type has not these attributes any more.
        errors.ResourceAlreadyExists: there is one of that id.
        errors.NoSuchMetric: an existing metric does not exist or has another creator.
        errors.NoSuchArchivePolicy: that of a new metric does not exist.
        errors.Invalid: a text cannot be stored, or it ends before it starts.
    """
    _refuse_unstorable(
        resource.creator, resource.user_id, resource.project_id, resource.original_resource_id
    )
    if resource.ended_at is not None and resource.ended_at < resource.started_at:
        raise errors.Invalid("Start timestamp cannot be after end timestamp")
    values = {k: _exact(v) for k, v in resource.attributes.items() if v is not None}
    row = versions.to_row(dataclasses.replace(resource, attributes=values))

    def work(connection: sa.Connection) -> Resource:
        kind = resource_types.fetch(connection, resource.type, share=True)
        _check_attributes(kind, values)
        if any(a.required and name not in values for name, a in kind.attributes.items()):
            raise errors.ResourceTypeChanged(kind.name)
        connection.execute(_resources.insert(), row)
        if metrics:
            attachments.attach(
                db, connection, resource.id, resource.creator, metrics, replace=False
            )
        return dataclasses.replace(
            resource,
            attributes={name: values.get(name) for name in kind.attributes},
            metrics=_ids(metrics or {}),
        )

    def explain(failure: Failure) -> Exception | None:
        if failure is Failure.FOREIGN_KEY:
            return _missing_policy(db, metrics or {})
        return errors.ResourceAlreadyExists(resource.id)

    return conflicts.run(db, work, explain)


def update(
    db: Database,
    resource_type: str,
    resource_id: UUID,
    changes: Mapping[str, Any],
    metrics: Mapping[str, Wanted] | None = None,
    *,
    check: Callable[[Resource], object] | None = None,
    now: int | None = None,
) -> Resource:
    """Change a resource, all or nothing, and return it.

    Args:
        resource_type: its own, or ``generic``, which has no attributes.
        changes: new values of fields and attributes by name, in stored form.
        metrics: replaces all its metrics, unless it is None.
        check: is called with the version that would be replaced, which nobody else changes any
            more; what it raises leaves everything as it was.
        now: microseconds since 1970; default the clock.

    Raises:
        errors.NoSuchResourceType, errors.NoSuchResource: there is none (of that type).
        errors.InvalidResourceAttribute: it would end before it starts.
        errors.Invalid: what is to be changed is no field of the type, or cannot be stored.
        errors.ResourceTypeChanged: the type has not these attributes any more.
        errors.NoSuchMetric, errors.NoSuchArchivePolicy: as ``create``.
    """
    _refuse_unstorable(*(value for value in changes.values() if isinstance(value, str)))
    fields = {name: value for name, value in changes.items() if name in _CHANGEABLE}
    values = {name: _exact(value) for name, value in changes.items() if name not in fields}
    when = time.time_ns() // 1000 if now is None else now

    def work(connection: sa.Connection) -> Resource:
        kind = resource_types.fetch(connection, resource_type, share=bool(values))
        _check_attributes(kind, values)
        old = _lock(db, connection, kind, resource_id)
        if check is not None:
            check(old)
        changed = _changed(old, fields, values, when)
        if changed is not old:
            _store(connection, old, changed)
        if metrics is not None:
            attachments.attach(db, connection, resource_id, old.creator, metrics, replace=True)
            return dataclasses.replace(changed, metrics=_ids(metrics))
        links = versions.links(db, connection, [resource_id])
        return dataclasses.replace(changed, metrics=links.get(resource_id, {}))

    # Metrics are also made without a lock on the resource. What came between is no explanation:
    # the next attempt sees it.
    return conflicts.run(db, work, lambda _failure: _missing_policy(db, metrics or {}))


def add_metrics(
    db: Database,
    resource_type: str,
    resource_id: UUID,
    metrics: Mapping[str, Wanted],
    *,
    checked: Resource | None = None,
) -> None:
    """Attach metrics to a resource beside those it has.

    Args:
        checked: the resource as the caller's rights were checked; one of its id that somebody else
            has made since is another.

    Raises:
        errors.NoSuchResource: there is none (of that type).
        errors.NamedMetricAlreadyExists: it has a metric of that name.
        errors.NoSuchMetric, errors.NoSuchArchivePolicy: as ``create``.
    """

    def work(connection: sa.Connection) -> None:
        row = connection.execute(
            sa.select(_resources.c.creator)
            .where(_resources.c.id == resource_id, _of_type(resource_type))
            .with_for_update(key_share=True)
        ).one_or_none()
        if row is None or (checked is not None and row.creator != checked.creator):
            raise errors.NoSuchResource(resource_id)
        attachments.attach(db, connection, resource_id, row.creator, metrics, replace=False)

    conflicts.run(db, work, lambda _failure: _missing_policy(db, metrics))


def delete(
    db: Database,
    resource_type: str,
    resource_id: UUID,
    *,
    check: Callable[[Resource], object] | None = None,
) -> None:
    """Delete a resource, its history and its metrics.

    Args:
        check: as for ``update``.

    Raises:
        errors.NoSuchResource: there is none (of that type).
    """

    def work(connection: sa.Connection) -> None:
        kind = resource_types.fetch(connection, resource_type)
        current = _lock(db, connection, kind, resource_id, to_delete=True)
        if check is not None:
            check(current)
        _remove(db, connection, [resource_id])

    db.run(work)


def delete_many(
    db: Database,
    resource_type: str,
    filter: search.Node,  # noqa: A002
    visible: Visibility | None = None,
) -> int:
    """Delete the resources of a type that a filter lets through, with all that belongs to them.

    Returns:
        How many that were.

    Raises:
        errors.NoSuchResourceType: there is none of that name.
        errors.Invalid: the filter does not fit.
    """

    def work(connection: sa.Connection) -> int:
        source = versions.current(db, resource_types.fetch(connection, resource_type))
        # A part at a time, so that memory does not grow with what is deleted.
        wanted = (
            sa.select(_resources.c.id)
            .where(
                versions.of_type(source),
                query.is_visible(source, visible),
                query.condition(filter, source),
            )
            .order_by(_resources.c.id)
            .limit(many.CHUNK)
            .with_for_update()
        )
        total = 0
        while True:
            ids = list(connection.execute(wanted).scalars())
            if ids:
                _remove(db, connection, ids)
            total += len(ids)
            if len(ids) < many.CHUNK:
                return total

    return db.run(work)


def _remove(db: Database, connection: sa.Connection, ids: list[UUID]) -> None:
    """Delete locked resources; their history goes with them by the foreign key."""
    deleted = attachments.mark_deleted(db, connection, ids)
    connection.execute(_resources.delete().where(many.one_of(db, _resources.c.id, ids)))
    if deleted:
        attachments.bump(connection, tables.DELETIONS)


# ------------------------------------------------------------------ steps of a change


def _lock(
    db: Database,
    connection: sa.Connection,
    kind: ResourceType,
    resource_id: UUID,
    *,
    to_delete: bool = False,
) -> Resource:
    """Return the current version, which nobody else changes until the commit.

    Args:
        to_delete: also keep others from attaching metrics to it.
    """
    source = versions.current(db, kind)
    row = connection.execute(
        sa.select(*versions.columns(source, attributes=bool(kind.attributes)))
        .where(_resources.c.id == resource_id, versions.of_type(source))
        .with_for_update(key_share=not to_delete)
    ).one_or_none()
    if row is None:
        raise errors.NoSuchResource(resource_id)
    return versions.resource(row, kind.attributes)


def _changed(
    old: Resource, fields: Mapping[str, Any], values: Mapping[str, Any], now: int
) -> Resource:
    """Return what becomes of a resource: ``old`` itself if nothing differs."""
    fields = {name: value for name, value in fields.items() if getattr(old, name) != value}
    attributes = {**old.attributes, **values}
    if not fields and attributes == old.attributes:
        return old
    new = dataclasses.replace(
        old,
        **fields,
        attributes=attributes,
        revision_start=max(now, old.revision_start + 1),
    )
    if new.ended_at is not None and new.ended_at < new.started_at:
        for name in ("ended_at", "started_at"):
            if name in fields:
                shown = _EPOCH + datetime.timedelta(microseconds=fields[name])
                raise errors.InvalidResourceAttribute(old.type, name, shown)
    return new


def _store(connection: sa.Connection, old: Resource, new: Resource) -> None:
    """Make a new version the current one; the one before goes to the history."""
    stored = [_resources.c[name] for name in versions.STORED]
    connection.execute(
        _history.insert().from_select(
            [*versions.STORED, "revision_end"],
            sa.select(*stored, sa.literal(new.revision_start, sa.BigInteger)).where(
                _resources.c.id == new.id
            ),
        )
    )
    row = versions.to_row(new)
    names = [*_CHANGEABLE, "revision_start"]
    if new.attributes != old.attributes:
        names.append("attributes")
    connection.execute(
        _resources.update()
        .where(_resources.c.id == new.id)
        .values({name: row[name] for name in names})
    )


def _check_attributes(kind: ResourceType, values: Mapping[str, Any]) -> None:
    """Make sure that the type still has these attributes, and that they hold such values."""
    for name, value in values.items():
        attribute = kind.attributes.get(name)
        if attribute is None:
            raise errors.Invalid(f"Resource type {kind.name} has no {name} attribute")
        expected = (int, float) if attribute.STORED is float else attribute.STORED
        fits = isinstance(value, expected) and isinstance(value, bool) == (expected is bool)
        if value is not None and not fits:
            raise errors.ResourceTypeChanged(kind.name)


def _exact(value: Any) -> Any:
    """Return a number as every database gives it back: they do not write whole ones as floats."""
    if isinstance(value, float):
        if value == 0:
            return 0.0  # never -0.0
        if value.is_integer() and 1e16 <= abs(value) < 2**63:
            return int(value)
    return value


def _refuse_unstorable(*texts: str | None) -> None:
    for text in texts:
        if not storable(text):
            raise errors.Invalid(f"{text!r} contains characters that cannot be stored")


def _of_type(resource_type: str) -> sa.ColumnElement[bool]:
    return sa.true() if resource_type == tables.GENERIC else _resources.c.type == resource_type


def _ids(metrics: Mapping[str, Wanted]) -> dict[str, UUID]:
    """Return the metrics of a resource that has just these; of two names of one, the last."""
    ids = {n: m.id if isinstance(m, NewMetric) else m for n, m in metrics.items()}
    names = {metric_id: name for name, metric_id in ids.items()}
    return {name: ids[name] for name in sorted(names.values())}


def _missing_policy(db: Database, metrics: Mapping[str, Wanted]) -> Exception | None:
    names = (m.archive_policy_name for m in metrics.values() if isinstance(m, NewMetric))
    return policies.missing(db, names)


# ------------------------------------------------------------------ reading


def get(db: Database, resource_type: str, resource_id: UUID) -> Resource:
    """Return a resource with its metrics.

    Raises:
        errors.NoSuchResource: there is none (of that type).
    """
    source = versions.current(db, GENERIC)
    query_ = (
        sa.select(
            *versions.columns(source, attributes=resource_type != tables.GENERIC),
            resource_types.VERSION,
            _metrics.c.name,
            _metrics.c.id,
        )
        .select_from(_resources.outerjoin(_metrics, _metrics.c.resource_id == _resources.c.id))
        .where(_resources.c.id == resource_id, _of_type(resource_type))
        .order_by(_metrics.c.name)
    )
    with db.read() as connection:
        rows = connection.execute(query_).all()
        if not rows:
            raise errors.NoSuchResource(resource_id)
        links = {row[-2]: row[-1] for row in rows if row[-1] is not None}
        [found] = versions.resources(
            db, connection, rows[:1], version=rows[0].types_version, links={resource_id: links}
        )
    return found


def get_many(db: Database, ids: Iterable[UUID]) -> list[Resource]:
    """Return those of the resources that exist, each once, as generic and without metrics."""
    wanted = list(dict.fromkeys(ids))
    source = versions.current(db, GENERIC)
    found: dict[UUID, Resource] = {}
    with db.read() as connection:
        for chunk in many.chunks(wanted):
            query_ = sa.select(*versions.columns(source, attributes=False))
            rows = connection.execute(query_.where(many.one_of(db, _resources.c.id, chunk)))
            for row in rows:
                found[row[0]] = versions.resource(row, {})
    return [found[i] for i in wanted if i in found]


def metric_named(db: Database, resource_type: str, resource_id: UUID, name: str) -> Metric:
    """Return the metric that a resource has under a name.

    Raises:
        errors.NoSuchResource: there is no such resource (of that type).
        errors.NoSuchMetric: it has no metric of that name.
    """
    wanted = _metrics.c.name == name if storable(name) else sa.false()
    found = _metrics_of(db, resource_type, resource_id, wanted)
    if not found:
        raise errors.NoSuchMetric(name)
    return found[0]


def metrics_of(db: Database, resource_type: str, resource_id: UUID) -> list[Metric]:
    """Return the metrics of a resource by name.

    Raises:
        errors.NoSuchResource: there is no such resource (of that type).
    """
    return _metrics_of(db, resource_type, resource_id, sa.true())


def _metrics_of(
    db: Database, resource_type: str, resource_id: UUID, wanted: sa.ColumnElement[bool]
) -> list[Metric]:
    is_resource = sa.and_(_resources.c.id == resource_id, _of_type(resource_type))
    with db.read() as connection:
        found = metrics_.fetch(
            db,
            connection,
            metrics_.SELECT.join(_resources, _resources.c.id == _metrics.c.resource_id)
            .where(is_resource, _metrics.c.status == ACTIVE, wanted)
            .order_by(_metrics.c.name),
        )
        if not found:
            row = connection.execute(sa.select(_resources.c.id).where(is_resource)).one_or_none()
            if row is None:
                raise errors.NoSuchResource(resource_id)
    return found
