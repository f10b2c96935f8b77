"""What waits in one group of sacks: the omap of one RADOS object.

Operations on one object are atomic, and its keys are sorted. Keys::

    !floor                               no key at or below it is added any more (see below)
    !start                               listings begin after it
    <name>                               a request; the value is its incoming object, if small
    <name>+                              a request whose incoming object is in an object of its own
    <stem>~<mask>.<items>.<points>       a mark: sacks that have taken their share of a request,
                                         and how much that was
    ~                                    the end

with names and stems as in `gnocchi.drivers.names`. Accepting a request adds one key, and a round
adds one mark to each request it took a share of, all marks in one operation. So workers need no
locks among one another: marks only add up. A request is done when its marks cover its mask; then
its keys are removed, by anybody.

A listing takes more than one operation when many keys wait, and requests arrive in between. One
that shows a request but not an older one of the same writer would let points be processed out of
order. So before it goes on behind a key, the listing sets the *floor* to that key, and reads the
page again: writers add their keys on the condition that they are above the floor, which the OSD
checks, so what is below is complete. A writer that is refused, since its clock is behind or it was
late, goes on with a name above the floor.

Where many keys have been removed, RocksDB has to step over their remains until it has compacted
them, as the queue would at each listing. *Start* avoids that. It is never above the floor nor above
a key of a request, so no key can appear where listings do not look. To have it follow also when
listings are short, rounds now and then set the floor to where the time was `LATE_S` ago.
"""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gnocchi.drivers.ceph_cluster import Absent, Cancelled
from gnocchi.drivers.names import Arrivals, Name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gnocchi.drivers.ceph_cluster import Cluster

FLOOR = "!floor"
START = "!start"
END = "~"
FIRST = "/"  # just below all names
OWN = "+"
PAGE = 4096  # keys; the OSD gives no more than osd_max_omap_entries_per_request (1024)
VALUES = 256  # values of one operation
LATE_S = 60.0
ADVANCE_S = 30.0

_LISTING = "Unable to list waiting measures in Ceph"
_MARK = re.compile(r"([0-9a-f]{16}-[0-9a-f]{8})~([0-9a-f]+)\.([0-9a-f]+)\.([0-9a-f]+)")


class Stems(Arrivals):
    """Stems that can be made to go on above another one."""

    def go_on_above(self, key: str) -> None:
        """Give stems that sort after a key of an index."""
        with self._lock:
            self._last = max(self._last, int(key[:16], 16) + 1)


