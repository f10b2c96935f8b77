"""Pages of resources and of their versions."""

from __future__ import annotations

import contextlib
import random
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from gnocchi import errors, search
from gnocchi.indexer import catalog, links, metrics, resource_types, resources
from gnocchi.indexer.resources import NewMetric
from gnocchi.resource_type import ResourceType
from tests.indexer import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gnocchi.indexer.database import Database
    from gnocchi.model import Resource

KIND = ResourceType.from_json(
    {
        "name": "vm",
        "attributes": {
            name: {"type": kind, "required": False}
            for name, kind in (
                ("host", "string"), ("size", "number"), ("on", "bool"), ("a b", "datetime"),
            )
        },
    }
)  # fmt: skip


def fill(db: Database, count: int = 14) -> None:
    """Resources whose fields are often equal or null, half of them with past versions."""
    samples.stored_policy(db)
    resource_types.create(db, KIND)
    for i in range(count):
        attributes = {
            "host": (None, "a", "B")[i % 3],
            "size": (None, -1, 2.5, 10)[i % 4],
            "on": (None, True, False)[i // 2 % 3],
            "a b": (None, 5)[i % 2],
        }
        kind = "vm" if i % 5 else "generic"
        stored = samples.stored_resource(
            db,
            type=kind,
            project_id=(None, "p", "q")[i % 3],
            ended_at=(None, 2**62)[i // 3 % 2],
            started_at=1000 + i // 4,
            revision_start=1000 + i // 5,
            original_resource_id=f"r{i // 2}",
            attributes=attributes if kind == "vm" else {},
        )
        for n in range(i % 3):
            resources.update(db, "generic", stored.id, {"user_id": f"u{n}"}, now=2000 + i // 6)


def identities(found: list[Resource]) -> list[tuple[uuid.UUID, int]]:
    return [(one.id, one.revision) for one in found]


def ordered(found: list[Resource], sorts: list[tuple[str, str]]) -> list[Resource]:
    """Sort as the listing should: the last key first, each time keeping what was."""
    for key, direction in reversed([*sorts, ("id", "asc"), ("revision", "asc")]):
        nulls_first = "nullsfirst" in direction or direction == "desc"

        def value(one: Resource, key: str = key) -> Any:
            return getattr(one, key) if hasattr(one, key) else one.attributes[key]

        nulls = [one for one in found if value(one) is None]
        others = sorted(
            (one for one in found if value(one) is not None),
            key=value,
            reverse=direction.startswith("desc"),
        )
        found = nulls + others if nulls_first else others + nulls
    return found


SORTS: list[list[tuple[str, str]]] = [
    [],
    [("id", "desc")],
    [("project_id", "asc"), ("ended_at", "desc")],
    [("project_id", "desc-nullslast"), ("ended_at", "asc-nullsfirst"), ("type", "asc")],
    [("original_resource_id", "desc"), ("creator", "asc")],
    [("revision_start", "desc"), ("started_at", "asc")],
    [("user_id", "asc-nullsfirst"), ("user_id", "desc")],
]
OF_TYPE: list[list[tuple[str, str]]] = [
    [("host", "asc"), ("size", "desc")],
    [("host", "desc-nullslast"), ("on", "asc-nullsfirst"), ("a b", "desc")],
    [("size", "asc-nullsfirst"), ("on", "desc")],
]
OF_HISTORY: list[list[tuple[str, str]]] = [
    [("revision_end", "asc-nullslast")],
    [("revision_end", "desc"), ("revision", "desc")],
    [("revision", "desc")],
    [("revision", "asc"), ("host", "asc")],
]


@pytest.mark.parametrize("history", [False, True], ids=["current", "history"])
@pytest.mark.parametrize("kind", ["generic", "vm"])
def test_pages_join_to_the_whole_listing(database: Database, kind: str, history: bool) -> None:
    """Equal and null values at the border of two pages neither repeat nor get lost, and the order
    is the same on every database.
    """
    fill(database)
    expected = {"generic": (14, 14 + 13), "vm": (11, 11 + 10)}[kind]
    cases = list(SORTS)
    if kind == "vm":
        cases += OF_TYPE
    if history:
        cases += [sorts for sorts in OF_HISTORY if kind == "vm" or ("host", "asc") not in sorts]
    for sorts in cases:
        whole = resources.list_(database, kind, history=history, limit=99, sorts=sorts)
        effective = sorts or [("revision_start", "asc"), ("started_at", "asc")]
        assert identities(whole) == identities(ordered(whole, effective)), sorts
        assert len(whole) == (expected[1] if history else expected[0])
        for limit in (1, 4):
            joined: list[Resource] = []
            marker = None
            while page := resources.list_(
                database, kind, history=history, limit=limit, sorts=sorts, marker=marker
            ):
                joined += page
                marker = f"{page[-1].id}@{page[-1].revision}" if history else str(page[-1].id)
            assert joined == whole, (sorts, limit)


def test_history_of_one_resource_by_pages(database: Database) -> None:
    fill(database, 1)
    stored = samples.stored_resource(database, type="vm", attributes={})
    for number in range(5):
        resources.update(database, "vm", stored.id, {"size": number})
    whole = resources.history(database, "vm", stored.id, limit=99)
    assert [one.attributes["size"] for one in whole] == [None, 0, 1, 2, 3, 4]
    assert [one.revision_end for one in whole][:-1] == [one.revision_start for one in whole][1:]
    joined: list[Resource] = []
    marker = None
    while page := resources.history(database, "vm", stored.id, limit=2, marker=marker):
        joined += page
        marker = f"{stored.id}@{page[-1].revision}"
    assert joined == whole
    backwards = resources.history(
        database, "generic", stored.id, limit=99, sorts=[("revision_end", "desc")]
    )
    assert identities(backwards) == identities(whole)[::-1]
    assert {len(one.attributes) for one in backwards} == {0}
    detailed = resources.history(database, "generic", stored.id, limit=99, details=True)
    assert detailed == whole


def test_attributes_are_shown_where_they_are_asked_for(database: Database) -> None:
    fill(database, 3)
    for details, expected in ((False, {0}), (True, {0, 4})):
        for history in (False, True):
            found = resources.list_(database, "generic", details=details, history=history, limit=99)
            assert {len(one.attributes) for one in found} == expected
            assert {one.type for one in found} == {"generic", "vm"}


def test_metrics_are_always_those_of_now(database: Database) -> None:
    samples.stored_policy(database)
    stored = resources.create(
        database, samples.resource(), {"b": NewMetric("low"), "a": NewMetric("low")}
    )
    resources.update(database, "generic", stored.id, {"user_id": "x"})
    resources.create(database, samples.resource(), {"c": NewMetric("low")})
    found = resources.list_(database, "generic", history=True, limit=9)
    assert [list(one.metrics) for one in found if one.id == stored.id] == [["a", "b"]] * 2
    assert [list(one.metrics) for one in found if one.id != stored.id] == [["c"]]


@pytest.mark.parametrize("history", [False, True])
def test_unknown_markers(database: Database, history: bool) -> None:
    samples.stored_policy(database)
    seen = samples.stored_resource(database, project_id="p")
    hidden = samples.stored_resource(database, project_id="q")
    resource_types.create(database, KIND)
    visible = resources.Visibility(project_id="p")
    good = f"{seen.id}@-1" if history else str(seen.id)
    for marker in (
        "", "x", "@", f"{uuid.uuid4()}", f"{seen.id}@1", f"{seen.id}@x", f"{seen.id}@-2",
        f"{seen.id}@{2**63}", f"{uuid.uuid4()}@-1", f"{hidden.id}@-1", f"{hidden.id}",
        f"{seen.id}@" if history else f"{seen.id}@-1",
    ):  # fmt: skip
        with pytest.raises(errors.InvalidPagination) as raised:
            resources.list_(
                database, "generic", history=history, limit=9, marker=marker, visible=visible
            )
        assert str(raised.value) == f"Invalid pagination: `Invalid marker: `{marker}''"
    options: dict[str, Any] = {"history": history, "limit": 9, "visible": visible}
    assert resources.list_(database, "generic", marker=good, **options) == []
    with pytest.raises(errors.InvalidPagination):
        resources.list_(database, "vm", marker=good, **options)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("generic", "host"), ("generic", "revision"), ("generic", "revision_end"),
        ("generic", "metrics"), ("vm", "attributes"), ("vm", "creator_project"), ("vm", ""),
    ],
)  # fmt: skip
def test_unknown_sort_key(database: Database, kind: str, key: str) -> None:
    resource_types.create(database, KIND)
    for marker in (None, "no marker"):
        with pytest.raises(errors.InvalidPagination) as raised:
            resources.list_(database, kind, limit=9, sorts=[(key, "asc")], marker=marker)
        assert str(raised.value) == f"Invalid pagination: `Sort key supplied is invalid: {key}'"


def test_unknown_direction(database: Database) -> None:
    with pytest.raises(errors.InvalidPagination, match="must be one of: asc-nullsfirst"):
        resources.list_(database, "generic", limit=9, sorts=[("id", "up")])


def test_marker_between_versions_that_have_come_meanwhile(database: Database) -> None:
    """Rows that come and go between two pages shift nothing."""
    resource_types.create(database, KIND)
    stored = [samples.stored_resource(database, revision_start=n) for n in (1, 2, 3)]
    page = resources.list_(database, "generic", limit=2)
    resources.delete(database, "generic", stored[0].id)
    samples.stored_resource(database, revision_start=0)
    rest = resources.list_(database, "generic", limit=2, marker=str(page[-1].id))
    assert [one.id for one in rest] == [stored[2].id]


# ------------------------------------------------------------------ number of statements


class Statements:
    """The statements that are sent, while somebody counts."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    @contextlib.contextmanager
    def counted(self) -> Iterator[list[str]]:
        def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            # Databases over the network are asked whether the connection still works.
            if statement not in ("SELECT 1", "BEGIN IMMEDIATE"):
                self.sent.append(statement)

        self.sent.clear()
        sa.event.listen(sa.Engine, "before_cursor_execute", note)
        try:
            yield self.sent
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", note)


def few_and_many(db: Database, count: int) -> dict[str, int]:
    """Statements of every call by name, with ``count`` of whatever there can be many of."""
    statements = Statements()
    result: dict[str, int] = {}
    new = {f"m{n}": NewMetric("low") for n in range(count)}
    project = f"p{count}"

    samples.stored_resource(db)
    resources.list_(db, "generic", details=True, limit=1)  # learns the types

    def note(name: str, action: Any) -> Any:
        with statements.counted() as sent:
            value = action()
        result[name] = len(sent)
        return value

    def vm(**changes: Any) -> Resource:
        attributes = {"host": "h"}
        return samples.resource(type="vm", project_id=project, attributes=attributes, **changes)

    first_of_all = vm(id=uuid.UUID(int=count))
    stored = note("create", lambda: resources.create(db, first_of_all, new))
    others = [resources.create(db, vm(), {"cpu": NewMetric("low")}) for _ in range(count)]
    moved = {f"x{n}": other.metrics["cpu"] for n, other in enumerate(others)}
    note("add", lambda: resources.add_metrics(db, "vm", stored.id, moved))
    resources.add_metrics(db, "vm", others[0].id, {"cpu": NewMetric("low")})
    again = {f"y{n}": metric for n, metric in enumerate(moved.values())} | {
        f"m{n}": NewMetric("low") for n in range(count)
    }
    note("update", lambda: resources.update(db, "vm", stored.id, {"host": "x"}, again))
    for other in others:
        resources.update(db, "vm", other.id, {"host": "y"})
    note("get", lambda: resources.get(db, "vm", stored.id))
    ids = [other.id for other in others]
    note("get many", lambda: resources.get_many(db, ids))
    note("metrics of", lambda: resources.metrics_of(db, "vm", stored.id))
    note("named", lambda: resources.metric_named(db, "vm", stored.id, "y0"))
    first = str(stored.id)
    wanted = search.from_json({"=": {"project_id": project}})
    for history in (False, True):
        marker = f"{first}@-1" if history else first
        found = note(
            f"list {history}",
            lambda history=history, marker=marker: resources.list_(
                db, "generic", details=True, filter=wanted, history=history, limit=999,
                marker=marker, sorts=[("project_id", "asc"), ("id", "asc")],
            ),
        )  # fmt: skip
        assert len(found) == (count * 2 + 1 if history else count)
    note("history", lambda: resources.history(db, "vm", stored.id, limit=99))
    pairs = {other.id: [f"m{n}" for n in range(count)] for other in others}
    note("find", lambda: links.find(db, pairs))
    missing = {(other.id, f"z{n}"): NewMetric("low") for other in others for n in range(count)}
    assert len(note("create links", lambda: links.create(db, None, missing))) == count
    note("retype", lambda: resource_types.update(db, "vm", retype(count)))
    note("delete", lambda: resources.delete(db, "vm", stored.id))
    assert note("delete many", lambda: resources.delete_many(db, "vm", wanted)) == count
    return result


def retype(number: int) -> list[dict[str, Any]]:
    value = {"type": "number", "required": False, "options": {"fill": 1}}
    return [{"op": "add", "path": f"/attributes/n{number}", "value": value}]


def test_number_of_statements_does_not_grow(database: Database) -> None:
    fill(database, 1)
    few_and_many(database, 1)  # so that everything there is to remember is remembered
    few, many = few_and_many(database, 2), few_and_many(database, 25)
    assert few == many
    assert {name: number for name, number in many.items() if number > 9} == {}
    assert many["get"] == many["find"] == many["get many"] == many["metrics of"] == 1


def test_more_resources_than_one_statement_takes(database: Database) -> None:
    found = links.find(database, {uuid.uuid4(): ["a", "b"] for _ in range(6000)})
    assert found == {}
    stored = samples.stored_resource(database)
    ids = [*(uuid.uuid4() for _ in range(10_500)), stored.id]
    assert resources.get_many(database, ids) == [stored]


# ------------------------------------------------------------------ links


def test_links_are_found_by_resource_and_name(database: Database) -> None:
    samples.stored_policy(database)
    names = ["cpu", "CPU", "cpu ", "é'\"\\%s", "𝓁"]
    made = {name: NewMetric("low") for name in names}
    first = resources.create(database, samples.resource(creator="ü:1"), made)
    second = resources.create(
        database, samples.resource(creator=None), {n: NewMetric("low") for n in names}
    )
    asked = {
        first.id: [*names, "missing", "a\0", "\ud800"],
        second.id: {"CPU"},
        uuid.uuid4(): names,
    }
    found = links.find(database, asked)
    assert found == {
        first.id: {n: links.Link(i.bytes, "ü:1") for n, i in first.metrics.items()},
        second.id: {"CPU": links.Link(second.metrics["CPU"].bytes, None)},
    }
    assert links.find(database, {}) == links.find(database, {first.id: []}) == {}


def test_thousands_of_links_are_found(database: Database) -> None:
    samples.stored_policy(database)
    names = [f"Name {n}" for n in range(50)]
    stored = [samples.stored_resource(database).id for _ in range(60)]
    new = {(i, name): NewMetric("low") for i in stored for name in names}
    made = links.create(database, "x", new)
    wanted = {i: [*names, *(name.upper() for name in names)] for i in stored}
    assert links.find(database, wanted) == made
    assert {len(found) for found in made.values()} == {50}


def test_links_are_made_only_where_there_are_none(database: Database) -> None:
    samples.stored_policy(database)
    stored = resources.create(database, samples.resource(), {"cpu": NewMetric("low", "s")})
    new = {(stored.id, name): NewMetric("low", "B") for name in ("cpu", "disk")}
    found = links.create(database, "me", new)
    assert found[stored.id]["cpu"] == links.Link(stored.metrics["cpu"].bytes, "user:project")
    assert found[stored.id]["disk"].creator == "me"
    disk = metrics.get(database, uuid.UUID(bytes=found[stored.id]["disk"].metric))
    assert (disk.name, disk.unit, disk.resource_id) == ("disk", "B", stored.id)
    assert links.create(database, "me", {}) == {}


@pytest.mark.parametrize("policy", ["low", "gone"])
def test_nothing_is_made_for_unknown_resources_or_policies(database: Database, policy: str) -> None:
    samples.stored_policy(database)
    stored = samples.stored_resource(database)
    missing = sorted(uuid.uuid4() for _ in range(2))
    new = {(stored.id, "a"): NewMetric("low"), (stored.id, "b"): NewMetric(policy)}
    if policy == "low":
        new |= {(i, "a"): NewMetric("low") for i in missing}
        with pytest.raises(errors.UnknownResources) as raised:
            links.create(database, None, new)
        assert raised.value.resources == missing
    else:
        with pytest.raises(errors.NoSuchArchivePolicy, match="gone"):
            links.create(database, None, new)
    assert links.find(database, {stored.id: ["a", "b"]}) == {}


def test_remembered_links_are_true(database: Database) -> None:
    """Whatever happens to metrics, an answer is what the database says at that moment."""
    samples.stored_policy(database)
    clock = random.Random(5)
    cache = links.Links(database, limit=12)
    stored = [samples.stored_resource(database).id for _ in range(4)]
    names = ["a", "b", "c"]

    def change() -> None:
        resource = clock.choice(stored)
        current = resources.get(database, "generic", resource).metrics
        everywhere = [
            m for i in stored for m in resources.get(database, "generic", i).metrics.values()
        ]
        match clock.randrange(5):
            case 0:
                new = {(resource, clock.choice(names)): NewMetric("low")}
                links.create(database, "user:project", new)
            case 1 if current:
                metrics.delete(database, clock.choice(list(current.values())))
            case 2 if everywhere:
                moved = {clock.choice(names): clock.choice(everywhere)}
                resources.update(database, "generic", resource, {}, moved)
            case 3:
                resources.update(database, "generic", resource, {}, {})
            case _:
                resources.delete(database, "generic", resource)
                samples.stored_resource(database, id=resource)

    wanted = dict.fromkeys(stored, names)
    for _ in range(60):
        change()
        known = cache.of(wanted, catalog.state(database))
        truth = links.find(database, wanted)
        assert {i: known.get(i, {}) for i in stored} == {i: truth.get(i, {}) for i in stored}


def test_known_links_take_no_statement(database: Database) -> None:
    samples.stored_policy(database)
    stored = resources.create(database, samples.resource(), {"cpu": NewMetric("low")})
    cache = links.Links(database)
    state = catalog.state(database)
    wanted = {stored.id: ["cpu"]}
    cache.of(wanted, state)
    with Statements().counted() as sent:
        assert cache.of(wanted, state)[stored.id]["cpu"].metric == stored.metrics["cpu"].bytes
    assert sent == []
