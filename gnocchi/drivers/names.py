"""Names of waiting objects: they say what is in an object, so that nobody has to open it.

A name is ``<arrival>-<nonce>.<points>.<items>.<shares>.<mask>``, all hexadecimal: time of arrival
in nanoseconds (16 digits, so that names sort by arrival), a number of the writer, how many points
and (metric, request) pairs the object holds, for how many sacks, and a mask with one bit for each
sack of its group that has a share in it. What comes before the first dot is the stem; it is never
given twice.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

from gnocchi import forks

if TYPE_CHECKING:
    from collections.abc import Iterable

GROUP = 256  # sacks of a group: a mask of 256 bits fits a name

_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}(\.(0|[1-9a-f][0-9a-f]*)){4}")


class Name(NamedTuple):
    """The name of an incoming object: what it says without opening the object."""

    stem: str  # arrival in ns and a nonce, hexadecimal: sorts by arrival
    points: int
    items: int
    shares: int  # how many sacks it had points for when it was written
    mask: int  # bit i: sack i of the group has not taken its share

    @classmethod
    def parse(cls, text: str) -> Name | None:
        """What a name says; None if this program did not give it."""
        if _NAME.fullmatch(text) is None:
            return None
        stem, *numbers = text.split(".")
        points, items, shares, mask = (int(number, 16) for number in numbers)
        return cls(stem, points, items, shares, mask)

    def __str__(self) -> str:
        return f"{self.stem}.{self.points:x}.{self.items:x}.{self.shares:x}.{self.mask:x}"

    @property
    def arrival_ns(self) -> int:
        return int(self.stem.partition("-")[0], 16)

    @property
    def writer(self) -> str:
        """The nonce of who wrote it; the arrivals of one writer ascend."""
        return self.stem.partition("-")[2]


class Arrivals:
    """Stems that sort in the order in which this process accepted the points."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()
        self._renew()
        # A forked child must not go on with its parent's nonce.
        forks.in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._nonce = uuid.uuid4().hex[:8]

    def next(self) -> str:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return f"{self._last:016x}-{self._nonce}"


def groups_of(sacks: int) -> int:
    """How many groups so many sacks make."""
    return (sacks + GROUP - 1) // GROUP


def masks_of(sacks: Iterable[int]) -> dict[int, int]:
    """The groups of some sacks, with the mask of those sacks in each."""
    masks: dict[int, int] = {}
    for sack in sacks:
        masks[sack // GROUP] = masks.get(sack // GROUP, 0) | 1 << (sack % GROUP)
    return masks


def sacks_in(group: int, mask: int) -> list[int]:
    """The sacks whose bits are set in the mask of a group, ascending."""
    sacks = []
    while mask:
        bit = mask & -mask
        mask ^= bit
        sacks.append(group * GROUP + bit.bit_length() - 1)
    return sacks
