"""Segments: what is written is what is read, by us and by others."""

from __future__ import annotations

import io
import itertools
import json
import pathlib
import zlib
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnocchi.drivers.memory import MemoryStorage
from gnocchi.errors import CorruptObject
from gnocchi.segments import row_groups, segment
from gnocchi.segments.segment import RAW, VALUE, Block, Tail, Written
from gnocchi.series.points import ABSENT, ABSENT_BITS
from tests.unit.segments import strategies

if TYPE_CHECKING:
    from gnocchi.storage import Storage

AGGREGATES = ("mean", "max", "sum", "count", "std", "rate:mean", "rate:last", "rate:std")
NEVER_BY_REFERENCE = ("count", "std", "rate:std", VALUE)
NAME = "20261121T064452-0.parquet"
Rows = dict[tuple[int, bytes, int], dict[str, int]]


def stored(written: Written) -> tuple[MemoryStorage, Tail]:
    """A storage with the segment, and its tail."""
    storage = MemoryStorage()
    storage.put(NAME, written.data)
    tail = segment.read_tail(storage, NAME, len(written.data), written.tail, written.tail_crc)
    return storage, tail


def rows_of(block: Block) -> Rows:
    """Rows as (granularity, id, timestamp) and bits of the columns; absent ones left out."""
    found: Rows = {}
    ids = block.ids[block.index].tolist()
    columns = {name: column.view(np.int64).tolist() for name, column in block.columns.items()}
    for row, (raw, at) in enumerate(zip(ids, block.timestamps.tolist(), strict=True)):
        found[block.granularity, raw, at] = {
            name: column[row] for name, column in columns.items() if column[row] != ABSENT_BITS
        }
    return found


def read(written: Written, columns: frozenset[str] | None = None) -> Rows:
    """All rows of a segment."""
    storage, tail = stored(written)
    found: Rows = {}
    for group in range(len(tail.groups)):
        rows = rows_of(row_groups.read_group(storage, tail, group, columns))
        assert not found.keys() & rows.keys()
        found |= rows
    return found


def one_row(granularity: int, at: int, high: int = 1, **columns: float) -> Block:
    return Block(
        granularity,
        strategies.as_ids([high.to_bytes(4, "big") + bytes(12)]),
        np.array([0]),
        np.array([at]),
        {name.replace("_", ":"): np.array([value]) for name, value in columns.items()},
    )


@st.composite
def segments_(draw: st.DrawFn) -> list[Block]:
    blocks = [draw(strategies.blocks(RAW, (VALUE,)))] if draw(st.booleans()) else []
    for granularity in sorted(draw(st.sets(st.sampled_from([1, 60, 2**62]), max_size=2))):
        blocks.append(draw(strategies.blocks(granularity, AGGREGATES)))
    return blocks or [draw(strategies.blocks(60, AGGREGATES))]


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "ROWS", 5)


@pytest.mark.usefixtures("small_groups")
class TestRoundTrip:
    @settings(deadline=None, max_examples=60)
    @given(segments_())
    def test_every_bit_that_was_written_is_read(self, blocks: list[Block]) -> None:
        """Of every column that its block has; NaNs keep their payloads."""
        written = segment.write(blocks)
        found = read(written)
        expected = {key: row for block in blocks for key, row in rows_of(block).items()}
        assert found.keys() == expected.keys()
        for key, row in expected.items():
            assert {name: found[key].get(name) for name in row} == row
            # beyond that, only what its block does not have at all may look like its reference
            for name in found[key].keys() - row.keys():
                assert name not in NEVER_BY_REFERENCE

    @settings(deadline=None, max_examples=40)
    @given(segments_())
    def test_index_of_row_groups_describes_them(self, blocks: list[Block]) -> None:
        written = segment.write(blocks)
        storage, tail = stored(written)
        end = 4  # Parquet's magic
        keys = []
        for number, entry in enumerate(tail.groups):
            assert int(entry["offset"]) == end
            end += int(entry["length"])
            assert zlib.crc32(written.data[int(entry["offset"]) : end]) == int(entry["crc"])
            rows = rows_of(row_groups.read_group(storage, tail, number))
            assert {granularity for granularity, _, _ in rows} == {int(entry["granularity"])}
            assert len(rows) == int(entry["rows"]) <= 5
            ids, at = [key[1] for key in rows], [key[2] for key in rows]
            assert (min(ids), max(ids)) == (bytes(entry["first"]), bytes(entry["last"]))
            assert (min(at), max(at)) == (int(entry["start"]), int(entry["stop"]))
            keys += list(rows)
        assert end == written.tail
        assert keys == sorted(keys)

    @settings(deadline=None, max_examples=40)
    @given(segments_())
    def test_catalog_is_told_the_bounds(self, blocks: list[Block]) -> None:
        written = segment.write(blocks)
        keys = [key for block in blocks for key in rows_of(block)]
        high = [int.from_bytes(raw[:4], "big") for _, raw, _ in keys]
        at = [key[2] for key in keys]
        assert written.rows == len(keys)
        assert (written.low, written.high) == (min(high), max(high))
        assert (written.start, written.stop) == (min(at), max(at))
        assert zlib.crc32(written.data[written.tail :]) == written.tail_crc

    @settings(deadline=None, max_examples=40)
    @given(segments_(), st.sets(st.sampled_from([*AGGREGATES, VALUE, "unknown"])))
    def test_some_columns_read_like_all(self, blocks: list[Block], chosen: set[str]) -> None:
        written = segment.write(blocks)
        everything = read(written)
        some = read(written, frozenset(chosen))
        assert some == {
            key: {name: value for name, value in row.items() if name in chosen}
            for key, row in everything.items()
        }


