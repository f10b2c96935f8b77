"""Processes of the installed commands are killed under load, and nothing acknowledged is lost.

Writers post over HTTP and keep a ledger of every point (`tests.acceptance.ledger`). A reader
watches that nothing visible is taken back. This is done on every combination of backends.

``TEST_KILLS`` sets the number of kills (6 by default, 3 with servers; 50 take about five minutes),
``TEST_SEED`` repeats their choice.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests import backends
from tests.acceptance import processes
from tests.acceptance.client import Lost
from tests.acceptance.ledger import Watcher, Writer, at_work, balance, create_metrics
from tests.backends import COMBINATIONS
from tests.conftest import do_without

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.client import Client
    from tests.acceptance.processes import Command, Installation

KILLS = int(os.environ.get("TEST_KILLS", "0"))
SEED = int(os.environ.get("TEST_SEED", "0")) or random.randrange(1, 1 << 32)

BEFORE_A_KILL_S = (0.05, 2.0)
LONGEST_PAUSE_S = 1.0  # of a command that was killed
PROGRESS_S = 60.0


# ------------------------------------------------------------------ killing


class Chaos:
    """Kills processes and starts again what does not start again by itself."""

    def __init__(self, api: Command, metricd: Command, client: Client, seed: int) -> None:
        self._api = api
        self._metricd = metricd
        self._client = client
        self._random = random.Random(seed)
        self.done: Counter[str] = Counter()

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def strike(self) -> None:
        """Kill something that is at work, and see to it that work goes on."""
        self._wait_for_progress()
        time.sleep(self._random.uniform(*BEFORE_A_KILL_S))  # a random moment, not a condition
        command = self._random.choice([self._api, self._metricd, self._metricd])
        what = self._random.choice(["a child", "a child", "the master", "everything"])
        children = command.children()
        if what == "a child" and not children:
            what = "the master"  # it has just been started
        if what == "everything":
            command.kill()
        elif what == "the master":
            processes.send(command.master(), signal.SIGKILL)
        else:
            processes.send(self._random.choice(children), signal.SIGKILL)
        self.done[f"{command.name}: {what}"] += 1
        if what != "a child":
            command.wait()
            time.sleep(self._random.choice([0.0, self._random.uniform(0, LONGEST_PAUSE_S)]))
            if command is self._api:
                command.start_until_served()
            else:
                command.start()

    def _wait_for_progress(self) -> None:
        """Wait until measures have been processed once more, by whoever lives."""
        before = self._accepted()
        end = time.monotonic() + PROGRESS_S
        while (now := self._accepted()) is None or before is None or now <= before:
            before = now if before is None else before
            assert time.monotonic() < end, "nothing is processed any more"
            assert self._api.running, self._api.said()
            assert self._metricd.running, self._metricd.said()
            time.sleep(0.05)

    def _accepted(self) -> int | None:
        with contextlib.suppress(Lost):
            answer = self._client.get("/v1/status", details="false")
            if answer.status == 200:
                accepted: int = answer.json()["storage"]["summary"]["accepted"]
                return accepted
        return None


# ------------------------------------------------------------------ the test


@pytest.fixture
def site(combination: str, request: pytest.FixtureRequest) -> Iterator[Installation]:
    """An installation with two workers of each kind; skips where nothing is installed."""
    if names := processes.missing():
        do_without(f"not installed: {', '.join(names)} (pip install -e .)")
    options = {
        "api": {"processes": 2},
        # A small fan-in and small rounds, so that merges and several rounds a job are under way.
        "metricd": {"workers": 2, "compaction_fan_in": 3, "max_points_per_round": 2000},
    }
    with (
        backends.of_its_own(combination, request.getfixturevalue) as stores,
        processes.installation({**options, **stores}) as site,
    ):
        yield site


@pytest.fixture
def client(site: Installation) -> Iterator[Client]:
    """A client of the site's API."""
    with contextlib.closing(site.client()) as client:
        yield client


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_acknowledged_measures_survive_kills_exactly_once(
    combination: str, site: Installation, client: Client
) -> None:
    """An operator's machine kills processes at random; the bills are right all the same."""
    kills = KILLS or (6 if combination == "sqlite+file" else 3)
    seed = SEED + COMBINATIONS.index(combination)  # not the same for all
    print(f"TEST_SEED={SEED} TEST_KILLS={kills}")  # noqa: T201
    api, metricd = site.api(), site.metricd()
    api.start_until_served()
    metricd.start()
    metrics = create_metrics(client)
    writers = [Writer(site.client(), own, seed + n) for n, own in enumerate(metrics)]
    watcher = Watcher(site.client(), [m for own in metrics for m in own], seed)
    with (
        contextlib.closing(Chaos(api, metricd, site.client(), seed)) as chaos,
        at_work([*writers, watcher]),
    ):
        for _ in range(kills):
            chaos.strike()

    client.close()  # it may lead to a process that was killed
    found = balance(client, metricd, writers)
    answers = sum((writer.answers for writer in writers), Counter())
    print(  # noqa: T201
        f"{dict(chaos.done)}; answers {dict(answers)}; {found}; {watcher.reads} reads"
    )
    assert sum(chaos.done.values()) == kills
    assert found.acknowledged > 1000
    assert watcher.reads > 10
