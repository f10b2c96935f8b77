"""``/v1/resource_type``: which attributes the resources of a type have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gnocchi.indexer import resource_types
from gnocchi.resource_type import ResourceType
from gnocchi.rest import responses
from gnocchi.rest.routing import Node, expose

if TYPE_CHECKING:
    from gnocchi.rest.requests import Request
    from gnocchi.rest.responses import Response
    from gnocchi.rest.routing import Api

JSON_PATCH = "application/json-patch+json"


class ResourceTypes(Node):
    """The collection."""

    def child(self, segment: str) -> Node:
        """Return the node of one type."""
        return OneResourceType(self.api, segment)

    @expose
    def get(self, request: Request) -> Response:
        """List all types."""
        self.api.enforce(request, "list resource type", {})
        found = resource_types.list_(self.api.services.db)
        return responses.document([kind.to_json() for kind in found])

    @expose
    def post(self, request: Request) -> Response:
        """Create a type."""
        body = request.json_document()
        kind = ResourceType.from_json(body)
        self.api.enforce(request, "create resource type", body)
        resource_types.create(self.api.services.db, kind)
        return responses.created(request, f"resource_type/{kind.name}", kind.to_json())


class OneResourceType(Node):
    """One type, by name."""

    def __init__(self, api: Api, name: str) -> None:
        super().__init__(api)
        self.name = name

    @expose
    def get(self, request: Request) -> Response:
        """Show it."""
        shown = self._kind().to_json()
        self.api.enforce(request, "get resource type", shown)
        return responses.document(shown)

    @expose
    def patch(self, request: Request) -> Response:
        """Add, change and remove attributes, those of existing resources included."""
        self.api.enforce(request, "update resource type", self._kind().to_json())
        operations = request.json_document(JSON_PATCH)
        changed = resource_types.update(self.api.services.db, self.name, operations)
        return responses.document(changed.to_json())

    @expose
    def delete(self, request: Request) -> Response:
        """Delete it, if there are no resources of the type."""
        self.api.enforce(request, "delete resource type", self._kind().to_json())
        resource_types.delete(self.api.services.db, self.name)
        return responses.no_content()

    def _kind(self) -> ResourceType:
        return resource_types.get(self.api.services.db, self.name)
