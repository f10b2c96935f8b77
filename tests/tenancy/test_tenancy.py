"""Random requests by random callers are answered as a plain model of the rules answers them.

Each step is one request, and everything in its answer is compared: nobody is shown a row that is
not theirs, nobody misses one that is, and what may not be changed stays as it was. Names of
projects are wildcards of SQL and differ in case only, so that a comparison which is nearly right
is wrong.

Hypothesis draws the steps; a step is an operation and a number from which the rest follows. So
a failing run can be repeated, and is made shorter with ``GNOCCHI_SHRINK``. ``GNOCCHI_EXAMPLES``
and ``GNOCCHI_STEPS`` lengthen the run.
"""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.tenancy import calls, filters
from tests.tenancy.draws import IDS, NAMES, NOWHERE, Draw
from tests.tenancy.world import Caller, Metric, Resource, World, resolve, value

if TYPE_CHECKING:
    from collections.abc import Callable

    import webtest

    from tests.tenancy.filters import Filter

# Making a failing run shorter takes minutes, and a run can be read as it is.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
if os.environ.get("GNOCCHI_SHRINK"):
    PHASES.append(Phase.shrink)
STEPS = int(os.environ.get("GNOCCHI_STEPS", "60"))

ADMIN = Caller("root", "admins", ("admin",))
PLAIN = {"archive_policy_name": "plain"}


