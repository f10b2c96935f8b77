"""What a JSON Patch makes of a resource type and of its resources."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnocchi.errors import Invalid
from gnocchi.resource_type import InvalidInput, Number, Patch, ResourceType, String, Uuid

if TYPE_CHECKING:
    from collections.abc import Callable

ID = "4b6a1c2e-0d9f-4c1b-8a55-0f3e6d7c8b9a"

VM = ResourceType(
    "vm", {"name": String("name"), "host": String("host", False, 0, 20), "cpus": Number("cpus")}
)


def add(name: str, **definition: Any) -> dict[str, Any]:
    return {"op": "add", "path": f"/attributes/{name}", "value": definition}


def remove(name: str) -> dict[str, Any]:
    return {"op": "remove", "path": f"/attributes/{name}"}


def refusal(call: Callable[[], object]) -> str:
    """The message of what is told as a plain text."""
    with pytest.raises(Invalid) as caught:
        call()
    assert not isinstance(caught.value, InvalidInput)
    return str(caught.value)


def unchanged(patch: Patch) -> bool:
    return (
        patch.resource_type == VM
        and list(patch.resource_type.attributes) == list(VM.attributes)
        and not patch.added
        and not patch.removed
        and not patch.filled
    )


# ------------------------------------------------------------------ new attributes


def test_new_optional_attribute_leaves_null() -> None:
    patch = VM.patched([add("rack", type="uuid", required=False)])
    assert patch.resource_type == ResourceType("vm", {**VM.attributes, "rack": Uuid("rack", False)})
    assert (patch.added, patch.removed, patch.filled) == ({"rack": None}, frozenset(), {})


@pytest.mark.parametrize("required", [True, False])
def test_new_attribute_can_be_filled(required: bool) -> None:
    rack = {"type": "uuid", "required": required, "options": {"fill": ID.upper()}}
    patch = VM.patched([add("rack", **rack)])
    assert patch.added == {"rack": ID}
    assert patch.filled == {}
    assert patch.resource_type.to_json()["attributes"]["rack"] == {
        "type": "uuid",
        "required": required,
    }


def test_fill_has_the_stored_form() -> None:
    patch = VM.patched([add("at", type="datetime", options={"fill": "1970-01-01T00:00:01"})])
    assert patch.added == {"at": 1_000_000}


def test_new_attributes_come_last_in_the_order_of_the_patch() -> None:
    operations = [add(name, type="bool", required=False) for name in ("z", "a")]
    attributes = VM.patched(operations).resource_type.attributes
    assert list(attributes) == ["name", "host", "cpus", "z", "a"]


@pytest.mark.parametrize("options", [{}, {"options": {}}, {"options": {"fill": None}}])
def test_new_required_attribute_must_be_filled(options: dict[str, Any]) -> None:
    assert refusal(lambda: VM.patched([add("missing", type="string", **options)])) == (
        "Invalid input: Option 'fill' of resource attribute missing is invalid: "
        "must not be empty if required=True"
    )


@pytest.mark.parametrize(
    ("definition", "fill", "reason"),
    [
        ({"type": "number"}, "a-string", "expected Real"),
        ({"type": "number", "max": 2}, 3, "value must be at most 2"),
        ({"type": "string"}, 5, "expected str"),
        ({"type": "string", "min_length": 2}, "a", "length of value must be at least 2"),
        ({"type": "uuid"}, "a", "badly formed hexadecimal UUID string"),
        ({"type": "bool"}, 0, "expected bool"),
        ({"type": "datetime"}, "zz", "Unable to convert timestamps"),
        ({"type": "bool", "required": False}, "x", "expected bool"),
    ],
)
def test_fill_is_a_value_of_the_attribute(
    definition: dict[str, Any], fill: object, reason: str
) -> None:
    assert refusal(
        lambda: VM.patched([add("incorrect", **definition, options={"fill": fill})])
    ) == (f"Invalid input: Option 'fill' of resource attribute incorrect is invalid: {reason}")


def test_new_names_are_checked() -> None:
    assert refusal(lambda: VM.patched([add("project_id", type="uuid", required=False)])) == (
        "Invalid input: Resource attribute name project_id is invalid"
    )


def test_new_limits_are_checked() -> None:
    operation = add("n", type="number", min=5, max=2, options={"fill": 5})
    assert refusal(lambda: VM.patched([operation])) == (
        "Invalid input: Resource attribute value min (or min_length) 5 must be less  than or "
        "equal to max (or max_length) 2!"
    )


def test_escapes_of_pointers_are_undone() -> None:
    patch = VM.patched([add("a~1b~01", type="bool", required=False)])
    assert list(patch.added) == ["a/b~1"]


# ------------------------------------------------------------------ changed attributes


def test_omitted_options_return_to_their_defaults() -> None:
    patch = VM.patched([add("host", type="string", required=False)])
    assert patch.resource_type.attributes["host"] == String("host", False, 0, 256)
    assert (patch.added, patch.removed, patch.filled) == ({}, frozenset(), {})
    assert list(patch.resource_type.attributes) == ["name", "host", "cpus"]


def test_attribute_can_become_optional() -> None:
    patch = VM.patched([add("name", type="string", required=False)])
    assert patch.resource_type.attributes["name"] == String("name", False)


def test_attribute_becomes_required_with_something_for_nulls() -> None:
    patch = VM.patched([add("host", type="string", options={"fill": "h1"})])
    assert patch.resource_type.attributes["host"] == String("host", True)
    assert (patch.added, patch.removed, patch.filled) == ({}, frozenset(), {"host": "h1"})


def test_attribute_does_not_become_required_without() -> None:
    assert refusal(lambda: VM.patched([add("host", type="string")])) == (
        "Invalid input: Option 'fill' of resource attribute host is invalid: "
        "must not be empty if required=True"
    )


def test_limits_of_required_attributes_change_without() -> None:
    patch = VM.patched([add("cpus", type="number", min=1)])
    assert patch.resource_type.attributes["cpus"] == Number("cpus", min=1)
    assert patch.filled == {}


def test_nulls_can_be_filled_without_a_change() -> None:
    host = {"type": "string", "required": False, "max_length": 20, "options": {"fill": "h1"}}
    patch = VM.patched([add("host", **host)])
    assert patch.resource_type == VM
    assert patch.filled == {"host": "h1"}


@pytest.mark.parametrize("first", [[], [remove("name")]])
def test_the_type_of_an_attribute_stays(first: list[dict[str, Any]]) -> None:
    assert refusal(lambda: VM.patched([*first, add("name", type="number", required=False)])) == (
        "Type update is not available yet. Changing string to number for attribute name of "
        "resource vm"
    )


# ------------------------------------------------------------------ removed attributes, no change


def test_removed_attributes() -> None:
    patch = VM.patched([remove("host"), remove("cpus")])
    assert patch.resource_type == ResourceType("vm", {"name": String("name")})
    assert (patch.added, patch.removed, patch.filled) == ({}, frozenset({"host", "cpus"}), {})


@pytest.mark.parametrize(
    "operations",
    [
        [],
        [add("new", type="string"), remove("new")],
        [add("name", type="string")],
        [add("name", type="string", required=True, min_length=0, max_length=256, options={})],
    ],
)
def test_patches_without_effect(operations: list[dict[str, Any]]) -> None:
    assert unchanged(VM.patched(operations))


def test_removing_and_adding_the_same_only_moves_it() -> None:
    patch = VM.patched([remove("name"), add("name", type="string")])
    assert patch.resource_type == VM
    assert (patch.added, patch.removed, patch.filled) == ({}, frozenset(), {})


@pytest.mark.parametrize(
    "operations",
    [
        [remove("what")],
        [remove("what"), add("what", type="bool", required=False)],
        [remove("name"), add("a", type="bool", required=False), remove("what")],
    ],
)
def test_unknown_attributes_cannot_be_removed(operations: list[dict[str, Any]]) -> None:
    assert refusal(lambda: VM.patched(operations)) == ("can't remove a non-existent object 'what'")


def test_operations_reach_into_definitions() -> None:
    patch = VM.patched([remove("host/max_length"), add("cpus/options", fill=4)])
    assert patch.resource_type.attributes["host"] == String("host", False)
    assert patch.filled == {"cpus": 4}
    assert refusal(lambda: VM.patched([remove("host/what")])) == (
        "can't remove a non-existent object 'what'"
    )
    assert refusal(lambda: VM.patched([remove("host/required/x")])) == (
        "member 'required' not found in the resource type"
    )


# ------------------------------------------------------------------ what is no patch


@pytest.mark.parametrize(
    ("operations", "reason", "path"),
    [
        ({}, "expected a list", []),
        (None, "expected a list", []),
        ([5], "expected a dictionary @ data[0]", ["0"]),
        (
            [{"op": "replace", "path": "/attributes/name", "value": {}}],
            "not a valid value for dictionary value @ data[0]['op']",
            ["0", "op"],
        ),
        (
            [{"op": ["add"], "path": "/attributes/name"}],
            "not a valid value for dictionary value @ data[0]['op']",
            ["0", "op"],
        ),
        (
            [remove("name"), {"op": "move"}],
            "not a valid value for dictionary value @ data[1]['op']",
            ["1", "op"],
        ),
        ([{}], "required key not provided @ data[0]['op']", ["0", "op"]),
        ([{"op": "add"}], "required key not provided @ data[0]['path']", ["0", "path"]),
        (
            [{"op": "remove", "path": 5}],
            "expected str for dictionary value @ data[0]['path']",
            ["0", "path"],
        ),
        (
            [{"op": "add", "path": "/attributes/a", "value": 5}],
            "expected dict for dictionary value @ data[0]['value']",
            ["0", "value"],
        ),
        (
            [{"op": "add", "from": "/attributes/a"}],
            "extra keys not allowed @ data[0]['from']",
            ["0", "from"],
        ),
    ],
)
def test_operations_are_checked(operations: object, reason: str, path: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        VM.patched(operations)
    assert str(caught.value) == reason
    assert [str(part) for part in caught.value.path] == path


@pytest.mark.parametrize(
    "pointer",
    ["", "/", "name", "/name", "/attributes", "/attributesx/a", "attributes/a", "/attributes/~2"],
)
def test_only_attributes_can_be_patched(pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        VM.patched([{"op": "remove", "path": pointer}])
    assert str(caught.value) == "not a valid value for dictionary value @ data[0]['path']"


def test_add_needs_a_value() -> None:
    assert refusal(lambda: VM.patched([{"op": "add", "path": "/attributes/a"}])) == (
        "The operation does not contain a 'value' member"
    )


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        (
            {"type": "text"},
            "not a valid value for dictionary value @ data['attributes']['d']['type']",
        ),
        ({}, "required key not provided @ data['attributes']['d']['type']"),
        ({"type": "bool", "x": 1}, "extra keys not allowed @ data['attributes']['d']['x']"),
        (
            {"type": "bool", "options": {"foo": 1}},
            "extra keys not allowed @ data['attributes']['d']['options']['foo']",
        ),
        (
            {"type": "bool", "options": []},
            "expected a dictionary for dictionary value @ data['attributes']['d']['options']",
        ),
    ],
)
def test_definitions_are_checked_after_all_operations(
    definition: dict[str, Any], reason: str
) -> None:
    assert refusal(lambda: VM.patched([add("d", **definition)])) == f"Invalid input: {reason}"
    assert unchanged(VM.patched([add("d", **definition), remove("d")]))


# ------------------------------------------------------------------ whatever is sent

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)
DEFINITIONS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "uuid", "number", "bool", "datetime"]) | VALUES,
        "required": st.booleans() | VALUES,
        "min": st.integers() | VALUES,
        "max_length": st.integers(-1, 300) | VALUES,
        "options": st.dictionaries(st.sampled_from(["fill", "x"]), VALUES) | VALUES,
    },
)
OPERATIONS = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["add", "add", "remove"]),
        "path": st.lists(
            st.sampled_from(["name", "host", "a", "b", "type", "options", "fill", "~1", "é", ""]),
            min_size=1,
            max_size=3,
        ).map(lambda parts: "/attributes/" + "/".join(parts)),
    },
    optional={"value": DEFINITIONS},
)


@given(st.lists(OPERATIONS, max_size=5) | st.lists(VALUES, max_size=2) | VALUES)
def test_any_patch_is_applied_or_refused_and_itself_unharmed(operations: Any) -> None:
    before = copy.deepcopy(operations)
    try:
        patch = VM.patched(operations)
    except Invalid as error:
        refused = str(error)
        assert refused
    else:
        old, new = VM.attributes, patch.resource_type.attributes
        assert set(patch.added) == set(new) - set(old)
        assert patch.removed == set(old) - set(new)
        assert set(patch.filled) <= set(old) & set(new)
        for name, fill in (patch.added | patch.filled).items():
            assert fill is not None or not new[name].required
        for name in set(old) & set(new):
            assert old[name].required or not new[name].required or name in patch.filled
        assert "options" not in str(patch.resource_type.to_json())
    assert repr(operations) == repr(before)
    assert VM.definitions()["host"]["max_length"] == 20
