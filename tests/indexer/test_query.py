"""Filters of resources mean the same on every database."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from gnocchi import errors, search
from gnocchi.indexer import resource_types, resources
from gnocchi.resource_type import ResourceType
from tests.indexer import samples

if TYPE_CHECKING:
    from gnocchi.indexer.database import Database

KIND = ResourceType.from_json(
    {
        "name": "vm",
        "attributes": {
            "host": {"type": "string", "required": False},
            "size": {"type": "number", "required": False},
            "on": {"type": "bool", "required": False},
            "rack": {"type": "uuid", "required": False},
            "bought": {"type": "datetime", "required": False},
            '0 "o.d\'d" [*] \\ %né$': {"type": "string", "required": False},
        },
    }
)
ODD = '0 "o.d\'d" [*] \\ %né$'
DAY = 86_400_000_000


def name_of(number: int) -> str:
    return str(uuid.UUID(int=number))


class World:
    """Resources that are called by one letter each: their ``original_resource_id``."""

    def __init__(self, db: Database) -> None:
        self.db = db
        resource_types.create(db, KIND)

    def add(self, letter: str, attributes: dict[str, Any] | None = None, **fields: Any) -> None:
        values = {"type": "vm", "id": uuid.UUID(int=ord(letter))} | fields
        samples.stored_resource(
            self.db, original_resource_id=letter, attributes=attributes or {}, **values
        )

    def find(self, document: Any, kind: str = "vm", **options: Any) -> str:
        found = resources.list_(
            self.db, kind, filter=search.from_json(document), limit=99,
            sorts=[("original_resource_id", "asc")],
            **options,
        )  # fmt: skip
        return "".join(one.original_resource_id for one in found)


@pytest.fixture
def world(database: Database) -> World:
    """An empty one."""
    return World(database)


def check(world: World, *cases: tuple[Any, str]) -> None:
    for document, expected in cases:
        assert world.find(document) == expected, document


def attribute(name: str, *cases: tuple[str, Any, str]) -> list[tuple[Any, str]]:
    return [({operator: {name: value}}, expected) for operator, value, expected in cases]


# ------------------------------------------------------------------ kinds of values


def test_text_compares_whole_and_by_code_point(world: World) -> None:
    values = ["A", "a", "a ", "é", "e\N{COMBINING ACUTE ACCENT}", "𝓁", "", "1", "true", None]
    for letter, value in zip("abcdefghij", values, strict=True):
        world.add(letter, {"host": value, ODD: value}, user_id=value)
    for name in ("host", ODD, "user_id"):
        check(
            world,
            *attribute(
                name,
                ("=", "A", "a"), ("=", "a", "b"), ("=", "a ", "c"), ("=", "é", "d"),
                ("=", "𝓁", "f"), ("=", "", "g"), ("=", "b", ""), ("!=", "a", "acdefghij"),
                ("<", "a", "agh"), ("<=", "a", "abgh"), (">", "a ", "defi"), (">=", "é", "df"),
                ("=", None, "j"), ("!=", None, "abcdefghi"), ("<", None, ""),
                ("in", ["a", "é", "x"], "bd"), ("in", ["", None], "g"), ("in", [None], ""),
            ),
        )  # fmt: skip


def test_numbers_compare_by_value(world: World) -> None:
    values = [0, 2, 2.5, -2.3, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 1e300, 1e-30, None]
    for letter, value in zip("abcdefghijk", values, strict=True):
        world.add(letter, {"size": value})
    check(
        world,
        *attribute(
            "size",
            ("=", 2, "b"), ("=", 2.0, "b"), ("=", "2", "b"), ("=", "2.50", "c"), ("=", -2.3, "d"),
            ("=", 2**53, "e"), ("=", 2**53 + 1, "f"), ("=", 2**63 - 1, "g"), ("=", 2**63 - 2, ""),
            ("=", -(2**63), "h"), ("=", 1e300, "i"), ("=", 1e-30, "j"), ("=", 0, "a"),
            ("=", -0.0, "a"), ("=", None, "k"), ("!=", 2, "acdefghijk"), ("!=", None, "abcdefghij"),
            (">", 2, "cefgi"), (">=", 2, "bcefgi"), ("<", 0, "dh"), ("<", 1e-29, "adhj"),
            ("<=", 2**53, "abcdehj"), (">", 2**53, "fgi"), ("<", 2**53 + 1, "abcdehj"),
            ("in", [2, "2.5", 2**53 + 1], "bcf"), ("in", [2.0, None], "b"), ("in", [7], ""),
        ),
        ({"not": {"in": {"size": [2, 2.5]}}}, "adefghij"),
        ({"not": {"in": {"size": [2**53 + 1, 0]}}}, "bcdeghij"),
        ({"not": {"=": {"size": 2}}}, "acdefghij"),
        ({"not": {">": {"size": 2}}}, "abdhj"),
    )  # fmt: skip


def test_numbers_come_back_as_they_were_stored(world: World) -> None:
    values = [0, 2.5, -2.3, 2**53 + 1, -(2**63), 1e300, 1e-30, 3, 3.0, 1e15 + 0.5]
    for number, value in enumerate(values):
        world.add(chr(97 + number), {"size": value})
    found = resources.list_(world.db, "vm", limit=99, sorts=[("id", "asc")])
    assert [one.attributes["size"] for one in found] == values


def test_booleans(world: World) -> None:
    for letter, value in zip("abc", [True, False, None], strict=True):
        world.add(letter, {"on": value})
    check(
        world,
        *attribute(
            "on",
            ("=", True, "a"), ("=", False, "b"), ("=", "yes", "a"), ("!=", True, "bc"),
            ("=", None, "c"), ("!=", None, "ab"), ("in", [True, False], "ab"), ("in", [0], "b"),
            ("<", True, "b"), (">=", False, "ab"),
        ),
        ({"not": {"=": {"on": True}}}, "b"),
        ({"not": {"in": {"on": [True]}}}, "b"),
    )  # fmt: skip


def test_uuids(world: World) -> None:
    for number, letter in enumerate("abc"):
        world.add(letter, {"rack": name_of(number)})
    world.add("d")
    check(
        world,
        *attribute(
            "rack",
            ("=", name_of(1), "b"), ("=", name_of(1).replace("-", "").upper(), "b"),
            ("!=", name_of(1), "acd"), ("in", [name_of(0), "{" + name_of(2) + "}"], "ac"),
            ("<", name_of(1), "a"),
        ),
    )  # fmt: skip


def test_times(world: World) -> None:
    values = [0, 1_577_836_800_000_000, 1_577_836_800_000_001, None]
    for letter, value in zip("abcd", values, strict=True):
        world.add(letter, {"bought": value}, ended_at=value, started_at=0)
    for name in ("bought", "ended_at"):
        check(
            world,
            *attribute(
                name,
                ("=", "2020-01-01", "b"), ("=", 1577836800, "b"), ("=", "1577836800.000001", "c"),
                (">", "2020-01-01", "c"), (">=", "2020-01-01T01:00+01:00", "bc"),
                ("<", "now", "abc"), ("!=", "2020-01", "acd"), ("=", None, "d"),
                ("in", ["2020-01", 0], "ab"),
            ),
        )  # fmt: skip


def test_lifespan(world: World) -> None:
    for letter, lived in zip("abc", [1, 60_000_000, 2 * DAY], strict=True):
        world.add(letter, started_at=DAY, ended_at=DAY + lived)
    world.add("d")
    check(
        world,
        *attribute(
            "lifespan",
            ("=", "1 minute", "b"), ("=", 60, "b"), ("!=", 60, "acd"), (">", "1 day", "c"),
            (">=", 60, "bc"), ("<", "1 minute", "a"), ("=", None, "d"), ("!=", None, "abc"),
            ("in", [60, "2 days"], "bc"), (">=", 0, "abc"),
        ),
        ({"not": {">": {"lifespan": 60}}}, "ab"),
    )  # fmt: skip


def test_ids(world: World) -> None:
    for letter in "abc":
        world.add(letter)
    a, b = name_of(ord("a")), name_of(ord("b"))
    check(
        world,
        *attribute("id", ("=", a, "a"), ("!=", a, "bc"), ("in", [a, b, name_of(1)], "ab")),
        ({"not": {"in": {"id": [a]}}}, "bc"),
        ({"in": {"id": [name_of(n) for n in range(15_000)]}}, "abc"),
    )


# ------------------------------------------------------------------ patterns


@pytest.mark.parametrize("name", ["host", ODD, "user_id"])
def test_patterns_tell_cases_apart(world: World, name: str) -> None:
    values = ["web", "WEB", "web-1", "w%b", "w*b", "[w]b", "wé", "w\\b", "w!b", "", None, "w?b"]
    for letter, value in zip("abcdefghijkl", values, strict=True):
        world.add(letter, *([{name: value}] if name != "user_id" else []),
                  **({"user_id": value} if name == "user_id" else {}))  # fmt: skip
    check(
        world,
        *attribute(
            name,
            ("like", "web", "a"), ("like", "WEB", "b"), ("like", "web%", "ac"),
            ("like", "w_b", "adehil"), ("like", "w\\%b", "d"), ("like", "w*b", "e"),
            ("like", "[w]b", "f"), ("like", "w_", "g"), ("like", "w\\\\b", "h"),
            ("like", "w!b", "i"), ("like", "", "j"), ("like", "%", "abcdefghijl"),
            ("like", "w?b", "l"),
            ("like", "%%%\\", ""), ("like", "%-_", "c"), ("like", "%" * 2000 + "b", "adefhil"),
            ("like", "_" * 2000, ""), ("like", "web ", ""),
        ),
        ({"not": {"like": {name: "w%"}}}, "bfj"),
        ({"not": {"like": {name: "_" * 2000}}}, "abcdefghijl"),
    )  # fmt: skip


def test_creator_is_compared_by_its_parts(world: World) -> None:
    creators = ["u:p", "u2:p", "u:p2", "u:", ":p", "u", None, "a:b:c", "ü:P"]
    for letter, creator in zip("abcdefghi", creators, strict=True):
        world.add(letter, creator=creator)
    check(
        world,
        *attribute("created_by_user_id", ("=", "u", "acd"), ("=", "", "e"), ("=", "ü", "i"),
                   ("like", "u%", "abcd"), ("=", "u_", "b"), ("!=", "u", "befghi")),
        *attribute("created_by_project_id", ("=", "p", "abe"), ("=", "", "d"), ("=", "b:c", "h"),
                   ("like", "p_", "c"), ("=", "p%", "abce"), ("!=", "p", "cdfghi")),
        ({"not": {"=": {"created_by_project_id": "p"}}}, "cdhi"),
    )  # fmt: skip


# ------------------------------------------------------------------ logic


def test_negation_keeps_what_is_unknown_unknown(world: World) -> None:
    world.add("a", {"host": "x", "size": 1}, project_id="p")
    world.add("b", {"host": "y", "size": 2}, project_id="q")
    world.add("c")
    for name, one in (("host", "x"), ("size", 1), ("project_id", "p")):
        same = {"=": {name: one}}
        check(
            world,
            (same, "a"),
            ({"not": same}, "b"),
            ({"not": {"not": same}}, "a"),
            ({"not": {"!=": {name: one}}}, "a"),
            ({"not": {"in": {name: [one]}}}, "b"),
            ({"not": {"in": {name: [None]}}}, ""),
            ({"not": {"<": {name: None}}}, ""),
            ({"not": {"and": [same, {"=": {"original_resource_id": "c"}}]}}, "ab"),
            ({"not": {"or": [same, {"=": {"original_resource_id": "b"}}]}}, ""),
            ({"or": [same, {"not": {"or": [same, {"=": {name: None}}]}}]}, "ab"),
            ({"and": [{"not": same}, {"not": {"not": {"!=": {name: one}}}}]}, "b"),
        )


def test_long_chains_and_deep_trees(world: World) -> None:
    """Databases bound the depth of an expression."""
    for letter in "abc":
        world.add(letter, {"host": letter})
    many = [{"=": {"host": f"other {n}"}} for n in range(4000)]
    check(world, ({"or": [*many, {"=": {"host": "b"}}]}, "b"))
    check(world, ({"and": [{"not": one} for one in [*many, {"=": {"host": "b"}}]]}, "ac"))
    deep: Any = {"=": {"host": "a"}}
    for _ in range(28):
        deep = {"not": {"and": [deep]}} if _ % 2 else {"or": [deep, {"=": {"host": "zz"}}]}
    check(world, (deep, "a"))
    check(world, ({"in": {"host": [f"o {n}" for n in range(19_000)] + ["c"]}}, "c"))
    check(world, ({"in": {"size": [*range(9_000)]}}, ""))


def test_everything(world: World) -> None:
    world.add("a")
    world.add("b", type="generic")
    assert world.find({}) == "a"
    assert world.find({}, "generic") == "ab"


def test_attribute_of_another_type_does_not_disturb(world: World) -> None:
    """The database may compare rows before it looks at their type."""
    other = {"host": {"type": "number"}, "size": {"type": "string"}, "on": {"type": "string"}}
    resource_types.create(world.db, ResourceType.from_json({"name": "other", "attributes": other}))
    world.add("a", {"host": "1", "size": 1, "on": True})
    world.add("b", {"host": 1, "size": "x", "on": "true"}, type="other")
    check(
        world,
        *attribute("size", ("=", 1, "a"), (">", 0, "a"), ("!=", 2, "a"), (">", 2**60, "")),
        *attribute("host", ("=", "1", "a"), ("like", "%", "a")),
        *attribute("on", ("=", True, "a")),
    )
    assert world.find({"=": {"host": 1}}, "other") == "b"
    assert world.find({">": {"size": "a"}}, "other") == "b"


@pytest.mark.parametrize("name", ["foobar", "metrics", "etag", "host", "revision", "revision_end"])
def test_unknown_field(database: Database, name: str) -> None:
    with pytest.raises(errors.Invalid) as raised:
        World(database).find({"=": {name: 1}}, "generic")
    assert str(raised.value) == f"Resource type generic has no {name} attribute"


@pytest.mark.parametrize(
    ("operator", "name", "value"),
    [
        ("=", "bought", "zz"), ("=", "size", "x"), ("=", "size", float("nan")), ("=", "on", "x"),
        ("=", "rack", "x"), ("=", "host", "a\0b"), ("=", "user_id", "\ud800"),
        ("like", "size", "1"), ("like", "host", None), ("like", "started_at", "2020"),
        ("<", "created_by_user_id", "x"),
        ("=", "lifespan", "x"), ("=", "started_at", "x"), (">", "created_by_project_id", "x"),
    ],
)  # fmt: skip
def test_value_that_does_not_fit(database: Database, operator: str, name: str, value: Any) -> None:
    world = World(database)
    for document in ({operator: {name: value}}, {"not": {operator: {name: value}}}):
        with pytest.raises(errors.Invalid) as raised:
            world.find(document)
        assert str(raised.value) == f"Invalid value: `{value}' for field `{name}'"


# ------------------------------------------------------------------ history, visibility


def test_history_is_searched_version_by_version(world: World) -> None:
    world.add("a", {"host": "one"})
    world.add("b", {"host": "two"})
    resources.update(world.db, "vm", uuid.UUID(int=ord("a")), {"host": "two"})
    assert world.find({"=": {"host": "one"}}) == ""
    found = resources.history(world.db, "vm", uuid.UUID(int=ord("a")), limit=9)
    number = found[0].revision
    for document, expected in [
        ({"=": {"host": "one"}}, "a"),
        ({"=": {"host": "two"}}, "ab"),
        ({}, "aab"),
        ({"=": {"revision": -1}}, "ab"),
        ({"=": {"revision": number}}, "a"),
        ({">=": {"revision": 1}}, "a"),
        ({"in": {"revision": [number, -1]}}, "aab"),
        ({"=": {"revision_end": None}}, "ab"),
        ({"!=": {"revision_end": None}}, "a"),
        ({">": {"revision_end": "2000-01-01"}}, "a"),
        ({"not": {">": {"revision_end": "2100-01-01"}}}, "a"),
    ]:
        assert world.find(document, history=True) == expected, document


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, "abcde"),
        (resources.Visibility(), ""),
        (resources.Visibility(project_id="p"), "a"),
        (resources.Visibility(creator_project="p"), "b"),
        (resources.Visibility(project_id="p", creator_project="p"), "ab"),
        (resources.Visibility(creator="u:q"), "c"),
        (resources.Visibility(creator="plain"), "d"),
        (resources.Visibility(project_id="P"), ""),
        (resources.Visibility(project_id="p "), ""),
        (resources.Visibility(creator_project="%"), ""),
        (resources.Visibility(project_id="p\0", creator="\ud800"), ""),
    ],
)
def test_visibility(world: World, visible: resources.Visibility | None, expected: str) -> None:
    world.add("a", project_id="p", creator="u:q2")
    world.add("b", project_id="q", creator="u:p")
    world.add("c", project_id=None, creator="u:q")
    world.add("d", creator="plain")
    world.add("e", creator=None)
    assert world.find({}, visible=visible) == expected
    assert world.find({"not": {"=": {"original_resource_id": "a"}}}, visible=visible) == (
        expected.replace("a", "")
    )
