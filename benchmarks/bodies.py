"""Request bodies, made before the clock runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.generator import Points

NS = 10**9


def timestamps(ns: np.ndarray) -> list[str]:
    """Write timestamps as telemetry agents do: ``2026-01-01T00:20:13.250000``, UTC."""
    return np.datetime_as_string(ns.view("datetime64[ns]"), unit="us").tolist()  # type: ignore[no-any-return]


def batches(ids: Sequence[str], points: Points, metrics: int) -> list[bytes]:
    """Divide points into requests of so many metrics each.

    Args:
        ids: of all metrics, in the order that ``points.metric`` numbers them.
    """
    written, values = timestamps(points.timestamps), points.values.tolist()
    firsts = np.flatnonzero(np.diff(points.metric, prepend=-1))
    lasts = np.append(firsts[1:], len(values))
    requests = []
    for begin in range(0, len(firsts), metrics):
        document = {}
        some = slice(begin, begin + metrics)
        for first, last in zip(firsts[some].tolist(), lasts[some].tolist(), strict=True):
            document[ids[points.metric[first]]] = [
                {"timestamp": written[position], "value": values[position]}
                for position in range(first, last)
            ]
        requests.append(orjson.dumps(document))
    return requests


def table(ids: Sequence[str], stamps: Sequence[object], values: np.ndarray) -> bytes:
    """One request with the same timestamps for all metrics; values: ``(m, p)``."""
    return orjson.dumps(
        {
            metric: [
                {"timestamp": stamp, "value": value}
                for stamp, value in zip(stamps, row, strict=True)
            ]
            for metric, row in zip(ids, values.tolist(), strict=True)
        }
    )
