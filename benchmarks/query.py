"""What it costs to ask about many metrics at once.

    python -m benchmarks.query [--quick] [--save FILE] [--against FILE]

Fills a temporary deployment with files and SQLite through the engine, in rounds with merges as
``gnocchi-metricd`` does, then sends requests to the application in this process. All files are in
the memory of the operating system. ``cold`` requests find an empty read cache, the others what
requests before them have left there: 64 MiB are less than a day of 5,000 metrics takes.

Each question has its median wall and CPU time beside what it should be; where that time goes
(reading segments, laying out tables, computing, writing measures as JSON, and the rest: decoding,
catalog, rights); the CPU time in times of the floor's, which is the same reduction by numpy of
arrays that are in memory already; and how much memory a cold request takes at its peak.
"""

from __future__ import annotations

import argparse
import base64
import collections
import contextlib
import pathlib
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import numpy as np
import orjson
import webtest
from oslo_policy import opts as policy_opts

from benchmarks import figures, reference
from benchmarks.figures import Figure
from gnocchi import config, model, service
from gnocchi.drivers.file import FileIncoming, FileStorage
from gnocchi.engine import compact, process, push, read
from gnocchi.engine.reader import Reader
from gnocchi.indexer import catalog, metrics, policies
from gnocchi.indexer.database import Database
from gnocchi.rest import app, responses
from gnocchi.series import expression, predicate, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gnocchi.service import Services

NS = 10**9
DAY = 86400
START = 1_767_225_600  # a midnight
SACKS = 16
ROUNDS = 24
GROUPS = 20
MIB = 1 << 20
AT_ONCE = 250_000  # points in a request that fills

MINUTES, LONG = "minutes", "long"
POLICIES = {
    MINUTES: [
        {"granularity": 60, "timespan": 7 * DAY},
        {"granularity": 300, "timespan": 30 * DAY},
    ],
    LONG: [{"granularity": 1, "timespan": 30 * DAY}],
}

PHASES: dict[str, list[tuple[Any, str]]] = {
    "read": [(read, "stored")],
    "table": [(table, "align")],
    "compute": [(table, "fill"), (expression, "evaluate"), (predicate.Predicate, "matches")],
    "JSON": [(responses, "measures")],
}


# ------------------------------------------------------------------ the deployment


