"""Real tokens of a real Keystone: who is believed, who may do what, what is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from gnocchiclient import exceptions

from tests.clients.plain import Plain

if TYPE_CHECKING:
    from tests.clients.conftest import Deployment

MEASURES = [{"timestamp": "2026-01-05T10:00:00", "value": 1}]
FORGED = {
    "X-Identity-Status": "Confirmed",
    "X-Roles": "admin",
    "X-Role": "admin",
    "X-User-Id": "admin",
    "X-Project-Id": "admin",
    "X-Domain-Id": "default",
}


# ------------------------------------------------------------------ credentials


@pytest.mark.parametrize("path", ["/v1/", "/v1", "/v1/metric", "//v1//resource/generic", "/v1/no"])
@pytest.mark.parametrize("headers", [{}, {"X-Auth-Token": "gAAAAABnotatoken"}, FORGED])
def test_nothing_of_the_api_answers_without_a_token(
    keystone: Deployment, path: str, headers: dict[str, str]
) -> None:
    """Clients learn from the answer where to get one, and identities are never believed."""
    answer = Plain(keystone.url, headers).get(path)
    assert answer.status == 401
    assert keystone.accounts is not None
    expected = f'Keystone uri="{keystone.accounts.url}"'
    assert answer.headers["www-authenticate"] == expected


@pytest.mark.parametrize("path", ["/", "/healthcheck"])
def test_the_versions_need_no_token(keystone: Deployment, path: str) -> None:
    assert Plain(keystone.url, {}).get(path).status == 200


def test_basic_credentials_mean_nothing(keystone: Deployment, basic: Deployment) -> None:
    headers = basic.session("admin").get_auth_headers()
    assert Plain(keystone.url, headers).get("/v1/metric").status == 401


def test_headers_beside_a_token_are_not_believed(keystone: Deployment, unique: str) -> None:
    """Whoever has a token is who the token says, whatever else is sent."""
    plain = keystone.plain("alice", **FORGED)
    assert plain.get("/v1/status").status == 403
    assert plain.post("/v1/resource_type", {"name": unique}).status == 403
    made = plain.post("/v1/resource/generic", {"id": unique})
    assert made.status == 201
    assert made.json()["creator"] == keystone.creators["alice"]


def test_tokens_without_a_project_see_nothing(keystone: Deployment, unique: str) -> None:
    """A resource that belongs to no project does not belong to them."""
    keystone.client("alice").resource.create("generic", {"id": unique, "project_id": None})
    client = keystone.client("alice", scoped=False)
    assert client.resource.list() == []
    assert client.resource.search(query={"=": {"project_id": None}}) == []
    assert client.metric.list() == []


# ------------------------------------------------------------------ members of projects


def test_members_see_what_their_project_made(keystone: Deployment, unique: str) -> None:
    """Metrics without a resource included."""
    alice, carroll, bob = (keystone.client(name) for name in ("alice", "carroll", "bob"))
    resource = alice.resource.create("generic", {"id": unique})
    metric = alice.metric.create(name=unique, archive_policy_name="low")
    for client in (alice, carroll):
        assert resource in client.resource.list()
        assert client.resource.get("generic", resource["id"]) == resource
        assert client.resource.search(query={"=": {"id": resource["id"]}}) == [resource]
        assert metric["id"] in {listed["id"] for listed in client.metric.list()}
        assert client.metric.get(metric["id"]) == metric
    # The text is bound to who sends it.
    with pytest.raises(exceptions.ResourceNotFound):
        carroll.resource.get("generic", unique)

    assert resource["id"] not in {listed["id"] for listed in bob.resource.list()}
    assert bob.resource.search(query={"=": {"id": resource["id"]}}) == []
    assert metric["id"] not in {listed["id"] for listed in bob.metric.list()}
    for read in (
        lambda: bob.resource.get("generic", resource["id"]),
        lambda: bob.resource.history("generic", resource["id"]),
    ):
        with pytest.raises(exceptions.ResourceNotFound):
            read()


def test_strangers_change_nothing(keystone: Deployment, unique: str) -> None:
    alice, bob = keystone.client("alice"), keystone.client("bob")
    resource = alice.resource.create("generic", {"id": unique})
    metric = alice.metric.create(name="m", archive_policy_name="low", resource_id=unique)
    for change in (
        lambda: bob.resource.update("generic", resource["id"], {"user_id": "bob"}),
        lambda: bob.resource.delete(resource["id"]),
        lambda: bob.metric.create(name="n", archive_policy_name="low", resource_id=resource["id"]),
        lambda: bob.metric.get(metric["id"]),
        lambda: bob.metric.delete(metric["id"]),
        lambda: bob.metric.add_measures(metric["id"], MEASURES),
        lambda: bob.metric.get_measures(metric["id"]),
        lambda: bob.metric.batch_metrics_measures({metric["id"]: MEASURES}),
        lambda: bob.metric.batch_resources_metrics_measures({resource["id"]: {"m": MEASURES}}),
        lambda: bob.metric.batch_resources_metrics_measures(
            {resource["id"]: {"n": {"measures": MEASURES, "archive_policy_name": "low"}}},
            create_metrics=True,
        ),
    ):
        with pytest.raises(exceptions.Forbidden):
            change()
    assert bob.resource.batch_delete({"=": {"id": resource["id"]}}) == {"deleted": 0}
    assert alice.resource.get("generic", unique) == resource | {"metrics": {"m": metric["id"]}}


def test_members_read_what_belongs_to_their_project(keystone: Deployment, unique: str) -> None:
    """What the telemetry agent stores about a project is read by its members alone."""
    assert keystone.accounts is not None
    agent, alice, bob = (keystone.client(name) for name in ("ceilometer", "alice", "bob"))
    project = keystone.accounts.project("wonderland")
    resource = agent.resource.create("generic", {"id": unique, "project_id": project})
    metric = agent.metric.create(name="cpu", archive_policy_name="low", resource_id=unique)
    agent.metric.add_measures(metric["id"], MEASURES)
    resource["metrics"] = {"cpu": metric["id"]}

    assert alice.resource.get("generic", resource["id"]) == resource
    assert alice.resource.search(query={"=": {"project_id": project}}) == [resource]
    assert alice.metric.get("cpu", resource["id"]) == metric
    assert alice.metric.get_measures("cpu", resource_id=resource["id"], refresh=True)
    assert metric["id"] in {listed["id"] for listed in alice.metric.list()}
    for change in (
        lambda: alice.resource.update("generic", resource["id"], {"user_id": "alice"}),
        lambda: alice.resource.delete(resource["id"]),
        lambda: alice.metric.add_measures(metric["id"], MEASURES),
        lambda: alice.metric.delete(metric["id"]),
    ):
        with pytest.raises(exceptions.Forbidden):
            change()
    assert alice.resource.batch_delete({"=": {"project_id": project}}) == {"deleted": 0}
    with pytest.raises(exceptions.Forbidden):
        bob.metric.get_measures(metric["id"])
    assert bob.resource.search(query={"=": {"project_id": project}}) == []


# ------------------------------------------------------------------ services


def test_services_make_everything_they_need(keystone: Deployment, unique: str) -> None:
    """The role is enough for policies, types, resources and measures of anybody."""
    agent, alice = keystone.client("ceilometer"), keystone.client("alice")
    agent.archive_policy.create({"name": unique, "definition": [{"granularity": "5 minutes"}]})
    agent.resource_type.create({"name": unique})
    attribute = {"type": "string", "required": False}
    agent.resource_type.update(
        unique, [{"op": "add", "path": "/attributes/host", "value": attribute}]
    )
    agent.resource.create(unique, {"id": unique, "host": "a"})
    measures = {"cpu": {"measures": MEASURES, "archive_policy_name": unique}}
    agent.metric.batch_resources_metrics_measures({unique: measures}, create_metrics=True)

    resource = alice.resource.create(unique, {"id": f"{unique}-1"})
    metric = alice.metric.create(name="m", archive_policy_name=unique, resource_id=resource["id"])
    agent.resource.update(unique, resource["id"], {"host": "b"})
    agent.metric.add_measures(metric["id"], MEASURES)
    assert agent.metric.get_measures(metric["id"], refresh=True)
    assert (
        agent.metric.create(name="n", archive_policy_name=unique, resource_id=resource["id"])[
            "creator"
        ]
        == keystone.creators["alice"]
    )
    found = agent.resource.search(unique, {"like": {"host": "%"}}, sorts=["host:asc"])
    assert [one["host"] for one in found] == ["a", "b"]


def test_services_remove_no_policies_and_types(keystone: Deployment, unique: str) -> None:
    agent, admin = keystone.client("ceilometer"), keystone.client()
    agent.archive_policy.create({"name": unique, "definition": [{"granularity": "5 minutes"}]})
    agent.resource_type.create({"name": unique})
    for change in (
        lambda: agent.archive_policy.delete(unique),
        lambda: agent.resource_type.delete(unique),
        lambda: agent.archive_policy.update(unique, {"definition": [{"granularity": 1}]}),
        lambda: agent.archive_policy_rule.create(
            {"name": unique, "metric_pattern": unique, "archive_policy_name": unique}
        ),
    ):
        with pytest.raises(exceptions.Forbidden):
            change()
    admin.archive_policy.delete(unique)
    admin.resource_type.delete(unique)


def test_creators_are_found_by_their_project(keystone: Deployment, unique: str) -> None:
    """Alarms put a project's members' queries inside such a filter."""
    assert keystone.accounts is not None
    project, service = (keystone.accounts.project(name) for name in ("wonderland", "service"))
    agent, alice = keystone.client("ceilometer"), keystone.client("alice")
    wanted = [
        alice.resource.create("generic", {"id": f"{unique}-1", "user_id": unique}),
        agent.resource.create(
            "generic", {"id": f"{unique}-2", "user_id": unique, "project_id": project}
        ),
    ]
    agent.resource.create("generic", {"id": f"{unique}-3", "user_id": unique, "project_id": "p"})
    keystone.client("bob").resource.create(
        "generic", {"id": f"{unique}-4", "user_id": unique, "project_id": project}
    )
    owned = {
        "and": [
            {"=": {"created_by_project_id": service}},
            {"=": {"project_id": project}},
        ]
    }
    query = {
        "and": [
            {"or": [{"=": {"created_by_project_id": project}}, owned]},
            {"=": {"user_id": unique}},
        ]
    }
    assert agent.resource.search(query=query, sorts=["original_resource_id:asc"]) == wanted
