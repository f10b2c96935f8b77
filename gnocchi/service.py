"""Puts the parts together: the only place that loads drivers and reads the whole configuration."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stevedore import driver as stevedore_driver
from stevedore.exception import NoMatches

from gnocchi import errors
from gnocchi.engine.identities import Identities, Policies
from gnocchi.engine.reader import Reader
from gnocchi.indexer import catalog, damage
from gnocchi.indexer.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable

    from gnocchi.config import Configuration
    from gnocchi.incoming import Incoming
    from gnocchi.storage import Storage

LOG = logging.getLogger(__name__)


def _no_members() -> dict[str, dict[str, Any]] | None:
    return None


@dataclass
class Services:
    """What the use cases work with. One a process; safe for threads."""

    conf: Configuration
    db: Database
    storage: Storage
    incoming: Incoming
    cache_bytes: int = 64 << 20
    parallel_operations: int = 1
    max_points_per_round: int = 300_000
    compaction_fan_in: int = 8
    cleanup_batch_size: int = 10_000
    #: Makes the incoming store as it is with another number of sacks.
    divided: Callable[[int], Incoming] | None = None
    #: The processing workers and their statistics, None where membership is not known.
    members: Callable[[], dict[str, dict[str, Any]] | None] = _no_members
    reader: Reader = field(init=False)
    identities: Identities = field(init=False)
    policies: Policies = field(init=False)

    def __post_init__(self) -> None:
        self.reader = Reader(
            self.db, self.storage, self.damaged, self.cache_bytes, self.parallel_operations
        )
        self.identities = Identities(self.db)
        self.policies = Policies(self.db)
        self._reported: set[str] = set()

    @property
    def sacks(self) -> int:
        """How many sacks the incoming measures are divided into."""
        return self.incoming.sacks

    def follow(self, sacks: int) -> bool:
        """Divide the incoming measures as the catalog does now; return whether that is new.

        Args:
            sacks: what the catalog says, 0 if it says nothing.
        """
        if self.divided is None or sacks in (0, self.incoming.sacks):
            return False
        LOG.info("Incoming measures are divided into %d sacks from now on", sacks)
        self.incoming = self.divided(sacks)
        return True

    def damaged(self, name: str, reason: str) -> None:
        """Note that an object failed its checksum: once in the log, and for the status."""
        if name in self._reported:
            return
        if damage.report(self.db, name, reason):
            LOG.error("%s is damaged and has been set aside: %s", name, reason)
        self._reported.add(name)

    def damaged_segments(self) -> frozenset[str]:
        """Names of the objects that failed their checksum so far, in any process."""
        return damage.names(self.db)


def load(group: str, name: str, conf: Any, *args: Any) -> Any:
    """Load a driver by its entry point.

    Raises:
        Misconfigured: there is no such driver, or a module that it needs is missing.
    """
    kind = group.rpartition(".")[2]
    try:
        manager = stevedore_driver.DriverManager(group, name, on_load_failure_callback=_reraise)
    except NoMatches:
        raise errors.Misconfigured(f"[{kind}] driver: there is no driver named {name!r}") from None
    except ImportError as e:
        raise errors.Misconfigured(
            f"[{kind}] driver: {name!r} needs a module that is missing: {e}"
        ) from e
    return manager.driver(conf, *args)


def _reraise(_manager: Any, _entry_point: Any, error: BaseException) -> None:
    raise error


def load_storage(conf: Configuration, give_up_s: float | None = None) -> Storage:
    """The storage that the configuration names; nothing is connected or created yet.

    Args:
        give_up_s: longest wait for an operation, if the driver's options allow for more.
    """
    storage: Storage = load("gnocchi.storage", conf.storage.driver, conf.storage)
    if give_up_s is not None:
        storage.give_up_after(give_up_s)
    return storage


def load_incoming(conf: Configuration, sacks: int, give_up_s: float | None = None) -> Incoming:
    """The incoming store that the configuration names, divided into ``sacks``.

    Args:
        give_up_s: as for `load_storage`.
    """
    incoming: Incoming = load("gnocchi.incoming", conf.incoming.driver, conf.incoming, sacks)
    if give_up_s is not None:
        incoming.give_up_after(give_up_s)
    return incoming


#: A daemon gives a database server up that does not answer for so long.
DATABASE_S = 60.0


def open_database(conf: Configuration, give_up_s: float | None = None) -> Database:
    """The indexer's database; connections are made when they are needed."""
    return Database(
        conf.indexer.url,
        sync=conf.storage.file_sync,
        pool_size=conf.database.max_pool_size,
        max_overflow=conf.database.max_overflow,
        pool_recycle_s=conf.database.connection_recycle_time,
        give_up_s=give_up_s,
    )


def connect(
    conf: Configuration, cache_bytes: int | None = None, give_up_s: float | None = None
) -> Services:
    """Build the services from the configuration.

    Args:
        cache_bytes: size of the read cache; ``[storage] cache_size`` by default.
        give_up_s: longest wait for a backend that does not answer. By default as the drivers'
            options say, and `DATABASE_S` for the indexer's database.

    Raises:
        Misconfigured: a driver does not exist, or `gnocchi-upgrade` has not been run.
        Unavailable: a backend does not answer; trying again later may help.
    """
    db = open_database(conf, DATABASE_S if give_up_s is None else give_up_s)
    db.check()
    sacks = len(catalog.sacks(db))
    if not sacks:
        raise errors.Misconfigured("There are no sacks yet: run gnocchi-upgrade")
    return Services(
        conf,
        db,
        load_storage(conf, give_up_s),
        load_incoming(conf, sacks, give_up_s),
        cache_bytes=conf.storage.cache_size << 20 if cache_bytes is None else cache_bytes,
        parallel_operations=conf.parallel_operations,
        max_points_per_round=conf.metricd.max_points_per_round,
        compaction_fan_in=conf.metricd.compaction_fan_in,
        cleanup_batch_size=conf.metricd.cleanup_batch_size,
        divided=lambda number: load_incoming(conf, number, give_up_s),
    )
