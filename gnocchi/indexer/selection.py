"""Resources together with those of their metrics that have certain names, not page by page.

Invariants: one statement, whatever is found, and one more each when archive policies or resource
types have changed since the last call, and when a pattern is one that databases do not know (and
one for every 10,000 resources whose metrics are all asked for); no more rows are fetched than a
limit lets through; names compare by case and pattern as a shell compares file names, on every
database; the order is that of listings.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer import fields, many, query, resource_types, tables, versions
from gnocchi.indexer import metrics as metrics_
from gnocchi.indexer.columns import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from uuid import UUID

    from gnocchi import search
    from gnocchi.indexer.database import Database
    from gnocchi.indexer.fields import Source
    from gnocchi.indexer.query import Visibility
    from gnocchi.model import Metric, Resource
    from gnocchi.resource_type import ResourceType

_metrics = tables.metric
_resources = tables.resource
_history = tables.resource_history

# More patterns than this are not told to the database, which would try each with each name.
_PATTERNS = 50
# Nor are more stars of one pattern: the time that some databases take grows exponentially with
# them.
_STARS = 4

#: For each series that may be asked for, so many versions of resources, or resources without any
#: series, may be looked at.
_EACH = 10


class Selected(NamedTuple):
    """A resource and its metrics of the names asked for, by name."""

    resource: Resource
    metrics: list[Metric]


class Revision(NamedTuple):
    """A version of a resource, whether there was none before, and the metrics of the resource."""

    resource: Resource
    first: bool
    metrics: list[Metric]


def current(
    db: Database,
    resource_type: str,
    names: Collection[str],
    *,
    filter: search.Node | None = None,  # noqa: A002
    visible: Visibility | None = None,
    groupby: Sequence[str] = (),
    without_metrics: bool = False,
    links: bool = False,
    patterns: bool = True,
    limit: int | None = None,
) -> list[Selected]:
    """Return the resources that a filter lets through, each with its metrics of these names.

    Args:
        resource_type: ``generic`` stands for all types.
        names: of metrics, or patterns of them: ``*``, ``?``, ``[…]`` as in a shell.
        visible: what may be seen at all; None shows everything.
        groupby: fields that have to exist.
        without_metrics: also resources that have none of the metrics.
        links: whether the resources are to know all of their metrics.
        patterns: whether ``names`` may be patterns.
        limit: how many metrics may be found.

    Raises:
        errors.TooManyReferences: there are more metrics than ``limit``.
        errors.TooManyResources: there are many more resources than that.
        errors.NoSuchResourceType: there is none of that name.
        errors.InvalidPagination: there is no field to group by of one of the names.
        errors.Invalid: the filter names what is no field, or compares it with what is no value.
    """
    named = _Names(names, db, patterns=patterns)
    with db.read() as connection:
        source = versions.current(db, resource_types.fetch(connection, resource_type))
        wanted = query.condition(filter, source)
        _check_fields(source, groupby)
        conditions = versions.of_type(source), query.is_visible(source, visible), wanted
        owner = _metrics.c.resource_id == source.columns.id
        named.look(connection, sa.join(_resources, _metrics, owner), *conditions)
        belongs = sa.and_(owner, named.condition)
        statement = (
            metrics_.SELECT.add_columns(
                *versions.columns(source, attributes=True), resource_types.VERSION
            )
            .select_from(_resources.join(_metrics, belongs, isouter=without_metrics))
            .where(*conditions)
            .order_by(source.columns.revision_start, source.columns.started_at, source.columns.id)
        )
        rows = _rows(connection, statement, limit, several=without_metrics)
        found = _collect(db, connection, rows, named, lambda row: row[0])
        if not without_metrics:
            found = [one for one in found if one.metrics]
        _check_limit(found, limit)
        if links:
            known = versions.links(db, connection, [one.resource.id for one in found])
            found = [_linked(one, known) for one in found]
    return [Selected(one.resource, one.metrics) for one in found]


def revisions(
    db: Database,
    resource_type: str,
    names: Collection[str],
    *,
    filter: search.Node | None = None,  # noqa: A002
    visible: Visibility | None = None,
    groupby: Sequence[str] = (),
    start: int | None = None,
    stop: int | None = None,
    links: bool = False,
    limit: int | None = None,
) -> list[Revision]:
    """Return all versions of resources that a filter lets through, and the resources' metrics.

    The filter and the visibility apply to each version.

    Args:
        start, stop: µs since 1970; with both, only versions that were current then, the last
            moment before ``start`` included.

    Otherwise as ``current``.
    """
    named = _Names(names, db, patterns=True)
    with db.read() as connection:
        kind = resource_types.fetch(connection, resource_type)
        sources = versions.current(db, kind, history=True), versions.past(db, kind)
        wanted = [query.condition(filter, source) for source in sources]
        _check_fields(sources[0], groupby)
        parts = [
            sa.select(*versions.columns(source, attributes=True), first.label("is_first")).where(
                versions.of_type(source),
                query.is_visible(source, visible),
                condition,
                *_during(source, start, stop, past=source is sources[1]),
            )
            for source, condition, first in zip(sources, wanted, _firsts(), strict=True)
        ]
        merged = sa.union_all(*(sa.select(part.subquery()) for part in parts)).subquery()
        source = dataclasses.replace(
            sources[1],
            columns=merged.c,
            revision=merged.c.revision,
            revision_end=merged.c.revision_end,
        )
        owner = _metrics.c.resource_id == merged.c.id
        named.look(connection, sa.join(merged, _metrics, owner))
        statement = (
            metrics_.SELECT.add_columns(
                *versions.columns(source, attributes=True),
                resource_types.VERSION,
                merged.c.is_first,
            )
            .select_from(merged.join(_metrics, sa.and_(owner, named.condition)))
            .order_by(merged.c.revision_start, merged.c.started_at, merged.c.id, merged.c.revision)
        )
        rows = _rows(connection, statement, limit, several=True)
        # The columns of a version end with its revision and its attributes.
        found = _collect(db, connection, rows, named, lambda row: (row[0], row[-4]))
        found = [one for one in found if one.metrics]
        if links:
            ids = list(dict.fromkeys(one.resource.id for one in found))
            known = versions.links(db, connection, ids)
            found = [_linked(one, known) for one in found]
    return found


def check(db: Database, kind: ResourceType, node: search.Node, *, history: bool) -> None:
    """Make sure that a filter can be used; raises ``errors.Invalid`` as the others would."""
    query.condition(node, versions.current(db, kind, history=history))


# ------------------------------------------------------------------ conditions


def _check_fields(source: Source, names: Iterable[str]) -> None:
    known = fields.sort_keys(source)
    for name in names:
        if name not in known:
            raise errors.InvalidPagination(f"Sort key supplied is invalid: {name}")


class _Matcher:
    """Tells which of some names and patterns a name fits."""

    def __init__(self, names: Iterable[str], *, patterns: bool) -> None:
        self.patterns = [name for name in names if patterns and is_pattern(name)]
        self.exact = set(names).difference(self.patterns)
        self._remembered: dict[str, list[str]] = {}

    def fitting(self, name: str) -> list[str]:
        """Return those that a name fits."""
        found = self._remembered.get(name)
        if found is None:
            found = [name] if name in self.exact else []
            found += [one for one in self.patterns if fnmatch.fnmatchcase(name, one)]
            self._remembered[name] = found
        return found


class _Names(_Matcher):
    """Names and patterns of metrics in a database.

    Attributes:
        condition: what is true of metrics whose names fit, and of others if `look` says so.

    That a metric is active is not asked: one that has a resource is, and SQLite would look the
    metrics of a resource up among all active ones.
    """

    def __init__(self, names: Iterable[str], db: Database, *, patterns: bool) -> None:
        super().__init__(names, patterns=patterns)
        self._db = db
        told = [pattern for pattern in self.patterns if storable(pattern)]
        self._all_told = len(told) <= _PATTERNS and not any(map(_is_loose, told))
        if len(told) > _PATTERNS:
            self.condition: sa.ColumnElement[bool] = _metrics.c.name.is_not(None)
            return
        ways = [query.like(db, _metrics.c.name, _like(pattern)) for pattern in told]
        self.condition = sa.or_(self._one_of(self.exact), *ways)

    def _one_of(self, names: Iterable[str]) -> sa.ColumnElement[bool]:
        known = sorted(name for name in names if storable(name))
        return many.one_of(self._db, _metrics.c.name, known) if known else sa.false()

    def look(
        self, connection: sa.Connection, source: sa.FromClause, *where: sa.ColumnElement[bool]
    ) -> None:
        """Make the condition exact if it is not, by asking for all names that there are."""
        if self._all_told:
            return
        asked = sa.select(_metrics.c.name).distinct().select_from(source)
        found = connection.scalars(asked.where(*where, self.condition))
        self.condition = self._one_of(name for name in found if self.fitting(name))


def is_pattern(name: str) -> bool:
    """Tell whether a name stands for others than itself."""
    return any(sign in name for sign in "*?[")


def matcher(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what tells which of the names and patterns a name fits."""
    return _Matcher(list(names), patterns=True).fitting


