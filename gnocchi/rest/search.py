"""``/v1/search/resource``: resources that fulfil a filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from gnocchi.rest import resource_listing, visibility
from gnocchi.rest.resources import OfType
from gnocchi.rest.routing import Node, expose

if TYPE_CHECKING:
    from gnocchi.rest.requests import Request
    from gnocchi.rest.responses import Response


class Types(Node):
    """The searches, one for each type."""

    def child(self, segment: str) -> Node:
        """Return the node that searches a type."""
        return Search(self.api, segment)


class Search(OfType):
    """The search for resources of a type."""

    found_first: ClassVar[bool] = True

    @expose
    def post(self, request: Request) -> Response:
        """List a page of what fulfils the filter in the body or the query."""
        visible = visibility.of_resources(self.api, request, "search resource")
        listing = resource_listing.requested(self.api, request)
        wanted = resource_listing.requested_filter(request)
        return resource_listing.page(
            self.api, request, self.kind, listing, wanted=wanted, visible=visible
        )
