"""Checking bodies against schemas, with the messages clients know.

Schemas are voluptuous ones; the validators here are those whose messages the library words
differently, or which it would let pass or crash on. One error is reported: an element that is
there before one that is missing.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import voluptuous

from gnocchi import archive_policy, errors, times
from gnocchi.rest.errors import invalid_input
from gnocchi.rest.requests import storable

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_NAME = 255
MAX_UNIT = 31
MAX_INTEGER = 2**31 - 1


def checked(schema: voluptuous.Schema, value: Any) -> Any:
    """Return `value` as the schema coerces it; 400 ``Invalid input`` when it does not fit."""
    try:
        return schema(value)
    except voluptuous.MultipleInvalid as error:
        first = error.errors[0]
        raise invalid_input(str(first), list(first.path)) from error


def name(value: Any) -> str:
    """Accept a text of 1 to 255 characters."""
    return str(_sized(text(value)))


def short_text(value: Any) -> str:
    """Accept a text of up to 255 characters, the empty one included."""
    return str(_at_most(text(value)))


def text(value: Any) -> str:
    """Accept a text that can be stored."""
    if not isinstance(value, str):
        raise voluptuous.TypeInvalid("expected str")
    if not storable(value):
        raise voluptuous.ValueInvalid("not a valid value")
    return value


def unit(value: Any) -> str:
    """Accept a text of up to 31 characters."""
    return str(_short(text(value)))


_at_most = voluptuous.Length(max=MAX_NAME)
_short = voluptuous.Length(max=MAX_UNIT)
_sized = voluptuous.Length(min=1, max=MAX_NAME)


def integer(minimum: int, maximum: int = MAX_INTEGER) -> Callable[[Any], int]:
    """Accept what `int` makes a number of, within bounds."""
    bounds = voluptuous.Range(min=minimum, max=maximum)

    def coerce(value: Any) -> int:
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise voluptuous.CoerceInvalid("expected int") from error
        return operator.index(bounds(number))

    return coerce


def timespan(value: Any) -> int:
    """Accept a length of time, in ns."""
    try:
        return times.parse_timespan(value)
    except errors.InvalidTimespan as error:
        raise voluptuous.Invalid(str(error)) from error


def aggregation_method(value: Any) -> str:
    """Accept a method, one with a sign in front of it, or ``*``."""
    if isinstance(value, str) and value in archive_policy.LISTED_METHODS:
        return value
    raise voluptuous.Invalid("not a valid value")
