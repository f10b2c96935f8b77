"""Any interleaving of writes, rounds, crashes, merges and clean-ups equals one undisturbed run.

Two workers share the sacks and nobody holds a lock, so every race that a lost lock allows is
drawn. ``GNOCCHI_EXAMPLES`` and ``GNOCCHI_STEPS`` lengthen the run.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
import uuid
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from gnocchi import archive_policy, errors, model
from gnocchi.drivers.file import FileIncoming, FileStorage
from gnocchi.engine import compact, janitor, portions, process, push, read
from gnocchi.incoming import Taken
from gnocchi.indexer import catalog, metrics, policies
from gnocchi.indexer.database import Database
from gnocchi.segments import merge, segment
from gnocchi.service import Services
from tests.property.model import Metric, Policy, S

# Shrinking a run of many steps takes minutes; a failure prints its steps all the same.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
SACKS = 4
BASE = 1_700_000_000 * S
GRANULARITIES = (
    ((60 * S, 600 * S),),
    ((60 * S, 600 * S), (300 * S, None)),
    ((40 * S, 400 * S), (60 * S, None)),
    ((1 * S, 20 * S), (60 * S, 180 * S), (3600 * S, None)),
    ((7 * S, None),),
)
METHODS = (
    ("mean", "min", "max", "sum", "std", "count"),
    ("last",),
    ("first", "median", "95pct", "1pct", "std"),
    ("rate:mean", "rate:last", "rate:count", "rate:std", "mean"),
    ("rate:max",),
)
policies_ = st.builds(
    Policy, st.sampled_from(GRANULARITIES), st.integers(0, 3), st.sampled_from(METHODS)
)
# Mostly near the present of the series, in steps that hit boundaries; now and then far away.
offsets = st.one_of(
    st.integers(-20, 40).map(lambda n: n * 15 * S),
    st.integers(-4000, 4000).map(lambda n: n * S),
    st.integers(-300, 300).map(lambda n: n * 20 * S + n % 3 - 1),
)
requests = st.lists(st.tuples(st.integers(0, 3), offsets), min_size=1, max_size=12)


class Rounds(RuleBasedStateMachine):
    """The engine on files and SQLite beside a naive model of every metric."""

    @initialize(
        drawn=st.lists(policies_, min_size=1, max_size=3),
        many=st.booleans(),
        salt=st.integers(0, 99),
    )
    def start(self, drawn: list[Policy], many: bool, salt: int) -> None:
        shm = pathlib.Path("/dev/shm")
        self.directory = tempfile.mkdtemp(prefix="gnocchi-", dir=shm if shm.is_dir() else None)
        self.max_points = 100_000 if many else 7
        # What a round reduces at once; nothing must depend on it.
        portions.PORTION, portions.UNREAD = (100_000, 60) if salt % 2 else (5, 2)
        self.now = 0
        self.last_value = 0
        self.pushed: dict[float, tuple[int, int]] = {}  # value -> metric, timestamp
        self.order: list[float] = []
        self.processed: set[float] = set()
        self.replayed = False
        self.rounds: dict[int, tuple[process.Round, bool]] = {}  # worker -> round, is committed
        db = Database(f"sqlite:///{self.directory}/gnocchi.db", sync=False)
        db.upgrade()
        catalog.create_sacks(db, SACKS)
        db.close()
        self._connect()
        self.models: list[Metric] = []
        self.ids: list[uuid.UUID] = []
        for number in range(4):
            policy = drawn[number % len(drawn)]
            name = f"p{number % len(drawn)}"
            if number < len(drawn):
                policies.create(
                    self.services.db,
                    archive_policy.ArchivePolicy.create(
                        name,
                        policy.back_window,
                        [
                            archive_policy.Definition.complete(granularity=g, timespan=t)
                            for g, t in policy.granularities
                        ],
                        frozenset(policy.methods),
                    ),
                )
            metric = uuid.uuid5(uuid.NAMESPACE_OID, f"{salt} {number}")
            stored = policies.get(self.services.db, name)
            metrics.create(self.services.db, model.Metric(metric, stored, "me", None, None, None))
            self.models.append(Metric(policy))
            self.ids.append(metric)
        self.deleted: set[int] = set()

    def _connect(self) -> None:
        conf = SimpleNamespace(file_basepath=self.directory, file_sync=False)
        db = Database(f"sqlite:///{self.directory}/gnocchi.db", sync=False)
        storage, incoming = FileStorage(conf), FileIncoming(conf, SACKS)
        storage.upgrade()
        incoming.upgrade()
        self.services = Services(None, db, storage, incoming, max_points_per_round=self.max_points)
        self.workers = [process.Worker(self.services) for _ in range(2)]

    def teardown(self) -> None:
        if not hasattr(self, "services"):
            return
        try:
            self.rounds.clear()
            self.workers[0] = process.Worker(self.services)
            while self.services.incoming.take(range(SACKS), 1).receipt:
                self._whole_round(0, range(SACKS))
            lost = [
                value
                for value in self.order
                if value not in self.processed and self.pushed[value][0] not in self.deleted
            ]
            assert not lost, "acknowledged points were lost"
            for number in range(4):
                self._check(number)
            while compact.run_once(self.services, fan_in=2):
                pass
            for number in range(4):
                self._check(number)
            totals = catalog.totals(self.services.db)
            kept = [m for i, m in enumerate(self.models) if i not in self.deleted]
            if not self.deleted and not self.replayed:
                assert totals.accepted == sum(m.accepted for m in kept)
                assert totals.too_old == sum(m.refused for m in kept)
        finally:
            self.services.db.close()
            shutil.rmtree(self.directory)

    # ------------------------------------------------------------ writing

    @rule(request=requests)
    def write(self, request: list[tuple[int, int]]) -> None:
        self._push(request)

    @rule(request=requests, steps=st.integers(1, 60))
    def time_goes_on(self, request: list[tuple[int, int]], steps: int) -> None:
        self.now += steps * 15 * S
        self._push([(number, offset // 20) for number, offset in request])

    def _push(self, request: list[tuple[int, int]]) -> None:
        order = sorted(range(len(request)), key=lambda i: request[i][0])
        numbers, timestamps, values = [], [], []
        for i in order:
            number, offset = request[i]
            self.last_value += 1
            # unique, so that a point can be told by its value, and not in order of arrival
            value = float(self.last_value * 7919 % 1_000_003)
            timestamp = BASE + self.now + offset
            numbers.append(number)
            timestamps.append(timestamp)
            values.append(value)
            self.pushed[value] = (number, timestamp)
            self.order.append(value)
        distinct, counts = np.unique(numbers, return_counts=True)
        ids = np.frombuffer(b"".join(self.ids[n].bytes for n in distinct.tolist()), "V16")
        push.add(self.services, ids, counts, np.array(timestamps), np.array(values))

    # ------------------------------------------------------------ rounds

    def _whole_round(self, worker: int, sacks: range | list[int]) -> None:
        round_ = self.workers[worker].prepare(sacks)
        if round_ is not None:
            self._commit(worker, round_)
            self.workers[worker].finish(round_)

    def _commit(self, worker: int, round_: process.Round) -> None:
        self.workers[worker].commit(round_)
        batches: dict[int, list[tuple[int, float]]] = {}
        taken = round_.taken.points.values.tolist()
        for value in taken:
            if value in self.processed:
                self.replayed = True
                continue
            self.processed.add(value)
            number, timestamp = self.pushed[value]
            batches.setdefault(number, []).append((timestamp, value))
        for number, batch in batches.items():
            self.models[number].batch(batch)

    @precondition(lambda self: 0 not in self.rounds)
    @rule(sacks=st.sets(st.integers(0, SACKS - 1), min_size=1))
    def work(self, sacks: set[int]) -> None:
        self._whole_round(0, sorted(sacks))

    @rule(worker=st.integers(0, 1), sacks=st.sets(st.integers(0, SACKS - 1), min_size=1))
    def prepare(self, worker: int, sacks: set[int]) -> None:
        """Begin a round; what the worker was at before is abandoned as by a crash."""
        if worker in self.rounds:
            self.workers[worker] = process.Worker(self.services)
        self.rounds.pop(worker, None)
        round_ = self.workers[worker].prepare(sorted(sacks))
        if round_ is not None:
            self.rounds[worker] = (round_, False)

    @rule(worker=st.integers(0, 1))
    def commit(self, worker: int) -> None:
        round_, committed = self.rounds.pop(worker, (None, True))
        if round_ is None or committed:
            return
        try:
            self._commit(worker, round_)
        except errors.StaleGeneration:
            return
        self.rounds[worker] = (round_, True)

    @rule(worker=st.integers(0, 1), kept=st.integers(0, 4))
    def finish(self, worker: int, kept: int) -> None:
        """Discard what was taken; with ``kept`` > 1 the worker dies before the last of it."""
        round_, committed = self.rounds.get(worker, (None, False))
        if round_ is None or not committed:
            return
        del self.rounds[worker]
        if kept <= 1:
            self.workers[worker].finish(round_)
            return
        cut = max(0, len(round_.taken.receipt) - kept + 1)
        self.services.incoming.discard(Taken(round_.taken.points, round_.taken.receipt[:cut]))
        self.workers[worker] = process.Worker(self.services)

    @rule()
    def everything_is_restarted(self) -> None:
        self.rounds.clear()
        self.services.db.close()
        self._connect()

    # ------------------------------------------------------------ merging and cleaning up

    @rule(fan_in=st.integers(2, 4))
    def merge(self, fan_in: int) -> None:
        compact.run_once(self.services, fan_in=fan_in)

    @rule()
    def merge_dies_before_its_commit(self) -> None:
        with (
            mock.patch.object(catalog, "replace", side_effect=KeyboardInterrupt),
            pytest.raises(KeyboardInterrupt) if self._due() else mock.MagicMock(),
        ):
            compact.run_once(self.services, fan_in=2)

    def _due(self) -> bool:
        live = self.services.reader.snapshot().segments
        return bool(compact.plan(live, 2, frozenset()))

    @rule()
    def two_merge_the_same(self) -> None:
        state = catalog.state(self.services.db)
        due = compact.plan(self.services.reader.snapshot().segments, 2, frozenset())
        for inputs in due[:1]:
            assert compact.merge(self.services, inputs, state) == 1
            assert compact.merge(self.services, inputs, state) == 0

    @rule()
    def clean_up(self) -> None:
        janitor.remove_retired(self.services, grace_s=-1)
        if not self.rounds:
            janitor.remove_orphans(self.services, grace_s=-1)
        janitor.expunge(self.services)

    @precondition(lambda self: len(self.deleted) < 2)
    @rule(number=st.integers(0, 3))
    def delete_metric(self, number: int) -> None:
        if number in self.deleted or self.last_value % 5:
            return
        metrics.delete(self.services.db, self.ids[number])
        self.deleted.add(number)

    # ------------------------------------------------------------ reading

    @rule(number=st.integers(0, 3))
    def check(self, number: int) -> None:
        self._check(number)

    def _check(self, number: int) -> None:
        if number in self.deleted:
            return
        stored = metrics.get(self.services.db, self.ids[number])
        naive = self.models[number]
        for granularity, timespan in naive.policy.granularities:
            for method in naive.policy.methods:
                (series,) = read.measures(self.services, stored, method, [granularity])
                expected = naive.series(method, granularity, timespan)
                assert series.timestamps.tolist() == sorted(expected), (method, granularity)
                np.testing.assert_allclose(
                    series.values, [expected[at] for at in sorted(expected)], rtol=1e-9, atol=1e-9
                )

    @rule(number=st.integers(0, 3), start=offsets, length=st.integers(0, 100))
    def check_range(self, number: int, start: int, length: int) -> None:
        """Bounds never bring an expired point back, and never hide one that is inside."""
        if number in self.deleted:
            return
        stored = metrics.get(self.services.db, self.ids[number])
        naive = self.models[number]
        start = BASE + self.now + start
        stop = start + length * 30 * S
        for granularity, timespan in naive.policy.granularities:
            method = naive.policy.methods[0]
            (series,) = read.measures(self.services, stored, method, [granularity], start, stop)
            expected = naive.series(method, granularity, timespan)
            floor = start - start % granularity
            assert series.timestamps.tolist() == [
                at for at in sorted(expected) if floor <= at < stop
            ]

    @invariant()
    def sequence_ranges_do_not_overlap(self) -> None:
        """Layers are totally ordered, or "the newest" would mean nothing."""
        if not hasattr(self, "services"):
            return
        live = self.services.reader.snapshot().segments
        for one in live:
            for other in live:
                apart = one.last < other.first or other.last < one.first
                assert one is other or apart or one.high < other.low or other.high < one.low


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small row groups, slices, tiers and segments, so that few points cross their borders."""
    monkeypatch.setattr(segment, "ROWS", 5)
    monkeypatch.setattr(merge, "SLICE_ROWS", 11)
    monkeypatch.setattr(compact, "MAX_SEGMENT", 6000)
    monkeypatch.setattr(compact, "MAX_MERGE", 12000)
    monkeypatch.setattr(compact, "SMALLEST_TIER", 4000)
    # runs choose these; what they were is to come back
    monkeypatch.setattr(portions, "PORTION", portions.PORTION)
    monkeypatch.setattr(portions, "UNREAD", portions.UNREAD)


def test_any_interleaving_equals_one_undisturbed_run() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Rounds,
        settings=settings(
            max_examples=int(os.environ.get("GNOCCHI_EXAMPLES", "30")),
            stateful_step_count=int(os.environ.get("GNOCCHI_STEPS", "50")),
            deadline=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            phases=PHASES,
        ),
    )
