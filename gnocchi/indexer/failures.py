"""What an error of the database driver means, and the error a caller sees for it.

Every driver numbers its errors in a way of its own; this table is the only place that knows
them. It decides nothing but the kind: whether to try again is up to ``database``.
"""

from __future__ import annotations

import enum

import sqlalchemy as sa

from gnocchi import errors


class Failure(enum.Enum):
    """What went wrong, by what can be done about it."""

    ROLLED_BACK = "the database rolled the transaction back; the same one may succeed now"
    UNAVAILABLE = "the database does not answer, or cannot at the moment"
    NO_SCHEMA = "tables are missing"
    DAMAGED = "the database says that its own files are damaged"
    FOREIGN_KEY = "a row refers to, or is referred to by, another"
    DUPLICATE = "a row of that key exists"
    OTHER = "a defect of this program or its environment"


# https://www.postgresql.org/docs/current/errcodes-appendix.html: the code, or its class.
_POSTGRESQL = {
    "40001": Failure.ROLLED_BACK,  # serialization_failure
    "40P01": Failure.ROLLED_BACK,  # deadlock_detected
    "55P03": Failure.ROLLED_BACK,  # lock_not_available
    "42P01": Failure.NO_SCHEMA,
    "23503": Failure.FOREIGN_KEY,
    "23001": Failure.FOREIGN_KEY,  # restrict_violation
    "23505": Failure.DUPLICATE,
    "25006": Failure.UNAVAILABLE,  # read-only: a standby
    "08": Failure.UNAVAILABLE,
    "28": Failure.UNAVAILABLE,  # refused to log in
    "3D": Failure.UNAVAILABLE,  # no such database
    "42501": Failure.UNAVAILABLE,  # permission denied
    "53": Failure.UNAVAILABLE,  # disk full, too many connections
    "57": Failure.UNAVAILABLE,  # shutting down
    "58": Failure.UNAVAILABLE,
    "XX001": Failure.DAMAGED,
    "XX002": Failure.DAMAGED,
}

_MYSQL = {
    1213: Failure.ROLLED_BACK,  # deadlock
    1205: Failure.ROLLED_BACK,  # lock wait timeout
    1020: Failure.ROLLED_BACK,  # record has changed since last read
    1412: Failure.ROLLED_BACK,  # table definition has changed
    1146: Failure.NO_SCHEMA,
    1216: Failure.FOREIGN_KEY,
    1217: Failure.FOREIGN_KEY,
    1451: Failure.FOREIGN_KEY,
    1452: Failure.FOREIGN_KEY,
    1062: Failure.DUPLICATE,
    1712: Failure.DAMAGED,
    1034: Failure.DAMAGED,
}

# Below are the numbers of failed operations on files (disk full, no permission, too many open),
# which PyMySQL does not tell from defects of its own.
_MYSQL_FIRST = 1000

# https://www.sqlite.org/rescode.html: the extended code, or its low byte.
_SQLITE = {
    787: Failure.FOREIGN_KEY,
    1811: Failure.FOREIGN_KEY,  # reported for ON DELETE RESTRICT
    1555: Failure.DUPLICATE,
    2067: Failure.DUPLICATE,
    2579: Failure.DUPLICATE,
    5: Failure.ROLLED_BACK,  # busy
    6: Failure.ROLLED_BACK,  # locked
    11: Failure.DAMAGED,
    26: Failure.DAMAGED,  # not a database
}


def classify(error: sa.exc.SQLAlchemyError) -> Failure:
    """Name the kind of an error that came out of SQLAlchemy."""
    if isinstance(error, sa.exc.TimeoutError):
        return Failure.UNAVAILABLE  # every connection of the pool is in use
    if not isinstance(error, sa.exc.DBAPIError) or error.orig is None:
        return Failure.OTHER
    if error.connection_invalidated:
        return Failure.UNAVAILABLE
    known = _known(error.orig)
    if known is not None:
        return known
    if isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
        return Failure.UNAVAILABLE
    return Failure.OTHER


def _known(original: BaseException) -> Failure | None:
    sqlite_code = getattr(original, "sqlite_errorcode", None)
    if sqlite_code is not None:
        if str(original).startswith("no such table"):
            return Failure.NO_SCHEMA
        return _SQLITE.get(sqlite_code) or _SQLITE.get(sqlite_code & 0xFF)
    number = original.args[0] if original.args else None
    if isinstance(number, int):  # PyMySQL
        return Failure.UNAVAILABLE if number < _MYSQL_FIRST else _MYSQL.get(number)
    sqlstate = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    if sqlstate is not None:
        return _POSTGRESQL.get(sqlstate) or _POSTGRESQL.get(sqlstate[:2])
    return None


def translate(error: sa.exc.SQLAlchemyError) -> errors.GnocchiError | None:
    """Give the error that callers shall see, or None to let ``error`` pass as it is.

    The text is the driver's own: it never holds the URL with its password, unlike the
    statement and parameters that SQLAlchemy adds.
    """
    kind = classify(error)
    text = " ".join(str(getattr(error, "orig", None) or error).split())
    if kind in (Failure.UNAVAILABLE, Failure.ROLLED_BACK):
        return errors.Unavailable(f"The indexer database does not answer: {text}")
    if kind is Failure.NO_SCHEMA:
        return errors.Misconfigured(
            f"The indexer database has no tables of this program: run gnocchi-upgrade ({text})"
        )
    if kind is Failure.DAMAGED:
        return errors.Corrupt(f"The indexer database is damaged: {text}")
    return None
