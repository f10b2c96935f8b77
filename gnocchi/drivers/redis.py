"""Segments and incoming points in Redis, alone, behind sentinels or as a cluster.

Layout (doc/backends/redis.rst); what is in braces decides the slot in a cluster::

    gnocchi:{segments-<xx>}            sorted set: names of segments by time of writing in µs
    gnocchi:{segments-<xx>}:<name>     string: a segment
    gnocchi:{incoming<N>-<i>}:order    stream: names of the objects that wait in sack i of N
    gnocchi:{incoming<N>-<i>}:objects  hash: name to object, which is the share of one sack
    gnocchi:{incoming<N>-<i>}:counts   hash: items and points that wait
    gnocchi:{incoming<N>-<i>}:damaged  hash: name to object, of those that failed their checksum

All changes to a sack are made by scripts, each of which the server runs as a whole: order, objects
and counts agree at all times. Times are those of the server, and so is the order of arrival.
What exists after a failure of the server is what it kept, see the page.

An object's name is never used again, so removing what was taken cannot meet anything newer, not
even on a replica that took over without the last writes.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
import uuid
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from gnocchi import errors
from gnocchi.drivers import redis_scripts
from gnocchi.drivers.redis_server import Server
from gnocchi.drivers.together import Together
from gnocchi.incoming import Backlog, Damage, Incoming, Taken
from gnocchi.segments import batch
from gnocchi.storage import NoSuchObject, Storage, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gnocchi.drivers.redis_server import Argument, Part

BUCKETS = 64  # slots of a cluster that segments are spread over
DELETED_AT_ONCE = 1000
DISCARDED_AT_ONCE = 1000  # a script holds up everybody else: some µs an object
NAMES_AT_ONCE = 8192  # names asked for in one go, over all sacks; more if there are more sacks
LARGEST_PAGE = 1024
POINTS_AT_ONCE = 1 << 18  # points whose objects are read in one go


class RedisStorage(Storage):
    """Segments as strings."""

    #: It is the server's to say; `upgrade` warns of one that keeps nothing.
    survives_power_loss: ClassVar[bool] = False

    def __init__(self, conf: Any) -> None:
        self._server = Server(conf.redis_url)

    def give_up_after(self, seconds: float) -> None:
        self._server.give_up_after(seconds)

    def upgrade(self) -> None:
        """There is nothing to create."""
        self._server.check("segments")

    def disconnect(self) -> None:
        """Close this process's connections; the next call makes new ones."""
        self._server.disconnect()

    @staticmethod
    def _index(name: str) -> str:
        return f"gnocchi:{{segments-{zlib.crc32(name.encode()) % BUCKETS:02x}}}"

    def _key(self, name: str) -> str:
        return f"{self._index(name)}:{name}"

    def put(self, name: str, data: bytes | memoryview) -> None:
        what = "Unable to write a segment"
        # First the name: a name without an object is found and removed, the other way round not.
        self._server.each(what, redis_scripts.NOTE, [([self._index(name)], [name])])
        self._server.run(what, "SET", self._key(name), bytes(data))

    def read(self, name: str, offset: int, length: int) -> bytes:
        what, key, last = "Unable to read a segment", self._key(name), offset + length - 1
        if length > 0:
            found: bytes | None = self._server.run(what, "GETRANGE", key, offset, last)
            if found:
                return found
        # An absent object reads like an empty one.
        (found,) = self._server.each(what, redis_scripts.READ, [([key], [offset, last])])
        if found is None:
            raise NoSuchObject(name)
        return found

    def delete(self, names: Iterable[str]) -> None:
        remaining = iter(names)
        while some := list(itertools.islice(remaining, DELETED_AT_ONCE)):
            buckets: dict[str, list[str]] = {}
            for name in some:
                buckets.setdefault(self._index(name), []).append(name)
            self._server.run_all(
                "Unable to delete a segment",
                [
                    [
                        "EVAL",
                        redis_scripts.DELETE,
                        1 + len(listed),
                        index,
                        *map(self._key, listed),
                        *listed,
                    ]
                    for index, listed in buckets.items()
                ],
            )

    def list(self) -> Iterator[Stored]:
        for bucket in range(BUCKETS):
            index = f"gnocchi:{{segments-{bucket:02x}}}"
            ((now, listed),) = self._server.each(
                "Unable to list segments", redis_scripts.LIST, [([index], [])]
            )
            for name, written in zip(listed[::2], listed[1::2], strict=True):
                yield Stored(name.decode(), (int(now) - float(written)) / 1e6)


