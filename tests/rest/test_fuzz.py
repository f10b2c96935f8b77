"""No input makes the API fail: whatever is sent gets an answer below 500, in a known form."""

from __future__ import annotations

import json
import urllib.parse
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import webtest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnocchi.indexer import metrics, policies
from gnocchi.model import Metric
from tests.rest import runner

if TYPE_CHECKING:
    from tests.rest.conftest import Deployer

METRIC = "0d4b5a2d-8b2a-4d4a-a6e4-b1ee4a1ba0d5"
RESOURCE = "1d4b5a2d-8b2a-4d4a-a6e4-b1ee4a1ba0d5"
PATHS = (
    "/",
    "/v1",
    "/healthcheck",
    "/v1/capabilities",
    "/v1/status",
    "/v1/archive_policy",
    "/v1/archive_policy/{}",
    "/v1/archive_policy_rule",
    "/v1/archive_policy_rule/{}",
    "/v1/metric",
    "/v1/metric/{}",
    "/v1/metric/{}/measures",
    "/v1/batch/metrics/measures",
    "/v1/batch/resources/metrics/measures",
    "/v1/resource_type",
    "/v1/resource_type/{}",
    "/v1/resource",
    "/v1/resource/{}",
    "/v1/resource/fuzz/{}",
    "/v1/resource/generic/{}",
    "/v1/resource/fuzz/{}/history",
    "/v1/resource/fuzz/{}/metric",
    "/v1/resource/{}/{}/metric/{}",
    "/v1/resource/{}/{}/metric/{}/measures",
    "/v1/search/resource/{}",
    "/v1/{}",
)
PARAMETERS = (
    "details", "limit", "marker", "sort", "id", "name", "unit", "creator", "archive_policy_name",
    "status", "user_id", "project_id", "start", "stop", "aggregation", "granularity", "resample",
    "refresh", "history", "attrs", "filter", "create_metrics", "x",
)  # fmt: skip
HEADERS = (
    "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE",
    "HTTP_FORWARDED", "HTTP_HOST", "HTTP_ORIGIN", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PREFIX", "HTTP_X_FORWARDED_PROTO", "HTTP_ACCESS_CONTROL_REQUEST_METHOD",
    "HTTP_ACCESS_CONTROL_REQUEST_HEADERS",
)  # fmt: skip
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

# What is likely to get past the first check, or to have been forgotten.
words = st.sampled_from(
    (
        "", "fuzz", METRIC, METRIC.upper(), METRIC.replace("-", ""), "mean", "rate:mean", "std",
        "*", "-mean", "+max", "1", "0", "-1", "60", "1e400", "nan", "inf", "-inf", "1e-12", "now",
        "true", "no", "2014-01-01", "1960-01-01", "9999-12-31", "-5 minutes", "1 week", "W", "Y",
        "id:asc", "name:desc-nullslast", "archive_policy", "id:", ":", "active", "delete", "\0",
        "a/b", "é", "𝄞", "9" * 30, "x" * 300, "[", "%", "_", RESOURCE, "generic", f"{RESOURCE}@-1",
        f"{RESOURCE}@1", "revision_start:desc", "revision:asc", "number:desc", "string",
        "string:asc-nullsfirst", "number", "add", "/attributes/x", "id = 'x'",
        "number in [1, 2] and not bool = true",
    )
)  # fmt: skip
texts = words | st.text(max_size=12)
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from((0, 1, -1, 2**31, 2**63 - 1, 2**63, 2**64, 1e308, 1e-9, 0.1))
)
scalars = st.none() | st.booleans() | numbers | texts
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
good_measure = st.fixed_dictionaries(
    {"timestamp": st.integers(0, 2**33) | st.floats(0, 2**33), "value": st.floats()}
)
measure = st.fixed_dictionaries({"timestamp": scalars, "value": scalars})
measures = st.one_of(
    st.lists(good_measure, max_size=5), st.lists(measure | good_measure | documents, max_size=3)
)
definitions = st.lists(
    st.fixed_dictionaries(
        {},
        optional={"granularity": scalars, "points": scalars, "timespan": scalars, "x": scalars},
    ),
    max_size=3,
)
objects = st.fixed_dictionaries(
    {},
    optional={
        "name": scalars,
        "unit": scalars,
        "archive_policy_name": texts,
        "resource_id": scalars,
        "metric_pattern": scalars,
        "back_window": scalars,
        "definition": definitions,
        "aggregation_methods": st.lists(texts, max_size=3),
    },
)
policies_bodies = st.fixed_dictionaries(
    {
        "name": texts,
        "definition": st.lists(
            st.fixed_dictionaries(
                {"granularity": st.sampled_from((1, 0.5, "1 hour")) | numbers | words},
                optional={"points": numbers},
            ),
            min_size=1,
            max_size=3,
        ),
    },
    optional={
        "back_window": numbers,
        "aggregation_methods": st.lists(st.sampled_from(("mean", "-mean", "*", "+max", "wtf"))),
    },
)
policy_changes = st.fixed_dictionaries(
    {
        "definition": st.tuples(
            st.fixed_dictionaries({"granularity": st.just(1)}, optional={"points": numbers}),
            st.fixed_dictionaries({"granularity": st.just(60)}, optional={"timespan": numbers}),
        )
    },
    optional={"back_window": numbers},
)
rules = st.fixed_dictionaries(
    {"name": texts, "metric_pattern": texts, "archive_policy_name": st.just("fuzz") | texts}
)
metrics_bodies = st.fixed_dictionaries(
    {"archive_policy_name": st.just("fuzz")},
    optional={"name": texts, "unit": texts, "resource_id": texts},
)
batches = st.dictionaries(st.just(METRIC) | texts, measures, max_size=3)

