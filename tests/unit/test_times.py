"""What the notations of instants and timespans mean, and what is refused."""

from __future__ import annotations

import datetime
import re
import string
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gnocchi import times
from gnocchi.errors import InvalidTimespan, InvalidTimestamp

SECOND = 10**9
NOW = 1_700_000_000 * SECOND + 123_456_789
UNREADABLE = r"^Unable to convert timestamps$"
BEFORE_EPOCH = r"^Timestamp must be after Epoch$"

ISO: list[tuple[str, int]] = [
    ("2014-10", 1412121600 * SECOND),
    ("2014-10-06", 1412553600 * SECOND),
    ("2014-10-06T14", 1412604000 * SECOND),
    ("2014-10-06T14:33", 1412605980 * SECOND),
    ("2014-10-06 14:33", 1412605980 * SECOND),
    ("2014-10-06T14:33Z", 1412605980 * SECOND),
    ("2014-10-06T14:33:57", 1412606037 * SECOND),
    ("2014-10-06 14:33:57", 1412606037 * SECOND),
    ("2014-10-06T14:33:57Z", 1412606037 * SECOND),
    ("2014-10-06T14:33:57+00:00", 1412606037 * SECOND),
    ("2014-10-06T14:33:57+02:00", 1412598837 * SECOND),
    ("2014-10-06T14:33:57+0200", 1412598837 * SECOND),
    ("2014-10-06T14:33:57+02", 1412598837 * SECOND),
    ("2014-10-06T14:33:57-03:30", 1412618637 * SECOND),
    ("2014-10-06T14:33:57.5", 1412606037 * SECOND + 500_000_000),
    ("2014-10-06T14:33:57.123456789", 1412606037 * SECOND + 123_456_789),
    ("2014-10-06T14:33:57.123456789+02:00", 1412598837 * SECOND + 123_456_789),
    ("2014-10-06T14:33:57.000000001Z", 1412606037 * SECOND + 1),
    ("2014-10-06T14:33:57.1234567899999", 1412606037 * SECOND + 123_456_789),
    ("2014-10-06T14:33:57.1234567899999-0100", 1412609637 * SECOND + 123_456_789),
    ("2016-02-29T00:00:00", 1456704000 * SECOND),
    ("2000-02-29T23:59:59", 951868799 * SECOND),
    ("1970-01-01T00:00:00", 0),
    ("1969-12-31T23:00:00-01:00", 0),
    ("2262-04-11T23:47:16", 9223372036 * SECOND),
    ("2262-04-11T23:47:16.854775807", 2**63 - 1),
    ("2262-04-12T01:47:16.854775807+02:00", 2**63 - 1),
]

