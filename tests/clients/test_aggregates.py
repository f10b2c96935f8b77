"""What clients ask about several metrics at once: library, programs, alarms, rating, dashboards."""

from __future__ import annotations

import datetime
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest
from gnocchiclient import exceptions

from tests.clients.conftest import GRAFANA
from tests.clients.test_programs import gnocchi

if TYPE_CHECKING:
    from gnocchiclient.v1.client import Client

    from tests.clients.conftest import Deployment

UTC = datetime.UTC
ACCEPTED_BY_BROWSERS = "application/json, text/plain, */*"


class Farm(NamedTuple):
    """Two machines of a type of their own, with measures of the same two minutes."""

    kind: str
    ids: list[str]
    metrics: list[str]


def at(minute: int) -> datetime.datetime:
    """Return a time of the test data."""
    return datetime.datetime(2026, 1, 5, 10, minute, tzinfo=UTC)


def text_of(minute: int) -> str:
    """Return it as answers have it."""
    return at(minute).isoformat()


@pytest.fixture
def farm(client: Client, unique: str, policy: str) -> Farm:
    """Machines ``a`` and ``b`` on hosts ``h1`` and ``h2``; b has a third minute."""
    client.resource_type.create(
        {"name": unique, "attributes": {"host": {"type": "string", "required": False}}}
    )
    ids, metrics = [], []
    for name, host, values in (("a", "h1", (1, 2)), ("b", "h2", (10, 20, 30))):
        made = client.resource.create(
            unique,
            {
                "id": str(uuid.uuid4()),
                "host": host,
                "project_id": f"project-{name}",
                "metrics": {"cpu.util": {"archive_policy_name": policy}},
            },
        )
        metric = made["metrics"]["cpu.util"]
        measures = [
            {"timestamp": at(minute).isoformat(), "value": value}
            for minute, value in enumerate(values)
        ]
        client.metric.add_measures(metric, measures)
        client.metric.get_measures(metric, refresh=True)
        ids.append(made["id"])
        metrics.append(metric)
    return Farm(unique, ids, metrics)


# ------------------------------------------------------------------ the library


def test_expressions_over_metrics(client: Client, farm: Farm) -> None:
    """Lists and texts, named by id; leaves are lists of triples and nothing else."""
    fetch = client.aggregates.fetch
    a, b = farm.metrics
    summed = [(at(0), 60.0, 11.0), (at(1), 60.0, 22.0), (at(2), 60.0, 30.0)]
    text = f"(aggregate sum (metric ({a} mean) ({b} mean)))"
    assert fetch(text) == {"measures": {"aggregated": summed}}
    several = ["aggregate", "sum", ["metric", [a, "mean"], [b, "mean"]]]
    assert fetch(several, needed_overlap=100.0)["measures"]["aggregated"] == summed[:2]
    read = fetch(["*", ["metric", a, "max"], 2], start=at(1), stop=at(2), granularity=60)
    assert read == {"measures": {a: {"max": [(at(1), 60.0, 4.0)]}}}
    read = fetch(["metric", [a, "mean"], [b, "mean"]], start=at(2), fill=7)["measures"]
    assert read == {a: {"mean": [(at(2), 60.0, 7.0)]}, b: {"mean": [(at(2), 60.0, 30.0)]}}
    described = fetch(text, details=True)["references"]
    assert sorted(one["id"] for one in described) == sorted(farm.metrics)
    assert {one["resource"]["id"] for one in described} == set(farm.ids)


