"""Connections and transactions of the indexer's database.

Invariants:

* a transaction is either a read, which sees what is committed when it (each of its statements,
  unless it asks for one snapshot) starts, or a write, which is committed whole or not at all;
* SQLite: writes take the write lock before they read, so that two processes never find out at
  the end that they disagree; readers never wait for writers (write-ahead log);
* no connection is used by two processes: a fork leaves the child with an empty pool;
* errors of connections leave as ``errors.Unavailable``, never as those of a driver.

Not done here: queries, and what the schema looks like.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer import patience, upgrade, urls
from gnocchi.indexer.columns import MYSQL
from gnocchi.indexer.failures import Failure, classify, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOG = logging.getLogger(__name__)

T = TypeVar("T")

# Transactions that the database gave up are repeated this often, and no longer than this.
_ATTEMPTS = 20
_PATIENCE_S = 60.0
_LOCK_TIMEOUT_S = 30

#: A server that hears nothing for so long in the middle of a transaction undoes it, and frees its
#: locks: the host behind it was cut off, which takes the network layer hours to find out.
ABANDONED_S = 120


class Database:
    """One database, its pool of connections, and how its dialect differs."""

    def __init__(
        self,
        url: str,
        *,
        sync: bool = True,
        pool_size: int = 5,
        max_overflow: int = 50,
        pool_timeout_s: float = 30.0,
        pool_recycle_s: int = 3600,
        give_up_s: float | None = None,
    ) -> None:
        """Prepare the connections; none is made before the first use.

        Args:
            url: SQLAlchemy URL; a scheme without a driver gets the one this program is tested
                with.
            sync: SQLite only: whether a commit survives loss of power (else it survives only
                the death of processes). Servers have that in their own configuration.
            give_up_s: longest wait for a server that does not answer; no limit by default. It
                is enough for two waits, as a connection may turn out to be dead before another
                one is tried: a single statement gets half of it.

        Raises:
            errors.Misconfigured: the URL cannot be understood or names an unknown database.
        """
        self.url = urls.read(url)
        self.dialect = self.url.get_backend_name()
        self.sqlite = self.dialect == "sqlite"
        self.postgresql = self.dialect == "postgresql"
        self.mysql = self.dialect in MYSQL
        # What modules of this package remember about this database, under their own keys.
        self.memory: dict[str, Any] = {}
        self._sync = sync
        self._give_up_s = give_up_s
        self._engine = self._create_engine(
            pool_size=pool_size,
            max_overflow=max_overflow,
            pool_timeout=self._at_most(pool_timeout_s),
            pool_recycle=-1 if self.sqlite else pool_recycle_s,
        )
        _databases.add(self)
        # Whoever drops it need not close it.
        weakref.finalize(self, self._engine.dispose).atexit = False

    def __repr__(self) -> str:
        return f"<Database {self.url.render_as_string(hide_password=True)}>"

    def _create_engine(self, **pool: Any) -> sa.Engine:
        options: dict[str, Any] = {}
        if self.sqlite:
            # The pool hands a connection to one thread at a time, which is all SQLite asks for.
            options["connect_args"] = {
                "check_same_thread": False,
                "timeout": self._at_most(_LOCK_TIMEOUT_S),
            }
            options["poolclass"] = sa.pool.QueuePool
        else:
            options["pool_pre_ping"] = True
            options["isolation_level"] = "READ COMMITTED"
            options["connect_args"] = patience.connect_args(
                self.url, None if self._give_up_s is None else self._give_up_s / 2
            )
        try:
            engine = sa.create_engine(self.url, **options, **pool)
        except (sa.exc.ArgumentError, ImportError) as error:
            raise errors.Misconfigured(f"[indexer] url cannot be used: {error}") from error
        if self.sqlite:
            sa.event.listen(engine, "connect", self._prepare_sqlite)
        elif self.mysql:
            sa.event.listen(engine, "connect", self._prepare_mysql)
        else:
            sa.event.listen(engine, "connect", self._prepare_postgresql)
        return engine

    def _at_most(self, seconds: float) -> float:
        return seconds if self._give_up_s is None else min(seconds, self._give_up_s)

    def _prepare_sqlite(self, connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin when this class says so
        cursor = connection.cursor()
        if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            _switch_to_wal(cursor)
        cursor.execute(f"PRAGMA synchronous={'FULL' if self._sync else 'NORMAL'}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA journal_size_limit=67108864")
        cursor.execute("PRAGMA cache_size=-16000")
        cursor.close()

    def _prepare_mysql(self, connection: Any, _record: object) -> None:
        # TRADITIONAL: text that is too long is an error, never cut.
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_mode = 'TRADITIONAL'")
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {_LOCK_TIMEOUT_S}")
            # There is no limit for transactions alone; the pool replaces what was closed.
            cursor.execute(f"SET SESSION wait_timeout = {ABANDONED_S}")

    def _prepare_postgresql(self, connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET idle_in_transaction_session_timeout = '{ABANDONED_S}s'")
        connection.commit()

    # ------------------------------------------------------------------ transactions

    @contextlib.contextmanager
    def read(self, *, snapshot: bool = False) -> Iterator[sa.Connection]:
        """Lend a connection for reading; with ``snapshot`` all statements see one moment.

        Raises:
            errors.Unavailable: no connection, or it broke.
        """
        try:
            with self._engine.connect() as connection:
                if snapshot:
                    connection.exec_driver_sql(
                        "BEGIN"
                        if self.sqlite
                        else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
                    )
                yield connection
        except sa.exc.SQLAlchemyError as error:
            self._raise(error)

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Lend a connection for one write transaction, committed at the end of the block.

        Not repeated when the database gives it up; ``run`` does that.

        Raises:
            errors.Unavailable: no connection, it broke, or another transaction was in the way.
                Nothing was written, unless the connection broke during the commit itself.
        """
        try:
            with self._transaction() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            self._raise(error)

    def run(self, function: Callable[[sa.Connection], T]) -> T:
        """Call a function in a write transaction, again if the database rolled it back.

        The function may be called several times and must have no effect but in the database.
        Its errors, and anything it raises that is no failure of the database, roll back.

        Raises:
            errors.Unavailable: as ``write``, after all attempts.
        """
        end = time.monotonic() + self._at_most(_PATIENCE_S)
        for attempt in range(_ATTEMPTS):
            try:
                with self._transaction() as connection:
                    return function(connection)
            except sa.exc.SQLAlchemyError as error:
                last = attempt == _ATTEMPTS - 1 or time.monotonic() > end
                if last or classify(error) is not Failure.ROLLED_BACK:
                    self._raise(error)
            # Both sides of a deadlock would meet again if they waited equally long.
            time.sleep(random.uniform(0.5, 1.0) * min(2.0, 0.005 * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._engine.connect() as connection:
            if self.sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    def _raise(self, error: sa.exc.SQLAlchemyError) -> None:
        translated = translate(error)
        if translated is None:
            raise error
        raise translated from error

    # ------------------------------------------------------------------ schema, end of use

    def upgrade(self) -> None:
        """Bring the schema to the version of this program; may run twice at once.

        Raises:
            errors.Misconfigured: the database holds tables of another program, of the older
                implementation, or of a newer version. Nothing was changed.
            errors.Unavailable: as ``write``.
        """
        upgrade.upgrade(self)

    def check(self) -> None:
        """Make sure that the schema is the one this program was written for.

        Raises:
            errors.Misconfigured: it is not; ``gnocchi-upgrade`` has to run.
        """
        upgrade.check(self)

    def close(self) -> None:
        """Close all idle connections; the next use opens new ones."""
        self._engine.dispose()

    def abandon(self) -> None:
        """Forget all connections without touching them: they belong to the parent process."""
        self._engine.dispose(close=False)


def _switch_to_wal(cursor: Any) -> None:
    """Turn the write-ahead log on, which is remembered in the file.

    SQLite does not wait here by itself when another process is at the same switch.
    """
    end = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            mode = cursor.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            break
        except Exception as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == 5
            if not busy or time.monotonic() > end:
                raise
        time.sleep(0.01)
    if mode != "wal":
        LOG.warning(
            "SQLite keeps journal mode %s: readers will wait for writers. "
            "Is the file on a network file system?",
            mode,
        )


# SQLite must not see a connection on both sides of a fork, not even to close it; and a pool that
# another thread holds locked would stay locked in the child.
_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def _before_fork() -> None:
    for database in list(_databases):
        if database.sqlite:
            database.close()


def _in_child() -> None:
    for database in list(_databases):
        database.abandon()


os.register_at_fork(before=_before_fork, after_in_child=_in_child)