NUMBERS: list[tuple[object, int]] = [
    (0, 0),
    (0.0, 0),
    ("0", 0),
    ("-0", 0),
    (1412605800, 1412605800 * SECOND),
    (1412605800.25, 1412605800 * SECOND + 250_000_000),
    (1388714522.1, 1388714522 * SECOND + 100_000_000),
    (1388714522.123456, 1388714522 * SECOND + 123_456_000),
    (0.1, 100_000_000),
    (1e-9, 1),
    (1e-10, 0),
    (9223372036, 9223372036 * SECOND),
    ("1388714522.0", 1388714522 * SECOND),
    ("1388714522.1", 1388714522 * SECOND + 100_000_000),
    ("1704067200.123456789", 1704067200 * SECOND + 123_456_789),
    ("1704067200.1234567899", 1704067200 * SECOND + 123_456_789),
    ("9223372036.854775807", 2**63 - 1),
    ("20240101", 20240101 * SECOND),
    ("2014", 2014 * SECOND),
    ("1e3", 1000 * SECOND),
    ("+1E+3", 1000 * SECOND),
    (" 12 ", 12 * SECOND),
    ("12.", 12 * SECOND),
    (".5", SECOND // 2),
    ("0e9999", 0),
    ("1e-9999", 0),
]

RELATIVE = [
    ("now", NOW),
    ("Now", NOW),
    ("-10 minutes", NOW - 600 * SECOND),
    ("- 10 minutes", NOW - 600 * SECOND),
    ("5 minutes", NOW + 300 * SECOND),
    ("+5 minutes", NOW + 300 * SECOND),
    ("1 day", NOW + 86400 * SECOND),
    ("-1d", NOW - 86400 * SECOND),
    ("14:33:57", NOW + 52437 * SECOND),
    ("-0.5s", NOW - SECOND // 2),
]

REFUSED: list[object] = [
    None,
    True,
    False,
    [],
    {},
    b"2014-10-06",
    "",
    " ",
    "NaT",
    "nan",
    "NaN",
    "inf",
    "-Infinity",
    float("nan"),
    float("inf"),
    1e30,
    16409779200,
    16409779200.0,
    "16409779200",
    "1e30",
    "1e9999",
    10**400,
    9223372037,
    9223372036.9,
    "9223372036.854775808",
    "1_000",
    "0x10",
    "١٢٣",
    "today",
    "yesterday",
    "2262-04-11T23:47:16.854775808",
    "2262-04-12",
    "9999-01-01",
    "9999-01-01T00:00:00",
    "2014-10-06T24:00:00",
    "2014-10-06T23:60:00",
    "2014-10-06T23:59:60",
    "2014-13-01T00:00:00",
    "2014-00-01T00:00:00",
    "2014-10-00T00:00:00",
    "2014-02-29T00:00:00",
    "2014-04-31T00:00:00",
    "2100-02-29T00:00:00",
    "0000-01-01T00:00:00",
    "2014-10-06T14:33:57,5",
    "2014-10-06T14:33:57.",
    "2014-10-06T14:33:57.Z",
    "2014-10-06T14:33:57+",
    "2014-10-06T14:33:57+2",
    "2014-10-06T14:33:57+24:00",
    "2014-10-06T14:33:57+02:60",
    "2014-10-06T14:33:57+02:0",
    "2014-10-06T14:33:57+02:00:00",
    "2014-10-06T14:33:57 00:00",
    "2014-10-06T14:33:57ZZ",
    "2014-10-06T14:33:57z",
    "2014-10-06t14:33:57",
    "2014-10-06  14:33:57",
    "2014-10-06T14:33:57\0",
    "2014-10-06T14:33:57Z\0",
    "2014-10-06T14:33:57\u0661",
    "２０14-10-06T14:33:57",
    "2014-10-06Z",
    "2014-1-6",
    "20141006T143357",
    "2014-10-06T143357",
    "2014-W41-1",
    "2014-279",
    "2014/10/06",
    "06/10/2014",
    "Mon, 06 Oct 2014 14:33:57 GMT",
    "300 years",
    "1 shenanigan",
    "1" * 1000,
    "2014-10-06T14:33:57." + "1" * 1000,
]


# ------------------------------------------------------------------ single instants


@pytest.mark.parametrize(("value", "expected"), [*ISO, *NUMBERS])
def test_absolute_notations(value: object, expected: int) -> None:
    assert times.parse_timestamp(value) == expected


@pytest.mark.parametrize(("value", "expected"), RELATIVE)
def test_relative_notations_refer_to_the_given_now(value: str, expected: int) -> None:
    assert times.parse_timestamp(value, NOW) == expected


def test_now_without_a_reference_reads_the_clock() -> None:
    before = times.now()
    assert before <= times.parse_timestamp("now") <= times.now()


@pytest.mark.parametrize("value", REFUSED, ids=lambda v: repr(v)[:40])
def test_what_is_no_instant_is_refused(value: object) -> None:
    with pytest.raises(InvalidTimestamp, match=UNREADABLE):
        times.parse_timestamp(value, NOW)


@pytest.mark.parametrize("value", REFUSED, ids=lambda v: repr(v)[:40])
def test_what_is_no_instant_is_refused_in_lists_too(value: object) -> None:
    with pytest.raises(InvalidTimestamp, match=UNREADABLE):
        times.parse_timestamps([value], NOW)
    with pytest.raises(InvalidTimestamp, match=UNREADABLE):
        times.parse_timestamps(["2014-10-06T14:33:57", value], NOW)
    with pytest.raises(InvalidTimestamp, match=UNREADABLE):
        times.parse_timestamps([1.5, value], NOW)


@pytest.mark.parametrize(
    "value",
    [-1, -0.5, -1e300, "-1", "-1e9999", -(10**30), "1969-12-31T23:59:59.999999999", "1900-01",
     "1970-01-01T00:00:00+00:01", "0001-01-01T00:00:00", "-20000 days"],
)  # fmt: skip
def test_before_1970_is_refused_with_its_own_message(value: object) -> None:
    with pytest.raises(InvalidTimestamp, match=BEFORE_EPOCH):
        times.parse_timestamp(value, NOW)
    with pytest.raises(InvalidTimestamp, match=BEFORE_EPOCH):
        times.parse_timestamps([value], NOW)


# ------------------------------------------------------------------ against other parsers

instants = st.integers(0, 2**63 - 1)
offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59)


def _zone(minutes: int, colon: str) -> str:
    sign, minutes = ("-", -minutes) if minutes < 0 else ("+", minutes)
    return f"{sign}{minutes // 60:02d}{colon}{minutes % 60:02d}"


@given(instants, st.integers(0, 9), st.sampled_from("T "), offsets, st.sampled_from(["", ":"]))
def test_iso_agrees_with_numpy(
    instant: int, places: int, between: str, offset: int, colon: str
) -> None:
    """Any instant, written by numpy at any precision and then given an offset, is read back."""
    instant -= instant % 10 ** (9 - places)
    local = instant + offset * 60 * SECOND
    assume(0 <= local <= 2**63 - 1)
    text = str(np.datetime64(local, "ns"))[: 20 + places if places else 19]
    text = text.replace("T", between) + _zone(offset, colon)
    assert times.parse_timestamp(text) == instant
    assert times.parse_timestamps([text, text]).tolist() == [instant, instant]


@given(
    st.datetimes(
        datetime.datetime(1970, 1, 2),
        datetime.datetime(2262, 4, 10),
        timezones=st.timezones(),
    )
)
def test_iso_agrees_with_the_standard_library(moment: datetime.datetime) -> None:
    # Time zones of the past are off by seconds, which ISO 8601 cannot write.
    moment = moment.replace(
        tzinfo=datetime.timezone(datetime.timedelta(minutes=round(
            (moment.utcoffset() or datetime.timedelta()).total_seconds() / 60)))
    )  # fmt: skip
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    expected = (moment - epoch) // datetime.timedelta(microseconds=1) * 1000
    assert times.parse_timestamp(moment.isoformat()) == expected
    assert times.parse_timestamps([moment.isoformat()]).tolist() == [expected]


def _outcome(parse: object, *args: object) -> object:
    try:
        return parse(*args)  # type: ignore[operator]
    except InvalidTimestamp as error:
        return str(error)


@st.composite
def damaged_dates(draw: st.DrawFn) -> str:
    """A well-formed date with a few characters replaced, inserted or removed."""
    text = list(draw(st.sampled_from([text for text, _ in ISO])))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        length = draw(st.integers(0, 2))
        text[at : at + length] = draw(st.text("0123459:.-+TZ \0é", max_size=2))
    return "".join(text)


@given(st.lists(damaged_dates() | st.sampled_from([text for text, _ in ISO]), min_size=1))
@example(["2014-10-06T14:33:57.123456789+02:001"])
@example(["2014-10-06T14:33:57\0\0"])
def test_a_list_of_dates_is_parsed_like_its_elements(texts: list[str]) -> None:
    """The vectorised parser takes nothing else, and nothing differently."""
    for text in texts:
        single = _outcome(times.parse_timestamp, text, NOW)
        many = _outcome(lambda text=text: times.parse_timestamps([text], NOW).tolist()[0])
        assert many == single
    singles = [_outcome(times.parse_timestamp, text, NOW) for text in texts]
    together = _outcome(lambda: times.parse_timestamps(texts, NOW).tolist())
    if all(re.fullmatch(r"\s*[0-9]{4}-[0-9]{2}(-[0-9]{2}.*)?\s*", text) for text in texts):
        errors = [single for single in singles if isinstance(single, str)]
        assert together in errors if errors else together == singles
    elif isinstance(together, list):
        assert together == singles


def test_lists_longer_than_a_block_keep_their_order() -> None:
    """More dates than are parsed at once, each different, a few of them of unusual form."""
    seconds = range(1_400_000_000, 1_400_000_000 + 20_000)
    texts = [
        datetime.datetime.fromtimestamp(s, datetime.UTC).isoformat()
        + ("  " if s % 997 == 0 else "")
        for s in seconds
    ]
    texts[9_000] = "2014-05"
    expected = [s * SECOND for s in seconds]
    expected[9_000] = 1_398_902_400 * SECOND
    assert times.parse_timestamps(texts).tolist() == expected


@given(
    st.lists(
        st.floats(0, 9223372036.5) | st.floats(0, 2**24) | st.integers(0, 9223372036), min_size=1
    )
)
@example([1388714522.1, 4294967296.000001, 8388608.000000001, 9223372036.0, 1.5e9 + 2**-22])
def test_numbers_mean_the_decimal_that_was_written(values: list[float]) -> None:
    """An int is exact; a float is its shortest decimal; both cut to whole nanoseconds."""
    expected = [int(Fraction(repr(value)) * SECOND) for value in values]
    assert times.parse_timestamps(values).tolist() == expected
    assert [times.parse_timestamp(value) for value in values] == expected
    assert [times.parse_timestamp(repr(value)) for value in values] == expected


@given(st.lists(st.floats(1e9, 3e9), min_size=1))
def test_floats_of_our_time(values: list[float]) -> None:
    """The same where timestamps usually are; and every float is told from its neighbours."""
    parsed = times.parse_timestamps(values).tolist()
    assert parsed == [int(Decimal(repr(value)) * SECOND) for value in values]
    assert [instant / SECOND for instant in parsed] == values


@given(st.lists(st.floats() | st.integers(), min_size=1))
def test_a_list_of_numbers_is_parsed_like_its_elements(values: list[float]) -> None:
    singles = [_outcome(times.parse_timestamp, value) for value in values]
    together = _outcome(lambda: times.parse_timestamps(values).tolist())
    errors = [single for single in singles if isinstance(single, str)]
    assert together in errors if errors else together == singles


@given(st.decimals(0, 9223372036, allow_nan=False, places=12))
def test_numeric_texts_keep_every_nanosecond(seconds: Decimal) -> None:
    assert times.parse_timestamp(str(seconds)) == int(Fraction(seconds) * SECOND)


@given(st.text(max_size=200) | st.floats() | st.integers() | st.none() | st.booleans())
def test_nothing_else_than_an_instant_or_a_refusal_comes_out(value: object) -> None:
    for parse in (times.parse_timestamp, lambda v, now: times.parse_timestamps([v], now)[0]):
        outcome = _outcome(parse, value, NOW)
        assert isinstance(outcome, str) or 0 <= int(outcome) <= 2**63 - 1  # type: ignore[call-overload]


# ------------------------------------------------------------------ lists


def test_no_timestamps() -> None:
    parsed = times.parse_timestamps([])
    assert parsed.shape == (0,)
    assert parsed.dtype == np.int64


@pytest.mark.parametrize(
    "values",
    [
        [1704067200, "2024-01-01"],
        [1704067200, "2024-01-01T00:00:00"],
        [1704067200, "-10 minutes"],
        [1704067200, "now"],
        ["1704067200", "2024-01-01T00:00:00"],
        ["2024-01-01T00:00:00", "-10 minutes"],
        ["2024-01-01T00:00:00", "now"],
        ["2024-01-01T00:00:00", 1704067200],
        ["2024-01-01T00:00:00", "1704067200"],
        ["2024-01", "1704067200"],
        ["-10 minutes", "2024-01-01T00:00:00"],
        ["-10 minutes", "2024-01"],
        ["-10 minutes", 1704067200],
        ["-10 minutes", "1704067200"],
        ["2024-01-01T00:00:00"] * 3 + ["5 minutes"],
    ],
    ids=str,
)
def test_a_list_uses_one_family_of_notations(values: list[object]) -> None:
    with pytest.raises(InvalidTimestamp, match=UNREADABLE):
        times.parse_timestamps(values, NOW)


@pytest.mark.parametrize("family", [ISO, NUMBERS, RELATIVE], ids=["iso", "numbers", "relative"])
def test_notations_of_one_family_go_together(family: list[tuple[object, int]]) -> None:
    values = [value for value, _ in family]
    assert times.parse_timestamps(values, NOW).tolist() == [expected for _, expected in family]
    assert times.parse_timestamps(values[::-1], NOW).tolist() == [
        expected for _, expected in reversed(family)
    ]


def test_relative_timestamps_of_one_list_share_their_now() -> None:
    first, second, third = times.parse_timestamps(["now", "-1s", "now"]).tolist()
    assert first == third == second + SECOND


# ------------------------------------------------------------------ timespans


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (60, 60),
        (0.5, "0.5"),
        (3.6, "3.6"),
        (1e-9, "1e-9"),
        ("60", 60),
        ("1e3", 1000),
        (" 60 ", 60),
        ("60.0000000019", "60.000000001"),
        (9223372036, 9223372036),
        ("9223372036.854775807", "9223372036.854775807"),
        ("5 minutes", 300),
        ("5 MIN", 300),
        ("5 Minutes", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1h, 30m", 5400),
        ("1h/30m", 5400),
        ("2h32m", 9120),
        ("1.5 hours", 5400),
        ("1.5h 0.5m", 5430),
        ("7 day", 604800),
        ("1w 2d", 777600),
        ("1w2d3h4m5.5s", "788645.5"),
        ("1 wk 2 dys 3 hrs 4 mins 5 secs", 788645),
        ("2 weeks", 1209600),
        ("0.0000000019s", "1e-9"),
        ("+1d", 86400),
        ("+ 1d", 86400),
        (":07", 7),
        (":07.25", "7.25"),
        ("4:07", 247),
        ("0:59.999999999", "59.999999999"),
        ("90:00", 5400),
        ("00:01:30", 90),
        ("14:33:57", 52437),
        ("100:00:00.5", "360000.5"),
        ("2:14:33:57", 225237),
        ("2-14:33:57.5", "225237.5"),
        ("2 days, 4:13:02", 187982),
        ("2 days 4:13:02", 187982),
        ("1 week, 2 days, 0:00:01", 777601),
        ("7 days, 0:00:00", 604800),
    ],
)
def test_timespans(value: object, seconds: str | int) -> None:
    assert times.parse_timespan(value) == int(Fraction(seconds) * SECOND)