def test_expressions_over_resources(client: Client, farm: Farm) -> None:
    """By name and pattern, in groups, with the resources as listings show them."""

    def fetch(operations: Any, **options: Any) -> Any:
        return client.aggregates.fetch(operations, resource_type=farm.kind, **options)

    a, b = farm.ids
    read = fetch("(metric cpu.* mean)", search={}, stop=at(1))
    assert read["measures"] == {
        a: {"cpu.util": {"mean": [(at(0), 60.0, 1.0)]}},
        b: {"cpu.util": {"mean": [(at(0), 60.0, 10.0)]}},
    }
    read = fetch("(metric *util mean)", search="host = 'h1'", details=True)
    assert list(read["measures"]) == [a]
    [described] = read["references"]
    listed = client.resource.list(farm.kind, details=True)
    assert described == next(one for one in listed if one["id"] == a)
    groups = fetch(
        ["aggregate", "max", ["metric", "cpu.util", "mean"]],
        search={},
        groupby=["project_id", "host"],
        use_history=False,
    )
    assert [one["group"] for one in groups] == [
        {"host": "h1", "project_id": "project-a"},
        {"host": "h2", "project_id": "project-b"},
    ]
    assert groups[0]["measures"]["measures"]["aggregated"] == [
        (at(0), 60.0, 1.0), (at(1), 60.0, 2.0),
    ]  # fmt: skip


def test_errors_of_expressions_are_told_by_status(client: Client, farm: Farm) -> None:
    """Their texts and objects arrive as the message."""
    fetch = client.aggregates.fetch
    nobody = str(uuid.uuid4())
    with pytest.raises(exceptions.NotFound) as unknown:
        fetch(["metric", nobody, "mean"])
    assert unknown.value.message["cause"] == "Unknown metrics"
    assert unknown.value.message["detail"] == [nobody]
    with pytest.raises(exceptions.MetricNotFound):
        fetch("(metric mem mean)", search={}, resource_type=farm.kind)
    with pytest.raises(exceptions.BadRequest) as refused:
        fetch("(metric mem mean)", search={}, resource_type="nope")
    assert refused.value.message["cause"] == "Resource type does not exist"
    with pytest.raises(exceptions.BadRequest) as refused:
        fetch(["notexist", ["metric", farm.metrics[0], "mean"]])
    assert refused.value.message["reason"].startswith("'notexist' operation invalid")
    with pytest.raises(exceptions.NotFound) as unknown:
        fetch(["metric", farm.metrics[0], "what?"])
    assert unknown.value.message["detail"] == [[farm.metrics[0], "what?"]]


def test_the_older_aggregation(client: Client, farm: Farm) -> None:
    """By ids, and by name of the metrics of resources, with and without groups."""
    read = client.metric.aggregation
    common = [(at(0), 60.0, 5.5), (at(1), 60.0, 11.0)]
    assert read(farm.metrics) == common
    assert read(farm.metrics, aggregation="max", reaggregation="min", start=at(1), stop=at(2)) == [
        (at(1), 60.0, 2.0)
    ]
    assert read(farm.metrics, fill="null", granularity=60, resample=3600, refresh=True) == [
        (datetime.datetime(2026, 1, 5, 10, tzinfo=UTC), 3600.0, 10.75)
    ]
    assert read("cpu.util", query={}, resource_type=farm.kind) == common
    assert read("cpu.util", query="host = 'h1'", resource_type=farm.kind, stop=at(1)) == [
        (at(0), 60.0, 1.0)
    ]
    groups = read(
        "cpu.util", query={"like": {"host": "h%"}}, resource_type=farm.kind, groupby=["host"]
    )
    assert [one["group"] for one in groups] == [{"host": "h1"}, {"host": "h2"}]
    assert groups[0]["measures"] == [(at(0), 60.0, 1.0), (at(1), 60.0, 2.0)]
    with pytest.raises(exceptions.MetricNotFound):
        read([str(uuid.uuid4())])
    with pytest.raises(exceptions.ResourceTypeNotFound):
        read("cpu.util", query={}, resource_type="nope")


# ------------------------------------------------------------------ the programs


