"""Metrics by resource and name, thousands at once: what batches of measures name them by.

Invariants: a number of statements that does not grow with the pairs (one for each 10,000); of
several requests that make the same metric at once, one makes it and all find it. What ``Links``
remembers was true when ``state.deletions`` and ``state.links`` were what they are: new metrics
change neither, so absence is never remembered.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from gnocchi import errors
from gnocchi.indexer import attachments, conflicts, many, policies, tables
from gnocchi.indexer.columns import storable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gnocchi.indexer.attachments import NewMetric
    from gnocchi.indexer.catalog import State
    from gnocchi.indexer.database import Database

_metrics = tables.metric
_resources = tables.resource

_SELECT = "SELECT m.resource_id, m.name, m.id, m.creator FROM "


class Link(NamedTuple):
    """A metric of a resource: its raw id and who created it."""

    metric: bytes
    creator: str | None


Found = dict[UUID, dict[str, Link]]
"""Metrics by resource and name."""


def find(db: Database, wanted: Mapping[UUID, Collection[str]]) -> Found:
    """Return those of the metrics that exist.

    Args:
        wanted: names of metrics by resource.
    """
    pairs = [(i, name) for i, names in wanted.items() for name in names if storable(name)]
    found: Found = {}
    with db.read() as connection:
        for chunk in many.chunks(pairs):
            for resource_id, name, metric_id, creator in _rows(db, connection, chunk):
                link = Link(bytes.fromhex(metric_id.replace("-", "")), creator)
                found.setdefault(UUID(resource_id), {})[name] = link
    return found


def _rows(db: Database, connection: sa.Connection, pairs: Sequence[tuple[UUID, str]]) -> Any:
    """Look pairs up without building an expression of thousands of terms."""
    if db.sqlite:
        return connection.exec_driver_sql(
            _SELECT + "json_each(?) AS w CROSS JOIN metric AS m "
            "ON m.resource_id = json_extract(w.value, '$[0]') "
            "AND m.name = json_extract(w.value, '$[1]')",
            (json.dumps([(i.hex, name) for i, name in pairs]),),
        )
    if db.postgresql:
        return connection.exec_driver_sql(
            "SELECT CAST(m.resource_id AS text), m.name, CAST(m.id AS text), m.creator "
            "FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(names)s AS text[])) AS w (id, name) "
            "JOIN metric AS m ON m.resource_id = w.id AND m.name = w.name",
            {
                "ids": "{" + ",".join([i.hex for i, _name in pairs]) + "}",
                "names": [name for _i, name in pairs],
            },
        )
    # Hexadecimal digits need no quoting.
    terms = ",".join([f"('{i.hex}',%s)" for i, _name in pairs])
    return connection.exec_driver_sql(
        _SELECT + f"metric AS m WHERE (m.resource_id, m.name) IN ({terms})",
        tuple(name for _i, name in pairs),
    )


def create(db: Database, creator: str | None, new: Mapping[tuple[UUID, str], NewMetric]) -> Found:
    """Make the metrics that do not exist, and return all of them.

    Args:
        creator: of the new metrics.
        new: what to make, by resource and name.

    Raises:
        errors.UnknownResources: some resources do not exist. Nothing was made.
        errors.NoSuchArchivePolicy: one is missing. Nothing was made.
        errors.Invalid: a name or unit cannot be stored. Nothing was made.
    """
    now = time.time_ns()
    # In one order, so that two who make the same ones wait for each other and not both.
    rows = [
        attachments.to_row(metric, name, resource_id, creator, now)
        for (resource_id, name), metric in sorted(new.items(), key=lambda item: item[0])
    ]
    ids = sorted({resource_id for resource_id, _name in new})

    def work(connection: sa.Connection) -> None:
        # Before anything is made; and they stay until it is.
        missing = set(ids)
        for chunk in many.chunks(ids):
            query = (
                sa.select(_resources.c.id)
                .where(many.one_of(db, _resources.c.id, chunk))
                .order_by(_resources.c.id)
                .with_for_update(read=True, key_share=True)
            )
            missing.difference_update(connection.execute(query).scalars())
        if missing:
            raise errors.UnknownResources(missing)
        connection.execute(_insert_unless_there(db), rows)

    if not rows:
        return {}
    conflicts.run(
        db,
        work,
        lambda _failure: policies.missing(db, (m.archive_policy_name for m in new.values())),
    )
    wanted: dict[UUID, list[str]] = {}
    for resource_id, name in new:
        wanted.setdefault(resource_id, []).append(name)
    return find(db, wanted)


def _insert_unless_there(db: Database) -> sa.Insert:
    key = [_metrics.c.resource_id, _metrics.c.name]
    if db.sqlite:
        return sqlite.insert(_metrics).on_conflict_do_nothing(key)
    if db.postgresql:
        return postgresql.insert(_metrics).on_conflict_do_nothing(index_elements=key)
    # Not INSERT IGNORE, which ignores everything else as well.
    return mysql.insert(_metrics).on_duplicate_key_update(id=_metrics.c.id)


class Links:
    """Metrics by resource and name, remembered between requests. Safe for threads.

    Args:
        limit: how many metrics are remembered at the most (about 300 bytes each).
    """

    def __init__(self, db: Database, limit: int = 500_000) -> None:
        self._db = db
        self._limit = limit
        self._lock = threading.Lock()
        self._version = (-1, -1)
        self._known: Found = {}
        self._count = 0

    def of(self, wanted: Mapping[UUID, Collection[str]], state: State) -> Found:
        """Metrics by resource and name: those wanted that exist, and perhaps others.

        Args:
            wanted: names of metrics by resource.
            state: read from the catalog before, in the same request.
        """
        version = (state.deletions, state.links)
        with self._lock:
            if version != self._version:
                self._known, self._version, self._count = {}, version, 0
            known = self._known
        missing: dict[UUID, list[str]] = {}
        for resource_id, names in wanted.items():
            there = known.get(resource_id, _NOTHING)
            absent = [name for name in names if name not in there]
            if absent:
                missing[resource_id] = absent
        return self._with(known, missing, wanted) if missing else known

    def _with(
        self,
        known: Found,
        missing: Mapping[UUID, Collection[str]],
        wanted: Mapping[UUID, Collection[str]],
    ) -> Found:
        found = find(self._db, missing)
        number = sum(map(len, found.values()))
        with self._lock:
            if self._known is known:
                if self._count + number > self._limit:
                    # Starting over costs one statement a request for a while, and no bookkeeping
                    # for each look-up.
                    known = self._known = {i: known[i] for i in wanted if i in known}
                    self._count = sum(map(len, known.values()))
                self._count += number
            for resource_id, links in found.items():
                known.setdefault(resource_id, {}).update(links)
        return known


_NOTHING: dict[str, Link] = {}
