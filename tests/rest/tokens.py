"""Stands where keystonemiddleware does, with tokens that say whose they are.

A token is ``user:project:role,role``; every other is refused. Like the real middleware this
removes the identity headers of the client before it sets its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

HEADERS = ("USER_ID", "PROJECT_ID", "DOMAIN_ID", "ROLES", "IDENTITY_STATUS")

PASTE = """
[composite:gnocchi+keystone]
paste.composite_factory = gnocchi.rest.pipelines:url_map
/ = versions
/v1 = guarded
/healthcheck = healthcheck

[pipeline:guarded]
pipeline = tokens v1

[filter:tokens]
paste.filter_factory = tests.rest.tokens:filter_factory

[app:versions]
paste.app_factory = gnocchi.rest.app:app_factory
root = gnocchi.rest.api.VersionsController

[app:v1]
paste.app_factory = gnocchi.rest.app:app_factory
root = gnocchi.rest.api.V1Controller

[app:healthcheck]
paste.app_factory = gnocchi.rest.pipelines:healthcheck
"""


class Tokens:
    """The filter."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Refuse, or tell the application who asks."""
        for name in HEADERS:
            environ.pop(f"HTTP_X_{name}", None)
        parts = environ.get("HTTP_X_AUTH_TOKEN", "").split(":")
        if len(parts) != 3:
            start_response("401 Unauthorized", [("WWW-Authenticate", 'Keystone uri="http://k"')])
            return [b"Authentication required"]
        user, project, roles = parts
        environ["HTTP_X_IDENTITY_STATUS"] = "Confirmed"
        environ["HTTP_X_USER_ID"] = user
        # What the real one sets for a token without a project.
        environ["HTTP_X_PROJECT_ID"] = project or None  # type: ignore[assignment]
        environ["HTTP_X_ROLES"] = roles
        environ["keystone.token_auth"] = object()
        return self._application(environ, start_response)


def filter_factory(
    global_conf: dict[str, Any], **options: str
) -> Callable[[WSGIApplication], WSGIApplication]:
    """Build the filter, for paste files."""
    return Tokens
