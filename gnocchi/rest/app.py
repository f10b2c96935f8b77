"""The API as one WSGI application.

`build` puts the tree of URLs together and wraps it. From the outside in: CORS and proxy headers
(only when configured), ``OPTIONS`` and ``/healthcheck``, then Pecan with the routing of this
package. Pecan's guesses are turned off: it neither reads bodies or parameters nor renders
anything, because both would cost more than the measures a body holds and know other errors.

Every request gets an answer: an exception that nobody foresaw becomes a 500 with a body, and is
logged.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from oslo_config import cfg
from oslo_middleware import cors, healthcheck, http_proxy_to_wsgi
from pecan.core import PecanBase
from pecan.hooks import PecanHook

from gnocchi.rest import (
    archive_policies,
    archive_policy_rules,
    auth,
    batch,
    capabilities,
    errors,
    metrics,
    negotiation,
    root,
    status,
)
from gnocchi.rest.errors import Refused
from gnocchi.rest.policies import Policies
from gnocchi.rest.requests import Request
from gnocchi.rest.responses import Response
from gnocchi.rest.routing import Api, Branch, Tree

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from gnocchi.rest.routing import Node
    from gnocchi.service import Services

LOG = logging.getLogger(__name__)


def build(services: Services) -> WSGIApplication:
    """Return the application over connected services.

    Raises:
        Misconfigured: the authentication mode does not exist.
    """
    conf = services.conf
    api = Api(services, Policies(conf))
    application: Any = Application(tree(api), auth.mode(conf.api.auth_mode), conf)
    application = Front(application, conf)
    if conf.api.enable_proxy_headers_parsing:
        # The middleware has an option of its own for the same thing.
        options = cfg.ConfigOpts()
        options([], project="gnocchi", default_config_files=[], default_config_dirs=[])
        application = http_proxy_to_wsgi.HTTPProxyToWSGI(application, options)
        options.set_override("enable_proxy_headers_parsing", True, group="oslo_middleware")
    if conf.cors.allowed_origin:
        application = cors.CORS(application, conf)
    return Guard(application)


def tree(api: Api) -> Node:
    """Return the root of all URLs."""
    version_1: dict[str, Node] = {
        "archive_policy": archive_policies.ArchivePolicies(api),
        "archive_policy_rule": archive_policy_rules.ArchivePolicyRules(api),
        "batch": Branch(
            api,
            {
                "metrics": Branch(api, {"measures": batch.MetricsMeasures(api)}),
            },
        ),
        "capabilities": capabilities.Capabilities(api),
        "metric": metrics.Metrics(api),
        "status": status.Status(api),
    }
    return root.Versions(api, {"v1": root.Version1(api, version_1)})


class Application(PecanBase):  # type: ignore[misc]
    """Pecan, with this program's idea of negotiation, parameters and rendering."""

    def __init__(self, top: Node, mode: auth.Mode, conf: cfg.ConfigOpts) -> None:
        super().__init__(
            Tree(top),
            hooks=[Failures()],
            force_canonical=False,
            guess_content_type_from_ext=False,
            request_cls=Request,
            response_cls=_Unanswered,
        )
        self._mode = mode
        self._max_body_size = conf.api.max_body_size

    def find_controller(self, state: Any) -> tuple[Any, list[Any], dict[str, Any]]:
        """Find the handler and run everything that comes before it, in the order it must."""
        request = state.request
        # 1. The path and the method.
        handler, _ = self.route(request, self.root, "/")
        state.controller = handler
        node: Node = handler.__self__
        request.max_body_size = self._max_body_size
        # 2. Who asks. A caller without credentials learns first that nothing would suit it.
        acceptable = self._acceptable(handler, request)
        caller = self._mode.caller(request.environ)
        if caller is None:
            if not acceptable:
                raise Refused(406)
            if not node.public:
                challenge = self._mode.challenge
                raise Refused(401, headers={"WWW-Authenticate": challenge} if challenge else {})
            caller = auth.ANONYMOUS
        request.caller = caller
        # 3. What the path names, and again whether the answer would suit.
        node.load(request)
        if not acceptable:
            raise Refused(406)
        return handler, [request], {}

    def invoke_controller(
        self, controller: Any, args: list[Any], kwargs: dict[str, Any], state: Any
    ) -> None:
        """Call the handler, which returns a finished response."""
        state.response = controller(*args)

    def _handle_empty_response_body(self, state: Any) -> None:
        """Leave empty answers as they are; Pecan would make a 204 of each."""

    @staticmethod
    def _acceptable(handler: Any, request: Request) -> bool:
        produced = handler._pecan["content_types"]  # where pecan.expose keeps them
        return negotiation.JSON not in produced or request.accepted.json


class Failures(PecanHook):  # type: ignore[misc]
    """Answers what went wrong in a request."""

    def on_error(self, state: Any, error: Exception) -> Response:
        """Build the response for whatever was raised."""
        answers = getattr(state.controller, "error_answers", {})
        return errors.render(errors.refusal(error, answers), state.request.accepted)


class _Unanswered(Response):
    """What Pecan starts with before there is a response."""

    def __init__(self) -> None:
        super().__init__("500 Internal Server Error")


class Front:
    """What is answered without the API: ``OPTIONS`` and ``/healthcheck``."""

    def __init__(self, application: WSGIApplication, conf: cfg.ConfigOpts) -> None:
        self._application = application
        self._healthcheck = healthcheck.Healthcheck(None, conf)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, or pass on."""
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return _send(Response("200 OK"), environ, start_response)
        if environ.get("PATH_INFO", "").strip("/") == "healthcheck":
            return cast("Iterable[bytes]", self._healthcheck(environ, start_response))
        return self._application(environ, start_response)


class Guard:
    """Stands outermost, so that nothing that is raised anywhere goes without an answer."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass on, with the members that servers may leave out and middleware expects."""
        environ.setdefault("SCRIPT_NAME", "")
        environ.setdefault("PATH_INFO", "")
        try:
            return self._application(environ, start_response)
        except Exception:
            LOG.exception("Unhandled error while answering a request")
            accepted = negotiation.accepted(environ.get("HTTP_ACCEPT"))
            return _send(errors.render(Refused(500), accepted), environ, start_response)


def _send(
    response: Response, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    return cast("Iterable[bytes]", response(environ, start_response))
