"""Turn raw points of many metrics into the aggregate rows that have to be written.

:func:`rollup` is one round of one archive policy: which new points are accepted, which buckets
they touch, what those buckets are now worth, and which raw points must outlive the round.

Invariants:

* A bucket is always computed from all its accepted points; a partial bucket is never emitted.
* The same points in any order, duplicated, or split over any number of rounds give the same
  aggregates, as long as all of them are accepted. A round repeated gives the same rows.
* Only touched buckets are emitted. A bucket holds a new point, or a point whose predecessor is
  new, or else it is worth what it was worth before.

It does not read what is stored: the caller supplies the raw points that are needed, from
:func:`needed_from` on. It does not decide when stored rows disappear either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gnocchi.series.points import ABSENT, NONE, Points, runs, spans, winners
from gnocchi.series.reduce import RATE, reduce

if TYPE_CHECKING:
    from gnocchi.archive_policy import ArchivePolicy
    from gnocchi.series.points import Booleans, Float64s, Int64s

#: Later than every timestamp; as ``cache_from`` it says that the window is complete nowhere.
NEVER: int = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Rows:
    """Aggregates of one granularity, sorted by (index, timestamp), unique.

    ``timestamps`` are bucket starts. There is one column per method of the policy;
    :data:`~gnocchi.series.points.ABSENT` where the bucket has no such aggregate.
    """

    index: Int64s
    timestamps: Int64s
    columns: dict[str, Float64s]


@dataclass(frozen=True, slots=True)
class Rollup:
    """What one round changes. Arrays of ``(metrics,)`` have one entry per metric.

    Attributes:
        aggregates: rows by granularity. Each replaces the stored row of its bucket.
        raw: new raw points to be stored, sorted and unique.
        window: raw points that the next round is likely to need, sorted and unique: all that is
            known from ``cache_from`` on and, where the policy has rates, the point before it.
        newest: newest raw timestamp after this round, NONE where there is none.
        cache_from: time from which ``window`` is complete. A later round may use ``window`` as
            its known points where its first new point needs nothing earlier; NEVER where no
            round may, because the metric had no point in this one.
        accepted: accepted measures, those replaced in the same round included.
        too_old: measures refused because the back window has passed them.
        not_a_number: measures dropped because their value is NaN, which means absent.
    """

    aggregates: dict[int, Rows]
    raw: Points
    window: Points
    newest: Int64s
    cache_from: Int64s
    accepted: Int64s
    too_old: Int64s
    not_a_number: Int64s


def needed_from(policy: ArchivePolicy, first_new: Int64s) -> Int64s:
    """Return from where on raw points are needed to recompute the bucket of ``first_new``.

    That is the earliest start among the buckets, one per granularity, which contain it.
    """
    starts = [_bucket(first_new, granularity) for granularity in policy.granularities]
    earliest: Int64s = np.minimum.reduce(starts)
    return earliest


def rollup(
    policy: ArchivePolicy,
    metrics: int,
    known: tuple[Int64s, Int64s, Float64s],
    newest: Int64s,
    new: tuple[Int64s, Int64s, Float64s],
) -> Rollup:
    """Reduce new points of ``metrics`` metrics that share a policy.

    1. Drop what is not a number or too old, and count it.
    2. Merge the rest into the known points; the last write to a timestamp wins.
    3. For each granularity recompute the touched buckets, less those that are expired already.
    4. Pick the raw points to store, and those worth keeping at hand.

    Args:
        metrics: number of metrics; every index is below it.
        known: (index, timestamps, values) of stored raw points, sorted by (index, timestamp)
            and unique. Complete for every metric from :func:`needed_from` of its first new
            point, with the point just before that if the policy has rates and there is one.
        newest: ``(metrics,)`` newest raw timestamp before this round. The last known point
            counts too, so this may be NONE, or older than the truth, unless points newer than
            the known ones are stored.
        new: (index, timestamps, values) in arrival order.
    """
    stored, arrived = Points(*known), Points(*new)
    before = _newest(newest, stored.metric, stored.timestamps)
    is_number = ~np.isnan(arrived.values)
    in_time = arrived.timestamps >= _late_limits(policy, before)[arrived.metric]
    is_accepted = is_number & in_time
    accepted = _count(arrived.metric, is_accepted, metrics)

    additions = arrived if is_accepted.all() else arrived.take(is_accepted)
    points, is_new = _merge(stored, additions)
    after = _newest(before, points.metric, points.timestamps)
    series = _Series.of(points, is_new, has_rate=policy.has_rate)
    cache_from = _cache_from(policy, after, arrived, accepted)
    return Rollup(
        aggregates={
            granularity: _recompute(policy, granularity, series, after)
            for granularity in policy.granularities
        },
        raw=points.take(_to_store(policy, series, after)),
        window=points.take(
            _from(series, cache_from) | _predecessors(series, cache_from)
            if policy.has_rate
            else _from(series, cache_from)
        ),
        newest=after,
        cache_from=cache_from,
        accepted=accepted,
        too_old=_count(arrived.metric, is_number & ~in_time, metrics),
        not_a_number=_count(arrived.metric, ~is_number, metrics),
    )


# ------------------------------------------------------------------ admission


def _late_limits(policy: ArchivePolicy, newest: Int64s) -> Int64s:
    """Return the earliest acceptable timestamps; NONE for a metric without points."""
    return np.where(newest == NONE, NONE, policy.late_limits(np.maximum(newest, 0)))


def _newest(newest: Int64s, index: Int64s, timestamps: Int64s) -> Int64s:
    """Return the later of ``newest`` and each metric's last timestamp, given sorted ones."""
    starts, lengths = runs(index)
    last = starts + lengths - 1
    owners = index[last]
    result = newest.copy()
    result[owners] = np.maximum(result[owners], timestamps[last])
    return result


