"""Resource types as rows, and what a change of one does to its resources.

Invariants: everything that changes a type moves ``state.resource_types`` in the same transaction;
attributes of stored resources, old versions included, are always those of their type: a type is
locked while it changes, and shared by whoever stores attributes of it; ``generic`` always exists.
What a type means, and which changes it allows, is in ``resource_type``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from gnocchi import errors
from gnocchi.indexer import tables
from gnocchi.indexer.columns import attribute_key, storable, to_json
from gnocchi.resource_type import ResourceType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gnocchi.indexer.database import Database
    from gnocchi.resource_type import Patch

_types = tables.resource_type

VERSION = (
    sa.select(tables.state.c.value)
    .where(tables.state.c.name == tables.RESOURCE_TYPES)
    .scalar_subquery()
    .label("types_version")
)
"""A column that tells, within another statement, which version of the types it saw."""

# The version beside every type, in one statement; there is always one type.
_ALL = sa.select(VERSION, _types)


def create(db: Database, resource_type: ResourceType) -> None:
    """Store a new type.

    Raises:
        errors.ResourceTypeAlreadyExists: one of that name exists.
        errors.Invalid: a name cannot be stored.
    """
    for name in (resource_type.name, *resource_type.attributes):
        if not storable(name):
            raise errors.Invalid(f"{name!r} contains characters that cannot be stored")

    def work(connection: sa.Connection) -> None:
        connection.execute(_types.insert(), _to_row(resource_type))
        _bump(connection)

    try:
        db.run(work)
    except sa.exc.IntegrityError as error:
        raise errors.ResourceTypeAlreadyExists(resource_type.name) from error


def get(db: Database, name: str) -> ResourceType:
    """Return the type of that name.

    Raises:
        errors.NoSuchResourceType: there is none.
    """
    with db.read() as connection:
        return fetch(connection, name)


def list_(db: Database) -> list[ResourceType]:
    """Return every type, by name."""
    with db.read() as connection:
        types = _load(connection)[1]
    return [types[name] for name in sorted(types)]


def change(db: Database, name: str, function: Callable[[ResourceType], Patch]) -> ResourceType:
    """Replace a type by what ``function`` makes of it, its resources included; return it.

    One statement for all resources of the type and one for all their old versions.

    Raises:
        errors.NoSuchResourceType: there is none of that name.
        Whatever ``function`` raises; nothing was changed then.
    """

    def work(connection: sa.Connection) -> ResourceType:
        old = fetch(connection, name, lock=True)
        patch = function(old)
        new = patch.resource_type
        if new == old and not patch.filled:
            return old
        row = _to_row(new)
        connection.execute(
            _types.update().where(_types.c.name == name),
            {key: row[key] for key in ("attributes", "updated_at")},
        )
        for table in (tables.resource, tables.resource_history):
            document = _patched(db, table.c.attributes, patch)
            if document is not None:
                connection.execute(
                    table.update().where(table.c.type == name).values(attributes=document)
                )
        _bump(connection)
        return new

    return db.run(work)


def update(db: Database, name: str, operations: object) -> ResourceType:
    """Apply a JSON patch to a type and its resources; return the type.

    Raises:
        errors.NoSuchResourceType: there is none of that name.
        errors.Invalid: the patch cannot be applied. Nothing was changed.
    """
    return change(db, name, lambda old: old.patched(operations))


def delete(db: Database, name: str) -> None:
    """Delete a type of which there are no resources.

    Raises:
        errors.NoSuchResourceType: there is none of that name.
        errors.ResourceTypeInUse: there are, or it is ``generic``.
    """
    if not storable(name):
        raise errors.NoSuchResourceType(name)
    if name == tables.GENERIC:
        raise errors.ResourceTypeInUse(name)

    def work(connection: sa.Connection) -> None:
        if connection.execute(_types.delete().where(_types.c.name == name)).rowcount == 0:
            raise errors.NoSuchResourceType(name)
        _bump(connection)

    try:
        db.run(work)
    except sa.exc.IntegrityError as error:
        raise errors.ResourceTypeInUse(name) from error


# ------------------------------------------------------------------ within a transaction


def fetch(
    connection: sa.Connection, name: str, *, lock: bool = False, share: bool = False
) -> ResourceType:
    """Return the type of that name; locked, or protected from changes, until the commit.

    Raises:
        errors.NoSuchResourceType: there is none.
    """
    if not storable(name):
        raise errors.NoSuchResourceType(name)
    query = sa.select(_types).where(_types.c.name == name)
    if lock or share:
        query = query.with_for_update(read=share)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise errors.NoSuchResourceType(name)
    return _from_row(row)


def cached(db: Database, connection: sa.Connection, version: int) -> Mapping[str, ResourceType]:
    """Return the types as of ``version``, or of a later one; read them only when they moved."""
    known: tuple[int, dict[str, ResourceType]] | None = db.memory.get("resource types")
    if known is None or known[0] < version:
        known = _load(connection)
        db.memory["resource types"] = known
    return known[1]


def _load(connection: sa.Connection) -> tuple[int, dict[str, ResourceType]]:
    rows = connection.execute(_ALL).all()
    return rows[0].types_version, {row.name: _from_row(row) for row in rows}


def _bump(connection: sa.Connection) -> None:
    connection.execute(
        tables.state.update()
        .where(tables.state.c.name == tables.RESOURCE_TYPES)
        .values(value=tables.state.c.value + 1)
    )


def _to_row(resource_type: ResourceType) -> dict[str, Any]:
    return {
        "name": resource_type.name,
        "attributes": resource_type.definitions(),
        "state": resource_type.state,
        "updated_at": time.time_ns(),
    }


def _from_row(row: sa.Row[Any]) -> ResourceType:
    return ResourceType.from_stored(row.name, row.attributes, row.state)


# ------------------------------------------------------------------ attributes of the resources


def _patched(db: Database, column: sa.Column[Any], patch: Patch) -> sa.ColumnElement[Any] | None:
    """Return what becomes of the stored attributes, or None if nothing does."""
    added = _members({k: v for k, v in patch.added.items() if v is not None})
    filled = _members(patch.filled)
    removed = [attribute_key(name) for name in patch.removed]
    if not (added or filled or removed):
        return None
    if db.postgresql:
        return _patched_jsonb(column, added, filled, removed)
    # Merging takes a null for "remove", and what comes later wins.
    merge = sa.func.json_patch if db.sqlite else sa.func.json_merge_patch
    result: Any = sa.type_coerce(column, sa.Text)
    if added or removed:
        result = merge(result, to_json({**dict.fromkeys(removed), **added}), type_=sa.Text)
    if filled:
        result = merge(to_json(filled), result, type_=sa.Text)
    return result  # type: ignore[no-any-return]


def _patched_jsonb(
    column: sa.Column[Any], added: dict[str, Any], filled: dict[str, Any], removed: Iterable[str]
) -> sa.ColumnElement[Any]:
    result: Any = sa.type_coerce(column, postgresql.JSONB)
    names = list(removed)
    if names:
        result = result.op("-", return_type=postgresql.JSONB())(
            sa.cast(names, postgresql.ARRAY(sa.Text))
        )
    if added:
        result = result.concat(sa.literal(added, postgresql.JSONB))
    if filled:
        result = sa.literal(filled, postgresql.JSONB).concat(result)
    return result  # type: ignore[no-any-return]


def _members(values: Mapping[str, Any]) -> dict[str, Any]:
    return {attribute_key(name): value for name, value in values.items()}
