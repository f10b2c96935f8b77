"""What errors of the database drivers are taken for."""

from __future__ import annotations

import sqlite3
import struct

import psycopg2
import psycopg2.errors
import pymysql
import pytest
import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer.failures import Failure, classify, translate


def wrapped(
    original: Exception, kind: type[sa.exc.DBAPIError] = sa.exc.OperationalError
) -> sa.exc.DBAPIError:
    return kind("SELECT secret", {"parameter": "hidden"}, original)


def sqlite_error(code: int, text: str = "said") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


class PostgresqlError(psycopg2.Error):
    """One whose code can be chosen."""

    def __init__(self, pgcode: str | None) -> None:
        super().__init__("said")
        self._pgcode = pgcode

    @property
    def pgcode(self) -> str | None:
        return self._pgcode


@pytest.mark.parametrize(
    ("original", "failure"),
    [
        (sqlite_error(5), Failure.ROLLED_BACK),
        (sqlite_error(517), Failure.ROLLED_BACK),  # SQLITE_BUSY_SNAPSHOT
        (sqlite_error(13), Failure.UNAVAILABLE),  # disk full
        (sqlite_error(11), Failure.DAMAGED),
        (sqlite_error(1, "no such table: state"), Failure.NO_SCHEMA),
        (PostgresqlError("40001"), Failure.ROLLED_BACK),
        (PostgresqlError("40P01"), Failure.ROLLED_BACK),
        (PostgresqlError("57P01"), Failure.UNAVAILABLE),
        (PostgresqlError("53300"), Failure.UNAVAILABLE),
        (PostgresqlError(None), Failure.UNAVAILABLE),
        (PostgresqlError("XX001"), Failure.DAMAGED),
        (pymysql.OperationalError(1213, "said"), Failure.ROLLED_BACK),
        (pymysql.OperationalError(1205, "said"), Failure.ROLLED_BACK),
        (pymysql.OperationalError(2006, "said"), Failure.UNAVAILABLE),
        (pymysql.OperationalError(1040, "said"), Failure.UNAVAILABLE),
    ],
    ids=repr,
)
def test_operational_errors(original: Exception, failure: Failure) -> None:
    assert classify(wrapped(original)) is failure


def of_postgresql(code: str) -> sa.exc.DBAPIError:
    """An error as psycopg2 makes it of this code."""
    error = psycopg2.errors.lookup(code)("said")
    error.__setstate__({"pgcode": code})
    return by_class(error, psycopg2.Error)


def of_mysql(number: int) -> sa.exc.DBAPIError:
    """An error as PyMySQL makes it of a packet with this number."""
    with pytest.raises(pymysql.Error) as caught:
        pymysql.err.raise_mysql_exception(b"\xff" + struct.pack("<H", number) + b"#HY000said")
    return by_class(caught.value, pymysql.Error)


def by_class(original: Exception, root: type[Exception]) -> sa.exc.DBAPIError:
    """Wrap an error as SQLAlchemy does, which goes by its class."""
    error = sa.exc.DBAPIError.instance("SELECT secret", {}, original, root)
    assert isinstance(error, sa.exc.DBAPIError)
    return error


@pytest.mark.parametrize(
    "error",
    [
        *map(
            of_postgresql,
            (
                "53100",  # disk full
                "53200",  # out of memory
                "53300",  # too many connections
                "53400",  # a limit of its configuration
                "25006",  # read-only
                "28P01",  # wrong password
                "28000",  # refused by pg_hba.conf
                "42501",  # permission denied
                "57P01",  # shut down by its operator
                "57P03",  # starting, or recovering
                "58030",  # input/output error
            ),
        ),
        *map(
            of_mysql,
            (
                3,  # error writing a file, such as a full disk
                20,  # disk full, waiting for somebody to free space
                28,  # no space left on device
                1021,  # disk full
                1030,  # an error of the storage engine, such as 28
                1114,  # the table is full
                1037,  # out of memory
                1040,  # too many connections
                1203,  # too many connections of this user
                1044,  # the database may not be used
                1045,  # wrong password
                1142,  # permission denied
                1053,  # shutting down
                1205,  # lock wait time-out
                1290,  # --read-only
                1792,  # read-only transaction
                1836,  # read-only
            ),
        ),
    ],
    ids=lambda error: f"{type(error.orig).__name__}-{getattr(error.orig, 'pgcode', error.orig)}",
)
def test_server_that_cannot_at_the_moment_is_unavailable(error: sa.exc.DBAPIError) -> None:
    """Full, read-only, overloaded or refusing: the client is told to try again, and why."""
    shown = translate(error)
    assert isinstance(shown, errors.Unavailable)
    assert "said" in str(shown)
    assert "SELECT" not in str(shown)


def test_text_shown_is_that_of_the_driver_alone() -> None:
    shown = translate(wrapped(sqlite_error(13, "database or disk is full")))
    assert isinstance(shown, errors.Unavailable)
    assert str(shown) == "The indexer database does not answer: database or disk is full"


def test_defects_of_the_program_pass_as_they_are() -> None:
    error = wrapped(PostgresqlError("42601"), sa.exc.ProgrammingError)
    assert classify(error) is Failure.OTHER
    assert translate(error) is None
    assert translate(sa.exc.InvalidRequestError("misuse")) is None