def _merge(stored: Points, additions: Points) -> tuple[Points, Booleans]:
    """Return all points sorted and unique, and which of them are additions."""
    if additions.metric.size == 0:
        return stored, np.zeros(stored.metric.size, dtype=np.bool_)
    everything = Points(
        np.concatenate((stored.metric, additions.metric)),
        np.concatenate((stored.timestamps, additions.timestamps)),
        np.concatenate((stored.values, additions.values)),
    )
    kept = winners(everything.metric, everything.timestamps)
    return everything.take(kept), kept >= stored.metric.size


def _count(index: Int64s, selected: Booleans, metrics: int) -> Int64s:
    return np.bincount(index[selected], minlength=metrics).astype(np.int64, copy=False)


# ------------------------------------------------------------------ recomputation


@dataclass(frozen=True, slots=True)
class _Series:
    """The merged points with what every granularity asks of them, per point.

    ``is_first``: nothing earlier of that metric is known. ``touches``: the buckets that hold this
    point have to be recomputed. ``differences``: to the point before; meaningless where
    ``is_first``; None without rates.
    """

    points: Points
    is_new: Booleans
    is_first: Booleans
    touches: Booleans
    differences: Float64s | None

    @classmethod
    def of(cls, points: Points, is_new: Booleans, *, has_rate: bool) -> _Series:
        index, values = points.metric, points.values
        is_first = np.ones(index.size, dtype=np.bool_)
        np.not_equal(index[1:], index[:-1], out=is_first[1:])
        if not has_rate:
            return cls(points, is_new, is_first, is_new, None)
        differences = np.zeros(index.size, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(values[1:], values[:-1], out=differences[1:])
        # A point changes the difference of the one after it, however far away that is.
        touches = is_new.copy()
        touches[1:] |= is_new[:-1] & ~is_first[1:]
        return cls(points, is_new, is_first, touches, differences)


def _recompute(policy: ArchivePolicy, granularity: int, series: _Series, newest: Int64s) -> Rows:
    """Compute the touched buckets of one granularity from all their points."""
    points = series.points
    buckets = _bucket(points.timestamps, granularity)
    begins = series.is_first.copy()
    begins[1:] |= buckets[1:] != buckets[:-1]
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=begins.size)

    touched = _touched(starts, lengths, series.touches)
    starts, lengths = starts[touched], lengths[touched]
    index, timestamps = points.metric[starts], buckets[starts]
    # At most the first point of a bucket has no difference: the first point of the metric.
    missing = series.is_first[starts].astype(np.int64)
    live = _unexpired(policy, granularity, index, timestamps, lengths, lengths - missing, newest)
    if not live.all():
        starts, lengths, missing = starts[live], lengths[live], missing[live]
        index, timestamps = index[live], timestamps[live]

    plain = [m for m in sorted(policy.aggregation_methods) if not m.startswith(RATE)]
    rates = [m for m in sorted(policy.aggregation_methods) if m.startswith(RATE)]
    columns = _reduce_spans(plain, points.values, starts, lengths)
    if series.differences is not None:
        columns |= _reduce_rates(rates, series.differences, starts + missing, lengths - missing)
    return Rows(index, timestamps, columns)


