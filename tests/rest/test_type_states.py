"""Resource types that are not active: other programs may have left some in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gnocchi.indexer import tables
from tests.rest import runner

if TYPE_CHECKING:
    from tests.rest.conftest import Deployer, Deployment

STATES = (
    "creating", "updating", "deleting", "creation_error", "updating_error", "deletion_error",
)  # fmt: skip


def _play(deployment: Deployment, *steps: dict[str, object]) -> None:
    runner.play(deployment.client, {"as": "admin", "steps": steps})


def _with_state(deploy: Deployer, state: str) -> Deployment:
    """Deploy with a type in this state, and a resource of it."""
    deployment = deploy()
    _play(
        deployment,
        {**runner.SETUPS["type-vm"], "status": 201},
        {"request": "POST /v1/resource/vm", "json_body": {"id": "a"}, "status": 201},
    )
    with deployment.services.db.write() as connection:
        table = tables.resource_type
        connection.execute(table.update().where(table.c.name == "vm").values(state=state))
        # as every program that changes a type does
        state_table = tables.state
        connection.execute(
            state_table.update()
            .where(state_table.c.name == tables.RESOURCE_TYPES)
            .values(value=state_table.c.value + 1)
        )
    return deployment


@pytest.mark.parametrize("state", STATES)
def test_resources_of_a_type_that_is_not_active_are_refused(deploy: Deployer, state: str) -> None:
    """Every request for them says which state the type is in."""
    refused = {
        "status": 400,
        "json": {
            "code": 400,
            "title": "Bad Request",
            "description": f"Resource type vm state is {state} (expected: active)",
        },
    }
    _play(
        _with_state(deploy, state),
        {"request": "GET /v1/resource/vm", **refused},
        {"request": "POST /v1/resource/vm", "json_body": {"id": "b"}, **refused},
        {"request": "DELETE /v1/resource/vm", "json_body": {"=": {"host": "h"}}, **refused},
        {"request": "POST /v1/search/resource/vm", **refused},
        {"request": "GET /v1/resource/vm/a", **refused},
        {"request": "PATCH /v1/resource/vm/a", "json_body": {}, **refused},
        {"request": "DELETE /v1/resource/vm/a", **refused},
        {"request": "GET /v1/resource/vm/a/history", **refused},
        {"request": "GET /v1/resource/vm/a/metric", **refused},
    )


def test_a_type_that_is_not_active_is_shown_as_what_it_is(deploy: Deployer) -> None:
    """And its resources are still generic ones."""
    _play(
        _with_state(deploy, "updating_error"),
        {
            "request": "GET /v1/resource_type/vm",
            "status": 200,
            "json_has": {"state": "updating_error"},
        },
        {
            "request": "GET /v1/resource_type",
            "status": 200,
            "each": [{"state": "active"}, {"state": "updating_error"}],
        },
        {"request": "GET /v1/resource/generic/a", "status": 200, "json_has": {"type": "vm"}},
        {"request": "GET /v1/resource/generic?details=true", "status": 200, "length": {"": 1}},
    )
