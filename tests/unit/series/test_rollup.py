"""Single rounds and short histories, with what they show written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gnocchi.archive_policy import ArchivePolicy, Definition
from gnocchi.series.points import NONE, is_absent
from gnocchi.series.rollup import NEVER, Rollup, needed_from, rollup

from .store import Measures, Store, as_rows, columns

SECOND = 10**9
DAY = int(np.datetime64("2024-01-01", "ns").astype(np.int64))
MINUTE_TIMES_10 = (60, 10)
HOUR = (3600, None)


def policy(
    *definitions: tuple[int, int | None], methods: str = "count", back_window: int = 0
) -> ArchivePolicy:
    return ArchivePolicy.create(
        "example",
        back_window,
        [Definition.complete(seconds * SECOND, points) for seconds, points in definitions],
        methods.split(),
    )


def at(clock: str) -> int:
    """Return the instant of ``HH:MM[:SS[.f]]`` on the day of the examples."""
    hours, minutes, seconds = (*clock.split(":"), "0")[:3]
    whole, _, fraction = seconds.partition(".")
    return (
        DAY
        + ((int(hours) * 60 + int(minutes)) * 60 + int(whole)) * SECOND
        + int(fraction.ljust(9, "0"))
    )


def batch(*points: tuple[str, float] | str) -> Measures:
    pairs = [(point, 1.0) if isinstance(point, str) else point for point in points]
    return [(0, at(clock), float(value)) for clock, value in pairs]


def history(policy: ArchivePolicy, *batches: Measures) -> Store:
    store = Store(policy, 1)
    for measures in batches:
        store.post(measures)
    return store


def shown(store: Store, method: str = "count", seconds: int = 60) -> dict[str, float]:
    """Return one method's series of metric 0, ``HH:MM`` to value, expired buckets left out."""
    buckets = store.cells[seconds * SECOND].get(0, {})
    series = {bucket: cells[method] for bucket, cells in buckets.items() if method in cells}
    timespan = store.policy.timespan(seconds * SECOND)
    return {
        str(np.datetime64(bucket, "ns"))[11:16]: value
        for bucket, value in sorted(series.items())
        if timespan is None or bucket > max(series) - timespan
    }


def first_round(policy: ArchivePolicy, measures: Measures, metrics: int = 1) -> Rollup:
    newest = np.full(metrics, NONE, dtype=np.int64)
    return rollup(policy, metrics, columns([]), newest, columns(measures))


# ------------------------------------------------------------------ late points


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([["00:05:30"], ["00:04:59"]], {"00:05": 1}),
        ([["00:05:30"], ["00:04:59"], ["00:05:00"]], {"00:05": 2}),
        (
            [["00:05:30"], ["00:04:59"], ["00:05:00"], ["00:04:59", "00:07:01"]],
            {"00:05": 2, "00:07": 1},
        ),
    ],
)
def test_without_back_window_a_point_before_the_newest_block_is_too_old(
    batches: list[list[str]], expected: dict[str, float]
) -> None:
    store = history(policy(MINUTE_TIMES_10), *(batch(*points) for points in batches))
    assert shown(store) == expected


@pytest.mark.parametrize(
    ("methods", "back_window", "newest", "late", "accepted"),
    [
        ("count", 2, "00:05:30", "00:02:59", False),
        ("count", 2, "00:05:30", "00:03:00", True),
        ("count rate:mean", 0, "00:05:30", "00:03:59", False),
        ("count rate:mean", 0, "00:05:30", "00:04:00", True),
        ("count", 0, "00:05:00", "00:04:59.999999999", False),
    ],
)
def test_the_back_window_counts_blocks_and_a_rate_adds_one(
    methods: str, back_window: int, newest: str, late: str, accepted: bool
) -> None:
    store = Store(policy(MINUTE_TIMES_10, methods=methods, back_window=back_window), 1)
    store.post(batch(newest))
    result = store.post(batch(late))
    assert result.accepted.tolist() == [int(accepted)]
    assert result.too_old.tolist() == [int(not accepted)]


