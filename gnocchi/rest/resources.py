"""``/v1/resource``: what is measured, with the attributes of its type and its metrics."""

from __future__ import annotations

import time
import urllib.parse
from typing import TYPE_CHECKING, Any

from gnocchi import errors, model
from gnocchi.indexer import resource_types, resources
from gnocchi.rest import (
    preconditions,
    representation,
    resource_bodies,
    resource_listing,
    resource_metrics,
    responses,
    visibility,
)
from gnocchi.rest.errors import Refused, answers
from gnocchi.rest.preconditions import Validators
from gnocchi.rest.routing import Node, expose

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from gnocchi.model import Resource
    from gnocchi.resource_type import ResourceType
    from gnocchi.rest.requests import Request
    from gnocchi.rest.responses import Response
    from gnocchi.rest.routing import Api

# What is missing may be named by the body here, and then the body is what is wrong.
_BODY_NAMES_METRICS = answers(
    {
        errors.NoSuchMetric: (400, str),
        errors.NoSuchArchivePolicy: (400, str),
        errors.NamedMetricAlreadyExists: (409, str),
    }
)


class Types(Node):
    """The collections, one for each type."""

    def child(self, segment: str) -> Node:
        """Return the node of the resources of a type."""
        return Resources(self.api, segment)

    @expose
    def get(self, request: Request) -> Response:
        """List the types with the addresses of their resources."""
        self.api.enforce(request, "list resource type", {})
        base = f"{request.base_url}/v1/resource/"
        found = resource_types.list_(self.api.services.db)
        return responses.document(
            {kind.name: base + urllib.parse.quote(kind.name, safe="") for kind in found}
        )


class OfType(Node):
    """A node below the name of a type, which is looked up before anything else."""

    kind: ResourceType

    def __init__(self, api: Api, type_name: str) -> None:
        super().__init__(api)
        self.type_name = type_name

    def load(self, request: Request) -> None:
        """Fetch the type."""
        self.kind = resource_types.get(self.api.services.db, self.type_name)
        if self.kind.state != "active":
            raise Refused(
                400,
                f"Resource type {self.kind.name} state is {self.kind.state} (expected: active)",
            )


class Resources(OfType):
    """The resources of a type; those of all types under the name ``generic``."""

    def child(self, segment: str) -> Node:
        """Return the node of one resource."""
        return OneResource(self.api, self.type_name, segment)

    @expose
    def get(self, request: Request) -> Response:
        """List a page of them."""
        visible = visibility.of_resources(self.api, request, "list resource")
        listing = resource_listing.requested(self.api, request)
        return resource_listing.page(self.api, request, self.kind, listing, visible=visible)

    @expose
    @_BODY_NAMES_METRICS
    def post(self, request: Request) -> Response:
        """Create one."""
        api = self.api
        document = request.json_document()
        body = resource_bodies.new(api, self.kind, document)
        creator = request.caller.creator
        identity = model.resource_id(body.id, creator)
        target = document | {
            "resource_type": self.kind.name,
            "id": str(identity),
            "original_resource_id": body.id,
        }
        api.enforce(request, "create resource", target)
        now = time.time_ns() // 1000
        started_at = body.fields.get("started_at", now)
        ended_at = body.fields.get("ended_at")
        if ended_at is not None and ended_at < started_at:
            raise Refused(400, "Start timestamp cannot be after end timestamp")
        resource = model.Resource(
            id=identity,
            type=self.kind.name,
            creator=creator,
            original_resource_id=body.id,
            user_id=body.fields.get("user_id"),
            project_id=body.fields.get("project_id"),
            started_at=started_at,
            ended_at=ended_at,
            revision_start=now,
            attributes=body.attributes,
        )
        metrics = resource_metrics.prepare(api, request, resource, body.metrics)
        stored = resources.create(api.services.db, resource, metrics)
        shown = representation.whole(stored, self.kind)
        path = f"resource/{self.kind.name}/{stored.id}"
        response = responses.created(request, path, shown)
        return Validators.of(stored).put_on(response)

    @expose
    def delete(self, request: Request) -> Response:
        """Delete all that fit a filter."""
        visible = visibility.of_resources_to_delete(self.api, request)
        wanted = resource_listing.mandatory_filter(request)
        number = resources.delete_many(self.api.services.db, self.kind.name, wanted, visible)
        return responses.document({"deleted": number})


