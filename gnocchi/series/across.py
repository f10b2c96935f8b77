"""One series out of many: at each timestamp, a number for what the series have there.

Gaps (NaN) are ignored; where there is nothing but gaps the result is NaN, and 0 for ``sum`` and
``count``. ``std`` and ``var`` divide by the number of values, other than the ``std`` of the stored
aggregates does. ``first`` and ``last`` go by the order of the series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gnocchi.series.table import PIECE

if TYPE_CHECKING:
    from collections.abc import Callable

    from gnocchi.series.points import Float64s, Int64s

# Timestamps taken at once, at least: fewer would use a fraction of each line of the cache.
_NARROWEST = 64


def aggregate(method: str, values: Float64s) -> Float64s:
    """Reduce ``(m, n)`` values to ``(n,)``, in memory of the size of the result and a piece.

    Args:
        method: a name of `METHODS`.

    Raises:
        ValueError: the method is none of them.
    """
    reducer = _REDUCERS.get(method)
    if reducer is None:
        raise ValueError(f"unknown aggregation method {method!r}")
    series, timestamps = values.shape
    if series == 0:
        return np.full(timestamps, 0.0 if method in ("sum", "count") else np.nan)
    result = np.empty(timestamps, dtype=np.float64)
    step = max(PIECE // series, _NARROWEST)
    with np.errstate(all="ignore"):
        for first in range(0, timestamps, step):
            result[first : first + step] = reducer(values[:, first : first + step])
    return result


def _count(values: Float64s) -> Float64s:
    counts: Float64s = np.count_nonzero(~np.isnan(values), axis=0).astype(np.float64)
    return counts


def _sum(values: Float64s) -> Float64s:
    sums: Float64s = np.where(np.isnan(values), 0.0, values).sum(axis=0)
    return sums


def _mean(values: Float64s) -> Float64s:
    return _sum(values) / _count(values)


def _var(values: Float64s) -> Float64s:
    counts = _count(values)
    deviations = values - _sum(values) / counts
    np.copyto(deviations, 0.0, where=np.isnan(values))
    # The mean is rounded, so the deviations do not quite add up to zero. Taking that out keeps
    # equal values at exactly 0.
    drift = deviations.sum(axis=0)
    squares = (deviations * deviations).sum(axis=0) - drift * (drift / counts)
    variance: Float64s = np.maximum(squares, 0.0) / counts
    return variance


def _std(values: Float64s) -> Float64s:
    deviation: Float64s = np.sqrt(_var(values))
    return deviation


def _first(values: Float64s) -> Float64s:
    found: Float64s = np.take_along_axis(values, (~np.isnan(values)).argmax(axis=0)[None], axis=0)[
        0
    ]
    return found


def _percentile(percent: int) -> Callable[[Float64s], Float64s]:
    def reducer(values: Float64s) -> Float64s:
        ranked, counts = _ranked(values)
        # Whole numbers decide whether the rank falls on a value, so that no rounding can make
        # 0 · inf out of it.
        hundredths = (counts - 1) * percent
        below = hundredths // 100
        above = below + (hundredths % 100 != 0)
        low, high = _at(ranked, below), _at(ranked, above)
        rank = hundredths / 100
        between = low * (above - rank) + high * (rank - below)
        return np.where((below == above) | (low == high), low, between)

    return reducer


def _median(values: Float64s) -> Float64s:
    ranked, counts = _ranked(values)
    return middle(_at(ranked, (counts - 1) // 2), _at(ranked, counts // 2))


def middle(low: Float64s, high: Float64s) -> Float64s:
    """Return the means of two values of the middle, which may be the same infinity."""
    return np.where(low == high, low, low / 2 + high / 2)


def _ranked(values: Float64s) -> tuple[Float64s, Int64s]:
    """Return the values of each timestamp as a sorted row, gaps last, and their numbers."""
    ranked = np.array(values.T, order="C")
    ranked.sort(axis=1)
    return ranked, values.shape[0] - np.count_nonzero(np.isnan(ranked), axis=1)


def _at(ranked: Float64s, position: Int64s) -> Float64s:
    """Return one value a row; position -1, of a row without values, finds a gap."""
    return ranked[np.arange(position.size), np.where(position < 0, -1, position)]


_REDUCERS: dict[str, Callable[[Float64s], Float64s]] = {
    "mean": _mean,
    "median": _median,
    "std": _std,
    "min": lambda values: np.fmin.reduce(values, axis=0),
    "max": lambda values: np.fmax.reduce(values, axis=0),
    "sum": _sum,
    "var": _var,
    "count": _count,
    "first": _first,
    "last": lambda values: _first(values[::-1]),
    **{f"{percent}pct": _percentile(percent) for percent in range(1, 100)},
}

METHODS = frozenset(_REDUCERS)
