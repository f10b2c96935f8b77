"""Merging equals a dict: of each row the newest, without those nobody can ask for."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnocchi import archive_policy
from gnocchi.errors import CorruptObject
from gnocchi.segments import merge as merging
from gnocchi.segments import row_groups, segment
from gnocchi.segments.segment import RAW, VALUE, Block, Tail, Written
from gnocchi.series.points import ABSENT_BITS
from tests.unit.segments.test_segment import read, stored

if TYPE_CHECKING:
    from gnocchi.drivers.memory import MemoryStorage

S = 1_000_000_000
# id -> columns by granularity (s) -> {time (s) -> values}
Row = tuple[int, int, int]  # granularity in s, number of the metric, time in s
Layer = dict[Row, dict[str, float]]

POLICIES = [
    archive_policy.ArchivePolicy.create(
        name,
        window,
        [
            archive_policy.Definition.complete(
                granularity=g * S, timespan=None if t is None else t * S
            )
            for g, t in granularities
        ],
        frozenset(methods),
    )
    for name, window, granularities, methods in (
        ("short", 0, [(10, 50)], ["mean", "max", "std"]),
        ("two", 1, [(10, 100), (60, None)], ["mean", "count"]),
        ("rates", 0, [(10, 100)], ["mean", "rate:mean", "rate:std"]),
    )
]
METRICS = 9
ABSENT_EVERY = {"std": 2, "rate:mean": 5, "rate:std": 3}
GONE = (2, 6)


def policy_of(number: int) -> archive_policy.ArchivePolicy:
    return POLICIES[number % 3]


def raw_id(number: int) -> bytes:
    return (number * 2**32 // METRICS).to_bytes(4, "big") + number.to_bytes(12, "big")


NUMBER = {raw_id(number): number for number in range(METRICS)}


def policies(ids: np.ndarray) -> tuple[np.ndarray, list[archive_policy.ArchivePolicy]]:
    numbers = [NUMBER[raw] for raw in ids.tolist()]
    return np.array([-1 if n in GONE else n % 3 for n in numbers]), POLICIES


@dataclass
class Source:
    """A segment in memory; counts how many row groups are decoded at a time."""

    storage: MemoryStorage
    tail: Tail
    blocks: int = 0

    def block(self, group: int) -> Block:
        self.blocks += 1
        return row_groups.read_group(self.storage, self.tail, group)


def write(layer: Layer) -> Written:
    """A segment of these rows."""
    blocks = []
    for granularity in sorted({g for g, _, _ in layer}):
        rows = sorted(key for key in layer if key[0] == granularity)
        numbers = sorted({number for _, number, _ in rows})
        columns = {}
        for name in sorted({name for key in rows for name in layer[key]}):
            values = [layer[key].get(name, math.nan) for key in rows]
            absent = [name not in layer[key] for key in rows]
            bits = np.where(absent, ABSENT_BITS, np.array(values).view(np.int64))
            columns[name] = bits.view(np.float64)
        blocks.append(
            Block(
                granularity * S,
                np.frombuffer(b"".join(map(raw_id, numbers)), "V16"),
                np.array([numbers.index(number) for _, number, _ in rows]),
                np.array([at * S for _, _, at in rows]),
                columns,
            )
        )
    return segment.write(blocks)


def source(layer: Layer) -> Source:
    return Source(*stored(write(layer)))


def rows(written: Written) -> Layer:
    """The rows of a segment, without methods that the metric's policy does not keep."""
    found: Layer = {}
    for (granularity, raw, at), columns in read(written).items():
        number = NUMBER[raw]
        wanted = {VALUE} | policy_of(number).aggregation_methods
        found[granularity // S, number, at // S] = {
            name: float(np.int64(bits).view(np.float64))
            for name, bits in columns.items()
            if name in wanted
        }
    return found


