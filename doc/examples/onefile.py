"""A driver that keeps segments and waiting measures in one SQLite file: an example, but whole.

To use it, install it in a package of its own with the entry points ::

    gnocchi.storage =
        onefile = onefile:OneFileStorage
    gnocchi.incoming =
        onefile = onefile:OneFileIncoming

and configure ``[storage] driver = onefile``. It takes its place from ``[storage] file_basepath``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from gnocchi import errors
from gnocchi.incoming import Backlog, Damage, Incoming, Taken
from gnocchi.segments import batch
from gnocchi.storage import NoSuchObject, Storage, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SCHEMA = """
CREATE TABLE IF NOT EXISTS segment (name TEXT PRIMARY KEY, written REAL, data BLOB);
CREATE TABLE IF NOT EXISTS waiting (
    arrival INTEGER PRIMARY KEY AUTOINCREMENT, division INTEGER, sack INTEGER, at REAL,
    items INTEGER, points INTEGER, data BLOB);
CREATE INDEX IF NOT EXISTS waiting_sack ON waiting (division, sack, arrival);
CREATE TABLE IF NOT EXISTS damaged (arrival INTEGER PRIMARY KEY, data BLOB);
"""
POLL_S = 0.2


class OneFile:
    """The file. Connections are made when they are needed, so none crosses a fork."""

    def __init__(self, directory: str) -> None:
        self._path = pathlib.Path(directory) / "gnocchi-objects.sqlite"

    def create(self) -> None:
        """Make the file and its tables; safe to repeat and to run twice at once."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            # Only the operator can change that; waiting would not help.
            raise errors.Misconfigured(f"Unable to make {self._path.parent}: {error}") from error
        with self.transaction() as connection:
            for statement in SCHEMA.strip().split(";\n"):
                connection.execute(statement)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for one transaction, synced when the block ends.

        Whatever the backend raises becomes `Unavailable`: callers try again later.
        """
        try:
            with contextlib.closing(
                sqlite3.connect(self._path, timeout=10.0, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise errors.Unavailable(f"{os.fspath(self._path)}: {error}") from error


class OneFileStorage(Storage):
    """Segments as rows."""

    def __init__(self, conf: Any) -> None:
        """Remember the options of [storage]; connect to nothing yet."""
        self._file = OneFile(conf.file_basepath)

    def upgrade(self) -> None:
        self._file.create()

    def put(self, name: str, data: bytes | memoryview) -> None:
        with self._file.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO segment VALUES (?, ?, ?)", (name, time.time(), bytes(data))
            )

    def read(self, name: str, offset: int, length: int) -> bytes:
        with self._file.transaction() as connection:
            found = connection.execute(
                "SELECT coalesce(substr(data, ?, ?), x'') FROM segment WHERE name = ?",
                (offset + 1, length, name),
            ).fetchone()
        if found is None:
            raise NoSuchObject(name)
        data: bytes = found[0]
        return data

    def delete(self, names: Iterable[str]) -> None:
        with self._file.transaction() as connection:
            connection.executemany("DELETE FROM segment WHERE name = ?", ((n,) for n in names))

    def list(self) -> Iterator[Stored]:
        with self._file.transaction() as connection:
            rows = connection.execute("SELECT name, written FROM segment").fetchall()
        now = time.time()
        return (Stored(name, max(0.0, now - written)) for name, written in rows)


class OneFileIncoming(Incoming):
    """Waiting measures: a row for each sack of a request, numbered in order of arrival.

    Rows lie under the number of sacks too, so that measures of two divisions do not mix when an
    operator changes it.
    """

    def __init__(self, conf: Any, sacks: int) -> None:
        """Remember the options of [incoming]."""
        self.sacks = sacks
        self._file = OneFile(conf.file_basepath)

    def upgrade(self) -> None:
        self._file.create()

    def add(self, points: batch.Points) -> None:
        if not len(points):
            return
        now = time.time()
        rows = [
            (self.sacks, sack, now, len(share.ids), len(share), batch.encode({sack: share}))
            for sack, share in batch.by_sack(points, self.sacks).items()
        ]
        with self._file.transaction() as connection:  # the whole request, or nothing of it
            connection.executemany(
                "INSERT INTO waiting (division, sack, at, items, points, data)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )

    def take(self, sacks: Sequence[int], max_points: int) -> Taken:
        parts: list[batch.Points] = []
        receipt: list[int] = []
        damaged: list[Damage] = []
        total, more = 0, False
        with self._file.transaction() as connection:
            for arrival, data in self._rows(connection, sacks):
                if total >= max_points:
                    more = True
                    break
                receipt.append(arrival)
                try:
                    parts.append(_decode(data, str(arrival)))
                except errors.CorruptObject as error:
                    # Kept for whoever wants to look; discarded from here like any other.
                    connection.execute(
                        "INSERT OR REPLACE INTO damaged VALUES (?, ?)", (arrival, data)
                    )
                    damaged.append(Damage(str(arrival), str(error.reason)))
                    continue
                total += len(parts[-1])
        return Taken(batch.Points.concatenate(parts), receipt, damaged, more)

    def _rows(
        self, connection: sqlite3.Connection, sacks: Sequence[int]
    ) -> Iterator[tuple[int, bytes]]:
        wanted = set(sacks)
        rows = connection.execute(
            "SELECT sack, arrival, data FROM waiting WHERE division = ? ORDER BY arrival",
            (self.sacks,),
        )
        for sack, arrival, data in rows:
            if sack in wanted:
                yield arrival, data

    def discard(self, taken: Taken) -> None:
        with self._file.transaction() as connection:
            connection.executemany(
                "DELETE FROM waiting WHERE arrival = ?", ((number,) for number in taken.receipt)
            )

    def waiting(self) -> dict[int, float]:
        with self._file.transaction() as connection:
            rows = connection.execute(
                "SELECT sack, min(at) FROM waiting WHERE division = ? GROUP BY sack", (self.sacks,)
            ).fetchall()
        now = time.time()
        return {sack: max(0.0, now - at) for sack, at in rows}

    def wait(self, timeout_s: float, sacks: Iterable[int] | None = None) -> bool:
        wanted = set(range(self.sacks) if sacks is None else sacks)
        end = time.monotonic() + timeout_s
        for attempt in itertools.count():
            if not wanted.isdisjoint(self.waiting()):
                return True
            left_s = end - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(POLL_S * (1 + attempt // 10), left_s))
        raise AssertionError("unreachable")

    def backlog(self, *, details: bool = False) -> Backlog:
        with self._file.transaction() as connection:
            items, points = connection.execute(
                "SELECT coalesce(sum(items), 0), coalesce(sum(points), 0) FROM waiting"
                " WHERE division = ?",
                (self.sacks,),
            ).fetchone()
        if not details:
            return Backlog(items, points, items, None)
        per_metric: dict[bytes, int] = {}
        with self._file.transaction() as connection:
            for arrival, data in self._rows(connection, range(self.sacks)):
                with contextlib.suppress(errors.CorruptObject):
                    for raw in map(bytes, _decode(data, str(arrival)).ids):
                        per_metric[raw] = per_metric.get(raw, 0) + 1
        return Backlog(items, points, len(per_metric), per_metric)


def _decode(data: bytes, name: str) -> batch.Points:
    """The one share of an object, verified."""
    (entry,) = batch.read_directory(data, name)
    start = int(entry["offset"])
    return batch.read_share(entry, data[start : start + int(entry["length"])], name)
