"""Calendar periods in UTC, named by one letter.

``Y`` year, ``H`` half-year (from January and July), ``Q`` quarter, ``M`` month, ``W`` week
beginning on Sunday. A period is named by its first instant, in nanoseconds since 1970.

The week of 1970-01-01 begins on 1969-12-28, so the start of a period may be negative. Periods of
other time zones are not known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gnocchi.series.points import Int64s

LETTERS = "YHQMW"

_DAY = 86_400 * 10**9
_LAST = int(np.iinfo(np.int64).max)
_MONTHS = {"Y": 12, "H": 6, "Q": 3, "M": 1}
#: 1970-01-04, the first Sunday.
_SUNDAY = 3 * _DAY
_WEEK = 7 * _DAY


def group(timestamps: Int64s, letter: str) -> Int64s:
    """Return the start of the period each timestamp lies in.

    Raises:
        ValueError: the letter is none of :data:`LETTERS`.
    """
    if letter == "W":
        return (timestamps - _SUNDAY) // _WEEK * _WEEK + _SUNDAY
    length = _months(letter)
    months = timestamps.view("datetime64[ns]").astype("datetime64[M]").astype(np.int64)
    starts = (months // length * length).view("datetime64[M]")
    return starts.astype("datetime64[ns]").view(np.int64)


def floor(timestamp: int, letter: str) -> int:
    """Return the start of the period the timestamp lies in."""
    return int(group(np.array([timestamp], dtype=np.int64), letter)[0])


def next(timestamp: int, letter: str) -> int:  # noqa: A001 - reads calendar.next
    """Return the start of the period after the one the timestamp lies in.

    Where that is beyond the last timestamp there is, return the last timestamp.
    """
    start = floor(timestamp, letter)
    if letter == "W":
        return min(start + _WEEK, _LAST)
    month = np.datetime64(start, "ns").astype("datetime64[M]") + np.timedelta64(
        _months(letter), "M"
    )
    # In microseconds the years after 2262 exist.
    following = month.astype("datetime64[us]").astype(np.int64)
    return min(int(following) * 1000, _LAST)


def _months(letter: str) -> int:
    try:
        return _MONTHS[letter]
    except KeyError:
        raise ValueError(f"unknown calendar period {letter!r}") from None
