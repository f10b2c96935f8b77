"""Which shares of waiting objects have been processed, where objects cannot be renamed.

A worker that has processed its sacks' shares of some objects writes one acknowledgement, an object
that names them. It is never changed, and what it says stays true: stems are given once. So readers
unite all acknowledgements that they have ever read, and read each of them once.

Format: a line ``GNACK 1 <CRC-32 of the rest, hexadecimal>``, then a line ``<stem> <mask> <items>
<points>`` for each object: the sacks of the group that have taken their shares, and what those
held; numbers are hexadecimal.

Invariant: an acknowledgement outlives the objects it names. Only when they have been removed, or
are absent from a listing that began when the acknowledgement was known, may it be removed: absence
from an earlier listing proves nothing, for the object may have come after it.
"""

from __future__ import annotations

import re
import threading
import time
import zlib
from typing import TYPE_CHECKING, NamedTuple

from gnocchi.errors import CorruptObject

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from gnocchi.drivers.names import Name

# Sorts before the names of objects: in a listing that is read in order, whoever finds an object
# whose acknowledgement has just been removed finds it gone as well.
PREFIX = "-taken."

_HEAD = re.compile(rb"GNACK 1 ([0-9a-f]{8})\n")
_STEM = re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}")


class Share(NamedTuple):
    """What was taken of one object."""

    mask: int
    items: int
    points: int


def is_acknowledgement(name: str) -> bool:
    """Whether a name is that of an acknowledgement."""
    return name.startswith(PREFIX) and _STEM.fullmatch(name, len(PREFIX)) is not None


def encode(shares: dict[str, Share]) -> bytes:
    """Encode shares by stem."""
    body = "".join(
        f"{stem} {share.mask:x} {share.items:x} {share.points:x}\n"
        for stem, share in shares.items()
    ).encode()
    return b"GNACK 1 %08x\n" % zlib.crc32(body) + body


def decode(data: bytes, name: str) -> dict[str, Share]:
    """Verify and decode.

    Raises:
        CorruptObject: no acknowledgement, or the checksum does not match.
    """
    head = _HEAD.match(data)
    if head is None:
        raise CorruptObject(name, "not an acknowledgement of a known version")
    body = data[head.end() :]
    if int(head[1], 16) != zlib.crc32(body):
        raise CorruptObject(name, "checksum of the acknowledgement does not match")
    shares = {}
    for line in body.decode("ascii").splitlines():
        stem, *numbers = line.split(" ")
        shares[stem] = Share(*(int(number, 16) for number in numbers))
    return shares


class _Known(NamedTuple):
    since: float  # `time.monotonic` when it was read or written
    shares: dict[str, Share]


_NOTHING: dict[str, Share] = {}