class Tenants:
    """The API beside the model."""

    def __init__(self, requests: calls.Requests) -> None:
        self.world = World()
        self.calls = requests

    def start_empty(self) -> None:
        """Remove what the run before has left."""
        self.status(200, ADMIN, "DELETE", "resource/generic", {"!=": {"type": ""}})
        for metric in self.send(ADMIN, "GET", "metric").json:
            self.status(204, ADMIN, "DELETE", f"metric/{metric['id']}")

    def step(self, operation: Callable[[Tenants, Draw], None], number: int) -> None:
        """Send one request, or a few that belong together."""
        operation(self, Draw(number, self.world))

    # ------------------------------------------------------------------ sending

    def send(self, caller: Caller, method: str, path: str, body: Any = None) -> Any:
        return self.calls.send(caller, method, f"/v1/{path}", body)

    def status(
        self, expected: int | set[int], caller: Caller, method: str, path: str, body: Any = None
    ) -> Any:
        """Send a request and compare the status of the answer."""
        response = self.send(caller, method, path, body)
        allowed = expected if isinstance(expected, set) else {expected}
        assert response.status_int in allowed, f"{method} {path} {body}: {response.text}"
        return response

    # ------------------------------------------------------------------ metrics in bodies

    @staticmethod
    def written(draw: Draw, creator: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Choose metrics for a body; return them as the body and as the model has them.

        In the model a new one is None, one that does not exist is `NOWHERE`, and others are a
        Metric. None is named twice.
        """
        body: dict[str, Any] = {}
        meant: dict[str, Any] = {}
        for name in draw.names():
            if draw.likely(0.4):
                body[name], meant[name] = PLAIN, None
                continue
            metric = draw.metric(creator)
            key = str(NOWHERE if metric is None else metric.id)
            if key not in body.values():
                body[name], meant[name] = key, metric or NOWHERE
        return body, meant

    @staticmethod
    def attachable(creator: str, meant: dict[str, Any]) -> bool:
        """Whether all metrics are new or were made by the creator of the resource."""
        return all(
            metric is None or (metric is not NOWHERE and metric.creator == creator)
            for metric in meant.values()
        )

    def take(self, resource: Resource, meant: dict[str, Any], answered: dict[str, str]) -> None:
        """Attach metrics in the model, the new ones with the ids that the answer gives them."""
        for name, metric in meant.items():
            if metric is None:
                id_ = uuid.UUID(answered[name])
                assert id_ not in self.world.metrics
                metric = self.world.metrics[id_] = Metric(id_, resource.creator, name)
            self.world.attach(resource, name, metric)

    def compare(self, document: dict[str, Any], resource: Resource, type_: str) -> None:
        """Compare an answer that is a resource, which ``type_`` in the path has shaped."""
        details = type_ != "generic"
        attached = self.world.attached(resource)
        number = len(resource.versions) - 1
        assert calls.resource_row(document, details=details) == calls.expected_resource(
            resource, number, attached, details=details
        )

    # ------------------------------------------------------------------ one resource

    def create_resource(self, draw: Draw) -> None:
        """Anybody creates resources, with metrics of their own."""
        caller, type_, id_ = draw.caller, draw.type, draw.choice(IDS)
        version = draw.version(type_)
        metrics, meant = self.written(draw, caller.creator)
        body = {k: v for k, v in vars(version).items() if v is not None}
        body |= {"id": id_, "metrics": metrics}
        identity = resolve(id_, caller)
        taken = identity in self.world.resources
        bad = not self.attachable(caller.creator, meant)
        expected = refusals(409 if taken else None, 400 if bad else None) or 201
        response = self.status(expected, caller, "POST", f"resource/{type_}", body)
        if expected == 201:
            resource = Resource(identity, id_, type_, caller.creator, [version])
            self.world.resources[identity] = resource
            self.take(resource, meant, response.json["metrics"])
            self.compare(response.json, resource, type_)

    def read_resource(self, draw: Draw) -> None:
        caller, type_, id_ = draw.caller, draw.type, draw.id()
        resource = self.world.find(type_, resolve(id_, caller))
        expected = 404 if resource is None else self.world.reading(caller, resource)
        address = f"resource/{type_}/{quote(id_)}"
        response = self.status(expected, caller, "GET", address)
        listed = self.status(expected, caller, "GET", f"{address}/metric")
        if resource is not None and expected == 200:
            self.compare(response.json, resource, type_)
            attached = self.world.attached(resource).values()
            assert sorted(map(calls.metric_row, listed.json), key=str) == sorted(
                map(calls.expected_metric, attached), key=str
            )

    def read_history(self, draw: Draw) -> None:
        """Who may read a resource may read all of its past."""
        caller, type_, id_, page = draw.caller, draw.type, draw.id(), draw.page()
        resource = self.world.find(type_, resolve(id_, caller))
        expected = 404 if resource is None else self.world.reading(caller, resource)
        address = f"/v1/resource/{type_}/{quote(id_)}/history"
        status, items = self.calls.pages(caller, "GET", address, page)
        assert status == expected
        if resource is not None and expected == 200:
            rows = [(resource, number) for number in range(len(resource.versions))]
            self.compare_rows(items, rows, page, details=type_ != "generic")

    def update_resource(self, draw: Draw) -> None:
        caller, type_, id_ = draw.caller, draw.type, draw.id()
        change = draw.changes(type_)
        resource = self.world.find(type_, resolve(id_, caller))
        body = dict(change)
        meant: dict[str, Any] = {}
        if draw.likely(0.4):
            creator = caller.creator if resource is None else resource.creator
            body["metrics"], meant = self.written(draw, creator)
        if resource is None:
            expected = 404
        elif not self.world.may_update(caller, resource):
            expected = 403
        else:
            expected = 200 if self.attachable(resource.creator, meant) else 400
        address = f"resource/{type_}/{quote(id_)}"
        response = self.status(expected, caller, "PATCH", address, body)
        if resource is not None and expected == 200:
            self.world.revise(resource, change)
            if "metrics" in body:
                for metric in self.world.attached(resource).values():
                    metric.resource = None
                self.take(resource, meant, response.json["metrics"])
            self.compare(response.json, resource, type_)

    def delete_resource(self, draw: Draw) -> None:
        caller, type_, id_ = draw.caller, draw.type, draw.id()
        resource = self.world.find(type_, resolve(id_, caller))
        if resource is None:
            expected = 404
        else:
            expected = 204 if self.world.may_delete(caller, resource) else 403
        self.status(expected, caller, "DELETE", f"resource/{type_}/{quote(id_)}")
        if resource is not None and expected == 204:
            self.world.remove(resource)

    # ------------------------------------------------------------------ many resources

    def list_resources(self, draw: Draw) -> None:
        caller, type_, page = draw.caller, draw.type, draw.page()
        history, details = draw.likely(0.4), draw.likely(0.5)
        query = {"history": history, "details": details} | page
        status, items = self.calls.pages(caller, "GET", f"/v1/resource/{type_}", query)
        assert status == 200
        rows = self.world.rows(caller, type_, search=False, history=history)
        self.compare_rows(items, rows, page, details=details or type_ != "generic")

    def search_resources(self, draw: Draw) -> None:
        caller, type_, page = draw.caller, draw.type, draw.page()
        history, document = draw.likely(0.4), draw.filter(type_)
        query = {"history": history} | page
        body: Filter | None = document
        if draw.likely(0.4):
            query["filter"], body = filters.as_text(document), None
        path = f"/v1/search/resource/{type_}"
        status, items = self.calls.pages(caller, "POST", path, query, body)
        assert status == 200
        rows = self.world.rows(caller, type_, search=True, history=history)
        rows = [row for row in rows if filters.holds(document, caller, *row)]
        self.compare_rows(items, rows, page, details=type_ != "generic")

    def delete_resources(self, draw: Draw) -> None:
        """Only what one has made goes; that one owns it is not enough."""
        caller, type_, document = draw.caller, draw.type, draw.filter(draw.type)
        if draw.likely(0.8):  # or hardly anything would live long
            some = draw.random.choices(IDS, k=2)
            document = {"and": [document, {"in": {"id": some}}]}
        response = self.status(200, caller, "DELETE", f"resource/{type_}", document)
        gone = [
            resource
            for resource in self.world.deletable(caller, type_)
            if filters.holds(document, caller, resource, len(resource.versions) - 1)
        ]
        assert response.json == {"deleted": len(gone)}
        for resource in gone:
            self.world.remove(resource)

    def compare_rows(
        self,
        items: list[dict[str, Any]],
        rows: list[tuple[Resource, int]],
        page: dict[str, Any],
        *,
        details: bool,
    ) -> None:
        """Compare a listing, and its order where it was asked for."""
        actual = [calls.resource_row(item, details=details) for item in items]
        if "sort" in page:
            rows = in_order(rows, page["sort"])
        expected = [
            calls.expected_resource(
                resource, number, self.world.attached(resource), details=details
            )
            for resource, number in rows
        ]
        if "sort" in page:
            assert actual == expected
        else:
            assert calls.in_any_order(actual) == calls.in_any_order(expected)

    # ------------------------------------------------------------------ metrics

    def create_metric(self, draw: Draw) -> None:
        """A metric is attached only to resources that the caller may change."""
        caller, name = draw.caller, draw.choice(NAMES)
        id_ = draw.id() if draw.likely(0.6) else None
        body = {"name": name, **PLAIN} | ({} if id_ is None else {"resource_id": id_})
        resource = None if id_ is None else self.world.find("generic", resolve(id_, caller))
        if id_ is None:
            expected = 201
        elif resource is None:
            expected = 400
        elif not self.world.may_update(caller, resource):
            expected = 403
        else:
            expected = 400 if name in self.world.attached(resource) else 201
        response = self.status(expected, caller, "POST", "metric", body)
        if expected == 201:
            id_of_it = uuid.UUID(response.json["id"])
            metric = Metric(id_of_it, caller.creator, name, resource.id if resource else None)
            self.world.metrics[id_of_it] = metric

    def add_metrics(self, draw: Draw) -> None:
        """Metrics that are added to a resource belong to its creator.

        Adding what is there already under this name changes nothing.
        """
        caller, type_, id_ = draw.caller, draw.type, draw.id()
        resource = self.world.find(type_, resolve(id_, caller))
        creator = caller.creator if resource is None else resource.creator
        body, meant = self.written(draw, creator)
        expected: int | set[int]
        if resource is None:
            expected = 404
        elif not self.world.may_update(caller, resource):
            expected = 403
        else:
            attached = self.world.attached(resource)
            taken = any(attached.get(name, metric) is not metric for name, metric in meant.items())
            bad = not self.attachable(resource.creator, meant)
            expected = refusals(409 if taken else None, 400 if bad else None) or 200
        address = f"resource/{type_}/{quote(id_)}/metric"
        response = self.status(expected, caller, "POST", address, body)
        if resource is not None and expected == 200:
            self.take(resource, meant, {m["name"]: m["id"] for m in response.json})
            assert sorted(map(calls.metric_row, response.json), key=str) == sorted(
                map(calls.expected_metric, self.world.attached(resource).values()), key=str
            )

    def use_metric(self, draw: Draw) -> None:
        caller, metric = draw.caller, draw.metric()
        self.use(caller, f"metric/{NOWHERE if metric is None else metric.id}", metric)

    def use_named_metric(self, draw: Draw) -> None:
        """The way through the resource leads to the same answers."""
        caller, type_, id_, name = draw.caller, draw.type, draw.id(), draw.choice(NAMES)
        resource = self.world.find(type_, resolve(id_, caller))
        metric = None if resource is None else self.world.attached(resource).get(name)
        self.use(caller, f"resource/{type_}/{quote(id_)}/metric/{quote(name)}", metric)

    def use(self, caller: Caller, address: str, metric: Metric | None) -> None:
        """Read a metric and its measures, and send it some."""
        if metric is None:
            reading = posting = 404
        else:
            reading = 200 if self.world.may_read_metric(caller, metric) else 403
            posting = 202 if self.world.may_post(caller, metric) else 403
        response = self.status(reading, caller, "GET", address)
        if metric is not None and reading == 200:
            shown = response.json
            assert (uuid.UUID(shown["id"]), shown["creator"], shown["name"]) == (
                metric.id, metric.creator, metric.name,
            )  # fmt: skip
            attached = shown["resource"] and uuid.UUID(shown["resource"]["id"])
            assert attached == metric.resource
        self.status(reading, caller, "GET", f"{address}/measures")
        body = [{"timestamp": 1_700_000_000, "value": 1}]
        self.status(posting, caller, "POST", f"{address}/measures", body)

    def delete_metric(self, draw: Draw) -> None:
        caller, metric = draw.caller, draw.metric()
        if metric is None:
            expected = 404
        else:
            expected = 204 if self.world.may_delete_metric(caller, metric) else 403
        address = f"metric/{NOWHERE if metric is None else metric.id}"
        self.status(expected, caller, "DELETE", address)
        if metric is not None and expected == 204:
            del self.world.metrics[metric.id]

    def list_metrics(self, draw: Draw) -> None:
        """Metrics without a resource are among them."""
        caller = draw.caller
        name = draw.choice((None, *NAMES))
        limit = draw.choice((None, 1, 2, 3))
        query: dict[str, Any] = {} if name is None else {"name": name}
        query |= {} if limit is None else {"limit": limit}
        status, items = self.calls.pages(caller, "GET", "/v1/metric", query)
        assert status == 200
        shown = [m for m in self.world.listed_metrics(caller) if name in (None, m.name)]
        expected = [calls.expected_metric(m) for m in sorted(shown, key=lambda m: m.id)]
        assert list(map(calls.metric_row, items)) == expected

    # ------------------------------------------------------------------ batches

    def push_by_metric(self, draw: Draw) -> None:
        """One metric that may not be written keeps all others from being written."""
        caller = draw.caller
        metrics = [draw.metric(caller.creator) for _ in range(draw.random.randint(0, 3))]
        body = {str(NOWHERE if m is None else m.id): [] for m in metrics}
        if None in metrics:
            expected = 400
        else:
            fine = all(self.world.may_post(caller, m) for m in metrics if m is not None)
            expected = 202 if fine else 403
        self.status(expected, caller, "POST", "batch/metrics/measures", body)

    def push_by_resource(self, draw: Draw) -> None:
        """Metrics are made on resources that the caller may change, and nowhere else."""
        caller, create = draw.caller, draw.likely(0.6)
        chosen = {draw.id(): draw.names() for _ in range(draw.random.randint(1, 2))}
        body = {
            id_: {name: {"measures": [], **PLAIN} for name in listed}
            for id_, listed in chosen.items()
        }
        existing: list[Metric] = []
        missing: list[tuple[Resource, str]] = []
        unknown = False
        for id_, listed in chosen.items():
            resource = self.world.find("generic", resolve(id_, caller))
            if resource is None:
                unknown = unknown or bool(listed)
                continue
            attached = self.world.attached(resource)
            existing += [attached[name] for name in listed if name in attached]
            missing += [(resource, name) for name in listed if name not in attached]
        permitted = all(self.world.may_post(caller, metric) for metric in existing)
        if unknown or (missing and not create):
            expected = 400
        elif not all(self.world.may_update(caller, resource) for resource, _ in missing):
            expected = 403
        else:
            expected = 202 if permitted else 403
        path = f"batch/resources/metrics/measures?create_metrics={create}"
        self.status(expected, caller, "POST", path, body)
        if expected == 202:
            self.find_created(caller, missing)
        elif all(self.world.may_update(caller, resource) for resource, _ in missing):
            # What was made before the batch was refused for another metric remains.
            self.find_created(caller, missing, certainly=False)

    def find_created(
        self, caller: Caller, missing: list[tuple[Resource, str]], *, certainly: bool = True
    ) -> None:
        """Take over the metrics that a batch has made, which its answer does not name."""
        for resource, name in missing:
            address = f"resource/generic/{resource.id}/metric/{quote(name)}"
            response = self.send(ADMIN, "GET", address)
            if response.status_int == 404 and not certainly:
                continue
            shown = response.json
            assert shown["creator"] == caller.creator
            metric = Metric(uuid.UUID(shown["id"]), caller.creator, name, resource.id)
            self.world.metrics[metric.id] = metric

    # ------------------------------------------------------------------ what all share

    def administer(self, draw: Draw) -> None:
        """Services may make types and archive policies; only administrators remove them."""
        caller = draw.caller
        serving, ruling = 403 if not caller.serves else 201, 403 if not caller.admin else 204
        new_type = {"name": "crate"}
        policy = {"name": "odd", "definition": [{"granularity": 1, "points": 1}]}
        rule_ = {"name": "odd", "metric_pattern": "odd", "archive_policy_name": "plain"}
        for path, body, creating in (
            ("resource_type", new_type, serving),
            ("archive_policy", policy, serving),
            ("archive_policy_rule", rule_, 403 if not caller.admin else 201),
        ):
            address = f"{path}/{body['name']}"
            self.status(creating, caller, "POST", path, body)
            if creating == 403:
                self.status(201, ADMIN, "POST", path, body)
            self.status(200, caller, "GET", address)
            self.status(200, caller, "GET", path)
            self.status(ruling, caller, "DELETE", address)
            if ruling == 403:
                self.status(204, ADMIN, "DELETE", address)
        self.status(200 if caller.admin else 403, caller, "GET", "status")


def refusals(*statuses: int | None) -> set[int]:
    """Return the statuses that an answer may have when several things are wrong."""
    return {status for status in statuses if status is not None}


def in_order(rows: list[tuple[Resource, int]], sort: str) -> list[tuple[Resource, int]]:
    """Sort versions of resources by a field, then by id; the current one before earlier ones."""
    name, _, direction = sort.partition(":")
    descending = direction.startswith("desc")
    nulls_first = direction.endswith("nullsfirst") or direction == "desc"

    def revision(row: tuple[Resource, int]) -> int:
        resource, number = row
        return -1 if number == len(resource.versions) - 1 else number

    rows = sorted(rows, key=lambda row: (row[0].id, revision(row)))
    if name == "id" and descending:
        return sorted(rows, key=lambda row: (-row[0].id.int, revision(row)))
    nulls = [row for row in rows if value(*row, name) is None]
    others = [row for row in rows if value(*row, name) is not None]
    # Python's sort keeps the order of equals also in reverse.
    others.sort(key=lambda row: value(*row, name), reverse=descending)
    return nulls + others if nulls_first else others + nulls


#: How often each is drawn.
OPERATIONS: dict[Callable[[Tenants, Draw], None], int] = {
    Tenants.create_resource: 8,
    Tenants.read_resource: 4,
    Tenants.read_history: 3,
    Tenants.update_resource: 8,
    Tenants.delete_resource: 2,
    Tenants.list_resources: 6,
    Tenants.search_resources: 8,
    Tenants.delete_resources: 2,
    Tenants.create_metric: 4,
    Tenants.add_metrics: 4,
    Tenants.use_metric: 4,
    Tenants.use_named_metric: 5,
    Tenants.delete_metric: 1,
    Tenants.list_metrics: 4,
    Tenants.push_by_metric: 2,
    Tenants.push_by_resource: 6,
    Tenants.administer: 1,
}
#: What a run begins with, so that there is something to see.
BEGINNING = (Tenants.create_resource,) * 12 + (Tenants.create_metric,) * 8

numbers = st.integers(0, 2**32)
operations = st.sampled_from([o for o, weight in OPERATIONS.items() for _ in range(weight)])
runs = st.lists(st.tuples(operations, numbers), min_size=STEPS, max_size=STEPS)


def test_answers_are_those_of_the_rules(api: webtest.TestApp, database_kind: str) -> None:
    """Whatever tenants do, nobody sees or changes what is not theirs, or misses what is."""
    requests = calls.Requests(api)
    plain = {"name": "plain", "definition": [{"granularity": 60, "points": 10}]}
    attributes = {
        "host": {"type": "string", "required": False},
        "size": {"type": "number", "required": False},
    }
    box = {"name": "box", "attributes": attributes}
    assert requests.send(ADMIN, "POST", "/v1/archive_policy", plain).status_int == 201
    assert requests.send(ADMIN, "POST", "/v1/resource_type", box).status_int == 201
    examples = os.environ.get("GNOCCHI_EXAMPLES", "15" if database_kind == "sqlite" else "5")

    @settings(
        max_examples=int(examples),
        deadline=None,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(beginning=st.lists(numbers, min_size=len(BEGINNING), max_size=len(BEGINNING)), run=runs)
    def play(beginning: list[int], run: list[Any]) -> None:
        tenants = Tenants(requests)
        tenants.start_empty()
        for step in (*zip(BEGINNING, beginning, strict=True), *run):
            tenants.step(*step)

    play()
