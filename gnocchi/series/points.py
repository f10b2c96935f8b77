"""Columns of points of many metrics: order them, and let the last write win.

Points are three parallel arrays: the number of the metric within the call, the timestamp in
nanoseconds since 1970 UTC, and the value. Arrival order is the order of the rows.

Invariants: sorted means by (index, timestamp); unique means no such pair twice. Nothing here
changes its arguments. What a bucket is, and which points may still be accepted, is not known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Int64s = npt.NDArray[np.int64]
    Float64s = npt.NDArray[np.float64]
    Booleans = npt.NDArray[np.bool_]

#: Stands for "no timestamp"; smaller than every timestamp.
NONE: int = int(np.iinfo(np.int64).min)

#: Bits of :data:`ABSENT`: a quiet NaN whose payload no arithmetic produces.
ABSENT_BITS: int = 0x7FF8_0000_4E4F_4E45

#: "This bucket has no such aggregate", as opposed to an aggregate that was computed to be NaN.
#: Copying keeps it; arithmetic need not, so test columns with :func:`is_absent` only.
ABSENT: np.float64 = np.array([ABSENT_BITS], dtype=np.int64).view(np.float64)[0]


class Points(NamedTuple):
    """Points of many metrics in parallel arrays of one length.

    ``metric`` is the index of the metric within the call (``index`` is taken by ``tuple``).
    """

    metric: Int64s
    timestamps: Int64s
    values: Float64s

    def take(self, selection: Int64s | Booleans) -> Points:
        """Return the points at these positions, or where this mask is true."""
        if selection.dtype == np.bool_:
            selection = np.flatnonzero(selection)
        return Points(
            self.metric.take(selection),
            self.timestamps.take(selection),
            self.values.take(selection),
        )


def is_absent(column: Float64s) -> Booleans:
    """Tell where a column holds :data:`ABSENT`; any other NaN is a value."""
    absent: Booleans = column.view(np.int64) == ABSENT_BITS
    return absent


def latest(index: Int64s, timestamps: Int64s, values: Float64s) -> Points:
    """Sort points by (index, timestamp), the last in input order winning among equals.

    Args:
        index: ``(n,)`` int64, not negative.
        timestamps: ``(n,)`` int64 ns.
        values: ``(n,)`` float64.

    Returns:
        Sorted, unique points.
    """
    return Points(index, timestamps, values).take(winners(index, timestamps))


def winners(index: Int64s, timestamps: Int64s) -> Int64s:
    """Return the positions of the rows that :func:`latest` keeps, in its order.

    Cheapest when the input consists of few sorted runs, such as stored points followed by new
    ones.
    """
    if index.size == 0:
        return np.empty(0, dtype=np.int64)
    key = _key(index, timestamps)
    if key is None:
        order = _radix_order(index, timestamps)
        ordered_index, ordered_time = index[order], timestamps[order]
        differs = _changes(ordered_index) | _changes(ordered_time)
    else:
        descents = np.count_nonzero(key[1:] < key[:-1])
        if descents == 0:
            order = np.arange(key.size, dtype=np.int64)
        elif descents < key.size // 64:
            # The stable sort merges runs, so it costs little more than one pass here.
            order = np.argsort(key, kind="stable")
            key = key[order]
        else:
            order = np.argsort(key)
            key = key[order]
        differs = _changes(key)
    if differs.all():
        return order
    # Neither order is promised to be stable: among equals the latest arrival is the largest
    # position, wherever it was sorted to.
    return np.maximum.reduceat(order, np.flatnonzero(differs))


def runs(index: Int64s) -> tuple[Int64s, Int64s]:
    """Return the starts and the lengths of the runs of equal neighbours."""
    starts = np.flatnonzero(_changes(index))
    return starts, np.diff(starts, append=index.size)


def spans(starts: Int64s, lengths: Int64s) -> Int64s:
    """Concatenate ``start, start + 1, …`` of every range into one array of positions."""
    if lengths.size == 0:
        return np.empty(0, dtype=np.int64)
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1], dtype=np.int64)


def _changes(column: Int64s) -> Booleans:
    """Tell of every row whether it differs from the one before it; the first one does."""
    differs = np.ones(column.size, dtype=np.bool_)
    np.not_equal(column[1:], column[:-1], out=differs[1:])
    return differs


def _key(index: Int64s, timestamps: Int64s) -> Int64s | None:
    """Fold both columns into one of the same order, or return None where 63 bits are too few."""
    first = int(timestamps.min())
    width = int(timestamps.max()) - first + 1
    if (int(index.max()) + 1) * width >= 2**63:
        return None
    return index * width + (timestamps - first)


def _radix_order(index: Int64s, timestamps: Int64s) -> Int64s:
    """Sort by timestamp, then stably by 16 bits of the index at a time."""
    order = np.argsort(timestamps)
    top = int(index.max())
    shift = 0
    while shift == 0 or top >> shift:
        digits = (index[order] >> shift).astype(np.uint16)
        order = order[np.argsort(digits, kind="stable")]
        shift += 16
    return order
