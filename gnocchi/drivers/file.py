"""Segments and incoming points in plain files.

Layout below ``file_basepath`` (doc/formats/files.rst)::

    tmp/                          files being written
    segments/<xx>/<name>          segments, by the last two characters of their name
    incoming/<sacks>/<group>/     accepted points, one file a write; a group is 256 sacks
    damaged/                      incoming files that failed their checksum

A file is written under ``tmp/``, synced, renamed to its place, and then the directory is synced
(both syncs only with ``sync``): a reader sees a whole file or none, and the order leaves nothing
acknowledged that a power failure could take back.

One request costs one file, not one per sack. Which sacks still have to take their share is a bit
mask in the file's name: a round takes its bits out by renaming the file, and the last one removes
it. A rename fails when another worker was faster; the name is then looked up anew.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import pathlib
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from gnocchi import errors
from gnocchi.incoming import Backlog, Damage, Incoming, Taken
from gnocchi.segments import batch
from gnocchi.storage import NoSuchObject, Storage, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

GROUP = 256  # sacks a directory serves: a mask of 256 bits fits a file name
READ_AT_ONCE = 1 << 16
POLL_S = 0.2
# A directory's time stamp moves in steps of the kernel's clock tick: a change within the same
# step as the last look would go unseen, so a directory that changed just now is looked at again.
TICK_S = 0.05


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise errors.Unavailable(f"{what}: {e}") from e


class Directory:
    """Where files are written whole: under ``tmp/`` first, then renamed to their place."""

    def __init__(self, base: str, *, sync: bool) -> None:
        self.base = pathlib.Path(base)
        self.tmp = self.base / "tmp"
        self.sync = sync

    def make(self, *paths: pathlib.Path) -> None:
        """Create directories that are missing, durably."""
        with _translated(f"Unable to create a directory in {self.base}"):
            for path in (self.base, self.tmp, *paths):
                if not path.is_dir():
                    path.mkdir(parents=True, exist_ok=True, mode=0o750)
                    self.sync_directory(path.parent)

    def write(self, target: pathlib.Path, data: bytes | memoryview) -> None:
        """Write, sync, rename, sync the directory; leave nothing behind on failure."""
        scratch = self.tmp / uuid.uuid4().hex
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                if self.sync:
                    os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(scratch, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(scratch)
            raise
        self.sync_directory(target.parent)

    def sync_directory(self, path: pathlib.Path) -> None:
        if self.sync:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def tidy(self, older_than_s: float) -> int:
        """Remove files of writes that were cut short."""
        removed = 0
        with contextlib.suppress(FileNotFoundError), os.scandir(self.tmp) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file() and time.time() - entry.stat().st_mtime > older_than_s:
                        os.unlink(entry.path)
                        removed += 1
        return removed


class FileStorage(Storage):
    """Segments as files."""

    def __init__(self, conf: Any) -> None:
        self._directory = Directory(conf.file_basepath, sync=conf.file_sync)
        self._segments = self._directory.base / "segments"
        self._descriptors = _Descriptors()

    def upgrade(self) -> None:
        self._directory.make(self._segments)

    def _path(self, name: str) -> pathlib.Path:
        return self._segments / name.partition(".")[0][-2:] / name

    def put(self, name: str, data: bytes | memoryview) -> None:
        path = self._path(name)
        with _translated("Unable to write a segment"):
            try:
                self._directory.write(path, data)
            except FileNotFoundError:
                self._directory.make(self._segments, path.parent)
                self._directory.write(path, data)

    def read(self, name: str, offset: int, length: int) -> bytes:
        with _translated("Unable to read a segment"):
            try:
                return self._descriptors.read(str(self._path(name)), offset, length)
            except FileNotFoundError:
                raise NoSuchObject(name) from None

    def delete(self, names: Iterable[str]) -> None:
        with _translated("Unable to delete a segment"):
            for name in names:
                path = str(self._path(name))
                self._descriptors.forget(path)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

    def list(self) -> Iterator[Stored]:
        now = time.time()
        with _translated("Unable to list segments"):
            for directory in sorted(self._segments.glob("??")):
                with os.scandir(directory) as entries:
                    for entry in entries:
                        with contextlib.suppress(FileNotFoundError):
                            yield Stored(entry.name, now - entry.stat().st_mtime)

    def tidy(self, older_than_s: float) -> int:
        return self._directory.tidy(older_than_s)


class _Descriptors:
    """Open files of the segments read last: most reads are many small ones of few files."""

    LIMIT = 128

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        self._lock = threading.Lock()

    def read(self, path: str, offset: int, length: int) -> bytes:
        with self._lock:
            opened = self._open.pop(path, None) or _Open(path)
            self._open[path] = opened
            if len(self._open) > self.LIMIT:
                del self._open[next(iter(self._open))]
        return os.pread(opened.fd, length, offset)

    def forget(self, path: str) -> None:
        with self._lock:
            self._open.pop(path, None)


class _Open:
    """A file descriptor that is closed with its last user, so that no read loses it half-way."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        fd = getattr(self, "fd", None)
        if fd is not None:
            os.close(fd)