def merged_by_hand(layers: list[Layer]) -> Layer:
    """What has to be left, computed row by row."""
    newest: Layer = {}
    for layer in layers:
        newest.update(layer)
    return {
        key: columns
        for key, columns in newest.items()
        if key[1] not in GONE and _wanted(key, newest, policy_of(key[1]))
    }


def _wanted(key: Row, rows_: Layer, policy: archive_policy.ArchivePolicy) -> bool:
    granularity, number, at = key
    mine = {t: c for (g, n, t), c in rows_.items() if (g, n) == (granularity, number)}
    if granularity == RAW:
        newest = max(mine)
        block = max(policy.granularities) // S
        limit = newest - newest % block - block * policy.window
        floor = min(limit - limit % (g // S) for g in policy.granularities)
        if policy.has_rate:
            before = [t for t in mine if t < floor]
            newer = [t for t in mine if t >= floor]
            # the last one before, if there is one after it
            return at >= floor or (bool(newer) and at == max(before))
        return at >= floor
    if granularity * S not in policy.granularities:
        return False
    timespan = policy.timespan(granularity * S)
    return any(
        timespan is None or at > max(t for t, c in mine.items() if name in c) - timespan // S
        for name in rows_[key]
        if name in policy.aggregation_methods
    )


values = st.integers(-5, 5).map(float)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """Rows as rounds write them: columns of the policy, deviations and differences now and then."""
    layer: Layer = {}
    for number in draw(st.sets(st.integers(0, METRICS - 1), min_size=1, max_size=6)):
        policy = policy_of(number)
        for granularity in [0, *(g // S for g in policy.granularities)]:
            for step in draw(st.sets(st.integers(0, 25), max_size=6)):
                at = step * (granularity or 7)
                if granularity == RAW:
                    layer[RAW, number, at] = {VALUE: draw(values)}
                    continue
                layer[granularity, number, at] = {
                    name: draw(values)
                    for name in sorted(policy.aggregation_methods)
                    # once a bucket has a deviation or a difference, it keeps it
                    if name not in ABSENT_EVERY or (step + number) % ABSENT_EVERY[name]
                }
    return layer


histories = st.lists(layers().filter(bool), min_size=1, max_size=4)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "ROWS", 4)
    monkeypatch.setattr(merging, "SLICE_ROWS", 6)


@pytest.mark.usefixtures("small_pieces")
class TestMerge:
    @settings(deadline=None, max_examples=70)
    @given(histories)
    def test_merge_equals_a_dict_of_the_newest_rows(self, history: list[Layer]) -> None:
        parts = list(merging.merge([source(layer) for layer in history], policies, 1 << 30))
        found = [rows(part) for part in parts]
        assert sum(found, start=_Joined()) == merged_by_hand(history)
        assert len(parts) <= 1

    @settings(deadline=None, max_examples=30)
    @given(histories, st.integers(200, 5000))
    def test_parts_divide_the_hash_space_and_together_are_the_merge(
        self, history: list[Layer], max_size: int
    ) -> None:
        parts = list(merging.merge([source(layer) for layer in history], policies, max_size))
        assert sum(map(rows, parts), start=_Joined()) == merged_by_hand(history)
        for one, other in itertools.pairwise(parts):
            assert one.high < other.low
        # cut at halves, quarters, …: parts of merges of other sizes never overlap half-way
        cuts = {0} | {p * 2**32 // 2**k for k in range(8) for p in range(2**k)}
        for part in parts:
            start = max(cut for cut in cuts if cut <= part.low)
            assert any(cut > part.high for cut in cuts | {2**32} if cut > start)

    @settings(deadline=None, max_examples=30)
    @given(histories, st.integers(1, 3))
    def test_merging_step_by_step_equals_merging_at_once(
        self, history: list[Layer], cut: int
    ) -> None:
        older, newer = history[:cut], history[cut:]
        if not newer:
            return
        first = list(merging.merge([source(layer) for layer in older], policies, 1 << 30))
        sources = [Source(*stored(part)) for part in first] + [source(layer) for layer in newer]
        again = list(merging.merge(sources, policies, 1 << 30))
        assert sum(map(rows, again), start=_Joined()) == merged_by_hand(history)

    @settings(deadline=None, max_examples=30)
    @given(histories)
    def test_slices_are_bounded_and_every_row_group_is_read_once(
        self, history: list[Layer]
    ) -> None:
        sources = [source(layer) for layer in history]
        largest = 0
        for granularity in merging._granularities(sources):
            for block in merging._slices(sources, granularity, None, None):
                largest = max(largest, len(block))
        assert [s.blocks for s in sources] == [len(s.tail.groups) for s in sources]
        # a metric is never cut, nor are row groups that begin in a slice
        one_metric = max(
            sum(len(keys) for keys in by_layer)
            for key in {key[:2] for layer in history for key in layer}
            for by_layer in [[[k for k in layer if k[:2] == key] for layer in history]]
        )
        assert largest <= 6 + 4 * len(history) + one_metric


class _Joined(Layer):
    """Layers of different rows, added up."""

    def __add__(self, other: Layer) -> _Joined:
        assert not self.keys() & other.keys(), "a row is in two parts"
        return _Joined({**self, **other})


def test_nothing_is_left_of_metrics_that_are_gone() -> None:
    layer: Layer = {(10, GONE[0], 10): {"mean": 1.0}, (0, GONE[1], 10): {VALUE: 1.0}}
    assert list(merging.merge([source(layer), source(layer)], policies, 1 << 30)) == []


def test_newest_layer_wins_even_with_fewer_columns() -> None:
    """An aggregate that is absent in the newest row does not come back from an older one."""
    older: Layer = {(10, 0, 10): {"mean": 1.0, "max": 3.0, "std": 2.0}}
    newer: Layer = {(10, 0, 10): {"mean": 5.0, "max": 5.0}}
    (written,) = merging.merge([source(older), source(newer)], policies, 1 << 30)
    assert rows(written) == newer


def test_damaged_source_is_an_error_and_no_gap() -> None:
    good, bad = source({(10, 0, 10): {"mean": 1.0}}), source({(10, 0, 20): {"mean": 1.0}})
    name, (written, data) = next(iter(bad.storage.objects.items()))
    bad.storage.objects[name] = (written, data[:8] + bytes([data[8] ^ 1]) + data[9:])
    with pytest.raises(CorruptObject):
        list(merging.merge([good, bad], policies, 1 << 30))


def test_rows_of_other_metrics_decide_nothing_about_retention() -> None:
    """Retention counts from the newest point of each series."""
    layer: Layer = {(10, 0, 10): {"mean": 1.0}, (10, 3, 10_000): {"mean": 1.0}}
    (written,) = merging.merge([source(layer)], policies, 1 << 30)
    assert rows(written) == layer


def test_deviation_that_is_older_than_the_last_bucket_is_kept_as_long_as_its_series() -> None:
    """The last buckets have one point each and no deviation."""
    layer: Layer = {(10, 0, 0): {"mean": 1.0, "std": 2.0}, (10, 0, 100): {"mean": 1.0}}
    (written,) = merging.merge([source(layer)], policies, 1 << 30)
    assert rows(written) == layer
    without: Layer = {(10, 0, 0): {"mean": 1.0}, (10, 0, 100): {"mean": 1.0}}
    (written,) = merging.merge([source(without)], policies, 1 << 30)
    assert rows(written) == {(10, 0, 100): {"mean": 1.0}}


def test_pieces_of_equal_size_are_cut_at_powers_of_two() -> None:
    layer: Layer = {(60, 1, 60 * t): {"mean": float(t), "count": 1.0} for t in range(50)}
    layer |= {(60, 7, 60 * t): {"mean": float(t), "count": 1.0} for t in range(50)}
    parts = list(merging.merge([source(layer)], policies, 300))
    assert len(parts) == 2
    assert [int.from_bytes(raw_id(n)[:4], "big") for n in (1, 7)] == [p.low for p in parts]
