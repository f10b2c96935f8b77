"""``/v1/batch/resources/metrics/measures``: measures by the resources and names of their metrics.

The number of statements does not depend on how much a batch holds: none but that for the state of
the catalog where all metrics are known already, one to look the others up, and a handful to make
those that do not exist.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import numpy as np
import voluptuous

from gnocchi import errors, model, times
from gnocchi.engine import push
from gnocchi.indexer import links, metrics, resources
from gnocchi.indexer.resources import NewMetric
from gnocchi.ingest import measures
from gnocchi.rest import representation, responses, validation
from gnocchi.rest.errors import Refused, answers, invalid_input
from gnocchi.rest.measures import enforce_post, latest
from gnocchi.rest.metric_definitions import Rules, check_name
from gnocchi.rest.resource_bodies import MetricDefinition
from gnocchi.rest.resource_metrics import making
from gnocchi.rest.routing import Node, expose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gnocchi.indexer.links import Found, Link
    from gnocchi.rest.requests import Request
    from gnocchi.rest.responses import Response

Key = tuple[UUID, str]
"""A resource and the name of a metric."""


class Definition(NamedTuple):
    """What a body says about a metric in case it has to be made."""

    archive_policy_name: str | None
    unit: str | None


@dataclass(slots=True)
class Batch:
    """A body that has been read."""

    keys: list[Key] = field(default_factory=list)
    """Whose measures there are, one for each list of them."""
    lists: list[Any] = field(default_factory=list)
    paths: list[tuple[str, ...]] = field(default_factory=list)
    """Where in the body each list is."""
    definitions: dict[Key, Definition] = field(default_factory=dict)
    originals: dict[UUID, str] = field(default_factory=dict)
    """The ids of the resources as they were sent."""

    @property
    def wanted(self) -> dict[UUID, list[str]]:
        """The names of metrics by resource."""
        wanted: dict[UUID, list[str]] = {}
        for resource_id, name in self.keys:
            wanted.setdefault(resource_id, []).append(name)
        return wanted

    def columns(self, *, now: int, latest: int) -> measures.Columns:
        """Return the measures of all lists; raises the 400 of the first that is wrong."""
        numbered = {str(number): one for number, one in enumerate(self.lists)}
        try:
            return measures.many(numbered, now=now, latest=latest)
        except measures.InvalidMeasures as error:
            path = self.paths[int(error.key or 0)]
            raise _misfit(f"{error.reason} for dictionary value", *path) from error


class ResourcesMeasures(Node):
    """Measures by resource and name."""

    @expose
    @answers({errors.NoSuchArchivePolicy: (400, str)})
    def post(self, request: Request) -> Response:
        """Take all measures, or none of them; make metrics for them if asked to."""
        api = self.api
        services = api.services
        create = request.query.boolean("create_metrics", default=False)
        batch = read(request.json_document(flat=True), request.caller.creator)
        now = times.now()
        columns = batch.columns(now=now, latest=latest(api, now))
        if not batch.keys:
            return responses.accepted()
        known = api.links.of(batch.wanted, push.state(services))
        missing = [key for key in batch.keys if key[1] not in known.get(key[0], _NOTHING)]
        made: Found = {}
        if missing:
            if not create:
                raise errors.UnknownMetrics({f"{resource}/{name}" for resource, name in missing})
            made = self._create(request, batch, missing)
        found = [_link(key, known, made) for key in batch.keys]
        enforce_post(
            api,
            request,
            {link.metric: link.creator for link in found},
            lambda: metrics.get_many(services.db, [UUID(bytes=link.metric) for link in found]),
        )
        push.add(
            services,
            np.frombuffer(b"".join([link.metric for link in found]), dtype="V16"),
            columns.counts,
            columns.timestamps,
            columns.values,
        )
        return responses.accepted()

    def _create(self, request: Request, batch: Batch, missing: list[Key]) -> Found:
        """Make metrics, and return them."""
        api = self.api
        there = {
            one.id: one
            for one in resources.get_many(api.services.db, dict.fromkeys(key[0] for key in missing))
        }
        absent = dict.fromkeys(key[0] for key in missing if key[0] not in there)
        if absent:
            raise _unknown(absent, batch.originals)
        definitions = _definitions(missing, batch.definitions, Rules(api))
        api.enforce_each(
            request,
            "create metric",
            (
                making(request, name, definition, resource_id, batch.originals[resource_id])
                for (resource_id, name), definition in definitions.items()
            ),
        )
        api.enforce_each(
            request,
            "update resource",
            (representation.target(api, "update resource", one) for one in there.values()),
        )
        new = {
            key: NewMetric(definition.archive_policy_name, definition.unit)
            for key, definition in definitions.items()
        }
        try:
            return links.create(api.services.db, request.caller.creator, new)
        except errors.UnknownResources as error:  # deleted since
            raise _unknown(error.resources, batch.originals) from error


_NOTHING: dict[str, Link] = {}


def _link(key: Key, known: Found, made: Found) -> Link:
    resource, name = key
    link = known.get(resource, _NOTHING).get(name) or made.get(resource, _NOTHING).get(name)
    if link is None:  # deleted since
        raise errors.UnknownMetrics([f"{resource}/{name}"])
    return link


def _definitions(
    missing: Iterable[Key], said: Mapping[Key, Definition], rules: Rules
) -> dict[Key, MetricDefinition]:
    """Return what metrics are to be made of; raises the 400 of one that cannot be."""
    definitions = {}
    for key in missing:
        name = key[1]
        check_name(name)
        policy, unit = said.get(key, Definition(None, None))
        if policy is None:
            policy = rules.policy_name(name)
        definitions[key] = MetricDefinition(policy, unit)
    return definitions


def _unknown(absent: Iterable[UUID], originals: Mapping[UUID, str]) -> Refused:
    """Build the answer from which clients learn what they have to create."""
    return Refused(
        400,
        {
            "cause": "Unknown resources",
            "detail": [
                {"resource_id": str(one), "original_resource_id": originals[one]} for one in absent
            ],
        },
    )


# ------------------------------------------------------------------ reading


def read(body: Any, creator: str | None) -> Batch:
    """Take a body apart; raises the 400 of the first thing wrong, measures excepted."""
    if not isinstance(body, dict):
        raise invalid_input("expected a dictionary", [])
    batch = Batch()
    for text, named in body.items():
        if not isinstance(named, dict):
            raise _misfit("expected a dictionary for dictionary value", text)
        if not named:
            continue
        try:
            resource_id = model.resource_id(text, creator)
        except errors.Invalid as error:
            raise _misfit(str(error), text) from error
        batch.originals.setdefault(resource_id, text)
        for name, value in named.items():
            if len(name) > validation.MAX_NAME:
                reason = f"length of value must be at most {validation.MAX_NAME}"
                raise _misfit(reason, text, name)
            _add(batch, (resource_id, name), (text, name), value)
    return batch


def _add(batch: Batch, key: Key, path: tuple[str, ...], value: Any) -> None:
    if isinstance(value, dict):
        for member, check in _MEMBERS.items():
            if check is not None and member in value:
                reason = _wrong(check, value[member])
                if reason is not None:
                    raise _misfit(f"{reason} for dictionary value", *path, member)
        for member in value:
            if member not in _MEMBERS:
                raise _misfit("extra keys not allowed", *path, member)
        if "measures" not in value:
            raise _misfit("required key not provided", *path, "measures")
        batch.definitions[key] = Definition(value.get("archive_policy_name"), value.get("unit"))
        path = (*path, "measures")
        value = value["measures"]
    batch.keys.append(key)
    batch.lists.append(value)
    batch.paths.append(path)


_MEMBERS: dict[str, Any] = {
    "archive_policy_name": validation.text,
    "unit": validation.unit,
    "measures": None,
}


def _wrong(check: Any, value: Any) -> str | None:
    try:
        check(value)
    except voluptuous.Invalid as error:
        return str(error.msg)
    return None


def _misfit(reason: str, *path: str) -> Refused:
    place = "".join(f"[{part!r}]" for part in path)
    return invalid_input(f"{reason} @ data{place}", list(path))
