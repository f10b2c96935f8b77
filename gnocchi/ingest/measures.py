"""JSON lists of measures to columns.

A measure is an object with ``timestamp`` and ``value``; further members are ignored. Within one
list all timestamps use one family of notations. All or nothing: one bad measure refuses the whole
document.

Good input is what counts here, so it takes the fast way: the whole document is flattened and
converted by a handful of calls, without a Python statement per measure. Only when something
does not fit, the lists are gone through one by one to tell which, and why. A list whose
timestamps are good but of another family than those of its neighbours takes that second way and
is accepted there.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gnocchi import errors, model, times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_FORMAT = "unexpected measures format"
_VALUE = "unexpected measures value"
_FUTURE = "Timestamp is too far in the future"
_NUMBERS = frozenset((float, int, bool))


class InvalidMeasures(errors.Invalid):
    """A list of measures cannot be used.

    Attributes:
        reason: what is wrong with it.
        key: the key of the list in its document, ``None`` when there is only one list.
    """

    def __init__(self, reason: str, key: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.key = key


class InvalidKey(errors.Invalid):
    """A key of the document is not the UUID of a metric."""

    def __init__(self, key: str) -> None:
        super().__init__("not a valid value")
        self.key = key


@dataclass(frozen=True, slots=True)
class Columns:
    """Points of several metrics; those of one metric are consecutive."""

    counts: NDArray[np.int64]
    """``(m,)``: points of each metric, in the order of the document."""
    timestamps: NDArray[np.int64]
    """``(n,)``: ns since 1970."""
    values: NDArray[np.float64]
    """``(n,)``"""


def one(measures: object, *, now: int, latest: int = times.MAX_TIMESTAMP) -> Columns:
    """Parse one list of measures.

    Args:
        measures: the decoded list.
        now: what relative timestamps refer to, in ns.
        latest: newest timestamp to be accepted, in ns.

    Raises:
        InvalidMeasures: without key.
    """
    timestamps, values = _list(measures, now, latest)
    return Columns(np.array([len(timestamps)], dtype=np.int64), timestamps, values)


def many(lists: Mapping[str, object], *, now: int, latest: int = times.MAX_TIMESTAMP) -> Columns:
    """Parse the lists of measures of several metrics; arguments as for `one`.

    Raises:
        InvalidMeasures: with the key of the first list that is wrong.
    """
    columns = _fast(list(lists.values()), now, latest)
    if columns is not None:
        return columns
    return _list_by_list(lists, now, latest)


def metric_ids(keys: Sequence[str]) -> list[bytes]:
    """Parse UUIDs, in any of their usual spellings, to 16 raw bytes each.

    Raises:
        InvalidKey: for the first one that is none.
    """
    try:
        ids = [bytes.fromhex(key.replace("-", "")) for key in keys]
    except ValueError:
        return [_metric_id(key) for key in keys]
    # fromhex skips blanks, so the length of the text has to be right as well.
    if set(map(len, ids)) <= {16} and set(map(len, keys)) <= {32, 36}:
        return ids
    return [_metric_id(key) for key in keys]


def _metric_id(key: str) -> bytes:
    try:
        return model.parse_uuid(key).bytes
    except errors.Invalid as error:
        raise InvalidKey(key) from error


# ------------------------------------------------------------------ the fast way


def _fast(lists: list[Any], now: int, latest: int) -> Columns | None:
    """Convert everything at once; ``None`` when that cannot be done."""
    if set(map(type, lists)) - {list}:
        return None
    measures = list(itertools.chain.from_iterable(lists))
    if set(map(type, measures)) - {dict}:
        return None
    try:
        timestamps = times.parse_timestamps([measure["timestamp"] for measure in measures], now)
        values = _values([measure["value"] for measure in measures])
    except (KeyError, errors.InvalidTimestamp):
        return None
    if values is None or (len(timestamps) and timestamps.max() > latest):
        return None
    return Columns(np.array(list(map(len, lists)), dtype=np.int64), timestamps, values)


def _values(values: list[Any]) -> NDArray[np.float64] | None:
    """Convert numbers to float64; ``None`` unless all are numbers that fit."""
    if set(map(type, values)) - _NUMBERS:
        return None
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return None


# ------------------------------------------------------------------ one by one


def _list_by_list(lists: Mapping[str, object], now: int, latest: int) -> Columns:
    counts, stamps, numbers = [], [], []
    for key, measures in lists.items():
        try:
            timestamps, values = _list(measures, now, latest)
        except InvalidMeasures as error:
            raise InvalidMeasures(error.reason, key) from error
        counts.append(len(timestamps))
        stamps.append(timestamps)
        numbers.append(values)
    return Columns(
        np.array(counts, dtype=np.int64), np.concatenate(stamps), np.concatenate(numbers)
    )


def _list(measures: object, now: int, latest: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    if not isinstance(measures, list):
        raise InvalidMeasures(_FORMAT)
    if not all(isinstance(measure, dict) for measure in measures):
        raise InvalidMeasures(_FORMAT)
    stamps = [measure.get("timestamp") for measure in measures]
    if None in stamps:
        raise InvalidMeasures(_FORMAT)
    try:
        timestamps = times.parse_timestamps(stamps, now)
    except errors.InvalidTimestamp as error:
        raise InvalidMeasures(f"unexpected timestamp '{error}'") from error
    if len(timestamps) and timestamps.max() > latest:
        raise InvalidMeasures(f"unexpected timestamp '{_FUTURE}'")
    listed = [measure.get("value") for measure in measures]
    values = _values(listed)
    if values is None:
        values = np.array([_value(value) for value in listed], dtype=np.float64)
    return timestamps, values


def _value(value: Any) -> float:
    """Convert one value; texts that read as numbers are numbers."""
    if not isinstance(value, (str, int, float)):
        raise InvalidMeasures(_VALUE)
    try:
        return float(value)
    except (ValueError, OverflowError) as error:
        raise InvalidMeasures(_VALUE) from error
