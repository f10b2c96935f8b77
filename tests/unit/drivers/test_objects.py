"""The queue of object stores: races, crashes, and what it costs."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnocchi.drivers import acknowledgements
from gnocchi.drivers.acknowledgements import PREFIX, Share, settled
from gnocchi.drivers.names import Name
from gnocchi.errors import CorruptObject, Unavailable
from tests.conformance.models import SACKS
from tests.conformance.points import in_sacks, metric_in, points, values
from tests.conformance.waiting import take_all
from tests.unit.drivers.shelves import Place

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 10**9


@pytest.fixture
def place() -> Place:
    return Place()


# ------------------------------------------------------------ two workers


def test_two_that_acknowledge_at_once_do_not_leave_the_object(place: Place) -> None:
    """Neither of them has seen the other's acknowledgement when it looks for what is complete."""
    first, second = place.open(), place.open()
    for number in range(3):
        first.add(in_sacks(SACKS, [0, 1], float(number)))
    ours, theirs = take_all(first, [0]), take_all(second, [1])
    first.discard(ours)
    second.discard(theirs)
    assert len(place.shelf.waiting()) == 5
    assert first.waiting() == {}
    assert place.open().backlog(details=True) == (0, 0, 0, {})
    third = place.open()
    assert third.tidy(0.0) >= 3
    third.tidy(0.0)
    assert place.shelf.waiting() == []


def test_next_round_of_anybody_removes_what_two_have_left(place: Place) -> None:
    first, second = place.open(), place.open()
    first.add(in_sacks(SACKS, [0, 1], 1.0))
    ours, theirs = take_all(first, [0]), take_all(second, [1])
    first.discard(ours)
    second.discard(theirs)
    assert not take_all(first, [0]).receipt
    assert not take_all(second, [1]).receipt
    assert place.shelf.waiting() == []


def test_acknowledgement_of_what_is_gone_is_removed(place: Place) -> None:
    """Of a worker that was late, after another has done the same."""
    first, second = place.open(), place.open()
    for number in range(2):
        first.add(in_sacks(SACKS, [0], float(number)))
    ours, theirs = take_all(first), take_all(second)
    first.discard(ours)
    second.discard(theirs)
    third = place.open()
    assert not take_all(third).receipt
    assert not take_all(third).receipt
    assert place.shelf.waiting() == []


@pytest.mark.parametrize("late", [0, 1])
def test_acknowledgement_is_kept_while_its_object_may_be_there(place: Place, late: int) -> None:
    """An object that comes, is taken and acknowledged while a listing is read may be missed by it,
    and its acknowledgement found: that proves nothing about the object."""
    first, second = place.open(), place.open()
    keys = iter(range(100))
    for _ in range(late):
        first.add(in_sacks(SACKS, [3], float(next(keys))))

    def meanwhile() -> None:
        for number in range(2):
            first.add(in_sacks(SACKS, [0, 1], float(number)))
        first.discard(take_all(first, [0]))

    place.shelf.between = meanwhile
    second.tidy(0.0)
    assert values(take_all(place.open(), [0])) == []
    assert values(take_all(place.open(), [1])) == [0.0, 1.0]


