"""Filters on resources: a tree of values, made from JSON or from a text. No SQL.

The grammar of the text::

    filter    = any
    any       = all { ("or" | "∨") all }
    all       = one { ("and" | "∧") one }
    one       = "not" one | "(" any ")" | field operator term
    operator  = ">=" "<=" "!=" ">" "<" "=" "≠" "≥" "≤" eq ne lt gt ge le in like
    term      = null None none | true True | false False | UUID | word | number | text | list
    list      = "[" [ term { "," term } ] "]"

Words are ASCII letters, digits and underscores and start with a letter; texts are in single or
double quotes, without escapes. A text gives the JSON filter that says the same, and from there on
both take one way.

Invariants:
    * Reading takes time linear in the size of the input. Trees have at most `MAX_DEPTH` levels,
      `MAX_NODES` nodes and `MAX_VALUES` values in lists; larger ones are refused, as are texts
      longer than `MAX_TEXT` characters.
    * Whatever the input, the result is a tree or an `Invalid`.
    * Operators have one name each in a tree: synonyms are gone.

Which fields there are, and what type their values have, is the business of
`gnocchi.resource_type`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from gnocchi.errors import Invalid
from gnocchi.resource_type import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from gnocchi.resource_type import Path

MAX_DEPTH = 50
MAX_NODES = 10_000
# Together with the nodes below 2**15 - 1, the number of parameters that SQLite is built for.
MAX_VALUES = 20_000
MAX_TEXT = 1_000_000

_MAX_BITS = 1024

Scalar = str | int | float | bool | None


class InvalidFilter(InvalidInput):
    """A filter does not fit the grammar, and where."""


# ------------------------------------------------------------------ the tree


@dataclass(frozen=True, slots=True)
class Everything:
    """No condition: every resource matches. Only ever a whole filter, never a part of one."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field compared with a value; the operator is one of `COMPARISONS`."""

    operator: str
    field: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class In:
    """The field has one of the values, of which there is at least one."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class And:
    """All of the nodes match; there is at least one."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Some of the nodes match; there is at least one."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The node is known not to match: unknown, as null makes it, stays unknown."""

    node: Node


Node = Everything | Comparison | In | And | Or | Not

COMPARISONS = ("=", "!=", "<", ">", "<=", ">=", "like")

_SYNONYMS = {
    "=": ("=", "==", "eq"),
    "!=": ("!=", "≠", "ne"),
    "<": ("<", "lt"),
    ">": (">", "gt"),
    "<=": ("<=", "≤", "le"),
    ">=": (">=", "≥", "ge"),
    "like": ("like",),
    "in": ("in",),
    "and": ("and", "∧"),
    "or": ("or", "∨"),
    "not": ("not",),
}
_OPERATORS = {synonym: name for name, synonyms in _SYNONYMS.items() for synonym in synonyms}


# ------------------------------------------------------------------ from JSON


def from_json(document: object, *, resource_id: Callable[[str], UUID] | None = None) -> Node:
    """Return the tree of a JSON filter.

    Args:
        document: what a JSON decoder gives.
        resource_id: makes ids out of the texts that the field ``id`` is compared with; see
            `gnocchi.model.resource_id`. The tree has the ids as texts. Without it they stay
            as they are.

    Raises:
        InvalidFilter: the document does not fit the grammar.
        Invalid: it does, but has empty filters inside of others, compares ids with what is none,
            or is too large.
    """
    return _Reader(resource_id).filter(document)


class _Size:
    """How large a filter is so far."""

    def __init__(self) -> None:
        self._nodes = 0
        self._values = 0

    def add_node(self) -> None:
        """Count a node."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise Invalid(f"Invalid filter: more than {MAX_NODES} conditions")

    def add_values(self, count: int) -> None:
        """Count values of a list."""
        self._values += count
        if self._values > MAX_VALUES:
            raise Invalid(f"Invalid filter: more than {MAX_VALUES} values in lists")


def _descend(depth: int) -> int:
    """Return how many levels there may be below one that may have ``depth``, itself included."""
    if not depth:
        raise Invalid(f"Invalid filter: more than {MAX_DEPTH} levels deep")
    return depth - 1


