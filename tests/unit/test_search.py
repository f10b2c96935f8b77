"""Filters on resources: what JSON and texts say, and how they are refused."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gnocchi import model, search
from gnocchi.errors import Invalid
from gnocchi.search import (
    And,
    Comparison,
    Everything,
    In,
    InvalidFilter,
    Node,
    Not,
    Or,
    from_json,
    from_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

ID = "4b6a1c2e-0d9f-4c1b-8a55-0f3e6d7c8b9a"
A, B, C = (Comparison("=", name, 1) for name in "abc")


def refusal(document: object) -> tuple[str, list[str]]:
    """What the API tells about a document: the reason and the place."""
    with pytest.raises(InvalidFilter) as caught:
        from_json(document)
    return str(caught.value), [str(part) for part in caught.value.path]


def of_alice(text: str) -> UUID:
    return model.resource_id(text, "alice")


def text_refusal(text: str) -> str:
    with pytest.raises(Invalid) as caught:
        from_text(text)
    return str(caught.value)


# ------------------------------------------------------------------ writers, the way back

TO_SIGN = {"<=": "≤", ">=": "≥", "!=": "≠"}
TO_WORD = {"=": "eq", "!=": "ne", "<": "lt", ">": "gt", "<=": "le", ">=": "ge", "like": "like"}
SPELLINGS = st.sampled_from([{}, TO_SIGN, TO_WORD])


def to_json(node: Node, spelling: dict[str, str] | None = None) -> dict[str, Any]:
    match node:
        case Comparison(operator, field, value):
            return {(spelling or {}).get(operator, operator): {field: value}}
        case In(field, values):
            return {"in": {field: list(values)}}
        case And(nodes):
            return {"∧" if spelling else "and": [to_json(n, spelling) for n in nodes]}
        case Or(nodes):
            return {"∨" if spelling else "or": [to_json(n, spelling) for n in nodes]}
        case Not(inner):
            return {"not": to_json(inner, spelling)}
    return {}


def term(value: search.Scalar) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        quote = '"' if "'" in value else "'"
        return f"{quote}{value}{quote}"
    return repr(value)


def to_text(node: Node, spelling: dict[str, str] | None = None) -> str:
    match node:
        case Comparison(operator, field, value):
            return f"{term(field)} {(spelling or {}).get(operator, operator)} {term(value)}"
        case In(field, values):
            return f"{term(field)} in [{', '.join(map(term, values))}]"
        case And(nodes):
            sign = "∧" if spelling else "and"
            return f" {sign} ".join(f"({to_text(n, spelling)})" for n in nodes)
        case Or(nodes):
            sign = "∨" if spelling else "or"
            return f" {sign} ".join(f"({to_text(n, spelling)})" for n in nodes)
        case Not(inner):
            return f"not ({to_text(inner, spelling)})"
    raise AssertionError(node)


PLAIN_TEXT = st.text(st.characters(exclude_characters="'"), max_size=8) | st.text(
    st.characters(exclude_characters='"'), max_size=8
)
FIELDS = st.sampled_from(["host", "a_b1", "in", "not", "null", "a-b", ""]) | PLAIN_TEXT
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**19) + 1, 10**19 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | PLAIN_TEXT
)


def trees(parts: int) -> st.SearchStrategy[Node]:
    """Trees whose conjunctions and disjunctions have at least so many parts."""
    comparisons = st.builds(
        Comparison,
        st.sampled_from(search.COMPARISONS),
        FIELDS.filter(lambda name: name != "id"),
        SCALARS,
    )
    lists = st.builds(
        In,
        FIELDS.filter(lambda name: name != "id"),
        st.lists(SCALARS, min_size=1, max_size=3).map(tuple),
    )

    def larger(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        several = st.lists(inner, min_size=parts, max_size=4).map(tuple)
        return st.builds(And, several) | st.builds(Or, several) | st.builds(Not, inner)

    return st.recursive(comparisons | lists, larger, max_leaves=15)


def same(one: Node, other: Node) -> bool:
    """Equality that tells 1 from 1.0 and from true."""
    return repr(one) == repr(other)


@given(trees(parts=1), SPELLINGS)
def test_tree_survives_json(tree: Node, spelling: dict[str, str]) -> None:
    text = json.dumps(to_json(tree, spelling))
    assert same(from_json(json.loads(text)), tree)


@given(trees(parts=2), SPELLINGS)
def test_tree_survives_text(tree: Node, spelling: dict[str, str]) -> None:
    assert same(from_text(to_text(tree, spelling)), tree)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["=", "in", "like", "and", "∨", "not", "id", "host"])
            | st.text(max_size=3),
            inner,
            max_size=2,
        )
    ),
    max_leaves=12,
)


def outcome(read: Callable[..., Node], source: object) -> Node | str:
    """The tree, or the message of the refusal. Any other exception is one of the test."""
    try:
        return read(source, resource_id=of_alice)
    except InvalidFilter as error:
        return f"Invalid input: {error}"
    except Invalid as error:
        return str(error)


REFUSALS = ("Invalid input: ", "Invalid filter: ", "Invalid value: ", "Unable to parse this query")


@given(JSON)
@example({"=": {"n": 10**5000}})
@example({"=": {"id": 10**5000}})
@example({"in": {"id": [float("nan")]}})
def test_any_json_gives_a_tree_or_is_refused(document: Any) -> None:
    read = outcome(from_json, document)
    if isinstance(read, str):
        assert read.startswith(REFUSALS)
    else:
        # Reading what was read gives the same: ids have become what they stay.
        assert same(from_json(to_json(read), resource_id=of_alice), read)


WORDS = st.sampled_from(
    f"""a id not and or ∧ ∨ in like eq = != ≥ < ( ) [ ] , ' " 'x' 1 -1.5e3 null true . {ID}
    {ID.replace("-", "")}""".split()
)


@given(st.text() | st.lists(WORDS, max_size=12).map(" ".join) | st.lists(WORDS).map("".join))
def test_any_text_gives_a_tree_or_is_refused(text: str) -> None:
    read = outcome(from_text, text)
    if isinstance(read, str):
        assert read.startswith(REFUSALS[:3])
    else:
        assert not isinstance(read, Everything)


# ------------------------------------------------------------------ JSON


@pytest.mark.parametrize(
    ("name", "synonyms"),
    [
        ("=", ["=", "==", "eq"]),
        ("!=", ["!=", "≠", "ne"]),
        ("<", ["<", "lt"]),
        (">", [">", "gt"]),
        ("<=", ["<=", "≤", "le"]),
        (">=", [">=", "≥", "ge"]),
    ],
)
def test_synonyms_of_comparisons_have_one_name(name: str, synonyms: list[str]) -> None:
    for synonym in synonyms:
        assert from_json({synonym: {"host": "x"}}) == Comparison(name, "host", "x")


def test_connectives_have_signs() -> None:
    a, b = {"=": {"a": 1}}, {"=": {"b": 1}}
    assert from_json({"∧": [a, b]}) == from_json({"and": [a, b]}) == And((A, B))
    assert from_json({"∨": [a, b]}) == from_json({"or": [a, b]}) == Or((A, B))


def test_empty_object_is_everything() -> None:
    assert from_json({}) == Everything()


@pytest.mark.parametrize("outer", [{"and": [{}]}, {"or": [{"=": {"a": 1}}, {}]}, {"not": {}}])
def test_empty_object_inside_of_a_filter_is_refused(outer: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=r"^Unable to parse this query$") as caught:
        from_json(outer)
    assert not isinstance(caught.value, InvalidFilter)


def test_other_mistakes_are_told_before_an_empty_filter() -> None:
    assert refusal({"and": [{}, {"foo": 1}]})[0] == "not a valid value @ data['and'][1]['foo']"


@pytest.mark.parametrize(
    ("document", "reason", "path"),
    [
        ([], "expected a dictionary", []),
        (None, "expected a dictionary", []),
        ("a", "expected a dictionary", []),
        (
            {"wrongoperator": {"a": 1}},
            "not a valid value @ data['wrongoperator']",
            ["wrongoperator"],
        ),
        ({"and": {}}, "expected a list for dictionary value @ data['and']", ["and"]),
        (
            {"and": []},
            "length of value must be at least 1 for dictionary value @ data['and']",
            ["and"],
        ),
        (
            {"or": []},
            "length of value must be at least 1 for dictionary value @ data['or']",
            ["or"],
        ),
        (
            {"or": [{"not": {"and": [[]]}}]},
            "expected a dictionary @ data['or'][0]['not']['and'][0]",
            ["or", "0", "not", "and", "0"],
        ),
        ({"not": []}, "expected a dictionary for dictionary value @ data['not']", ["not"]),
        (
            {"=": {"a": 1}, "!=": {"a": 1}},
            "length of value must be at most 1",
            [],
        ),
        (
            {"not": {"=": {"a": 1}, "!=": {"a": 1}}},
            "length of value must be at most 1 for dictionary value @ data['not']",
            ["not"],
        ),
        (
            {"<": {"a": 1, "b": 1}},
            "length of value must be at most 1 for dictionary value @ data['<']",
            ["<"],
        ),
        (
            {"<": {}},
            "length of value must be at least 1 for dictionary value @ data['<']",
            ["<"],
        ),
        ({"<": "a"}, "expected a dictionary for dictionary value @ data['<']", ["<"]),
        (
            {"ne": {"project_id": ["a"]}},
            "expected str for dictionary value @ data['ne']['project_id']",
            ["ne", "project_id"],
        ),
        (
            {"=": {"id": {}}},
            "expected str for dictionary value @ data['=']['id']",
            ["=", "id"],
        ),
        (
            {"like": {"id": "a%"}},
            "value must not be one of ['id'] @ data['like']['id']",
            ["like", "id"],
        ),
        (
            {"like": {"id": ["a%"]}},
            "value must not be one of ['id'] @ data['like']['id']",
            ["like", "id"],
        ),
        (
            {"in": {"id": []}},
            "length of value must be at least 1 for dictionary value @ data['in']['id']",
            ["in", "id"],
        ),
        (
            {"in": {}},
            "length of value must be at least 1 for dictionary value @ data['in']",
            ["in"],
        ),
        (
            {"in": {"host": "a"}},
            "expected a list for dictionary value @ data['in']['host']",
            ["in", "host"],
        ),
        (
            {"in": {"host": ["a", ["b"]]}},
            "expected str @ data['in']['host'][1]",
            ["in", "host", "1"],
        ),
    ],
)
def test_what_is_no_filter_is_refused_with_its_place(
    document: object, reason: str, path: list[str]
) -> None:
    assert refusal(document) == (reason, path)


def test_reason_is_apart_from_the_place() -> None:
    with pytest.raises(InvalidFilter) as caught:
        from_json({"not": []})
    assert caught.value.reason == "expected a dictionary for dictionary value"


def test_error_can_be_placed_in_a_larger_document() -> None:
    error = InvalidFilter("not a valid value", ("foo",)).inside("search")
    assert isinstance(error, InvalidFilter)
    assert str(error) == "not a valid value @ data['search']['foo']"
    whole = InvalidFilter("expected a dictionary").inside("search")
    assert str(whole) == "expected a dictionary for dictionary value @ data['search']"


def test_ids_are_transformed_like_everywhere() -> None:
    web = "00f1ad93-aa3f-5ce6-99eb-6e8558c61632"
    assert from_json({"=": {"id": "web-01"}}, resource_id=of_alice) == Comparison("=", "id", web)
    assert from_text(f"id in ['web-01', {ID.replace('-', '')}]", resource_id=of_alice) == In(
        "id", (web, ID)
    )


def test_ids_that_can_be_none_are_refused_with_their_place() -> None:
    with pytest.raises(InvalidFilter) as caught:
        from_json({"in": {"id": ["a", "b/c"]}}, resource_id=of_alice)
    assert str(caught.value) == "'/' is not supported in resource id @ data['in']['id'][1]"


@pytest.mark.parametrize("value", [5, None, True])
def test_ids_are_texts(value: object) -> None:
    with pytest.raises(Invalid) as caught:
        from_json({"=": {"id": value}})
    assert str(caught.value) == f"Invalid value: `{value}' for field `id'"


# ------------------------------------------------------------------ texts


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        (f"id in [{ID}, {ID}]", In("id", (ID, ID))),
        (f"not id in [{ID}]", Not(In("id", (ID,)))),
        (f"id={ID}", Comparison("=", "id", ID)),
        (
            "id = deadbeef00000000deadbeef00000000",
            Comparison("=", "id", "deadbeef00000000" * 2),
        ),
        ("user_id='x'", Comparison("=", "user_id", "x")),
        ("host like 'h%'", Comparison("like", "host", "h%")),
        ('host like"h%"', Comparison("like", "host", "h%")),
        ("revision_end = null", Comparison("=", "revision_end", None)),
        ("lifespan >= '30 min'", Comparison(">=", "lifespan", "30 min")),
        ("a = None", Comparison("=", "a", None)),
        ("a = none", Comparison("=", "a", None)),
        ("a = True", Comparison("=", "a", True)),
        ("a = false", Comparison("=", "a", False)),
        ("a = nullable", Comparison("=", "a", "nullable")),
        ("a = trueish", Comparison("=", "a", "trueish")),
        ("nonesuch = 1", Comparison("=", "nonesuch", 1)),
        ("inner in [1]", In("inner", (1,))),
        ("notes = 1", Comparison("=", "notes", 1)),
        ("a = and and b = 1", And((Comparison("=", "a", "and"), B))),
        ("a ≥ -1.5e3", Comparison(">=", "a", -1500.0)),
        ("a ≠ +7", Comparison("!=", "a", 7)),
        ("a = 9007199254740993", Comparison("=", "a", 9007199254740993)),
        ("a = 1 and b = 1 or c = 1", Or((And((A, B)), C))),
        ("a = 1 or b = 1 and c = 1", Or((A, And((B, C))))),
        ("a = 1 ∨ b = 1 ∧ c = 1", Or((A, And((B, C))))),
        ("a = 1 or b = 1 ∧ c = 1", Or((A, And((B, C))))),
        ("a = 1 and b = 1 ∧ c = 1", And((A, B, C))),
        ("a = 1 and (b = 1 or c = 1)", And((A, Or((B, C))))),
        ("not a = 1 and b = 1", And((Not(A), B))),
        ("not (a = 1 and b = 1)", Not(And((A, B)))),
        ("not not a = 1", Not(Not(A))),
        ("((a = 1))", A),
        ("\t a=1\n and\r(b=1)and c=1 ", And((A, B, C))),
        ("'a-b' = 1", Comparison("=", "a-b", 1)),
    ],
)
def test_texts_say_filters(text: str, tree: Node) -> None:
    assert same(from_text(text), tree)


@pytest.mark.parametrize("sign", ["=", "!=", "<", ">", "<=", ">=", "≠", "≤", "≥"])
def test_signs_need_no_blanks(sign: str) -> None:
    assert same(from_text(f"a{sign}1"), from_json({sign: {"a": 1}}))


@pytest.mark.parametrize("word", ["eq", "ne", "lt", "gt", "le", "ge", "like"])
def test_words_are_operators(word: str) -> None:
    assert same(from_text(f"a {word} b"), from_json({word: {"a": "b"}}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expected a field, found end of text  (at char 0)"),
        ("  ", "Expected a field, found end of text  (at char 2)"),
        ("id == foobar", "Expected a value, found '='  (at char 4)"),
        ("id", "Expected an operator, found end of text  (at char 2)"),
        ("id = ", "Expected a value, found end of text  (at char 5)"),
        ("id ~ 1", "Expected an operator, found '~ 1'  (at char 3)"),
        ("id LIKE 'a'", "Expected an operator, found 'LIKE'  (at char 3)"),
        ("5 = 5", "Expected a field, found '5'  (at char 0)"),
        ("a = 1 b = 1", "Expected end of text, found 'b'  (at char 6)"),
        ("a = 1)", "Expected end of text, found ')'  (at char 5)"),
        ("(a = 1", "Expected ')', found end of text  (at char 6)"),
        ("(a = 1 b = 1)", "Expected ')', found 'b'  (at char 7)"),
        ("a = 1 and", "Expected a field, found end of text  (at char 9)"),
        ("a = 1 AND b = 1", "Expected end of text, found 'AND'  (at char 6)"),
        ("a = 'x", 'Expected a value, found "\'x"  (at char 4)'),
        ("a = 5x", "Expected a value, found '5x'  (at char 4)"),
        ("a = 1.", "Expected a value, found '1.'  (at char 4)"),
        ("a-b = 1", "Expected an operator, found '-b = 1'  (at char 1)"),
        ("a in [1, 2", "Expected ',' or ']', found end of text  (at char 10)"),
        ("a in [1 2]", "Expected ',' or ']', found '2'  (at char 8)"),
        ("a in [1,]", "Expected a value, found ']'  (at char 8)"),
        ("a in (1)", "Expected a value, found '('  (at char 5)"),
        ("started_at > 2024-01-01", "Expected end of text, found '-01'  (at char 17)"),
    ],
)
def test_what_does_not_fit_the_grammar_is_refused(text: str, message: str) -> None:
    assert text_refusal(text) == f"Invalid filter: {message}"


def test_long_texts_are_quoted_in_part() -> None:
    assert len(text_refusal("a = 1 " + "b" * 1000)) < 120


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "id in []",
            "length of value must be at least 1 for dictionary value @ data['in']['id']",
        ),
        ("host = [a]", "expected str for dictionary value @ data['=']['host']"),
        ("host in a", "expected a list for dictionary value @ data['in']['host']"),
        ("host in [[a]]", "expected str @ data['in']['host'][0]"),
        ("id like 'a%'", "value must not be one of ['id'] @ data['like']['id']"),
    ],
)
def test_what_a_text_says_is_checked_like_json(text: str, reason: str) -> None:
    assert text_refusal(text) == reason


# ------------------------------------------------------------------ limits


def nested(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {"=": {"a": 1}}
    for _ in range(levels - 1):
        document = {"not": document}
    return document


def test_trees_are_bounded_in_depth() -> None:
    from_json(nested(search.MAX_DEPTH))
    for levels in (search.MAX_DEPTH + 1, 100_000):
        with pytest.raises(Invalid, match=r"^Invalid filter: more than 50 levels deep$"):
            from_json(nested(levels))


@pytest.mark.parametrize("opening", ["(", "not ", "not(", "not ((not ", "a=[", "a in [[["])
def test_texts_are_bounded_in_depth(opening: str) -> None:
    text = opening + opening[-1] * 100_000 if "[" in opening else opening * 100_000
    assert text_refusal(text) == "Invalid filter: more than 50 levels deep"


def test_parentheses_up_to_the_limit_are_fine() -> None:
    assert from_text("(" * 49 + "a = 1" + ")" * 49) == A
    assert text_refusal("(" * 50 + "a = 1" + ")" * 50).endswith("levels deep")


def test_trees_are_bounded_in_nodes() -> None:
    conditions = [{"=": {"a": 1}}] * (search.MAX_NODES - 1)
    assert isinstance(from_json({"or": conditions}), Or)
    assert isinstance(from_text("a = 1 or " * (search.MAX_NODES - 2) + "a = 1"), Or)
    with pytest.raises(Invalid, match=r"^Invalid filter: more than 10000 conditions$"):
        from_json({"or": [*conditions, {"=": {"a": 1}}]})
    message = "Invalid filter: more than 10000 conditions"
    assert text_refusal("a = 1 or " * (search.MAX_NODES - 1) + "a = 1") == message
    assert text_refusal("a = 1 or " * 100_000) == message


def test_lists_are_bounded_all_together() -> None:
    half = {"in": {"a": [1] * (search.MAX_VALUES // 2)}}
    assert isinstance(from_json({"or": [half, half]}), Or)
    with pytest.raises(Invalid, match=r"^Invalid filter: more than 20000 values in lists$"):
        from_json({"or": [half, half, {"in": {"a": [1]}}]})
    values = ",".join("1" * search.MAX_VALUES)
    assert isinstance(from_text(f"a in [{values}]"), In)
    assert text_refusal(f"a in [{values},1]").endswith("more than 20000 values in lists")
    assert text_refusal("a in [" + "1," * 400_000).endswith("more than 20000 values in lists")


def test_texts_are_bounded_in_length() -> None:
    assert from_text("a = 1".ljust(search.MAX_TEXT)) == A
    assert text_refusal("a = 1".ljust(search.MAX_TEXT + 1)).endswith("1000000 characters")


# fmt: off
HOSTILE = [
    "(", "not ", "a", "1", "1.", "1e", "'", '"', "' ", " ", "a=1 and ", "a=1 or(", "0123abcd-",
    "a in [", "[", "-", "a=1.1e1", "≤", "a=[1,", "(a=1)or", "1.1e1",
]
# fmt: on


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("before", ["", "a=", "a in ["])
def test_reading_takes_time_in_proportion_to_the_text(before: str, piece: str) -> None:
    def seconds(length: int) -> float:
        text = before + piece * (length // len(piece))
        started = time.process_time()
        outcome(from_text, text)
        return time.process_time() - started

    # Quadratic reading would take 256 times as long, and minutes.
    assert seconds(800_000) < 64 * max(seconds(50_000), 0.01)
