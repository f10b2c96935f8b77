"""How failures are told to clients: the only place that maps errors to status codes.

`TABLE` gives an answer for every class of `gnocchi.errors` a request can meet; a handler for
which a class means something else says so with `answers`. Handlers have no ``except`` of their
own. A request that is wrong in the sense of HTTP raises `Refused`.

Bodies come in three forms (JSON, plain text, HTML) with the same content: code, title and a
description, which is a text or an object of ``cause``, ``reason`` and ``detail``. Whatever is
not in the table is a defect: it is logged with its traceback and answered 500, with a body.
"""

from __future__ import annotations

import html
import http
import json
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from gnocchi import errors
from gnocchi.resource_type import InvalidInput
from gnocchi.rest import negotiation
from gnocchi.rest.responses import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gnocchi.rest.negotiation import Accepted

LOG = logging.getLogger(__name__)

Description = str | dict[str, Any]
H = TypeVar("H", bound="Callable[..., Any]")

_EXPLANATIONS = {
    400: "The server could not comply with the request since it is either malformed or otherwise "
    "incorrect.",
    401: "This server could not verify that you are authorized to access the document you "
    "requested.",
    403: "Access was denied to this resource.",
    404: "The resource could not be found.",
    405: "The method is not allowed for this resource.",
    406: "The resource could not be generated in a form that was acceptable to your client.",
    409: "There was a conflict when trying to complete your request.",
    412: "Request precondition failed.",
    413: "The body of your request was too large for this server.",
    415: "The request media type is not supported by this server.",
    501: "This is not implemented by this server.",
    503: "The server is currently unavailable. Please try again at a later time.",
}
_NO_EXPLANATION = "The server has either erred or is incapable of performing the operation."

_TITLES = {413: "Request Entity Too Large", 416: "Requested Range Not Satisfiable"}


class Refused(errors.GnocchiError):
    """The request ends here with this status, description and headers."""

    def __init__(
        self,
        status: int,
        description: Description = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, description)
        self.status = status
        self.description = description
        self.headers = dict(headers or {})


def invalid_input(reason: str, path: list[Any]) -> Refused:
    """Build the 400 of a body that does not fit its schema; `path` leads to the element."""
    return Refused(
        400, {"cause": "Invalid input", "reason": reason, "detail": [str(part) for part in path]}
    )


def invalid_argument(reason: str, parameter: str | None = None) -> Refused:
    """Build the 400 of a query parameter that cannot be used."""
    description: dict[str, Any] = {"cause": "Argument value error", "reason": reason}
    if parameter is not None:
        description["detail"] = parameter
    return Refused(400, description)


def undecodable(reason: str = "Expected object or value") -> Refused:
    """Build the 400 of a body that is not the JSON it claims to be."""
    return Refused(400, {"cause": "Unable to decode body", "reason": reason, "detail": []})


# ------------------------------------------------------------------ the table

Answer = tuple[int, "Callable[[Any], Description]"]
"""Status, and what makes the description out of the error."""


def cause(text: str, *attributes: str, **renamed: str) -> Callable[[Exception], Description]:
    """Describe an error as ``{"cause": text, "detail": <the facts it carries>}``.

    One attribute becomes the detail itself; ``renamed`` (member=attribute) makes an object of
    strings.
    """

    def describe(error: Exception) -> Description:
        if renamed:
            facts = {member: str(getattr(error, name)) for member, name in renamed.items()}
            return {"cause": text, "detail": facts}
        return {"cause": text, "detail": str(getattr(error, attributes[0]))}

    return describe


def _input(error: InvalidInput) -> Description:
    """Describe what does not fit a schema that is not checked here."""
    return {
        "cause": "Invalid input",
        "reason": str(error),
        "detail": [str(part) for part in error.path],
    }


def _aggregation(error: errors.CannotAggregate) -> Description:
    return {"cause": error.cause, "reason": error.reason, "detail": error.detail}


def _unknown_aggregation(error: errors.UnknownAggregation) -> Description:
    return {"cause": error.cause, "detail": error.detail}


TABLE: dict[type[Exception], Answer] = {
    errors.NotFound: (404, str),
    errors.NoSuchAggregationMethod: (
        404,
        cause(
            "Aggregation method does not exist for this metric",
            metric="metric",
            aggregation_method="method",
        ),
    ),
    errors.UnknownMetrics: (400, str),
    errors.UnknownResources: (400, str),
    errors.UnknownAggregation: (404, _unknown_aggregation),
    errors.AlreadyExists: (409, str),
    errors.NamedMetricAlreadyExists: (400, cause("Named metric already exists", "name")),
    errors.Invalid: (400, str),
    errors.CannotAggregate: (400, _aggregation),
    InvalidInput: (400, _input),
    errors.InUse: (400, str),
    errors.Busy: (503, str),
    errors.Unavailable: (503, lambda error: str(error) or "A backend does not answer."),
    errors.Corrupt: (503, lambda error: "Stored data is damaged; the operator has been told."),
    errors.Misconfigured: (503, lambda error: "This server is misconfigured."),
}


def answers(table: Mapping[type[Exception], Answer]) -> Callable[[H], H]:
    """Let a handler give other answers than `TABLE` for some classes of errors."""

    def mark(handler: H) -> H:
        handler.error_answers = table  # type: ignore[attr-defined]
        return handler

    return mark


def refusal(error: Exception, table: Mapping[type[Exception], Answer]) -> Refused:
    """Turn whatever was raised into what the client is told, logging what nobody expected."""
    if isinstance(error, Refused):
        return error
    for answers_of in (table, TABLE):
        for kind in type(error).__mro__:
            if kind in answers_of:
                status, describe = answers_of[kind]
                if status >= 500:
                    LOG.warning("Answering %d: %s", status, error)
                return Refused(status, describe(error))
    if isinstance(error, RecursionError):
        LOG.warning("A request was nested too deeply")
        return undecodable("Nested too deeply")
    LOG.error("Unhandled error while answering a request", exc_info=error)
    return Refused(500, "An unexpected error prevented the server from fulfilling your request.")


# ------------------------------------------------------------------ bodies


def title(status: int) -> str:
    """Return the reason phrase of a status code."""
    return _TITLES.get(status) or http.HTTPStatus(status).phrase


def render(refused: Refused, accepted: Accepted) -> Response:
    """Build the error response in the form the client accepts best."""
    status = f"{refused.status} {title(refused.status)}"
    if accepted.error == negotiation.JSON:
        body = json.dumps(
            {
                "code": refused.status,
                "title": title(refused.status),
                "description": refused.description,
            }
        )
        content_type = negotiation.JSON
    else:
        explanation = _EXPLANATIONS.get(refused.status, _NO_EXPLANATION)
        detail = _text(refused.description)
        if accepted.error == negotiation.HTML:
            body = (
                f"<html>\n <head>\n  <title>{status}</title>\n </head>\n <body>\n"
                f"  <h1>{status}</h1>\n  {html.escape(explanation)}<br /><br />\n"
                f"{html.escape(detail)}\n </body>\n</html>\n"
            )
        else:
            body = f"{status}\n\n{explanation}\n\n{detail}\n"
        content_type = f"{accepted.error}; charset=UTF-8"
    response = Response(status, body.encode("utf-8", "replace"), content_type)
    response.headers.update(refused.headers)
    return response


def _text(description: Description) -> str:
    """Write a description for people; texts in it stay as they are, unescaped."""
    if isinstance(description, str):
        return description
    lines = []
    for member in ("cause", "reason", "detail"):
        value = description.get(member)
        if value:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            lines.append(f"{member}: {text}")
    return "\n".join(lines)
