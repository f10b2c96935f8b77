"""Every system call of the file driver fails once: nothing acknowledged is lost, and it goes on."""

from __future__ import annotations

import errno
import itertools
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gnocchi import errors
from gnocchi.drivers.file import FileIncoming
from gnocchi.engine import compact, janitor
from gnocchi.segments.batch import ID, Points
from gnocchi.storage import NoSuchObject
from tests import engine_fixtures as fixtures
from tests.durability.faults import CALLS, Faults, failing

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from gnocchi.incoming import Incoming

ERRORS = pytest.mark.parametrize(
    "error", [errno.EIO, errno.ENOSPC], ids=["input/output error", "no space left"]
)


def each_call_fails(
    attempt: Callable[[], object], after: Callable[[Faults, bool], None], error: int
) -> list[str]:
    """Call ``attempt`` with its first ``open`` failing, with its second, … and so on for all calls.

    They are counted by name: when a descriptor nobody uses any more is closed depends on chance.
    ``after`` is called each time with what failed, and whether ``attempt`` raised Unavailable; any
    other error is a failure of the test.

    Returns:
        The names of the calls that failed.
    """
    failed = []
    for name in CALLS:
        for number in itertools.count():
            raised = False
            with failing(name, number, error) as faults:
                try:
                    attempt()
                except errors.Unavailable:
                    raised = True
            after(faults, raised)
            if faults.failed is None:
                assert not raised
                break
            failed.append(faults.failed)
    return failed


def one(value: float) -> Points:
    return Points(
        np.frombuffer(bytes(16), ID), np.array([1]), np.array([0], np.int64), np.array([value])
    )


def taken(incoming: Incoming) -> list[float]:
    values: list[float] = incoming.take(range(incoming.sacks), 1 << 62).points.values.tolist()
    return values


@ERRORS
def test_add_that_returned_lost_nothing_and_one_that_failed_left_nothing_unfinished(
    tmp_path: pathlib.Path, error: int
) -> None:
    _, incoming = fixtures.drivers(tmp_path, 4, sync=True)
    numbers = itertools.count()
    added: list[float] = []
    acknowledged: list[float] = []

    def attempt() -> None:
        added.append(float(next(numbers)))
        incoming.add(one(added[-1]))

    def after(faults: Faults, raised: bool) -> None:
        if not raised:
            acknowledged.append(added[-1])
        assert raised == (faults.failed is not None)
        assert list((tmp_path / "tmp").iterdir()) == []
        assert set(acknowledged) <= set(taken(incoming)) <= set(added)
        attempt()
        acknowledged.append(added[-1])
        assert taken(incoming)[-1] == added[-1]

    failed = each_call_fails(attempt, after, error)
    assert failed == ["open", "open", "write", "fsync", "fsync", "close", "close", "rename"]


@ERRORS
@pytest.mark.parametrize("name", ["20261121T064452-00.parquet", "in-a-new-directory-zz"])
def test_put_that_failed_is_whole_or_absent_and_can_be_repeated(
    tmp_path: pathlib.Path, name: str, error: int
) -> None:
    storage, _ = fixtures.drivers(tmp_path, 4, sync=True)
    data = b"0123456789" * 1000

    def whole_or_absent() -> bool:
        try:
            assert storage.read(name, 0, 20_000) == data
        except NoSuchObject:
            return False
        return True

    def after(faults: Faults, raised: bool) -> None:
        assert raised == (faults.failed is not None)
        assert whole_or_absent() or raised
        assert list((tmp_path / "tmp").iterdir()) == []
        storage.put(name, data)
        assert whole_or_absent()
        storage.delete([name])
        assert not whole_or_absent()

    failed = each_call_fails(lambda: storage.put(name, data), after, error)
    assert {"open", "write", "fsync", "close", "rename"} <= set(failed)


def test_read_that_failed_is_neither_absence_nor_emptiness(tmp_path: pathlib.Path) -> None:
    storage, _ = fixtures.drivers(tmp_path, 4)
    for name in ("one", "two"):
        storage.put(name, b"some bytes")
    names = itertools.cycle(["one", "two"])

    def attempt() -> None:
        storage._descriptors._open.clear()  # type: ignore[attr-defined]
        assert storage.read(next(names), 0, 100) == b"some bytes"

    def after(faults: Faults, raised: bool) -> None:
        # a descriptor that was only read from may fail to close
        assert raised == (faults.failed not in (None, "close"))

    assert {"open", "pread"} <= set(each_call_fails(attempt, after, errno.EIO))


