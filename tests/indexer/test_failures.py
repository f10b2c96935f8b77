"""What errors of the database drivers are taken for."""

from __future__ import annotations

import sqlite3

import psycopg2
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


def test_text_shown_is_that_of_the_driver_alone() -> None:
    shown = translate(wrapped(sqlite_error(13, "database or disk is full")))
    assert isinstance(shown, errors.Unavailable)
    assert str(shown) == "The indexer database does not answer: database or disk is full"


def test_defects_of_the_program_pass_as_they_are() -> None:
    error = wrapped(PostgresqlError("42601"), sa.exc.ProgrammingError)
    assert classify(error) is Failure.OTHER
    assert translate(error) is None
    assert translate(sa.exc.InvalidRequestError("misuse")) is None
