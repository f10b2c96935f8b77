"""Building responses: JSON bodies, created, accepted, no content, next-page links.

Bodies use ``", "`` and ``": "`` as separators and the bare tokens ``NaN``, ``Infinity`` and
``-Infinity`` for numbers JSON has no notation for.
"""

from __future__ import annotations

import json
import urllib.parse
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import webob

from gnocchi import times

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gnocchi.engine.read import Series
    from gnocchi.rest.requests import Page, Request

JSON = "application/json"


class Response(webob.Response):  # type: ignore[misc]
    """A WebOb response without any header nobody asked for."""

    default_content_type = None
    default_charset = None

    def __init__(
        self, status: str | int, body: bytes = b"", content_type: str | None = None
    ) -> None:
        headers = [("Content-Length", str(len(body)))]
        if content_type is not None:
            headers.insert(0, ("Content-Type", content_type))
        super().__init__(status=status, headerlist=headers, app_iter=[body])


def document(value: Any) -> Response:
    """Answer 200 with a JSON document."""
    return Response("200 OK", json.dumps(value).encode(), JSON)


def raw_json(body: bytes) -> Response:
    """Answer 200 with a JSON document that is written already."""
    return Response("200 OK", body, JSON)


def created(request: Request, path: str, value: Any) -> Response:
    """Answer 201 with the new object and its address, `path` being unquoted below ``/v1``."""
    response = Response("201 Created", json.dumps(value).encode(), JSON)
    response.headers["Location"] = f"{request.base_url}/v1/{urllib.parse.quote(path)}"
    return response


def accepted() -> Response:
    """Answer 202 without a body: the measures are durable, their processing comes later."""
    return Response("202 Accepted")


def no_content() -> Response:
    """Answer 204, which has neither body nor content type."""
    response = Response("204 No Content")
    del response.headers["Content-Length"]
    return response


# ------------------------------------------------------------------ measures


def measures(series: Sequence[Series]) -> bytes:
    """Write series as ``[[timestamp, granularity, value], …]`` in the order given.

    The rows are joined from columns of texts, as one row at a time would cost four times as
    much for a long series.
    """
    rows: list[str] = []
    for one in series:
        if isinstance(one.granularity, str):
            middle = json.dumps(one.granularity)
        else:
            middle = repr(times.to_seconds(one.granularity))
        separator = f'", {middle}, '
        stamps = times.format_timestamps(one.timestamps)
        rows.extend(
            [
                stamp + separator + value
                for stamp, value in zip(stamps, numbers(one.values), strict=True)
            ]
        )
    if not rows:
        return b"[]"
    return ('[["' + '], ["'.join(rows) + "]]").encode()


def numbers(values: np.ndarray) -> Iterable[str]:
    """Write ``(n,)`` float64 as JSON numbers, the shortest digits that read back the same."""
    if not len(values):
        return []
    values = np.ascontiguousarray(values, dtype=np.float64)
    texts = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].decode().split(",")
    # orjson writes null for what JSON cannot say; readers of measures expect the bare tokens.
    for position in np.flatnonzero(~np.isfinite(values)).tolist():
        texts[position] = json.dumps(float(values[position]))
    return texts


# ------------------------------------------------------------------ pages


def add_next_page(response: Response, request: Request, page: Page, marker: str) -> None:
    """Add the ``Link`` to the page after the item that `marker` names."""
    query = dict(request.query.items())
    sorts = [f"{key}:{direction}" for key, direction in page.sorts]
    query.update(limit=[str(page.limit)], sort=sorts, marker=[marker])
    pairs = [(name, value) for name in sorted(query) for value in query[name]]
    url = f"{request.path_url}?{urllib.parse.urlencode(pairs)}"
    response.headers["Link"] = f'<{url}>; rel="next"'
