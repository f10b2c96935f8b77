"""A directory whose files are written whole, and with ``sync`` durably.

A file is written under ``tmp/``, synced, renamed to its place, and then the directory it is in is
synced: a reader sees a whole file or none, and once `Directory.write` has returned a power failure
cannot take it back. A write that fails leaves nothing behind under ``tmp/``; what a killed process
leaves there is found by `Directory.tidy`.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import time
import uuid
from typing import TYPE_CHECKING

from gnocchi import errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise Unavailable, which begins with ``what`` was to be done, for any OSError."""
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

    def make(self, paths: Iterable[pathlib.Path] = ()) -> None:
        """Create directories below ``base`` that are missing, durably.

        Those that are there are synced too: whoever made them may not have come to it.
        """
        changed: dict[pathlib.Path, None] = {}
        with translated(f"Unable to create a directory in {self.base}"):
            if not self.base.is_dir():
                changed.update(dict.fromkeys(_make(self.base)))
            for path in (self.tmp, *paths):
                _make(path)
                above = [p for p in path.parents if p == self.base or self.base in p.parents]
                changed.update(dict.fromkeys(above))
            for parent in changed:
                self.sync_directory(parent)

    def write(self, target: pathlib.Path, data: bytes | memoryview) -> None:
        """Write, sync, rename, sync the directory; leave nothing unfinished on failure.

        When only the last step fails, the file is in its place.
        """
        scratch = self.tmp / uuid.uuid4().hex
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            try:
                view = memoryview(data).cast("B")
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
        """Make names in a directory durable."""
        if self.sync:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def tidy(self, older_than_s: float) -> int:
        """Remove files of writes that were cut short; return how many."""
        removed = 0
        with (
            translated("Unable to remove unfinished files"),
            contextlib.suppress(FileNotFoundError),
            os.scandir(self.tmp) as entries,
        ):
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file() and time.time() - entry.stat().st_mtime > older_than_s:
                        os.unlink(entry.path)
                        removed += 1
        return removed


def _make(path: pathlib.Path) -> list[pathlib.Path]:
    """Create a directory and those above it; return the directories that got a new entry."""
    missing = [p for p in (path, *path.parents) if not p.is_dir()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True, mode=0o750)
    return [each.parent for each in missing]
