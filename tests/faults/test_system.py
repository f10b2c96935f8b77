"""The installed commands under load while one of the servers behind them dies, and stands still.

The books (`tests.acceptance.ledger`) must be right at the end: nothing acknowledged lost, nothing
doubled. Meanwhile clients get an answer in time that says why there is none, and afterwards work
goes on without anybody's help.

``TEST_PAUSE_S`` sets for how long servers stand still (5 s by default).
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
    SLACK_S,
    TIMEOUTS,
    Outage,
    Running,
    check_told,
    processing_goes_on,
    report,
    started,
)
from tests.servers import paused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.processes import Installation

PAUSE_S = float(os.environ.get("TEST_PAUSE_S", "5"))
AWAY_S = 2.0  # between the death of a server and its next start

#: The servers that fail, and on what: databases coordinate too where nothing else does.
VICTIMS = {
    "postgresql": "postgresql+ceph",
    "ceph": "postgresql+ceph",
    "mariadb": "mariadb+swift",
    "swift": "mariadb+swift",
    "s3": "postgresql+s3",
    "redis": "postgresql+redis",
}


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
    report(writers, (dead, hanging))
    for writer in writers:
        for failure in writer.failures:
            check_told(failure, server.answer_s + SLACK_S)
    assert dead.failures(writers)
    if server.answer_s + 1 <= PAUSE_S:
        assert hanging.failures(writers)
    assert found.acknowledged > 1000
    assert watcher.reads > 10
