"""Bodies that describe resources: their fields, the attributes of their type, their metrics.

What comes out has the stored form: times in microseconds since 1970, attributes as their type
stores them. Which keys there may be depends on the type of the resource, so the schema is made of
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import voluptuous

from gnocchi import errors, model, times
from gnocchi.rest import validation
from gnocchi.rest.metric_definitions import Rules, check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from gnocchi.resource_type import Attribute, ResourceType
    from gnocchi.rest.routing import Api


class MetricDefinition(NamedTuple):
    """A metric to be made."""

    archive_policy_name: str
    unit: str | None


Metrics = dict[str, "UUID | MetricDefinition"]
"""Metrics of a resource by name: existing ones to be attached, and new ones."""


class New(NamedTuple):
    """A resource to be made."""

    id: str
    fields: dict[str, Any]
    attributes: dict[str, Any]
    metrics: Metrics


class Change(NamedTuple):
    """What is to become of a resource."""

    fields: dict[str, Any]
    attributes: dict[str, Any]
    metrics: Metrics | None


def new(api: Api, kind: ResourceType, body: Any) -> New:
    """Check the body that describes a new resource; raises its 400."""
    if isinstance(body, dict):
        body = body | _with_policies(api, body)
    checked = validation.checked(_schema(kind, creating=True), body)
    identity = checked.pop("id")
    metrics = checked.pop("metrics", {})
    # A time that is null is as good as none: nothing is cleared here.
    fields = {
        name: checked.pop(name)
        for name in ("started_at", "ended_at", "user_id", "project_id")
        if name in checked
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    return New(identity, fields, checked, metrics)


def change(api: Api, kind: ResourceType, body: Any) -> Change:
    """Check the body that describes what changes; raises its 400."""
    if isinstance(body, dict):
        body = body | _with_policies(api, body)
    checked = validation.checked(_schema(kind, creating=False), body)
    metrics = checked.pop("metrics", None)
    fields = {
        name: checked.pop(name)
        for name in ("started_at", "ended_at", "user_id", "project_id")
        if name in checked
    }
    if fields.get("started_at", 0) is None:
        del fields["started_at"]
    return Change(fields, checked, metrics)


def metrics(api: Api, body: Any) -> Metrics:
    """Check a body that names metrics of a resource; raises its 400."""
    checked: Metrics = validation.checked(_METRICS_ALONE, _complete(api, body))
    return checked


def _with_policies(api: Api, body: dict[str, Any]) -> dict[str, Any]:
    return {"metrics": _complete(api, body["metrics"])} if "metrics" in body else {}


def _complete(api: Api, value: Any) -> Any:
    """Let definitions of metrics name the archive policy that the rules give them.

    Metrics that could never be made are refused here, before anything else is looked at.

    Raises:
        Refused: 400, a name could not be a segment of a path.
        NoArchivePolicyRuleMatch: no archive policy is named, and no rule has one for the name.
    """
    if not isinstance(value, dict):
        return value
    rules = Rules(api)
    completed = {}
    for name, definition in value.items():
        check_name(name)
        if isinstance(definition, dict) and "archive_policy_name" not in definition:
            definition = {"archive_policy_name": rules.policy_name(name), **definition}
        completed[name] = definition
    return completed


# ------------------------------------------------------------------ schemas


def _schema(kind: ResourceType, *, creating: bool) -> voluptuous.Schema:
    members: dict[Any, Any] = {
        "started_at": _nullable(_time),
        "ended_at": _nullable(_time),
        "user_id": _nullable(validation.short_text),
        "project_id": _nullable(validation.short_text),
        "metrics": _metrics,
    }
    if creating:
        members[voluptuous.Required("id")] = identity
    for name, attribute in kind.attributes.items():
        check = _attribute(attribute)
        if not attribute.required:
            members[name] = _nullable(check)
        elif creating:
            members[voluptuous.Required(name)] = check
        else:
            members[name] = check
    return voluptuous.Schema(members)


def _nullable(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def _attribute(attribute: Attribute) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        try:
            return attribute.validate(value)
        except errors.Invalid as error:
            raise voluptuous.Invalid(str(error)) from error

    return check


def _time(value: Any) -> int:
    """Accept a point in time, in microseconds."""
    try:
        return times.parse_timestamp(value) // 1000
    except errors.InvalidTimestamp as error:
        raise voluptuous.Invalid("not a valid value") from error


def identity(value: Any) -> str:
    """Accept the id of a resource as it was sent: a UUID, or what becomes one."""
    text = validation.text(value)
    try:
        model.resource_id(text, None)
    except errors.Invalid as error:
        raise voluptuous.Invalid(str(error)) from error
    if len(text) > model.MAX_RESOURCE_ID:  # a UUID with ever so many dashes
        raise voluptuous.Invalid(
            f"transformable resource id >{model.MAX_RESOURCE_ID} max allowed characters"
        )
    return text


_DEFINITION = voluptuous.Schema(
    {
        "archive_policy_name": validation.text,
        "unit": validation.unit,
        # What clients copy from metrics they have read.
        "name": object,
        "resource_id": object,
    }
)


def _metrics(value: Any) -> Metrics:
    if not isinstance(value, dict):
        raise voluptuous.DictInvalid("expected a dictionary")
    return {_metric_name(name): _metric(name, one) for name, one in value.items()}


_METRICS_ALONE = voluptuous.Schema(_metrics)


def _metric_name(name: str) -> str:
    try:
        return validation.short_text(name)
    except voluptuous.Invalid as error:
        error.prepend([name])
        raise


def _metric(name: str, value: Any) -> UUID | MetricDefinition:
    if isinstance(value, dict):
        try:
            checked: Mapping[str, Any] = _DEFINITION(value)
        except voluptuous.MultipleInvalid as error:
            for one in error.errors:
                one.prepend([name])
            raise
        return MetricDefinition(checked["archive_policy_name"], checked.get("unit"))
    try:
        return model.parse_uuid(value)
    except (errors.Invalid, AttributeError):
        raise voluptuous.Invalid(
            "not a valid value", path=[name], error_type="dictionary value"
        ) from None
