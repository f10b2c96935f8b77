"""Every error this program raises on purpose.

The tree, by what the caller can do about it::

    GnocchiError
    ├── NotFound            NoSuchMetric, NoSuchResource, NoSuchResourceType,
    │                       NoSuchArchivePolicy, NoSuchArchivePolicyRule,
    │                       NoSuchAggregationMethod, NoSuchGranularity, UnknownMetrics,
    │                       UnknownResources, UnknownAggregation
    ├── AlreadyExists       ArchivePolicyAlreadyExists, ArchivePolicyRuleAlreadyExists,
    │                       NamedMetricAlreadyExists, ResourceAlreadyExists,
    │                       ResourceTypeAlreadyExists
    ├── Invalid             InvalidTimestamp, InvalidTimespan, InvalidArchivePolicy,
    │                       UnsupportedArchivePolicyChange, UnsupportedArchivePolicyRuleChange,
    │                       InvalidPagination, NoArchivePolicyRuleMatch,
    │                       InvalidResourceAttribute, CannotAggregate (TooManyReferences,
    │                       TooManyValues)
    ├── InUse               ArchivePolicyInUse, ResourceTypeInUse
    ├── Busy                MetricsLocked, StaleGeneration, StaleSegments, ResourceTypeChanged
    ├── Unavailable         a backend does not answer; nothing was acknowledged
    ├── Corrupt             CorruptObject
    └── Misconfigured       the operator must change something; retrying cannot help

An error carries facts as attributes; its text is the message a user reads. Only ``rest`` knows
status codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID


class GnocchiError(Exception):
    """The root of the tree."""


# ------------------------------------------------------------------ not found


class NotFound(GnocchiError):
    """What the caller named does not exist."""


class NoSuchMetric(NotFound):
    """The metric does not exist, or has been deleted."""

    def __init__(self, metric: UUID | str) -> None:
        super().__init__(f"Metric {metric} does not exist")
        self.metric = metric


class NoSuchResource(NotFound):
    """The resource does not exist."""

    def __init__(self, resource: UUID | str) -> None:
        super().__init__(f"Resource {resource} does not exist")
        self.resource = resource


class NoSuchResourceType(NotFound):
    """The resource type does not exist."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Resource type {name} does not exist")
        self.name = name


class UnknownResources(NotFound):
    """Some resources of a batch do not exist."""

    def __init__(self, resources: Iterable[UUID]) -> None:
        self.resources = sorted(resources)
        super().__init__("Unknown resources: " + ", ".join(str(r) for r in self.resources))


class UnknownMetrics(NotFound):
    """Some metrics of a batch do not exist."""

    def __init__(self, metrics: Iterable[UUID | str]) -> None:
        self.metrics = sorted({str(m) for m in metrics})
        super().__init__("Unknown metrics: " + ", ".join(self.metrics))


class NoSuchArchivePolicy(NotFound):
    """The archive policy does not exist."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Archive policy {name} does not exist")
        self.name = name


class NoSuchArchivePolicyRule(NotFound):
    """The archive policy rule does not exist."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Archive policy rule {name} does not exist")
        self.name = name


class NoSuchAggregationMethod(NotFound):
    """The archive policy of the metric does not keep this aggregation method."""

    def __init__(self, metric: UUID, method: str) -> None:
        super().__init__(f"Aggregation method {method} does not exist for metric {metric}")
        self.metric = metric
        self.method = method


class NoSuchGranularity(NotFound):
    """The archive policy of the metric does not keep this granularity."""

    def __init__(self, metric: UUID, method: str, granularity: int) -> None:
        super().__init__(
            f"Aggregation method '{method}' at granularity '{granularity / 1e9}' "
            f"for metric {metric} does not exist"
        )
        self.metric = metric
        self.method = method
        self.granularity = granularity


class UnknownAggregation(NotFound):
    """Of the metrics to be aggregated, this one does not keep the method asked for."""

    cause = "Metrics with unknown aggregation"

    def __init__(self, metric: UUID, method: str) -> None:
        super().__init__(f"{self.cause}: {method} of metric {metric}")
        self.detail = [[str(metric), method]]


# ------------------------------------------------------------------ already exists


class AlreadyExists(GnocchiError):
    """Something of that name is there already; nothing was changed."""


class ArchivePolicyAlreadyExists(AlreadyExists):
    """An archive policy of that name exists."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Archive policy {name} already exists")
        self.name = name


class ArchivePolicyRuleAlreadyExists(AlreadyExists):
    """An archive policy rule of that name exists."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Archive policy rule {name} already exists")
        self.name = name


