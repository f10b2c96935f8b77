"""Group the stored aggregates of one series into longer periods.

Grouping applies the series' own method to its aggregates: a mean of means, a count of counts.
Which aggregates belong in, by bounds and retention, is the caller's business; everything given
is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gnocchi.series import calendar
from gnocchi.series.points import is_absent, runs
from gnocchi.series.reduce import RATE, reduce

if TYPE_CHECKING:
    from gnocchi.series.points import Float64s, Int64s


def resample(
    timestamps: Int64s, values: Float64s, method: str, step: int | str
) -> tuple[Int64s, Float64s]:
    """Apply ``method`` to the aggregates of each period.

    Args:
        timestamps: ``(n,)`` int64 ns, strictly increasing.
        values: ``(n,)`` float64; NaN means that there is no aggregate.
        method: a method of the archive policy. One with ``rate:`` is applied to the differences
            between consecutive aggregates, each belonging to the later one.
        step: length of the periods in ns, aligned on 1970, or a letter of
            :mod:`gnocchi.series.calendar`.

    Returns:
        Starts of the periods that hold an aggregate, and what they hold. With ``std`` a period
        of a single aggregate is left out.

    Raises:
        ValueError: the method, the letter or the step is none that exists.
    """
    present = ~np.isnan(values)
    timestamps, values = timestamps[present], values[present]
    if method.startswith(RATE):
        method = method.removeprefix(RATE)
        with np.errstate(invalid="ignore", over="ignore"):
            timestamps, values = timestamps[1:], np.diff(values)
    periods = floor(timestamps, step)
    starts, _ = runs(periods)
    results = reduce([method], values, starts)[method]
    kept = ~is_absent(results)
    return periods[starts[kept]], results[kept]


def floor(timestamps: Int64s, step: int | str) -> Int64s:
    """Return the start of the period each timestamp lies in."""
    if isinstance(step, str):
        return calendar.group(timestamps, step)
    if step <= 0:
        raise ValueError(f"a period of {step} ns is not positive")
    return timestamps // step * step