class _Reader:
    """One reading of a JSON filter, with what it has found so far."""

    def __init__(self, resource_id: Callable[[str], UUID] | None) -> None:
        self._resource_id = resource_id
        self._size = _Size()
        self._empty = False

    def filter(self, document: object) -> Node:
        if document == {}:
            return Everything()
        node = self._node(document, (), MAX_DEPTH)
        # Told last: what does not fit the grammar comes first, wherever it is.
        if self._empty:
            raise Invalid("Unable to parse this query")
        return node

    def _node(self, document: object, path: Path, depth: int) -> Node:
        self._size.add_node()
        below = _descend(depth)
        members = _object(document, path)
        if len(members) > 1:
            raise InvalidFilter.of_value("length of value must be at most 1", path)
        if not members:
            self._empty = True
            return Everything()
        ((sign, operand),) = members.items()
        path = (*path, sign)
        operator = _OPERATORS.get(sign)
        if operator is None:
            raise InvalidFilter("not a valid value", path)
        if operator == "not":
            return Not(self._node(operand, path, below))
        if operator in ("and", "or"):
            items = _list(operand, path)
            nodes = tuple(
                self._node(item, (*path, index), below) for index, item in enumerate(items)
            )
            return And(nodes) if operator == "and" else Or(nodes)
        field, value = _member(operand, path)
        path = (*path, field)
        if operator == "in":
            values = _list(value, path)
            self._size.add_values(len(values))
            return In(
                field,
                tuple(self._value(field, v, (*path, index)) for index, v in enumerate(values)),
            )
        if operator == "like" and field == "id":
            raise InvalidFilter("value must not be one of ['id']", path)
        return Comparison(operator, field, self._value(field, value, path))

    def _value(self, field: str, value: object, path: Path) -> Scalar:
        if value is not None and not isinstance(value, str | int | float):
            raise InvalidFilter.of_value("expected str", path)
        # Nothing stored is as large, and Python would not even print it.
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise InvalidFilter.of_value("not a valid value", path)
        if field != "id":
            return value
        if not isinstance(value, str):
            raise Invalid(f"Invalid value: `{value}' for field `{field}'")
        if self._resource_id is None:
            return value
        try:
            return str(self._resource_id(value))
        except Invalid as error:
            raise InvalidFilter.of_value(str(error), path) from error


def _object(value: object, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidFilter.of_value("expected a dictionary", path)
    return value


def _list(value: object, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidFilter.of_value("expected a list", path)
    if not value:
        raise InvalidFilter.of_value("length of value must be at least 1", path)
    return value


def _member(value: object, path: Path) -> tuple[str, Any]:
    members = _object(value, path)
    if len(members) != 1:
        bound = "at most" if members else "at least"
        raise InvalidFilter.of_value(f"length of value must be {bound} 1", path)
    return next(iter(members.items()))


# ------------------------------------------------------------------ from text


def from_text(text: str, *, resource_id: Callable[[str], UUID] | None = None) -> Node:
    """Return the tree of a filter in the grammar of texts; the empty one is none.

    Raises:
        Invalid: the text does not fit the grammar: ``Invalid filter: Expected …``.
        InvalidFilter, Invalid: what it says is no filter, as by `from_json`.
    """
    if len(text) > MAX_TEXT:
        raise Invalid(f"Invalid filter: longer than {MAX_TEXT} characters")
    return from_json(_Parser(text).filter(), resource_id=resource_id)


# The first that matches counts. No token can be read in two ways, so that nothing is read twice:
# repetitions are possessive, and what has begun as a number or a UUID must end like one.
_TOKEN = re.compile(
    r"""
      (?P<uuid>   (?: [0-9a-fA-F]{32}
                    | [0-9a-fA-F]{8} (?:-[0-9a-fA-F]{4}){3} -[0-9a-fA-F]{12} ) (?![A-Za-z0-9_-]) )
    | (?P<word>   [A-Za-z] [A-Za-z0-9_]*+ )
    | (?P<number> [+-]? [0-9]++ (?:\.[0-9]++)?+ (?:[eE][+-]?[0-9]++)?+ (?![A-Za-z0-9_.]) )
    | (?P<text>   '[^']*+' | "[^"]*+" )
    | (?P<sign>   >= | <= | != | [><=≠≥≤] )
    | (?P<mark>   [][(),∧∨] )
    """,
    re.VERBOSE,
)
_BLANKS = re.compile(r"[ \t\r\n]*+")
_END = "end of text"

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("null", "None", "none")),
    **dict.fromkeys(("true", "True"), True),
    **dict.fromkeys(("false", "False"), False),
}
_WORD_OPERATORS = frozenset({"eq", "ne", "lt", "gt", "ge", "le", "in", "like"})
# As many as 64 bits can have.
_EXACT_DIGITS = 19
_MAX_QUOTED = 40


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def _tokens(text: str) -> Iterator[_Token]:
    """Yield the tokens, then one of kind ``end``; whatever begins none is one of kind ``?``."""
    position = _end_of(_BLANKS, text, 0)
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            yield _Token("?", text[position : position + _MAX_QUOTED], position)
            return
        yield _Token(match.lastgroup, match[0], position)
        position = _end_of(_BLANKS, text, match.end())
    yield _Token("end", "", len(text))


