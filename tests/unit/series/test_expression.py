"""Expressions over series: worked examples, and what cannot be computed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gnocchi.series import rolling
from gnocchi.series.across import aggregate
from gnocchi.series.expression import (
    Aggregate,
    CannotCompute,
    Metrics,
    Number,
    Result,
    evaluate,
    parse,
)
from gnocchi.series.table import DROP, Table, drop, fill, parse_fill

MINUTE = 60 * 10**9
NAN, INF = math.nan, math.inf

TIMES = [0, 1, 2, 3, 5]
SERIES = {
    "a": [1, 2, 4, NAN, 10],
    "b": [NAN, 20, 40, 60, NAN],
    "c": [1, 0, -1, INF, 0.5],
    "none": [NAN] * 5,
}
NAMES = list(SERIES)

A = "(metric a m)"
B = "(metric b m)"
C = "(metric c m)"
AB = "(metric (a m) (b m))"
BC = "(metric (b m) (c m))"
ABC = "(metric (a m) (b m) (c m))"


def table(minutes: list[int], rows: list[list[float]]) -> Table:
    values = np.array(rows, dtype=np.float64).reshape(len(rows), len(minutes))
    return Table(MINUTE, np.array(minutes, dtype=np.int64) * MINUTE, values)


def computed(text: str, how: str = "null") -> Result:
    select = {(name, "m"): [row] for row, name in enumerate(NAMES)}
    select |= {("nothing", "m"): [], ("[ab]", "m"): [0, 1], ("*", "m"): [0, 1, 2, 3]}
    prepared = fill(table(TIMES, list(SERIES.values())), parse_fill(how))
    return evaluate(parse(text, max_depth=20), prepared, select)


def only_a(text: str) -> Result:
    """Compute from one series alone, on its own timestamps."""
    return evaluate(
        parse(text, max_depth=20), table([0, 1, 2, 5], [[1, 2, 4, 10]]), {("a", "m"): [0]}
    )


def points(result: Result, row: int = 0) -> dict[int, float]:
    """Return what is shown of a row without gaps, by minute."""
    timestamps, values = drop(result.table.timestamps, result.table.values[row], DROP)
    return dict(zip((timestamps // MINUTE).tolist(), values.tolist(), strict=True))


def holds(result: Result, *expected: list[float]) -> None:
    np.testing.assert_allclose(result.table.values, expected, rtol=1e-12)


# ------------------------------------------------------------------ examples


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("null", {0: 1, 1: 22, 2: 44, 3: 60, 5: 10}),
        ("0", {0: 1, 1: 22, 2: 44, 3: 60, 5: 10}),
        ("ffill", {0: 1, 1: 22, 2: 44, 3: 64, 5: 70}),
        ("bfill", {0: 21, 1: 22, 2: 44, 3: 70, 5: 10}),
        ("full_ffill", {0: 21, 1: 22, 2: 44, 3: 64, 5: 70}),
        ("full_bfill", {0: 21, 1: 22, 2: 44, 3: 70, 5: 70}),
    ],
)
def test_sums_depend_on_how_gaps_are_closed(how: str, expected: dict[int, float]) -> None:
    assert points(computed(f"(aggregate sum {AB})", how)) == expected


def test_a_number_in_gaps_counts_in_means() -> None:
    assert list(points(computed(f"(aggregate mean {AB})", "0")).values()) == [0.5, 11, 22, 30, 5]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("mean", [1, 11, 22, 60, 10]),
        ("median", [1, 11, 22, 60, 10]),
        ("min", [1, 2, 4, 60, 10]),
        ("max", [1, 20, 40, 60, 10]),
        ("sum", [1, 22, 44, 60, 10]),
        ("count", [1, 2, 2, 1, 1]),
        ("std", [0, 9, 18, 0, 0]),
        ("var", [0, 81, 324, 0, 0]),
    ],
)
def test_aggregating_ignores_gaps(method: str, expected: list[float]) -> None:
    result = computed(f"(aggregate {method} {AB})")
    assert result.aggregated
    holds(result, expected)


def test_a_rate_across_series_is_the_difference_along_time_of_the_method() -> None:
    assert points(computed(f"(aggregate rate:mean {AB})")) == {1: 10, 2: 11, 3: 38, 5: -50}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"(rateofchange {A})", {1: 1, 2: 2, 5: 6}),
        (f"(rateofchangesec {A})", {1: 1 / 60, 2: 2 / 60, 5: 6 / 180}),
        (f"(rolling mean 2 {A})", {1: 1.5, 2: 3, 5: 7}),
        (f"(rolling rate:mean 2 {A})", {2: 1.5, 5: 4}),
        (f"(rolling count 3 {A})", {2: 3, 5: 3}),
        (f"(resample mean 120 {A})", {0: 1.5, 2: 4, 4: 10}),
        (f"(resample rate:mean 120 {A})", {0: 1, 2: 2, 4: 6}),
        (f"(resample std 120 {A})", {0: 0.5**0.5}),
        (f"(resample 50pct 300 {A})", {0: 2, 5: 10}),
        (f"(resample first 300 {A})", {0: 1, 5: 10}),
        (f"(max {A} 3)", {0: 3, 1: 3, 2: 4, 5: 10}),
        (f"(min {A} 3)", {0: 1, 1: 2, 2: 3, 5: 3}),
        (f"(clip {A} 2 4)", {0: 2, 1: 2, 2: 4, 5: 4}),
        (f"(clip {A} 3)", {0: 3, 1: 3, 2: 4, 5: 10}),
        (f"(clip_min {A} 3)", {0: 3, 1: 3, 2: 4, 5: 10}),
        (f"(clip_max {A} 3)", {0: 1, 1: 2, 2: 3, 5: 3}),
        (f"(% {A} 3)", {0: 1, 1: 2, 2: 1, 5: 1}),
        (f"(% {A} -3)", {0: -2, 1: -1, 2: -2, 5: -2}),
        (f"(** {A} -1)", {0: 1, 1: 0.5, 2: 0.25, 5: 0.1}),
        (f"(- 1 {A})", {0: 0, 1: -1, 2: -3, 5: -9}),
        (f"(/ {A} 4)", {0: 0.25, 1: 0.5, 2: 1, 5: 2.5}),
        (f"(> {A} 2)", {0: 0, 1: 0, 2: 1, 5: 1}),
        (f"(>= {A} 2)", {0: 0, 1: 1, 2: 1, 5: 1}),
        (f"(< {A} 2)", {0: 1, 1: 0, 2: 0, 5: 0}),
        (f"(<= {A} 2)", {0: 1, 1: 1, 2: 0, 5: 0}),
        (f"(= {A} 2)", {0: 0, 1: 1, 2: 0, 5: 0}),
        (f"(!= {A} 2)", {0: 1, 1: 0, 2: 1, 5: 1}),
        (f"(abs (neg {A}))", {0: 1, 1: 2, 2: 4, 5: 10}),
        (f"(floor (/ {A} 4))", {0: 0, 1: 0, 2: 1, 5: 2}),
        (f"(ceil (/ {A} 4))", {0: 1, 1: 1, 2: 1, 5: 3}),
        (f"(* (+ 1 (neg 3)) {A})", {0: -2, 1: -4, 2: -8, 5: -20}),
    ],
)
def test_operations_on_one_series_keep_its_identity(text: str, expected: dict[int, float]) -> None:
    result = only_a(text)
    assert points(result) == pytest.approx(expected, rel=1e-12)
    assert not result.aggregated
    assert result.series.tolist() == [0]


@pytest.mark.parametrize("name", ["cos", "sin", "tan"])
def test_angles_are_in_radians(name: str) -> None:
    expected = [getattr(math, name)(value) for value in (1, 2, 4, 10)]
    assert list(points(only_a(f"({name} {A})")).values()) == pytest.approx(expected, rel=1e-12)


def test_a_division_by_zero_is_infinite_or_no_number() -> None:
    holds(computed(f"(/ {C} 0)"), [INF, NAN, -INF, INF, INF])


def test_a_gap_stays_one_in_arithmetic_and_gives_way_in_maxima() -> None:
    holds(computed(f"(+ {A} 1)"), [2, 3, 5, NAN, 11])
    holds(computed(f"(max {A} 3)"), [3, 3, 4, 3, 10])
    holds(computed(f"(clip {A} 3 4)"), [3, 3, 4, NAN, 4])


def test_the_first_timestamp_of_a_change_per_second_is_a_gap() -> None:
    result = only_a(f"(rateofchangesec {A})")
    assert result.table.timestamps.size == 4
    assert math.isnan(result.table.values[0, 0])


# ------------------------------------------------------------------ which series


def test_series_come_in_the_order_of_the_references_and_on_all_timestamps() -> None:
    result = computed("(metric (b m) (a m))")
    assert (result.table.timestamps // MINUTE).tolist() == TIMES
    assert result.series.tolist() == [1, 0]
    holds(result, SERIES["b"], SERIES["a"])


@pytest.mark.parametrize("text", [f"{AB}", "(metric (a m) ([ab] m))", "(metric [ab] m)"])
def test_a_series_that_several_references_stand_for_counts_once(text: str) -> None:
    holds(computed(f"(aggregate count {text})"), [1, 2, 2, 1, 1])


def test_numbers_go_with_each_of_several_series() -> None:
    result = computed(f"(* 2 {AB})")
    assert not result.aggregated
    assert result.series.tolist() == [0, 1]
    holds(result, [2, 4, 8, NAN, 20], [NAN, 40, 80, 120, NAN])


@pytest.mark.parametrize("text", [f"(+ {A} {B})", f"(+ {A} {A})", f"(clip {A} {B})"])
def test_an_operation_between_series_is_aggregated(text: str) -> None:
    assert computed(text).aggregated


def test_series_of_equal_number_are_combined_one_by_one() -> None:
    holds(computed(f"(aggregate max (+ {AB} {BC}))"), [NAN, 22, 44, INF, NAN])


@pytest.mark.parametrize("text", [f"(+ {ABC} {A})", f"(+ {A} {ABC})"])
def test_a_single_series_goes_with_each_of_several(text: str) -> None:
    holds(computed(f"(aggregate sum {text})"), [4, 4 + 22 + 2, 8 + 44 + 3, 0, 20 + 10.5])


def test_several_series_combined_with_themselves_are_still_those_series() -> None:
    result = computed(f"(+ {AB} (* 2 {AB}))")
    assert not result.aggregated
    assert result.series.tolist() == [0, 1]
    holds(result, [3, 6, 12, NAN, 30], [NAN, 60, 120, 180, NAN])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"(+ {AB} {BC})", "2 series result from an operation between series"),
        (f"(+ {AB} {C})", "2 series result from an operation between series"),
        (f"(- {ABC} (aggregate mean {ABC}))", "3 series result from an operation between"),
        (f"(+ {ABC} {AB})", "Can't combine 3 and 2 series"),
    ],
)
def test_several_series_that_stand_for_none_are_refused(text: str, reason: str) -> None:
    with pytest.raises(CannotCompute) as caught:
        computed(text)
    assert caught.value.reason.startswith(reason)


def test_what_is_computed_from_an_aggregate_is_aggregated() -> None:
    for text in ("(abs {})", "(* 2 {})", "(rolling mean 2 {})", "(resample mean 120 {})"):
        assert computed(text.format(f"(aggregate mean {AB})")).aggregated


@pytest.mark.parametrize(
    ("text", "aggregated"),
    [("(metric nothing m)", False), ("(+ (metric nothing m) (metric a m))", True)],
)
def test_references_that_stand_for_nothing_have_no_points(text: str, aggregated: bool) -> None:
    result = computed(text)
    assert result.aggregated is aggregated
    assert result.table.values.size == 0
    assert result.table.values.shape[0] == (1 if aggregated else 0)


@pytest.mark.parametrize("text", ["(metric nothing m)", "(metric none m)"])
def test_aggregating_nothing_but_gaps_gives_gaps_and_no_sum(text: str) -> None:
    for method in ("mean", "median", "min", "max", "std", "var"):
        holds(computed(f"(aggregate {method} {text})"), [NAN] * 5)
    for method in ("sum", "count"):
        holds(computed(f"(aggregate {method} {text})"), [0] * 5)


# ------------------------------------------------------------------ along time


def test_operands_need_the_same_timestamps() -> None:
    with pytest.raises(CannotCompute) as caught:
        computed(f"(+ {A} (rateofchange {B}))")
    assert caught.value.reason == (
        "Can't compute timeseries with different granularity "
        "['metric', 'a', 'm'] <> ['rateofchange', ['metric', 'b', 'm']]"
    )


def test_operands_need_the_same_granularity() -> None:
    with pytest.raises(CannotCompute, match="Can't compute timeseries with different granularity"):
        evaluate(
            parse(f"(+ {A} (resample sum 120 {A}))", max_depth=20),
            table([0, 2], [[1, 2]]),
            {("a", "m"): [0]},
        )


@pytest.mark.parametrize(("window", "length"), [(100, 4), (5, 4)])
def test_a_window_cannot_be_longer_than_the_series(window: int, length: int) -> None:
    with pytest.raises(CannotCompute) as caught:
        only_a(f"(rolling mean {window} {A})")
    assert caught.value.reason == (
        f"Rolling window '{window}' is greater than serie length '{length}'"
    )


def test_a_window_as_long_as_the_series_gives_one_result() -> None:
    assert points(only_a(f"(rolling sum 4 {A})")) == {5: 17}


def test_windows_of_gaps_have_no_result_and_no_sum() -> None:
    holds(computed("(rolling mean 2 (metric none m))"), [NAN] * 4)
    holds(computed("(rolling median 2 (metric none m))"), [NAN] * 4)
    holds(computed("(rolling sum 2 (metric none m))"), [0] * 4)


def test_neither_an_infinity_nor_a_large_value_outlives_its_window() -> None:
    values = np.array([[INF, 1, 2, 1e300, 3, 4, 5]])
    np.testing.assert_array_equal(rolling.roll("sum", values, 2), [[INF, 3, 1e300, 1e300, 7, 9]])
    np.testing.assert_array_equal(rolling.roll("var", values, 2)[0, [1, 4, 5]], [0.25, 0.25, 0.25])


def test_resampling_skips_gaps_and_changes_the_granularity() -> None:
    result = computed(f"(resample sum 120 {AB})")
    assert result.table.granularity == 2 * MINUTE
    assert (result.table.timestamps // MINUTE).tolist() == [0, 2, 4]
    holds(result, [3, 4, 10], [20, 100, NAN])


def test_series_are_resampled_before_they_are_aggregated() -> None:
    assert points(computed(f"(aggregate sum (resample mean 120 {AB}))")) == {0: 21.5, 2: 54, 4: 10}


@pytest.mark.parametrize(("method", "expected"), [("count", [3, 1]), ("last", [4, 10])])
def test_periods_of_gaps_and_values_count_the_values(method: str, expected: list[float]) -> None:
    holds(computed(f"(resample {method} 240 {A})"), expected)


def test_a_period_of_gaps_only_stays_a_gap() -> None:
    holds(computed("(resample count 120 (metric (a m) (none m)))"), [2, 1, 1], [NAN] * 3)


def test_deviations_of_single_values_are_left_out_where_no_series_has_more() -> None:
    result = computed(f"(resample std 120 {AB})")
    assert (result.table.timestamps // MINUTE).tolist() == [0, 2]
    holds(result, [0.5**0.5, NAN], [NAN, 200**0.5])


def test_rates_are_taken_over_gaps_within_one_series() -> None:
    result = computed(f"(resample rate:sum 300 {AB})")
    assert (result.table.timestamps // MINUTE).tolist() == [0, 5]
    holds(result, [3, 6], [40, NAN])


# ------------------------------------------------------------------ other uses


@pytest.mark.parametrize(
    ("method", "expected"), [("first", [1, 2, 4, 60, 10]), ("last", [1, 20, 40, 60, 10])]
)
def test_first_and_last_go_by_the_order_of_series(method: str, expected: list[float]) -> None:
    select = {("a", "m"): [0], ("b", "m"): [1]}
    expression = Aggregate(method, Metrics((("a", "m"), ("b", "m"))))
    holds(evaluate(expression, table(TIMES, [SERIES["a"], SERIES["b"]]), select), expected)


def test_percentiles_across_series_interpolate() -> None:
    column = np.array([[4.0], [1], [NAN], [3], [2]])
    assert aggregate("25pct", column).tolist() == [1.75]
    assert aggregate("50pct", column).tolist() == [2.5]


def test_a_median_of_infinities_is_one() -> None:
    column = np.array([[INF, -INF, -INF, INF], [INF, 5, INF, 1]])
    np.testing.assert_array_equal(aggregate("median", column), [INF, -INF, NAN, INF])


def test_unknown_methods_are_errors() -> None:
    with pytest.raises(ValueError, match="unknown aggregation method 'mode'"):
        aggregate("mode", np.zeros((1, 1)))
    with pytest.raises(ValueError, match="unknown rolling method 'first'"):
        rolling.roll("first", np.zeros((1, 1)), 1)


def test_a_number_alone_is_no_result() -> None:
    with pytest.raises(ValueError, match="without a metric"):
        evaluate(Number(1.0), table([0], [[1]]), {})


@pytest.mark.parametrize(
    "text",
    [f"(aggregate mean {AB})", f"(rateofchange {AB})", f"(rateofchangesec {A})", f"(+ {A} {B})",
     f"(resample std 60 {AB})", f"(resample rate:mean 60 {AB})", f"(clip {A} 1 2)"],
)  # fmt: skip
def test_series_without_points_have_results_without_points(text: str) -> None:
    empty = table([], [[], []])
    result = evaluate(parse(text, max_depth=20), empty, {("a", "m"): [0], ("b", "m"): [1]})
    assert result.table.values.shape == (len(result.table.values), 0)
    assert result.table.timestamps.size == 0


def test_the_table_is_left_as_it_was() -> None:
    given = table(TIMES, [SERIES["a"], SERIES["b"]])
    before = given.values.copy()
    select = {("a", "m"): [0], ("b", "m"): [1]}
    for text in (f"(aggregate std {AB})", f"(rolling median 2 {AB})", f"(* 2 (abs {AB}))"):
        evaluate(parse(text, max_depth=20), given, select)
    np.testing.assert_array_equal(given.values, before)
