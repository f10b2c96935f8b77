"""gnocchiclient as a library: what it sends is understood, and it understands the answers."""

from __future__ import annotations

import datetime
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from gnocchiclient import exceptions

from tests.clients.conftest import MAX_LIMIT

if TYPE_CHECKING:
    from gnocchiclient.v1.client import Client

    from tests.clients.conftest import Deployment

UTC = datetime.UTC


def at(minute: int) -> datetime.datetime:
    """Return a time of the test data."""
    return datetime.datetime(2026, 1, 5, 10, minute, tzinfo=UTC)


def points(*values: float) -> list[dict[str, Any]]:
    """Return measures of consecutive minutes, with times as clients write them."""
    return [
        {"timestamp": at(minute).replace(tzinfo=None).isoformat(), "value": value}
        for minute, value in enumerate(values)
    ]


def box(name: str) -> dict[str, Any]:
    """Return a resource type of its own for the test."""
    attributes = {
        "host": {"type": "string", "required": True, "min_length": 1},
        "size": {"type": "number", "required": False},
    }
    return {"name": name, "attributes": attributes}


def ids(documents: list[dict[str, Any]]) -> list[str]:
    """Return the ids of what was listed."""
    return [document["id"] for document in documents]


# ------------------------------------------------------------------ the service


def test_version_is_one_that_clients_take(client: Client) -> None:
    """Three integers, the first of which is 4: anything else is refused by the telemetry agents."""
    build = client.build.get()
    major, minor, patch = (int(part) for part in build.split(".")[:3])
    assert major == 4
    assert (minor, patch) >= (2, 0)


def test_capabilities_and_status(client: Client) -> None:
    assert len(client.capabilities.list()["aggregation_methods"]) == 216
    summary = client.status.get()["storage"]["summary"]
    assert {"measures", "metrics"} <= summary.keys()
    status = client.status.get(details=True)
    assert isinstance(status["storage"]["measures_to_process"], dict)
    assert "processors" in status["metricd"]


def test_archive_policies_and_rules(client: Client, unique: str) -> None:
    """Updates come with two slashes in their path."""
    definition = [{"granularity": "1 minute", "points": 10}]
    made = client.archive_policy.create(
        {"name": unique, "definition": definition, "back_window": 1}
    )
    assert made["back_window"] == 1
    wider = client.archive_policy.update(
        unique, {"definition": [{"granularity": "1 minute", "points": 20}]}
    )
    assert wider["definition"][0]["points"] == 20
    assert client.archive_policy.get(unique) == wider
    assert wider in client.archive_policy.list()

    rule = {"name": unique, "metric_pattern": f"{unique}.*", "archive_policy_name": unique}
    assert client.archive_policy_rule.create(rule) == rule
    renamed = rule | {"name": f"{unique}-new"}
    assert client.archive_policy_rule.update(unique, f"{unique}-new") == renamed
    assert client.archive_policy_rule.get(f"{unique}-new") == renamed
    assert renamed in client.archive_policy_rule.list()
    client.archive_policy_rule.delete(f"{unique}-new")
    client.archive_policy.delete(unique)
    with pytest.raises(exceptions.ArchivePolicyNotFound):
        client.archive_policy.get(unique)


# ------------------------------------------------------------------ types and resources


def test_resource_types(client: Client, unique: str) -> None:
    made = client.resource_type.create(box(unique))
    host = {"type": "string", "required": True, "min_length": 1, "max_length": 256}
    size = {"type": "number", "required": False, "min": None, "max": None}
    assert made == {"name": unique, "state": "active", "attributes": {"host": host, "size": size}}
    assert client.resource_type.get(unique) == made
    assert made in client.resource_type.list()
    client.resource.create(unique, {"id": f"{unique}-1", "host": "a"})

    rack = {"type": "string", "required": True, "options": {"fill": "r0"}}
    changed = client.resource_type.update(
        unique,
        [
            {"op": "add", "path": "/attributes/rack", "value": rack},
            {"op": "remove", "path": "/attributes/size"},
        ],
    )
    assert sorted(changed["attributes"]) == ["host", "rack"]
    filled = client.resource.get(unique, f"{unique}-1")
    assert filled["rack"] == "r0"
    assert "size" not in filled

    with pytest.raises(exceptions.BadRequest, match=f"Resource type {unique} is still in use"):
        client.resource_type.delete(unique)
    client.resource.delete(f"{unique}-1")
    client.resource_type.delete(unique)
    assert unique not in {known["name"] for known in client.resource_type.list()}


