"""``/v1/metric``: metrics by themselves, with their archive policy and creator."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import voluptuous

from gnocchi import errors, model
from gnocchi.indexer import metrics, policies, resources
from gnocchi.model import Metric
from gnocchi.rest import (
    measures,
    representation,
    requests,
    responses,
    validation,
    visibility,
)
from gnocchi.rest.errors import Refused, answers
from gnocchi.rest.metric_definitions import Rules, check_name
from gnocchi.rest.representation import (
    by_id,
    listed,
    shown,
    text_of,
    with_resource,
)
from gnocchi.rest.resource_bodies import identity
from gnocchi.rest.routing import Node, expose

if TYPE_CHECKING:
    from gnocchi.rest.requests import Query, Request
    from gnocchi.rest.responses import Response
    from gnocchi.rest.routing import Api

_NEW = voluptuous.Schema(
    {
        "archive_policy_name": validation.text,
        "name": validation.short_text,
        "unit": validation.unit,
        "resource_id": identity,
    }
)

_DEFAULT_SORT = (("id", "asc"),)
_STATUSES = (model.ACTIVE, model.DELETED)


# ------------------------------------------------------------------ nodes


class Metrics(Node):
    """The collection."""

    def child(self, segment: str) -> Node:
        """Return the node of one metric."""
        return OneMetric(self.api, segment)

    @expose
    def get(self, request: Request) -> Response:
        """List a page of the metrics that fit the filters in the query."""
        query = request.query
        api = self.api
        visible = visibility.of_metrics(api, request)
        page = requests.page(query, api.services.conf.api.max_limit, _DEFAULT_SORT)
        filters = _filters(query)
        marker = _marker(page.marker)
        if filters is None:
            return responses.document([])
        found = metrics.list_(
            api.services.db,
            filters=filters,
            visible=visible,
            limit=page.limit,
            marker=marker,
            sorts=page.sorts,
        )
        response = responses.document([listed(metric) for metric in found])
        if len(found) >= page.limit:
            responses.add_next_page(response, request, page, str(found[-1].id))
        return response

    @expose
    @answers({errors.NoSuchArchivePolicy: (400, str), errors.NoSuchResource: (400, str)})
    def post(self, request: Request) -> Response:
        """Create a metric."""
        api = self.api
        body = validation.checked(_NEW, request.json_document())
        name = body.get("name")
        check_name(name)
        wanted = body.get("archive_policy_name")
        if wanted is None:
            wanted = Rules(api).policy_name(name)
        resource = body.get("resource_id")
        if resource is not None and name is None:
            raise Refused(
                400,
                {
                    "cause": "Attribute value error",
                    "detail": "name",
                    "reason": "Name cannot be null if resource_id is not null",
                },
            )
        creator = request.caller.creator
        metric_of = None if resource is None else model.resource_id(resource, creator)
        target = {
            "creator": creator,
            "archive_policy_name": wanted,
            "resource_id": text_of(metric_of),
            "original_resource_id": resource,
            "name": name,
            "unit": body.get("unit"),
        }
        api.enforce(request, "create metric", target)
        policy = policies.get(api.services.db, wanted)
        if metric_of is not None:
            owner = resources.get(api.services.db, "generic", metric_of)
            seen = representation.target(api, "update resource", owner)
            api.enforce(request, "update resource", seen)
        metric = Metric(
            id=uuid.uuid4(),
            archive_policy=policy,
            creator=creator,
            name=name,
            unit=body.get("unit"),
            resource_id=metric_of,
        )
        metrics.create(api.services.db, metric)
        document = shown(metric, "name") | {"resource_id": text_of(metric.resource_id)}
        return responses.created(request, f"metric/{metric.id}", document)


def _filters(query: Query) -> dict[str, Any] | None:
    """Read the filters of a listing; ``None`` when nothing can fit them."""
    filters: dict[str, Any] = {}
    for name in ("id", "name", "unit", "creator", "archive_policy_name", "status"):
        value = _filter(query, name)
        if value is not None:
            filters[name] = value
    user_id, project_id = _filter(query, "user_id"), _filter(query, "project_id")
    if filters.setdefault("status", model.ACTIVE) not in _STATUSES:
        raise Refused(400, "Invalid input: not a valid value for dictionary value @ data['status']")
    if user_id is not None or project_id is not None:
        creator = f"{user_id or ''}:{project_id or ''}"
        if filters.setdefault("creator", creator) != creator:
            return None
    if not all(requests.storable(value) for value in filters.values()):
        return None
    if "id" in filters:
        try:
            filters["id"] = model.parse_uuid(filters["id"])
        except errors.Invalid:
            return None
    return filters


def _filter(query: Query, name: str) -> str | None:
    values = query.all(name)
    if len(values) > 1:
        raise Refused(400, f"Invalid input: expected str for dictionary value @ data['{name}']")
    return values[0] if values else None


def _marker(text: str | None) -> uuid.UUID | None:
    if text is None:
        return None
    try:
        return model.parse_uuid(text)
    except errors.Invalid as error:
        raise errors.InvalidPagination(f"Invalid marker: `{text}'") from error


class OneMetric(Node):
    """One metric, by id."""

    metric: Metric

    def __init__(self, api: Api, text: str) -> None:
        super().__init__(api)
        self.text = text

    def child(self, segment: str) -> Node | None:
        """Return the node of its measures."""
        return measures.MeasuresById(self.api, self.text) if segment == "measures" else None

    def load(self, request: Request) -> None:
        """Fetch the metric."""
        self.metric = by_id(self.api, self.text)

    @expose
    def get(self, request: Request) -> Response:
        """Show it."""
        document = with_resource(self.api, self.metric)
        self.api.enforce(request, "get metric", document)
        return responses.document(document)

    @expose
    def delete(self, request: Request) -> Response:
        """Delete it; its data follows later."""
        self.api.enforce(request, "delete metric", with_resource(self.api, self.metric))
        metrics.delete(self.api.services.db, self.metric.id)
        return responses.no_content()
