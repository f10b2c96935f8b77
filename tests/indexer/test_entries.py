"""Catalog entries as rows, and what damage does to them. No database is needed."""

from __future__ import annotations

import types
from typing import Any

import pytest

from gnocchi.indexer import entries
from tests.indexer import samples

SEGMENT = samples.segment()
NUMBERS = [key for key, value in entries.to_row(SEGMENT).items() if isinstance(value, int)]
TEXTS = ["name", "copy"]


def read(row: dict[str, Any]) -> entries.Entry:
    return entries.from_row(types.SimpleNamespace(**row))


def flipped(number: int, bit: int) -> int:
    """Flip a bit of a number as 64 bits with sign."""
    raw = (number ^ 1 << bit) & (1 << 64) - 1
    return raw - (1 << 64) if raw >> 63 else raw


def test_golden_row() -> None:
    """The bytes of a row written by any version stay readable."""
    row = entries.to_row(SEGMENT)
    assert row["crc"] == 3092430572
    assert row["copy"] == (
        'e8b355da {"name":"segment-1","first":5,"last":9,"low":2147483648,"high":4294967295,'
        '"start":1700000000123456789,"stop":1800000000987654321,"rows":5000,"size":123456,'
        '"tail":120000,"tail_crc":3735928559,"deletions":17}'
    )


def test_sound_row() -> None:
    assert read(entries.to_row(SEGMENT)) == entries.Entry(SEGMENT, None)


def test_text_may_come_as_bytes() -> None:
    row = entries.to_row(SEGMENT)
    row |= {key: row[key].encode() for key in TEXTS}
    assert read(row) == entries.Entry(SEGMENT, None)


@pytest.mark.parametrize("column", NUMBERS)
def test_flipped_bit_of_a_number_is_made_good_by_the_copy(column: str) -> None:
    for bit in range(64):
        row = entries.to_row(SEGMENT)
        row[column] = flipped(row[column], bit)
        assert read(row) == entries.Entry(SEGMENT, "its columns are damaged"), bit


@pytest.mark.parametrize("column", TEXTS)
def test_flipped_bit_of_a_text_is_made_good_by_the_other_half(column: str) -> None:
    whole = entries.to_row(SEGMENT)[column].encode()
    for position in range(len(whole)):
        for bit in range(8):
            row = entries.to_row(SEGMENT)
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            row[column] = bytes(damaged)
            entry = read(row)
            assert entry.segment == SEGMENT, (position, bit)
            assert entry.fault is not None, (position, bit)


@pytest.mark.parametrize("value", [None, "text", b"\xff", 1.5, 2**70])
@pytest.mark.parametrize("column", [*NUMBERS, *TEXTS])
def test_value_of_another_type_is_made_good_by_the_other_half(column: str, value: Any) -> None:
    row = entries.to_row(SEGMENT)
    row[column] = value
    entry = read(row)
    assert entry.segment == SEGMENT
    assert entry.fault is not None


@pytest.mark.parametrize("column", ["name", "crc", "rows_", "start"])
def test_row_whose_halves_are_both_damaged_proves_nothing(column: str) -> None:
    row = entries.to_row(SEGMENT)
    row[column] = None
    row["copy"] = row["copy"].replace("5000", "5001")
    assert read(row).segment is None


def test_halves_that_contradict_each_other_prove_nothing() -> None:
    row = entries.to_row(SEGMENT)
    row["copy"] = entries.to_row(samples.segment(rows=1))["copy"]
    assert read(row).segment is None