@pytest.mark.parametrize(
    "value",
    ["", " ", "-", "+", "--5", "- 5", "w", "h1", "1 shenanigan", "1 month", "2 years", "P1D",
     "PT5M", "1,5 h", "1.h", ".5h", "1 2 h", "1h 1w", "1h 2h", "1m 1h", "1h 30", "1h,", ",1h",
     "1w,,2d", "1w / / 2d", "1 day 4:07", "1 day :07", "1h 4:13:02", "1 day 1:04:13:02",
     "1:2:3", "1:02:3", "1:2", "1:", "::01", "1::01", "4:13:02 1 day", "1-02:03", "-1-02:03",
     "1:02:03:04:05", "1d 2014", "inf", "-inf", "nan", "infinity", "١h", "0x10", "1_0",
     "now", "9223372036.854775808", "1e9999", "300 years", "16000 weeks", "999999999999:00:00",
     float("nan"), float("inf"), -float("inf"), 1e30, 10**400, -(10**400), 9223372037,
     "1" * 10**6, "1h" * 10**5, "1" * 120 + " h", "1 " * 60, "1h" + " " * 100 + "x",
     "0:" * 60, "0" * 127 + "x"],
    ids=lambda v: repr(v)[:30],
)  # fmt: skip
def test_what_is_no_timespan_is_refused(value: object) -> None:
    for loose in (False, True):
        with pytest.raises(InvalidTimespan, match=r"^Unable to parse timespan$"):
            times.parse_timespan(value, allow_negative_or_zero=loose)


