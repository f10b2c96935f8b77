"""Portions of a round: some of its metrics at a time, so that a round takes little memory.

What a round computes takes several times the memory of its raw points. So it divides its metrics,
in order of id, into portions of a bounded number of points, reduces one after the other, and joins
what comes out of them.

Invariants: every metric is in one portion. Blocks of a portion are over its ids alone and sorted by
(metric, timestamp), so that blocks of one portion after the other are sorted as well.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gnocchi.engine.windows import Window
from gnocchi.segments.segment import ROWS, Block
from gnocchi.series.points import runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gnocchi.archive_policy import ArchivePolicy
    from gnocchi.engine.windows import Windows

    New = tuple[np.ndarray, np.ndarray, np.ndarray]  # metrics, timestamps, values

# Raw points that are reduced at once: working on more is no faster, and takes a few times their
# size in memory.
PORTION = 100_000
# Raw points that a metric is taken to need of which none are held: they have not been read yet.
UNREAD = 60


@dataclass(frozen=True, slots=True)
class Group:
    """The metrics of a round that share an archive policy: positions among all of its ids."""

    policy: ArchivePolicy
    metrics: np.ndarray


@dataclass(frozen=True, slots=True)
class Portion:
    """Consecutive metrics of a round that are reduced at once.

    metrics: which. ids: theirs. groups: with positions among ``ids``.
    """

    metrics: slice
    ids: np.ndarray
    groups: list[Group]


def stretches(sack: np.ndarray) -> Iterator[tuple[int, slice]]:
    """The sacks of metrics in order of id: each is one stretch, since sacks are ranges of ids."""
    starts, lengths = runs(sack)
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        yield int(sack[start]), slice(start, start + length)


class Held:
    """The windows that a round has taken over, and those it leaves, for its metrics by order of id.

    Each goes as soon as the round has a new one in its place.
    """

    def __init__(self, sack: np.ndarray, windows: dict[int, Window], at: np.ndarray) -> None:
        self._sack = sack
        self._windows = windows
        self._at = at  # positions in the windows of their sacks, -1 of metrics that are not there
        self._changed: list[Window] = []

    @classmethod
    def of(
        cls, windows: Windows, ids: np.ndarray, sack: np.ndarray, generations: dict[int, int]
    ) -> Held:
        taken: dict[int, Window] = {}
        at = np.empty(len(ids), np.int64)
        for number, metrics in stretches(sack):
            taken[number] = windows.take(number, generations[number])
            at[metrics] = taken[number].find(ids[metrics])
        return cls(sack, taken, at)

    def counts(self) -> np.ndarray:
        """How many points of each metric are held; a guess where none are."""
        counts = np.full(len(self._at), UNREAD)
        for number, metrics in stretches(self._sack):
            at = self._at[metrics]
            counts[metrics][at >= 0] = self._windows[number].counts[at[at >= 0]]
        return counts

    def select(self, metrics: slice, needed: np.ndarray) -> tuple[Window, np.ndarray]:
        """Windows of those of some metrics that are held and complete from the times needed.

        Returns:
            The windows, and a mask that tells whose they are.
        """
        hit = np.zeros(len(needed), bool)
        parts: list[Window] = []
        for number, some in stretches(self._sack[metrics]):
            window, at = self._windows[number], self._at[metrics][some]
            usable = np.flatnonzero(at >= 0)
            usable = usable[window.complete_from[at[usable]] <= needed[some][usable]]
            hit[some][usable] = True
            chosen = at[usable]
            consecutive = len(chosen) and chosen[-1] - chosen[0] == len(chosen) - 1
            parts.append(
                window.part(int(chosen[0]), int(chosen[-1]) + 1)
                if consecutive
                else window.select(chosen)
            )
        return Window.concatenate(parts), hit

    def replace(self, metrics: slice, changed: Window) -> Iterator[tuple[int, Window]]:
        """Take what a portion leaves; yield the sacks that are complete by that."""
        for number, some in stretches(self._sack[metrics]):
            self._changed.append(changed.part(some.start, some.stop))
            end = metrics.start + some.stop
            if end == len(self._sack) or self._sack[end] != number:
                complete = Window.concatenate(self._changed)
                self._changed.clear()
                yield number, self._windows.pop(number).updated(complete)


def divide(sizes: np.ndarray) -> list[slice]:
    """Divide metrics so that each portion has PORTION points at the most, and one metric more.

    Args:
        sizes: ``(m,)`` raw points of each metric of the round, known and new.
    """
    ends = np.cumsum(sizes)
    cuts = np.searchsorted(ends, np.arange(PORTION, ends[-1], PORTION), side="right")
    bounds = np.unique(np.concatenate([[0], cuts, [len(sizes)]])).tolist()
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


def choose(
    metrics: slice,
    ids: np.ndarray,
    groups: Iterable[Group],
    new: New,
) -> tuple[Portion, New]:
    """Some metrics of a round, and the new points of these."""
    if metrics == slice(0, len(ids)):
        return Portion(metrics, ids, list(groups)), new
    inside = []
    for group in groups:
        low, high = np.searchsorted(group.metrics, [metrics.start, metrics.stop]).tolist()
        if low < high:
            inside.append(Group(group.policy, group.metrics[low:high] - metrics.start))
    own = np.flatnonzero((new[0] >= metrics.start) & (new[0] < metrics.stop))
    return (
        Portion(metrics, ids[metrics], inside),
        (new[0][own] - metrics.start, new[1][own], new[2][own]),
    )


def by_metric(granularity: int, ids: np.ndarray, blocks: list[Block]) -> Block:
    """Join blocks of different metrics into one that is sorted by (metric, timestamp)."""
    if len(blocks) == 1:
        return blocks[0]
    index = np.concatenate([block.index for block in blocks])
    order = np.argsort(index, kind="stable")
    names = sorted({name for block in blocks for name in block.columns})
    return Block(
        granularity,
        ids,
        index[order],
        np.concatenate([block.timestamps for block in blocks])[order],
        {name: np.concatenate([block.column(name) for block in blocks])[order] for name in names},
    )


def whole_row_groups(blocks: list[Block]) -> Iterator[Block]:
    """Join blocks of ascending metrics so that all but the last fill row groups.

    Takes the blocks out of the list, so that none of them is in memory twice for long.
    """
    blocks.reverse()
    rest = blocks.pop()
    while blocks:
        joined = _one_after_another(rest, blocks.pop())
        whole = len(joined) // ROWS * ROWS
        if whole:
            yield joined.select(slice(whole))
        left = joined.select(slice(whole, None))
        first = int(left.index[0]) if len(left) else len(left.ids)
        rest = Block(
            left.granularity, left.ids[first:], left.index - first, left.timestamps, left.columns
        )
    if len(rest):
        yield rest


def _one_after_another(block: Block, following: Block) -> Block:
    names = sorted(block.columns.keys() | following.columns.keys())
    return Block(
        block.granularity,
        np.concatenate([block.ids, following.ids]),
        np.concatenate([block.index, following.index + len(block.ids)]),
        np.concatenate([block.timestamps, following.timestamps]),
        {name: np.concatenate([block.column(name), following.column(name)]) for name in names},
    )