def test_a_resource_from_beginning_to_end(
    client: Client, deployment: Deployment, unique: str, policy: str
) -> None:
    client.resource_type.create(box(unique))
    text = f"{unique} one"
    made = client.resource.create(
        unique,
        {
            "id": text,
            "host": "a",
            "project_id": "p",
            "started_at": "2026-01-05T10:00:00",
            "metrics": {"cpu": {"archive_policy_name": policy, "unit": "ns"}},
        },
    )
    creator = deployment.creators["admin"]
    assert made["original_resource_id"] == text
    assert made["creator"] == creator
    assert made["created_by_user_id"] == creator.partition(":")[0]
    assert made["created_by_project_id"] == creator.partition(":")[2]
    assert made["started_at"] == "2026-01-05T10:00:00+00:00"
    assert made["type"] == unique
    assert list(made["metrics"]) == ["cpu"]
    assert client.resource.get(unique, made["id"]) == made
    # The client puts ids into paths as they are; only what URLs need is encoded.
    assert client.resource.get("generic", text)["id"] == made["id"]

    same = client.resource.update(unique, made["id"], {"host": "a"})
    assert same == made
    changed = client.resource.update(unique, made["id"], {"host": "b", "size": 1.5})
    assert changed["host"] == "b"
    assert changed["revision_start"] > made["revision_start"]
    history = client.resource.history(unique, made["id"], details=True)
    assert [version["host"] for version in history] == ["a", "b"]
    assert history[0]["revision_end"] == history[1]["revision_start"]
    assert history[1] == changed
    assert client.resource.get(unique, made["id"], history=True) == history

    ended = client.resource.update(unique, made["id"], {"ended_at": "2026-01-05T11:00:00"})
    assert ended["ended_at"] == "2026-01-05T11:00:00+00:00"
    client.resource.delete(made["id"])
    with pytest.raises(exceptions.ResourceNotFound):
        client.resource.get(unique, made["id"])
    with pytest.raises(exceptions.MetricNotFound):
        client.metric.get(made["metrics"]["cpu"])


def test_lists_follow_the_pages(client: Client, unique: str) -> None:
    """Without a limit the client follows links until there are none, sending its body again."""
    client.resource_type.create(box(unique))
    count = 2 * MAX_LIMIT + 1
    made = [
        client.resource.create(unique, {"id": f"{unique}-{n}", "host": f"h {n}", "size": -n})
        for n in range(count)
    ]
    for n in range(3):
        client.resource.update(unique, made[n]["id"], {"host": "new"})
    in_order = ids(made)
    client_list, search = client.resource.list, client.resource.search

    assert sorted(ids(client_list(unique))) == sorted(in_order)
    assert ids(client_list(unique, sorts=["size:desc"])) == in_order
    assert ids(client_list(unique, sorts=["size:asc"])) == in_order[::-1]
    assert ids(client_list(unique, limit=3, sorts=["size:desc"])) == in_order[:3]
    rest = client_list(unique, marker=in_order[2], sorts=["size:desc"])
    assert ids(rest) == in_order[3:]
    versions = client_list(
        unique, history=True, details=True, sorts=["size:desc", "revision_start:asc"]
    )
    assert ids(versions) == [i for n, i in enumerate(in_order) for _ in range(2 if n < 3 else 1)]
    assert all("host" in resource for resource in client_list(unique, details=True))

    # As many as fill their pages, so that the last link leads to an empty one.
    few = {"<=": {"size": -1}}
    for query in (few, "size <= -1", "size <= -1 and not host = 'x y'"):
        found = search(unique, query, sorts=["size:desc"])
        assert ids(found) == in_order[1:]
    assert sorted(ids(search(unique, None))) == sorted(in_order)
    assert ids(search(unique, few, limit=2, sorts=["size:desc"])) == in_order[1:3]
    old = search(unique, "revision_end != null", history=True, sorts=["size:desc"])
    assert ids(old) == in_order[:3]
    assert [version["host"] for version in old] == ["h 0", "h 1", "h 2"]


def test_bulk_deletion(client: Client, unique: str) -> None:
    """The query comes as a body, or as text without a body but with a content type."""
    client.resource_type.create(box(unique))
    for n in range(4):
        client.resource.create(unique, {"id": f"{unique}-{n}", "host": f"h{n}"})
    assert client.resource.batch_delete({"=": {"host": "h0"}}, unique) == {"deleted": 1}
    assert client.resource.batch_delete("host in ['h1', 'h2', 'nobody']", unique) == {"deleted": 2}
    assert [r["host"] for r in client.resource.list(unique)] == ["h3"]
    with pytest.raises(exceptions.BadRequest, match="caution: the query can not be empty"):
        client.resource.batch_delete({}, unique)


# ------------------------------------------------------------------ metrics and measures


