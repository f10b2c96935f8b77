"""Reading requests: path, query parameters and bodies, each with a bound and an exact error.

What a client sends is text or bytes of any kind; everything here either returns a value the rest
of the program may use without looking again, or raises the 4xx that tells the client what is
wrong. No string that leaves this module holds a NUL or a lone surrogate, because databases
cannot store them.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import orjson
import webob

from gnocchi import errors, times
from gnocchi.rest import negotiation
from gnocchi.rest.errors import Refused, invalid_argument, undecodable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gnocchi.rest.auth import Caller
    from gnocchi.rest.negotiation import Accepted

ABSENT = object()
"""Stands for a document where there is no body; ``null`` is a document."""

MAX_DEPTH = 100
"""Levels of nesting in a body; deep enough for any search, far from any recursion limit."""

_BOOLEANS = {
    **dict.fromkeys(("1", "on", "t", "true", "y", "yes"), True),
    **dict.fromkeys(("0", "f", "false", "n", "no", "off"), False),
}
_BOOLEAN_NAMES = ", ".join(f"'{name}'" for name in sorted(_BOOLEANS))
# Tokens the standard decoder takes and orjson does not.
_NOT_FINITE = re.compile(rb"NaN|Infinity")
_NULL_IS_A_VALUE = frozenset(("fill",))
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> bool:
    """Tell whether a text can be stored at all: no NUL, no half of a surrogate pair."""
    return _UNSTORABLE.search(text) is None


class Query:
    """The query parameters of a request, as texts in the order given; ``null`` counts as none."""

    def __init__(self, text: str) -> None:
        """Parse a ``QUERY_STRING``; raises the 400 for bytes that are not UTF-8."""
        self._sent: dict[str, list[str]] = {}
        self._values: dict[str, list[str]] = {}
        if not text:
            return
        try:
            # WSGI hands over bytes dressed as Latin-1.
            pairs = urllib.parse.parse_qsl(
                text.encode("latin-1").decode("utf-8"), keep_blank_values=True, errors="strict"
            )
        except ValueError as error:
            raise invalid_argument("The query string is not valid UTF-8") from error
        for name, value in pairs:
            self._sent.setdefault(name, []).append(value)
            # Dashboards write what they have no value for as the text null.
            if value != "null" or name in _NULL_IS_A_VALUE:
                self._values.setdefault(name, []).append(value)

    def items(self) -> list[tuple[str, list[str]]]:
        """Return every parameter with its values as sent, known to an endpoint or not."""
        return list(self._sent.items())

    def all(self, name: str) -> list[str]:
        """Return the values of a parameter that may be repeated."""
        return self._values.get(name, [])

    @overload
    def one(self, name: str) -> str | None: ...

    @overload
    def one(self, name: str, default: str) -> str: ...

    def one(self, name: str, default: str | None = None) -> str | None:
        """Return the value of a parameter that may be given once."""
        values = self._values.get(name)
        if values is None:
            return default
        if len(values) > 1:
            raise invalid_argument("Must be given only once", name)
        return values[0]

    def boolean(self, name: str, default: bool) -> bool:
        """Return the value of a switch."""
        text = self.one(name)
        if text is None:
            return default
        value = _BOOLEANS.get(text.strip().lower())
        if value is None:
            raise Refused(
                400,
                f"Unable to parse `{name}': Unrecognized value '{text}', "
                f"acceptable values are: {_BOOLEAN_NAMES}",
            )
        return value

    def timestamp(self, name: str) -> int | None:
        """Return a point in time as ns since 1970."""
        text = self.one(name)
        if text is None:
            return None
        try:
            return times.parse_timestamp(text)
        except errors.InvalidTimestamp as error:
            raise invalid_argument("Must be a datetime or a timestamp", name) from error

    def timespan(self, name: str) -> int | None:
        """Return a length of time in ns."""
        text = self.one(name)
        if text is None:
            return None
        try:
            return times.parse_timespan(text)
        except errors.InvalidTimespan as error:
            raise invalid_argument(str(error), name) from error


class Request(webob.Request):  # type: ignore[misc]
    """A request with what this program reads of one.

    `caller` is set once the credentials have been checked, before any handler runs.
    """

    caller: Caller
    max_body_size: int

    @property
    def accepted(self) -> Accepted:
        """What the client takes."""
        return negotiation.accepted(self.environ.get("HTTP_ACCEPT"))

    @property
    def query(self) -> Query:
        """The query parameters, parsed once."""
        query = self.environ.get("gnocchi.query")
        if query is None:
            query = self.environ["gnocchi.query"] = Query(self.environ.get("QUERY_STRING", ""))
        return query  # type: ignore[no-any-return]

    @property
    def segments(self) -> list[str] | None:
        """The parts of the path, empty ones left out; ``None`` when nothing can have that name."""
        try:
            path = self.environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8")
        except ValueError:
            return None
        if not storable(path):
            return None
        return [part for part in path.split("/") if part]

    @property
    def base_url(self) -> str:
        """Scheme, host and mount prefix, without a slash at the end."""
        prefix: bytes = self.environ.get("SCRIPT_NAME", "").encode("latin-1", "replace")
        return str(self.host_url) + urllib.parse.quote(prefix).rstrip("/")

    @property
    def path_url(self) -> str:
        """The address of this request without its query."""
        path: bytes = self.environ.get("PATH_INFO", "").encode("latin-1", "replace")
        return self.base_url + urllib.parse.quote(path)

    # ------------------------------------------------------------------ bodies

    def json_document(self, media_type: str = "application/json", *, flat: bool = False) -> Any:
        """Decode the body.

        Args:
            media_type: what ``Content-Type`` has to name, parameters apart.
            flat: leave out the check of the nesting depth, for callers that do not recurse
                (large bodies of measures).

        Raises:
            Refused: 415 for another media type, 413 for a body over the limit, 400 for one that
                is not JSON.
        """
        if self.media_type != media_type:
            raise Refused(415)
        return decode(self.limited_body(), flat=flat)

    def optional_document(self) -> Any:
        """Decode the body if there is one; `ABSENT` otherwise, whatever ``Content-Type`` says.

        Raises:
            Refused: as `json_document`.
        """
        body = self.limited_body()
        if not body:
            return ABSENT
        if self.media_type != "application/json":
            raise Refused(415)
        return decode(body)

    @property
    def media_type(self) -> str:
        """What ``Content-Type`` names, parameters apart."""
        content_type: str = self.environ.get("CONTENT_TYPE", "")
        return content_type.partition(";")[0].strip().lower()

    def limited_body(self) -> bytes:
        """Read the body, up to the configured size.

        Raises:
            Refused: 413 for a larger one, 400 when it ends early.
        """
        limit = self.max_body_size
        length = self.content_length
        if length is None:
            if not self.environ.get("wsgi.input_terminated"):
                return b""
            length = limit + 1  # in chunks: as long as it turns out to be
        elif length > limit:
            raise Refused(413, f"A body has at most {limit} bytes")
        try:
            body: bytes = self.environ["wsgi.input"].read(length)
        except OSError as error:
            raise Refused(400, "The body ends early") from error
        if len(body) > limit:
            raise Refused(413, f"A body has at most {limit} bytes")
        return body


# ------------------------------------------------------------------ JSON


def decode(body: bytes, *, flat: bool = False) -> Any:
    """Decode a JSON document; ``NaN`` and ``Infinity`` count as numbers.

    Raises:
        Refused: 400, ``Unable to decode body``.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if _NOT_FINITE.search(body) is None:
            raise undecodable() from error
        value = _decode_not_finite(body)
    if not flat:
        _check_depth(value)
    return value