@dataclass
class Site:
    """An application in this process, and the measures that it has."""

    services: Services
    client: webtest.TestApp
    ids: list[uuid.UUID] = field(default_factory=list)
    values: np.ndarray = field(default_factory=lambda: np.empty((0, DAY // 60)))
    """``(metrics, 1440)``: one point a minute."""

    def post(self, path: str, body: Any) -> bytes:
        """Send JSON as the administrator; the request has to succeed."""
        data = orjson.dumps(body)
        answer = self.client.post(path, data, _headers() | {"Content-Type": "application/json"})
        return answer.body

    def get(self, path: str) -> bytes:
        """Fetch as the administrator."""
        return self.client.get(path, headers=_headers()).body

    def forget(self) -> None:
        """Empty the read cache."""
        self.services.reader = Reader(
            self.services.db,
            self.services.storage,
            self.services.damaged,
            self.services.cache_bytes,
            self.services.parallel_operations,
        )

    def grow(self, count: int) -> None:
        """Store a day of so many further metrics."""
        policy = policies.get(self.services.db, MINUTES)
        made = [model.Metric(uuid.uuid4(), policy, "admin", None, None, None) for _ in range(count)]
        metrics.create_many(self.services.db, made)
        self.fill([metric.id for metric in made])

    def fill(self, ids: Sequence[uuid.UUID]) -> None:
        """Store a day of metrics, hour by hour."""
        values = np.random.default_rng(len(self.ids)).random((len(ids), DAY // 60)) * 100
        each = DAY // 60 // ROUNDS
        for number in range(ROUNDS):
            part = slice(number * each, (number + 1) * each)
            stamps = (START + 60 * np.arange(DAY // 60)[part]) * NS
            self.feed(ids, stamps, values[:, part])
        self.ids += ids
        self.values = np.concatenate([self.values, values])

    def feed(self, ids: Sequence[uuid.UUID], stamps: np.ndarray, values: np.ndarray) -> None:
        """Accept and process points of ``(m, p)`` values, and merge what is due."""
        raw = np.frombuffer(b"".join(one.bytes for one in ids), "V16")
        step = max(AT_ONCE // len(stamps), 1)
        for first in range(0, len(ids), step):
            some = slice(first, first + step)
            counts = np.full(len(raw[some]), len(stamps))
            times = np.tile(stamps, len(counts))
            push.add(self.services, raw[some], counts, times, values[some].ravel())
        process.Worker(self.services).work(range(SACKS))
        while compact.run_once(self.services):
            pass


def _headers() -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(b"admin:").decode()}


@contextlib.contextmanager
def deployed() -> Iterator[Site]:
    """Make an empty deployment."""
    with tempfile.TemporaryDirectory() as directory:
        conf = config.prepare([], "gnocchi-api", files=[])
        for group, listed in policy_opts.list_opts():
            conf.register_opts(listed, group=group)
        for group in ("storage", "incoming"):
            conf.set_override("file_basepath", directory, group=group)
            conf.set_override("file_sync", False, group=group)
        db = Database(f"sqlite:///{directory}/index.db", sync=False)
        try:
            db.upgrade()
            catalog.create_sacks(db, SACKS)
            services = service.Services(
                conf,
                db,
                FileStorage(conf.storage),
                FileIncoming(conf.incoming, SACKS),
                parallel_operations=conf.parallel_operations,
            )
            services.storage.upgrade()
            services.incoming.upgrade()
            site = Site(services, webtest.TestApp(app.build(services), lint=False))
            for name, definition in POLICIES.items():
                document = {"name": name, "back_window": 0, "definition": definition}
                site.post("/v1/archive_policy", document)
            yield site
        finally:
            db.close()


def with_resources(site: Site, count: int) -> None:
    """Store a day of resources with a metric each, in a few groups."""
    ids = []
    for number in range(count):
        created = site.post(
            "/v1/resource/generic",
            {
                "id": str(uuid.uuid4()),
                "user_id": f"user-{number % GROUPS}",
                "metrics": {"cpu": {"archive_policy_name": MINUTES}},
            },
        )
        ids.append(uuid.UUID(orjson.loads(created)["metrics"]["cpu"]))
    site.fill(ids)


# ------------------------------------------------------------------ measuring


class Cost(NamedTuple):
    """Median milliseconds of a call; of the processor's more than of the clock are of threads."""

    wall: float
    cpu: float


def cost(action: Callable[[], object], times: int) -> Cost:
    """Return what some calls after a first one cost."""
    action()
    walls, cpus = [], []
    for _ in range(times):
        began, used = time.perf_counter(), time.process_time()
        action()
        walls.append(time.perf_counter() - began)
        cpus.append(time.process_time() - used)
    return Cost(statistics.median(walls) * 1e3, statistics.median(cpus) * 1e3)


def phases_ms(action: Callable[[], object]) -> dict[str, float]:
    """Return how many milliseconds of one call go to each of `PHASES`."""
    spent: dict[str, float] = collections.defaultdict(float)
    with contextlib.ExitStack() as stack:
        for phase, functions in PHASES.items():
            for owner, name in functions:
                timed = _timed(getattr(owner, name), phase, spent)
                stack.enter_context(mock.patch.object(owner, name, timed))
        began = time.perf_counter()
        action()
        whole = time.perf_counter() - began
    spent["rest"] = whole - sum(spent.values())
    return {phase: spent[phase] * 1e3 for phase in (*PHASES, "rest")}


def _timed(function: Callable[..., Any], phase: str, spent: dict[str, float]) -> Callable[..., Any]:
    def call(*args: Any, **keywords: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **keywords)
        finally:
            spent[phase] += time.perf_counter() - began

    return call


def peak_mib(action: Callable[[], object]) -> float:
    """Return by how much the memory of this process rises at the peak of a call."""
    before = _memory("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    action()
    return (_memory("VmHWM") - before) / MIB


def _memory(name: str) -> int:
    for line in pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def ask(
    site: Site,
    name: str,
    action: Callable[[], object],
    floor: Callable[[], object],
    *,
    target_ms: float | None,
    times: int,
) -> Iterator[Figure]:
    """Measure one question."""
    lowest = cost(floor, max(times, 5))

    def forgetful() -> None:
        site.forget()
        action()

    cold = cost(forgetful, times)
    peak = peak_mib(forgetful)
    warm = cost(action, times)
    yield Figure(name, warm.wall, f"ms, {warm.cpu:.1f} of CPU", target_ms)
    yield Figure(f"{name}, cold", cold.wall, f"ms, {cold.cpu:.1f} of CPU", target_ms)
    yield Figure(f"{name}, floor", lowest.wall, f"ms, {lowest.cpu:.1f} of CPU")
    shares = ", ".join(f"{phase} {spent:.1f}" for phase, spent in phases_ms(action).items())
    yield Figure(f"{name}, to floor", warm.cpu / lowest.cpu, f"times; ms: {shares}")
    shares = ", ".join(f"{phase} {spent:.1f}" for phase, spent in phases_ms(forgetful).items())
    yield Figure(f"{name}, cold, to floor", cold.cpu / lowest.cpu, f"times; ms: {shares}")
    yield Figure(f"{name}, peak", peak, "MiB")


# ------------------------------------------------------------------ questions


def mean_of(site: Site, ids: Sequence[uuid.UUID]) -> Callable[[], bytes]:
    """The question for the mean across metrics, minute by minute for a day."""
    pairs = [[str(one), "mean"] for one in ids]
    body = {"operations": ["aggregate", "mean", ["metric", *pairs]]}
    return lambda: site.post("/v1/aggregates?granularity=60", body)


def growth(site: Site, times: int) -> Iterator[Figure]:
    """Five times as many metrics of the same deployment: as a multiple of a fifth of them.

    They take turns, so that a machine that is slow for a while is slow to both.
    """
    few, all_of_them = mean_of(site, site.ids[::5]), mean_of(site, site.ids)
    for cold in (False, True):
        walls = []
        for action in (few, all_of_them) * times:
            prepare = site.forget if cold else action
            prepare()
            began = time.perf_counter()
            action()
            walls.append(time.perf_counter() - began)
        ratio = statistics.median(walls[1::2]) / statistics.median(walls[::2])
        name = f"mean across {len(site.ids):,}, to a fifth of them"
        yield Figure(f"{name}{', cold' * cold}", ratio, "times", 5.0)


def across(site: Site, count: int, target_ms: float | None, times: int) -> Iterator[Figure]:
    """The mean across metrics, minute by minute for a day."""
    action = mean_of(site, site.ids[:count])
    assert len(orjson.loads(action())["measures"]["aggregated"]) == DAY // 60

    def floor() -> np.ndarray:
        return np.nanmean(site.values[:count], axis=0)

    name = f"mean across {count:,} metrics"
    return ask(site, name, action, floor, target_ms=target_ms, times=times)


def groups(site: Site, count: int, target_ms: float, times: int) -> Iterator[Figure]:
    """The sum of each group of resources, every five minutes for a day."""
    body = {
        "resource_type": "generic",
        "search": {},
        "operations": ["aggregate", "sum", ["metric", "cpu", "mean"]],
    }

    def action() -> bytes:
        return site.post("/v1/aggregates?granularity=300&groupby=user_id", body)

    assert len(orjson.loads(action())) == GROUPS
    stored = site.values[:count].reshape(count, -1, 5).mean(axis=2)
    members = [np.arange(count) % GROUPS == number for number in range(GROUPS)]

    def floor() -> list[np.ndarray]:
        return [np.nansum(stored[member], axis=0) for member in members]

    name = f"{GROUPS} groups of {count:,} resources"
    return ask(site, name, action, floor, target_ms=target_ms, times=times)


def values(site: Site, count: int, target_ms: float, times: int) -> Iterator[Figure]:
    """The minutes of a day at which metrics are high, a tenth of all."""
    wanted = "&".join(f"metric_id={one}" for one in site.ids[:count])
    path = f"/v1/search/metric?granularity=60&{wanted}"

    def action() -> bytes:
        return site.post(path, {">=": 90})

    assert len(orjson.loads(action())) == count

    def floor() -> list[np.ndarray]:
        return [np.flatnonzero(series >= 90) for series in site.values[:count]]

    name = f"value search over {count:,} metrics"
    return ask(site, name, action, floor, target_ms=target_ms, times=times)


def long_series(site: Site, points: int, target_ms: float, times: int) -> Iterator[Figure]:
    """All points of one metric; the floor writes as many rows as JSON."""
    created = orjson.loads(site.post("/v1/metric", {"archive_policy_name": LONG}))["id"]
    stamps = (START + np.arange(points)) * NS
    drawn = np.random.default_rng(0).random((1, points))
    site.feed([uuid.UUID(created)], stamps, drawn)

    def action() -> bytes:
        return site.get(f"/v1/metric/{created}/measures")

    assert len(orjson.loads(action())) == points
    name = f"GET of {points:,} points"
    return ask(
        site, name, action, lambda: reference.document(points), target_ms=target_ms, times=times
    )


def measured(*, quick: bool) -> Iterator[Figure]:
    """Fill a deployment and ask everything."""
    times = 3 if quick else 9
    with deployed() as site:
        with_resources(site, 200 if quick else 1000)
        count = len(site.ids)
        yield from across(site, 100, 60.0, times)
        yield from across(site, count, 0.6 * count, times)
        yield from groups(site, count, 700.0, times)
        yield from values(site, 100, 150.0, times)
        yield from long_series(site, 8640 if quick else DAY, 300.0, times)
        if not quick:
            site.grow(4000)
            yield from across(site, 5000, 3000.0, times)
            yield from growth(site, times)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print all figures; return 1 if a target was missed and that matters."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.query",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer repetitions")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--save", type=pathlib.Path, help="keep the figures in this file")
    parser.add_argument("--against", type=pathlib.Path, help="compare with figures kept earlier")
    options = parser.parse_args(arguments)
    before = figures.load(options.against) if options.against else {}
    found = []
    for figure in measured(quick=options.quick):
        print(figures.line(figure, before.get(figure.name)), flush=True)
        found.append(figure)
    if options.save:
        figures.save(options.save, found)
    return 1 if options.strict and any(figure.missed for figure in found) else 0


if __name__ == "__main__":
    sys.exit(main())