def test_metrics(client: Client, unique: str, policy: str) -> None:
    resource = client.resource.create("generic", {"id": unique})
    alone = client.metric.create(name=unique, archive_policy_name=policy, unit="B")
    assert alone["resource"] is None
    assert alone["archive_policy"]["name"] == policy
    assert alone["unit"] == "B"
    on = client.metric.create(name="cpu", archive_policy_name=policy, resource_id=unique)
    assert on["resource"]["id"] == resource["id"]
    assert client.metric.get("cpu", resource["id"]) == client.metric.get(on["id"]) == on
    assert client.resource.get("generic", unique)["metrics"] == {"cpu": on["id"]}
    assert client.metric._create_new("mem", policy, unique)["id"]

    for _ in range(MAX_LIMIT):
        client.metric.create(name=unique, archive_policy_name=policy)
    listed = client.metric.list(sorts=["name:asc"])
    own = [metric for metric in listed if metric["archive_policy"]["name"] == policy]
    assert len(own) == MAX_LIMIT + 3
    assert {metric["resource_id"] for metric in own} == {None, resource["id"]}
    assert [metric["name"] for metric in listed] == sorted(metric["name"] for metric in listed)

    client.metric.delete("cpu", unique)
    client.metric.delete(alone["id"])
    for metric, attached in ((alone["id"], None), (on["id"], None), ("cpu", unique)):
        with pytest.raises(exceptions.MetricNotFound):
            client.metric.get(metric, attached)
    with pytest.raises(exceptions.NamedMetricAlreadyExists):
        client.metric.create(name="mem", archive_policy_name=policy, resource_id=unique)


def test_measures(client: Client, unique: str, policy: str) -> None:
    client.resource.create("generic", {"id": unique})
    metric = client.metric.create(name="cpu", archive_policy_name=policy, resource_id=unique)
    client.metric.add_measures(metric["id"], points(1))
    # The second one at the same time replaces the first.
    client.metric.add_measures("cpu", points(3, 5, 9), unique)
    expected = [(at(0), 60.0, 3.0), (at(1), 60.0, 5.0), (at(2), 60.0, 9.0)]
    read = client.metric.get_measures
    assert read(metric["id"], refresh=True) == expected
    assert read("cpu", resource_id=unique, aggregation="max", granularity=60) == expected
    assert read(metric["id"], start=at(1), stop=at(2)) == expected[1:2]
    assert read(metric["id"], start=at(1).isoformat(), granularity="60") == expected[1:]
    assert read(metric["id"], granularity=60, resample=3600, aggregation="sum") == [
        (at(0), 3600.0, 17.0)
    ]


def test_batches(client: Client, unique: str, policy: str) -> None:
    one = client.metric.create(name=unique, archive_policy_name=policy)["id"]
    two = client.metric.create(name=unique, archive_policy_name=policy)["id"]
    client.metric.batch_metrics_measures({one: points(1), two: points(2)})
    assert client.metric.get_measures(two, refresh=True) == [(at(0), 60.0, 2.0)]

    client.resource.create("generic", {"id": unique})
    batch = {unique: {"cpu": {"measures": points(4), "archive_policy_name": policy, "unit": ""}}}
    push = client.metric.batch_resources_metrics_measures
    with pytest.raises(exceptions.BadRequest, match="Unknown metrics"):
        push(batch)
    push(batch, create_metrics=True)
    push({unique: {"cpu": points(4, 6)}})
    assert client.metric.get("cpu", unique)["unit"] == ""
    read = client.metric.get_measures("cpu", resource_id=unique, refresh=True)
    assert read == [(at(0), 60.0, 4.0), (at(1), 60.0, 6.0)]


def test_unknown_resources_are_told_by_the_text_that_was_sent(client: Client, unique: str) -> None:
    """Agents create what they find under ``original_resource_id``, and then send again."""
    known, unknown = str(uuid.uuid4()), [f"{unique}-vda", f"{unique} cpu temp (0x1)"]
    client.resource.create("generic", {"id": known})
    measures = {"m": {"measures": points(1), "archive_policy_name": "low"}}
    batch = dict.fromkeys([known, *unknown], measures)
    with pytest.raises(exceptions.BadRequest) as raised:
        client.metric.batch_resources_metrics_measures(batch, create_metrics=True)
    assert raised.value.message["cause"] == "Unknown resources"
    detail = raised.value.message["detail"]
    assert sorted(one["original_resource_id"] for one in detail) == sorted(unknown)
    for one in detail:
        made = client.resource.create("generic", {"id": one["original_resource_id"]})
        assert made["id"] == one["resource_id"]
    client.metric.batch_resources_metrics_measures(batch, create_metrics=True)


# ------------------------------------------------------------------ errors


NOBODY = "10000000-0000-4000-8000-000000000001"