def _is_loose(pattern: str) -> bool:
    """Tell whether more names may fit what `_like` makes of a pattern."""
    return "[" in pattern or pattern.count("*") > _STARS


def _like(pattern: str) -> str:
    """Return a LIKE pattern that fits whatever a shell pattern fits, and maybe more."""
    result: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "*" and result.count("%") == _STARS:
            result.append("%")
            break
        position += 1
        if character == "[":
            # A bracket right behind the opening one, or its negation, is an element.
            first = position + (pattern[position : position + 1] == "!")
            end = pattern.find("]", first + 1)
            if end >= 0:
                result.append("_")
                position = end + 1
                continue
        if character in "*?":
            result.append("%" if character == "*" else "_")
        else:
            result.append("\\" + character if character in "%_\\" else character)
    return "".join(result)


def _during(
    source: Source, start: int | None, stop: int | None, *, past: bool
) -> list[sa.ColumnElement[bool]]:
    if start is None or stop is None:
        return []
    began: sa.ColumnElement[bool] = source.columns.revision_start < stop
    return [began, source.columns.revision_end >= start] if past else [began]


def _firsts() -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    """Whether a current version, and a past one, is the first of its resource."""
    before = _history.alias()
    earlier = sa.and_(
        before.c.id == _history.c.id, before.c.revision_start < _history.c.revision_start
    )
    return (
        ~sa.exists().where(before.c.id == _resources.c.id).correlate(_resources),
        ~sa.exists().where(earlier).correlate(_history),
    )