# ------------------------------------------------------------------ resources

attributes = {
    "string": {"type": "string", "required": False},
    "number": {"type": "number", "required": False},
    "bool": {"type": "bool", "required": False},
    "uuid": {"type": "uuid", "required": False},
    "datetime": {"type": "datetime", "required": False},
    "odd % name\"'": {"type": "number", "required": False},
}
fields = st.sampled_from(
    (
        *attributes, "id", "type", "creator", "user_id", "project_id", "original_resource_id",
        "started_at", "ended_at", "revision_start", "revision_end", "revision", "lifespan",
        "created_by_user_id", "created_by_project_id", "metrics",
    )
)  # fmt: skip
operators = st.sampled_from(
    ("=", "==", "eq", "!=", "≠", "ne", "<", "lt", ">", "<=", "≤", ">=", "≥", "like")
)
conditions = st.builds(
    lambda operator, field, value: {operator: {field: value}}, operators, fields | texts, scalars
) | st.builds(
    lambda field, values: {"in": {field: values}}, fields | texts, st.lists(scalars, max_size=4)
)
filters = st.recursive(
    conditions,
    lambda inner: (
        st.builds(
            lambda operator, parts: {operator: parts},
            st.sampled_from(("and", "∧", "or", "∨")),
            st.lists(inner, max_size=3),
        )
        | inner.map(lambda part: {"not": part})
        | documents
    ),
    max_leaves=6,
)
tokens = st.sampled_from(
    (
        "and", "or", "not", "(", ")", "[", "]", ",", "=", "!=", "<", ">=", "like", "in", "null",
        "true", "1", "-2.5e3", "'x'", '"y%"', "id", "number", "string", "bool", "datetime", "uuid",
        "lifespan", "'30 min'", RESOURCE, "∨", "=="
    )
)  # fmt: skip
filter_texts = st.lists(tokens | texts, max_size=8).map(" ".join)
resource_metrics = st.dictionaries(
    texts,
    st.fixed_dictionaries({"archive_policy_name": st.just("fuzz")}, optional={"unit": texts})
    | st.just(METRIC)
    | documents,
    max_size=2,
)
resource_fields = {
    "started_at": scalars,
    "ended_at": scalars,
    "user_id": st.none() | texts,
    "project_id": st.none() | texts,
    "metrics": resource_metrics,
    **dict.fromkeys(attributes, scalars),
}
new_resources = st.fixed_dictionaries({"id": texts}, optional=resource_fields)
resource_changes = st.fixed_dictionaries({}, optional=resource_fields)
attribute_definitions = st.fixed_dictionaries(
    {"type": st.sampled_from(("string", "number", "bool", "uuid", "datetime")) | scalars},
    optional={
        "required": st.booleans() | scalars,
        "min_length": scalars,
        "max_length": scalars,
        "min": scalars,
        "max": scalars,
        "options": st.fixed_dictionaries({}, optional={"fill": scalars}) | scalars,
    },
)
new_types = st.fixed_dictionaries(
    {"name": texts},
    optional={"attributes": st.dictionaries(texts, attribute_definitions, max_size=3)},
)
patches = st.lists(
    st.fixed_dictionaries(
        {
            "op": st.sampled_from(("add", "remove", "replace")),
            "path": texts.map(lambda name: f"/attributes/{name}") | texts,
        },
        optional={"value": attribute_definitions | documents},
    ),
    max_size=3,
)
resource_batches = st.dictionaries(
    st.sampled_from((RESOURCE, "fuzz")) | texts,
    st.dictionaries(
        st.just("metric") | texts,
        measures
        | st.fixed_dictionaries(
            {"measures": measures}, optional={"archive_policy_name": texts, "unit": texts}
        ),
        max_size=3,
    )
    | documents,
    max_size=3,
)
# Deletes nothing, or the other tests would find nothing.
deletions = filters.map(lambda part: {"and": [part, {"=": {"id": "nothing"}}]}) | documents


