"""Metrics and resources as values, and the rules for the identities around them.

Invariants: ids are UUIDs everywhere below the API; the id of a resource that was named by a text
depends on the text and the creator alone, so that it can be computed anywhere and found again only
by its creator.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from gnocchi.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gnocchi.archive_policy import ArchivePolicy

ACTIVE = "active"
DELETED = "delete"

MAX_RESOURCE_ID = 289

# The number of the version of a resource that is valid now; the others count from one.
CURRENT = -1

# Never to be changed: ids of stored resources, and of those clients computed, follow from it.
_RESOURCE_IDS = UUID("0a7a15ff-aa13-4ac2-897c-9bdf30ce175b")
_HEXADECIMAL = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class Metric:
    """A time series with identity and policy; its data is elsewhere.

    ``creator`` is ``None`` for metrics nobody in particular made; ``resource_id`` is ``None`` for
    metrics of no resource. ``status`` is ``ACTIVE`` or ``DELETED``.
    """

    id: UUID
    archive_policy: ArchivePolicy
    creator: str | None
    name: str | None
    unit: str | None
    resource_id: UUID | None
    status: str = ACTIVE

    @property
    def created_by(self) -> tuple[str | None, str | None]:
        """The user and project ids in the creator: see :func:`split_creator`."""
        return split_creator(self.creator)


@dataclass(frozen=True, slots=True)
class Resource:
    """One version of a resource. Times are microseconds since 1970.

    Attributes:
        original_resource_id: the id as its creator wrote it.
        revision_start: when it became what this version says.
        revision_end: when the next version began; ``None`` for the current one.
        revision: ``CURRENT``, or a positive number that grows over time.
        attributes: what its type adds, in stored form; ``None`` where there is no value. Empty
            when read as a generic resource.
        metrics: ids by name; always those of now.
    """

    id: UUID
    type: str
    creator: str | None
    original_resource_id: str
    user_id: str | None
    project_id: str | None
    started_at: int
    ended_at: int | None
    revision_start: int
    revision_end: int | None = None
    revision: int = CURRENT
    attributes: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, UUID] = field(default_factory=dict)

    @property
    def created_by(self) -> tuple[str | None, str | None]:
        """The user and project ids in the creator: see :func:`split_creator`."""
        return split_creator(self.creator)


def split_creator(creator: str | None) -> tuple[str | None, str | None]:
    """Return the user id and project id that a creator was made of.

    The first colon separates them. Without one the project id is empty; without a creator both
    are ``None``.
    """
    if creator is None:
        return None, None
    user_id, _, project_id = creator.partition(":")
    return user_id, project_id


def project_of(creator: str | None) -> str | None:
    """Return the project id in a creator, ``None`` where there is no colon and so no project."""
    return creator.partition(":")[2] if creator is not None and ":" in creator else None


def parse_uuid(value: str) -> UUID:
    """Return a UUID given in any of its usual spellings.

    Any case, with or without dashes, in braces, or as ``urn:uuid:…``. Stricter than the standard
    library, which also takes signs, blanks and underscores for hexadecimal digits.

    Raises:
        Invalid: the text is no UUID.
    """
    text = value.replace("urn:", "").replace("uuid:", "").strip("{}").replace("-", "")
    if not _HEXADECIMAL.fullmatch(text):
        raise Invalid("badly formed hexadecimal UUID string")
    return UUID(hex=text)


def resource_id(value: str, creator: str | None) -> UUID:
    """Return the id of the resource that ``creator`` calls ``value``.

    A text that is a UUID is used as it is, whoever asks. Any other is combined with the creator.

    Raises:
        Invalid: the text contains ``/`` or NUL, is no Unicode text, or is longer than
            ``MAX_RESOURCE_ID`` characters without being a UUID.
    """
    try:
        return parse_uuid(value)
    except Invalid:
        return _transformed(value, creator)


def _transformed(value: str, creator: str | None) -> UUID:
    if "/" in value:
        raise Invalid("'/' is not supported in resource id")
    if len(value) > MAX_RESOURCE_ID:
        raise Invalid(f"transformable resource id >{MAX_RESOURCE_ID} max allowed characters")
    # NUL separates the id from the creator, so it must not come with the id.
    if "\0" in value:
        raise Invalid("NUL is not supported in resource id")
    try:
        return uuid5(_RESOURCE_IDS, f"{value}\0{chr(0) if creator is None else creator}")
    except UnicodeEncodeError:
        raise Invalid("resource id is no valid Unicode text") from None


def hash_of(metric_id: UUID) -> int:
    """Return the place of a metric in the hash space: the top 32 bits of its id."""
    return metric_id.int >> 96