@pytest.mark.parametrize("at", [0, 1, 2**63 - 1, -(2**63) + 1, -(2**63)])
def test_one_row_is_a_segment(at: int) -> None:
    written = segment.write([one_row(60, at, mean=1.5)])
    assert (written.rows, written.start, written.stop) == (1, at, at)
    raw = (1).to_bytes(4, "big") + bytes(12)
    assert read(written) == {(60, raw, at): {"mean": np.float64(1.5).view(np.int64)}}


def test_timestamps_may_span_all_of_int64() -> None:
    """Their differences do not fit into int64."""
    at = np.array([-(2**63), -1, 0, 2**63 - 1])
    block = Block(RAW, strategies.as_ids([bytes(16)]), np.zeros(4, np.int64), at, {VALUE: at * 1.0})
    assert [key[2] for key in read(segment.write([block]))] == at.tolist()


def test_column_without_any_value_is_absent_in_every_row() -> None:
    block = one_row(60, 1, mean=1.0, std=ABSENT)
    storage, tail = stored(segment.write([block]))
    assert tail.columns == {"mean", "std"}
    found = row_groups.read_group(storage, tail, 0)
    assert found.columns["std"].view(np.int64).tolist() == [ABSENT_BITS]


def test_column_that_only_some_blocks_have_is_absent_in_others() -> None:
    written = segment.write([one_row(RAW, 5, value=7.0), one_row(60, 0, mean=1.0, count=1.0)])
    raw, aggregate = read(written).values()
    assert raw.keys() == {"value"}
    assert aggregate.keys() == {"mean", "count"}


def test_absent_differences_stay_absent() -> None:
    """The first bucket of a series has no differences, whatever its other aggregates are."""
    rates = {"rate_mean": ABSENT, "rate_max": ABSENT, "rate_count": ABSENT}
    (row,) = read(segment.write([one_row(60, 0, mean=1.0, **rates)])).values()
    assert row.keys() == {"mean"}


def test_reference_is_of_the_same_kind() -> None:
    assert segment.references(["max", "sum", "rate:max", "rate:last", "std", "count", VALUE]) == {
        "sum": "max",
        "rate:max": "rate:last",
    }
    assert segment.references(["95pct", "5pct"]) == {"95pct": "5pct"}
    assert segment.references(["count", "std"]) == {}


def test_values_equal_to_their_reference_take_no_space() -> None:
    random = np.random.default_rng(1).random(5000)
    ids = strategies.as_ids([number.to_bytes(16, "big") for number in range(5000)])
    index, at = np.arange(5000), np.zeros(5000, np.int64)

    def size(**columns: np.ndarray) -> int:
        return len(segment.write([Block(60, ids, index, at, columns)]).data)

    assert size(mean=random, max=random, sum=random) < size(mean=random) + 2000
    assert size(mean=random, max=random + 1.0) > size(mean=random) + 20_000


