"""One series out of many, by periods of the calendar.

Each series is grouped into the periods first, and then the series are put together. A period that
overlaps the bounds is computed from all of its points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gnocchi import errors
from gnocchi.engine import read
from gnocchi.engine.read import Series
from gnocchi.series import calendar, expression
from gnocchi.series import table as tables
from gnocchi.series.points import is_absent, runs
from gnocchi.series.reduce import reduce

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gnocchi.engine.aggregates import Limits
    from gnocchi.model import Metric
    from gnocchi.series.table import Fill, Table
    from gnocchi.service import Services


def aggregated(
    services: Services,
    metrics: Sequence[Metric],
    method: str,
    reaggregation: str,
    granularity: int,
    letter: str,
    *,
    start: int | None,
    stop: int | None,
    fill: Fill | None,
    needed_overlap: float,
    limits: Limits,
) -> Series:
    """Group each series into periods with its own method, and aggregate the series.

    Args:
        metrics: distinct ones whose policies keep the method, which is no rate, at the
            granularity.
        reaggregation: of the periods of different series; a method of `gnocchi.series.across`,
            also with ``rate:``.
        letter: of `gnocchi.series.calendar`.
        start: inclusive, rounded down to the period.
        stop: exclusive.
        fill: what becomes of gaps, None where the series have to overlap.

    Raises:
        errors.CannotAggregate: the series do not overlap as needed, or there is too much of them.
    """
    low = None if start is None else calendar.floor(start, letter)
    try:
        table = _table(services, metrics, method, granularity, letter, low, stop, limits.cells)
        if fill is None:
            bounds = {"start_given": start is not None, "stop_given": stop is not None}
            table = tables.overlapping(table, needed_overlap, **bounds)
    except tables.TooManyCells as error:
        raise errors.TooManyValues(limits.cells) from error
    except (tables.NoOverlap, tables.TooLittleOverlap) as error:
        names = [[str(metric.id), method] for metric in metrics]
        raise errors.CannotAggregate(str(error), names) from error
    pair = ("", method)
    result = expression.evaluate(
        expression.Aggregate(reaggregation, expression.Metrics((pair,))),
        tables.fill(table, fill),
        {pair: range(len(metrics))},
    ).table
    return Series(letter, *tables.drop(result.timestamps, result.values[0], fill))


def _table(
    services: Services,
    metrics: Sequence[Metric],
    method: str,
    granularity: int,
    letter: str,
    low: int | None,
    stop: int | None,
    max_cells: int,
) -> Table:
    """Return the periods of each series, with a row for each of the metrics in their order."""
    high = None if stop is None else calendar.next(stop, letter)
    snapshot = services.reader.snapshot()
    block = read.stored(services, snapshot, metrics, [method], granularity, low, high, max_cells)
    values = block.column(method)
    present = ~(is_absent(values) | np.isnan(values))
    index, values = block.index[present], values[present]
    periods = calendar.group(block.timestamps[present], letter)
    starts = np.union1d(runs(index)[0], runs(periods)[0])
    reduced = reduce([method], values, starts)[method]
    index, periods = index[starts], periods[starts]
    keep = ~is_absent(reduced)
    if stop is not None:
        keep &= periods < stop
    # Rows come in the order of the ids, which that of the metrics need not be.
    numbers = {metric.id.bytes: number for number, metric in enumerate(metrics)}
    number_of = np.array([numbers[one.tobytes()] for one in block.ids], dtype=np.int64)
    index = number_of[index[keep]]
    order = np.argsort(index, kind="stable")
    return tables.align(
        1,
        len(metrics),
        index[order],
        periods[keep][order],
        reduced[keep][order],
        max_cells=max_cells,
    )
