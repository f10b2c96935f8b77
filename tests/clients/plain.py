"""Requests written out, for clients that cannot be run here and for what clients hide."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the document."""
        return json.loads(self.body)

    def description(self) -> Any:
        """Return what an error says, after checking that it is one that clients understand."""
        assert self.headers["content-type"] == "application/json"
        document = self.json()
        assert document["code"] == self.status
        return document["description"]


class Plain:
    """Sends what it is told, and nothing else."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._host = urlsplit(url).netloc
        self._headers = headers
        self.timeout_s = TIMEOUT_S

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a request on a connection of its own.

        Args:
            body: bytes go as they are, everything else as JSON with its content type.
            headers: on top of those of the client.
        """
        sent = {"Accept": "application/json", **self._headers}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(self._host, timeout=self.timeout_s)
        try:
            connection.request(method, path, body, {**sent, **(headers or {})})
            response = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, received, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """Send a GET."""
        return self.send("GET", path, headers=headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        """Send a POST."""
        return self.send("POST", path, body, headers)
