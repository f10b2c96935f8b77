"""The documents at the root: which versions there are, and what version 1 offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import gnocchi
from gnocchi.rest import responses
from gnocchi.rest.routing import Branch, expose

if TYPE_CHECKING:
    from gnocchi.rest.requests import Request
    from gnocchi.rest.responses import Response

COLLECTIONS = (
    "aggregates",
    "aggregation",
    "archive_policy",
    "archive_policy_rule",
    "batch",
    "capabilities",
    "influxdb",
    "metric",
    "resource",
    "resource_type",
    "search",
    "status",
)


class Versions(Branch):
    """``/``"""

    public: ClassVar[bool] = True

    @expose
    def get(self, request: Request) -> Response:
        """List the versions of the API."""
        link = {"rel": "self", "href": f"{request.base_url}/v1/"}
        version = {
            "status": "CURRENT",
            "links": [link],
            "id": "v1.0",
            "updated": "2015-03-19",
        }
        return responses.document({"versions": [version], "build": gnocchi.__version__})


class Version1(Branch):
    """``/v1``"""

    public: ClassVar[bool] = True

    @expose
    def get(self, request: Request) -> Response:
        """List the collections."""
        base = f"{request.base_url}/v1"
        links = [{"rel": "self", "href": base}]
        links += [{"rel": name, "href": f"{base}/{name}"} for name in COLLECTIONS]
        return responses.document({"version": "1.0", "links": links})
