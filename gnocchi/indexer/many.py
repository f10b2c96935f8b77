"""Conditions on many values at once, which are one parameter where the database can do that.

Tens of thousands of terms take SQLAlchemy longer to write down than a database to look up.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from gnocchi.indexer.columns import Id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from gnocchi.indexer.database import Database

CHUNK = 10_000


def chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut what is too much for one statement."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def one_of(
    db: Database, column: sa.ColumnElement[Any], values: Sequence[Any]
) -> sa.ColumnElement[bool]:
    """Match rows whose ``column`` has one of these values, none of which is None.

    Args:
        column: of type Id, text or whole numbers.
        values: UUIDs for a column of type Id, else what the column holds; duplicates are fine.
    """
    if isinstance(column.type, Id):
        return _one_of_ids(db, column, values)
    if db.sqlite:
        return column.in_(_elements(list(values)))
    if db.postgresql:
        kind = sa.BigInteger() if values and isinstance(values[0], int) else sa.Text()
        array = sa.bindparam(None, list(values), type_=postgresql.ARRAY(kind), unique=True)
        return column == sa.any_(sa.cast(array, postgresql.ARRAY(kind)))
    return column.in_(list(values))


def _one_of_ids(
    db: Database, column: sa.ColumnElement[Any], ids: Sequence[UUID]
) -> sa.ColumnElement[bool]:
    digits = [value.hex for value in ids]
    if db.sqlite:
        return sa.type_coerce(column, sa.String).in_(_elements(digits))
    if db.postgresql:
        array = sa.cast(sa.literal("{" + ",".join(digits) + "}", sa.String), sa.ARRAY(sa.Uuid))
        return sa.type_coerce(column, sa.Uuid) == sa.any_(array)
    return sa.type_coerce(column, sa.String).in_(digits)


def _elements(values: list[Any]) -> sa.Select[Any]:
    return sa.select(sa.func.json_each(json.dumps(values)).table_valued("value").c.value)
