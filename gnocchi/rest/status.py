"""``/v1/status``: what waits to be processed, and who processes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gnocchi import errors
from gnocchi.engine import status
from gnocchi.rest import responses
from gnocchi.rest.errors import answers
from gnocchi.rest.routing import Node, expose

if TYPE_CHECKING:
    from gnocchi.rest.requests import Request
    from gnocchi.rest.responses import Response


class Status(Node):
    """The state of the whole installation, for administrators."""

    @expose
    @answers({errors.Unavailable: (503, lambda error: "Unable to generate status. Please retry.")})
    def get(self, request: Request) -> Response:
        """Report; ``details=false`` leaves out the list of metrics."""
        self.api.enforce(request, "get status", {})
        details = request.query.boolean("details", default=True)
        return responses.document(status.report(self.api.services, details))