@ERRORS
def test_round_that_fails_anywhere_loses_and_repeats_nothing(
    tmp_path: pathlib.Path, error: int
) -> None:
    services = fixtures.services(tmp_path, sacks=2, sync=True)
    policy = fixtures.policy(services, methods=["count", "sum"])
    metrics = [fixtures.metric(services, number, policy) for number in range(4)]
    minutes = itertools.count()
    sent: list[int] = []

    def attempt() -> None:
        fixtures.work(services)

    def send() -> None:
        minute = next(minutes)
        fixtures.send(services, {m: [(60 * minute, 1.0), (60 * minute + 1, 2.0)] for m in metrics})
        sent.append(60 * minute)

    def after(_faults: Faults, raised: bool) -> None:
        assert list((tmp_path / "tmp").iterdir()) == []
        before = dict.fromkeys(sent[:-1], 3.0)
        for metric in metrics:
            answer = fixtures.answer(services, metric)
            # a round is there as a whole or not at all
            assert answer in (before, before | {sent[-1]: 3.0})
            assert raised or len(answer) == len(sent)
        fixtures.work(services)
        for metric in metrics:
            assert fixtures.answer(services, metric) == dict.fromkeys(sent, 3.0)
            assert fixtures.answer(services, metric, "count") == dict.fromkeys(sent, 2.0)
        assert services.incoming.waiting() == {}
        send()

    send()
    failed = each_call_fails(attempt, after, error)
    assert {"open", "listdir", "read", "write", "fsync", "rename", "unlink"} <= set(failed)


def test_merge_that_fails_anywhere_changes_no_answer(tmp_path: pathlib.Path) -> None:
    services = fixtures.services(tmp_path, sacks=1, sync=True)
    metric = fixtures.metric(services, 1, fixtures.policy(services))
    minutes = itertools.count()

    def three_more() -> None:
        for _ in range(3):
            fixtures.send(services, {metric: [(60 * next(minutes), 1.0)]})
            fixtures.work(services)

    def after(_faults: Faults, _raised: bool) -> None:
        assert list((tmp_path / "tmp").iterdir()) == []
        expected = fixtures.answer(services, metric)
        assert expected == {60 * minute: 1.0 for minute in range(len(expected))}
        compact.run_once(services, fan_in=2)
        assert len(services.reader.snapshot().segments) == 1
        assert fixtures.answer(services, metric) == expected
        three_more()

    three_more()
    failed = each_call_fails(lambda: compact.run_once(services, fan_in=2), after, errno.EIO)
    assert {"open", "pread", "write", "fsync", "rename"} <= set(failed)


def test_clean_up_that_fails_anywhere_removes_nothing_that_counts(tmp_path: pathlib.Path) -> None:
    services = fixtures.services(tmp_path, sacks=1)
    metric = fixtures.metric(services, 1, fixtures.policy(services))
    minutes = itertools.count()

    def replace_some() -> None:
        for _ in range(2):
            fixtures.send(services, {metric: [(60 * next(minutes), 1.0)]})
            fixtures.work(services)
        compact.run_once(services, fan_in=2)
        services.storage.put(f"orphan-{next(minutes):04x}", b"x")

    def attempt() -> None:
        janitor.remove_retired(services, grace_s=-5.0)
        janitor.remove_orphans(services, grace_s=-5.0)

    def after(_faults: Faults, _raised: bool) -> None:
        expected = fixtures.answer(services, metric)
        assert expected
        assert set(expected.values()) == {1.0}
        attempt()
        assert [stored.name for stored in services.storage.list()] == [
            segment.name for segment in services.reader.snapshot().segments
        ]
        assert fixtures.answer(services, metric) == expected
        replace_some()

    replace_some()
    assert "unlink" in each_call_fails(attempt, after, errno.EIO)


def test_upgrade_that_failed_can_be_repeated(tmp_path: pathlib.Path) -> None:
    place = tmp_path / "some" / "where"
    conf = SimpleNamespace(file_basepath=str(place), file_sync=True)

    def after(_faults: Faults, _raised: bool) -> None:
        incoming = FileIncoming(conf, 300)
        incoming.upgrade()
        incoming.add(one(1.0))
        assert taken(incoming) == [1.0]
        shutil.rmtree(place.parent)

    failed = each_call_fails(FileIncoming(conf, 300).upgrade, after, errno.EIO)
    assert {"mkdir", "open", "fsync", "close"} <= set(failed)
