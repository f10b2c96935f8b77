"""What it costs to list and to search resources when there are many.

    python -m benchmarks.index [--url U] [--resources N] [--metrics M] [--revisions R]

Fills an empty database (default: a PostgreSQL of its own, started by ``tests/servers.py``) with
resources of two types, ten metrics for each and a few past versions, and prints for each question
how many rows it brings, the median wall and CPU milliseconds, the CPU being that of this process.
The first line is the reference: the same number of rows as a full page, with every column, read
from the table by id and nothing made of them. The last column is the wall time in times of it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from gnocchi import search
from gnocchi.archive_policy import DEFAULT_POLICIES
from gnocchi.indexer import (
    attachments,
    catalog,
    links,
    metrics,
    policies,
    resource_types,
    resources,
    tables,
)
from gnocchi.indexer.database import Database
from gnocchi.indexer.query import Visibility
from gnocchi.resource_type import ResourceType
from tests import servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECTS = 100
FIRST = 1_700_000_000_000_000
SECOND = 1_000_000
PAGE = 1000

TYPES = {
    "instance": {
        "display_name": {"type": "string"},
        "host": {"type": "string"},
        "flavor_id": {"type": "uuid"},
        "image_ref": {"type": "string", "required": False},
        "server_group": {"type": "string", "required": False},
        "memory": {"type": "number"},
        "launched": {"type": "datetime"},
    },
    "instance_disk": {"name": {"type": "string"}, "instance_id": {"type": "uuid"}},
}


def resource_id(number: int) -> uuid.UUID:
    """Ids are as good as random."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"resource {number}")


def row(number: int, version: int = 0) -> dict[str, Any]:
    """One version of a resource; 0 is the newest."""
    is_disk = number % 2
    attributes: dict[str, Any] = {
        "display_name": f"server-{number}",
        "host": f"compute-{number % 1000}-{version}",
        "flavor_id": str(uuid.UUID(int=number % 20)),
        "image_ref": f"image-{number % 100}",
        "memory": number % 4096,
        "launched": FIRST + number,
    }
    if is_disk:
        attributes = {"name": f"vd{number % 7}", "instance_id": str(resource_id(number - 1))}
    project = f"project-{number % PROJECTS}"
    started = FIRST + number * SECOND
    ended = started + (number % 86400) * SECOND if number % 3 else None
    return {
        "id": resource_id(number),
        "type": "instance_disk" if is_disk else "instance",
        "creator": f"service:{project}",
        "creator_project": project,
        "original_resource_id": f"resource {number}",
        "user_id": f"user-{number % 1000}",
        "project_id": project,
        "started_at": started,
        "ended_at": ended,
        "revision_start": started + (10 - version) * SECOND,
        "attributes": attributes,
    }


def metric_row(resource: int, number: int) -> dict[str, Any]:
    """One metric of a resource."""
    return {
        "id": uuid.uuid5(uuid.NAMESPACE_OID, f"metric {resource} {number}"),
        "archive_policy_name": "low",
        "creator": f"service:project-{resource % PROJECTS}",
        "creator_project": f"project-{resource % PROJECTS}",
        "resource_id": resource_id(resource),
        "name": f"metric.{number}",
        "unit": "B",
        "status": "active",
        "created_at": 0,
    }


def fill(db: Database, resource_count: int, metric_count: int, revision_count: int) -> None:
    """Store everything, without going through the program's own functions, which check it."""
    for policy in DEFAULT_POLICIES:
        policies.create(db, policy)
    for name, attributes in TYPES.items():
        kind = ResourceType.from_json({"name": name, "attributes": attributes})
        resource_types.create(db, kind)
    each = metric_count // resource_count
    past = revision_count // resource_count
    for start in range(0, resource_count, 2000):
        numbers = range(start, min(start + 2000, resource_count))
        with db.write() as connection:
            connection.execute(tables.resource.insert(), [row(n) for n in numbers])
            connection.execute(
                tables.metric.insert(), [metric_row(n, m) for n in numbers for m in range(each)]
            )
            history = []
            for number in numbers:
                for version in range(past, 0, -1):
                    end = row(number, version - 1)["revision_start"]
                    history.append(row(number, version) | {"revision_end": end})
            if history:
                connection.execute(tables.resource_history.insert(), history)
    with db.read() as connection:
        raw = connection.execution_options(isolation_level="AUTOCOMMIT")
        words = {"sqlite": "ANALYZE", "postgresql": "VACUUM ANALYZE"}
        for table in ("resource", "resource_history", "metric"):
            raw.exec_driver_sql(f"{words.get(db.dialect, 'ANALYZE TABLE')} {table}").close()


def measure(action: Callable[[], Any], times: int) -> tuple[int, float, float]:
    """Rows, median wall and median CPU milliseconds of a question."""
    walls, cpus, size = [], [], 0
    for _ in range(times):
        cpu, began = time.process_time(), time.perf_counter()
        found = action()
        walls.append(time.perf_counter() - began)
        cpus.append(time.process_time() - cpu)
        size = len(found)
    return size, 1e3 * statistics.median(walls), 1e3 * statistics.median(cpus)


