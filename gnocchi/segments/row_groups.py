"""Reading row groups of segments: bytes in few pieces, checked and decoded one after the other.

Invariant: no byte is decoded that has not been compared with a checksum.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnocchi.errors import CorruptObject
from gnocchi.segments.batch import ID
from gnocchi.segments.segment import Block, Tail
from gnocchi.series.points import ABSENT, is_absent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gnocchi.storage import Storage


class _Window:
    """A file of which only one stretch is there at a time, for Parquet to read row groups from.

    Args:
        size: of the whole file.
    """

    closed = False

    def __init__(self, size: int) -> None:
        self._size = size
        self._data = memoryview(b"")
        self._offset = 0
        self._position = 0

    def show(self, data: memoryview, offset: int) -> None:
        """Replace the stretch by another one."""
        self._data, self._offset = data, offset

    def seek(self, position: int, whence: int = 0) -> int:
        if whence == 1:
            position += self._position
        elif whence == 2:
            position += self._size
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def read(self, length: int = -1) -> memoryview:
        start = self._position - self._offset
        if not 0 <= start <= len(self._data):
            raise ValueError("read outside of the stretch that is there")
        piece = self._data[start : start + length] if length >= 0 else self._data[start:]
        self._position += len(piece)
        return piece

    def close(self) -> None:
        self._data = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    """A float64 copy of a column, `ABSENT` for nulls."""
    parts = []
    for chunk in column.chunks:
        valid, data = chunk.buffers()
        n, offset = len(chunk), chunk.offset
        if chunk.null_count == n:
            parts.append(np.full(n, ABSENT))
            continue
        values = np.frombuffer(data, np.float64, n, 8 * offset)
        if chunk.null_count:
            bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")
            values = np.where(bits[offset : offset + n], values, ABSENT)
        parts.append(values)
    return np.concatenate(parts) if len(parts) != 1 else parts[0].copy()


def _integers(column: pa.ChunkedArray) -> np.ndarray:
    """An int64 copy of a column without nulls."""
    parts = [
        np.frombuffer(chunk.buffers()[1], np.int64, len(chunk), 8 * chunk.offset)
        for chunk in column.chunks
    ]
    return np.concatenate(parts) if len(parts) != 1 else parts[0].copy()


class _Decoder:
    """Decodes some columns of one row group after the other. Not safe for threads.

    Args:
        columns: those that the segment does not have are left out; None stands for all.
    """

    def __init__(self, tail: Tail, columns: Iterable[str] | None) -> None:
        self._tail = tail
        wanted = tail.columns if columns is None else tail.columns.intersection(columns)
        self._wanted = sorted(wanted)
        needed = wanted | {tail.references[name] for name in wanted if name in tail.references}
        self._needed = sorted(needed)
        last = tail.groups[-1]
        self._window = _Window(int(last["offset"] + last["length"]))
        self._file: pq.ParquetFile | None = None

    def decode(self, group: int, data: memoryview) -> Block:
        """Verify and decode the bytes of a row group. Raises CorruptObject."""
        tail, entry = self._tail, self._tail.groups[group]
        if len(data) != entry["length"] or zlib.crc32(data) != entry["crc"]:
            raise CorruptObject(tail.name, f"checksum of row group {group} does not match")
        self._window.show(data, int(entry["offset"]))
        if self._file is None:
            # Buffering ahead is for files far away: a thread would read what is here already.
            self._file = pq.ParquetFile(
                pa.PythonFile(self._window, "r"),
                metadata=tail.metadata,
                read_dictionary=["metric"],
                pre_buffer=False,
            )
        table = self._file.read_row_group(
            group, columns=["metric", "timestamp", *self._needed], use_threads=False
        )
        ids, index = _ids(table.column("metric"))
        decoded = {name: _floats(table.column(name)) for name in self._needed}
        for name in self._wanted:
            reference = tail.references.get(name)
            if reference is not None:
                column = decoded[name]
                decoded[name] = np.where(is_absent(column), decoded[reference], column)
        return Block(
            int(entry["granularity"]),
            ids,
            index,
            _integers(table.column("timestamp")),
            {name: decoded[name] for name in self._wanted},
        )


def read_group(
    storage: Storage, tail: Tail, group: int, columns: Iterable[str] | None = None
) -> Block:
    """Read one row group and decode some of its columns (all when None).

    Columns that the segment does not have are left out.

    Raises:
        CorruptObject: the row group does not match its checksum.
        NoSuchObject: the segment is gone.
    """
    [found] = decode(tail, [group], fetch(storage, tail, [group]), columns)
    if isinstance(found, CorruptObject):
        raise found
    return found


def fetch(storage: Storage, tail: Tail, groups: Sequence[int]) -> list[memoryview]:
    """Read the bytes of row groups (ascending), of neighbours at once.

    Raises:
        NoSuchObject: the segment is gone.
    """
    found = []
    for run in _neighbours(groups):
        entries = tail.groups[run[0] : run[-1] + 1]
        start = int(entries["offset"][0])
        stop = int(entries["offset"][-1] + entries["length"][-1])
        data = memoryview(storage.read(tail.name, start, stop - start))
        for entry in entries:
            begin = int(entry["offset"]) - start
            found.append(data[begin : begin + int(entry["length"])])
    return found


def decode(
    tail: Tail,
    groups: Iterable[int],
    found: Iterable[memoryview],
    columns: Iterable[str] | None = None,
) -> Iterator[Block | CorruptObject]:
    """Verify and decode what `fetch` returned.

    Yields:
        What `read_group` would return for each, or the error that it would raise.
    """
    decoder = _Decoder(tail, columns)
    for group, data in zip(groups, found, strict=True):
        try:
            yield decoder.decode(group, data)
        except CorruptObject as error:
            yield error


def portions(tail: Tail, groups: Iterable[int], size: int, reads: int) -> Iterator[list[int]]:
    """Divide row groups (ascending) into portions for `fetch`.

    Args:
        size: bytes of a portion of several row groups, at the most.
        reads: how many times the storage is asked for a portion, at the most.
    """
    portion: list[int] = []
    total = count = 0
    for group in groups:
        length = int(tail.groups["length"][group])
        apart = not portion or group != portion[-1] + 1
        if portion and (total + length > size or count + apart > reads):
            yield portion
            portion, total, count, apart = [], 0, 0, True
        portion.append(group)
        total += length
        count += apart
    if portion:
        yield portion


def _neighbours(groups: Iterable[int]) -> Iterator[list[int]]:
    run: list[int] = []
    for group in groups:
        if run and group != run[-1] + 1:
            yield run
            run = []
        run.append(group)
    if run:
        yield run


def _ids(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct ids of a sorted column in order, and the position of each row's among them."""
    [chunk] = column.chunks
    if isinstance(chunk, pa.DictionaryArray):
        # written in order and without doubles, see `_dictionary`
        values = chunk.dictionary
        ids = np.frombuffer(values.buffers()[2], ID, len(values)).copy()
        indices = chunk.indices
        index = np.frombuffer(indices.buffers()[1], np.int32, len(indices), 4 * indices.offset)
        return ids, index.astype(np.int64)
    metric = np.frombuffer(chunk.buffers()[1], ID, len(chunk), 16 * chunk.offset)
    high, low = metric.view("<u8").reshape(-1, 2).T
    new = np.ones(len(metric), bool)
    np.not_equal(high[1:], high[:-1], out=new[1:])
    new[1:] |= low[1:] != low[:-1]
    return metric[new].copy(), np.cumsum(new) - 1
