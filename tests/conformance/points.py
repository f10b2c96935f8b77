"""Small `Points` that one can tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gnocchi.segments.batch import ID, Points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gnocchi.incoming import Taken


def metric_in(sack: int, sacks: int, number: int = 0) -> bytes:
    """The raw id of a metric of that sack."""
    high = -(-(sack << 32) // sacks)  # the first hash of the sack's range
    return high.to_bytes(4, "big") + number.to_bytes(12, "big")


def points(*entries: tuple[bytes, Sequence[float]]) -> Points:
    """Points of some metrics (raw id, values); each point's timestamp is its value's bits."""
    values = np.array([value for _, listed in entries for value in listed], np.float64)
    return Points(
        np.frombuffer(b"".join(raw for raw, _ in entries), ID),
        np.array([len(listed) for _, listed in entries], np.int64),
        values.view(np.int64).copy(),
        values,
    )


def in_sacks(sacks: int, wanted: Sequence[int], *values: float) -> Points:
    """One metric in each of the sacks, each with these values."""
    return points(*((metric_in(sack, sacks), values) for sack in wanted))


def entries(taken: Taken) -> list[tuple[bytes, list[float]]]:
    """What `points` was called with, and a proof that timestamps and values stayed together."""
    found = taken.points
    assert found.timestamps.tolist() == found.values.view(np.int64).tolist()
    assert int(found.counts.sum()) == len(found)
    stops = np.cumsum(found.counts).tolist()
    values = found.values.tolist()
    return [
        (bytes(raw), values[stop - count : stop])
        for raw, stop, count in zip(found.ids.tolist(), stops, found.counts.tolist(), strict=True)
    ]


def values(taken: Taken) -> list[float]:
    """All values in the order in which they were taken."""
    listed: list[float] = taken.points.values.tolist()
    return listed