class Ledger:
    """What one process knows of one group: the last listing, and acknowledgements.

    Safe for threads; does no I/O.

    Args:
        lag_s: an object that is there may be missing from listings for so long.
    """

    def __init__(self, lag_s: float = 0.0) -> None:
        self._lag_s = lag_s
        self._lock = threading.Lock()
        self._acknowledgements: dict[str, _Known] = {}
        self._taken: dict[str, dict[str, Share]] = {}  # stem -> acknowledgement -> share
        self._gone: set[str] = set()  # stems that were listed, and are not there
        self.names: Sequence[Name] = ()  # of the last listing, ascending
        self.began = float("-inf")  # `time.monotonic` when it began

    def unknown(self, acknowledgements: Iterable[str]) -> list[str]:
        """Those that have yet to be read."""
        with self._lock:
            return [name for name in acknowledgements if name not in self._acknowledgements]

    def learn(self, acknowledgement: str, shares: dict[str, Share]) -> None:
        """Note what an acknowledgement says that was read or written."""
        with self._lock:
            if acknowledgement not in self._acknowledgements:
                self._acknowledgements[acknowledgement] = _Known(time.monotonic(), shares)
                for stem, share in shares.items():
                    self._taken.setdefault(stem, {})[acknowledgement] = share

    def listed(self, began: float, names: Sequence[Name], acknowledgements: set[str]) -> None:
        """Note a listing; forget what is neither in it nor of use for what is."""
        stems = {name.stem for name in names}
        with self._lock:
            self.names, self.began = names, began
            self._gone &= stems
            forgotten = [
                name
                for name, known in self._acknowledgements.items()
                if name not in acknowledgements
                and known.since < began
                and stems.isdisjoint(known.shares)
            ]
            for name in forgotten:
                self._drop(name)

    def _drop(self, acknowledgement: str) -> Iterable[str]:
        """Forget an acknowledgement; return the stems it named."""
        known = self._acknowledgements.pop(acknowledgement, None)
        if known is None:
            return ()
        for stem in known.shares:
            others = self._taken[stem]
            del others[acknowledgement]
            if not others:
                del self._taken[stem]
        return known.shares

    def left(self, name: Name) -> int:
        """The mask of the sacks that have not taken their share."""
        with self._lock:
            return self._left(name)

    def _left(self, name: Name) -> int:
        if name.stem in self._gone:
            return 0
        left = name.mask
        for share in self._taken.get(name.stem, _NOTHING).values():
            left &= ~share.mask
        return left

    def is_gone(self, name: Name) -> bool:
        """Whether an object is known not to be there any more."""
        with self._lock:
            return name.stem in self._gone

    def rest(self, name: Name) -> tuple[int, int] | None:
        """Items and points of the sacks that are left; None if only the object can tell."""
        with self._lock:
            items, points, seen = name.items, name.points, 0
            for share in self._taken.get(name.stem, _NOTHING).values():
                if share.mask & seen:
                    return None  # counted twice
                seen |= share.mask
                items, points = items - share.items, points - share.points
            return items, points

    def removed(self, stems: Iterable[str]) -> None:
        """Note that objects are not there any more, whatever a listing says."""
        with self._lock:
            self._gone.update(stems)

    def complete(self) -> list[Name]:
        """Listed objects that may be removed: every sack has taken its share."""
        with self._lock:
            return [
                name for name in self.names if name.stem not in self._gone and not self._left(name)
            ]

    def obsolete(self) -> list[str]:
        """Acknowledgements that may be removed: all they name is gone for certain."""
        with self._lock:
            there = {name.stem for name in self.names} - self._gone
            return [
                acknowledgement
                for acknowledgement, known in self._acknowledgements.items()
                if there.isdisjoint(known.shares)
                and (known.since + self._lag_s < self.began or self._gone.issuperset(known.shares))
            ]

    def forget(self, acknowledgements: Iterable[str]) -> None:
        """Note that acknowledgements have been removed, with all they named before."""
        with self._lock:
            for name in acknowledgements:
                self._gone.update(self._drop(name))


def settled(before: Collection[Name], after: Sequence[Name], skew_ns: int) -> list[Name]:
    """What of a listing can be processed without overtaking anything.

    A listing is read piece by piece: it may show an object and not show one that was there earlier,
    because its piece had been read by then. Processed like that, newer values would be overwritten
    by older ones later. All that was there when the *first* of two listings ended is in the second
    one. So an object of the second is safe if its writer has the same or a later one in the first.

    Others that are older than something safe came while the second was read, from a writer that
    was slow or has a late clock; what is newer than they waits with them for the next round, unless
    the clock is late by more than ``skew_ns``.

    Args:
        before: names of a listing that ended before the other began.
        after: names, ascending.
    """
    last: dict[str, int] = {}
    for name in before:
        last[name.writer] = max(last.get(name.writer, 0), name.arrival_ns)
    safe = [name for name in after if name.arrival_ns <= last.get(name.writer, -1)]
    if len(safe) == len(after):
        return safe
    newest = max(last.values(), default=0)
    kept = set(safe)
    late = [name for name in after if name not in kept and name.arrival_ns > newest - skew_ns]
    return [name for name in safe if not late or name < late[0]]
