"""What a caller gets to see: the limits of listings, and the reading of one resource.

Members of a project (Keystone) see what belongs to the project and what it made, as far as the
rules let them. In the other modes everybody sees all resources and all metrics, but deletes many
at once only among those of one's own making.

A caller without a project matches nothing. Comparing the absence of a project with the absence
of one in a resource would let anybody in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gnocchi import errors
from gnocchi.indexer.metrics import Visibility as MetricVisibility
from gnocchi.indexer.query import Visibility as ResourceVisibility
from gnocchi.rest.errors import Refused

if TYPE_CHECKING:
    from gnocchi.model import Resource
    from gnocchi.rest.requests import Request
    from gnocchi.rest.routing import Api


def of_resources(api: Api, request: Request, rule: str) -> ResourceVisibility | None:
    """Return what a listing of resources may show; ``None`` is everything.

    Raises:
        Refused: 403, the rule lets the caller see nothing at all.
    """
    caller = request.caller
    if not caller.tenant or api.policies.allows(caller, rule, {}):
        return None
    project = caller.project_id
    if project is None:
        return ResourceVisibility()
    owned = api.policies.allows(caller, rule, {"project_id": project})
    made = api.policies.allows(caller, rule, {"created_by_project_id": project})
    if not owned and not made:
        raise Refused(403)
    return ResourceVisibility(
        project_id=project if owned else None,
        creator_project=project if made else None,
    )


def of_resources_to_delete(api: Api, request: Request) -> ResourceVisibility | None:
    """Return which resources the caller may delete together; raises as `of_resources`."""
    rule = "delete resources"
    caller = request.caller
    if caller.tenant:
        return of_resources(api, request, rule)
    if api.policies.allows(caller, rule, {}):
        return None
    api.enforce(request, rule, {"creator": caller.creator})
    return ResourceVisibility(creator=caller.creator)


def of_metrics(api: Api, request: Request) -> MetricVisibility | None:
    """Return what a listing of metrics may show; raises as `of_resources`."""
    caller = request.caller
    rule = "list metric"
    if not caller.tenant or api.policies.allows(caller, rule, {}):
        return None
    project = caller.project_id
    if project is None:
        return MetricVisibility()
    made = api.policies.allows(caller, rule, {"created_by_project_id": project})
    owned = api.policies.allows(caller, rule, {"resource": {"project_id": project}})
    if not owned and not made:
        raise Refused(403)
    return MetricVisibility(
        creator_project=project if made else None,
        resource_project=project if owned else None,
    )


def enforce_reading(api: Api, request: Request, resource: Resource) -> None:
    """Let pass whoever may read a resource.

    Raises:
        NoSuchResource: the caller may read resources, and not this one.
        Refused: 403, the caller may not read resources.
    """
    caller = request.caller
    rule = "get resource"
    if not caller.tenant or api.policies.allows(caller, rule, {}):
        return
    user_id, project_id = resource.created_by
    # How a rule may let somebody in, and whether that leads to this resource.
    ways = (
        ("project_id", caller.project_id, resource.project_id),
        ("created_by_project_id", caller.project_id, project_id),
        ("creator", caller.user_id, user_id),
    )
    readable = False
    for member, own, actual in ways:
        if own is not None and api.policies.allows(caller, rule, {member: own}):
            if own == actual:
                return
            readable = True
    if readable:
        raise errors.NoSuchResource(resource.id)
    raise Refused(403)