def test_many_metrics_need_no_dictionary_to_be_right() -> None:
    """More distinct ids than a dictionary page of Parquet takes, over several row groups."""
    count = 3 * segment.ROWS + 1
    ids = strategies.as_ids(
        [(number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big") * 2 for number in range(count)]
    )
    ids = np.unique(ids)
    values = np.arange(count, dtype=float)
    at = np.arange(count) * 1_000_003
    storage, tail = stored(segment.write([Block(60, ids, np.arange(count), at, {"mean": values})]))
    parts = [row_groups.read_group(storage, tail, group) for group in range(len(tail.groups))]
    assert [len(part) for part in parts] == [segment.ROWS] * 3 + [1]
    assert np.array_equal(np.concatenate([part.ids[part.index] for part in parts]), ids)
    assert np.concatenate([part.columns["mean"] for part in parts]).tolist() == values.tolist()
    assert np.concatenate([part.timestamps for part in parts]).tolist() == at.tolist()


def test_segment_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        segment.write([])
    empty = one_row(60, 1, mean=1.0).select(slice(0, 0))
    with pytest.raises(ValueError, match="at least one row"):
        segment.write([empty])


def test_blocks_are_ordered_by_granularity() -> None:
    written = segment.write([one_row(60, 0, mean=1.0), one_row(RAW, 5, value=1.0)])
    assert [granularity for granularity, _, _ in read(written)] == [RAW, 60]


# ------------------------------------------------------------------ others read it too


@pytest.fixture
def published() -> tuple[Written, dict[str, object]]:
    """A segment of raw points and aggregates, and its table as the format page describes it."""
    one, other = bytes(15) + b"\1", bytes(15) + b"\2"
    ids = strategies.as_ids([one, other])
    raw = Block(
        RAW,
        ids,
        np.array([0, 0, 1]),
        np.array([61, 62, 63]) * 10**9,
        {VALUE: np.array([1.0, np.nan, 3.0])},
    )
    aggregates = Block(
        60 * 10**9,
        ids,
        np.array([0, 1]),
        np.array([60, 60]) * 10**9,
        {
            "mean": np.array([1.0, 3.0]),
            "max": np.array([2.0, 3.0]),
            "std": np.array([0.5, ABSENT]),
        },
    )
    expected = {
        "metric": [one, one, other, one, other],
        "granularity": [0, 0, 0, 60 * 10**9, 60 * 10**9],
        "timestamp": [61 * 10**9, 62 * 10**9, 63 * 10**9, 60 * 10**9, 60 * 10**9],
        "max": [None, None, None, 2.0, None],  # the same as mean
        "mean": [None, None, None, 1.0, 3.0],
        "std": [None, None, None, 0.5, None],
        "value": [1.0, "nan", 3.0, None, None],
    }
    return segment.write([raw, aggregates]), expected


def test_pyarrow_reads_a_segment_as_plain_parquet(
    published: tuple[Written, dict[str, object]],
) -> None:
    written, expected = published
    file = pq.ParquetFile(io.BytesIO(written.data), page_checksum_verification=True)
    table = file.read()
    assert table.schema.names == list(expected)
    assert table.schema.field("timestamp").type == pa.timestamp("ns", "UTC")
    assert table.schema.field("metric").type == pa.binary()
    columns = {
        name: [
            "nan" if isinstance(value, float) and value != value else value
            for value in column.cast(pa.int64()).to_pylist()
        ]
        if name == "timestamp"
        else ["nan" if value != value else value for value in column.to_pylist()]
        for name, column in zip(table.schema.names, table.columns, strict=True)
    }
    assert columns == expected
    described = json.loads(file.metadata.metadata[b"gnocchi"])
    assert described["same as"] == {"max": "mean"}


def test_pandas_reads_a_segment_as_plain_parquet(
    published: tuple[Written, dict[str, object]],
) -> None:
    written, expected = published
    frame = pd.read_parquet(io.BytesIO(written.data))
    assert list(frame.columns) == list(expected)
    assert frame["metric"].tolist() == expected["metric"]
    assert frame["timestamp"].astype("int64").tolist() == expected["timestamp"]
    assert frame["mean"].isna().tolist() == [True, True, True, False, False]
    assert frame["timestamp"].iloc[3] == pd.Timestamp("1970-01-01T00:01:00Z")


# ------------------------------------------------------------------ checks


@pytest.fixture
def small() -> Written:
    return segment.write([one_row(RAW, 5, value=7.0), one_row(60, 0, mean=1.0, max=1.0)])


def test_tail_of_another_size_is_found(small: Written) -> None:
    storage, _ = stored(small)
    for size, tail in itertools.product((-1, 0, 1), (-1, 0, 1)):
        if (size, tail) != (0, 0):
            with pytest.raises(CorruptObject):
                segment.read_tail(
                    storage, NAME, len(small.data) + size, small.tail + tail, small.tail_crc
                )


def test_truncated_segment_is_found(small: Written) -> None:
    storage, tail = stored(small)
    storage.put(NAME, small.data[: int(tail.groups[0]["offset"]) + 3])
    with pytest.raises(CorruptObject):
        row_groups.read_group(storage, tail, 0)
    with pytest.raises(CorruptObject):
        segment.read_tail(storage, NAME, len(small.data), small.tail, small.tail_crc)


def test_tail_of_a_future_version_is_not_guessed_at(small: Written) -> None:
    data = bytearray(small.data[small.tail :])
    data[4] += 1
    with pytest.raises(CorruptObject, match="known version"):
        Tail(NAME, bytes(data))


def test_stretch_of_a_file_gives_no_bytes_that_are_not_its_own() -> None:
    window = row_groups._Window(120)
    for digits, offset in ((b"zyx", 7), (b"0123456789", 100)):
        window.show(memoryview(digits), offset)
    assert window.seek(103) == 103
    assert bytes(window.read(3)) == b"345"
    assert window.tell() == 106
    assert window.seek(2, 1) == 108
    assert bytes(window.read()) == b"89"
    assert bytes(window.read(1)) == b""
    assert window.seek(-11, 2) == 109
    assert bytes(window.read(5)) == b"9"
    for outside in (7, 99, 0, 111):
        window.seek(outside)
        with pytest.raises(ValueError, match="outside"):
            window.read(2)


# ------------------------------------------------------------------ many row groups


@pytest.fixture(scope="module")
def long() -> tuple[MemoryStorage, Tail]:
    """Ten row groups, each with one metric whose number is its value."""
    ids = strategies.as_ids([bytes([number]) * 16 for number in range(10)])
    index = np.repeat(np.arange(10), segment.ROWS)
    at = np.tile(np.arange(segment.ROWS), 10)
    return stored(segment.write([Block(60, ids, index, at, {"mean": index * 1.0})]))


def test_row_groups_are_read_neighbours_together(long: tuple[MemoryStorage, Tail]) -> None:
    storage, tail = long
    asked = []

    class Counting:
        def read(self, name: str, offset: int, length: int) -> bytes:
            asked.append(length)
            return storage.read(name, offset, length)

    wanted = [0, 1, 2, 5, 8, 9]
    data = row_groups.fetch(cast("Storage", Counting()), tail, wanted)
    found = list(row_groups.decode(tail, wanted, data, ["mean"]))
    assert [block.columns["mean"][0] for block in found if isinstance(block, Block)] == wanted
    lengths = tail.groups["length"]
    assert asked == [int(lengths[:3].sum()), int(lengths[5]), int(lengths[8:].sum())]


def test_damaged_row_group_hides_no_neighbour(long: tuple[MemoryStorage, Tail]) -> None:
    storage, tail = long
    data = bytearray(storage.read(NAME, 0, 1 << 30))
    data[int(tail.groups["offset"][4]) + 100] ^= 1
    damaged = MemoryStorage()
    damaged.put(NAME, bytes(data))
    found = list(row_groups.decode(tail, range(3, 6), row_groups.fetch(damaged, tail, range(3, 6))))
    assert [type(block) for block in found] == [Block, CorruptObject, Block]


def test_portions_are_small_and_of_few_stretches(long: tuple[MemoryStorage, Tail]) -> None:
    _, tail = long
    size = int(tail.groups["length"].max())

    def portions(groups: list[int], size: int, reads: int) -> list[list[int]]:
        return list(row_groups.portions(tail, groups, size, reads))

    assert portions(list(range(10)), 100 * size, 1) == [list(range(10))]
    assert portions([0, 1, 3, 5, 6, 8], 100 * size, 2) == [[0, 1, 3], [5, 6, 8]]
    assert portions([0, 2, 3], 100 * size, 1) == [[0], [2, 3]]
    assert portions([0, 1, 2, 3], 2 * size, 4) == [[0, 1], [2, 3]]
    assert portions([4, 5], 1, 4) == [[4], [5]]
    assert portions([], size, 4) == []


# ------------------------------------------------------------------ earlier versions


def test_segments_of_earlier_versions_are_read(
    published: tuple[Written, dict[str, object]],
) -> None:
    """``written/version-1`` is what this fixture's rows were as a file when it was current."""
    now, _ = published
    data = (pathlib.Path(__file__).parent / "written" / "version-1").read_bytes()
    before = MemoryStorage()
    before.put(NAME, data)
    tail = segment.read_tail(before, NAME, len(data), 770, 198813332)
    assert (data[774], now.data[now.tail + 4]) == (1, 2)
    storage, current = stored(now)
    for group in range(2):
        old = rows_of(row_groups.read_group(before, tail, group))
        assert old == rows_of(row_groups.read_group(storage, current, group))
