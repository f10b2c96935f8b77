"""Segments and incoming points in plain files.

Layout below ``file_basepath`` (doc/formats/files.rst)::

    tmp/                          files being written
    segments/<xx>/<name>          segments, by the last two characters of their name
    incoming/<sacks>/<group>/     accepted points, one file a write; a group is 256 sacks
    incoming/<sacks>/<group>.lock held while names of a group are listed or changed
    damaged/                      copies of incoming files that failed their checksum

Files are written whole and synced as `Directory.write` says.

One request costs one file, not one per sack. Which sacks still have to take their share is a bit
mask in the file's name: a round takes its bits out by renaming the file, and the last one removes
it. Listing a directory while its files are renamed may miss some of them. A round that missed a
file would process newer points before older ones, so names are listed under a shared lock and
changed under an exclusive one (flock; the kernel gives it back when a process is killed).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from gnocchi import errors
from gnocchi.drivers.directory import Directory, translated
from gnocchi.drivers.names import GROUP, Arrivals, Name, groups_of, masks_of, sacks_in
from gnocchi.drivers.together import Together
from gnocchi.incoming import Backlog, Damage, Incoming, Taken
from gnocchi.segments import batch
from gnocchi.storage import NoSuchObject, Storage, Stored

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Iterator, Sequence

READ_AT_ONCE = 1 << 16
POLL_S = 0.2
# A directory's time stamp moves in steps of the kernel's clock tick: a change within the same
# step as the last look would go unseen, so a directory that changed just now is looked at again.
TICK_S = 0.05
CLEAN = 1024  # (group, mask) pairs remembered as empty
# A lock is held for as long as a listing or a few renames take; beyond this a holder is stuck.
LOCK_S = 30.0
LOCK_POLL_S = 0.001


class FileStorage(Storage):
    """Segments as files."""

    def __init__(self, conf: Any) -> None:
        self._directory = Directory(conf.file_basepath, sync=conf.file_sync)
        self._segments = self._directory.base / "segments"
        self._descriptors = _Descriptors()

    def upgrade(self) -> None:
        # All that names of the engine can need, so that `put` never depends on a directory which
        # another process has made and not synced yet.
        self._directory.make(self._segments / f"{number:02x}" for number in range(256))

    def _path(self, name: str) -> pathlib.Path:
        return self._segments / f"{name.partition('.')[0][-2:]:_>2}" / name

    def put(self, name: str, data: bytes | memoryview) -> None:
        path = self._path(name)
        with translated("Unable to write a segment"):
            try:
                self._directory.write(path, data)
            except FileNotFoundError:
                self._directory.make([path.parent])
                self._directory.write(path, data)

    def read(self, name: str, offset: int, length: int) -> bytes:
        with translated("Unable to read a segment"):
            try:
                return self._descriptors.read(str(self._path(name)), offset, length)
            except FileNotFoundError:
                raise NoSuchObject(name) from None

    def delete(self, names: Iterable[str]) -> None:
        with translated("Unable to delete a segment"):
            for name in names:
                path = str(self._path(name))
                self._descriptors.forget(path)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

    def list(self) -> Iterator[Stored]:
        now = time.time()
        with translated("Unable to list segments"):
            for directory in sorted(self._segments.glob("??/")):
                with os.scandir(directory) as entries:
                    for entry in entries:
                        with contextlib.suppress(FileNotFoundError):
                            if entry.is_file(follow_symlinks=False):
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
            opened = self._open.pop(path, None)
            if opened is None:
                opened = _Open(path)
                self._forget_removed()
            self._open[path] = opened
            if len(self._open) > self.LIMIT:
                del self._open[next(iter(self._open))]
        return os.pread(opened.fd, length, offset)

    def _forget_removed(self) -> None:
        """Let go of files that other processes have removed: they take space until then."""
        for path in [path for path, opened in self._open.items() if opened.removed]:
            del self._open[path]

    def forget(self, path: str) -> None:
        with self._lock:
            self._open.pop(path, None)


class _Open:
    """A file descriptor that is closed with its last user, so that no read loses it half-way."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def removed(self) -> bool:
        return os.fstat(self.fd).st_nlink == 0

    def __del__(self) -> None:
        fd = getattr(self, "fd", None)
        if fd is not None:
            with contextlib.suppress(OSError):  # nothing was written that could be lost
                os.close(fd)


