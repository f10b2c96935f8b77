"""The installed commands under load while one of the servers behind them has no space left.

Clients are told in time that nothing was stored, or it was: the books are right at the end. When
there is space again, work goes on without anybody's help but that of whoever starts a server that
ended for want of space.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests import backends, servers
from tests.acceptance import processes
from tests.acceptance.client import Lost
from tests.acceptance.ledger import (
    POLICY,
    UNCERTAIN,
    Failure,
    Stopping,
    Watcher,
    Writer,
    at_work,
    balance,
    create_metrics,
)
from tests.backends import Combination
from tests.conftest import create_database, do_without, require
from tests.faults.system import (
    OPTIONS,
    Outage,
    check_told,
    processing_goes_on,
    report,
    require_swift,
    work_is_under_way,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.acceptance.client import Client
    from tests.acceptance.processes import Installation
    from tests.servers import Disk, RedisServer, Restartable

FULL_S = 2.0  # after somebody has been told
NOTICED_S = 60.0  # until somebody is: there may be room in files that are there
REVIVED_S = 60.0

#: What runs full in which combination, one after the other.
VICTIMS = {
    "sqlite+file": ("file",),
    "postgresql+ceph": ("ceph",),
    "mariadb+swift": ("mariadb", "swift"),
    "postgresql+s3": ("s3", "postgresql"),
    "postgresql+redis": ("postgresql", "redis"),
}
#: Where PostgreSQL has space for its tables, and none for its write-ahead log: then it ends.
LOG_ALONE = "postgresql+s3"
#: In MiB, of their disks: more than they take, so that nothing is full before its time.
SIZES = {
    "file": 128,
    "log": 128,
    "mariadb": 384,
    "postgresql": 384,
    "redis": 256,
    "swift": 256,
}


# ------------------------------------------------------------------ what runs full


@dataclass
class Room:
    """A server, and its space.

    Attributes:
        server: to make options of; the directory of the files where there is none.
        fill: takes all space that is left.
        free: gives it back, and starts the server if it has ended.
        keep_full: takes what the server itself has freed meanwhile.
    """

    server: Any
    fill: Callable[[], None]
    free: Callable[[], None]
    keep_full: Callable[[], None] = lambda: None


@contextlib.contextmanager
def small_disk(kind: str) -> Iterator[Disk]:
    """A disk for a kind of server."""
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(servers.disk(SIZES[kind]))
        except servers.ServerError as error:
            do_without(str(error))
        yield made


def started_again(server: Restartable | RedisServer) -> None:
    """Wait until a server serves; start it if it has ended, as its operator would."""
    end = time.monotonic() + REVIVED_S
    while not _serves(server):
        if server.process.poll() is not None:
            server.start()
            return
        assert time.monotonic() < end
        time.sleep(0.05)


def _serves(server: Restartable | RedisServer) -> bool:
    if isinstance(server, servers.RedisServer):
        return server.cli("ping").strip() == "PONG"
    return server.ready()


@contextlib.contextmanager
def _file() -> Iterator[Room]:
    with small_disk("file") as disk:
        yield Room(disk.directory, disk.fill, disk.free, disk.fill)


def _postgresql() -> AbstractContextManager[Room]:
    require(servers.postgresql_programs(), servers.POSTGRESQL)
    # One that did not write its log would lose what it had promised when it ends.
    return _on("postgresql", lambda at: servers.postgresql(durable=True, parent=at))


def _postgresql_log() -> AbstractContextManager[Room]:
    require(servers.postgresql_programs(), servers.POSTGRESQL)
    return _on("log", lambda at: servers.postgresql(durable=True, log_parent=at))


def _mariadb() -> AbstractContextManager[Room]:
    require(servers.mariadb_programs(), servers.MARIADB)
    return _on("mariadb", lambda at: servers.mariadb(durable=True, parent=at))


def _redis() -> AbstractContextManager[Room]:
    require(servers.redis_programs(), servers.REDIS)
    return _on("redis", lambda at: servers.redis(durable=True, parent=at))


@contextlib.contextmanager
def _on(
    kind: str,
    start: Callable[[Path], AbstractContextManager[Restartable | RedisServer]],
) -> Iterator[Room]:
    """The room of a server that keeps everything, or its log, on a small disk."""
    with small_disk(kind) as disk, start(disk.directory) as server:

        def free() -> None:
            disk.free()
            started_again(server)

        yield Room(server, disk.fill, free, disk.fill)


@contextlib.contextmanager
def _swift() -> Iterator[Room]:
    require_swift()
    with small_disk("swift") as disk, servers.swift(parent=disk.directory) as server:

        def free() -> None:
            disk.free()
            # In a deployment this is done all the time.
            server.update_containers()

        yield Room(server, disk.fill, free, disk.fill)


@contextlib.contextmanager
def _ceph() -> Iterator[Room]:
    require(servers.ceph_programs(), servers.CEPH)
    with servers.ceph() as server:
        yield Room(server, server.fill, server.free)


@contextlib.contextmanager
def _s3() -> Iterator[Room]:
    require(servers.ceph_programs(), servers.RADOSGW)
    with servers.ceph(gateway=True) as server:
        yield Room(server, lambda: server.limit_objects(1), lambda: server.limit_objects(None))


_ROOMS = {
    "ceph": _ceph,
    "file": _file,
    "mariadb": _mariadb,
    "postgresql": _postgresql,
    "redis": _redis,
    "s3": _s3,
    "swift": _swift,
}


# ------------------------------------------------------------------ the system


class Bulk(Writer):
    """Posts many points at once: some stores have room for small requests when they are full."""

    together = 60
    between_s = 0.5


class Registrar(Stopping):
    """Creates resources with many metrics, which the indexer needs space for."""

    METRICS = 20

    def __init__(self, client: Client, seed: int) -> None:
        super().__init__(client, seed)
        self.failures: list[Failure] = []
        self._acknowledged: list[str] = []
        self._unknown: list[str] = []

    def work(self) -> None:
        """Create one."""
        resource = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        metric = {"archive_policy_name": POLICY["name"]}
        metrics = {f"metric {number}": metric for number in range(self.METRICS)}
        began = time.monotonic()
        try:
            answer = self.client.post("/v1/resource/generic", {"id": resource, "metrics": metrics})
            status, text = answer.status, answer.body.decode(errors="replace")
        except Lost as error:
            status, text = 0, str(error)
        assert status in (201, UNCERTAIN, 0), (status, text)
        if status == 201:
            self._acknowledged.append(resource)
        else:
            self._unknown.append(resource)
            self.failures.append(Failure(status, text, began, time.monotonic() - began))
        self.stopping.wait(0.02)

    def check(self, client: Client) -> None:
        """What was acknowledged is there, the rest is there as a whole or not at all."""
        found = [client.document(f"/v1/resource/generic/{each}") for each in self._acknowledged]
        for each in self._unknown:
            answer = client.get(f"/v1/resource/generic/{each}")
            assert answer.status in (200, 404), answer
            found += [answer.json()] if answer.status == 200 else []
        assert {len(each["metrics"]) for each in found} <= {self.METRICS}


@pytest.fixture(params=VICTIMS)
def combination(request: pytest.FixtureRequest) -> str:
    """Each combination in turn."""
    name: str = request.param
    return name


@pytest.fixture
def rooms(combination: str) -> Iterator[dict[str, Room]]:
    """The servers of the combination, by kind."""
    if names := processes.missing():
        do_without(f"not installed: {', '.join(names)} (pip install -e .)")
    with contextlib.ExitStack() as stack:
        rooms = _ROOMS | ({"postgresql": _postgresql_log} if combination == LOG_ALONE else {})
        kinds = dict.fromkeys(Combination.parse(combination))
        yield {kind: stack.enter_context(rooms[kind]()) for kind in kinds if kind in rooms}


@pytest.fixture
def site(combination: str, rooms: dict[str, Room]) -> Iterator[Installation]:
    """An installation on these servers, with nothing running yet."""
    database, storage, _ = Combination.parse(combination)
    options: backends.Options = {}
    if storage != "file":
        options[storage] = backends.driver_options(storage, rooms[storage].server)
    url = create_database(rooms[database].server) if database in rooms else None
    stores = backends.groups(Combination.parse(combination), url, options)
    parent = str(rooms["file"].server) if "file" in rooms else None
    with processes.installation({**OPTIONS, **stores}, parent=parent) as site:
        yield site


def test_full_server_refuses_and_the_books_are_right(
    combination: str, rooms: dict[str, Room], site: Installation
) -> None:
    api, metricd = site.api(), site.metricd()
    outages = []
    with contextlib.closing(site.client()) as client:
        metricd.start()
        api.start_until_served()
        metrics = create_metrics(client)
        kinds = (Writer, Writer, Bulk)
        writers = [
            kind(site.client(), own, number)
            for number, (kind, own) in enumerate(zip(kinds, metrics, strict=True))
        ]
        watcher = Watcher(site.client(), [m for own in metrics for m in own], 0)
        registrar = Registrar(site.client(), 0)
        told: list[Writer | Registrar] = [*writers, registrar]
        with at_work([*told, watcher]):
            work_is_under_way(client, metricd, writers, watcher)
            for victim in VICTIMS[combination]:
                outages.append(Outage(f"{victim} full"))
                run_full(rooms[victim], outages[-1], told)
                processing_goes_on(client, metricd)
        found = balance(client, metricd, writers)
        registrar.check(client)

    answers = sum((writer.answers for writer in writers), Counter())
    print(f"{combination}: {dict(answers)}; {found}; {watcher.reads} reads")  # noqa: T201
    report(told, outages)
    for thread in told:
        for failure in thread.failures:
            check_told(failure)
    assert found.acknowledged > 1000
    assert watcher.reads > 10


def run_full(room: Room, outage: Outage, told: list[Writer | Registrar]) -> None:
    """Take the space away until somebody has noticed, and for a while more; give it back."""
    outage.began = time.monotonic()
    noticed_at = None
    try:
        room.fill()
        while noticed_at is None or time.monotonic() < noticed_at + FULL_S:
            time.sleep(0.1)
            room.keep_full()
            if noticed_at is None and outage.failures(told):
                noticed_at = time.monotonic()
            assert time.monotonic() < outage.began + NOTICED_S, "nobody has noticed"
            assert all(thread.error is None for thread in told)
    finally:
        room.free()
        outage.ended = time.monotonic()