def test_the_coarsest_granularity_is_the_block() -> None:
    store = history(
        policy(MINUTE_TIMES_10, HOUR), batch("05:55:30"), batch("05:00:01"), batch("04:59:59")
    )
    # 05:00 of the fine series is kept, but outside the timespan of ten minutes.
    assert store.cells[60 * SECOND][0].keys() == {at("05:55")}
    assert shown(store, seconds=3600) == {"05:00": 2}


def test_a_batch_is_judged_by_the_newest_point_before_it() -> None:
    store = Store(policy((60, None), HOUR, back_window=2), 1)
    store.post(batch("14:34"))
    assert store.post(batch("12:00:00")).too_old.tolist() == [0]
    assert store.post(batch("11:59:59")).too_old.tolist() == [1]
    assert store.post(batch("12:00:00", "15:00:00")).too_old.tolist() == [0]
    assert store.post(batch("12:30:00")).too_old.tolist() == [1]
    assert shown(store, seconds=3600) == {"12:00": 1, "14:00": 1, "15:00": 1}


def test_a_first_batch_is_never_too_old_and_leaves_the_newest_block_as_raw() -> None:
    clocks = [f"00:{minute:02}:30" for minute in range(20)]
    result = first_round(policy(MINUTE_TIMES_10), batch(*clocks))
    assert result.accepted.tolist() == [20]
    assert result.too_old.tolist() == [0]
    rows = result.aggregates[60 * SECOND]
    assert rows.timestamps.tolist() == [at(f"00:{minute}") for minute in range(10, 20)]
    assert as_rows(result.raw) == batch("00:19:30")


def test_a_known_point_newer_than_the_newest_that_was_given_counts_as_newest() -> None:
    known, new = columns(batch("00:05:30")), columns(batch("00:04:59"))
    result = rollup(policy(MINUTE_TIMES_10), 1, known, np.array([NONE]), new)
    assert result.too_old.tolist() == [1]
    assert result.newest.tolist() == [at("00:05:30")]


# ------------------------------------------------------------------ the same timestamp twice


def test_a_later_batch_replaces_the_value_of_a_timestamp() -> None:
    store = history(
        policy((60, None), methods="mean count"), batch(("00:00", 3)), batch(("00:00", 7))
    )
    assert shown(store, "mean") == {"00:00": 7.0}
    assert shown(store, "count") == {"00:00": 1.0}


@pytest.mark.parametrize("order", [(5, 3, 9), (9, 3, 5), (3, 9, 5)])
def test_inside_a_batch_the_last_arrival_wins(order: tuple[int, ...]) -> None:
    store = history(policy((60, None), methods="last"), batch(*(("00:00", v) for v in order)))
    assert shown(store, "last") == {"00:00": order[-1]}


def test_replaced_measures_of_a_batch_count_as_accepted() -> None:
    result = first_round(policy((60, None)), batch("00:00", "00:00", "00:01"))
    assert result.accepted.tolist() == [3]
    assert len(as_rows(result.raw)) == 1


# ------------------------------------------------------------------ values that are no numbers


def test_nan_is_absent_and_counted() -> None:
    measures = batch(("00:00:10", 5), ("00:00:20", math.nan), ("00:00:30", 9))
    result = first_round(policy((60, None), methods="mean count"), measures)
    assert result.aggregates[60 * SECOND].columns["mean"].tolist() == [7.0]
    assert result.aggregates[60 * SECOND].columns["count"].tolist() == [2.0]
    assert (result.accepted.tolist(), result.not_a_number.tolist()) == ([2], [1])


def test_nan_does_not_replace_a_value() -> None:
    store = history(
        policy((60, None), methods="last"), batch(("00:00", 3)), batch(("00:00", math.nan))
    )
    assert shown(store, "last") == {"00:00": 3.0}


def test_an_infinity_makes_std_undefined_but_present() -> None:
    measures = batch(("00:00:10", math.inf), ("00:00:20", 1))
    [std] = first_round(policy((60, None), methods="std"), measures).aggregates.values()
    assert math.isnan(std.columns["std"][0])
    assert not is_absent(std.columns["std"])[0]