def encoded(document: Any) -> bytes:
    """Write a document as a client would; halves of surrogate pairs become escapes."""
    return b"" if document is None else json.dumps(document).encode()


bodies = st.one_of(
    (objects | measures | batches | filters | documents).map(encoded),
    st.binary(max_size=30),
    st.just(b""),
)
queries = st.lists(
    st.tuples(st.sampled_from(PARAMETERS), texts) | st.tuples(st.just("filter"), filter_texts),
    max_size=4,
).map(lambda pairs: urllib.parse.urlencode(pairs, errors="surrogatepass"))
header_texts = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=15)
accepts = st.sampled_from(
    (None, "", "*/*", "application/json", "text/html", "text/plain", "application/json;q=0.1,*/*")
)
authorizations = st.sampled_from(("Basic YWRtaW46", "basic Ym9iOg==", "Basic /w==")) | header_texts
# Mostly a request that could succeed, with one part of it or another gone wrong.
ENDPOINTS = (
    ("POST", "/v1/archive_policy", policies_bodies | objects),
    ("PATCH", "/v1/archive_policy/fuzz", policy_changes | objects),
    ("POST", "/v1/archive_policy_rule", rules | objects),
    ("PATCH", "/v1/archive_policy_rule/{}", rules | objects),
    ("POST", "/v1/metric", metrics_bodies | objects),
    ("POST", f"/v1/metric/{METRIC}/measures", measures),
    ("GET", f"/v1/metric/{METRIC}/measures", documents),
    ("GET", "/v1/metric", documents),
    ("POST", "/v1/batch/metrics/measures", batches),
    ("POST", "/v1/batch/resources/metrics/measures", resource_batches),
    ("POST", "/v1/resource_type", new_types),
    ("PATCH", "/v1/resource_type/fuzz", patches),
    ("GET", "/v1/resource/generic", documents),
    ("GET", "/v1/resource/fuzz", documents),
    ("POST", "/v1/resource/fuzz", new_resources),
    ("DELETE", "/v1/resource/fuzz", deletions),
    ("PATCH", f"/v1/resource/fuzz/{RESOURCE}", resource_changes),
    ("GET", f"/v1/resource/fuzz/{RESOURCE}", documents),
    ("GET", f"/v1/resource/fuzz/{RESOURCE}/history", documents),
    ("POST", f"/v1/resource/generic/{RESOURCE}/metric", resource_metrics),
    ("POST", f"/v1/resource/generic/{RESOURCE}/metric/metric/measures", measures),
    ("POST", "/v1/search/resource/generic", filters),
    ("POST", "/v1/search/resource/fuzz", filters),
    ("POST", "/v1/search/resource/fuzz", filters),
    ("POST", "/v1/search/resource/fuzz", st.just(None)),
)
likely = st.sampled_from(ENDPOINTS).flatmap(
    lambda endpoint: st.tuples(
        st.just(endpoint[0]), st.just(endpoint[1]), endpoint[2].map(encoded) | bodies
    )
)
anything = st.tuples(st.sampled_from(METHODS), st.sampled_from(PATHS), bodies)
requests = st.fixed_dictionaries(
    {
        "target": st.one_of(likely, likely, anything),
        "segment": st.one_of(st.just(METRIC), st.just("fuzz"), texts),
        "query": st.one_of(queries, queries, header_texts),
        "accept": st.one_of(st.just("application/json"), accepts, accepts | header_texts),
        "authorization": st.one_of(
            st.just("Basic YWRtaW46"), st.just("Basic YWRtaW46"), authorizations
        ),
        "content_type": st.one_of(
            st.just("application/json"),
            st.just("application/json"),
            st.sampled_from(("application/json-patch+json", "text/plain")) | header_texts,
        ),
        "more": st.dictionaries(
            st.sampled_from(HEADERS), header_texts | st.just("http://foobar.com"), max_size=2
        ),
    }
)


