"""``/v1/aggregates``: expressions over the series of several metrics.

Metrics are named by id, or by name within the resources that a filter selects; these can be put
into groups, each of which has the expression evaluated on its own.

Order of checks, which clients can observe: the parameters, the body, the operations; then what
they refer to: whether it exists, and whether the caller may read it; then whether it can be
aggregated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import voluptuous

from gnocchi import errors, model, search
from gnocchi.engine import aggregates, history
from gnocchi.indexer import metrics, resource_types, selection
from gnocchi.resource_type import InvalidInput
from gnocchi.rest import aggregate_requests, representation, responses, validation, visibility
from gnocchi.rest.aggregate_requests import Asked, References
from gnocchi.rest.errors import Refused, answers, invalid_input
from gnocchi.rest.routing import Node, expose
from gnocchi.series import expression as expressions
from gnocchi.series.table import DROP

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence
    from uuid import UUID

    from gnocchi.engine.aggregates import Answer, Limits
    from gnocchi.indexer.query import Visibility
    from gnocchi.resource_type import ResourceType
    from gnocchi.rest.requests import Request
    from gnocchi.rest.responses import Response
    from gnocchi.rest.routing import Api
    from gnocchi.series.expression import Expression

_BODY = voluptuous.Schema(
    {
        voluptuous.Required("operations"): object,
        "resource_type": validation.text,
        "search": object,
    }
)


def _search_error(error: errors.Invalid) -> dict[str, Any]:
    """Describe a filter that cannot be used. Clients read the parts of it."""
    return {"cause": "Invalid input", "reason": str(error), "detail": ["search"]}


def _invalid_operations(error: expressions.InvalidOperations) -> dict[str, Any]:
    return {"cause": error.cause, "reason": error.reason, "detail": error.detail}


class Aggregates(Node):
    """The evaluation of expressions."""

    @expose
    @answers({expressions.InvalidOperations: (400, _invalid_operations)})
    def post(self, request: Request) -> Response:
        """Evaluate the expression in the body."""
        query = request.query
        details = query.boolean("details", default=False)
        use_history = query.boolean("use_history", default=False)
        asked = Asked.read(query)
        groupby = aggregate_requests.requested_groups(query)
        body = validation.checked(_BODY, request.json_document())
        chosen = _chosen(body, request)
        conf = self.api.services.conf.api
        expression = expressions.parse(body["operations"], max_depth=conf.max_aggregate_depth)
        pairs = expressions.references(expression)
        if len(pairs) > conf.max_aggregate_references:
            raise errors.TooManyReferences(conf.max_aggregate_references)
        evaluation = _Evaluation(self.api, request, asked, expression, pairs, details)
        if chosen is None:
            return evaluation.of_metrics()
        if not groupby:
            return evaluation.of_resources(chosen)
        if use_history:
            return evaluation.of_revisions(chosen, groupby)
        return evaluation.of_groups(chosen, groupby)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Which resources: those of a type that a filter lets through."""

    type_name: str
    filter: search.Node


