"""Locks in a database, for workers that have nothing better to find one another by.

Invariants: a lock is a connection of its own, and free the moment that connection ends. The URL is
read as that of the indexer, so what it says about TLS and time-outs holds here too. Databases know
no groups: whatever is about them raises `NotImplementedError`.

The methods are those of tooz that `gnocchi.coordination` calls.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NoReturn

import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer import patience, urls
from gnocchi.indexer.columns import MYSQL

if TYPE_CHECKING:
    from collections.abc import Callable

#: The URLs that this module understands begin so.
SCHEMES = ("postgresql", "postgres", *MYSQL)
#: Longest wait for an answer: taking a lock does not wait for its holder.
ANSWER_S = 30.0


class Locks:
    """The locks of one database. Threads may share it, processes must not."""

    requires_beating = False

    def __init__(self, url: str) -> None:
        """Prepare connections; none is made before the first use.

        Raises:
            errors.Misconfigured: the URL cannot be used.
        """
        parsed = urls.read(url, "coordination_url")
        self._engine = sa.create_engine(
            parsed,
            poolclass=sa.pool.NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args=patience.connect_args(parsed, ANSWER_S),
        )
        self._mysql = parsed.get_backend_name() in MYSQL

    def start(self, *, start_heart: bool = False) -> None:
        """Make sure that the database can be reached."""
        del start_heart  # connections need none
        connect(self._engine).close()

    def stop(self) -> None:
        """Nothing is left to be closed: connections end with their locks."""
        self._engine.dispose()

    def get_lock(self, name: bytes) -> Lock:
        """The lock of that name."""
        return Lock(self._engine, _take_mysql if self._mysql else _take_postgresql, name)

    def _without_groups(self, *_: Any) -> NoReturn:
        raise NotImplementedError("databases know no groups")

    join_group_create = get_members = update_capabilities = _without_groups


class Lock:
    """One lock; not to be used by two threads at once."""

    def __init__(
        self, engine: sa.Engine, take: Callable[[sa.Connection, bytes], bool], name: bytes
    ) -> None:
        self._engine = engine
        self._take = take
        self._name = name
        self._connection: sa.Connection | None = None

    def acquire(self, *, blocking: bool = False) -> bool:
        """Take the lock if it is free; ``blocking`` is not offered."""
        if blocking:
            raise NotImplementedError("locks are not waited for")
        connection = connect(self._engine)
        try:
            if self._take(connection, self._name):
                self._connection = connection
                return True
        except sa.exc.SQLAlchemyError as error:
            raise _unavailable(error) from error
        finally:
            if self._connection is None:
                connection.close()
        return False

    def release(self) -> None:
        """Free the lock."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()


def connect(engine: sa.Engine) -> sa.Connection:
    """A new connection.

    Raises:
        errors.Unavailable: there is none to be had.
    """
    try:
        return engine.connect()
    except sa.exc.SQLAlchemyError as error:
        raise _unavailable(error) from error


def _unavailable(error: sa.exc.SQLAlchemyError) -> errors.Unavailable:
    # The driver's own words, which name no password
    return errors.Unavailable(str(getattr(error, "orig", None) or error).strip())


def _take_postgresql(connection: sa.Connection, name: bytes) -> bool:
    # A lock is a number of 64 bits, and belongs to the database.
    digest = hashlib.sha1(name, usedforsecurity=False).digest()
    key = int.from_bytes(digest[:8], "big", signed=True)
    return bool(connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))))


def _take_mysql(connection: sa.Connection, name: bytes) -> bool:
    # A lock is a text of at most 64 characters, and belongs to the whole server.
    own = f"{connection.engine.url.database} ".encode() + name
    key = hashlib.sha1(own, usedforsecurity=False).hexdigest()
    return bool(connection.scalar(sa.select(sa.func.get_lock(key, 0))))
