"""Segments: immutable Parquet objects that hold rows of many metrics (doc/formats/segment.rst).

A row is a raw point (granularity 0, column ``value``) or the aggregates of one bucket (one column
a method). Rows are sorted by granularity, metric and timestamp; a row group never mixes
granularities. Two things are special, and neither keeps other software from reading the file:

* Between the last row group and the Parquet footer stands an index of the row groups with a
  CRC-32 of each. Index and footer together are the *tail*; the catalog keeps its offset and its
  CRC-32. So every byte is checked before it is believed, without reading more than is needed.
* Where a bucket's ``min``, ``max``, ``sum`` … has the same bits as the reference column of its
  kind (as it has in every bucket of one point), it is stored as null. The file's ``gnocchi``
  metadata entry names the reference of each column.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnocchi.errors import CorruptObject
from gnocchi.segments.batch import ID, high_bits
from gnocchi.series.points import ABSENT, is_absent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gnocchi.storage import Storage

# Arrow's own allocators keep what they once had. These are buffers of one row group each, for
# which the C library's is as fast.
pa.set_memory_pool(pa.system_memory_pool())

RAW = 0  # the granularity of raw points
ROWS = 16384  # rows of a row group at the most: one is the least that a read decodes
VALUE = "value"
COMPRESSION = "lz4"  # zstd saves 1 to 4 %, and makes small reads slow (doc/decisions/segments.rst)

_MAGIC = b"GNSI"
_VERSION = 2
_VERSIONS = (1, 2)  # in the first, `metric` was a fixed-length column
_LEAD = struct.Struct("<4sHHI")  # magic, version, reserved, number of row groups
_GROUP = np.dtype(
    [
        ("granularity", "<i8"),
        ("rows", "<u4"),
        ("crc", "<u4"),
        ("offset", "<u8"),
        ("length", "<u8"),
        ("start", "<i8"),
        ("stop", "<i8"),
        ("first", ID),
        ("last", ID),
    ]
)
# Which column others are compared with. Methods that may be absent from a bucket that exists
# (deviations, and differences as a whole) are never stored by reference to a plain one.
_REFERENCES = ("mean", "last", "first", "max", "min", "sum", "median")
_NEVER = frozenset({"count", "std", "rate:count", "rate:std"})


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one granularity, sorted by (metric, timestamp), one row a bucket or raw point.

    ids: ``(m,)`` V16, ascending and unique. index: ``(n,)`` int64 into ``ids``, ascending.
    timestamps: ``(n,)`` int64 ns. columns: ``(n,)`` float64 each, `ABSENT` where a row has none.
    """

    granularity: int
    ids: np.ndarray
    index: np.ndarray
    timestamps: np.ndarray
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.timestamps)

    def column(self, name: str) -> np.ndarray:
        """A column, `ABSENT` in every row if there is none of that name."""
        column = self.columns.get(name)
        return np.full(len(self), ABSENT) if column is None else column

    def select(self, rows: np.ndarray | slice) -> Block:
        """The given rows (a mask, ascending positions or a slice) over the same ``ids``."""
        return Block(
            self.granularity,
            self.ids,
            self.index[rows],
            self.timestamps[rows],
            {name: column[rows] for name, column in self.columns.items()},
        )

    def copy(self) -> Block:
        """The same rows over the same ``ids``, in memory of their own."""
        return Block(
            self.granularity,
            self.ids,
            self.index.copy(),
            self.timestamps.copy(),
            {name: column.copy() for name, column in self.columns.items()},
        )


class Written(NamedTuple):
    """A finished segment: its bytes and what the catalog must know about them."""

    data: bytes
    tail: int
    tail_crc: int
    rows: int
    low: int
    high: int
    start: int
    stop: int


def _kind(column: str) -> str | None:
    if column in _NEVER or column == VALUE:
        return None
    return "rate:" if column.startswith("rate:") else ""


