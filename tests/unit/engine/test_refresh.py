"""Processing what waits for some metrics, on demand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gnocchi.engine import process
from tests import engine_fixtures as fixtures

if TYPE_CHECKING:
    import pathlib

    import pytest


def test_refresh_processes_what_came_just_before_however_long_looking_takes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a slow store, a refresh right after a request answered without its measures."""
    services = fixtures.services(tmp_path, memory=True)
    metric = fixtures.metric(services, 1, fixtures.policy(services))
    look = services.incoming.waiting

    def slowly() -> dict[int, float]:
        ages = look()
        time.sleep(0.05)
        return ages

    monkeypatch.setattr(services.incoming, "waiting", slowly)
    for minute in range(3):
        fixtures.send(services, {metric: [(60 * minute, 1.0)]})
        process.refresh(services, [metric], 10)
        assert len(fixtures.answer(services, metric)) == minute + 1


def test_refresh_does_not_wait_for_what_comes_later(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would not end while somebody keeps sending."""
    services = fixtures.services(tmp_path, memory=True)
    metric = fixtures.metric(services, 1, fixtures.policy(services))
    work, rounds = process.Worker.work, []

    def send_more(worker: process.Worker, *arguments: object) -> int:
        done = work(worker, *arguments)  # type: ignore[arg-type]
        rounds.append(done)
        time.sleep(0.01)
        fixtures.send(services, {metric: [(60 * len(rounds), 1.0)]})
        return done

    monkeypatch.setattr(process.Worker, "work", send_more)
    fixtures.send(services, {metric: [(0, 1.0)]})
    process.refresh(services, [metric], 10)
    assert len(rounds) == 1
    assert fixtures.answer(services, metric) == {0: 1.0}