class Name(NamedTuple):
    """A file name of the incoming directory: what it says without opening the file."""

    stem: str  # arrival in ns and a nonce, hexadecimal: sorts by arrival
    points: int
    items: int
    shares: int  # how many sacks it had points for when it was written
    mask: int  # bit i: sack i of the group has not taken its share

    @classmethod
    def parse(cls, text: str) -> Name | None:
        stem, _, rest = text.partition(".")
        try:
            points, items, shares, mask = (int(part, 16) for part in rest.split("."))
        except ValueError:
            return None
        return cls(stem, points, items, shares, mask)

    def __str__(self) -> str:
        return f"{self.stem}.{self.points:x}.{self.items:x}.{self.shares:x}.{self.mask:x}"

    @property
    def arrival_ns(self) -> int:
        return int(self.stem.partition("-")[0], 16)


class _Arrivals:
    """Names that sort in the order in which this process accepted the points."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()
        self._renew()
        # A forked child must not go on with its parent's nonce.
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._nonce = uuid.uuid4().hex[:8]

    def next(self) -> str:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return f"{self._last:016x}-{self._nonce}"


class _Waiter:
    """One caller of `FileIncoming.add` whose points wait to be written."""

    __slots__ = ("done", "error", "points")

    def __init__(self, points: batch.Points) -> None:
        self.points = points
        self.done = False
        self.error: BaseException | None = None


class FileIncoming(Incoming):
    """Waiting points as files."""

    #: Points that callers at the same time may put into one file.
    WRITE_AT_ONCE = 1 << 20

    def __init__(self, conf: Any, sacks: int) -> None:
        self.sacks = sacks
        self._directory = Directory(conf.file_basepath, sync=conf.file_sync)
        base = self._directory.base
        self._groups = [
            base / "incoming" / str(sacks) / str(group)
            for group in range((sacks + GROUP - 1) // GROUP)
        ]
        self._damaged = base / "damaged"
        self._arrivals = _Arrivals()
        self._queue: list[_Waiter] = []
        self._writing = False
        self._changed = threading.Condition()
        self._clean: dict[int, int] = {}  # group -> time stamp of the directory when it was empty
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._queue, self._writing, self._changed = [], False, threading.Condition()

    def upgrade(self) -> None:
        self._directory.make(self._damaged, *self._groups)

    # ---------------------------------------------------------------- add

    def add(self, points: batch.Points) -> None:
        """Store points; callers that arrive while a write is under way share the next one.

        A write ends with two syncs, which take most of its time. So the first caller writes, those
        that come meanwhile queue up, and one of them writes for all.
        """
        if not len(points):
            return
        mine = _Waiter(points)
        with self._changed:
            self._queue.append(mine)
            while self._writing and not mine.done:
                self._changed.wait()
            if not mine.done:
                self._writing = True
                together = self._next_in_queue()
        if not mine.done:
            try:
                self._write(batch.Points.concatenate([w.points for w in together]))
            except BaseException as e:
                for waiter in together:
                    waiter.error = e
            finally:
                with self._changed:
                    for waiter in together:
                        waiter.done = True
                    self._writing = False
                    self._changed.notify_all()
        if mine.error is not None:
            raise mine.error

    def _next_in_queue(self) -> list[_Waiter]:
        size = 0
        for position, waiter in enumerate(self._queue):
            size += len(waiter.points)
            if size > self.WRITE_AT_ONCE and position:
                together, self._queue = self._queue[:position], self._queue[position:]
                return together
        together, self._queue = self._queue, []
        return together

    def _write(self, points: batch.Points) -> None:
        shares = batch.by_sack(points, self.sacks)
        with _translated("Unable to store measures"):
            for group, numbers in itertools.groupby(sorted(shares), lambda sack: sack // GROUP):
                part = {number: shares[number] for number in numbers}
                name = Name(
                    self._arrivals.next(),
                    sum(len(share) for share in part.values()),
                    sum(len(share.ids) for share in part.values()),
                    len(part),
                    sum(1 << (number % GROUP) for number in part),
                )
                self._directory.write(self._groups[group] / str(name), batch.encode(part))

    # ---------------------------------------------------------------- take and discard

    def _masks(self, sacks: Iterable[int]) -> dict[int, int]:
        masks: dict[int, int] = {}
        for sack in sacks:
            masks[sack // GROUP] = masks.get(sack // GROUP, 0) | 1 << (sack % GROUP)
        return masks

    def _names(self, group: int) -> list[Name]:
        """The files of a group, oldest first. Files of other programs are passed over."""
        try:
            listing = os.listdir(self._groups[group])
        except FileNotFoundError:
            raise errors.Misconfigured(
                f"{self._groups[group]} does not exist: run gnocchi-upgrade"
            ) from None
        return [name for text in sorted(listing) if (name := Name.parse(text)) is not None]

    def take(self, sacks: Sequence[int], max_points: int) -> Taken:
        parts: list[batch.Points] = []
        receipt: list[tuple[int, Name, int]] = []
        damaged: list[Damage] = []
        total, more = 0, False
        with _translated("Unable to read waiting measures"):
            for group, mask in sorted(self._masks(sacks).items()):
                for name in self._names(group):
                    if not name.mask & mask:
                        continue
                    if total >= max_points:
                        more = True
                        break
                    shares = self._read(group, name, mask, damaged)
                    if shares is None:
                        continue
                    receipt.append((group, name, mask))
                    parts += shares
                    total += sum(len(share) for share in shares)
        return Taken(batch.Points.concatenate(parts), receipt, damaged, more)

    def _read(
        self, group: int, name: Name, mask: int, damaged: list[Damage]
    ) -> list[batch.Points] | None:
        """The shares of some sacks of one file; None if another worker has taken it all."""
        path = self._groups[group] / str(name)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return self._read_renamed(group, name, mask, damaged)
        shares = []
        try:
            head = os.read(fd, READ_AT_ONCE)
            size = batch.directory_size(head, str(path))
            if size > len(head):
                head += os.pread(fd, size - len(head), len(head))
            for entry in batch.read_directory(head, str(path)):
                if not mask & name.mask & 1 << (int(entry["sack"]) % GROUP):
                    continue
                start, length = int(entry["offset"]), int(entry["length"])
                share = head[start : start + length]
                if len(share) < length:
                    share = os.pread(fd, length, start)
                try:
                    shares.append(batch.read_share(entry, share, str(path)))
                except errors.CorruptObject as e:
                    damaged.append(self._set_aside(path, e))
        except errors.CorruptObject as e:
            damaged.append(self._set_aside(path, e))
        finally:
            os.close(fd)
        return shares

    def _read_renamed(
        self, group: int, name: Name, mask: int, damaged: list[Damage]
    ) -> list[batch.Points] | None:
        for current in self._names(group):
            if current.stem == name.stem:
                if not current.mask & mask:
                    return None
                return self._read(group, current, mask, damaged)
        return None

    def _set_aside(self, path: pathlib.Path, error: errors.CorruptObject) -> Damage:
        """Keep the bytes of a damaged file under a second name; its bits are then taken out."""
        stem = path.name.partition(".")[0]
        self._directory.make(self._damaged)
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.link(path, self._damaged / stem)
            self._directory.sync_directory(self._damaged)
        return Damage(stem, str(error.reason))

    def discard(self, taken: Taken) -> None:
        current: dict[int, dict[str, Name]] = {}
        with _translated("Unable to remove measures that were processed"):
            for group, name, mask in taken.receipt:
                self._take_bits_out(group, name, mask, current)

    def _take_bits_out(
        self, group: int, name: Name, mask: int, current: dict[int, dict[str, Name]]
    ) -> None:
        known: Name | None = current.get(group, {}).get(name.stem, name)
        while known is not None and known.mask & mask:
            directory = self._groups[group]
            rest = known._replace(mask=known.mask & ~mask)
            try:
                if rest.mask:
                    os.rename(directory / str(known), directory / str(rest))
                else:
                    os.unlink(directory / str(known))
            except FileNotFoundError:
                # another worker has taken its own bits out meanwhile
                current[group] = {n.stem: n for n in self._names(group)}
                known = current[group].get(name.stem)
            else:
                return

    # ---------------------------------------------------------------- what waits

    def waiting(self) -> dict[int, float]:
        now = time.time_ns()
        oldest: dict[int, float] = {}
        with _translated("Unable to list waiting measures"):
            for group in range(len(self._groups)):
                seen = 0
                for name in self._names(group):
                    fresh = name.mask & ~seen
                    seen |= fresh
                    while fresh:
                        bit = fresh & -fresh
                        fresh ^= bit
                        sack = group * GROUP + bit.bit_length() - 1
                        oldest[sack] = max(0.0, (now - name.arrival_ns) / 1e9)
        return oldest

    def wait(self, timeout_s: float, sacks: Iterable[int] | None = None) -> bool:
        masks = self._masks(range(self.sacks) if sacks is None else sacks)
        end = time.monotonic() + timeout_s
        while True:
            if self._anything(masks):
                return True
            rest = end - time.monotonic()
            if rest <= 0:
                return False
            time.sleep(min(POLL_S, rest))

    def _anything(self, masks: dict[int, int]) -> bool:
        """Whether a file waits; a directory that has not changed is not listed again."""
        for group, mask in masks.items():
            try:
                changed = os.stat(self._groups[group]).st_mtime_ns
                if self._clean.get(group) == changed:
                    continue
                old = time.time_ns() - changed > TICK_S * 1e9
                if any(name.mask & mask for name in self._names(group)):
                    self._clean.pop(group, None)
                    return True
            except OSError as e:
                if e.errno != errno.ENOENT:
                    raise errors.Unavailable(f"Unable to list waiting measures: {e}") from e
                continue
            if old:
                self._clean[group] = changed
        return False

    def backlog(self, *, details: bool = False) -> Backlog:
        items = points = 0
        per_metric: dict[bytes, int] = {}
        with _translated("Unable to list waiting measures"):
            for group in range(len(self._groups)):
                names = self._names(group)
                for name in names:
                    if not details and name.mask.bit_count() == name.shares:
                        items += name.items
                        points += name.points
                        continue
                    for share in self._read(group, name, name.mask, []) or []:
                        items += len(share.ids)
                        points += len(share)
                        if details:
                            for raw in map(bytes, share.ids):
                                per_metric[raw] = per_metric.get(raw, 0) + 1
        metrics = len(per_metric) if details else items
        return Backlog(items, points, metrics, per_metric if details else None)

    def tidy(self, older_than_s: float) -> int:
        return self._directory.tidy(older_than_s)
