"""The installed commands under load while one of the servers behind them dies, and stands still.

The books (`tests.acceptance.ledger`) must be right at the end: nothing acknowledged lost, nothing
doubled. Meanwhile clients get an answer in time that says why there is none, and afterwards work
goes on without anybody's help.

``TEST_PAUSE_S`` sets for how long servers stand still (5 s by default).
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests import backends, servers
from tests.acceptance import processes
from tests.acceptance.ledger import (
    UNCERTAIN,
    Watcher,
    Writer,
    at_work,
    balance,
    create_metrics,
)
from tests.backends import Combination
from tests.conftest import create_database, do_without, require
from tests.servers import paused
from tests.servers.coordination import MEMCACHED, memcached_programs

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from tests.acceptance.client import Client
    from tests.acceptance.ledger import Failure
    from tests.acceptance.processes import Command, Installation

PAUSE_S = float(os.environ.get("TEST_PAUSE_S", "5"))
AWAY_S = 2.0  # between the death of a server and its next start
TIMEOUT_S = 2  # of the commands, for an answer of a server
#: The indexer's: a connection turns out to be dead, and neither does another one answer.
INDEXER_S = 2 * TIMEOUT_S
#: S3's has no option.
S3_S = 10.0
#: On a busy machine, and for a request that waits for another one's share.
SLACK_S = 4.0
RECOVERED_S = 60.0
SECRETS = (servers.SWIFT_KEY, *servers.S3_KEYS, "gnocchi:secret@")

#: The servers that fail, and on what: databases coordinate too where nothing else does.
VICTIMS = {
    "postgresql": "postgresql+ceph",
    "ceph": "postgresql+ceph",
    "mariadb": "mariadb+swift",
    "swift": "mariadb+swift",
    "s3": "postgresql+s3",
    "redis": "postgresql+redis",
}
TIMEOUTS: dict[str, dict[str, object]] = {
    "ceph": {"ceph_timeout": TIMEOUT_S},
    "redis": {"socket_timeout": TIMEOUT_S},
    "s3": {},
    "swift": {"swift_timeout": TIMEOUT_S},
}
OPTIONS: backends.Options = {
    "api": {"processes": 2, "operation_timeout": TIMEOUT_S},
    # A small fan-in and small rounds, so that merges and several rounds a job are under way.
    "metricd": {"workers": 2, "compaction_fan_in": 3, "max_points_per_round": 2000},
}


# ------------------------------------------------------------------ the servers


@dataclass
class Running:
    """A server that can fail.

    Attributes:
        server: to make options of.
        kill: ends it.
        start: starts it again.
        process: the one to be stopped for a while.
        answer_s: in what time the commands give a request up that it does not answer.
    """

    server: Any
    kill: Callable[[], None]
    start: Callable[[], None]
    process: Callable[[], subprocess.Popen[bytes]]
    answer_s: float


@contextlib.contextmanager
def started(kind: str, *, durable: bool) -> Iterator[Running]:
    """Run a server of a kind; one that is not durable must not be killed."""
    with _STARTERS[kind](durable=durable) as running:
        yield running


@contextlib.contextmanager
def _postgresql(*, durable: bool) -> Iterator[Running]:
    require(servers.postgresql_programs(), servers.POSTGRESQL)
    with servers.postgresql(durable=durable) as server:
        yield Running(server, server.kill, server.start, lambda: server.process, INDEXER_S)


@contextlib.contextmanager
def _mariadb(*, durable: bool) -> Iterator[Running]:
    require(servers.mariadb_programs(), servers.MARIADB)
    with servers.mariadb(durable=durable) as server:
        yield Running(server, server.kill, server.start, lambda: server.process, INDEXER_S)


@contextlib.contextmanager
def _ceph(*, durable: bool) -> Iterator[Running]:
    require(servers.ceph_programs(), servers.CEPH)
    with servers.ceph(durable=durable) as server:
        yield Running(server, server.kill_osd, server.start_osd, lambda: server.osd, TIMEOUT_S)


@contextlib.contextmanager
def _redis(*, durable: bool) -> Iterator[Running]:
    require(servers.redis_programs(), servers.REDIS)
    with servers.redis(durable=durable) as server:
        yield Running(server, server.kill, server.start, lambda: server.process, TIMEOUT_S)


@contextlib.contextmanager
def _swift(*, durable: bool) -> Iterator[Running]:  # it always is
    require(memcached_programs(), MEMCACHED)
    try:
        servers.swift_programs()
    except servers.ServerError as error:
        do_without(f"Swift cannot be installed: {error}")
    with servers.swift() as server:
        yield Running(
            server,
            lambda: server.kill("proxy"),
            lambda: server.start("proxy"),
            lambda: server.processes["proxy"],
            TIMEOUT_S,
        )


@contextlib.contextmanager
def _s3(*, durable: bool) -> Iterator[Running]:  # the gateway keeps nothing
    require(servers.ceph_programs(), servers.RADOSGW)
    with servers.ceph(gateway=True) as server:

        def gateway() -> subprocess.Popen[bytes]:
            assert server.gateway is not None
            return server.gateway

        def end() -> None:
            # Killed, it would be waited for by the next one for half a minute.
            gateway().terminate()
            gateway().wait()

        def start() -> None:
            server.gateway = server.box.start(
                servers.programs("radosgw")["radosgw"],
                "-c", server.configuration, "-n", "client.rgw.a", "-f",
                ready=lambda: _listens(server.s3_url),
            )  # fmt: skip

        yield Running(server, end, start, gateway, S3_S)


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 1):
        return True


_STARTERS = {
    "ceph": _ceph,
    "mariadb": _mariadb,
    "postgresql": _postgresql,
    "redis": _redis,
    "s3": _s3,
    "swift": _swift,
}


# ------------------------------------------------------------------ the system


@pytest.fixture(params=VICTIMS)
def victim(request: pytest.FixtureRequest) -> str:
    """Each kind of server in turn."""
    kind: str = request.param
    return kind


@pytest.fixture
def running(victim: str) -> Iterator[dict[str, Running]]:
    """The servers of the victim's combination, by kind."""
    if names := processes.missing():
        do_without(f"not installed: {', '.join(names)} (pip install -e .)")
    combination = Combination.parse(VICTIMS[victim])
    with contextlib.ExitStack() as stack:
        yield {
            kind: stack.enter_context(started(kind, durable=kind == victim))
            for kind in dict.fromkeys(combination)
        }


