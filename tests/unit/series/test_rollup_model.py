"""Any history of rounds shows what recomputing all accepted points would show."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnocchi.archive_policy import METHODS, ArchivePolicy, Definition
from gnocchi.series.points import NONE, is_absent
from gnocchi.series.rollup import rollup

from .model import Cells, Metric
from .store import Measures, Store, as_rows, columns

METRICS = 3
Limits = list[int | None]
POOL = ["mean", "sum", "count", "min", "max", "first", "last", "std", "median", "1pct", "90pct"]
RATES = [f"rate:{method}" for method in POOL]

definitions = st.builds(
    lambda granularity, points: Definition.complete(granularity, points),
    st.sampled_from([1, 2, 3, 4, 5, 6, 7, 10, 15]),
    st.none() | st.integers(1, 8),
)
policies = st.builds(
    ArchivePolicy.create,
    st.just("any"),
    st.integers(0, 3),
    st.lists(definitions, min_size=1, max_size=3, unique_by=lambda item: item.granularity),
    st.sets(st.sampled_from(POOL + RATES), min_size=1),
)
# Quarters are exact in binary, so sums do not depend on their order.
values = st.integers(-40, 40).map(lambda quarters: quarters / 4) | st.sampled_from(
    [math.nan, math.inf, -math.inf]
)
instants = st.integers(0, 30) | st.integers(0, 150)
batches = st.lists(
    st.tuples(st.integers(0, METRICS - 1), instants, values), min_size=1, max_size=12
)
ways = st.sampled_from(["storage", "everything", "blind", "cache"])
rounds = st.lists(st.tuples(batches, ways, st.booleans()), min_size=1, max_size=7)


def horizon(policy: ArchivePolicy, item: Definition, cells: Cells, method: str) -> float:
    """Return the last expired instant of one method's series."""
    buckets = [bucket for bucket, found in cells.items() if method in found]
    if not buckets:
        return -math.inf
    if policy.changes:
        return int(policy.horizons(item.granularity, np.array([max(buckets)]))[0])
    return -math.inf if item.timespan is None else max(buckets) - item.timespan


def assert_shows(store: Store, metrics: list[Metric]) -> None:
    """Compare every aggregate that retention has not hidden."""
    policy = store.policy
    for item in policy.definition:
        for number, metric in enumerate(metrics):
            expected = metric.aggregates(item.granularity)
            found = store.cells.get(item.granularity, {}).get(number, {})
            for method in policy.aggregation_methods:
                expired = horizon(policy, item, expected, method)
                assert live(found, method, expired) == pytest.approx(
                    live(expected, method, expired), rel=1e-12, abs=1e-12, nan_ok=True
                )


def live(cells: Cells, method: str, expired: float) -> dict[int, float]:
    return {
        bucket: found[method]
        for bucket, found in sorted(cells.items())
        if method in found and bucket > expired
    }


def post(store: Store, metrics: list[Metric], measures: Measures, way: str, limits: Limits) -> None:
    """Post to the store and to the model, and compare what became of the measures."""
    result = store.post(measures, way)
    for number, metric in enumerate(metrics):
        batch = [(time, value) for owner, time, value in measures if owner == number]
        fate = metric.post(batch, limits[number])
        assert {name: int(getattr(result, name)[number]) for name in fate} == fate
        if fate["accepted"]:
            assert result.newest[number] == max(metric.points)


@settings(max_examples=300, deadline=None)
@given(policies, rounds)
def test_any_history_equals_recomputing_everything(
    policy: ArchivePolicy, history: list[tuple[Measures, str, bool]]
) -> None:
    store = Store(policy, METRICS)
    metrics = [Metric(policy) for _ in range(METRICS)]
    for measures, way, compacts in history:
        if compacts:
            store.compact()
        post(store, metrics, measures, way, [metric.limit() for metric in metrics])
        assert_shows(store, metrics)


@settings(max_examples=150, deadline=None)
@given(policies, rounds, st.data())
def test_any_history_of_a_changing_policy_equals_recomputing_everything(
    policy: ArchivePolicy, history: list[tuple[Measures, str, bool]], data: st.DataObject
) -> None:
    """Late points never rebuild a bucket from raw points that are gone already."""
    store = Store(policy, METRICS)
    metrics = [Metric(policy) for _ in range(METRICS)]
    for measures, way, compacts in history:
        if compacts:
            store.compact()
        newest = max((max(metric.points) for metric in metrics if metric.points), default=0)
        policy = policy.changed(
            [
                Definition.complete(item.granularity, data.draw(st.none() | st.integers(1, 8)))
                for item in policy.definition
            ],
            data.draw(st.none() | st.integers(0, 3)),
            newest,
        )
        store.policy = policy
        for metric in metrics:
            metric.policy = policy
        limits = [
            int(policy.late_limits(np.array([max(metric.points)]))[0]) if metric.points else None
            for metric in metrics
        ]
        post(store, metrics, measures, way, limits)
        assert_shows(store, metrics)


