"""Pages of resources and of their versions.

Each page takes a fixed number of statements: the type, the marker, the page, the metrics of what
is on it, and the types when they have changed since the last call.

With ``history`` the page is the first rows of a merge: current versions and past ones are each
cut to a page before they are put together, so that both can come from an index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from gnocchi import errors, model
from gnocchi.indexer import fields, listing, query, resource_types, tables, versions
from gnocchi.model import CURRENT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from gnocchi import search
    from gnocchi.indexer.database import Database
    from gnocchi.indexer.fields import Source
    from gnocchi.model import Resource
    from gnocchi.resource_type import ResourceType

DEFAULT_SORTS = (("revision_start", "asc"), ("started_at", "asc"))


def list_(
    db: Database,
    resource_type: str,
    *,
    filter: search.Node | None = None,  # noqa: A002
    history: bool = False,
    details: bool = False,
    visible: query.Visibility | None = None,
    limit: int,
    marker: str | None = None,
    sorts: Sequence[tuple[str, str]] = (),
) -> list[Resource]:
    """Return one page of the resources of a type that a filter lets through.

    Args:
        resource_type: ``generic`` stands for all types.
        history: past versions too; the filter and the visibility apply to each version.
        details: attributes also when the type is ``generic``, those of each one's own type.
        visible: what may be shown at all; None shows everything.
        marker: id of the last resource of the page before, with ``@`` and its revision in a
            history.
        sorts: (key, direction) pairs, default ``DEFAULT_SORTS``; id and revision follow.

    Raises:
        errors.NoSuchResourceType: there is none of that name.
        errors.Invalid: the filter names what is no field, or compares it with what is no value.
        errors.InvalidPagination: unknown marker, key or direction.
    """
    with db.read() as connection:
        kind = resource_types.fetch(connection, resource_type)
        page = _Page(db, kind, history=history)
        page.keep(filter, visible)
        return page.read(connection, sorts or DEFAULT_SORTS, marker, limit, details=details)


def history(
    db: Database,
    resource_type: str,
    resource_id: UUID,
    *,
    details: bool = False,
    visible: query.Visibility | None = None,
    limit: int,
    marker: str | None = None,
    sorts: Sequence[tuple[str, str]] = (),
) -> list[Resource]:
    """Return one page of the versions of a resource, the current one included.

    Raises:
        errors.NoSuchResource: there is none of that id under this type.
        Otherwise as ``list_``.
    """
    with db.read() as connection:
        kind = resource_types.fetch(connection, resource_type)
        page = _Page(db, kind, history=True)
        page.keep(None, visible)
        page.only(resource_id)
        found = page.read(connection, sorts or DEFAULT_SORTS, marker, limit, details=details)
        # The first page of a resource holds its current version at least. Without, it is gone, even
        # if another of that id has been made since.
        if not found and (marker is None or not _exists(connection, page.sources[0], resource_id)):
            raise errors.NoSuchResource(resource_id)
    return found


def _exists(connection: sa.Connection, source: Source, resource_id: UUID) -> bool:
    row = connection.execute(
        sa.select(source.columns.id).where(
            source.columns.id == resource_id, versions.of_type(source)
        )
    ).one_or_none()
    return row is not None


class _Page:
    """A page in the making: where it looks, and what it keeps there."""

    def __init__(self, db: Database, kind: ResourceType, *, history: bool) -> None:
        self.db = db
        self.kind = kind
        self.sources = [versions.current(db, kind, history=history)]
        if history:
            self.sources.append(versions.past(db, kind))
        self.conditions = [[versions.of_type(source)] for source in self.sources]

    def keep(self, node: search.Node | None, visible: query.Visibility | None) -> None:
        """Keep what a filter lets through and may be seen."""
        for source, conditions in zip(self.sources, self.conditions, strict=True):
            conditions += [query.is_visible(source, visible), query.condition(node, source)]

    def only(self, resource_id: UUID) -> None:
        """Keep the versions of one resource."""
        for source, conditions in zip(self.sources, self.conditions, strict=True):
            conditions.append(source.columns.id == resource_id)

    def read(
        self,
        connection: sa.Connection,
        sorts: Sequence[tuple[str, str]],
        marker: str | None,
        limit: int,
        *,
        details: bool,
    ) -> list[Resource]:
        """Read the page and the metrics of what is on it."""
        attributes = details or self.kind.name != tables.GENERIC
        start = None if marker is None else self._marker(connection, sorts, marker)
        chosen = self._select(sorts, start, limit, attributes=attributes)
        if attributes:
            chosen = chosen.add_columns(resource_types.VERSION)
        rows = connection.execute(chosen).all()
        if not rows:
            return []
        return versions.resources(
            self.db,
            connection,
            rows,
            version=rows[0].types_version if attributes else None,
            links=versions.links(self.db, connection, list({row[0] for row in rows})),
        )

    def _order(self, source: Source, sorts: Sequence[tuple[str, str]]) -> list[listing.Order]:
        unique = ("id", "revision") if source.history else "id"
        return listing.orders(sorts, fields.sort_keys(source), unique)

    def _select(
        self,
        sorts: Sequence[tuple[str, str]],
        start: list[Any] | None,
        limit: int,
        *,
        attributes: bool,
    ) -> sa.Select[Any]:
        # What attributes are sorted by must be there, also if nobody wants to see it.
        everything = attributes or len(self.sources) > 1
        parts = [
            self._part(source, conditions, sorts, start, limit, attributes=everything)
            for source, conditions in zip(self.sources, self.conditions, strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        # SQLite orders and cuts the whole of a union only, so each part is a subquery.
        merged = sa.union_all(*(sa.select(part.subquery()) for part in parts)).subquery()
        source = _merged(self.sources[1], merged.c)
        return (
            sa.select(*versions.columns(source, attributes=attributes))
            .order_by(*listing.order_by(self._order(source, sorts), self.db.dialect))
            .limit(limit)
        )

    def _part(
        self,
        source: Source,
        conditions: list[sa.ColumnElement[bool]],
        sorts: Sequence[tuple[str, str]],
        start: list[Any] | None,
        limit: int,
        *,
        attributes: bool,
    ) -> sa.Select[Any]:
        order = self._order(source, sorts)
        chosen = sa.select(*versions.columns(source, attributes=attributes)).where(*conditions)
        if start is not None:
            chosen = chosen.where(listing.after(order, _typed(order, start)))
        if source is self.sources[0]:
            # Constants do not order anything, and PostgreSQL takes them for numbers of columns.
            constants = source.revision, source.revision_end
            order = [part for part in order if all(part.column is not one for one in constants)]
        return chosen.order_by(*listing.order_by(order, self.db.dialect)).limit(limit)

    def _marker(
        self, connection: sa.Connection, sorts: Sequence[tuple[str, str]], marker: str
    ) -> list[Any]:
        """Return what the page starts after.

        A marker that may not be seen is as good as none: its place would tell its values.
        """
        order = self._order(self.sources[0], sorts)  # refuses unknown keys first
        identity = _parse_marker(marker, history=len(self.sources) > 1)
        if identity is not None:
            resource_id, revision = identity
            is_past = revision != CURRENT
            source = self.sources[int(is_past)]
            order = self._order(source, sorts)
            wanted = [*self.conditions[int(is_past)][:2], source.columns.id == resource_id]
            if is_past:
                wanted.append(source.revision == revision)
            row = connection.execute(
                sa.select(*(part.column for part in order)).where(*wanted)
            ).one_or_none()
            if row is not None:
                return list(row)
        raise errors.InvalidPagination(f"Invalid marker: `{marker}'")


def _merged(past: Source, columns: Any) -> Source:
    """The union of current and past versions as a source."""
    return fields.Source(
        db=past.db,
        columns=columns,
        resource_type=past.resource_type,
        history=True,
        revision=columns.revision,
        revision_end=columns.revision_end,
    )


def _typed(order: Sequence[listing.Order], values: Sequence[Any]) -> list[Any]:
    """Tell the type of each value, which expressions on documents do not pass on."""
    return [
        None if value is None else sa.literal(value, part.column.type)
        for part, value in zip(order, values, strict=True)
    ]


def _parse_marker(marker: str, *, history: bool) -> tuple[UUID, int] | None:
    text, at, number = marker.partition("@")
    if bool(at) != history:
        return None
    try:
        revision = int(number) if history else CURRENT
        found = model.parse_uuid(text)
    except (ValueError, errors.Invalid):
        return None
    return (found, revision) if revision == CURRENT or 0 < revision < 2**63 else None