def questions(db: Database, count: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Everything that is measured, by what it is called."""
    ids = [str(resource_id(n)) for n in range(0, count, max(1, count // 100))]
    middle = count // 2 - count // 2 % 2

    def page(kind: str, wanted: Any = None, **options: Any) -> Callable[[], Any]:
        node = None if wanted is None else search.from_json(wanted)
        return lambda: resources.list_(db, kind, filter=node, limit=PAGE, **options)

    def raw() -> Any:
        with db.read() as connection:
            return connection.execute(
                sa.select(tables.resource).order_by(tables.resource.c.id).limit(PAGE)
            ).all()

    yield "reference: bare rows", raw
    one = {"display_name": f"server-{middle}"}
    yield "attribute =", page("instance", {"=": one})
    yield "attribute = and open", page("instance", {"and": [{"=": one}, {"=": {"ended_at": None}}]})
    yield "attribute in", page("instance", {"in": {"display_name": [*one.values(), "x", "y"]}})
    yield "attribute like", page("instance", {"like": one})
    yield "number >", page("instance", {">": {"memory": 4092}})
    yield "disks of one instance", page("instance_disk", {"=": {"instance_id": ids[50]}})
    yield "project", page("generic", {"=": {"project_id": "project-7"}})
    yield (
        "visible to a project",
        page("generic", visible=Visibility(project_id="project-7", creator_project="project-7")),
    )
    yield "id in 100", page("generic", {"in": {"id": ids}})
    yield "lifespan > 86380 s", page("generic", {">": {"lifespan": 86380}})
    yield "started in a minute", page(
        "generic",
        {"and": [{">=": {"started_at": 1_700_000_000 + middle}},
                 {"<": {"started_at": 1_700_000_060 + middle}}]},
    )  # fmt: skip
    yield "list, first page", page("generic", details=True)
    deep = {"marker": str(resource_id(middle)), "details": True}
    yield "list, middle page", page("generic", **deep)
    yield "list of a type", page("instance", marker=str(resource_id(middle)))
    yield "list by id", page("generic", sorts=[("id", "asc")])
    yield "list by attribute", page("instance", sorts=[("display_name", "asc")])
    yield "history, first page", page("generic", history=True, details=True)
    marker = f"{resource_id(middle)}@-1"
    yield "history, middle page", page("generic", history=True, marker=marker, details=True)
    yield "history, attribute =", page("instance", {"=": {"host": "compute-4-2"}}, history=True)
    yield (
        "history of one",
        lambda: resources.history(db, "instance", resource_id(middle), limit=PAGE),
    )
    yield "get one", lambda: [resources.get(db, "instance", resource_id(middle))]
    yield "metrics visible to a project", lambda: metrics.list_(
        db, filters={}, limit=PAGE,
        visible=metrics.Visibility(creator_project="project-7", resource_project="project-7"),
    )  # fmt: skip
    wanted = {resource_id(n): ["metric.1", "metric.2", "metric.3"] for n in range(1000)}
    yield "3,000 links", lambda: links.find(db, wanted)
    cache = links.Links(db)
    yield "3,000 links, known", lambda: cache.of(wanted, catalog.state(db))


def changes(db: Database, count: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What writes; each call changes something else."""
    numbers = iter(range(0, count, 2))

    def update() -> Any:
        number = next(numbers)
        return [resources.update(db, "instance", resource_id(number), {"host": f"new-{number}"})]

    def create() -> Any:
        new = {f"metric.{n}": attachments.NewMetric("low") for n in range(10)}
        number = next(numbers)
        stored = resources.get(db, "instance", resource_id(number))
        return [resources.create(db, dataclasses.replace(stored, id=uuid.uuid4()), new)]

    yield "update one", update
    yield "create one with 10 metrics", create

    def delete() -> Any:
        wanted = search.from_json({"=": {"project_id": f"project-{next(numbers) % PROJECTS}"}})
        return range(resources.delete_many(db, "generic", wanted))

    yield "delete a project", delete


@contextlib.contextmanager
def database(url: str | None) -> Iterator[Database]:
    """The database to fill."""
    with contextlib.ExitStack() as stack:
        if url is None:
            url = stack.enter_context(servers.postgresql()).url
        db = Database(url)
        db.upgrade()
        if len(resource_types.list_(db)) > 1 or not policies.is_empty(db):
            sys.exit("the database must be empty: it is filled with a million rows")
        yield db
        db.close()


def main() -> None:
    """Fill the database and ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url")
    parser.add_argument("--resources", type=int, default=50_000)
    parser.add_argument("--metrics", type=int, default=500_000)
    parser.add_argument("--revisions", type=int, default=200_000)
    parser.add_argument("--times", type=int, default=9)
    options = parser.parse_args()
    with database(options.url) as db:
        began = time.perf_counter()
        fill(db, options.resources, options.metrics, options.revisions)
        print(f"filled in {time.perf_counter() - began:.0f} s")
        print(f"{'question':32}{'rows':>8}{'wall ms':>10}{'CPU ms':>10}{'ratio':>8}")
        reference = 0.0
        for name, action in (
            *questions(db, options.resources),
            *changes(db, options.resources),
        ):
            times = 1 if name.startswith("delete") else options.times
            size, wall, cpu = measure(action, times)
            reference = reference or wall
            print(f"{name:32}{size:8}{wall:10.1f}{cpu:10.1f}{wall / reference:8.2f}")


if __name__ == "__main__":
    main()
