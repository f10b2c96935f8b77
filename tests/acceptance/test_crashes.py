"""Processes of the installed commands are killed under load, and nothing acknowledged is lost.

Writers post over HTTP and keep a ledger of every point: the values it may have, and whether one of
them was acknowledged. Every point has a bucket of one second to itself, so the aggregates tell for
each single point whether it is there, and how often; sums and differences over larger buckets must
then follow exactly (all values are integers). A reader watches that nothing visible is taken back.

``TEST_KILLS`` sets the number of kills (6 by default; 50 take about five minutes), ``TEST_SEED``
repeats their choice.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance import processes
from tests.acceptance.client import Answer, Lost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.client import Client
    from tests.acceptance.processes import Command, Installation

KILLS = int(os.environ.get("TEST_KILLS", "6"))
SEED = int(os.environ.get("TEST_SEED", "0")) or random.randrange(1, 1 << 32)

WRITERS = 3
METRICS = 8  # of each writer
TOGETHER = 4  # points of a metric in a request
LATEST = 400  # seconds that a point may come late, well inside the back window
BETWEEN_REQUESTS_S = 0.01
BEFORE_A_KILL_S = (0.05, 2.0)
LONGEST_PAUSE_S = 1.0  # of a command that was killed
PROGRESS_S = 60.0
DRAIN_S = 120.0

START = 1_700_000_040  # begins a minute
MINUTE = 60
POLICY = {
    "name": "ledger",
    "back_window": 60,
    "definition": [
        {"granularity": 1, "points": 1_000_000},
        {"granularity": MINUTE, "points": 100_000},
    ],
    "aggregation_methods": ["sum", "count", "last", "rate:sum"],
}
#: Answers of a command that cannot reach its stores: it does not know what has been done.
UNCERTAIN = frozenset({500, 502, 503, 504})


# ------------------------------------------------------------------ what is known


@dataclass(slots=True)
class Point:
    """What is known of one point: its possible values, and whether it must be there."""

    values: set[int]
    acknowledged: bool = False


@dataclass
class Ledger:
    """The points of one metric by second, written by one thread."""

    metric: str
    points: dict[int, Point] = field(default_factory=dict)

    def sent(self, second: int, value: int) -> None:
        """Note that a value may have been stored from now on."""
        self.points.setdefault(second, Point(set())).values.add(value)

    def acknowledged(self, second: int, value: int) -> None:
        """Note that this value, the last one sent, has been accepted."""
        self.points[second] = Point({value}, acknowledged=True)


class Stopping(threading.Thread):
    """A thread that works until told to stop, and keeps what ended it before."""

    def __init__(self, client: Client, seed: int) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.random = random.Random(seed)
        self.stopping = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Work; an error is for `finish` to raise."""
        try:
            while not self.stopping.is_set():
                self.work()
        except BaseException as error:
            self.error = error
        finally:
            self.client.close()

    def work(self) -> None:
        """Do one piece of work."""
        raise NotImplementedError

    def finish(self) -> None:
        """Stop, and raise what went wrong."""
        self.stopping.set()
        self.join()
        if self.error is not None:
            raise self.error