class BelowResource(OfType):
    """A node at or below one resource of a type."""

    def __init__(self, api: Api, type_name: str, text: str) -> None:
        super().__init__(api, type_name)
        self.text = text

    def identity(self, request: Request) -> UUID:
        """Return the id of the resource; raises `NoSuchResource` for what can be none."""
        return representation.resource_id_of(self.text, request.caller.creator)

    def resource(self, request: Request) -> Resource:
        """Fetch the resource; raises `NoSuchResource`."""
        return resources.get(self.api.services.db, self.kind.name, self.identity(request))

    def _enforce(self, request: Request, rule: str, resource: Resource) -> None:
        self.api.enforce(request, rule, representation.target(self.api, rule, resource))


class OneResource(BelowResource):
    """One resource."""

    def child(self, segment: str) -> Node | None:
        """Return the node of its history, or that of its metrics."""
        below = _BELOW.get(segment)
        return None if below is None else below(self.api, self.type_name, self.text)

    @expose
    def get(self, request: Request) -> Response:
        """Show it."""
        resource = self.resource(request)
        visibility.enforce_reading(self.api, request, resource)
        return self._shown(request, resource, check=True)

    @expose
    @_BODY_NAMES_METRICS
    def patch(self, request: Request) -> Response:
        """Change it; what was stays visible in the history."""
        api = self.api
        resource = self.resource(request)
        check = self._check(request, "update resource")
        check(resource)
        body = resource_bodies.change(api, self.kind, request.json_document())
        metrics = None
        if body.metrics is not None:
            metrics = resource_metrics.prepare(api, request, resource, body.metrics)
        changes: dict[str, Any] = {**body.fields, **body.attributes}
        changed = resource
        if changes or metrics is not None:
            changed = resources.update(
                api.services.db, self.kind.name, resource.id, changes, metrics, check=check
            )
        return self._shown(request, changed, check=False)

    @expose
    def delete(self, request: Request) -> Response:
        """Delete it, its history and its metrics."""
        resource = self.resource(request)
        check = self._check(request, "delete resource")
        check(resource)
        resources.delete(self.api.services.db, self.kind.name, resource.id, check=check)
        return responses.no_content()

    def _check(self, request: Request, rule: str) -> Callable[[Resource], None]:
        """Return what tells whether the caller may change a version of the resource.

        It is asked again for the version that is about to be replaced: another client may have
        changed the resource, or deleted it and somebody else made one of its id.
        """

        def check(version: Resource) -> None:
            self._enforce(request, rule, version)
            preconditions.check(request, Validators.of(version))

        return check

    def _shown(self, request: Request, resource: Resource, *, check: bool) -> Response:
        shown = representation.whole(resource, self.kind)
        validators = Validators.of(resource)
        unchanged = preconditions.check(request, validators) if check else None
        return unchanged or validators.put_on(responses.document(shown))


class History(BelowResource):
    """All versions of a resource."""

    @expose
    def get(self, request: Request) -> Response:
        """List a page of them, the current one included."""
        resource = self.resource(request)
        visibility.enforce_reading(self.api, request, resource)
        return resource_listing.history(self.api, request, self.kind, resource)


class Metrics(BelowResource):
    """The metrics of a resource."""

    def child(self, segment: str) -> Node:
        """Return the node of one of them."""
        return resource_metrics.NamedMetric(self, segment)

    @expose
    def get(self, request: Request) -> Response:
        """List all of them."""
        resource = self.resource(request)
        visibility.enforce_reading(self.api, request, resource)
        return self._listed(resource)

    @expose
    @_BODY_NAMES_METRICS
    def post(self, request: Request) -> Response:
        """Add some; those that are there stay."""
        api = self.api
        resource = self.resource(request)
        self._enforce(request, "update resource", resource)
        body = resource_bodies.metrics(api, request.json_document())
        metrics = resource_metrics.prepare(api, request, resource, body)
        if metrics:
            resources.add_metrics(
                api.services.db, self.kind.name, resource.id, metrics, checked=resource
            )
        return self._listed(resource)

    def _listed(self, resource: Resource) -> Response:
        found = resources.metrics_of(self.api.services.db, self.kind.name, resource.id)
        return responses.document([representation.listed(metric) for metric in found])


_BELOW: dict[str, type[BelowResource]] = {"history": History, "metric": Metrics}