def test_acknowledgement_is_kept_for_as_long_as_listings_lag(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing that lacks an object which is there must not cost the object's acknowledgement."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("gnocchi.drivers.objects.ObjectIncoming.listing_lag_s", 60.0)
    first, second = place.open(), place.open()
    for number in range(2):
        first.add(in_sacks(SACKS, [0, 1], float(number)))
    first.discard(take_all(first, [0]))
    hidden = {key: data for key, data in place.shelf.objects.items() if PREFIX not in key}
    for key in hidden:
        del place.shelf.objects[key]
    for _ in range(3):
        second.tidy(0.0)
        now[0] += 20.0
    place.shelf.objects.update(hidden)
    assert values(take_all(place.open(), [0])) == []
    assert values(take_all(place.open(), [1])) == [0.0, 1.0]
    for key in hidden:
        del place.shelf.objects[key]
    second.tidy(0.0)
    now[0] += 61.0
    second.tidy(0.0)
    assert place.shelf.waiting() == []


# ------------------------------------------------------------ crashes


@pytest.mark.parametrize("sacks", [[0], [0, 1, 2, 3], [0, 1]])
def test_discard_that_is_cut_short_has_removed_all_or_nothing(
    place: Place, sacks: list[int]
) -> None:
    for call in itertools.count():
        incoming = place.open()
        take = take_all(incoming)
        incoming.discard(take)
        sent = list(map(float, range(4)))
        for value in sent:
            incoming.add(in_sacks(SACKS, [0, 1], value))
        taken = take_all(incoming, sacks)
        try:
            with place.failing(call):
                incoming.discard(taken)
        except Unavailable:
            # whoever was killed there is not there any more: another one looks
            other = place.open()
            left = values(take_all(other, [0]))
            assert left in ([], sent)
            if 1 not in sacks:
                assert values(take_all(other, [1])) == sent
            other.discard(take_all(other))
            other.tidy(0.0)
            other.tidy(0.0)
            assert place.shelf.waiting() == []
        else:
            break
    assert call >= 4


# ------------------------------------------------------------ listing


def test_listing_that_shows_the_newer_and_not_the_older_is_not_used(place: Place) -> None:
    """A writer was slow with the older object; it comes where the listing has been read already."""
    slow, reader = place.open(), place.open()
    slow.add(in_sacks(SACKS, [0], 0.0))
    slow.add(in_sacks(SACKS, [0], 1.0))
    slow.add(in_sacks(SACKS, [0], 2.0))
    keys = sorted(place.shelf.waiting())
    held = {key: place.shelf.objects.pop(key) for key in keys[1:]}
    other = place.open()
    other.add(in_sacks(SACKS, [0], 9.0))

    def meanwhile() -> None:
        place.shelf.objects.update(held)  # in the first half of the folder and in the second
        slow.add(in_sacks(SACKS, [0], 3.0))

    seen = []
    place.shelf.between = meanwhile
    for _ in range(3):
        taken = take_all(reader, [0])
        seen += values(taken)
        reader.discard(taken)
    assert [value for value in seen if value < 9] == [0.0, 1.0, 2.0, 3.0]
    assert len(seen) == 5


writers_ = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3)), max_size=12)


@settings(deadline=None, max_examples=300)
@given(
    events=writers_,
    skews=st.lists(st.integers(-3, 3), min_size=3, max_size=3),
    moments=st.lists(st.integers(0, 40), min_size=4, max_size=4).map(sorted),
    order=st.randoms(use_true_random=False),
)
def test_settled_names_leave_out_no_older_name_of_their_writer(
    events: list[tuple[int, int, int]],
    skews: list[int],
    moments: list[int],
    order: object,
) -> None:
    """Whatever the clocks say, and in whatever order a listing is read."""
    now = [10, 10, 10]
    landed: dict[Name, int] = {}
    for writer, pause, takes in events:
        named = now[writer] + pause
        stem = f"{(named + skews[writer]) * SECOND + len(landed):016x}-{writer:08x}"
        landed[Name(stem, 1, 1, 1, 1)] = named + takes
        now[writer] = named + takes + 1

    def listing(began: int, ended: int) -> list[Name]:
        found = []
        for name, at in landed.items():
            if at <= order.randint(began, ended):  # type: ignore[attr-defined]
                found.append(name)
        return sorted(found)

    before, after = listing(*moments[:2]), listing(moments[1] + 1, moments[3] + 1)
    safe = settled(before, after, 60 * SECOND)
    assert set(safe) <= set(after)
    for name in safe:
        for other, at in landed.items():
            if other.writer == name.writer and other < name:
                assert other in safe, f"{other} came at {at}"
    if before == after:
        assert safe == after


def test_settled_names_of_hosts_are_not_overtaken_by_each_other() -> None:
    """What came to one host before something came to another is not left for later."""
    older = Name(f"{SECOND:016x}-{1:08x}", 1, 1, 1, 1)
    newer = Name(f"{2 * SECOND:016x}-{2:08x}", 1, 1, 1, 1)
    assert settled([newer], [older, newer], 60 * SECOND) == []
    assert settled([older, newer], [older, newer], 60 * SECOND) == [older, newer]


def test_clock_that_is_far_behind_does_not_hold_up_everybody() -> None:
    late = Name(f"{SECOND:016x}-{1:08x}", 1, 1, 1, 1)
    others = [Name(f"{n * 1000 * SECOND:016x}-{2:08x}", 1, 1, 1, 1) for n in (1, 2)]
    assert settled(others, [late, *others], 60 * SECOND) == others


# ------------------------------------------------------------ costs


def test_requests_of_a_round_do_not_depend_on_metrics_or_sacks(place: Place) -> None:
    counts = []
    for metrics in (1, 1000):
        incoming = place.open(16)
        step = 2**32 // metrics
        for number in range(3):
            incoming.add(
                points(
                    *(
                        ((at * step).to_bytes(4, "big") + bytes(12), [float(number)])
                        for at in range(metrics)
                    )
                )
            )
        assert place.shelf.count("put") == 3
        taken = take_all(incoming)
        assert len(taken.points) == 3 * metrics
        incoming.discard(taken)
        counts.append([call for call, _ in place.shelf.calls])
        place.shelf.calls.clear()
    assert counts[0] == counts[1]
    assert counts[0].count("get") == 3
    assert counts[0].count("put") == 4
    assert counts[0].count("delete") <= 2
    assert counts[0].count("list") <= 2


