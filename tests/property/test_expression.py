"""Operations over series against numpy and pandas doing the same one cell at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnocchi.series import across, rolling
from gnocchi.series.expression import InvalidOperations, evaluate, parse
from gnocchi.series.operations import CELLWISE
from gnocchi.series.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE = 60 * 10**9
NAN, INF = math.nan, math.inf

# Methods on the values of a group without gaps, of which there is one at least; `std` and `var`
# of the whole population.
NUMPY: dict[str, Callable[[np.ndarray], float]] = {
    "mean": np.mean,
    "median": np.median,
    "std": np.std,
    "var": np.var,
    "min": np.min,
    "max": np.max,
    "sum": np.sum,
    "count": np.size,
}
ALL_METHODS = NUMPY | {
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "1pct": lambda values: np.percentile(values, 1),
    "50pct": lambda values: np.percentile(values, 50),
    "99pct": lambda values: np.percentile(values, 99),
}

whole = st.integers(-1000, 1000).map(float)
# Interpolation between infinities is a matter of taste; the unit tests have it.
with_gaps = st.one_of(whole, whole, st.just(NAN))
anything = st.one_of(whole, whole, st.sampled_from([NAN, NAN, INF, -INF]))


@st.composite
def tables(draw: st.DrawFn, values: st.SearchStrategy[float] = anything) -> Table:
    """Up to 5 series with up to 30 points each, in minutes that may lie apart."""
    minutes = sorted(draw(st.sets(st.integers(0, 60), max_size=30)))
    series = draw(st.integers(0, 5))
    cells = draw(st.lists(values, min_size=series * len(minutes), max_size=series * len(minutes)))
    return Table(
        MINUTE,
        np.array(minutes, dtype=np.int64) * MINUTE,
        np.array(cells, dtype=np.float64).reshape(series, len(minutes)),
    )


def run(text: str, table: Table) -> Table:
    """Evaluate with ``X`` for all the series."""
    expression = parse(text.replace("X", "(metric x m)"), max_depth=20)
    return evaluate(expression, table, {("x", "m"): range(len(table.values))}).table


def reduced(method: str, values: np.ndarray) -> float:
    present = values[~np.isnan(values)]
    if present.size == 0:
        return 0.0 if method in ("sum", "count") else NAN
    with np.errstate(all="ignore"):
        return float(ALL_METHODS[method](present))


def close(found: np.ndarray, expected: np.ndarray | list[float]) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-7)


def differenced(values: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return values[..., 1:] - values[..., :-1]


# ------------------------------------------------------------------ across series


@pytest.mark.parametrize("method", NUMPY)
@settings(deadline=None)
@given(table=tables())
def test_aggregating_equals_numpy_on_each_timestamp(method: str, table: Table) -> None:
    expected = np.array([reduced(method, column) for column in table.values.T])
    plain = run(f"(aggregate {method} X)", table)
    close(plain.values, expected[None])
    np.testing.assert_array_equal(plain.timestamps, table.timestamps)

    rate = run(f"(aggregate rate:{method} X)", table)
    close(rate.values, differenced(expected[None]))
    np.testing.assert_array_equal(rate.timestamps, table.timestamps[1:])


@pytest.mark.parametrize("method", sorted(ALL_METHODS.keys() - NUMPY.keys()))
@settings(deadline=None)
@given(table=tables(with_gaps))
def test_methods_by_rank_equal_numpy_on_each_timestamp(method: str, table: Table) -> None:
    close(
        across.aggregate(method, table.values),
        [reduced(method, column) for column in table.values.T],
    )


@pytest.mark.parametrize("method", NUMPY)
def test_more_series_than_fit_a_piece_are_aggregated_alike(method: str) -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(5000, 150))
    values[random.random(values.shape) < 0.3] = NAN
    values[:, 7] = NAN
    expected = [reduced(method, column) for column in values.T]
    np.testing.assert_allclose(across.aggregate(method, values), expected, rtol=1e-12, atol=1e-10)


# ------------------------------------------------------------------ rolling


def rolled(method: str, values: np.ndarray, window: int) -> np.ndarray:
    starts = range(values.shape[1] - window + 1)
    return np.array(
        [[reduced(method, row[start : start + window]) for start in starts] for row in values]
    ).reshape(len(values), len(starts))


@pytest.mark.parametrize("method", NUMPY)
@settings(deadline=None)
@given(table=tables().filter(lambda table: table.timestamps.size), data=st.data())
def test_rolling_equals_numpy_on_each_window(
    method: str, table: Table, data: st.DataObject
) -> None:
    window = data.draw(st.integers(1, table.timestamps.size))
    expected = rolled(method, table.values, window)
    plain = run(f"(rolling {method} {window} X)", table)
    close(plain.values, expected)
    np.testing.assert_array_equal(plain.timestamps, table.timestamps[window - 1 :])

    rate = run(f"(rolling rate:{method} {window} X)", table)
    close(rate.values, differenced(expected))
    np.testing.assert_array_equal(rate.timestamps, table.timestamps[window:])


@pytest.mark.parametrize("method", NUMPY)
@pytest.mark.parametrize("window", [255, 256, 257, 300, 511, 512, 600])
def test_long_windows_equal_numpy(method: str, window: int) -> None:
    random = np.random.default_rng(window)
    # Many equal values, stretches of gaps longer than a window, some infinities.
    values = random.integers(-20, 20, size=(4, 600)).astype(np.float64)
    values[random.random(values.shape) < 0.2] = NAN
    values[1, 100:590] = NAN
    values[2] = NAN
    values[3, random.integers(0, 600, 9)] = random.choice([INF, -INF], 9)
    found = rolling.roll(method, values, window)
    np.testing.assert_allclose(found, rolled(method, values, window), rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("window", [3, 300, 280_000, 600_000])
def test_a_single_series_longer_than_a_piece_is_rolled_alike(window: int) -> None:
    values = np.random.default_rng(2).normal(size=(1, 600_000))
    frame = pd.Series(values[0]).rolling(window)
    for method in ("mean", "median", "max"):
        expected = getattr(frame, method)().to_numpy()[None, window - 1 :]
        found = rolling.roll(method, values, window)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e9])
def test_deviations_stay_accurate_far_from_zero(offset: float) -> None:
    steps = np.tile([0.0, 1.0], 500)[None] + offset
    close(rolling.roll("var", steps, 100), np.full((1, 901), 0.25))
    close(across.aggregate("var", steps.T), [0.25])
    close(rolling.roll("std", np.full((1, 50), 0.1), 7), np.zeros((1, 44)))
    assert across.aggregate("std", np.full((7, 1), 0.1)).tolist() == [0.0]


# ------------------------------------------------------------------ resampling


def resampled(method: str, series: pd.Series, step: int) -> pd.Series:
    """Group the present points of one series; with pandas, ``std`` is that of a sample."""
    groups = series.groupby(series.index // step * step)
    if method.endswith("pct"):
        return groups.quantile(int(method.removesuffix("pct")) / 100)
    return getattr(groups, method)().astype(float)


RESAMPLED = ["mean", "median", "std", "min", "max", "sum", "count"]


@pytest.mark.parametrize("method", [*RESAMPLED, "first", "last", "1pct", "95pct"])
@settings(deadline=None)
@given(table=tables(with_gaps), minutes=st.integers(1, 70))
def test_resampling_equals_pandas_on_each_series(method: str, table: Table, minutes: int) -> None:
    check_resampling(method, table, minutes, differs=False)


@pytest.mark.parametrize("method", RESAMPLED)
@settings(deadline=None)
@given(table=tables(with_gaps), minutes=st.integers(1, 70))
def test_resampling_a_rate_equals_pandas_on_the_differences_of_each_series(
    method: str, table: Table, minutes: int
) -> None:
    check_resampling(method, table, minutes, differs=True)


def check_resampling(method: str, table: Table, minutes: int, *, differs: bool) -> None:
    name = f"rate:{method}" if differs else method
    found = run(f"(resample {name} {minutes * 60} X)", table)
    step = minutes * MINUTE
    assert found.granularity == step
    periods = pd.Index(np.unique(table.timestamps // step * step))
    rows = []
    for row in table.values:
        series = pd.Series(row, index=table.timestamps, dtype=float).dropna()
        if differs:
            series = series.diff().iloc[1:]
        rows.append(resampled(method, series, step).reindex(periods).to_numpy(dtype=float))
    expected = np.array(rows).reshape(len(table.values), len(periods))
    if differs or method == "std":
        kept = ~np.isnan(expected).all(axis=0)
        expected, periods = expected[:, kept], periods[kept]
    assert found.timestamps.tolist() == list(periods)
    close(found.values, expected)


# ------------------------------------------------------------------ cell by cell

BINARY: dict[str, Callable[[float, float], float]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.mod,
    "**": np.power,
    "=": lambda a, b: float(a == b),
    "!=": lambda a, b: float(a != b),
    "<": lambda a, b: float(a < b),
    ">": lambda a, b: float(a > b),
    "<=": lambda a, b: float(a <= b),
    ">=": lambda a, b: float(a >= b),
    "max": lambda a, b: np.nanmax([a, b]) if a == a or b == b else NAN,
    "min": lambda a, b: np.nanmin([a, b]) if a == a or b == b else NAN,
    "clip_min": lambda a, b: np.clip(a, b, None),
    "clip_max": lambda a, b: np.clip(a, None, b),
}


@pytest.mark.parametrize("name", BINARY)
@settings(deadline=None)
@given(table=tables(), number=whole)
def test_binary_operations_equal_numpy_on_each_cell(name: str, table: Table, number: float) -> None:
    on_the_right = run(f"({name} X {number})", table)
    on_the_left = run(f"({name} {number} X)", table)
    operation = BINARY[name]
    with np.errstate(all="ignore"):
        expected = [operation(cell, np.float64(number)) for cell in table.values.ravel()]
        mirrored = [operation(np.float64(number), cell) for cell in table.values.ravel()]
    close(on_the_right.values.ravel(), expected)
    close(on_the_left.values.ravel(), mirrored)
    np.testing.assert_array_equal(on_the_right.timestamps, table.timestamps)


@pytest.mark.parametrize("name", BINARY)
@settings(deadline=None)
@given(table=tables().filter(lambda table: len(table.values) > 1))
def test_binary_operations_between_series_equal_numpy_on_each_timestamp(
    name: str, table: Table
) -> None:
    expression = parse(f"({name} (metric a m) (metric b m))", max_depth=20)
    result = evaluate(expression, table, {("a", "m"): [0], ("b", "m"): [1]})
    assert result.aggregated
    with np.errstate(all="ignore"):
        pairs = zip(table.values[0], table.values[1], strict=True)
        expected = [BINARY[name](a, b) for a, b in pairs]
    close(result.table.values[0], expected)


@settings(deadline=None)
@given(table=tables(), low=whole, high=whole)
def test_clipping_equals_numpy(table: Table, low: float, high: float) -> None:
    clipped = run(f"(clip X {low} {high})", table).values
    np.testing.assert_array_equal(clipped, np.clip(table.values, low, high))
    from_below = run(f"(clip X {low})", table).values
    np.testing.assert_array_equal(from_below, np.clip(table.values, low, None))


@settings(deadline=None)
@given(table=tables().filter(lambda table: len(table.values) > 2))
def test_clipping_between_series_equals_numpy_on_each_timestamp(table: Table) -> None:
    expression = parse("(clip (metric a m) (metric b m) (metric c m))", max_depth=20)
    select = {("a", "m"): [0], ("b", "m"): [1], ("c", "m"): [2]}
    result = evaluate(expression, table, select)
    assert result.aggregated
    values, low, high = table.values[:3]
    np.testing.assert_array_equal(result.table.values, np.clip(values, low, high)[None])


UNARY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "abs": np.abs,
    "neg": np.negative,
    "cos": np.cos,
    "sin": np.sin,
    "tan": np.tan,
    "floor": np.floor,
    "ceil": np.ceil,
}


@pytest.mark.parametrize(("name", "operation"), UNARY.items())
@settings(deadline=None)
@given(table=tables())
def test_unary_operations_equal_numpy(
    name: str, operation: Callable[[np.ndarray], np.ndarray], table: Table
) -> None:
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(run(f"({name} X)", table).values, operation(table.values))


@settings(deadline=None)
@given(table=tables())
def test_rates_of_change_are_differences_between_timestamps(table: Table) -> None:
    changes = differenced(table.values)
    change = run("(rateofchange X)", table)
    np.testing.assert_array_equal(change.values, changes)
    np.testing.assert_array_equal(change.timestamps, table.timestamps[1:])

    per_second = run("(rateofchangesec X)", table)
    np.testing.assert_array_equal(per_second.timestamps, table.timestamps)
    assert np.isnan(per_second.values[:, :1]).all()
    seconds = np.diff(table.timestamps / 1e9)
    np.testing.assert_array_equal(per_second.values[:, 1:], changes / seconds)


# ------------------------------------------------------------------ nothing is left out


def is_expression(text: str) -> bool:
    try:
        parse(text, max_depth=20)
    except InvalidOperations:
        return False
    return True


def test_every_operation_has_its_test_here() -> None:
    """Whoever adds an operation, or a method, says here what it is."""
    assert {*CELLWISE} == {*BINARY, *UNARY, "clip"}
    plain = {*ALL_METHODS, "2pct", "95pct", "0pct", "100pct", "rate", "range"}
    methods = plain | {f"rate:{method}" for method in plain}
    with_rates = {*NUMPY, *(f"rate:{method}" for method in NUMPY)}
    resampling = {*ALL_METHODS, "2pct", "95pct", *(f"rate:{method}" for method in RESAMPLED)}
    for text, tested in (
        ("(aggregate {} (metric a m))", with_rates),
        ("(rolling {} 2 (metric a m))", with_rates),
        ("(resample {} 60 (metric a m))", resampling - {"var"}),
    ):
        assert {method for method in methods if is_expression(text.format(method))} == tested, text


# ------------------------------------------------------------------ laws


@settings(deadline=None)
@given(table=tables())
def test_a_mean_is_the_sum_divided_by_the_count(table: Table) -> None:
    quotient = run("(/ (aggregate sum X) (aggregate count X))", table)
    close(quotient.values, run("(aggregate mean X)", table).values)


@pytest.mark.parametrize("method", NUMPY)
@settings(deadline=None)
@given(table=tables(), data=st.data())
def test_the_order_of_series_does_not_matter_to_an_aggregate(
    method: str, table: Table, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(table.values))))
    shuffled = table.select(np.array(order, dtype=np.int64))
    close(across.aggregate(method, shuffled.values), across.aggregate(method, table.values))


@settings(deadline=None)
@given(table=tables().filter(lambda table: table.timestamps.size), data=st.data())
def test_what_is_computed_of_some_series_does_not_depend_on_the_others(
    table: Table, data: st.DataObject
) -> None:
    wanted = data.draw(st.lists(st.booleans(), min_size=5, max_size=5))[: len(table.values)]
    rows = np.flatnonzero(wanted)
    some = table.select(rows)
    for text in ("(rolling mean 1 X)", "(* 2 X)", "(rateofchange X)", "(resample sum 180 X)"):
        np.testing.assert_array_equal(run(text, some).values, run(text, table).values[rows])
