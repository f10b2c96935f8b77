"""Dividing what an expression is worth among the versions that resources have had.

A version counts for the window of time in which it was valid. The expression is evaluated once for
each resource, over all of the time that is asked for, and each of its points is divided in
proportion to how much of the point's period each window covers. So every point is counted exactly
once however often a resource changed, also where the expression looks along time. (Evaluating it
within each window, as the windows would suggest, loses the first difference of every version, and
cuts resampled periods twice: once their points and once their weight.)

Points of the same time in a group are added, whichever resources and versions they come from.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gnocchi import errors
from gnocchi.engine import groups as groups_
from gnocchi.engine.aggregates import Question, computed
from gnocchi.engine.read import Series
from gnocchi.series import table as tables
from gnocchi.series.points import spans
from gnocchi.series.tree import Resample, operands

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from gnocchi.engine.aggregates import Limits, Reference
    from gnocchi.engine.groups import Select
    from gnocchi.series.expression import Expression
    from gnocchi.series.table import Fill, Table
    from gnocchi.service import Services

_ALWAYS = int(np.iinfo(np.int64).max)


class Window(NamedTuple):
    """A version of a resource: its series, its group, and the time ``[start, stop)`` it counts for.

    Windows of one resource share the very same ``references``. None is without bound. ns.
    """

    references: Sequence[Reference]
    select: Select
    group: Hashable
    start: int | None
    stop: int | None


def evaluate_history(
    services: Services,
    expression: Expression,
    windows: Sequence[Window],
    *,
    start: int | None,
    stop: int | None,
    granularity: int | None,
    fill: Fill | None,
    needed_overlap: float,
    limits: Limits,
) -> list[tuple[Hashable, list[Series]]]:
    """Evaluate an expression for each resource, and add up what falls to each group.

    Args:
        windows: none of one resource overlap, and all lie in ``[start, stop)``.

    The others are those of `gnocchi.engine.aggregates.evaluate_groups`.

    Returns:
        The groups that have points, in order of appearance, each with its series, coarsest
        granularity first.

    Raises:
        errors.CannotAggregate: also when the expression is worth several series, as those cannot
            be added.
        errors.UnknownAggregation, errors.Unavailable: as for ``evaluate_groups``.
    """
    resources = {id(window.references): window for window in windows}
    numbers = {key: number for number, key in enumerate(resources)}
    prepared = groups_.prepare(
        ((one.references, one.select) for one in resources.values()), granularity, limits
    )
    question = Question(expression, start, stop, fill, needed_overlap)
    worth: dict[int, list[tuple[int, Table]]] = {}
    low, high = _whole_periods(expression, start, stop)
    for number, table in groups_.read_tables(services, prepared, low, high, limits):
        result = computed(question, prepared[number], table)
        if not result.aggregated:
            raise errors.CannotAggregate(
                "Only a single series can be divided among versions of a resource",
                [[one.name, one.method] for one in prepared[number].references],
            )
        timestamps, values = tables.drop(result.table.timestamps, result.table.values[0], fill)
        shown = tables.Table(result.table.granularity, timestamps, values[None])
        worth.setdefault(table.granularity, []).append((number, shown))

    order = dict.fromkeys(window.group for window in windows)
    positions = {group: position for position, group in enumerate(order)}
    shares = _Shares(
        np.array([numbers[id(window.references)] for window in windows], np.int64),
        np.array([positions[window.group] for window in windows], np.int64),
        np.array([0 if one.start is None else max(one.start, 0) for one in windows], np.int64),
        np.array([_ALWAYS if one.stop is None else one.stop for one in windows], np.int64),
    )
    found: list[list[Series]] = [[] for _ in order]
    for step in sorted(worth, reverse=True):
        for position, series in _divided(worth[step], shares):
            found[position].append(series)
    return [(group, series) for group, series in zip(order, found, strict=True) if series]


def _whole_periods(
    expression: Expression, start: int | None, stop: int | None
) -> tuple[int | None, int | None]:
    """Return bounds that hold every resampled period that ``[start, stop)`` touches."""
    low, high = start, stop
    for step in _steps([expression]):
        if low is not None and start is not None:
            low = min(low, start - start % step)
        if high is not None and stop is not None:
            high = max(high, stop + -stop % step)
    return low, high


def _steps(pending: list[Expression]) -> Iterable[int]:
    while pending:
        node = pending.pop()
        if isinstance(node, Resample):
            yield node.step
        pending.extend(operands(node))


# ------------------------------------------------------------------ sharing out


class _Shares(NamedTuple):
    """Windows as columns: number of the resource, position of the group, and bounds in ns."""

    resource: np.ndarray
    group: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def _divided(worth: Sequence[tuple[int, Table]], shares: _Shares) -> list[tuple[int, Series]]:
    """Divide the series of resources among windows, and add them up by group.

    Args:
        worth: number of a resource and its series; all of one granularity.

    Returns:
        Position and series of each group that has points.
    """
    step = worth[0][1].granularity
    lengths = np.zeros(int(shares.resource.max()) + 1, np.int64)
    for number, table in worth:
        lengths[number] = table.timestamps.size
    ends = np.cumsum(lengths)
    ordered = sorted(worth, key=lambda one: one[0])
    timestamps = np.concatenate([table.timestamps for _, table in ordered])
    values = np.concatenate([table.values[0] for _, table in ordered])

    window, point = _pairs(timestamps, ends - lengths, ends, shares, step)
    at = timestamps[point]
    covered = np.minimum(shares.stop[window] - at, step) - np.maximum(shares.start[window] - at, 0)
    with np.errstate(invalid="ignore", over="ignore"):
        share = values[point] * (covered / step)
    return _added(shares.group[window], at, share, step)


def _pairs(
    timestamps: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    shares: _Shares,
    step: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return which window covers some of the period of which point, as two parallel arrays.

    Args:
        timestamps: of all resources, one after another; ascending within each.
        starts, ends: where those of each resource are.
    """
    first = np.empty(len(shares.resource), np.int64)
    last = np.empty_like(first)
    # One search for all windows of a resource; windows come in no particular order.
    by_resource = np.argsort(shares.resource, kind="stable")
    cuts = np.searchsorted(shares.resource[by_resource], np.arange(len(starts) + 1))
    for number in np.flatnonzero(ends > starts).tolist():
        members = by_resource[cuts[number] : cuts[number + 1]]
        own = timestamps[starts[number] : ends[number]]
        first[members] = starts[number] + np.searchsorted(
            own, shares.start[members] - step, side="right"
        )
        last[members] = starts[number] + np.searchsorted(own, shares.stop[members])
    empty = ends[shares.resource] == starts[shares.resource]
    first[empty] = last[empty] = 0
    counts = np.maximum(last - first, 0)
    return np.repeat(np.arange(len(counts)), counts), spans(first, counts)


def _added(
    group: np.ndarray, timestamps: np.ndarray, values: np.ndarray, step: int
) -> list[tuple[int, Series]]:
    """Add the values of each group and timestamp."""
    if not group.size:
        return []
    order = np.lexsort((timestamps, group))
    group, timestamps, values = group[order], timestamps[order], values[order]
    new = np.ones(group.size, bool)
    new[1:] = (np.diff(group) != 0) | (np.diff(timestamps) != 0)
    starts = np.flatnonzero(new)
    with np.errstate(invalid="ignore", over="ignore"):
        sums = np.add.reduceat(values, starts)
    group, timestamps = group[starts], timestamps[starts]
    cuts = np.append(np.flatnonzero(np.diff(group, prepend=-1)), group.size).tolist()
    return [
        (int(group[low]), Series(step, timestamps[low:high], sums[low:high]))
        for low, high in itertools.pairwise(cuts)
    ]
