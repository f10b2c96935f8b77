"""Reduce groups of values to one number per group and aggregation method.

The values of a group are neighbours, in time order. Groups are independent: an infinity or a NaN
in one never shows in another. Within a group NaN orders above every number, so it is the ``max``
and the upper percentiles, and blanks ``mean``, ``sum`` and ``std``.

Only the 108 plain methods live here. A ``rate:`` method is the plain one applied to differences,
which the caller forms because only it knows the point before a group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gnocchi.series.points import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gnocchi.series.points import Float64s, Int64s

RATE = "rate:"


def reduce(methods: Iterable[str], values: Float64s, starts: Int64s) -> dict[str, Float64s]:
    """Reduce every group with every method.

    Args:
        methods: plain method names: ``mean``, ``sum``, …, ``1pct`` to ``99pct``.
        values: ``(n,)`` float64, group after group, each in time order.
        starts: ``(k,)`` int64, strictly increasing from 0: where each group begins. No group is
            empty.

    Returns:
        For each method a ``(k,)`` column. ``std`` of a single value is ABSENT.

    Raises:
        ValueError: a method is unknown.
    """
    groups = _Groups(values, starts)
    # An overflow or an infinity minus itself is an answer here, not an accident.
    with np.errstate(over="ignore", invalid="ignore"):
        return {method: _reducer(method)(groups) for method in methods}


class _Groups:
    """Values in groups, with the intermediate results that several methods share."""

    def __init__(self, values: Float64s, starts: Int64s) -> None:
        self.values = values
        self.starts = starts
        self.counts = np.diff(starts, append=values.size)
        self._sums: Float64s | None = None
        self._ranked: Float64s | None = None

    def sums(self) -> Float64s:
        if self._sums is None:
            self._sums = self.fold(np.add, self.values)
        return self._sums

    def means(self) -> Float64s:
        return self.sums() / self.counts

    def ranked(self) -> Float64s:
        """Return the values with each group sorted ascending."""
        if self._ranked is None:
            self._ranked = _sort_groups(self.values, self.starts, self.counts)
        return self._ranked

    def fold(self, ufunc: np.ufunc, values: Float64s) -> Float64s:
        if self.starts.size == 0:
            return np.empty(0, dtype=np.float64)
        folded: Float64s = ufunc.reduceat(values, self.starts)
        return folded


def _std(groups: _Groups) -> Float64s:
    counts = groups.counts
    deviations = groups.values - np.repeat(groups.means(), counts)
    squares = groups.fold(np.add, deviations * deviations)
    # The mean is rounded, so the deviations do not quite add up to zero. Taking that out keeps
    # equal values at exactly 0 and large offsets accurate.
    drift = groups.fold(np.add, deviations)
    correction = drift * (drift / counts)
    squares = np.maximum(squares - np.where(np.isfinite(correction), correction, 0.0), 0.0)
    deviation: Float64s = np.sqrt(squares / np.maximum(counts - 1, 1))
    deviation[counts == 1] = ABSENT
    return deviation


def _median(groups: _Groups) -> Float64s:
    ranked, starts, counts = groups.ranked(), groups.starts, groups.counts
    low = ranked[starts + (counts - 1) // 2]
    high = ranked[starts + counts // 2]
    middle: Float64s = np.where(low == high, low, (low + high) / 2)
    return middle


def _percentile(percent: int) -> Callable[[_Groups], Float64s]:
    def reducer(groups: _Groups) -> Float64s:
        ranked, starts = groups.ranked(), groups.starts
        # The rank is percent/100 of the way from the first to the last; whole numbers decide
        # whether it falls on a value, so that no rounding can make 0 · inf out of it.
        hundredths = (groups.counts - 1) * percent
        rank = hundredths / 100
        below = hundredths // 100
        above = below + (hundredths % 100 != 0)
        low, high = ranked[starts + below], ranked[starts + above]
        between: Float64s = low * (above - rank) + high * (rank - below)
        return np.where((below == above) | (low == high), low, between)

    return reducer


def _last(groups: _Groups) -> Float64s:
    return groups.values[groups.starts + groups.counts - 1]


_REDUCERS: dict[str, Callable[[_Groups], Float64s]] = {
    "mean": _Groups.means,
    "sum": lambda groups: groups.sums().copy(),
    "last": _last,
    "max": lambda groups: groups.fold(np.maximum, groups.values),
    "min": lambda groups: groups.fold(np.fmin, groups.values),
    "std": _std,
    "median": _median,
    "first": lambda groups: groups.values[groups.starts],
    "count": lambda groups: groups.counts.astype(np.float64),
    **{f"{percent}pct": _percentile(percent) for percent in range(1, 100)},
}


def _reducer(method: str) -> Callable[[_Groups], Float64s]:
    try:
        return _REDUCERS[method]
    except KeyError:
        raise ValueError(f"unknown aggregation method {method!r}") from None


def _sort_groups(values: Float64s, starts: Int64s, counts: Int64s) -> Float64s:
    """Sort each group ascending, NaN last.

    Groups of similar size are laid out as rows of one matrix, padded with NaN, because sorting
    rows is several times faster than sorting pairs of (group, value). There are as many
    matrices as powers of two among the sizes, and none is more than half padding.
    """
    ranked = values.copy()
    size_class = np.frexp(counts - 1)[1]  # bits of (count - 1): 0 for a single value
    for exponent in np.unique(size_class):
        if exponent == 0:
            continue
        members = np.flatnonzero(size_class == exponent)
        lengths = counts[members]
        columns = np.arange(lengths.max(), dtype=np.int64)
        positions = starts[members, None] + columns
        inside = columns < lengths[:, None]
        matrix = np.where(inside, values[np.minimum(positions, values.size - 1)], np.nan)
        matrix.sort(axis=1)
        ranked[positions[inside]] = matrix[inside]
    return ranked
