"""What the engine asks of the place where accepted measures wait for their sack's next round.

Invariants every driver keeps:

* `Incoming.add` returns only when any process may be killed (and, with
  ``survives_power_loss``, when power may fail) without losing a point of it. A call that
  raises may have stored all, some or none of its points.
* `Incoming.take` changes nothing, and returns points in the order in which they were accepted.
* `Incoming.discard` removes exactly what one `take` returned, oldest first: if it is cut short,
  what is left is a suffix of it, so a second round over the rest comes to the same result.
* An object that does not match its checksum is set aside with its bytes, never handed out.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gnocchi.segments.batch import Points


class Damage(NamedTuple):
    """An object that was set aside: its name and what is wrong with it."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Taken:
    """Points that wait in some sacks, in order of arrival.

    ``receipt`` is for `Incoming.discard` alone, but for its length: how many objects it stands for,
    0 when nothing waits. ``damaged`` lists the objects set aside while taking, ``more`` says
    whether the bound on points left some waiting.
    """

    points: Points
    receipt: Any
    damaged: list[Damage] = field(default_factory=list)
    more: bool = False


class Backlog(NamedTuple):
    """What waits. ``items`` counts (request, metric) pairs; ``per_metric`` maps raw ids to
    items and is None unless asked for."""

    items: int
    points: int
    metrics: int
    per_metric: dict[bytes, int] | None


class Incoming(abc.ABC):
    """A durable queue of points, divided into sacks. All methods raise
    `gnocchi.errors.Unavailable` when the backend does not answer.
    """

    #: Whether points outlive a power failure once `add` has returned.
    survives_power_loss: ClassVar[bool] = True

    #: How many seconds pass between two looks at all that waits while nothing seems to: as often
    #: as costs next to nothing. What is news to `wait` is taken at once all the same.
    look_s: ClassVar[float] = 2.0

    sacks: int = 0

    @abc.abstractmethod
    def upgrade(self) -> None:
        """Create what the driver needs; safe to repeat and to run twice at once."""

    @abc.abstractmethod
    def add(self, points: Points) -> None:
        """Store points durably, each under the sack of its metric."""

    @abc.abstractmethod
    def take(self, sacks: Sequence[int], max_points: int) -> Taken:
        """Return what waits in these sacks, oldest first, until ``max_points`` is reached.

        At least one object is returned when any waits, however large it is.
        """

    @abc.abstractmethod
    def discard(self, taken: Taken) -> None:
        """Remove what `take` returned. Removing it twice is no error."""

    @abc.abstractmethod
    def waiting(self) -> dict[int, float]:
        """Map every sack in which something waits to the age of its oldest object in seconds."""

    @abc.abstractmethod
    def wait(self, timeout_s: float, sacks: Iterable[int] | None = None) -> bool:
        """Block until something may wait in the sacks (all by default), or the time is over.

        Costs next to nothing while nothing happens. May return True without cause.
        """

    @abc.abstractmethod
    def backlog(self, *, details: bool = False) -> Backlog:
        """Count what waits. Cheap without ``details``: ``metrics`` may then be an upper bound."""

    def give_up_after(self, seconds: float) -> None:
        """Wait no longer than that for the backend, even if options of the driver allow for more.

        Called before anything else, where somebody waits for an answer in turn; an operation that
        was given up raises Unavailable. Whoever connects to nothing need not do anything.
        """
        return

    def tidy(self, older_than_s: float) -> int:
        """Remove left-overs of writes that never finished; return how many there were."""
        return 0


def sack_of(high: Any, sacks: int) -> Any:
    """The sack of a metric from the top 32 bits of its id: equal ranges of the hash space.

    Works on an int or on a uint64 array.
    """
    return (high * sacks) >> 32
