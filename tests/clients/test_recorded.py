"""Conversations of clients that are not run here, as they have been seen on the wire.

Each test is one of them from the first request to the last, with what the client would do about
the answers.
"""

from __future__ import annotations

import concurrent.futures
import json
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest

from tests.clients.conftest import GRAFANA, MAX_LIMIT
from tests.clients.plain import Plain

if TYPE_CHECKING:
    from tests.clients.conftest import Deployment

BATCH = "/v1/batch/resources/metrics/measures?create_metrics=True"
AGENT_TIMEOUT_S = 6.05
PATCH = {"Content-Type": "application/json-patch+json"}


def text(required: bool = False, **options: int) -> dict[str, Any]:
    """Return the definition of an attribute as agents write it: with every option."""
    return {"type": "string", "required": required, "min_length": 0, "max_length": 255} | options


# ------------------------------------------------------------------ telemetry agent


def upgrade_types(plain: Plain, initial: dict[str, Any], steps: list[dict[str, Any]]) -> int:
    """Make types and bring them up to date; return how many requests changed something."""
    changed = 0
    for name, attributes in initial.items():
        if plain.get(f"/v1/resource_type/{name}").status == 404:
            body = {"name": name, "attributes": attributes}
            assert plain.post("/v1/resource_type/", body).status == 201
            changed += 1
    for step in steps:
        path = f"/v1/resource_type/{step['type']}"
        attributes = plain.get(path).json()["attributes"]
        wanted = {k: v for k, v in step["value"].items() if k != "options"}
        # Equality of the whole object decides, so no member may be missing or added.
        if attributes.get(step["name"]) == wanted:
            continue
        patch = [{"op": "add", "path": f"/attributes/{step['name']}", "value": step["value"]}]
        answer = plain.send("PATCH", path, json.dumps(patch).encode(), PATCH)
        assert answer.status == 200, answer.body
        changed += 1
    return changed


def test_types_of_the_telemetry_agent_are_brought_up_to_date_once(
    deployment: Deployment, unique: str
) -> None:
    """A second run finds everything as it wants it and sends no PATCH."""
    plain = deployment.plain("admin" if deployment.mode == "basic" else "ceilometer")
    initial = {f"{unique}-instance": {"host": text(required=True)}, f"{unique}-port": {}}
    steps = [
        {"type": f"{unique}-instance", "name": "host", "value": text()},
        {"type": f"{unique}-instance", "name": "launched_at", "value": text()},
        {
            "type": f"{unique}-instance",
            "name": "flavor_name",
            "value": text(required=True) | {"options": {"fill": ""}},
        },
        {"type": f"{unique}-port", "name": "memory", "value": {
            "type": "number", "required": False, "min": None, "max": None,
        }},
    ]  # fmt: skip
    assert upgrade_types(plain, initial, steps[:1]) == 3
    identity = str(uuid.uuid4())
    made = plain.post(f"/v1/resource/{unique}-instance", {"id": identity, "host": "h"})
    assert made.status == 201
    assert upgrade_types(plain, initial, steps) == 3
    assert upgrade_types(plain, initial, steps) == 0
    resource = plain.get(f"/v1/resource/{unique}-instance/{identity}").json()
    assert (resource["launched_at"], resource["flavor_name"]) == (None, "")


