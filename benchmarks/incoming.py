"""What it costs to make one request durable: a file a request, or a file a sack?

    python -m benchmarks.incoming [--requests N] [--metrics M] [--sacks S] [--directory D]

Prints, for requests of M metrics with one point each, the wall and the CPU time of a request when
every sack's share is a file of its own (the reference), and when the request is one file, as the
file driver does it; then the CPU time of taking and discarding them again, by one worker for all
sacks at once and for each sack on its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from gnocchi.drivers.file import Directory, FileIncoming
from gnocchi.segments import batch

if TYPE_CHECKING:
    from collections.abc import Callable


def request(metrics: int) -> batch.Points:
    """Points of one request: one for each of ``metrics`` random metrics."""
    return batch.Points(
        np.frombuffer(os.urandom(16 * metrics), batch.ID),
        np.ones(metrics, np.int64),
        np.full(metrics, time.time_ns()),
        np.random.default_rng().random(metrics),
    )


def measure(action: Callable[[], object], times: int) -> tuple[float, float]:
    """Median wall and mean CPU milliseconds of an action."""
    walls = []
    cpu = time.process_time()
    for _ in range(times):
        began = time.perf_counter()
        action()
        walls.append(time.perf_counter() - began)
    return 1e3 * statistics.median(walls), 1e3 * (time.process_time() - cpu) / times


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--metrics", type=int, default=1000)
    parser.add_argument("--sacks", type=int, default=16)
    parser.add_argument("--directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as base:
        conf = SimpleNamespace(file_basepath=base, file_sync=True)
        incoming = FileIncoming(conf, options.sacks)
        incoming.upgrade()
        directory = Directory(base, sync=True)
        sacks = [Path(base) / "reference" / str(sack) for sack in range(options.sacks)]
        directory.make(*sacks)
        points = request(options.metrics)
        serial = iter(range(1 << 30))

        def a_file_a_sack() -> None:
            for sack, share in batch.by_sack(points, options.sacks).items():
                directory.write(sacks[sack] / str(next(serial)), batch.encode({sack: share}))

        reference = measure(a_file_a_sack, options.requests)
        chosen = measure(lambda: incoming.add(points), options.requests)
        print(f"a file a sack:    {reference[0]:8.2f} ms wall {reference[1]:8.3f} ms CPU")
        print(f"a file a request: {chosen[0]:8.2f} ms wall {chosen[1]:8.3f} ms CPU")
        print(
            f"ratio:            {reference[0] / chosen[0]:8.1f}    {reference[1] / chosen[1]:8.1f}"
        )
        total = options.requests * options.metrics

        def drain(groups: list[list[int]]) -> None:
            for group in groups:
                incoming.discard(incoming.take(group, 1 << 40))

        everything = list(range(options.sacks))
        together = measure(lambda: drain([everything]), 1)[1]
        for _ in range(options.requests):
            incoming.add(points)
        one_by_one = measure(lambda: drain([[sack] for sack in everything]), 1)[1]
        print(f"take, all sacks at once: {1e3 * together / total:.3f} µs CPU a point")
        print(f"take, sack by sack:      {1e3 * one_by_one / total:.3f} µs CPU a point")


if __name__ == "__main__":
    main()
