"""Compute an expression over the series of a table.

Invariants: what is computed for one timestamp or series depends on no other, except where the
operation says so. A result is *aggregated* when it does not stand for one series any more; then it
is a single row. Numpy never warns: what has no finite result is an infinity or NaN.

`parse` makes expressions, `gnocchi.series.table` prepares tables and decides which points of a
result are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gnocchi.series import across, rolling
from gnocchi.series.notation import AGGREGATE_METHODS, InvalidOperations, parse
from gnocchi.series.operations import CELLWISE
from gnocchi.series.points import is_absent, runs
from gnocchi.series.reduce import RATE, reduce
from gnocchi.series.table import Table, pieces
from gnocchi.series.tree import (
    Aggregate,
    Cellwise,
    Expression,
    Metrics,
    Number,
    RateOfChange,
    Resample,
    Rolling,
    references,
    tables_needed,
    to_list,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gnocchi.series.points import Float64s, Int64s

    Selection = Mapping[tuple[str, str], Sequence[int]]

__all__ = [
    "AGGREGATE_METHODS",
    "Aggregate",
    "CannotCompute",
    "Cellwise",
    "Expression",
    "InvalidOperations",
    "Metrics",
    "Number",
    "RateOfChange",
    "Resample",
    "Result",
    "Rolling",
    "evaluate",
    "parse",
    "references",
    "to_list",
]

# Characters of an expression that are quoted in an error.
_QUOTED = 200


class CannotCompute(ValueError):
    """The expression has no result for these series; the text says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Result:
    """What an expression is worth.

    Attributes:
        table: its rows; exactly one where ``aggregated``.
        aggregated: whether the rows stand for no series in particular.
        series: ``(m,)`` int64, which rows of the table that was given the rows stand for;
            meaningless where ``aggregated``.
    """

    table: Table
    aggregated: bool
    series: Int64s


def evaluate(expression: Expression, table: Table, select: Selection) -> Result:
    """Compute an expression.

    Args:
        table: all series that the expression refers to, gaps closed as wanted.
        select: rows of the table by (reference, method): those that a pair stands for. A row
            that several pairs of one ``metric`` stand for counts once.

    Raises:
        CannotCompute: operands do not fit together, a window is longer than the series, or
            several series remain of an operation between series.
        KeyError: a pair of the expression is not in ``select``.
        ValueError: there is no series in the expression.
    """
    with np.errstate(all="ignore"):
        value = _value(expression, table, select)
    if isinstance(value, float):
        raise ValueError("an expression without a metric has no timestamps")
    if value.aggregated and value.table.values.shape[0] != 1:
        return _single(value, expression)
    return value


def _single(value: Result, expression: Expression) -> Result:
    """Make the single row out of an aggregated result that has another number of rows."""
    count = value.table.values.shape[0]
    if count > 1:
        raise CannotCompute(
            f"{count} series result from an operation between series, aggregate them: "
            f"{_quoted(expression)}"
        )
    empty = Table(value.table.granularity, value.table.timestamps[:0], np.empty((1, 0)))
    return Result(empty, aggregated=True, series=value.series)


def _value(expression: Expression, table: Table, select: Selection) -> Result | float:
    if isinstance(expression, Number):
        return expression.value
    if isinstance(expression, Metrics):
        return _selected(expression, table, select)
    if isinstance(expression, Cellwise):
        return _cellwise(expression, _operands(expression, table, select))
    operand = _value(expression.operand, table, select)
    if isinstance(operand, float):
        raise CannotCompute(f"A number has no timestamps: {_quoted(expression)}")
    if isinstance(expression, RateOfChange):
        change = _rate_per_second if expression.per_second else _rate
        return Result(change(operand.table), operand.aggregated, operand.series)
    if isinstance(expression, Aggregate):
        method, differs = _plain(expression.method)
        return _aggregated(method, operand, differs=differs)
    if isinstance(expression, Rolling):
        result = _rolled(expression, operand.table)
    else:
        result = _resampled(expression, operand.table)
    return Result(result, operand.aggregated, operand.series)


def _operands(expression: Cellwise, table: Table, select: Selection) -> list[Result | float]:
    """Compute the operands, the one that needs most tables at once first.

    Those that are computed already wait in memory for the others. In this order (Sethi and Ullman
    1970) the number of tables grows with the logarithm of the number of operations only, not with
    their depth.
    """
    needs = [tables_needed(operand) for operand in expression.operands]
    found: dict[int, Result | float] = {}
    for position in sorted(range(len(needs)), key=lambda one: -needs[one]):
        found[position] = _value(expression.operands[position], table, select)
    return [found[position] for position in range(len(needs))]


def _selected(metrics: Metrics, table: Table, select: Selection) -> Result:
    rows = dict.fromkeys(row for pair in metrics.references for row in select[pair])
    series = np.fromiter(rows, dtype=np.int64, count=len(rows))
    return Result(table.select(series), aggregated=False, series=series)


# ------------------------------------------------------------------ cell by cell


