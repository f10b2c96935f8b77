"""Writers that keep a ledger of every point they sent, and the comparison with what is stored.

A point in a ledger has the values it may have, and is acknowledged or not. Every point has a bucket
of one second to itself, so the aggregates tell for each single point whether it is there, and how
often; sums and differences over larger buckets must then follow exactly (all values are integers).

Not done here: starting and breaking things.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.acceptance.client import Answer, Lost, Unexpected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.acceptance.client import Client
    from tests.acceptance.processes import Command

WRITERS = 3
METRICS = 8  # of each writer
TOGETHER = 4  # points of a metric in a request
LATEST = 400  # seconds that a point may come late, well inside the back window
BETWEEN_REQUESTS_S = 0.01
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
#: The answer of a command that cannot reach its stores: it does not know what has been done.
UNCERTAIN = 503


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


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that got no answer, or none that says what was asked for.

    After one that stores points it is not known whether they have been stored.

    Attributes:
        status: of the answer, 0 if there was none.
        text: of the answer, or why there was none.
        at: when it was sent, in seconds of `time.monotonic`.
        took_s: until the answer, or until it was given up.
    """

    status: int
    text: str
    at: float
    took_s: float


class Writer(Stopping):
    """Posts new, late and corrected points of its own metrics.

    Attributes:
        together: points of a metric in a request.
        between_s: how long it waits after one that was accepted.
    """

    together = TOGETHER
    between_s = BETWEEN_REQUESTS_S

    def __init__(self, client: Client, metrics: list[str], seed: int) -> None:
        super().__init__(client, seed)
        self.ledgers = [Ledger(metric) for metric in metrics]
        self.answers: Counter[str] = Counter()
        self.failures: list[Failure] = []
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
        self.stopping.wait(self.between_s)

    def _next(self) -> list[tuple[Ledger, int, int]]:
        """The points of a request; each is in it once."""
        chosen = []
        seconds = range(self._second, self._second + self.together)
        self._second += self.together
        for ledger in self.ledgers:
            for second in seconds:
                if self.random.random() < 0.05:
                    due = second + self.random.randrange(self.together, LATEST)
                    self._late.append((due, ledger, second))
                else:
                    chosen.append((ledger, second))
            corrected = self.random.choice(seconds) - self.together * self.random.randrange(1, 30)
            before = ledger.points.get(corrected)
            if before is not None and before.acknowledged and self.random.random() < 0.3:
                chosen.append((ledger, corrected))
        chosen += [(ledger, second) for due, ledger, second in self._late if due < self._second]
        self._late = [late for late in self._late if late[0] >= self._second]
        self.random.shuffle(chosen)
        return [(ledger, second, self.random.randrange(1 << 30)) for ledger, second in chosen]

    def _post(self, document: dict[str, list[dict[str, int]]]) -> bool:
        """Post measures; False when it is not known whether they have been stored."""
        began = time.monotonic()
        status, text = 0, ""
        try:
            answer = self.client.post("/v1/batch/metrics/measures", document)
            if accepted(answer):
                self.answers["202"] += 1
                return True
            status, text = answer.status, answer.body.decode(errors="replace")
        except Lost as error:
            text = str(error)
        self.answers[str(status) if status else "none"] += 1
        self.failures.append(Failure(status, text, began, time.monotonic() - began))
        return False


def accepted(answer: Answer) -> bool:
    """Tell whether measures were accepted; they must not be refused."""
    assert answer.status in (202, UNCERTAIN), answer
    return answer.status == 202


class Watcher(Stopping):
    """Reads all the time: what has been visible stays, and nothing is there twice."""

    def __init__(self, client: Client, metrics: list[str], seed: int) -> None:
        super().__init__(client, seed)
        self._metrics = metrics
        self._seen: dict[str, dict[str, float]] = {metric: {} for metric in metrics}
        self.failures: list[Failure] = []
        self.reads = 0

    def work(self) -> None:
        """Read the numbers of points of one metric, by minute."""
        metric = self.random.choice(self._metrics)
        path = f"/v1/metric/{metric}/measures"
        began = time.monotonic()
        status, text = 0, ""
        try:
            answer = self.client.get(path, aggregation="count", granularity=MINUTE)
            assert answer.status in (200, UNCERTAIN), answer
            status, text = answer.status, answer.body.decode(errors="replace")
        except Lost as error:
            text = str(error)
        if status != 200:
            self.failures.append(Failure(status, text, began, time.monotonic() - began))
            self.stopping.wait(0.05)
            return
        counts = {timestamp: value for timestamp, _, value in answer.json()}
        for timestamp, before in self._seen[metric].items():
            assert before <= counts.get(timestamp, 0) <= MINUTE, (metric, timestamp, before, counts)
        self._seen[metric] = counts
        self.reads += 1
        self.stopping.wait(0.02)


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


# ------------------------------------------------------------------ before and after


def create_metrics(client: Client, writers: int = WRITERS) -> list[list[str]]:
    """Make the metrics of every writer."""
    client.create("/v1/archive_policy", POLICY)
    return [
        [
            client.create("/v1/metric", {"archive_policy_name": POLICY["name"]})["id"]
            for _ in range(METRICS)
        ]
        for _ in range(writers)
    ]


@contextlib.contextmanager
def at_work(threads: Sequence[Stopping]) -> Iterator[None]:
    """Let threads work for the length of the block; then raise what went wrong in one."""
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.stopping.set()
        for thread in threads:
            thread.join()
    for thread in threads:
        thread.finish()


def drain(client: Client, metricd: Command) -> dict[str, Any]:
    """Wait until nothing waits to be processed; return the summary of the status.

    A server that does not answer yet is asked again.
    """
    end = time.monotonic() + DRAIN_S
    last: object = None
    while True:
        try:
            summary = client.summary()
            if not summary["points"]:
                return summary
            last = summary
        except (Lost, Unexpected) as error:
            last = error
        assert time.monotonic() < end, f"{last} {metricd.said()}"
        time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Balance:
    """How many points are stored, and how many of those were acknowledged."""

    stored: int
    acknowledged: int


def balance(client: Client, metricd: Command, writers: Iterable[Writer]) -> Balance:
    """Wait until everything is processed, then compare all metrics with their ledgers."""
    summary = drain(client, metricd)
    assert summary["damaged"] == 0
    assert set(summary["refused"].values()) == {0}
    assert summary["measures"] == 0
    ledgers = [ledger for writer in writers for ledger in writer.ledgers]
    stored = sum(check(client, ledger) for ledger in ledgers)
    acknowledged = sum(p.acknowledged for ledger in ledgers for p in ledger.points.values())
    return Balance(stored, acknowledged)
