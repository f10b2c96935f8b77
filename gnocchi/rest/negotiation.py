"""What the ``Accept`` header of a request admits.

Success bodies are JSON, always; the header only decides whether the client takes it (406
otherwise) and in which of three forms an error is told. There is no negotiation by file
extension.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from webob import acceptparse

JSON = "application/json"
HTML = "text/html"
TEXT = "text/plain"


class Accepted(NamedTuple):
    """The outcome for one ``Accept`` header."""

    json: bool
    """Whether a JSON body may be sent."""
    error: str
    """Media type of error bodies: `JSON`, `HTML` or `TEXT`."""


@functools.lru_cache(maxsize=512)
def accepted(header: str | None) -> Accepted:
    """Evaluate an ``Accept`` header; a missing or unparsable one admits everything.

    Errors are plain text without a header; JSON where JSON is admitted at least as gladly as
    HTML; HTML where only HTML is, or is preferred; plain text for everything else.
    """
    if header is None or not header.strip():
        return Accepted(json=True, error=TEXT)
    accept = acceptparse.create_accept_header(header)
    if not isinstance(accept, acceptparse.AcceptValidHeader):
        return Accepted(json=True, error=TEXT)
    quality = dict(accept.acceptable_offers([JSON, HTML]))
    json, html = quality.get(JSON, 0.0), quality.get(HTML, 0.0)
    if json and json >= html:
        error = JSON
    elif html:
        error = HTML
    else:
        error = TEXT
    return Accepted(json=bool(json), error=error)
