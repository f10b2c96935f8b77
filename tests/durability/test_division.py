"""The number of sacks changes while measures arrive: none is lost, none is counted twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gnocchi import errors
from gnocchi.engine import division, process
from gnocchi.indexer import catalog
from tests import engine_fixtures as fixtures

if TYPE_CHECKING:
    import pathlib

    from gnocchi.model import Metric
    from gnocchi.service import Services


def some_metrics(services: Services) -> list[Metric]:
    policy = fixtures.policy(services, methods=["count", "sum"])
    return [fixtures.metric(services, number, policy) for number in range(20)]


def everything(services: Services, metrics: list[Metric], minutes: int) -> None:
    """Each metric has one point of value 1 in each of the first minutes."""
    for metric in metrics:
        assert fixtures.answer(services, metric, "sum") == {60 * m: 1.0 for m in range(minutes)}
        assert fixtures.answer(services, metric, "count") == {60 * m: 1.0 for m in range(minutes)}


def send(services: Services, metrics: list[Metric], minute: int) -> None:
    fixtures.send(services, {metric: [(60 * minute, 1.0)] for metric in metrics})


@pytest.mark.parametrize("number", [1, 3, 4, 64, 300])
def test_processing_goes_on_with_another_number(tmp_path: pathlib.Path, number: int) -> None:
    services = fixtures.services(tmp_path, sacks=4)
    metrics = some_metrics(services)
    worker = process.Worker(services)
    send(services, metrics, 0)
    worker.work(range(4))
    division.change(services, number)
    assert services.sacks == number
    assert list(catalog.sacks(services.db)) == list(range(number))
    send(services, metrics, 1)
    worker.work(range(number))
    everything(services, metrics, 2)
    send(services, metrics, 2)
    process.refresh(services, metrics, 10)
    everything(services, metrics, 3)


def test_number_stays_while_measures_wait(tmp_path: pathlib.Path) -> None:
    services = fixtures.services(tmp_path, sacks=4)
    metrics = some_metrics(services)
    send(services, metrics, 0)
    with pytest.raises(errors.Misconfigured, match=r"20 .* wait .* number of sacks stays 4"):
        division.change(services, 8)
    assert services.sacks == len(catalog.sacks(services.db)) == 4
    fixtures.work(services)
    everything(services, metrics, 1)


def test_measures_written_under_the_former_number_are_moved(tmp_path: pathlib.Path) -> None:
    services, late = fixtures.services(tmp_path, sacks=4), fixtures.services(tmp_path, sacks=4)
    metrics = some_metrics(services)
    division.change(services, 8)
    send(late, metrics, 0)  # it has asked for the state before the change
    send(services, metrics, 1)
    assert division.move_stragglers(services) == 20
    assert division.move_stragglers(services) == 0
    fixtures.work(services)
    everything(services, metrics, 2)
    assert late.incoming.waiting() == {}


def test_round_of_the_former_number_cannot_commit(tmp_path: pathlib.Path) -> None:
    services, late = fixtures.services(tmp_path, sacks=4), fixtures.services(tmp_path, sacks=4)
    metrics = some_metrics(services)
    worker = process.Worker(late)
    division.change(services, 8)
    send(late, metrics, 0)
    with pytest.raises(errors.StaleGeneration):
        worker.prepare(range(4))
    division.move_stragglers(services)
    fixtures.work(services)
    everything(services, metrics, 1)


def test_round_under_way_cannot_commit_after_the_change(tmp_path: pathlib.Path) -> None:
    services, late = fixtures.services(tmp_path, sacks=4), fixtures.services(tmp_path, sacks=4)
    metrics = some_metrics(services)
    worker = process.Worker(late)
    send(late, metrics, 0)
    round_ = worker.prepare(range(4))
    assert round_ is not None
    catalog.change_sacks(services.db, 8)  # somebody did not look whether anything waits
    with pytest.raises(errors.StaleGeneration):
        worker.commit(round_)
    services.follow(8)
    services.incoming.upgrade()
    division.change(services, 8)
    fixtures.work(services)
    everything(services, metrics, 1)


def test_other_processes_follow_with_the_next_request(tmp_path: pathlib.Path) -> None:
    from gnocchi.engine import push

    services, other = fixtures.services(tmp_path, sacks=4), fixtures.services(tmp_path, sacks=4)
    metrics = some_metrics(services)
    division.change(services, 8)
    push.known(other, [metric.id.bytes for metric in metrics])
    assert other.sacks == 8
    send(other, metrics, 0)
    fixtures.work(services)
    everything(services, metrics, 1)


def test_former_numbers_are_remembered_for_a_while(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = fixtures.services(tmp_path, sacks=4)
    for number in (8, 5, 8):
        division.change(services, number)
    assert set(catalog.former_sacks(services.db)) == {4, 5}
    monkeypatch.setattr(division, "FORGET_S", -1)
    division.move_stragglers(services)
    assert catalog.former_sacks(services.db) == {}
