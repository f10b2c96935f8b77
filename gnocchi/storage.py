"""What the engine asks of a place for segments: whole, immutable, uniquely named objects.

Invariants every driver keeps:

* An object is visible under its name only once all of its bytes are there; with
  ``survives_power_loss`` it is also on stable storage when `Storage.put` returns.
* Objects are never modified, renamed or overwritten. The catalog, not a listing, says which
  objects count; a listing only serves to find left-overs.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from gnocchi.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class NoSuchObject(NotFound):
    """The object is not there (any more). The caller takes a new catalog snapshot."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Object {name} does not exist")
        self.name = name


class Stored(NamedTuple):
    """One entry of a listing: the object's name and how many seconds ago it was written."""

    name: str
    age_s: float


class Storage(abc.ABC):
    """A store of immutable objects. All methods raise `gnocchi.errors.Unavailable` when the
    backend does not answer; the operation may then have happened or not, and is safe to repeat.
    """

    #: Whether an object outlives a power failure once `put` has returned.
    survives_power_loss: ClassVar[bool] = True

    @abc.abstractmethod
    def upgrade(self) -> None:
        """Create what the driver needs; safe to repeat and to run twice at once."""

    @abc.abstractmethod
    def put(self, name: str, data: bytes | memoryview) -> None:
        """Store a whole object. Names are unique, ASCII and free of separators."""

    @abc.abstractmethod
    def read(self, name: str, offset: int, length: int) -> bytes:
        """Return the bytes ``[offset, offset + length)``, fewer when the object ends before.

        Raises:
            NoSuchObject: it does not exist.
        """

    @abc.abstractmethod
    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; those that are absent already are no error."""

    @abc.abstractmethod
    def list(self) -> Iterator[Stored]:
        """Yield every object, in no particular order."""

    def give_up_after(self, seconds: float) -> None:
        """Wait no longer than that for the backend, even if options of the driver allow for more.

        Called before anything else, where somebody waits for an answer in turn; an operation that
        was given up raises Unavailable. Whoever connects to nothing need not do anything.
        """
        return

    def tidy(self, older_than_s: float) -> int:
        """Remove left-overs of writes that never finished; return how many there were."""
        return 0