def test_aggregates_on_the_command_line(deployment: Deployment, farm: Farm) -> None:
    a, b = farm.metrics
    expression = f"(aggregate sum (metric ({a} mean) ({b} mean)))"
    rows = gnocchi(deployment, "aggregates", expression, "--stop", text_of(1), "-f", "json")
    assert [(row["name"], row["timestamp"], row["value"]) for row in rows] == [
        ("aggregated", text_of(0), 11.0)
    ]
    rows = gnocchi(
        deployment, "aggregates", "(metric cpu.* mean)", "host = 'h2'", "--resource-type",
        farm.kind, "--groupby", "host", "--granularity", "60", "--start", text_of(2), "-f", "json",
    )  # fmt: skip
    assert [(row["group"], row["name"], row["value"]) for row in rows] == [
        ("host: h2", f"{farm.ids[1]}/cpu.util/mean", 30.0)
    ]
    rows = gnocchi(
        deployment, "measures", "aggregation", "-m", a, b, "--reaggregation", "max", "--utc",
        "--refresh", "-f", "json",
    )  # fmt: skip
    assert [(row["timestamp"], row["value"]) for row in rows] == [
        (text_of(0), 10.0), (text_of(1), 20.0),
    ]  # fmt: skip
    rows = gnocchi(
        deployment, "measures", "aggregation", "-m", "cpu.util", "--resource-type", farm.kind,
        "--query", "host != 'h2'", "--groupby", "host", "--utc", "-f", "json",
    )  # fmt: skip
    assert [(row["group"], row["value"]) for row in rows] == [("host: h1", 1.0), ("host: h1", 2.0)]
    missing = gnocchi(
        deployment, "aggregates", "(metric mem mean)", "host = 'h2'", "--resource-type", farm.kind
    )
    assert missing == "Metric ['mem'] does not exist (HTTP 404)"


# ------------------------------------------------------------------ alarms


def test_alarms_over_several_metrics(deployment: Deployment, farm: Farm) -> None:
    """Each metric is an operand of its own, which is one list of series."""
    plain = deployment.plain("admin")
    operations = ["aggregate", "mean", *(["metric", one, "mean"] for one in farm.metrics)]
    span = "start=2026-01-05T10:00:00.123456&stop=2026-01-05T10:03:00.123456"
    path = f"/v1/aggregates?{span}&granularity=60.0&needed_overlap=0&details=False"
    answer = plain.post(f"{path}&use_history=False", {"operations": operations})
    # Minutes that only one of them has count, too.
    assert answer.json()["measures"]["aggregated"] == [
        [text_of(0), 60.0, 5.5], [text_of(1), 60.0, 11.0], [text_of(2), 60.0, 30.0],
    ]  # fmt: skip
    operations.append(["metric", str(uuid.uuid4()), "mean"])
    assert plain.post(path, {"operations": operations}).status == 404


def test_alarms_over_resources_of_a_tenant(deployment: Deployment, farm: Farm) -> None:
    """Queries are wrapped; one that makes no sense is refused with an object that has a cause."""
    plain = deployment.plain("admin")
    path = "/v1/aggregates?start=-1%20day&stop=now&granularity=60.0&needed_overlap=0"
    mine = {
        "or": [
            {"=": {"created_by_project_id": "project-a"}},
            {
                "and": [
                    {"=": {"created_by_project_id": "service"}},
                    {"=": {"project_id": "project-a"}},
                ]
            },
        ]
    }

    def asked(query: Any, kind: str = farm.kind, name: str = "cpu.util") -> Any:
        body = {
            "operations": ["aggregate", "mean", ["metric", name, "mean"]],
            "search": query,
            "resource_type": kind,
        }
        return plain.post(path, body)

    wrapped = asked({"and": [mine, {"=": {"host": "h1"}}]})
    assert (wrapped.status, wrapped.description()) == (404, "Metric ['cpu.util'] does not exist")
    found = asked(
        {"and": [{"or": [mine, {"=": {"project_id": "project-a"}}]}, {"=": {"host": "h1"}}]}
    )
    assert (found.status, found.json()) == (200, {"measures": {"aggregated": []}})
    for query in (
        {"and": [mine, {"bogus": [1]}]},
        {"and": [mine, {"=": {"nothing": 1}}]},
        {"and": [mine, {"=": {"started_at": "yesterday?"}}]},
        {"and": [mine, None]},
        {"and": [mine, {"=": {"host": []}}]},
        "host ~ 1",
    ):
        refused = asked(query)
        assert refused.status == 400, query
        assert refused.description()["cause"], query
    assert asked({}, kind="nope").description()["cause"] == "Resource type does not exist"
    assert asked({}, name="mem").status == 404


# ------------------------------------------------------------------ rating


