"""``ETag``, ``Last-Modified`` and the requests that depend on them.

Only single resources have validators. They follow from what is sent of a resource, so that the
answers to POST and PATCH carry the same as that to a later GET.
"""

from __future__ import annotations

import email.utils
import hashlib
from typing import TYPE_CHECKING, NamedTuple

from gnocchi.rest import representation
from gnocchi.rest.errors import Refused
from gnocchi.rest.responses import Response

if TYPE_CHECKING:
    from gnocchi.model import Resource
    from gnocchi.rest.requests import Request


class Validators(NamedTuple):
    """What identifies one version of a resource."""

    tag: str
    modified_s: int
    """Seconds since 1970."""

    @classmethod
    def of(cls, resource: Resource) -> Validators:
        """Return those of a version; clients know how the tag is made of its id and begin."""
        text = f"{resource.id}{representation.time_of(resource.revision_start)}"
        digest = hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest()
        return cls(digest, resource.revision_start // 1_000_000)

    def put_on(self, response: Response) -> Response:
        """Add the headers."""
        response.headers["ETag"] = f'"{self.tag}"'
        response.headers["Last-Modified"] = email.utils.formatdate(self.modified_s, usegmt=True)
        return response


def check(request: Request, validators: Validators) -> Response | None:
    """Evaluate the preconditions of a request for one resource.

    Returns:
        The 304 when the client has what it asks for; ``None`` to go on.

    Raises:
        Refused: 412.
    """
    reading = request.method in ("GET", "HEAD")
    headers = request.headers
    match = headers.get("If-Match", "").strip()
    if match and match != "*" and validators.tag not in _tags(match, weak=False):
        raise Refused(412)
    if not match:
        limit = _date(headers.get("If-Unmodified-Since"))
        if limit is not None and limit < validators.modified_s:
            raise Refused(412)
    none_match = headers.get("If-None-Match", "").strip()
    if none_match:
        if none_match == "*" or validators.tag in _tags(none_match, weak=True):
            if reading:
                return _not_modified(validators)
            raise Refused(412)
    elif reading:
        since = _date(headers.get("If-Modified-Since"))
        if since is not None and since >= validators.modified_s:
            return _not_modified(validators)
    return None


def _not_modified(validators: Validators) -> Response:
    response = Response("304 Not Modified")
    del response.headers["Content-Length"]
    return validators.put_on(response)


def _tags(text: str, *, weak: bool) -> set[str]:
    """Return the tags of a list, which come quoted or bare; weak ones only where they count."""
    tags = set()
    for part in text.split(","):
        tag = part.strip()
        if weak or not tag.startswith("W/"):
            tags.add(tag.removeprefix("W/").strip('"'))
    return tags


def _date(text: str | None) -> int | None:
    """Return a date in seconds since 1970; ``None`` for one that is missing or unreadable."""
    if text is None:
        return None
    try:
        parsed = email.utils.parsedate_tz(text)
        return None if parsed is None else email.utils.mktime_tz(parsed)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
