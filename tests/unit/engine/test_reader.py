"""Reading many row groups, in threads or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gnocchi.engine import compact
from gnocchi.engine.reader import Gap, Reader
from gnocchi.segments import segment
from gnocchi.segments.batch import ID
from tests import engine_fixtures as fixtures

if TYPE_CHECKING:
    import pathlib

    from gnocchi.service import Services

MINUTE = 60 * fixtures.S
METHODS = ("sum", "count")


@pytest.fixture
def filled(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Services, np.ndarray]:
    """Segments of many small row groups, some of them merged, and the ids of their metrics."""
    monkeypatch.setattr(segment, "ROWS", 8)
    services = fixtures.services(tmp_path, sacks=2)
    policy = fixtures.policy(services, methods=METHODS)
    metrics = [fixtures.metric(services, number, policy) for number in range(40)]
    for number in range(9):
        chosen = metrics[number % 3 :: 2]
        fixtures.send(services, {m: [(30 * number, float(number)), (30, 7.0)] for m in chosen})
        fixtures.work(services)
        if number == 4:
            compact.run_once(services, fan_in=3)
    ids = np.sort(np.frombuffer(b"".join(metric.id.bytes for metric in metrics), ID))
    return services, ids


def rows(
    services: Services, ids: np.ndarray, parallel: int, damaged: list[str]
) -> tuple[list[tuple[object, ...]], list[Gap]]:
    """All rows there are by a reader of its own, and what damage hides."""
    gaps: list[Gap] = []

    def report(name: str, _reason: str) -> None:
        damaged.append(name)

    reader = Reader(services.db, services.storage, report, 1 << 20, parallel)
    for _ in range(2):  # from the storage, then from memory
        gaps.clear()
        block = reader.rows(MINUTE, ids, METHODS, gaps=gaps)
    return list(
        zip(block.index.tolist(), block.timestamps.tolist(), *block.columns.values(), strict=True)
    ), gaps


def test_threads_read_the_same_rows(filled: tuple[Services, np.ndarray]) -> None:
    services, ids = filled
    damaged: list[str] = []
    expected = rows(services, ids, 1, damaged)
    assert len(expected[0]) > 100
    assert expected == rows(services, ids, 4, damaged)
    assert damaged == []
    assert expected[1] == []


def test_threads_withhold_the_same_rows(
    filled: tuple[Services, np.ndarray], tmp_path: pathlib.Path
) -> None:
    services, ids = filled
    whole, _ = rows(services, ids, 1, [])
    live = services.reader.snapshot().segments
    for number, entry in enumerate(live[:3]):
        (path,) = tmp_path.glob(f"segments/*/{entry.name}")
        data = bytearray(path.read_bytes())
        groups = services.reader.tail(entry).groups
        chosen = groups[groups["granularity"] == MINUTE][0]
        # the tail of one segment, a row group of the others
        data[-20 if number == 1 else int(chosen["offset"]) + 40] ^= 1
        path.write_bytes(data)
    alone: list[str] = []
    threads: list[str] = []
    expected = rows(services, ids, 1, alone)
    assert expected == rows(services, ids, 4, threads)
    assert alone == threads
    assert len(set(alone)) == 3
    assert expected[1]
    assert set(expected[0]) < set(whole)
