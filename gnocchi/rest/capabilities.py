"""``/v1/capabilities``: what this server can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from gnocchi import archive_policy
from gnocchi.rest import responses
from gnocchi.rest.routing import Node, expose

if TYPE_CHECKING:
    from gnocchi.rest.requests import Request
    from gnocchi.rest.responses import Response


class Capabilities(Node):
    """The aggregation methods that archive policies may keep."""

    public: ClassVar[bool] = True

    @expose
    def get(self, request: Request) -> Response:
        """List the methods."""
        return responses.document({"aggregation_methods": sorted(archive_policy.METHODS)})
