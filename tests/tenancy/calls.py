"""Sending requests as a caller, and reading what comes back as rows that can be compared."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tests.tenancy.world import ATTRIBUTES

if TYPE_CHECKING:
    import webtest

    from tests.tenancy.world import Caller, Metric, Resource

_NEXT = re.compile(r'<http://localhost(.+)>; rel="next"\Z')
#: More pages than any listing here can have.
MOST_PAGES = 500


class Requests:
    """A client that can be anybody."""

    def __init__(self, application: webtest.TestApp) -> None:
        self._application = application

    def send(
        self, caller: Caller, method: str, path: str, body: Any = None, media_type: str = ""
    ) -> webtest.TestResponse:
        """Send a request; a body is written as JSON."""
        headers = {"X-Auth-Token": caller.token, "Accept": "application/json"}
        if body is not None or media_type:
            headers["Content-Type"] = media_type or "application/json"
        response = self._application.request(
            path,
            method=method,
            headers=headers,
            body=b"" if body is None else json.dumps(body).encode(),
            expect_errors=True,
        )
        assert response.status_int < 500, f"{method} {path} {body}: {response.text}"
        return response

    def pages(
        self, caller: Caller, method: str, path: str, query: dict[str, Any], body: Any = None
    ) -> tuple[int, list[Any]]:
        """Fetch a listing page by page; return the status and the items of all pages."""
        media_type = "application/json" if method == "POST" else ""
        address = f"{path}?{urlencode(query, doseq=True)}"
        items: list[Any] = []
        for _ in range(MOST_PAGES):
            response = self.send(caller, method, address, body, media_type)
            if response.status_int != 200:
                return response.status_int, []
            items += response.json
            if "limit" in query:
                assert len(response.json) <= query["limit"]
            link = response.headers.get("Link")
            if link is None:
                return 200, items
            found = _NEXT.match(link)
            assert found, link
            address = found[1]
        raise AssertionError(f"the pages of {path} do not end")


# ------------------------------------------------------------------ rows


def resource_row(document: dict[str, Any], *, details: bool) -> dict[str, Any]:
    """Return what is compared of a resource in an answer, and check that it holds no more."""
    fields = {
        "id", "original_resource_id", "type", "creator", "created_by_user_id",
        "created_by_project_id", "user_id", "project_id", "started_at", "ended_at",
        "revision_start", "revision_end", "metrics",
    }  # fmt: skip
    attributes = set(ATTRIBUTES[document["type"]]) if details else set()
    assert set(document) == fields | attributes
    kept = (fields | attributes) - {"started_at", "ended_at", "revision_start", "revision_end"}
    return {name: document[name] for name in kept} | {"past": document["revision_end"] is not None}


def expected_resource(
    resource: Resource, number: int, metrics: dict[str, Metric], *, details: bool
) -> dict[str, Any]:
    """Return the row that one version of a resource must be."""
    version = resource.versions[number]
    user, _, project = resource.creator.partition(":")
    row = {
        "id": str(resource.id),
        "original_resource_id": resource.text,
        "type": resource.type,
        "creator": resource.creator,
        "created_by_user_id": user,
        "created_by_project_id": project,
        "user_id": version.user_id,
        "project_id": version.project_id,
        "metrics": {name: str(metric.id) for name, metric in metrics.items()},
        "past": number < len(resource.versions) - 1,
    }
    if details:
        row |= {name: getattr(version, name) for name in ATTRIBUTES[resource.type]}
    return row


def metric_row(document: dict[str, Any]) -> tuple[uuid.UUID, str, str, uuid.UUID | None]:
    """Return what is compared of a metric in a list."""
    attached = document["resource_id"]
    return (
        uuid.UUID(document["id"]),
        document["creator"],
        document["name"],
        None if attached is None else uuid.UUID(attached),
    )


def expected_metric(metric: Metric) -> tuple[uuid.UUID, str, str, uuid.UUID | None]:
    """Return the row that a metric must be."""
    return metric.id, metric.creator, metric.name, metric.resource


def in_any_order(rows: list[dict[str, Any]]) -> list[str]:
    """Bring rows into an order that depends on nothing but themselves."""
    return sorted(json.dumps(row, sort_keys=True) for row in rows)
