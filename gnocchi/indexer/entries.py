"""One entry of the catalog, and how it is written so that no flipped bit goes unnoticed.

An entry is stored twice in its row. The columns carry ``crc``, the CRC-32 of the name and of all
numbers in a fixed binary order; the text ``copy`` is the CRC-32 of a JSON object as eight
hexadecimal digits, a blank, and that object. Either half alone is enough. CRC-32 finds every
error of up to 32 neighbouring bits, so a single flip is always found; what both halves fail to
prove is reported as damaged and never guessed.
"""

from __future__ import annotations

import dataclasses
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

_NUMBERS = (
    "first", "last", "low", "high", "start", "stop", "rows", "size",
    "tail", "tail_crc", "deletions",
)  # fmt: skip
_PACKED = struct.Struct(f"<{len(_NUMBERS)}q")


@dataclass(frozen=True, slots=True)
class Segment:
    """A live segment: what readers and the compaction must know without opening it.

    Attributes:
        name: of the object in the storage; unique for all time.
        first, last: the range of sequence numbers whose rows it holds, both inclusive. Of two
            rows of one key, that of the segment with the higher ``last`` counts.
        low, high: the 32-bit hashes of its metrics lie between these, both inclusive.
        start, stop: its timestamps lie between these, both inclusive, in ns.
        rows: number of rows.
        size: bytes of the object.
        tail: offset of the part that a reader fetches first.
        tail_crc: CRC-32 of the bytes from ``tail`` to the end.
        deletions: ``state.deletions`` when it was written.
    """

    name: str
    first: int
    last: int
    low: int
    high: int
    start: int
    stop: int
    rows: int
    size: int
    tail: int
    tail_crc: int
    deletions: int


def checksum(segment: Segment) -> int:
    """Return the checksum of the columns of an entry.

    Raises:
        struct.error, UnicodeEncodeError, AttributeError: a value is not of the type it has to be.
    """
    numbers = _PACKED.pack(*(getattr(segment, name) for name in _NUMBERS))
    return zlib.crc32(segment.name.encode(), zlib.crc32(numbers))


def to_row(segment: Segment) -> dict[str, Any]:
    """Return the columns of an entry."""
    row = dataclasses.asdict(segment)
    document = json.dumps(row, separators=(",", ":"))
    row["rows_"] = row.pop("rows")
    row["crc"] = checksum(segment)
    row["copy"] = f"{zlib.crc32(document.encode()):08x} {document}"
    return row


@dataclass(frozen=True, slots=True)
class Entry:
    """What a row proves: the segment, if anything, and which half of the row is damaged.

    ``segment`` is None when neither half can be trusted; ``fault`` is None when both can.
    """

    segment: Segment | None
    fault: str | None


def from_row(row: Any) -> Entry:
    """Check a row of ``tables.segment``, of which ``name`` and ``copy`` may be bytes."""
    columns = _from_columns(row)
    copy = _from_copy(row.copy)
    if columns is not None and copy is not None:
        if columns == copy:
            return Entry(columns, None)
        return Entry(None, "its columns and their copy contradict each other")
    if columns is not None:
        return Entry(columns, "the copy of its columns is damaged")
    if copy is not None:
        return Entry(copy, "its columns are damaged")
    return Entry(None, "its columns and their copy are damaged")


def _from_columns(row: Any) -> Segment | None:
    try:
        segment = Segment(
            _text(row.name), row.first, row.last, row.low, row.high, row.start, row.stop,
            row.rows_, row.size, row.tail, row.tail_crc, row.deletions,
        )  # fmt: skip
        return segment if checksum(segment) == row.crc else None
    except (struct.error, UnicodeError, AttributeError):
        return None


def _from_copy(copy: Any) -> Segment | None:
    try:
        digits, document = _text(copy).split(" ", 1)
        if digits != f"{zlib.crc32(document.encode()):08x}":
            return None
        return Segment(**json.loads(document))
    except (ValueError, TypeError, AttributeError):
        return None


def _text(value: Any) -> str:
    # SQLite gives these columns as bytes: damaged ones need not be text any more.
    text: str = value.decode() if isinstance(value, bytes) else value
    return text
