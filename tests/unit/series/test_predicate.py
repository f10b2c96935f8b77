"""Conditions on values."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnocchi.series.predicate import MAX_NODES, InvalidPredicate, parse

if TYPE_CHECKING:
    from collections.abc import Callable

VALUES = [1.0, 2.0, 4.0, 10.0]


def hits(body: object, values: list[float] = VALUES) -> list[float]:
    array = np.array(values, dtype=np.float64)
    return array[parse(body).matches(array)].tolist()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"≥": 2}, [2, 4, 10]),
        ({"=": [{"%": 3}, 1]}, [1, 4, 10]),
        ({">": [{"*": 2}, 3]}, [2, 4, 10]),
        ({">=": [{"+": 23}, 27]}, [4, 10]),
        ({"≠": [5, {"-": -1}]}, [1, 2, 10]),
        ({"=": [{"-": 6}, 4]}, [10]),
        ({"and": [{">": 1}, {"<=": [{"/": 2}, 2]}]}, [2, 4]),
        ({"or": [{"<": 2}, {"=": 10}]}, [1, 10]),
        ({"and": []}, VALUES),
        ({"or": []}, []),
        ({"not": {"=": 2}}, [1, 4, 10]),
        ({"not": [{"or": [{"<": 2}, {">": 4}]}]}, [2, 4]),
        ({"-": 2}, [1, 4, 10]),
        ({"%": [10, {"*": 1}]}, [4]),
        ({"=": [{"**": 2}, 16]}, [4]),
        ({"<": [{"+": [{"*": 2}, {"-": 1}]}, 10]}, [1, 2]),
        ({"=": [{">": 3}, 1]}, [4, 10]),
        ({"=": [1, 1]}, VALUES),
        ({"=": [1, 2]}, []),
    ],
)
def test_values_that_satisfy_a_condition_are_found(body: object, expected: list[float]) -> None:
    assert hits(body) == expected


COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "= == eq": operator.eq,
    "!= ≠ ne": operator.ne,
    "< lt": operator.lt,
    "> gt": operator.gt,
    "<= ≤ le": operator.le,
    ">= ≥ ge": operator.ge,
}
ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+ add": operator.add,
    "- sub": operator.sub,
    "* × mul": operator.mul,
    "/ ÷ div": operator.truediv,
    "% mod": operator.mod,
    "** ^ pow": operator.pow,
}


@pytest.mark.parametrize("names", COMPARISONS)
def test_synonyms_compare_alike(names: str) -> None:
    expected = [value for value in VALUES if COMPARISONS[names](value, 4)]
    for name in names.split():
        assert hits({name: 4}) == expected
        assert hits({name: [{"+": 0}, 4]}) == expected


@pytest.mark.parametrize("names", ARITHMETIC)
def test_synonyms_compute_alike(names: str) -> None:
    for name in names.split():
        for value in VALUES:
            assert hits({"=": [{name: 3}, ARITHMETIC[names](value, 3)]}, [value]) == [value]


@pytest.mark.parametrize("names", ["and ∧", "or ∨"])
def test_synonyms_join_alike(names: str) -> None:
    for name in names.split():
        assert hits({name: [{"=": 4}]}) == [4]


def test_a_value_that_is_no_number_satisfies_inequality_only() -> None:
    for name in ("=", "<", ">", "<=", ">="):
        assert hits({name: 1}, [math.nan]) == []
    assert len(hits({"!=": 1}, [math.nan])) == 1


def test_a_computation_without_a_result_does_not_hold() -> None:
    assert hits({"/": 0}, [0.0, 1.0]) == [1.0]
    assert hits({"%": 0}, [0.0, 1.0]) == []


def test_infinities_compare_like_numbers() -> None:
    assert hits({">": 1e300}, [1.0, math.inf, -math.inf]) == [math.inf]


@pytest.mark.parametrize("count", [0, 1, 600_000])
def test_any_number_of_values_can_be_searched(count: int) -> None:
    values = np.arange(count, dtype=np.float64)
    expected = values % 7 == 3
    np.testing.assert_array_equal(parse({"=": [{"%": 7}, 3]}).matches(values), expected)


@given(
    values=st.lists(st.floats(-100, 100), max_size=20),
    low=st.integers(-100, 100),
    high=st.integers(-100, 100),
)
def test_negation_swaps_and_with_or(values: list[float], low: int, high: int) -> None:
    conjunction = {"not": {"and": [{">": low}, {"<": high}]}}
    disjunction = {"or": [{"<=": low}, {">=": high}]}
    assert hits(conjunction, values) == hits(disjunction, values)
    assert hits(conjunction, values) == [v for v in values if not low < v < high]


NUMPY: dict[str, Callable[..., Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "%": np.mod, "**": np.power,
    "=": np.equal, "!=": np.not_equal, "<": np.less, ">": np.greater, "<=": np.less_equal,
    ">=": np.greater_equal,
}  # fmt: skip
numbers = st.integers(-3, 3) | st.floats(-100, 100).map(lambda number: round(number, 2))
trees = st.recursive(
    st.builds(lambda name, number: {name: number}, st.sampled_from(list(NUMPY)), numbers),
    lambda node: (
        st.builds(
            lambda name, *sides: {name: list(sides)},
            st.sampled_from(list(NUMPY)),
            node | numbers,
            node | numbers,
        )
        | st.builds(
            lambda name, nodes: {name: nodes},
            st.sampled_from(["and", "or"]),
            st.lists(node, max_size=3),
        )
        | st.builds(lambda one: {"not": one}, node)
    ),
    max_leaves=6,
)


def by_numpy(tree: Any, values: np.ndarray) -> np.ndarray:
    """What a side of an operation is worth, as float64."""
    if not isinstance(tree, dict):
        return np.full(len(values), float(tree))
    ((name, operand),) = tree.items()
    if name in NUMPY:
        sides = operand if isinstance(operand, list) else [None, operand]
        left, right = (values if side is None else by_numpy(side, values) for side in sides)
        return np.asarray(NUMPY[name](left, right), np.float64)
    nodes = operand if isinstance(operand, list) else [operand]
    truths = [true(by_numpy(node, values)) for node in nodes]
    if name == "not":
        return np.logical_not(truths[0]).astype(np.float64)
    both = np.logical_and if name == "and" else np.logical_or
    start = np.full(len(values), name == "and")
    return np.asarray(both.reduce([start, *truths]), np.float64)


def true(numbers: np.ndarray) -> np.ndarray:
    return np.nan_to_num(numbers, nan=0.0) != 0


@given(tree=trees, values=st.lists(numbers | st.sampled_from([math.inf, -math.inf, math.nan])))
def test_any_condition_is_what_numpy_says(tree: Any, values: list[float]) -> None:
    array = np.array(values, np.float64)
    with np.errstate(all="ignore"):
        expected = true(by_numpy(tree, array))
    assert parse(tree).matches(array).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (None, "expected a dictionary"),
        ([], "expected a dictionary"),
        (3, "expected a dictionary"),
        ({}, "length of value must be at least 1"),
        ({">": 1, "<": 2}, "length of value must be at most 1"),
        ({"foo": 1}, "not a valid value @ data['foo']"),
        ({"max": 1}, "not a valid value @ data['max']"),
        ({"=": "1"}, "expected float for dictionary value @ data['=']"),
        ({"=": None}, "expected float for dictionary value @ data['=']"),
        ({"=": True}, "expected float for dictionary value @ data['=']"),
        ({"=": {"+": 1}}, "expected float for dictionary value @ data['=']"),
        ({"=": 10**400}, "expected float for dictionary value @ data['=']"),
        ({"=": []}, "expected float for dictionary value @ data['=']"),
        ({"=": [1]}, "expected float for dictionary value @ data['=']"),
        ({"=": [1, 2, 3]}, "expected float for dictionary value @ data['=']"),
        ({"=": [1, "2"]}, "expected float for dictionary value @ data['=']"),
        ({"and": {"=": 1}}, "expected a list for dictionary value @ data['and']"),
        ({"and": [{"=": 1}, 3]}, "expected a dictionary @ data['and'][1]"),
        ({"or": [{"foo": 1}]}, "not a valid value @ data['or'][0]['foo']"),
        ({"=": [{"foo": 1}, 2]}, "not a valid value @ data['='][0]['foo']"),
        ({"not": 3}, "expected a dictionary for dictionary value @ data['not']"),
        ({"not": []}, "length of value must be at least 1 for dictionary value @ data['not']"),
        ({"not": [{"=": 1}, {"=": 2}]}, "length of value must be at most 1 for dictionary value"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_place(body: object, text: str) -> None:
    with pytest.raises(InvalidPredicate) as caught:
        parse(body)
    assert str(caught.value).startswith(text)


def nested(levels: int) -> object:
    body: object = {"=": 4}
    for _ in range(levels - 1):
        body = {"not": body}
    return body


def test_conditions_may_be_nested_as_deeply_as_allowed() -> None:
    assert parse(nested(5), 5).matches(np.array([4.0])).tolist() == [True]
    with pytest.raises(InvalidPredicate, match=r"nested too deeply \(more than 5 levels\)"):
        parse(nested(6), 5)


@pytest.mark.parametrize("levels", [101, 100_000])
def test_however_deep_a_condition_is_it_is_refused_cleanly(levels: int) -> None:
    assert parse(nested(100), 10**9).matches(np.array([4.0])).tolist() == [False]
    with pytest.raises(InvalidPredicate, match="nested too deeply"):
        parse(nested(levels), 10**9)


def test_too_large_conditions_are_refused() -> None:
    most = {"or": [{"=": 2}] * (MAX_NODES - 1)}
    assert hits(most) == [2.0]
    with pytest.raises(InvalidPredicate, match="more than 1000 operations"):
        parse({"or": [most, {"=": 1}]})
