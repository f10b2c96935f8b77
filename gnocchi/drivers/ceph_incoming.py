"""Points that wait in a Ceph pool.

A request is one incoming object (`gnocchi.segments.batch`), whatever the number of its metrics and
sacks. Up to `INLINE` bytes it is the value of its key in the index of its group: one operation. A
larger one is an object of its own, so that the omap of the index stays small: written first, then
the key. How workers take their shares, and how requests stay in order, is said in
`gnocchi.drivers.ceph_index`.

An object of its own is removed after the marks for all of its shares are there, and before its key.
One without a key is left by a `CephIncoming.add` that was cut short; `CephIncoming.tidy` removes
it, and is all that lists the pool here.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gnocchi import errors, forks
from gnocchi.drivers.ceph_cluster import Absent, Cluster, Range
from gnocchi.drivers.ceph_index import OWN, VALUES, Index, Request, Stems, mark_key
from gnocchi.drivers.names import GROUP, Name, groups_of, masks_of, sacks_in
from gnocchi.drivers.together import Together
from gnocchi.incoming import Backlog, Damage, Incoming, Taken
from gnocchi.segments import batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np

    from gnocchi.drivers.ceph_index import Listing

DAMAGED = "gnocchi_damaged_"
INLINE = 4096
HEAD = 1 << 15  # bytes of a large request to read with its directory
REQUESTS_A_TAKE = 4096  # a round's memory and time are bounded also when all requests are small
ENTRY_SIZE = 32  # of the directory of an incoming object
POLL_S = 0.5
LONGEST_POLL_S = 2.0
BACK_OFF = 1.5

_LISTING = "Unable to list a Ceph pool"
_READING = "Unable to read waiting measures from Ceph"


class _Part(NamedTuple):
    """What a take has found in one request; entry of a receipt."""

    group: int
    request: Request
    mask: int  # the sacks it was taken for
    items: int
    points: int


class CephIncoming(Incoming):
    """Waiting points in the omap of RADOS objects, and in objects."""

    def __init__(self, conf: Any, sacks: int) -> None:
        self.sacks = sacks
        self._cluster = Cluster.of(conf)
        self._names = [f"gnocchi_incoming{sacks}_{group}" for group in range(groups_of(sacks))]
        self._indexes = [Index(self._cluster, name) for name in self._names]
        self._stems = Stems()
        self._together = Together(self._write)
        self._renew()
        forks.in_child(self._renew)

    def _renew(self) -> None:
        self._news = threading.Condition()
        self._added = 0  # counts adds of this process

    def give_up_after(self, seconds: float) -> None:
        self._cluster.give_up_after(seconds)

    def upgrade(self) -> None:
        for index in self._indexes:
            index.make()

    def _object(self, group: int, stem: str) -> str:
        """The name of a large request's object."""
        return f"{self._names[group]}_{stem}"

    # ---------------------------------------------------------------- add

    def add(self, points: batch.Points) -> None:
        """Store points; callers that arrive while a write is under way share the next one."""
        if len(points):
            self._together.add(points)
            with self._news:
                self._added += 1
                self._news.notify_all()

    def _write(self, points: batch.Points) -> None:
        by_group: dict[int, dict[int, batch.Points]] = {}
        for sack, share in batch.by_sack(points, self.sacks).items():
            by_group.setdefault(sack // GROUP, {})[sack] = share
        encoded = {group: batch.encode(shares) for group, shares in by_group.items()}
        while by_group:
            accepted = self._write_groups(by_group, encoded)
            by_group = {
                group: shares for group, shares in by_group.items() if group not in accepted
            }

    def _write_groups(
        self, by_group: Mapping[int, dict[int, batch.Points]], encoded: Mapping[int, bytes]
    ) -> set[int]:
        """Write one request for each group; return those whose index has accepted its name."""
        what = "Unable to store measures in Ceph"
        keys: dict[int, str] = {}
        starts = []
        for group, shares in by_group.items():
            data = encoded[group]
            name = self._name(group, shares)
            keys[group] = str(name) if len(data) <= INLINE else f"{name}{OWN}"
            if len(data) > INLINE:
                self._cluster.put(what, self._object(group, name.stem), data)
                data = b""
            starts.append(self._indexes[group].adding(keys[group], data))
        accepted = set()
        for (group, key), result in zip(
            keys.items(), self._cluster.together(what, starts), strict=True
        ):
            if result >= 0:
                accepted.add(group)
                continue
            self._stems.go_on_above(self._indexes[group].floor())
            if key.endswith(OWN):
                stem = key.partition(".")[0]
                self._cluster.remove(what, [self._object(group, stem)])
        return accepted

    def _name(self, group: int, shares: Mapping[int, batch.Points]) -> Name:
        return Name(
            self._stems.next(),
            sum(len(share) for share in shares.values()),
            sum(len(share.ids) for share in shares.values()),
            len(shares),
            masks_of(shares)[group],
        )

    # ---------------------------------------------------------------- take

    def take(self, sacks: Sequence[int], max_points: int) -> Taken:
        parts: list[batch.Points] = []
        receipt: list[_Part] = []
        damaged: list[Damage] = []
        total, more = 0, False
        for group, mask in sorted(masks_of(sacks).items()):
            wanted, whole = self._list(group, mask, max(1, max_points - total))
            position = 0
            while position < len(wanted) and total < max_points and len(receipt) < REQUESTS_A_TAKE:
                portion = _portion(wanted, position, mask, max_points - total)
                for request, data in zip(portion, self._load(group, portion, mask), strict=True):
                    if total >= max_points:
                        break
                    position += 1
                    if data is not None:
                        shares, part = self._shares(group, request, mask, data, damaged)
                        receipt.append(part)
                        parts += shares
                        total += sum(len(points) for points in shares)
            more = more or not whole or position < len(wanted)
        return Taken(batch.Points.concatenate(parts), receipt, damaged, more)

    def _list(self, group: int, mask: int, points: int) -> tuple[list[Request], bool]:
        """Requests with shares of some sacks, and whether these are all.

        They are all when they have fewer points than asked for.
        """

        def enough(requests: Mapping[str, Request]) -> bool:
            wanted = [request for request in requests.values() if request.left & mask]
            certain = sum(
                request.name.points
                for request in wanted
                if request.left & mask == request.name.mask
            )
            return certain >= points or len(wanted) > REQUESTS_A_TAKE

        index = self._indexes[group]
        listing = index.snapshot(enough)
        self._sweep(group, listing)
        return [request for request in listing.requests if request.left & mask], listing.whole

    def _load(self, group: int, requests: Sequence[Request], mask: int) -> list[_Data | None]:
        """What is needed of some incoming objects; None for those that others have removed."""
        inline = [request.key for request in requests if not request.own]
        values = self._indexes[group].values(inline) if inline else {}
        own = [request for request in requests if request.own]
        datas = dict(
            zip((request.key for request in own), self._read(group, own, mask), strict=True)
        )
        return [
            datas[request.key]
            if request.own
            else _Data(values[request.key])
            if request.key in values
            else None
            for request in requests
        ]

    def _read(self, group: int, requests: Sequence[Request], mask: int) -> list[_Data | None]:
        """What is needed of large requests: two round trips, if they are not needed whole."""
        names = [self._object(group, request.name.stem) for request in requests]
        heads = self._cluster.read(
            _READING,
            [
                Range(name, 0, _first_read(request, mask))
                for name, request in zip(names, requests, strict=True)
            ],
        )
        datas = [
            self._missing(group, request) if head is None else _Data(head)
            for request, head in zip(requests, heads, strict=True)
        ]
        rest: list[tuple[_Data, Range]] = []
        for name, request, data in zip(names, requests, datas, strict=True):
            if data is not None and (span := data.lacking(request.left & mask)) is not None:
                rest.append((data, Range(name, *span)))
        tails = self._cluster.read(_READING, [asked for _, asked in rest])
        for (data, asked), tail in zip(rest, tails, strict=True):
            data.tail, data.tail_at = tail or b"", asked.offset
        return datas

    def _missing(self, group: int, request: Request) -> _Data | None:
        """A large request without its object: others have taken it all, or it is damaged."""
        found = self._indexes[group].find(request.name.stem)
        return None if found is None or not found.left else _Data(b"")

    def _shares(
        self, group: int, request: Request, mask: int, data: _Data, damaged: list[Damage]
    ) -> tuple[list[batch.Points], _Part]:
        """The shares of some sacks of one request, and what to discard of it."""
        name, wanted = request.name, request.left & mask
        shares: list[batch.Points] = []
        items = points = 0
        broken: errors.CorruptObject | None = None
        try:
            for entry in batch.read_directory(data.head, name.stem):
                if not wanted & 1 << (int(entry["sack"]) % GROUP):
                    continue
                items += int(entry["metrics"])
                points += int(entry["points"])
                try:
                    shares.append(batch.read_share(entry, data.share(entry), name.stem))
                except errors.CorruptObject as e:
                    broken = broken or e
        except errors.CorruptObject as e:
            broken = e
        if broken is not None:
            damaged.append(self._set_aside(group, request, data, broken))
        return shares, _Part(group, request, wanted, items, points)

    def _set_aside(
        self, group: int, request: Request, data: _Data, error: errors.CorruptObject
    ) -> Damage:
        """Keep the bytes of a damaged object; it is then discarded as if it were whole."""
        stem = request.name.stem
        whole = data.head
        if request.own:
            try:
                whole = self._cluster.read_whole(_READING, self._object(group, stem))
            except Absent:
                return Damage(stem, "its object is not in the pool")
        self._cluster.put("Unable to keep a damaged object", DAMAGED + stem, whole)
        return Damage(stem, str(error.reason))

    # ---------------------------------------------------------------- discard

    def discard(self, taken: Taken) -> None:
        receipt: list[_Part] = taken.receipt
        for group, parts in itertools.groupby(receipt, lambda part: part.group):
            self._discard(group, list(parts))
            self._indexes[group].advance()

    def _discard(self, group: int, parts: Sequence[_Part]) -> None:
        """Say that shares have been processed, all at once; then remove what was the last."""
        marks: list[str] = []
        gone: list[str] = []
        done: list[Request] = []
        for part in parts:
            request = part.request
            complete = not request.left & ~part.mask
            if complete and not request.own:
                gone += [request.key, *request.marks]
                continue
            mark = mark_key(request.name.stem, part.mask, part.items, part.points)
            marks.append(mark)
            if complete:
                done.append(replace(request, marks=[*request.marks, mark]))
        self._indexes[group].change(marks, gone, "")
        if done:
            self._remove(group, done)

    def _remove(
        self, group: int, requests: Sequence[Request], marks: Iterable[str] = (), start: str = ""
    ) -> None:
        """Remove requests of which all is taken, and further marks."""
        objects = [self._object(group, request.name.stem) for request in requests if request.own]
        if objects:
            self._cluster.remove("Unable to remove processed measures from Ceph", objects)
        keys = [key for request in requests for key in (request.key, *request.marks)]
        self._indexes[group].change((), [*keys, *marks], start)

    def _sweep(self, group: int, listing: Listing) -> int:
        """Remove what others have finished, or were cut short in removing; return how many keys.

        Safe at any time, by anybody.
        """
        done = [request for request in listing.requests if not request.left]
        if done or listing.orphans:
            self._remove(group, done, listing.orphans, listing.start)
        return len(done) + len(listing.orphans)

    def tidy(self, older_than_s: float) -> int:
        """Remove marks and objects that belong to no request.

        Lists the pool, before the indexes: an object whose key comes later is not that old.
        """
        old = self._old_objects(older_than_s)
        removed = 0
        for group, index in enumerate(self._indexes):
            listing = index.snapshot(ordered=False)
            removed += self._sweep(group, listing)
            late = index.late_marks()
            index.change((), late, listing.start)
            known = {request.name.stem for request in listing.requests}
            orphans = [name for stem, name in old.get(group, {}).items() if stem not in known]
            if orphans:
                self._cluster.remove("Unable to remove unfinished writes from Ceph", orphans)
            removed += len(late) + len(orphans)
        return removed

    def _old_objects(self, older_than_s: float) -> dict[int, dict[str, str]]:
        """Objects of large requests that were written long ago: by group, from stem to name."""
        found: list[tuple[int, str]] = []
        for key in self._cluster.everything(_LISTING):
            for group, prefix in enumerate(self._names):
                if key.startswith(f"{prefix}_"):
                    found.append((group, key.removeprefix(f"{prefix}_")))
        names = [self._object(group, text) for group, text in found]
        old: dict[int, dict[str, str]] = {}
        for (group, text), age_s in zip(found, self._cluster.ages(_LISTING, names), strict=True):
            if age_s is not None and age_s > older_than_s:
                stem = text.partition("/")[0]
                old.setdefault(group, {})[stem] = self._object(group, stem)
        return old

    # ---------------------------------------------------------------- what waits

    def waiting(self) -> dict[int, float]:
        now = time.time_ns()
        oldest: dict[int, float] = {}
        for group, index in enumerate(self._indexes):
            seen = 0
            for request in index.snapshot(ordered=False).requests:
                fresh = request.left & ~seen
                seen |= fresh
                for sack in sacks_in(group, fresh):
                    oldest[sack] = max(0.0, (now - request.name.arrival_ns) / 1e9)
        return oldest

    def wait(self, timeout_s: float, sacks: Iterable[int] | None = None) -> bool:
        """See `Incoming.wait`. One small operation per look, and fewer while nothing comes."""
        masks = masks_of(range(self.sacks) if sacks is None else sacks)
        end = time.monotonic() + timeout_s
        poll_s = POLL_S
        while True:
            with self._news:
                added = self._added
            if any(self._anything(group, mask) for group, mask in masks.items()):
                return True
            rest = end - time.monotonic()
            if rest <= 0:
                return False
            with self._news:
                self._news.wait_for(lambda: self._added != added, min(poll_s, rest))  # noqa: B023
            poll_s = min(poll_s * BACK_OFF, LONGEST_POLL_S)

    def _anything(self, group: int, mask: int) -> bool:
        def found(requests: Mapping[str, Request]) -> bool:
            return any(request.left & mask for request in requests.values())

        listing = self._indexes[group].snapshot(found, ordered=False)
        return any(request.left & mask for request in listing.requests)

    def backlog(self, *, details: bool = False) -> Backlog:
        items = points = 0
        per_metric: dict[bytes, int] = {}
        for group, index in enumerate(self._indexes):
            unclear = []
            for request in index.snapshot(ordered=False).requests:
                if details or not request.exact:
                    unclear.append(request)
                elif request.left:
                    items += max(0, request.name.items - request.items)
                    points += max(0, request.name.points - request.points)
            for position in range(0, len(unclear), VALUES):
                for share in self._waiting_shares(group, unclear[position : position + VALUES]):
                    items += len(share.ids)
                    points += len(share)
                    for raw in map(bytes, share.ids) if details else ():
                        per_metric[raw] = per_metric.get(raw, 0) + 1
        metrics = len(per_metric) if details else items
        return Backlog(items, points, metrics, per_metric if details else None)

    def _waiting_shares(self, group: int, requests: Sequence[Request]) -> Iterator[batch.Points]:
        """The shares that wait and can be read: damage is told of when they are taken."""
        everything = (1 << GROUP) - 1
        for request, data in zip(requests, self._load(group, requests, everything), strict=True):
            with contextlib.suppress(errors.CorruptObject):
                for entry in batch.read_directory(b"" if data is None else data.head, request.key):
                    if data is not None and request.left & 1 << (int(entry["sack"]) % GROUP):
                        with contextlib.suppress(errors.CorruptObject):
                            yield batch.read_share(entry, data.share(entry), request.key)


@dataclass(slots=True)
class _Data:
    """Bytes of an incoming object: its beginning, and a later part where it is not whole."""

    head: bytes
    tail: bytes = b""
    tail_at: int = 0

    def share(self, entry: np.void) -> bytes:
        """The bytes of a share, as far as they are there."""
        start, stop = int(entry["offset"]), int(entry["offset"]) + int(entry["length"])
        if stop <= len(self.head) or start < self.tail_at or not self.tail:
            return self.head[start:stop]
        return self.tail[start - self.tail_at : stop - self.tail_at]

    def lacking(self, mask: int) -> tuple[int, int] | None:
        """Offset and length of what has to be read yet for the shares of some sacks."""
        try:
            directory = batch.read_directory(self.head, "")
        except errors.CorruptObject:
            return None  # which is told of when it is decoded
        spans = [
            (int(entry["offset"]), int(entry["offset"]) + int(entry["length"]))
            for entry in directory
            if mask & 1 << (int(entry["sack"]) % GROUP)
        ]
        beyond = [(start, stop) for start, stop in spans if stop > len(self.head)]
        if not beyond:
            return None
        start, stop = beyond[0][0], beyond[-1][1]
        return start, stop - start


def _size(name: Name) -> int:
    """How large an incoming object is at the most, from its name."""
    return _directory_size(name) + 16 * name.points + 20 * name.items + 8 * name.shares


def _directory_size(name: Name) -> int:
    """Where the shares of an incoming object begin."""
    return batch.HEADER_SIZE + ENTRY_SIZE * name.shares


def _first_read(request: Request, mask: int) -> int:
    """How much of a large request to read first: all if most of it is needed."""
    wanted = (request.left & mask).bit_count()
    whole, beginning = _size(request.name), _directory_size(request.name) + HEAD
    return whole if 2 * wanted >= request.name.shares else min(whole, beginning)


def _portion(
    requests: Sequence[Request], position: int, mask: int, points: int
) -> Sequence[Request]:
    """The requests to read at once: about as many as make up so many points, one at least."""
    stop = position
    while stop < min(len(requests), position + VALUES) and (stop == position or points > 0):
        request = requests[stop]
        wanted = (request.left & mask).bit_count()
        points -= request.name.points * wanted // max(1, request.name.shares)
        stop += 1
    return requests[position:stop]
