"""Sixteen clients create, change, attach, read and delete the same resources at the same time.

A new resource gets a number that no other ever had (``born``), and so does every change (``n``).
An answer shows both, so afterwards it is known of each acknowledged change in which life of its
resource it was made, and hence what the history has to be.

``GNOCCHI_CONCURRENCY_SECONDS`` lengthens the run, ``GNOCCHI_SEED`` repeats the choices of one.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import json
import os
import random
import time
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance import processes
from tests.conftest import do_without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.acceptance.client import Answer, Client
    from tests.acceptance.processes import Installation

SECONDS = float(os.environ.get("GNOCCHI_CONCURRENCY_SECONDS", "10"))
SEED = int(os.environ.get("GNOCCHI_SEED", str(random.randrange(10**6))))
CLIENTS = 16
RESOURCES = [str(uuid.UUID(int=n << 96 | 1 << 78 | 1 << 63)) for n in range(1, 201)]
#: A few of them get half of all requests, so that clients meet.
HOT = RESOURCES[:4]
LOOSE_METRICS = 20
NAMES = ("m0", "m1", "m2")

TYPE = {
    "name": "thing",
    "attributes": {
        "born": {"type": "number", "required": True},
        "n": {"type": "number", "required": True},
    },
}
NEW_METRIC = {"archive_policy_name": "low"}


@dataclass
class Ledger:
    """What one client did, as far as the answers tell."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    #: Numbers of acknowledged changes, the first one included, by what was changed.
    changes: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    deleted: int = 0


class Worker:
    """One client. Every request has to get one of the answers that are expected of it."""

    def __init__(self, number: int, client: Client, loose: list[str]) -> None:
        self.ledger = Ledger()
        self._random = random.Random(SEED * CLIENTS + number)
        self._client = client
        self._loose = loose
        self._numbers = itertools.count(1 + number, CLIENTS)
        self._operations: dict[Callable[[], None], int] = {
            self.change: 40,
            self.create: 22,
            self.add_metric: 10,
            self.attach_metric: 8,
            self.push: 8,
            self.read_history: 8,
            self.delete: 5,
            self.delete_many: 1,
            self.list_all: 2,
        }

    def run(self, end: float) -> Ledger:
        """Send requests until it is time."""
        operations, weights = list(self._operations), list(self._operations.values())
        with contextlib.closing(self._client):
            while time.monotonic() < end:
                self._random.choices(operations, weights)[0]()
        return self.ledger

    def _send(self, name: str, method: str, path: str, body: Any, *expected: int) -> Answer:
        encoded = None if body is None else json.dumps(body).encode()
        answer = self._client.request(method, path, encoded)
        self.ledger.answers[name, answer.status] += 1
        assert answer.status in expected, f"{method} {path} {body}: {answer}"
        return answer

    def _resource(self) -> str:
        return self._random.choice(HOT if self._random.random() < 0.5 else RESOURCES)

    def _path(self) -> str:
        return f"/v1/resource/thing/{self._resource()}"

    # ------------------------------------------------------------------ what clients do

    def create(self) -> None:
        """Create a resource, with a new metric now and then."""
        number = next(self._numbers)
        names = self._random.sample(NAMES, self._random.choice((0, 0, 1, 2)))
        body = {
            "id": self._resource(),
            "born": number,
            "n": number,
            "metrics": dict.fromkeys(names, NEW_METRIC),
        }
        answer = self._send("create", "POST", "/v1/resource/thing", body, 201, 409)
        if answer.status == 201:
            self._note(answer, number)

    def change(self) -> None:
        """Give a resource a new number: a revision."""
        number = next(self._numbers)
        answer = self._send("change", "PATCH", self._path(), {"n": number}, 200, 404)
        if answer.status == 200:
            self._note(answer, number)

    def _note(self, answer: Answer, number: int) -> None:
        document = answer.json()
        assert document["n"] == number
        assert document["revision_end"] is None
        self.ledger.changes[document["born"]].append(number)

    def add_metric(self) -> None:
        """Add a new metric to a resource."""
        body = {self._random.choice(NAMES): NEW_METRIC}
        self._send("add", "POST", f"{self._path()}/metric", body, 200, 404, 409)

    def attach_metric(self) -> None:
        """Replace the metrics of a resource by one that others want as well, with a change."""
        number = next(self._numbers)
        index = self._random.randrange(len(self._loose))
        body: dict[str, Any] = {"metrics": {self._random.choice(NAMES): self._loose[index]}}
        changes = self._random.random() < 0.5
        if changes:
            body["n"] = number
        answer = self._send("attach", "PATCH", self._path(), body, 200, 400, 404)
        if answer.status == 200 and changes:
            self._note(answer, number)
        if answer.status == 400:
            # It went with a resource. Somebody else may notice as well: then there are two.
            made = self._send("metric", "POST", "/v1/metric", NEW_METRIC, 201)
            self._loose[index] = made.json()["id"]

    def push(self) -> None:
        """Send measures to metrics that may have to be made first."""
        measures = {"measures": [{"timestamp": 1_700_000_000, "value": 1}], **NEW_METRIC}
        names = self._random.sample(NAMES, 2)
        body = {self._resource(): dict.fromkeys(names, measures) for _ in range(3)}
        path = "/v1/batch/resources/metrics/measures?create_metrics=true"
        self._send("push", "POST", path, body, 202, 400)

    def read_history(self) -> None:
        """Read the versions of a resource, which are consistent at any time."""
        answer = self._send("history", "GET", f"{self._path()}/history", None, 200, 404)
        if answer.status == 200:
            check_versions(answer.json())

    def list_all(self) -> None:
        """Search, so that a listing is under way while everything moves."""
        path = "/v1/search/resource/thing?history=true&limit=500&sort=n:asc"
        found = self._send("search", "POST", path, {">": {"n": 0}}, 200).json()
        numbers = [version["n"] for version in found]
        assert numbers == sorted(set(numbers))

    def delete(self) -> None:
        """Delete a resource."""
        answer = self._send("delete", "DELETE", self._path(), None, 204, 404)
        self.ledger.deleted += answer.status == 204

    def delete_many(self) -> None:
        """Delete some resources at once."""
        body = {"in": {"id": self._random.sample(RESOURCES, 5)}}
        answer = self._send("delete many", "DELETE", "/v1/resource/thing", body, 200)
        self.ledger.deleted += answer.json()["deleted"]


