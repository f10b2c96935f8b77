"""Column types that mean the same on every database.

Invariants: two texts are one value only when their code points are equal (no case folding, no
padding with blanks) and sort by code point; ids sort by their bytes; JSON keeps whole numbers of
64 bits. What each database needs for that is written here and nowhere else.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

# The names under which SQLAlchemy knows MySQL and its descendant.
MYSQL = ("mysql", "mariadb")


def binary_collation(dialect: Dialect) -> str:
    """Name the collation of a MySQL or MariaDB server that compares code points, blanks included.

    ``utf8mb4_bin`` takes ``'cpu'`` and ``'cpu '`` for one name, so it is only the last resort
    for servers that offer nothing else.
    """
    version: tuple[Any, ...] = getattr(dialect, "server_version_info", None) or ()
    if getattr(dialect, "is_mariadb", False):
        return "utf8mb4_nopad_bin" if version >= (10, 2) else "utf8mb4_bin"
    return "utf8mb4_0900_bin" if version >= (8, 0, 17) else "utf8mb4_bin"


class Id(sa.types.TypeDecorator[UUID]):
    """A UUID: native on PostgreSQL, 32 hexadecimal digits elsewhere."""

    impl = sa.CHAR
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=True))
        if dialect.name in MYSQL:
            return dialect.type_descriptor(mysql.CHAR(32, charset="ascii", collation="ascii_bin"))
        return dialect.type_descriptor(sa.CHAR(32))

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> UUID | str | None:
        if value is None or dialect.name == "postgresql":
            return value
        return value.hex

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        if value is None or isinstance(value, UUID):
            return value
        return UUID(value)


class Name(sa.types.TypeDecorator[str]):
    """Text up to ``length`` characters, compared and sorted by code point."""

    impl = sa.String
    cache_ok = True

    def __init__(self, length: int = 255) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(sa.String(self.length, collation="C"))
        if dialect.name in MYSQL:
            return dialect.type_descriptor(
                mysql.VARCHAR(self.length, charset="utf8mb4", collation=binary_collation(dialect))
            )
        return dialect.type_descriptor(sa.String(self.length))


class Json(sa.types.TypeDecorator[Any]):
    """A small document as text, the same bytes on every database."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in MYSQL:
            return dialect.type_descriptor(
                mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin")
            )
        return dialect.type_descriptor(sa.Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        return json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        # an outer join has NULL where there is no row
        return None if value is None else json.loads(value)


class Attributes(sa.types.TypeDecorator[dict[str, Any]]):
    """The attributes of a resource by name, which can be searched: see ``query``.

    ``None`` is not stored: an attribute without value has no member. Names become keys of ASCII
    letters, digits and ``-._~%``, so that no database needs to be told how to quote them.
    """

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.JSONB())
        if dialect.name in MYSQL:
            return dialect.type_descriptor(
                mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin")
            )
        return dialect.type_descriptor(sa.Text())

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        document = {attribute_key(k): v for k, v in value.items() if v is not None}
        return document if dialect.name == "postgresql" else to_json(document)

    def process_result_value(self, value: Any, dialect: Dialect) -> dict[str, Any] | None:
        if value is None:
            return None
        document = value if isinstance(value, dict) else json.loads(value)
        return {unquote(k) if "%" in k else k: _number(v) for k, v in document.items()}


def _number(value: Any) -> Any:
    """Make large floats of what PostgreSQL writes as hundreds of digits."""
    if type(value) is int and not -(2**63) <= value < 2**63:
        return float(value)
    return value


def attribute_key(name: str) -> str:
    """Return the member of the stored document that holds an attribute."""
    return quote(name, safe="")


def to_json(value: Any) -> str:
    """Return JSON as short as it gets, with text as it is; numbers must be finite."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def storable(text: str | None) -> bool:
    """Tell whether every database can hold this text: no NUL, no lone surrogate."""
    if text is None:
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
