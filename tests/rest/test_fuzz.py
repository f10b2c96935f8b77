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
    "/v1/{}",
)
PARAMETERS = (
    "details", "limit", "marker", "sort", "id", "name", "unit", "creator", "archive_policy_name",
    "status", "user_id", "project_id", "start", "stop", "aggregation", "granularity", "resample",
    "refresh", "x",
)  # fmt: skip
HEADERS = (
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
        "a/b", "é", "𝄞", "9" * 30, "x" * 300, "[", "%", "_",
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


def encoded(document: Any) -> bytes:
    """Write a document as a client would; halves of surrogate pairs become escapes."""
    return json.dumps(document).encode()


bodies = st.one_of(
    (objects | measures | batches | documents).map(encoded), st.binary(max_size=30), st.just(b"")
)
queries = st.lists(st.tuples(st.sampled_from(PARAMETERS), texts), max_size=4).map(
    lambda pairs: urllib.parse.urlencode(pairs, errors="surrogatepass")
)
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
            st.just("application/json"), st.just("application/json"), header_texts
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
    if method == "DELETE" and segment in (METRIC, METRIC.upper(), METRIC.replace("-", "")):
        segment = "other"
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path.replace("{}", segment),
        "QUERY_STRING": request["query"],
        "CONTENT_TYPE": request["content_type"],
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
