"""Reads the URL of a database: everything in it that can be found wrong beforehand.

Invariants: what is returned names a database of a kind this program knows, with the driver it is
tested with where the operator names none, options that this driver has, and files that are there.
No error shows a part of the URL that could be a secret: a password with a character that should
have been percent-encoded ends up in any of its parts.

Nothing is connected here.
"""

from __future__ import annotations

import importlib
import inspect
import os
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer.columns import MYSQL

if TYPE_CHECKING:
    from collections.abc import Mapping

# SQLAlchemy 2.0 and 2.1 disagree about the driver behind a bare scheme, so it is written out.
_DRIVERS = {
    "postgresql": "postgresql+psycopg2",
    "postgres": "postgresql+psycopg2",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "sqlite": "sqlite+pysqlite",
}

INDEXER_URL = "[indexer] url"

_ENCODE = "special characters in the user and the password must be percent-encoded"

#: Options of the drivers that name a file which has to be there.
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "ssl_ca", "ssl_cert", "ssl_key")
_SYSTEM = "system"  # sslrootcert: those the machine trusts


def read(url: str, option: str = INDEXER_URL) -> sa.URL:
    """Read a URL and complete it.

    Args:
        option: where it comes from, for the errors.

    Raises:
        errors.Misconfigured: it cannot be understood, names an unknown kind of database or option,
            or a file that cannot be read.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise errors.Misconfigured(f"{option} is not a database URL") from None
    except ValueError:  # its text would show what follows a colon, which may be of the password
        raise errors.Misconfigured(f"{option}: the port is no number; {_ENCODE}") from None
    parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql", *MYSQL):
        raise errors.Misconfigured(
            f"{option}: {backend} is not one of sqlite, postgresql, mysql, mariadb"
        )
    if backend == "sqlite":
        return _with_path(parsed, option)
    if "@" in f"{parsed.host}{parsed.database}":
        raise errors.Misconfigured(f"{option}: has an @ out of place; {_ENCODE}")
    _check_options(parsed, option)
    return parsed


def _with_path(url: sa.URL, option: str) -> sa.URL:
    if not url.database or url.database == ":memory:":
        raise errors.Misconfigured(
            f"{option}: SQLite in memory cannot be shared by processes; name a file"
        )
    if url.database.startswith("file:"):
        return url
    # Daemons change their directory after the configuration has been read.
    return url.set(database=os.path.abspath(url.database))


def _check_options(url: sa.URL, option: str) -> None:
    """Refuse options that the driver does not have, or that name files which are not there.

    The driver would find out with each connection, and make it look like an absent server.
    """
    for name in _FILES:
        path = url.query.get(name)
        if path in (None, _SYSTEM) or (isinstance(path, str) and os.access(path, os.R_OK)):
            continue
        raise errors.Misconfigured(f"{option}: {name}: {path} cannot be read")
    try:
        dialect = url.get_dialect()()
        _, named = dialect.create_connect_args(url)
        _accept(url.get_driver_name(), named)
    except (sa.exc.ArgumentError, ImportError) as error:
        raise errors.Misconfigured(f"{option} cannot be used: {error}") from None
    except (TypeError, ValueError):
        raise errors.Misconfigured(
            f"{option}: an option behind the ? is none of {url.get_driver_name()}, or has no "
            f"valid value; {_ENCODE}"
        ) from None


def _accept(driver: str, named: Mapping[str, Any]) -> None:
    """Let a driver look at its arguments, as far as it can without connecting.

    Raises:
        ValueError, TypeError: it does not accept them.
    """
    if driver == "psycopg2":
        import psycopg2
        from psycopg2 import extensions

        try:
            extensions.make_dsn(**named)
        except psycopg2.ProgrammingError as error:
            raise ValueError("not accepted") from error
    elif driver == "pymysql":
        connections = importlib.import_module("pymysql.connections")
        inspect.signature(connections.Connection).bind(**named)
