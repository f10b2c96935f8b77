"""A store in dictionaries that feeds ``rollup`` and keeps what it says, round after round.

It plays the part of an engine in the two ways that exist: raw points read back from everything
ever written, and raw points remembered from the round before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gnocchi.series.points import NONE, is_absent
from gnocchi.series.rollup import Rollup, needed_from, rollup

if TYPE_CHECKING:
    from gnocchi.archive_policy import ArchivePolicy

Measures = list[tuple[int, int, float]]


def columns(rows: Measures) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn (metric, timestamp, value) rows into the arrays of the interface."""
    return (
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=np.int64),
        np.array([row[2] for row in rows], dtype=np.float64),
    )


def as_rows(points: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Measures:
    """Turn arrays back into rows."""
    return list(zip(*(column.tolist() for column in points), strict=True))


def at(policy: ArchivePolicy, timestamp: int) -> int:
    """Return where the raw points for a new one at this time begin to matter."""
    return int(needed_from(policy, np.array([timestamp], dtype=np.int64))[0])


@dataclass
class Remembered:
    """The raw window of one metric as a worker keeps it between rounds."""

    points: Measures
    complete_from: int
    newest: int


@dataclass
class Store:
    """Everything written so far; ``cells[granularity][metric][bucket][method]``."""

    policy: ArchivePolicy
    metrics: int
    raw: dict[tuple[int, int], float] = field(default_factory=dict)
    cells: dict[int, dict[int, dict[int, dict[str, float]]]] = field(default_factory=dict)
    windows: dict[int, Remembered] = field(default_factory=dict)

    def post(self, measures: Measures, way: str = "storage") -> Rollup:
        """Run one round over the measures, its known points obtained the given way.

        ``storage`` reads what is needed; ``everything`` reads more than that; ``blind`` reads
        what is needed and looks for the newest point nowhere else; ``cache`` takes what the
        round before left, where that suffices.
        """
        known: Measures = []
        newest = np.full(self.metrics, NONE, dtype=np.int64)
        for metric in range(self.metrics):
            times = [timestamp for owner, timestamp, _ in measures if owner == metric]
            if times:
                points, newest[metric] = self._known(metric, at(self.policy, min(times)), way)
                known += points
        result = rollup(self.policy, self.metrics, columns(known), newest, columns(measures))
        self._write(result)
        self._remember(result, {owner for owner, _, _ in measures})
        return result

    def compact(self) -> None:
        """Drop the raw points that no later round can need."""
        for metric in range(self.metrics):
            times = self._times(metric)
            if not times:
                continue
            floor = int(self.policy.raw_floors(np.array([times[-1]]))[0])
            dropped = [timestamp for timestamp in times if timestamp < floor]
            if self.policy.has_rate:
                dropped = dropped[:-1]
            for timestamp in dropped:
                del self.raw[metric, timestamp]

    def _times(self, metric: int) -> list[int]:
        return sorted(timestamp for owner, timestamp in self.raw if owner == metric)

    def _known(self, metric: int, needed: int, way: str) -> tuple[Measures, int]:
        window = self.windows.get(metric)
        if way == "cache" and window is not None and window.complete_from <= needed:
            return window.points, window.newest
        times = self._times(metric)
        wanted = [timestamp for timestamp in times if timestamp >= needed]
        if self.policy.has_rate:
            wanted = [timestamp for timestamp in times if timestamp < needed][-1:] + wanted
        newest = max(times, default=NONE)
        if way == "blind" and (not wanted or wanted[-1] < needed):
            newest = NONE
        if way == "everything":
            wanted = times
        return [(metric, timestamp, self.raw[metric, timestamp]) for timestamp in wanted], newest

    def _write(self, result: Rollup) -> None:
        for metric, timestamp, value in as_rows(result.raw):
            self.raw[metric, timestamp] = value
        for granularity, rows in result.aggregates.items():
            absent = {method: is_absent(column) for method, column in rows.columns.items()}
            for position, metric in enumerate(rows.index.tolist()):
                bucket = int(rows.timestamps[position])
                stored = self.cells.setdefault(granularity, {}).setdefault(metric, {})
                stored[bucket] = {
                    method: float(column[position])
                    for method, column in rows.columns.items()
                    if not absent[method][position]
                }

    def _remember(self, result: Rollup, seen: set[int]) -> None:
        for metric in seen:
            self.windows[metric] = Remembered(
                points=[row for row in as_rows(result.window) if row[0] == metric],
                complete_from=int(result.cache_from[metric]),
                newest=int(result.newest[metric]),
            )
