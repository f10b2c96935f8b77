"""Expressions over stored series of many metrics, by groups, within limits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from gnocchi import errors
from gnocchi.engine import aggregates
from gnocchi.engine.aggregates import Limits, Reference
from gnocchi.series import expression as expressions
from gnocchi.series.table import DROP, Fill
from tests import engine_fixtures as engine
from tests.engine_fixtures import T0, S

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

    from gnocchi.model import Metric
    from gnocchi.service import Services

MINUTE = 60 * S
ALL = ("*", "sum")
SUM = expressions.Aggregate("sum", expressions.Metrics((ALL,)))


@pytest.fixture
def services(tmp_path: pathlib.Path) -> Services:
    return engine.services(tmp_path, memory=True)


def evaluate(
    services: Services,
    expression: expressions.Expression,
    groups: Sequence[Sequence[Metric]],
    **keywords: Any,
) -> list[aggregates.Answer]:
    """Let every pair of the expression stand for all metrics of a group."""
    pairs = expressions.references(expression)
    prepared = []
    for group in groups:
        references = [Reference(m, pair[1], str(m.id), None) for pair in pairs for m in group]
        select = {
            pair: list(range(n * len(group), (n + 1) * len(group))) for n, pair in enumerate(pairs)
        }
        prepared.append((references, select))
    asked: dict[str, Any] = {
        "start": None,
        "stop": None,
        "granularity": None,
        "fill": DROP,
        "needed_overlap": 0.0,
        "limits": Limits(100, 10_000),
    }
    return aggregates.evaluate_groups(services, expression, prepared, **(asked | keywords))


def points(series: Sequence[Any]) -> list[tuple[int, int, float]]:
    """Seconds after T0, granularity in seconds, value."""
    return [
        ((at - T0) // S, one.granularity // S, value)
        for one in series
        for at, value in zip(one.timestamps.tolist(), one.values.tolist(), strict=True)
    ]


def aggregated(answer: aggregates.Answer) -> list[tuple[int, int, float]]:
    assert answer.aggregated is not None
    return points(answer.aggregated)


def filled(services: Services, number: int, measures: dict[int, float], policy: Any) -> Metric:
    metric = engine.metric(services, number, policy)
    engine.send(services, {metric: list(measures.items())})
    return metric


def test_each_group_is_evaluated_by_itself(services: Services) -> None:
    policy = engine.policy(services)
    metrics = [filled(services, n, {0: n, 60 * n: 10 * n}, policy) for n in (1, 2, 3)]
    engine.work(services)
    first, second, third = evaluate(
        services, SUM, [metrics[:2], metrics[2:], [metrics[2], metrics[0]]]
    )
    assert aggregated(first) == [(0, 60, 3), (60, 60, 10), (120, 60, 20)]
    assert aggregated(second) == [(0, 60, 3), (180, 60, 30)]
    assert aggregated(third) == [(0, 60, 4), (60, 60, 10), (180, 60, 30)]


def test_series_are_answered_in_the_order_of_their_references(services: Services) -> None:
    policy = engine.policy(services)
    metrics = [engine.metric(services, n, policy) for n in range(8)]
    engine.send(services, {m: [(0, n)] for n, m in enumerate(metrics) if n != 5})
    engine.work(services)
    metrics.reverse()
    pairs = (("*", "sum"), ("*", "max"))
    [answer] = evaluate(services, expressions.Metrics(pairs), [metrics])
    found = answer.by_reference
    assert found is not None
    assert [(one.metric, one.method) for one in found] == [
        (metric, method) for _, method in pairs for metric in metrics
    ]
    values = [[value for _, _, value in points(series)] for series in found.values()]
    assert values == [[7], [6], [], [4], [3], [2], [1], [0]] * 2


def test_many_methods_of_different_metrics_keep_apart(services: Services) -> None:
    methods = ("sum", "max", "min", "last", "first")
    metrics = []
    for number, method in enumerate(methods):
        policy = engine.policy(services, method, methods=[method])
        metrics.append(filled(services, number, {1: 3, 2: 1 + number, 3: 2}, policy))
    engine.work(services)
    references = [Reference(m, how, "", None) for m, how in zip(metrics, methods, strict=True)]
    pairs = tuple(("*", method) for method in methods)
    answer = aggregates.evaluate(
        services,
        expressions.Metrics(pairs),
        references,
        {pair: [n] for n, pair in enumerate(pairs)},
        start=None,
        stop=None,
        granularity=None,
        fill=DROP,
        needed_overlap=0,
        limits=Limits(100, 100),
    )
    assert answer.by_reference is not None
    assert [points(series)[0][2] for series in answer.by_reference.values()] == [6, 3, 2, 2, 3]


def test_an_aggregate_that_a_bucket_does_not_have_is_no_point(services: Services) -> None:
    policy = engine.policy(services, methods=["std", "sum"])
    one = filled(services, 1, {0: 1, 60: 1, 61: 1}, policy)
    engine.work(services)
    expression = expressions.Metrics((("*", "std"), ALL))
    [answer] = evaluate(services, expression, [[one]], fill=Fill("null"))
    assert answer.by_reference is not None
    std, total = answer.by_reference.values()
    assert points(total) == [(0, 60, 1), (60, 60, 2)]
    assert math.isnan(points(std)[0][2])
    assert points(std)[1] == (60, 60, 0)


def test_common_granularities_are_used_coarsest_first(services: Services) -> None:
    both = engine.policy(services, "both", [(60, None), (300, None)])
    more = engine.policy(services, "more", [(300, None), (60, None), (1, None)])
    metrics = [filled(services, n, {0: 1, 90: 2}, policy) for n, policy in enumerate((both, more))]
    engine.work(services)
    [answer] = evaluate(services, SUM, [metrics])
    assert aggregated(answer) == [(0, 300, 6), (0, 60, 2), (60, 60, 4)]
    [answer] = evaluate(services, SUM, [metrics], granularity=MINUTE)
    assert aggregated(answer) == [(0, 60, 2), (60, 60, 4)]


def test_start_is_rounded_down_to_each_granularity_and_stop_excluded(services: Services) -> None:
    policy = engine.policy(services, granularities=[(60, None), (300, None)])
    one = filled(services, 1, {60 * n: n for n in range(20)}, policy)
    engine.work(services)
    [answer] = evaluate(services, SUM, [[one]], start=T0 + 359 * S, stop=T0 + 480 * S)
    assert aggregated(answer) == [
        (300, 300, 35),
        (300, 60, 5),
        (360, 60, 6),
        (420, 60, 7),
    ]


def test_what_has_expired_is_gone_whatever_the_bounds_are(services: Services) -> None:
    short = engine.policy(services, "short", [(60, 120)])
    long = engine.policy(services, "long", [(60, None)])
    ends = engine.policy(services, "ends", [(60, 240)])
    metrics = [
        filled(services, n, {60 * at: 10**n for at in range(5)}, policy)
        for n, policy in enumerate((short, long, ends))
    ]
    silent = filled(services, 3, {0: 1000}, short)
    engine.work(services)
    everything = [(0, 60, 1010), (60, 60, 110), (120, 60, 110), (180, 60, 111), (240, 60, 111)]
    [answer] = evaluate(services, SUM, [[*metrics, silent]])
    assert aggregated(answer) == everything
    [answer] = evaluate(services, SUM, [[*metrics, silent]], stop=T0 + 180 * S)
    assert aggregated(answer) == everything[:3]
    [answer] = evaluate(services, SUM, [[*metrics, silent]], start=T0 + 60 * S, stop=T0 + 240 * S)
    assert aggregated(answer) == everything[1:4]


def test_a_series_expires_by_its_own_newest_point(services: Services) -> None:
    policy = engine.policy(services, granularities=[(60, 120)], methods=["std", "sum"])
    one = filled(services, 1, {0: 1, 1: 3, 60: 1, 120: 1}, policy)
    engine.work(services)
    expression = expressions.Metrics((("*", "std"), ALL))
    [answer] = evaluate(services, expression, [[one]])
    assert answer.by_reference is not None
    std, total = answer.by_reference.values()
    assert points(std) == [(0, 60, pytest.approx(math.sqrt(2)))]
    assert points(total) == [(60, 60, 1), (120, 60, 1)]


def test_metrics_without_measures_are_empty_series(services: Services) -> None:
    policy = engine.policy(services)
    one = filled(services, 1, {0: 1}, policy)
    engine.work(services)
    never = engine.metric(services, 2, policy)
    whole, nothing, none = evaluate(services, SUM, [[one, never], [never], []])
    assert aggregated(whole) == [(0, 60, 1)]
    assert aggregated(nothing) == []
    assert none == aggregates.Answer(None, {})


def test_without_fill_series_have_to_overlap(services: Services) -> None:
    policy = engine.policy(services)
    one = filled(services, 1, {0: 1, 60: 2, 120: 4, 300: 10}, policy)
    two = filled(services, 2, {60: 20, 120: 40, 180: 60}, policy)
    engine.work(services)
    [answer] = evaluate(services, SUM, [[one, two]], fill=None, needed_overlap=100.0)
    assert aggregated(answer) == [(60, 60, 22), (120, 60, 44)]
    bounds = {"start": T0, "stop": T0 + 360 * S}
    with pytest.raises(errors.CannotAggregate, match=r"40\.00%") as raised:
        evaluate(services, SUM, [[one, two]], fill=None, needed_overlap=50.0, **bounds)
    assert raised.value.detail == [[str(one.id), "sum"], [str(two.id), "sum"]]
    with pytest.raises(errors.CannotAggregate) as raised:
        evaluate(services, SUM, [[one, two]], fill=None, needed_overlap=1.0, stop=T0 + 60 * S)
    assert raised.value.reason == "No overlap"


def test_granularities_come_before_methods_unless_they_are_asked_for(services: Services) -> None:
    minute = engine.metric(services, 1, engine.policy(services, "minute", [(60, None)]))
    hour = engine.metric(services, 2, engine.policy(services, "hour", [(3600, None)]))
    unknown = expressions.Metrics((("*", "42pct"),))
    group = [minute, hour]
    with pytest.raises(errors.CannotAggregate) as raised:
        evaluate(services, unknown, [group])
    assert raised.value.reason == "No granularity match"
    assert raised.value.detail == [[str(metric.id), "42pct"] for metric in group]
    with pytest.raises(errors.UnknownAggregation) as refused:
        evaluate(services, unknown, [group], granularity=MINUTE)
    assert refused.value.detail == [[str(minute.id), "42pct"]]
    with pytest.raises(errors.CannotAggregate) as raised:
        evaluate(services, SUM, [[minute], group], granularity=MINUTE)
    assert raised.value.reason == "Granularities are missing"
    assert raised.value.detail == [[str(hour.id), "sum", 60.0]]


def test_what_cannot_be_computed_names_the_series(services: Services) -> None:
    policy = engine.policy(services)
    one = filled(services, 1, {0: 1}, policy)
    engine.work(services)
    rolling = expressions.Rolling("mean", 2, expressions.Metrics((ALL,)))
    with pytest.raises(errors.CannotAggregate) as raised:
        evaluate(services, rolling, [[one]])
    assert raised.value.reason == "Rolling window '2' is greater than serie length '1'"
    assert raised.value.detail == [[str(one.id), "sum"]]


def test_series_and_values_are_limited_for_all_groups_together(services: Services) -> None:
    policy = engine.policy(services)
    metrics = [filled(services, n, {60 * at: 1 for at in range(5)}, policy) for n in (1, 2)]
    engine.work(services)
    groups = [[metric] for metric in metrics]
    assert evaluate(services, SUM, groups, limits=Limits(2, 10))
    with pytest.raises(errors.TooManyReferences):
        evaluate(services, SUM, groups, limits=Limits(1, 10))
    with pytest.raises(errors.TooManyValues):
        evaluate(services, SUM, groups, limits=Limits(2, 9))
    # Far too many are not even read.
    with pytest.raises(errors.TooManyValues):
        evaluate(services, SUM, groups, limits=Limits(2, 3))


def test_rows_that_were_replaced_do_not_count_as_values(services: Services) -> None:
    policy = engine.policy(services, back_window=10)
    metric = engine.metric(services, 1, policy)
    for value in range(6):
        engine.send(services, {metric: [(0, value), (60, value)]})
        engine.work(services)
    assert len(services.reader.snapshot().segments) > 1
    [answer] = evaluate(services, SUM, [[metric]], limits=Limits(1, 2))
    assert aggregated(answer) == [(0, 60, 5), (60, 60, 5)]
