"""Resources as rows: what a change stores, and what stays when it fails."""

from __future__ import annotations

import dataclasses
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from gnocchi import errors, search
from gnocchi.indexer import catalog, metrics, resource_types, resources
from gnocchi.indexer.resources import NewMetric
from gnocchi.resource_type import ResourceType
from tests.indexer import samples

if TYPE_CHECKING:
    from gnocchi.indexer.database import Database
    from gnocchi.model import Resource

KIND = ResourceType.from_json(
    {
        "name": "vm",
        "attributes": {
            "host": {"type": "string"},
            "size": {"type": "number", "required": False},
            "on": {"type": "bool", "required": False},
        },
    }
)
NOW = 1_800_000_000_000_000


@pytest.fixture
def db(database: Database) -> Database:
    """A database with the type vm and the archive policy low."""
    samples.stored_policy(database)
    resource_types.create(database, KIND)
    return database


def vm(**changes: Any) -> Resource:
    """A new resource of that type."""
    values = {"type": "vm", "attributes": {"host": "h", "size": 1, "on": True}}
    return samples.resource(**(values | changes))


def metric(db: Database, **changes: Any) -> uuid.UUID:
    """The id of a stored metric of the creator of the samples."""
    found = samples.metric(samples.policy(), **changes)
    metrics.create(db, found)
    return found.id


def history(db: Database, resource: Resource) -> list[Resource]:
    return resources.history(db, "vm", resource.id, limit=99)


def names(db: Database, resource: Resource) -> list[str]:
    return list(resources.get(db, "generic", resource.id).metrics)


# ------------------------------------------------------------------ creating


def test_resource_comes_back_as_it_was_stored(db: Database) -> None:
    for values in (
        {},
        {"creator": None, "user_id": "", "project_id": "✔ 𝓁", "ended_at": 2**62},
        {"original_resource_id": "☃" * 289, "attributes": {"host": "a'\"\\\n"}},
        {"creator": "a:b:c", "started_at": 0, "ended_at": 0},
    ):
        new = vm(**values)
        stored = resources.create(db, new, {"b": NewMetric("low", "B"), "a": NewMetric("low")})
        complete = {"host": None, "size": None, "on": None} | dict(new.attributes)
        assert stored == dataclasses.replace(new, attributes=complete, metrics=stored.metrics)
        assert list(stored.metrics) == ["a", "b"]
        assert resources.get(db, "vm", new.id) == stored
        generic = resources.get(db, "generic", new.id)
        assert generic == dataclasses.replace(stored, attributes={})


def test_new_metrics_belong_to_the_creator_of_the_resource(db: Database) -> None:
    stored = resources.create(db, vm(creator="somebody"), {"cpu": NewMetric("low", "s")})
    found = metrics.get(db, stored.metrics["cpu"])
    assert (found.name, found.unit, found.creator) == ("cpu", "s", "somebody")
    assert (found.resource_id, found.archive_policy.name) == (stored.id, "low")


@pytest.mark.parametrize("kind", ["vm", "generic"])
def test_id_is_taken_whatever_the_type_and_creator(db: Database, kind: str) -> None:
    first = resources.create(db, vm())
    other = vm(
        id=first.id, type=kind, creator="x", attributes={"host": "h"} if kind == "vm" else {}
    )
    with pytest.raises(errors.ResourceAlreadyExists) as raised:
        resources.create(db, other, {"cpu": NewMetric("low")})
    assert str(raised.value) == f"Resource {first.id} already exists"
    assert resources.get(db, "vm", first.id) == first


