"""Callers that write at the same time, written together."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from gnocchi import errors
from gnocchi.drivers import together
from gnocchi.drivers.together import Together
from tests.conformance.points import metric_in, points

if TYPE_CHECKING:
    from collections.abc import Callable

    from gnocchi.segments.batch import Points

RAW = metric_in(0, 1)


class Device:
    """Writes what it is told to, one write at a time, when it is told to."""

    def __init__(self) -> None:
        self.written: list[list[float]] = []
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.failures: dict[int, BaseException] = {}
        self._busy = threading.Lock()

    def write(self, batch: Points) -> None:
        assert self._busy.acquire(blocking=False), "two writes at once"
        try:
            number = len(self.written)
            self.written.append(batch.values.tolist())
            self.begun.release()
            assert self.go_on.acquire(timeout=10)
            if number in self.failures:
                raise self.failures[number]
        finally:
            self._busy.release()


class Callers:
    """Threads that each add one point; what became of it."""

    def __init__(self, queue: Together) -> None:
        self.results: dict[float, BaseException | None] = {}
        self._queue = queue
        self._threads: list[threading.Thread] = []

    def add(self, value: float, until: Callable[[], bool]) -> None:
        """Begin to add a point, and wait until it is in the queue or being written."""

        def run() -> None:
            try:
                self._queue.add(points((RAW, [value])))
            except BaseException as e:
                self.results[value] = e
            else:
                self.results[value] = None

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()
        for _ in range(10_000):
            if until():
                return
            threading.Event().wait(0.001)
        raise AssertionError("the caller got nowhere")

    def join(self) -> None:
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a caller waits for ever"


def queued(queue: Together, count: int) -> Callable[[], bool]:
    return lambda: len(queue._queue) == count


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def queue(device: Device) -> Together:
    return Together(device.write)


@pytest.fixture
def callers(queue: Together, device: Device) -> Callers:
    """The first caller, of value 0, is writing; those of 1, 2 and 3 have queued up."""
    callers = Callers(queue)
    callers.add(0.0, lambda: device.begun.acquire(blocking=False))
    for number in range(1, 4):
        callers.add(float(number), queued(queue, number))
    return callers


def test_callers_that_come_during_a_write_share_the_next_one(
    device: Device, callers: Callers
) -> None:
    device.go_on.release(2)
    callers.join()
    assert device.written == [[0.0], [1.0, 2.0, 3.0]]
    assert callers.results == dict.fromkeys([0.0, 1.0, 2.0, 3.0])


def test_nobody_returns_before_the_write_of_his_points(device: Device, callers: Callers) -> None:
    device.go_on.release()
    assert device.begun.acquire(timeout=10)
    assert set(callers.results) <= {0.0}
    device.go_on.release()
    callers.join()


def test_caller_beyond_the_limit_is_written_before_he_returns(
    device: Device, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gets the turn may have to write for those before him only."""
    monkeypatch.setattr(together, "LIMIT", 1)
    device.go_on.release(2)
    for _ in range(2):
        assert device.begun.acquire(timeout=10)
    # 0 and 1 are through at the most, the write of 2 is under way
    assert set(callers.results) <= {0.0, 1.0}
    device.go_on.release(2)
    callers.join()
    assert device.written == [[0.0], [1.0], [2.0], [3.0]]
    assert callers.results == dict.fromkeys([0.0, 1.0, 2.0, 3.0])


def test_failed_write_fails_all_who_shared_it_each_with_his_own_exception(
    device: Device, callers: Callers
) -> None:
    device.failures[1] = errors.Unavailable("the disk is full")
    device.go_on.release(2)
    callers.join()
    assert callers.results.pop(0.0) is None
    raised = list(callers.results.values())
    assert [str(e) for e in raised] == ["the disk is full"] * 3
    assert all(isinstance(e, errors.Unavailable) for e in raised)
    assert len({id(e) for e in raised}) == 3


def test_after_a_failed_write_the_next_caller_is_written(device: Device, callers: Callers) -> None:
    device.failures[0] = errors.Unavailable("the disk is full")
    device.go_on.release(2)
    callers.join()
    assert isinstance(callers.results.pop(0.0), errors.Unavailable)
    assert callers.results == dict.fromkeys([1.0, 2.0, 3.0])
    assert device.written == [[0.0], [1.0, 2.0, 3.0]]


def test_store_that_gave_no_answer_is_not_waited_for_again(
    device: Device, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients were told after two time-outs instead of one."""
    monkeypatch.setattr(together, "HOPELESS_S", 0.0)
    device.failures[0] = errors.Unavailable("no answer in time")
    device.go_on.release()
    callers.join()
    assert [str(callers.results[n]) for n in (0.0, 1.0, 2.0, 3.0)] == ["no answer in time"] * 4
    assert device.written == [[0.0]]
    device.go_on.release()
    callers.add(4.0, lambda: 4.0 in callers.results)
    assert callers.results[4.0] is None


def test_slow_write_that_succeeds_fails_nobody(
    device: Device, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "HOPELESS_S", 0.0)
    device.go_on.release(2)
    callers.join()
    assert callers.results == dict.fromkeys([0.0, 1.0, 2.0, 3.0])


def test_mistake_met_by_one_caller_is_unavailability_to_the_others(
    device: Device, callers: Callers
) -> None:
    device.failures[1] = ValueError("too large")
    device.go_on.release(2)
    callers.join()
    kinds = sorted(type(callers.results[n]).__name__ for n in (1.0, 2.0, 3.0))
    assert kinds == ["Unavailable", "Unavailable", "ValueError"]


def test_thread_that_is_told_to_end_while_it_writes_does_not_end_the_others(
    device: Device, callers: Callers
) -> None:
    device.failures[1] = SystemExit(1)
    device.go_on.release(2)
    callers.join()
    kinds = sorted(type(callers.results[n]).__name__ for n in (1.0, 2.0, 3.0))
    assert kinds == ["SystemExit", "Unavailable", "Unavailable"]


def _tell(fd: int, values: list[float]) -> None:
    os.write(fd, str(values).encode())


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_forked_child_writes_though_its_parent_was_writing(
    device: Device, queue: Together, callers: Callers
) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(10)
            queue._write = lambda batch: _tell(write, batch.values.tolist())  # type: ignore[method-assign]
            queue.add(points((RAW, [9.0])))
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 100) == b"[9.0]"
    os.close(read)
    assert os.waitpid(child, 0)[1] == 0
    device.go_on.release(2)
    callers.join()
    assert device.written == [[0.0], [1.0, 2.0, 3.0]]
