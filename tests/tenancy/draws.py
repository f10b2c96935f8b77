"""What is left to chance about a step: who does it, to what, and with which values."""

from __future__ import annotations

import uuid
from random import Random
from typing import TYPE_CHECKING, Any

from tests.tenancy import filters
from tests.tenancy.world import Caller, Metric, Version, World

if TYPE_CHECKING:
    from tests.tenancy.filters import Filter

NOWHERE = uuid.UUID(int=1)

PROJECTS = ("a", "A", "_", "%")
ROLES = (("member",), ("member",), ("reader",), (), ("service",), ("member", "admin"))
TEXTS = (*PROJECTS, "u", "zz", "u:a", "u:_", "web 1", "generic", "")
#: What resources are called by those who create them.
IDS = (
    *(str(uuid.UUID(int=n << 120 | 1 << 78 | 1 << 63)) for n in (0, 1, 9, 10, 128, 160, 254, 255)),
    "web 1",
    "web%",
    "Web 1",
)
NAMES = ("cpu", "Cpu", "c%u")
SORTS = ("id:desc", "project_id:asc", "user_id:desc", "creator:asc", "project_id:asc-nullsfirst")
VALUES = filters.Values(TEXTS, (*IDS, str(NOWHERE)), PROJECTS, ("u", "v", "U"))


class Draw:
    """Everything about a step that is left to chance."""

    def __init__(self, number: int, world: World) -> None:
        self.random = Random(number)
        self._world = world
        self.choice = self.random.choice
        self.caller = Caller(
            self.choice(("u", "v")), self.choice((None, *PROJECTS, *PROJECTS)), self.choice(ROLES)
        )
        self.type = self.choice(("generic", "box"))

    def likely(self, probability: float) -> bool:
        """Throw a coin."""
        return self.random.random() < probability

    def id(self) -> str:
        """Choose an id as a client says it, mostly that of something."""
        if self._world.resources and self.likely(0.85):
            resource = self.choice(list(self._world.resources.values()))
            return resource.text if self.likely(0.2) else str(resource.id)
        return self.choice((*IDS, str(NOWHERE)))

    def metric(self, creator: str | None = None) -> Metric | None:
        """Choose a metric, mostly one of the creator; now and then None, for one that is not."""
        there = list(self._world.metrics.values())
        own = [metric for metric in there if metric.creator == creator]
        candidates = own if own and self.likely(0.7) else there
        return self.choice(candidates) if candidates and self.likely(0.9) else None

    def names(self, most: int = 2) -> list[str]:
        """Choose some names of metrics."""
        return self.random.sample(NAMES, self.random.randint(0, most))

    def version(self, type_: str) -> Version:
        """Choose what a resource is."""
        version = Version(
            user_id=self.choice((None, "u", "zz")), project_id=self.choice((None, *PROJECTS))
        )
        if type_ == "generic":
            return version
        return Version(
            version.user_id,
            version.project_id,
            host=self.choice((None, "a", "A", "zz")),
            size=self.choice((None, -1, 2, 2.5)),
        )

    def changes(self, type_: str) -> dict[str, Any]:
        """Choose some fields and new values for them."""
        fields = ("user_id", "project_id", "host", "size")[: 2 if type_ == "generic" else 4]
        version = self.version(type_)
        return {name: getattr(version, name) for name in fields if self.likely(0.4)}

    def page(self) -> dict[str, Any]:
        """Choose the size of pages and an order, or neither."""
        page: dict[str, Any] = {}
        if self.likely(0.5):
            page["limit"] = self.random.randint(1, 4)
        if self.likely(0.5):
            page["sort"] = self.choice(SORTS)
        return page

    def filter(self, type_: str) -> Filter:
        """Choose a filter."""
        return filters.drawn(self.random, type_, VALUES)
