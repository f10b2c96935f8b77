"""Raw windows a worker keeps from one round to the next, so that a round need not read them.

Invariants: a window is used only while its sack's generation is the one it was made by, so it
never differs from what the segments say. A window answers for a metric only from the time on from
which it is complete. The total size is bounded; what does not fit is read from the segments.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

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
        if len(other.ids) >= len(self.ids) and np.array_equal(self.ids, other.ids):
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


class Found(NamedTuple):
    """Where each of the metrics asked for stands in a window; -1 where it does not."""

    window: Window
    positions: np.ndarray


class Windows:
    """The windows of the sacks a worker processed last, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sacks: OrderedDict[int, tuple[int, Window]] = OrderedDict()

    @property
    def nbytes(self) -> int:
        return sum(window.nbytes for _, window in self._sacks.values())

    def find(self, sack: int, generation: int, ids: np.ndarray) -> Found:
        """Look metrics up; nothing is found when another worker has moved the sack."""
        known, window = self._sacks.get(sack, (generation, EMPTY))
        if known != generation:
            del self._sacks[sack]
            window = EMPTY
        if not len(window.ids):
            return Found(window, np.full(len(ids), -1))
        positions = np.searchsorted(window.ids, ids)
        positions[positions == len(window.ids)] = 0
        return Found(window, np.where(window.ids[positions] == ids, positions, -1))

    def update(self, sack: int, before: int, after: int, changed: Window) -> None:
        """Take in the metrics of a round that moved the sack's generation."""
        known, window = self._sacks.pop(sack, (before, EMPTY))
        self._sacks[sack] = (after, (window if known == before else EMPTY).updated(changed))
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
