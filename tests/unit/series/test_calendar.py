"""Calendar periods, with pandas' periods as the oracle."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnocchi.series import calendar

LAST = 2**63 - 1
instants = st.integers(0, LAST)


def ns(text: str) -> int:
    return int(np.datetime64(text, "ns").astype(np.int64))


def start_by_pandas(timestamp: int, letter: str) -> int:
    instant = pd.Timestamp(timestamp)
    if letter == "H":
        half = 1 if instant.month < 7 else 7
        return pd.Timestamp(year=instant.year, month=half, day=1).value
    if letter == "W":
        day = instant.normalize()
        return (day - pd.Timedelta(days=(day.weekday() + 1) % 7)).value
    return instant.to_period(letter).start_time.value


@pytest.mark.parametrize("letter", calendar.LETTERS)
@settings(deadline=None)
@given(timestamps=st.lists(instants, max_size=20))
def test_group_equals_pandas(letter: str, timestamps: list[int]) -> None:
    found = calendar.group(np.array(timestamps, dtype=np.int64), letter)
    assert found.tolist() == [start_by_pandas(timestamp, letter) for timestamp in timestamps]


@pytest.mark.parametrize("letter", calendar.LETTERS)
@settings(deadline=None)
@given(timestamp=instants)
def test_a_period_reaches_to_the_next_one(letter: str, timestamp: int) -> None:
    start, following = calendar.floor(timestamp, letter), calendar.next(timestamp, letter)
    assert start <= timestamp
    assert timestamp < following or following == LAST
    assert calendar.floor(following - 1, letter) == start
    if following < LAST:
        assert calendar.floor(following, letter) == following


@pytest.mark.parametrize(
    ("letter", "start", "following"),
    [
        ("Y", "2024-01-01", "2025-01-01"),
        ("H", "2024-01-01", "2024-07-01"),
        ("Q", "2024-01-01", "2024-04-01"),
        ("M", "2024-02-01", "2024-03-01"),
        ("W", "2024-02-25", "2024-03-03"),
    ],
)
def test_periods_of_a_leap_day(letter: str, start: str, following: str) -> None:
    leap_day = ns("2024-02-29T12:34:56.789")
    assert calendar.floor(leap_day, letter) == ns(start)
    assert calendar.next(leap_day, letter) == ns(following)


def test_a_week_begins_on_sunday() -> None:
    assert calendar.floor(ns("2015-04-01T10:00"), "W") == ns("2015-03-29")
    assert calendar.floor(ns("2015-03-29"), "W") == ns("2015-03-29")
    assert calendar.floor(ns("2015-03-28T23:59:59.999999999"), "W") == ns("2015-03-22")


def test_the_first_week_begins_before_1970() -> None:
    assert calendar.floor(0, "W") == ns("1969-12-28")


@pytest.mark.parametrize("letter", calendar.LETTERS)
def test_the_period_after_the_last_one_is_cut_off(letter: str) -> None:
    assert calendar.next(LAST, letter) == LAST


@pytest.mark.parametrize("letter", ["D", "y", "", "YY"])
def test_other_letters_are_errors(letter: str) -> None:
    with pytest.raises(ValueError, match="unknown calendar period"):
        calendar.group(np.zeros(1, dtype=np.int64), letter)
    with pytest.raises(ValueError, match="unknown calendar period"):
        calendar.next(0, letter)
