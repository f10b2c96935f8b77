"""Expressions over series as trees of values. No syntax, no arithmetic.

Invariants: operations have one name each, synonyms are gone; a tree is immutable and compares by
what it says.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """Series: pairs of a reference and an aggregation method, each pair once."""

    references: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Cellwise:
    """An operation on each timestamp and series by itself; see `gnocchi.series.operations`."""

    operation: str
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class RateOfChange:
    """The difference to the timestamp before, or that difference for each second in between."""

    per_second: bool
    operand: Expression


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One series out of all, timestamp by timestamp."""

    method: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Rolling:
    """Each timestamp together with the ``window - 1`` before it."""

    method: str
    window: int
    operand: Expression


@dataclass(frozen=True, slots=True)
class Resample:
    """Periods of ``step`` ns, aligned on 1970."""

    method: str
    step: int
    operand: Expression


Expression = Number | Metrics | Cellwise | RateOfChange | Aggregate | Rolling | Resample


def operands(expression: Expression) -> tuple[Expression, ...]:
    """Return what an expression is computed from, in order."""
    if isinstance(expression, Number | Metrics):
        return ()
    if isinstance(expression, Cellwise):
        return expression.operands
    return (expression.operand,)


def references(expression: Expression) -> list[tuple[str, str]]:
    """Return the distinct pairs of reference and method, in order of appearance."""
    found: dict[tuple[str, str], None] = {}
    pending = [expression]
    while pending:
        node = pending.pop()
        if isinstance(node, Metrics):
            found.update(dict.fromkeys(node.references))
        pending.extend(reversed(operands(node)))
    return list(found)


def tables_needed(expression: Expression) -> int:
    """Return how many tables are in memory at once while an expression is computed, at least."""
    needs = sorted((tables_needed(operand) for operand in operands(expression)), reverse=True)
    if not needs:
        return 0 if isinstance(expression, Number) else 1
    return max(needed + before for before, needed in enumerate(needs))


def to_list(expression: Expression) -> object:
    """Return the expression in list notation; timespans in seconds."""
    match expression:
        case Number(value):
            return value
        case Metrics(pairs):
            if len(pairs) == 1:
                return ["metric", *pairs[0]]
            return ["metric", *(list(pair) for pair in pairs)]
        case Cellwise(operation, parts):
            return [operation, *map(to_list, parts)]
        case RateOfChange(per_second, operand):
            return ["rateofchangesec" if per_second else "rateofchange", to_list(operand)]
        case Aggregate(method, operand):
            return ["aggregate", method, to_list(operand)]
        case Rolling(method, window, operand):
            return ["rolling", method, window, to_list(operand)]
        case Resample(method, step, operand):
            return ["resample", method, step / 10**9, to_list(operand)]
