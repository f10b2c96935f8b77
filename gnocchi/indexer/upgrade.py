"""Create and upgrade the schema, and refuse databases that belong to somebody else.

The version is kept in a table of our own name, so that neither the older implementation's
database nor that of another program that uses the same migration tool is ever mistaken for ours.
"""

from __future__ import annotations

import contextlib
import pathlib
from typing import TYPE_CHECKING

import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.config import Config
    from alembic.script import ScriptDirectory

    from gnocchi.indexer.database import Database

VERSION_TABLE = "gnocchi_schema"
#: The last revision, written here too: daemons look at it, and loading alembic to find it out would
#: cost each of their processes some megabytes.
HEAD = "b7d20f3a"

_LOCK_TIMEOUT_S = 300
# An arbitrary number for PostgreSQL's advisory locks: "gnocchi!" as eight bytes.
_LOCK_NUMBER = int.from_bytes(b"gnocchi!", "big")


def upgrade(db: Database) -> None:
    """See ``Database.upgrade``."""
    # Imported late: the daemons' start never needs the migration tool's own start-up time.
    from alembic import command

    with db.write() as connection, _exclusive(db, connection):
        names = set(sa.inspect(connection).get_table_names())
        heads = _heads(connection, names)
        config, script = _alembic(connection, transactional=not db.mysql)
        if VERSION_TABLE not in names:
            _refuse_foreign(names)
            _refuse_encoding(db, connection)
        elif heads == (script.get_current_head(),):
            return
        elif not heads:
            _drop_leftovers(db, connection)
        else:
            _refuse_unknown(heads, script)
        command.upgrade(config, "head")


def check(db: Database) -> None:
    """See ``Database.check``."""
    with db.read() as connection:
        heads = _heads(connection, set(sa.inspect(connection).get_table_names()))
    if heads != (HEAD,):
        raise errors.Misconfigured(
            "The schema of the indexer database is not that of this version: run gnocchi-upgrade"
        )


def _alembic(connection: sa.Connection, *, transactional: bool) -> tuple[Config, ScriptDirectory]:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option(
        "script_location", str(pathlib.Path(__file__).with_name("alembic")).replace("%", "%%")
    )
    config.set_main_option("path_separator", "os")
    config.attributes.update(
        connection=connection, version_table=VERSION_TABLE, transactional=transactional
    )
    return config, ScriptDirectory.from_config(config)


def _heads(connection: sa.Connection, names: set[str]) -> tuple[str, ...]:
    if VERSION_TABLE not in names:
        return ()
    version = sa.table(VERSION_TABLE, sa.column("version_num", sa.String))
    return tuple(connection.execute(sa.select(version.c.version_num)).scalars())


@contextlib.contextmanager
def _exclusive(db: Database, connection: sa.Connection) -> Iterator[None]:
    """Keep a second upgrade of the same database waiting.

    On SQLite the write transaction itself does; PostgreSQL's lock ends with the transaction;
    MySQL commits at every change of a table, so there the lock belongs to the connection.
    """
    if db.postgresql:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_NUMBER)))
    if not db.mysql:
        yield
        return
    name = sa.func.concat("gnocchi upgrade ", sa.func.left(sa.func.sha1(sa.func.database()), 40))
    if connection.execute(sa.select(sa.func.get_lock(name, _LOCK_TIMEOUT_S))).scalar() != 1:
        raise errors.Unavailable("Another upgrade of the indexer database does not come to an end")
    try:
        yield
        connection.commit()
    finally:
        connection.execute(sa.select(sa.func.release_lock(name)))


def _refuse_foreign(names: set[str]) -> None:
    if names:
        shown = ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")
        raise errors.Misconfigured(
            "The indexer database holds tables that this program did not make, of another program "
            f"or of the older implementation: {shown}. Nothing was changed; give it an empty "
            "database."
        )


def _refuse_unknown(heads: tuple[str, ...], script: ScriptDirectory) -> None:
    known = {revision.revision for revision in script.walk_revisions()}
    unknown = sorted(set(heads) - known)
    if unknown:
        raise errors.Misconfigured(
            f"The schema of the indexer database has version {', '.join(unknown)}, which this "
            "version does not know. Nothing was changed; was it upgraded by a newer version?"
        )


def _refuse_encoding(db: Database, connection: sa.Connection) -> None:
    if db.postgresql:
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
        if encoding != "UTF8":
            raise errors.Misconfigured(
                f"The indexer database has encoding {encoding}, which cannot hold every name; "
                "create it with ENCODING 'UTF8'"
            )


def _drop_leftovers(db: Database, connection: sa.Connection) -> None:
    """Clear what a first upgrade left behind that was killed half-way.

    Only MySQL can show this, where creating a table cannot be rolled back. The version table is
    ours and names no version, so nobody can have stored anything in the others: ``check`` kept
    every process out.
    """
    if db.mysql:
        tables.metadata.drop_all(connection)
