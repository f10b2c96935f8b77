"""Segments and incoming points in this process's memory: for tests and for trying things.

Nothing survives the process, and nobody else sees it. It runs the same conformance suite as every
other driver, objects are encoded and checked as they are elsewhere.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

from gnocchi import errors
from gnocchi.incoming import Backlog, Damage, Incoming, Taken
from gnocchi.segments import batch
from gnocchi.storage import NoSuchObject, Storage, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class MemoryStorage(Storage):
    """Segments in a dict."""

    survives_power_loss: ClassVar[bool] = False

    def __init__(self, conf: Any = None) -> None:
        self.objects: dict[str, tuple[float, bytes]] = {}

    def upgrade(self) -> None:
        """There is nothing to create."""

    def put(self, name: str, data: bytes | memoryview) -> None:
        self.objects[name] = (time.time(), bytes(data))

    def read(self, name: str, offset: int, length: int) -> bytes:
        try:
            return self.objects[name][1][offset : offset + length]
        except KeyError:
            raise NoSuchObject(name) from None

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self.objects.pop(name, None)

    def list(self) -> Iterator[Stored]:
        now = time.time()
        for name, (written, _) in list(self.objects.items()):
            yield Stored(name, now - written)


class MemoryIncoming(Incoming):
    """Waiting points in a list of encoded objects for every sack."""

    survives_power_loss: ClassVar[bool] = False

    def __init__(self, conf: Any, sacks: int) -> None:
        self.sacks = sacks
        self.queues: dict[int, dict[str, bytes]] = {}
        self.damaged: dict[str, bytes] = {}
        self._last = 0
        self._news = threading.Condition()

    def upgrade(self) -> None:
        """There is nothing to create."""

    def add(self, points: batch.Points) -> None:
        if not len(points):
            return
        with self._news:
            # The clock may be set back; names go on to sort by arrival.
            self._last = max(self._last + 1, time.time_ns())
            name = f"{self._last:016x}"
            for sack, share in batch.by_sack(points, self.sacks).items():
                self.queues.setdefault(sack, {})[name] = batch.encode({sack: share})
            self._news.notify_all()

    def take(self, sacks: Sequence[int], max_points: int) -> Taken:
        with self._news:
            objects = sorted(
                (name, sack, data)
                for sack in sacks
                for name, data in self.queues.get(sack, {}).items()
            )
        parts: list[batch.Points] = []
        receipt: list[tuple[int, str]] = []
        damaged: list[Damage] = []
        total = 0
        for name, sack, data in objects:
            if total >= max_points:
                return Taken(batch.Points.concatenate(parts), receipt, damaged, True)
            receipt.append((sack, name))
            try:
                (entry,) = batch.read_directory(data, name)
                start = int(entry["offset"])
                part = batch.read_share(entry, data[start : start + int(entry["length"])], name)
            except errors.CorruptObject as e:
                aside = f"{name}-{sack}"
                self.damaged[aside] = data
                damaged.append(Damage(aside, str(e.reason)))
                continue
            parts.append(part)
            total += len(part)
        return Taken(batch.Points.concatenate(parts), receipt, damaged)

    def discard(self, taken: Taken) -> None:
        with self._news:
            for sack, name in taken.receipt:
                self.queues.get(sack, {}).pop(name, None)

    def waiting(self) -> dict[int, float]:
        now = time.time_ns()
        with self._news:
            return {
                sack: max(0.0, (now - int(min(queue), 16)) / 1e9)
                for sack, queue in self.queues.items()
                if queue
            }

    def wait(self, timeout_s: float, sacks: Iterable[int] | None = None) -> bool:
        wanted = set(range(self.sacks) if sacks is None else sacks)
        with self._news:
            return self._news.wait_for(
                lambda: any(queue and sack in wanted for sack, queue in self.queues.items()),
                timeout_s,
            )

    def backlog(self, *, details: bool = False) -> Backlog:
        taken = self.take(range(self.sacks), 1 << 62)
        per_metric: dict[bytes, int] = {}
        for raw in map(bytes, taken.points.ids):
            per_metric[raw] = per_metric.get(raw, 0) + 1
        return Backlog(
            len(taken.points.ids),
            len(taken.points),
            len(per_metric),
            per_metric if details else None,
        )
