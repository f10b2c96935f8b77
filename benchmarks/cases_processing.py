"""Cases about metricd: throughput, backlog, memory, idleness, and size of what it stores."""

from __future__ import annotations

import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import bodies, reference, usage
from benchmarks.figures import AT_LEAST, Figure
from benchmarks.generator import START_S, Cloud, Points
from benchmarks.oracle import BRIEF, Expected
from benchmarks.running import NS, running, text_ids
from gnocchi.engine import push

if TYPE_CHECKING:
    from benchmarks.running import Site
    from benchmarks.targets import Scale

HOUR = 3600
MINUTE = 60
FULL_HOUR_S = START_S // HOUR * HOUR
FEED_AT_ONCE = 300_000  # points


def load_history(site: Site, ids: np.ndarray, minutes: int) -> int:
    """Process one point a minute for each metric, in a few rounds; return the minute after (s)."""
    rng = np.random.default_rng(1)
    at_once = max(1, FEED_AT_ONCE // len(ids))
    for first in range(0, minutes, at_once):
        some = np.arange(first, min(first + at_once, minutes))
        stamps = (FULL_HOUR_S + some * MINUTE) * NS
        site.feed(ids, stamps, rng.random((len(ids), len(some))))
        site.drain()
    return FULL_HOUR_S + minutes * MINUTE


def steady(scale: Scale) -> list[Figure]:
    """One new point of each metric per cycle, with history: updates per CPU second."""
    metrics, cycles = 5000, scale.choose(30, 8)
    with running() as site:
        ids = site.create(metrics, "medium")
        # The hour is half over: windows hold 30 points in the middle of the cycles.
        hours = scale.choose(6, 1)
        now = load_history(site, ids, hours * MINUTE + 30 - cycles // 2)
        site.settle()
        site.quiet()
        names = text_ids(ids)
        rng = np.random.default_rng(2)
        metricd, posting = usage.cpu_s(site.metricd), 0.0
        for cycle in range(cycles):
            values = np.round(rng.random((metrics, 1)) * 100, 3)
            stamps = bodies.timestamps(np.array([(now + cycle * MINUTE) * NS]))
            before = usage.cpu_s(site.api)
            for first in range(0, metrics, 1000):
                some = slice(first, first + 1000)
                site.client.push(bodies.table(names[some], stamps, values[some]))
            posting += usage.cpu_s(site.api) - before
            site.drain()
        rounds = usage.cpu_s(site.metricd) - metricd
        site.settle()
        metricd = usage.cpu_s(site.metricd) - metricd
    updates = metrics * cycles
    began = time.process_time()
    for _ in range(5):
        reference.reduce(metrics, 30)
        reference.reduce(metrics, 1)
    bare = metrics * 5 / (time.process_time() - began)
    return [
        Figure("steady: metricd with merges", updates / metricd, "updates/CPU s", 20_000, AT_LEAST),
        Figure("steady: metricd, until drained", updates / max(rounds, 0.01), "updates/CPU s"),
        Figure("steady: API", updates / max(posting, 0.01), "measures/CPU s"),
        Figure("steady: numpy alone, two granularities", bare, "updates/CPU s"),
    ]


def bulk(scale: Scale) -> list[Figure]:
    """A backlog of large batches: measures per CPU second."""
    metrics, points = scale.choose(2000, 500), 500
    with running() as site:
        ids = site.create(metrics, "low")
        names, rng = text_ids(ids), np.random.default_rng(1)
        stamps = [FULL_HOUR_S + position * MINUTE for position in range(points)]
        api = usage.cpu_s(site.api)
        with site.paused():
            for first in range(0, metrics, 100):
                some = names[first : first + 100]
                values = np.round(rng.random((len(some), points)) * 100, 3)
                site.client.push(bodies.table(some, stamps, values))
            api = usage.cpu_s(site.api) - api
            metricd, began = usage.cpu_s(site.metricd), time.monotonic()
        site.drain()
        took = time.monotonic() - began
        rounds = usage.cpu_s(site.metricd) - metricd
        site.settle()
        metricd = usage.cpu_s(site.metricd) - metricd
    total = metrics * points
    return [
        Figure("bulk: metricd with merges", total / metricd, "measures/CPU s", 500_000, AT_LEAST),
        Figure("bulk: metricd, until drained", total / rounds, "measures/CPU s"),
        Figure("bulk: until drained", total / took, "measures/s (wall)"),
        Figure("bulk: API, 100 metrics × 500 points", total / api, "measures/CPU s"),
    ]


def memory(scale: Scale) -> list[Figure]:
    """metricd with many metrics that have an hour of raw points each."""
    metrics, cycles = scale.choose(20_000, 20_000), scale.choose(10, 3)
    with running() as site:
        ids = site.create(metrics, "medium")
        with usage.Peak(site.metricd, every_s=0.1) as loading:
            now = load_history(site, ids, 59 - cycles)
        rng = np.random.default_rng(2)
        with usage.Peak(site.metricd, every_s=0.1) as peak:
            for cycle in range(cycles):
                stamps = np.array([(now + cycle * MINUTE) * NS])
                site.feed(ids, stamps, rng.random((metrics, 1)))
                site.drain()
            site.settle()
        rest = usage.memory(site.metricd)
    limit = 300.0
    return [
        Figure("memory: cycles, PSS, highest", peak.memory.pss / usage.MIB, "MiB", limit),
        Figure("memory: cycles, RSS, highest", peak.memory.rss / usage.MIB, "MiB", limit),
        *(
            Figure(f"memory: {_short(title)}, PSS, highest", used.pss / usage.MIB, "MiB")
            for title, used in sorted(peak.each.items())
        ),
        Figure(
            "memory: backlog before, PSS, highest", loading.memory.pss / usage.MIB, "MiB", limit
        ),
        Figure("memory: at rest, PSS", rest.pss / usage.MIB, "MiB"),
        Figure("memory: at rest, RSS", rest.rss / usage.MIB, "MiB"),
    ]


def _short(title: str) -> str:
    """The part of a process's title that tells it from others of its command."""
    return title.partition(": ")[2].partition(" [")[0] or title


def idle(scale: Scale) -> list[Figure]:
    """Nothing arrives: CPU of both commands."""
    seconds = scale.choose(30, 10)
    with running() as site:
        ids = site.create(1000, "medium")
        load_history(site, ids, 30)
        site.settle()
        site.quiet()
        metricd, api, began = usage.cpu_s(site.metricd), usage.cpu_s(site.api), time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        metricd = (usage.cpu_s(site.metricd) - metricd) / took
        api = (usage.cpu_s(site.api) - api) / took
    return [
        Figure("idle: metricd", metricd * 100, "% of a core", 1.0),
        Figure("idle: API", api * 100, "% of a core"),
    ]


def size(scale: Scale) -> list[Figure]:
    """A day of the cloud of `benchmarks.cloud`: bytes per aggregate value that can be read."""
    instances, cycles = scale.choose(100, 50), scale.choose(1440, 240)
    cloud = Cloud(instances)
    sent: list[Points] = []
    with running() as site:
        definition = [{"granularity": g, "points": p} for g, p in BRIEF.definition]
        document = {"name": BRIEF.name, "back_window": BRIEF.back_window, "definition": definition}
        site.client.create("/v1/archive_policy", document)
        names = cloud.policies()
        ids = np.empty(cloud.metrics, "V16")
        for name in sorted(set(names)):
            own = np.array([policy == name for policy in names])
            ids[own] = site.create(int(own.sum()), name)
        for _ in range(cycles):
            points = cloud.cycle()
            sent.append(points)
            feed_points(site, ids, points)
            if len(sent) % 20 == 0:
                site.drain()
        expected = Expected(sent, names)
        site.settle()
        usual = site.stored()
        # What is left to merge is merged once more, to see what the layers cost.
        site.metricd.stop()
        site.installation.configure({"metricd": {"compaction_fan_in": 2}})
        site.metricd.start_until_working(1)
        site.settle()
        merged = site.stored()
    total = sum(len(points.metric) for points in sent)
    return [
        Figure("size: as merges leave it", usual.bytes / expected.values, "bytes/value", 3.0),
        Figure("size: merged into one", merged.bytes / expected.values, "bytes/value", 3.0),
        Figure("size: as merges leave it", usual.bytes / total, "bytes/point sent"),
        Figure("size: values", expected.values, "values"),
        Figure("size: segments", usual.segments, "segments"),
    ]


def feed_points(site: Site, ids: np.ndarray, points: Points) -> None:
    """Accept points of a cycle; ``ids`` in the order that metrics are numbered."""
    firsts = np.flatnonzero(np.diff(points.metric, prepend=-1))
    counts = np.diff(firsts, append=len(points.metric))
    push.add(site.services, ids[points.metric[firsts]], counts, points.timestamps, points.values)


# ------------------------------------------------------------------ backlog


def backlog(scale: Scale) -> list[Figure]:
    """Millions of points wait, new ones keep coming and readers keep asking."""
    metrics = 5000
    per_metric = max(2, scale.points // metrics)
    with running(metricd=False) as site:
        ids = site.create(metrics, "low")
        rng = np.random.default_rng(1)
        at_once = max(1, FEED_AT_ONCE // metrics)
        for first in range(0, per_metric, at_once):
            some = np.arange(first, min(first + at_once, per_metric))
            stamps = (FULL_HOUR_S + some * 15) * NS
            site.feed(ids, stamps, rng.integers(0, 100, (metrics, len(some))).astype(float))
        waiting = site.client.summary()["points"]
        newest = FULL_HOUR_S + per_metric * 15
        began = time.monotonic()
        site.metricd.start()
        with usage.Peak(site.metricd) as peak, ThreadPoolExecutor(1) as pool:
            ended = threading.Event()
            others = pool.submit(_meanwhile, site, ids, newest, ended)
            site.drain(scale.limit_s)
            took = time.monotonic() - began
            ended.set()
            posts, gets, sent = others.result()
            site.drain()
        cpu_s = usage.cpu_s(site.metricd)
        _count(site, ids, per_metric, sent)
    return [
        Figure("backlog: points", waiting, "points"),
        Figure("backlog: drained", waiting / took, "points/s (wall)"),
        Figure("backlog: metricd", waiting / cpu_s, "points/CPU s"),
        Figure("backlog: metricd, PSS, highest", peak.memory.pss / usage.MIB, "MiB", 1000),
        Figure("backlog: metricd, RSS, highest", peak.memory.rss / usage.MIB, "MiB"),
        Figure("backlog: POST meanwhile, median", statistics.median(posts) * 1e3, "ms"),
        Figure("backlog: POST meanwhile, longest", max(posts) * 1e3, "ms", 5000),
        Figure("backlog: GET meanwhile, median", statistics.median(gets) * 1e3, "ms"),
        Figure("backlog: GET meanwhile, longest", max(gets) * 1e3, "ms", 5000),
    ]


def _meanwhile(
    site: Site, ids: np.ndarray, newest: int, ended: threading.Event
) -> tuple[list[float], list[float], int]:
    """Post a point of some metrics and read one, again and again; return how long that took."""
    client, names = site.installation.client(), text_ids(ids)
    posts: list[float] = []
    gets: list[float] = []
    sent = 0
    while not posts or not ended.wait(0.1):
        body = bodies.table(names[:1000], [newest + sent], np.ones((1000, 1)))
        began = time.monotonic()
        client.push(body)
        posts.append(time.monotonic() - began)
        sent += 1
        began = time.monotonic()
        client.measures(random.choice(names), aggregation="count")
        gets.append(time.monotonic() - began)
    client.close()
    return posts, gets, sent


def _count(site: Site, ids: np.ndarray, per_metric: int, sent: int) -> None:
    """Make sure that a sample of metrics holds exactly what was sent."""
    names = text_ids(ids)
    for position in [*range(0, 1000, 100), *range(1000, len(names), 500)]:
        measures = site.client.measures(names[position], aggregation="count")
        expected = per_metric + (sent if position < 1000 else 0)
        found = sum(value for _, _, value in measures)
        if found != expected:
            raise AssertionError(f"{names[position]} holds {found} points instead of {expected}")
