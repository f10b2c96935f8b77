"""Who a metric belongs to and which archive policy it follows, remembered between requests.

A metric's creator and policy never change, so what is known stays true until the metric is
deleted; the catalog's count of deletions says when to forget. Absence is never remembered.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from gnocchi.indexer import metrics, policies

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gnocchi.archive_policy import ArchivePolicy
    from gnocchi.indexer.catalog import State
    from gnocchi.indexer.database import Database

Identity = tuple[str | None, str]  # creator, name of the archive policy


class Identities:
    """Identities by raw id, as of a state of the catalog. Safe for threads.

    Args:
        limit: how many metrics are remembered at the most (about 200 bytes each).
    """

    def __init__(self, db: Database, limit: int = 500_000) -> None:
        self._db = db
        self._limit = limit
        self._lock = threading.Lock()
        self._deletions = -1
        self._known: dict[bytes, Identity] = {}

    def of(self, ids: Iterable[bytes], state: State) -> dict[bytes, Identity]:
        """Identities of the metrics that exist; the others are left out.

        Args:
            state: read from the catalog before, in the same request or round.
        """
        with self._lock:
            if state.deletions != self._deletions:
                self._known, self._deletions = {}, state.deletions
            known = self._known
        missing = [i for i in ids if i not in known]
        if missing:
            found = metrics.identities(self._db, missing)
            if len(known) + len(found) > self._limit:
                # Starting over costs one statement per request for a while, and no bookkeeping
                # per look-up.
                known = {i: known[i] for i in ids if i in known}
                with self._lock:
                    if state.deletions == self._deletions:
                        self._known = known
            known.update(found)
        return known


class Policies:
    """All archive policies by name, as of a state of the catalog. Safe for threads."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._version = -1
        self._known: dict[str, ArchivePolicy] = {}

    def by_name(self, state: State) -> dict[str, ArchivePolicy]:
        """The archive policies by name."""
        if state.policies != self._version:
            self._known = {policy.name: policy for policy in policies.all(self._db)}
            self._version = state.policies
        return self._known
