"""Which segments are merged, and when: properties of the plan, without any bytes."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnocchi.engine import compact
from gnocchi.indexer.catalog import Segment

FULL = 2**32 - 1
NONE: frozenset[str] = frozenset()


def piece(
    first: int, last: int, size: int, low: int = 0, high: int = FULL, name: str | None = None
) -> Segment:
    name = name or f"{first}-{last}-{low}"
    return Segment(name, first, last, low, high, 0, 0, 1, size, 0, 0, 0)


@st.composite
def live_segments(draw: st.DrawFn) -> list[Segment]:
    """Layers of one to four segments each, which divide the hash space; gaps between sequences."""
    sequence = 0
    live = []
    for _ in range(draw(st.integers(0, 14))):
        first = sequence + draw(st.integers(1, 3))
        sequence = first + draw(st.integers(0, 4))
        pieces = draw(st.sampled_from([1, 1, 1, 2, 4]))
        for number in range(pieces):
            if pieces == 1 or draw(st.integers(0, 5)):
                low, high = number * 2**32 // pieces, (number + 1) * 2**32 // pieces - 1
                size = draw(st.sampled_from([100, 40_000, 300_000, 3 << 20, 30 << 20, 200 << 20]))
                live.append(piece(first, sequence, size, low, high))
    return live


def damaged_among(live: list[Segment]) -> st.SearchStrategy[frozenset[str]]:
    return (
        st.frozensets(st.sampled_from([s.name for s in live]), max_size=3)
        if live
        else st.just(NONE)
    )


scenes = live_segments().flatmap(
    lambda live: st.tuples(st.just(live), st.integers(2, 8), damaged_among(live))
)


@given(scenes)
def test_merges_are_of_live_segments_each_in_one_merge(
    scene: tuple[list[Segment], int, frozenset[str]],
) -> None:
    live, fan_in, damaged = scene
    chosen = list(itertools.chain(*compact.plan(live, fan_in, damaged)))
    assert len({segment.name for segment in chosen}) == len(chosen)
    assert set(chosen) <= set(live)
    assert not damaged & {segment.name for segment in chosen}


@given(scenes)
def test_only_neighbours_in_sequence_are_merged(
    scene: tuple[list[Segment], int, frozenset[str]],
) -> None:
    """Whatever lies between the first and the last input, and overlaps in hash, is an input."""
    live, fan_in, damaged = scene
    for inputs in compact.plan(live, fan_in, damaged):
        first, last = min(s.first for s in inputs), max(s.last for s in inputs)
        low, high = min(s.low for s in inputs), max(s.high for s in inputs)
        between = [
            s
            for s in live
            if s.last >= first and s.first <= last and s.low <= high and s.high >= low
        ]
        assert set(between) == set(inputs)
        assert inputs == sorted(inputs, key=lambda s: (s.last, s.low))


@given(scenes)
def test_nothing_is_merged_across_a_damaged_layer(
    scene: tuple[list[Segment], int, frozenset[str]],
) -> None:
    live, fan_in, damaged = scene
    hurt = [(s.first, s.last) for s in live if s.name in damaged]
    for inputs in compact.plan(live, fan_in, damaged):
        first, last = min(s.first for s in inputs), max(s.last for s in inputs)
        assert all(stop < first or start > last for start, stop in hurt)


@given(scenes)
def test_every_merge_makes_fewer_layers(scene: tuple[list[Segment], int, frozenset[str]]) -> None:
    live, fan_in, damaged = scene
    for inputs in compact.plan(live, fan_in, damaged):
        assert len({(s.first, s.last) for s in inputs}) >= 2


@given(scenes)
def test_merges_that_are_due_come_to_an_end(
    scene: tuple[list[Segment], int, frozenset[str]],
) -> None:
    live, fan_in, damaged = scene
    for _ in range(len(live) + 1):
        due = compact.plan(live, fan_in, damaged)
        if not due:
            break
        for inputs in due:
            live = carry_out(live, inputs, compact.MAX_SEGMENT)
    assert compact.plan(live, fan_in, damaged) == []


@given(scenes)
def test_plan_depends_on_the_segments_and_not_on_their_order(
    scene: tuple[list[Segment], int, frozenset[str]],
) -> None:
    live, fan_in, damaged = scene
    assert compact.plan(live[::-1], fan_in, damaged) == compact.plan(live, fan_in, damaged)


@given(live_segments())
def test_layers_are_in_order_and_hold_every_segment_once(live: list[Segment]) -> None:
    found = compact.layers(reversed(live))
    assert sorted(s.name for layer in found for s in layer.segments) == sorted(s.name for s in live)
    for one, other in itertools.pairwise(found):
        assert one.last < other.first


def carry_out(live: list[Segment], inputs: list[Segment], max_size: int) -> list[Segment]:
    """What is live after a merge, rows neither replaced nor expired."""
    first, last = min(s.first for s in inputs), max(s.last for s in inputs)
    low, high = min(s.low for s in inputs), max(s.high for s in inputs)
    size = sum(s.size for s in inputs)
    pieces = 1
    while size > max_size * pieces:
        pieces *= 2
    cuts = [number * 2**32 // pieces for number in range(pieces + 1)]
    parts = [(max(a, low), min(b - 1, high)) for a, b in itertools.pairwise(cuts)]
    parts = [(a, b) for a, b in parts if a <= b]
    new = [piece(first, last, size // len(parts), a, b) for a, b in parts]
    return sorted([s for s in live if s not in inputs] + new, key=lambda s: (s.last, s.low))


# ------------------------------------------------------------------ chosen examples


def test_fan_in_small_layers_are_merged_and_fewer_are_not() -> None:
    live = [piece(n, n, 1000) for n in range(1, 5)]
    assert compact.plan(live, 4, NONE) == [live]
    assert compact.plan(live[:3], 4, NONE) == []


def test_layer_of_a_higher_tier_is_left_alone() -> None:
    big, small = piece(1, 8, 10 << 20), [piece(n, n, 1000) for n in range(9, 13)]
    assert compact.plan([big, *small], 4, NONE) == [small]


def test_smaller_layer_between_larger_ones_does_not_keep_them_apart() -> None:
    """Or a single quiet round would stop all later merges."""
    big = [piece(1, 1, 100_000), piece(2, 2, 100_000), piece(4, 4, 100_000)]
    small = piece(3, 3, 100)
    live = [*big[:2], small, big[2]]
    assert compact.plan(live, 3, NONE) == [live]


def test_layers_on_both_sides_of_a_damaged_one_are_counted_apart() -> None:
    live = [piece(n, n, 1000) for n in range(1, 8)]
    assert compact.plan(live, 4, frozenset([live[3].name])) == []
    assert compact.plan(live, 3, frozenset([live[3].name])) == [live[:3]]


def test_one_damaged_segment_spares_its_whole_layer() -> None:
    """What is left of the layer may not become younger than the damaged segment."""
    half = 2**31
    layer = [piece(1, 1, 1000, 0, half - 1), piece(1, 1, 1000, half, FULL)]
    live = [*layer, piece(2, 2, 1000), piece(3, 3, 1000)]
    assert compact.plan(live, 2, frozenset([layer[0].name])) == [live[2:]]


def test_large_merge_of_divided_layers_is_done_by_halves() -> None:
    size, half = 100 << 20, 2**31
    live = [
        piece(n, n, size, low, high) for n in (1, 2) for low, high in ((0, half - 1), (half, FULL))
    ]
    lower, upper = live[0::2], live[1::2]
    assert compact.plan(live, 2, NONE) == [lower, upper]


def test_large_merge_is_done_at_once_if_a_segment_lies_across() -> None:
    size, half = 200 << 20, 2**31
    divided = [piece(2, 2, size // 2, 0, half - 1), piece(2, 2, size // 2, half, FULL)]
    live = [piece(1, 1, size), *divided]
    assert compact.plan(live, 2, NONE) == [live]


def test_half_that_has_only_one_layer_is_not_rewritten() -> None:
    size, half = 200 << 20, 2**31
    live = [
        piece(1, 1, size // 2, 0, half - 1),
        piece(1, 1, size // 2, half, FULL),
        piece(2, 2, size, half, FULL),
    ]
    assert compact.plan(live, 2, NONE) == [live[1:]]


@pytest.mark.parametrize(("size", "level"), [(0, 0), (32767, 0), (32768, 1), (262144, 2)])
def test_tier_is_one_higher_for_each_factor_of_the_fan_in(size: int, level: int) -> None:
    assert compact.tier(size, 8) == level


# ------------------------------------------------------------------ under load


def under_load(sizes: list[int], fan_in: int, rounds: int) -> tuple[int, int, int]:
    """The most layers that were live, and the bytes that were written and rewritten."""
    live: list[Segment] = []
    written = rewritten = most = 0
    for number, size in zip(range(1, rounds + 1), itertools.cycle(sizes), strict=False):
        live.append(piece(number, number, size))
        written += size
        while due := compact.plan(live, fan_in, NONE):
            for inputs in due:
                rewritten += sum(segment.size for segment in inputs)
                live = carry_out(live, inputs, compact.MAX_SEGMENT)
        most = max(most, len(compact.layers(live)))
    return most, written, rewritten


def tiers(written: int, fan_in: int) -> float:
    return math.log(max(written / compact.SMALLEST_TIER, 1), fan_in) + 2


@pytest.mark.parametrize("fan_in", [2, 3, 8])
@pytest.mark.parametrize("size", [5_000, 50_000, 500_000])
def test_live_layers_stay_logarithmic_in_what_was_written(size: int, fan_in: int) -> None:
    """And no row is rewritten more often than that."""
    sizes = [size, size + size // 20, size - size // 20]
    most, written, rewritten = under_load(sizes, fan_in, 600)
    assert most <= fan_in * tiers(written, fan_in)
    # layers below the smallest tier count as equal, so they are rewritten more than once in it
    within_smallest = math.log(max(compact.SMALLEST_TIER / size, 1), fan_in) + 1
    assert rewritten <= written * (tiers(written, fan_in) + within_smallest)


@pytest.mark.parametrize("fan_in", [3, 8])
def test_live_layers_stay_logarithmic_when_sizes_take_turns(fan_in: int) -> None:
    """A large round after every few small ones, and a larger one after every few large ones."""
    small, large, larger = [500], [60_000], [700_000]
    sizes = ((small * (fan_in - 1) + large) * (fan_in - 1) + small * (fan_in - 1)) + larger
    most, written, _ = under_load(sizes, fan_in, 600)
    assert most <= 3 * fan_in * tiers(written, fan_in)