def test_nothing_is_stored_when_a_metric_cannot_be(db: Database) -> None:
    foreign = metric(db, creator="somebody else")
    deleted = metric(db)
    metrics.delete(db, deleted)
    for wanted, error in (
        (uuid.uuid4(), errors.NoSuchMetric),
        (foreign, errors.NoSuchMetric),
        (deleted, errors.NoSuchMetric),
        (NewMetric("gone"), errors.NoSuchArchivePolicy),
        (NewMetric("low", "a\0b"), errors.Invalid),
    ):
        new = vm()
        with pytest.raises(error):
            resources.create(db, new, {"a": NewMetric("low"), "b": wanted})
        with pytest.raises(errors.NoSuchResource):
            resources.get(db, "generic", new.id)
    assert len(metrics.list_(db, filters={}, limit=9)) == 1


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"type": "gone"}, errors.NoSuchResourceType, "Resource type gone does not exist"),
        ({"started_at": 2, "ended_at": 1}, errors.Invalid, "Start timestamp cannot be after end"),
        ({"attributes": {"host": "h", "x": 1}}, errors.Invalid, "type vm has no x attribute"),
        ({"attributes": {}}, errors.ResourceTypeChanged, "vm has changed"),
        ({"attributes": {"host": 5}}, errors.ResourceTypeChanged, "vm has changed"),
        ({"attributes": {"host": "h", "size": True}}, errors.ResourceTypeChanged, "vm has"),
        ({"attributes": {"host": "h", "on": 1}}, errors.ResourceTypeChanged, "vm has"),
        ({"user_id": "a\0b"}, errors.Invalid, "cannot be stored"),
        ({"project_id": "\ud800"}, errors.Invalid, "cannot be stored"),
        ({"original_resource_id": "\0"}, errors.Invalid, "cannot be stored"),
    ],
)
def test_what_does_not_fit_is_refused(
    db: Database, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    new = vm(**changes)
    with pytest.raises(error, match=message):
        resources.create(db, new)
    assert resources.list_(db, "generic", limit=9) == []


def test_existing_metrics_are_attached_and_renamed(db: Database) -> None:
    elsewhere = resources.create(db, vm(), {"old": NewMetric("low")}).metrics["old"]
    alone = metric(db, name=None)
    before = catalog.state(db).links
    stored = resources.create(db, vm(), {"moved": elsewhere, "named": alone})
    assert stored.metrics == {"moved": elsewhere, "named": alone}
    assert resources.get(db, "vm", stored.id) == stored
    assert [metrics.get(db, i).name for i in (elsewhere, alone)] == ["moved", "named"]
    assert catalog.state(db).links == before + 1


def test_of_two_names_for_one_metric_the_last_counts(db: Database) -> None:
    one = metric(db)
    stored = resources.create(db, vm(), {"a": one, "b": one})
    assert stored.metrics == {"b": one}
    assert resources.get(db, "vm", stored.id) == stored


# ------------------------------------------------------------------ reading


def test_missing_resource(db: Database) -> None:
    other = resources.create(db, samples.resource())
    for missing in (uuid.uuid4(), other.id):
        for action in (
            lambda i=missing: resources.get(db, "vm", i),
            lambda i=missing: resources.update(db, "vm", i, {}),
            lambda i=missing: resources.delete(db, "vm", i),
            lambda i=missing: resources.add_metrics(db, "vm", i, {}),
            lambda i=missing: resources.history(db, "vm", i, limit=9),
            lambda i=missing: resources.metrics_of(db, "vm", i),
            lambda i=missing: resources.metric_named(db, "vm", i, "x"),
        ):
            with pytest.raises(errors.NoSuchResource) as raised:
                action()
            assert str(raised.value) == f"Resource {missing} does not exist"


def test_many_are_read_in_the_order_asked_for(db: Database) -> None:
    first, second = resources.create(db, vm()), resources.create(db, samples.resource())
    found = resources.get_many(db, [second.id, uuid.uuid4(), first.id, second.id])
    assert found == [second, dataclasses.replace(first, attributes={})]
    assert resources.get_many(db, []) == []


def test_metrics_of_a_resource(db: Database) -> None:
    stored = resources.create(db, vm(), {"é": NewMetric("low"), "B": NewMetric("low")})
    found = resources.metrics_of(db, "generic", stored.id)
    assert [m.name for m in found] == ["B", "é"]
    assert resources.metric_named(db, "vm", stored.id, "é") == found[1]
    for unknown in ("b", "é ", "x", "a\0", "\ud800"):
        with pytest.raises(errors.NoSuchMetric) as raised:
            resources.metric_named(db, "vm", stored.id, unknown)
        assert str(raised.value) == f"Metric {unknown} does not exist"
    metrics.delete(db, stored.metrics["B"])
    assert resources.metrics_of(db, "vm", stored.id) == found[1:]
    assert names(db, stored) == ["é"]


# ------------------------------------------------------------------ changing


def test_change_makes_a_version(db: Database) -> None:
    stored = resources.create(db, vm(), {"cpu": NewMetric("low")})
    changed = resources.update(
        db, "vm", stored.id, {"host": "new", "size": None, "ended_at": NOW}, now=NOW
    )
    assert changed == dataclasses.replace(
        stored,
        attributes={"host": "new", "size": None, "on": True},
        ended_at=NOW,
        revision_start=NOW,
    )
    past = history(db, stored)[0]
    assert past == dataclasses.replace(stored, revision=past.revision, revision_end=NOW)
    assert history(db, stored) == [past, changed]
    assert resources.get(db, "vm", stored.id) == changed


def test_change_through_generic_keeps_attributes(db: Database) -> None:
    stored = resources.create(db, vm())
    changed = resources.update(db, "generic", stored.id, {"user_id": "new"}, now=NOW)
    assert changed == dataclasses.replace(stored, user_id="new", revision_start=NOW, attributes={})
    assert [dict(one.attributes) for one in history(db, stored)] == [stored.attributes] * 2


@pytest.mark.parametrize(
    "changes",
    [{}, {"host": "h"}, {"size": 1.0, "on": True}, {"user_id": None, "ended_at": None}],
)
def test_nothing_new_makes_no_version(db: Database, changes: dict[str, Any]) -> None:
    stored = resources.create(db, vm(), {"cpu": NewMetric("low")})
    assert resources.update(db, "vm", stored.id, changes) == stored
    assert history(db, stored) == [stored]


def test_metrics_alone_make_no_version(db: Database) -> None:
    stored = resources.create(db, vm(), {"cpu": NewMetric("low")})
    changed = resources.update(db, "vm", stored.id, {}, {"disk": NewMetric("low")})
    assert changed == dataclasses.replace(stored, metrics=changed.metrics)
    assert history(db, stored) == [changed]
    assert list(changed.metrics) == ["disk"]
    lost = metrics.get(db, stored.metrics["cpu"])
    assert (lost.name, lost.resource_id) == ("cpu", None)


def test_metrics_are_replaced_as_a_whole(db: Database) -> None:
    """Names may be swapped, kept, given to others, all at once."""
    made = {name: NewMetric("low") for name in "abcd"}
    stored = resources.create(db, vm(), made)
    ids = stored.metrics
    wanted: dict[str, Any] = {"a": ids["b"], "b": ids["a"], "c": ids["c"], "d": NewMetric("low")}
    before = catalog.state(db).links
    changed = resources.update(db, "vm", stored.id, {"host": "x"}, wanted)
    assert changed.metrics == {
        "a": ids["b"], "b": ids["a"], "c": ids["c"], "d": wanted["d"].id,
    }  # fmt: skip
    assert resources.get(db, "vm", stored.id) == changed
    assert len(history(db, stored)) == 2
    assert catalog.state(db).links == before + 1
    assert resources.update(db, "vm", stored.id, {}, dict(changed.metrics)) == changed
    assert catalog.state(db).links == before + 1
    assert resources.update(db, "vm", stored.id, {}, {}).metrics == {}
    assert len(metrics.list_(db, filters={"resource_id": None}, limit=9)) == 5


@pytest.mark.parametrize(
    ("changes", "wanted", "error", "message"),
    [
        ({"host": "x"}, {"a": uuid.UUID(int=5)}, errors.NoSuchMetric, "Metric .*5 does not exist"),
        ({"host": "x"}, {"a": NewMetric("gone")}, errors.NoSuchArchivePolicy, "gone"),
        ({"host": "x"}, {"a\0": NewMetric("low")}, errors.Invalid, "cannot be stored"),
        ({"host": "x", "nothing": 1}, {}, errors.Invalid, "type vm has no nothing attribute"),
        ({"host": 7}, {}, errors.ResourceTypeChanged, "has changed"),
        ({"user_id": "\0"}, {}, errors.Invalid, "cannot be stored"),
        (
            {"ended_at": 946684800000000}, {}, errors.InvalidResourceAttribute,
            "Value 2000-01-01 00:00:00[+]00:00 for attribute ended_at on resource type vm is inv",
        ),
        (
            {"started_at": NOW * 2, "ended_at": NOW, "host": "x"}, {},
            errors.InvalidResourceAttribute, "for attribute ended_at",
        ),
    ],
)  # fmt: skip
def test_failed_change_changes_nothing(
    db: Database,
    changes: dict[str, Any],
    wanted: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    stored = resources.create(db, vm(), {"cpu": NewMetric("low")})
    with pytest.raises(error, match=message):
        resources.update(db, "vm", stored.id, changes, wanted)
    assert history(db, stored) == [stored]


def test_start_after_the_end_is_refused(db: Database) -> None:
    stored = resources.create(db, vm(ended_at=NOW))
    with pytest.raises(errors.InvalidResourceAttribute, match="for attribute started_at"):
        resources.update(db, "vm", stored.id, {"started_at": NOW + 1})
    changed = resources.update(db, "vm", stored.id, {"started_at": NOW + 1, "ended_at": None})
    assert (changed.started_at, changed.ended_at) == (NOW + 1, None)


@pytest.mark.parametrize("now", [NOW, NOW - 10**12, 0])
def test_versions_follow_one_another_also_when_the_clock_stands_still(
    db: Database, now: int
) -> None:
    stored = resources.create(db, vm(revision_start=NOW))
    for number in range(5):
        resources.update(db, "vm", stored.id, {"host": str(number)}, now=now)
    found = history(db, stored)
    assert [one.revision_start for one in found] == [NOW + n for n in range(6)]
    assert [one.revision_end for one in found] == [NOW + n for n in range(1, 6)] + [None]
    first = found[0].revision
    assert first > 0
    assert [one.revision for one in found] == [*range(first, first + 5), -1]


def test_numbers_of_revisions_are_not_used_again(db: Database) -> None:
    numbers = []
    for _ in range(3):
        stored = resources.create(db, vm())
        resources.update(db, "vm", stored.id, {"host": "x"})
        numbers.append(history(db, stored)[0].revision)
        resources.delete(db, "vm", stored.id)
    assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]


def test_metrics_are_added_beside_the_others(db: Database) -> None:
    stored = resources.create(db, vm(), {"cpu": NewMetric("low")})
    alone = metric(db, name="x")
    resources.add_metrics(db, "vm", stored.id, {"disk": NewMetric("low"), "net": alone})
    resources.add_metrics(db, "generic", stored.id, {})
    assert names(db, stored) == ["cpu", "disk", "net"]
    assert len(history(db, stored)) == 1


def test_added_metric_of_a_taken_name_is_refused(db: Database) -> None:
    stored = resources.create(db, vm(), {"cpu": NewMetric("low"), "net": NewMetric("low")})
    alone = metric(db, name="x")
    for wanted in (NewMetric("low"), alone, stored.metrics["net"]):
        with pytest.raises(errors.NamedMetricAlreadyExists, match="metric cpu already exists"):
            resources.add_metrics(db, "vm", stored.id, {"new": NewMetric("low"), "cpu": wanted})
    assert names(db, stored) == ["cpu", "net"]
    # what is there already may be said again
    resources.add_metrics(db, "vm", stored.id, {"cpu": stored.metrics["cpu"]})
    resources.add_metrics(db, "vm", stored.id, {"renamed": stored.metrics["cpu"]})
    assert names(db, stored) == ["net", "renamed"]


# ------------------------------------------------------------------ deleting


def test_deleted_resource_is_gone_completely(db: Database) -> None:
    stored = resources.create(db, vm(), {"cpu": NewMetric("low"), "disk": NewMetric("low")})
    resources.update(db, "vm", stored.id, {"host": "x"})
    resources.delete(db, "generic", stored.id)
    assert resources.list_(db, "generic", history=True, limit=9) == []
    with pytest.raises(errors.NoSuchResource):
        resources.delete(db, "generic", stored.id)
    assert sorted(metrics.deleted(db, 9)) == sorted(stored.metrics.values())
    assert catalog.state(db).deletions == 1
    with pytest.raises(errors.NoSuchMetric):
        metrics.get(db, stored.metrics["cpu"])
    again = resources.create(db, vm(id=stored.id), {"cpu": NewMetric("low")})
    assert history(db, again) == [again]


def test_resource_without_metrics_is_no_deletion_of_metrics(db: Database) -> None:
    resources.delete(db, "vm", resources.create(db, vm()).id)
    assert catalog.state(db).deletions == 0


def test_many_are_deleted_completely(db: Database) -> None:
    kept = resources.create(db, vm(project_id="p"), {"cpu": NewMetric("low")})
    other = resources.create(db, samples.resource(project_id="q"))
    gone = [resources.create(db, vm(project_id="q"), {"m": NewMetric("low")}) for _ in range(3)]
    resources.update(db, "vm", gone[0].id, {"host": "x"})
    wanted = search.from_json({"=": {"project_id": "q"}})
    assert resources.delete_many(db, "vm", wanted) == 3
    assert resources.delete_many(db, "vm", wanted) == 0
    found = resources.list_(db, "generic", history=True, details=True, limit=99)
    assert sorted(found, key=lambda one: one.id) == sorted((kept, other), key=lambda one: one.id)
    assert len(metrics.deleted(db, 9)) == 3
    assert catalog.state(db).deletions == 1


def test_only_what_may_be_seen_is_deleted(db: Database) -> None:
    own = resources.create(db, vm(creator="me"))
    foreign = resources.create(db, vm(creator="you"))
    wanted = search.from_json({"in": {"id": [str(own.id), str(foreign.id), str(uuid.uuid4())]}})
    visible = resources.Visibility(creator="me")
    assert resources.delete_many(db, "generic", wanted, visible) == 1
    assert resources.get_many(db, [own.id, foreign.id]) == [
        dataclasses.replace(foreign, attributes={})
    ]


def test_bulk_delete_with_a_filter_that_does_not_fit(db: Database) -> None:
    stored = resources.create(db, vm())
    with pytest.raises(errors.Invalid, match="Resource type vm has no foo attribute"):
        resources.delete_many(db, "vm", search.from_json({"=": {"foo": 1}}))
    with pytest.raises(errors.NoSuchResourceType):
        resources.delete_many(db, "gone", search.from_json({"=": {"id": str(stored.id)}}))
    assert history(db, stored) == [stored]


def test_numbers_in_text_do_not_stop_a_bulk_delete(db: Database) -> None:
    """MariaDB fails on a conversion where it writes, and only warns where it reads."""
    other = {"size": {"type": "string"}}
    resource_types.create(db, ResourceType.from_json({"name": "other", "attributes": other}))
    resources.create(db, samples.resource(type="other", attributes={"size": "large"}))
    resources.create(db, vm())
    assert resources.delete_many(db, "vm", search.from_json({"=": {"size": 1}})) == 1


def test_a_check_sees_the_version_that_would_be_replaced(db: Database) -> None:
    """Preconditions and rights are judged under the lock, not by what was read before it."""
    stored = resources.create(db, vm())
    changed = resources.update(db, "vm", stored.id, {"user_id": "first"})

    def refuse(version: Resource) -> None:
        assert version.revision_start == changed.revision_start
        raise errors.Invalid("not this one")

    with pytest.raises(errors.Invalid, match="not this one"):
        resources.update(db, "vm", stored.id, {"user_id": "second"}, check=refuse)
    with pytest.raises(errors.Invalid, match="not this one"):
        resources.delete(db, "vm", stored.id, check=refuse)

    assert resources.get(db, "vm", stored.id) == changed


def test_metrics_are_not_attached_to_a_resource_that_somebody_else_made_since(
    db: Database,
) -> None:
    stored = resources.create(db, vm())
    seen = dataclasses.replace(stored, creator="somebody else")
    with pytest.raises(errors.NoSuchResource):
        resources.add_metrics(db, "vm", stored.id, {"new": NewMetric("low")}, checked=seen)