def test_the_telemetry_agent_creates_what_a_batch_lacks(
    deployment: Deployment, unique: str
) -> None:
    """Refused, made, sent again; then attributes are set, and set again without a revision."""
    plain = deployment.plain("admin" if deployment.mode == "basic" else "ceilometer")
    for _ in range(2):
        answer = plain.post(
            "/v1/archive_policy/",
            {
                "name": f"{unique}-low-rate",
                "definition": [{"granularity": "5 minutes", "timespan": "30 days"}],
                "back_window": 0,
                "aggregation_methods": ["mean", "rate:mean"],
            },
        )
        assert answer.status in (201, 409)
    assert answer.status == 409
    assert answer.description().startswith("Archive policy ")
    port = {"id": text(), "name": text(), "instance_id": text()}
    del port["id"]  # a name that types cannot have
    types = {f"{unique}-instance": {"host": text()}, f"{unique}-port": port}
    for name, attributes in types.items():
        plain.post("/v1/resource_type/", {"name": name, "attributes": attributes})

    instance = str(uuid.uuid4())
    tap = f"instance-0000abcd-{instance}-tap0"
    odd = f"{unique} node_1-cpu temp (0x1)"
    # Beyond 2**53, and naive times with and without a fraction.
    cpu = {
        "measures": [
            {"timestamp": "2026-01-05T10:00:00", "value": 2**60},
            {"timestamp": "2026-01-05T10:05:00.123456", "value": 2**60 + 2**20},
        ],
        "archive_policy_name": f"{unique}-low-rate",
        "unit": "ns",
    }
    bytes_ = cpu | {"unit": ""}
    batch = {instance: {"cpu": cpu}, tap: {"network.incoming.bytes": bytes_}, odd: {"t": cpu}}
    refused = plain.post(BATCH, batch)
    assert refused.status == 400
    description = refused.description()
    assert description["cause"] == "Unknown resources"
    named = [one["original_resource_id"] for one in description["detail"]]
    assert sorted(named) == sorted([instance, tap, odd])
    kinds = {instance: f"{unique}-instance", tap: f"{unique}-port", odd: "generic"}
    for one in named:
        assert plain.post(f"/v1/resource/{kinds[one]}", {"id": one}).status == 201
        assert plain.post(f"/v1/resource/{kinds[one]}", {"id": one}).status == 409
    for _ in range(2):
        answer = plain.post(BATCH, batch)
        assert (answer.status, answer.body) == (202, b"")

    body = {"project_id": "p", "host": "h1"}
    path = f"/v1/resource/{kinds[instance]}/{instance}"
    for _ in range(2):
        assert plain.send("PATCH", path, body).status == 200
    assert len(plain.get(f"{path}/history").json()) == 2
    path = f"/v1/resource/{kinds[tap]}/{quote(tap)}"
    changes = {"project_id": "p", "name": "tap0", "instance_id": instance}
    assert plain.send("PATCH", path, changes).status == 200

    # The instance is deleted: what hangs on it is searched for, and ended.
    found = plain.post(f"/v1/search/resource/{kinds[tap]}", {"=": {"instance_id": instance}}).json()
    assert [one["original_resource_id"] for one in found] == [tap]
    for one in found:
        path = f"/v1/resource/{one['type']}/{one['id']}"
        ended = plain.send("PATCH", path, {"ended_at": "2126-01-05T10:15:00.123456"})
        assert ended.status == 200
        assert ended.json()["ended_at"] == "2126-01-05T10:15:00.123456+00:00"
    missing = plain.send("PATCH", f"/v1/resource/generic/{uuid.uuid4()}", {"project_id": "p"})
    assert missing.status == 404

    path = f"/v1/resource/generic/{instance}/metric/cpu/measures"
    measures = plain.get(f"{path}?aggregation=rate:mean&granularity=300&refresh=True").json()
    assert measures == [["2026-01-05T10:05:00+00:00", 300.0, float(2**20)]]


def test_a_big_batch_is_answered_before_the_agent_gives_up(
    deployment: Deployment, unique: str
) -> None:
    """120 new instances with 9 meters each: no request of theirs may take longer than 6.05 s."""
    plain = deployment.plain("admin" if deployment.mode == "basic" else "ceilometer")
    patient = deployment.plain("admin")
    plain.timeout_s = AGENT_TIMEOUT_S
    measures = {
        "measures": [{"timestamp": "2026-01-05T10:00:00", "value": 1}],
        "archive_policy_name": "low",
        "unit": "B",
    }
    meters = {"": ["cpu", "memory", "vcpus"], "-tap0": ["in", "out", "drop"], "-vda": "rwx"}
    batch = {
        f"{unique}-{instance}{part}": dict.fromkeys(names, measures)
        for instance in range(120)
        for part, names in meters.items()
    }
    refused = plain.post(BATCH, batch)
    assert refused.status == 400
    assert len(refused.description()["detail"]) == 360
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        bodies = ({"id": one} for one in batch)
        made = list(threads.map(lambda body: plain.post("/v1/resource/generic", body), bodies))
    assert {answer.status for answer in made} == {201}
    for _ in range(2):
        assert plain.post(BATCH, batch).status == 202
    found = patient.post(
        "/v1/search/resource/generic?limit=1&attrs=metrics&sort=original_resource_id:desc",
        {"like": {"original_resource_id": f"{unique}-%"}},
    )
    assert sorted(found.json()[0]["metrics"]) == ["r", "w", "x"]


