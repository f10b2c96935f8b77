"""``/v1/metric``: metrics by themselves, with their archive policy and creator."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import voluptuous

from gnocchi import errors, model
from gnocchi.archive_policy import matching_rule
from gnocchi.indexer import metrics, policies
from gnocchi.model import Metric
from gnocchi.rest import measures, requests, responses, validation
from gnocchi.rest.errors import Refused, answers
from gnocchi.rest.representation import by_id, listed, shown, single, text_of
from gnocchi.rest.routing import Node, expose

if TYPE_CHECKING:
    from gnocchi.archive_policy import ArchivePolicy
    from gnocchi.rest.requests import Query, Request
    from gnocchi.rest.responses import Response
    from gnocchi.rest.routing import Api

_NEW = voluptuous.Schema(
    {
        "archive_policy_name": validation.text,
        "name": validation.short_text,
        "unit": voluptuous.All(validation.text, voluptuous.Length(max=31)),
        "resource_id": validation.text,
    }
)

_DEFAULT_SORT = (("id", "asc"),)
_STATUSES = (model.ACTIVE, model.DELETED)


# ------------------------------------------------------------------ definitions


def check_name(name: str | None) -> None:
    """Raise the 400 for a name that could not be a segment of a path."""
    if name is not None and "/" in name:
        raise Refused(400, "'/' is not supported in metric name")


def policy_name(api: Api, name: str | None) -> str:
    """Return the archive policy that the rules give to a metric of that name.

    Raises:
        NoArchivePolicyRuleMatch: none of them matches.
    """
    rule = matching_rule(policies.rules(api.services.db), name)
    if rule is None:
        raise errors.NoArchivePolicyRuleMatch(name)
    return rule.archive_policy_name


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
        page = requests.page(query, api.services.conf.api.max_limit, _DEFAULT_SORT)
        filters = _filters(query)
        marker = _marker(page.marker)
        if filters is None:
            return responses.document([])
        found = metrics.list_(
            api.services.db,
            filters=filters,
            visible=None,
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
            wanted = policy_name(api, name)
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
        target = {
            "creator": creator,
            "archive_policy_name": wanted,
            "resource_id": resource,
            "original_resource_id": resource,
            "name": name,
            "unit": body.get("unit"),
        }
        api.enforce(request, "create metric", target)
        policy = policies.get(api.services.db, wanted)
        metric = _new(policy, creator, body)
        if metric.resource_id is not None:
            raise errors.NoSuchResource(metric.resource_id)
        metrics.create(api.services.db, metric)
        document = shown(metric, "name") | {"resource_id": text_of(metric.resource_id)}
        return responses.created(request, f"metric/{metric.id}", document)


def _new(policy: ArchivePolicy, creator: str | None, body: dict[str, Any]) -> Metric:
    resource = body.get("resource_id")
    return Metric(
        id=uuid.uuid4(),
        archive_policy=policy,
        creator=creator,
        name=body.get("name"),
        unit=body.get("unit"),
        resource_id=None if resource is None else model.resource_id(resource, creator),
    )


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
        document = single(self.metric)
        self.api.enforce(request, "get metric", document)
        return responses.document(document)

    @expose
    def delete(self, request: Request) -> Response:
        """Delete it; its data follows later."""
        self.api.enforce(request, "delete metric", single(self.metric))
        metrics.delete(self.api.services.db, self.metric.id)
        return responses.no_content()
