"""The installed commands under load while one of the servers behind them dies, and stands still.

The books (`tests.acceptance.ledger`) must be right at the end: nothing acknowledged lost, nothing
doubled. Meanwhile clients get an answer in time that says why there is none, and afterwards work
goes on without anybody's help.

``TEST_PAUSE_S`` sets for how long servers stand still (7 s by default).
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests import backends
from tests.acceptance import processes
from tests.acceptance.ledger import Watcher, Writer, at_work, balance, create_metrics
from tests.backends import Combination
from tests.conftest import create_database, do_without
from tests.faults.system import (
    OPTIONS,
    TIMEOUT_S,
    Outage,
    Running,
    check_told,
    processing_goes_on,
    report,
    started,
    work_is_under_way,
)
from tests.servers import paused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.processes import Installation

PAUSE_S = float(os.environ.get("TEST_PAUSE_S", "7"))
AWAY_S = 2.0  # between the death of a server and its next start

DATABASES = ("postgresql", "mariadb")
#: The servers that fail one after the other, and on what: databases coordinate too where nothing
#: else does.
VICTIMS = {
    "postgresql+ceph": ("postgresql", "ceph"),
    "mariadb+swift": ("mariadb", "swift"),
    "postgresql+s3": ("s3",),
    "postgresql+redis": ("redis",),
}


@pytest.fixture(params=VICTIMS)
def combination(request: pytest.FixtureRequest) -> str:
    """Each combination in turn."""
    name: str = request.param
    return name


@pytest.fixture
def running(combination: str) -> Iterator[dict[str, Running]]:
    """The servers of the combination, by kind."""
    if names := processes.missing():
        do_without(f"not installed: {', '.join(names)} (pip install -e .)")
    with contextlib.ExitStack() as stack:
        yield {
            kind: stack.enter_context(started(kind, durable=kind in VICTIMS[combination]))
            for kind in dict.fromkeys(Combination.parse(combination))
        }


@pytest.fixture
def site(combination: str, running: dict[str, Running]) -> Iterator[Installation]:
    """An installation on these servers, with nothing running yet."""
    parts = Combination.parse(combination)
    storage = parts.storage
    server = running[parts.database].server
    options = backends.driver_options(storage, running[storage].server)
    stores = backends.groups(parts, create_database(server), {storage: options})
    with processes.installation({**OPTIONS, **stores}) as site:
        yield site


def test_servers_fail_and_come_back_and_the_books_are_right(
    combination: str, running: dict[str, Running], site: Installation
) -> None:
    """Each dies and is started again, then stands still for longer than anybody waits for it."""
    api, metricd = site.api(), site.metricd()
    victims = {kind: running[kind] for kind in VICTIMS[combination]}
    dead = {kind: Outage(f"{kind} dead") for kind in victims}
    hanging = {kind: Outage(f"{kind} hanging") for kind in victims}
    with contextlib.closing(site.client()) as client:
        metricd.start()
        api.start_until_served()
        metrics = create_metrics(client)
        writers = [Writer(site.client(), own, number) for number, own in enumerate(metrics)]
        watcher = Watcher(site.client(), [m for own in metrics for m in own], 0)
        with at_work([*writers, watcher]):
            work_is_under_way(client, metricd, writers, watcher)
            for kind, server in victims.items():
                with dead[kind].lasting(AWAY_S):
                    server.kill()
                server.start()
                processing_goes_on(client, metricd)
                with paused(server.process()):
                    with hanging[kind].lasting(PAUSE_S):
                        pass
                    server.missed(PAUSE_S)
                processing_goes_on(client, metricd)
        found = balance(client, metricd, writers)

    answers = sum((writer.answers for writer in writers), Counter())
    print(f"{combination}: {dict(answers)}; {found}; {watcher.reads} reads")  # noqa: T201
    told = [*writers, watcher]
    report(told, [*dead.values(), *hanging.values()])
    for thread in told:
        for failure in thread.failures:
            check_told(failure)
    for kind in victims:
        assert dead[kind].failures(writers)
        # Reads need a storage only for what is not in memory yet, and a database always.
        threads = told if kind in DATABASES else writers
        for failed in (hanging[kind].failures([thread]) for thread in threads):
            assert failed or PAUSE_S <= TIMEOUT_S
    assert found.acknowledged > 1000
    assert watcher.reads > 10
