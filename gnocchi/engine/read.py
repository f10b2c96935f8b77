"""Reading the aggregates of one metric, or of many at once.

Expired points are never returned, whatever the bounds: retention counts from the newest point of
the series, wherever that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gnocchi import errors
from gnocchi.segments.batch import ID
from gnocchi.segments.segment import Block
from gnocchi.series import calendar
from gnocchi.series.points import ABSENT, is_absent, runs
from gnocchi.series.resample import resample as resampled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gnocchi.archive_policy import ArchivePolicy
    from gnocchi.indexer.catalog import Snapshot
    from gnocchi.model import Metric
    from gnocchi.service import Services


class Series(NamedTuple):
    """Aggregates of one method at one granularity (ns, or the letter of a calendar period).

    timestamps: ``(n,)`` int64 ns ascending, starts of buckets. values: ``(n,)`` float64.
    """

    granularity: int | str
    timestamps: np.ndarray
    values: np.ndarray


def measures(
    services: Services,
    metric: Metric,
    method: str,
    granularities: Sequence[int],
    start: int | None = None,
    stop: int | None = None,
    resample: int | str | None = None,
) -> list[Series]:
    """The stored aggregates of a metric, one series a granularity in the given order.

    Args:
        granularities: ns; each one of the metric's archive policy.
        start: inclusive, rounded down to the granularity, or to the step of ``resample``.
        stop: exclusive.
        resample: a step in ns or a calendar letter. The aggregates of every whole period that
            overlaps ``[start, stop)`` are reduced once more with the same method.

    Raises:
        NoSuchAggregationMethod, NoSuchGranularity: the archive policy does not keep them.
        Unavailable: storage or indexer do not answer.
    """
    policy = metric.archive_policy
    if method not in policy.aggregation_methods:
        raise errors.NoSuchAggregationMethod(metric.id, method)
    for granularity in granularities:
        if granularity not in policy.granularities:
            raise errors.NoSuchGranularity(metric.id, method, granularity)
    snapshot = services.reader.snapshot()
    answers = []
    for granularity in granularities:
        if resample is None:
            lowest = None if start is None else start - start % granularity
            series = _series(services, snapshot, metric, method, granularity, lowest, stop)
            answers.append(series)
            continue
        lowest = None if start is None else _floor(start, resample)
        highest = None if stop is None else _ceiling(stop, resample)
        series = _series(services, snapshot, metric, method, granularity, lowest, highest)
        timestamps, values = resampled(series.timestamps, series.values, method, resample)
        keep = np.ones(len(timestamps), bool)
        if lowest is not None:
            keep &= timestamps >= lowest
        if stop is not None:
            keep &= timestamps < stop
        answers.append(Series(resample, timestamps[keep], values[keep]))
    return answers


def _series(
    services: Services,
    snapshot: Snapshot,
    metric: Metric,
    method: str,
    granularity: int,
    start: int | None,
    stop: int | None,
) -> Series:
    rows = stored(services, snapshot, [metric], [method], granularity, start, stop)
    return Series(granularity, rows.timestamps, rows.column(method))


def stored(
    services: Services,
    snapshot: Snapshot,
    metrics: Sequence[Metric],
    methods: Iterable[str],
    granularity: int,
    start: int | None,
    stop: int | None,
    max_rows: int | None = None,
) -> Block:
    """The stored aggregates of many metrics at one granularity, in one pass over the segments.

    Args:
        metrics: distinct ones, whose archive policies have the granularity.
        start: ns, inclusive, as it is.
        stop: ns, exclusive.
        max_rows: bound on the number of rows.

    Returns:
        A block over the sorted ids of the metrics. Each row has at least one of the methods; what
        a metric's archive policy does not keep is undefined.

    Raises:
        TooManyValues: there are more rows than ``max_rows``.
        Unavailable: storage or indexer do not answer.
    """
    methods = list(methods)
    by_id = {metric.id.bytes: metric.archive_policy for metric in metrics}
    raw = sorted(by_id)
    members: dict[int, tuple[ArchivePolicy, list[int]]] = {}
    for position, one in enumerate(raw):
        members.setdefault(id(by_id[one]), (by_id[one], []))[1].append(position)
    policies = [(policy, np.array(positions)) for policy, positions in members.values()]
    latest = np.array([_latest(snapshot)])
    oldest = max(start or 0, min((one.start for one in snapshot.segments), default=0))
    # Nothing can have expired in the range unless the newest point of all would make it so. Then
    # the newest point of each series decides, and it may lie behind ``stop``.
    may_expire = any(oldest <= policy.horizons(granularity, latest)[0] for policy, _ in policies)
    rows = services.reader.rows(
        granularity,
        np.frombuffer(b"".join(raw), ID),
        methods,
        start,
        None if may_expire else stop,
        snapshot,
        max_rows=max_rows,
    )
    columns = {method: rows.column(method) for method in methods}
    if may_expire and len(rows):
        columns = _unexpired(rows, columns, policies)
    keep = np.zeros(len(rows), bool)
    for column in columns.values():
        keep |= ~is_absent(column)
    if stop is not None:
        keep &= rows.timestamps < stop
    rows = Block(granularity, rows.ids, rows.index, rows.timestamps, columns)
    return rows if keep.all() else rows.select(np.flatnonzero(keep))


def _unexpired(
    rows: Block,
    columns: dict[str, np.ndarray],
    policies: Sequence[tuple[ArchivePolicy, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Make absent what has expired, which is up to each series and its newest point.

    Args:
        policies: archive policies, and the positions of their metrics among the ids.
    """
    starts, lengths = runs(rows.index)
    found = rows.index[starts]
    kept = {}
    for method, column in columns.items():
        present = ~is_absent(column)
        last = starts + lengths - 1
        if not present.all():
            last = np.maximum.reduceat(np.where(present, np.arange(len(rows)), -1), starts)
        newest = np.zeros(len(rows.ids), np.int64)
        newest[found] = rows.timestamps[last]  # of a metric without any, which has nothing to lose
        horizons = np.empty_like(newest)
        for policy, positions in policies:
            horizons[positions] = policy.horizons(rows.granularity, newest[positions])
        horizon = horizons[found]
        if (rows.timestamps[starts] <= horizon).any():
            expired = rows.timestamps <= np.repeat(horizon, lengths)
            column = np.where(expired, ABSENT, column)
        kept[method] = column
    return kept


def _latest(snapshot: Snapshot) -> int:
    return max((segment.stop for segment in snapshot.segments), default=0)


def _floor(timestamp: int, step: int | str) -> int:
    if isinstance(step, str):
        return calendar.floor(timestamp, step)
    return timestamp - timestamp % step


def _ceiling(timestamp: int, step: int | str) -> int:
    floor = _floor(timestamp, step)
    if floor == timestamp:
        return timestamp
    return calendar.next(timestamp, step) if isinstance(step, str) else floor + step


def newest(services: Services) -> int:
    """The newest timestamp stored anywhere: what a change of an archive policy refers to.

    An archive policy that grows must not bring back points that had expired. Counting from the
    newest point of all never does; it only delays the growth for metrics that are behind it.
    """
    return _latest(services.reader.snapshot())
