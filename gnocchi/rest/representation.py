"""How metrics appear in paths and bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from gnocchi import errors, model
from gnocchi.indexer import metrics

if TYPE_CHECKING:
    import uuid

    from gnocchi.model import Metric
    from gnocchi.rest.routing import Api


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
        document["archive_policy"] = metric.archive_policy.to_json()
    return document


def listed(metric: Metric) -> dict[str, Any]:
    """Return a metric as lists show it."""
    return shown(metric, "object") | {"resource_id": text_of(metric.resource_id)}


def single(metric: Metric) -> dict[str, Any]:
    """Return a metric as ``GET /v1/metric/{id}`` shows it, and as policy rules see it."""
    return shown(metric, "object") | {"resource": None}


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
