"""The codec of incoming objects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnocchi.errors import CorruptObject
from gnocchi.segments import batch
from gnocchi.segments.batch import Points
from tests.unit.segments import strategies

# Two shares, of the sacks 1 and 3, as the format page describes them. Data of this version waits
# in stores: a change of the format needs another version number, not another value here.
GOLDEN = bytes.fromhex(
    "474e494e 0100 0200 cc34f908 00000000"
    "01000000 01000000 02000000 c6bf7cd8 5000000000000000 3800000000000000"
    "03000000 02000000 03000000 04e4b1df 8800000000000000 5800000000000000"
    "0000c16ff2862300 ffffffffffffff7f 000000000000f83f efbeadde0000f87f"
    "40000000000000000000000000000001 02000000 00000000"
    "0000000000000000 0100000000000000 0200000000000000"
    "000000000000f07f 0000000000000080 0000000000000040"
    "c0000000000000000000000000000002 ffffffffffffffffffffffffffffffff 01000000 02000000"
)
SHARES = {
    1: Points(
        strategies.as_ids([(64 << 120 | 1).to_bytes(16, "big")]),
        np.array([2]),
        np.array([10**16, 2**63 - 1]),
        np.array([0x3FF8 << 48, strategies.NAN_WITH_PAYLOAD]).view(np.float64),
    ),
    3: Points(
        strategies.as_ids([(192 << 120 | 2).to_bytes(16, "big"), b"\xff" * 16]),
        np.array([1, 2]),
        np.array([0, 1, 2]),
        np.array([np.inf, -0.0, 2.0]),
    ),
}


def decode(data: bytes) -> dict[int, Points]:
    """All shares of an object."""
    shares = {}
    for entry in batch.read_directory(data, "object"):
        start, length = int(entry["offset"]), int(entry["length"])
        share = batch.read_share(entry, data[start : start + length], "object")
        shares[int(entry["sack"])] = share
    return shares


def assert_same(found: Points, expected: Points) -> None:
    """Equal in every bit."""
    assert found.ids.tobytes() == expected.ids.tobytes()
    assert found.counts.tolist() == expected.counts.tolist()
    assert found.timestamps.tobytes() == expected.timestamps.tobytes()
    assert found.values.tobytes() == expected.values.tobytes()


@st.composite
def points(draw: st.DrawFn) -> Points:
    entries = draw(st.lists(st.tuples(strategies.raw_ids, st.integers(0, 4)), max_size=8))
    count = sum(n for _, n in entries)
    return Points(
        strategies.as_ids([raw for raw, _ in entries]),
        np.array([n for _, n in entries], np.int64),
        np.array(draw(st.lists(strategies.timestamps, min_size=count, max_size=count)), np.int64),
        np.array(draw(st.lists(strategies.bits, min_size=count, max_size=count)), np.int64).view(
            np.float64
        ),
    )


def test_encoded_bytes_are_those_of_the_format() -> None:
    assert batch.encode(SHARES).hex() == GOLDEN.hex()


def test_bytes_of_the_format_are_decoded() -> None:
    shares = decode(GOLDEN)
    assert shares.keys() == {1, 3}
    for sack, expected in SHARES.items():
        assert_same(shares[sack], expected)


@given(st.dictionaries(st.integers(0, 65535), points(), max_size=4))
def test_what_is_encoded_decodes_to_the_same_bits(shares: dict[int, Points]) -> None:
    decoded = decode(batch.encode(shares))
    assert decoded.keys() == shares.keys()
    for sack, expected in shares.items():
        assert_same(decoded[sack], expected)


@given(points(), st.integers(1, 300))
def test_every_point_goes_to_the_sack_of_its_metric_in_order(sent: Points, sacks: int) -> None:
    expected: dict[int, list[tuple[bytes, list[int]]]] = {}
    position = 0
    stamps = sent.values.view(np.int64).tolist()
    for raw, count in zip(sent.ids.tolist(), sent.counts.tolist(), strict=True):
        sack = int.from_bytes(raw[:4], "big") * sacks >> 32
        expected.setdefault(sack, []).append((raw, stamps[position : position + count]))
        position += count
    found = {}
    for sack, share in batch.by_sack(sent, sacks).items():
        stops = np.cumsum(share.counts).tolist()
        listed = share.values.view(np.int64).tolist()
        found[sack] = [
            (raw, listed[stop - count : stop])
            for raw, stop, count in zip(
                share.ids.tolist(), stops, share.counts.tolist(), strict=True
            )
        ]
    assert found == expected


@given(points(), st.integers(1, 9))
def test_timestamps_stay_with_their_values(sent: Points, sacks: int) -> None:
    numbers = np.arange(len(sent), dtype=np.int64)
    marked = Points(sent.ids, sent.counts, numbers, numbers.astype(float))
    for share in batch.by_sack(marked, sacks).values():
        assert share.timestamps.tolist() == share.values.tolist()


@given(st.lists(points(), max_size=4))
def test_joined_points_are_in_order(parts: list[Points]) -> None:
    joined = Points.concatenate(parts)
    assert joined.ids.tobytes() == b"".join(part.ids.tobytes() for part in parts)
    assert joined.counts.tolist() == [n for part in parts for n in part.counts.tolist()]
    assert joined.timestamps.tobytes() == b"".join(part.timestamps.tobytes() for part in parts)
    assert joined.values.tobytes() == b"".join(part.values.tobytes() for part in parts)


def test_no_points_go_to_no_sack() -> None:
    assert batch.by_sack(Points.concatenate([]), 4) == {}


def test_any_flipped_bit_is_found() -> None:
    """Or it is in the share of the other sack, which does not matter to this one."""
    for bit in range(8 * len(GOLDEN)):
        data = bytearray(GOLDEN)
        data[bit // 8] ^= 1 << bit % 8
        # header and directory matter to all, a share to its own sack
        hurt = set(SHARES) if bit < 8 * 0x50 else {1} if bit < 8 * 0x88 else {3}
        assert whole_shares(bytes(data)) == set(SHARES) - hurt, bit


def whole_shares(data: bytes) -> set[int]:
    """The sacks whose shares can be read, and then are what was written."""
    whole: set[int] = set()
    try:
        directory = batch.read_directory(data, "object")
    except CorruptObject:
        return whole
    for entry in directory:
        start, length = int(entry["offset"]), int(entry["length"])
        try:
            share = batch.read_share(entry, data[start : start + length], "object")
        except CorruptObject:
            continue
        assert_same(share, SHARES[int(entry["sack"])])
        whole.add(int(entry["sack"]))
    return whole


def test_object_cut_short_is_found() -> None:
    for length in range(len(GOLDEN)):
        with pytest.raises(CorruptObject):
            decode(GOLDEN[:length])


def test_version_from_the_future_is_not_guessed_at() -> None:
    data = bytearray(GOLDEN)
    data[4] = batch.VERSION + 1
    with pytest.raises(CorruptObject, match="known version"):
        batch.directory_size(bytes(data), "object")


@pytest.mark.parametrize("column", ["ids", "timestamps"])
def test_share_beyond_the_width_of_its_counters_is_refused(column: str) -> None:
    few = SHARES[1]
    columns = {name: getattr(few, name) for name in ("ids", "counts", "timestamps", "values")}
    columns[column] = np.broadcast_to(columns[column][:1], 2**32)  # takes no memory
    with pytest.raises(ValueError, match="too large"):
        batch.encode({1: Points(**columns)})
