"""Tables of series: alignment, gaps and overlap."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnocchi.series.table import (
    DROP,
    Fill,
    NoOverlap,
    Table,
    TooLittleOverlap,
    TooManyCells,
    align,
    drop,
    fill,
    overlapping,
    parse_fill,
)

MINUTE = 60 * 10**9
NAN, INF = math.nan, math.inf

# The example of a series at minutes 0, 1, 2 and 5 and one at 1, 2 and 3.
A = {0: 1.0, 1: 2.0, 2: 4.0, 5: 10.0}
B = {1: 20.0, 2: 40.0, 3: 60.0}


def aligned(
    *series: dict[int, float], unit: int = MINUTE, granularity: int = MINUTE, limit: int = 10**6
) -> Table:
    points = [(n, t * unit, v) for n, each in enumerate(series) for t, v in sorted(each.items())]
    return align(
        granularity,
        len(series),
        np.array([point[0] for point in points], dtype=np.int64),
        np.array([point[1] for point in points], dtype=np.int64),
        np.array([point[2] for point in points], dtype=np.float64),
        max_cells=limit,
    )


def minutes(table: Table) -> list[int]:
    return (table.timestamps // MINUTE).tolist()


def same(found: np.ndarray, expected: list[list[float]] | np.ndarray) -> None:
    np.testing.assert_array_equal(found, expected)


# ------------------------------------------------------------------ alignment


def test_series_are_laid_out_on_the_union_of_their_timestamps() -> None:
    table = aligned(A, B)
    assert minutes(table) == [0, 1, 2, 3, 5]
    same(table.values, [[1, 2, 4, NAN, 10], [NAN, 20, 40, 60, NAN]])
    assert table.granularity == MINUTE


def test_series_with_the_same_timestamps_have_no_gaps() -> None:
    table = aligned({0: 1, 3: 2, 9: 3}, {0: 4, 3: 5, 9: 6})
    assert minutes(table) == [0, 3, 9]
    same(table.values, [[1, 2, 3], [4, 5, 6]])


def test_as_many_points_at_other_times_are_not_taken_for_the_same_timestamps() -> None:
    table = aligned({0: 1, 1: 2}, {0: 3, 2: 4})
    assert minutes(table) == [0, 1, 2]
    same(table.values, [[1, 2, NAN], [3, NAN, 4]])


def test_a_series_with_twice_the_points_is_not_taken_for_two() -> None:
    table = aligned({0: 1, 1: 2, 2: 3, 3: 4}, {})
    assert minutes(table) == [0, 1, 2, 3]
    same(table.values, [[1, 2, 3, 4], [NAN] * 4])


def test_equal_times_of_some_series_are_not_taken_for_those_of_all() -> None:
    same(aligned({0: 1, 1: 2}, {0: 3, 1: 4}, {}, {}).values, [[1, 2], [3, 4], [NAN] * 2, [NAN] * 2])
    same(aligned({}, {0: 3}, {0: 5}).values, [[NAN], [3], [5]])


def test_series_without_points_are_rows_of_gaps() -> None:
    same(aligned({}, {4: 1.0}, {}).values, [[NAN], [1], [NAN]])


def test_nothing_but_series_without_points_has_no_timestamps() -> None:
    assert aligned({}, {}).values.shape == (2, 0)
    assert aligned({}, {}).timestamps.size == 0


def test_no_series_at_all_have_no_timestamps() -> None:
    assert aligned().values.shape == (0, 0)


def test_far_apart_points_take_no_space_between_them() -> None:
    table = aligned({0: 1.0, 10**7: 2.0}, {5 * 10**6: 3.0})
    assert minutes(table) == [0, 5 * 10**6, 10**7]
    same(table.values, [[1, NAN, 2], [NAN, 3, NAN]])


def test_timestamps_off_the_grid_are_kept_as_they_are() -> None:
    table = aligned({0: 1.0, 61: 2.0}, {60: 3.0}, unit=10**9)
    assert table.timestamps.tolist() == [0, 60 * 10**9, 61 * 10**9]
    same(table.values, [[1, NAN, 2], [NAN, 3, NAN]])


def test_a_table_of_the_allowed_size_is_built() -> None:
    assert aligned(A, B, limit=10).values.size == 10


@pytest.mark.parametrize("series", [(A, B), (A, A, A)], ids=["union", "same timestamps"])
def test_a_larger_table_is_refused(series: tuple[dict[int, float], ...]) -> None:
    with pytest.raises(TooManyCells) as caught:
        aligned(*series, limit=9)
    assert (caught.value.cells, caught.value.limit) == (10 if len(series) == 2 else 12, 9)


some_series = st.lists(
    st.dictionaries(st.integers(0, 200), st.integers(-9, 9).map(float), max_size=30), max_size=6
)


@settings(deadline=None)
@given(series=some_series, granularity=st.sampled_from([MINUTE, 7, 10**15]))
def test_alignment_equals_that_of_pandas(series: list[dict[int, float]], granularity: int) -> None:
    table = aligned(*series, granularity=granularity)
    frame = pd.DataFrame({n: pd.Series(each, dtype=float) for n, each in enumerate(series)})
    frame = frame.sort_index()
    assert minutes(table) == list(frame.index)
    same(table.values, frame.to_numpy().T.reshape(table.values.shape))


@settings(deadline=None)
@given(series=some_series)
def test_a_table_without_its_empty_timestamps_has_the_union_of_its_series(
    series: list[dict[int, float]],
) -> None:
    rows = np.arange(len(series))[::2]
    trimmed = aligned(*series).select(rows).trimmed()
    expected = aligned(*series[::2])
    assert minutes(trimmed) == minutes(expected)
    same(trimmed.values, expected.values)


def test_selected_series_keep_order_and_all_timestamps() -> None:
    table = aligned(A, B, {}).select(np.array([2, 1]))
    assert minutes(table) == [0, 1, 2, 3, 5]
    same(table.values, [[NAN] * 5, [NAN, 20, 40, 60, NAN]])


def test_the_same_number_of_series_in_another_order_is_another_selection() -> None:
    same(aligned({0: 1.0}, {0: 2.0}).select(np.array([1, 0])).values, [[2], [1]])


# ------------------------------------------------------------------ gaps


@pytest.mark.parametrize(
    ("text", "a", "b"),
    [
        ("null", [1, 2, 4, NAN, 10], [NAN, 20, 40, 60, NAN]),
        ("dropna", [1, 2, 4, NAN, 10], [NAN, 20, 40, 60, NAN]),
        ("-1.5", [1, 2, 4, -1.5, 10], [-1.5, 20, 40, 60, -1.5]),
        ("ffill", [1, 2, 4, 4, 10], [NAN, 20, 40, 60, 60]),
        ("bfill", [1, 2, 4, 10, 10], [20, 20, 40, 60, NAN]),
        ("full_ffill", [1, 2, 4, 4, 10], [20, 20, 40, 60, 60]),
        ("full_bfill", [1, 2, 4, 10, 10], [20, 20, 40, 60, 60]),
    ],
)
def test_gaps_are_closed_as_asked(text: str, a: list[float], b: list[float]) -> None:
    table = aligned(A, B)
    filled = fill(table, parse_fill(text))
    same(filled.values, [a, b])
    assert minutes(filled) == [0, 1, 2, 3, 5]
    same(table.values, aligned(A, B).values)


def test_without_a_fill_gaps_stay() -> None:
    same(fill(aligned(A, B), None).values, aligned(A, B).values)


@pytest.mark.parametrize("text", ["0", "ffill", "bfill", "full_ffill", "full_bfill"])
def test_empty_tables_can_be_filled(text: str) -> None:
    assert fill(aligned({}, {}), parse_fill(text)).values.shape == (2, 0)


@settings(deadline=None)
@given(series=some_series, text=st.sampled_from(["ffill", "bfill", "full_ffill", "full_bfill"]))
def test_filling_equals_that_of_pandas(series: list[dict[int, float]], text: str) -> None:
    table = aligned(*series)
    frame = pd.DataFrame(table.values.T)
    forward = text.endswith("ffill")
    frame = frame.ffill() if forward else frame.bfill()
    if text.startswith("full"):
        frame = frame.bfill() if forward else frame.ffill()
    same(fill(table, parse_fill(text)).values, frame.to_numpy().T)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", Fill("number", 0.0)),
        ("-1e3", Fill("number", -1000.0)),
        ("inf", Fill("number", INF)),
        ("null", Fill("null")),
        ("dropna", DROP),
        ("full_bfill", Fill("full_bfill")),
    ],
)
def test_a_fill_is_a_number_or_a_mode(text: str, expected: Fill) -> None:
    assert parse_fill(text) == expected


@pytest.mark.parametrize("text", ["", "ffil", "FFILL", "1_0", "number", "0x1", "１"])
def test_other_texts_are_no_fill(text: str) -> None:
    with pytest.raises(ValueError, match=r"^Must be a float, 'dropna', 'null', 'ffill', "):
        parse_fill(text)


# ------------------------------------------------------------------ overlap


@pytest.mark.parametrize(
    ("needed", "start_given", "stop_given", "expected"),
    [
        (100, False, False, [1, 2]),
        (0, False, False, [1, 2]),
        (40, True, True, [0, 1, 2, 3, 5]),
        (60, True, False, [0, 1, 2]),
        (50, False, True, [1, 2, 3, 5]),
    ],
)
def test_without_a_bound_the_table_ends_where_the_series_cease_to_overlap(
    needed: float, start_given: bool, stop_given: bool, expected: list[int]
) -> None:
    table = overlapping(aligned(A, B), needed, start_given=start_given, stop_given=stop_given)
    assert minutes(table) == expected


@pytest.mark.parametrize(
    ("needed", "stop_given", "text"),
    [
        (50, True, "Less than 50.000000% of datapoints overlap in this timespan (40.00%)"),
        (70, False, "Less than 70.000000% of datapoints overlap in this timespan (66.67%)"),
    ],
)
def test_too_little_overlap_is_an_error(needed: float, stop_given: bool, text: str) -> None:
    with pytest.raises(TooLittleOverlap) as caught:
        overlapping(aligned(A, B), needed, start_given=True, stop_given=stop_given)
    assert str(caught.value) == text


@pytest.mark.parametrize("other", [{}, {7: 1.0}])
def test_no_overlap_is_an_error_where_some_is_needed(other: dict[int, float]) -> None:
    with pytest.raises(NoOverlap, match=r"^No overlap$"):
        overlapping(aligned(A, other), 5, start_given=False, stop_given=False)


def test_no_overlap_is_enough_where_none_is_needed() -> None:
    table = overlapping(aligned(A, {}), 0, start_given=False, stop_given=False)
    assert minutes(table) == [0, 1, 2, 5]


def test_one_series_overlaps_with_itself() -> None:
    table = overlapping(aligned(A), 100, start_given=False, stop_given=False)
    assert minutes(table) == [0, 1, 2, 5]


# ------------------------------------------------------------------ what is shown


@pytest.mark.parametrize("text", ["dropna", "ffill", "bfill", "full_ffill", "full_bfill"])
def test_results_that_are_no_finite_numbers_are_not_shown(text: str) -> None:
    shown = drop(np.arange(5), np.array([1, NAN, INF, -INF, 2]), parse_fill(text))
    assert [column.tolist() for column in shown] == [[0, 4], [1.0, 2.0]]


@pytest.mark.parametrize("how", [None, Fill("null"), Fill("number", 0.0)])
def test_everything_is_shown_where_gaps_are(how: Fill | None) -> None:
    timestamps, values = drop(np.arange(3), np.array([1, NAN, INF]), how)
    assert timestamps.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(values, [1, NAN, INF])
