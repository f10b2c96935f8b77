"""Grouped reducers, with pandas, numpy and exact arithmetic as oracles."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnocchi.series.points import is_absent
from gnocchi.series.reduce import reduce

PERCENTILES = [f"{percent}pct" for percent in range(1, 100)]
PLAIN = ["mean", "sum", "last", "max", "min", "std", "median", "first", "count", *PERCENTILES]
#: Squares of smaller values are not doubles any more.
TINY = 1e-150

numbers = st.floats(-1e9, 1e9) | st.integers(-5, 5).map(float)
groups_of_numbers = st.lists(st.lists(numbers, min_size=1, max_size=40), min_size=1, max_size=12)


def reduce_groups(methods: list[str], groups: list[list[float]]) -> dict[str, np.ndarray]:
    lengths = np.array([len(group) for group in groups], dtype=np.int64)
    values = np.array([value for group in groups for value in group], dtype=np.float64)
    return reduce(methods, values, np.cumsum(lengths) - lengths)


def one(method: str, values: list[float]) -> float:
    return float(reduce_groups([method], [values])[method][0])


def pandas_groups(groups: list[list[float]]) -> pd.core.groupby.SeriesGroupBy:
    keys = [number for number, group in enumerate(groups) for _ in group]
    return pd.Series([value for group in groups for value in group]).groupby(keys)


def assert_close(found: np.ndarray, expected: np.ndarray, groups: list[list[float]]) -> None:
    """Compare within 1e-12 of the largest value of each group."""
    assert found.shape == expected.shape
    largest = np.array([max(abs(value) for value in group) for group in groups])
    size = np.array([len(group) for group in groups])
    assert np.all(np.abs(found - expected) <= 1e-12 * largest * size + TINY), (found, expected)


@settings(deadline=None)
@given(groups_of_numbers)
def test_moments_equal_pandas(groups: list[list[float]]) -> None:
    found = reduce_groups(["mean", "sum", "std"], groups)
    oracle = pandas_groups(groups)
    assert_close(found["mean"], oracle.mean().to_numpy(), groups)
    assert_close(found["sum"], oracle.sum().to_numpy(), groups)
    several = np.array([len(group) > 1 for group in groups])
    assert (is_absent(found["std"]) == ~several).all()
    assert_close(
        found["std"][several],
        oracle.std(ddof=1).to_numpy()[several],
        [group for group in groups if len(group) > 1],
    )


@settings(deadline=None)
@given(groups_of_numbers)
def test_selections_equal_pandas(groups: list[list[float]]) -> None:
    found = reduce_groups(["min", "max", "first", "last", "count"], groups)
    oracle = pandas_groups(groups)
    for method in ("min", "max", "first", "last", "count"):
        assert found[method].tolist() == getattr(oracle, method)().tolist()
        assert found[method].dtype == np.float64


@settings(deadline=None)
@given(groups_of_numbers)
def test_median_and_all_percentiles_equal_pandas(groups: list[list[float]]) -> None:
    found = reduce_groups(["median", *PERCENTILES], groups)
    oracle = pandas_groups(groups)
    assert_close(found["median"], oracle.median().to_numpy(), groups)
    quantiles = oracle.quantile([percent / 100 for percent in range(1, 100)]).unstack()
    for percent in range(1, 100):
        assert_close(found[f"{percent}pct"], quantiles[percent / 100].to_numpy(), groups)


@settings(deadline=None)
@given(groups_of_numbers)
def test_percentiles_equal_numpy(groups: list[list[float]]) -> None:
    found = reduce_groups(PERCENTILES, groups)
    for percent in range(1, 100):
        expected = np.array([np.percentile(group, percent) for group in groups])
        assert_close(found[f"{percent}pct"], expected, groups)


@settings(deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=30))
def test_sum_and_std_equal_exact_arithmetic(values: list[float]) -> None:
    largest = max(abs(value) for value in values)
    assert abs(one("sum", values) - math.fsum(values)) <= 1e-12 * largest * len(values)
    assert one("std", values) == pytest.approx(
        statistics.stdev(values), rel=1e-9, abs=1e-12 * largest + TINY
    )


@settings(deadline=None)
@given(groups_of_numbers)
def test_a_group_is_reduced_as_if_it_were_alone(groups: list[list[float]]) -> None:
    together = reduce_groups(PLAIN, groups)
    for number, group in enumerate(groups):
        alone = reduce_groups(PLAIN, [group])
        for method in PLAIN:
            np.testing.assert_array_equal(together[method][number], alone[method][0])


@settings(deadline=None)
@given(st.lists(numbers, min_size=1, max_size=30))
def test_percentiles_are_ordered_and_bounded(values: list[float]) -> None:
    found = reduce_groups(["min", *PERCENTILES, "max"], [values])
    ladder = [float(column[0]) for column in found.values()]
    slack = 1e-12 * max(abs(value) for value in values) + TINY
    assert all(low <= high + slack for low, high in pairwise(ladder))


@settings(deadline=None)
@given(numbers, st.integers(1, 50))
def test_equal_values_give_exactly_that_value_and_no_deviation(value: float, size: int) -> None:
    found = reduce_groups(["median", "std", *PERCENTILES], [[value] * size])
    deviation = found.pop("std")
    assert {float(column[0]) for column in found.values()} == {value}
    assert is_absent(deviation)[0] if size == 1 else deviation[0] <= abs(value) * 1e-15


def test_large_groups_beside_small_ones() -> None:
    generator = np.random.default_rng(3)
    groups = [generator.normal(size=size).tolist() for size in (1, 5000, 2, 3, 4, 5, 800, 1, 17)]
    found = reduce_groups(["95pct", "median"], groups)
    np.testing.assert_allclose(found["95pct"], [np.percentile(g, 95) for g in groups], rtol=1e-12)
    np.testing.assert_allclose(found["median"], [np.median(g) for g in groups], rtol=1e-12)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("1pct", 1.09),
        ("10pct", 1.9),
        ("25pct", 3.25),
        ("50pct", 5.5),
        ("90pct", 9.1),
        ("95pct", 9.549999999999999),
        ("99pct", 9.91),
        ("median", 5.5),
        ("std", 3.0276503540974917),
        ("mean", 5.5),
        ("sum", 55.0),
        ("count", 10.0),
    ],
)
def test_one_to_ten(method: str, expected: float) -> None:
    assert one(method, [float(value) for value in range(1, 11)]) == pytest.approx(
        expected, rel=1e-15
    )


@pytest.mark.parametrize(
    ("method", "expected"),
    [("mean", 3.6), ("std", 1.3416407864998738), ("56pct", 3.48), ("first", 3.0), ("last", 5.0)],
)
def test_five_values_in_time_order(method: str, expected: float) -> None:
    assert one(method, [3.0, 5.0, 2.0, 3.0, 5.0]) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("mean", math.inf),
        ("sum", math.inf),
        ("max", math.inf),
        ("median", math.inf),
        ("min", 1.0),
        ("std", math.nan),
        ("count", 2.0),
        ("first", math.inf),
        ("last", 1.0),
    ],
)
def test_an_infinity_beside_a_one(method: str, expected: float) -> None:
    found = reduce_groups([method], [[math.inf, 1.0]])[method]
    np.testing.assert_array_equal(found, [expected])
    assert not is_absent(found)[0]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("mean", math.nan),
        ("sum", math.nan),
        ("std", math.nan),
        ("max", math.nan),
        ("min", 5.0),
        ("first", 5.0),
        ("last", 9.0),
        ("count", 3.0),
        ("median", 9.0),
        ("50pct", 9.0),
    ],
)
def test_nan_is_the_largest_value(method: str, expected: float) -> None:
    np.testing.assert_array_equal(
        reduce_groups([method], [[5.0, math.nan, 9.0]])[method], [expected]
    )


def test_neither_infinity_nor_nan_reaches_a_neighbouring_group() -> None:
    groups = [[1.0, 2.0], [math.inf, -math.inf, math.nan], [1.0, 2.0]]
    for method, column in reduce_groups(PLAIN, groups).items():
        assert column[0] == column[2] == one(method, [1.0, 2.0])


def test_a_percentile_that_falls_on_a_value_is_that_value_beside_an_infinity() -> None:
    assert one("50pct", [1.0, 2.0, math.inf]) == 2.0
    assert one("75pct", [1.0, 2.0, math.inf]) == math.inf


def test_std_of_values_far_from_zero_is_accurate() -> None:
    assert one("std", [1e9 + 0.1, 1e9 + 0.2, 1e9 + 0.3]) == pytest.approx(0.1, rel=1e-6)


def test_no_groups_give_empty_columns() -> None:
    nothing = reduce(PLAIN, np.empty(0), np.empty(0, dtype=np.int64))
    assert {method: column.shape for method, column in nothing.items()} == dict.fromkeys(
        PLAIN, (0,)
    )


@pytest.mark.parametrize("method", ["0pct", "100pct", "rate:mean", "var", ""])
def test_an_unknown_method_is_an_error(method: str) -> None:
    with pytest.raises(ValueError, match="unknown aggregation method"):
        reduce([method], np.ones(1), np.zeros(1, dtype=np.int64))
