"""Sixteen clients at the same resources: nobody is told about a deadlock, and nothing is lost."""

from __future__ import annotations

import itertools
import random
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from gnocchi import errors, search
from gnocchi.indexer import links, metrics, resource_types, resources, tables
from gnocchi.indexer.resources import NewMetric
from gnocchi.model import ACTIVE
from gnocchi.resource_type import ResourceType
from tests.indexer import samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from gnocchi.archive_policy import ArchivePolicy
    from gnocchi.indexer.database import Database

CLIENTS = 16
IDS = [uuid.UUID(int=i * 2**120) for i in range(1, 5)]
NAMES = ["a", "b", "c", "d"]
KIND = ResourceType.from_json(
    {"name": "vm", "attributes": {"host": {"type": "string", "required": False}}}
)

# What a client may be told: that it came too late, or that somebody was faster.
EXPECTED = (
    errors.NoSuchResource,
    errors.NoSuchMetric,
    errors.ResourceAlreadyExists,
    errors.NamedMetricAlreadyExists,
    errors.UnknownResources,
)


def run(client: Callable[[int], None]) -> None:
    """Run all clients at once, each in a thread, and raise what the first of them raised."""
    failures: list[BaseException] = []
    together = threading.Barrier(CLIENTS)

    def body(number: int) -> None:
        try:
            together.wait(30)
            client(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=body, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def check_history(db: Database) -> int:
    """Check that versions follow one another; return how many past ones there are."""
    found = resources.list_(
        db, "generic", history=True, limit=10_000, sorts=[("id", "asc"), ("revision_start", "asc")]
    )
    for one, following in itertools.zip_longest(found, found[1:]):
        assert one.revision_end is None or one.revision_start < one.revision_end
        if one.revision == -1:
            assert one.revision_end is None
            assert following is None or following.id != one.id
        else:
            assert following is not None
            assert (following.id, following.revision_start) == (one.id, one.revision_end)
    return sum(one.revision != -1 for one in found)


def check_metrics(db: Database) -> None:
    """Check that a metric is either active, or deleted and of no resource."""
    with db.read() as connection:
        rows = connection.execute(sa.select(tables.metric)).all()
    names = [(row.resource_id, row.name) for row in rows if row.resource_id is not None]
    assert len(names) == len(set(names))
    assert {row.status for row in rows if row.resource_id is not None} <= {ACTIVE}
    assert all(row.name is not None for row in rows)


def test_no_change_is_lost(database: Database) -> None:
    """Every change is one version, whoever else changes the same resource."""
    resource_types.create(database, KIND)
    for i in IDS[:2]:
        samples.stored_resource(database, id=i, type="vm")
    times = 6

    def client(number: int) -> None:
        for turn in range(times):
            for i in IDS[:2] if number % 2 else IDS[1::-1]:
                # the clock stands still
                resources.update(database, "vm", i, {"host": f"{number}-{turn}"}, now=0)

    run(client)
    assert check_history(database) == CLIENTS * times * 2
    for i in IDS[:2]:
        found = resources.history(database, "vm", i, limit=10_000)
        hosts = [one.attributes["host"] for one in found[1:]]
        assert sorted(hosts) == sorted(f"{n}-{t}" for n in range(CLIENTS) for t in range(times))


def test_one_of_many_creates(database: Database) -> None:
    policy = samples.stored_policy(database)
    outcomes: list[str] = []

    def client(number: int) -> None:
        for i in IDS:
            new = samples.resource(id=i, original_resource_id=str(number))
            try:
                resources.create(database, new, {"cpu": NewMetric(policy.name)})
                outcomes.append("created")
            except errors.ResourceAlreadyExists:
                outcomes.append("exists")

    run(client)
    assert outcomes.count("created") == len(IDS)
    assert len(outcomes) == CLIENTS * len(IDS)
    assert len(metrics.list_(database, filters={}, limit=99)) == len(IDS)


def test_one_of_many_makes_a_link_and_all_find_it(database: Database) -> None:
    samples.stored_policy(database)
    for i in IDS:
        samples.stored_resource(database, id=i)
    found: list[Any] = []

    def client(number: int) -> None:
        pairs = [(i, f"m{n}") for i in IDS for n in range(50)]
        random.Random(number).shuffle(pairs)
        found.append(links.create(database, "me", {pair: NewMetric("low") for pair in pairs}))

    run(client)
    assert all(one == found[0] for one in found)
    assert len(metrics.list_(database, filters={}, limit=999)) == len(IDS) * 50


class Client:
    """Somebody who does whatever can be done with a few resources."""

    def __init__(self, db: Database, policy: ArchivePolicy, number: int) -> None:
        self.db = db
        self.policy = policy
        self.chance = random.Random(number)
        self.done = 0

    def act(self) -> None:
        """Do one thing; a refusal that is to be expected is fine."""
        action = self.chance.choice(
            (
                self.create, self.create, self.patch, self.patch, self.patch, self.replace_metrics,
                self.add, self.link, self.create_metric, self.delete_metric, self.delete,
                self.delete_many, self.retype, self.read,
            )
        )  # fmt: skip
        try:
            action()
            self.done += 1
        except EXPECTED:
            pass  # somebody else was faster

    def one(self) -> uuid.UUID:
        return self.chance.choice(IDS)

    def wanted(self) -> dict[str, Any]:
        """New metrics, and ones that some resource has."""
        names = self.chance.sample(NAMES, 3)
        found = metrics.list_(self.db, filters={}, limit=50)
        existing = [m.id for m in found]
        self.chance.shuffle(existing)
        return {
            name: existing.pop() if existing and self.chance.random() < 0.5 else NewMetric("low")
            for name in names
        }

    def create(self) -> None:
        new = samples.resource(id=self.one(), type="vm", project_id=self.chance.choice("pq"))
        resources.create(self.db, new, self.wanted())

    def patch(self) -> None:
        changes = {"host": str(self.chance.random()), "user_id": str(self.chance.random())}
        resources.update(self.db, "vm", self.one(), changes)

    def replace_metrics(self) -> None:
        changes = {"user_id": str(self.chance.random())}
        resources.update(self.db, "generic", self.one(), changes, self.wanted())

    def add(self) -> None:
        resources.add_metrics(self.db, "vm", self.one(), self.wanted())

    def link(self) -> None:
        pairs = [(i, name) for i in IDS for name in self.chance.sample(NAMES, 2)]
        links.create(self.db, "user:project", {pair: NewMetric("low") for pair in pairs})

    def create_metric(self) -> None:
        name = self.chance.choice(NAMES)
        metrics.create(self.db, samples.metric(self.policy, resource_id=self.one(), name=name))

    def delete_metric(self) -> None:
        found = metrics.list_(self.db, filters={}, limit=50)
        if found:
            metrics.delete(self.db, self.chance.choice(found).id)

    def delete(self) -> None:
        resources.delete(self.db, "generic", self.one())

    def delete_many(self) -> None:
        some = search.from_json({"=": {"project_id": self.chance.choice("pq")}})
        resources.delete_many(self.db, "vm", some)

    def retype(self) -> None:
        value = {"type": "number", "required": False, "options": {"fill": 1}}
        add = {"op": "add", "path": f"/attributes/n{self.chance.randrange(3)}", "value": value}
        resource_types.update(self.db, "vm", [add])

    def read(self) -> None:
        check_history(self.db)
        resources.get(self.db, "vm", self.one())


@pytest.mark.parametrize("seed", [1, 2])
def test_everything_at_once(database: Database, seed: int) -> None:
    policy = samples.stored_policy(database)
    resource_types.create(database, KIND)
    clients = [Client(database, policy, 100 * seed + number) for number in range(CLIENTS)]

    def body(number: int) -> None:
        for _ in range(25):
            clients[number].act()

    run(body)
    check_history(database)
    check_metrics(database)
    assert sum(client.done for client in clients) > CLIENTS
