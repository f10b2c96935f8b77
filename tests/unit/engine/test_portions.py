"""Portions of a round: nothing is lost or reordered where it is divided and joined again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnocchi.engine import portions
from gnocchi.engine.windows import Window, Windows
from gnocchi.segments.segment import Block
from gnocchi.series.points import is_absent


def ids(count: int, first: int = 0) -> np.ndarray:
    return np.frombuffer(b"".join(n.to_bytes(16) for n in range(first, first + count)), "V16")


def window(counts: list[int], first: int = 0) -> Window:
    points = np.arange(sum(counts))
    count = len(counts)
    numbers = np.arange(count)
    return Window(ids(count, first), numbers, numbers, np.array(counts), points, points / 2)


def same(one: Window, other: Window) -> bool:
    names = ("ids", "newest", "complete_from", "counts", "timestamps", "values")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20))
def test_portions_cover_every_metric_once_and_are_bounded(sizes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portions, "PORTION", 20)
        found = portions.divide(np.array(sizes))
    assert [n for part in found for n in range(part.start, part.stop)] == list(range(len(sizes)))
    for part in found:
        assert sum(sizes[part]) - max(sizes[part]) <= 20


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=8))
def test_joined_blocks_hold_the_same_rows_in_whole_row_groups(rows: list[list[int]]) -> None:
    """``rows`` says how many rows each metric of each block has."""
    blocks, expected, first = [], [], 0
    for number, counts in enumerate(rows):
        index = np.repeat(np.arange(len(counts)), counts)
        times = np.arange(len(index))
        column = "mean" if number % 2 else "max"
        blocks.append(Block(60, ids(len(counts), first), index, times, {column: times / 4}))
        expected += [(first + int(i), int(t), column) for i, t in zip(index, times, strict=True)]
        first += len(counts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portions, "ROWS", 4)
        joined = list(portions.whole_row_groups(blocks))

    assert all(len(block) % 4 == 0 for block in joined[:-1])
    found = []
    for block in joined:
        assert (np.diff(block.index) >= 0).all()
        present = {name: ~is_absent(block.column(name)) for name in ("max", "mean")}
        for row, time in enumerate(block.timestamps.tolist()):
            (name,) = (name for name in present if present[name][row])
            assert block.columns[name][row] == time / 4
            found.append((int.from_bytes(block.ids[block.index[row]].tobytes()), time, name))
    assert found == expected


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.data())
def test_a_part_of_a_window_is_what_selecting_its_metrics_gives(
    counts: list[int], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(counts) - 1))
    stop = data.draw(st.integers(start + 1, len(counts)))
    whole = window(counts)
    part = whole.part(start, stop)
    assert same(part, whole.select(np.arange(start, stop)))
    assert part.timestamps.base is None


def test_a_window_finds_the_metrics_it_has() -> None:
    held = window([1, 2, 1])
    assert held.find(ids(3)).tolist() == [0, 1, 2]
    assert held.find(ids(3, first=1)).tolist() == [1, 2, -1]
    assert held.find(ids(2, first=7)).tolist() == [-1, -1]


def test_a_window_is_handed_over_once_and_only_at_its_generation() -> None:
    windows = Windows(1 << 20)
    windows.keep(3, 7, window([2, 1]))
    assert same(windows.take(3, 7), window([2, 1]))
    assert not len(windows.take(3, 7).ids)
    windows.keep(3, 8, window([2, 1]))
    assert not len(windows.take(3, 9).ids)
    assert windows.nbytes == 0


def test_windows_of_the_sacks_processed_longest_ago_go_first() -> None:
    size = window([5]).nbytes
    windows = Windows(2 * size)
    for sack in range(3):
        windows.keep(sack, 1, window([5]))
    assert windows.nbytes == 2 * size
    assert [len(windows.take(sack, 1).ids) for sack in range(3)] == [0, 1, 1]
