"""In which order the operands of an expression are computed, which bounds the memory it takes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from gnocchi.series.expression import Expression, evaluate, parse
from gnocchi.series.table import Table
from gnocchi.series.tree import Cellwise, tables_needed

A = "(metric a mean)"
CELLS = 500_000
TABLE = Table(1, np.arange(CELLS), np.linspace(0.0, 1.0, CELLS)[None])
SELECT = {("a", "mean"): [0]}


def nested(levels: int, *, deep_first: bool) -> Expression:
    """Build a sum whose operands are a new series and a sum one level deeper, in either order."""
    text = A
    for _ in range(levels):
        text = f"(+ {text} (neg {A}))" if deep_first else f"(+ (neg {A}) {text})"
    return parse(text, max_depth=100)


def peak_in_tables(expression: Expression) -> float:
    tracemalloc.start()
    try:
        evaluate(expression, TABLE, SELECT)
        return tracemalloc.get_traced_memory()[1] / TABLE.values.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("deep_first", [True, False])
def test_memory_does_not_grow_with_the_depth(deep_first: bool) -> None:
    assert peak_in_tables(nested(40, deep_first=deep_first)) < 5


def test_the_order_of_computation_does_not_change_which_operand_is_which() -> None:
    values = TABLE.values
    for text, expected in (
        (f"(- (neg {A}) (* 2 (abs (neg {A}))))", -3 * values),
        (f"(- (* 2 (abs (neg {A}))) (neg {A}))", 3 * values),
        (f"(clip 0.5 (* 0 {A}) (+ (neg {A}) (* 2 {A})))", np.minimum(0.5, values)),
    ):
        found = evaluate(parse(text, max_depth=20), TABLE, SELECT)
        np.testing.assert_array_equal(found.table.values, expected)


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        (A, 1),
        (f"(neg {A})", 1),
        (f"(+ 1 {A})", 1),
        (f"(+ {A} {A})", 2),
        (f"(+ {A} (+ {A} (+ {A} {A})))", 2),
        (f"(+ (+ {A} {A}) (+ {A} {A}))", 3),
        (f"(clip {A} {A} {A})", 3),
        (f"(aggregate sum (rolling mean 2 (+ {A} {A})))", 2),
    ],
)
def test_tables_are_needed_at_once_for_the_widest_part_only(text: str, needed: int) -> None:
    assert tables_needed(parse(text, max_depth=20)) == needed


def test_several_operands_of_an_aggregation_are_one_list_of_series() -> None:
    joined = parse("(aggregate sum (metric (a mean) (b max)))", max_depth=20)
    for operations in (
        "(aggregate sum (metric a mean) (metric b max))",
        ["aggregate", "sum", ["metric", "a", "mean"], ["metric", ["b", "max"], ["a", "mean"]]],
    ):
        assert parse(operations, max_depth=20) == joined
    inside = parse("(* 2 (aggregate sum (metric a mean) (metric b max)))", max_depth=20)
    assert isinstance(inside, Cellwise)
    assert inside.operands[1] == joined
