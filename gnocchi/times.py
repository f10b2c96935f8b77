"""Text and numbers to integer nanoseconds, and back.

Every spelling of an instant or of a length of time that the program accepts is defined here.

Invariants:
    * An instant is an int of nanoseconds since 1970-01-01T00:00:00 UTC, within
      ``[MIN_TIMESTAMP, MAX_TIMESTAMP]``; a timespan is an int of nanoseconds.
    * Parsing is exact: no digit that fits into a nanosecond is lost, digits beyond it are cut, and
      what is out of range is refused, never wrapped.
    * The vectorised parsers only take what they fully understand. Everything else, every error
      included, is decided by the parsers of single values.
    * Parsing takes time linear in the length of the input; texts longer than ``MAX_TEXT``
      characters are refused unread.

Time zones by name, calendar arithmetic and the configured limit on future points are not its
business.
"""

from __future__ import annotations

import datetime
import enum
import re
import time
from decimal import Context, Decimal
from typing import TYPE_CHECKING

import numpy as np

from gnocchi.errors import InvalidTimespan, InvalidTimestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MIN_TIMESTAMP = 0
MAX_TIMESTAMP = 2**63 - 1
MAX_TIMESPAN = 2**63 - 1
MAX_TEXT = 128

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY

# Wide enough for any amount of MAX_TEXT digits in nanoseconds: nothing is ever rounded.
_EXACT = Context(prec=4 * MAX_TEXT, Emax=10**6, Emin=-(10**6))
_MAX_SECONDS = Decimal(MAX_TIMESPAN) / SECOND

# The last second of the range is not whole; the vectorised parsers leave it to the others.
_LAST_SECOND = MAX_TIMESTAMP // SECOND

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})"
    r"(?:-([0-9]{2})"
    r"(?:[T ]([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:\.([0-9]+))?)?)?"
    r"(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?"
    r")?)?"
)
_UNREADABLE = "Unable to convert timestamps"
_BEFORE_EPOCH = "Timestamp must be after Epoch"
_EPOCH_ORDINAL = datetime.date(1970, 1, 1).toordinal()
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class _Family(enum.Enum):
    """The kinds of notation that may not be mixed in one list of timestamps."""

    NUMBER = "seconds since the epoch"
    DATE = "ISO 8601"
    RELATIVE = "relative to now"


# ------------------------------------------------------------------ instants


def now() -> int:
    """Return the current instant."""
    return time.time_ns()


def parse_timestamp(value: object, now: int | None = None) -> int:
    """Return the instant that ``value`` denotes, in nanoseconds.

    Accepted are

    * seconds since the epoch, as an int, a float or a text that reads as a number (``"20240101"``
      and ``"2014"`` are numbers, not dates). A float stands for the shortest decimal that reads
      back as the same float, which is what the sender wrote: 1388714522.1 is that very tenth of a
      second and not a bit less;
    * ISO 8601 dates: ``2014-10``, ``2014-10-06``, ``2014-10-06T14:33``,
      ``2014-10-06 14:33:57.123456789+02:00``; without an offset they are in UTC;
    * ``now``, or a timespan added to now: ``-10 minutes``, ``14:33:57``.

    Args:
        value: what a client sent.
        now: the instant relative notations refer to; the clock is read when it is ``None``.

    Raises:
        InvalidTimestamp: ``value`` is none of these, or outside the representable range.
    """
    return _parse(value, now)[1]


