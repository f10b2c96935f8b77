"""``/v1/aggregation``: one series out of several, the way it was done before expressions.

Metrics are named by id, or are those of one name of the resources that a filter selects. A single
metric is answered like its measures; several are aggregated, and have to overlap unless gaps are
filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gnocchi import errors, model
from gnocchi.engine import aggregates, periods, process, read
from gnocchi.indexer import metrics, selection
from gnocchi.rest import (
    aggregate_requests,
    measures,
    representation,
    resource_listing,
    responses,
    visibility,
)
from gnocchi.rest.aggregate_requests import Asked, References
from gnocchi.rest.errors import Refused, answers, invalid_argument, invalid_input
from gnocchi.rest.resources import OfType
from gnocchi.rest.routing import Branch, Node, expose
from gnocchi.series import across
from gnocchi.series import expression as expressions
from gnocchi.series.reduce import RATE
from gnocchi.series.table import Fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from uuid import UUID

    from gnocchi.engine.read import Series
    from gnocchi.model import Metric
    from gnocchi.rest.requests import Query, Request
    from gnocchi.rest.responses import Response
    from gnocchi.rest.routing import Api
    from gnocchi.series.expression import Expression

# What expressions here call all series of a group.
_ALL = "*"
_AS_STORED = Fill("null")

_REAGGREGATIONS = across.METHODS | {RATE + method for method in across.METHODS}


# ------------------------------------------------------------------ nodes


class ByIds(Node):
    """The aggregation of metrics that are named by id."""

    @expose
    def get(self, request: Request) -> Response:
        """Aggregate the metrics in the query."""
        wanted = _Wanted.read(request.query)
        ids = []
        for position, text in enumerate(request.query.all("metric")):
            try:
                ids.append(model.parse_uuid(text))
            except errors.Invalid as error:
                reason = f"Invalid input: not a valid value @ data[{position}]"
                raise Refused(400, reason) from error
        return self._aggregated(request, wanted, ids)

    @expose
    def post(self, request: Request) -> Response:
        """Aggregate the metrics in the body."""
        wanted = _Wanted.read(request.query)
        return self._aggregated(request, wanted, _ids(request.json_document()))

    def _aggregated(self, request: Request, wanted: _Wanted, ids: list[UUID]) -> Response:
        found = metrics.get_many(self.api.services.db, ids)
        known = {metric.id for metric in found}
        for one in sorted(ids):
            if one not in known:
                raise errors.NoSuchMetric(one)
        targets = representation.with_resources(self.api, found)
        self.api.enforce_each(request, "get metric", targets)
        [series] = wanted.series(self.api, [found])
        return responses.raw_json(responses.measures(series))


def _ids(body: Any) -> list[UUID]:
    if not isinstance(body, list):
        raise invalid_input("expected a list", [])
    ids = []
    for position, text in enumerate(body):
        try:
            ids.append(model.parse_uuid(text))
        except (errors.Invalid, AttributeError) as error:
            reason = f"not a valid value @ data[{position}]"
            raise invalid_input(reason, [position]) from error
    return ids


class Types(Node):
    """The aggregations over resources, by type."""

    def child(self, segment: str) -> Node:
        """Return what is below a type."""
        return Branch(self.api, {"metric": Names(self.api, segment)})


class Names(Node):
    """The aggregations over resources of a type, by name of the metric."""

    def __init__(self, api: Api, type_name: str) -> None:
        super().__init__(api)
        self._type_name = type_name

    def child(self, segment: str) -> Node:
        """Return the node of one name."""
        return OfResources(self.api, self._type_name, segment)

    def handler(self, method: str) -> Callable[[Request], Response]:
        """Refuse all methods."""
        raise self._refusal()


def _no_such_group(error: errors.InvalidPagination) -> str:
    return "Invalid groupby attribute"


class OfResources(OfType):
    """The aggregation of the metrics that resources have under one name."""

    def __init__(self, api: Api, type_name: str, name: str) -> None:
        super().__init__(api, type_name)
        self._name = name

    @expose
    @answers({errors.InvalidPagination: (400, _no_such_group)})
    def post(self, request: Request) -> Response:
        """Aggregate what the filter in the body or the query selects."""
        api = self.api
        wanted = _Wanted.read(request.query)
        groupby = aggregate_requests.requested_groups(request.query)
        chosen = resource_listing.requested_filter(request)
        found = selection.current(
            api.services.db,
            self.kind.name,
            [self._name],
            filter=chosen,
            visible=visibility.of_resources(api, request, "search resource"),
            groupby=groupby,
            without_metrics=bool(groupby),
            patterns=False,
            limit=aggregate_requests.limits(api).references,
        )
        targets = [
            representation.single(metric, one.resource) for one in found for metric in one.metrics
        ]
        api.enforce_each(request, "get metric", targets)
        if not groupby:
            [series] = wanted.series(api, [[m for one in found for m in one.metrics]])
            return responses.raw_json(responses.measures(series))
        groups = aggregate_requests.grouped(
            ((one.resource, one.metrics) for one in found), groupby, self.kind
        )
        results = wanted.series(api, [[m for ms in group.members for m in ms] for group in groups])
        return responses.raw_json(
            aggregate_requests.listed(
                aggregate_requests.written(group=group.values, measures=responses.measures(series))
                for group, series in zip(groups, results, strict=True)
            )
        )


# ------------------------------------------------------------------ the aggregation


@dataclass(frozen=True, slots=True)
class _Wanted:
    """How metrics are aggregated.

    Attributes:
        method: which aggregates of each metric.
        reaggregation: how the metrics are put together.
        resample: longer periods before that, in ns or a letter of the calendar.
        refresh: whether what waits is processed first.
    """

    asked: Asked
    method: str
    reaggregation: str
    resample: int | str | None
    refresh: bool

    @classmethod
    def read(cls, query: Query) -> _Wanted:
        """Read the parameters; raises the 400 of one that cannot be used."""
        refresh = query.boolean("refresh", default=False)
        asked = Asked.read(query)
        method = query.one("aggregation", "mean")
        reaggregation = query.one("reaggregation", method)
        resample = measures.requested_resample(query, method)
        return cls(asked, method, reaggregation, resample, refresh)

    def series(self, api: Api, groups: Sequence[Iterable[Metric]]) -> list[list[Series]]:
        """Return the series that each group of metrics becomes, coarsest granularity first."""
        services = api.services
        distinct = [sorted({one.id: one for one in group}.values(), key=_id) for group in groups]
        for group in distinct:
            self._check(group)
        if self.refresh:
            everything = [metric for group in distinct for metric in group]
            process.refresh(services, everything, services.conf.api.operation_timeout)
        singles = [number for number, group in enumerate(distinct) if len(group) == 1]
        several = [number for number, group in enumerate(distinct) if len(group) > 1]
        results: list[list[Series]] = [[] for _ in distinct]
        for chosen, evaluate in ((singles, self._singles), (several, self._several)):
            found = evaluate(api, [distinct[number] for number in chosen]) if chosen else []
            for number, series in zip(chosen, found, strict=True):
                results[number] = series
        return results

    def _check(self, group: Sequence[Metric]) -> None:
        """Raise the 404 of a method or a granularity that is not kept for some metric."""
        granularity = self.asked.granularity
        if len(group) == 1:
            [metric] = group
            if self.method not in metric.archive_policy.aggregation_methods:
                raise errors.NoSuchAggregationMethod(metric.id, self.method)
        elif group and (granularity is not None or _common(group)):
            for metric in group:
                policy = metric.archive_policy
                if self.method not in policy.aggregation_methods:
                    first = policy.definition[0].granularity
                    raise errors.NoSuchGranularity(metric.id, self.method, first)
            # Only then, as it is the same method unless another one is given.
            if self.reaggregation not in _REAGGREGATIONS:
                raise invalid_argument("Must be an aggregation method", "reaggregation")
        for metric in group:
            if granularity is not None and granularity not in metric.archive_policy.granularities:
                raise errors.NoSuchGranularity(metric.id, self.method, granularity)

    def _singles(self, api: Api, groups: Sequence[Sequence[Metric]]) -> list[list[Series]]:
        asked = self.asked
        if self.resample is None:
            node = expressions.Metrics(((_ALL, self.method),))
            return self._evaluated(api, node, groups, _AS_STORED)
        granularity = asked.granularity or 0
        return [
            read.measures(
                api.services,
                metric,
                self.method,
                [granularity],
                asked.start,
                asked.stop,
                self.resample,
            )
            for [metric] in groups
        ]

    def _several(self, api: Api, groups: Sequence[Sequence[Metric]]) -> list[list[Series]]:
        node: Expression = expressions.Metrics(((_ALL, self.method),))
        if isinstance(self.resample, str):
            return [[self._by_calendar(api, group, self.resample)] for group in groups]
        if self.resample is not None:
            node = expressions.Resample(self.method, self.resample, node)
        whole = expressions.Aggregate(self.reaggregation, node)
        return self._evaluated(api, whole, groups, self.asked.fill)

    def _evaluated(
        self,
        api: Api,
        node: Expression,
        groups: Sequence[Sequence[Metric]],
        fill: Fill | None,
    ) -> list[list[Series]]:
        collected = []
        for group in groups:
            references = References()
            for metric in group:
                references.add((_ALL, self.method), metric, str(metric.id))
            collected.append((references.found, references.select))
        asked = self.asked
        found = aggregates.evaluate_groups(
            api.services,
            node,
            collected,
            start=asked.start,
            stop=asked.stop,
            granularity=asked.granularity,
            fill=fill,
            needed_overlap=self._needed_overlap(),
            limits=aggregate_requests.limits(api),
        )
        return [
            next(iter(one.by_reference.values()), [])
            if one.by_reference is not None
            else list(one.aggregated or ())
            for one in found
        ]

    def _by_calendar(self, api: Api, group: Sequence[Metric], letter: str) -> Series:
        asked = self.asked
        return periods.aggregated(
            api.services,
            group,
            self.method,
            self.reaggregation,
            asked.granularity or 0,
            letter,
            start=asked.start,
            stop=asked.stop,
            fill=asked.fill,
            needed_overlap=self._needed_overlap(),
            limits=aggregate_requests.limits(api),
        )

    def _needed_overlap(self) -> float:
        needed = self.asked.needed_overlap
        return 100.0 if needed is None else needed


def _id(metric: Metric) -> UUID:
    return metric.id


def _common(group: Sequence[Metric]) -> set[int]:
    """Return the granularities that all metrics have."""
    kept = [set(metric.archive_policy.granularities) for metric in group]
    return set.intersection(*kept)