@settings(deadline=None)
@given(policies, st.lists(st.tuples(batches, ways), min_size=1, max_size=4))
def test_a_round_repeated_at_once_changes_nothing(
    policy: ArchivePolicy, history: list[tuple[Measures, str]]
) -> None:
    """A crash between commit and acknowledgement replays a batch on top of its own result."""
    store = Store(policy, METRICS)
    for measures, way in history:
        store.post(measures, way)
        before = repr((sorted(store.raw.items()), store.cells))
        store.post(measures, way)
        assert repr((sorted(store.raw.items()), store.cells)) == before


@settings(deadline=None)
@given(
    st.sets(st.integers(1, 60), min_size=1, max_size=3),
    st.sets(st.sampled_from(POOL + RATES), min_size=1),
    st.dictionaries(
        st.tuples(st.integers(0, METRICS - 1), st.integers(0, 300)),
        st.integers(-40, 40).map(float),
        min_size=1,
        max_size=25,
    ),
    st.data(),
)
def test_order_duplicates_and_batches_do_not_show_inside_the_window(
    granularities: set[int],
    methods: set[str],
    points: dict[tuple[int, int], float],
    data: st.DataObject,
) -> None:
    policy = ArchivePolicy.create("wide", 1000, map(Definition.complete, granularities), methods)
    measures = [(metric, time, value) for (metric, time), value in points.items()]
    together = Store(policy, METRICS)
    together.post(measures)
    apart = Store(policy, METRICS)
    shuffled = data.draw(st.permutations(measures + measures[: len(measures) // 2]))
    size = data.draw(st.integers(1, len(shuffled)))
    for start in range(0, len(shuffled), size):
        apart.post(shuffled[start : start + size], data.draw(ways))
    assert apart.cells == together.cells
    assert apart.raw == together.raw


@settings(deadline=None)
@given(policies, rounds)
def test_what_is_written_is_sorted_unique_and_no_more_than_needed(
    policy: ArchivePolicy, history: list[tuple[Measures, str, bool]]
) -> None:
    store = Store(policy, METRICS)
    for measures, way, _ in history:
        result = store.post(measures, way)
        for points in (result.raw, result.window):
            keys = [(metric, time) for metric, time, _ in as_rows(points)]
            assert keys == sorted(set(keys))
        assert set(result.aggregates) == {item.granularity for item in policy.definition}
        for rows in result.aggregates.values():
            keys = list(zip(rows.index.tolist(), rows.timestamps.tolist(), strict=True))
            assert keys == sorted(set(keys))
            assert set(rows.columns) == policy.aggregation_methods
        assert {(metric, time) for metric, time, _ in as_rows(result.raw)} <= {
            (metric, time) for metric, time, _ in measures
        }
        floors = policy.raw_floors(np.maximum(result.newest, 0))
        before = [metric for metric, time, _ in as_rows(result.raw) if time < floors[metric]]
        assert len(before) == len(set(before)) if policy.has_rate else not before


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, METRICS - 1), st.integers(0, 200), st.floats(-1e6, 1e6)),
        min_size=1,
        max_size=60,
        unique_by=lambda row: row[:2],
    ),
    st.integers(1, 90),
)
def test_all_216_methods_equal_pandas(measures: Measures, granularity: int) -> None:
    policy = ArchivePolicy.create("all", 0, [Definition.complete(granularity)], METHODS)
    result = rollup(
        policy, METRICS, columns([]), np.full(METRICS, NONE, dtype=np.int64), columns(measures)
    )
    rows = result.aggregates[granularity]
    found = pd.DataFrame(rows.columns, index=[rows.index, rows.timestamps])
    found = found.mask(np.column_stack([is_absent(c) for c in rows.columns.values()]))

    frame = pd.DataFrame(measures, columns=["metric", "time", "value"])
    frame = frame.sort_values(["metric", "time"])
    frame["rate"] = frame.groupby("metric")["value"].diff()
    frame["bucket"] = frame["time"] // granularity * granularity
    groups = frame.groupby(["metric", "bucket"])
    assert list(found.index) == list(groups.groups)
    for prefix, column in (("", "value"), ("rate:", "rate")):
        for method in ("mean", "sum", "last", "max", "min", "std", "median", "first", "count"):
            options = {"min_count": 1} if method == "sum" else {}
            expected = getattr(groups[column], method)(**options)
            if method == "count":
                expected = expected.where(expected > 0)
            assert_equal(found[prefix + method], expected)
        quantiles = groups[column].quantile([percent / 100 for percent in range(1, 100)]).unstack()
        for percent in range(1, 100):
            assert_equal(found[f"{prefix}{percent}pct"], quantiles[percent / 100])


def assert_equal(found: pd.Series, expected: pd.Series) -> None:
    np.testing.assert_allclose(found.to_numpy(), expected.to_numpy(), rtol=1e-9, atol=1e-6)
