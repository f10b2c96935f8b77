"""Whatever resources change and whenever, every point is shared out once, by time."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnocchi import errors
from gnocchi.engine import aggregates, history
from gnocchi.engine.aggregates import Limits, Reference
from gnocchi.engine.history import Window
from gnocchi.series import expression as expressions
from gnocchi.series.table import DROP
from tests import engine_fixtures as engine
from tests.engine_fixtures import S

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from gnocchi.model import Metric
    from gnocchi.service import Services

HOUR = 3600 * S
QUARTER = 900 * S
T0 = engine.T0 + -engine.T0 % HOUR
SPAN = 12 * HOUR
LIMITS = Limits(100, 100_000)
PAIRS = (("a", "sum"), ("b", "sum"))
SUM = expressions.Aggregate("sum", expressions.Metrics(PAIRS))
BY_HOUR = expressions.Aggregate(
    "sum", expressions.Resample("sum", HOUR, expressions.Metrics(PAIRS))
)

# Measures of three resources in quarters since `T0`; the last has nothing under one name.
SERIES: tuple[tuple[dict[int, float], dict[int, float]], ...] = (
    ({n: n + 1.0 for n in range(0, 48, 2)}, dict.fromkeys(range(48), 100.0)),
    ({n: 7.0 * n for n in (0, 1, 5, 30, 47)}, {}),
    ({}, dict.fromkeys(range(20, 30), -2.5)),
)

Answers = dict["Hashable", dict[int, float]]
moments = st.one_of(
    st.integers(-8, 56).map(lambda n: T0 + n * QUARTER),
    st.integers(T0 - 2 * HOUR, T0 + SPAN + 2 * HOUR),
)
bounds = st.tuples(st.none() | moments, st.none() | moments)
changes = st.lists(st.tuples(moments, st.sampled_from("xyz")), max_size=6)


class Site:
    """The stored series."""

    def __init__(self, services: Services) -> None:
        self.services = services
        policy = engine.policy(services, granularities=[(3600, None), (900, None)])
        self.references: list[list[Reference]] = []
        sent: dict[Metric, Sequence[tuple[int, float]]] = {}
        for number, resource in enumerate(SERIES):
            own = []
            for position, series in enumerate(resource):
                metric = engine.metric(services, 2 * number + position, policy)
                own.append(Reference(metric, "sum", PAIRS[position][0], None))
                sent[metric] = [
                    ((T0 - engine.T0) // S + 900 * at, value) for at, value in series.items()
                ]
            self.references.append(own)
        engine.send(services, sent)
        engine.work(services)

    def divided(
        self, expression: expressions.Expression, windows: Sequence[Window], **keywords: Any
    ) -> list[tuple[Hashable, list[Any]]]:
        """Evaluate over windows."""
        asked: dict[str, Any] = {
            "start": None,
            "stop": None,
            "granularity": QUARTER,
            "fill": DROP,
            "needed_overlap": 0.0,
            "limits": LIMITS,
        }
        return history.evaluate_history(self.services, expression, windows, **(asked | keywords))

    def window(
        self, resource: int, group: Hashable, start: int | None = None, stop: int | None = None
    ) -> Window:
        """Let a resource count for a group for some time."""
        select = {pair: [position] for position, pair in enumerate(PAIRS)}
        return Window(self.references[resource], select, group, start, stop)

    def tiles(
        self,
        resource: int,
        history_: Sequence[tuple[int, str]],
        start: int | None,
        stop: int | None,
    ) -> list[Window]:
        """Cut ``[start, stop)`` where a resource changes from ``w`` to other groups."""
        edges = [(start, "w")]
        for moment, group in sorted(history_, key=lambda change: change[0]):
            inside = (start is None or moment > start) and (stop is None or moment < stop)
            if inside and moment != edges[-1][0]:
                edges.append((moment, group))
        ends = [moment for moment, _ in edges[1:]] + [stop]
        return [
            self.window(resource, group, low, high)
            for (low, group), high in zip(edges, ends, strict=True)
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(engine.services(tmp_path_factory.mktemp("history"), memory=True))


def by_time(series: Sequence[Any]) -> dict[int, float]:
    return {
        at: value
        for one in series
        for at, value in zip(one.timestamps.tolist(), one.values.tolist(), strict=True)
    }


def expected(
    windows: Sequence[tuple[int, Window]], worth: Mapping[int, Mapping[int, float]], step: int
) -> dict[Hashable, dict[int, Fraction]]:
    """Share every point of every resource out, one window at a time."""
    result: dict[Hashable, dict[int, Fraction]] = {}
    for resource, window in windows:
        for at, value in worth[resource].items():
            low = at if window.start is None else max(at, window.start)
            high = at + step if window.stop is None else min(at + step, window.stop)
            # A point whose time is not before the end is not in the window.
            if high > low:
                group = result.setdefault(window.group, {})
                group[at] = group.get(at, Fraction(0)) + Fraction(value) * (high - low) / step
    return result


def check(found: Sequence[tuple[Hashable, list[Any]]], wanted: Mapping[Hashable, Any]) -> None:
    """Compare groups, timestamps and, up to rounding, values."""
    answers = {group: by_time(series) for group, series in found}
    assert answers.keys() == wanted.keys()
    for group, points in wanted.items():
        assert list(answers[group]) == sorted(points)
        for at, value in points.items():
            assert answers[group][at] == pytest.approx(float(value), rel=1e-9, abs=1e-9)


def worth(step: int) -> dict[int, dict[int, float]]:
    """What the sum of both series of each resource is in every period, in plain Python."""
    result: dict[int, dict[int, float]] = {}
    for number, resource in enumerate(SERIES):
        points = result.setdefault(number, {})
        for series in resource:
            for at, value in series.items():
                start = (T0 + at * QUARTER) // step * step
                points[start] = points.get(start, 0.0) + value
    return result


@given(histories=st.tuples(changes, changes, changes), limits=bounds)
def test_points_are_shared_out_by_time(
    site: Site, histories: tuple[list[tuple[int, str]], ...], limits: tuple[int | None, int | None]
) -> None:
    start, stop = limits
    if start is not None and stop is not None and start >= stop:
        start, stop = stop, start + 1
    windows = [
        (number, window)
        for number, changes_ in enumerate(histories)
        for window in site.tiles(number, changes_, start, stop)
    ]
    plain = [window for _, window in windows]
    asked = {"start": start, "stop": stop}
    check(site.divided(SUM, plain, **asked), expected(windows, worth(QUARTER), QUARTER))
    check(site.divided(BY_HOUR, plain, **asked), expected(windows, worth(HOUR), HOUR))

    together = [window._replace(group="all") for window in plain]
    whole = dict(site.divided(SUM, together, **asked))
    parts: dict[int, float] = {}
    for _, series in site.divided(SUM, plain, **asked):
        for at, value in by_time(series).items():
            parts[at] = parts.get(at, 0.0) + value
    assert parts == pytest.approx(by_time(whole.get("all", [])), rel=1e-9, abs=1e-9)


def test_without_changes_and_bounds_it_is_the_sum_over_resources(site: Site) -> None:
    windows = [site.window(number, "all") for number in range(3)]
    [(group, series)] = site.divided(SUM, windows)
    references = [one for own in site.references for one in own]
    select = {pair: [position, position + 2, position + 4] for position, pair in enumerate(PAIRS)}
    answer = aggregates.evaluate(
        site.services,
        SUM,
        references,
        select,
        start=None,
        stop=None,
        granularity=QUARTER,
        fill=DROP,
        needed_overlap=0,
        limits=LIMITS,
    )
    assert answer.aggregated is not None
    assert group == "all"
    assert by_time(series) == pytest.approx(by_time(answer.aggregated))


def test_groups_come_in_order_of_appearance_and_granularities_coarsest_first(site: Site) -> None:
    windows = [
        site.window(2, "late", T0 + 6 * HOUR),
        site.window(0, "early", None, T0 + HOUR),
        site.window(2, "never", None, T0),
        site.window(1, "late", None, T0 + HOUR),
    ]
    found = site.divided(SUM, windows, granularity=None)
    assert [group for group, _ in found] == ["late", "early"]
    for _, series in found:
        assert [one.granularity for one in series] == [HOUR, QUARTER]


def test_several_changes_within_a_period_split_it_in_proportion(site: Site) -> None:
    at = T0 + 3 * HOUR
    cuts = [None, at + HOUR // 4, at + HOUR // 2, at + 3 * HOUR // 4, at + HOUR]
    groups = "wxwy"
    windows = [
        site.window(0, group, low, high)
        for group, low, high in zip(groups, cuts[:-1], cuts[1:], strict=True)
    ]
    one = expressions.Aggregate("sum", expressions.Metrics((PAIRS[1],)))
    found = {
        group: by_time(series)[at] for group, series in site.divided(one, windows, granularity=HOUR)
    }
    assert found == {"w": 200.0, "x": 100.0, "y": 100.0}


def test_a_difference_across_a_change_is_not_lost(site: Site) -> None:
    """It belongs to the later point, whoever has that."""
    rate = expressions.RateOfChange(per_second=False, operand=expressions.Metrics((PAIRS[0],)))
    total = expressions.Aggregate("sum", rate)
    change = T0 + 5 * QUARTER
    windows = [site.window(1, "before", None, change), site.window(1, "after", change)]
    found = {group: by_time(series) for group, series in site.divided(total, windows)}
    assert found == {
        "before": {T0 + QUARTER: 7.0},
        "after": {change: 28.0, T0 + 30 * QUARTER: 175.0, T0 + 47 * QUARTER: 119.0},
    }


def test_several_series_cannot_be_shared_out(site: Site) -> None:
    both = expressions.Metrics(PAIRS)
    with pytest.raises(errors.CannotAggregate, match="single series"):
        site.divided(both, [site.window(0, "all")])
