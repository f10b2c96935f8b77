"""What of a resource can be searched and sorted by, as SQL expressions.

Invariants: text compares by code point and whole, numbers by value (whole ones of 64 bits
exactly) and not by how they are written, on every database.

Expressions are made for a ``Source``, which stands for the current versions of resources or for
the past ones: both have the same fields. Names and values come from ``resource_type``, which has
refused by then what does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from gnocchi.indexer.columns import attribute_key, binary_collation

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler

    from gnocchi.indexer.database import Database
    from gnocchi.resource_type import ResourceType

_COLUMNS = (
    "id", "type", "creator", "original_resource_id", "user_id", "project_id", "started_at",
    "ended_at", "revision_start",
)  # fmt: skip

# Doubles hold whole numbers exactly up to here.
_EXACT_DOUBLES = 2**53


@dataclass(frozen=True, slots=True)
class Source:
    """Where a query looks.

    Attributes:
        columns: of the table, by name.
        resource_type: whose attributes have names here.
        history: whether ``revision`` and ``revision_end`` have.
        revision, revision_end: what they are here.
    """

    db: Database
    columns: Any
    resource_type: ResourceType
    history: bool
    revision: sa.ColumnElement[Any]
    revision_end: sa.ColumnElement[Any]

    @property
    def attributes(self) -> sa.ColumnElement[Any]:
        """The stored document, on PostgreSQL as what it is there."""
        document: sa.ColumnElement[Any] = self.columns.attributes
        return sa.type_coerce(document, postgresql.JSONB) if self.db.postgresql else document


def is_attribute(source: Source, name: str) -> bool:
    """Tell whether a field is in the document and has no column of its own."""
    return name in source.resource_type.attributes


def expression(source: Source, name: str, value: Any) -> sa.ColumnElement[Any]:
    """Return the value of a field, NULL if it has none.

    Args:
        name: one that ``resource_type.search_value`` knows, but no part of the creator.
        value: what it will be compared with; a text for what is text.
    """
    if is_attribute(source, name):
        return _extract(source, attribute_key(name), value)
    if name == "lifespan":
        lifespan: sa.ColumnElement[Any] = source.columns.ended_at - source.columns.started_at
        return lifespan
    if name == "revision":
        return source.revision
    if name == "revision_end":
        return source.revision_end
    column: sa.ColumnElement[Any] = source.columns[name]
    return column


def user_of(source: Source) -> sa.ColumnElement[Any]:
    """Return the part of the creator in front of the first colon, NULL where there is none."""
    creator, project = source.columns.creator, source.columns.creator_project
    length = sa.func.length if source.db.sqlite else sa.func.char_length
    return sa.func.substr(creator, 1, length(creator) - length(project) - 1, type_=creator.type)


def sort_keys(source: Source) -> dict[str, sa.ColumnElement[Any]]:
    """Return everything a listing of this source can be sorted by."""
    keys: dict[str, sa.ColumnElement[Any]] = {name: source.columns[name] for name in _COLUMNS}
    if source.history:
        keys |= {"revision": source.revision, "revision_end": source.revision_end}
    for name, attribute in source.resource_type.attributes.items():
        keys[name] = _extract(source, attribute_key(name), attribute.STORED())
    return keys


def literal(source: Source, name: str, value: Any) -> Any:
    """Return a value in the form that the expression made for it can be compared with."""
    if not is_attribute(source, name) or isinstance(value, str):
        return value
    if source.db.postgresql:
        return sa.literal(value, postgresql.JSONB)
    if isinstance(value, bool):
        return ("true" if value else "false") if source.db.mysql else int(value)
    return value


def is_exact(value: Any) -> bool:
    """Tell whether a value takes another expression than others of its kind."""
    return isinstance(value, int) and abs(value) >= _EXACT_DOUBLES


def _extract(source: Source, key: str, value: Any) -> sa.ColumnElement[Any]:
    """Return an attribute as something that compares well with ``value``; NULL if it has none.

    The attribute of that name may be of another type in rows that the query does not want, and
    the database may look at them first: nothing here fails on them.
    """
    if source.db.postgresql:
        member: sa.ColumnElement[Any] = source.attributes[key]
        if isinstance(value, str):
            member = source.attributes.op("->>", return_type=sa.Text())(key).collate("C")
        return member
    path: sa.ColumnElement[str] = sa.literal_column(f"'$.\"{key}\"'", sa.Text)
    if source.db.sqlite:
        kind: Any = sa.Text() if isinstance(value, str) else sa.Numeric(asdecimal=False)
        return sa.func.json_extract(source.attributes, path, type_=kind)
    if isinstance(value, bool):  # as "true" or "false"
        return sa.func.json_unquote(sa.func.json_extract(source.attributes, path), type_=sa.Text())
    scalar = _Scalar(source.attributes, path)
    if isinstance(value, str):
        return _ByCodePoint(scalar)
    if is_exact(value):
        return sa.cast(scalar, sa.Numeric(65, 10))
    # Older servers cannot cast to it.
    double = scalar.op("+")(sa.literal_column("0e0"))
    return sa.type_coerce(sa.sql.elements.Grouping(double), mysql.DOUBLE(asdecimal=False))


class _Scalar(FunctionElement[str]):
    """Text or number at a path of a document, on MySQL and its descendant."""

    type = sa.Text()
    inherit_cache = True


@compiles(_Scalar)
def _compile_scalar(element: _Scalar, compiler: SQLCompiler, **options: Any) -> str:
    arguments = compiler.process(element.clauses, **options)
    if getattr(compiler.dialect, "is_mariadb", False):
        return f"JSON_VALUE({arguments})"
    # MySQL's JSON_VALUE cuts text and is not in older versions.
    return f"JSON_UNQUOTE(JSON_EXTRACT({arguments}))"


class _ByCodePoint(FunctionElement[str]):
    """Text that compares as columns of names do, on MySQL and its descendant."""

    type = sa.Text()
    inherit_cache = True


@compiles(_ByCodePoint)
def _compile_by_code_point(element: _ByCodePoint, compiler: SQLCompiler, **options: Any) -> str:
    collation = binary_collation(compiler.dialect)
    return f"({compiler.process(element.clauses, **options)}) COLLATE {collation}"
