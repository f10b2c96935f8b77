"""The queue of waiting points in stores of objects that have no rename: S3, Swift.

A driver implements `Objects`, five calls on whole objects, and gives it to `ObjectIncoming`. Keys
are ``<folder>/<name>``; a folder is a prefix or a container, as suits the store. Folders::

    the driver's name for a group of 256 sacks     waiting objects, and acknowledgements
    damaged                                        copies of those that failed their checksum

One request is one object (`gnocchi.segments.batch`), whatever the number of its metrics and sacks;
its name (`gnocchi.drivers.names`) says which sacks have a share in it. A round

1. lists the folders: waiting objects, and acknowledgements (`gnocchi.drivers.acknowledgements`);
2. reads acknowledgements it has not read before: shares they name are not there for it;
3. reads the objects with shares of its sacks, several at a time;

and discards by

4. writing one acknowledgement of all that it took. *Point of no return*: before it, everything is
   left, after it nothing;
5. removing objects of which all shares are acknowledged;
6. removing acknowledgements of which all objects are gone.

A crash between 4 and 6 leaves objects that nobody takes from, and acknowledgements. The next round
of anybody, or `ObjectIncoming.tidy`, removes them; as it does when two workers have written the
last acknowledgements of an object at once, neither having seen the other's. So the requests a round
makes depend on the objects that wait and on the number of workers, not on metrics or sacks. An
object that is acknowledged completely by its only round is removed without 4.

What a store has to guarantee: a listing shows all that was there when it began (`settled` deals
with what comes while it is read), and an object that was removed is not read any more. Where
listings lag behind, points of one metric may be processed out of the order of their arrival.

It does not see adds of other processes but by listing: `ObjectIncoming.wait` does so once a second
after news, and more and more rarely while nothing comes.
"""

from __future__ import annotations

import abc
import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from gnocchi import errors, forks
from gnocchi.drivers import acknowledgements
from gnocchi.drivers.acknowledgements import Ledger, Share, settled
from gnocchi.drivers.names import GROUP, Arrivals, Name, groups_of, masks_of, sacks_in
from gnocchi.drivers.together import Together
from gnocchi.incoming import Backlog, Damage, Incoming, Taken
from gnocchi.segments import batch
from gnocchi.threads import Parallel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PARALLEL = 16  # requests at a time
OBJECTS_A_TAKE = 4096  # a round's memory and time are bounded also when all requests are small
POLL_S = 1.0
LONGEST_POLL_S = 5.0
BACK_OFF = 1.5
SKEW_NS = 60 * 10**9
DAMAGED = "damaged"


class Listed(NamedTuple):
    """One entry of a listing: the name within its folder, and its age."""

    name: str
    age_s: float


