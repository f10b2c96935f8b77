"""Windows that move along a series: a number for each timestamp and those before it.

Gaps (NaN) are ignored; a window of nothing but gaps gives NaN, and 0 for ``sum`` and ``count``.
``std`` and ``var`` divide by the number of values.

Whatever the length of the windows, time grows with the number of values and the logarithm of that
length only. Nothing is ever subtracted from a running total: an infinity or a large value leaves
no trace after its window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gnocchi.series.across import middle
from gnocchi.series.table import PIECE, pieces

if TYPE_CHECKING:
    from collections.abc import Callable

    from gnocchi.series.points import Float64s, Int64s

    Parts = tuple[Float64s, ...]

# Up to here it is cheaper to sort each window by itself.
_SHORT = 256


def roll(method: str, values: Float64s, window: int) -> Float64s:
    """Reduce each window of ``(m, n)`` values to the ``(m, n - window + 1)`` results.

    Column ``i`` of the result is that of the window which ends at column ``i + window - 1``.

    Args:
        method: a name of `METHODS`.
        window: columns in a window, from 1 to n.

    Raises:
        ValueError: the method is none of them, or the window does not fit.
    """
    reducer = _REDUCERS.get(method)
    if reducer is None:
        raise ValueError(f"unknown rolling method {method!r}")
    series, columns = values.shape
    if not 1 <= window <= columns:
        raise ValueError(f"a window of {window} of {columns} columns")
    result = np.empty((series, columns - window + 1), dtype=np.float64)
    with np.errstate(all="ignore"):
        for rows in pieces(series, columns):
            # Long series are cut too, into stretches that overlap by less than half.
            step = max(PIECE, window)
            for first in range(0, columns - window + 1, step):
                stretch = values[rows, first : first + step + window - 1]
                result[rows, first : first + step] = reducer(stretch, window)
    return result


def _combined(parts: Parts, window: int, combine: Callable[[Parts, Parts], Parts]) -> Parts:
    """Combine the columns of each window, given what is known of single columns.

    Windows of twice the length are made of two neighbours; those of the powers of two that add up
    to the wanted length, one behind the other, make the wanted windows.
    """
    count = parts[0].shape[1] - window + 1
    result: Parts | None = None
    done, length = 0, 1
    while True:
        if window & length:
            piece = tuple(part[:, done : done + count] for part in parts)
            result = piece if result is None else combine(result, piece)
            done += length
        if done == window:
            assert result is not None
            return result
        parts = combine(
            tuple(part[:, :-length] for part in parts), tuple(part[:, length:] for part in parts)
        )
        length *= 2


def _fold(values: Float64s, window: int, ufunc: np.ufunc) -> Float64s:
    (result,) = _combined((values,), window, lambda a, b: (ufunc(a[0], b[0]),))
    return result


def _present(values: Float64s) -> Float64s:
    present: Float64s = (~np.isnan(values)).astype(np.float64)
    return present


def _count(values: Float64s, window: int) -> Float64s:
    return _fold(_present(values), window, np.add)


def _sum(values: Float64s, window: int) -> Float64s:
    return _fold(np.where(np.isnan(values), 0.0, values), window, np.add)


def _mean(values: Float64s, window: int) -> Float64s:
    return _sum(values, window) / _count(values, window)


def _var(values: Float64s, window: int) -> Float64s:
    present = _present(values)
    means = np.where(np.isnan(values), 0.0, values)
    # What is squared later of an infinity must not be a number.
    squares = means - means
    counts, _, squares = _combined((present, means, squares), window, _merge)
    return squares / counts


def _merge(left: Parts, right: Parts) -> Parts:
    """Merge counts, means and sums of squared deviations from them.

    The formula is that of Chan, Golub and LeVeque (1979) for two samples.
    """
    left_count, left_mean, left_squares = left
    right_count, right_mean, right_squares = right
    count = left_count + right_count
    share = right_count / np.maximum(count, 1.0)
    difference = right_mean - left_mean
    between = difference * (difference * share * left_count)
    return count, left_mean + difference * share, left_squares + right_squares + between


def _std(values: Float64s, window: int) -> Float64s:
    deviation: Float64s = np.sqrt(_var(values, window))
    return deviation


# ------------------------------------------------------------------ median


def _median(values: Float64s, window: int) -> Float64s:
    if window <= _SHORT:
        return _median_by_sorting(values, window)
    counts = _count(values, window).astype(np.int64)
    low, high = _ranked_in_windows(values, window, ((counts - 1) // 2, counts // 2))
    return middle(low, high)


def _median_by_sorting(values: Float64s, window: int) -> Float64s:
    windows = np.lib.stride_tricks.sliding_window_view(values, window, axis=1)
    series, count, _ = windows.shape
    result = np.empty((series, count), dtype=np.float64)
    step = max(PIECE // (series * window), 1)
    for first in range(0, count, step):
        ranked = np.sort(windows[:, first : first + step], axis=2)
        filled = window - np.count_nonzero(np.isnan(ranked), axis=2)
        # Position -1, of a window without values, finds a gap.
        low = np.take_along_axis(ranked, ((filled - 1) // 2)[..., None] % window, axis=2)
        high = np.take_along_axis(ranked, (filled // 2)[..., None], axis=2)
        result[:, first : first + step] = middle(low, high)[..., 0]
    return result


def _ranked_in_windows(
    values: Float64s, window: int, wanted: tuple[Int64s, ...]
) -> tuple[Float64s, ...]:
    """Return for each window the value at a position of its sorted values, gaps being last.

    This is a wavelet matrix (doi 10.1016/j.is.2014.06.002) over the ranks which the values
    have in their series: bit by bit from the highest, the columns are parted stably into those
    with 0 and those with 1, and a window follows the side on which its wanted value is.

    Args:
        wanted: arrays ``(m, windows)`` of positions; -1 counts as 0.
    """
    series, columns = values.shape
    count = columns - window + 1
    order = np.argsort(values, axis=1)
    places = np.arange(columns, dtype=np.int32)
    ranks = np.empty((series, columns), dtype=np.int32)
    np.put_along_axis(ranks, order, places[None], axis=1)

    position = np.maximum(np.concatenate(wanted, axis=1), 0).astype(np.int32)
    low = np.tile(places[:count], (series, len(wanted)))
    high = low + np.int32(window)
    found = np.zeros_like(position)
    zeros = np.zeros((series, columns + 1), dtype=np.int32)
    for bit in reversed(range((columns - 1).bit_length())):
        is_one = (ranks >> bit) & 1 == 1
        np.cumsum(~is_one, axis=1, out=zeros[:, 1:])
        all_zeros = zeros[:, -1:]
        zeros_low = np.take_along_axis(zeros, low, axis=1)
        zeros_high = np.take_along_axis(zeros, high, axis=1)
        inside = zeros_high - zeros_low
        goes_to_ones = position >= inside
        position = np.where(goes_to_ones, position - inside, position)
        low = np.where(goes_to_ones, all_zeros + low - zeros_low, zeros_low)
        high = np.where(goes_to_ones, all_zeros + high - zeros_high, zeros_high)
        found |= goes_to_ones.astype(np.int32) << bit
        before = zeros[:, :-1]
        target = np.where(is_one, all_zeros + places - before, before)
        parted = np.empty_like(ranks)
        np.put_along_axis(parted, target, ranks, axis=1)
        ranks = parted
    ranked = np.take_along_axis(values, order, axis=1)
    results = np.take_along_axis(ranked, found, axis=1)
    return tuple(results[:, first : first + count] for first in range(0, results.shape[1], count))


_REDUCERS: dict[str, Callable[[Float64s, int], Float64s]] = {
    "mean": _mean,
    "median": _median,
    "std": _std,
    "min": lambda values, window: _fold(values, window, np.fmin),
    "max": lambda values, window: _fold(values, window, np.fmax),
    "sum": _sum,
    "var": _var,
    "count": _count,
}

METHODS = frozenset(_REDUCERS)
