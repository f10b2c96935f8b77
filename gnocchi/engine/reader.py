"""Reading rows of many metrics out of the live segments, the newest winning.

Invariants: a row is returned only from bytes that matched their checksum. What a damaged piece of
a segment may have replaced is withheld rather than returned in an older version: between the piece
and an older segment nobody can tell which is right. Memory is bounded by the caller's choice of
metrics and by the size of the caches.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gnocchi.errors import CorruptObject, TooManyValues, Unavailable
from gnocchi.indexer import catalog
from gnocchi.segments import row_groups
from gnocchi.segments import segment as segments
from gnocchi.segments.batch import ID, high_bits
from gnocchi.segments.segment import Block, Tail
from gnocchi.series.points import winners
from gnocchi.storage import NoSuchObject
from gnocchi.threads import Parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from gnocchi.indexer.catalog import Segment, Snapshot
    from gnocchi.indexer.database import Database
    from gnocchi.storage import Storage

# A reader whose segments vanish takes a new snapshot. Retired segments stay for a grace time, so
# once is the rule; a bound keeps an inconsistent store from holding a request for ever.
ATTEMPTS = 5

PIECE = 1 << 20  # bytes of row groups read by one thread; more saves no time, and takes memory
READS = 4  # of a piece: few, since they come one after the other, and each has some way to go
AT_ONCE = 32  # pieces that are read before the first is decoded


class Cache:
    """The values used last, up to a number of bytes. Safe for threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.nbytes = 0

    def get(self, key: Hashable) -> Any:
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Any, nbytes: int) -> None:
        if nbytes > self._limit // 4:
            return
        with self._lock:
            _, before = self._values.pop(key, (None, 0))
            self._values[key] = (value, nbytes)
            self.nbytes += nbytes - before
            while self.nbytes > self._limit:
                _, (_, freed) = self._values.popitem(last=False)
                self.nbytes -= freed


def block_nbytes(block: Block) -> int:
    """Bytes that a decoded block keeps in memory."""
    return (
        block.ids.nbytes
        + block.index.nbytes
        + block.timestamps.nbytes
        + sum(column.nbytes for column in block.columns.values())
    )


class Gap(NamedTuple):
    """Where rows may be missing: positions ``[low, high)`` among the ids that were asked for, and
    times from ``start`` to ``stop``, inclusive."""

    low: int
    high: int
    start: int
    stop: int


#: First and last id, first and last time, all inclusive.
_Bounds = tuple[Any, Any, int, int]


class _Piece(NamedTuple):
    """Something to read: a block that is cached; row groups of a segment, by their numbers; or a
    segment whose tail is damaged, with what it hides."""

    what: Block | Tail | CorruptObject
    where: Any = None


class _Parts:
    """Rows found so far, oldest segment first, over the ids that were asked for."""

    def __init__(self, granularity: int, ids: np.ndarray, max_rows: int | None) -> None:
        self.granularity = granularity
        self.ids = ids
        self.blocks: list[Block] = []
        self.gaps: list[Gap] = []
        self._max_rows = max_rows
        self._rows = 0

    def add(self, block: Block) -> None:
        """Add rows of the next segment; raises TooManyValues."""
        self.blocks.append(block)
        self._rows += len(block)
        # What has been replaced does not count, but takes memory until it is dropped.
        if self._max_rows is not None and self._rows > self._max_rows + self._max_rows // 4:
            self.merge()

    def merge(self) -> None:
        """Drop replaced rows, which leaves one block; raises TooManyValues."""
        self.blocks = [newest_rows(self.granularity, self.ids, self.blocks)]
        self._rows = len(self.blocks[0])
        if self._max_rows is not None and self._rows > self._max_rows:
            raise TooManyValues(self._max_rows)

    def withhold(self, first: np.void, last: np.void, start: int, stop: int) -> None:
        """Drop what a damaged piece of these bounds (all inclusive) may have replaced."""
        low = int(np.searchsorted(self.ids, first))
        high = int(np.searchsorted(self.ids, last, side="right"))
        self.gaps.append(Gap(low, high, start, stop))
        kept = []
        for block in self.blocks:
            hidden = (block.index >= low) & (block.index < high)
            hidden &= (block.timestamps >= start) & (block.timestamps <= stop)
            kept.append(block.select(~hidden) if hidden.any() else block)
        self.blocks = kept


def newest_rows(granularity: int, ids: np.ndarray, blocks: list[Block]) -> Block:
    """Merge blocks over the same ``ids``, oldest first: one row a (metric, timestamp), the last.

    A block that lacks a column that another has counts as having `ABSENT` there.
    """
    blocks = [block for block in blocks if len(block)]
    names = sorted({name for block in blocks for name in block.columns})
    if not blocks:
        empty = np.empty(0, np.int64)
        return Block(granularity, ids, empty, empty, {})
    if len(blocks) == 1:
        return blocks[0]
    index = np.concatenate([block.index for block in blocks])
    timestamps = np.concatenate([block.timestamps for block in blocks])
    chosen: np.ndarray | slice = slice(None)
    if not _follow(blocks):
        chosen = winners(index, timestamps)
        index, timestamps = index[chosen], timestamps[chosen]
    columns = {}
    for name in names:
        columns[name] = np.concatenate([block.column(name) for block in blocks])[chosen]
    return Block(granularity, ids, index, timestamps, columns)


