"""``/v1/resource/{type}/{id}/metric/{name}``: metrics by resource and name, and new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from gnocchi.indexer import metrics, resources
from gnocchi.indexer.resources import NewMetric
from gnocchi.rest import representation, responses
from gnocchi.rest.measures import Measures
from gnocchi.rest.resource_bodies import MetricDefinition
from gnocchi.rest.routing import Node, expose

if TYPE_CHECKING:
    from uuid import UUID

    from gnocchi.model import Metric, Resource
    from gnocchi.rest.requests import Request
    from gnocchi.rest.resource_bodies import Metrics
    from gnocchi.rest.resources import BelowResource
    from gnocchi.rest.responses import Response
    from gnocchi.rest.routing import Api


def prepare(
    api: Api, request: Request, resource: Resource, wanted: Metrics
) -> dict[str, UUID | NewMetric]:
    """Return the metrics that a body describes, as the index takes them.

    Raises:
        Refused: 403, the caller may not make one of them.
    """
    api.enforce_each(
        request,
        "create metric",
        [
            making(request, name, metric, resource.id, resource.original_resource_id)
            for name, metric in wanted.items()
            if isinstance(metric, MetricDefinition)
        ],
    )
    return {
        name: NewMetric(metric.archive_policy_name, metric.unit)
        if isinstance(metric, MetricDefinition)
        else metric
        for name, metric in wanted.items()
    }


def making(
    request: Request,
    name: str,
    metric: MetricDefinition,
    resource_id: UUID,
    original_resource_id: str,
) -> dict[str, Any]:
    """Return what the rule about making metrics sees of one for a resource."""
    return {
        "creator": request.caller.creator,
        "archive_policy_name": metric.archive_policy_name,
        "resource_id": str(resource_id),
        "original_resource_id": original_resource_id,
        "name": name,
        "unit": metric.unit,
    }


class ByName:
    """How a metric is found by its name and the resource it belongs to."""

    def __init__(self, parent: BelowResource, name: str) -> None:
        self._parent = parent
        self._name = name

    def find(self, request: Request) -> Metric:
        """Return the metric.

        Raises:
            NoSuchResourceType, NoSuchResource, NoSuchMetric: what is missing on the way to it.
        """
        parent = self._parent
        parent.load(request)
        identity = parent.identity(request)
        return resources.metric_named(
            parent.api.services.db, parent.kind.name, identity, self._name
        )


class NamedMetric(Node):
    """One metric of a resource."""

    found_first: ClassVar[bool] = True
    metric: Metric

    def __init__(self, parent: BelowResource, name: str) -> None:
        super().__init__(parent.api)
        self._by_name = ByName(parent, name)

    def child(self, segment: str) -> Node | None:
        """Return the node of its measures."""
        return NamedMeasures(self.api, self._by_name) if segment == "measures" else None

    def load(self, request: Request) -> None:
        """Fetch the metric."""
        self.metric = self._by_name.find(request)

    @expose
    def get(self, request: Request) -> Response:
        """Show it."""
        document = representation.with_resource(self.api, self.metric)
        self.api.enforce(request, "get metric", document)
        return responses.document(document)

    @expose
    def delete(self, request: Request) -> Response:
        """Delete it; its data follows later."""
        target = representation.with_resource(self.api, self.metric)
        self.api.enforce(request, "delete metric", target)
        metrics.delete(self.api.services.db, self.metric.id)
        return responses.no_content()


class NamedMeasures(Measures):
    """The measures of one metric of a resource."""

    found_first: ClassVar[bool] = True

    def __init__(self, api: Api, by_name: ByName) -> None:
        super().__init__(api)
        self._by_name = by_name

    def load(self, request: Request) -> None:
        """Fetch the metric."""
        self.metric = self._by_name.find(request)