class NamedMetricAlreadyExists(AlreadyExists):
    """The resource already has a metric of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Named metric {name} already exists")
        self.name = name


class ResourceAlreadyExists(AlreadyExists):
    """There is a resource of that id, of whatever type and creator."""

    def __init__(self, resource: UUID | str) -> None:
        super().__init__(f"Resource {resource} already exists")
        self.resource = resource


class ResourceTypeAlreadyExists(AlreadyExists):
    """A resource type of that name exists."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Resource type {name} already exists")
        self.name = name


# ------------------------------------------------------------------ invalid


class Invalid(GnocchiError):
    """The caller sent something that can never be accepted."""


class InvalidTimestamp(Invalid):
    """The value is no point in time, or one outside the accepted range."""


class InvalidTimespan(Invalid):
    """The value is no length of time."""


class InvalidArchivePolicy(Invalid):
    """The definition contradicts itself."""


class UnsupportedArchivePolicyChange(Invalid):
    """Stored data could not follow this change."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Archive policy {name} does not support change: {reason}")
        self.name = name
        self.reason = reason


class UnsupportedArchivePolicyRuleChange(Invalid):
    """The rule cannot be changed that way."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Archive policy rule {name} does not support change: {reason}")
        self.name = name
        self.reason = reason


class InvalidPagination(Invalid):
    """A limit, marker or sort key cannot be used."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Invalid pagination: `{reason}'")
        self.reason = reason


class NoArchivePolicyRuleMatch(Invalid):
    """No archive policy was named and no rule matches the metric's name."""

    def __init__(self, metric_name: str | None) -> None:
        super().__init__(
            "No archive policy name specified and no archive policy rule found "
            f"matching the metric name {metric_name}"
        )
        self.metric_name = metric_name


class InvalidResourceAttribute(Invalid):
    """The resource cannot have this value, given what else it has."""

    def __init__(self, resource_type: str, attribute: str, value: object) -> None:
        super().__init__(
            f"Value {value} for attribute {attribute} on resource type {resource_type} is invalid"
        )
        self.resource_type = resource_type
        self.attribute = attribute
        self.value = value


class CannotAggregate(Invalid):
    """The metrics exist, but what is asked for cannot be computed from them together.

    ``detail`` names the series in question, or the limit that they exceed.
    """

    cause = "Metrics cannot be aggregated"

    def __init__(self, reason: str, detail: object) -> None:
        super().__init__(f"{self.cause}: {reason}")
        self.reason = reason
        self.detail = detail


class TooManyReferences(CannotAggregate):
    """One request refers to more series than allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"More than {limit} series are referred to", limit)


class TooManyResources(CannotAggregate):
    """One request would look at more resources, or versions of them, than allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"More than {limit} resources or versions of them are concerned", limit)


class TooManyValues(CannotAggregate):
    """One request would need more values than allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"More than {limit} values would have to be aggregated", limit)


# ------------------------------------------------------------------ in use


class InUse(GnocchiError):
    """Others still depend on it; nothing was deleted."""


class ArchivePolicyInUse(InUse):
    """Metrics or rules still use the archive policy."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Archive policy {name} is still in use")
        self.name = name


class ResourceTypeInUse(InUse):
    """Resources still have this type, or it is the one that always exists."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Resource type {name} is still in use")
        self.name = name


# ------------------------------------------------------------------ busy, unavailable


class Busy(GnocchiError):
    """Somebody else is at it; the same call may succeed later."""


class MetricsLocked(Busy):
    """The sacks of these metrics stayed locked for the whole time-out."""

    def __init__(self, metrics: Iterable[UUID]) -> None:
        self.metrics = list(metrics)
        names = ", ".join(str(m) for m in self.metrics)
        super().__init__(f"Unable to refresh metric: {names}. Metric is locked. Please try again.")


class StaleGeneration(Busy):
    """Another worker committed a round of the same sack first; nothing was committed."""

    def __init__(self, sacks: Iterable[int]) -> None:
        self.sacks = sorted(sacks)
        super().__init__(f"Another worker has processed sack {self.sacks} meanwhile")


class StaleSegments(Busy):
    """A segment to be replaced is not live any more; nothing was replaced."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted(names)
        super().__init__(f"Segments {', '.join(self.names)} were replaced meanwhile")


class ResourceTypeChanged(Busy):
    """The type has changed since the resource was checked against it; nothing was stored."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Resource type {name} has changed meanwhile. Please try again.")
        self.name = name


class Unavailable(GnocchiError):
    """A backend does not answer. Nothing was acknowledged."""


# ------------------------------------------------------------------ corrupt, misconfigured


class Corrupt(GnocchiError):
    """Stored bytes are not what was written."""


class CorruptObject(Corrupt):
    """An object does not match its checksum, or cannot be decoded."""

    def __init__(self, name: str, reason: Any) -> None:
        super().__init__(f"Object {name} is damaged: {reason}")
        self.name = name
        self.reason = reason


class Misconfigured(GnocchiError):
    """The configuration names something that is not there; retrying cannot help."""
