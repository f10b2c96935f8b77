"""Resources with their metrics of certain names, now and over time."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any

import pytest

from gnocchi import errors, search
from gnocchi.indexer import resource_types, resources, selection
from gnocchi.indexer.query import Visibility
from gnocchi.indexer.resources import NewMetric
from gnocchi.resource_type import ResourceType
from tests.indexer import samples

if TYPE_CHECKING:
    from gnocchi.indexer.database import Database
    from gnocchi.model import Resource

KIND = ResourceType.from_json(
    {"name": "vm", "attributes": {"host": {"type": "string", "required": False}}}
)
NAMES = (
    "cpu", "CPU", "cpu.user", "cpu_user", "cpu%", "c", "cpuser", "[x]", "x", "!", "a\\b", "é", "",
)  # fmt: skip


def store(db: Database, number: int, names: tuple[str, ...], **changes: Any) -> Resource:
    """Store a resource with metrics of these names."""
    wanted = {name: NewMetric("low") for name in names}
    values = {
        "type": "vm",
        "revision_start": 1000 + number,
        "attributes": {"host": f"h{number % 2}"},
        **changes,
    }
    return resources.create(db, samples.resource(**values), wanted)


@pytest.fixture
def filled(database: Database) -> Database:
    """A database with a type and a policy."""
    samples.stored_policy(database)
    resource_types.create(database, KIND)
    return database


def names_of(found: list[selection.Selected]) -> list[str | None]:
    return [metric.name for one in found for metric in one.metrics]


@pytest.mark.parametrize(
    "pattern",
    [
        "cpu", "cpu*", "CPU*", "*", "?", "c?u", "cpu?user", "cpu[._]user", "cpu[!_]user", "[[]x]",
        "[x]", "[x", "[!x]", "[]!]", "*%", "*\\*", "é", "?*", "nothing", "*\0", "[a-c]pu", "",
    ],
)  # fmt: skip
def test_patterns_fit_what_they_fit_in_a_shell(filled: Database, pattern: str) -> None:
    """Also where the characters mean something to the database."""
    store(filled, 0, NAMES)
    found = selection.current(filled, "vm", [pattern])
    expected = [name for name in NAMES if fnmatch.fnmatchcase(name, pattern)]
    assert names_of(found) == sorted(expected)
    literal = selection.current(filled, "vm", [pattern], patterns=False)
    assert names_of(literal) == [name for name in NAMES if name == pattern]


def test_many_patterns_are_looked_for_at_once(filled: Database) -> None:
    """More than a database would like to try one by one."""
    store(filled, 0, NAMES)
    found = selection.current(filled, "vm", ["cpu.*", *(f"*{i}*" for i in range(100))])
    assert names_of(found) == ["cpu.user"]


@pytest.mark.parametrize("pattern", ["a", "?", "[a-c]", "*a*******", "[!b]"])
def test_metrics_are_counted_that_fit_and_no_others(filled: Database, pattern: str) -> None:
    """However little of a pattern the database can be told."""
    for number in range(3):
        store(filled, number, ("a", *(("bb", "Xb", "dd") if "[" in pattern else ())))
    assert len(selection.current(filled, "vm", [pattern], limit=3)) == 3
    with pytest.raises(errors.TooManyReferences, match="More than 2 series"):
        selection.current(filled, "vm", [pattern], limit=2)
    assert len(selection.revisions(filled, "vm", [pattern], limit=3)) == 3


def test_resources_without_metrics_and_versions_are_counted_too(filled: Database) -> None:
    """Ten for each metric that may be found."""
    stored = store(filled, 0, ("a",))
    for number in range(10):
        found = selection.current(filled, "vm", ["a"], without_metrics=True, limit=1)
        assert len(found) == len(selection.revisions(filled, "vm", ["a"], limit=1)) == number + 1
        store(filled, 1 + number, ())
        resources.update(filled, "vm", stored.id, {"host": f"new-{number}"}, now=2000 + number)
    with pytest.raises(errors.TooManyResources, match="More than 10 resources or versions"):
        selection.current(filled, "vm", ["a"], without_metrics=True, limit=1)
    with pytest.raises(errors.TooManyResources, match="More than 10 resources or versions"):
        selection.revisions(filled, "vm", ["a"], limit=1)


def test_resources_come_in_order_with_all_that_listings_show(filled: Database) -> None:
    """Whatever their number, without those that have none of the metrics unless asked for."""
    stored = [store(filled, i, ("a", "b") if i % 3 else ("c",)) for i in range(12)]
    store(filled, 99, ("a",), type="generic", attributes={})
    found = selection.current(filled, "vm", ["b", "a"], links=True)
    having = [one for i, one in enumerate(stored) if i % 3]
    assert [one.resource for one in found] == having
    assert [[m.id for m in one.metrics] for one in found] == [
        list(one.metrics.values()) for one in having
    ]
    everything = selection.current(filled, "vm", ["a"], without_metrics=True)
    assert [one.resource.id for one in everything] == [one.id for one in stored]
    assert [len(one.metrics) for one in everything] == [int(i % 3 > 0) for i in range(12)]
    assert len(selection.current(filled, "generic", ["a"])) == 9
    wanted = search.from_json({"=": {"host": "h1"}})
    assert len(selection.current(filled, "vm", ["a"], filter=wanted)) == 4
    hidden = Visibility(project_id="nobody")
    assert selection.current(filled, "vm", ["a"], visible=hidden) == []


def test_fields_have_to_exist(filled: Database) -> None:
    """The filter is looked at before the groups."""
    for function in (selection.current, selection.revisions):
        with pytest.raises(errors.NoSuchResourceType):
            function(filled, "nope", ["a"])
        with pytest.raises(errors.InvalidPagination, match="supplied is invalid: unit"):
            function(filled, "vm", ["a"], groupby=["host", "unit"])
        with pytest.raises(errors.Invalid, match="has no unit attribute"):
            function(
                filled, "vm", ["a"], groupby=["unit"], filter=search.from_json({"=": {"unit": 1}})
            )
    with pytest.raises(errors.InvalidPagination):
        selection.current(filled, "vm", ["a"], groupby=["revision"])
    assert selection.revisions(filled, "vm", ["a"], groupby=["revision", "revision_end"]) == []


def test_versions_know_which_one_was_the_first(filled: Database) -> None:
    """Also when the filter leaves the first one out; metrics are those of now."""
    one = store(filled, 0, ("a",))
    resources.update(filled, "vm", one.id, {"host": "x"}, now=2000)
    resources.update(filled, "vm", one.id, {"host": "y"}, now=3000)
    other = store(filled, 1, ("a", "b"))
    store(filled, 2, ("b",))
    found = selection.revisions(filled, "vm", ["?"], filter=None)
    assert [(r.resource.id, r.resource.revision_start, r.first, len(r.metrics)) for r in found][
        :2
    ] == [(one.id, 1000, True, 1), (other.id, 1001, True, 2)]
    found = selection.revisions(filled, "vm", ["a"], links=True)
    assert [(r.resource.attributes["host"], r.resource.revision_end, r.first) for r in found] == [
        ("h0", 2000, True),
        ("h1", None, True),
        ("x", 3000, False),
        ("y", None, False),
    ]
    assert found[3].resource.metrics == one.metrics
    later = selection.revisions(
        filled, "vm", ["a"], filter=search.from_json({"in": {"host": ["x", "y"]}})
    )
    assert [(r.resource.attributes["host"], r.first) for r in later] == [("x", False), ("y", False)]


@pytest.mark.parametrize(
    ("start", "stop", "hosts"),
    [
        (None, None, "hxy"),
        (2000, None, "hxy"),
        (None, 1500, "hxy"),
        (1500, 1600, "h"),
        (2000, 2001, "hx"),
        (2001, 3000, "x"),
        (2001, 3001, "xy"),
        (4000, 5000, "y"),
        (500, 1000, ""),
    ],
)
def test_versions_are_those_of_a_time(
    filled: Database, start: int | None, stop: int | None, hosts: str
) -> None:
    """With both bounds; with one of them all versions may matter."""
    one = store(filled, 0, ("a",), attributes={"host": "h"})
    resources.update(filled, "vm", one.id, {"host": "x"}, now=2000)
    resources.update(filled, "vm", one.id, {"host": "y"}, now=3000)
    found = selection.revisions(filled, "vm", ["a"], start=start, stop=stop)
    assert "".join(r.resource.attributes["host"] for r in found) == hosts
