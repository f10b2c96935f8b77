"""Columns of points: order, last write wins, and the marker of an absent aggregate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnocchi.series.points import ABSENT, ABSENT_BITS, Points, is_absent, latest, runs, spans

#: Widths of time that make the fold into one 63-bit key possible, and impossible.
NARROW, WIDE = 40, 2**62


def columns(rows: list[tuple[int, int, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    index, timestamps, values = zip(*rows, strict=True) if rows else ((), (), ())
    return (
        np.array(index, dtype=np.int64),
        np.array(timestamps, dtype=np.int64),
        np.array(values, dtype=np.float64),
    )


def as_rows(points: Points) -> list[tuple[int, int, float]]:
    return list(
        zip(*(column.tolist() for column in points), strict=True),
    )


def rows_of(metrics: int, step: int) -> st.SearchStrategy[list[tuple[int, int, float]]]:
    return st.lists(
        st.tuples(
            st.integers(0, metrics),
            st.integers(0, 5).map(lambda n: n * step),
            st.integers(-99, 99).map(float),
        ),
        max_size=60,
    )


@pytest.mark.parametrize("step", [NARROW // 5, WIDE // 5])
@pytest.mark.parametrize("metrics", [3, 200_000, 2**33])
@settings(deadline=None)
@given(data=st.data())
def test_latest_equals_a_dict_filled_in_arrival_order(
    step: int, metrics: int, data: st.DataObject
) -> None:
    rows = data.draw(rows_of(metrics, step))
    model = {(index, timestamp): value for index, timestamp, value in rows}
    assert as_rows(latest(*columns(rows))) == [(i, t, v) for (i, t), v in sorted(model.items())]


@pytest.mark.parametrize("step", [1, 2**50])
def test_latest_merges_a_few_new_points_into_many_sorted_ones(step: int) -> None:
    stored = [(index, time * step, 0.0) for index in range(50) for time in range(40)]
    new = [(7, 39 * step, 1.0), (7, 39 * step, 2.0), (3, 40 * step, 3.0)]
    model = {(index, timestamp): value for index, timestamp, value in stored + new}
    assert as_rows(latest(*columns(stored + new))) == [
        (i, t, v) for (i, t), v in sorted(model.items())
    ]


@pytest.mark.parametrize("step", [1, 2**50])
def test_of_many_shuffled_duplicates_the_last_arrival_wins(step: int) -> None:
    generator = np.random.default_rng(5)
    index = generator.integers(0, 30, 5000)
    timestamps = generator.integers(0, 40, 5000) * step
    values = np.arange(5000, dtype=np.float64)
    model = {
        (i, t): v
        for i, t, v in zip(index.tolist(), timestamps.tolist(), values.tolist(), strict=True)
    }
    assert as_rows(latest(index, timestamps, values)) == [
        (i, t, v) for (i, t), v in sorted(model.items())
    ]


def test_latest_leaves_its_arguments_alone() -> None:
    index, timestamps, values = columns([(1, 5, 1.0), (0, 5, 2.0), (1, 4, 3.0)])
    latest(index, timestamps, values)
    assert index.tolist() == [1, 0, 1]
    assert timestamps.tolist() == [5, 5, 4]
    assert values.tolist() == [1.0, 2.0, 3.0]


def test_points_can_be_taken_by_mask_and_by_position() -> None:
    points = Points(*columns([(0, 1, 1.0), (0, 2, 2.0), (1, 1, 3.0)]))
    assert as_rows(points.take(np.array([True, False, True]))) == [(0, 1, 1.0), (1, 1, 3.0)]
    assert as_rows(points.take(np.array([2, 0]))) == [(1, 1, 3.0), (0, 1, 1.0)]


def test_runs_are_maximal_and_cover_everything() -> None:
    starts, lengths = runs(np.array([4, 4, 1, 4, 4, 4]))
    assert starts.tolist() == [0, 2, 3]
    assert lengths.tolist() == [2, 1, 3]


def test_nothing_has_no_runs() -> None:
    starts, lengths = runs(np.empty(0, dtype=np.int64))
    assert starts.tolist() == []
    assert lengths.tolist() == []


def test_spans_concatenate_ranges_and_skip_empty_ones() -> None:
    assert spans(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert spans(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)).tolist() == []


def test_absent_is_a_nan_apart_from_every_computed_one() -> None:
    with np.errstate(invalid="ignore"):
        computed = np.array([np.inf]) - np.inf
    column = np.concatenate((np.array([1.0, ABSENT, np.nan, -np.nan]), computed))
    assert np.isnan(column).tolist() == [False, True, True, True, True]
    assert is_absent(column).tolist() == [False, True, False, False, False]


def test_absent_survives_copying_selecting_and_bytes() -> None:
    column = np.full(6, ABSENT)
    column[::2] = 1.0
    copied = np.frombuffer(column.copy()[1::2].tobytes(), dtype=np.float64)
    assert is_absent(copied).all()
    assert is_absent(column[1::2]).all()
    assert (copied.view(np.int64) == ABSENT_BITS).all()