class FileIncoming(Incoming):
    """Waiting points as files."""

    def __init__(self, conf: Any, sacks: int) -> None:
        self.sacks = sacks
        self._directory = Directory(conf.file_basepath, sync=conf.file_sync)
        base = self._directory.base
        self._groups = [
            base / "incoming" / str(sacks) / str(group) for group in range(groups_of(sacks))
        ]
        self._damaged = base / "damaged"
        self._arrivals = Arrivals()
        self._together = Together(self._write)
        # (group, mask) -> time stamp of the directory when nothing was there for the mask
        self._clean: dict[tuple[int, int], int] = {}

    def upgrade(self) -> None:
        self._directory.make([self._damaged, *self._groups])

    # ---------------------------------------------------------------- add

    def add(self, points: batch.Points) -> None:
        """Store points; callers that arrive while a write is under way share the next one."""
        if len(points):
            self._together.add(points)

    def _write(self, points: batch.Points) -> None:
        shares = batch.by_sack(points, self.sacks)
        with translated("Unable to store measures"):
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

    @contextlib.contextmanager
    def _locked(self, group: int, how: int) -> Iterator[None]:
        """Hold the lock of a group: ``fcntl.LOCK_SH`` to list names, ``LOCK_EX`` to change them.

        New files need no lock.
        """
        path = self._groups[group].with_suffix(".lock")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except FileNotFoundError:
            raise self._not_upgraded(group) from None
        try:
            end = time.monotonic() + LOCK_S
            while True:
                try:
                    fcntl.flock(fd, how | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise
                time.sleep(LOCK_POLL_S)
            yield
        finally:
            os.close(fd)

    def _not_upgraded(self, group: int) -> errors.Misconfigured:
        return errors.Misconfigured(f"{self._groups[group]} does not exist: run gnocchi-upgrade")

    def _names(self, group: int) -> list[Name]:
        """The files of a group, oldest first. Files of other programs are passed over."""
        with self._locked(group, fcntl.LOCK_SH):
            return self._list(group)

    def _list(self, group: int) -> list[Name]:
        """`_names` for one who holds the lock.

        A listing may show a file that appeared meanwhile and not show an earlier one that did;
        so it counts as of its beginning.
        """
        began = time.time_ns()
        try:
            listing = os.listdir(self._groups[group])
        except FileNotFoundError:
            raise self._not_upgraded(group) from None
        ended = time.time_ns()
        names = [name for text in sorted(listing) if (name := Name.parse(text)) is not None]
        # Later than now is only what was named before the clock was set back.
        return [name for name in names if not began <= name.arrival_ns <= ended]

    def take(self, sacks: Sequence[int], max_points: int) -> Taken:
        parts: list[batch.Points] = []
        receipt: list[tuple[int, Name, int]] = []
        damaged: list[Damage] = []
        total, more = 0, False
        with translated("Unable to read waiting measures"):
            for group, mask in sorted(masks_of(sacks).items()):
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
                    damaged.append(self._set_aside(fd, name, e))
        except errors.CorruptObject as e:
            damaged.append(self._set_aside(fd, name, e))
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

    def _set_aside(self, fd: int, name: Name, error: errors.CorruptObject) -> Damage:
        """Keep the bytes of a damaged file; its bits are then taken out as if it were whole.

        They are copied from the open file, since another worker may rename or remove it by now.
        """
        kept = self._damaged / name.stem
        self._directory.make([self._damaged])
        if kept.exists():
            self._directory.sync_directory(self._damaged)
        else:
            pieces: list[bytes] = []
            while piece := os.pread(fd, READ_AT_ONCE, READ_AT_ONCE * len(pieces)):
                pieces.append(piece)
            self._directory.write(kept, b"".join(pieces))
        return Damage(name.stem, str(error.reason))

    def discard(self, taken: Taken) -> None:
        with translated("Unable to remove measures that were processed"):
            for group, entries in itertools.groupby(taken.receipt, lambda entry: entry[0]):
                with self._locked(group, fcntl.LOCK_EX):
                    self._take_bits_out(group, [(name, mask) for _, name, mask in entries])

    def _take_bits_out(self, group: int, entries: Iterable[tuple[Name, int]]) -> None:
        """Oldest first, for one who holds the lock."""
        directory = self._groups[group]
        current: dict[str, Name] | None = None
        for name, mask in entries:
            known = name if current is None else current.get(name.stem)
            while known is not None and known.mask & mask:
                rest = known._replace(mask=known.mask & ~mask)
                try:
                    if rest.mask:
                        os.rename(directory / str(known), directory / str(rest))
                    else:
                        os.unlink(directory / str(known))
                    break
                except FileNotFoundError:
                    # other workers have taken bits out since it was listed
                    current = {other.stem: other for other in self._list(group)}
                    known = current.get(name.stem)

    # ---------------------------------------------------------------- what waits

    def waiting(self) -> dict[int, float]:
        now = time.time_ns()
        oldest: dict[int, float] = {}
        with translated("Unable to list waiting measures"):
            for group in range(len(self._groups)):
                seen = 0
                for name in self._names(group):
                    fresh = name.mask & ~seen
                    seen |= fresh
                    for sack in sacks_in(group, fresh):
                        oldest[sack] = max(0.0, (now - name.arrival_ns) / 1e9)
        return oldest

    def wait(self, timeout_s: float, sacks: Iterable[int] | None = None) -> bool:
        masks = masks_of(range(self.sacks) if sacks is None else sacks)
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
                if self._clean.get((group, mask)) == changed:
                    continue
                old = time.time_ns() - changed > TICK_S * 1e9
                if any(name.mask & mask for name in self._names(group)):
                    return True
            except OSError as e:
                if e.errno != errno.ENOENT:
                    raise errors.Unavailable(f"Unable to list waiting measures: {e}") from e
                continue
            if old:
                if len(self._clean) >= CLEAN:
                    self._clean.clear()
                self._clean[group, mask] = changed
        return False

    def backlog(self, *, details: bool = False) -> Backlog:
        items = points = 0
        per_metric: dict[bytes, int] = {}
        with translated("Unable to list waiting measures"):
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
