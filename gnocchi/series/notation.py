"""The two notations of expressions: nested lists, and texts of nested parentheses.

The grammar, in lists; a text says the same with parentheses and blanks::

    operation = ["metric", reference, method] | ["metric", [reference, method], …]
              | ["aggregate", method, operand]
              | ["aggregate", method, ["metric", …], ["metric", …], …]   # all of their series
              | ["rolling", method, window, operand]
              | ["resample", method, timespan, operand]
              | ["rateofchange" | "rateofchangesec", operand]
              | [name, operand, …]              # a name of gnocchi.series.operations
    operand   = operation | number | text of a number

In a text only the first complete expression counts. It has no quotes: a reference with blanks or
parentheses in it needs the list.

Invariants: whatever the input, the result is an expression with a metric in it, of at most
`MAX_OPERATIONS` operations and as deep as allowed, or `InvalidOperations`. Time is linear in the
size of the input.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from gnocchi import times
from gnocchi.errors import InvalidTimespan
from gnocchi.series import across, operations, rolling
from gnocchi.series.reduce import RATE
from gnocchi.series.table import parse_number
from gnocchi.series.tree import (
    Aggregate,
    Cellwise,
    Expression,
    Metrics,
    Number,
    RateOfChange,
    Resample,
    Rolling,
    operands,
    references,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Levels that are allowed at most, whatever the caller allows: each takes some of the stack.
DEEPEST = 100
MAX_OPERATIONS = 1000

_TOKEN = re.compile(r"[()]|[^() \t\r\n]+")
_NAME = 100  # characters of an operation's name that are quoted in an error
_DIGITS = 400  # of a whole number that is read exactly; as a float it would be infinite


def _with_rates(methods: Iterable[str]) -> frozenset[str]:
    return frozenset(name for method in methods for name in (method, RATE + method))


AGGREGATE_METHODS = _with_rates(rolling.METHODS)
_RESAMPLE_METHODS = (AGGREGATE_METHODS | across.METHODS) - {"var", RATE + "var"}


class InvalidOperations(ValueError):
    """The operations are no expression. Nothing was computed.

    ``cause``, ``reason`` and ``detail`` are what the user is told.
    """

    def __init__(
        self, reason: str, detail: object = ("operations",), cause: str = "Invalid input"
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = list(detail) if isinstance(detail, tuple) else detail
        self.cause = cause

    @classmethod
    def at_operations(cls, reason: str) -> InvalidOperations:
        """Build the error about the member of the body that has the operations."""
        return cls(f"{reason} for dictionary value @ data['operations']")


def parse(
    operations: object, *, max_depth: int, methods: frozenset[str] = AGGREGATE_METHODS
) -> Expression:
    """Return the expression that a list or a text denotes.

    Args:
        operations: what a JSON decoder gives.
        max_depth: levels of operations allowed, `DEEPEST` at most.
        methods: what ``aggregate`` may be given: methods of `gnocchi.series.across`, also with
            ``rate:``.

    Raises:
        InvalidOperations: it denotes none, is nested too deeply or too large.
    """
    if isinstance(operations, str):
        operations = _list_of_text(operations)
    if not isinstance(operations, list | tuple):
        raise InvalidOperations.at_operations(f"Expected a tuple/list, got a {type(operations)}")
    if not operations:
        raise InvalidOperations.at_operations("Operation must not be empty")
    if len(operations) == 1:
        raise InvalidOperations.at_operations("Operation need at least one argument")
    reader = _Reader(operations[0], min(max_depth, DEEPEST), methods)
    expression = reader.operation(operations, 1)
    if not references(expression):
        raise InvalidOperations(
            "At least one 'metric' is required", operations, "Operations is invalid"
        )
    reader.check_series(expression)
    return expression


def _list_of_text(text: str) -> list[object]:
    """Return the first list of a text, texts and lists in it."""
    open_lists: list[list[object]] = []
    for token in _TOKEN.finditer(text):
        if token[0] == "(":
            open_lists.append([])
        elif not open_lists:
            raise _unreadable("Expected '('", token.start())
        elif token[0] != ")":
            open_lists[-1].append(token[0])
        else:
            done = open_lists.pop()
            if not open_lists:
                return done
            open_lists[-1].append(done)
    raise _unreadable("Expected ')'" if open_lists else "Expected '('", len(text))


def _unreadable(expected: str, position: int) -> InvalidOperations:
    return InvalidOperations(
        "Fail to parse the operations string",
        f"{expected} (at char {position})",
        "Invalid operations",
    )


class _Misfit(ValueError):
    """Some part does not fit the grammar."""


class _Reader:
    """Reads one expression; the name of the outermost operation stands in its errors."""

    def __init__(self, name: object, max_depth: int, methods: frozenset[str]) -> None:
        self._name = name if isinstance(name, str) else type(name).__name__
        self._max_depth = max_depth
        self._methods = methods
        self._operations = 0

    def operation(self, node: list[object] | tuple[object, ...], depth: int) -> Expression:
        if depth > self._max_depth:
            raise InvalidOperations.at_operations(
                f"nested too deeply (more than {self._max_depth} levels)"
            )
        self._operations += 1
        if self._operations > MAX_OPERATIONS:
            raise InvalidOperations.at_operations(f"more than {MAX_OPERATIONS} operations")
        if len(node) < 2 or not isinstance(node[0], str):
            self._refuse()
        name, arguments = operations.canonical(node[0]), node[1:]
        match name, len(arguments):
            case "metric", _:
                return self._metrics(arguments)
            case "aggregate", count if count >= 2:
                method = self._method(arguments[0], self._methods)
                return Aggregate(method, self._series(arguments[1:], depth))
            case "rolling", 3:
                method = self._method(arguments[0], AGGREGATE_METHODS)
                window = self._window(arguments[1])
                return Rolling(method, window, self._operand(arguments[2], depth))
            case "resample", 3:
                method = self._method(arguments[0], _RESAMPLE_METHODS)
                step = self._step(arguments[1])
                return Resample(method, step, self._operand(arguments[2], depth))
            case (("rateofchange" | "rateofchangesec"), 1):
                return RateOfChange(name == "rateofchangesec", self._operand(arguments[0], depth))
        return self._cellwise(name, arguments, depth)

    def check_series(self, expression: Expression) -> None:
        """Refuse an operation along time or across series that is given none."""
        pending = [expression]
        while pending:
            node = pending.pop()
            needs_series = not isinstance(node, Number | Metrics | Cellwise)
            if needs_series and not references(node):
                self._refuse()
            pending.extend(operands(node))

    def _refuse(self) -> NoReturn:
        raise InvalidOperations.at_operations(f"'{self._name[:_NAME]}' operation invalid")

    def _cellwise(
        self, name: str, arguments: list[object] | tuple[object, ...], depth: int
    ) -> Expression:
        if name not in operations.CELLWISE:
            self._refuse()
        _, least, most = operations.CELLWISE[name]
        if not least <= len(arguments) <= most:
            self._refuse()
        return Cellwise(name, tuple(self._operand(argument, depth) for argument in arguments))

    def _operand(self, node: object, depth: int) -> Expression:
        if isinstance(node, list | tuple):
            return self.operation(node, depth + 1)
        if isinstance(node, bool) or not isinstance(node, int | float | str):
            self._refuse()
        try:
            return Number(parse_number(node) if isinstance(node, str) else float(node))
        except (ValueError, OverflowError):
            self._refuse()

    def _series(self, nodes: list[object] | tuple[object, ...], depth: int) -> Expression:
        """Read one operand, or several that name series, as alarms over many metrics have."""
        read = [self._operand(node, depth) for node in nodes]
        if len(read) == 1:
            return read[0]
        pairs: dict[tuple[str, str], None] = {}
        for one in read:
            if not isinstance(one, Metrics):
                self._refuse()
            pairs.update(dict.fromkeys(one.references))
        return Metrics(tuple(pairs))

    def _metrics(self, arguments: list[object] | tuple[object, ...]) -> Expression:
        if len(arguments) == 2 and all(isinstance(each, str) for each in arguments):
            arguments = [arguments]
        pairs: dict[tuple[str, str], None] = {}
        for pair in arguments:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                self._refuse()
            reference, method = pair
            if not isinstance(reference, str) or not isinstance(method, str):
                self._refuse()
            pairs[reference, method] = None
        return Metrics(tuple(pairs))

    def _method(self, value: object, allowed: frozenset[str]) -> str:
        if not isinstance(value, str) or value not in allowed:
            self._refuse()
        return value

    def _window(self, value: object) -> int:
        if isinstance(value, str):
            # A text has nothing but texts: 3.0 and 3e0 are the numbers there that they are in a
            # list.
            digits = value.isascii() and value.isdigit() and len(value) < _DIGITS
            try:
                value = int(value) if digits else parse_number(value)
            except ValueError:
                self._refuse()
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self._refuse()
        return value

    def _step(self, value: object) -> int:
        try:
            return times.parse_timespan(value)
        except InvalidTimespan:
            self._refuse()
