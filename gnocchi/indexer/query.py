"""Filters of resources as SQL conditions.

Invariants: what a filter means is the same on every database. Comparisons follow SQL's logic of
three values: a field without value fulfils neither a comparison nor its negation, but for ``!=``
and the tests for null; ``like`` tells cases apart, ``%`` stands for any text, ``_`` for one
character, and a backslash takes their meaning away.

On PostgreSQL an equality of an attribute is written as the containment that the index over all
attributes answers. That is false where an equality is null, which makes a difference below
``not`` only, so there it is not done.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from gnocchi import search
from gnocchi.indexer import fields, many
from gnocchi.indexer.columns import attribute_key, storable, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.sql.compiler import SQLCompiler

    from gnocchi.indexer.database import Database
    from gnocchi.indexer.fields import Source

_PARTS_OF_CREATOR = ("created_by_user_id", "created_by_project_id")

# A pattern that needs more literal characters than any field holds matches nothing.
_LONGEST_TEXT = 1000
# Databases bound the depth of expressions, and a long chain is a deep one.
_FLAT = 100

_ORDERINGS: dict[str, Callable[[Any, Any], sa.ColumnElement[bool]]] = {
    "<": lambda left, right: left < right,
    ">": lambda left, right: left > right,
    "<=": lambda left, right: left <= right,
    ">=": lambda left, right: left >= right,
}


@dataclass(frozen=True, slots=True)
class Visibility:
    """Which resources may be seen: those that fulfil one of the conditions.

    Attributes:
        project_id: the resource belongs to this project.
        creator_project: the part of its creator behind the first colon is this.
        creator: its creator is this.
    """

    project_id: str | None = None
    creator_project: str | None = None
    creator: str | None = None


def is_visible(source: Source, visible: Visibility | None) -> sa.ColumnElement[bool]:
    """Return the condition that a resource may be seen; None shows everything."""
    if visible is None:
        return sa.true()
    wanted = {
        "project_id": visible.project_id,
        "creator_project": visible.creator_project,
        "creator": visible.creator,
    }
    # A text that cannot be stored is that of no row, and some drivers refuse to ask.
    return sa.or_(
        sa.false(),
        *(
            source.columns[name] == value
            for name, value in wanted.items()
            if value is not None and storable(value)
        ),
    )


def condition(node: search.Node | None, source: Source) -> sa.ColumnElement[bool]:
    """Return the condition of a filter; None lets everything through.

    Raises:
        errors.Invalid: a field is none of this type's, or cannot be compared with a value.
    """
    return sa.true() if node is None else _compile(node, source, positive=True)


def _compile(node: search.Node, source: Source, *, positive: bool) -> sa.ColumnElement[bool]:
    match node:
        case search.Comparison():
            return _comparison(node, source, positive=positive)
        case search.In():
            return _in(node, source, positive=positive)
        case search.And():
            return _chain(sa.and_, [_compile(n, source, positive=positive) for n in node.nodes])
        case search.Or():
            return _chain(sa.or_, [_compile(n, source, positive=positive) for n in node.nodes])
        case search.Not():
            inner = _compile(node.node, source, positive=not positive)
            # Written out: SQLAlchemy would turn operators around, which it may not for null.
            return sa.not_(inner.self_group())
        case _:
            return sa.true()


def _chain(
    join: Callable[..., sa.ColumnElement[bool]], parts: Sequence[sa.ColumnElement[bool]]
) -> sa.ColumnElement[bool]:
    """Join many conditions as a tree that is flat enough for every database."""
    if len(parts) <= _FLAT:
        return join(*parts)
    size = -(-len(parts) // _FLAT)
    groups = [_chain(join, parts[i : i + size]) for i in range(0, len(parts), size)]
    return join(*(_Parentheses(group) for group in groups))


class _Parentheses(FunctionElement[bool]):
    """A condition that SQLAlchemy does not merge with those around it."""

    type = sa.Boolean()
    inherit_cache = True


@compiles(_Parentheses)
def _compile_parentheses(element: _Parentheses, compiler: SQLCompiler, **options: Any) -> str:
    return f"({compiler.process(element.clauses, **options)})"


# ------------------------------------------------------------------ comparisons


def _comparison(
    node: search.Comparison, source: Source, *, positive: bool
) -> sa.ColumnElement[bool]:
    value = _value(source, node.field, node.value, node.operator)
    if node.field in _PARTS_OF_CREATOR and not fields.is_attribute(source, node.field):
        return _part_of_creator(node.field, node.operator, value, source)
    expression = fields.expression(source, node.field, "" if value is None else value)
    if value is None:
        return _null(node.operator, expression)
    if node.operator == "like":
        return like(source.db, expression, value)
    if node.operator == "=" and positive and _has_index(source, node.field):
        return _contains(source, sa.literal(_member(node.field, value), postgresql.JSONB))
    compared = fields.literal(source, node.field, value)
    if node.operator == "=":
        return _equal(expression, compared)
    if node.operator == "!=":
        return sa.or_(sa.not_(_equal(expression, compared)), expression.is_(None))
    return _ORDERINGS[node.operator](expression, compared)


def _value(source: Source, name: str, value: Any, operator: str) -> Any:
    return source.resource_type.search_value(name, value, operator, history=source.history)


def _null(operator: str, expression: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    if operator == "=":
        return expression.is_(None)
    return expression.is_not(None) if operator == "!=" else _unknown()


def _unknown() -> sa.ColumnElement[bool]:
    """What compares with null: neither this nor its negation is true."""
    return sa.type_coerce(sa.null(), sa.Boolean)


def _equal(expression: sa.ColumnElement[Any], value: Any) -> sa.ColumnElement[bool]:
    # not "==", which SQLAlchemy writes in ways of its own for some types
    return expression.op("=", is_comparison=True, return_type=sa.Boolean())(value)


def _in(node: search.In, source: Source, *, positive: bool) -> sa.ColumnElement[bool]:
    converted = [_value(source, node.field, v, "in") for v in node.values if v is not None]
    values = list(dict.fromkeys(converted))
    if not values:
        return _unknown()
    expression = fields.expression(source, node.field, values[0])
    if not fields.is_attribute(source, node.field):
        return many.one_of(source.db, expression, values)
    if not source.db.postgresql:
        return _in_list(source, node.field, values)
    if positive:
        documents = [to_json(_member(node.field, value)) for value in values]
        return _contains(source, sa.any_(_array(documents, postgresql.JSONB())))
    if isinstance(values[0], str):
        return _equal(expression, sa.any_(_array(values, sa.Text())))
    texts = [to_json(value) for value in values]
    return _equal(expression, sa.any_(_array(texts, postgresql.JSONB())))


def _in_list(source: Source, name: str, values: list[Any]) -> sa.ColumnElement[bool]:
    groups = [[v for v in values if fields.is_exact(v) == exact] for exact in (False, True)]
    return sa.or_(
        *(
            fields.expression(source, name, group[0]).in_(
                [fields.literal(source, name, value) for value in group]
            )
            for group in groups
            if group
        )
    )


def _array(texts: list[str], kind: Any) -> sa.ColumnElement[Any]:
    return sa.cast(sa.literal(texts, postgresql.ARRAY(sa.Text)), postgresql.ARRAY(kind))


def _has_index(source: Source, name: str) -> bool:
    return source.db.postgresql and fields.is_attribute(source, name)


def _member(name: str, value: Any) -> dict[str, Any]:
    return {attribute_key(name): value}


def _contains(source: Source, document: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    return source.attributes.op("@>", is_comparison=True, return_type=sa.Boolean())(document)


def _part_of_creator(
    name: str, operator: str, value: str | None, source: Source
) -> sa.ColumnElement[bool]:
    """Compare one side of the first colon; a creator without colon has neither side."""
    part = source.columns.creator_project
    if name == "created_by_user_id":
        part = fields.user_of(source)
    if value is None:
        return _null(operator, part)
    if operator == "like" or any(wildcard in value for wildcard in "%_\\"):
        matches = like(source.db, part, value)
    else:
        matches = part == value
    return sa.or_(sa.not_(matches), part.is_(None)) if operator == "!=" else matches


# ------------------------------------------------------------------ patterns


def like(db: Database, expression: sa.ColumnElement[Any], pattern: str) -> sa.ColumnElement[bool]:
    """Return the condition that a text matches a pattern, by case."""
    tokens = _tokens(pattern)
    if sum(token is not _ANY_TEXT for token in tokens) > _LONGEST_TEXT:
        return expression != expression  # false, and null where there is no text
    if db.sqlite:  # whose LIKE ignores case
        return expression.op("GLOB", is_comparison=True, return_type=sa.Boolean())(_glob(tokens))
    return expression.like(_like(tokens), escape="!")


_ANY_TEXT = object()
_ANY_CHARACTER = object()


@functools.lru_cache(maxsize=100)
def _tokens(pattern: str) -> list[Any]:
    """Take a pattern apart into characters and wildcards."""
    tokens: list[Any] = []
    escaped = False
    for character in pattern:
        if escaped or character not in "%_\\":
            tokens.append(character)
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "_":
            tokens.append(_ANY_CHARACTER)
        elif not tokens or tokens[-1] is not _ANY_TEXT:
            tokens.append(_ANY_TEXT)
    if escaped:
        tokens.append("\\")
    return tokens


def _like(tokens: Sequence[Any]) -> str:
    wildcards = {_ANY_TEXT: "%", _ANY_CHARACTER: "_", "%": "!%", "_": "!_", "!": "!!"}
    return "".join(wildcards.get(token, token) for token in tokens)


def _glob(tokens: Sequence[Any]) -> str:
    wildcards = {_ANY_TEXT: "*", _ANY_CHARACTER: "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(wildcards.get(token, token) for token in tokens)
