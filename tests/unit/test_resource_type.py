"""Resource types: definitions, values of attributes, patches, and values in filters."""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import pathlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnocchi import resource_type, times
from gnocchi.errors import Invalid, Misconfigured
from gnocchi.resource_type import (
    GENERIC,
    KINDS,
    LEGACY,
    Attribute,
    Bool,
    Datetime,
    InvalidInput,
    Number,
    ResourceType,
    String,
    Uuid,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ID = "4b6a1c2e-0d9f-4c1b-8a55-0f3e6d7c8b9a"
DAY = 86_400 * 10**6


def message(call: Callable[[], object]) -> str:
    """What a client is told, with the place if there is one."""
    with pytest.raises(Invalid) as caught:
        call()
    return str(caught.value)


def place(call: Callable[[], object]) -> list[str]:
    """Where the mistake is, as the API lists it."""
    with pytest.raises(InvalidInput) as caught:
        call()
    return [str(part) for part in caught.value.path]


def created(**attributes: dict[str, Any]) -> ResourceType:
    return ResourceType.from_json({"name": "t", "attributes": attributes})


# ------------------------------------------------------------------ definitions


def test_options_are_spelled_out_and_numbers_unchanged() -> None:
    body = {
        "name": "router",
        "attributes": {
            "serial": {"type": "string", "min_length": 4, "max_length": 20},
            "rack": {"type": "uuid", "required": False},
            "weight": {"type": "number", "required": False, "min": -2.3, "max": 3},
            "spare": {"type": "bool", "required": False},
            "bought": {"type": "datetime", "required": True},
            "note": {"type": "string"},
            "load": {"type": "number"},
        },
    }
    assert json.dumps(ResourceType.from_json(body).to_json()) == json.dumps(
        {
            "name": "router",
            "state": "active",
            "attributes": {
                "serial": {"type": "string", "required": True, "min_length": 4, "max_length": 20},
                "rack": {"type": "uuid", "required": False},
                "weight": {"type": "number", "required": False, "min": -2.3, "max": 3},
                "spare": {"type": "bool", "required": False},
                "bought": {"type": "datetime", "required": True},
                "note": {"type": "string", "required": True, "min_length": 0, "max_length": 256},
                "load": {"type": "number", "required": True, "min": None, "max": None},
            },
        }
    )


def test_attributes_may_be_missing() -> None:
    assert ResourceType.from_json({"name": "t"}) == ResourceType("t", {})


def test_generic_has_no_attributes() -> None:
    assert GENERIC.to_json() == {"name": "generic", "state": "active", "attributes": {}}


@pytest.mark.parametrize(
    ("body", "reason", "path"),
    [
        ([], "expected a dictionary", []),
        ({}, "required key not provided @ data['name']", ["name"]),
        ({"state": "active"}, "extra keys not allowed @ data['state']", ["state"]),
        ({"name": 5}, "expected str for dictionary value @ data['name']", ["name"]),
        (
            {"name": ""},
            "length of value must be at least 1 for dictionary value @ data['name']",
            ["name"],
        ),
        (
            {"name": "n" * 256},
            "length of value must be at most 255 for dictionary value @ data['name']",
            ["name"],
        ),
        ({"name": "a\0"}, "not a valid value for dictionary value @ data['name']", ["name"]),
        (
            {"name": "t", "attributes": []},
            "expected a dictionary for dictionary value @ data['attributes']",
            ["attributes"],
        ),
    ],
)
def test_bodies_that_are_no_type_are_refused(body: object, reason: str, path: list[str]) -> None:
    assert message(lambda: ResourceType.from_json(body)) == reason
    assert place(lambda: ResourceType.from_json(body)) == path


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        (5, "expected a dictionary for dictionary value @ data['attributes']['a']"),
        ({}, "required key not provided @ data['attributes']['a']['type']"),
        (
            {"type": "text"},
            "not a valid value for dictionary value @ data['attributes']['a']['type']",
        ),
        (
            {"type": ["uuid"]},
            "not a valid value for dictionary value @ data['attributes']['a']['type']",
        ),
        (
            {"type": "uuid", "required": 1},
            "expected bool for dictionary value @ data['attributes']['a']['required']",
        ),
        (
            {"type": "uuid", "min_length": 1},
            "extra keys not allowed @ data['attributes']['a']['min_length']",
        ),
        (
            {"type": "uuid", "options": {"fill": ID}},
            "extra keys not allowed @ data['attributes']['a']['options']",
        ),
        (
            {"type": "string", "min_length": "4"},
            "expected int for dictionary value @ data['attributes']['a']['min_length']",
        ),
        (
            {"type": "string", "min_length": -1},
            "value must be at least 0 for dictionary value @ data['attributes']['a']['min_length']",
        ),
        (
            {"type": "string", "max_length": 0},
            "value must be at least 1 for dictionary value @ data['attributes']['a']['max_length']",
        ),
        (
            {"type": "string", "max_length": 257},
            (
                "value must be at most 256 for dictionary value @ "
                "data['attributes']['a']['max_length']"
            ),
        ),
        (
            {"type": "string", "max_length": float("nan")},
            "expected int for dictionary value @ data['attributes']['a']['max_length']",
        ),
        (
            {"type": "number", "min": "4"},
            "expected Real for dictionary value @ data['attributes']['a']['min']",
        ),
        (
            {"type": "number", "max": float("inf")},
            "expected Real for dictionary value @ data['attributes']['a']['max']",
        ),
    ],
)
def test_definitions_are_checked(definition: Any, reason: str) -> None:
    assert message(lambda: created(a=definition)) == reason


