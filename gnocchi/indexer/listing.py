"""Pages of a sorted listing as conditions and orders of a SELECT.

Invariants: the order is total and the same on every database (nulls where the direction says,
text by code point), so pages neither overlap nor leave anything out while rows come and go; a
page starts after the *values* of the marker, never at an offset that must be counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer.columns import MYSQL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# direction → (descending, nulls first). What a plain direction means is what PostgreSQL does.
DIRECTIONS = {
    "asc": (False, False),
    "desc": (True, True),
    "asc-nullsfirst": (False, True),
    "asc-nullslast": (False, False),
    "desc-nullsfirst": (True, True),
    "desc-nullslast": (True, False),
}


@dataclass(frozen=True, slots=True)
class Order:
    """One column of a sort order."""

    column: sa.ColumnElement[Any]
    descending: bool
    nulls_first: bool
    nullable: bool


def orders(
    sorts: Sequence[tuple[str, str]],
    columns: Mapping[str, sa.ColumnElement[Any]],
    unique: str | tuple[str, ...],
) -> list[Order]:
    """Return the order for (key, direction) pairs, made total by the ``unique`` key or keys.

    What follows when all unique keys have come cannot matter and is left out, and so is a key
    that came before.

    Raises:
        errors.InvalidPagination: a key or a direction is unknown.
    """
    result: list[Order] = []
    seen: set[str] = set()
    ends = {unique} if isinstance(unique, str) else set(unique)
    last = [(unique, "asc")] if isinstance(unique, str) else [(key, "asc") for key in unique]
    for key, direction in (*sorts, *last):
        if key not in columns:
            raise errors.InvalidPagination(f"Sort key supplied is invalid: {key}")
        if direction not in DIRECTIONS:
            raise errors.InvalidPagination(
                "Unknown sort direction, must be one of: asc-nullsfirst, asc-nullslast, "
                "desc-nullsfirst, desc-nullslast"
            )
        if key not in seen and not ends <= seen:
            column = columns[key]
            # expressions do not know, so they may be
            nullable = bool(getattr(column, "nullable", True))
            result.append(Order(column, *DIRECTIONS[direction], nullable=nullable))
        seen.add(key)
    return result


def order_by(order: Sequence[Order], dialect: str) -> list[sa.ColumnElement[Any]]:
    """Return the ORDER BY terms."""
    terms: list[sa.ColumnElement[Any]] = []
    for part in order:
        term: sa.ColumnElement[Any] = part.column.desc() if part.descending else part.column.asc()
        if not part.nullable:
            terms.append(term)
        elif dialect in MYSQL:  # which has no NULLS FIRST; false sorts before true
            is_null = part.column.is_(None)
            terms += [is_null.desc() if part.nulls_first else is_null.asc(), term]
        else:
            terms.append(term.nulls_first() if part.nulls_first else term.nulls_last())
    return terms


def after(order: Sequence[Order], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Return the condition that a row comes strictly after one that has these values.

    The first column is also compared on its own where that excludes rows: databases find the
    place in an index by that, and not by alternatives.
    """
    alternatives: list[sa.ColumnElement[bool]] = []
    same: list[sa.ColumnElement[bool]] = []
    for part, value in zip(order, values, strict=True):
        alternatives.append(sa.and_(*same, _later(part, value)))
        same.append(part.column.is_(None) if value is None else part.column == value)
    return sa.and_(*_bound(order[0], values[0]), sa.or_(*alternatives))


def _bound(part: Order, value: Any) -> list[sa.ColumnElement[bool]]:
    if value is None or (part.nullable and not part.nulls_first):
        return []
    return [part.column <= value if part.descending else part.column >= value]


def _later(part: Order, value: Any) -> sa.ColumnElement[bool]:
    if value is None:
        return part.column.is_not(None) if part.nulls_first else sa.false()
    later: sa.ColumnElement[bool] = part.column < value if part.descending else part.column > value
    if part.nullable and not part.nulls_first:
        return sa.or_(later, part.column.is_(None))
    return later
