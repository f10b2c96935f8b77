"""Pages of resources: listings, searches and histories, and the filters in requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gnocchi import errors, model, search
from gnocchi.indexer import resource_types, resources
from gnocchi.rest import representation, requests, responses
from gnocchi.rest.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from gnocchi.indexer.query import Visibility
    from gnocchi.model import Resource
    from gnocchi.resource_type import ResourceType
    from gnocchi.rest.requests import Request
    from gnocchi.rest.responses import Response
    from gnocchi.rest.routing import Api

GENERIC = "generic"

_DEFAULT_SORT = (("revision_start", "asc"), ("started_at", "asc"))

_NO_FILTER = "caution: the query can not be empty, or it will delete entire database"


def page(
    api: Api,
    request: Request,
    kind: ResourceType,
    wanted: search.Node | None,
    visible: Visibility | None,
) -> Response:
    """Answer with the page of resources that the query asks for.

    Args:
        api: the parts of the program.
        request: has ``details``, ``history``, ``attrs`` and the parameters of pages.
        kind: only resources of this type, or all of them if it is ``generic``.
        wanted: only those that fulfil this; ``None`` means all.
        visible: what the caller may see; ``None`` means all.
    """
    query = request.query
    details = query.boolean("details", default=False)
    history = query.boolean("history", default=False)
    part = requests.page(query, api.services.conf.api.max_limit, _DEFAULT_SORT)
    found = resources.list_(
        api.services.db,
        kind.name,
        filter=wanted,
        history=history,
        details=details,
        visible=visible,
        limit=part.limit,
        marker=part.marker,
        sorts=part.sorts,
    )
    return _answer(api, request, kind, part, found, details=details, history=history)


def history(api: Api, request: Request, kind: ResourceType, resource: Resource) -> Response:
    """Answer with the page of a resource's versions that the query asks for."""
    query = request.query
    details = query.boolean("details", default=False)
    part = requests.page(query, api.services.conf.api.max_limit, _DEFAULT_SORT)
    found = resources.history(
        api.services.db,
        kind.name,
        resource.id,
        details=details,
        limit=part.limit,
        marker=part.marker,
        sorts=part.sorts,
    )
    if any(version.creator != resource.creator for version in found):
        # What the caller may see has been deleted, and somebody else made one of its id.
        raise errors.NoSuchResource(resource.id)
    return _answer(api, request, kind, part, found, details=details, history=True)


def requested_filter(request: Request) -> search.Node | None:
    """Read the filter: a JSON document in the body, or else a text in the query.

    Raises:
        Refused: 415, 400 for the body.
        Invalid: the filter is none.
    """
    creator = request.caller.creator

    def resource_id(text: str) -> UUID:
        return model.resource_id(text, creator)

    text = request.query.one("filter")
    document = request.optional_document()
    if document is not requests.ABSENT:
        return search.from_json(document, resource_id=resource_id)
    return search.from_text(text, resource_id=resource_id) if text else None


def mandatory_filter(request: Request) -> search.Node:
    """Read the filter, and refuse one that lets everything through; raises as the other."""
    wanted = requested_filter(request)
    if wanted is None or isinstance(wanted, search.Everything):
        raise Refused(400, _NO_FILTER)
    return wanted


def _answer(
    api: Api,
    request: Request,
    kind: ResourceType,
    part: requests.Page,
    found: list[Resource],
    *,
    details: bool,
    history: bool,
) -> Response:
    documents = _documents(api, kind, found, details=details)
    attrs = request.query.all("attrs")
    if attrs:
        documents = [
            {name: document[name] for name in attrs if name in document} for document in documents
        ]
    response = responses.document(documents)
    if len(found) >= part.limit:
        last = found[-1]
        marker = f"{last.id}@{last.revision}" if history else str(last.id)
        responses.add_next_page(response, request, part, marker)
    return response


def _documents(
    api: Api, kind: ResourceType, found: Iterable[Resource], *, details: bool
) -> list[dict[str, Any]]:
    """Show resources with the attributes of the type asked for, or each with those of its own."""
    if kind.name != GENERIC:
        return [representation.whole(one, kind) for one in found]
    if not details:
        return [representation.whole(one, None) for one in found]
    kinds = {known.name: known for known in resource_types.list_(api.services.db)}
    return [representation.whole(one, kinds.get(one.type)) for one in found]
