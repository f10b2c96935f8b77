"""Conditions on values: a tree made from JSON, and which values of an array satisfy it.

The grammar of a node, an object with one member::

    node       = {comparison: number} | {arithmetic: number}       # the value goes on the left
               | {comparison: [side, side]} | {arithmetic: [side, side]}
               | {"and" | "or": [node, …]} | {"not": node | [node]}
    comparison = "=" "!=" "<" ">" "<=" ">="     with their synonyms
    arithmetic = "+" "-" "*" "/" "%" "**"       with their synonyms
    side       = number | node

Where a number is wanted of a condition it is 1.0 or 0.0, and where a condition is wanted of a
number it holds unless that is 0 or NaN.

Invariants: reading takes time linear in the size of the input; whatever the input, the result is a
predicate of at most `MAX_NODES` nodes or an `InvalidPredicate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from gnocchi.resource_type import InvalidInput
from gnocchi.series.operations import ARITHMETIC, COMPARISONS, canonical
from gnocchi.series.table import PIECE

if TYPE_CHECKING:
    from gnocchi.resource_type import Path
    from gnocchi.series.points import Booleans, Float64s

MAX_NODES = 1000
#: Levels that are allowed at most, whatever the caller allows: each takes some of the stack.
DEEPEST = 100

_BINARY = ARITHMETIC | COMPARISONS
_AND = ("and", "∧")
_OR = ("or", "∨")


class InvalidPredicate(InvalidInput):
    """A condition on values does not fit the grammar, and where."""


@dataclass(frozen=True, slots=True)
class Value:
    """The value that is looked at."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A number."""

    number: float


@dataclass(frozen=True, slots=True)
class Binary:
    """An arithmetic operation or a comparison, under the name it has in `operations`."""

    operation: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class All:
    """Every one of the nodes holds, as it is for no nodes at all."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """One of the nodes holds at least, as it never is for no nodes at all."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The node does not hold."""

    node: Node


Node = Value | Constant | Binary | All | Some | Not


@dataclass(frozen=True, slots=True)
class Predicate:
    """A condition on values."""

    root: Node

    def matches(self, values: Float64s) -> Booleans:
        """Tell which of ``(n,)`` float64 values satisfy the condition."""
        result = np.empty(values.size, dtype=np.bool_)
        with np.errstate(all="ignore"):
            for first in range(0, values.size, PIECE):
                piece = slice(first, first + PIECE)
                result[piece] = _holds(self.root, values[piece])
        return result


def parse(body: object, max_depth: int = DEEPEST) -> Predicate:
    """Return the predicate that a document denotes.

    Args:
        body: what a JSON decoder gives.
        max_depth: levels of objects allowed, `DEEPEST` at most.

    Raises:
        InvalidPredicate: it denotes none, is nested too deeply or too large.
    """
    return Predicate(_Reader(min(max_depth, DEEPEST)).node(body, (), 1))


# ------------------------------------------------------------------ reading


class _Reader:
    def __init__(self, max_depth: int) -> None:
        self._max_depth = max_depth
        self._nodes = 0

    def node(self, document: object, path: Path, depth: int) -> Node:
        if not isinstance(document, dict):
            raise InvalidPredicate.of_value("expected a dictionary", path)
        if len(document) != 1:
            bound = "most" if document else "least"
            raise InvalidPredicate.of_value(f"length of value must be at {bound} 1", path)
        self._check_size(path, depth)
        ((name, operand),) = document.items()
        path = (*path, name)
        if name in _AND:
            return All(self._nodes_of(operand, path, depth))
        if name in _OR:
            return Some(self._nodes_of(operand, path, depth))
        if name == "not":
            return self._negation(operand, path, depth)
        operation = canonical(name)
        if operation not in _BINARY:
            raise InvalidPredicate("not a valid value", path)
        left, right = self._sides(operand, path, depth)
        return Binary(operation, left, right)

    def _check_size(self, path: Path, depth: int) -> None:
        if depth > self._max_depth:
            raise InvalidPredicate.of_value(
                f"nested too deeply (more than {self._max_depth} levels)", path
            )
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise InvalidPredicate(f"more than {MAX_NODES} operations")

    def _nodes_of(self, operand: object, path: Path, depth: int) -> tuple[Node, ...]:
        if not isinstance(operand, list):
            raise InvalidPredicate.of_value("expected a list", path)
        return tuple(
            self.node(element, (*path, index), depth + 1) for index, element in enumerate(operand)
        )

    def _negation(self, operand: object, path: Path, depth: int) -> Node:
        if not isinstance(operand, list):
            return Not(self.node(operand, path, depth + 1))
        if len(operand) != 1:
            bound = "most" if operand else "least"
            raise InvalidPredicate.of_value(f"length of value must be at {bound} 1", path)
        return Not(self.node(operand[0], (*path, 0), depth + 1))

    def _sides(self, operand: object, path: Path, depth: int) -> tuple[Node, Node]:
        if not isinstance(operand, list):
            return Value(), Constant(_number(operand, path))
        if len(operand) != 2:
            _refuse(path)
        left, right = (
            self.node(side, (*path, index), depth + 1)
            if isinstance(side, dict)
            else Constant(_number(side, path))
            for index, side in enumerate(operand)
        )
        return left, right


def _number(document: object, path: Path) -> float:
    if isinstance(document, bool) or not isinstance(document, int | float):
        _refuse(path)
    try:
        return float(document)
    except OverflowError:
        _refuse(path)


def _refuse(path: Path) -> NoReturn:
    raise InvalidPredicate.of_value("expected float", path)


# ------------------------------------------------------------------ matching


def _holds(node: Node, values: Float64s) -> Booleans:
    if isinstance(node, All):
        result = np.ones(values.size, dtype=np.bool_)
        for each in node.nodes:
            result &= _holds(each, values)
        return result
    if isinstance(node, Some):
        result = np.zeros(values.size, dtype=np.bool_)
        for each in node.nodes:
            result |= _holds(each, values)
        return result
    if isinstance(node, Not):
        return ~_holds(node.node, values)
    numbers = _numbers(node, values)
    holds: Booleans = (numbers != 0) & ~np.isnan(numbers)
    return holds


def _numbers(node: Node, values: Float64s) -> Float64s:
    if isinstance(node, Value):
        return values
    if isinstance(node, Constant):
        return np.full(values.size, node.number)
    if isinstance(node, Binary):
        return _BINARY[node.operation](_numbers(node.left, values), _numbers(node.right, values))
    return _holds(node, values).astype(np.float64)