def _cellwise(expression: Cellwise, operands: list[Result | float]) -> Result | float:
    function = CELLWISE[expression.operation][0]
    tables = [operand for operand in operands if isinstance(operand, Result)]
    if not tables:
        return float(function(*(np.float64(each) for each in operands if isinstance(each, float))))
    _check_common_timestamps(expression, operands)
    series = _common_series(expression, tables)
    values = function(
        *(
            operand if isinstance(operand, float) else _rows(operand.table.values, series.size)
            for operand in operands
        )
    )
    first = tables[0].table
    aggregated = any(each.aggregated for each in tables)
    if len(tables) > 1 and not aggregated:
        # Several series, each combined with itself, are still those series.
        same = all(np.array_equal(each.series, series) for each in tables)
        aggregated = series.size == 1 or not same
    return Result(Table(first.granularity, first.timestamps, values), aggregated, series)


def _rows(values: Float64s, count: int) -> Float64s:
    """Return as many rows: a single one goes with each of the others, with none of none."""
    return values[:count] if count == 0 else values


def _check_common_timestamps(expression: Cellwise, operands: list[Result | float]) -> None:
    pairs = zip(expression.operands, operands, strict=True)
    nodes = [(node, value.table) for node, value in pairs if isinstance(value, Result)]
    (first_node, first), *others = nodes
    for node, table in others:
        same = table.granularity == first.granularity and np.array_equal(
            table.timestamps, first.timestamps
        )
        if not same:
            raise CannotCompute(
                "Can't compute timeseries with different granularity "
                f"{_quoted(first_node)} <> {_quoted(node)}"
            )


def _common_series(expression: Cellwise, tables: list[Result]) -> Int64s:
    """Return the series of the operand with most rows, all others having as many or one."""
    several = [each.series for each in tables if each.table.values.shape[0] != 1]
    if not several:
        return tables[0].series
    fewest = min(several, key=len)
    if fewest.size and any(each.size != fewest.size for each in several):
        numbers = " and ".join(str(each.table.values.shape[0]) for each in tables)
        raise CannotCompute(f"Can't combine {numbers} series: {_quoted(expression)}")
    return fewest


# ------------------------------------------------------------------ along time


def _plain(method: str) -> tuple[str, bool]:
    """Return the method without ``rate:``, and whether it had that."""
    return method.removeprefix(RATE), method.startswith(RATE)


def _rate(table: Table) -> Table:
    return Table(table.granularity, table.timestamps[1:], np.diff(table.values, axis=1))


def _rate_per_second(table: Table) -> Table:
    values = np.full(table.values.shape, np.nan)
    values[:, 1:] = np.diff(table.values, axis=1) / (np.diff(table.timestamps) / 10**9)
    return Table(table.granularity, table.timestamps, values)


def _aggregated(method: str, operand: Result, *, differs: bool) -> Result:
    table = operand.table
    values = across.aggregate(method, table.values)[None]
    reduced = Table(table.granularity, table.timestamps, values)
    return Result(_rate(reduced) if differs else reduced, aggregated=True, series=np.array([-1]))


def _rolled(expression: Rolling, table: Table) -> Table:
    window, length = expression.window, table.timestamps.size
    if window > length:
        raise CannotCompute(f"Rolling window '{window}' is greater than serie length '{length}'")
    method, differs = _plain(expression.method)
    values = rolling.roll(method, table.values, window)
    rolled = Table(table.granularity, table.timestamps[window - 1 :], values)
    return _rate(rolled) if differs else rolled


def _resampled(expression: Resample, table: Table) -> Table:
    """Apply the method to the points of each series in each period.

    A period in which a series has no point is a gap of that series. Periods are those of the
    table's timestamps. ``std`` needs two points and a rate one to differ from: with them a period
    is left out where no series has a result.
    """
    method, differs = _plain(expression.method)
    step = expression.step
    starts, lengths = runs(table.timestamps // step)
    periods = table.timestamps[starts] // step * step
    period_of = np.repeat(np.arange(periods.size), lengths)
    values = np.full((table.values.shape[0], periods.size), np.nan)
    for rows in pieces(*table.values.shape):
        values[rows] = _regrouped(
            method, table.values[rows], period_of, periods.size, differs=differs
        )
    resampled = Table(step, periods, values)
    return resampled.trimmed() if differs or method == "std" else resampled


def _regrouped(
    method: str, values: Float64s, period_of: Int64s, periods: int, *, differs: bool
) -> Float64s:
    """Reduce ``(m, n)`` values to ``(m, periods)``, given the period of each column."""
    series, columns = np.nonzero(~np.isnan(values))
    points = values[series, columns]
    if differs:
        follows = series[1:] == series[:-1]
        points = np.diff(points)[follows]
        series, columns = series[1:][follows], columns[1:][follows]
    cells = series * periods + period_of[columns]
    groups, _ = runs(cells)
    results = reduce([method], points, groups)[method]
    results[is_absent(results)] = np.nan
    regrouped = np.full((values.shape[0], periods), np.nan)
    regrouped.reshape(-1)[cells[groups]] = results
    return regrouped


def _quoted(expression: Expression) -> str:
    text = str(to_list(expression))
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"
