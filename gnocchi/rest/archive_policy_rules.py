"""``/v1/archive_policy_rule``: which archive policy a metric gets that does not name one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import voluptuous

from gnocchi import errors
from gnocchi.archive_policy import ArchivePolicyRule
from gnocchi.indexer import policies
from gnocchi.rest import responses, validation
from gnocchi.rest.errors import answers, cause
from gnocchi.rest.routing import Node, expose

if TYPE_CHECKING:
    from gnocchi.rest.requests import Request
    from gnocchi.rest.responses import Response
    from gnocchi.rest.routing import Api

_NEW = voluptuous.Schema(
    {
        voluptuous.Required("name"): validation.name,
        voluptuous.Required("metric_pattern"): validation.short_text,
        voluptuous.Required("archive_policy_name"): validation.text,
    }
)
_CHANGE = voluptuous.Schema({voluptuous.Required("name"): validation.name})


class ArchivePolicyRules(Node):
    """The collection."""

    def child(self, segment: str) -> Node:
        """Return the node of one rule."""
        return OneArchivePolicyRule(self.api, segment)

    @expose
    def get(self, request: Request) -> Response:
        """List all rules in the order they are tried."""
        self.api.enforce(request, "list archive policy rule", {})
        return responses.document([rule.to_json() for rule in policies.rules(self.api.services.db)])

    @expose
    @answers({errors.NoSuchArchivePolicy: (400, cause("Archive policy does not exist", "name"))})
    def post(self, request: Request) -> Response:
        """Create a rule."""
        self.api.enforce(request, "create archive policy rule", {})
        body = validation.checked(_NEW, request.json_document())
        self.api.enforce(request, "create archive policy rule", body)
        rule = ArchivePolicyRule(**body)
        policies.create_rule(self.api.services.db, rule)
        return responses.created(request, f"archive_policy_rule/{rule.name}", rule.to_json())


class OneArchivePolicyRule(Node):
    """One rule, by name."""

    rule: ArchivePolicyRule

    def __init__(self, api: Api, name: str) -> None:
        super().__init__(api)
        self.name = name

    def load(self, request: Request) -> None:
        """Fetch the rule."""
        self.rule = policies.get_rule(self.api.services.db, self.name)

    @expose
    def get(self, request: Request) -> Response:
        """Show it."""
        self.api.enforce(request, "get archive policy rule", self.rule.to_json())
        return responses.document(self.rule.to_json())

    @expose
    def patch(self, request: Request) -> Response:
        """Rename it."""
        body = validation.checked(_CHANGE, request.json_document())
        self.api.enforce(request, "update archive policy rule", {})
        renamed = policies.rename_rule(self.api.services.db, self.name, body["name"])
        return responses.document(renamed.to_json())

    @expose
    def delete(self, request: Request) -> Response:
        """Delete it."""
        self.api.enforce(request, "delete archive policy rule", {})
        policies.delete_rule(self.api.services.db, self.name)
        return responses.no_content()
