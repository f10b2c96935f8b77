"""How metrics and resources appear in paths and bodies, and to policy rules."""

from __future__ import annotations

import datetime
import functools
from typing import TYPE_CHECKING, Any, Literal

from gnocchi import errors, model
from gnocchi.indexer import metrics, resource_types, resources
from gnocchi.resource_type import Datetime

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    from gnocchi.archive_policy import ArchivePolicy
    from gnocchi.model import Metric, Resource
    from gnocchi.resource_type import Attribute, ResourceType
    from gnocchi.rest.routing import Api

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


# ------------------------------------------------------------------ metrics


def shown(metric: Metric, policy: Literal["name", "object"]) -> dict[str, Any]:
    """Return what all forms of a metric have in common."""
    user_id, project_id = metric.created_by
    document: dict[str, Any] = {
        "id": str(metric.id),
        "creator": metric.creator,
        "created_by_user_id": user_id,
        "created_by_project_id": project_id,
        "name": metric.name,
        "unit": metric.unit,
    }
    if policy == "name":
        document["archive_policy_name"] = metric.archive_policy.name
    else:
        document["archive_policy"] = _policy(metric.archive_policy)
    return document


@functools.lru_cache(maxsize=64)
def _policy(policy: ArchivePolicy) -> dict[str, Any]:
    """A policy as the API shows it; one document for all metrics of it, which nobody changes."""
    return policy.to_json()


def listed(metric: Metric) -> dict[str, Any]:
    """Return a metric as lists show it."""
    return shown(metric, "object") | {"resource_id": text_of(metric.resource_id)}


def single(metric: Metric, resource: Resource | None) -> dict[str, Any]:
    """Return a metric as ``GET /v1/metric/{id}`` shows it, and as policy rules see it."""
    return shown(metric, "object") | {"resource": None if resource is None else base(resource)}


def with_resources(api: Api, found: Iterable[Metric]) -> list[dict[str, Any]]:
    """Return metrics as `single` does, each with the resource it belongs to."""
    found = list(found)
    ids = {metric.resource_id for metric in found if metric.resource_id is not None}
    known = {}
    if ids:
        known = {one.id: one for one in resources.get_many(api.services.db, ids)}
    return [
        single(metric, known.get(metric.resource_id) if metric.resource_id else None)
        for metric in found
    ]


def with_resource(api: Api, metric: Metric) -> dict[str, Any]:
    """Return a metric as `single` does, with the resource it belongs to."""
    return with_resources(api, [metric])[0]


def text_of(identity: uuid.UUID | None) -> str | None:
    """Write an id that may be absent."""
    return None if identity is None else str(identity)


def by_id(api: Api, text: str) -> Metric:
    """Return the metric that a segment of a path names.

    Raises:
        NoSuchMetric: it is no UUID, or not that of an active metric.
    """
    try:
        identity = model.parse_uuid(text)
    except errors.Invalid:
        raise errors.NoSuchMetric(text) from None
    try:
        return metrics.get(api.services.db, identity)
    except errors.NoSuchMetric:
        raise errors.NoSuchMetric(text) from None


# ------------------------------------------------------------------ resources


def time_of(microseconds: int | None) -> str | None:
    """Write a point in time in UTC, with six digits of a second unless they are all zero."""
    if microseconds is None:
        return None
    return (_EPOCH + datetime.timedelta(microseconds=microseconds)).isoformat()


def base(resource: Resource) -> dict[str, Any]:
    """Return what all resources have, the metrics apart."""
    user_id, project_id = resource.created_by
    return {
        "id": str(resource.id),
        "original_resource_id": resource.original_resource_id,
        "type": resource.type,
        "creator": resource.creator,
        "created_by_user_id": user_id,
        "created_by_project_id": project_id,
        "user_id": resource.user_id,
        "project_id": resource.project_id,
        "started_at": time_of(resource.started_at),
        "ended_at": time_of(resource.ended_at),
        "revision_start": time_of(resource.revision_start),
        "revision_end": time_of(resource.revision_end),
    }


def whole(resource: Resource, kind: ResourceType | None) -> dict[str, Any]:
    """Return a resource with its metrics and the attributes that its type has.

    Args:
        resource: the resource.
        kind: the type whose attributes are shown; ``None`` leaves them out.
    """
    document = base(resource)
    if kind is not None:
        document.update(attributes(resource, kind))
    document["metrics"] = {name: str(metric) for name, metric in resource.metrics.items()}
    return document


def target(api: Api, rule: str, resource: Resource) -> dict[str, Any]:
    """Return a resource as a policy rule sees it, whatever type it was asked for under.

    Its attributes take another statement, so they are there if the rule looks at one.
    """
    document = whole(resource, None)
    if all(key.partition(".")[0] in document for key in api.policies.keys(rule)):
        return document
    db = api.services.db
    kind = resource_types.get(db, resource.type)
    return whole(resources.get(db, kind.name, resource.id), kind)


def attributes(resource: Resource, kind: ResourceType) -> dict[str, Any]:
    """Return the attributes of a type, null where the resource has no value."""
    return {
        name: _shown(attribute, resource.attributes.get(name))
        for name, attribute in kind.attributes.items()
    }


def _shown(attribute: Attribute, stored: Any) -> Any:
    # All times of a resource are written alike.
    return time_of(stored) if isinstance(attribute, Datetime) else attribute.shown(stored)


def resource_id_of(text: str, creator: str | None) -> uuid.UUID:
    """Return the id of the resource that a segment of a path names.

    Raises:
        NoSuchResource: no resource can have that name.
    """
    try:
        return model.resource_id(text, creator)
    except errors.Invalid:
        raise errors.NoSuchResource(text) from None