NOT_FOUND = {
    exceptions.MetricNotFound: (
        lambda c: c.metric.get(NOBODY),
        lambda c: c.metric.delete(NOBODY),
        lambda c: c.metric.get_measures(NOBODY),
        lambda c: c.metric.add_measures(NOBODY, points(1)),
    ),
    exceptions.ResourceNotFound: (
        lambda c: c.resource.get("generic", NOBODY),
        lambda c: c.resource.get("generic", "no such thing"),
        lambda c: c.resource.history("generic", NOBODY),
        lambda c: c.resource.update("generic", NOBODY, {}),
        lambda c: c.resource.delete(NOBODY),
        lambda c: c.metric.get("cpu", NOBODY),
        lambda c: c.metric.create(name="cpu", resource_id=NOBODY, archive_policy_name="low"),
        lambda c: c.metric.get_measures("cpu", resource_id=NOBODY),
    ),
    exceptions.ResourceTypeNotFound: (
        lambda c: c.resource_type.get("nothing"),
        lambda c: c.resource_type.delete("nothing"),
        lambda c: c.resource_type.update("nothing", []),
        lambda c: c.resource.list("nothing"),
        lambda c: c.resource.get("nothing", NOBODY),
        lambda c: c.resource.create("nothing", {"id": "x"}),
        lambda c: c.resource.search("nothing", {"=": {"id": "x"}}),
        lambda c: c.resource.batch_delete({"=": {"id": "x"}}, "nothing"),
    ),
    exceptions.ArchivePolicyNotFound: (
        lambda c: c.archive_policy.get("nothing"),
        lambda c: c.archive_policy.delete("nothing"),
        lambda c: c.archive_policy.update("nothing", {"definition": [{"granularity": 1}]}),
    ),
    exceptions.ArchivePolicyRuleNotFound: (
        lambda c: c.archive_policy_rule.get("nothing"),
        lambda c: c.archive_policy_rule.delete("nothing"),
        lambda c: c.archive_policy_rule.update("nothing", "something"),
    ),
}


@pytest.mark.parametrize(
    ("expected", "number"),
    [(cls, n) for cls, all_ in NOT_FOUND.items() for n in range(len(all_))],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_what_is_missing_is_told_by_its_kind(
    client: Client, expected: type[Exception], number: int
) -> None:
    """Clients match the first words, and create what they find to be missing."""
    with pytest.raises(exceptions.NotFound) as raised:
        NOT_FOUND[expected][number](client)  # type: ignore[no-untyped-call]
    assert raised.type is expected


def test_a_missing_metric_of_a_resource_is_told(client: Client, unique: str) -> None:
    client.resource.create("generic", {"id": unique})
    for call in (client.metric.get, client.metric.delete):
        with pytest.raises(exceptions.MetricNotFound, match="Metric nothing does not exist"):
            call("nothing", unique)


def test_what_exists_already_is_told_by_its_kind(client: Client, unique: str, policy: str) -> None:
    resource = {"id": unique}
    type_ = {"name": unique}
    rule = {"name": unique, "metric_pattern": unique, "archive_policy_name": policy}
    repeated: dict[type[Exception], Any] = {
        exceptions.ResourceAlreadyExists: lambda: client.resource.create("generic", resource),
        exceptions.ResourceTypeAlreadyExists: lambda: client.resource_type.create(type_),
        # The client's pattern for policies fits the text about rules as well, and comes first.
        exceptions.ArchivePolicyAlreadyExists: lambda: client.archive_policy_rule.create(rule),
        exceptions.NamedMetricAlreadyExists: lambda: client.metric._create_new("m", policy, unique),
    }
    for expected, create in repeated.items():
        create()
        with pytest.raises(exceptions.Conflict) as raised:
            create()
        assert raised.type is expected
    with pytest.raises(exceptions.ArchivePolicyAlreadyExists):
        client.archive_policy.create({"name": policy, "definition": [{"granularity": 1}]})


def test_other_errors_are_told_by_status_and_text(client: Client, unique: str) -> None:
    with pytest.raises(exceptions.BadRequest) as raised:
        client.resource.create("generic", {"id": unique, "colour": "red"})
    assert raised.value.message["cause"] == "Invalid input"
    assert raised.value.message["detail"] == ["colour"]
    with pytest.raises(exceptions.BadRequest, match="Invalid filter: Expected"):
        client.resource.search("generic", "id == foo")
    with pytest.raises(
        exceptions.BadRequest, match="Resource type generic has no colour attribute"
    ):
        client.resource.search("generic", {"=": {"colour": "red"}})
    assert str(raised.value).endswith("(HTTP 400)")
    assert raised.value.request_id is None


def test_ordinary_users_do_not_administer(deployment: Deployment, unique: str) -> None:
    client = deployment.client("alice")
    for call in (
        lambda: client.resource_type.create({"name": unique}),
        lambda: client.archive_policy.create({"name": unique, "definition": [{"granularity": 1}]}),
        lambda: client.status.get(),
    ):
        with pytest.raises(exceptions.Forbidden):
            call()
    assert client.resource_type.list()
    assert client.archive_policy.list()