class Writer(Stopping):
    """Posts new, late and corrected points of its own metrics."""

    def __init__(self, client: Client, metrics: list[str], seed: int) -> None:
        super().__init__(client, seed)
        self.ledgers = [Ledger(metric) for metric in metrics]
        self.answers: Counter[str] = Counter()
        self._second = START
        self._late: list[tuple[int, Ledger, int]] = []  # when to send it, what

    def work(self) -> None:
        """Post one request, and again with equal content if no answer came, or not."""
        batch = self._next()
        for ledger, second, value in batch:
            ledger.sent(second, value)
        document: dict[str, list[dict[str, int]]] = {}
        for ledger, second, value in batch:
            point = {"timestamp": second, "value": value}
            document.setdefault(ledger.metric, []).append(point)
        while not self._post(document):
            if self.random.random() < 0.4 or self.stopping.wait(0.05):
                return  # it stays unknown whether these points have been stored
        for ledger, second, value in batch:
            ledger.acknowledged(second, value)
        self.stopping.wait(BETWEEN_REQUESTS_S)

    def _next(self) -> list[tuple[Ledger, int, int]]:
        """The points of a request; each is in it once."""
        chosen = []
        seconds = range(self._second, self._second + TOGETHER)
        self._second += TOGETHER
        for ledger in self.ledgers:
            for second in seconds:
                if self.random.random() < 0.05:
                    due = second + self.random.randrange(TOGETHER, LATEST)
                    self._late.append((due, ledger, second))
                else:
                    chosen.append((ledger, second))
            corrected = self.random.choice(seconds) - TOGETHER * self.random.randrange(1, 30)
            before = ledger.points.get(corrected)
            if before is not None and before.acknowledged and self.random.random() < 0.3:
                chosen.append((ledger, corrected))
        chosen += [(ledger, second) for due, ledger, second in self._late if due < self._second]
        self._late = [late for late in self._late if late[0] >= self._second]
        self.random.shuffle(chosen)
        return [(ledger, second, self.random.randrange(1 << 30)) for ledger, second in chosen]

    def _post(self, document: dict[str, list[dict[str, int]]]) -> bool:
        """Post measures; False when it is not known whether they have been stored."""
        try:
            answer = self.client.post("/v1/batch/metrics/measures", document)
        except Lost:
            self.answers["none"] += 1
            return False
        self.answers[str(answer.status)] += 1
        return accepted(answer)


def accepted(answer: Answer) -> bool:
    """Tell whether measures were accepted; they must not be refused."""
    assert answer.status == 202 or answer.status in UNCERTAIN, answer
    return answer.status == 202


class Watcher(Stopping):
    """Reads all the time: what has been visible stays, and nothing is there twice."""

    def __init__(self, client: Client, metrics: list[str], seed: int) -> None:
        super().__init__(client, seed)
        self._metrics = metrics
        self._seen: dict[str, dict[str, float]] = {metric: {} for metric in metrics}
        self.reads = 0

    def work(self) -> None:
        """Read the numbers of points of one metric, by minute."""
        metric = self.random.choice(self._metrics)
        path = f"/v1/metric/{metric}/measures"
        try:
            answer = self.client.get(path, aggregation="count", granularity=MINUTE)
        except Lost:
            self.stopping.wait(0.05)
            return
        assert answer.status == 200 or answer.status in UNCERTAIN, answer
        if answer.status != 200:
            return
        counts = {timestamp: value for timestamp, _, value in answer.json()}
        for timestamp, before in self._seen[metric].items():
            assert before <= counts.get(timestamp, 0) <= MINUTE, (metric, timestamp, before, counts)
        self._seen[metric] = counts
        self.reads += 1
        self.stopping.wait(0.02)


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


# ------------------------------------------------------------------ checking


def seconds(measures: list[list[Any]]) -> dict[int, float]:
    """Values by the start of their bucket."""
    return {
        int(datetime.fromisoformat(text).astimezone(UTC).timestamp()): value
        for text, _, value in measures
    }


def check(client: Client, ledger: Ledger) -> int:
    """Compare a metric with its ledger; return how many points it holds."""
    read: dict[tuple[str, int], dict[int, float]] = {
        (method, granularity): seconds(
            client.measures(ledger.metric, aggregation=method, granularity=granularity)
        )
        for method in ("sum", "count", "last", "rate:sum")
        for granularity in (1, MINUTE)
    }
    stored = read["last", 1]
    # 1. Points: those acknowledged are there, with their last value; no others but those sent.
    missing = [s for s, p in ledger.points.items() if p.acknowledged and s not in stored]
    assert not missing, f"{len(missing)} acknowledged points are lost, e.g. {missing[:5]}"
    for second, value in stored.items():
        assert second in ledger.points, f"nobody has sent {second}"
        assert value in ledger.points[second].values, (second, value, ledger.points[second])
    # 2. Each once, in every aggregate.
    assert set(read["count", 1].values()) <= {1.0}
    assert read["sum", 1] == stored
    minutes: dict[int, list[float]] = {}
    for second in sorted(stored):
        minutes.setdefault(second - second % MINUTE, []).append(stored[second])
    assert read["count", MINUTE] == {m: float(len(values)) for m, values in minutes.items()}
    assert read["sum", MINUTE] == {m: sum(values) for m, values in minutes.items()}
    assert read["last", MINUTE] == {m: values[-1] for m, values in minutes.items()}
    # 3. Differences too, which know the order of all points.
    differences = {b: stored[b] - stored[a] for a, b in pairwise(sorted(stored))}
    assert read["rate:sum", 1] == differences
    rates: Counter[int] = Counter()
    for second, difference in differences.items():
        rates[second - second % MINUTE] += int(difference)
    assert read["rate:sum", MINUTE] == rates
    return len(stored)


