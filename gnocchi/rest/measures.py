"""``…/measures``: points of one metric in, aggregates of it out.

Writing is the hot path. It needs neither the metric nor its archive policy, only that the metric
exists and who made it, which the engine knows without asking the database each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gnocchi import errors, model, times
from gnocchi.engine import process, push, read
from gnocchi.ingest import measures
from gnocchi.rest import representation, responses
from gnocchi.rest.errors import Refused, invalid_input
from gnocchi.rest.routing import Node, expose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gnocchi.model import Metric
    from gnocchi.rest.requests import Query, Request
    from gnocchi.rest.responses import Response
    from gnocchi.rest.routing import Api

CALENDAR = frozenset("YHQMW")

# What a rule about writing measures can look at without the metric being loaded.
_CREATOR_KEYS = frozenset(("creator", "created_by_user_id", "created_by_project_id"))


# ------------------------------------------------------------------ writing


def latest(api: Api, now: int) -> int:
    """Return the newest timestamp that measures may have."""
    if api.max_future is None:
        return times.MAX_TIMESTAMP
    return min(now + api.max_future, times.MAX_TIMESTAMP)


def enforce_post(
    api: Api,
    request: Request,
    creators: Mapping[bytes, str | None],
    load: Callable[[], list[Metric]],
) -> None:
    """Raise the 403 unless the caller may write measures to all of these metrics.

    Args:
        api: the parts of the program.
        request: who asks.
        creators: by raw id of a metric, who made it. Rules about creators, as the default one
            is, are evaluated once for each of them.
        load: returns the metrics; called when the operator's rule looks at more than the creator.
    """
    rule = "post measures"
    if api.policies.keys(rule) <= _CREATOR_KEYS:
        for creator in set(creators.values()):
            user_id, project_id = model.split_creator(creator)
            target = {
                "creator": creator,
                "created_by_user_id": user_id,
                "created_by_project_id": project_id,
            }
            api.enforce(request, rule, target)
    else:
        for target in representation.with_resources(api, load()):
            api.enforce(request, rule, target)


def parse_one(body: Any, *, now: int, latest: int) -> measures.Columns:
    """Parse the body of one metric's measures; raises its 400."""
    try:
        return measures.one(body, now=now, latest=latest)
    except measures.InvalidMeasures as error:
        raise invalid_input(error.reason, []) from error


# ------------------------------------------------------------------ reading


def requested_granularity(query: Query) -> int | None:
    """Read ``granularity``, in ns."""
    return query.timespan("granularity")


def requested_resample(query: Query, method: str) -> int | str | None:
    """Read ``resample``: ns, a calendar letter, or ``None``."""
    text = query.one("resample")
    if text is None:
        return None
    if not query.all("granularity"):
        raise Refused(400, "A granularity must be specified to resample")
    if text in CALENDAR:
        if method.startswith("rate:"):
            raise Refused(400, f"{method} cannot be resampled to a calendar period")
        return text
    return times.parse_timespan(text)


class Measures(Node):
    """The measures of one metric; how the metric is found is up to subclasses."""

    metric: Metric

    @expose
    def get(self, request: Request) -> Response:
        """Read aggregates."""
        metric = self.metric
        services = self.api.services
        self.api.enforce(request, "get measures", representation.with_resource(self.api, metric))
        query = request.query
        method = query.one("aggregation", "mean")
        resample = requested_resample(query, method)
        start, stop = query.timestamp("start"), query.timestamp("stop")
        granularity = requested_granularity(query)
        policy = metric.archive_policy
        if method not in policy.aggregation_methods:
            raise errors.NoSuchAggregationMethod(metric.id, method)
        if granularity is not None and granularity not in policy.granularities:
            raise errors.NoSuchGranularity(metric.id, method, granularity)
        if query.boolean("refresh", default=False):
            process.refresh(services, [metric], services.conf.api.operation_timeout)
        granularities = policy.granularities if granularity is None else (granularity,)
        series = read.measures(services, metric, method, granularities, start, stop, resample)
        return responses.raw_json(responses.measures(series))

    @expose
    def post(self, request: Request) -> Response:
        """Take measures; they are durable when this is answered."""
        api = self.api
        raw_id, creator = self.identity()
        enforce_post(api, request, {raw_id: creator}, lambda: [self.loaded()])
        body = request.json_document(flat=True)
        now = times.now()
        columns = parse_one(body, now=now, latest=latest(api, now))
        if len(columns.timestamps):
            push.add(
                api.services,
                np.frombuffer(raw_id, dtype="V16"),
                columns.counts,
                columns.timestamps,
                columns.values,
            )
        return responses.accepted()

    def identity(self) -> tuple[bytes, str | None]:
        """Return the raw id of the metric and its creator."""
        return self.metric.id.bytes, self.metric.creator

    def loaded(self) -> Metric:
        """Return the metric."""
        return self.metric


class MeasuresById(Measures):
    """The measures of the metric with an id."""

    def __init__(self, api: Api, text: str) -> None:
        super().__init__(api)
        self.text = text
        self._identity: tuple[bytes, str | None] | None = None

    def load(self, request: Request) -> None:
        """Find out whether the metric exists, and load no more of it than is needed."""
        if request.method != "POST":
            self.metric = representation.by_id(self.api, self.text)
            return
        try:
            raw_id = model.parse_uuid(self.text).bytes
            known = push.known(self.api.services, [raw_id])
        except (errors.Invalid, errors.UnknownMetrics) as error:
            raise errors.NoSuchMetric(self.text) from error
        self._identity = raw_id, known[raw_id]

    def identity(self) -> tuple[bytes, str | None]:
        """Return the raw id of the metric and its creator, known since `load`."""
        return self._identity or super().identity()

    def loaded(self) -> Metric:
        """Return the metric, which writing does not need otherwise."""
        return representation.by_id(self.api, self.text)