@pytest.fixture(scope="module")
def client(module_deploy: Deployer) -> webtest.TestApp:
    """An application that has a policy, a rule, and a metric with measures."""
    deployment = module_deploy(
        {"api.enable_proxy_headers_parsing": True, "cors.allowed_origin": ["http://foobar.com"]}
    )
    client: webtest.TestApp = deployment.client
    runner.play(
        client,
        {
            "steps": [
                {
                    "request": "POST /v1/archive_policy",
                    "json_body": {
                        "name": "fuzz",
                        "definition": [{"granularity": 1}, {"granularity": 60}],
                        "aggregation_methods": ["+rate:mean"],
                    },
                    "status": 201,
                },
                {
                    "request": "POST /v1/resource_type",
                    "json_body": {"name": "fuzz", "attributes": attributes},
                    "status": 201,
                },
                {
                    "request": "POST /v1/resource/fuzz",
                    "json_body": {
                        "id": RESOURCE,
                        "string": "text",
                        "number": 2**53 + 1,
                        "metrics": {"metric": {"archive_policy_name": "fuzz"}},
                    },
                    "status": 201,
                },
                {
                    "request": f"PATCH /v1/resource/fuzz/{RESOURCE}",
                    "json_body": {"number": 1.5},
                    "status": 200,
                },
            ]
        },
    )
    policy = policies.get(deployment.services.db, "fuzz")
    metrics.create(
        deployment.services.db,
        Metric(uuid.UUID(METRIC), policy, "admin", "fuzz", None, None),
    )
    return client


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(request=requests)
def test_no_input_makes_the_api_fail(client: webtest.TestApp, request: dict[str, Any]) -> None:
    """Every answer is below 500, has a reason phrase of its own, and JSON where it says so."""
    method, path, body = request["target"]
    segment = request["segment"].encode("utf-8", "surrogatepass").decode("latin-1")
    kept = (METRIC, METRIC.upper(), METRIC.replace("-", ""), RESOURCE)
    if method == "DELETE" and segment in kept:
        segment = "other"
    content_type = request["content_type"]
    if method == "PATCH" and path.startswith("/v1/resource_type") and "json" in content_type:
        content_type = "application/json-patch+json"
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path.replace("{}", segment),
        "QUERY_STRING": request["query"],
        "CONTENT_TYPE": content_type,
        "HTTP_AUTHORIZATION": request["authorization"],
        **request["more"],
    }
    if request["accept"] is not None:
        environ["HTTP_ACCEPT"] = request["accept"]
    blank = webtest.TestRequest.blank("/", environ=environ)
    blank.body = body
    response = webtest.TestApp(client.app, lint=False).do_request(blank, expect_errors=True)
    assert response.status_int < 500, response.text
    if response.headers.get("Content-Type") == "application/json" and response.body:
        json.loads(response.body)
    assert "X-Openstack-Request-Id" not in response.headers


@pytest.mark.parametrize(
    "document",
    [
        '{"not":' * 60 + '{"=": {"id": "x"}}' + "}" * 60,
        '{"not":' * 2000 + '{"=": {"id": "x"}}' + "}" * 2000,
        '{"and": [' * 51 + '{"=": {"id": "x"}}' + "]}" * 51,
        json.dumps({"or": [{"=": {"user_id": str(i)}} for i in range(20_000)]}),
        json.dumps({"in": {"user_id": [str(i) for i in range(30_000)]}}),
        "(" * 200 + "id = x" + ")" * 200,
        "not " * 5000 + "id = x",
        " or ".join(f"user_id = 'u{i}'" for i in range(20_000)),
        "id = x" + " " * 2_000_000,
        "[" * 5000,
        "'" * 1001,
    ],
)
def test_deep_and_huge_filters_are_refused(client: webtest.TestApp, document: str) -> None:
    """Neither the stack nor the database is what limits a filter."""
    path = "/v1/search/resource/fuzz"
    step: dict[str, Any] = {"as": "admin", "request": f"POST {path}"}
    if document.startswith("{"):
        step |= {"raw_body": document, "content_type": "application/json"}
    else:
        step["request"] += f"?filter={urllib.parse.quote(document)}"
    response = runner.send(client, step)
    assert (response.status_int, response.json["title"]) == (400, "Bad Request")
    step["request"] = step["request"].replace("POST /v1/search/", "DELETE /v1/")
    assert runner.send(client, step).status_int == 400


@pytest.mark.parametrize(
    "document",
    [
        {"or": [{"=": {"user_id": str(i)}} for i in range(9_000)]},
        {"and": [{"!=": {"string": str(i)}} for i in range(2_000)]},
        {"in": {"user_id": [str(i) for i in range(20_000)]}},
        {"in": {"id": [str(i) for i in range(20_000)]}},
        {"in": {"number": list(range(20_000))}},
    ],
)
def test_large_filters_are_answered(client: webtest.TestApp, document: dict[str, Any]) -> None:
    """What is not refused works."""
    step = {"as": "admin", "request": "POST /v1/search/resource/fuzz", "json_body": document}
    assert runner.send(client, step).status_int == 200
