"""Measures as a cloud makes them: instances with the usual meters, polled in cycles.

Counters grow by what was used, gauges wander, constants stay. Polls come at a steady pace with
some jitter; a few points come late (some of them by more than an hour), come twice, or come again
with another value. The same arguments give the same points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NS = 10**9
US = 1000  # ns; timestamps are whole microseconds, as telemetry agents send them

COUNTER, GAUGE, CONSTANT = "counter", "gauge", "constant"
# 2026-01-01T00:20:00Z: the first hour ends after 40 minutes
START_S = 1_767_226_800


class Meter(NamedTuple):
    """What is measured of every instance.

    scale: mean increase a second of a counter, mean of a gauge, unit of a constant.
    grain: values are whole multiples of it; 0 means that they are not rounded.
    """

    name: str
    unit: str
    kind: str
    policy: str
    scale: float
    grain: float


METERS = (
    Meter("cpu", "ns", COUNTER, "medium", 2e8, 1e7),
    Meter("cpu_util", "%", GAUGE, "medium", 20, 0),
    Meter("vcpus", "vcpu", CONSTANT, "low", 1, 1),
    Meter("memory", "MB", CONSTANT, "low", 1024, 1),
    Meter("memory.usage", "MB", GAUGE, "medium", 1500, 1),
    Meter("memory.resident", "MB", GAUGE, "medium", 2000, 1),
    Meter("disk.root.size", "GB", CONSTANT, "low", 20, 1),
    Meter("disk.ephemeral.size", "GB", CONSTANT, "low", 10, 1),
    Meter("disk.read.bytes", "B", COUNTER, "medium", 3e4, 512),
    Meter("disk.read.requests", "request", COUNTER, "medium", 2, 1),
    Meter("disk.write.bytes", "B", COUNTER, "medium", 9e4, 512),
    Meter("disk.write.requests", "request", COUNTER, "medium", 8, 1),
    Meter("disk.usage", "B", GAUGE, "medium", 4e9, 4096),
    Meter("disk.latency", "ms", GAUGE, "medium", 2, 0),
    Meter("disk.iops", "count/s", GAUGE, "medium", 10, 0),
    Meter("network.incoming.bytes", "B", COUNTER, "medium", 5e4, 1),
    Meter("network.outgoing.bytes", "B", COUNTER, "medium", 2e4, 1),
    Meter("network.incoming.packets", "packet", COUNTER, "brief", 60, 1),
    Meter("network.outgoing.packets", "packet", COUNTER, "brief", 30, 1),
    Meter("network.incoming.bytes.rate", "B/s", GAUGE, "brief", 5e4, 0),
)

LATE = 0.02  # of the points come in a later cycle
VERY_LATE = 0.1  # of those after more than an hour
REPEATED = 0.02  # of the points come again in the next cycle
CORRECTED = 0.25  # of those with another value


class Points(NamedTuple):
    """Points in the order they are sent; those of one metric are consecutive.

    metric: ``(n,)`` int64, instance times the number of meters plus the meter.
    timestamps: ``(n,)`` int64 ns. values: ``(n,)`` float64.
    """

    metric: np.ndarray
    timestamps: np.ndarray
    values: np.ndarray

    def select(self, chosen: np.ndarray) -> Points:
        """Return some of the points, by a mask or by positions."""
        return Points(self.metric[chosen], self.timestamps[chosen], self.values[chosen])

    @classmethod
    def concatenate(cls, parts: list[Points]) -> Points:
        """Join points one after the other."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class Cloud:
    """The instances and their state. Cycles must be asked for in order."""

    def __init__(self, instances: int, *, seed: int = 1, interval_s: int = 60) -> None:
        self._random = np.random.default_rng(seed)
        self._interval_s = interval_s
        self._instances = instances
        self.metrics = instances * len(METERS)
        shape = (instances, len(METERS))
        # a third of the instances do next to nothing
        busy = self._random.lognormal(0, 1, instances)
        busy[self._random.random(instances) < 0.33] *= 0.001
        self._busy = busy[:, None]
        self._scale = np.array([meter.scale for meter in METERS])
        self._grain = np.array([meter.grain for meter in METERS])
        self._kind = np.array([meter.kind for meter in METERS])
        flavor = 2.0 ** self._random.integers(0, 4, instances)[:, None]
        self._level = np.where(self._kind == CONSTANT, self._scale * flavor, 0.0)
        started = self._scale * self._random.integers(60, 10**6, shape)
        self._level = np.where(self._kind == COUNTER, started * self._busy, self._level)
        self._phase_us = self._random.integers(0, 50 * 10**6, instances)
        self._waiting: list[tuple[int, Points]] = []
        self._sent = Points(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        self._number = 0

    def policies(self) -> list[str]:
        """Return the archive policy of every metric."""
        return [METERS[number % len(METERS)].policy for number in range(self.metrics)]

    def cycle(self) -> Points:
        """Return what is sent in the next cycle."""
        fresh = self._poll()
        late = self._random.random(len(fresh.metric)) < LATE
        self._hold(fresh.select(late))
        fresh = fresh.select(~late)
        due = [points for cycle, points in self._waiting if cycle <= self._number]
        self._waiting = [(c, points) for c, points in self._waiting if c > self._number]
        sent = Points.concatenate([*due, self._again(), fresh])
        self._sent = fresh
        self._number += 1
        return sent.select(np.argsort(sent.metric, kind="stable"))

    def _poll(self) -> Points:
        shape = (self._instances, len(METERS))
        noise = self._random.lognormal(0, 0.5, shape)
        used = self._scale * self._busy * noise
        self._level += np.where(self._kind == COUNTER, used * self._interval_s, 0.0)
        steady = 0.9 * self._level + 0.1 * used
        self._level = np.where(self._kind == GAUGE, steady, self._level)
        rounded = np.round(self._level / np.maximum(self._grain, 1e-300)) * self._grain
        values = np.where(self._grain > 0, rounded, self._level)
        jitter_us = self._random.normal(0, 3e6, self._instances).astype(np.int64)
        at_us = (START_S + self._number * self._interval_s) * 10**6 + self._phase_us + jitter_us
        return Points(
            np.arange(self.metrics), np.repeat(at_us * US, len(METERS)), values.ravel().copy()
        )

    def _hold(self, points: Points) -> None:
        """Keep points back for some cycles."""
        delay = self._random.integers(1, 6, len(points.metric))
        long = self._random.random(len(delay)) < VERY_LATE
        delay[long] += 3600 // self._interval_s
        for cycles in np.unique(delay):
            self._waiting.append((self._number + int(cycles), points.select(delay == cycles)))

    def _again(self) -> Points:
        """Some points of the last cycle, some of them with another value."""
        again = self._sent.select(self._random.random(len(self._sent.metric)) < REPEATED)
        corrected = self._random.random(len(again.metric)) < CORRECTED
        return again._replace(values=np.where(corrected, again.values + 1, again.values))