# ------------------------------------------------------------------ alarms


def test_alarms_read_the_last_periods(deployment: Deployment, unique: str, policy: str) -> None:
    """Times come without an offset and with microseconds, or relative to now."""
    plain = deployment.plain("admin")
    metrics = {"cpu": {"archive_policy_name": policy}}
    plain.post("/v1/resource/generic", {"id": unique, "metrics": metrics})
    path = f"/v1/resource/generic/{unique}/metric/cpu/measures"
    measures = [{"timestamp": f"2026-01-05T10:0{n}:30", "value": n} for n in range(5)]
    assert plain.post(path, measures).status == 202
    read = plain.get(
        f"{path}?aggregation=mean&granularity=60.0&refresh=True"
        "&start=2026-01-05T10:01:00.123456&stop=2026-01-05T10:03:00.123456"
    )
    expected = [[f"2026-01-05T10:0{n}:00+00:00", 60.0, float(n)] for n in (1, 2, 3)]
    assert read.json() == expected
    assert plain.post(path, [{"timestamp": "-90 minutes", "value": 7}]).status == 202
    recent = plain.get(f"{path}?start=-1%20day&stop=now&refresh=True").json()
    assert [value for _, _, value in recent] == [7.0]
    missing = plain.get(f"/v1/resource/generic/{unique}/metric/mem/measures")
    assert (missing.status, missing.description()) == (404, "Metric mem does not exist")
    nobody = str(uuid.uuid4())
    missing = plain.get(f"/v1/resource/generic/{nobody}/metric/cpu/measures")
    assert (missing.status, missing.description()) == (404, f"Resource {nobody} does not exist")


def test_senseless_queries_of_tenants_are_told_as_such(deployment: Deployment) -> None:
    """They come inside the filter that the alarm service puts around them."""
    plain = deployment.plain("admin")
    owned = [{"=": {"created_by_project_id": "s"}}, {"=": {"project_id": "p"}}]
    theirs = {"or": [{"=": {"created_by_project_id": "p"}}, {"and": owned}]}
    path = "/v1/search/resource/generic"
    assert plain.post(path, {"and": [theirs, {"=": {"user_id": "u"}}]}).json() == []
    senseless: tuple[Any, ...] = ({"bogus": [1]}, {"=": 1}, {"and": [{"bogus": {"id": 1}}]}, 1)
    for query in senseless:
        refused = plain.post(path, {"and": [theirs, query]})
        assert refused.status == 400, refused.body
        assert refused.description()["cause"] == "Invalid input"


# ------------------------------------------------------------------ rating


def test_the_rating_service_finds_what_lives_and_all_projects(
    deployment: Deployment, unique: str
) -> None:
    """Its loops end: each page names the next until one is empty, and null is in no list."""
    plain = deployment.plain("admin")
    plain.post("/v1/resource_type/", {"name": unique})
    count = 2 * MAX_LIMIT
    for n in range(count):
        project = None if n == 0 else f"p{n % 3}"
        body = {"id": str(uuid.uuid4()), "project_id": project, "started_at": "2026-01-01"}
        assert plain.post(f"/v1/resource/{unique}", body).status == 201
    gone = {"id": str(uuid.uuid4()), "started_at": "2026-01-01", "ended_at": "2026-01-02"}
    plain.post(f"/v1/resource/{unique}", gone)

    query = {
        "and": [
            {"or": [{"=": {"ended_at": None}}, {">=": {"ended_at": "2026-01-05T10:00:00+00:00"}}]},
            {"<=": {"started_at": "2026-01-05T11:00:00+00:00"}},
        ]
    }
    path: str | None = f"/v1/search/resource/{unique}?sort=id:asc"
    found: list[str] = []
    while path is not None:
        answer = plain.post(path, query)
        found += [one["id"] for one in answer.json()]
        link = answer.headers.get("link")
        path = None if link is None else link.partition(">")[0].removeprefix(f"<{deployment.url}")
    assert found == sorted(found)
    assert len(found) == count
    last = plain.post(f"/v1/search/resource/{unique}?sort=id:asc&marker={found[-1]}", query)
    assert last.json() == []

    projects: list[str] = []
    path = f"/v1/search/resource/{unique}?details=true"
    page = plain.post(path, {}).json()
    for _ in range(count):
        projects += {one["project_id"] for one in page if one["project_id"] is not None}
        page = plain.post(path, {"not": {"in": {"project_id": projects}}}).json()
        if not page:
            break
    assert sorted(projects) == ["p0", "p1", "p2"]
    assert page == []


