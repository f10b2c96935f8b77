"""``/v1/batch``: measures of many metrics in one request."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import numpy as np

from gnocchi import times
from gnocchi.engine import push
from gnocchi.indexer import metrics
from gnocchi.ingest import measures
from gnocchi.rest import responses
from gnocchi.rest.errors import invalid_input
from gnocchi.rest.measures import enforce_post, latest
from gnocchi.rest.routing import Node, expose

if TYPE_CHECKING:
    from typing import Any

    from gnocchi.rest.requests import Request
    from gnocchi.rest.responses import Response


class MetricsMeasures(Node):
    """Measures by the ids of their metrics."""

    @expose
    def post(self, request: Request) -> Response:
        """Take all measures, or none of them."""
        services = self.api.services
        body = request.json_document(flat=True)
        now = times.now()
        ids, columns = parse(body, now=now, latest=latest(self.api, now))
        known = push.known(services, ids)
        enforce_post(
            self.api,
            request,
            {raw: known[raw] for raw in ids},
            lambda: metrics.get_many(services.db, [uuid.UUID(bytes=raw) for raw in ids]),
        )
        if len(columns.timestamps):
            push.add(
                services,
                np.frombuffer(b"".join(ids), dtype="V16"),
                columns.counts,
                columns.timestamps,
                columns.values,
            )
        return responses.accepted()


def parse(body: Any, *, now: int, latest: int) -> tuple[list[bytes], measures.Columns]:
    """Parse an object of lists by metric id; raises the 400 of the first thing wrong."""
    if not isinstance(body, dict):
        raise invalid_input("expected a dictionary", [])
    try:
        ids = measures.metric_ids(list(body))
        return ids, measures.many(body, now=now, latest=latest)
    except measures.InvalidKey as error:
        raise invalid_input(f"{error} @ data[{error.key!r}]", [error.key]) from error
    except measures.InvalidMeasures as error:
        reason = f"{error.reason} for dictionary value @ data[{error.key!r}]"
        raise invalid_input(reason, [error.key]) from error
