"""Doing the same to several things at a time.

A backend that gives no answer fails what is under way after a time-out, and what waits for a thread
would wait as long again to learn the same. So that fails with it: nobody waits for two time-outs in
a row.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from gnocchi import errors, forks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")
_R = TypeVar("_R")

#: An operation that failed sooner was refused, which need not happen to the next one.
HOPELESS_S = 1.0


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
        self._hopeless_at = 0.0  # when something got no answer for the last time
        self._told = ""

    def map(self, function: Callable[[_T], _R], things: Sequence[_T]) -> list[_R]:
        """The results, in order; what the first call to fail raised, once all have ended.

        Raises:
            Unavailable: of another call, when this one waited for it in vain; then nothing was
                tried for some of the things.
        """
        if len(things) < 2 or self._limit < 2:
            return [function(thing) for thing in things]
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._limit, self._name)
        asked_at = time.monotonic()
        futures = [self._pool.submit(self._call, function, thing, asked_at) for thing in things]
        for future in futures:
            future.exception()
        return [future.result() for future in futures]

    def _call(self, function: Callable[[_T], _R], thing: _T, asked_at: float) -> _R:
        if asked_at < self._hopeless_at:
            raise errors.Unavailable(self._told)
        began = time.monotonic()
        try:
            return function(thing)
        except errors.Unavailable as error:
            now = time.monotonic()
            if now - began > HOPELESS_S:
                self._told, self._hopeless_at = str(error), now
            raise
