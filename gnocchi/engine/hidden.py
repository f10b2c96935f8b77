"""What a round must not compute because raw points that it needs are damaged.

Invariant: an aggregate is emitted only if every raw point it depends on could be read. A bucket
that reaches into a time of which raw points are damaged keeps the aggregates it has; the first
difference after that time is not known, so the bucket it falls into has no rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gnocchi.segments.segment import Block
from gnocchi.series.points import ABSENT, NONE

if TYPE_CHECKING:
    from gnocchi.engine.windows import Window

LATEST = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Hidden:
    """Until when damage hides what, for each metric of a round.

    raw: ``(m,)`` int64 ns, the last time at which raw points may be missing, else NONE.
    rates: ``(m,)`` int64 ns, the first raw point after that, whose predecessor is not known.
    """

    raw: np.ndarray
    rates: np.ndarray

    @classmethod
    def of(cls, raw: np.ndarray, known: Window, metric: np.ndarray, new: np.ndarray) -> Hidden:
        """Find the first point after the damage among known and new ones.

        Args:
            metric, new: ``(n,)`` positions of the metrics of new points, and their times.
        """
        if (raw == NONE).all():
            return cls(raw, raw)
        index = np.concatenate([np.repeat(np.arange(len(raw)), known.counts), metric])
        timestamps = np.concatenate([known.timestamps, new])
        after = timestamps > raw[index]
        first = np.full(len(raw), LATEST)
        np.minimum.at(first, index[after], timestamps[after])
        return cls(raw, np.where(raw == NONE, NONE, first))

    def remove_from(self, block: Block) -> Block:
        """The rows, and of them the columns, that depend on readable points alone."""
        whole = block.timestamps > self.raw[block.index]
        if not whole.all():
            block = block.select(np.flatnonzero(whole))
        unsure = block.timestamps <= self.rates[block.index]
        if not unsure.any():
            return block
        columns = {
            name: np.where(unsure, ABSENT, column) if name.startswith("rate:") else column
            for name, column in block.columns.items()
        }
        return Block(block.granularity, block.ids, block.index, block.timestamps, columns)

    def complete_from(self, complete_from: np.ndarray, metrics: np.ndarray) -> np.ndarray:
        """From when on a window of these metrics serves a later round without this knowledge."""
        hidden = np.maximum(self.raw[metrics], self.rates[metrics])
        later: np.ndarray = np.maximum(complete_from, np.minimum(hidden, LATEST - 1) + 1)
        return later