@pytest.mark.parametrize("value", [None, True, False, [], {}, b"1h", object()])
def test_what_is_neither_text_nor_number_is_no_timespan(value: object) -> None:
    with pytest.raises(InvalidTimespan, match=r"^Invalid timespan$"):
        times.parse_timespan(value, allow_negative_or_zero=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        ("0", 0),
        (0.0, 0),
        ("0:00:00", 0),
        (1e-10, 0),
        ("0.0000000001s", 0),
        (-1, -SECOND),
        ("-1", -SECOND),
        (-0.5, -SECOND // 2),
        ("-5 minutes", -300 * SECOND),
        ("-14:33:57", -52437 * SECOND),
        ("-1 day, 0:00:01", -86401 * SECOND),
    ],
)
def test_timespans_are_positive_unless_allowed_otherwise(value: object, expected: int) -> None:
    with pytest.raises(InvalidTimespan, match=r"^Timespan must be positive$"):
        times.parse_timespan(value)
    assert times.parse_timespan(value, allow_negative_or_zero=True) == expected


UNITS = {
    604800: ["w", "wk", "wks", "week", "weeks"],
    86400: ["d", "dy", "dys", "day", "days"],
    3600: ["h", "hr", "hrs", "hour", "hours"],
    60: ["m", "min", "mins", "minute", "minutes"],
    1: ["s", "sec", "secs", "second", "seconds"],
}