def _touched(starts: Int64s, lengths: Int64s, touches: Booleans) -> Int64s:
    """Return the positions of the groups which hold a point that touches its bucket."""
    running = np.zeros(touches.size + 1, dtype=np.int64)
    np.cumsum(touches, out=running[1:])
    return np.flatnonzero(running[starts + lengths] > running[starts])


def _reduce_spans(
    methods: list[str], values: Float64s, starts: Int64s, lengths: Int64s
) -> dict[str, Float64s]:
    """Reduce ``values[start : start + length]`` of every group; no length is 0."""
    positions = spans(starts, lengths)
    selected = values if positions.size == values.size else values[positions]
    return reduce(methods, selected, np.cumsum(lengths) - lengths)


def _reduce_rates(
    rates: list[str], differences: Float64s, starts: Int64s, lengths: Int64s
) -> dict[str, Float64s]:
    """Reduce differences; groups without any are ABSENT."""
    filled = np.flatnonzero(lengths)
    plain = [method.removeprefix(RATE) for method in rates]
    reduced = _reduce_spans(plain, differences, starts[filled], lengths[filled])
    columns = {}
    for rate, method in zip(rates, plain, strict=True):
        columns[rate] = np.full(lengths.size, ABSENT)
        columns[rate][filled] = reduced[method]
    return columns


def _unexpired(
    policy: ArchivePolicy,
    granularity: int,
    index: Int64s,
    timestamps: Int64s,
    counts: Int64s,
    differences: Int64s,
    newest: Int64s,
) -> Booleans:
    """Tell which buckets still belong to the series of at least one method.

    Retention is a matter of one method's series and counts from its own newest bucket. The
    series of ``std`` and of rates may end before the others do; what this round sees of them is a
    lower bound of their end, so nothing is dropped too early.
    """
    methods = policy.aggregation_methods
    last = np.where(newest == NONE, 0, _bucket(newest, granularity))
    live = np.zeros(index.size, dtype=np.bool_)
    if any(method != "std" and not method.startswith(RATE) for method in methods):
        live |= timestamps > policy.horizons(granularity, last)[index]
    sparse = []
    if "std" in methods:
        sparse.append(counts > 1)
    if any(method.startswith(RATE) and method != RATE + "std" for method in methods):
        sparse.append(differences > 0)
    if RATE + "std" in methods:
        sparse.append(differences > 1)
    for present in sparse:
        ends = _newest(np.zeros_like(newest), index[present], timestamps[present])
        live |= present & (timestamps > policy.horizons(granularity, ends)[index])
    return live


# ------------------------------------------------------------------ what outlives the round


def _cache_from(policy: ArchivePolicy, newest: Int64s, arrived: Points, accepted: Int64s) -> Int64s:
    """Return from where on the known points are complete and worth keeping.

    Known points are complete from the first new point's buckets on. An accepted point is not
    later than the newest, so its metric is complete from the newest point's buckets; a refused
    one may be, so that only the part its own buckets asked for is sure.
    """
    first = np.full(newest.size, NEVER, dtype=np.int64)
    idle = accepted[arrived.metric] == 0
    np.minimum.at(first, arrived.metric[idle], arrived.timestamps[idle])
    complete = np.where(first == NEVER, NEVER, needed_from(policy, first))
    wanted = needed_from(policy, np.maximum(newest, 0))
    return np.where(accepted > 0, wanted, np.maximum(wanted, complete))


def _to_store(policy: ArchivePolicy, series: _Series, newest: Int64s) -> Booleans:
    """Tell which points are new and may be needed by a later round."""
    floors = np.where(newest == NONE, NONE, policy.raw_floors(np.maximum(newest, 0)))
    kept = _from(series, floors)
    if policy.has_rate:
        kept |= _predecessors(series, floors)
    return kept & series.is_new


def _from(series: _Series, bounds: Int64s) -> Booleans:
    """Tell which points are not before the bound of their metric."""
    return series.points.timestamps >= bounds[series.points.metric]


def _predecessors(series: _Series, bounds: Int64s) -> Booleans:
    """Tell which points are their metric's last before its bound."""
    before = ~_from(series, bounds)
    result = before.copy()
    result[:-1] &= ~before[1:] | series.is_first[1:]
    return result


def _bucket(timestamps: Int64s, granularity: int) -> Int64s:
    """Return the starts of the buckets that contain these timestamps, aligned on 1970."""
    return timestamps // granularity * granularity