# ------------------------------------------------------------------ the test


@pytest.fixture
def site() -> Iterator[Installation]:
    """An installation with two workers of each kind; skips where nothing is installed."""
    if missing := processes.missing():
        message = f"not installed: {', '.join(missing)} (pip install -e .)"
        if os.environ.get("TEST_REQUIRE_SERVERS"):
            pytest.fail(message)
        pytest.skip(message)
    options = {
        "api": {"processes": 2},
        # A small fan-in and small rounds, so that merges and several rounds a job are under way.
        "metricd": {"workers": 2, "compaction_fan_in": 3, "max_points_per_round": 2000},
    }
    with processes.installation(options) as site:
        yield site


@pytest.fixture
def client(site: Installation) -> Iterator[Client]:
    """A client of the site's API."""
    with contextlib.closing(site.client()) as client:
        yield client


def create_metrics(client: Client) -> list[list[str]]:
    """Make the metrics of every writer."""
    client.create("/v1/archive_policy", POLICY)
    return [
        [
            client.create("/v1/metric", {"archive_policy_name": POLICY["name"]})["id"]
            for _ in range(METRICS)
        ]
        for _ in range(WRITERS)
    ]


def drain(client: Client, metricd: Command) -> dict[str, Any]:
    """Wait until nothing waits to be processed; return the summary of the status."""
    end = time.monotonic() + DRAIN_S
    while (summary := client.summary())["points"]:
        assert time.monotonic() < end, f"{summary} {metricd.said()}"
        time.sleep(0.05)
    return summary


def test_acknowledged_measures_survive_kills_exactly_once(
    site: Installation, client: Client
) -> None:
    """An operator's machine kills processes at random; the bills are right all the same."""
    print(f"TEST_SEED={SEED} TEST_KILLS={KILLS}")  # noqa: T201
    api, metricd = site.api(), site.metricd()
    api.start_until_served()
    metricd.start()
    metrics = create_metrics(client)
    writers = [Writer(site.client(), own, SEED + n) for n, own in enumerate(metrics)]
    watcher = Watcher(site.client(), [m for own in metrics for m in own], SEED)
    threads: list[Stopping] = [*writers, watcher]
    for thread in threads:
        thread.start()
    with contextlib.closing(Chaos(api, metricd, site.client(), SEED)) as chaos:
        try:
            for _ in range(KILLS):
                chaos.strike()
        finally:
            for thread in threads:
                thread.stopping.set()
            for thread in threads:
                thread.join()
    for thread in threads:
        thread.finish()

    client.close()  # it may lead to a process that was killed
    summary = drain(client, metricd)
    assert summary["damaged"] == 0
    assert set(summary["refused"].values()) == {0}
    assert summary["measures"] == 0
    ledgers = [ledger for writer in writers for ledger in writer.ledgers]
    stored = sum(check(client, ledger) for ledger in ledgers)

    answers = sum((writer.answers for writer in writers), Counter())
    acknowledged = sum(p.acknowledged for ledger in ledgers for p in ledger.points.values())
    print(  # noqa: T201
        f"{dict(chaos.done)}; answers {dict(answers)}; {stored} points are stored, "
        f"{acknowledged} were acknowledged; {watcher.reads} reads"
    )
    assert sum(chaos.done.values()) == KILLS
    assert acknowledged > 1000
    assert watcher.reads > 10
