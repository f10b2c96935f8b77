"""Every bit of an incoming object is flipped, and the rounds go on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gnocchi.engine import process, status
from gnocchi.indexer import catalog
from tests import engine_fixtures as fixtures
from tests.damage.flips import errors_logged, flipped, reported, restarted

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from gnocchi.model import Metric
    from gnocchi.service import Services

SACKS = 2
AT_ONCE = 200  # damaged objects in one round


@pytest.fixture
def services(tmp_path: pathlib.Path) -> Iterator[Services]:
    made = fixtures.services(tmp_path, sacks=SACKS)
    yield made
    made.db.close()


@pytest.fixture
def metrics(services: Services) -> list[Metric]:
    """Two of sack 0, one of sack 1, and one of each sack that is never damaged."""
    policy = fixtures.policy(services, methods=["sum", "count"], back_window=10_000)
    highs = (0x10000000, 0x20000000, 0xA0000000, 0x30000000, 0xB0000000)
    return [
        fixtures.metric(services, number, policy, high)
        for number, high in enumerate(highs, start=1)
    ]


def waiting(directory: pathlib.Path) -> set[pathlib.Path]:
    return set(directory.glob("incoming/*/0/*"))


def newest(directory: pathlib.Path) -> pathlib.Path:
    """Names sort by arrival."""
    group = directory / "incoming" / str(SACKS) / "0"
    return group / max(os.listdir(group))


def test_flipped_bit_costs_at_most_the_share_it_is_in(
    tmp_path: pathlib.Path,
    services: Services,
    metrics: list[Metric],
    caplog: pytest.LogCaptureFixture,
) -> None:
    damaged_metrics, others = metrics[:3], metrics[3:]
    worker = process.Worker(services)
    bit, size = 0, 1
    while bit < 8 * size:
        expected_kept = {}
        bits = {}
        for minute in range(bit, bit + AT_ONCE):
            fixtures.send(
                services, {m: [(60 * minute, 1.0), (60 * minute + 9, 2.0)] for m in damaged_metrics}
            )
            path = newest(tmp_path)
            data = path.read_bytes()
            size = len(data)
            if minute >= 8 * size:
                path.unlink()
                break
            changed = flipped(data, minute)
            path.write_bytes(changed)
            bits[minute] = path.name
            expected_kept[path.name.partition(".")[0]] = changed
            if not minute % 50:
                fixtures.send(services, {m: [(60 * minute, 4.0)] for m in others})
        with errors_logged(caplog) as messages:
            worker.work([0])
            worker.work([1])
        assert services.incoming.waiting() == {}
        # once each, though a worker of the other sack met it too
        assert len(messages) == len(expected_kept)
        assert reported(services) >= expected_kept.keys()
        kept = {path.name: path.read_bytes() for path in (tmp_path / "damaged").iterdir()}
        assert expected_kept.items() <= kept.items()
        bit += len(bits)
        check(services, damaged_metrics, others, bits, size)
    assert len(reported(services)) == 8 * size


def check(
    services: Services, damaged: list[Metric], others: list[Metric], bits: dict[int, str], size: int
) -> None:
    """An answer is right or not there; what is not in the damaged share is there."""
    answers = [fixtures.answer(services, metric) for metric in damaged]
    counts = [fixtures.answer(services, metric, "count") for metric in damaged]
    first_share, second_share = 16 + 2 * 32, size - 2 * 16 - 16 - 8
    for bit in bits:
        found = [answer.get(60 * bit) for answer in answers]
        assert [count.get(60 * bit) for count in counts] == [f and 2.0 for f in found]
        byte = bit // 8
        if byte < first_share:
            assert found == [None, None, None]
        elif byte < second_share:
            assert found == [None, None, 3.0]
        else:
            assert found == [3.0, 3.0, None]
    for metric in others:
        expected = {60 * bit: 4.0 for bit in bits if not bit % 50}
        answer = fixtures.answer(services, metric)
        assert {at: answer.get(at) for at in expected} == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda data: data[:7],
        lambda data: data[:16],
        lambda data: data[:-1],
        lambda data: bytes(len(data)),
        lambda data: data[::-1],
        lambda _: b'[{"timestamp": 0, "value": 1}]',
    ],
    ids=["empty", "part of a header", "header", "cut", "zeros", "backwards", "foreign"],
)
@pytest.mark.parametrize("memory", [False, True], ids=["file", "memory"])
def test_any_bytes_in_the_queue_stop_nobody(
    tmp_path: pathlib.Path, change: object, memory: bool
) -> None:
    services = fixtures.services(tmp_path, sacks=SACKS, memory=memory)
    policy = fixtures.policy(services)
    metric = fixtures.metric(services, 1, policy)
    fixtures.send(services, {metric: [(0, 1.0)]})
    if memory:
        (queue,) = services.incoming.queues.values()  # type: ignore[attr-defined]
        for name, data in queue.items():
            queue[name] = change(data)  # type: ignore[operator]
    else:
        (path,) = waiting(tmp_path)
        path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    fixtures.send(services, {metric: [(60, 2.0)]})
    fixtures.work(services)
    assert fixtures.answer(services, metric) == {60: 2.0}
    assert len(reported(services)) == 1
    assert services.incoming.waiting() == {}
    fixtures.send(services, {metric: [(120, 3.0)]})
    fixtures.work(services)
    assert fixtures.answer(services, metric) == {60: 2.0, 120: 3.0}


def test_round_of_nothing_but_damage_is_finished(
    tmp_path: pathlib.Path, services: Services, metrics: list[Metric]
) -> None:
    fixtures.send(services, {metrics[0]: [(0, 1.0)]})
    (path,) = waiting(tmp_path)
    path.write_bytes(b"")
    assert fixtures.work(services) == 0
    assert services.incoming.waiting() == {}
    assert services.reader.snapshot().segments == ()
    assert catalog.totals(services.db) == (0, 0, 0, 0)


def test_damage_is_logged_once_by_all_processes_together(
    tmp_path: pathlib.Path,
    services: Services,
    metrics: list[Metric],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker that was killed before it discarded what it took leaves it to the next."""
    fixtures.send(services, {metrics[0]: [(0, 1.0)]})
    (path,) = waiting(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with errors_logged(caplog) as messages:
        for each in (services, restarted(services), restarted(services)):
            assert process.Worker(each).prepare([0]) is not None
        assert status.report(services, True)["storage"]["summary"]["damaged"] == 1
        fixtures.work(restarted(services))
    assert len(messages) == 1
    assert path.name.partition(".")[0] in messages[0]