@pytest.mark.parametrize(
    ("definition", "least", "greatest"),
    [
        ({"type": "number", "min": 5, "max": 2}, "5", "2"),
        ({"type": "number", "min": 2.5, "max": -1}, "2.5", "-1"),
        ({"type": "string", "min_length": 5, "max_length": 2}, "5", "2"),
    ],
)
def test_least_is_not_above_greatest(definition: Any, least: str, greatest: str) -> None:
    assert message(lambda: created(a=definition)) == (
        f"Invalid input: Resource attribute value min (or min_length) {least} must be less  than "
        f"or equal to max (or max_length) {greatest}!"
    )


@pytest.mark.parametrize("name", ["a b", "new-optional-bool", "0", "a" * 63, "x☃", 'q"', "A/b"])
def test_names_start_with_a_letter_or_digit(name: str) -> None:
    assert list(created(**{name: {"type": "uuid"}}).attributes) == [name]


@pytest.mark.parametrize(
    "name",
    [
        *sorted(resource_type.RESERVED_NAMES),
        *("", "_a", "-a", " a", "é", "٣", "\n", "a" * 64, "a\0", "a\ud800"),
    ],
)
def test_other_names_are_refused(name: str) -> None:
    assert message(lambda: created(**{name: {"type": "uuid"}})) == (
        f"Invalid input: Resource attribute name {name} is invalid"
    )


def test_reserved_names_are_those_of_the_contract() -> None:
    assert sorted(resource_type.RESERVED_NAMES) == [
        "created_by_project_id",
        "created_by_user_id",
        "creator",
        "ended_at",
        "get_metric",
        "id",
        "metrics",
        "original_resource_id",
        "project_id",
        "revision",
        "revision_end",
        "revision_start",
        "started_at",
        "type",
        "user_id",
    ]


def test_the_shape_is_checked_before_names_and_limits() -> None:
    call = lambda: created(id={"type": "uuid"}, b={"type": "text"})  # noqa: E731
    assert message(call).startswith("not a valid value")


def test_one_definition_alone_has_its_own_places() -> None:
    assert Attribute.from_json("a", {"type": "bool"}) == Bool("a")
    assert place(lambda: Attribute.from_json("a", {"type": "bool", "x": 1})) == ["x"]


DEFINITIONS = st.one_of(
    st.builds(
        lambda required, lengths: {
            "type": "string",
            "required": required,
            "min_length": min(lengths),
            "max_length": max(1, *lengths),
        },
        st.booleans(),
        st.tuples(st.integers(0, 256), st.integers(0, 256)),
    ),
    st.builds(
        lambda required, least: {"type": "number", "required": required, "min": least, "max": None},
        st.booleans(),
        st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(-1e300, 1e300),
    ),
    st.builds(
        lambda kind, required: {"type": kind, "required": required},
        st.sampled_from(["uuid", "bool", "datetime"]),
        st.booleans(),
    ),
)


