"""Pages of resources: listings, searches and histories, and the filters in requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

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


class Listing(NamedTuple):
    """What the query of a listing asks for, the filter apart."""

    details: bool
    history: bool
    part: requests.Page
    attrs: list[str]
    """The members that are shown; all of them if none is named."""


def requested(api: Api, request: Request) -> Listing:
    """Read ``details``, ``history``, ``attrs`` and the parameters of pages; raises their 400."""
    query = request.query
    details = query.boolean("details", default=False)
    history = query.boolean("history", default=False)
    return Listing(details, history, _part(api, request), query.all("attrs"))


def _part(api: Api, request: Request) -> requests.Page:
    return requests.page(request.query, api.services.conf.api.max_limit, _DEFAULT_SORT)


def page(
    api: Api,
    request: Request,
    kind: ResourceType,
    listing: Listing,
    *,
    wanted: search.Node | None = None,
    visible: Visibility | None,
) -> Response:
    """Answer with a page of resources.

    Args:
        api: the parts of the program.
        request: what the link to the next page repeats.
        kind: only resources of this type, or all of them if it is ``generic``.
        listing: what is asked for.
        wanted: only those that fulfil this; ``None`` means all.
        visible: what the caller may see; ``None`` means all.
    """
    found = resources.list_(
        api.services.db,
        kind.name,
        filter=wanted,
        history=listing.history,
        details=listing.details,
        visible=visible,
        limit=listing.part.limit,
        marker=listing.part.marker,
        sorts=listing.part.sorts,
    )
    return _answer(api, request, kind, listing, found)


def history(api: Api, request: Request, kind: ResourceType, resource: Resource) -> Response:
    """Answer with the page of a resource's versions that the query asks for."""
    details = request.query.boolean("details", default=False)
    part = _part(api, request)
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
    return _answer(api, request, kind, Listing(details, True, part, []), found)


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
    api: Api, request: Request, kind: ResourceType, listing: Listing, found: list[Resource]
) -> Response:
    documents = _documents(api, kind, found, details=listing.details)
    if listing.attrs:
        documents = [
            {name: document[name] for name in listing.attrs if name in document}
            for document in documents
        ]
    response = responses.document(documents)
    if len(found) >= listing.part.limit:
        last = found[-1]
        marker = f"{last.id}@{last.revision}" if listing.history else str(last.id)
        responses.add_next_page(response, request, listing.part, marker)
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