def parse_timestamps(values: Sequence[object], now: int | None = None) -> NDArray[np.int64]:
    """Return the instants that ``values`` denote, as by :func:`parse_timestamp`.

    All values must use the family of notations of the first: numbers, ISO 8601, or relative to
    now. Relative ones all refer to the same now.

    Returns:
        ``(len(values),)`` array of int64 nanoseconds, in the order given.

    Raises:
        InvalidTimestamp: one of the values cannot be parsed, or is of another family.
    """
    parsed = np.empty(len(values), dtype=np.int64)
    if not len(values):
        return parsed
    kinds = set(map(type, values))
    if kinds == {str}:
        done = _fill_dates(values, parsed)  # type: ignore[arg-type]
    elif kinds <= {int, float}:
        done = _fill_numbers(values, parsed)  # type: ignore[arg-type]
    else:
        done = np.zeros(len(values), dtype=np.bool_)
    remaining = np.flatnonzero(~done).tolist()
    if not remaining:
        return parsed

    if now is None:
        now = time.time_ns()
    expected = _parse(values[0], now)[0]
    # Texts that are done are dates.
    if kinds == {str} and expected is not _Family.DATE and len(remaining) < len(values):
        raise InvalidTimestamp(_UNREADABLE)
    for position in remaining:
        family, parsed[position] = _parse(values[position], now)
        if family is not expected:
            raise InvalidTimestamp(_UNREADABLE)
    return parsed


def _parse(value: object, now: int | None) -> tuple[_Family, int]:
    """Parse one instant of whatever notation."""
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise InvalidTimestamp(_UNREADABLE)
        text = value.strip()
        if _NUMBER.fullmatch(text):
            return _Family.NUMBER, _instant_of_seconds(Decimal(text))
        if date := _ISO.fullmatch(text):
            return _Family.DATE, _in_range(_instant_of_date(date))
        current = time.time_ns() if now is None else now
        text = text.lower()
        if text == "now":
            return _Family.RELATIVE, _in_range(current)
        offset = _length_of_text(text)
        if offset is None:
            raise InvalidTimestamp(_UNREADABLE)
        return _Family.RELATIVE, _in_range(current + offset)
    # bool is an int to Python, and no time to anybody.
    if isinstance(value, bool):
        raise InvalidTimestamp(_UNREADABLE)
    if isinstance(value, int):
        return _Family.NUMBER, _in_range(value * SECOND)
    if isinstance(value, float):
        return _Family.NUMBER, _instant_of_seconds(Decimal(float.__repr__(value)))
    raise InvalidTimestamp(_UNREADABLE)


def _in_range(instant: int) -> int:
    if instant < MIN_TIMESTAMP:
        raise InvalidTimestamp(_BEFORE_EPOCH)
    if instant > MAX_TIMESTAMP:
        raise InvalidTimestamp(_UNREADABLE)
    return instant


def _instant_of_seconds(seconds: Decimal) -> int:
    if not seconds.is_finite():
        raise InvalidTimestamp(_UNREADABLE)
    # Compared before it is scaled: exponents may be absurd.
    if seconds < 0:
        raise InvalidTimestamp(_BEFORE_EPOCH)
    if seconds > _MAX_SECONDS:
        raise InvalidTimestamp(_UNREADABLE)
    return int(seconds.scaleb(9, _EXACT))


def _instant_of_date(date: re.Match[str]) -> int:
    year, month, day, hour, minute, second, fraction, zone = date.groups()
    try:
        ordinal = datetime.date(int(year), int(month), int(day or 1)).toordinal()
    except ValueError:
        raise InvalidTimestamp(_UNREADABLE) from None
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    if hours > 23 or minutes > 59 or seconds > 59:
        raise InvalidTimestamp(_UNREADABLE)
    instant = (
        (ordinal - _EPOCH_ORDINAL) * DAY
        + hours * HOUR
        + minutes * MINUTE
        + seconds * SECOND
        + int((fraction or "")[:9].ljust(9, "0"))
    )
    if zone is None or zone == "Z":
        return instant
    ahead_hours, ahead_minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
    if ahead_hours > 23 or ahead_minutes > 59:
        raise InvalidTimestamp(_UNREADABLE)
    ahead = ahead_hours * HOUR + ahead_minutes * MINUTE
    return instant + ahead if zone[0] == "-" else instant - ahead


# ------------------------------------------------------------------ instants, many at once

# Days from the epoch to the first of every month of 1970 … 2262, and one month more.
_MONTHS: NDArray[np.int64] = (
    np.arange("1970-01", "2263-02", dtype="datetime64[M]").astype("datetime64[D]").astype(np.int64)
)
# 2014-10-06T14:33:57.123456789+02:00 has 35 characters; the 36th tells longer texts apart.
_WIDTH = 36
_BLOCK = 8192
_TENS = (0, 2, 5, 8, 11, 14, 17)
_UNITS = (1, 3, 6, 9, 12, 15, 18)
_FRACTION_WEIGHTS = 10 ** np.arange(8, -1, -1, dtype=np.int64)