def _follow(blocks: list[Block]) -> bool:
    """Whether every block begins behind the end of the one before, as in a single segment."""
    ends = [(int(block.index[-1]), int(block.timestamps[-1])) for block in blocks]
    return all(
        end < (int(block.index[0]), int(block.timestamps[0]))
        for end, block in zip(ends, blocks[1:], strict=False)
    )


class Reader:
    """Finds rows in the live segments. Safe for threads.

    Args:
        damaged: called with name and reason of an object that failed its checksum.
        cache_bytes: how much may be kept of tails and decoded row groups together.
        parallel: how many reads of one question may be under way at a time.
    """

    def __init__(
        self,
        db: Database,
        storage: Storage,
        damaged: Callable[[str, str], None],
        cache_bytes: int,
        parallel: int = 1,
    ) -> None:
        self._db = db
        self._storage = storage
        self._damaged = damaged
        self._tails = Cache(max(cache_bytes // 4, 1 << 20))
        self._blocks = Cache(max(cache_bytes - cache_bytes // 4, 1 << 20))
        self._parallel = Parallel(parallel, "reader")
        self._snapshot: Snapshot | None = None

    def snapshot(self, version: int | None = None) -> Snapshot:
        """The live segments, from memory if the catalog has not moved.

        Args:
            version: the catalog's version if the caller has just read it.
        """
        if version is None:
            version = catalog.state(self._db).catalog
        snapshot = self._snapshot
        if snapshot is None or snapshot.catalog != version:
            snapshot = catalog.live(self._db, snapshot)
            for name in snapshot.damaged:
                self._damaged(name, "catalog entry does not match its checksum")
            self._snapshot = snapshot
        return snapshot

    def tail(self, segment: Segment) -> Tail:
        """The verified tail of a segment. Raises CorruptObject, NoSuchObject."""
        tail: Tail | None = self._tails.get(segment.name)
        if tail is None:
            tail = segments.read_tail(
                self._storage, segment.name, segment.size, segment.tail, segment.tail_crc
            )
            self._tails.put(segment.name, tail, tail.nbytes)
        return tail

    def rows(
        self,
        granularity: int,
        ids: np.ndarray,
        columns: Iterable[str],
        start: int | None = None,
        stop: int | None = None,
        snapshot: Snapshot | None = None,
        gaps: list[Gap] | None = None,
        max_rows: int | None = None,
    ) -> Block:
        """The newest rows of some metrics at one granularity in ``[start, stop)``.

        Args:
            ids: ``(m,)`` V16, ascending and unique.
            gaps: is given what damage hides; those who compute with the rows must mind it.
            max_rows: reading stops when there turn out to be more.

        Returns:
            A block over exactly ``ids``, sorted by (metric, timestamp).

        Raises:
            TooManyValues: there are more than ``max_rows``.
            Unavailable: segments kept vanishing, or the storage does not answer.
        """
        wanted = frozenset(columns)
        for _ in range(ATTEMPTS):
            try:
                parts = self._collect(
                    snapshot or self.snapshot(), granularity, ids, wanted, start, stop, max_rows
                )
            except NoSuchObject:
                snapshot = self._snapshot = None
                continue
            if gaps is not None:
                gaps += parts.gaps
            parts.merge()
            return parts.blocks[0]
        raise Unavailable("Segments that the catalog names are missing from the storage")

    def _collect(
        self,
        snapshot: Snapshot,
        granularity: int,
        ids: np.ndarray,
        columns: frozenset[str],
        start: int | None,
        stop: int | None,
        max_rows: int | None,
    ) -> _Parts:
        parts = _Parts(granularity, ids, max_rows)
        if not len(ids):
            return parts
        bounds = high_bits(ids[[0, -1]])
        low, high = int(bounds[0]), int(bounds[1])
        live = list(overlapping(snapshot.segments, low, high, start, stop))
        pieces: list[_Piece] = []
        for segment, tail in zip(live, self._parallel.map(self._tail, live), strict=True):
            if isinstance(tail, CorruptObject):
                first, last = _range_ids(segment.low, segment.high)
                pieces.append(_Piece(tail, (first, last, segment.start, segment.stop)))
            else:
                groups = groups_of(tail, granularity, ids, start, stop)
                pieces += self._pieces(tail, groups, columns)

        for begin in range(0, len(pieces), AT_ONCE):
            self._add(parts, pieces[begin : begin + AT_ONCE], columns, start, stop)
        return parts

    def _add(
        self,
        parts: _Parts,
        pieces: Sequence[_Piece],
        columns: frozenset[str],
        start: int | None,
        stop: int | None,
    ) -> None:
        # Threads do no more than read: when decoding they would mostly wait for one another.
        far = [(piece.what, piece.where) for piece in pieces if isinstance(piece.what, Tail)]
        fetched = iter(self._parallel.map(lambda each: row_groups.fetch(self._storage, *each), far))
        for piece in pieces:
            data = next(fetched) if isinstance(piece.what, Tail) else []
            for found in self._blocks_of(piece, data, columns):
                if isinstance(found, tuple):
                    error, hidden = found
                    self._damaged(error.name, str(error.reason))
                    parts.withhold(*hidden)
                    continue
                block = restrict(found, parts.ids, start, stop)
                if len(block):
                    parts.add(block)

    def _tail(self, segment: Segment) -> Tail | CorruptObject:
        try:
            return self.tail(segment)
        except CorruptObject as error:
            return error

    def _pieces(
        self, tail: Tail, groups: Iterable[int], columns: frozenset[str]
    ) -> Iterator[_Piece]:
        """What to read of a segment, in its order: what is not cached, in portions."""
        fresh: list[int] = []
        for group in groups:
            block = self._blocks.get((tail.name, group, columns))
            if block is None:
                fresh.append(group)
                continue
            for portion in row_groups.portions(tail, fresh, PIECE, READS):
                yield _Piece(tail, portion)
            fresh = []
            yield _Piece(block)
        for portion in row_groups.portions(tail, fresh, PIECE, READS):
            yield _Piece(tail, portion)

    def _blocks_of(
        self, piece: _Piece, data: Sequence[memoryview], columns: frozenset[str]
    ) -> Iterator[Block | tuple[CorruptObject, _Bounds]]:
        """Decoded row groups, or what is wrong with each and what it hides."""
        what = piece.what
        if isinstance(what, Block):
            yield what
        elif isinstance(what, CorruptObject):
            yield what, piece.where
        else:
            blocks = row_groups.decode(what, piece.where, data, columns)
            for group, block in zip(piece.where, blocks, strict=True):
                if isinstance(block, CorruptObject):
                    entry = what.groups[group]
                    bounds = entry["first"], entry["last"], int(entry["start"]), int(entry["stop"])
                    yield block, bounds
                else:
                    self._blocks.put((what.name, group, columns), block, block_nbytes(block))
                    yield block


def overlapping(
    live: Iterable[Segment], low: int, high: int, start: int | None, stop: int | None
) -> Iterator[Segment]:
    """Segments that may hold rows of a hash range (inclusive) in ``[start, stop)``."""
    for segment in live:
        if segment.low <= high and segment.high >= low:
            if start is not None and segment.stop < start:
                continue
            if stop is not None and segment.start >= stop:
                continue
            yield segment


def groups_of(
    tail: Tail, granularity: int, ids: np.ndarray, start: int | None, stop: int | None
) -> list[int]:
    """Numbers of the row groups that may hold rows of these metrics, in file order."""
    groups = tail.groups
    chosen = groups["granularity"] == granularity
    if start is not None:
        chosen &= groups["stop"] >= start
    if stop is not None:
        chosen &= groups["start"] < stop
    numbers = np.flatnonzero(chosen)
    if len(numbers):
        # an id lies in [first, last] iff the first id >= first is not beyond last
        position = np.searchsorted(ids, groups["first"][numbers])
        end = np.searchsorted(ids, groups["last"][numbers], side="right")
        numbers = numbers[position < end]
    return [int(n) for n in numbers]


def restrict(block: Block, ids: np.ndarray, start: int | None, stop: int | None) -> Block:
    """The rows of a block that belong to ``ids`` and ``[start, stop)``, over ``ids``."""
    position = np.searchsorted(ids, block.ids)
    position[position == len(ids)] = 0
    known = ids[position] == block.ids
    conditions = []
    chosen = block
    if not known.all():
        # Mostly one metric of several is wanted, or some neighbours are.
        found = np.flatnonzero(known)
        first, last = (found[0], found[-1]) if len(found) else (0, -1)
        low, high = np.searchsorted(block.index, [first, last + 1])
        chosen = block.select(slice(low, high))
        if len(found) <= last - first:
            conditions.append(known[chosen.index])
    if start is not None:
        conditions.append(chosen.timestamps >= start)
    if stop is not None:
        conditions.append(chosen.timestamps < stop)
    for condition in conditions[1:]:
        conditions[0] &= condition
    if conditions and not conditions[0].all():
        chosen = chosen.select(np.flatnonzero(conditions[0]))
    elif len(chosen) < len(block):
        chosen = chosen.copy()  # a view would keep the whole block in memory
    return Block(block.granularity, ids, position[chosen.index], chosen.timestamps, chosen.columns)


def _range_ids(low: int, high: int) -> tuple[np.void, np.void]:
    """The smallest and the largest id of an inclusive hash range."""
    raw = low.to_bytes(4, "big") + bytes(12) + high.to_bytes(4, "big") + b"\xff" * 12
    first, last = np.frombuffer(raw, ID)
    return first, last
