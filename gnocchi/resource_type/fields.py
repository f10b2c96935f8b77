"""The fields of every resource, as filters know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gnocchi import times
from gnocchi.errors import Invalid
from gnocchi.model import parse_uuid
from gnocchi.resource_type.attributes import Datetime, Number, String, microseconds, not_like

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID


def _id(value: object, operator: str) -> UUID:
    not_like(operator)
    if not isinstance(value, str):
        raise Invalid("expected str")
    return parse_uuid(value)


def _revision(value: str | float | bool, operator: str) -> int:
    number = Number("revision").comparable(value, operator)
    if number != number // 1 or not -(2**63) <= number < 2**63:
        raise Invalid("expected int")
    return int(number)


def _lifespan(value: object, operator: str) -> int:
    not_like(operator)
    if isinstance(value, bool):
        raise Invalid("Invalid timespan")
    return microseconds(times.parse_timespan(value, allow_negative_or_zero=True), operator)


def _half_of_creator(value: str | float | bool, operator: str) -> str:
    if operator not in ("=", "!=", "like"):
        raise Invalid("only equality and patterns")
    return _text(value, operator)


_text = String("text").comparable
_instant = Datetime("instant").comparable

BASE_FIELDS: Mapping[str, Callable[[Any, str], Any]] = {
    "id": _id,
    "type": _text,
    "creator": _text,
    "original_resource_id": _text,
    "user_id": _text,
    "project_id": _text,
    "created_by_user_id": _half_of_creator,
    "created_by_project_id": _half_of_creator,
    "started_at": _instant,
    "ended_at": _instant,
    "revision_start": _instant,
    "revision_end": _instant,
    "revision": _revision,
    "lifespan": _lifespan,
}
"""What a filter may name besides the attributes of a type (which come first: one may be called
``lifespan``), with the conversion of the values it is compared with."""

HISTORY_FIELDS = frozenset({"revision", "revision_end"})
"""Those of them that only filters over past versions may name."""
