"""Merging segments into fewer: newest row first, and without what nobody can ask for any more.

Pure but for reading its inputs: it decides nothing about which segments to merge and makes nothing
visible. Memory is bounded: rows pass through in slices of the id space, a granularity at a time.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gnocchi.segments.segment import RAW, Block, Tail, Writer, Written
from gnocchi.series.points import NONE, is_absent, winners

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gnocchi.archive_policy import ArchivePolicy

SLICE_ROWS = 20_000  # rows that are merged at once, before replaced ones go


class Source(Protocol):
    """A segment to be merged."""

    tail: Tail

    def block(self, group: int) -> Block:
        """One row group with all its columns."""


def merge(
    sources: Sequence[Source],
    policies: Callable[[np.ndarray], tuple[np.ndarray, list[ArchivePolicy]]],
    max_size: int,
) -> Iterator[Written]:
    """Merge segments, oldest first, into segments of about ``max_size`` bytes at the most.

    What is left out: rows that a later source replaces, rows of metrics that do not exist,
    aggregates that have expired, and raw points that no accepted measure can need. The last two
    are judged by the newest point among the sources, which is never later than the truth.

    Args:
        policies: finds the archive policies of ``(m,)`` V16 ids: ``(m,)`` positions in a list of
            policies, -1 for a metric that is gone, and that list.

    Yields:
        Segments in order of hash range; none if no row is left.
    """
    columns = {name for source in sources for name in source.tail.columns}
    parts = _split(sources, max_size)
    for low, high in parts:
        writer = Writer(columns)
        for granularity in _granularities(sources):
            for block in _slices(sources, granularity, low, high):
                kept = _unexpired(block, *policies(block.ids))
                if len(kept):
                    writer.append(kept)
        if writer.rows:
            written = writer.close()
            del writer  # it holds the bytes once more
            yield written
            del written


def _granularities(sources: Sequence[Source]) -> list[int]:
    return sorted({int(g) for source in sources for g in source.tail.groups["granularity"]})


Bound = bytes | None  # an id; None at the ends of the id space


def _split(sources: Sequence[Source], max_size: int) -> list[tuple[Bound, Bound]]:
    """Ranges ``[low, high)`` of ids whose rows take about ``max_size`` bytes in the sources.

    Cut at first halves of the hash space and so on, so that segments of later merges line up.
    """
    entries = np.concatenate([source.tail.groups for source in sources])
    size = int(entries["length"].sum())
    pieces = 1
    while size > max_size * pieces:
        pieces *= 2
    if pieces == 1:
        return [(None, None)]
    cuts: list[Bound] = [
        ((i << 32) // pieces).to_bytes(4, "big") + bytes(12) for i in range(1, pieces)
    ]
    first, last = min(map(bytes, entries["first"])), max(map(bytes, entries["last"]))
    inner = [cut for cut in cuts if cut is not None and first < cut <= last]
    return list(zip([None, *inner], [*inner, None], strict=True))


def _slices(
    sources: Sequence[Source], granularity: int, low: Bound, high: Bound
) -> Iterator[Block]:
    """Merged rows of one granularity in ascending order of id, a bounded number at a time."""
    pieces = [
        _Piece(source, group)
        for source in sources
        for group in np.flatnonzero(source.tail.groups["granularity"] == granularity).tolist()
    ]
    pieces = [piece for piece in pieces if piece.overlaps(low, high)]
    for start, stop in itertools.pairwise(_bounds(pieces, low, high)):
        parts = [piece.between(start, stop) for piece in pieces if piece.overlaps(start, stop)]
        if any(len(part) for part in parts):
            yield _newest(granularity, [part for part in parts if len(part)])


class _Piece:
    """One row group of a source; decoded when it is first needed, kept until it is used up."""

    def __init__(self, source: Source, group: int) -> None:
        entry = source.tail.groups[group]
        self._source = source
        self._group = group
        self._block: Block | None = None
        self.first, self.last = bytes(entry["first"]), bytes(entry["last"])
        self.rows = int(entry["rows"])

    def overlaps(self, start: Bound, stop: Bound) -> bool:
        return (stop is None or self.first < stop) and (start is None or self.last >= start)

    def between(self, start: Bound, stop: Bound) -> Block:
        block = self._block or self._source.block(self._group)
        used_up = stop is None or self.last < stop
        self._block = None if used_up else block
        return _between(block, start, stop)


def _bounds(pieces: Sequence[_Piece], low: Bound, high: Bound) -> list[Bound]:
    """Cut ``[low, high)`` at first ids of row groups so that a slice has about SLICE_ROWS rows."""
    bounds: list[Bound] = [low]
    total = 0
    for first, rows in sorted((piece.first, piece.rows) for piece in pieces):
        total += rows
        if total > SLICE_ROWS and first != bounds[-1] and (low is None or first > low):
            bounds.append(first)
            total = rows
    return [*bounds, high]


def _between(block: Block, start: Bound, stop: Bound) -> Block:
    low = 0 if start is None else int(np.searchsorted(block.ids, _void(start)))
    high = len(block.ids) if stop is None else int(np.searchsorted(block.ids, _void(stop)))
    if (low, high) == (0, len(block.ids)):
        return block
    first, last = np.searchsorted(block.index, [low, high])
    part = block.select(slice(int(first), int(last)))
    return Block(
        part.granularity, block.ids[low:high], part.index - low, part.timestamps, part.columns
    )


def _void(raw: bytes) -> np.void:
    return np.void(raw)


def _newest(granularity: int, parts: Sequence[Block]) -> Block:
    """One row a (metric, timestamp): that of the last part which has it."""
    if len(parts) == 1:
        return parts[0]
    ids, inverse = np.unique(np.concatenate([part.ids for part in parts]), return_inverse=True)
    numbers, position = [], 0
    for part in parts:
        numbers.append(inverse[position : position + len(part.ids)][part.index])
        position += len(part.ids)
    index = np.concatenate(numbers)
    timestamps = np.concatenate([part.timestamps for part in parts])
    chosen = winners(index, timestamps)
    columns = {}
    for name in {name for part in parts for name in part.columns}:
        columns[name] = np.concatenate([part.column(name) for part in parts])[chosen]
    return Block(granularity, ids, index[chosen], timestamps[chosen], columns)


def _unexpired(block: Block, codes: np.ndarray, policies: list[ArchivePolicy]) -> Block:
    """The rows that somebody may still ask for."""
    keep = np.zeros(len(block), bool)
    for number, policy in enumerate(policies):
        if block.granularity == RAW:
            wanted = _needed(block, policy)
        elif block.granularity in policy.granularities:
            wanted = _within_retention(block, policy)
        else:
            continue
        if (codes == number).all():
            keep = wanted
        else:
            keep |= wanted & (codes == number)[block.index]
    return block if keep.all() else block.select(np.flatnonzero(keep))


def _newest_of(block: Block, rows: np.ndarray) -> np.ndarray:
    """``(m,)`` the newest timestamp of each metric among some rows (a mask); NONE without."""
    newest = np.full(len(block.ids), NONE)
    np.maximum.at(newest, block.index[rows], block.timestamps[rows])
    return newest


def _needed(block: Block, policy: ArchivePolicy) -> np.ndarray:
    """Raw points that a late measure may still need, and where rates are kept the one before."""
    newest = _newest_of(block, np.ones(len(block), bool))
    keep: np.ndarray = block.timestamps >= policy.raw_floors(newest)[block.index]
    if policy.has_rate and len(keep) > 1:
        keep[:-1] |= keep[1:] & (block.index[1:] == block.index[:-1])
    return keep


def _within_retention(block: Block, policy: ArchivePolicy) -> np.ndarray:
    """Rows in which the series of at least one method has not expired.

    Retention counts from the newest point of each series. Nearly all have one in every bucket;
    deviations and rates may have none in the last, and count from an earlier one.
    """
    keep = np.zeros(len(block), bool)
    judged_by_all = False
    for name, column in block.columns.items():
        if name not in policy.aggregation_methods:
            continue
        present = ~is_absent(column)
        if present.all():
            if judged_by_all:
                continue
            judged_by_all = True
        newest = _newest_of(block, present)
        known = newest != NONE
        horizon = np.full(len(newest), NONE)
        horizon[known] = policy.horizons(block.granularity, newest[known])
        keep |= present & (block.timestamps > horizon[block.index])
        if keep.all():
            break
    return keep
