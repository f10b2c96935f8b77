"""Two hosts share the work; one dies, is cut off and comes back, and nothing is lost or doubled.

Each host runs the API and metricd with two workers, over PostgreSQL, S3 and Redis.
``TEST_CUT_S`` sets for how long the network is cut (8 s by default).
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests import servers
from tests.acceptance import ledger
from tests.acceptance.client import Lost
from tests.conftest import create_database, do_without, drop_database
from tests.hosts import network
from tests.hosts.network import Host
from tests.servers import reserve_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.acceptance.client import Client

CUT_S = float(os.environ.get("TEST_CUT_S", "8"))
WORKERS = 2
ANSWER_S = 4.0
#: A worker that went away leaves the group after 5 s here; its sacks are taken over before that.
MEMBERSHIP_S = 5
TAKEN_OVER_S = 20.0
RECOVERED_S = 60.0


@pytest.fixture
def hosts(
    postgresql_server: servers.Server,
    radosgw_server: servers.CephServer,
    redis_server: servers.RedisServer,
) -> Iterator[list[Host]]:
    """Two hosts, upgraded, with nothing running yet."""
    if (reason := network.missing()) is not None:
        do_without(reason)
    redis_server.cli("flushall")
    database = create_database(postgresql_server)
    gateway_port = urlsplit(radosgw_server.s3_url).port
    assert gateway_port is not None
    prefix = f"hosts{uuid.uuid4().hex[:10]}"
    with contextlib.ExitStack() as stack:
        stack.callback(drop_database, postgresql_server, database)
        made = []
        for _ in range(2):
            link = stack.enter_context(network.network())
            for server in (postgresql_server, redis_server):
                link.reach(server.port)
            link.reach(gateway_port)
            directory = pathlib.Path(tempfile.mkdtemp(prefix="gnocchi-host-"))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            host = Host(directory, reserve_port(), network=link)
            stack.callback(host.stop)
            host.data.mkdir()
            gateway = link.gateway
            redis = f"redis://{gateway}:{redis_server.port}"
            access_key, secret_key = servers.S3_KEYS
            host.configure(
                {
                    "DEFAULT": {
                        "coordination_url": f"{redis}?membership_timeout={MEMBERSHIP_S}"
                        f"&timeout={MEMBERSHIP_S}&socket_timeout=2"
                    },
                    "api": {
                        "host": link.address,
                        "port": host.port,
                        "processes": 1,
                        "operation_timeout": 2,
                    },
                    "indexer": {"url": database.replace("127.0.0.1", gateway)},
                    "metricd": {"workers": WORKERS, "max_points_per_round": 2000},
                    "storage": {
                        "driver": "s3",
                        "s3_endpoint_url": f"http://{gateway}:{gateway_port}",
                        "s3_access_key_id": access_key,
                        "s3_secret_access_key": secret_key,
                        "s3_bucket_prefix": prefix,
                    },
                    "incoming": {"driver": "redis", "redis_url": f"{redis}/?socket_timeout=2"},
                }
            )
            made.append(host)
        upgrade(made[0])
        yield made


def upgrade(host: Host) -> None:
    """Run gnocchi-upgrade on a host."""
    command = network.HostCommand(host, "gnocchi-upgrade")
    command.start()
    assert command.wait() == 0, command.said()


def until(condition: Callable[[], Any], what: str, timeout_s: float = RECOVERED_S) -> Any:
    """Wait until a condition is true; requests that get no answer count as no."""
    end = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(Lost):
            if found := condition():
                return found
        assert time.monotonic() < end, f"no {what} after {timeout_s:.0f} s"
        time.sleep(0.1)


def summary(client: Client) -> dict[str, Any] | None:
    """What a host says of the backlog; None while it cannot."""
    answer = client.get("/v1/status", details="false")
    if answer.status != 200:
        return None
    document: dict[str, Any] = answer.json()
    return document


def members(client: Client) -> set[str]:
    """The workers that a host knows of."""
    document = summary(client)
    return set(document["metricd"]["processors"] or ()) if document else set()


def accepted(client: Client) -> int:
    """How many measures have been processed so far."""
    document = summary(client)
    return int(document["storage"]["summary"]["accepted"]) if document else 0


def test_hosts_die_and_are_cut_off_and_nothing_is_lost_or_doubled(hosts: list[Host]) -> None:
    first, second = hosts
    commands = {host.port: (host.api(), host.metricd()) for host in hosts}
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(host.client(ANSWER_S))) for host in hosts]

        def start(host: Host) -> None:
            api, metricd = commands[host.port]
            api.start_until_served()
            metricd.start()

        def processing_goes_on(client: Client, timeout_s: float) -> None:
            before = until(lambda: accepted(client), "answer")
            until(lambda: accepted(client) > before, "progress", timeout_s)

        for host in hosts:
            start(host)
        until(lambda: len(members(clients[0])) == 2 * WORKERS, "members of both hosts")
        metrics = ledger.create_metrics(clients[1], writers=4)
        writers = [
            ledger.Writer(hosts[number % 2].client(ANSWER_S), own, number)
            for number, own in enumerate(metrics)
        ]
        with ledger.at_work(writers):
            processing_goes_on(clients[0], TAKEN_OVER_S)

            # 1. The first host loses power.
            for command in commands[first.port]:
                command.kill()
            processing_goes_on(clients[1], TAKEN_OVER_S)
            until(lambda: len(members(clients[1])) == WORKERS, "death of the first host's workers")
            start(first)
            until(lambda: len(members(clients[1])) == 2 * WORKERS, "return of the first host")

            # 2. It loses its network.
            assert first.network is not None
            first.network.cut()
            began = time.monotonic()
            processing_goes_on(clients[1], TAKEN_OVER_S)
            time.sleep(max(0.0, CUT_S - (time.monotonic() - began)))
            first.network.mend()
            until(lambda: len(members(clients[0])) == 2 * WORKERS, "return to the group")
            processing_goes_on(clients[0], TAKEN_OVER_S)

        found = ledger.balance(clients[1], commands[second.port][1], writers)
        assert found.acknowledged > 1000

        def tells(number: int, host: Host) -> ledger.Balance:
            return ledger.balance(clients[number], commands[host.port][1], writers)

        # The other host tells the same. A request that nobody waited for any more when the network
        # was cut may have arrived since the first look.
        until(lambda: tells(0, first) == tells(1, second), "one account on both hosts")