@given(st.data())
def test_amounts_add_up(data: st.DataObject) -> None:
    """Any selection of units, in order, with decimal amounts, is their exact sum, then cut."""
    chosen = sorted(data.draw(st.sets(st.sampled_from(list(UNITS)), min_size=1)), reverse=True)
    text, total = "", Fraction(0)
    for length in chosen:
        amount = f"{data.draw(st.decimals(0, 1000, allow_nan=False, places=11)):f}"
        name = data.draw(st.sampled_from(UNITS[length]))
        blank = data.draw(st.sampled_from(["", " "]))
        between = data.draw(st.sampled_from(["", " ", ", ", "/", " / "])) if text else ""
        text += between + amount + blank + data.draw(st.sampled_from([name, name.upper()]))
        total += Fraction(amount) * length
    expected = int(total * SECOND)
    assert times.parse_timespan(text, allow_negative_or_zero=True) == expected
    assert times.parse_timespan("-" + text, allow_negative_or_zero=True) == -expected


@given(st.timedeltas(datetime.timedelta(microseconds=1), datetime.timedelta(days=100_000)))
def test_durations_are_written_as_the_standard_library_does_and_read_back(
    length: datetime.timedelta,
) -> None:
    ns = length // datetime.timedelta(microseconds=1) * 1000
    assert times.format_duration(ns) == str(length)
    assert times.parse_timespan(str(length)) == ns