def test_the_rating_service_stores_its_results(deployment: Deployment, unique: str) -> None:
    """Types have names with dots and signs; metrics are made first, and attached by id."""
    plain = deployment.plain("admin")
    policy = {"name": f"{unique}-rating", "definition": [{"granularity": 3600}]}
    assert plain.post("/v1/archive_policy/", policy).status == 201
    name = f"rating_service_{unique}.cpu@idle"
    body = {"name": name, "attributes": {"flavor.name": text()}}
    assert plain.post("/v1/resource_type/", body).status == 201
    metrics = {}
    for metric in ("qty", "price"):
        answer = plain.post("/v1/metric/", {"archive_policy_name": policy["name"], "name": metric})
        metrics[metric] = answer.json()["id"]
    path = f"/v1/resource/{quote(name, safe='@')}"
    resource = {"id": str(uuid.uuid4()), "flavor.name": "m1", "metrics": metrics}
    made = plain.post(path, resource)
    assert made.status == 201
    assert made.json()["metrics"] == metrics
    query = {"and": [{"=": {"flavor.name": "m1"}}, {"=": {"user_id": None}}]}
    found = plain.post(f"/v1/search/resource/{quote(name)}?limit=1", query)
    assert [one["id"] for one in found.json()] == [resource["id"]]
    measure = [{"timestamp": "2026-01-05T10:00:00+00:00", "value": 0.25}]
    answer = plain.post("/v1/batch/metrics/measures", dict.fromkeys(metrics.values(), measure))
    assert answer.status == 202
    types = {"like": {"type": f"rating_service_{unique}%"}}
    found = plain.post("/v1/search/resource/generic", types)
    assert [one["id"] for one in found.json()] == [resource["id"]]


# ------------------------------------------------------------------ dashboards


def test_dashboards_ask_first(deployment: Deployment) -> None:
    """A browser sends no credentials with the question whether it may send a request."""
    nobody = Plain(deployment.url, {})
    asked = "authorization,content-type,x-auth-token"
    for path, method in (("/v1/resource", "GET"), ("/v1/search/resource/generic", "POST")):
        question = {
            "Origin": GRAFANA,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": asked,
        }
        answer = nobody.send("OPTIONS", path, headers=question)
        assert answer.status in (200, 204)
        assert answer.headers["access-control-allow-origin"] == GRAFANA
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["access-control-allow-methods"] == method
        allowed = answer.headers["access-control-allow-headers"].lower()
        assert {part.strip() for part in allowed.split(",")} == set(asked.split(","))
        other = question | {"Origin": "http://elsewhere.example"}
        refused = nobody.send("OPTIONS", path, headers=other)
        assert not [name for name in refused.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/resource", 200),
        ("/v1/resource/generic/10000000-0000-4000-8000-000000000001", 404),
        ("/v1/resource/generic?limit=x", 400),
        ("/v1/nothing", 404),
    ],
)
def test_dashboards_may_read_every_answer(deployment: Deployment, path: str, status: int) -> None:
    """Without the header the page sees a failure of the network, whatever the answer."""
    accept = "application/json, text/plain, */*"
    answer = deployment.plain("admin").get(path, Origin=GRAFANA, Accept=accept)
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == GRAFANA
    assert answer.headers["content-type"] == "application/json"
    refused = Plain(deployment.url, {}).get(path, Origin=GRAFANA, Accept=accept)
    assert refused.status == (404 if path == "/v1/nothing" and deployment.mode == "basic" else 401)
    assert refused.headers["access-control-allow-origin"] == GRAFANA


