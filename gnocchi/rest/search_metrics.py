"""``/v1/search/metric``: points of metrics whose values satisfy a condition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gnocchi import errors, model, times
from gnocchi.engine import search_values
from gnocchi.indexer import metrics
from gnocchi.rest import aggregate_requests, representation, requests, responses
from gnocchi.rest.errors import Refused, answers, invalid_argument
from gnocchi.rest.routing import Node, expose
from gnocchi.series import predicate

if TYPE_CHECKING:
    from uuid import UUID

    from gnocchi.rest.requests import Query, Request
    from gnocchi.rest.responses import Response


def _not_kept(error: errors.NoSuchGranularity) -> dict[str, Any]:
    return {
        "cause": "Aggregation does not exist",
        "detail": {
            "granularity": times.to_seconds(error.granularity),
            "aggregation_method": error.method,
        },
    }


class SearchMetrics(Node):
    """The search for values."""

    @expose
    @answers({errors.NoSuchGranularity: (400, _not_kept)})
    def post(self, request: Request) -> Response:
        """List the points that satisfy the condition in the body."""
        api, query = self.api, request.query
        found = metrics.get_many(api.services.db, _ids(query))
        targets = representation.with_resources(api, found)
        api.enforce_each(request, "search metric", targets)
        start, stop = _time(query, "start"), _time(query, "stop")
        granularities = _granularities(query)
        body = request.optional_document()
        if body is requests.ABSENT:
            raise Refused(400, "No query specified in body")
        condition = predicate.parse(body)
        result = search_values.search(
            api.services,
            found,
            condition,
            method=query.one("aggregation", "mean"),
            granularities=granularities,
            start=start,
            stop=stop,
            max_rows=api.services.conf.api.max_aggregate_cells,
        )
        return responses.raw_json(
            aggregate_requests.written(
                **{str(metric): responses.measures(series) for metric, series in result.items()}
            )
        )


def _ids(query: Query) -> list[UUID]:
    texts = query.all("metric_id")
    if not texts:
        raise invalid_argument("required key not provided", "metric_id")
    try:
        return [model.parse_uuid(text) for text in texts]
    except errors.Invalid as error:
        raise invalid_argument(str(error), "metric_id") from error


def _time(query: Query, name: str) -> int | None:
    text = query.one(name)
    if text is None:
        return None
    try:
        return times.parse_timestamp(text)
    except errors.InvalidTimestamp as error:
        raise Refused(400, f"Invalid value for {name}") from error


def _granularities(query: Query) -> set[int]:
    try:
        return {times.parse_timespan(text) for text in query.all("granularity")}
    except errors.InvalidTimespan as error:
        raise invalid_argument(str(error), "granularity") from error