@given(st.text(string.digits + ".:-/, hmsdw", max_size=128) | st.text() | st.floats())
def test_nothing_else_than_a_timespan_or_a_refusal_comes_out_of_anything(value: object) -> None:
    try:
        length = times.parse_timespan(value)
    except InvalidTimespan:
        return
    assert 0 < length <= 2**63 - 1


# ------------------------------------------------------------------ back to text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (1412606037 * SECOND, "2014-10-06T14:33:57+00:00"),
        (1412606037 * SECOND + 200_000_000, "2014-10-06T14:33:57.2+00:00"),
        (1412606037 * SECOND + 1, "2014-10-06T14:33:57.000000001+00:00"),
        (1412606037 * SECOND + 120_000, "2014-10-06T14:33:57.00012+00:00"),
        (0, "1970-01-01T00:00:00+00:00"),
        (2**63 - 1, "2262-04-11T23:47:16.854775807+00:00"),
    ],
)
def test_timestamps_are_written_with_no_more_fraction_than_needed(ns: int, text: str) -> None:
    assert times.format_timestamp(ns) == text
    assert times.format_timestamps(np.array([ns, 0])) == [text, "1970-01-01T00:00:00+00:00"]


@given(st.lists(instants))
def test_timestamps_are_read_back(values: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    texts = times.format_timestamps(array)
    assert texts == [times.format_timestamp(value) for value in values]
    assert times.parse_timestamps(texts).tolist() == values


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (60 * SECOND, "0:01:00"),
        (3600 * SECOND, "1:00:00"),
        (3_600_000_000, "0:00:03.600000"),
        (3598 * SECOND, "0:59:58"),
        (86400 * SECOND, "1 day, 0:00:00"),
        (90 * 86400 * SECOND, "90 days, 0:00:00"),
        (333_333_333, "0:00:00.333333"),
        (999, "0:00:00"),
        (2**63 - 1, "106751 days, 23:47:16.854775"),
    ],
)
def test_durations_are_written_down_to_microseconds(ns: int, text: str) -> None:
    assert times.format_duration(ns) == text


@given(st.integers(-(2**63), 2**63 - 1))
def test_seconds_are_the_nearest_float(ns: int) -> None:
    assert times.to_seconds(ns) == float(Fraction(ns, SECOND))
