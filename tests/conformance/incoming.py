"""What every `Incoming` has to do."""

from __future__ import annotations

import itertools
import struct
import threading
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from gnocchi.errors import Unavailable
from gnocchi.segments import batch
from gnocchi.segments.batch import Points
from tests.conformance import models
from tests.conformance.models import EVERYTHING, SACKS
from tests.conformance.points import entries, in_sacks, metric_in, points, values
from tests.conformance.storage import both
from tests.conformance.waiting import WaitingConformance, take_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from gnocchi.incoming import Incoming
    from tests.conformance.waiting import Place

NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_1234))[0]


class IncomingConformance(WaitingConformance):
    """Subclasses give the fixtures ``place`` and ``new_place``, and their flags."""

    #: Whether the backend can fail at all.
    may_fail: ClassVar[bool] = True
    #: How many sequences of calls to try; fewer where calls are slow.
    examples: ClassVar[int] = models.SETTINGS.max_examples
    #: What large numbers of requests are divided by, where each takes long.
    fewer: ClassVar[int] = 1

    @pytest.fixture
    def incoming(self, place: Place) -> Incoming:
        """A client, upgraded."""
        incoming = place.open()
        incoming.upgrade()
        return incoming

    # ------------------------------------------------------------ add and take

    def test_new_place_has_nothing_waiting(self, incoming: Incoming) -> None:
        taken = take_all(incoming)
        assert len(taken.points) == len(taken.points.ids) == 0
        assert not taken.receipt
        assert not taken.damaged
        assert incoming.waiting() == {}
        assert incoming.backlog()[:3] == (0, 0, 0)
        assert incoming.backlog(details=True) == (0, 0, 0, {})

    def test_receipt_tells_how_many_objects_were_taken(self, incoming: Incoming) -> None:
        assert len(take_all(incoming).receipt) == 0
        lengths = []
        for number in range(3):
            incoming.add(in_sacks(SACKS, [1], float(number)))
            lengths.append(len(take_all(incoming).receipt))
        assert lengths == [1, 2, 3]

    def test_no_points_leave_nothing_waiting(self, place: Place, incoming: Incoming) -> None:
        incoming.add(points())
        incoming.add(points((metric_in(1, SACKS), [])))
        assert incoming.waiting() == {}
        assert place.objects() == []

    def test_points_are_taken_as_they_were_added(self, incoming: Incoming) -> None:
        first, second = metric_in(1, SACKS, 7), metric_in(1, SACKS, 8)
        incoming.add(points((first, [1.0, 2.0]), (second, [3.0])))
        assert entries(take_all(incoming)) == [(first, [1.0, 2.0]), (second, [3.0])]

    def test_every_bit_of_times_and_values_is_kept(self, incoming: Incoming) -> None:
        wanted = np.array([NAN, -0.0, 0.0, np.inf, -np.inf, 5e-324, 1.7e308], np.float64)
        at = np.array([0, 1, -1, 2**63 - 1, -(2**63), 1 << 62, 3], np.int64)
        raw = metric_in(3, SACKS, 2**96 - 1)
        incoming.add(Points(np.frombuffer(raw, batch.ID), np.array([7]), at, wanted))
        taken = take_all(incoming).points
        assert taken.values.tobytes() == wanted.tobytes()
        assert taken.timestamps.tobytes() == at.tobytes()
        assert taken.ids.tobytes() == raw

    def test_order_of_arrival_is_kept(self, incoming: Incoming) -> None:
        one, other = metric_in(2, SACKS, 1), metric_in(2, SACKS, 0)
        for number in range(60):
            incoming.add(points((one, [float(number)]), (other, [number + 0.5])))
        expected = [value for number in range(60) for value in (number, number + 0.5)]
        assert values(take_all(incoming)) == expected

    def test_metric_may_appear_twice_in_one_add(self, incoming: Incoming) -> None:
        one, other = metric_in(2, SACKS, 1), metric_in(0, SACKS, 0)
        incoming.add(points((one, [1.0]), (other, [2.0]), (one, [3.0]), (other, []), (one, [4.0])))
        assert values(take_all(incoming, [2])) == [1.0, 3.0, 4.0]
        assert values(take_all(incoming, [0])) == [2.0]

    def test_take_changes_nothing(self, incoming: Incoming) -> None:
        incoming.add(in_sacks(SACKS, range(SACKS), 1.0, 2.0))
        first, second = take_all(incoming), take_all(incoming)
        assert entries(first) == entries(second)
        assert incoming.waiting().keys() == {0, 1, 2, 3}

    def test_take_gives_only_the_sacks_asked_for(self, incoming: Incoming) -> None:
        incoming.add(in_sacks(SACKS, [0, 1, 2], 1.0))
        incoming.add(in_sacks(SACKS, [1, 3], 2.0))
        assert entries(take_all(incoming, [1])) == [
            (metric_in(1, SACKS), [1.0]),
            (metric_in(1, SACKS), [2.0]),
        ]
        assert not take_all(incoming, []).receipt
        assert {raw for raw, _ in entries(take_all(incoming, [0, 3]))} == {
            metric_in(0, SACKS),
            metric_in(3, SACKS),
        }

    def test_sack_of_a_metric_is_its_range_of_the_hash_space(self, incoming: Incoming) -> None:
        edges = [0, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 3 * 2**30 - 1, 3 * 2**30, 2**32 - 1]
        raw = [high.to_bytes(4, "big") + b"\xff" * 12 for high in edges]
        incoming.add(points(*((one, [1.0]) for one in raw)))
        for sack in range(4):
            taken = [one for one, _ in entries(take_all(incoming, [sack]))]
            assert taken == raw[2 * sack : 2 * sack + 2]

    def test_points_are_there_for_other_clients(self, place: Place, incoming: Incoming) -> None:
        incoming.add(in_sacks(SACKS, [2], 1.0))
        assert values(take_all(place.open())) == [1.0]

    def test_client_may_be_told_to_give_up_earlier(self, place: Place, incoming: Incoming) -> None:
        other = place.open()
        other.give_up_after(60.0)
        other.add(in_sacks(SACKS, [0], 1.0))
        assert values(take_all(incoming)) == values(take_all(other)) == [1.0]

    def test_upgrade_again_keeps_what_waits(self, place: Place, incoming: Incoming) -> None:
        incoming.add(in_sacks(SACKS, [2], 1.0))
        both([incoming.upgrade, place.open().upgrade])
        assert values(take_all(incoming)) == [1.0]

    def test_stored_objects_are_of_the_one_format(self, place: Place, incoming: Incoming) -> None:
        """So what one driver stored can be moved to another."""
        sent = in_sacks(SACKS, range(SACKS), 1.0, 2.0)
        incoming.add(sent)
        found = {}
        for data in place.objects():
            for entry in batch.read_directory(data, "object"):
                start, length = int(entry["offset"]), int(entry["length"])
                share = batch.read_share(entry, data[start : start + length], "object")
                found[int(entry["sack"])] = share.ids.tobytes(), share.values.tolist()
        assert found == {sack: (metric_in(sack, SACKS), [1.0, 2.0]) for sack in range(SACKS)}

    def test_large_request_is_whole(self, incoming: Incoming) -> None:
        count, metrics = 1_000_000, 1000
        rng = np.random.default_rng(1)
        ids = np.frombuffer(rng.bytes(16 * metrics), batch.ID)
        sent = Points(
            ids,
            np.full(metrics, count // metrics),
            rng.integers(0, 2**62, count),
            rng.random(count),
        )
        incoming.add(sent)
        taken = Points.concatenate([take_all(incoming, [sack]).points for sack in range(SACKS)])
        # sacks are ranges of ids
        order = np.argsort(batch.high_bits(ids) // np.uint64(2**30), kind="stable")
        rows = np.arange(count).reshape(metrics, -1)[order].ravel()
        assert np.array_equal(taken.ids, ids[order])
        assert np.array_equal(taken.timestamps, sent.timestamps[rows])
        assert np.array_equal(taken.values, sent.values[rows])

    @pytest.mark.parametrize("sacks", [1, 257, 1000])
    def test_any_number_of_sacks_works(self, place: Place, sacks: int) -> None:
        incoming = place.open(sacks)
        incoming.upgrade()
        incoming.add(in_sacks(sacks, range(sacks), 1.0))
        incoming.add(in_sacks(sacks, [0, sacks - 1], 2.0))
        assert incoming.waiting().keys() == set(range(sacks))
        middle = incoming.take([sacks // 2], EVERYTHING)
        assert metric_in(sacks // 2, sacks) in [raw for raw, _ in entries(middle)]
        last = incoming.take([sacks - 1], EVERYTHING)
        assert [listed for _, listed in entries(last)][-1] == [2.0]
        everything = incoming.take(range(sacks), EVERYTHING)
        assert len(everything.points) == sacks + 2
        incoming.discard(last)
        assert incoming.waiting().keys() == set(range(sacks - 1))
        incoming.discard(everything)
        assert incoming.waiting() == {}

    # ------------------------------------------------------------ the bound on points

    def test_bound_leaves_the_newest_for_later(self, incoming: Incoming) -> None:
        for number in range(5):
            incoming.add(in_sacks(SACKS, [1], *([float(number)] * 10)))
        taken = incoming.take([1], 25)
        assert taken.more
        assert values(taken) == [0.0] * 10 + [1.0] * 10 + [2.0] * 10
        incoming.discard(taken)
        rest = incoming.take([1], 25)
        assert not rest.more
        assert values(rest) == [3.0] * 10 + [4.0] * 10

    def test_object_larger_than_the_bound_is_taken_all_the_same(self, incoming: Incoming) -> None:
        incoming.add(in_sacks(SACKS, [1], *([1.0] * 10)))
        incoming.add(in_sacks(SACKS, [1], 2.0))
        taken = incoming.take([1], 1)
        assert taken.more
        assert values(taken) == [1.0] * 10

    def test_bound_that_is_just_reached_says_if_there_is_more(self, incoming: Incoming) -> None:
        incoming.add(in_sacks(SACKS, [1], 1.0))
        incoming.add(in_sacks(SACKS, [2], 2.0))
        assert not incoming.take([1], 1).more
        assert incoming.take([1, 2], 1).more
        assert not incoming.take([1, 2], 2).more

    def test_bound_takes_oldest_first_over_all_sacks(self, incoming: Incoming) -> None:
        for number, sack in enumerate([3, 0, 2, 1]):
            incoming.add(in_sacks(SACKS, [sack], float(number)))
        assert values(incoming.take(range(SACKS), 2)) == [0.0, 1.0]

    def test_rounds_of_bounded_takes_come_to_an_end(self, incoming: Incoming) -> None:
        for number in range(30):
            incoming.add(in_sacks(SACKS, [number % SACKS, (number + 1) % SACKS], float(number)))
        seen = []
        while (taken := incoming.take(range(SACKS), 7)).receipt:
            seen += values(taken)
            incoming.discard(taken)
        assert seen == [float(number) for number in range(30) for _ in range(2)]

    # ------------------------------------------------------------ discard

    def test_discard_removes_what_was_taken_and_nothing_else(self, incoming: Incoming) -> None:
        incoming.add(in_sacks(SACKS, [1, 2], 1.0))
        taken = take_all(incoming, [1])
        incoming.add(in_sacks(SACKS, [1, 2], 2.0))
        incoming.discard(taken)
        assert values(take_all(incoming, [1])) == [2.0]
        assert values(take_all(incoming, [2])) == [1.0, 2.0]

    def test_discard_twice_is_no_error(self, place: Place, incoming: Incoming) -> None:
        incoming.add(in_sacks(SACKS, [1, 2], 1.0))
        taken = take_all(incoming, [1])
        incoming.discard(taken)
        incoming.add(in_sacks(SACKS, [1], 2.0))
        incoming.discard(taken)
        place.open().discard(taken)
        assert values(take_all(incoming)) == [1.0, 2.0]

    def test_everything_discarded_leaves_no_object(self, place: Place, incoming: Incoming) -> None:
        incoming.add(in_sacks(SACKS, range(SACKS), 1.0))
        for sack in range(SACKS):
            incoming.discard(take_all(incoming, [sack]))
        assert place.objects() == []
        assert incoming.waiting() == {}

    def test_overlapping_takes_may_both_be_discarded(
        self, place: Place, incoming: Incoming
    ) -> None:
        """As of two workers of which one had lost its lock."""
        incoming.add(in_sacks(SACKS, [0, 1, 2], 1.0))
        other = place.open()
        first, second = take_all(incoming, [0, 1]), take_all(other, [1, 2])
        other.discard(second)
        assert incoming.waiting().keys() == {0}
        incoming.discard(first)
        assert incoming.waiting() == {}

    def test_take_after_another_discarded_gives_the_rest(
        self, place: Place, incoming: Incoming
    ) -> None:
        incoming.add(in_sacks(SACKS, range(SACKS), 1.0))
        other = place.open()
        stale = take_all(incoming, [0, 1])
        other.discard(take_all(other, [1, 2]))
        incoming.discard(stale)
        assert entries(take_all(incoming)) == [(metric_in(3, SACKS), [1.0])]

    def test_workers_that_discard_different_sacks_at_once_lose_nothing(
        self, place: Place, incoming: Incoming
    ) -> None:
        for number in range(200 // self.fewer):
            incoming.add(in_sacks(SACKS, range(SACKS), float(number)))
        seen: dict[int, list[float]] = {sack: [] for sack in range(SACKS)}

        def drain(sack: int) -> None:
            client = place.open()
            while (taken := client.take([sack], 9)).receipt:
                seen[sack] += values(taken)
                client.discard(taken)

        both([lambda sack=sack: drain(sack) for sack in range(SACKS)])  # type: ignore[misc]
        assert all(listed == list(map(float, range(200 // self.fewer))) for listed in seen.values())
        assert place.objects() == []

    def test_take_misses_nothing_while_others_discard_their_sacks(
        self, place: Place, incoming: Incoming
    ) -> None:
        """A round that missed an object would process newer points before older ones."""
        expected = list(map(float, range(600 // self.fewer)))
        for value in expected:
            incoming.add(in_sacks(SACKS, range(SACKS), value))

        def discard(sack: int) -> None:
            client = place.open()
            while (taken := client.take([sack], 10)).receipt:
                client.discard(taken)

        def take() -> None:
            client = place.open()
            while any(thread.is_alive() for thread in others):
                assert values(take_all(client, [0])) == expected

        others = [threading.Thread(target=discard, args=(sack,)) for sack in range(1, SACKS)]
        for thread in others:
            thread.start()
        try:
            take()
        finally:
            for thread in others:
                thread.join()

    def test_failed_discard_leaves_a_suffix(self, place: Place, incoming: Incoming) -> None:
        """So a second round over the rest comes to the same result."""
        if not self.may_fail:
            pytest.skip("this backend cannot fail")
        for number in range(6):
            incoming.add(in_sacks(SACKS, [0, 1], float(number)))
        for call in itertools.count():
            taken = take_all(incoming, [0])
            left = values(taken)
            try:
                with place.failing(call):
                    incoming.discard(taken)
            except Unavailable:
                assert call < 20
            else:
                break
            rest = values(take_all(incoming, [0]))
            assert rest == left[len(left) - len(rest) :]
        assert call > 1
        assert values(take_all(incoming, [0])) == []
        assert values(take_all(incoming, [1])) == list(map(float, range(6)))

    def test_failed_add_can_be_repeated(self, place: Place, incoming: Incoming) -> None:
        if not self.may_fail:
            pytest.skip("this backend cannot fail")
        for call in itertools.count():
            sent = in_sacks(SACKS, [0, 1], float(call), call + 0.5)
            try:
                with place.failing(call):
                    incoming.add(sent)
            except Unavailable:
                incoming.add(sent)
            else:
                break
        assert call > 1
        found = values(take_all(incoming, [1]))
        # all of it, perhaps twice in a row, never a part of it
        pairs = [(found[i], found[i + 1]) for i in range(0, len(found), 2)]
        assert [pair for pair, _ in itertools.groupby(pairs)] == [
            (float(number), number + 0.5) for number in range(call + 1)
        ]

    # ------------------------------------------------------------ writers at once

    def test_writers_at_once_lose_nothing_and_keep_their_order(self, place: Place) -> None:
        first = place.open()
        first.upgrade()
        clients = [first, first, first, place.open(), place.open()]

        def write(writer: int) -> None:
            for number in range(40):
                clients[writer].add(in_sacks(SACKS, [1, 3], writer * 1000.0 + number))

        both([lambda writer=writer: write(writer) for writer in range(5)])  # type: ignore[misc]
        for sack in (1, 3):
            found = values(take_all(place.open(), [sack]))
            for writer in range(5):
                mine = [value for value in found if value // 1000 == writer]
                assert mine == [writer * 1000.0 + number for number in range(40)]
            assert len(found) == 200

    def test_rounds_while_writing_see_every_point_once_in_order(self, place: Place) -> None:
        incoming = place.open()
        incoming.upgrade()
        seen: list[float] = []

        def write() -> None:
            client = place.open()
            for number in range(300 // self.fewer):
                client.add(in_sacks(SACKS, [2], float(number)))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            alive = True
            while alive:
                alive = writer.is_alive()
                taken = take_all(incoming, [2])
                seen += values(taken)
                incoming.discard(taken)
        finally:
            writer.join()
        assert seen == list(map(float, range(300 // self.fewer)))

    # ------------------------------------------------------------ anything, in any order

    def test_any_sequence_of_calls_equals_a_dict(self, new_place: Callable[[], Place]) -> None:
        run_state_machine_as_test(
            lambda: models.Queue(new_place()),
            settings=settings(models.SETTINGS, max_examples=self.examples),
        )
