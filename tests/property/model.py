"""What the stored aggregates of one metric must be, computed the slow and obvious way.

Plain Python over all points that were ever accepted; it shares no code with the program.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

S = 1_000_000_000


@dataclass(frozen=True)
class Policy:
    """granularities: (granularity ns, timespan ns or None) in any order."""

    granularities: tuple[tuple[int, int | None], ...]
    back_window: int
    methods: tuple[str, ...]

    @property
    def block(self) -> int:
        return max(g for g, _ in self.granularities)

    @property
    def window(self) -> int:
        return self.back_window + any(m.startswith("rate:") for m in self.methods)


def aggregate(method: str, values: list[float]) -> float | None:
    """One aggregate of the values of a bucket in time order; None if there is none."""
    n, ordered = len(values), sorted(values)
    if method == "count":
        return float(n)
    if method == "sum":
        return math.fsum(values)
    if method == "mean":
        return math.fsum(values) / n
    if method == "first":
        return values[0]
    if method == "last":
        return values[-1]
    if method == "min":
        return ordered[0]
    if method == "max":
        return ordered[-1]
    if method == "std":
        if n == 1:
            return None
        mean = math.fsum(values) / n
        return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    percent = 50 if method == "median" else int(method.removesuffix("pct"))
    rank = (n - 1) * percent / 100
    low, high = math.floor(rank), math.ceil(rank)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


@dataclass
class Metric:
    """A metric's accepted points, and what must be readable of them."""

    policy: Policy
    points: dict[int, float] = field(default_factory=dict)
    refused: int = 0
    accepted: int = 0

    def batch(self, points: list[tuple[int, float]]) -> None:
        """Take in the points of one round in order of arrival."""
        limit = None
        if self.points:
            block = self.policy.block
            newest = max(self.points)
            limit = newest - newest % block - block * self.policy.window
        for timestamp, value in points:
            if limit is not None and timestamp < limit:
                self.refused += 1
            else:
                self.accepted += 1
                self.points[timestamp] = value

    def series(self, method: str, granularity: int, timespan: int | None) -> dict[int, float]:
        """The aggregates a reader must get, by start of bucket."""
        buckets: dict[int, list[float]] = {}
        if method.startswith("rate:"):
            times = sorted(self.points)
            for before, at in itertools.pairwise(times):
                difference = self.points[at] - self.points[before]
                buckets.setdefault(at - at % granularity, []).append(difference)
        else:
            for at in sorted(self.points):
                buckets.setdefault(at - at % granularity, []).append(self.points[at])
        worth = {
            at: value
            for at, values in buckets.items()
            if (value := aggregate(method.removeprefix("rate:"), values)) is not None
        }
        if timespan is not None and worth:
            newest = max(worth)
            worth = {at: value for at, value in worth.items() if at > newest - timespan}
        return worth
