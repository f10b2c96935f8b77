"""Doing the same to several things at a time."""

from __future__ import annotations

import threading
import time

import pytest

from gnocchi import errors, threads
from gnocchi.threads import Parallel


def test_results_are_in_order() -> None:
    def slower_first(number: int) -> int:
        time.sleep(0.002 * (8 - number))
        return number * number

    assert Parallel(4, "t").map(slower_first, range(8)) == [n * n for n in range(8)]
    assert Parallel(1, "t").map(slower_first, range(3)) == [0, 1, 4]


def test_first_to_fail_is_raised_once_all_have_ended() -> None:
    ended = []

    def some(number: int) -> None:
        if number in (1, 2):
            raise KeyError(number)
        time.sleep(0.01)
        ended.append(number)

    with pytest.raises(KeyError, match="1"):
        Parallel(2, "t").map(some, range(6))
    assert sorted(ended) == [0, 3, 4, 5]


def test_what_waits_behind_a_time_out_fails_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "HOPELESS_S", 0.02)
    tried = []

    def hang(number: int) -> None:
        tried.append(number)
        time.sleep(0.05)
        raise errors.Unavailable("no answer")

    parallel = Parallel(2, "t")
    told = []

    def ask() -> None:
        with pytest.raises(errors.Unavailable, match="no answer"):
            parallel.map(hang, range(50))
        told.append(time.monotonic())

    began = time.monotonic()
    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(told) == 4
    assert max(told) - began < 1  # one after the other it would be five seconds
    assert len(tried) <= 8


def test_after_a_time_out_what_is_asked_next_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "HOPELESS_S", 0.0)
    parallel = Parallel(2, "t")

    def fail(_: int) -> None:
        time.sleep(0.001)
        raise errors.Unavailable("no answer")

    with pytest.raises(errors.Unavailable):
        parallel.map(fail, range(4))
    assert parallel.map(lambda number: number, range(4)) == [0, 1, 2, 3]


def test_refusal_that_came_at_once_is_of_one_thing_alone() -> None:
    tried = []

    def refuse_the_first(number: int) -> None:
        tried.append(number)
        if number == 0:
            raise errors.Unavailable("busy")

    with pytest.raises(errors.Unavailable, match="busy"):
        Parallel(2, "t").map(refuse_the_first, range(10))
    assert sorted(tried) == list(range(10))