@dataclass(slots=True)
class Request:
    """A request that waits, and what was taken of it."""

    key: str
    name: Name
    done: int = 0  # bits of the sacks that have taken their share
    items: int = 0  # what they have taken
    points: int = 0
    exact: bool = True  # no two of them have taken the same
    marks: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Bits of the sacks that have not taken their share."""
        return self.name.mask & ~self.done

    @property
    def own(self) -> bool:
        """Whether its incoming object is an object of its own."""
        return self.key.endswith(OWN)

    def mark(self, key: str, mask: int, items: int, points: int) -> None:
        """Take a mark into account, once."""
        if key in self.marks:
            return
        self.exact = self.exact and not self.done & mask
        self.done |= mask
        self.items += items
        self.points += points
        self.marks.append(key)


class Listing(NamedTuple):
    """Requests, oldest first.

    ``orphans`` are marks without a request; ``start`` may be written to the index. ``whole`` says
    that the listing did not stop early.
    """

    requests: list[Request]
    orphans: list[str]
    whole: bool
    start: str


class _Page(NamedTuple):
    keys: list[str]
    floor: str
    start: str
    end: bool


def mark_key(stem: str, mask: int, items: int, points: int) -> str:
    """The key of a mark."""
    return f"{stem}~{mask:x}.{items:x}.{points:x}"


class Index:
    """The index object of one group.

    Args:
        name: of the object.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._name = name
        self._start: str | None = None  # a value it had; it only grows
        self._advanced = time.monotonic()

    # ---------------------------------------------------------------- writing

    def make(self) -> None:
        """Create it; safe to repeat."""

        def create(io: Any) -> None:
            with self._cluster.write_op() as op:
                op.new(self._cluster.rados.LIBRADOS_CREATE_IDEMPOTENT)
                io.set_omap(op, (END,), (b"",))
                io.operate_write_op(op, self._name)

        self._cluster.run("Unable to write to Ceph", create)

    def adding(self, key: str, value: bytes) -> Callable[[Any], Any]:
        """Start to add a request, for `Cluster.together`: -ECANCELED if it is below the floor."""

        def start(io: Any) -> Any:
            rados = self._cluster.rados
            with self._cluster.write_op() as op:
                op.new(rados.LIBRADOS_CREATE_IDEMPOTENT)
                op.omap_cmp(FLOOR, key, rados.LIBRADOS_CMPXATTR_OP_LT)
                io.set_omap(op, (key,), (value,))
                return io.operate_aio_write_op(op, self._name)

        return start

    def change(self, added: Iterable[str], removed: Sequence[str], start: str) -> None:
        """Add marks and remove keys, all at once."""
        values = dict.fromkeys(added, b"")
        if start > (self._start or FIRST):
            values[START] = start.encode()

        def write(io: Any) -> None:
            with self._cluster.write_op() as op:
                if values:
                    io.set_omap(op, tuple(values), tuple(values.values()))
                if removed:
                    io.remove_omap_keys(op, tuple(removed))
                io.operate_write_op(op, self._name)

        if values or removed:
            self._cluster.run("Unable to remove processed measures from Ceph", write)

    def raise_floor(self, key: str) -> None:
        """Let no key at or below this one be added from now on."""
        rados = self._cluster.rados

        def write(io: Any) -> None:
            with self._cluster.write_op() as op:
                op.omap_cmp(FLOOR, key, rados.LIBRADOS_CMPXATTR_OP_LT)
                io.set_omap(op, (FLOOR, END), (key.encode(), b""))
                io.operate_write_op(op, self._name)

        try:
            self._cluster.run(_LISTING, write)
        except Cancelled:
            return  # it is higher already

    def advance(self) -> None:
        """Now and then, set the floor to where the time was `LATE_S` ago."""
        if time.monotonic() - self._advanced > ADVANCE_S:
            self._advanced = time.monotonic()
            self.raise_floor(f"{time.time_ns() - int(LATE_S * 1e9):016x}")

    # ---------------------------------------------------------------- reading

    def floor(self) -> str:
        """The floor; sorts before all names if there is none."""
        return self._page(END).floor

    def _page(self, after: str) -> _Page:
        def read(io: Any) -> _Page:
            with self._cluster.rados.ReadOpCtx() as op:
                keys, _ = io.get_omap_keys(op, after, PAGE)
                controls, _ = io.get_omap_vals_by_keys(op, (FLOOR, START))
                io.operate_read_op(op, self._name)
                found = [key for key, _ in keys]
                values = {key: bytes(value).decode() for key, value in controls}
            end = not found or found[-1] >= END
            names = [key for key in found if key < END]
            return _Page(names, values.get(FLOOR, FIRST), values.get(START, FIRST), end)

        try:
            page = self._cluster.run(_LISTING, read)
        except Absent:
            return _Page([], FIRST, FIRST, True)
        self._start = max(self._start or FIRST, page.start)
        return page

    def snapshot(
        self,
        enough: Callable[[Mapping[str, Request]], bool] = lambda _requests: False,
        *,
        ordered: bool = True,
    ) -> Listing:
        """What waits.

        Args:
            enough: asked after each page with what was found, by stem: whether to stop.
            ordered: never show a request of a writer without the older ones that wait.
        """
        requests: dict[str, Request] = {}
        orphans: dict[str, None] = {}
        if self._start is None:
            self._page(END)
        after = self._start or FIRST
        floor: str | None = None
        while True:
            page = self._page(after)
            floor = page.floor if floor is None else floor
            settled = page.end or not ordered or page.keys[-1] <= page.floor
            known = requests if settled else dict(requests)
            _read_keys(page.keys, known, orphans)
            if page.end:
                break
            # marks of the last one may be on the next page
            sure = dict(itertools.islice(known.items(), max(0, len(known) - 1)))
            if sure and enough(sure):
                requests = sure
                break
            if settled:
                after = page.keys[-1]
            else:
                self.raise_floor(page.keys[-1])
        first = next(iter(requests), None)
        start = floor if first is None else min(floor, first)
        return Listing(list(requests.values()), list(orphans), page.end, start)

    def late_marks(self) -> list[str]:
        """Keys below the start, which listings do not show: late marks of what was done."""
        keys: list[str] = []
        self._page(END)
        start, after = self._start or FIRST, FIRST
        while after < start:
            page = self._page(after)
            keys += [key for key in page.keys if key < start and _MARK.fullmatch(key)]
            if page.end:
                break
            after = page.keys[-1]
        return keys

    def find(self, stem: str) -> Request | None:
        """One request, if it is there."""

        def read(io: Any) -> list[str]:
            with self._cluster.rados.ReadOpCtx() as op:
                values, _ = io.get_omap_vals(op, stem, stem, PAGE)
                io.operate_read_op(op, self._name)
                return [key for key, _ in values]

        requests: dict[str, Request] = {}
        try:
            _read_keys(self._cluster.run(_LISTING, read), requests, {})
        except Absent:
            return None
        return requests.get(stem)

    def values(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The values of those keys that are there."""
        found: dict[str, bytes] = {}

        def read(io: Any, portion: Sequence[str]) -> None:
            with self._cluster.rados.ReadOpCtx() as op:
                values, _ = io.get_omap_vals_by_keys(op, tuple(portion))
                io.operate_read_op(op, self._name)
                # an empty value comes as None
                found.update((key, bytes(value or b"")) for key, value in values)

        for position in range(0, len(keys), VALUES):
            portion = keys[position : position + VALUES]
            try:
                self._cluster.run(
                    "Unable to read waiting measures from Ceph",
                    lambda io, portion=portion: read(io, portion),  # type: ignore[misc]
                )
            except Absent:
                break
        return found


def _read_keys(keys: Iterable[str], requests: dict[str, Request], orphans: dict[str, None]) -> None:
    """Add what keys in order say; a request comes before its marks."""
    for key in keys:
        matched = _MARK.fullmatch(key)
        if matched is not None:
            stem = matched[1]
            request = requests.get(stem)
            if request is None:
                orphans[key] = None
            else:
                request.mark(key, *(int(number, 16) for number in matched.groups()[1:]))
        elif (name := Name.parse(key.removesuffix(OWN))) is not None:
            requests[name.stem] = Request(key, name)
