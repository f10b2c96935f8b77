"""The Redis driver, on a single server and on a cluster."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import mock

import pytest
import redis
from redis.connection import Connection

from gnocchi.drivers.redis import RedisIncoming, RedisStorage
from tests import servers
from tests.conformance.incoming import IncomingConformance
from tests.conformance.models import SACKS
from tests.conformance.storage import StorageConformance
from tests.conftest import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOREIGN = {"foreign", "gnocchi", "incoming4-1", "gnocchi-config"}
STEP = 200  # bytes of a request between two places where it can be cut


class Place:
    """A server or a cluster, emptied of everything but the keys of somebody else."""

    def __init__(self, url: str, clients: list[redis.Redis]) -> None:
        self.conf = SimpleNamespace(redis_url=url)
        self.clients = clients
        self.opened: list[Any] = []
        for client in clients:
            client.flushall()
            for name in FOREIGN:
                with contextlib.suppress(redis.ResponseError):  # another node has its slot
                    client.set(name, "of somebody else")

    def keys(self, pattern: bytes) -> Iterator[tuple[redis.Redis, bytes]]:
        for client in self.clients:
            for key in client.keys(pattern):
                yield client, key

    def close(self) -> None:
        """Close connections, and make sure that nobody else's keys were touched."""
        for opened in self.opened:
            opened.disconnect()
        found = {key.decode() for _, key in self.keys(b"*") if not key.startswith(b"gnocchi:")}
        assert found == FOREIGN


class StoragePlace(Place):
    def open(self) -> RedisStorage:
        self.opened.append(RedisStorage(self.conf))
        return self.opened[-1]


class IncomingPlace(Place):
    def open(self, sacks: int = SACKS) -> RedisIncoming:
        self.opened.append(RedisIncoming(self.conf, sacks))
        return self.opened[-1]

    def objects(self) -> list[bytes]:
        found = self.keys(b"gnocchi:{incoming*}:objects")
        return [data for client, key in found for data in client.hvals(key)]

    def change(self, change: Callable[[bytes], bytes]) -> None:
        for client, key in self.keys(b"gnocchi:{incoming*}:objects"):
            for name, data in client.hgetall(key).items():
                client.hset(key, name, change(data))

    def kept(self) -> set[bytes]:
        found = self.keys(b"gnocchi:{incoming*}:damaged")
        return {data for client, key in found for data in client.hvals(key)}

    @contextlib.contextmanager
    def failing(self, call: int) -> Iterator[None]:
        """Cut the connection after a part of what is sent, or before the answer comes.

        No other can be made until the end of the block.
        """
        left = STEP * call
        cut = False
        send, connect = Connection.send_packed_command, Connection.connect

        def send_some(self: Connection, command: Any, check_health: bool = True) -> None:
            nonlocal left, cut
            data = b"".join([command] if isinstance(command, bytes) else command)
            if left >= len(data) + STEP:
                left -= len(data)
                send(self, [data], check_health)
                return
            cut = True
            send(self, [data[:left]], check_health)
            if left >= len(data):
                self.read_response()
            self.disconnect()
            raise redis.ConnectionError("cut")

        def connect_not(self: Connection) -> None:
            if cut:
                raise redis.ConnectionError("cut")
            connect(self)

        with (
            mock.patch.object(Connection, "send_packed_command", send_some),
            mock.patch.object(Connection, "connect", connect_not),
        ):
            yield


def _client(server: servers.RedisServer) -> redis.Redis:
    return redis.Redis(port=server.port, protocol=2)


class OneServer:
    """Fixtures of the tests on one server."""

    @pytest.fixture
    def url(self, redis_server: servers.RedisServer) -> str:
        return redis_server.url

    @pytest.fixture
    def nodes(self, redis_server: servers.RedisServer) -> Iterator[list[redis.Redis]]:
        with _client(redis_server) as client:
            yield [client]


@pytest.fixture(scope="module")
def cluster_nodes() -> Iterator[list[servers.RedisServer]]:
    require(servers.redis_programs(), servers.REDIS)
    with servers.redis_cluster() as running:
        yield running


class Cluster:
    """Fixtures of the tests on a cluster."""

    @pytest.fixture
    def url(self, cluster_nodes: list[servers.RedisServer]) -> str:
        return f"{cluster_nodes[0].url}?cluster=true"

    @pytest.fixture
    def nodes(self, cluster_nodes: list[servers.RedisServer]) -> Iterator[list[redis.Redis]]:
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(_client(node)) for node in cluster_nodes]


class StoragePlaces:
    """Where segments are put."""

    @pytest.fixture
    def new_place(self, url: str, nodes: list[redis.Redis]) -> Iterator[Callable[[], StoragePlace]]:
        yield from _places(StoragePlace, url, nodes)

    @pytest.fixture
    def place(self, new_place: Callable[[], StoragePlace]) -> StoragePlace:
        return new_place()


class IncomingPlaces:
    """Where points wait."""

    @pytest.fixture
    def new_place(
        self, url: str, nodes: list[redis.Redis]
    ) -> Iterator[Callable[[], IncomingPlace]]:
        yield from _places(IncomingPlace, url, nodes)

    @pytest.fixture
    def place(self, new_place: Callable[[], IncomingPlace]) -> IncomingPlace:
        return new_place()


def _places(kind: Any, url: str, nodes: list[redis.Redis]) -> Iterator[Callable[[], Any]]:
    """Make places one after the other: each empties the server."""
    made: list[Place] = []

    def make() -> Place:
        if made:
            made.pop().close()
        made.append(kind(url, nodes))
        return made[-1]

    yield make
    made.pop().close()


class TestRedisStorage(OneServer, StoragePlaces, StorageConformance):
    """One server."""


class TestRedisIncoming(OneServer, IncomingPlaces, IncomingConformance):
    """One server."""


class TestClusterStorage(Cluster, StoragePlaces, StorageConformance):
    """Three nodes."""

    examples: ClassVar[int] = 10


class TestClusterIncoming(Cluster, IncomingPlaces, IncomingConformance):
    """Three nodes."""

    examples: ClassVar[int] = 10