def test_the_rating_service_reads_one_value_for_each_period(
    deployment: Deployment, farm: Farm
) -> None:
    """Groups have every attribute that was asked for, and the versions of the period."""
    plain = deployment.plain("admin")
    group = ("id", "project_id", "host", "revision_start")
    query = {"and": [{"=": {"type": farm.kind}}, {"=": {"project_id": "project-b"}}]}

    def asked(operations: Any, start: str, stop: str, kind: str = farm.kind) -> Any:
        parameters = [
            ("start", start), ("stop", stop), ("granularity", "60"), ("use_history", "True"),
            ("details", "False"), *(("groupby", name) for name in group),
        ]  # fmt: skip
        body = {"operations": operations, "search": query, "resource_type": kind}
        return plain.post(f"/v1/aggregates?{urlencode(parameters)}", body)

    revision = plain.get(f"/v1/resource/{farm.kind}/{farm.ids[1]}").json()["revision_start"]
    # The bounds lie before the resource was made, and its version begins after them.
    for operations in (
        ["aggregate", "max", ["metric", "cpu.util", "mean"]],
        "(aggregate max (metric cpu.util mean))",
    ):
        answer = asked(operations, "2026-01-05T10:01:00+00:00", "2036-01-05T10:02:00+00:00")
        assert answer.status == 200, answer.body
        [found] = answer.json()
        assert found["group"] == {
            "id": farm.ids[1], "project_id": "project-b", "host": "h2", "revision_start": revision,
        }  # fmt: skip
        assert found["measures"]["measures"]["aggregated"][0][2] == 20.0
    nothing = asked(operations, "2026-01-05T10:01:00+00:00", "2026-01-05T10:02:00+00:00")
    assert (nothing.status, nothing.description()) == (404, "Metric ['cpu.util'] does not exist")


def test_the_rating_service_adds_its_results_up(
    deployment: Deployment, unique: str, policy: str
) -> None:
    """Over resources of all of its types, whose names begin alike, and by frame."""
    plain = deployment.plain("admin")
    ids = []
    for number, name in enumerate(("cpu@idle", "disk.io")):
        kind = f"rating_service_{unique}.{name}"
        plain.post("/v1/resource_type/", {"name": kind, "attributes": {}})
        resource = {
            "id": str(uuid.uuid4()),
            "project_id": f"{unique}-p",
            "metrics": {"price": {"archive_policy_name": policy}},
        }
        made = plain.post(f"/v1/resource/{quote(kind, safe='@')}", resource).json()
        ids.append((kind, made["id"]))
        measures = [{"timestamp": "2026-01-05T10:00:00+00:00", "value": number + 0.25}]
        plain.post(f"/v1/metric/{made['metrics']['price']}/measures", measures)
        plain.get(f"/v1/metric/{made['metrics']['price']}/measures?refresh=True")
    query = {"and": [{"like": {"type": f"rating_service_{unique}%"}}]}
    body = {
        "operations": ["aggregate", "sum", ["metric", "price", "sum"]],
        "search": query,
        "resource_type": "generic",
    }
    span = "start=2026-01-05T10:00:00%2B00:00&stop=2026-01-05T11:00:00%2B00:00"
    groups = plain.post(f"/v1/aggregates?{span}&groupby=type&groupby=project_id", body).json()
    assert [(one["group"]["type"], one["group"]["project_id"]) for one in groups] == [
        (kind, f"{unique}-p") for kind, _ in ids
    ]
    totals = [one["measures"]["measures"]["aggregated"] for one in groups]
    assert [value for [[_, _, value]] in totals] == [0.25, 1.25]
    whole = plain.post(f"/v1/aggregates?{span}", body).json()["measures"]["aggregated"]
    assert whole == [["2026-01-05T10:00:00+00:00", 60.0, 1.5]]
    path = f"/v1/aggregation/resource/generic/metric/price?{span}&groupby=type&groupby=id"
    frames = plain.post(f"{path}&aggregation=sum", query).json()
    # In the order of the names of what they are grouped by: by id first.
    assert [one["group"]["id"] for one in frames] == sorted(identity for _, identity in ids)
    prices = {one["group"]["type"]: one["measures"][0][2] for one in frames}
    assert prices == {ids[0][0]: 0.25, ids[1][0]: 1.25}


