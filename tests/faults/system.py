"""What tests of the whole system with a failing server share: the servers, and what clients see."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from tests import servers
from tests.acceptance.ledger import UNCERTAIN
from tests.conftest import do_without, require
from tests.servers.coordination import MEMCACHED, memcached_programs

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Iterator

    from tests.acceptance.client import Client
    from tests.acceptance.ledger import Failure, Watcher, Writer
    from tests.acceptance.processes import Command

#: In what time clients are answered; the options of drivers, which allow for more, are not set.
TIMEOUT_S = 3
#: On a busy machine; shorter than a second time-out.
SLACK_S = 2.5
RECOVERED_S = 60.0
SECRETS = (servers.SWIFT_KEY, *servers.S3_KEYS, "gnocchi:secret@")

OPTIONS: dict[str, dict[str, object]] = {
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
        missed: what others do about it that it has not been heard of for so many seconds.
    """

    server: Any
    kill: Callable[[], None]
    start: Callable[[], None]
    process: Callable[[], subprocess.Popen[bytes]]
    missed: Callable[[float], None] = lambda _: None


@contextlib.contextmanager
def started(kind: str, *, durable: bool) -> Iterator[Running]:
    """Run a server of a kind; one that is not durable must not be killed."""
    with _STARTERS[kind](durable=durable) as running:
        yield running


@contextlib.contextmanager
def _postgresql(*, durable: bool) -> Iterator[Running]:
    require(servers.postgresql_programs(), servers.POSTGRESQL)
    with servers.postgresql(durable=durable) as server:
        yield Running(server, server.kill, server.start, lambda: server.process)


@contextlib.contextmanager
def _mariadb(*, durable: bool) -> Iterator[Running]:
    require(servers.mariadb_programs(), servers.MARIADB)
    with servers.mariadb(durable=durable) as server:
        yield Running(server, server.kill, server.start, lambda: server.process)


@contextlib.contextmanager
def _ceph(*, durable: bool) -> Iterator[Running]:
    require(servers.ceph_programs(), servers.CEPH)
    with servers.ceph(durable=durable) as server:
        yield Running(
            server, server.kill_osd, server.start_osd, lambda: server.osd, server.report_osd
        )


@contextlib.contextmanager
def _redis(*, durable: bool) -> Iterator[Running]:
    require(servers.redis_programs(), servers.REDIS)
    with servers.redis(durable=durable) as server:
        yield Running(server, server.kill, server.start, lambda: server.process)


def require_swift() -> None:
    """Skip, or fail where servers are required, unless there is a Swift."""
    require(memcached_programs(), MEMCACHED)
    try:
        servers.swift_programs()
    except servers.ServerError as error:
        do_without(f"Swift cannot be installed: {error}")


@contextlib.contextmanager
def _swift(*, durable: bool) -> Iterator[Running]:  # it always is
    require_swift()
    with servers.swift() as server:
        yield Running(
            server,
            lambda: server.kill("proxy"),
            lambda: server.start("proxy"),
            lambda: server.processes["proxy"],
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

        yield Running(server, end, start, gateway)


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


# ------------------------------------------------------------------ what clients see


def report(threads: Iterable[Telling], outages: Iterable[Outage]) -> None:
    """Print what clients were told, for whoever reads along."""
    for outage in outages:
        told = outage.failures(threads)
        took = max((failure.took_s for failure in told), default=0.0)
        reasons = {failure.text for failure in told}
        print(f"{outage.what}: {len(told)} told after {took:.1f} s at most: {reasons}")  # noqa: T201


class Telling(Protocol):
    """A thread that notes which of its requests failed."""

    failures: list[Failure]


class Outage:
    """The time in which a server is away, and what clients are told meanwhile."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.began = self.ended = math.inf

    @contextlib.contextmanager
    def lasting(self, seconds: float) -> Iterator[None]:
        """Wait for so long; the server goes before, and comes back after that."""
        self.began = time.monotonic()
        yield
        time.sleep(seconds)
        self.ended = time.monotonic()

    def failures(self, threads: Iterable[Telling]) -> list[Failure]:
        """The requests that were under way while the server was away, and failed."""
        return [
            failure
            for thread in threads
            for failure in thread.failures
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


def work_is_under_way(
    client: Client, metricd: Command, writers: list[Writer], reader: Watcher
) -> None:
    """Wait until so much was written, processed and read that the books are worth a look."""
    end = time.monotonic() + RECOVERED_S
    while sum(writer.answers["202"] for writer in writers) < 100 or reader.reads <= 10:
        assert not [thread.error for thread in (*writers, reader) if thread.error is not None]
        assert time.monotonic() < end, metricd.said()
        time.sleep(0.05)
    processing_goes_on(client, metricd)


def check_told(failure: Failure) -> None:
    """A client was told in time, and in words without secrets, why nothing was accepted."""
    assert failure.status == UNCERTAIN, failure
    assert failure.took_s < TIMEOUT_S + SLACK_S, failure
    # title, what the status means, and the reason
    assert len(failure.text.strip().split("\n\n")) == 3, failure
    assert not [secret for secret in SECRETS if secret in failure.text], failure
