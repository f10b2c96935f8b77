"""Combinations of an indexer, a storage and a place for incoming measures, on real servers.

A combination has a name, such as ``postgresql+s3+redis``: database, storage, and incoming measures
where they are elsewhere. `of_its_own` gives a test all options of one, on stores that nobody else
uses; `Shared` gives drivers that a session has made once, emptied, because connecting and making
containers takes longer than most tests.

Coordination is never configured here: it is where the other options put it.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from gnocchi import config, service
from tests import servers
from tests.conftest import create_database, drop_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gnocchi.incoming import Incoming
    from gnocchi.storage import Storage
    from tests.servers import CephServer, RedisServer, SwiftServer

#: What the whole system is tested on.
COMBINATIONS = (
    "sqlite+file",
    "postgresql+ceph",
    "mariadb+swift",
    "postgresql+s3+redis",
    "postgresql+redis",
)
#: More than wait in any test.
EVERYTHING = 1 << 40

Options = dict[str, dict[str, object]]


class Combination(NamedTuple):
    """The three parts, by the names that they have in options."""

    database: str
    storage: str
    incoming: str

    @classmethod
    def parse(cls, name: str) -> Combination:
        """Read a name; incoming measures are where the segments are unless it says otherwise."""
        database, storage, *incoming = name.split("+")
        return cls(database, storage, *incoming or [storage])


#: The fixtures of `tests.conftest` that are behind drivers; ``file`` has none.
FIXTURES = {
    "ceph": "ceph_server",
    "redis": "redis_server",
    "s3": "radosgw_server",
    "swift": "swift_server",
}


# ------------------------------------------------------------------ options of drivers


def redis_options(server: RedisServer, **more: object) -> dict[str, object]:
    """Everything in the one database of a server; ``more`` goes into the URL."""
    query = "&".join(f"{name}={value}" for name, value in more.items())
    return {"redis_url": f"{server.url}/?{query}" if query else server.url}


def ceph_options(server: CephServer, **more: object) -> dict[str, object]:
    """Everything in the one pool of a cluster."""
    return {
        "ceph_pool": server.pool,
        "ceph_username": server.user,
        "ceph_secret": server.secret,
        "ceph_conffile": server.configuration,
        **more,
    }


def s3_options(server: CephServer, prefix: str, **more: object) -> dict[str, object]:
    """Buckets with that prefix."""
    access_key, secret_key = servers.S3_KEYS
    return {
        "s3_endpoint_url": server.s3_url,
        "s3_access_key_id": access_key,
        "s3_secret_access_key": secret_key,
        "s3_bucket_prefix": prefix,
        **more,
    }


def swift_options(server: SwiftServer, prefix: str, **more: object) -> dict[str, object]:
    """Containers with that prefix."""
    return {
        "swift_authurl": server.auth_url,
        "swift_user": servers.SWIFT_USER,
        "swift_key": servers.SWIFT_KEY,
        "swift_container_prefix": prefix,
        "swift_container_prefix_all": True,
        **more,
    }


def driver_options(kind: str, server: Any, **more: object) -> dict[str, object]:
    """The options of any driver, on stores that nobody has used unless there is but one."""
    prefix = f"t{uuid.uuid4().hex[:16]}"
    match kind:
        case "redis":
            return redis_options(server, **more)
        case "ceph":
            return ceph_options(server, **more)
        case "s3":
            return s3_options(server, prefix, **more)
        case "swift":
            return swift_options(server, prefix, **more)
    raise ValueError(kind)


def groups(
    combination: Combination, url: str | None, options: dict[str, dict[str, object]]
) -> Options:
    """The groups of a configuration.

    Args:
        url: of the database; None leaves it to the default, which is SQLite beside the files.
        options: of each driver other than ``file``.
    """
    indexer: Options = {} if url is None else {"indexer": {"url": url}}
    return {
        **indexer,
        "storage": {"driver": combination.storage, **options.get(combination.storage, {})},
        "incoming": {"driver": combination.incoming, **options.get(combination.incoming, {})},
    }


# ------------------------------------------------------------------ for one test


def empty_redis(server: RedisServer) -> None:
    """Remove everything."""
    server.cli("flushall")


def empty_ceph(server: CephServer) -> None:
    """Remove everything from the pool."""
    rados = servers.programs("rados")["rados"]
    administrator = [rados, "-c", str(server.configuration), "purge", server.pool]
    server.box.run(*administrator, "--yes-i-really-really-mean-it")


@contextlib.contextmanager
def of_its_own(name: str, fixture: Callable[[str], Any]) -> Iterator[Options]:
    """The options of a combination, with a database and stores in which there is nothing.

    Args:
        fixture: gives the value of a fixture by name, as ``request.getfixturevalue`` does.
    """
    combination = Combination.parse(name)
    options: dict[str, dict[str, object]] = {}
    for kind in {combination.storage, combination.incoming} - {"file"}:
        server = fixture(FIXTURES[kind])
        if kind == "redis":
            empty_redis(server)
        elif kind == "ceph":
            empty_ceph(server)
        options[kind] = driver_options(kind, server)
    if combination.database == "sqlite":
        yield groups(combination, None, options)
        return
    server = fixture(f"{combination.database}_server")
    url = create_database(server)
    try:
        yield groups(combination, url, options)
    finally:
        drop_database(server, url)


# ------------------------------------------------------------------ for many tests


class Stores(NamedTuple):
    """Drivers that work."""

    storage: Storage
    incoming: Incoming


class Shared:
    """Drivers of a session, by the names of their combinations.

    A test gets them with nothing waiting. Segments of earlier tests stay: their names are in no
    database any more.
    """

    def __init__(self, sacks: int) -> None:
        self._sacks = sacks
        self._made: dict[tuple[str, str], Stores] = {}

    def stores(self, name: str, fixture: Callable[[str], Any]) -> Stores:
        """The drivers of a combination whose storage is not ``file``."""
        combination = Combination.parse(name)
        kinds = (combination.storage, combination.incoming)
        if kinds not in self._made:
            self._made[kinds] = self._make(combination, fixture)
        found = self._made[kinds]
        while (taken := found.incoming.take(range(self._sacks), EVERYTHING)).receipt:
            found.incoming.discard(taken)
        return found

    def close(self) -> None:
        """Close connections that would else be closed by chance."""
        for stores in self._made.values():
            for driver in stores:
                if hasattr(driver, "disconnect"):
                    driver.disconnect()

    def _make(self, combination: Combination, fixture: Callable[[str], Any]) -> Stores:
        options = {
            kind: driver_options(kind, fixture(FIXTURES[kind]))
            for kind in {combination.storage, combination.incoming}
        }
        conf = config.prepare([], "tests", files=[], middleware=False)
        for group, values in groups(combination, None, options).items():
            for option, value in values.items():
                conf.set_override(option, value, group=group)
        storage = service.load_storage(conf)
        incoming = service.load_incoming(conf, self._sacks)
        storage.upgrade()
        incoming.upgrade()
        return Stores(storage, incoming)