@given(st.dictionaries(st.from_regex(r"\A[a-h][a-z -]{1,5}\Z"), DEFINITIONS, max_size=4))
def test_types_survive_being_stored(attributes: dict[str, Any]) -> None:
    made = ResourceType.from_json({"name": "t", "attributes": attributes})
    assert json.dumps(made.definitions()) == json.dumps(attributes)
    assert ResourceType.from_stored("t", json.loads(json.dumps(made.definitions()))) == made


def test_types_stored_with_options_that_are_gone_can_be_read() -> None:
    stored = {"a": {"type": "uuid", "required": False, "version": 4}}
    assert ResourceType.from_stored("t", stored, "updating") == ResourceType(
        "t", {"a": Uuid("a", required=False)}, "updating"
    )


def test_types_stored_with_kinds_that_are_gone_are_for_the_operator() -> None:
    with pytest.raises(Misconfigured, match="'color', which is not installed"):
        ResourceType.from_stored("t", {"a": {"type": "color"}})


# ------------------------------------------------------------------ kinds


@pytest.mark.parametrize(
    ("attribute", "value", "stored"),
    [
        (String("a"), "", ""),
        (String("a"), "é☃" * 128, "é☃" * 128),
        (Uuid("a"), ID.upper(), ID),
        (Uuid("a"), ID.replace("-", ""), ID),
        (Uuid("a"), f"{{{ID}}}", ID),
        (Number("a"), 3, 3),
        (Number("a"), -2.5, -2.5),
        (Number("a"), 2**63 - 1, 2**63 - 1),
        (Number("a"), 2**63, 2.0**63),
        (Number("a", min=1, max=2), 1, 1),
        (Number("a", min=1, max=2), 2.0, 2.0),
        (Bool("a"), False, False),
        (Datetime("a"), "1970-01-02T00:00:00.0000019+00:00", DAY + 1),
        (Datetime("a"), "1970-01-02 02:00+02:00", DAY),
        (Datetime("a"), 86400, DAY),
        (Datetime("a"), "86400.5", DAY + 500_000),
    ],
)
def test_values_have_one_stored_form(attribute: Attribute, value: object, stored: object) -> None:
    made = attribute.validate(value)
    assert made == stored
    assert type(made) is type(stored)


@pytest.mark.parametrize(
    ("attribute", "value", "text"),
    [
        (String("a"), None, "expected str"),
        (String("a"), 5, "expected str"),
        (String("a"), "a\0", "not a valid value"),
        (String("a"), "a\udfff", "not a valid value"),
        (String("a", min_length=2), "a", "length of value must be at least 2"),
        (String("a", max_length=2), "abc", "length of value must be at most 2"),
        (Uuid("a"), None, "badly formed hexadecimal UUID string"),
        (Uuid("a"), "abc", "badly formed hexadecimal UUID string"),
        (Uuid("a"), 5, "badly formed hexadecimal UUID string"),
        (Number("a"), None, "expected Real"),
        (Number("a"), "5", "expected Real"),
        (Number("a"), True, "expected Real"),
        (Number("a"), [], "expected Real"),
        (Number("a"), float("nan"), "expected Real"),
        (Number("a"), float("-inf"), "expected Real"),
        (Number("a"), 10**400, "expected Real"),
        (Number("a", min=-2.3), -2.4, "value must be at least -2.3"),
        (Number("a", max=3), 4, "value must be at most 3"),
        (Bool("a"), None, "expected bool"),
        (Bool("a"), 1, "expected bool"),
        (Bool("a"), "true", "expected bool"),
        (Datetime("a"), None, "Unable to convert timestamps"),
        (Datetime("a"), "zz", "Unable to convert timestamps"),
        (Datetime("a"), True, "Unable to convert timestamps"),
        (Datetime("a"), {}, "Unable to convert timestamps"),
        (Datetime("a"), "1969-12-31", "Timestamp must be after Epoch"),
    ],
)
def test_other_values_are_refused(attribute: Attribute, value: object, text: str) -> None:
    assert message(lambda: attribute.validate(value)) == text


