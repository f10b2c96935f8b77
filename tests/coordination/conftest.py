"""The servers workers may coordinate through."""

from __future__ import annotations

import gc
import warnings
from typing import TYPE_CHECKING

import pytest

from tests.conftest import create_database, drop_database, require
from tests.servers import coordination as servers

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from tests.servers import Server


@pytest.fixture(autouse=True)
def unclosed_sockets() -> Iterator[None]:
    """Libraries behind tooz leave sockets to the garbage collector, which blames later tests."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[Server]:
    """A memcached for the whole session."""
    require(servers.memcached_programs(), servers.MEMCACHED)
    with servers.memcached() as server:
        yield server


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[Server]:
    """An etcd for the whole session."""
    require(servers.etcd_programs(), servers.ETCD)
    with servers.etcd() as server:
        yield server


@pytest.fixture(scope="session")
def zookeeper_server() -> Iterator[Server]:
    """A ZooKeeper for the whole session."""
    require(servers.zookeeper_programs(), servers.ZOOKEEPER)
    with servers.zookeeper() as server:
        yield server


def plain(url: str) -> str:
    """A database's URL as tooz takes it: without the name of the library."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}://{rest}"


@pytest.fixture
def where(kind: str, request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[str]:
    """The coordination URL of a kind of server; of a database of its own with SQL."""
    if kind == "file":
        yield f"file://{tmp_path}/coordination"
        return
    server: Server = request.getfixturevalue(f"{kind}_server")
    if kind in ("postgresql", "mariadb"):
        url = create_database(server)
        yield plain(url)
        drop_database(server, url)
    else:
        yield server.url
