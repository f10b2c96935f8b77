"""Cleaning up: metrics that were deleted, and objects that nobody names any more."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from gnocchi.engine.process import ORPHAN_GRACE_S
from gnocchi.indexer import catalog, metrics

if TYPE_CHECKING:
    from gnocchi.service import Services

LOG = logging.getLogger(__name__)

# A reader works with a snapshot of the catalog for seconds at the most.
RETIRED_GRACE_S = 300.0
SCRATCH_GRACE_S = 3600.0
BATCH = 1000


def run_once(services: Services) -> None:
    """Expunge deleted metrics, then remove replaced segments and left-overs of failed writes.

    Each step is safe to repeat and to run on several hosts at once.
    """
    expunge(services)
    remove_retired(services)
    remove_orphans(services)
    services.storage.tidy(SCRATCH_GRACE_S)
    services.incoming.tidy(SCRATCH_GRACE_S)


def expunge(services: Services) -> int:
    """Forget deleted metrics, at most ``cleanup_batch_size``; return how many.

    Their waiting measures count as refused when their sack's next round comes, and their stored
    rows are left out by the next merge of their segments: neither can be asked for meanwhile,
    since ids are never used again.
    """
    ids = metrics.deleted(services.db, services.cleanup_batch_size)
    if ids:
        metrics.expunge(services.db, ids)
        LOG.info("Expunged %d deleted metrics", len(ids))
    return len(ids)


def remove_retired(services: Services, grace_s: float = RETIRED_GRACE_S) -> int:
    """Remove segments that were replaced longer ago than any reader can still use them."""
    names = catalog.retired(services.db, time.time() - grace_s)
    for position in range(0, len(names), BATCH):
        batch = names[position : position + BATCH]
        # The object first: if the second step is not reached, the first is repeated.
        services.storage.delete(batch)
        catalog.forget(services.db, batch)
    return len(names)


def remove_orphans(services: Services, grace_s: float = ORPHAN_GRACE_S) -> int:
    """Remove objects of rounds and merges that were never committed."""
    old = [stored.name for stored in services.storage.list() if stored.age_s > grace_s]
    removed = 0
    for position in range(0, len(old), BATCH):
        batch = old[position : position + BATCH]
        orphans = set(batch) - catalog.known(services.db, batch)
        if orphans:
            LOG.info("Removing %d segments that were never committed", len(orphans))
            services.storage.delete(orphans)
            removed += len(orphans)
    return removed
