"""Points of callers that come at the same time, written together.

A durable write costs syncs or round trips, hardly any of which depend on how much is written. So
the first caller writes at once; those that come meanwhile queue up, and one of them writes for
all.

A store that gives no answer fails a write after its time-out, and those who have queued up would
wait as long again to learn the same. So they are told with the one who wrote: nobody waits for two
time-outs in a row.

Invariants: `Together.add` returns only after a write of its points has succeeded; points are
written in the order in which they were added, by one write at a time; every caller gets an
exception of its own.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from gnocchi import errors, forks
from gnocchi.segments.batch import Points
from gnocchi.threads import HOPELESS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIMIT = 1 << 20  # points that several callers may put into one write


class _Waiter:
    """One caller and what became of its points."""

    __slots__ = ("done", "error", "points")

    def __init__(self, points: Points) -> None:
        self.points = points
        self.done = False
        self.error: Exception | None = None


class Together:
    """Calls ``write`` with the points of one or more callers. Safe for threads and across forks.

    Args:
        write: stores points durably, or raises.
    """

    def __init__(self, write: Callable[[Points], None]) -> None:
        self._write = write
        self._after_fork()
        # The parent's callers are not there in a child, nor is whoever holds the lock.
        forks.in_child(self._after_fork)

    def _after_fork(self) -> None:
        self._queue: list[_Waiter] = []
        self._writing = False
        self._changed = threading.Condition()

    def add(self, points: Points) -> None:
        """Store points; alone or with those of others.

        Raises:
            Exception: what ``write`` raised, or Unavailable when another caller met it. In the
                latter case it may be that nothing was tried for these points.
        """
        mine = _Waiter(points)
        with self._changed:
            self._queue.append(mine)
        while turn := self._wait_for_turn(mine):
            self._write_for(turn, mine)
        if mine.error is not None:
            raise mine.error

    def _wait_for_turn(self, mine: _Waiter) -> list[_Waiter]:
        """The callers to write for now; none once ``mine`` is done.

        They need not include ``mine``, if those before it in the queue are enough for a write.
        """
        with self._changed:
            while self._writing and not mine.done:
                self._changed.wait()
            if mine.done:
                return []
            self._writing = True
            return self._next_in_queue()

    def _next_in_queue(self) -> list[_Waiter]:
        size = count = 0
        for waiter in self._queue:
            size += len(waiter.points)
            if size > LIMIT and count:
                break
            count += 1
        turn, self._queue = self._queue[:count], self._queue[count:]
        return turn

    def _write_for(self, turn: Sequence[_Waiter], mine: _Waiter) -> None:
        failure: BaseException | None = None
        began = time.monotonic()
        try:
            self._write(Points.concatenate([waiter.points for waiter in turn]))
        except BaseException as e:
            failure = e
            if not isinstance(e, Exception):  # this thread is told to end, the others are not
                raise
        finally:
            took_s = time.monotonic() - began
            with self._changed:
                told = list(turn)
                if isinstance(failure, errors.Unavailable) and took_s > HOPELESS_S:
                    told += self._queue
                    self._queue = []
                for waiter in told:
                    waiter.done = True
                    waiter.error = _error_for(waiter is mine, failure)
                self._writing = False
                self._changed.notify_all()


def _error_for(writer: bool, failure: BaseException | None) -> Exception | None:
    """An exception may be raised in one thread only: others get one of their own."""
    if failure is None or (writer and isinstance(failure, Exception)):
        return failure
    told = str(failure) if isinstance(failure, errors.Unavailable) else repr(failure)
    error = errors.Unavailable(told)
    error.__cause__ = failure
    return error
