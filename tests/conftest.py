"""Fixtures that several folders of tests share: servers and empty or upgraded databases.

A server that is not installed is a skip which names what is missing, unless
``TEST_REQUIRE_SERVERS`` is set: then it is a failure. Servers are started once a session; no test
sees rows of another.
"""

from __future__ import annotations

import os
import shutil
import uuid
from typing import TYPE_CHECKING, NoReturn

import pytest
import sqlalchemy as sa

from gnocchi.indexer import tables
from gnocchi.indexer.database import Database
from tests import servers
from tests.servers.coordination import MEMCACHED, memcached_programs

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

DATABASES = ("sqlite", "postgresql", "mariadb")


def require(found: dict[str, str], wanted: tuple[str, ...]) -> None:
    """Skip, or fail where servers are required, unless all programs have been found."""
    missing = [name for name in wanted if name not in found]
    if missing:
        do_without(f"not installed: {', '.join(missing)}")


def do_without(what: str) -> NoReturn:
    """Skip for the reason that something is missing, or fail where servers are required."""
    if os.environ.get("TEST_REQUIRE_SERVERS"):
        pytest.fail(what + " (TEST_REQUIRE_SERVERS is set)")
    pytest.skip(what)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[servers.Server]:
    """A PostgreSQL server for the whole session."""
    require(servers.postgresql_programs(), servers.POSTGRESQL)
    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[servers.Server]:
    """A MariaDB server for the whole session."""
    require(servers.mariadb_programs(), servers.MARIADB)
    with servers.mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def keystone_server() -> Iterator[servers.Server]:
    """A Keystone for the whole session; the first time, it is installed from PyPI."""
    try:
        servers.keystone_programs()
    except servers.ServerError as error:
        do_without(f"Keystone cannot be installed: {error}")
    with servers.keystone() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.RedisServer]:
    """A Redis for the whole session; a test empties it first."""
    require(servers.redis_programs(), servers.REDIS)
    with servers.redis() as server:
        yield server


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[servers.CephServer]:
    """A Ceph for the whole session; a test empties its pool first."""
    require(servers.ceph_programs(), servers.CEPH)
    with servers.ceph() as server:
        yield server


@pytest.fixture(scope="session")
def radosgw_server() -> Iterator[servers.CephServer]:
    """A Ceph with its S3 gateway for the whole session."""
    require(servers.ceph_programs(), servers.RADOSGW)
    with servers.ceph(gateway=True) as server:
        yield server


@pytest.fixture(scope="session")
def swift_server() -> Iterator[servers.SwiftServer]:
    """A Swift for the whole session; the first time, it is installed from PyPI."""
    require(memcached_programs(), MEMCACHED)
    try:
        servers.swift_programs()
    except servers.ServerError as error:
        do_without(f"Swift cannot be installed: {error}")
    with servers.swift() as server:
        yield server


@pytest.fixture(params=DATABASES)
def database_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of database in turn."""
    kind: str = request.param
    return kind


def create_database(server: servers.Server) -> str:
    """Create an empty database on a server and give its URL."""
    name = f"test_{uuid.uuid4().hex}"
    _administrate(server, f"CREATE DATABASE {name}")
    return server.url.rsplit("/", 1)[0] + "/" + name


def drop_database(server: servers.Server, url: str) -> None:
    """Drop a database, also while connections of a pool are open."""
    force = " WITH (FORCE)" if server.url.startswith("postgresql") else ""
    _administrate(server, f"DROP DATABASE {url.rsplit('/', 1)[1]}{force}")


def _administrate(server: servers.Server, statement: str) -> None:
    engine = sa.create_engine(server.url, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


@pytest.fixture
def database_url(
    database_kind: str, request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> Iterator[str]:
    """The URL of a database of its own for the test, without tables."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path}/index.db"
        return
    server: servers.Server = request.getfixturevalue(f"{database_kind}_server")
    url = create_database(server)
    yield url
    drop_database(server, url)


@pytest.fixture(scope="session")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> UpgradedDatabases:
    """One upgraded database of each kind that a test asks for."""
    return UpgradedDatabases(tmp_path_factory.mktemp("upgraded"))


class UpgradedDatabases:
    """Databases whose tables were made once, because making them takes longer than most tests."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._file = directory / "index.db"
        self._urls: dict[str, str] = {}

    def sqlite(self, directory: pathlib.Path) -> str:
        """Give the URL of a copy."""
        if not self._file.exists():
            upgrade(f"sqlite:///{self._file}")
        shutil.copy(self._file, directory / "index.db")
        return f"sqlite:///{directory}/index.db"

    def on(self, kind: str, server: servers.Server) -> str:
        """Give the URL of the one database on that server, emptied."""
        if kind not in self._urls:
            self._urls[kind] = create_database(server)  # it goes when the server does
            upgrade(self._urls[kind])
        empty(self._urls[kind])
        return self._urls[kind]


def upgrade(url: str) -> None:
    """Create the tables."""
    db = Database(url)
    db.upgrade()
    db.close()


def empty(url: str) -> None:
    """Remove every row that a test left."""
    db = Database(url)
    with db.write() as connection:
        for table in reversed(tables.metadata.sorted_tables):
            if table is tables.state:
                connection.execute(table.update().values(value=0))
            elif table is tables.resource_type:
                connection.execute(table.delete().where(table.c.name != tables.GENERIC))
            else:
                connection.execute(table.delete())
        # revisions count from 1 in a fresh database
        if db.postgresql:
            connection.exec_driver_sql("ALTER SEQUENCE resource_history_revision_seq RESTART")
        elif db.mysql:
            connection.exec_driver_sql("ALTER TABLE resource_history AUTO_INCREMENT = 1")
    db.close()


@pytest.fixture
def database(
    database_kind: str,
    upgraded: UpgradedDatabases,
    request: pytest.FixtureRequest,
    tmp_path: pathlib.Path,
) -> Iterator[Database]:
    """An upgraded database as ``gnocchi-upgrade`` leaves it, but without archive policies.

    On servers the tests share it one after the other: a test that changes tables takes
    ``database_url`` and upgrades by itself.
    """
    if database_kind == "sqlite":
        url = upgraded.sqlite(tmp_path)
    else:
        url = upgraded.on(database_kind, request.getfixturevalue(f"{database_kind}_server"))
    db = Database(url)
    try:
        yield db
    finally:
        db.close()