# ------------------------------------------------------------------ dashboards


@pytest.mark.parametrize("nothing", [True, False])
def test_dashboards_draw_expressions(deployment: Deployment, farm: Farm, nothing: bool) -> None:
    """Labels come from the references; parameters without a value are the text ``null``."""
    plain = deployment.plain("admin", Accept=ACCEPTED_BY_BROWSERS, Origin=GRAFANA)
    times = {
        "start": "2026-01-05T10:00:00.000Z",
        "end": "2026-01-05T10:02:00.000Z",
        "stop": "2026-01-05T10:02:00.000Z",
    }
    absent = ("granularity", "groupby", "aggregation", "reaggregation", "filter", "needed_overlap")
    times |= dict.fromkeys(absent, "null") if nothing else {}
    path = f"/v1/aggregates?details=true&{urlencode(times)}"
    text = "(+ 1 (metric cpu.util mean))"
    body = {"operations": text, "search": "host like 'h%'", "resource_type": farm.kind}
    answer = plain.post(path, body)
    assert answer.headers["access-control-allow-origin"] == GRAFANA
    document = answer.json()
    labels = {one["id"]: one["host"] for one in document["references"]}
    curves = {
        labels[identity]: series["cpu.util"]["mean"]
        for identity, series in document["measures"].items()
    }
    assert curves == {
        "h1": [[text_of(0), 60.0, 2.0], [text_of(1), 60.0, 3.0]],
        "h2": [[text_of(0), 60.0, 11.0], [text_of(1), 60.0, 21.0]],
    }
    body["operations"] = "(aggregate sum (metric cpu.util mean))"
    groups = plain.post(f"{path.replace('groupby=null', '')}&groupby=host&fill=null", body).json()
    assert [one["group"] for one in groups] == [{"host": "h1"}, {"host": "h2"}]
    assert [one["measures"]["references"][0]["id"] for one in groups] == farm.ids
    assert groups[0]["measures"]["measures"]["aggregated"][0] == [text_of(0), 60.0, 1.0]
    alone = plain.post(path, {"operations": f"(metric {farm.metrics[0]} mean)"}).json()
    assert [one["id"] for one in alone["references"]] == [farm.metrics[0]]
    refused = plain.post(path, {"operations": "(metric"})
    assert refused.status == 400
    assert refused.headers["access-control-allow-origin"] == GRAFANA
    assert refused.description()["cause"] == "Invalid operations"


@pytest.mark.parametrize("nothing", [True, False])
def test_dashboards_draw_the_older_aggregation(
    deployment: Deployment, farm: Farm, nothing: bool
) -> None:
    plain = deployment.plain("admin", Accept=ACCEPTED_BY_BROWSERS)
    span = {
        "start": "2026-01-05T10:00:00.000Z",
        "end": "2026-01-05T10:02:00.000Z",
        "stop": "2026-01-05T10:02:00.000Z",
        "aggregation": "mean",
        "needed_overlap": "0",
    }
    absent = ("granularity", "reaggregation", "filter", "groupby", "resample")
    span |= dict.fromkeys(absent, "null") if nothing else {}
    named = "&".join(f"metric={one}" for one in farm.metrics)
    curve = plain.get(f"/v1/aggregation/metric?{named}&{urlencode(span)}").json()
    assert curve == [[text_of(0), 60.0, 5.5], [text_of(1), 60.0, 11.0]]
    span.pop("filter", None)
    span.pop("groupby", None)
    path = f"/v1/aggregation/resource/{farm.kind}/metric/cpu.util?{urlencode(span)}"
    filtered = f"{path}&metric=null&groupby=host&filter={quote('''host = 'h1' ''')}"
    for sent in ({"Content-Type": "application/json"}, {}):
        groups = plain.post(filtered, b"", **sent).json()
        assert groups == [
            {
                "group": {"host": "h1"},
                "measures": [[text_of(0), 60.0, 1.0], [text_of(1), 60.0, 2.0]],
            }
        ]
