"""Raw windows a worker keeps from one round to the next, so that a round need not read them.

Invariants: a window is used only while its sack's generation is the one it was made by, so it
never differs from what the segments say. A window answers for a metric only from the time on from
which it is complete. The total size is bounded; what does not fit is read from the segments.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from gnocchi.segments.batch import ID


def positions_of(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Positions of all elements of the stretches ``[start, start + count)``, one by one."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    positions: np.ndarray = np.arange(total) + np.repeat(starts - (ends - counts), counts)
    return positions


@dataclass(frozen=True, slots=True)
class Window:
    """Raw points of the metrics of one sack.

    ids: ``(m,)`` V16 ascending. newest, complete_from: ``(m,)`` int64 ns. counts: ``(m,)`` points
    of each metric. timestamps, values: ``(n,)``, metric after metric, by time.
    """

    ids: np.ndarray
    newest: np.ndarray
    complete_from: np.ndarray
    counts: np.ndarray
    timestamps: np.ndarray
    values: np.ndarray

    @property
    def nbytes(self) -> int:
        return 40 * len(self.ids) + 16 * len(self.timestamps)

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Positions of some metrics (V16 ascending), -1 of those that are not here."""
        if _same(self.ids, ids):
            return np.arange(len(ids))
        if not len(self.ids):
            return np.full(len(ids), -1)
        positions = np.searchsorted(self.ids, ids)
        positions[positions == len(self.ids)] = 0
        found: np.ndarray = np.where(self.ids[positions] == ids, positions, -1)
        return found

    def part(self, start: int, stop: int) -> Window:
        """A copy of consecutive metrics, which does not keep the memory of the others."""
        ends = np.cumsum(self.counts[:stop])
        first = int(ends[start - 1]) if start else 0
        points = slice(first, int(ends[-1]) if len(ends) else 0)
        metrics = slice(start, stop)
        return Window(
            self.ids[metrics].copy(),
            self.newest[metrics].copy(),
            self.complete_from[metrics].copy(),
            self.counts[metrics].copy(),
            self.timestamps[points].copy(),
            self.values[points].copy(),
        )

    def select(self, metrics: np.ndarray) -> Window:
        """The given metrics (a mask, or positions) in that order."""
        starts = (np.cumsum(self.counts) - self.counts)[metrics]
        counts = self.counts[metrics]
        points = positions_of(starts, counts)
        return Window(
            self.ids[metrics],
            self.newest[metrics],
            self.complete_from[metrics],
            counts,
            self.timestamps[points],
            self.values[points],
        )

    @classmethod
    def concatenate(cls, parts: list[Window]) -> Window:
        """Join windows of different metrics in the given order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([p.ids for p in parts]),
            np.concatenate([p.newest for p in parts]),
            np.concatenate([p.complete_from for p in parts]),
            np.concatenate([p.counts for p in parts]),
            np.concatenate([p.timestamps for p in parts]),
            np.concatenate([p.values for p in parts]),
        )

    def updated(self, other: Window) -> Window:
        """This window with the metrics of ``other`` replaced or added."""
        if not len(self.ids) or _same(self.ids, other.ids):
            return other
        kept = ~np.isin(self.ids, other.ids, assume_unique=True)
        joined = Window.concatenate([self.select(kept), other])
        return joined.select(np.argsort(joined.ids))


EMPTY = Window(
    np.empty(0, ID),
    np.empty(0, np.int64),
    np.empty(0, np.int64),
    np.empty(0, np.int64),
    np.empty(0, np.int64),
    np.empty(0),
)


def _same(ids: np.ndarray, others: np.ndarray) -> bool:
    # as numbers, which are compared many times as fast as raw bytes
    return len(ids) == len(others) and np.array_equal(ids.view("<u8"), others.view("<u8"))


class Windows:
    """The windows of the sacks a worker processed last, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sacks: OrderedDict[int, tuple[int, Window]] = OrderedDict()

    @property
    def nbytes(self) -> int:
        return sum(window.nbytes for _, window in self._sacks.values())

    def take(self, sack: int, generation: int) -> Window:
        """Hand a window over to a round; an empty one when another worker has moved the sack.

        It is not kept here as well, so that a round need not have all windows twice, as they were
        and as it leaves them. A round that fails leaves nothing, and the next reads the segments.
        """
        known, window = self._sacks.pop(sack, (generation, EMPTY))
        return window if known == generation else EMPTY

    def keep(self, sack: int, generation: int, window: Window) -> None:
        """Keep what a round has left that moved the sack's generation to this one."""
        self._sacks[sack] = (generation, window)
        self._sacks.move_to_end(sack)
        while len(self._sacks) > 1 and self.nbytes > self._limit:
            self._sacks.popitem(last=False)
        if self.nbytes > self._limit:
            self._sacks.clear()

    def moved(self, sack: int, before: int, after: int) -> None:
        """Note that a round moved the sack's generation without changing any raw window."""
        known, window = self._sacks.pop(sack, (before, EMPTY))
        if known == before and len(window.ids):
            self._sacks[sack] = (after, window)

    def forget(self) -> None:
        """Drop everything: the next round reads the segments."""
        self._sacks.clear()
