"""What a metric should show, recomputed in plain Python from every point it ever accepted.

No arrays, no windows, no increments: this is the specification that ``rollup`` is held to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gnocchi.archive_policy import ArchivePolicy

Cells = dict[int, dict[str, float]]


def apply(method: str, values: list[float]) -> float | None:
    """Reduce values in time order as the formulas say; None where there is no aggregate."""
    number = len(values)
    ranked = sorted(values, key=lambda value: (math.isnan(value), value))
    if number == 0 or (method == "std" and number == 1):
        return None
    if method.endswith("pct"):
        rank = (number - 1) * int(method[:-3]) / 100
        low, high = math.floor(rank), math.ceil(rank)
        if low == high or ranked[low] == ranked[high]:
            return ranked[low]
        return ranked[low] * (high - rank) + ranked[high] * (rank - low)
    mean = sum(values) / number
    return {
        "mean": lambda: mean,
        "sum": lambda: sum(values),
        "count": lambda: float(number),
        "min": lambda: ranked[0],
        "max": lambda: ranked[-1],
        "first": lambda: values[0],
        "last": lambda: values[-1],
        "median": lambda: (ranked[(number - 1) // 2] + ranked[number // 2]) / 2,
        "std": lambda: math.sqrt(sum((value - mean) ** 2 for value in values) / (number - 1)),
    }[method]()


@dataclass
class Metric:
    """One metric: its accepted points, and how many measures met which fate."""

    policy: ArchivePolicy
    points: dict[int, float] = field(default_factory=dict)

    def post(self, batch: list[tuple[int, float]], limit: int | None) -> dict[str, int]:
        """Accept what is not before the limit, which was fixed before the batch."""
        fate = {"accepted": 0, "too_old": 0, "not_a_number": 0}
        for timestamp, value in batch:
            if math.isnan(value):
                fate["not_a_number"] += 1
            elif limit is not None and timestamp < limit:
                fate["too_old"] += 1
            else:
                fate["accepted"] += 1
                self.points[timestamp] = value
        return fate

    def limit(self) -> int | None:
        """Return the earliest time accepted, for a policy that never changed."""
        if not self.points:
            return None
        block = max(item.granularity for item in self.policy.definition)
        rate = any(method.startswith("rate:") for method in self.policy.aggregation_methods)
        return max(self.points) // block * block - block * (self.policy.back_window + rate)

    def aggregates(self, granularity: int) -> Cells:
        """Return every aggregate of every bucket, the expired ones included."""
        ordered = sorted(self.points.items())
        differences = [
            (timestamp, value - before) for (_, before), (timestamp, value) in pairwise(ordered)
        ]
        cells: Cells = {}
        for method in self.policy.aggregation_methods:
            source = differences if method.startswith("rate:") else ordered
            for bucket, values in _group(source, granularity).items():
                result = apply(method.removeprefix("rate:"), values)
                if result is not None:
                    cells.setdefault(bucket, {})[method] = result
        return cells


def _group(points: list[tuple[int, float]], granularity: int) -> dict[int, list[float]]:
    groups: dict[int, list[float]] = {}
    for timestamp, value in points:
        groups.setdefault(timestamp - timestamp % granularity, []).append(value)
    return groups
