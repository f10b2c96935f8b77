"""How many statements a request takes: never one for each thing in it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from tests.rest import runner

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.rest.conftest import Deployer, Deployment

# The first request of all fills what is remembered.
NUMBERS = (1, 1, 40)
BATCH = "POST /v1/batch/resources/metrics/measures?create_metrics=true"
POINT = [{"timestamp": "2024-01-01", "value": 1}]


def post(deployment: Deployment, request: str, body: Any, status: int) -> None:
    """Send a body as the administrator."""
    step = {"request": request, "json_body": body, "as": "admin"}
    assert runner.send(deployment.client, step).status_int == status


@pytest.fixture
def deployment(deploy: Deployer) -> Deployment:
    """An application with a policy that a rule gives to every metric."""
    deployed = deploy()
    for setup in ("policy-medium", "rule-r1"):
        runner.send(deployed.client, {**runner.SETUPS[setup], "as": "admin"})
    return deployed


@pytest.fixture
def count(deployment: Deployment) -> Callable[[Callable[[], None]], int]:
    """Count the statements that a function has run."""
    statements: list[str] = []
    engine = deployment.services.db._engine
    sa.event.listen(
        engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_more: statements.append(statement),
    )

    def counted(function: Callable[[], None]) -> int:
        statements.clear()
        function()
        return len(statements)

    return counted


def new_resources(deployment: Deployment, number: int) -> list[str]:
    """Make resources without metrics."""
    ids = [str(uuid.uuid4()) for _ in range(number)]
    for one in ids:
        post(deployment, "POST /v1/resource/generic", {"id": one}, 201)
    return ids


def test_batches_take_as_many_statements_as_one_metric(
    deployment: Deployment, count: Callable[[Callable[[], None]], int]
) -> None:
    """Whether their metrics have to be made, to be looked up, or are known already."""
    numbers = []
    for number in NUMBERS:
        body = {one: {"a": POINT, "b": POINT} for one in new_resources(deployment, number)}
        made = count(lambda body=body: post(deployment, BATCH, body, 202))
        looked_up = count(lambda body=body: post(deployment, BATCH, body, 202))
        known = count(lambda body=body: post(deployment, BATCH, body, 202))
        numbers.append((made, looked_up, known))
    assert numbers[1] == numbers[2]
    made, looked_up, known = numbers[1]
    assert made <= 15
    assert known <= looked_up <= 5


def test_resources_take_as_many_statements_with_many_metrics_as_with_one(
    deployment: Deployment, count: Callable[[Callable[[], None]], int]
) -> None:
    """Neither policies nor rules are looked up for each of them."""
    numbers = []
    for number in NUMBERS:
        body = {"id": str(uuid.uuid4()), "metrics": {f"m{i}": {} for i in range(number)}}
        path = f"/v1/resource/generic/{body['id']}"
        numbers.append(
            (
                count(lambda body=body: post(deployment, "POST /v1/resource/generic", body, 201)),
                count(lambda path=path: post(deployment, f"GET {path}", None, 200)),
                count(lambda path=path: post(deployment, f"GET {path}/metric", None, 200)),
            )
        )
    assert numbers[1] == numbers[2]


def test_pages_take_as_many_statements_whatever_is_on_them(
    deployment: Deployment, count: Callable[[Callable[[], None]], int]
) -> None:
    """Attributes and metrics come with the page."""
    paths = (
        "GET /v1/resource/generic?details=true",
        "GET /v1/resource/generic?details=true&history=true",
        "POST /v1/search/resource/generic",
        "GET /v1/metric",
    )
    numbers = []
    for number in NUMBERS:
        for one in new_resources(deployment, number):
            body = {"metrics": {"m": {}}, "user_id": "u"}
            post(deployment, f"PATCH /v1/resource/generic/{one}", body, 200)
        numbers.append([count(lambda path=path: post(deployment, path, {}, 200)) for path in paths])
    assert numbers[1] == numbers[2]


def test_aggregates_take_as_many_statements_for_many_metrics_as_for_one(
    deployment: Deployment, count: Callable[[Callable[[], None]], int]
) -> None:
    """However metrics are named, and with groups and history."""
    requests = (
        ("POST /v1/aggregates?details=true", False),
        ("POST /v1/aggregates?groupby=id&details=true", False),
        ("POST /v1/aggregates?groupby=id&use_history=true&details=true", False),
        ("POST /v1/aggregates?details=true", True),
        ("POST /v1/aggregation/metric", True),
        ("POST /v1/aggregation/resource/generic/metric/a?groupby=id", False),
    )
    numbers = []
    for number in NUMBERS:
        ids = new_resources(deployment, number)
        post(deployment, BATCH, {one: {"a": POINT, "b": POINT} for one in ids}, 202)
        for one in ids:
            post(deployment, f"PATCH /v1/resource/generic/{one}", {"user_id": "u"}, 200)
        response = runner.send(deployment.client, {"request": "GET /v1/metric", "as": "admin"}).json
        metrics = [metric["id"] for metric in response]
        post(deployment, "POST /v1/aggregation/metric?refresh=true&fill=0", metrics, 200)
        operations = ["metric", ["?", "mean"], ["a", "max"]]
        bodies = {
            False: {
                "operations": ["aggregate", "sum", operations],
                "resource_type": "generic",
                "search": {"in": {"id": ids}},
            },
            True: {"operations": ["metric", *([one, "mean"] for one in metrics)]},
        }
        counts = []
        for request, by_id in requests:
            body: Any = bodies[by_id]
            if "aggregation" in request:
                body = metrics if by_id else {}
            counts.append(
                count(lambda request=request, body=body: post(deployment, request, body, 200))
            )
        values = {">": 0}
        query = "&".join(f"metric_id={one}" for one in metrics)
        path = f"POST /v1/search/metric?{query}"
        counts.append(count(lambda path=path, values=values: post(deployment, path, values, 200)))
        numbers.append(counts)
    assert numbers[1] == numbers[2]
    assert max(numbers[1]) <= 6