def test_datetimes_are_shown_as_iso() -> None:
    assert Datetime("a").shown(DAY) == "1970-01-02T00:00:00+00:00"
    assert Datetime("a").shown(DAY + 1) == "1970-01-02T00:00:00.000001+00:00"
    assert Datetime("a").shown(None) is None
    assert Number("a").shown(5) == 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ATTRIBUTES = st.sampled_from(
    [String("a", max_length=3), Uuid("a"), Number("a", min=0), Bool("a"), Datetime("a")]
)


@given(ATTRIBUTES, JSON | st.sampled_from([ID, "2024-01-01", "-1 day", 1e9]))
def test_any_value_is_stored_or_refused(attribute: Attribute, value: Any) -> None:
    try:
        stored = attribute.validate(value)
    except Invalid as error:
        refused = str(error)
        assert refused
    else:
        assert isinstance(stored, attribute.STORED | int)
        assert json.loads(json.dumps(stored)) == stored
        assert attribute.validate(attribute.shown(stored)) == stored


@given(st.integers(0, times.MAX_TIMESTAMP // 1000))
def test_what_is_shown_of_a_datetime_can_be_sent_back(stored: int) -> None:
    assert Datetime("a").validate(Datetime("a").shown(stored)) == stored


# ------------------------------------------------------------------ kinds of other packages


@dataclass(frozen=True, slots=True)
class Color(Attribute):
    """A kind that another package brings."""

    TYPE: ClassVar[str] = "color"
    STORED: ClassVar[type] = str

    def validate(self, value: object) -> str:
        if value not in ("red", "green"):
            raise Invalid("expected a color")
        return str(value)

    def comparable(self, value: str | float | bool, operator: str) -> str:
        return self.validate(value)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """What the entry points say: names and places."""
    entries: list[tuple[str, str]] = []

    def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
        return [importlib.metadata.EntryPoint(name, place, group) for name, place in entries]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    resource_type.kinds.cache_clear()
    yield entries
    resource_type.kinds.cache_clear()


def test_other_packages_can_bring_kinds(
    registered: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource_type, "Color", Color, raising=False)
    registered.append(("color", "gnocchi.resource_type:Color"))
    made = created(a={"type": "color"})
    assert made.attributes["a"].validate("red") == "red"
    assert made.definitions() == {"a": {"type": "color", "required": True}}


@pytest.mark.parametrize(
    "missing", ["no_such_module:Color", "gnocchi.resource_type:NoSuch", "gnocchi.times:now"]
)
def test_kinds_that_cannot_be_loaded_are_for_the_operator(
    registered: list[tuple[str, str]], missing: str
) -> None:
    registered.append(("color", missing))
    with pytest.raises(Misconfigured):
        created(a={"type": "uuid"})


def test_shipped_kinds_are_registered() -> None:
    setup = configparser.ConfigParser()
    setup.read(pathlib.Path(__file__).parents[2] / "setup.cfg")
    lines = setup["options.entry_points"]["gnocchi.indexer.sqlalchemy.resource_type_attribute"]
    entries = [line.split(" = ") for line in lines.strip().splitlines()]
    assert {
        name: importlib.metadata.EntryPoint(name, where, "").load() for name, where in entries
    } == KINDS


# ------------------------------------------------------------------ types of earlier days


def test_legacy_types() -> None:
    assert [kind.name for kind in LEGACY] == [
        *("image", "instance", "instance_disk", "instance_network_interface", "volume", "host"),
        *("host_network_interface", "host_disk", "swift_account", "ceph_account", "network"),
        *("identity", "ipmi", "stack"),
    ]
    kinds = {kind.name: kind.definitions() for kind in LEGACY}
    text = {"type": "string", "required": True, "min_length": 0, "max_length": 255}
    optional = text | {"required": False}
    assert kinds["instance"] == {
        "flavor_id": text,
        "image_ref": optional,
        "host": text,
        "display_name": text,
        "server_group": optional,
    }
    assert kinds["instance_disk"] == {
        "name": text,
        "instance_id": {"type": "uuid", "required": True},
    }
    assert kinds["volume"] == {"display_name": optional}
    assert kinds["host_disk"] == {"host_name": text, "device_name": optional}
    assert kinds["network"] == {}


def test_legacy_types_could_be_posted() -> None:
    for kind in LEGACY:
        body = {"name": kind.name, "attributes": kind.definitions()}
        assert ResourceType.from_json(body) == kind
