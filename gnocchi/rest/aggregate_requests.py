"""What requests about several metrics have in common: their parameters, groups and answers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gnocchi.engine.aggregates import Limits, Reference
from gnocchi.rest import measures, representation, responses
from gnocchi.rest.errors import invalid_argument
from gnocchi.rest.resource_listing import GENERIC
from gnocchi.series.table import parse_fill, parse_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from gnocchi.engine.aggregates import Answer
    from gnocchi.model import Metric, Resource
    from gnocchi.resource_type import ResourceType
    from gnocchi.rest.requests import Query
    from gnocchi.rest.routing import Api
    from gnocchi.series.table import Fill

Select = dict[tuple[str, str], list[int]]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which part of the series is asked for, and what is done where some have gaps.

    Attributes:
        start, stop, granularity: ns, or None.
        fill: what gaps become, None where the series have to overlap.
        needed_overlap: percent of the timestamps.
    """

    start: int | None
    stop: int | None
    granularity: int | None
    fill: Fill | None
    needed_overlap: float | None

    @classmethod
    def read(cls, query: Query) -> Asked:
        """Read the parameters; raises the 400 of the first that cannot be used."""
        needed_overlap = _number(query, "needed_overlap")
        start, stop = query.timestamp("start"), query.timestamp("stop")
        granularity = measures.requested_granularity(query)
        return cls(start, stop, granularity, _fill(query), needed_overlap)


def _number(query: Query, name: str) -> float | None:
    text = query.one(name)
    if text is None:
        return None
    try:
        number = parse_number(text)
        if not math.isnan(number):
            return number
    except ValueError:
        number = math.nan
    raise invalid_argument("Must be a number", name)


def _fill(query: Query) -> Fill | None:
    text = query.one("fill")
    if text is None:
        return None
    try:
        return parse_fill(text)
    except ValueError as error:
        raise invalid_argument(str(error), "fill") from error


def limits(api: Api) -> Limits:
    """Return how much one request may aggregate."""
    conf = api.services.conf.api
    return Limits(conf.max_aggregate_references, conf.max_aggregate_cells)


# ------------------------------------------------------------------ references


class References:
    """Series as they are found, each once, and which of them a reference in a request means."""

    def __init__(self) -> None:
        self.found: list[Reference] = []
        self.select: Select = {}
        self._positions: dict[tuple[bytes, str], int] = {}

    def add(
        self,
        reference: tuple[str, str],
        metric: Metric,
        name: str,
        resource_id: UUID | None = None,
    ) -> None:
        """Let a reference, as it was sent, mean the series of a metric, too.

        Args:
            reference: what stands for the metric, and the aggregation method.
            metric: the metric.
            name: of the metric in errors and answers.
            resource_id: of the resource it is shown under, if it is.
        """
        _, method = reference
        key = metric.id.bytes, method
        position = self._positions.get(key)
        if position is None:
            position = self._positions[key] = len(self.found)
            self.found.append(Reference(metric, method, name, resource_id))
        self.select.setdefault(reference, []).append(position)


# ------------------------------------------------------------------ groups


class Group(NamedTuple):
    """Things with the same values of some fields."""

    values: dict[str, Any]
    """As JSON has them."""
    members: list[Any]


def requested_groups(query: Query) -> list[str]:
    """Read ``groupby``: names of fields, each once, sorted."""
    return sorted({name for name in query.all("groupby") if name})


def grouped(
    members: Iterable[tuple[Resource, Any]], names: Sequence[str], kind: ResourceType
) -> list[Group]:
    """Put together what has the same values, groups in ascending order and null behind all.

    Args:
        members: with the resource that has the values.
        names: of fields that resources of this type have.
        kind: the type.
    """
    groups: dict[tuple[Any, ...], Group] = {}
    for resource, member in members:
        key = tuple(_stored(resource, name, kind) for name in names)
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(_shown(resource, names, kind), [])
        group.members.append(member)
    order = sorted(groups, key=lambda key: [(value is None, value) for value in key])
    return [groups[key] for key in order]


def _stored(resource: Resource, name: str, kind: ResourceType) -> Any:
    return resource.attributes[name] if name in kind.attributes else getattr(resource, name)


def _shown(resource: Resource, names: Sequence[str], kind: ResourceType) -> dict[str, Any]:
    document = representation.base(resource)
    document["revision"] = resource.revision
    document |= representation.attributes(resource, kind)
    return {name: document[name] for name in names}


def shown_resources(resources: Iterable[Resource], kinds: Mapping[str, ResourceType]) -> list[Any]:
    """Show resources as listings do, each once."""
    distinct = {resource.id: resource for resource in resources}
    return [representation.whole(one, kinds.get(one.type)) for one in distinct.values()]


def shown_kinds(kind: ResourceType) -> dict[str, ResourceType]:
    """Return which types show their attributes when resources of a type are asked for."""
    return {} if kind.name == GENERIC else {kind.name: kind}


# ------------------------------------------------------------------ answers


def document(answer: Answer) -> bytes:
    """Write the result of an expression as a JSON object."""
    if answer.by_reference is None:
        return b'{"aggregated": %b}' % responses.measures(answer.aggregated or ())
    tree: dict[str, Any] = {}
    for reference, series in answer.by_reference.items():
        path = [str(reference.metric.id), reference.method]
        if reference.resource_id is not None:
            path = [str(reference.resource_id), reference.name, reference.method]
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = responses.measures(series)
    return _object(tree)


def _object(tree: Mapping[str, Any]) -> bytes:
    """Write nested objects whose leaves are written already."""
    members = [
        json.dumps(name).encode() + b": " + (_object(one) if isinstance(one, dict) else one)
        for name, one in tree.items()
    ]
    return b"{" + b", ".join(members) + b"}"


def listed(items: Iterable[bytes]) -> bytes:
    """Write a list of what is written already."""
    return b"[" + b", ".join(items) + b"]"


def written(**members: Any) -> bytes:
    """Write an object; members that are bytes are written already, those that are None left out."""
    return _object(
        {
            name: member if isinstance(member, bytes) else json.dumps(member).encode()
            for name, member in members.items()
            if member is not None
        }
    )
