"""Objects in a dict, with everything that may happen between two calls of a store."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from gnocchi.drivers.objects import Listed, ObjectIncoming, Objects
from gnocchi.errors import Unavailable
from tests.conformance.models import SACKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


WAYS = 4


class Shelf(Objects):
    """A store in memory.

    ``calls`` counts requests by their kind. Request ``fail_at // 4`` fails in way ``fail_at % 4``:
    0 it is not sent; 1, 2 a put has not, then has been done, a delete has removed every other key;
    3 everything has been done. ``between`` is called while a listing is read, once, when half of
    what it finds has been found.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.calls: list[tuple[str, int]] = []
        self.fail_at: int | None = None
        self.between: Callable[[], None] | None = None
        self._lock = threading.Lock()

    def _request(self, kind: str, things: int = 1) -> int | None:
        """Note a request; return in which way it fails."""
        with self._lock:
            self.calls.append((kind, things))
            at = self.fail_at
            self.fail_at = None if at is None else at - WAYS
        if at is None or not 0 <= at < WAYS:
            return None
        if at == 0 or kind in ("get", "list"):
            raise Unavailable("not sent")
        return at

    def count(self, kind: str) -> int:
        """How many requests of a kind there were."""
        return sum(called == kind for called, _ in self.calls)

    def give_up_after(self, seconds: float) -> None:
        """It answers at once."""
        return

    def put(self, key: str, data: bytes | memoryview) -> None:
        way = self._request("put")
        if way != 1:
            self.objects[key] = bytes(data)
        if way is not None:
            raise Unavailable("no answer")

    def get(self, key: str) -> bytes | None:
        self._request("get")
        return self.objects.get(key)

    def delete(self, keys: Sequence[str]) -> None:
        way = self._request("delete", len(keys))
        for key in keys[way - 1 :: 2] if way in (1, 2) else keys:
            self.objects.pop(key, None)
        if way is not None:
            raise Unavailable("no answer")

    def list(self, folder: str) -> Iterator[Listed]:
        self._request("list")
        found = self._in(folder)
        half = found[: len(found) // 2]
        between, self.between = self.between, None
        if between is not None:
            between()
        found = half + [key for key in self._in(folder) if not half or key > half[-1]]
        yield from (Listed(key.partition("/")[2], 0.0) for key in found)

    def _in(self, folder: str) -> list[str]:
        return sorted(key for key in list(self.objects) if key.startswith(folder + "/"))

    def waiting(self) -> list[str]:
        """Keys of everything but damaged objects."""
        return [key for key in self.objects if not key.startswith("damaged/")]


class ShelfIncoming(ObjectIncoming):
    """The queue on a shelf."""

    def folder(self, group: int) -> str:
        return f"{group}-{self.sacks}"

    def upgrade(self) -> None:
        """There is nothing to create."""


class Place:
    """A shelf as the conformance suite wants it."""

    def __init__(self) -> None:
        self.shelf = Shelf()

    def open(self, sacks: int = SACKS) -> ShelfIncoming:
        return ShelfIncoming(self.shelf, sacks)

    def objects(self) -> list[bytes]:
        return [self.shelf.objects[key] for key in self.shelf.waiting()]

    def change(self, change: Callable[[bytes], bytes]) -> None:
        for key in self.shelf.waiting():
            self.shelf.objects[key] = change(self.shelf.objects[key])

    def kept(self) -> set[bytes]:
        return {data for key, data in self.shelf.objects.items() if key.startswith("damaged/")}

    @contextlib.contextmanager
    def failing(self, call: int) -> Iterator[None]:
        self.shelf.fail_at = call
        try:
            yield
        finally:
            self.shelf.fail_at = None
