"""Versions of resources as rows: the columns that are read, and values made of them.

Invariants: a resource read under its own type has every attribute of that type, None included,
whatever was stored; one read as generic has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from gnocchi.indexer import many, resource_types, tables
from gnocchi.indexer.columns import Attributes
from gnocchi.indexer.fields import Source
from gnocchi.model import CURRENT, Resource, project_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gnocchi.indexer.database import Database
    from gnocchi.resource_type import ResourceType

_metrics = tables.metric
_make: Callable[..., Resource] = Resource

# In the order of the fields of a Resource.
BASE = (
    "id", "type", "creator", "original_resource_id", "user_id", "project_id", "started_at",
    "ended_at", "revision_start",
)  # fmt: skip
_ATTRIBUTES = len(BASE) + 2
STORED = (*BASE, "creator_project", "attributes")


def current(db: Database, resource_type: ResourceType, *, history: bool = False) -> Source:
    """The current versions, with the fields that a listing with ``history`` has."""
    return Source(
        db=db,
        columns=tables.resource.c,
        resource_type=resource_type,
        history=history,
        revision=sa.literal(CURRENT, sa.BigInteger),
        revision_end=sa.cast(sa.null(), sa.BigInteger),
    )


def past(db: Database, resource_type: ResourceType) -> Source:
    """The versions that are not current any more."""
    columns = tables.resource_history.c
    return Source(
        db=db,
        columns=columns,
        resource_type=resource_type,
        history=True,
        revision=columns.revision,
        revision_end=columns.revision_end,
    )


def of_type(source: Source) -> sa.ColumnElement[bool]:
    """Match what is visible under the type of the source."""
    name = source.resource_type.name
    return sa.true() if name == tables.GENERIC else source.columns.type == name


def columns(source: Source, *, attributes: bool) -> list[sa.ColumnElement[Any]]:
    """The columns of a version, for ``resources``."""
    document = source.columns.attributes if attributes else sa.cast(sa.null(), sa.Text)
    return [
        *(source.columns[name] for name in BASE),
        source.revision_end.label("revision_end"),
        source.revision.label("revision"),
        sa.type_coerce(document, Attributes).label("attributes"),
    ]


def resources(
    db: Database,
    connection: sa.Connection,
    rows: Iterable[Sequence[Any]],
    *,
    version: int | None,
    links: Mapping[UUID, Mapping[str, UUID]],
) -> list[Resource]:
    """Make values of rows.

    Args:
        rows: those of ``columns``; what follows is ignored.
        version: of the resource types, as the rows' statement saw it; None without attributes.
    """
    types = {} if version is None else resource_types.cached(db, connection, version)
    names = {name: list(kind.attributes) for name, kind in types.items()}
    return [resource(row, names.get(row[1], ()), links.get(row[0])) for row in rows]


def resource(
    row: Sequence[Any], names: Iterable[str], metrics: Mapping[str, UUID] | None = None
) -> Resource:
    """Make a value of one row, with the attributes of these names if it has attributes."""
    document = row[_ATTRIBUTES]
    attributes = {} if document is None else {name: document.get(name) for name in names}
    return _make(*row[:_ATTRIBUTES], attributes, metrics or {})


def links(
    db: Database, connection: sa.Connection, ids: Sequence[UUID]
) -> dict[UUID, dict[str, UUID]]:
    """Return the metrics of resources by name, in one statement."""
    # A page has ten times as many of them as resources: ids are converted here, once each, and
    # names are sorted here, a few at a time.
    resource_id, metric_id = (
        sa.cast(column, sa.Text) if db.postgresql else sa.type_coerce(column, sa.String)
        for column in (_metrics.c.resource_id, _metrics.c.id)
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for chunk in many.chunks(ids):
        query = sa.select(resource_id, _metrics.c.name, metric_id).where(
            many.one_of(db, _metrics.c.resource_id, chunk)
        )
        for resource_text, name, metric_text in connection.execute(query):
            found.setdefault(resource_text, []).append((name, metric_text))
    return {
        UUID(text): {name: UUID(metric) for name, metric in sorted(pairs)}
        for text, pairs in found.items()
    }


def to_row(resource: Resource) -> dict[str, Any]:
    """Return a resource as a row of the current versions."""
    row = {name: getattr(resource, name) for name in BASE}
    row["creator_project"] = project_of(resource.creator)
    row["attributes"] = dict(resource.attributes)
    return row