# ------------------------------------------------------------------ buckets


def test_a_bucket_boundary_is_exact_to_the_nanosecond() -> None:
    store = history(policy((60, None)), batch("00:00:59.999999999", "00:01:00"))
    assert shown(store) == {"00:00": 1, "00:01": 1}


@pytest.mark.parametrize(
    "batches",
    [
        [[45, 50, 65, 70]],
        [[45, 50], [65], [70]],
        [[45, 50, 65], [70]],
        [[45], [50], [65], [70]],
    ],
)
def test_granularities_that_do_not_divide_each_other_keep_whole_buckets(
    batches: list[list[int]],
) -> None:
    store = Store(policy((40, None), (60, None)), 1)
    for seconds in batches:
        store.post([(0, second * SECOND, 1.0) for second in seconds])
        store.compact()
    assert store.cells[40 * SECOND][0][40 * SECOND] == {"count": 4.0}


def test_needed_points_begin_with_the_earliest_bucket_around_the_first() -> None:
    example = policy((40, None), (60, None))
    first = np.array([65, 45, 130]) * SECOND
    assert (needed_from(example, first) // SECOND).tolist() == [40, 0, 120]


def test_only_touched_buckets_are_written() -> None:
    store = Store(policy((60, None), HOUR, back_window=2), 1)
    store.post(batch("00:01", "00:05", "01:10"))
    rows = store.post(batch("00:05:30")).aggregates
    assert rows[60 * SECOND].timestamps.tolist() == [at("00:05")]
    assert rows[3600 * SECOND].timestamps.tolist() == [at("00:00")]
    assert rows[3600 * SECOND].columns["count"].tolist() == [3.0]


# ------------------------------------------------------------------ rates


RATE_POINTS = [
    [("00:00:00", 0), ("00:00:30", 4)],
    [("00:01:10", 10), ("00:01:20", 9)],
    [("00:02:00", 20)],
]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("rate:mean", {"00:00": 4, "00:01": 2.5, "00:02": 11}),
        ("rate:last", {"00:00": 4, "00:01": -1, "00:02": 11}),
        ("rate:first", {"00:00": 4, "00:01": 6, "00:02": 11}),
        ("rate:sum", {"00:00": 4, "00:01": 5, "00:02": 11}),
        ("rate:count", {"00:00": 1, "00:01": 2, "00:02": 1}),
        ("rate:max", {"00:00": 4, "00:01": 6, "00:02": 11}),
        ("rate:min", {"00:00": 4, "00:01": -1, "00:02": 11}),
        ("rate:std", {"00:01": 4.949747468305833}),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_rates_of_three_batches(method: str, expected: dict[str, float], together: bool) -> None:
    batches = [batch(*points) for points in RATE_POINTS]
    if together:
        batches = [[measure for measures in batches for measure in measures]]
    store = history(policy((60, None), methods=method), *batches)
    assert shown(store, method) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("method", ["rate:mean", "rate:count", "rate:std"])
def test_the_very_first_point_has_no_rate(method: str) -> None:
    rows = first_round(policy((60, None), methods=method), batch("00:00")).aggregates[60 * SECOND]
    assert is_absent(rows.columns[method]).tolist() == [True] * rows.index.size


def test_a_rate_uses_the_preceding_point_however_far_back_it_lies() -> None:
    store = Store(policy((60, None), methods="rate:mean"), 1)
    for points in ([("00:00", 0)], [("00:10", 10)], [("00:10:30", 11), ("09:00", 5)]):
        store.post(batch(*points))
        store.compact()
    assert shown(store, "rate:mean") == {"00:10": 5.5, "09:00": -6.0}


def test_a_late_point_changes_the_rate_of_the_next_point_in_another_bucket() -> None:
    store = history(
        policy((60, None), methods="rate:last", back_window=9),
        batch(("00:00", 0), ("00:05", 10)),
        batch(("00:02", 4)),
    )
    assert shown(store, "rate:last") == {"00:02": 4.0, "00:05": 6.0}


def test_the_point_before_the_raw_window_is_stored_for_rates_only() -> None:
    measures = batch("00:00", "00:01", "00:30")
    assert as_rows(first_round(policy((60, None)), measures).raw) == batch("00:30")
    rated = first_round(policy((60, None), methods="rate:sum"), measures)
    assert as_rows(rated.raw) == batch("00:01", "00:30")


# ------------------------------------------------------------------ retention


def test_only_the_last_buckets_are_kept() -> None:
    measures = batch(*(f"00:0{minute}" for minute in range(6)))
    rows = first_round(policy((60, 3)), measures).aggregates[60 * SECOND]
    assert rows.timestamps.tolist() == [at("00:03"), at("00:04"), at("00:05")]


def test_a_series_of_std_outlives_the_others_when_it_ends_earlier() -> None:
    measures = batch("00:00:10", "00:00:20", "00:01:10", "00:01:20", "00:09:00")
    store = history(policy((60, 2), methods="count std"), measures)
    assert shown(store, "std") == {"00:00": 0.0, "00:01": 0.0}
    assert shown(store, "count") == {"00:09": 1.0}


# ------------------------------------------------------------------ the window for the next round


def test_the_window_reaches_back_to_the_open_buckets() -> None:
    result = first_round(policy((40, None), (60, None)), batch("00:00:50", "00:01:05", "00:01:10"))
    # DAY is a whole number of both granularities, so 40 s buckets begin at 00:00:40.
    assert result.cache_from.tolist() == [at("00:00:40")]
    assert as_rows(result.window) == batch("00:00:50", "00:01:05", "00:01:10")


def test_the_window_holds_the_predecessor_for_rates() -> None:
    result = first_round(policy((60, None), methods="rate:sum"), batch("00:00", "00:01", "00:30"))
    assert result.cache_from.tolist() == [at("00:30")]
    assert as_rows(result.window) == batch("00:01", "00:30")


def test_after_refused_points_the_window_claims_no_more_than_was_known() -> None:
    """A NaN later than the newest point asks for few known points; others were not loaded."""
    result = rollup(
        policy(HOUR),
        1,
        columns([]),
        np.array([at("00:30")]),
        columns(batch(("03:00", math.nan), ("05:00", math.nan))),
    )
    assert result.newest.tolist() == [at("00:30")]
    assert result.cache_from.tolist() == [at("03:00")]


def test_the_predecessor_is_kept_although_another_metric_follows() -> None:
    example = policy(HOUR, methods="rate:sum")
    new = [(0, at("03:00"), math.nan), (1, at("00:00"), 1.0), (1, at("05:00"), 1.0)]
    newest = np.array([at("00:30"), NONE])
    result = rollup(example, 2, columns(batch("00:30")), newest, columns(new))
    assert as_rows(result.window) == [*batch("00:30"), *new[1:]]


def test_a_metric_without_measures_has_no_usable_window() -> None:
    result = first_round(policy(HOUR), batch("00:00"), metrics=3)
    assert result.cache_from.tolist() == [at("00:00"), NEVER, NEVER]
    assert result.newest.tolist() == [at("00:00"), NONE, NONE]
    assert result.accepted.tolist() == [1, 0, 0]


def test_nothing_in_gives_nothing_out() -> None:
    result = first_round(policy(HOUR, (60, 5), methods="mean rate:std"), [], metrics=2)
    assert as_rows(result.raw) == as_rows(result.window) == []
    for rows in result.aggregates.values():
        assert rows.index.size == rows.timestamps.size == 0
        assert {name: column.size for name, column in rows.columns.items()} == {
            "mean": 0,
            "rate:std": 0,
        }


def test_rollup_leaves_its_arguments_alone() -> None:
    known, new = columns(batch("00:30")), columns(batch(("00:31", 2), ("00:30", 3)))
    newest = np.array([at("00:30")])
    before = [column.tolist() for column in (*known, newest, *new)]
    rollup(policy((60, 3), methods="rate:std sum"), 1, known, newest, new)
    assert [column.tolist() for column in (*known, newest, *new)] == before
