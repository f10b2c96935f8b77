"""Points of several metrics whose values satisfy a condition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gnocchi.engine import read
from gnocchi.engine.read import Series
from gnocchi.errors import NoSuchGranularity
from gnocchi.series.points import is_absent

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID

    from gnocchi.model import Metric
    from gnocchi.segments.segment import Block
    from gnocchi.series.predicate import Predicate
    from gnocchi.service import Services


def search(
    services: Services,
    metrics: Sequence[Metric],
    predicate: Predicate,
    *,
    method: str,
    granularities: Collection[int] = (),
    start: int | None,
    stop: int | None,
    max_rows: int,
) -> dict[UUID, list[Series]]:
    """Return the matching points of each metric, one series a granularity, coarsest first.

    Each granularity takes one pass over the segments.

    Args:
        metrics: each once.
        granularities: ns; those of each metric's archive policy where there are none.
        start: inclusive, rounded down to the granularity.
        stop: exclusive.
        max_rows: bound on the number of points that are looked at at once.

    Raises:
        NoSuchGranularity: an archive policy does not keep a granularity, or the method.
    """
    for metric in metrics:
        policy = metric.archive_policy
        wanted = list(granularities) or list(policy.granularities)
        for granularity in wanted:
            kept = granularity in policy.granularities
            if not kept or method not in policy.aggregation_methods:
                raise NoSuchGranularity(metric.id, method, granularity)
    found: dict[UUID, list[Series]] = {metric.id: [] for metric in metrics}
    every = set(granularities) or {g for one in metrics for g in one.archive_policy.granularities}
    snapshot = services.reader.snapshot()
    for granularity in sorted(every, reverse=True):
        having = [one for one in metrics if granularity in one.archive_policy.granularities]
        low = None if start is None else start - start % granularity
        block = read.stored(services, snapshot, having, [method], granularity, low, stop, max_rows)
        by_id = {metric.id.bytes: metric.id for metric in having}
        for identity, series in _matching(block, method, predicate):
            found[by_id[identity]].append(series)
    return found


def _matching(block: Block, method: str, predicate: Predicate) -> list[tuple[bytes, Series]]:
    """Return the matching rows of each metric that has any, with its raw id."""
    values = block.column(method)
    chosen = np.flatnonzero(predicate.matches(values) & ~is_absent(values))
    index = block.index[chosen]
    timestamps, values = block.timestamps[chosen], values[chosen]
    ends = np.searchsorted(index, np.arange(len(block.ids) + 1))
    return [
        (
            block.ids[number].tobytes(),
            Series(block.granularity, timestamps[low:high], values[low:high]),
        )
        for number, (low, high) in enumerate(
            zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        )
        if high > low
    ]
