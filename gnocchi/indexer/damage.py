"""Objects that failed their checksum: what was found, by any process, since the beginning."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import sqlalchemy as sa

from gnocchi.indexer.tables import damage as _damage

if TYPE_CHECKING:
    from gnocchi.indexer.database import Database

_LENGTH = 255


def report(db: Database, name: str, reason: str) -> bool:
    """Note a damaged object; True if it was not known yet."""
    name, reason = name[:_LENGTH], reason[:_LENGTH]

    def work(connection: sa.Connection) -> bool:
        known = sa.select(_damage.c.name).where(_damage.c.name == name)
        if connection.execute(known).first() is not None:
            return False
        connection.execute(
            _damage.insert().values(name=name, reason=reason, found_at=time.time_ns())
        )
        return True

    try:
        return db.run(work)
    except sa.exc.IntegrityError:
        # another process has just found it
        return False


def names(db: Database) -> frozenset[str]:
    """The names of all damaged objects."""
    with db.read() as connection:
        return frozenset(connection.execute(sa.select(_damage.c.name)).scalars())


def count(db: Database) -> int:
    """How many objects are damaged."""
    with db.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(_damage)).scalar_one())
