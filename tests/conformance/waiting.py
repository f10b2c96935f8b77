"""What `Incoming` says of what waits, and what it does with damaged objects."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.conformance.models import EVERYTHING, SACKS
from tests.conformance.points import in_sacks, metric_in, points, values
from tests.conformance.storage import both

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from gnocchi.incoming import Incoming, Taken


class Place(Protocol):
    """Where a driver keeps its queue during a test; the driver's test file provides it."""

    def open(self, sacks: int = SACKS) -> Incoming:
        """A client of the place, as a process of its own would have."""

    def objects(self) -> list[bytes]:
        """What waits, as it is stored."""

    def change(self, change: Callable[[bytes], bytes]) -> None:
        """Damage what waits: replace every stored object."""

    def kept(self) -> set[bytes]:
        """The bytes of the objects that were set aside."""

    def failing(self, call: int) -> AbstractContextManager[object]:
        """Let a call of the backend fail, the first being 0; for drivers that ``may_fail``."""


def take_all(incoming: Incoming, sacks: range | list[int] | None = None) -> Taken:
    """Everything that waits in some sacks."""
    taken = incoming.take(range(incoming.sacks) if sacks is None else sacks, EVERYTHING)
    assert not taken.more
    return taken


class WaitingConformance:
    """A part of `tests.conformance.incoming.IncomingConformance`."""

    def test_waiting_tells_the_age_of_the_oldest(self, incoming: Incoming) -> None:
        before = time.time()
        incoming.add(in_sacks(SACKS, [1], 1.0))
        between = time.time()
        incoming.add(in_sacks(SACKS, [1, 3], 2.0))
        waiting = incoming.waiting()
        now = time.time()
        assert waiting.keys() == {1, 3}
        assert 0.0 <= waiting[3] <= now - between + 0.01
        assert now - between - 0.01 <= waiting[1] <= now - before + 0.01
        assert waiting[3] < waiting[1]

    def test_wait_returns_at_once_when_something_waits(self, incoming: Incoming) -> None:
        incoming.add(in_sacks(SACKS, [1], 1.0))
        began = time.monotonic()
        assert incoming.wait(60.0)
        assert incoming.wait(60.0, [0, 1])
        assert time.monotonic() - began < 30.0

    def test_wait_ends_with_its_time_when_nothing_waits(self, incoming: Incoming) -> None:
        incoming.add(in_sacks(SACKS, [1], 1.0))
        began = time.monotonic()
        assert not incoming.wait(0.1, [0, 2])
        assert time.monotonic() - began >= 0.1
        incoming.discard(take_all(incoming))
        assert not incoming.wait(0.0)

    def test_wait_for_some_sacks_does_not_make_it_blind_to_others(self, incoming: Incoming) -> None:
        """The sacks of a worker change with the number of workers."""
        incoming.add(in_sacks(SACKS, [1], 1.0))
        assert not incoming.wait(0.4, [0, 2])
        assert incoming.wait(0.0, [1])
        assert incoming.wait(0.0)

    def test_wait_sees_what_was_added_just_after_the_last_look(
        self, place: Place, incoming: Incoming
    ) -> None:
        other = place.open()
        for number in range(100 // self.fewer):
            assert not incoming.wait(0.0)
            other.add(in_sacks(SACKS, [1], float(number)))
            assert incoming.wait(0.0)
            other.discard(take_all(other))

    def test_wait_is_ended_by_another_clients_add(self, place: Place, incoming: Incoming) -> None:
        found: list[bool] = []
        waiter = threading.Thread(target=lambda: found.append(incoming.wait(60.0, [1])))
        waiter.start()
        place.open().add(in_sacks(SACKS, [1], 1.0))
        waiter.join(30.0)
        assert found == [True]

    def test_backlog_counts_requests_metrics_and_points(self, incoming: Incoming) -> None:
        one, other = metric_in(0, SACKS), metric_in(3, SACKS)
        incoming.add(points((one, [1.0, 2.0]), (other, [3.0])))
        incoming.add(points((one, [4.0])))
        backlog = incoming.backlog(details=True)
        assert backlog == (3, 4, 2, {one: 2, other: 1})
        rough = incoming.backlog()
        assert rough[:2] == (3, 4)
        assert 2 <= rough.metrics <= 3
        assert rough.per_metric is None

    def test_backlog_leaves_out_what_was_discarded(self, incoming: Incoming) -> None:
        one, other = metric_in(0, SACKS), metric_in(3, SACKS)
        incoming.add(points((one, [1.0, 2.0]), (other, [3.0])))
        incoming.discard(take_all(incoming, [0]))
        assert incoming.backlog(details=True) == (1, 1, 1, {other: 1})
        assert incoming.backlog() == (1, 1, 1, None)

    def test_backlog_of_writers_at_once_is_exact(self, place: Place, incoming: Incoming) -> None:
        raw = metric_in(2, SACKS)

        def write() -> None:
            for _ in range(25):
                incoming.add(points((raw, [1.0, 2.0])))

        both([write] * 4)
        assert place.open().backlog(details=True) == (100, 200, 1, {raw: 100})

    def test_tidy_touches_nothing_that_waits(self, incoming: Incoming) -> None:
        incoming.add(in_sacks(SACKS, [1], 1.0))
        assert incoming.tidy(-1.0) == 0
        assert values(take_all(incoming)) == [1.0]

    # ------------------------------------------------------------ damage

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: data[:-1] + bytes([data[-1] ^ 1]),
            lambda data: bytes([data[0] ^ 1]) + data[1:],
            lambda data: data[:-1],
            lambda data: data[:10],
            lambda data: b"",
            lambda data: b"something else altogether, and long enough for a header",
        ],
        ids=["last bit", "first byte", "cut by one", "cut in the header", "empty", "foreign"],
    )
    def test_damaged_object_is_set_aside_with_its_bytes(
        self, place: Place, incoming: Incoming, change: Callable[[bytes], bytes]
    ) -> None:
        incoming.add(in_sacks(SACKS, [1], 1.0))
        place.change(change)
        (damaged,) = place.objects()
        incoming.add(in_sacks(SACKS, [1], 2.0))
        taken = take_all(incoming, [1])
        assert values(taken) == [2.0]
        (damage,) = taken.damaged
        assert damage.name
        assert damage.reason
        incoming.discard(taken)
        assert place.kept() == {damaged}
        assert place.objects() == []
        assert incoming.waiting() == {}
        assert not take_all(incoming).damaged

    def test_damaged_objects_are_each_kept(self, place: Place, incoming: Incoming) -> None:
        for number in range(3):
            incoming.add(in_sacks(SACKS, [0, 2], float(number)))
        place.change(lambda data: b"\0" + data[1:])
        damaged = set(place.objects())
        for sack in (2, 0):
            taken = take_all(incoming, [sack])
            assert len(taken.damaged) == len({damage.name for damage in taken.damaged}) == 3
            incoming.discard(taken)
        assert place.kept() == damaged
        assert place.objects() == []

    def test_damage_is_told_again_until_it_is_discarded(
        self, place: Place, incoming: Incoming
    ) -> None:
        """A worker may be killed between taking and reporting."""
        incoming.add(in_sacks(SACKS, [1], 1.0))
        place.change(lambda data: data[:-1])
        first, second = take_all(incoming), take_all(place.open())
        assert first.receipt
        assert first.damaged == second.damaged != []

    def test_damage_does_not_hold_up_a_bounded_take(self, place: Place, incoming: Incoming) -> None:
        for number in range(5):
            incoming.add(in_sacks(SACKS, [1], float(number)))
        place.change(lambda data: data[:-1])
        incoming.add(in_sacks(SACKS, [1], 9.0))
        seen = []
        for _ in range(7):
            taken = incoming.take([1], 1)
            seen += values(taken)
            incoming.discard(taken)
        assert seen == [9.0]
        assert incoming.waiting() == {}

    def test_backlog_can_be_counted_with_damage(self, place: Place, incoming: Incoming) -> None:
        incoming.add(in_sacks(SACKS, [1], 1.0))
        place.change(lambda data: data[:-1])
        incoming.add(in_sacks(SACKS, [1], 2.0))
        assert incoming.backlog(details=True).per_metric == {metric_in(1, SACKS): 1}
        assert incoming.backlog().points >= 1
