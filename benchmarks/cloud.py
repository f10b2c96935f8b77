"""Send what a cloud would send, check everything that is read back, and print what it cost.

``python -m benchmarks.cloud --instances 100 --cycles 90`` runs the installed commands on a free
port with a temporary directory. Every cycle is posted in batches over HTTP, and processed before
the next one is posted, so that it is certain which late points are too old. At the end every
aggregate of every metric is read through HTTP and compared with `benchmarks.oracle`; one
difference makes the exit status 1.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks import bodies, usage
from benchmarks.generator import METERS, Cloud
from benchmarks.oracle import BRIEF, METHODS, Expected, compare
from benchmarks.running import running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.generator import Points
    from benchmarks.running import Site
    from tests.acceptance.client import Client

POLL_S = 0.01
READERS = 2
SHOWN = 5  # differences that are printed


@dataclass
class Load:
    """What was sent, and what that cost."""

    cycles: list[Points] = field(default_factory=list)
    requests: int = 0
    post_s: float = 0.0
    api_cpu_s: float = 0.0
    lags_s: list[float] = field(default_factory=list)

    @property
    def points(self) -> int:
        """How many points were sent."""
        return sum(len(points.metric) for points in self.cycles)


def create(site: Site, cloud: Cloud) -> list[str]:
    """Make archive policies and metrics through the API; return the ids of the metrics."""
    definition = [{"granularity": g, "points": p} for g, p in BRIEF.definition]
    document = {"name": BRIEF.name, "back_window": BRIEF.back_window, "definition": definition}
    site.client.create("/v1/archive_policy", document)
    ids = []
    for number in range(cloud.metrics):
        meter = METERS[number % len(METERS)]
        document = {
            "name": f"{meter.name}-{number // len(METERS)}",
            "unit": meter.unit,
            "archive_policy_name": meter.policy,
        }
        ids.append(str(site.client.create("/v1/metric", document)["id"]))
    return ids


def send(site: Site, cloud: Cloud, ids: Sequence[str], cycles: int, batch: int) -> Load:
    """Post so many cycles, each when the one before has been processed."""
    load = Load()
    for _ in range(cycles):
        points = cloud.cycle()
        requests = bodies.batches(ids, points, batch)
        load.cycles.append(points)
        load.requests += len(requests)
        before, began = usage.cpu_s(site.api), time.monotonic()
        for request in requests:
            posted = time.monotonic()
            site.client.push(request)
        load.post_s += time.monotonic() - began
        load.api_cpu_s += usage.cpu_s(site.api) - before
        load.lags_s.append(_until_visible(site.client, ids, points) - posted)
        site.drain()
    return load


def _until_visible(client: Client, ids: Sequence[str], points: Points) -> float:
    """Wait until the last point of the last request can be read; return when that was."""
    metric, stamp, value = ids[points.metric[-1]], points.timestamps[-1], points.values[-1]
    start = int(stamp) // 10**9
    while True:
        found = client.measures(metric, start=start, aggregation="max", granularity=60)
        if found and found[0][2] >= value:
            return time.monotonic()
        time.sleep(POLL_S)


def check(site: Site, ids: Sequence[str], expected: Expected) -> list[str]:
    """Read every aggregate of every metric; return what differs."""

    def some(first: int) -> list[str]:
        client = site.installation.client()
        found = []
        for number in range(first, len(ids), READERS):
            for method in METHODS:
                measures = client.measures(ids[number], aggregation=method)
                differs = compare(expected.series(number, method), measures)
                if differs is not None:
                    meter = METERS[number % len(METERS)].name
                    found.append(f"{ids[number]} ({meter}) {method}: {differs}")
        client.close()
        return found

    with ThreadPoolExecutor(READERS) as pool:
        return [line for found in pool.map(some, range(READERS)) for line in found]


def report(site: Site, load: Load, expected: Expected, started_s: float) -> None:
    """Print what the load cost."""
    points = load.points
    metricd_cpu_s = usage.cpu_s(site.metricd) - started_s
    lags = sorted(load.lags_s)
    print(f"{points} points in {load.requests} requests, {len(load.cycles)} cycles")
    print(f"  posted              {points / load.post_s:12,.0f} points a second (one client)")
    print(
        f"  lag                 {statistics.median(lags):12.2f} s median, "
        f"{lags[int(0.95 * len(lags))]:.2f} s 95 %, {lags[-1]:.2f} s longest"
    )
    for name, cpu_s in (("API", load.api_cpu_s), ("metricd", metricd_cpu_s)):
        print(
            f"  CPU of {name:12} {cpu_s / points * 1e6:12.1f} µs a point, "
            f"{points / max(cpu_s, 1e-9):,.0f} points a CPU second"
        )
    for command in (site.api, site.metricd):
        used, moved = usage.memory(command), usage.transfer(command)
        print(
            f"  {command.name:19} {used.pss / usage.MIB:12.0f} MiB PSS, "
            f"{used.rss / usage.MIB:.0f} MiB RSS; {moved.reads} reads, {moved.writes} writes, "
            f"{moved.written / usage.MIB:.0f} MiB written"
        )
    stored = site.stored()
    print(f"  stored              {stored.segments:12} segments of {stored.bytes:,} bytes")
    print(f"  files               {stored.files:12} of {stored.file_bytes:,} bytes, all told")
    print(f"  size                {stored.bytes / points:12.2f} bytes a point sent")
    print(
        f"                      {stored.bytes / expected.values:12.2f} bytes an aggregate value, "
        f"{expected.values:,} of them"
    )


def run(instances: int, cycles: int, batch: int, seed: int) -> int:
    """Run everything; return the exit status."""
    cloud = Cloud(instances, seed=seed)
    with running() as site:
        began = time.monotonic()
        ids = create(site, cloud)
        print(f"{len(ids)} metrics were made in {time.monotonic() - began:.1f} s")
        started_s = usage.cpu_s(site.metricd)
        load = send(site, cloud, ids, cycles, batch)
        site.settle()
        expected = Expected(load.cycles, cloud.policies())
        report(site, load, expected, started_s)

        before, began = usage.cpu_s(site.api), time.monotonic()
        differences = check(site, ids, expected)
        took, reads = time.monotonic() - began, len(ids) * len(METHODS)
        cpu_ms = (usage.cpu_s(site.api) - before) / reads * 1e3
        print(f"  reads               {reads:12} in {took:.1f} s, {cpu_ms:.2f} ms CPU each")
        summary = site.client.summary()
        if summary["refused"]["too_old"] != expected.refused or summary["damaged"]:
            differences.append(f"{summary} instead of {expected.refused} points too old")
        for line in differences[:SHOWN]:
            print(line)
        verdict = "as they must be" if not differences else f"{len(differences)} DIFFER"
        print(f"  series              {reads:12} read back: {verdict}")
        print(f"  too old             {expected.refused:12} points")
    return 1 if differences else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cloud", description=__doc__)
    parser.add_argument("--instances", type=int, default=100, help="virtual machines")
    parser.add_argument("--cycles", type=int, default=90, help="polls of every meter, a minute")
    parser.add_argument("--batch", type=int, default=1000, help="metrics in a request")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    return run(options.instances, options.cycles, options.batch, options.seed)


if __name__ == "__main__":
    sys.exit(main())
