"""What a change of an archive policy means for data that are there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gnocchi.archive_policy import Definition
from gnocchi.engine import compact, read
from gnocchi.indexer import metrics, policies
from tests import engine_fixtures as engine
from tests.engine_fixtures import S

if TYPE_CHECKING:
    import pathlib

    from gnocchi.model import Metric
    from gnocchi.service import Services


def change(
    services: Services, granularities: list[tuple[int, int | None]], back_window: int | None
) -> None:
    """What the REST layer does on PATCH; granularities and timespans in seconds."""
    newest = read.newest(services)
    definitions = [
        Definition.complete(granularity=g * S, timespan=None if t is None else t * S)
        for g, t in granularities
    ]
    policies.change(
        services.db,
        engine.POLICY,
        lambda policy: policy.changed(definitions, back_window, newest),
    )


def counts(services: Services, metric: Metric, granularity: int) -> dict[int, float]:
    return engine.answer(
        services, metrics.get(services.db, metric.id), "count", granularity=granularity
    )


@pytest.mark.parametrize("merged", [False, True])
def test_expired_points_stay_gone_when_retention_grows(
    tmp_path: pathlib.Path, merged: bool
) -> None:
    services = engine.services(tmp_path)
    metric = engine.metric(services, 1, engine.policy(services, granularities=[(5, 15)]))
    for at in range(0, 30, 5):
        engine.send(services, {metric: [(at, 1)]})
        engine.work(services)
    assert counts(services, metric, 5) == {15: 1, 20: 1, 25: 1}

    change(services, [(5, 30)], None)
    if merged:
        while compact.run_once(services, fan_in=2):
            continue

    assert counts(services, metric, 5) == {15: 1, 20: 1, 25: 1}
    engine.send(services, {metric: [(30, 1), (35, 1)]})
    engine.work(services)
    assert counts(services, metric, 5) == {15: 1, 20: 1, 25: 1, 30: 1, 35: 1}


def test_shrinking_retention_takes_effect_at_once(tmp_path: pathlib.Path) -> None:
    services = engine.services(tmp_path)
    metric = engine.metric(services, 1, engine.policy(services, granularities=[(5, 30)]))
    engine.send(services, {metric: [(at, 1) for at in range(0, 30, 5)]})
    engine.work(services)

    change(services, [(5, 10)], None)

    assert counts(services, metric, 5) == {20: 1, 25: 1}


@pytest.mark.parametrize("merged", [False, True])
def test_a_grown_back_window_never_rebuilds_a_bucket_from_points_that_are_gone(
    tmp_path: pathlib.Path, merged: bool
) -> None:
    services = engine.services(tmp_path)
    metric = engine.metric(services, 1, engine.policy(services))
    engine.send(services, {metric: [(0, 1), (10, 1), (20, 1), (60, 1)]})
    engine.work(services)
    engine.send(services, {metric: [(130, 1)]})
    engine.work(services)
    if merged:
        while compact.run_once(services, fan_in=2):
            continue

    change(services, [(60, None)], 5)
    engine.send(services, {metric: [(30, 1), (70, 1)]})
    engine.work(services)

    assert counts(services, metric, 60) == {0: 3, 60: 1, 120: 1}
    engine.send(services, {metric: [(131, 1), (190, 1)]})
    engine.work(services)
    engine.send(services, {metric: [(132, 1)]})
    engine.work(services)
    assert counts(services, metric, 60) == {0: 3, 60: 1, 120: 3, 180: 1}


def test_a_shrunk_back_window_refuses_what_it_excludes(tmp_path: pathlib.Path) -> None:
    services = engine.services(tmp_path)
    metric = engine.metric(services, 1, engine.policy(services, back_window=3))
    engine.send(services, {metric: [(0, 1), (200, 1)]})
    engine.work(services)

    change(services, [(60, None)], 0)
    engine.send(services, {metric: [(10, 1), (190, 1)]})
    engine.work(services)

    assert counts(services, metric, 60) == {0: 1, 180: 2}
