"""Transactions that break a constraint because of what somebody else has stored.

The database says which constraint, in words of its own; which row it was, and so what to tell the
caller, is found by looking. What is to be seen then may be gone again: the transaction is
repeated, for it may succeed now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer.failures import classify

if TYPE_CHECKING:
    from collections.abc import Callable

    from gnocchi.indexer.database import Database
    from gnocchi.indexer.failures import Failure

T = TypeVar("T")

_ATTEMPTS = 10


def run(
    db: Database,
    function: Callable[[sa.Connection], T],
    explain: Callable[[Failure], Exception | None],
) -> T:
    """Call a function in a write transaction, as ``Database.run``.

    Args:
        explain: looks for what broke a constraint of this kind; ``None`` if nothing is there.

    Raises:
        What ``explain`` returns. Nothing was changed.
        errors.Unavailable: there was no explanation, several times.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return db.run(function)
        except sa.exc.IntegrityError as error:
            found = explain(classify(error))
            if found is not None:
                raise found from error
            if attempt == _ATTEMPTS:
                text = f"The indexer database is too busy with the same rows: {error.orig}"
                raise errors.Unavailable(text) from error
