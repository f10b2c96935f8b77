"""What ``gnocchi-upgrade`` does, in order: indexer, storage, incoming, first archive policies.

Invariants: every step may be repeated, be cut short, and run on several hosts at once. Nothing
that is there is replaced: the number of sacks and the archive policies are those of the first run.
A database with tables of another program is refused before anything is changed.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
from typing import TYPE_CHECKING

from gnocchi import archive_policy, errors, logs, resource_type, service, startup
from gnocchi.indexer import catalog, policies, resource_types

if TYPE_CHECKING:
    from gnocchi.config import Configuration
    from gnocchi.indexer.database import Database

LOG = logging.getLogger(__name__)


def run(conf: Configuration, *, attempts: int) -> None:
    """Create or upgrade everything that is not skipped.

    Args:
        attempts: how often to try to reach a server.

    Raises:
        Misconfigured: something stands in the way that only the operator can move.
        Unavailable: a server did not answer.
    """
    db = service.open_database(conf)
    try:
        if not conf.skip_index:
            LOG.info("Upgrading indexer %s", logs.hide_credentials(conf.indexer.url))
            _make_directory(db)
            startup.until_available(db.upgrade, attempts=1 if db.sqlite else attempts)
        if not conf.skip_storage:
            LOG.info("Upgrading storage %s", _described(conf, "storage"))
            storage = service.load_storage(conf)
            startup.until_available(storage.upgrade, attempts=_patience(conf, "storage", attempts))
        if not conf.skip_incoming:
            LOG.info("Upgrading incoming storage %s", _described(conf, "incoming"))
            sacks = startup.until_available(
                lambda: create_sacks(db, conf.sacks_number), attempts=1 if db.sqlite else attempts
            )
            incoming = service.load_incoming(conf, sacks)
            startup.until_available(
                incoming.upgrade, attempts=_patience(conf, "incoming", attempts)
            )
        if not conf.skip_archive_policies_creation:
            startup.until_available(
                lambda: create_policies(db, conf), attempts=1 if db.sqlite else attempts
            )
        if conf.create_legacy_resource_types:
            startup.until_available(
                lambda: create_legacy_resource_types(db), attempts=1 if db.sqlite else attempts
            )
    finally:
        db.close()


def create_sacks(db: Database, number: int) -> int:
    """Create sacks where there are none; return how many there are."""
    db.check()
    catalog.create_sacks(db, number)
    existing = len(catalog.sacks(db))
    if existing != number:
        LOG.info("There are %d sacks already; their number stays", existing)
    return existing


def create_policies(db: Database, conf: Configuration) -> None:
    """Create the first archive policies and the first rule where there are neither."""
    db.check()
    chosen = archive_policy.default_policies(conf.archive_policy.default_aggregation_methods)
    rule = archive_policy.ArchivePolicyRule(*archive_policy.DEFAULT_RULE)
    if policies.seed(db, chosen, [rule]):
        LOG.info("Created archive policies %s", ", ".join(policy.name for policy in chosen))


def create_legacy_resource_types(db: Database) -> None:
    """Create the resource types of old releases; those that exist are left alone."""
    db.check()
    existing = {kind.name for kind in resource_types.list_(db)}
    for kind in resource_type.LEGACY:
        if kind.name not in existing:
            # another host may be at it too
            with contextlib.suppress(errors.AlreadyExists):
                resource_types.create(db, kind)
                LOG.info("Created resource type %s", kind.name)


def _patience(conf: Configuration, group: str, attempts: int) -> int:
    # A directory that cannot be made now cannot be made in a second either.
    return 1 if conf[group].driver == "file" else attempts


def _described(conf: Configuration, group: str) -> str:
    driver = str(conf[group].driver)
    return f"{driver} {conf[group].file_basepath}" if driver == "file" else driver


def _make_directory(db: Database) -> None:
    """Create the directory of an SQLite file."""
    if not db.sqlite or db.url.database is None:
        return
    try:
        pathlib.Path(db.url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as error:
        raise errors.Misconfigured(f"[indexer] url: {error}") from error
