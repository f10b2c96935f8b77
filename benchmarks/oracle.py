"""What must be read back, computed with pandas from everything that was sent.

Nothing of the program under test is used. The rules: a metric takes a point unless it is older
than the bucket of its newest earlier point, at the coarsest granularity, less the back window; of
equal timestamps the last one counts; buckets are aligned on the epoch; each series keeps as many
buckets as its archive policy says, counted from its own newest one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.generator import Points

NS = 10**9
METHODS = ("mean", "min", "max", "sum", "std", "count")


@dataclass(frozen=True, slots=True)
class Policy:
    """An archive policy: granularities in seconds, coarsest first, each with its points."""

    name: str
    back_window: int
    definition: tuple[tuple[int, int], ...]


MEDIUM = Policy("medium", 0, ((3600, 365 * 24), (60, 7 * 24 * 60)))
LOW = Policy("low", 0, ((300, 30 * 24 * 12),))
BRIEF = Policy("brief", 2, ((300, 20), (60, 45)))
POLICIES = {policy.name: policy for policy in (MEDIUM, LOW, BRIEF)}


def table(cycles: Sequence[Points]) -> pd.DataFrame:
    """Return everything that was sent, in order, with the number of its cycle."""
    return pd.DataFrame(
        {
            "metric": np.concatenate([points.metric for points in cycles]),
            "cycle": np.repeat(np.arange(len(cycles)), [len(p.metric) for p in cycles]),
            "timestamp": np.concatenate([points.timestamps for points in cycles]),
            "value": np.concatenate([points.values for points in cycles]),
        }
    )


def accepted(sent: pd.DataFrame, policy: Policy) -> tuple[pd.DataFrame, int]:
    """Return the points that were taken, one per metric and timestamp, in order of time.

    Every cycle has been processed before the next one is sent. The second result is how many
    points were too old.
    """
    block = policy.definition[0][0] * NS
    newest = sent.groupby(["metric", "cycle"])["timestamp"].max()
    before = newest.groupby("metric").cummax().groupby("metric").shift(fill_value=0)
    known = before.reindex(pd.MultiIndex.from_frame(sent[["metric", "cycle"]])).to_numpy()
    limit = known - known % block - policy.back_window * block
    taken = sent[sent["timestamp"].to_numpy() >= limit]
    latest = taken.drop_duplicates(["metric", "timestamp"], keep="last")
    return latest.sort_values(["metric", "timestamp"]), len(sent) - len(taken)


def aggregates(taken: pd.DataFrame, policy: Policy) -> dict[int, pd.DataFrame]:
    """Return by granularity (s) all buckets, with one column a method, sorted by metric and time.

    NaN means that the bucket has no such aggregate, or no longer. ``largest`` is the largest
    absolute value in the bucket, which rounding errors are measured by.
    """
    found = {}
    for granularity, points in policy.definition:
        step = granularity * NS
        bucket = (taken["timestamp"] - taken["timestamp"] % step).rename("bucket")
        groups = taken.groupby([taken["metric"], bucket])["value"]
        table = groups.agg(list(METHODS)).reset_index()
        table["largest"] = np.maximum(table["max"].abs(), table["min"].abs())
        for method in METHODS:
            there = table[method].notna()
            newest = table["bucket"].where(there).groupby(table["metric"]).transform("max")
            table[method] = table[method].where(table["bucket"] > newest - points * step)
        found[granularity] = table[table[list(METHODS)].notna().any(axis=1)]
    return found


class Expected:
    """The aggregates of every metric.

    Attributes:
        values: how many there are: (metric, granularity, bucket, method) that can be asked for.
        refused: how many of the points sent were too old.
    """

    def __init__(self, cycles: Sequence[Points], policies: Sequence[str]) -> None:
        sent = table(cycles)
        of_metric = np.array(policies)
        self.refused = 0
        self.values = 0
        self._policies = list(policies)
        self._tables: dict[str, dict[int, dict[str, np.ndarray]]] = {}
        for name in sorted(set(policies)):
            policy = POLICIES[name]
            own = sent[(of_metric == name)[sent["metric"].to_numpy()]]
            taken, refused = accepted(own, policy)
            self.refused += refused
            tables = aggregates(taken, policy)
            self.values += sum(int(t[list(METHODS)].notna().sum().sum()) for t in tables.values())
            self._tables[name] = {
                granularity: {column: t[column].to_numpy() for column in t.columns}
                for granularity, t in tables.items()
            }

    def series(
        self, metric: int, method: str
    ) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """Return granularity (s), buckets (ns), values and largest values, coarsest first."""
        answer = []
        for granularity, columns in self._tables[self._policies[metric]].items():
            first, last = np.searchsorted(columns["metric"], [metric, metric + 1])
            values = columns[method][first:last]
            there = ~np.isnan(values)
            answer.append(
                (
                    granularity,
                    columns["bucket"][first:last][there],
                    values[there],
                    columns["largest"][first:last][there],
                )
            )
        return answer


def compare(
    expected: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]], measures: list[list[object]]
) -> str | None:
    """Compare one answer of the API with what it should be; return what differs, if anything."""
    rows = sum(len(buckets) for _, buckets, _, _ in expected)
    if len(measures) != rows:
        return f"{len(measures)} aggregates instead of {rows}"
    if not rows:
        return None
    texts, steps, values = zip(*measures, strict=True)
    if not all(str(text).endswith("+00:00") for text in texts):
        return "a timestamp is not in UTC"
    got = np.array([str(text)[:-6] for text in texts], "datetime64[ns]").astype(np.int64)
    if not np.array_equal(got, np.concatenate([buckets for _, buckets, _, _ in expected])):
        return "other buckets"
    if list(steps) != [float(step) for step, buckets, _, _ in expected for _ in buckets]:
        return "other granularities"
    right = np.concatenate([values for _, _, values, _ in expected])
    largest = np.concatenate([largest for _, _, _, largest in expected])
    wrong = np.abs(np.array(values) - right) > 1e-12 * np.abs(right) + 1e-14 * largest
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        return f"{values[first]!r} instead of {right[first]!r} at {texts[first]}"
    return None
