"""Series side by side on common timestamps, and what becomes of the gaps between their points.

Invariants: NaN in a table is a gap. Functions here return new tables and never write into the
arrays they are given, so tables may share memory. Where series are many, work is done on as many of
them at a time as `PIECE` allows, which bounds what is needed beside the result.

Which points belong in, by bounds and retention, is decided by who reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gnocchi.series.points import Booleans, Float64s, Int64s

#: Cells worked on at a time: large enough to make the loop around it cheap, small enough for the
#: processor's caches.
PIECE = 1 << 18

# Timestamps are positions on a regular grid while the grid has at most so many times more places
# than there are points.
_SPARSEST = 4

MODES = ("dropna", "null", "ffill", "bfill", "full_ffill", "full_bfill")


class TooManyCells(ValueError):
    """The table would be larger than allowed; it was not built."""

    def __init__(self, cells: int, limit: int) -> None:
        super().__init__(f"{cells} values are more than {limit}")
        self.cells = cells
        self.limit = limit


class NoOverlap(ValueError):
    """No timestamp is common to all series."""

    def __init__(self) -> None:
        super().__init__("No overlap")


class TooLittleOverlap(ValueError):
    """Too few of the timestamps are common to all series; both numbers are percentages."""

    def __init__(self, needed: float, percent: float) -> None:
        super().__init__(
            f"Less than {needed:f}% of datapoints overlap in this timespan ({percent:.2f}%)"
        )
        self.needed = needed
        self.percent = percent


@dataclass(frozen=True, slots=True)
class Table:
    """Series on common timestamps.

    Attributes:
        granularity: ns between the starts of neighbouring buckets.
        timestamps: ``(n,)`` int64 ns, ascending and unique.
        values: ``(m, n)`` float64, one row a series; NaN is a gap.
    """

    granularity: int
    timestamps: Int64s
    values: Float64s

    def select(self, series: Int64s) -> Table:
        """Return the table of these rows, in this order, on the same timestamps."""
        count = self.values.shape[0]
        if series.size == count and (series == np.arange(count)).all():
            return self
        return Table(self.granularity, self.timestamps, self.values[series])

    def between(self, first: int, last: int) -> Table:
        """Return the table of the timestamps at positions ``[first, last)``."""
        return Table(self.granularity, self.timestamps[first:last], self.values[:, first:last])

    def trimmed(self) -> Table:
        """Return the table without the timestamps at which every series has a gap."""
        filled = np.zeros(self.timestamps.size, dtype=np.bool_)
        for rows in pieces(*self.values.shape):
            filled |= ~np.isnan(self.values[rows]).all(axis=0)
        if filled.all():
            return self
        return Table(self.granularity, self.timestamps[filled], self.values[:, filled])


def pieces(rows: int, columns: int) -> Iterator[slice]:
    """Cut rows of so many columns into slices of about `PIECE` cells; none is empty."""
    step = max(PIECE // max(columns, 1), 1)
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


# ------------------------------------------------------------------ alignment


def align(
    granularity: int,
    count: int,
    index: Int64s,
    timestamps: Int64s,
    values: Float64s,
    *,
    max_cells: int | None = None,
) -> Table:
    """Lay the points of ``count`` series out on the sorted union of their timestamps.

    Args:
        granularity: ns, positive.
        count: number of series; every index is below it.
        index: ``(k,)`` which series a point belongs to.
        timestamps: ``(k,)`` int64 ns. Points are sorted by (index, timestamp) and unique.
        values: ``(k,)`` float64. A NaN is a gap like any other, but its timestamp stays.
        max_cells: bound on ``count`` times the number of timestamps.

    Raises:
        TooManyCells: the table would be larger than that.
    """
    if regular := _common(count, timestamps):
        _check_size(count, regular, max_cells)
        return Table(granularity, timestamps[:regular], values.reshape(count, regular))
    union, positions = _union(granularity, timestamps)
    _check_size(count, union.size, max_cells)
    cells = np.full(count * union.size, np.nan)
    places = index * union.size
    places += positions
    cells[places] = values
    return Table(granularity, union, cells.reshape(count, union.size))


def _check_size(count: int, timestamps: int, limit: int | None) -> None:
    if limit is not None and count * timestamps > limit:
        raise TooManyCells(count * timestamps, limit)


def _common(count: int, timestamps: Int64s) -> int:
    """Return the number of timestamps where all series have the same ones, otherwise 0.

    Within a series timestamps ascend. Where equal rows follow each other, each row therefore
    begins another series, and ``count`` rows leave none of them a second one.
    """
    if count == 0 or timestamps.size == 0 or timestamps.size % count:
        return 0
    rows = timestamps.reshape(count, -1)
    return rows.shape[1] if (rows == rows[0]).all() else 0


def _union(granularity: int, timestamps: Int64s) -> tuple[Int64s, Int64s]:
    """Return the distinct timestamps in order, and the position of each given one among them."""
    if timestamps.size == 0:
        return timestamps, timestamps
    first, last = int(timestamps.min()), int(timestamps.max())
    places = (last - first) // granularity + 1
    if places <= _SPARSEST * timestamps.size + 1024:
        on_grid = (timestamps - first) // granularity
        if (on_grid * granularity == timestamps - first).all():
            return _grid(first, granularity, places, on_grid)
    union = np.unique(timestamps)
    return union, np.searchsorted(union, timestamps)


def _grid(first: int, granularity: int, places: int, on_grid: Int64s) -> tuple[Int64s, Int64s]:
    """Return what `_union` does, given the places of the timestamps on a regular grid."""
    taken = np.zeros(places, dtype=np.bool_)
    taken[on_grid] = True
    union = np.flatnonzero(taken)
    if union.size < places:
        on_grid = (np.cumsum(taken) - 1)[on_grid]
    return union * granularity + first, on_grid


# ------------------------------------------------------------------ gaps


@dataclass(frozen=True, slots=True)
class Fill:
    """What becomes of gaps: one of `MODES`, or ``number`` with the number."""

    mode: str
    number: float = 0.0

    @property
    def keeps_everything(self) -> bool:
        """Whether results that are no finite numbers are shown."""
        return self.mode in ("number", "null")


DROP = Fill("dropna")


def parse_fill(text: str) -> Fill:
    """Return the fill that a text names.

    Raises:
        ValueError: it names none; the text of the error is for the user.
    """
    if text in MODES:
        return Fill(text)
    try:
        return Fill("number", parse_number(text))
    except ValueError:
        raise ValueError(
            "Must be a float, 'dropna', 'null', 'ffill', 'bfill', 'full_ffill' or 'full_bfill'"
        ) from None


def parse_number(text: str) -> float:
    """Return the number that a text of digits is; ``nan`` and ``inf`` are numbers.

    Raises:
        ValueError: it is none.
    """
    if not text.isascii() or "_" in text:
        raise ValueError("not a number")
    return float(text)


def fill(table: Table, how: Fill | None) -> Table:
    """Close the gaps of a table before anything is computed from it.

    ``ffill`` takes the value before the gap in the same series, ``bfill`` the one after it, and
    the modes with ``full_`` close what is left the other way round. None, ``null`` and ``dropna``
    leave gaps as they are.
    """
    if how is None or how.mode in ("null", "dropna"):
        return table
    values = np.empty_like(table.values)
    for rows in pieces(*table.values.shape):
        values[rows] = _filled(table.values[rows], how)
    return Table(table.granularity, table.timestamps, values)


def _filled(values: Float64s, how: Fill) -> Float64s:
    if how.mode == "number":
        return np.where(np.isnan(values), how.number, values)
    if how.mode in ("ffill", "full_ffill"):
        values = _forward(values)
    if how.mode != "ffill":
        values = _forward(values[:, ::-1])[:, ::-1]
    return _forward(values) if how.mode == "full_bfill" else values


def _forward(values: Float64s) -> Float64s:
    """Copy the last value before a gap into it, along each row."""
    source = np.where(np.isnan(values), 0, np.arange(values.shape[1]))
    np.maximum.accumulate(source, axis=1, out=source)
    return np.take_along_axis(values, source, axis=1)


def overlapping(table: Table, needed: float, *, start_given: bool, stop_given: bool) -> Table:
    """Cut a table to where its series overlap, and make sure that they do.

    A timestamp overlaps when no series has a gap there. On a side where no bound was given, what
    lies beyond the outermost overlapping timestamp goes.

    Args:
        needed: percentage of the remaining timestamps that have to overlap.

    Raises:
        NoOverlap: no timestamp overlaps, and some have to.
        TooLittleOverlap: fewer do than have to.
    """
    overlaps = _gapless(table.values)
    positions = np.flatnonzero(overlaps)
    if positions.size == 0:
        if needed > 0:
            raise NoOverlap
        return table
    first = 0 if start_given else int(positions[0])
    last = overlaps.size if stop_given else int(positions[-1]) + 1
    percent = positions.size * 100.0 / (last - first)
    if percent < needed:
        raise TooLittleOverlap(needed, percent)
    return table.between(first, last)


def _gapless(values: Float64s) -> Booleans:
    gapless = np.ones(values.shape[1], dtype=np.bool_)
    for rows in pieces(*values.shape):
        gapless &= ~np.isnan(values[rows]).any(axis=0)
    return gapless


def drop(timestamps: Int64s, values: Float64s, how: Fill | None) -> tuple[Int64s, Float64s]:
    """Return those points of a result that are shown.

    A number or ``null`` as fill, and None for no fill at all, show everything; the others leave
    out what is no finite number.
    """
    if how is None or how.keeps_everything:
        return timestamps, values
    finite = np.isfinite(values)
    if finite.all():
        return timestamps, values
    return timestamps[finite], values[finite]
