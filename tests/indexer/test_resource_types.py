"""Resource types as rows, and what their changes do to resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gnocchi import errors
from gnocchi.indexer import catalog, resource_types, resources
from gnocchi.resource_type import ResourceType
from tests.indexer import samples

if TYPE_CHECKING:
    from gnocchi.indexer.database import Database
    from gnocchi.model import Resource


def type_of(name: str = "vm", **attributes: dict[str, Any]) -> ResourceType:
    return ResourceType.from_json({"name": name, "attributes": attributes})


EVERYTHING = type_of(
    "✔ router",
    **{
        "serial": {"type": "string", "min_length": 4, "max_length": 20},
        "rack": {"type": "uuid", "required": False},
        "weight": {"type": "number", "required": False, "min": -2.3, "max": 3},
        "spare": {"type": "bool", "required": False},
        "bought": {"type": "datetime", "required": False},
        '0 "odd" \\ näme': {"type": "string", "required": False},
    },
)


def add(name: str, **definition: Any) -> dict[str, Any]:
    fill = definition.pop("fill", None)
    if fill is not None:
        definition["options"] = {"fill": fill}
    return {"op": "add", "path": f"/attributes/{name}", "value": definition}


def remove(name: str) -> dict[str, Any]:
    return {"op": "remove", "path": f"/attributes/{name}"}


def stored(db: Database, **attributes: Any) -> Resource:
    """A resource of type vm that has a past version with the same attributes."""
    resource = samples.stored_resource(db, type="vm", attributes=attributes)
    return resources.update(db, "vm", resource.id, {"user_id": "changed"})


def versions(db: Database, resource: Resource) -> list[dict[str, Any]]:
    found = resources.history(db, "vm", resource.id, limit=9)
    return [dict(version.attributes) for version in found]


def test_generic_is_always_there(database: Database) -> None:
    assert resource_types.list_(database) == [ResourceType("generic")]
    assert resource_types.get(database, "generic") == ResourceType("generic")
    with pytest.raises(errors.ResourceTypeInUse, match="Resource type generic is still in use"):
        resource_types.delete(database, "generic")
    with pytest.raises(errors.ResourceTypeAlreadyExists):
        resource_types.create(database, type_of("generic"))


def test_type_comes_back_as_it_was_stored(database: Database) -> None:
    resource_types.create(database, EVERYTHING)
    found = resource_types.get(database, EVERYTHING.name)
    assert found == EVERYTHING
    assert list(found.attributes) == list(EVERYTHING.attributes)
    assert found.to_json() == EVERYTHING.to_json()


def test_types_are_listed_by_name(database: Database) -> None:
    for name in ("b", "B", "a"):
        resource_types.create(database, type_of(name))
    assert [kind.name for kind in resource_types.list_(database)] == ["B", "a", "b", "generic"]


def test_name_is_taken(database: Database) -> None:
    resource_types.create(database, type_of("t1"))
    with pytest.raises(errors.ResourceTypeAlreadyExists, match="Resource type t1 already exists"):
        resource_types.create(database, type_of("t1", a={"type": "string"}))


@pytest.mark.parametrize("name", ["foobar", "Generic", "generic ", "a\0b", "\ud800"])
def test_missing_type(database: Database, name: str) -> None:
    for action in (
        lambda: resource_types.get(database, name),
        lambda: resource_types.delete(database, name),
        lambda: resource_types.update(database, name, []),
        lambda: resources.list_(database, name, limit=9),
    ):
        with pytest.raises(errors.NoSuchResourceType) as raised:
            action()
        assert str(raised.value) == f"Resource type {name} does not exist"


def test_type_with_resources_stays(database: Database) -> None:
    resource_types.create(database, type_of())
    resource = stored(database)
    with pytest.raises(errors.ResourceTypeInUse, match="Resource type vm is still in use"):
        resource_types.delete(database, "vm")
    resources.delete(database, "vm", resource.id)
    resource_types.delete(database, "vm")
    resource_types.create(database, type_of("vm", a={"type": "string"}))


def test_every_change_counts_and_failures_do_not(database: Database) -> None:
    def count() -> int:
        return catalog.state(database).resource_types

    before = count()
    resource_types.create(database, type_of())
    assert count() == before + 1
    with pytest.raises(errors.ResourceTypeAlreadyExists):
        resource_types.create(database, type_of())
    resource_types.update(database, "vm", [])
    with pytest.raises(errors.Invalid):
        resource_types.update(database, "vm", [remove("missing")])
    assert count() == before + 1
    resource_types.update(database, "vm", [add("a", type="string", required=False)])
    resource_types.delete(database, "vm")
    assert count() == before + 3


# ------------------------------------------------------------------ changes


def test_new_attribute_fills_present_and_past(database: Database) -> None:
    resource_types.create(database, type_of(host={"type": "string"}))
    resource = stored(database, host="h")
    changed = resource_types.update(
        database,
        "vm",
        [add("site", type="string", fill="lab"), add("rack", type="uuid", required=False)],
    )
    assert changed == resource_types.get(database, "vm")
    assert versions(database, resource) == [{"host": "h", "site": "lab", "rack": None}] * 2


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"type": "string", "fill": "ü'\"\\ 𝓁\n"}, "ü'\"\\ 𝓁\n"),
        ({"type": "number", "fill": 2**62 + 1}, 2**62 + 1),
        ({"type": "number", "fill": -0.1}, -0.1),
        ({"type": "number", "fill": 0}, 0),
        ({"type": "bool", "fill": False}, False),
        ({"type": "bool", "fill": True}, True),
        ({"type": "uuid", "fill": "F" * 32}, "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        ({"type": "datetime", "fill": "2020-01-01T00:00:00.000001"}, 1577836800000001),
    ],
)
def test_fill_keeps_its_value_and_kind(
    database: Database, definition: dict[str, Any], expected: Any
) -> None:
    resource_types.create(database, type_of())
    resource = stored(database)
    resource_types.update(database, "vm", [add("a b", **definition)])
    found = versions(database, resource)
    assert found == [{"a b": expected}] * 2
    assert type(found[0]["a b"]) is type(expected)


def test_fill_of_an_existing_attribute_replaces_nulls_only(database: Database) -> None:
    resource_types.create(database, type_of(site={"type": "string", "required": False}))
    has, has_not = stored(database, site="dc"), stored(database)
    resource_types.update(database, "vm", [add("site", type="string", fill="lab")])
    assert versions(database, has) == [{"site": "dc"}] * 2
    assert versions(database, has_not) == [{"site": "lab"}] * 2


def test_fill_alone_is_a_change(database: Database) -> None:
    definition = {"type": "string", "required": False}
    resource_types.create(database, type_of(site=definition))
    has, has_not = stored(database, site="dc"), stored(database)
    resource_types.update(database, "vm", [add("site", **definition, fill="lab")])
    assert versions(database, has) == [{"site": "dc"}] * 2
    assert versions(database, has_not) == [{"site": "lab"}] * 2


def test_removed_attribute_is_gone_for_good(database: Database) -> None:
    definition = {"type": "string", "required": False}
    resource_types.create(database, type_of(a=definition, b=definition))
    resource = stored(database, a="x", b="y")
    resource_types.update(database, "vm", [remove("a")])
    assert versions(database, resource) == [{"b": "y"}] * 2
    resource_types.update(database, "vm", [add("a", **definition)])
    assert versions(database, resource) == [{"b": "y", "a": None}] * 2


def test_all_changes_at_once(database: Database) -> None:
    optional = {"type": "string", "required": False}
    resource_types.create(database, type_of(a=optional, b=optional, c=optional))
    resource = stored(database, a="1", b="2")
    resource_types.update(
        database,
        "vm",
        [remove("a"), add("c", type="string", fill="3"), add("d", type="number", fill=4)],
    )
    assert versions(database, resource) == [{"b": "2", "c": "3", "d": 4}] * 2


def test_resources_of_other_types_are_left_alone(database: Database) -> None:
    definition = {"type": "string", "required": False}
    resource_types.create(database, type_of("vm", a=definition))
    resource_types.create(database, type_of("other", a=definition))
    other = samples.stored_resource(database, type="other", attributes={"a": "x"})
    resource_types.update(database, "vm", [remove("a"), add("b", type="number", fill=1)])
    assert resources.get(database, "other", other.id) == other


def test_change_makes_no_revision(database: Database) -> None:
    resource_types.create(database, type_of())
    resource = stored(database)
    resource_types.update(database, "vm", [add("a", type="number", fill=1)])
    found = resources.get(database, "vm", resource.id)
    assert (found.revision_start, found.revision_end) == (resource.revision_start, None)
    assert len(versions(database, resource)) == 2


def test_process_that_knew_the_old_type_sees_the_new_one(database: Database) -> None:
    """Types are remembered beside the number of their last change."""
    resource_types.create(database, type_of(a={"type": "string", "required": False}))
    resource = stored(database, a="x")
    assert resources.get(database, "vm", resource.id).attributes == {"a": "x"}
    other = type(database)(database.url.render_as_string(hide_password=False))
    resource_types.update(other, "vm", [remove("a"), add("b", type="number", fill=1)])
    other.close()
    assert resources.get(database, "vm", resource.id).attributes == {"b": 1}
    [listed] = resources.list_(database, "generic", details=True, limit=9)
    assert listed.attributes == {"b": 1}
