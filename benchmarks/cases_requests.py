"""Cases about the API: CPU per request, each beside a handler that does nothing."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import bodies, reference, usage
from benchmarks.cases_processing import HOUR, MINUTE, load_history
from benchmarks.figures import AT_LEAST, Figure
from benchmarks.running import NS, running, text_ids
from tests.acceptance.client import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.targets import Scale
    from tests.acceptance.processes import Command

BLOCKS = 5


def cpu_per_call_s(
    command: Command, call: Callable[[int], object], number: int, blocks: int = BLOCKS
) -> float:
    """Return the median over some blocks of calls of the CPU seconds each call took."""
    for position in range(min(number, 20)):
        call(position)
    found = []
    for block in range(blocks):
        before = usage.cpu_s(command)
        for position in range(number):
            call(block * number + position)
        found.append((usage.cpu_s(command) - before) / number)
    return statistics.median(found)


def post(scale: Scale) -> list[Figure]:
    """One point in a request: CPU above that of an empty handler."""
    number = scale.choose(400, 150)
    ours, empty = _post(number, sync=True)
    unsafe, _ = _post(number, sync=False)
    return [
        Figure("post: one point, above an empty handler", (ours - empty) * 1e3, "ms CPU", 1.0),
        Figure("post: one point", ours * 1e3, "ms CPU"),
        Figure("post: one point, file_sync off", unsafe * 1e3, "ms CPU"),
        Figure("post: empty Pecan handler", empty * 1e3, "ms CPU"),
    ]


def _post(number: int, *, sync: bool) -> tuple[float, float]:
    """CPU seconds of a request with one point, and of one that nothing is done with."""
    options = {"storage": {"file_sync": sync}}
    with (
        running(options, metricd=False) as site,
        reference.served(site.installation) as (bare, other),
    ):
        names = text_ids(site.create(100, "medium"))

        def one(position: int) -> None:
            body = b'[{"timestamp": "2026-01-01T00:00:00.%06d", "value": 12.5}]' % position
            path = f"/v1/metric/{names[position % len(names)]}/measures"
            expect(202, site.client.request("POST", path, body))

        ours = cpu_per_call_s(site.api, one, number)
        empty = cpu_per_call_s(bare, lambda _: other.request("POST", "/empty", b"[]"), number)
    return ours, empty


def batch(scale: Scale) -> list[Figure]:
    """1,000 metrics with one point each in a request: measures per CPU second of the API."""
    number, metrics = scale.choose(100, 30), 1000
    with running(metricd=False) as site, reference.served(site.installation) as (bare, other):
        names = text_ids(site.create(metrics, "medium"))
        values = np.round(np.random.default_rng(1).random((metrics, 1)) * 100, 3)
        stamp = np.array([1_767_225_600 * NS + 250_000_000])
        text = bodies.table(names, bodies.timestamps(stamp), values)
        number_body = bodies.table(names, [1_767_225_600.25], values)
        ours = cpu_per_call_s(site.api, lambda _: site.client.push(text), number)
        numeric = cpu_per_call_s(site.api, lambda _: site.client.push(number_body), number)
        parse = cpu_per_call_s(bare, lambda _: other.request("POST", "/parse", text), number)
    return [
        Figure("batch: ISO timestamps", metrics / ours, "measures/CPU s", 100_000, AT_LEAST),
        Figure("batch: numeric timestamps", metrics / numeric, "measures/CPU s", 100_000, AT_LEAST),
        Figure("batch: Pecan handler that parses it", metrics / max(parse, 1e-6), "measures/CPU s"),
        Figure("batch: one request", ours * 1e3, "ms CPU"),
    ]


def get(scale: Scale) -> list[Figure]:
    """The last hour of one of many metrics with history."""
    metrics, hours, number = 5000, scale.choose(24, 3), scale.choose(400, 200)
    with running() as site, reference.served(site.installation) as (bare, other):
        ids = site.create(metrics, "medium")
        now = load_history(site, ids, hours * MINUTE + 20)
        site.settle()
        names = text_ids(np.random.default_rng(1).permutation(ids))
        start = now - HOUR

        def read(position: int, **query: object) -> None:
            name = names[position % metrics]
            rows = site.client.measures(name, start=start, **query)
            if not HOUR // MINUTE <= len(rows) <= HOUR // MINUTE + 2:
                raise AssertionError(f"{len(rows)} rows")

        one = cpu_per_call_s(site.api, lambda n: read(n, granularity=MINUTE), number)
        both = cpu_per_call_s(site.api, lambda n: read(n + metrics // 2), number)
        empty = cpu_per_call_s(bare, lambda _: other.get("/rows", number=62), number)
        used = usage.memory(site.api)
    return [
        Figure("get: last hour, one granularity", one * 1e3, "ms CPU", 3.0),
        Figure("get: last hour, all granularities", both * 1e3, "ms CPU", 3.0),
        Figure("get: Pecan handler that writes 62 rows", empty * 1e3, "ms CPU"),
        Figure("get: API afterwards, PSS", used.pss / usage.MIB, "MiB"),
    ]


def long_get(scale: Scale) -> list[Figure]:
    """86,400 aggregates in one answer."""
    points, number = 86_400, scale.choose(7, 3)
    with running() as site, reference.served(site.installation) as (bare, other):
        definition = [{"granularity": 1, "points": 100_000}]
        site.client.create("/v1/archive_policy", {"name": "second", "definition": definition})
        ids = site.create(4, "second")
        rng = np.random.default_rng(1)
        for first in range(0, points, points // 4):
            stamps = (1_767_225_600 + np.arange(first, first + points // 4)) * NS
            site.feed(ids, stamps, rng.random((len(ids), len(stamps))))
            site.drain()
        site.settle()
        names = text_ids(ids)
        walls = []

        def read(position: int) -> None:
            began = time.monotonic()
            path = f"/v1/metric/{names[position % len(names)]}/measures"
            answer = site.client.get(path)
            walls.append(time.monotonic() - began)
            if len(answer.json()) != points:
                raise AssertionError(f"{len(answer.json())} rows")

        ours = cpu_per_call_s(site.api, read, 1, number)
        empty = cpu_per_call_s(bare, lambda _: other.get("/rows", number=points), 1, number)
    return [
        Figure("long_get: 86,400 aggregates", statistics.median(walls), "s (wall)", 0.5),
        Figure("long_get: 86,400 aggregates", ours, "s CPU", 0.5),
        Figure("long_get: Pecan handler that writes them", empty, "s CPU"),
    ]