# ------------------------------------------------------------------ rows


def _rows(
    connection: sa.Connection, statement: sa.Select[Any], limit: int | None, *, several: bool
) -> Sequence[sa.Row[Any]]:
    """Fetch what is found, up to a limit on metrics.

    Args:
        several: whether a metric may be in several rows, and rows be without one.
    """
    if limit is None:
        return connection.execute(statement).all()
    most = _EACH * limit if several else limit
    rows = connection.execute(statement.limit(most + 1)).all()
    if len(rows) > most:
        raise errors.TooManyResources(most) if several else errors.TooManyReferences(most)
    return rows


def _check_limit(found: Iterable[Revision], limit: int | None) -> None:
    if limit is not None and sum(len(one.metrics) for one in found) > limit:
        raise errors.TooManyReferences(limit)


def _collect(
    db: Database,
    connection: sa.Connection,
    rows: Sequence[sa.Row[Any]],
    names: _Names,
    key: Callable[[Sequence[Any]], Any],
) -> list[Revision]:
    """Make values of rows: what belongs to one version, and so has one key, comes together.

    Args:
        key: given a row without the columns of the metric.
    """
    if not rows:
        return []
    metrics = {metric.id: metric for metric in metrics_.from_rows(db, connection, rows)}
    types = resource_types.cached(db, connection, rows[0].types_version)
    attributes = {name: list(kind.attributes) for name, kind in types.items()}
    found: dict[Any, Revision] = {}
    for row in rows:
        version = row[metrics_.WIDTH :]
        identity = key(version)
        one = found.get(identity)
        if one is None:
            resource = versions.resource(version, attributes.get(version[1], ()))
            one = found[identity] = Revision(resource, bool(version[-1]), [])
        metric = metrics.get(row[0])
        if metric is not None and metric.name is not None and names.fitting(metric.name):
            one.metrics.append(metric)
    for one in found.values():
        one.metrics.sort(key=lambda metric: metric.name or "")
    return list(found.values())


def _linked(one: Revision, links: dict[UUID, dict[str, UUID]]) -> Revision:
    metrics = links.get(one.resource.id, {})
    return one._replace(resource=dataclasses.replace(one.resource, metrics=metrics))
