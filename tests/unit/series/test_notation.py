"""The two notations of expressions, and what is no expression."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnocchi.series.expression import (
    Aggregate,
    Cellwise,
    Expression,
    InvalidOperations,
    Metrics,
    Number,
    RateOfChange,
    Resample,
    Rolling,
    parse,
    references,
    to_list,
)

A = Metrics((("a", "mean"),))
AB = Metrics((("a", "mean"), ("b", "max")))


def refused(operations: object, max_depth: int = 20) -> InvalidOperations:
    with pytest.raises(InvalidOperations) as caught:
        parse(operations, max_depth=max_depth)
    return caught.value


# ------------------------------------------------------------------ what is one


@pytest.mark.parametrize(
    ("as_list", "as_text", "expected"),
    [
        (["metric", "a", "mean"], "(metric a mean)", A),
        (["metric", ["a", "mean"]], "(metric (a mean))", A),
        (["metric", ["a", "mean"], ["b", "max"]], "(metric (a mean) (b max))", AB),
        (["+", 2, ["metric", "a", "mean"]], "(+ 2 (metric a mean))", Cellwise("+", (Number(2), A))),
        (
            ["clip", ["metric", "a", "mean"], "-1e3", 2.5],
            "(clip (metric a mean) -1e3 2.5)",
            Cellwise("clip", (A, Number(-1000), Number(2.5))),
        ),
        (
            ["aggregate", "rate:mean", ["metric", ["a", "mean"], ["b", "max"]]],
            "(aggregate rate:mean (metric (a mean) (b max)))",
            Aggregate("rate:mean", AB),
        ),
        (
            ["rolling", "var", 3, ["metric", "a", "mean"]],
            "(rolling var 3 (metric a mean))",
            Rolling("var", 3, A),
        ),
        (
            ["resample", "95pct", 60, ["metric", "a", "mean"]],
            "(resample 95pct 60 (metric a mean))",
            Resample("95pct", 60 * 10**9, A),
        ),
        (
            ["resample", "last", "1min", ["rateofchange", ["metric", "a", "mean"]]],
            "(resample last 1min (rateofchange (metric a mean)))",
            Resample("last", 60 * 10**9, RateOfChange(False, A)),
        ),
        (
            ["rateofchangesec", ["metric", "a", "mean"]],
            "(rateofchangesec (metric a mean))",
            RateOfChange(True, A),
        ),
        (
            ["abs", ["*", ["+", 1, 2], ["metric", "a", "mean"]]],
            "(abs (* (+ 1 2) (metric a mean)))",
            Cellwise("abs", (Cellwise("*", (Cellwise("+", (Number(1), Number(2))), A)),)),
        ),
    ],
)
def test_lists_and_texts_denote_the_same_expressions(
    as_list: object, as_text: str, expected: Expression
) -> None:
    assert parse(as_list, max_depth=20) == expected
    assert parse(as_text, max_depth=20) == expected


@pytest.mark.parametrize(
    ("name", "synonyms"),
    [
        ("+", "add"),
        ("-", "sub"),
        ("*", "× mul"),
        ("/", "÷ div"),
        ("%", "mod"),
        ("**", "^ pow"),
        ("=", "== eq"),
        ("!=", "≠ ne"),
        ("<", "lt"),
        (">", "gt"),
        ("<=", "≤ le"),
        (">=", "≥ ge"),
        ("max", "max"),
        ("min", "min"),
        ("clip_min", "clip_min"),
        ("clip_max", "clip_max"),
    ],
)
def test_synonyms_denote_the_same_binary_operation(name: str, synonyms: str) -> None:
    for spelling in (name, *synonyms.split()):
        expression = parse(f"({spelling} (metric a mean) 1)", max_depth=20)
        assert expression == Cellwise(name, (A, Number(1)))


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        *(("abs", each) for each in ("abs", "absolute")),
        *(("neg", each) for each in ("neg", "negative")),
        *((each, each) for each in ("cos", "sin", "tan", "floor", "ceil")),
    ],
)
def test_unary_operations_take_one_operand(name: str, spelling: str) -> None:
    assert parse([spelling, ["metric", "a", "mean"]], max_depth=20) == Cellwise(name, (A,))


@pytest.mark.parametrize("blanks", [" ", "\n", " \t\r\n "])
def test_blanks_of_any_kind_and_number_part_words(blanks: str) -> None:
    text = blanks + "(metric a mean)".replace(" ", blanks).replace(")", blanks + ")")
    assert parse(text, max_depth=20) == A


@pytest.mark.parametrize("rest", [")", " (", " and so on", "(metric b mean)"])
def test_what_follows_the_first_expression_of_a_text_is_ignored(rest: str) -> None:
    assert parse("(metric a mean)" + rest, max_depth=20) == A


def test_references_need_the_list_for_blanks_and_parentheses() -> None:
    assert references(parse(["metric", "a (b)", "mean"], max_depth=20)) == [("a (b)", "mean")]


def test_references_are_distinct_and_in_order_of_appearance() -> None:
    text = "(+ (metric (c x) (a y) (c x)) (* (metric a x) (metric c x)))"
    assert references(parse(text, max_depth=20)) == [("c", "x"), ("a", "y"), ("a", "x")]


@pytest.mark.parametrize("window", [3, "3", 3.0, "3.0", "3e0", "+3"])
def test_a_window_is_a_whole_number(window: object) -> None:
    expression = parse(["rolling", "mean", window, ["metric", "a", "mean"]], max_depth=20)
    assert expression == Rolling("mean", 3, A)
    assert parse(f"(rolling mean {window} (metric a mean))", max_depth=20) == expression


METHODS = ["mean", "median", "std", "min", "max", "sum", "var", "count"]


@pytest.mark.parametrize("method", METHODS)
def test_methods_across_series_exist_for_rates_too(method: str) -> None:
    for name in (method, f"rate:{method}"):
        assert parse(f"(aggregate {name} (metric a mean))", max_depth=20) == Aggregate(name, A)
        assert parse(f"(rolling {name} 2 (metric a mean))", max_depth=20) == Rolling(name, 2, A)


def test_the_caller_may_allow_other_methods_across_series() -> None:
    expression = parse(
        "(aggregate last (metric a mean))", max_depth=20, methods=frozenset(["last"])
    )
    assert expression == Aggregate("last", A)


@pytest.mark.parametrize(
    "operations",
    [
        ["metric", "a", "mean"],
        ["metric", ["a", "mean"], ["b", "max"]],
        ["rolling", "rate:std", 4, ["+", 1.0, ["metric", "a", "mean"]]],
        ["resample", "9pct", 0.5, ["rateofchangesec", ["metric", "a", "mean"]]],
        ["aggregate", "sum", ["rateofchange", ["metric", "a", "mean"]]],
    ],
)
def test_an_expression_can_be_written_as_a_list_again(operations: object) -> None:
    assert to_list(parse(operations, max_depth=20)) == operations


# ------------------------------------------------------------------ what is none


@pytest.mark.parametrize(
    ("operations", "reason"),
    [
        ([], "Operation must not be empty for dictionary value @ data['operations']"),
        ("()", "Operation must not be empty for dictionary value @ data['operations']"),
        ({}, "Expected a tuple/list, got a <class 'dict'> for dictionary value"),
        (3, "Expected a tuple/list, got a <class 'int'> for dictionary value"),
        (None, "Expected a tuple/list, got a <class 'NoneType'> for dictionary value"),
        (["metric"], "Operation need at least one argument for dictionary value"),
        ("(abs)", "Operation need at least one argument for dictionary value"),
    ],
)
def test_an_operation_is_a_list_with_arguments(operations: object, reason: str) -> None:
    error = refused(operations)
    assert error.reason.startswith(reason)
    assert (error.cause, error.detail) == ("Invalid input", ["operations"])


METRIC = ["metric", "a", "mean"]


@pytest.mark.parametrize(
    ("operations", "name"),
    [
        (["notexist", METRIC], "notexist"),
        (["abs", ["notexist", METRIC]], "abs"),
        (["+", METRIC], "+"),
        (["add", METRIC, 1, 2], "add"),
        (["abs", METRIC, 1], "abs"),
        (["clip", METRIC], "clip"),
        (["clip_min", METRIC], "clip_min"),
        (["clip", METRIC, 1, 2, 3], "clip"),
        (["aggregate", METRIC], "aggregate"),
        (["aggregate", "last", METRIC], "aggregate"),
        (["aggregate", "95pct", METRIC], "aggregate"),
        (["aggregate", ["mean"], METRIC], "aggregate"),
        (["aggregate", "mean", [METRIC, METRIC]], "aggregate"),
        (["rolling", "mean", METRIC], "rolling"),
        (["rolling", "first", 2, METRIC], "rolling"),
        (["rolling", "mean", 0, METRIC], "rolling"),
        (["rolling", "mean", 2.5, METRIC], "rolling"),
        (["rolling", "mean", True, METRIC], "rolling"),
        (["rolling", "mean", "two", METRIC], "rolling"),
        (["rolling", "mean", "-1", METRIC], "rolling"),
        (["rolling", "mean", "2.5", METRIC], "rolling"),
        (["rolling", "mean", "nan", METRIC], "rolling"),
        (["rolling", "mean", "9" * 5000, METRIC], "rolling"),
        (["rolling", "mean", "²", METRIC], "rolling"),
        (["resample", "var", 60, METRIC], "resample"),
        (["resample", "rate:first", 60, METRIC], "resample"),
        (["resample", "rate:var", 60, METRIC], "resample"),
        (["resample", "100pct", 60, METRIC], "resample"),
        (["resample", "mean", 0, METRIC], "resample"),
        (["resample", "mean", "W", METRIC], "resample"),
        (["resample", "mean", None, METRIC], "resample"),
        (["+", METRIC, "one"], "+"),
        (["+", METRIC, None], "+"),
        (["+", METRIC, True], "+"),
        (["+", METRIC, {}], "+"),
        (["+", METRIC, []], "+"),
        (["+", METRIC, 10**400], "+"),
        (["+", METRIC, "1_0"], "+"),
        (["metric", "a"], "metric"),
        (["metric", "a", "mean", "b"], "metric"),
        (["metric", ["a"]], "metric"),
        (["metric", [["a", "mean"], ["b", "mean"]]], "metric"),
        (["metric", "a", 3], "metric"),
        (["metric", ["a", "mean"], None], "metric"),
        (["sum", ["metric", ["a", "mean", 1]]], "sum"),
        ([METRIC, METRIC], "list"),
        ("(metric ((a mean) (b mean)))", "metric"),
        ("(aggregate mean ((metric a mean) (metric b mean)))", "aggregate"),
        ("(+ (metric a mean) ())", "+"),
        (["*", METRIC, ["rateofchange", 3]], "*"),
        (["*", METRIC, ["aggregate", "mean", ["+", 1, 2]]], "*"),
    ],
)
def test_an_error_anywhere_names_the_outermost_operation(operations: object, name: str) -> None:
    error = refused(operations)
    assert error.reason == (f"'{name}' operation invalid for dictionary value @ data['operations']")
    assert (error.cause, error.detail) == ("Invalid input", ["operations"])


@pytest.mark.parametrize(
    ("operations", "detail"),
    [
        (["+", 1, 2], ["+", 1, 2]),
        ("(abs -3)", ["abs", "-3"]),
        (["aggregate", "mean", 1], ["aggregate", "mean", 1]),
    ],
)
def test_an_expression_without_a_metric_is_refused(operations: object, detail: object) -> None:
    error = refused(operations)
    assert error.cause == "Operations is invalid"
    assert error.reason == "At least one 'metric' is required"
    assert error.detail == detail


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "Expected '(' (at char 0)"),
        ("metric a mean", "Expected '(' (at char 0)"),
        (") (metric a mean)", "Expected '(' (at char 0)"),
        ("(metric a mean", "Expected ')' (at char 14)"),
        ("(abs (metric a mean)", "Expected ')' (at char 20)"),
    ],
)
def test_a_text_without_a_complete_list_cannot_be_parsed(text: str, detail: str) -> None:
    error = refused(text)
    assert error.cause == "Invalid operations"
    assert error.reason == "Fail to parse the operations string"
    assert error.detail == detail


def nested(levels: int) -> list[object]:
    operations: list[object] = ["metric", "a", "mean"]
    for _ in range(levels - 1):
        operations = ["abs", operations]
    return operations


def test_operations_may_be_nested_as_deeply_as_allowed() -> None:
    assert references(parse(nested(5), max_depth=5)) == [("a", "mean")]
    assert refused(nested(6), max_depth=5).reason.startswith(
        "nested too deeply (more than 5 levels)"
    )


@pytest.mark.parametrize("levels", [1_000, 100_000])
@pytest.mark.parametrize("max_depth", [20, 10**9])
def test_however_deep_a_nest_is_it_is_refused_cleanly(levels: int, max_depth: int) -> None:
    assert "nested too deeply" in refused(nested(levels), max_depth).reason
    assert "nested too deeply" in refused("(abs " * levels + ")" * levels, max_depth).reason


def test_what_is_as_deep_as_ever_allowed_can_be_used() -> None:
    expression = parse(nested(100), max_depth=10**9)
    assert expression == parse(to_list(expression), max_depth=100)
    assert hash(expression) == hash(parse(nested(100), max_depth=100))


def test_too_many_operations_are_refused() -> None:
    def tree(levels: int) -> list[object]:
        return ["+", tree(levels - 1), tree(levels - 1)] if levels else METRIC

    assert references(parse(tree(8), max_depth=20)) == [("a", "mean")]
    assert "more than 1000 operations" in refused(tree(9)).reason


json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["metric", "+", "abs", "aggregate", "rolling", "resample", "mean", "60"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=20,
)


def is_expression_or_refused(operations: object) -> bool:
    try:
        return bool(references(parse(operations, max_depth=20)))
    except InvalidOperations as error:
        causes = ("Invalid input", "Invalid operations", "Operations is invalid")
        return bool(error.reason) and error.cause in causes


@settings(deadline=None)
@given(operations=json)
def test_any_document_is_an_expression_or_refused(operations: object) -> None:
    assert is_expression_or_refused(operations)


@settings(deadline=None)
@given(text=st.text("() \nmetricab+1é", max_size=40))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    assert is_expression_or_refused(text)
