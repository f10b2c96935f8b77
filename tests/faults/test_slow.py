"""Servers that answer slowly: everything takes longer, and the books are right."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.acceptance import processes
from tests.acceptance.ledger import Watcher, Writer, at_work, balance, create_metrics
from tests.conftest import create_database, drop_database
from tests.faults.system import processing_goes_on
from tests.hosts.network import Forwarder
from tests.servers import reserve_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests import servers

#: Before each piece of a question or an answer is passed on.
DELAY_S = 0.01


@contextlib.contextmanager
def between(port: int) -> Iterator[tuple[int, Forwarder]]:
    """A port behind which a server is, and what makes it slow."""
    listen = reserve_port()
    forwarder = Forwarder("127.0.0.1", port, listen=listen)
    try:
        yield listen, forwarder
    finally:
        forwarder.close()


def test_slow_servers_delay_and_lose_nothing(
    postgresql_server: servers.Server, redis_server: servers.RedisServer
) -> None:
    redis_server.cli("flushall")
    database = create_database(postgresql_server)
    with contextlib.ExitStack() as stack:
        stack.callback(drop_database, postgresql_server, database)
        sql, sql_slow = stack.enter_context(between(postgresql_server.port))
        redis, redis_slow = stack.enter_context(between(redis_server.port))
        options: processes.Options = {
            "indexer": {"url": database.replace(str(postgresql_server.port), str(sql))},
            "storage": {"driver": "redis", "redis_url": f"redis://127.0.0.1:{redis}"},
            "api": {"processes": 1},
            "metricd": {"workers": 2, "compaction_fan_in": 3, "max_points_per_round": 2000},
        }
        site = stack.enter_context(processes.installation(options))
        client = stack.enter_context(contextlib.closing(site.client()))
        api, metricd = site.api(), site.metricd()
        api.start_until_served()
        metricd.start()
        metrics = create_metrics(client)
        writers = [Writer(site.client(), own, number) for number, own in enumerate(metrics)]
        watcher = Watcher(site.client(), [m for own in metrics for m in own], 0)
        with at_work([*writers, watcher]):
            sql_slow.delay_s = redis_slow.delay_s = DELAY_S
            for _ in range(3):
                processing_goes_on(client, metricd)
            sql_slow.delay_s = redis_slow.delay_s = 0.0
        found = balance(client, metricd, writers)
    assert not [failure for writer in writers for failure in writer.failures]
    assert found.stored == found.acknowledged > 100