@pytest.fixture
def site(victim: str, running: dict[str, Running]) -> Iterator[Installation]:
    """An installation on these servers, with nothing running yet."""
    combination = Combination.parse(VICTIMS[victim])
    storage = combination.storage
    server = running[combination.database].server
    options = backends.driver_options(storage, running[storage].server, **TIMEOUTS[storage])
    stores = backends.groups(combination, create_database(server), {storage: options})
    with processes.installation({**OPTIONS, **stores}) as site:
        yield site


class Outage:
    """The time in which a server is away, and what clients are told meanwhile."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.began = self.ended = 0.0

    @contextlib.contextmanager
    def lasting(self, seconds: float) -> Iterator[None]:
        """Wait for so long; the server goes before, and comes back after that."""
        self.began = time.monotonic()
        yield
        time.sleep(seconds)
        self.ended = time.monotonic()

    def failures(self, writers: list[Writer]) -> list[Failure]:
        """The requests that were under way while the server was away, and failed."""
        return [
            failure
            for writer in writers
            for failure in writer.failures
            if failure.at < self.ended and failure.at + failure.took_s > self.began
        ]


def processing_goes_on(client: Client, metricd: Command) -> None:
    """Wait until measures have been processed once more."""
    first: int | None = None
    end = time.monotonic() + RECOVERED_S
    while True:
        answer = client.get("/v1/status", details="false")
        if answer.status == 200:
            accepted: int = answer.json()["storage"]["summary"]["accepted"]
            if first is None:
                first = accepted
            if accepted > first:
                return
        assert time.monotonic() < end, f"nothing is processed any more: {metricd.said()}"
        time.sleep(0.05)


def check_told(failure: Failure, longest_s: float) -> None:
    """A client was told in time, and in words without secrets, why nothing was accepted."""
    assert failure.status == UNCERTAIN, failure
    assert failure.took_s < longest_s, failure
    # title, what the status means, and the reason
    assert len(failure.text.strip().split("\n\n")) == 3, failure
    assert not [secret for secret in SECRETS if secret in failure.text], failure


def test_server_fails_and_comes_back_and_the_books_are_right(
    victim: str, running: dict[str, Running], site: Installation
) -> None:
    """It dies and is started again, then stands still for longer than anybody waits for it."""
    server = running[victim]
    api, metricd = site.api(), site.metricd()
    dead, hanging = Outage("dead"), Outage("hanging")
    with contextlib.closing(site.client()) as client:
        api.start_until_served()
        metricd.start()
        metrics = create_metrics(client)
        writers = [Writer(site.client(), own, number) for number, own in enumerate(metrics)]
        watcher = Watcher(site.client(), [m for own in metrics for m in own], 0)
        with at_work([*writers, watcher]):
            processing_goes_on(client, metricd)
            with dead.lasting(AWAY_S):
                server.kill()
            server.start()
            processing_goes_on(client, metricd)
            with paused(server.process()), hanging.lasting(PAUSE_S):
                pass
            processing_goes_on(client, metricd)
        found = balance(client, metricd, writers)

    answers = sum((writer.answers for writer in writers), Counter())
    print(f"{victim}: answers {dict(answers)}; {found}; {watcher.reads} reads")  # noqa: T201
    for outage in (dead, hanging):
        told = outage.failures(writers)
        took = max((failure.took_s for failure in told), default=0.0)
        reasons = {failure.text for failure in told}
        print(f"{outage.what}: {len(told)} told after {took:.1f} s at most: {reasons}")  # noqa: T201
    for writer in writers:
        for failure in writer.failures:
            check_told(failure, server.answer_s + SLACK_S)
    assert dead.failures(writers)
    if server.answer_s + 1 <= PAUSE_S:
        assert hanging.failures(writers)
    assert found.acknowledged > 1000
    assert watcher.reads > 10
