"""What filters on resources compare stored values with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnocchi import times
from gnocchi.errors import Invalid
from gnocchi.resource_type import (
    GENERIC,
    Bool,
    Datetime,
    Number,
    ResourceType,
    String,
    Uuid,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ID = "4b6a1c2e-0d9f-4c1b-8a55-0f3e6d7c8b9a"
DAY = 86_400 * 10**6
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**1024), 2**1024)
    | st.floats()
    | st.text()
    | st.sampled_from([ID, "2.5", "true", "2024-01-01", "-1 day", "1e999", "9" * 200])
)


def message(call: Callable[[], object]) -> str:
    """What a client is told."""
    with pytest.raises(Invalid) as caught:
        call()
    return str(caught.value)


ROUTER = ResourceType(
    "t",
    {
        "serial": String("serial"),
        "rack": Uuid("rack"),
        "weight": Number("weight"),
        "spare": Bool("spare"),
        "bought": Datetime("bought"),
    },
)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("serial", "x", "x"),
        ("serial", 5, "5"),
        ("serial", True, "true"),
        ("rack", ID.upper(), ID),
        ("weight", "2.5", 2.5),
        ("weight", " 7 ", 7),
        ("weight", "9223372036854775807", 2**63 - 1),
        ("weight", "-9223372036854775808", -(2**63)),
        ("weight", "9223372036854775808", 2.0**63),
        ("weight", 2**64, 2.0**64),
        ("spare", True, True),
        ("spare", "false", False),
        ("bought", "1970-01-02", DAY),
        ("bought", 86400, DAY),
        ("id", ID, UUID(ID)),
        ("type", "router", "router"),
        ("creator", "a:b", "a:b"),
        ("created_by_user_id", "a", "a"),
        ("created_by_project_id", "a", "a"),
        ("user_id", "a", "a"),
        ("started_at", "1970-01-02", DAY),
        ("ended_at", "1970-01-02", DAY),
        ("revision_start", "1970-01-02", DAY),
        ("revision_end", "1970-01-02", DAY),
        ("revision", -1, -1),
        ("revision", "2", 2),
        ("revision", 2.0, 2),
        ("lifespan", "30 min", 1_800_000_000),
        ("lifespan", 0.5, 500_000),
        ("lifespan", 0, 0),
        ("serial", None, None),
        ("ended_at", None, None),
        ("created_by_user_id", None, None),
    ],
)
def test_values_are_converted_to_the_type_of_the_field(
    name: str, value: Any, expected: object
) -> None:
    made = ROUTER.search_value(name, value)
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("serial", "a\0"),
        ("rack", "x"),
        ("rack", 5),
        ("weight", "x"),
        ("weight", True),
        ("weight", float("inf")),
        ("weight", "1e999"),
        ("spare", "maybe"),
        ("spare", 2),
        ("bought", "zz"),
        ("bought", "1969-12-31"),
        ("id", "web-01"),
        ("id", None),
        ("id", 5),
        ("revision", 1.5),
        ("revision", "x"),
        ("revision", 2**63),
        ("lifespan", "soon"),
        ("lifespan", True),
        ("user_id", "\ud800"),
    ],
)
def test_values_that_cannot_be_converted_are_refused(name: str, value: Any) -> None:
    assert message(lambda: ROUTER.search_value(name, value)) == (
        f"Invalid value: `{value}' for field `{name}'"
    )


@pytest.mark.parametrize("name", ["serial", "type", "creator", "created_by_user_id", "project_id"])
def test_texts_have_patterns(name: str) -> None:
    assert ROUTER.search_value(name, "a%", "like") == "a%"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rack", ID),
        ("weight", 5),
        ("spare", True),
        ("bought", "2024"),
        ("id", ID),
        ("started_at", "2024"),
        ("revision", 1),
        ("lifespan", 1),
        ("serial", None),
        ("created_by_user_id", None),
    ],
)
def test_nothing_else_has(name: str, value: Any) -> None:
    assert message(lambda: ROUTER.search_value(name, value, "like")) == (
        f"Invalid value: `{value}' for field `{name}'"
    )


@pytest.mark.parametrize("operator", ["<", ">", "<=", ">=", "in"])
def test_halves_of_the_creator_only_have_equality_and_patterns(operator: str) -> None:
    assert message(lambda: ROUTER.search_value("created_by_user_id", "x", operator)) == (
        "Invalid value: `x' for field `created_by_user_id'"
    )


@pytest.mark.parametrize("name", ["foobar", "metrics", "etag", "revision", "revision_end"])
def test_unknown_fields_are_refused(name: str) -> None:
    assert message(lambda: ROUTER.search_value(name, "x", history=False)) == (
        f"Resource type t has no {name} attribute"
    )
    assert message(lambda: GENERIC.search_value("serial", None)) == (
        "Resource type generic has no serial attribute"
    )


def test_an_attribute_hides_the_lifespan() -> None:
    made = ResourceType("t", {"lifespan": String("lifespan")})
    assert made.search_value("lifespan", "long") == "long"


@given(
    st.integers(0, 9 * 10**15),
    st.integers(0, 9 * 10**18) | st.integers(-2000, 2000),
    st.sampled_from(["<", "<=", ">", ">="]),
)
def test_order_of_instants_is_that_of_nanoseconds(stored: int, ns: int, operator: str) -> None:
    ns = abs(ns) if abs(ns) > 2000 else abs(stored * 1000 + ns)
    orders: dict[str, Callable[[Any, Any], bool]] = {
        "<": lambda left, right: left < right,
        "<=": lambda left, right: left <= right,
        ">": lambda left, right: left > right,
        ">=": lambda left, right: left >= right,
    }
    value = times.format_timestamp(ns)
    compared = ROUTER.search_value("bought", value, operator)
    assert orders[operator](stored, compared) is orders[operator](stored * 1000, ns)


@given(
    st.sampled_from([*ROUTER.attributes, "id", "type", "started_at", "revision", "lifespan"]),
    SCALARS,
    st.sampled_from(["=", "!=", "<", ">", "<=", ">=", "like", "in"]),
)
def test_any_value_in_a_filter_is_converted_or_refused(
    name: str, value: Any, operator: str
) -> None:
    try:
        made = ROUTER.search_value(name, value, operator)
    except Invalid as error:
        refused = str(error)
        assert refused.startswith("Invalid value: `")
    else:
        assert made is None or isinstance(made, str | int | float | UUID)
        assert not isinstance(made, int) or -(2**63) <= made < 2**63