def test_dashboards_find_resources_and_curves(
    deployment: Deployment, unique: str, policy: str
) -> None:
    """Parameters without a value come as the text ``null``, and some mean nothing at all."""
    plain = deployment.plain("admin", Accept="application/json, text/plain, */*")
    assert "generic" in plain.get("/v1/resource").json()
    assert {"name": "generic", "state": "active", "attributes": {}} in plain.get(
        "/v1/resource_type"
    ).json()
    metrics = {"cpu": {"archive_policy_name": policy}}
    made = plain.post("/v1/resource/generic", {"id": unique, "metrics": metrics}).json()
    nothing = urlencode(dict.fromkeys(("granularity", "aggregation", "filter", "groupby"), "null"))

    path = f"/v1/search/resource/generic?attrs=id&attrs=metrics&{nothing}"
    found = plain.post(path, {"=": {"id": unique}})
    assert found.json() == [{"id": made["id"], "metrics": made["metrics"]}]
    filter_ = quote(f"id = '{made['id']}'")
    path = f"/v1/search/resource/generic?filter={filter_}&limit=null&marker=null&sort=null"
    found = plain.post(path, b"", **{"Content-Type": "application/json"})
    assert [one["id"] for one in found.json()] == [made["id"]]

    measures = [{"timestamp": "2026-01-05T10:00:00.000Z", "value": 1}]
    plain.post(f"/v1/metric/{made['metrics']['cpu']}/measures", measures)
    span = (
        "start=2026-01-05T09:00:00.000Z&end=2026-01-05T11:00:00.000Z&stop=2026-01-05T11:00:00.000Z"
    )
    expected = [["2026-01-05T10:00:00+00:00", 60.0, 1.0]]
    for path in (f"metric/{made['metrics']['cpu']}", f"resource/generic/{unique}/metric/cpu"):
        read = plain.get(f"/v1/{path}/measures?{span}&{nothing}&resample=null&refresh=true")
        assert read.json() == expected, read.body
    one = plain.get(f"/v1/metric/{made['metrics']['cpu']}").json()
    assert one["resource"]["id"] == made["id"]
    assert "mean" in one["archive_policy"]["aggregation_methods"]


# ------------------------------------------------------------------ collector of hosts


def test_five_threads_of_a_collector_start_at_once(deployment: Deployment, unique: str) -> None:
    """Each makes type and resource when its batch is refused; every measure arrives once."""
    plain = deployment.plain("admin")
    policy = {"name": unique, "definition": [{"granularity": 1}], "back_window": 10}
    plain.post("/v1/archive_policy", policy)
    rule = {"name": unique, "metric_pattern": f"{unique}*", "archive_policy_name": unique}
    plain.post("/v1/archive_policy_rule", rule)
    kind, host = f"{unique}-collectd", f"collectd:{unique}"
    names = [f"{unique}-interface-eth0@if_octets-rx", f"{unique}-exec-a b@gauge-x"]

    def write(thread: int) -> None:
        batch = {
            host: {
                name: [{"timestamp": 1767607200.125 + thread, "value": thread}] for name in names
            }
        }
        answer = plain.post(BATCH, batch)
        if answer.status == 400:
            resource = {"id": host, "host": unique}
            made = plain.post(f"/v1/resource/{kind}", resource)
            if made.status == 404:
                assert made.description().startswith("Resource type ")
                type_ = {"name": kind, "attributes": {"host": text(required=True)}}
                assert plain.post("/v1/resource_type/", type_).status in (201, 409)
                made = plain.post(f"/v1/resource/{kind}", resource)
            assert made.status in (201, 409), made.body
            answer = plain.post(BATCH, batch)
        assert answer.status == 202, answer.body

    with concurrent.futures.ThreadPoolExecutor(5) as threads:
        list(threads.map(write, range(5)))
    found = plain.get(f"/v1/resource/{kind}").json()
    assert [one["original_resource_id"] for one in found] == [host]
    assert sorted(found[0]["metrics"]) == sorted(names)
    for name in names:
        path = f"/v1/resource/generic/{quote(host)}/metric/{quote(name)}/measures"
        read = plain.get(f"{path}?aggregation=count&refresh=True").json()
        assert [value for _, _, value in read] == [1.0] * 5
