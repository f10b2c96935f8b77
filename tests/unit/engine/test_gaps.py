"""What a round makes of raw points it needs and cannot read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gnocchi.indexer import damage
from gnocchi.segments.segment import RAW
from tests import engine_fixtures as engine

if TYPE_CHECKING:
    import pathlib

    from gnocchi.drivers.memory import MemoryStorage
    from gnocchi.service import Services


def damage_raw_points(services: Services) -> None:
    """Flip one bit in every row group of raw points."""
    storage: MemoryStorage = services.storage  # type: ignore[assignment]
    for segment in services.reader.snapshot().segments:
        groups = services.reader.tail(segment).groups
        written, data = storage.objects[segment.name]
        spoilt = bytearray(data)
        for group in np.flatnonzero(groups["granularity"] == RAW).tolist():
            spoilt[int(groups["offset"][group]) + 40] ^= 1
        storage.objects[segment.name] = (written, bytes(spoilt))


def test_a_bucket_whose_raw_points_are_damaged_keeps_its_aggregates(
    tmp_path: pathlib.Path,
) -> None:
    """Computed anew from the points that are left, the long bucket would lose most of its count."""
    services = engine.services(tmp_path, memory=True)
    metric = engine.metric(
        services, 1, engine.policy(services, granularities=[(60, None), (1200, None)])
    )
    engine.send(services, {metric: [(0, 1), (60, 1), (120, 1)]})
    engine.work(services)
    damage_raw_points(services)

    engine.send(services, {metric: [(180, 1)]})
    engine.work(services)
    engine.send(services, {metric: [(240, 1)]})
    engine.work(services)

    assert engine.answer(services, metric, "count", 1200) == {0: 3}
    assert engine.answer(services, metric, "count", 60) == dict.fromkeys(range(0, 300, 60), 1)
    assert damage.count(services.db) == 1

    engine.send(services, {metric: [(1200, 1), (1260, 1)]})
    engine.work(services)
    assert engine.answer(services, metric, "count", 1200) == {0: 3, 1200: 2}


def test_a_round_goes_on_for_metrics_beside_the_damage(tmp_path: pathlib.Path) -> None:
    services = engine.services(tmp_path, memory=True)
    policy = engine.policy(services, granularities=[(1200, None)])
    hurt, whole = engine.metric(services, 1, policy), engine.metric(services, 2, policy)
    engine.send(services, {hurt: [(0, 1)]})
    engine.work(services)
    damage_raw_points(services)
    engine.send(services, {whole: [(0, 1)]})
    engine.work(services)

    engine.send(services, {hurt: [(60, 1)], whole: [(60, 1)]})
    engine.work(services)

    assert engine.answer(services, whole, "count", 1200) == {0: 2}
    assert engine.answer(services, hurt, "count", 1200) == {0: 1}
