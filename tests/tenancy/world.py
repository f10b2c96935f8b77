"""Who may see and do what, written down as plainly as it can be said.

This is the oracle of the tests beside it. It shares no code with the program: everything is a
Python object in memory, and every rule is a sentence about one caller and one object.

A metric or resource remembers its creator, the text ``user:project``. A caller without a project
belongs to no project at all: not to that of things whose project is null, nor to the empty one.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import Any

#: What ids that are not UUIDs are made into one with, together with their user's creator text.
NAMESPACE = uuid.UUID("0a7a15ff-aa13-4ac2-897c-9bdf30ce175b")

ATTRIBUTES = {"generic": (), "box": ("host", "size")}


@dataclass(frozen=True)
class Caller:
    """Somebody with a token."""

    user: str
    project: str | None
    roles: tuple[str, ...]

    @property
    def creator(self) -> str:
        """The text under which what the caller makes is stored."""
        return f"{self.user}:{self.project or ''}"

    @property
    def token(self) -> str:
        """What stands for a token in these tests."""
        return f"{self.user}:{self.project or ''}:{','.join(self.roles)}"

    @property
    def admin(self) -> bool:
        """Whether the caller may do everything."""
        return "admin" in self.roles

    @property
    def serves(self) -> bool:
        """Whether the caller is an administrator or another service."""
        return self.admin or "service" in self.roles

    def in_project(self, project: str | None) -> bool:
        """Whether this is the project the caller acts for."""
        return self.project is not None and self.project == project

    def made(self, creator: str) -> bool:
        """Whether the caller, or somebody in the caller's project, made it."""
        return creator == self.creator or self.in_project(creator.partition(":")[2])


@dataclass(frozen=True)
class Version:
    """What a resource was at one time."""

    user_id: str | None = None
    project_id: str | None = None
    host: str | None = None
    size: float | None = None


@dataclass
class Metric:
    """A metric; ``resource`` is None when it is not attached to one."""

    id: uuid.UUID
    creator: str
    name: str
    resource: uuid.UUID | None = None


@dataclass
class Resource:
    """A resource and everything it has been."""

    id: uuid.UUID
    text: str
    type: str
    creator: str
    versions: list[Version]

    @property
    def current(self) -> Version:
        """What it is now."""
        return self.versions[-1]

    def address(self, caller: Caller) -> uuid.UUID:
        """Return what the id that was given at its creation means when this caller says it."""
        return resolve(self.text, caller)


@dataclass
class World:
    """Everything there is."""

    resources: dict[uuid.UUID, Resource] = field(default_factory=dict)
    metrics: dict[uuid.UUID, Metric] = field(default_factory=dict)

    # ------------------------------------------------------------------ looking up

    def find(self, type_: str, id_: uuid.UUID) -> Resource | None:
        """Return the resource, which every type but its own and ``generic`` does not have."""
        resource = self.resources.get(id_)
        return resource if resource is not None and type_ in ("generic", resource.type) else None

    def attached(self, resource: Resource) -> dict[str, Metric]:
        """Return the metrics of a resource by name."""
        return {m.name: m for m in self.metrics.values() if m.resource == resource.id}

    def owner(self, metric: Metric) -> str | None:
        """Return the project that the resource of a metric belongs to."""
        if metric.resource is None:
            return None
        return self.resources[metric.resource].current.project_id

    # ------------------------------------------------------------------ one resource

    def reading(self, caller: Caller, resource: Resource) -> int:
        """GET of a resource, of its history and of the list of its metrics.

        To those who may not read it, it does not exist; those who may read none are told so.
        """
        if self.sees(caller, resource, resource.current, all_=caller.admin):
            return 200
        return 403 if caller.project is None else 404

    def may_update(self, caller: Caller, resource: Resource) -> bool:
        """PATCH of a resource, and whatever adds a metric to one."""
        return caller.serves or caller.made(resource.creator)

    def may_delete(self, caller: Caller, resource: Resource) -> bool:
        """DELETE of a resource."""
        return caller.admin or caller.made(resource.creator)

    # ------------------------------------------------------------------ many resources

    def sees(self, caller: Caller, resource: Resource, version: Version, *, all_: bool) -> bool:
        """Whether a listing shows this version; ``all_``: the caller's role lets through all."""
        return (
            all_
            or caller.in_project(version.project_id)
            or caller.in_project(resource.creator.partition(":")[2])
        )

    def rows(
        self, caller: Caller, type_: str, *, search: bool, history: bool
    ) -> list[tuple[Resource, int]]:
        """Return what a listing or search without a filter shows.

        Versions are counted from 0; the current one is the last.
        """
        all_ = caller.serves if search else caller.admin
        return [
            (resource, number)
            for resource in self.resources.values()
            if type_ in ("generic", resource.type)
            for number, version in enumerate(resource.versions)
            if (history or version is resource.current)
            and self.sees(caller, resource, version, all_=all_)
        ]

    def deletable(self, caller: Caller, type_: str) -> list[Resource]:
        """Return what a bulk DELETE could delete at most."""
        return [
            resource
            for resource in self.resources.values()
            if type_ in ("generic", resource.type)
            and (caller.admin or caller.in_project(resource.creator.partition(":")[2]))
        ]

    # ------------------------------------------------------------------ metrics

    def may_read_metric(self, caller: Caller, metric: Metric) -> bool:
        """GET of a metric and of its measures."""
        return caller.serves or caller.made(metric.creator) or caller.in_project(self.owner(metric))

    def may_delete_metric(self, caller: Caller, metric: Metric) -> bool:
        """DELETE of a metric."""
        return caller.admin or caller.made(metric.creator)

    def may_post(self, caller: Caller, metric: Metric) -> bool:
        """POST of measures."""
        return caller.serves or caller.made(metric.creator)

    def listed_metrics(self, caller: Caller) -> list[Metric]:
        """Return what GET metric shows."""
        return [
            metric
            for metric in self.metrics.values()
            if caller.admin
            or caller.in_project(metric.creator.partition(":")[2])
            or caller.in_project(self.owner(metric))
        ]

    # ------------------------------------------------------------------ changes

    def attach(self, resource: Resource, name: str, metric: Metric) -> None:
        """Attach a metric, which is taken away from where it was, under a new name."""
        metric.resource, metric.name = resource.id, name

    def revise(self, resource: Resource, changes: dict[str, Any]) -> None:
        """Change a resource: a new version, unless nothing is different."""
        version = replace(resource.current, **changes)
        if version != resource.current:
            resource.versions.append(version)

    def remove(self, resource: Resource) -> None:
        """Delete a resource with its metrics."""
        del self.resources[resource.id]
        for metric in [m for m in self.metrics.values() if m.resource == resource.id]:
            del self.metrics[metric.id]


def resolve(text: str, caller: Caller) -> uuid.UUID:
    """Return the id that a text means when this caller says it."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return uuid.uuid5(NAMESPACE, f"{text}\0{caller.creator}")


def value(resource: Resource, number: int, name: str) -> Any:
    """Return a field of one version of a resource."""
    user, _, project = resource.creator.partition(":")
    fixed = {
        "id": resource.id,
        "type": resource.type,
        "creator": resource.creator,
        "original_resource_id": resource.text,
        "created_by_user_id": user,
        "created_by_project_id": project,
    }
    return fixed[name] if name in fixed else getattr(resource.versions[number], name)
