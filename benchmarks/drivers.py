"""How many requests a cycle costs each backend, for more and more metrics.

    python -m benchmarks.drivers [backend ...] [--metrics N ...] [--sacks S] [--cycles C]

A cycle is one request with a point for every metric, and the round that processes it. Prints the
median number of requests of a cycle by what they are for, and the number of SQL statements, and
compares each total with that for the fewest metrics: the ratio must stay 1, since cost is by sack
and segment and not by metric.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from benchmarks.backends import BACKENDS
from gnocchi import config, model, service
from gnocchi.archive_policy import DEFAULT_POLICIES
from gnocchi.engine import compact, process, push
from gnocchi.indexer import catalog, metrics, policies
from gnocchi.indexer.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.backends import Backend
    from gnocchi.service import Services

NS = 10**9
START = 1_700_000_000 * NS
STEPS = ("add", "look", "round", "merge")


def deployment(backend: Backend, directory: Path, sacks: int) -> Services:
    """Everything upgraded, on an SQLite of its own."""
    file = directory / "gnocchi.conf"
    lines = [f"{name} = {value}" for name, value in backend.options.items()]
    file.write_text("\n".join(["[storage]", *lines, ""]))
    conf = config.prepare([], "benchmarks", files=[str(file)], middleware=False)
    db = Database(f"sqlite:///{directory}/index.db", sync=False)
    db.upgrade()
    catalog.create_sacks(db, sacks)
    made = service.Services(
        conf, db, service.load_storage(conf), service.load_incoming(conf, sacks)
    )
    made.storage.upgrade()
    made.incoming.upgrade()
    policies.seed(db, DEFAULT_POLICIES, [])
    return made


def create(services: Services, number: int) -> np.ndarray:
    """Make metrics; return their ids, ascending."""
    policy = policies.get(services.db, "medium")
    made = [
        model.Metric(uuid.uuid4(), policy, "benchmark", None, None, None) for _ in range(number)
    ]
    metrics.create_many(services.db, made)
    return np.sort(np.frombuffer(b"".join(metric.id.bytes for metric in made), "V16"))


class Statements:
    """Counts SQL statements."""

    def __init__(self) -> None:
        self.count = 0
        sa.event.listen(sa.Engine, "before_cursor_execute", self._seen)

    def _seen(self, *_: object) -> None:
        self.count += 1


def cycle(
    services: Services, worker: process.Worker, ids: np.ndarray, number: int
) -> list[tuple[str, Callable[[], object]]]:
    """What happens in a cycle, step by step."""
    counts = np.ones(len(ids), np.int64)
    timestamps = np.full(len(ids), START + number * 60 * NS)
    values = np.random.default_rng(number).random(len(ids))
    return [
        ("add", lambda: push.add(services, ids, counts, timestamps, values)),
        ("look", services.incoming.waiting),
        ("round", lambda: worker.work(range(services.sacks))),
        ("merge", lambda: compact.run_once(services, fan_in=8)),
    ]


def measure(backend: Backend, services: Services, number: int, cycles: int) -> dict[str, float]:
    """Requests of each step, SQL statements and wall milliseconds of a cycle: medians."""
    ids, worker, statements = create(services, number), process.Worker(services), Statements()
    found: dict[str, list[float]] = {name: [] for name in (*STEPS, "SQL", "ms")}
    for turn in range(cycles + 2):
        before, spent = statements.count, 0.0
        for name, step in cycle(services, worker, ids, turn):
            requests = backend.requests()
            began = time.perf_counter()
            step()
            spent += time.perf_counter() - began
            if turn >= 2:  # the first ones load and connect
                found[name].append(backend.requests() - requests)
        if turn >= 2:
            found["SQL"].append(statements.count - before)
            found["ms"].append(1e3 * spent)
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backends", nargs="*", metavar="backend", help=", ".join(BACKENDS))
    parser.add_argument("--metrics", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--sacks", type=int, default=16)
    parser.add_argument("--cycles", type=int, default=7)
    options = parser.parse_args()
    columns = (*STEPS, "all", "SQL", "ms")
    print(f"{'':24}" + "".join(f"{name:>8}" for name in columns) + "   ratio")
    for name in options.backends or BACKENDS:
        with BACKENDS[name]() as backend:
            print(f"{name}: {backend.unit}, {options.sacks} sacks")
            fewest = None
            for number in options.metrics:
                with tempfile.TemporaryDirectory() as directory:
                    services = deployment(backend, Path(directory), options.sacks)
                    found = measure(backend, services, number, options.cycles)
                    services.db.close()
                found["all"] = sum(found[step] for step in STEPS)
                fewest = fewest or found["all"]
                figures = "".join(f"{found[column]:8.0f}" for column in columns)
                print(f"  {number:7} metrics       {figures}{found['all'] / fewest:8.2f}")


if __name__ == "__main__":
    main()