def _chosen(body: Mapping[str, Any], request: Request) -> _Chosen | None:
    """Read which resources are asked for; None when metrics are named by id.

    Raises:
        Refused: 400, the filter is missing or does not fit its grammar.
    """
    if "resource_type" not in body:
        return None
    if "search" not in body:
        raise invalid_input("required key not provided @ data['search']", ["search"])
    creator = request.caller.creator

    def resource_id(text: str) -> UUID:
        return model.resource_id(text, creator)

    wanted = body["search"]
    try:
        if isinstance(wanted, str):
            node = search.from_text(wanted, resource_id=resource_id)
        else:
            node = search.from_json(wanted, resource_id=resource_id)
    except InvalidInput as error:
        raise error.inside("search") from error
    except errors.Invalid as error:
        raise Refused(400, _search_error(error)) from error
    return _Chosen(body["resource_type"], node)


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """One request about the series that ``pairs`` refer to."""

    api: Api
    request: Request
    asked: Asked
    expression: Expression
    pairs: Sequence[tuple[str, str]]
    details: bool

    # ------------------------------------------------------------------ by id

    def of_metrics(self) -> Response:
        """Answer with the expression over metrics that are named by id."""
        ids = self._ids()
        found = {one.id: one for one in metrics.get_many(self.api.services.db, ids.values())}
        unknown = sorted({str(one) for one in ids.values() if one not in found})
        if unknown:
            raise Refused(
                404,
                {
                    "cause": "Unknown metrics",
                    "reason": "Provided metrics don't exists",
                    "detail": unknown,
                },
            )
        documents = representation.with_resources(self.api, found.values())
        self.api.enforce_each(self.request, "get metric", documents)
        references = References()
        for pair in self.pairs:
            metric = found[ids[pair[0]]]
            references.add(pair, metric, str(metric.id))
        [answer] = self._evaluate([references])
        return responses.raw_json(self._shown(answer, documents))

    def _ids(self) -> dict[str, UUID]:
        ids = {}
        for text, _ in self.pairs:
            try:
                ids[text] = model.parse_uuid(text)
            except errors.Invalid as error:
                raise Refused(
                    400,
                    {
                        "cause": "Invalid metric references",
                        "reason": str(error),
                        "detail": [list(pair) for pair in self.pairs],
                    },
                ) from error
        return ids

    # ------------------------------------------------------------------ by resource

    def of_resources(self, chosen: _Chosen) -> Response:
        """Answer with the expression over all resources together."""
        kind, found = self._select(chosen, ())
        [answer] = self._evaluate([self._references(found)])
        return responses.raw_json(self._shown(answer, self._resources(kind, found)))

    def of_groups(self, chosen: _Chosen, groupby: Sequence[str]) -> Response:
        """Answer with the expression over each group of resources."""
        kind, found = self._select(chosen, groupby)
        groups = aggregate_requests.grouped(((one.resource, one) for one in found), groupby, kind)
        results = self._evaluate([self._references(group.members) for group in groups])
        return responses.raw_json(
            aggregate_requests.listed(
                aggregate_requests.written(
                    group=group.values,
                    measures=self._shown(answer, self._resources(kind, group.members)),
                )
                for group, answer in zip(groups, results, strict=True)
            )
        )

    def _select(
        self, chosen: _Chosen, groupby: Sequence[str]
    ) -> tuple[ResourceType, list[selection.Selected]]:
        """Return what is selected that the caller may see, and that has one of the metrics."""
        kind, visible = self._visible(chosen, history=False)
        found = selection.current(
            self.api.services.db,
            kind.name,
            self._names(),
            filter=chosen.filter,
            visible=visible,
            groupby=groupby,
            links=self.details,
            limit=self._limits.references,
        )
        if not found:
            raise self._nothing()
        return kind, found

    def _visible(self, chosen: _Chosen, *, history: bool) -> tuple[ResourceType, Visibility | None]:
        db = self.api.services.db
        try:
            kind = resource_types.get(db, chosen.type_name)
        except errors.NoSuchResourceType as error:
            raise Refused(
                400, {"cause": "Resource type does not exist", "detail": chosen.type_name}
            ) from error
        try:
            selection.check(db, kind, chosen.filter, history=history)
        except errors.Invalid as error:
            raise Refused(400, _search_error(error)) from error
        return kind, visibility.of_resources(self.api, self.request, "search resource")

    def _names(self) -> set[str]:
        return {name for name, _ in self.pairs}

    def _nothing(self) -> errors.NoSuchMetric:
        return errors.NoSuchMetric(str(sorted(self._names())))

    def _references(self, found: Iterable[selection.Selected]) -> References:
        references = References()
        for pair in self.pairs:
            references.select[pair] = []
        matching = selection.matcher(self._names())
        methods: dict[str, list[str]] = {}
        for name, method in self.pairs:
            methods.setdefault(name, []).append(method)
        for one in found:
            for metric in one.metrics:
                shown = metric.name or ""
                for name in matching(shown):
                    for method in methods[name]:
                        references.add((name, method), metric, shown, one.resource.id)
        return references

    def _resources(self, kind: ResourceType, found: Iterable[selection.Selected]) -> list[Any]:
        if not self.details:
            return []
        kinds = aggregate_requests.shown_kinds(kind)
        return aggregate_requests.shown_resources((one.resource for one in found), kinds)

    # ------------------------------------------------------------------ with history

    def of_revisions(self, chosen: _Chosen, groupby: Sequence[str]) -> Response:
        """Answer with the expression over each group of versions of resources."""
        kind, visible = self._visible(chosen, history=True)
        start, stop = self.asked.start, self.asked.stop
        found = selection.revisions(
            self.api.services.db,
            kind.name,
            self._names(),
            filter=chosen.filter,
            visible=visible,
            groupby=groupby,
            start=None if start is None else -(-start // 1000),
            stop=None if stop is None else -(-stop // 1000),
            links=self.details,
            limit=self._limits.references,
        )
        covered = [(one, *_window(one, start, stop)) for one in found]
        covered = [each for each in covered if not _is_empty(*each[1:])]
        if not covered:
            raise self._nothing()
        groups = aggregate_requests.grouped(
            ((each[0].resource, each) for each in covered), groupby, kind
        )
        by_resource: dict[UUID, References] = {}
        windows = []
        for number, group in enumerate(groups):
            for one, low, high in group.members:
                identity = one.resource.id
                if identity not in by_resource:
                    by_resource[identity] = self._references([one])
                references = by_resource[identity]
                windows.append(
                    history.Window(references.found, references.select, number, low, high)
                )
        results = history.evaluate_history(
            self.api.services, self.expression, windows, **self._keywords()
        )
        if not results:
            raise self._nothing()
        by_number: dict[Hashable, aggregate_requests.Group] = dict(enumerate(groups))
        return responses.raw_json(
            aggregate_requests.listed(
                aggregate_requests.written(
                    group=by_number[number].values,
                    measures=self._shown(
                        aggregates.Answer(series, None),
                        self._versions(kind, by_number[number].members),
                    ),
                )
                for number, series in results
            )
        )

    def _versions(
        self,
        kind: ResourceType,
        covered: Iterable[tuple[selection.Revision, int | None, int | None]],
    ) -> list[Any]:
        if not self.details:
            return []
        kinds = aggregate_requests.shown_kinds(kind)
        return [
            representation.whole(one.resource, kinds.get(one.resource.type))
            | {"search_start": _time(low), "search_end": _time(high)}
            for one, low, high in covered
        ]

    # ------------------------------------------------------------------ evaluation

    def _evaluate(self, groups: Sequence[References]) -> list[Answer]:
        return aggregates.evaluate_groups(
            self.api.services,
            self.expression,
            [(group.found, group.select) for group in groups],
            **self._keywords(),
        )

    @property
    def _limits(self) -> Limits:
        return aggregate_requests.limits(self.api)

    def _keywords(self) -> dict[str, Any]:
        asked = self.asked
        fill = asked.fill
        if fill is None and asked.needed_overlap is None:
            fill = DROP
        return {
            "start": asked.start,
            "stop": asked.stop,
            "granularity": asked.granularity,
            "fill": fill,
            "needed_overlap": asked.needed_overlap or 0.0,
            "limits": self._limits,
        }

    def _shown(self, answer: Answer, references: list[Any]) -> bytes:
        return aggregate_requests.written(
            measures=aggregate_requests.document(answer),
            references=references if self.details else None,
        )


def _window(
    one: selection.Revision, start: int | None, stop: int | None
) -> tuple[int | None, int | None]:
    """Return the part of ``[start, stop)`` that a version counts for, in ns.

    The first version of a resource counts for what was measured before it, too.
    """
    low, high = start, stop
    if not one.first:
        began = one.resource.revision_start * 1000
        low = began if start is None else max(began, start)
    if one.resource.revision_end is not None:
        ended = one.resource.revision_end * 1000
        high = ended if stop is None else min(ended, stop)
    return low, high


def _is_empty(low: int | None, high: int | None) -> bool:
    return low is not None and high is not None and low >= high


def _time(nanoseconds: int | None) -> str | None:
    return None if nanoseconds is None else representation.time_of(nanoseconds // 1000)
