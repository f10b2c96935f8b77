"""Resource types: which attributes resources have, what their values may be, what a patch does.

Every kind of attribute is a class here, or in a package that registers one under the entry point
group ``gnocchi.indexer.sqlalchemy.resource_type_attribute``.

Invariants:
    * An attribute's value has one stored form, a JSON scalar: text for strings and UUIDs (lower
      case, with dashes), a finite int or float for numbers, true or false, and an int of
      microseconds since 1970 for datetimes. Ints have at most 64 bits.
    * Everything a client may send, of whatever JSON type, gives a value or an `Invalid`.
    * Attributes keep their order; a patch that adds and removes the same one changes nothing.

Resources themselves, and who may change a type, are not its business.
"""

from __future__ import annotations

from gnocchi.resource_type.attributes import (
    KINDS,
    RESERVED_NAMES,
    Attribute,
    Bool,
    Datetime,
    InvalidInput,
    Number,
    Path,
    String,
    Uuid,
    kinds,
)
from gnocchi.resource_type.legacy import LEGACY
from gnocchi.resource_type.types import ACTIVE, GENERIC, Patch, ResourceType

__all__ = [
    "ACTIVE",
    "GENERIC",
    "KINDS",
    "LEGACY",
    "RESERVED_NAMES",
    "Attribute",
    "Bool",
    "Datetime",
    "InvalidInput",
    "Number",
    "Patch",
    "Path",
    "ResourceType",
    "String",
    "Uuid",
    "kinds",
]