class Entry(NamedTuple):
    """What is known of an object that waits without reading it."""

    stamp: int  # µs, by the server's clock
    sack: int
    id: bytes  # in the stream
    name: bytes
    items: int
    points: int

    @classmethod
    def parse(cls, sack: int, entry: Sequence[Any]) -> Entry:
        """Read an entry of a stream; one that this program did not write counts nothing."""
        identifier, fields = entry
        name = bytes(fields[1])
        try:
            stamp, _nonce, items, points = name.split(b".")
            return cls(int(stamp), sack, identifier, name, int(items), int(points))
        except ValueError:
            return cls(int(identifier.partition(b"-")[0]) * 1000, sack, identifier, name, 0, 0)

    @property
    def next_id(self) -> bytes:
        """The lowest id after its own."""
        milliseconds, _, number = self.id.partition(b"-")
        return b"%s-%d" % (milliseconds, int(number) + 1)

    @property
    def title(self) -> str:
        """Its name among those of all sacks."""
        return f"{self.name.decode(errors='replace')}-{self.sack}"


class RedisIncoming(Incoming):
    """Waiting points in a stream and hashes of each sack."""

    #: It is the server's to say; `upgrade` warns of one that keeps nothing.
    survives_power_loss: ClassVar[bool] = False

    def __init__(self, conf: Any, sacks: int) -> None:
        self.sacks = sacks
        self._server = Server(conf.redis_url)
        self._together = Together(self._write)
        # In a cluster no command can block on keys of different slots, so there is a message.
        self._channel = f"gnocchi:incoming{sacks}" if self._server.cluster else ""

    def give_up_after(self, seconds: float) -> None:
        self._server.give_up_after(seconds)

    def upgrade(self) -> None:
        """There is nothing to create."""
        self._server.check("measures")

    def disconnect(self) -> None:
        """Close this process's connections; the next call makes new ones."""
        self._server.disconnect()

    def _key(self, sack: int, what: str) -> str:
        return f"gnocchi:{{incoming{self.sacks}-{sack}}}:{what}"

    def _keys(self, sack: int, *what: str) -> list[str]:
        return [self._key(sack, one) for one in what]

    # ---------------------------------------------------------------- add

    def add(self, points: batch.Points) -> None:
        """Store points; callers that arrive while a write is under way share the next one."""
        if len(points):
            self._together.add(points)

    def _write(self, points: batch.Points) -> None:
        nonce = uuid.uuid4().hex[:12]
        parts: list[Part] = []
        for sack, share in batch.by_sack(points, self.sacks).items():
            items, count = len(share.ids), len(share)
            rest = f"{nonce}.{items}.{count}"
            data = batch.encode({sack: share})
            keys = self._keys(sack, "order", "objects", "counts")
            parts.append((keys, [self._channel, rest, items, count, data]))
        self._server.each("Unable to store measures", redis_scripts.ADD, parts)

    # ---------------------------------------------------------------- take and discard

    def _entries(self, sacks: Iterable[int]) -> Iterator[Entry]:
        """What waits in some sacks, oldest first: the order of a sack is that of its stream."""
        pages: dict[int, deque[Entry]] = {sack: deque() for sack in sacks}
        starts: dict[int, bytes] = dict.fromkeys(pages, b"-")
        size = max(16, min(LARGEST_PAGE, NAMES_AT_ONCE // max(1, len(pages))))
        self._next_pages(pages, starts, size)
        heads = [(page[0].stamp, sack) for sack, page in pages.items() if page]
        heapq.heapify(heads)
        while heads:
            _, sack = heapq.heappop(heads)
            page = pages[sack]
            yield page.popleft()
            if not page and sack in starts:
                # the others will come to their ends soon, too
                size = min(LARGEST_PAGE, 2 * size)
                self._next_pages(pages, starts, size)
            if page:
                heapq.heappush(heads, (page[0].stamp, sack))

    def _next_pages(
        self, pages: dict[int, deque[Entry]], starts: dict[int, bytes], size: int
    ) -> None:
        """Read on in all sacks of which ``starts`` has the next id; take out those that end."""
        asked = list(starts)
        answers = self._server.each(
            "Unable to list waiting measures",
            redis_scripts.NAMES,
            [([self._key(sack, "order")], [starts[sack], size]) for sack in asked],
        )
        for sack, answer in zip(asked, answers, strict=True):
            pages[sack].extend(Entry.parse(sack, entry) for entry in answer)
            if len(answer) < size:
                del starts[sack]
            else:
                starts[sack] = pages[sack][-1].next_id

    def take(self, sacks: Sequence[int], max_points: int) -> Taken:
        while True:
            chosen: list[Entry] = []
            total, more = 0, False
            for entry in self._entries(sacks):
                if total >= max_points:
                    more = True
                    break
                chosen.append(entry)
                total += entry.points
            taken = self._decoded(chosen, more)
            # if others have discarded all of it meanwhile, there may be more behind
            if taken.receipt or not more:
                return taken

    def _decoded(self, chosen: list[Entry], more: bool) -> Taken:
        parts: list[batch.Points] = []
        receipt: list[tuple[Entry, bool]] = []
        damaged: list[Damage] = []
        for entry, data in self._objects(chosen):
            try:
                parts.append(_decode(entry, data))
            except errors.CorruptObject as e:
                damaged.append(Damage(entry.title, str(e.reason)))
                receipt.append((entry, True))
            else:
                receipt.append((entry, False))
        return Taken(batch.Points.concatenate(parts), receipt, damaged, more)

    def _objects(self, entries: list[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """The objects of some entries, without those that others have discarded meanwhile."""
        begin = total = 0
        for end, entry in enumerate(entries, 1):
            total += entry.points
            if total >= POINTS_AT_ONCE or end == len(entries):
                yield from self._read(entries[begin:end])
                begin, total = end, 0

    def _read(self, entries: list[Entry]) -> Iterator[tuple[Entry, bytes]]:
        what = "Unable to read waiting measures"
        names: dict[int, list[bytes]] = {}
        for entry in entries:
            names.setdefault(entry.sack, []).append(entry.name)
        commands: list[list[Argument]] = [
            ["HMGET", self._key(sack, "objects"), *listed] for sack, listed in names.items()
        ]
        found = dict(zip(names, map(iter, self._server.run_all(what, commands)), strict=True))
        for entry in entries:
            data = next(found[entry.sack])
            if data is None:
                key = [self._key(entry.sack, "order")]
                ((*still,),) = self._server.each(what, redis_scripts.NAMES, [(key, [entry.id, 1])])
                if not still or Entry.parse(entry.sack, still[0]) != entry:
                    continue  # discarded
            yield entry, data or b""

    def discard(self, taken: Taken) -> None:
        receipt: list[tuple[Entry, bool]] = taken.receipt
        for begin in range(0, len(receipt), DISCARDED_AT_ONCE):
            sacks: dict[int, list[Argument]] = {}
            for entry, damaged in receipt[begin : begin + DISCARDED_AT_ONCE]:
                sacks.setdefault(entry.sack, []).extend(
                    (entry.id, entry.name, entry.items, entry.points, int(damaged))
                )
            self._server.each(
                "Unable to remove measures that were processed",
                redis_scripts.DISCARD,
                [
                    (
                        self._keys(sack, "order", "objects", "counts", "damaged"),
                        [len(listed) // 5, *listed],
                    )
                    for sack, listed in sacks.items()
                ],
            )

    # ---------------------------------------------------------------- what waits

    def waiting(self) -> dict[int, float]:
        return self._ages(range(self.sacks))

    def _ages(self, sacks: Sequence[int]) -> dict[int, float]:
        parts: list[Part] = [([self._key(sack, "order")], []) for sack in sacks]
        ages = self._server.each("Unable to list waiting measures", redis_scripts.OLDEST, parts)
        return {sack: age / 1e6 for sack, age in zip(sacks, ages, strict=True) if age >= 0}

    def wait(self, timeout_s: float, sacks: Iterable[int] | None = None) -> bool:
        end = time.monotonic() + timeout_s
        wanted = list(range(self.sacks) if sacks is None else sacks)
        if not wanted:
            time.sleep(timeout_s)
            return False
        if self._channel:
            return self._wait_for_message(end, wanted)
        keys = [self._key(sack, "order") for sack in wanted]
        # The server answers at once if one of the streams has an entry.
        after: list[Argument] = ["STREAMS", *keys, *["0"] * len(keys)]
        while True:
            left_s = end - time.monotonic()
            block: list[Argument] = []
            if left_s > 0:
                block = ["BLOCK", math.ceil(1000 * min(left_s, self._look_s))]
            what = "Unable to wait for measures"
            if self._server.run(what, "XREAD", "COUNT", 1, *block, *after):
                return True
            if left_s <= 0:
                return False

    @property
    def _look_s(self) -> float:
        """How long to wait for an answer that need not come; a server that is gone is noticed."""
        return self._server.target.timeout_s / 2

    def _wait_for_message(self, end: float, wanted: list[int]) -> bool:
        keys = {self._key(sack, "order").encode() for sack in wanted}
        with self._server.subscribed("Unable to wait for measures", self._channel) as listener:
            # What came before the subscription sends no message, what comes after it does.
            if self._ages(wanted):
                return True
            while (left_s := end - time.monotonic()) > 0:
                message = listener.get_message(timeout=min(left_s, self._look_s))
                if message is not None and message["data"] in keys:
                    return True
        return False

    def backlog(self, *, details: bool = False) -> Backlog:
        if details:
            return self._detailed_backlog()
        parts: list[Part] = [([self._key(sack, "counts")], []) for sack in range(self.sacks)]
        counts = self._server.each("Unable to count waiting measures", redis_scripts.COUNTS, parts)
        items = sum(int(listed[0] or 0) for listed in counts)
        points = sum(int(listed[1] or 0) for listed in counts)
        return Backlog(items, points, items, None)

    def _detailed_backlog(self) -> Backlog:
        items = points = 0
        per_metric: dict[bytes, int] = {}
        for entry, data in self._objects(list(self._entries(range(self.sacks)))):
            try:
                share = _decode(entry, data)
            except errors.CorruptObject:
                continue  # reported by whoever takes it
            items += len(share.ids)
            points += len(share)
            for raw in map(bytes, share.ids):
                per_metric[raw] = per_metric.get(raw, 0) + 1
        return Backlog(items, points, len(per_metric), per_metric)


def _decode(entry: Entry, data: bytes) -> batch.Points:
    """The one share of an object.

    Raises:
        CorruptObject: it fails its checksum, or is that of another sack.
    """
    directory = batch.read_directory(data, entry.title)
    if directory["sack"].tolist() != [entry.sack]:
        raise errors.CorruptObject(entry.title, "not the share of the sack it waits in")
    start, length = int(directory["offset"][0]), int(directory["length"][0])
    return batch.read_share(directory[0], data[start : start + length], entry.title)