def _fill_dates(texts: Sequence[str], parsed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Parse the common full form of ISO 8601 into ``parsed``; return where that succeeded.

    The form is ``YYYY-MM-DD[T ]HH:MM:SS``, up to nine digits of fraction, and nothing, ``Z``,
    ``±HH:MM`` or ``±HHMM``.
    """
    done = np.zeros(len(texts), dtype=np.bool_)
    # In blocks, so that the temporary arrays stay in the processor's cache.
    for start in range(0, len(texts), _BLOCK):
        part = slice(start, start + _BLOCK)
        try:
            packed = np.array(texts[part], dtype=f"S{_WIDTH}")
        except UnicodeEncodeError:
            continue
        lengths = np.fromiter(map(len, texts[part]), dtype=np.int64, count=len(packed))
        instants, done[part] = _dates_of_bytes(packed, lengths)
        parsed[part] = instants
    return done


def _dates_of_bytes(
    packed: NDArray[np.bytes_], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Parse texts of at most ``_WIDTH`` bytes; return instants and which of them count."""
    # One row a character position: what follows are whole-row operations.
    chars = np.ascontiguousarray(packed.view(np.uint8).reshape(len(packed), _WIDTH).T)
    digits = chars - ord("0")  # wraps around: whatever is no digit becomes > 9
    is_digit = digits < 10

    # 1. The fixed part, 19 characters.
    good = is_digit[_TENS, :].all(axis=0) & is_digit[_UNITS, :].all(axis=0)
    good &= (chars[4] == ord("-")) & (chars[7] == ord("-"))
    good &= (chars[10] == ord("T")) | (chars[10] == ord(" "))
    good &= (chars[13] == ord(":")) & (chars[16] == ord(":"))
    # A NUL would look like the end of the text, and a cut text like a shorter one.
    good &= np.count_nonzero(chars, axis=0) == lengths
    pairs = digits[_TENS, :].astype(np.int64) * 10 + digits[_UNITS, :]
    century, year, month, day, hour, minute, second = pairs
    year += century * 100
    good &= (year >= 1970) & (year <= 2262) & (month >= 1) & (month <= 12)
    months = np.where(good, (year - 1970) * 12 + month - 1, 0)
    first = _MONTHS[months]
    good &= (day >= 1) & (day <= _MONTHS[months + 1] - first)
    good &= (hour <= 23) & (minute <= 59) & (second <= 59)
    seconds = (first + day - 1) * 86400 + hour * 3600 + minute * 60 + second

    # 2. The fraction.
    end = np.full(len(packed), 19)
    nanoseconds = np.zeros(len(packed), dtype=np.int64)
    pointed = chars[19] == ord(".")
    if pointed.any():
        counted = np.logical_and.accumulate(is_digit[20:29], axis=0) & pointed
        places = np.count_nonzero(counted, axis=0)
        good &= ~pointed | (places > 0)
        nanoseconds = _FRACTION_WEIGHTS @ np.where(counted, digits[20:29], 0)
        end += np.where(pointed, 1 + places, 0)

    # 3. The offset, which must end the text. ``end`` is 29 at most, so end + 6 is a valid row.
    flat, at = chars.ravel(), np.arange(len(packed))
    mark = flat[end * len(packed) + at]
    if mark.any():
        tail = [flat[(end + k) * len(packed) + at] for k in range(1, 7)]
        utc = (mark == ord("Z")) & (tail[0] == 0)
        colon = tail[2] == ord(":")
        values = [one - ord("0") for one in tail]
        tens = np.where(colon, values[3], values[2])
        units = np.where(colon, values[4], values[3])
        numeric = (values[0] < 10) & (values[1] < 10) & (tens < 10) & (units < 10)
        ahead_hours = values[0].astype(np.int64) * 10 + values[1]
        ahead_minutes = tens.astype(np.int64) * 10 + units
        shifted = (mark == ord("+")) | (mark == ord("-"))
        shifted &= numeric & (ahead_hours <= 23) & (ahead_minutes <= 59)
        shifted &= np.where(colon, tail[5], tail[4]) == 0
        good &= (mark == 0) | utc | shifted
        ahead = np.where(shifted, ahead_hours * 3600 + ahead_minutes * 60, 0)
        seconds += np.where(mark == ord("-"), ahead, -ahead)

    good &= (seconds >= 0) & (seconds < _LAST_SECOND)
    return np.where(good, seconds, 0) * SECOND + nanoseconds, good


def _fill_numbers(values: Sequence[int | float], parsed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Parse seconds since the epoch into ``parsed``; return where that succeeded."""
    done = np.zeros(len(values), dtype=np.bool_)
    whole = np.fromiter((type(v) is int for v in values), dtype=np.bool_, count=len(values))
    if whole.any():
        try:
            seconds = np.array([v for v in values if type(v) is int], dtype=np.int64)
        except OverflowError:
            return done
        good = (seconds >= 0) & (seconds < _LAST_SECOND)
        parsed[whole] = np.where(good, seconds, 0) * SECOND
        done[whole] = good
    if not whole.all():
        instants, good = _instants_of_floats(
            np.array([v for v in values if type(v) is float], dtype=np.float64)
        )
        parsed[~whole] = instants
        done[~whole] = good
    return done


def _instants_of_floats(
    seconds: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the instants of the shortest decimals that read as ``seconds``, and which count.

    From 2**23 s on (April 1970) a double has at most 29 binary places. So nine decimals suffice
    to tell it from its neighbours, and ``fraction * 10**9`` needs 50 bits: it is exact. The sum
    that is compared below is rounded twice, but a decimal of up to nine places keeps at least
    4e-16 from the middle between two such doubles, eight times the error of the first rounding.
    """
    good = (seconds >= 2.0**23) & (seconds < _LAST_SECOND)  # False for NaN
    instants = np.zeros(len(seconds), dtype=np.int64)
    left = np.flatnonzero(good)
    floor = np.floor(seconds[left])
    fraction = seconds[left] - floor
    for places in range(10):
        scaled = np.rint(fraction * 10.0**places)
        same = floor + scaled / 10.0**places == floor + fraction
        instants[left[same]] = floor[same].astype(np.int64) * SECOND + (
            scaled[same].astype(np.int64) * 10 ** (9 - places)
        )
        left, floor, fraction = left[~same], floor[~same], fraction[~same]
        if not len(left):
            break
    good[left] = False
    return instants, good


# ------------------------------------------------------------------ timespans

_LENGTHS = {
    name: (rank, length)
    for rank, (length, names) in enumerate(
        (
            (WEEK, "w wk wks week weeks"),
            (DAY, "d dy dys day days"),
            (HOUR, "h hr hrs hour hours"),
            (MINUTE, "m min mins minute minutes"),
            (SECOND, "s sec secs second seconds"),
        )
    )
    for name in names.split()
}
_DAY_RANK = _LENGTHS["day"][0]
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)[ \t]*([a-z]+)")
_SEPARATOR = re.compile(r"[ \t]*[,/]?[ \t]*")
_CLOCK = re.compile(r"(?:(?:([0-9]+)[:-])?([0-9]+):(?=[0-9]{2}:))?([0-9]*):([0-9]{2}(?:\.[0-9]+)?)")


def parse_timespan(value: object, *, allow_negative_or_zero: bool = False) -> int:
    """Return the length of time that ``value`` denotes, in nanoseconds, cut to whole ones.

    Accepted are a number of seconds (int, float, or a text that reads as a number) and texts of
    any case with an optional sign:

    * amounts with units from weeks down to seconds, each at most once and in that order, with
      blanks, ``,`` or ``/`` between them: ``1w 2d``, ``1h30m``, ``1.5 hours``;
    * clocks: ``:SS``, ``M:SS``, ``H:MM:SS``, ``D:HH:MM:SS``, ``D-HH:MM:SS``, the seconds with a
      fraction; ``H:MM:SS`` also after weeks and days: ``2 days, 4:13:02``.

    Raises:
        InvalidTimespan: ``value`` is none of these, too long to be represented, or not positive
            although ``allow_negative_or_zero`` is not set.
    """
    length = _length(value)
    if length is None:
        raise InvalidTimespan("Unable to parse timespan")
    if length <= 0 and not allow_negative_or_zero:
        raise InvalidTimespan("Timespan must be positive")
    return length


def _length(value: object) -> int | None:
    if isinstance(value, str):
        return _length_of_text(value.strip().lower()) if len(value) <= MAX_TEXT else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTimespan("Invalid timespan")
    if isinstance(value, int):
        return value * SECOND if abs(value) <= _LAST_SECOND else None
    return _length_of_seconds(Decimal(float.__repr__(value)))


def _length_of_seconds(seconds: Decimal) -> int | None:
    if not seconds.is_finite() or abs(seconds) > _MAX_SECONDS:
        return None
    return int(seconds.scaleb(9, _EXACT))


def _length_of_text(text: str) -> int | None:
    """Parse a text in lower case without surrounding blanks; ``None`` if it is no timespan."""
    if _NUMBER.fullmatch(text):
        return _length_of_seconds(Decimal(text))
    sign = 1
    if text[:1] in ("+", "-"):
        sign = -1 if text[0] == "-" else 1
        text = text[1:].lstrip()

    total, rank, position = Decimal(0), -1, 0
    while amount := _AMOUNT.match(text, position):
        number, name = amount.groups()
        if name not in _LENGTHS or _LENGTHS[name][0] <= rank:
            return None
        rank, length = _LENGTHS[name]
        total = _EXACT.fma(Decimal(number), Decimal(length), total)
        position = amount.end()
        if position == len(text):
            break
        separator = _SEPARATOR.match(text, position)
        position = separator.end() if separator else position
        if position == len(text):
            return None
    if position < len(text) or not text:
        clock = _CLOCK.fullmatch(text, position)
        if clock is None:
            return None
        days, hours, minutes, seconds = clock.groups()
        if rank >= 0 and (rank > _DAY_RANK or days is not None or hours is None):
            return None
        whole = int(days or 0) * DAY + int(hours or 0) * HOUR + int(minutes or 0) * MINUTE
        total = _EXACT.fma(Decimal(seconds), Decimal(SECOND), _EXACT.add(total, Decimal(whole)))
    return sign * int(total) if total <= MAX_TIMESPAN else None


# ------------------------------------------------------------------ back to text


def format_timestamp(ns: int) -> str:
    """Return an instant as ISO 8601 in UTC: ``2014-10-06T14:33:57+00:00``.

    The fraction is written only when it is not zero, with as many of its nine digits as needed.
    """
    seconds, fraction = divmod(ns, SECOND)
    text = (_EPOCH + datetime.timedelta(seconds=seconds)).isoformat()
    return f"{text[:19]}{_fraction(fraction)}+00:00"


def format_timestamps(ns: NDArray[np.int64]) -> list[str]:
    """Return many instants as :func:`format_timestamp` does.

    Args:
        ns: ``(n,)`` array of int64 nanoseconds.
    """
    seconds, fractions = np.divmod(ns, SECOND)
    texts: list[str] = np.datetime_as_string(seconds.astype("datetime64[s]")).tolist()
    if not fractions.any():
        return [text + "+00:00" for text in texts]
    return [
        f"{text}{_fraction(fraction)}+00:00"
        for text, fraction in zip(texts, fractions.tolist(), strict=True)
    ]


def _fraction(nanoseconds: int) -> str:
    return f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""


def format_duration(ns: int) -> str:
    """Return a timespan as ``7 days, 0:00:00`` or ``0:00:03.600000``, cut to microseconds."""
    return str(datetime.timedelta(microseconds=ns // 1000))


def to_seconds(ns: int) -> float:
    """Return nanoseconds as the nearest float of seconds."""
    return ns / SECOND