class Objects(abc.ABC):
    """What a driver has to offer. Safe for threads and across forks; every call is bounded in time.

    All methods raise `gnocchi.errors.Unavailable` when the store does not do its part.
    """

    @abc.abstractmethod
    def give_up_after(self, seconds: float) -> None:
        """Wait no longer for the store; called before anything else, if at all."""

    @abc.abstractmethod
    def put(self, key: str, data: bytes | memoryview) -> None:
        """Store a whole object, durably."""

    @abc.abstractmethod
    def get(self, key: str) -> bytes | None:
        """The whole object; None if it is not there."""

    @abc.abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects, in any order; those that are absent already are no error.

        Raises:
            Unavailable: at least one may still be there.
        """

    @abc.abstractmethod
    def list(self, folder: str) -> Iterator[Listed]:
        """Everything in a folder; ascending by name if the store can do that."""


class Part(NamedTuple):
    """What a take has found in one object; entry of a receipt."""

    group: int
    name: Name
    share: Share


@dataclass(slots=True)
class Receipt:
    """What a discard needs. Its length is how many objects it is about."""

    parts: list[Part] = field(default_factory=list)
    acknowledgements: list[str] = field(default_factory=list)  # keys of damaged ones

    def __len__(self) -> int:
        return len(self.parts) + len(self.acknowledgements)


class ObjectIncoming(Incoming):
    """Waiting points as objects. Subclasses say what their folders are called.

    Args:
        parallel: how many requests one process may have under way here.
    """

    look_s: ClassVar[float] = 5.0  # a listing is a request that may have to be paid for

    #: For how long a listing may lack an object that is there: acknowledgements stay so much longer
    #: than what they name seems to.
    listing_lag_s: ClassVar[float] = 0.0

    def __init__(self, objects: Objects, sacks: int, parallel: int = PARALLEL) -> None:
        self.sacks = sacks
        self._objects = objects
        self._folders = [self.folder(group) for group in range(groups_of(sacks))]
        self._damaged_folder = self.damaged_folder()
        self._arrivals = Arrivals()
        self._together = Together(self._write)
        self._parallel = Parallel(min(parallel, PARALLEL), "objects")
        self._renew()
        forks.in_child(self._renew)

    def _renew(self) -> None:
        self._ledgers = [Ledger(self.listing_lag_s) for _ in self._folders]
        self._news = threading.Condition()
        self._added = 0  # counts adds of this process
        self._looked = 0  # what it was at the last look of `wait`
        self._poll_s = POLL_S

    def give_up_after(self, seconds: float) -> None:
        self._objects.give_up_after(seconds)

    @abc.abstractmethod
    def folder(self, group: int) -> str:
        """Where the objects of a group of sacks are; differs with the number of sacks."""

    def damaged_folder(self) -> str:
        """Where damaged objects are kept."""
        return DAMAGED

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
        self._parallel.map(self._write_group, list(by_group.items()))

    def _write_group(self, part: tuple[int, dict[int, batch.Points]]) -> None:
        group, shares = part
        name = Name(
            self._arrivals.next(),
            sum(len(share) for share in shares.values()),
            sum(len(share.ids) for share in shares.values()),
            len(shares),
            masks_of(shares)[group],
        )
        self._objects.put(self._key(group, str(name)), batch.encode(shares))

    def _key(self, group: int, name: str) -> str:
        return f"{self._folders[group]}/{name}"

    # ---------------------------------------------------------------- listing

    def _look(self, group: int) -> list[tuple[str, errors.CorruptObject, bytes]]:
        """Bring the ledger of a group up to date; return acknowledgements that are damaged."""
        ledger = self._ledgers[group]
        began = time.monotonic()
        listed = [entry.name for entry in self._objects.list(self._folders[group])]
        names = [name for text in sorted(listed) if (name := Name.parse(text)) is not None]
        present = {text for text in listed if acknowledgements.is_acknowledgement(text)}
        unknown = sorted(ledger.unknown(present))
        contents = self._parallel.map(
            self._objects.get, [self._key(group, text) for text in unknown]
        )
        damaged = []
        for text, data in zip(unknown, contents, strict=True):
            if data is not None:
                try:
                    ledger.learn(text, acknowledgements.decode(data, text))
                except errors.CorruptObject as e:
                    damaged.append((self._key(group, text), e, data))
        ledger.listed(began, names, present)
        return damaged

    def _look_everywhere(self, groups: Iterable[int]) -> None:
        for group in groups:
            self._look(group)

    def _settled(self, group: int, damaged: list[Damage], receipt: Receipt) -> list[Name]:
        """The names of a group that can be processed without overtaking others."""
        ledger = self._ledgers[group]
        before = ledger.names
        for again in (True, False):
            broken = self._look(group)
            names = settled(before, ledger.names, SKEW_NS)
            if not again or len(names) == len(ledger.names):
                break
            before = ledger.names
        for key, error, data in broken:
            damaged.append(self._set_aside(key, data, error))
            receipt.acknowledgements.append(key)
        return names

    # ---------------------------------------------------------------- take

    def take(self, sacks: Sequence[int], max_points: int) -> Taken:
        damaged: list[Damage] = []
        receipt = Receipt()
        found: list[tuple[Name, int, int]] = []
        for group, mask in sorted(masks_of(sacks).items()):
            ledger = self._ledgers[group]
            for name in self._settled(group, damaged, receipt):
                wanted = ledger.left(name) & mask
                if wanted:
                    found.append((name, group, wanted))
            self._sweep(group)
        found.sort()
        parts: list[batch.Points] = []
        total = position = 0
        while position < len(found) and total < max_points and position < OBJECTS_A_TAKE:
            batch_ = self._next(found, position, max_points - total)
            contents = self._parallel.map(
                self._objects.get, [self._key(group, str(name)) for name, group, _ in batch_]
            )
            for (name, group, wanted), data in zip(batch_, contents, strict=True):
                if total >= max_points:
                    break
                position += 1
                if data is None:  # others have taken all of it since it was listed
                    self._ledgers[group].removed([name.stem])
                    continue
                shares, share = self._read(name, wanted, data, damaged)
                receipt.parts.append(Part(group, name, share))
                parts += shares
                total += sum(len(points) for points in shares)
        if found:
            self._poll_s = POLL_S
        more = position < len(found)
        return Taken(batch.Points.concatenate(parts), receipt, damaged, more)

    def _next(
        self, found: list[tuple[Name, int, int]], position: int, points: int
    ) -> list[tuple[Name, int, int]]:
        """The objects to read at once: about as many as make up so many points, one at least."""
        stop = position
        while stop < min(len(found), position + PARALLEL) and (stop == position or points > 0):
            name, _, wanted = found[stop]
            points -= name.points * wanted.bit_count() // max(1, name.shares)
            stop += 1
        return found[position:stop]

    def _read(
        self, name: Name, wanted: int, data: bytes, damaged: list[Damage]
    ) -> tuple[list[batch.Points], Share]:
        """The shares of some sacks of an object, and what to acknowledge of it."""
        shares: list[batch.Points] = []
        items = points = 0
        try:
            for entry in batch.read_directory(data, name.stem):
                if not wanted & 1 << (int(entry["sack"]) % GROUP):
                    continue
                items += int(entry["metrics"])
                points += int(entry["points"])
                start, length = int(entry["offset"]), int(entry["length"])
                try:
                    shares.append(batch.read_share(entry, data[start : start + length], name.stem))
                except errors.CorruptObject as e:
                    damaged.append(self._set_aside(name.stem, data, e))
        except errors.CorruptObject as e:
            damaged.append(self._set_aside(name.stem, data, e))
        return shares, Share(wanted, items, points)

    def _set_aside(self, key: str, data: bytes, error: errors.CorruptObject) -> Damage:
        """Keep the bytes of a damaged object; it is then discarded as if it were whole."""
        name = key.rpartition("/")[2]
        self._objects.put(f"{self._damaged_folder}/{name}", data)
        return Damage(name, str(error.reason))

    # ---------------------------------------------------------------- discard

    def discard(self, taken: Taken) -> None:
        receipt: Receipt = taken.receipt
        by_group: dict[int, list[Part]] = {}
        for part in receipt.parts:
            by_group.setdefault(part.group, []).append(part)
        for group, parts in by_group.items():
            self._acknowledge(group, parts)
            self._sweep(group, parts)
        if receipt.acknowledgements:
            self._objects.delete(receipt.acknowledgements)

    def _acknowledge(self, group: int, parts: list[Part]) -> None:
        """Say that some shares have been processed: all of them at once."""
        ledger = self._ledgers[group]
        news = {
            part.name.stem: part.share for part in parts if ledger.left(part.name) & part.share.mask
        }
        if not news:
            return
        if len(news) == 1:
            ((stem, share),) = news.items()
            (name,) = (part.name for part in parts if part.name.stem == stem)
            if not ledger.left(name) & ~share.mask:
                self._objects.delete([self._key(group, str(name))])
                ledger.removed([stem])
                return
        text = acknowledgements.PREFIX + self._arrivals.next()
        self._objects.put(self._key(group, text), acknowledgements.encode(news))
        ledger.learn(text, news)

    def _sweep(self, group: int, parts: Iterable[Part] = ()) -> int:
        """Remove what nobody needs any more; return how many objects it was.

        Safe at any time, by anybody, and when it is cut short.
        """
        ledger = self._ledgers[group]
        done = {name.stem: name for name in ledger.complete()}
        for part in parts:
            if not ledger.left(part.name) and not ledger.is_gone(part.name):
                done[part.name.stem] = part.name
        if done:
            self._objects.delete([self._key(group, str(name)) for name in done.values()])
            ledger.removed(done)
        obsolete = ledger.obsolete()
        if obsolete:
            self._objects.delete([self._key(group, name) for name in obsolete])
            ledger.forget(obsolete)
        return len(done) + len(obsolete)

    def tidy(self, older_than_s: float) -> int:
        """Remove what rounds that were cut short have left. Its age is of no matter."""
        removed = 0
        for group in range(len(self._folders)):
            self._look(group)
            removed += self._sweep(group)
        return removed

    # ---------------------------------------------------------------- what waits

    def waiting(self) -> dict[int, float]:
        self._look_everywhere(range(len(self._folders)))
        now = time.time_ns()
        oldest: dict[int, float] = {}
        for group, ledger in enumerate(self._ledgers):
            seen = 0
            for name in ledger.names:
                fresh = ledger.left(name) & ~seen
                seen |= fresh
                for sack in sacks_in(group, fresh):
                    oldest[sack] = max(0.0, (now - name.arrival_ns) / 1e9)
        return oldest

    def wait(self, timeout_s: float, sacks: Iterable[int] | None = None) -> bool:
        """See `Incoming.wait`. Looks rarely: a short wait may end without having looked."""
        masks = masks_of(range(self.sacks) if sacks is None else sacks)
        end = time.monotonic() + timeout_s
        while True:
            due = self._due(masks)
            if timeout_s <= 0 or due <= time.monotonic():
                with self._news:
                    self._looked = self._added
                self._look_everywhere(masks)
                if self._anything(masks):
                    self._poll_s = POLL_S
                    return True
                self._poll_s = min(self._poll_s * BACK_OFF, LONGEST_POLL_S)
                due = self._due(masks)
            rest = min(end, due) - time.monotonic()
            if end <= time.monotonic():
                return False
            with self._news:
                self._news.wait_for(lambda: self._added != self._looked, max(0.0, rest))

    def _due(self, masks: dict[int, int]) -> float:
        """When (`time.monotonic`) to look again."""
        if self._added != self._looked or self._anything(masks):
            return float("-inf")
        return min((self._ledgers[group].began for group in masks), default=0.0) + self._poll_s

    def _anything(self, masks: dict[int, int]) -> bool:
        """Whether the last listings show something."""
        return any(
            self._ledgers[group].left(name) & mask
            for group, mask in masks.items()
            for name in self._ledgers[group].names
        )

    def backlog(self, *, details: bool = False) -> Backlog:
        items = points = 0
        per_metric: dict[bytes, int] = {}
        unclear: list[tuple[Name, int, int]] = []
        self._look_everywhere(range(len(self._folders)))
        for group, ledger in enumerate(self._ledgers):
            for name in ledger.names:
                left = ledger.left(name)
                if not left:
                    continue
                rest = ledger.rest(name)
                if details or rest is None:
                    unclear.append((name, group, left))
                else:
                    items += rest[0]
                    points += rest[1]
        for start in range(0, len(unclear), PARALLEL):
            part = unclear[start : start + PARALLEL]
            contents = self._parallel.map(
                self._objects.get, [self._key(group, str(name)) for name, group, _ in part]
            )
            for (name, _, left), data in zip(part, contents, strict=True):
                for share in _shares(name, left, data):
                    items += len(share.ids)
                    points += len(share)
                    for raw in map(bytes, share.ids) if details else ():
                        per_metric[raw] = per_metric.get(raw, 0) + 1
        metrics = len(per_metric) if details else items
        return Backlog(items, points, metrics, per_metric if details else None)


def _shares(name: Name, wanted: int, data: bytes | None) -> Iterator[batch.Points]:
    """The shares of some sacks that can be read; of an object that may be gone by now."""
    try:
        for entry in batch.read_directory(data, name.stem) if data is not None else ():
            if wanted & 1 << (int(entry["sack"]) % GROUP):
                start, length = int(entry["offset"]), int(entry["length"])
                # A damaged share is told of when it is taken.
                with contextlib.suppress(errors.CorruptObject):
                    yield batch.read_share(entry, (data or b"")[start : start + length], name.stem)
    except errors.CorruptObject:
        return  # likewise
