"""Codec of an incoming object: points of many metrics, divided by sack (doc/formats/incoming.rst).

All integers are little-endian::

    header      magic "GNIN", version u16, number of shares u16, CRC-32 u32 of everything up to
                the first share but this field, reserved u32 (zero)
    directory   one entry a share, by sack: sack u32, metrics u32, points u32, CRC-32 u32 of the
                share, offset u64, length u64
    share       points × i64 timestamps, points × f64 values, metrics × 16-byte ids,
                metrics × u32 counts; padded with zeros to a multiple of 8

Points of one metric are consecutive within a share and keep their order of arrival. A share's
checksum covers its padding, so every byte of the object is checked.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gnocchi.errors import CorruptObject

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = b"GNIN"
VERSION = 1
ID = np.dtype("V16")

_HEADER = struct.Struct("<4sHHII")
_ENTRY = np.dtype(
    [
        ("sack", "<u4"),
        ("metrics", "<u4"),
        ("points", "<u4"),
        ("crc", "<u4"),
        ("offset", "<u8"),
        ("length", "<u8"),
    ]
)
HEADER_SIZE = _HEADER.size


@dataclass(frozen=True, slots=True)
class Points:
    """Points grouped by metric.

    ids: ``(m,)`` V16, raw UUID bytes, a metric may appear more than once.
    counts: ``(m,)`` int64, how many points each entry of ``ids`` has.
    timestamps, values: ``(n,)`` int64 ns and float64, entry after entry, in order of arrival.
    """

    ids: np.ndarray
    counts: np.ndarray
    timestamps: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.timestamps)

    @classmethod
    def concatenate(cls, parts: Sequence[Points]) -> Points:
        """Join parts in order."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls(np.empty(0, ID), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        return cls(
            np.concatenate([p.ids for p in parts]),
            np.concatenate([p.counts for p in parts]),
            np.concatenate([p.timestamps for p in parts]),
            np.concatenate([p.values for p in parts]),
        )


def high_bits(ids: np.ndarray) -> np.ndarray:
    """``(m,)`` uint64: the top 32 bits of every id (V16), which place it in a sack."""
    return ids.view(">u4").reshape(-1, 4)[:, 0].astype(np.uint64)


def by_sack(points: Points, sacks: int) -> dict[int, Points]:
    """Divide points among the sacks of their metrics; the order inside a sack is kept."""
    sack = (high_bits(points.ids) * np.uint64(sacks)) >> np.uint64(32)
    if not len(sack):
        return {}
    if (sack == sack[0]).all():
        return {int(sack[0]): points}
    order = np.argsort(sack, kind="stable")
    ids, counts = points.ids[order], points.counts[order]
    stops = np.cumsum(points.counts)
    starts = (stops - points.counts)[order]
    # positions of the points, entry after entry in the new order of entries
    ends = np.cumsum(counts)
    position = np.arange(len(points)) + np.repeat(starts - (ends - counts), counts)
    timestamps, values = points.timestamps[position], points.values[position]
    numbers, first = np.unique(sack[order], return_index=True)
    entry_bounds = [*first.tolist(), len(ids)]
    point_bounds = [0, *ends.tolist()]
    shares = {}
    for number, low, high in zip(
        numbers.tolist(), entry_bounds[:-1], entry_bounds[1:], strict=True
    ):
        span = slice(point_bounds[low], point_bounds[high])
        shares[number] = Points(ids[low:high], counts[low:high], timestamps[span], values[span])
    return shares


def encode(shares: dict[int, Points]) -> bytes:
    """Encode shares by sack; sacks ascending.

    Raises:
        ValueError: a share has 2³² points or metrics or more.
    """
    directory = np.zeros(len(shares), _ENTRY)
    offset = HEADER_SIZE + directory.nbytes
    parts: list[bytes] = []
    for entry, sack in zip(directory, sorted(shares), strict=True):
        points = shares[sack]
        if max(len(points), len(points.ids)) >> 32:
            raise ValueError(f"the share of sack {sack} is too large for one object")
        share = b"".join(
            (
                np.ascontiguousarray(points.timestamps, "<i8").tobytes(),
                np.ascontiguousarray(points.values, "<f8").tobytes(),
                points.ids.tobytes(),
                points.counts.astype("<u4").tobytes(),
                b"\0" * (-4 * len(points.ids) % 8),
            )
        )
        entry["sack"] = sack
        entry["metrics"] = len(points.ids)
        entry["points"] = len(points)
        entry["crc"] = zlib.crc32(share)
        entry["offset"] = offset
        entry["length"] = len(share)
        offset += len(share)
        parts.append(share)
    listing = directory.tobytes()
    lead = struct.pack("<4sHH", MAGIC, VERSION, len(shares))
    crc = zlib.crc32(listing, zlib.crc32(b"\0\0\0\0", zlib.crc32(lead)))
    return b"".join((_HEADER.pack(MAGIC, VERSION, len(shares), crc, 0), listing, *parts))


def directory_size(head: bytes, name: str) -> int:
    """How many bytes the header and the directory take, from the first bytes of an object.

    Raises:
        CorruptObject: not an incoming object.
    """
    if len(head) < HEADER_SIZE:
        raise CorruptObject(name, f"{len(head)} bytes are less than a header")
    magic, version, shares, _crc, _reserved = _HEADER.unpack_from(head)
    if magic != MAGIC or version != VERSION:
        raise CorruptObject(name, "not an incoming object of a known version")
    return HEADER_SIZE + int(shares) * _ENTRY.itemsize


def read_directory(head: bytes, name: str) -> np.ndarray:
    """Verify and decode the directory; ``head`` holds at least `directory_size` bytes.

    Raises:
        CorruptObject: the checksum does not match.
    """
    size = directory_size(head, name)
    if len(head) < size:
        raise CorruptObject(name, f"the directory needs {size} bytes and there are {len(head)}")
    crc = zlib.crc32(head[12:size], zlib.crc32(head[:8]))
    if crc != struct.unpack_from("<I", head, 8)[0]:
        raise CorruptObject(name, "checksum of the directory does not match")
    return np.frombuffer(head, _ENTRY, (size - HEADER_SIZE) // _ENTRY.itemsize, HEADER_SIZE)


def read_share(entry: np.void, share: bytes, name: str) -> Points:
    """Verify and decode one share from its bytes.

    Raises:
        CorruptObject: length or checksum do not match.
    """
    if len(share) != entry["length"]:
        raise CorruptObject(name, f"share of sack {entry['sack']} is cut short")
    if zlib.crc32(share) != entry["crc"]:
        raise CorruptObject(name, f"checksum of the share of sack {entry['sack']} does not match")
    n, m = int(entry["points"]), int(entry["metrics"])
    return Points(
        np.frombuffer(share, ID, m, 16 * n),
        np.frombuffer(share, "<u4", m, 16 * n + 16 * m).astype(np.int64),
        np.frombuffer(share, "<i8", n, 0),
        np.frombuffer(share, "<f8", n, 8 * n),
    )