def test_only_object_is_discarded_with_one_request(place: Place) -> None:
    incoming = place.open()
    incoming.add(in_sacks(SACKS, range(SACKS), 1.0))
    taken = take_all(incoming)
    place.shelf.calls.clear()
    incoming.discard(taken)
    assert place.shelf.calls == [("delete", 1)]
    assert place.shelf.objects == {}


def test_acknowledgements_are_read_once(place: Place) -> None:
    first, second = place.open(), place.open()
    for number in range(5):
        first.add(in_sacks(SACKS, [0, 1], float(number)))
        first.discard(take_all(first, [0]))
    second.waiting()
    place.shelf.calls.clear()
    for _ in range(3):
        second.waiting()
        assert second.backlog()[:2] == (5, 5)
        assert first.backlog()[:2] == (5, 5)
    assert place.shelf.count("get") == 0


def test_bound_on_points_bounds_what_is_read(place: Place) -> None:
    incoming = place.open()
    for number in range(50):
        incoming.add(in_sacks(SACKS, [1], *([float(number)] * 10)))
    place.shelf.calls.clear()
    assert len(incoming.take([1], 30).points) == 30
    assert place.shelf.count("get") <= 4


def test_idle_wait_looks_more_and_more_rarely(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = place.open()
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def sleep(_: Callable[[], bool], timeout: float) -> bool:
        clock[0] += max(timeout, 0.001)
        return False

    monkeypatch.setattr(incoming._news, "wait_for", sleep)
    assert not incoming.wait(600.0)
    assert 100 < place.shelf.count("list") < 140


def test_local_add_ends_a_wait_at_once(place: Place) -> None:
    incoming = place.open()
    assert not incoming.wait(0.0)
    incoming.add(in_sacks(SACKS, [1], 1.0))
    began = time.monotonic()
    assert incoming.wait(30.0)
    assert time.monotonic() - began < 0.9


# ------------------------------------------------------------ damage


@pytest.mark.parametrize(
    "change", [lambda data: data[:-2], lambda data: b"?" + data, lambda _: b""]
)
def test_damaged_acknowledgement_is_set_aside_and_told(
    place: Place, change: Callable[[bytes], bytes]
) -> None:
    """Its points are processed again, which is harmless; they are not lost."""
    incoming = place.open()
    for number in range(2):
        incoming.add(in_sacks(SACKS, [0, 1], float(number)))
    incoming.discard(take_all(incoming, [0]))
    (key,) = (key for key in place.shelf.objects if "taken" in key)
    place.shelf.objects[key] = damaged = change(place.shelf.objects[key])
    other = place.open()
    taken = take_all(other)
    assert len(taken.damaged) == 1
    assert values(take_all(other, [0])) == values(take_all(other, [1])) == [0.0, 1.0]
    other.discard(taken)
    assert place.kept() == {damaged}
    assert place.shelf.waiting() == []
    assert not take_all(place.open()).damaged


def test_acknowledgement_reads_as_it_was_written() -> None:
    shares = {f"{n:016x}-{7:08x}": Share(1 << n, n, n * n) for n in range(0, 256, 5)}
    assert acknowledgements.decode(acknowledgements.encode(shares), "x") == shares


def test_acknowledgement_is_these_bytes() -> None:
    data = acknowledgements.encode({"18e9fd616dc2872b-ca3ed9cd": Share(0x8001, 2, 300)})
    assert data == b"GNACK 1 d0fceab3\n18e9fd616dc2872b-ca3ed9cd 8001 2 12c\n"


def test_every_changed_bit_of_an_acknowledgement_is_found() -> None:
    data = acknowledgements.encode({"18e9fd616dc2872b-ca3ed9cd": Share(0x8001, 2, 300)})
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptObject):
            acknowledgements.decode(bytes(changed), "x")


def test_backlog_counts_what_two_have_taken_once(place: Place) -> None:
    first, second = place.open(), place.open()
    first.add(in_sacks(SACKS, [0, 1, 2], 1.0, 2.0))
    ours, theirs = take_all(first, [0, 1]), take_all(second, [1])
    first.discard(ours)
    second.discard(theirs)
    assert place.open().backlog() == (1, 2, 1, None)
    assert place.open().backlog(details=True) == (1, 2, 1, {metric_in(2, SACKS): 1})