def _decode_not_finite(body: bytes) -> Any:
    try:
        value = json.loads(body.decode("utf-8"))
        # The standard decoder makes lone surrogates out of escapes, which orjson refuses.
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise undecodable() from error
    return value


def _check_depth(value: Any) -> None:
    """Refuse a document nested too deeply, without recursing into it."""
    level = [value]
    for _ in range(MAX_DEPTH):
        containers: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                containers.extend(item.values())
            elif isinstance(item, list):
                containers.extend(item)
        if not containers:
            return
        level = containers
    raise undecodable("Nested too deeply")


# ------------------------------------------------------------------ pages


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a listing is asked for, and in which order."""

    limit: int
    marker: str | None
    sorts: Sequence[tuple[str, str]]
    """Keys and directions."""


_DIRECTIONS = ("asc-nullsfirst", "asc-nullslast", "desc-nullsfirst", "desc-nullslast")


def page(query: Query, max_limit: int, default_sort: Sequence[tuple[str, str]]) -> Page:
    """Read ``limit``, ``marker`` and ``sort``.

    Limits above `max_limit` are cut to it; keys are left for the index to check.
    """
    limit = max_limit
    text = query.one("limit")
    if text is not None:
        limit = min(_limit(text), max_limit)
    sorts = []
    for sort in query.all("sort"):
        key, _, direction = sort.partition(":")
        direction = direction or "asc"
        if direction not in ("asc", "desc", *_DIRECTIONS):
            raise errors.InvalidPagination(
                f"Unknown sort direction, must be one of: {', '.join(_DIRECTIONS)}"
            )
        sorts.append((key, direction))
    return Page(limit, query.one("marker"), sorts or default_sort)


def _limit(text: str) -> int:
    try:
        limit = int(text)
    except ValueError as error:
        raise invalid_argument("expected int for dictionary value @ data['limit']") from error
    if limit < 1:
        raise invalid_argument("value must be at least 1 for dictionary value @ data['limit']")
    return limit
