"""A client of the API that keeps its connection, and knows what it does not know.

Nothing is sent twice behind the caller's back: where no answer came, `Lost` says so, and the
request may or may not have been carried out.
"""

from __future__ import annotations

import http.client
import json
import time
from base64 import b64encode
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

# Less than servers keep an idle connection, so that none is lost on the way.
IDLE_S = 30.0


class Lost(Exception):
    """No answer came."""


class Unexpected(Exception):
    """The answer is none that the caller can use."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the document of the body."""
        return json.loads(self.body)


class Client:
    """One connection to the API, on this machine unless said otherwise. One thread at a time."""

    def __init__(
        self, port: int, *, user: str = "admin", timeout_s: float = 60.0, host: str = "127.0.0.1"
    ) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        self._headers = {"Authorization": "Basic " + b64encode(f"{user}:".encode()).decode()}
        self._used = time.monotonic()

    def close(self) -> None:
        """Disconnect; the next request connects again."""
        self._connection.close()

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send a request; a body is JSON.

        Raises:
            Lost: no answer came.
        """
        headers = self._headers
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
        if time.monotonic() - self._used > IDLE_S:
            self.close()
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            answer = Answer(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Lost(f"{method} {path}: {error!r}") from error
        self._used = time.monotonic()
        return answer

    def get(self, path: str, **query: object) -> Answer:
        """Send a GET with query parameters."""
        return self.request("GET", f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, document: object) -> Answer:
        """Send a POST; a document that is bytes already is sent as it is."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.request("POST", path, body)

    # ---------------------------------------------------------------- what the answer must be

    def document(self, path: str, **query: object) -> Any:
        """GET a document.

        Raises:
            Lost, Unexpected: no answer, or another status than 200.
        """
        return expect(200, self.get(path, **query)).json()

    def create(self, path: str, document: object) -> Any:
        """POST something new and return it. Raises as `document`, for another status than 201."""
        return expect(201, self.post(path, document)).json()

    def measures(self, metric: str, **query: object) -> list[list[Any]]:
        """GET the aggregates of a metric. Raises as `document`."""
        measures: list[list[Any]] = self.document(f"/v1/metric/{metric}/measures", **query)
        return measures

    def push(self, document: object) -> None:
        """POST measures by metric id. Raises as `document`, for another status than 202."""
        expect(202, self.post("/v1/batch/metrics/measures", document))

    def summary(self) -> dict[str, Any]:
        """GET what waits, was refused, and is damaged. Raises as `document`."""
        summary: dict[str, Any] = self.document("/v1/status", details="false")["storage"]["summary"]
        return summary


def expect(status: int, answer: Answer) -> Answer:
    """Return the answer if it has this status.

    Raises:
        Unexpected: it has another one.
    """
    if answer.status != status:
        raise Unexpected(f"{answer.status} instead of {status}: {answer.body[:500]!r}")
    return answer
