"""No expression, condition or parameter makes the endpoints that aggregate fail."""

from __future__ import annotations

import json
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.rest import runner

if TYPE_CHECKING:
    import webtest

    from tests.rest.conftest import Deployer

RESOURCE = "1d4b5a2d-8b2a-4d4a-a6e4-b1ee4a1ba0d5"
METRICS = ("0d4b5a2d-8b2a-4d4a-a6e4-b1ee4a1ba0d5", "0d4b5a2d-8b2a-4d4a-a6e4-b1ee4a1ba0d6")

methods = st.sampled_from(
    ("mean", "sum", "std", "count", "max", "rate:mean", "var", "last", "9pct", "median", "wtf", "")
)
texts = st.sampled_from(("", "x", "\0", "é", "(", ")", "nan", "inf", "-1", "0x1")) | st.text(
    max_size=5
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from((0, 1, 2, -1, 2**63, 1e308, "2", "60", "1 day", "W"))
    | texts
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=6,
)
ids = st.sampled_from((*METRICS, METRICS[0].upper()))
names = st.sampled_from(("a", "b", "*", "[ab]", "?", "[", "c", "a*", "%"))


def expressions(references: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Mostly well-formed lists, with something else in some of them."""
    pairs = st.tuples(references, st.just("mean") | methods).map(list)
    leaves = st.builds(lambda pair: ["metric", *pair], pairs) | st.lists(
        pairs, min_size=1, max_size=3
    ).map(lambda found: ["metric", *found])
    binary = st.sampled_from(
        ("+", "sub", "×", "÷", "%", "**", "=", "ne", "<", "≥", "max", "min", "clip_min", "clip")
    )
    unary = st.sampled_from(("abs", "neg", "cos", "floor", "rateofchange", "rateofchangesec"))
    spans = st.sampled_from((1, 60, 3600, "2 minutes", 1e12, 1e-9)) | scalars
    windows = st.integers(1, 5) | scalars

    def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        operand = inner | inner | scalars
        return st.one_of(
            st.builds(lambda *parts: list(parts), binary, operand, operand),
            st.builds(lambda *parts: list(parts), unary, inner),
            st.builds(lambda *parts: ["aggregate", *parts], methods, inner),
            st.builds(lambda *parts: ["aggregate", *parts], methods, inner, inner),
            st.builds(lambda *parts: ["rolling", *parts], methods, windows, inner),
            st.builds(lambda *parts: ["resample", *parts], methods, spans, inner),
        )

    return st.recursive(leaves, larger, max_leaves=4)


def as_text(expression: Any) -> str:
    """Write a list in the other notation."""
    if isinstance(expression, list):
        return "(" + " ".join(map(as_text, expression)) + ")"
    return str(expression)


def operations(references: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Expressions in both notations, and anything else."""
    found = expressions(references)
    return st.one_of(found, found, found.map(as_text), documents)


searches = st.sampled_from(
    (
        {},
        {"=": {"id": RESOURCE}},
        "host = 'h'",
        {"like": {"host": "%"}},
        {"=": {"nope": 1}},
        "",
        "=",
    )
)
by_id = st.builds(lambda found: {"operations": found}, operations(ids))
by_resource = st.builds(
    lambda found, kind, search: {"operations": found, "resource_type": kind, "search": search},
    operations(names),
    st.sampled_from(("vm", "vm", "generic", "nope", 5)),
    searches | searches | documents,
)
predicates = st.recursive(
    st.builds(
        lambda sign, number: {sign: number},
        st.sampled_from(("=", "≠", "<", ">=", "+", "/", "%", "**", "and", "not")),
        scalars,
    ),
    lambda inner: (
        st.builds(
            lambda sign, sides: {sign: list(sides)},
            st.sampled_from(("and", "or", "∨", "=", "<", "-", "%", "^")),
            st.tuples(inner | scalars, inner | scalars),
        )
        | st.builds(lambda node: {"not": node}, inner)
        | documents
    ),
    max_leaves=5,
)
id_lists = st.lists(ids | texts, max_size=3)
targets = st.one_of(
    st.tuples(st.just("POST /v1/aggregates"), by_id),
    st.tuples(st.just("POST /v1/aggregates"), by_resource),
    st.tuples(st.just("POST /v1/aggregates"), by_resource),
    st.tuples(st.just("POST /v1/aggregates"), documents),
    st.tuples(st.just("POST /v1/aggregation/metric"), id_lists | documents),
    st.tuples(st.just("GET /v1/aggregation/metric"), st.none()),
    st.tuples(
        st.sampled_from(
            (
                "POST /v1/aggregation/resource/vm/metric/a",
                "POST /v1/aggregation/resource/generic/metric/*",
            )
        ),
        searches | documents,
    ),
    st.tuples(st.just("POST /v1/search/metric"), predicates),
)
times = st.sampled_from(
    ("2015-03-06T14:33", "2015-03-06T14:34:30.5", "2300-01-01", "1", "now", "-1 day", "x", "0")
)
granularities = st.sampled_from(("1", "60", "3600", "0", "1e9", "1e-9", "x", "M"))
parameters = st.one_of(
    st.tuples(st.sampled_from(("start", "stop")), times | texts),
    st.tuples(st.just("granularity"), granularities | texts),
    st.tuples(
        st.just("fill"),
        st.sampled_from(("null", "dropna", "ffill", "full_bfill", "0", "nan", "inf", "-1e308"))
        | texts,
    ),
    st.tuples(st.just("needed_overlap"), st.sampled_from(("0", "100", "-1", "1e9", "nan"))),
    st.tuples(
        st.just("groupby"),
        st.sampled_from(
            ("host", "id", "odd %\"'", "type", "revision_start", "revision", "ended_at")
        ),
    ),
    st.tuples(st.sampled_from(("details", "use_history", "refresh")), st.just("true") | texts),
    st.tuples(st.sampled_from(("metric", "metric_id")), ids | ids | texts),
    st.tuples(st.sampled_from(("aggregation", "reaggregation")), methods),
    st.tuples(st.just("resample"), st.sampled_from(("60", "7200", "M", "Y", "W", "x"))),
)
queries = st.lists(parameters, max_size=6).map(dict) | st.lists(parameters, max_size=6)


@pytest.fixture(scope="module")
def client(module_deploy: Deployer) -> webtest.TestApp:
    """An application with two metrics of a resource that has a history."""
    client: webtest.TestApp = module_deploy({"api.max_aggregate_cells": 100}).client
    days = [
        {"timestamp": f"2015-03-06T14:{30 + i}:{i % 3}0", "value": value}
        for i, value in enumerate((1, -2.5, 0, 1e308, float("inf"), float("nan"), 7))
    ]
    steps: list[dict[str, Any]] = [
        {
            "request": "POST /v1/archive_policy",
            "json_body": {
                "name": "fuzz",
                "definition": [{"granularity": 1}, {"granularity": 60}],
                "aggregation_methods": ["mean", "sum", "std", "count", "rate:mean", "9pct"],
            },
            "status": 201,
        },
        {
            "request": "POST /v1/resource_type",
            "json_body": {
                "name": "vm",
                "attributes": {
                    "host": {"type": "string", "required": False},
                    "odd %\"'": {"type": "datetime", "required": False},
                },
            },
            "status": 201,
        },
        {
            "request": "POST /v1/resource/vm",
            "json_body": {
                "id": RESOURCE,
                "host": "h",
                "metrics": {name: {"archive_policy_name": "fuzz"} for name in "ab"},
            },
            "status": 201,
            "save": {"A": "metrics.a", "B": "metrics.b"},
        },
        {
            "request": f"PATCH /v1/resource/vm/{RESOURCE}",
            "json_body": {"odd %\"'": "2015-03-06"},
            "status": 200,
        },
        {
            "request": "POST /v1/batch/metrics/measures",
            "json_body": {"$A": days, "$B": days[::2]},
            "status": 202,
        },
        {
            "request": "GET /v1/aggregation/metric?metric=$A&metric=$B&refresh=true&fill=0",
            "status": 200,
            "save": {},
        },
        {"request": "GET /v1/metric", "status": 200, "length": {"": 2}},
    ]
    runner.play(client, {"steps": steps})
    return client


@pytest.fixture(scope="module")
def real_ids(client: webtest.TestApp) -> dict[str, str]:
    """What the ids in the requests stand for."""
    step = {"request": f"GET /v1/resource/vm/{RESOURCE}", "as": "admin"}
    found = runner.send(client, step).json["metrics"]
    return dict(zip(METRICS, (found["a"], found["b"]), strict=True))


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(target=targets, query=queries)
def test_no_input_makes_aggregation_fail(
    client: webtest.TestApp, real_ids: dict[str, str], target: tuple[str, Any], query: Any
) -> None:
    """Every answer is below 500 and a JSON document."""
    request, body = target
    text = urllib.parse.urlencode(
        list(query.items()) if isinstance(query, dict) else query, errors="surrogatepass"
    )
    document = json.dumps(body)
    for name, real in real_ids.items():
        text = text.replace(name, real)
        document = document.replace(name, real).replace(name.upper(), real.upper())
    step: dict[str, Any] = {"request": f"{request}?{text}", "as": "admin"}
    if body is not None:
        step |= {"raw_body": document, "content_type": "application/json"}
    response = runner.send(client, step)
    assert response.status_int < 500, response.text
    json.loads(response.body)


def test_deep_and_huge_expressions_are_refused(client: webtest.TestApp) -> None:
    """Neither the stack nor the time it takes is what limits an expression."""
    for text in (
        "(" * 100_000,
        "(neg " * 5000 + "(metric a mean)" + ")" * 5000,
        "(neg " * 51 + "(metric a mean)" + ")" * 51,
        "(metric " + "(a mean) " * 3 + ")" * 3 + ")" * 100_000,
        "(metric " + " ".join(f"(a{i} mean)" for i in range(20_000)) + ")",
        "(+ " + "1 " * 100_000 + ")",
    ):
        body = {"operations": text, "resource_type": "vm", "search": {}}
        step = {"request": "POST /v1/aggregates", "json_body": body, "as": "admin"}
        response = runner.send(client, step)
        assert response.status_int in (200, 400), text[:20]
        assert (response.status_int == 200) == text.startswith("(metric (a mean)")
