"""Resampling of one series, with pandas as the oracle."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnocchi.series.points import ABSENT
from gnocchi.series.resample import floor, resample

MINUTE = 60 * 10**9
METHODS = ["mean", "sum", "last", "max", "min", "std", "median", "first", "count", "1pct", "95pct"]

series_of_minutes = st.dictionaries(
    st.integers(0, 3_000_000), st.integers(-1000, 1000).map(float), max_size=40
).map(lambda cells: sorted((minute * MINUTE, value) for minute, value in cells.items()))


def ns(text: str) -> int:
    return int(np.datetime64(text, "ns").astype(np.int64))


def run(rows: list[tuple[int, float]], method: str, step: int | str) -> list[tuple[int, float]]:
    timestamps, values = resample(
        np.array([time for time, _ in rows], dtype=np.int64),
        np.array([value for _, value in rows], dtype=np.float64),
        method,
        step,
    )
    return list(zip(timestamps.tolist(), values.tolist(), strict=True))


def by_pandas(
    rows: list[tuple[int, float]], method: str, keys: list[int]
) -> list[tuple[int, float]]:
    groups = pd.Series([value for _, value in rows], dtype=float).groupby(keys)
    if method.endswith("pct"):
        result = groups.quantile(int(method.removesuffix("pct")) / 100)
    else:
        result = getattr(groups, method)()
    return [(int(key), float(value)) for key, value in result.items() if not math.isnan(value)]


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None)
@given(rows=series_of_minutes, step=st.integers(1, 100_000).map(lambda n: n * MINUTE // 7))
def test_equals_pandas(method: str, rows: list[tuple[int, float]], step: int) -> None:
    expected = by_pandas(rows, method, [time - time % step for time, _ in rows])
    found = run(rows, method, step)
    assert [time for time, _ in found] == [time for time, _ in expected]
    assert [value for _, value in found] == pytest.approx(
        [value for _, value in expected], rel=1e-12, abs=1e-9
    )


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None)
@given(rows=series_of_minutes, step=st.integers(1, 10_000).map(lambda n: n * MINUTE))
def test_a_rate_is_the_method_on_consecutive_differences(
    method: str, rows: list[tuple[int, float]], step: int
) -> None:
    later = rows[1:]
    differences = [
        (time, value - before) for (time, value), (_, before) in zip(later, rows[:-1], strict=True)
    ]
    assert run(rows, f"rate:{method}", step) == run(differences, method, step)


DAILY_SUMS = [
    (ns("2023-12-30"), 1.0),
    (ns("2023-12-31"), 2.0),
    (ns("2024-01-01"), 4.0),
    (ns("2024-01-06"), 5.0),
    (ns("2024-01-07"), 6.0),
    (ns("2024-02-29"), 8.0),
    (ns("2024-07-01"), 20.0),
]


@pytest.mark.parametrize(
    ("letter", "expected"),
    [
        ("Y", {"2023-01-01": 3, "2024-01-01": 43}),
        ("H", {"2023-07-01": 3, "2024-01-01": 23, "2024-07-01": 20}),
        ("Q", {"2023-10-01": 3, "2024-01-01": 23, "2024-07-01": 20}),
        ("M", {"2023-12-01": 3, "2024-01-01": 15, "2024-02-01": 8, "2024-07-01": 20}),
        (
            "W",
            {
                "2023-12-24": 1,
                "2023-12-31": 11,
                "2024-01-07": 6,
                "2024-02-25": 8,
                "2024-06-30": 20,
            },
        ),
    ],
)
def test_calendar_groups_of_daily_sums(letter: str, expected: dict[str, int]) -> None:
    assert run(DAILY_SUMS, "sum", letter) == [
        (ns(day), float(value)) for day, value in expected.items()
    ]


def test_a_calendar_letter_works_with_a_rate() -> None:
    assert run(DAILY_SUMS, "rate:max", "Y") == [(ns("2023-01-01"), 1.0), (ns("2024-01-01"), 12.0)]


def test_a_mean_is_a_mean_of_means_and_a_count_counts_aggregates() -> None:
    rows = [(0, 10.0), (MINUTE, 20.0), (2 * MINUTE, 60.0)]
    assert run(rows, "mean", 2 * MINUTE) == [(0, 15.0), (2 * MINUTE, 60.0)]
    assert run(rows, "count", 2 * MINUTE) == [(0, 2.0), (2 * MINUTE, 1.0)]


def test_std_leaves_out_periods_of_one_aggregate() -> None:
    rows = [(0, 1.0), (MINUTE, 3.0), (2 * MINUTE, 60.0)]
    assert run(rows, "std", 2 * MINUTE) == [(0, pytest.approx(math.sqrt(2)))]


@pytest.mark.parametrize("hole", [math.nan, float(ABSENT)])
def test_nan_counts_as_no_aggregate(hole: float) -> None:
    rows = [(0, 1.0), (MINUTE, hole), (2 * MINUTE, 3.0), (10 * MINUTE, hole)]
    assert run(rows, "count", 5 * MINUTE) == [(0, 2.0)]
    assert run(rows, "rate:sum", 5 * MINUTE) == [(0, 2.0)]


def test_an_undefined_result_is_still_a_result() -> None:
    [(time, value)] = run([(0, math.inf), (1, -math.inf)], "sum", MINUTE)
    assert time == 0
    assert math.isnan(value)


def test_a_boundary_is_exact_to_the_nanosecond() -> None:
    boundary = ns("2024-01-01T00:01:00")
    rows = [(boundary - 1, 1.0), (boundary, 2.0)]
    assert run(rows, "sum", MINUTE) == [(boundary - MINUTE, 1.0), (boundary, 2.0)]


@pytest.mark.parametrize("method", ["mean", "std", "rate:mean"])
@pytest.mark.parametrize("step", [MINUTE, "M"])
def test_an_empty_series_stays_empty(method: str, step: int | str) -> None:
    assert run([], method, step) == []


def test_a_single_point_has_no_rate() -> None:
    assert run([(0, 1.0)], "rate:last", MINUTE) == []


def test_steps_that_are_none_are_errors() -> None:
    nothing = np.empty(0, dtype=np.int64)
    with pytest.raises(ValueError, match="not positive"):
        floor(nothing, 0)
    with pytest.raises(ValueError, match="unknown calendar period"):
        floor(nothing, "D")
