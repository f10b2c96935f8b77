"""Whatever an expression says as a list, it says as a text, and what is none is none in both."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gnocchi.series.expression import InvalidOperations, parse
from gnocchi.series.operations import CELLWISE

# Words of a text: it has no quotes, so none with blanks or parentheses, and none that are empty.
words = st.text(
    st.characters(exclude_characters="() \t\r\n", exclude_categories=("Cs",)),
    min_size=1,
    max_size=4,
)
references = st.sampled_from(("a", "b", "cpu.*", "[ab]", "é", "1")) | words
methods = st.sampled_from(
    ("mean", "rate:mean", "count", "var", "last", "rate:last", "95pct", "rate:95pct", "wtf")
)
numbers = (
    st.integers(-3, 5)
    | st.integers()
    | st.floats()
    | st.sampled_from((60, 0.5, 10**25, "2", "2.0", "1e3", "-1", "nan", "0x1", "1_0", "1h", "W"))
    | words
)
wrong = st.none() | st.booleans() | st.just([])
# Not `metric`, whose references are texts in a text whatever they look like.
names = st.sampled_from(
    [*CELLWISE, "add", "×", "÷", "mod", "pow", "==", "≠", "ne", "≤", "ge", "absolute", "negative"]
) | st.sampled_from(("aggregate", "rolling", "resample", "rateofchange", "rateofchangesec", "nope"))


def operations() -> st.SearchStrategy[Any]:
    """Lists: most are expressions, others have something too much, too little or out of place."""
    pairs = st.tuples(references, methods).map(list)
    metrics = pairs.map(lambda pair: ["metric", *pair]) | st.lists(
        pairs, min_size=1, max_size=3
    ).map(lambda found: ["metric", *found])

    misfits = st.lists(pairs | references | st.just([]), max_size=3).map(
        lambda found: ["metric", *found]
    )

    def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        operand = inner | inner | numbers
        return st.one_of(
            st.tuples(names, operand).map(list),
            st.tuples(names, operand, operand).map(list),
            st.tuples(st.just("clip"), operand, numbers, operand).map(list),
            st.tuples(st.just("aggregate"), methods, inner).map(list),
            st.tuples(st.just("aggregate"), methods, metrics, metrics).map(list),
            st.tuples(st.just("rolling"), methods, numbers, inner).map(list),
            st.tuples(st.just("resample"), methods, numbers, inner).map(list),
            st.builds(
                lambda name, parts: [name, *parts],
                names,
                st.lists(operand | methods | wrong, max_size=4),
            ),
        )

    return st.recursive(metrics | misfits, larger, max_leaves=5)


def as_text(node: Any) -> str:
    """Write a list as a text."""
    if isinstance(node, list):
        return "(" + " ".join(map(as_text, node)) + ")"
    return str(node)


def outcome(operations: Any) -> tuple[str, str]:
    """The expression, or the error that the user is told."""
    try:
        # As text, because NaN differs from itself.
        return "", repr(parse(operations, max_depth=20))
    except InvalidOperations as error:
        return error.cause, error.reason


@settings(max_examples=300, deadline=None)
@given(node=operations())
def test_a_list_and_the_text_of_it_are_the_same_expression(node: Any) -> None:
    assert outcome(as_text(node)) == outcome(node)


@given(node=operations(), rest=st.text(max_size=8), blank=st.sampled_from((" ", "\n", "\t \r")))
def test_neither_blanks_nor_what_follows_matter_to_a_text(node: Any, rest: str, blank: str) -> None:
    text = as_text(node)
    assert outcome(blank + text.replace(" ", blank) + rest) == outcome(text)
