"""The API as one WSGI application.

`build` puts everything together. From the outside in: CORS and proxy headers (only when
configured), ``OPTIONS``, what the paste file says (see ``pipelines``), and innermost Pecan with
the routing of this package. Pecan's guesses are turned off: it neither reads bodies or parameters
nor renders anything, because both would cost more than the measures a body holds and know other
errors.

Every request gets an answer: an exception that nobody foresaw becomes a 500 with a body, and is
logged.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from oslo_config import cfg
from oslo_middleware import cors, http_proxy_to_wsgi
from pecan.core import PecanBase
from pecan.hooks import PecanHook

from gnocchi.rest import (
    aggregates,
    aggregation,
    archive_policies,
    archive_policy_rules,
    auth,
    batch,
    batch_resources,
    capabilities,
    errors,
    metrics,
    negotiation,
    pipelines,
    resource_types,
    resources,
    root,
    search,
    search_metrics,
    status,
)
from gnocchi.rest.errors import Refused
from gnocchi.rest.policies import Policies
from gnocchi.rest.requests import Request
from gnocchi.rest.responses import Response
from gnocchi.rest.routing import Api, Branch, Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from gnocchi.rest.routing import Node
    from gnocchi.service import Services

LOG = logging.getLogger(__name__)


def build(services: Services) -> WSGIApplication:
    """Return the application over connected services.

    Raises:
        Misconfigured: the authentication mode does not exist, or a file cannot be used.
    """
    conf = services.conf
    # Guarded twice: what a pipeline raises gets the headers that browsers want, too.
    application: Any = Guard(Front(pipelines.load(Api(services, Policies(conf)))))
    if conf.api.enable_proxy_headers_parsing:
        # The middleware has an option of its own for the same thing.
        options = cfg.ConfigOpts()
        options([], project="gnocchi", default_config_files=[], default_config_dirs=[])
        application = http_proxy_to_wsgi.HTTPProxyToWSGI(application, options)
        options.set_override("enable_proxy_headers_parsing", True, group="oslo_middleware")
    if conf.cors.allowed_origin:
        application = cors.CORS(application, conf)
    return Guard(application)


def app_factory(
    global_conf: Mapping[str, Any], root: str | None = None, **_options: str
) -> WSGIApplication:
    """Build one of the applications of a paste file.

    Args:
        global_conf: the defaults of the file, which nothing here depends on.
        root: what it serves: a key of `pipelines.ROOTS`.
    """
    if root not in pipelines.ROOTS:
        raise LookupError(f"There is no root {root}")
    assembly = pipelines.current()
    kind = pipelines.ROOTS[root]
    application: WSGIApplication = Application(
        tree(assembly.api, kind), assembly.mode, assembly.conf
    )
    return Unmounted(application) if kind == pipelines.VERSION_1 else application


def tree(api: Api, kind: str = pipelines.EVERYTHING) -> Node:
    """Return the root of all URLs, or of those that an application serves."""
    if kind == pipelines.VERSIONS:
        return root.Versions(api, {})
    collections: dict[str, Node] = {
        "aggregates": aggregates.Aggregates(api),
        "aggregation": Branch(
            api, {"metric": aggregation.ByIds(api), "resource": aggregation.Types(api)}
        ),
        "archive_policy": archive_policies.ArchivePolicies(api),
        "archive_policy_rule": archive_policy_rules.ArchivePolicyRules(api),
        "batch": Branch(
            api,
            {
                "metrics": Branch(api, {"measures": batch.MetricsMeasures(api)}),
                "resources": Branch(
                    api,
                    {"metrics": Branch(api, {"measures": batch_resources.ResourcesMeasures(api)})},
                ),
            },
        ),
        "capabilities": capabilities.Capabilities(api),
        "metric": metrics.Metrics(api),
        "resource": resources.Types(api),
        "resource_type": resource_types.ResourceTypes(api),
        "search": Branch(
            api,
            {"metric": search_metrics.SearchMetrics(api), "resource": search.Types(api)},
        ),
        "status": status.Status(api),
    }
    children: dict[str, Node] = {"v1": root.Version1(api, collections)}
    if kind == pipelines.VERSION_1:
        return Branch(api, children)
    return root.Versions(api, children)


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


class Unmounted:
    """Undoes the mounting below ``/v1``, so that all addresses start at the same place."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Move the last segment of the mount point back to the path."""
        outer, slash, mounted = environ["SCRIPT_NAME"].rpartition("/")
        if slash:
            environ["SCRIPT_NAME"] = outer
            environ["PATH_INFO"] = slash + mounted + environ["PATH_INFO"]
        return self._application(environ, start_response)


class Front:
    """What is answered whatever the paste file says: ``OPTIONS``, also without credentials."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, or pass on."""
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return _send(Response("200 OK"), environ, start_response)
        return self._application(environ, start_response)


class Guard:
    """Stands outermost, and again inside CORS: whatever is raised anywhere gets an answer."""

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