def references(columns: Iterable[str]) -> dict[str, str]:
    """For each column stored by reference, the column it is compared with."""
    present = set(columns)
    chosen: dict[str, str] = {}
    for kind in ("", "rate:"):
        members = sorted(c for c in present if _kind(c) == kind)
        named = [kind + name for name in _REFERENCES if kind + name in present]
        reference = (named or members or [""])[0]
        chosen.update({c: reference for c in members if c != reference})
    return chosen


class Writer:
    """Builds one segment in memory, block after block.

    A column that is stored by reference reads as the reference where it is absent and the
    reference is not. That is so for metrics whose archive policy lacks the method, which nobody
    can ask for.

    Args:
        columns: every column that any block will have.
    """

    def __init__(self, columns: Iterable[str]) -> None:
        self._columns = sorted(columns)
        self._references = references(self._columns)
        fields = [
            pa.field("metric", pa.dictionary(pa.int32(), pa.binary()), nullable=False),
            pa.field("granularity", pa.int64(), nullable=False),
            pa.field("timestamp", pa.timestamp("ns", "UTC"), nullable=False),
            *(pa.field(name, pa.float64()) for name in self._columns),
        ]
        self._schema = pa.schema(fields)
        self._sink = pa.BufferOutputStream()
        dictionary = ["metric", "granularity"]
        split = {name: "PLAIN" if name in _NEVER else "BYTE_STREAM_SPLIT" for name in self._columns}
        self._writer = pq.ParquetWriter(
            self._sink,
            self._schema,
            compression=COMPRESSION,
            use_dictionary=dictionary,
            column_encoding={"timestamp": "DELTA_BINARY_PACKED", **split},
            write_statistics=False,
            write_page_checksum=True,
            store_schema=False,
        )
        self._groups: list[tuple[int, int, bytes, bytes, int, int]] = []

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return int(self._sink.tell())

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return sum(group[1] for group in self._groups)

    def append(self, block: Block) -> None:
        """Add rows that sort after all rows so far."""
        for position in range(0, len(block), ROWS):
            self._append_group(block.select(slice(position, position + ROWS)))

    def _append_group(self, block: Block) -> None:
        n = len(block)
        new = np.ones(n, bool)
        np.not_equal(block.index[1:], block.index[:-1], out=new[1:])
        ids = np.ascontiguousarray(block.ids[block.index[new]])
        arrays = [
            _dictionary(ids, np.cumsum(new) - 1),
            _array(pa.int64(), np.full(n, block.granularity)),
            _array(pa.timestamp("ns", "UTC"), block.timestamps),
        ]
        for name in self._columns:
            column = block.columns.get(name)
            if column is None:
                arrays.append(pa.nulls(n, pa.float64()))
                continue
            null = is_absent(column)
            reference = block.columns.get(self._references.get(name, ""))
            if reference is not None:
                null |= column.view(np.int64) == reference.view(np.int64)
            arrays.append(_array(pa.float64(), column, null))
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema), n)
        self._groups.append(
            (
                block.granularity,
                n,
                ids[0].tobytes(),
                ids[-1].tobytes(),
                int(block.timestamps.min()),
                int(block.timestamps.max()),
            )
        )

    def close(self) -> Written:
        """Finish the file and put the index of row groups before its footer.

        Raises:
            ValueError: nothing was appended.
        """
        if not self._groups:
            raise ValueError("a segment holds at least one row")
        described = json.dumps({"version": _VERSION, "same as": self._references})
        self._writer.add_key_value_metadata({"gnocchi": described})
        self._writer.close()
        plain = memoryview(self._sink.getvalue())
        footer = len(plain) - 8 - struct.unpack("<I", plain[-8:-4])[0]
        metadata = pq.read_metadata(pa.BufferReader(pa.py_buffer(plain)))
        index = np.zeros(len(self._groups), _GROUP)
        for i, (granularity, rows, first, last, start, stop) in enumerate(self._groups):
            column = metadata.row_group(i).column(0)
            offset = column.data_page_offset
            if column.has_dictionary_page:
                offset = min(offset, column.dictionary_page_offset)
            index[i] = (granularity, rows, 0, offset, 0, start, stop, first, last)
        ends = np.append(index["offset"][1:], np.uint64(footer))
        index["length"] = ends - index["offset"]
        for i, (offset, length) in enumerate(
            zip(index["offset"].tolist(), index["length"].tolist(), strict=True)
        ):
            index["crc"][i] = zlib.crc32(plain[offset : offset + length])
        lead = _LEAD.pack(_MAGIC, _VERSION, 0, len(index))
        tail = b"".join((lead, index.tobytes(), plain[footer:]))
        high = high_bits(np.concatenate([index["first"], index["last"]]))
        return Written(
            data=b"".join((plain[:footer], tail)),
            tail=footer,
            tail_crc=zlib.crc32(tail),
            rows=int(index["rows"].sum()),
            low=int(high.min()),
            high=int(high.max()),
            start=int(index["start"].min()),
            stop=int(index["stop"].max()),
        )


