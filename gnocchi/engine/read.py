"""Reading the aggregates of one metric.

Expired points are never returned, whatever the bounds: retention counts from the newest point of
the series, wherever that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gnocchi import errors
from gnocchi.segments.batch import ID
from gnocchi.series import calendar
from gnocchi.series.points import is_absent
from gnocchi.series.resample import resample as resampled

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    ids = np.frombuffer(metric.id.bytes, ID)
    answers = []
    for granularity in granularities:
        if resample is None:
            lowest = None if start is None else start - start % granularity
            series = _stored(services, snapshot, policy, ids, method, granularity, lowest, stop)
            answers.append(series)
            continue
        lowest = None if start is None else _floor(start, resample)
        highest = None if stop is None else _ceiling(stop, resample)
        series = _stored(services, snapshot, policy, ids, method, granularity, lowest, highest)
        timestamps, values = resampled(series.timestamps, series.values, method, resample)
        keep = np.ones(len(timestamps), bool)
        if lowest is not None:
            keep &= timestamps >= lowest
        if stop is not None:
            keep &= timestamps < stop
        answers.append(Series(resample, timestamps[keep], values[keep]))
    return answers


def _stored(
    services: Services,
    snapshot: Snapshot,
    policy: ArchivePolicy,
    ids: np.ndarray,
    method: str,
    granularity: int,
    start: int | None,
    stop: int | None,
) -> Series:
    latest = _latest(snapshot)
    horizon = int(policy.horizons(granularity, np.array([latest]))[0])
    # Nothing can have expired in the range unless the newest point of all would make it so. Then
    # the newest point of this series decides, and it may lie behind ``stop``.
    may_expire = start is None or start <= horizon
    rows = services.reader.rows(
        granularity, ids, [method], start, None if may_expire else stop, snapshot
    )
    timestamps = rows.timestamps
    values = rows.columns.get(method)
    if values is None:
        return Series(granularity, np.empty(0, np.int64), np.empty(0))
    keep = ~is_absent(values)
    if may_expire and keep.any():
        newest = timestamps[keep][-1:]
        keep &= timestamps > policy.horizons(granularity, newest)[0]
    if stop is not None:
        keep &= timestamps < stop
    return Series(granularity, timestamps[keep], values[keep])


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
