"""From a path and a method to the handler of a node.

The URLs are a tree of nodes. Pecan asks the root for a handler (``_route``), the root walks the
tree, and the methods of a node that are marked with ``pecan.expose`` and named like an HTTP
method are its handlers. Attributes of Python objects are never looked up by what a client sent.

Empty segments are skipped, so that trailing and double slashes do not matter, and a dot is part
of a name. ``HEAD`` is answered by the handler of ``GET``.

Order of checks, which clients can observe: unknown path (404), method (405), ``Accept`` (406)
before credentials (401), what the path names (404) before ``Accept`` again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import pecan

from gnocchi import errors, times
from gnocchi.indexer.links import Links
from gnocchi.rest.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gnocchi.rest.policies import Policies
    from gnocchi.rest.requests import Request
    from gnocchi.rest.responses import Response
    from gnocchi.service import Services

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

H = TypeVar("H", bound="Callable[..., Any]")


def expose(handler: H) -> H:
    """Mark a handler; it answers with JSON, or without a body."""
    return cast("H", pecan.expose("json")(handler))


class Api:
    """What nodes have in common: the parts of the program, and the rules."""

    __slots__ = ("links", "max_future", "policies", "services")

    def __init__(self, services: Services, policies: Policies) -> None:
        """Put them together; raises `Misconfigured` for options that cannot be read."""
        self.services = services
        self.policies = policies
        self.links = Links(services.db)
        """Metrics by resource and name, remembered."""
        self.max_future = _max_future(services.conf.api.max_future)
        """How far ahead of the clock a measure may be, in ns; ``None`` means no limit."""

    def enforce(self, request: Request, rule: str, target: Mapping[str, Any]) -> None:
        """Raise the 403 unless the caller may do this to the target."""
        self.policies.enforce(request.caller, rule, target)

    def enforce_each(
        self, request: Request, rule: str, targets: Iterable[Mapping[str, Any]]
    ) -> None:
        """Raise the 403 unless the caller may do this to all of the targets."""
        self.policies.enforce_each(request.caller, rule, targets)


def _max_future(text: str) -> int | None:
    if not text.strip():
        return None
    try:
        return times.parse_timespan(text)
    except errors.InvalidTimespan as error:
        raise errors.Misconfigured(f"[api] max_future: {error}") from error


class Node:
    """One place in the tree of URLs. Handlers are exposed methods ``get``, ``post``, …

    A node below a path segment that names an object is made for the request, and fetches that
    object in `load`.
    """

    public: ClassVar[bool] = False
    """Whether it is served to everybody, without credentials."""
    found_first: ClassVar[bool] = False
    """Whether a wrong method is told only once what the path names has been found."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def child(self, segment: str) -> Node | None:
        """Return the node below, ``None`` when there is no such path."""
        return None

    def load(self, request: Request) -> None:
        """Fetch what the path names; raise its 404. Runs once the caller is known."""

    def handler(self, method: str) -> Callable[[Request], Response]:
        """Return the handler of a method; raise the 405 with what is allowed."""
        name = "GET" if method == "HEAD" else method
        if name in METHODS:
            found = self._exposed(name)
            if found is not None:
                return found
        if not self._allowed():
            raise Refused(404)
        if self.found_first:
            return cast("Callable[[Request], Response]", self.wrong_method)
        raise self._refusal()

    @pecan.expose("json")  # type: ignore[untyped-decorator]
    def wrong_method(self, request: Request) -> Response:
        """Refuse the method of a request whose object exists."""
        raise self._refusal()

    def _refusal(self) -> Refused:
        allowed = self._allowed()
        if "GET" in allowed:
            allowed.append("HEAD")
        return Refused(405, headers={"Allow": ", ".join(sorted(allowed))})

    def _allowed(self) -> list[str]:
        return [name for name in METHODS if self._exposed(name) is not None]

    def _exposed(self, method: str) -> Callable[[Request], Response] | None:
        found = getattr(self, method.lower(), None)
        return found if getattr(found, "exposed", False) else None


class Branch(Node):
    """A node with a fixed set of children."""

    def __init__(self, api: Api, children: Mapping[str, Node]) -> None:
        super().__init__(api)
        self._children = children

    def child(self, segment: str) -> Node | None:
        """Return the child of that name."""
        return self._children.get(segment)


class Tree:
    """The root object of the Pecan application."""

    def __init__(self, root: Node) -> None:
        self._root = root

    @pecan.expose()  # type: ignore[untyped-decorator]
    def _route(self, _segments: list[str], request: Request) -> tuple[Any, list[str]]:
        """Walk down the tree; Pecan's own splitting of the path keeps empty segments."""
        segments = request.segments
        if segments is None:
            raise Refused(404)
        node: Node | None = self._root
        for segment in segments:
            node = node.child(segment) if node is not None else None
        if node is None:
            raise Refused(404)
        return node.handler(request.method), []