def _end_of(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


class _Parser:
    """One reading of a text, from left to right, with one token looked ahead.

    It stops as soon as it has read too much. Parentheses are levels here, also those that are
    none of the tree.
    """

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._size = _Size()
        self._token = next(self._tokens)

    def filter(self) -> dict[str, Any]:
        document = self._any(MAX_DEPTH)
        if self._token.kind != "end":
            self._expected(_END)
        return document

    def _any(self, depth: int) -> dict[str, Any]:
        filters = [self._all(depth)]
        while self._take("or", "∨"):
            filters.append(self._all(depth))
        return filters[0] if len(filters) == 1 else {"or": filters}

    def _all(self, depth: int) -> dict[str, Any]:
        filters = [self._one(depth)]
        while self._take("and", "∧"):
            filters.append(self._one(depth))
        return filters[0] if len(filters) == 1 else {"and": filters}

    def _one(self, depth: int) -> dict[str, Any]:
        below = _descend(depth)
        if self._take("not"):
            return {"not": self._one(below)}
        if self._take("("):
            document = self._any(below)
            if not self._take(")"):
                self._expected("')'")
            return document
        return self._condition(depth)

    def _condition(self, depth: int) -> dict[str, Any]:
        self._size.add_node()
        if self._token.kind not in ("word", "uuid", "text"):
            self._expected("a field")
        name = self._next()
        field = name.text[1:-1] if name.kind == "text" else name.text
        if self._token.kind != "sign" and self._token.text not in _WORD_OPERATORS:
            self._expected("an operator")
        operator = self._next().text
        return {operator: {field: self._term(depth)}}

    def _term(self, depth: int) -> Any:
        if self._take("["):
            return self._elements(_descend(depth))
        if self._token.kind not in ("uuid", "word", "number", "text"):
            self._expected("a value")
        token = self._next()
        if token.kind == "word":
            return _WORDS.get(token.text, token.text)
        if token.kind == "number":
            # Whole numbers stay whole: floats have no more than 53 bits.
            digits = token.text.lstrip("+-")
            whole = len(digits) <= _EXACT_DIGITS and digits.isdecimal()
            return int(token.text) if whole else float(token.text)
        return token.text[1:-1] if token.kind == "text" else token.text

    def _elements(self, depth: int) -> list[Any]:
        elements: list[Any] = []
        while not self._take("]"):
            if elements and not self._take(","):
                self._expected("',' or ']'")
            elements.append(self._term(depth))
            self._size.add_values(1)
        return elements

    def _take(self, *texts: str) -> bool:
        """Go on behind the token if it is one of these words or marks."""
        if self._token.kind in ("word", "mark") and self._token.text in texts:
            self._next()
            return True
        return False

    def _next(self) -> _Token:
        token = self._token
        self._token = next(self._tokens, token)
        return token

    def _expected(self, what: str) -> NoReturn:
        token = self._token
        found = _END if token.kind == "end" else repr(token.text[:_MAX_QUOTED])
        raise Invalid(f"Invalid filter: Expected {what}, found {found}  (at char {token.position})")