# ------------------------------------------------------------------ what has to hold


def check_versions(versions: list[dict[str, Any]]) -> None:
    """Each version ends when the next begins, the last has not ended, and all are of one life."""
    for earlier, later in itertools.pairwise(versions):
        assert earlier["revision_start"] < later["revision_start"], versions
        assert earlier["revision_end"] == later["revision_start"], versions
    assert versions[-1]["revision_end"] is None, versions
    assert len({version["born"] for version in versions}) == 1, versions
    assert len({version["n"] for version in versions}) == len(versions), versions


def check_resources(client: Client, changes: dict[int, list[int]]) -> dict[str, dict[str, str]]:
    """Compare the history of all resources with the changes; return the metrics of each."""
    metrics: dict[str, dict[str, str]] = {}
    for resource in RESOURCES:
        answer = client.get(f"/v1/resource/thing/{resource}/history")
        if answer.status == 404:
            continue
        versions = answer.json()
        check_versions(versions)
        current = client.document(f"/v1/resource/thing/{resource}")
        assert current == versions[-1]
        recorded = sorted(int(version["n"]) for version in versions)
        assert recorded == sorted(changes[int(current["born"])])
        assert int(versions[0]["n"]) == int(current["born"])
        metrics[resource] = current["metrics"]
    return metrics


def check_metrics(client: Client, metrics: dict[str, dict[str, str]]) -> None:
    """A resource and its metrics know each other, and no metric outlives its resource."""
    expected = {
        (metric, name, resource)
        for resource, named in metrics.items()
        for name, metric in named.items()
    }
    listed = {
        (metric["id"], metric["name"], metric["resource_id"])
        for metric in client.document("/v1/metric")
        if metric["resource_id"] is not None
    }
    assert listed == expected


@pytest.fixture
def site(database_url: str) -> Iterator[Installation]:
    """The installed API on one of the databases."""
    if missing := processes.missing():
        do_without(f"not installed: {', '.join(missing)} (pip install -e .)")
    options: dict[str, dict[str, object]] = {
        "indexer": {"url": database_url},
        "api": {"processes": 2, "threads": CLIENTS // 2, "max_limit": 10**6},
        "storage": {"file_sync": False},
    }
    with processes.installation(options) as site:
        api = site.api()
        api.start_until_served()
        yield site
        print(api.said(20_000))  # noqa: T201 - pytest shows it when the test has failed


def test_resources_survive_many_clients(site: Installation) -> None:
    """An agent has many workers, and they all write about the same instances."""
    with contextlib.closing(site.client()) as client:
        client.create("/v1/resource_type", TYPE)
        loose = [client.create("/v1/metric", NEW_METRIC)["id"] for _ in range(LOOSE_METRICS)]
        workers = [Worker(number, site.client(), loose) for number in range(CLIENTS)]
        end = time.monotonic() + SECONDS
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as threads:
            running = [threads.submit(worker.run, end) for worker in workers]
        failures = [error for future in running if (error := future.exception()) is not None]
        if failures:
            raise ExceptionGroup(f"seed {SEED}", [e for e in failures if isinstance(e, Exception)])
        ledgers = [future.result() for future in running]

        changes: dict[int, list[int]] = defaultdict(list)
        for ledger in ledgers:
            for born, numbers in ledger.changes.items():
                changes[born] += numbers
        answers = sum((ledger.answers for ledger in ledgers), Counter())
        print(f"seed {SEED}: {answers.total()} answers: {dict(answers)}")  # noqa: T201
        metrics = check_resources(client, changes)
        check_metrics(client, metrics)
    deleted = sum(ledger.deleted for ledger in ledgers)
    assert answers["create", 201] - deleted == len(metrics)
    # Otherwise this has tested little.
    assert answers["change", 200] > 50
    assert deleted
