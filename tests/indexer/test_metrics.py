"""Metrics as rows."""

from __future__ import annotations

import dataclasses
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer import catalog, metrics
from gnocchi.indexer.metrics import Visibility
from tests.indexer import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gnocchi.indexer.database import Database


@pytest.fixture
def statements(database: Database) -> Iterator[list[str]]:
    """The SELECT statements sent since the test cleared the list."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("SELECT"):
            sent.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield sent
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


def names(found: list[Any]) -> list[str | None]:
    return [metric.name for metric in found]


# ------------------------------------------------------------------ writing


def test_metric_comes_back_as_it_was_stored(database: Database) -> None:
    policy = samples.stored_policy(database)
    resource = samples.stored_resource(database).id
    for values in (
        {"resource_id": resource},
        {"creator": None, "name": None, "unit": None},
        {"creator": "", "name": "", "unit": ""},
        {"creator": "✔:𝓁", "name": "n" * 255, "unit": "☃" * 31},
    ):
        metric = samples.metric(policy, **values)
        metrics.create(database, metric)
        assert metrics.get(database, metric.id) == metric


def test_missing_metric(database: Database) -> None:
    missing = uuid.uuid4()
    with pytest.raises(errors.NoSuchMetric, match=str(missing)):
        metrics.get(database, missing)


def test_metric_of_a_missing_policy_is_refused(database: Database) -> None:
    samples.stored_policy(database)
    metric = samples.metric(samples.policy("gone"))
    with pytest.raises(errors.NoSuchArchivePolicy, match="gone"):
        metrics.create(database, metric)


def test_metric_of_a_missing_resource_is_refused(database: Database) -> None:
    policy = samples.stored_policy(database)
    there, missing = samples.stored_resource(database).id, uuid.uuid4()
    batch = [samples.metric(policy, resource_id=i) for i in (there, missing)]
    with pytest.raises(errors.NoSuchResource, match=f"Resource {missing} does not exist"):
        metrics.create_many(database, batch)
    assert metrics.list_(database, filters={}, limit=9) == []


def test_metric_is_read_together_with_its_resource(database: Database) -> None:
    policy = samples.stored_policy(database)
    resource = samples.stored_resource(database, project_id="p", ended_at=1_800_000_000_000_001)
    attached = samples.metric(policy, resource_id=resource.id)
    alone = samples.metric(policy)
    metrics.create_many(database, [attached, alone])
    assert metrics.get_with_resource(database, attached.id) == (attached, resource)
    assert metrics.get_with_resource(database, alone.id) == (alone, None)
    metrics.delete(database, alone.id)
    with pytest.raises(errors.NoSuchMetric):
        metrics.get_with_resource(database, alone.id)


@pytest.mark.parametrize("field", ["name", "unit", "creator"])
@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_cannot_be_stored_is_refused(database: Database, field: str, text: str) -> None:
    policy = samples.stored_policy(database)
    with pytest.raises(errors.Invalid):
        metrics.create(database, samples.metric(policy, **{field: text}))


def test_resource_has_one_metric_of_a_name(database: Database) -> None:
    policy = samples.stored_policy(database)
    resource = samples.stored_resource(database).id
    metrics.create(database, samples.metric(policy, resource_id=resource))
    with pytest.raises(errors.NamedMetricAlreadyExists, match="Named metric cpu already exists"):
        metrics.create(database, samples.metric(policy, resource_id=resource))
    for name in ("CPU", "cpu ", "cpu\N{COMBINING ACUTE ACCENT}"):
        metrics.create(database, samples.metric(policy, resource_id=resource, name=name))
    other = samples.stored_resource(database).id
    metrics.create(database, samples.metric(policy, resource_id=other))


def test_metrics_without_resource_may_share_a_name(database: Database) -> None:
    policy = samples.stored_policy(database)
    for _ in range(2):
        metrics.create(database, samples.metric(policy))
    assert len(metrics.list_(database, filters={"name": "cpu"}, limit=9)) == 2


def test_many_metrics_are_stored_all_or_none(database: Database) -> None:
    policy = samples.stored_policy(database)
    resource = samples.stored_resource(database).id
    first = samples.metric(policy, resource_id=resource, name="taken")
    metrics.create_many(database, [first])
    metrics.create_many(database, [])
    batch = [samples.metric(policy, resource_id=resource, name=f"n{i}") for i in range(3)]
    with pytest.raises(errors.NamedMetricAlreadyExists) as raised:
        metrics.create_many(
            database, [*batch, samples.metric(policy, resource_id=resource, name="taken")]
        )
    assert raised.value.name == "taken"
    with pytest.raises(errors.NamedMetricAlreadyExists) as raised:
        metrics.create_many(
            database, [*batch, samples.metric(policy, resource_id=resource, name="n1")]
        )
    assert raised.value.name == "n1"
    with pytest.raises(errors.NoSuchArchivePolicy):
        metrics.create_many(database, [*batch, samples.metric(samples.policy("gone"))])
    assert metrics.list_(database, filters={}, limit=9) == [first]
    metrics.create_many(database, batch)
    assert len(metrics.list_(database, filters={}, limit=9)) == 4


def test_deleted_metric_is_gone_at_once(database: Database) -> None:
    policy = samples.stored_policy(database)
    kept, gone = samples.metric(policy), samples.metric(policy)
    metrics.create_many(database, [kept, gone])
    metrics.delete(database, gone.id)
    for look in (metrics.get, metrics.delete):
        with pytest.raises(errors.NoSuchMetric):
            look(database, gone.id)
    assert metrics.get_many(database, [gone.id, kept.id]) == [kept]
    assert metrics.list_(database, filters={}, limit=9) == [kept]
    assert list(metrics.identities(database, [gone.id.bytes, kept.id.bytes])) == [kept.id.bytes]
    assert metrics.deleted(database, 9) == [gone.id]


def test_delete_counts_in_the_state_and_failures_do_not(database: Database) -> None:
    metric = samples.metric(samples.stored_policy(database))
    metrics.create(database, metric)
    metrics.delete(database, metric.id)
    with pytest.raises(errors.NoSuchMetric):
        metrics.delete(database, metric.id)
    assert catalog.state(database) == (0, 1, 1, 0, 0, catalog.state(database).sacks)


def test_name_of_a_deleted_metric_is_free_again(database: Database) -> None:
    policy = samples.stored_policy(database)
    resource = samples.stored_resource(database).id
    for _ in range(3):
        metric = samples.metric(policy, resource_id=resource)
        metrics.create(database, metric)
        metrics.delete(database, metric.id)
    deleted = metrics.list_(database, filters={"status": "delete"}, limit=9)
    assert [(m.resource_id, m.status) for m in deleted] == [(None, "delete")] * 3


def test_expunge_forgets_deleted_metrics_only(database: Database) -> None:
    policy = samples.stored_policy(database)
    kept, gone, other = (samples.metric(policy) for _ in range(3))
    metrics.create_many(database, [kept, gone, other])
    metrics.delete(database, gone.id)
    metrics.delete(database, other.id)
    assert metrics.deleted(database, 1) == [min(gone.id, other.id)]
    metrics.expunge(database, [])
    metrics.expunge(database, [kept.id, gone.id, uuid.uuid4()])
    assert metrics.deleted(database, 9) == [other.id]
    assert metrics.get(database, kept.id) == kept


# ------------------------------------------------------------------ many at once


def test_many_are_read_in_the_order_asked_for(database: Database) -> None:
    policy = samples.stored_policy(database)
    stored = [samples.metric(policy, name=str(i)) for i in range(5)]
    metrics.create_many(database, stored)
    ids = [m.id for m in stored]
    wanted = [ids[3], uuid.uuid4(), ids[0], ids[3], ids[4]]
    assert names(metrics.get_many(database, iter(wanted))) == ["3", "0", "4"]
    assert metrics.get_many(database, []) == []


def test_identities(database: Database) -> None:
    policy, other = samples.stored_policy(database), samples.stored_policy(database, "✔ other")
    first = samples.metric(policy, creator="ü:1")
    second = samples.metric(other, creator=None)
    metrics.create_many(database, [first, second])
    found = metrics.identities(database, [first.id.bytes, uuid.uuid4().bytes, second.id.bytes])
    assert found == {first.id.bytes: ("ü:1", "low"), second.id.bytes: (None, "✔ other")}
    assert metrics.identities(database, []) == {}


def test_thousands_of_ids_take_one_statement(database: Database, statements: list[str]) -> None:
    policy = samples.stored_policy(database)
    stored = [samples.metric(policy) for _ in range(2500)]
    metrics.create_many(database, stored)
    ids = [m.id for m in stored]
    metrics.get(database, ids[0])  # so that the policies are known

    def pinged() -> int:
        # Databases over the network are asked whether the connection still works.
        return sum(statement != "SELECT 1" for statement in statements)

    statements.clear()
    assert len(metrics.identities(database, [i.bytes for i in ids])) == 2500
    assert pinged() == 1
    statements.clear()
    assert metrics.get_many(database, ids) == stored
    assert pinged() == 1
    statements.clear()
    assert len(metrics.list_(database, filters={}, limit=2000)) == 2000
    assert pinged() == 1
    statements.clear()
    metrics.expunge(database, ids)
    assert pinged() == 0


def test_more_ids_than_one_statement_takes(database: Database) -> None:
    policy = samples.stored_policy(database)
    stored = [samples.metric(policy) for _ in range(3)]
    metrics.create_many(database, stored)
    many = [uuid.UUID(int=i) for i in range(10_500)]
    ids = [stored[0].id, *many, stored[1].id, stored[2].id]
    assert metrics.get_many(database, ids) == stored
    assert len(metrics.identities(database, [i.bytes for i in ids])) == 3


# ------------------------------------------------------------------ listings


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["a", "b", "c", "d"]),
        ({"name": "b"}, ["b"]),
        ({"name": "B"}, []),
        ({"name": "b "}, []),
        ({"name": "b\0"}, []),
        ({"name": "\ud800"}, []),
        ({"unit": "s"}, ["a"]),
        ({"unit": None}, ["b", "c", "d"]),
        ({"creator": "u:p"}, ["b", "c"]),
        ({"creator": "u:p", "name": "c"}, ["c"]),
        ({"archive_policy_name": "other"}, ["d"]),
        ({"archive_policy_name": "nothing"}, []),
        ({"id": uuid.UUID(int=3)}, ["c"]),
        ({"resource_id": uuid.UUID(int=77)}, ["b"]),
        ({"resource_id": None}, ["a", "c", "d"]),
        ({"status": "active"}, ["a", "b", "c", "d"]),
        ({"status": "delete"}, ["e"]),
    ],
)
def test_filters(database: Database, filters: dict[str, Any], expected: list[str]) -> None:
    policy, other = samples.stored_policy(database), samples.stored_policy(database, "other")
    samples.stored_resource(database, id=uuid.UUID(int=77))
    plain: dict[str, Any] = {"unit": None, "creator": "u:p"}
    stored = [
        samples.metric(policy, id=uuid.UUID(int=1), name="a", unit="s", creator=None),
        samples.metric(
            policy, id=uuid.UUID(int=2), name="b", resource_id=uuid.UUID(int=77), **plain
        ),
        samples.metric(policy, id=uuid.UUID(int=3), name="c", **plain),
        samples.metric(other, id=uuid.UUID(int=4), name="d", unit=None, creator="u2:p"),
        samples.metric(policy, id=uuid.UUID(int=5), name="e"),
    ]
    metrics.create_many(database, stored)
    metrics.delete(database, uuid.UUID(int=5))
    assert names(metrics.list_(database, filters=filters, limit=9)) == expected


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ["a", "b", "c", "d", "e", "f", "g"]),
        (Visibility(creator_project="p"), ["a", "g"]),
        (Visibility(creator_project="P"), ["b"]),
        (Visibility(creator_project="p%"), ["c"]),
        (Visibility(creator_project="p_"), []),
        (Visibility(creator_project="%"), []),
        (Visibility(creator_project="ü𝓁"), ["d"]),
        (Visibility(creator_project="p "), ["e"]),
        (Visibility(creator_project="p\0"), []),
        (Visibility(creator_project=""), []),
        (Visibility(), []),
        (Visibility(resource_project="p"), ["e", "f", "g"]),
        (Visibility(resource_project="P"), []),
        (Visibility(resource_project="p\0"), []),
        (Visibility(creator_project="p", resource_project="p"), ["a", "e", "f", "g"]),
        (Visibility(creator_project="p\0", resource_project="p"), ["e", "f", "g"]),
    ],
)
def test_visibility(database: Database, visible: Visibility | None, expected: list[str]) -> None:
    """A tenant sees what its own creators made and what belongs to its resources, each once."""
    policy = samples.stored_policy(database)
    own = samples.stored_resource(database, project_id="p").id
    foreign = samples.stored_resource(database, project_id="q").id
    creators = {
        "g": "v:p",
        "a": "u:p",
        "b": "u:P",
        "c": "u:p%",
        "d": "u:ü𝓁",
        "e": "u:p ",
        "f": None,
    }
    owners = {"d": foreign, "e": own, "f": own, "g": own}
    metrics.create_many(
        database,
        [
            samples.metric(policy, name=name, creator=creator, resource_id=owners.get(name))
            for name, creator in creators.items()
        ],
    )
    found = metrics.list_(database, filters={}, visible=visible, limit=9, sorts=[("name", "asc")])
    assert names(found) == expected


def test_marker_of_another_tenant_is_unknown(database: Database) -> None:
    policy = samples.stored_policy(database)
    foreign = samples.metric(policy, creator="u:other")
    metrics.create(database, foreign)
    with pytest.raises(errors.InvalidPagination):
        metrics.list_(database, filters={}, visible=Visibility("p"), limit=9, marker=foreign.id)


def test_unknown_marker(database: Database) -> None:
    marker = uuid.uuid4()
    with pytest.raises(errors.InvalidPagination) as raised:
        metrics.list_(database, filters={}, limit=9, marker=marker)
    assert str(raised.value) == f"Invalid pagination: `Invalid marker: `{marker}''"


@pytest.mark.parametrize("key", ["nonexistent_key", "archive_policy", "created_at", ""])
def test_unknown_sort_key(database: Database, key: str) -> None:
    for sorts in ([(key, "asc")], [("id", "asc"), (key, "asc")]):
        with pytest.raises(errors.InvalidPagination) as raised:
            metrics.list_(database, filters={}, limit=9, sorts=sorts)
        assert str(raised.value) == (f"Invalid pagination: `Sort key supplied is invalid: {key}'")


def test_unknown_direction(database: Database) -> None:
    with pytest.raises(errors.InvalidPagination, match="must be one of: asc-nullsfirst, asc-nulls"):
        metrics.list_(database, filters={}, limit=9, sorts=[("name", "up")])


def test_default_order_is_that_of_the_ids(database: Database) -> None:
    policy = samples.stored_policy(database)
    metrics.create_many(database, [samples.metric(policy) for _ in range(20)])
    found = [metric.id for metric in metrics.list_(database, filters={}, limit=99)]
    assert found == sorted(found, key=lambda i: i.bytes)
    assert len(found) == 20


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("asc", ["B", "a", "a ", "é", "𝓁", None, None]),
        ("asc-nullslast", ["B", "a", "a ", "é", "𝓁", None, None]),
        ("asc-nullsfirst", [None, None, "B", "a", "a ", "é", "𝓁"]),
        ("desc", [None, None, "𝓁", "é", "a ", "a", "B"]),
        ("desc-nullsfirst", [None, None, "𝓁", "é", "a ", "a", "B"]),
        ("desc-nullslast", ["𝓁", "é", "a ", "a", "B", None, None]),
    ],
)
@pytest.mark.parametrize("key", ["name", "unit", "creator"])
def test_directions_and_nulls_are_alike_everywhere(
    database: Database, key: str, direction: str, expected: list[str | None]
) -> None:
    policy = samples.stored_policy(database)
    stored = [samples.metric(policy, **{key: value}) for value in sorted(expected, key=str)]
    metrics.create_many(database, stored)
    found = metrics.list_(database, filters={}, limit=99, sorts=[(key, direction)])
    assert [getattr(metric, key) for metric in found] == expected


@pytest.mark.parametrize(
    "sorts",
    [
        [],
        [("id", "desc")],
        [("name", "asc")],
        [("name", "desc")],
        [("name", "asc-nullsfirst"), ("unit", "desc-nullslast")],
        [("unit", "desc"), ("name", "asc"), ("id", "desc")],
        [("archive_policy_name", "desc"), ("resource_id", "asc"), ("status", "asc")],
        [("resource_id", "desc-nullslast"), ("creator", "asc-nullsfirst")],
        [("name", "asc"), ("name", "desc")],
    ],
    ids=str,
)
@pytest.mark.parametrize("limit", [1, 4])
def test_pages_join_to_the_whole_listing(
    database: Database, sorts: list[tuple[str, str]], limit: int
) -> None:
    """Equal and null values at the border of two pages neither repeat nor get lost."""
    policies = [samples.stored_policy(database, name) for name in ("low", "high")]
    for i in (1, 6, 11):
        samples.stored_resource(database, id=uuid.UUID(int=i))
    stored = [
        samples.metric(
            policies[i % 2],
            name=(None, "x", "y")[i % 3],
            unit=(None, "s")[i // 3 % 2],
            creator=(None, "u:p")[i // 2 % 2],
            resource_id=uuid.UUID(int=i) if i % 5 == 1 else None,
        )
        for i in range(14)
    ]
    metrics.create_many(database, stored)
    whole = metrics.list_(database, filters={}, limit=99, sorts=sorts)
    assert len(whole) == 14
    joined: list[Any] = []
    marker = None
    while page := metrics.list_(database, filters={}, limit=limit, sorts=sorts, marker=marker):
        joined += page
        marker = page[-1].id
    assert joined == whole


@pytest.mark.parametrize(
    "sorts",
    [[], [("name", "desc")], [("unit", "asc-nullsfirst"), ("resource_id", "desc")]],
    ids=str,
)
def test_pages_of_a_tenant_join_to_the_whole_listing(
    database: Database, sorts: list[tuple[str, str]]
) -> None:
    """What is seen for one reason and what is seen for the other come in one order."""
    policy = samples.stored_policy(database)
    owned = [samples.stored_resource(database, project_id=name).id for name in ("p", "q")]
    stored = [
        samples.metric(
            policy,
            name=f"{i % 3} {i}",
            unit=(None, "s")[i // 3 % 2],
            creator=("u:p", "u:q")[i % 2],
            resource_id=(None, *owned)[i // 2 % 3],
        )
        for i in range(24)
    ]
    metrics.create_many(database, stored)
    visible = Visibility(creator_project="p", resource_project="p")
    whole = [
        metric
        for metric in metrics.list_(database, filters={}, limit=99, sorts=sorts)
        if metric.creator == "u:p" or metric.resource_id == owned[0]
    ]
    assert len(whole) == 16
    joined: list[Any] = []
    marker = None
    while page := metrics.list_(
        database, filters={}, limit=3, sorts=sorts, marker=marker, visible=visible
    ):
        joined += page
        marker = page[-1].id
    assert joined == whole


def test_marker_may_have_been_deleted_meanwhile(database: Database) -> None:
    policy = samples.stored_policy(database)
    stored = [samples.metric(policy, name=name) for name in "abc"]
    metrics.create_many(database, stored)
    metrics.delete(database, stored[1].id)
    found = metrics.list_(
        database, filters={}, limit=9, sorts=[("name", "asc")], marker=stored[1].id
    )
    assert found == [stored[2]]


def test_metric_carries_the_whole_policy(database: Database) -> None:
    policy = samples.stored_policy(database)
    metrics.create(database, samples.metric(policy))
    [found] = metrics.list_(database, filters={}, limit=9)
    assert dataclasses.astuple(found.archive_policy) == dataclasses.astuple(policy)
