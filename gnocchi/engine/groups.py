"""Groups of series, checked against archive policies and read into one table a group.

For each granularity the series of all groups are read in one pass over the segments. From there
to the tables whole columns are moved; all that is done for each series is to look up where it is.
Memory is bounded: reading stops, and no table is built, beyond the number of values that is
allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gnocchi import errors
from gnocchi.engine import read
from gnocchi.series import table as tables
from gnocchi.series.points import is_absent, spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gnocchi.engine.aggregates import Limits, Reference
    from gnocchi.model import Metric
    from gnocchi.segments.segment import Block
    from gnocchi.series.table import Table
    from gnocchi.service import Services

    Select = Mapping[tuple[str, str], Sequence[int]]

# So many methods are read in one pass. With more, the columns would take memory for every metric
# though few are asked for, so each method gets a pass over its own metrics.
_TOGETHER = 3


@dataclass(frozen=True, slots=True)
class Group:
    """Series that an expression is evaluated over together.

    Attributes:
        references: the series, each once.
        order: ``(r,)`` positions among ``references`` by rows of the group's tables: by method,
            then by the metric's id, which is how segments are sorted.
        select: the rows that a pair of the expression stands for.
        granularities: ns, coarsest first: those to evaluate at.
    """

    references: Sequence[Reference]
    order: list[int]
    select: dict[tuple[str, str], list[int]]
    granularities: tuple[int, ...]


def prepare(
    groups: Iterable[tuple[Sequence[Reference], Select]], granularity: int | None, limits: Limits
) -> list[Group]:
    """Check that each group of series can be evaluated at a granularity, or any in common.

    Raises:
        errors.TooManyReferences: as ``limits`` say.
        errors.CannotAggregate: a group has no granularity in common, or not the one asked for.
        errors.UnknownAggregation: an archive policy does not keep a method.
    """
    groups = list(groups)
    if sum(len(references) for references, _ in groups) > limits.references:
        raise errors.TooManyReferences(limits.references)
    return [
        _group(references, select, granularities(references, granularity))
        for references, select in groups
    ]


def granularities(references: Sequence[Reference], wanted: int | None) -> tuple[int, ...]:
    """Return the granularities, coarsest first, to evaluate series at; raises as `prepare`."""
    policies = {id(one.metric.archive_policy): one.metric.archive_policy for one in references}
    kept = [set(each.granularities) for each in policies.values()]
    common = set.intersection(*kept) if kept else set()
    if wanted is None and kept and not common:
        detail = [[one.name, one.method] for one in references]
        raise errors.CannotAggregate("No granularity match", detail)
    for one in references:
        if one.method not in one.metric.archive_policy.aggregation_methods:
            raise errors.UnknownAggregation(one.metric.id, one.method)
    if wanted is None:
        return tuple(sorted(common, reverse=True))
    if wanted not in common:
        missing = [
            [one.name, one.method, wanted / 1e9]
            for one in references
            if wanted not in one.metric.archive_policy.granularities
        ]
        if missing:
            raise errors.CannotAggregate("Granularities are missing", missing)
    return (wanted,)


def _group(references: Sequence[Reference], select: Select, wanted: tuple[int, ...]) -> Group:
    keys = [(one.method, one.metric.id.bytes) for one in references]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    rows = [0] * len(order)
    for row, position in enumerate(order):
        rows[position] = row
    selected = {pair: [rows[one] for one in chosen] for pair, chosen in select.items()}
    return Group(references, order, selected, wanted)


# ------------------------------------------------------------------ reading


class _Source(NamedTuple):
    """Rows of some metrics; those of the metric at a position start at ``bounds`` there."""

    block: Block
    positions: dict[bytes, int]
    bounds: np.ndarray


def read_tables(
    services: Services,
    groups: Sequence[Group],
    start: int | None,
    stop: int | None,
    limits: Limits,
) -> Iterator[tuple[int, Table]]:
    """Read the series of all groups, coarsest granularity first.

    Args:
        start: ns, inclusive, rounded down to each granularity.
        stop: ns, exclusive.

    Yields:
        Number of a group and one of its tables. They are made one at a time.

    Raises:
        errors.TooManyValues: as ``limits`` say, for all tables together.
        errors.Unavailable: storage or indexer do not answer.
    """
    every = sorted({g for group in groups for g in group.granularities}, reverse=True)
    snapshot = services.reader.snapshot()
    used = 0
    for granularity in every:
        low = None if start is None else start - start % granularity
        concerned = [
            number for number, group in enumerate(groups) if granularity in group.granularities
        ]
        sources = {}
        for methods, metrics in _passes([groups[number] for number in concerned]):
            block = read.stored(
                services, snapshot, metrics, methods, granularity, low, stop, limits.cells
            )
            source = _source(block, metrics)
            sources.update(dict.fromkeys(methods, source))
        for number in concerned:
            index, timestamps, values = _points(groups[number], sources)
            try:
                table = tables.align(
                    granularity,
                    len(groups[number].order),
                    index,
                    timestamps,
                    values,
                    max_cells=limits.cells - used,
                )
            except tables.TooManyCells as e:
                raise errors.TooManyValues(limits.cells) from e
            used += table.values.size
            yield number, table


def _passes(groups: Sequence[Group]) -> list[tuple[list[str], list[Metric]]]:
    """Return which methods of which metrics to read at a time."""
    wanted: dict[str, dict[bytes, Metric]] = {}
    for group in groups:
        for one in group.references:
            wanted.setdefault(one.method, {})[one.metric.id.bytes] = one.metric
    if len(wanted) <= _TOGETHER:
        together = {key: one for metrics in wanted.values() for key, one in metrics.items()}
        return [(list(wanted), list(together.values()))] if together else []
    return [([method], list(metrics.values())) for method, metrics in wanted.items()]


def _source(block: Block, metrics: Iterable[Metric]) -> _Source:
    positions = {key: number for number, key in enumerate(sorted(m.id.bytes for m in metrics))}
    bounds = np.searchsorted(block.index, np.arange(len(positions) + 1))
    return _Source(block, positions, bounds)


def _points(
    group: Group, sources: Mapping[str, _Source]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the points of a group's series, sorted by row of its tables, as ``align`` takes them.

    Where they are neighbours in the segments' order already, nothing is copied.
    """
    parts = []
    first = 0
    while first < len(group.order):
        method = group.references[group.order[first]].method
        last = first
        positions = []
        source = sources[method]
        while last < len(group.order):
            one = group.references[group.order[last]]
            if one.method != method:
                break
            positions.append(source.positions[one.metric.id.bytes])
            last += 1
        parts.append(_column(source, method, np.array(positions, np.int64), first))
        first = last
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    if len(parts) == 1:
        return parts[0]
    index, timestamps, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    return index, timestamps, values


def _column(
    source: _Source, method: str, positions: np.ndarray, row: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the points that metrics, by ascending position, have of one method.

    Args:
        row: of the first of them; the others follow.
    """
    block, bounds = source.block, source.bounds
    starts, ends = bounds[positions], bounds[positions + 1]
    values = block.columns.get(method)
    if values is None:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    rows: slice | np.ndarray
    if (starts[1:] == ends[:-1]).all():
        rows = slice(int(starts[0]), int(ends[-1]))
    else:
        rows = spans(starts, ends - starts)
    if len(positions) == len(source.positions) and row == 0:
        index = block.index[rows]
    else:
        index = np.repeat(np.arange(row, row + len(positions)), ends - starts)
    timestamps, values = block.timestamps[rows], values[rows]
    absent = is_absent(values)
    if absent.any():
        present = np.flatnonzero(~absent)
        return index[present], timestamps[present], values[present]
    return index, timestamps, values