def _array(kind: pa.DataType, data: np.ndarray, null: np.ndarray | None = None) -> pa.Array:
    """An Arrow array over numpy memory.

    `pyarrow.array` would do, but imports pandas to look whether it was given something of it.
    """
    valid = None
    if null is not None and null.any():
        valid = pa.py_buffer(np.packbits(~null, bitorder="little"))
    buffer = pa.py_buffer(np.ascontiguousarray(data))
    return pa.Array.from_buffers(kind, len(data), [valid, buffer])


def _dictionary(ids: np.ndarray, index: np.ndarray) -> pa.DictionaryArray:
    """Arrow's form of ``ids[index]``."""
    ends = pa.py_buffer(np.arange(0, 16 * len(ids) + 1, 16, dtype=np.int32))
    values = pa.Array.from_buffers(pa.binary(), len(ids), [None, ends, pa.py_buffer(ids)])
    return pa.DictionaryArray.from_arrays(_array(pa.int32(), index.astype(np.int32)), values)


def write(blocks: Sequence[Block]) -> Written:
    """Write blocks, in the order of their granularities, as one segment."""
    writer = Writer({name for block in blocks for name in block.columns})
    for block in sorted(blocks, key=lambda b: b.granularity):
        if len(block):
            writer.append(block)
    return writer.close()


class Tail:
    """The verified tail of a segment: index of row groups, and Parquet's own metadata.

    groups: structured array, one element a row group, in file order: granularity (ns), rows, crc,
    offset, length, start and stop (inclusive ns), first and last (V16 ids, inclusive).
    """

    __slots__ = ("columns", "groups", "metadata", "name", "nbytes", "references")

    def __init__(self, name: str, data: bytes) -> None:
        magic, version, _, count = _LEAD.unpack_from(data)
        if magic != _MAGIC or version not in _VERSIONS:
            raise CorruptObject(name, "not a segment of a known version")
        self.name = name
        self.groups = np.frombuffer(data, _GROUP, count, _LEAD.size)
        footer = data[_LEAD.size + self.groups.nbytes :]
        self.metadata = pq.read_metadata(io.BytesIO(footer))
        described = json.loads(self.metadata.metadata[b"gnocchi"])
        self.references: dict[str, str] = described["same as"]
        self.columns = frozenset(self.metadata.schema.names[3:])
        self.nbytes = 4 * len(data)  # the decoded metadata takes a few times its size


def read_tail(storage: Storage, name: str, size: int, tail: int, crc: int) -> Tail:
    """Read and verify the tail of a segment.

    Raises:
        CorruptObject: it does not match the checksum that the catalog has.
        NoSuchObject: the segment is gone.
    """
    data = storage.read(name, tail, size - tail)
    if len(data) != size - tail or zlib.crc32(data) != crc:
        raise CorruptObject(name, "checksum of the tail does not match")
    return Tail(name, data)
