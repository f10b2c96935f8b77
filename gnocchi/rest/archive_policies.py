"""``/v1/archive_policy``: how long and how finely the aggregates of metrics are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import voluptuous

from gnocchi.archive_policy import ArchivePolicy, Definition, resolve_methods
from gnocchi.engine import read
from gnocchi.indexer import policies
from gnocchi.rest import responses, validation
from gnocchi.rest.routing import Node, expose

if TYPE_CHECKING:
    from gnocchi.rest.requests import Request
    from gnocchi.rest.responses import Response
    from gnocchi.rest.routing import Api

_ITEM = {
    "granularity": validation.timespan,
    "points": validation.integer(minimum=1, maximum=2**63 - 1),
    "timespan": validation.timespan,
}
_DEFINITION = voluptuous.All([_ITEM], voluptuous.Length(min=1))

_NEW = voluptuous.Schema(
    {
        voluptuous.Required("name"): validation.name,
        voluptuous.Required("definition"): _DEFINITION,
        voluptuous.Optional("back_window", default=0): validation.integer(minimum=0),
        "aggregation_methods": [validation.aggregation_method],
    }
)
_CHANGE = voluptuous.Schema(
    {
        voluptuous.Required("definition"): _DEFINITION,
        "back_window": validation.integer(minimum=0),
    }
)


def _definition(items: list[dict[str, int]]) -> list[Definition]:
    return [Definition.complete(**item) for item in items]


class ArchivePolicies(Node):
    """The collection."""

    def child(self, segment: str) -> Node:
        """Return the node of one archive policy."""
        return OneArchivePolicy(self.api, segment)

    @expose
    def get(self, request: Request) -> Response:
        """List all archive policies."""
        self.api.enforce(request, "list archive policy", {})
        found = policies.all(self.api.services.db)
        return responses.document([policy.to_json() for policy in found])

    @expose
    def post(self, request: Request) -> Response:
        """Create an archive policy."""
        self.api.enforce(request, "create archive policy", {})
        body = validation.checked(_NEW, request.json_document())
        defaults = self.api.services.conf.archive_policy.default_aggregation_methods
        policy = ArchivePolicy.create(
            body["name"],
            body["back_window"],
            _definition(body["definition"]),
            resolve_methods(body.get("aggregation_methods"), defaults),
        )
        shown = policy.to_json()
        self.api.enforce(request, "create archive policy", shown)
        policies.create(self.api.services.db, policy)
        return responses.created(request, f"archive_policy/{policy.name}", shown)


class OneArchivePolicy(Node):
    """One archive policy, by name."""

    def __init__(self, api: Api, name: str) -> None:
        super().__init__(api)
        self.name = name

    @expose
    def get(self, request: Request) -> Response:
        """Show it."""
        shown = policies.get(self.api.services.db, self.name).to_json()
        self.api.enforce(request, "get archive policy", shown)
        return responses.document(shown)

    @expose
    def patch(self, request: Request) -> Response:
        """Replace its definition, the granularities staying the same."""
        db = self.api.services.db
        policy = policies.get(db, self.name)
        self.api.enforce(request, "update archive policy", policy.to_json())
        body: dict[str, Any] = validation.checked(_CHANGE, request.json_document())
        definition, back_window = _definition(body["definition"]), body.get("back_window")
        newest = read.newest(self.api.services)
        changed = policies.change(
            db, self.name, lambda policy: policy.changed(definition, back_window, newest=newest)
        )
        return responses.document(changed.to_json())

    @expose
    def delete(self, request: Request) -> Response:
        """Delete it, if nothing uses it."""
        self.api.enforce(request, "delete archive policy", {})
        policies.delete(self.api.services.db, self.name)
        return responses.no_content()
