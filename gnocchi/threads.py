"""Doing the same to several things at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from gnocchi import forks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")
_R = TypeVar("_R")


class Parallel:
    """Threads of this process that wait for work. Safe for threads and across forks.

    What they are given must not use the same object again, or all may wait for one another.

    Args:
        limit: how many things are under way at the most; with 1 there are no threads.
        name: of the threads.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._renew()
        forks.in_child(self._renew)  # threads are not there in a child

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def map(self, function: Callable[[_T], _R], things: Sequence[_T]) -> list[_R]:
        """The results, in order; what the first call to fail raised, once all have ended."""
        if len(things) < 2 or self._limit < 2:
            return [function(thing) for thing in things]
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._limit, self._name)
        futures = [self._pool.submit(function, thing) for thing in things]
        for future in futures:
            future.exception()
        return [future.result() for future in futures]
