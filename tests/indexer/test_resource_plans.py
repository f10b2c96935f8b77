"""The questions that are asked all the time are answered from an index."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from gnocchi import search
from gnocchi.indexer import links, resource_types, resources, tables
from gnocchi.indexer.resources import Visibility
from gnocchi.resource_type import ResourceType
from tests.indexer import samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from gnocchi.indexer.database import Database

COUNT = 3000
KIND = ResourceType.from_json(
    {"name": "vm", "attributes": {"host": {"type": "string"}, "size": {"type": "number"}}}
)


def identity(number: int) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, str(number))


def row(number: int) -> dict[str, Any]:
    return {
        "id": identity(number),
        "type": "vm" if number % 100 == 0 else "generic",
        "creator": f"u:p{number % 300}",
        "creator_project": f"p{number % 300}",
        "original_resource_id": f"r{number}",
        "user_id": None,
        "project_id": f"p{number % 300}",
        "started_at": number,
        "ended_at": None,
        "revision_start": number,
        "attributes": {"host": f"h{number}", "size": number},
    }


@pytest.fixture
def filled(database: Database) -> Database:
    """A database with so much in it that indexes are worth it."""
    samples.stored_policy(database)
    resource_types.create(database, KIND)
    rows = [row(n) for n in range(COUNT)]
    metrics = [
        {
            "id": uuid.uuid4(), "archive_policy_name": "low", "creator": "u:p", "name": "cpu",
            "resource_id": one["id"], "unit": None, "status": "active", "created_at": 0,
        }
        for one in rows
    ]  # fmt: skip
    with database.write() as connection:
        connection.execute(tables.resource.insert(), rows)
        past = [one | {"revision_end": one["revision_start"] + 1} for one in rows]
        connection.execute(tables.resource_history.insert(), past)
        connection.execute(tables.metric.insert(), metrics)
    with database.read() as connection:
        raw = connection.execution_options(isolation_level="AUTOCOMMIT")
        for table in ("resource", "resource_history", "metric"):
            words = {"sqlite": "ANALYZE", "postgresql": "VACUUM ANALYZE"}
            raw.exec_driver_sql(f"{words.get(database.dialect, 'ANALYZE TABLE')} {table}").close()
    return database


def plans(db: Database, action: Callable[[], Any]) -> str:
    """What the database does for an action that reads, as far as big tables are concerned."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, text: str, parameters: Any, *_rest: Any) -> None:
        if re.search(r"\b(resource|resource_history|metric)\b", text):
            sent.append((text, parameters))

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        assert action()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    word = "EXPLAIN QUERY PLAN " if db.sqlite else "EXPLAIN "
    lines: list[str] = []
    with db.read() as connection:
        for text, parameters in sent:
            for line in connection.exec_driver_sql(word + text, parameters):
                lines.append(" ".join(map(str, line)))
    return "\n".join(lines)


def questions(db: Database) -> dict[str, tuple[str, Callable[[], Any]]]:
    """The index that is expected, and the question, by what it is called."""

    def page(kind: str = "generic", wanted: Any = None, **options: Any) -> Callable[[], Any]:
        node = None if wanted is None else search.from_json(wanted)
        return lambda: resources.list_(db, kind, filter=node, limit=5, **options)

    middle, latest = identity(COUNT // 2), identity(COUNT - 30)
    many = [str(identity(n)) for n in range(0, COUNT, 300)]
    project = {"=": {"project_id": "p5"}}
    return {
        "page": ("ix_resource_revision_start_started_at_id", page()),
        "deep page": ("ix_resource_revision_start_started_at_id", page(marker=str(latest))),
        "page of a type": ("ix_resource_type_revision_start_started_at_id", page("vm")),
        "page by id": ("pk_resource|PRIMARY|sqlite_autoindex_resource_1",
                       page(sorts=[("id", "asc")])),
        "project": ("ix_resource_project_id_revision_start", page(wanted=project)),
        "visible": ("ix_resource_creator_project_revision_start",
                    page(visible=Visibility(creator_project="p5"))),
        "creator": ("ix_resource_creator_revision_start",
                    page(wanted={"=": {"creator": "u:p5"}})),
        "made by": ("ix_resource_creator_project_revision_start",
                    page(wanted={"=": {"created_by_project_id": "p5"}})),
        "original id": ("ix_resource_original_resource_id",
                        page(wanted={"=": {"original_resource_id": "r77"}})),
        "started": ("ix_resource_started_at",
                    page(wanted={"and": [{">=": {"started_at": 0.0001}},
                                         {"<": {"started_at": 0.00012}}]})),
        "ids": ("pk_resource|PRIMARY|sqlite_autoindex_resource_1",
                page(wanted={"in": {"id": many}})),
        "history page": ("ix_resource_history_revision_start_started_at_id_revision",
                         page(history=True)),
        "deep history page": ("ix_resource_history_revision_start_started_at_id_revision",
                              page(history=True, marker=f"{latest}@-1")),
        "history of one": ("ix_resource_history_id_revision_start",
                           lambda: resources.history(db, "generic", middle, limit=5)),
        "one": ("uq_metric_resource_id_name|sqlite_autoindex_metric_2",
                lambda: resources.get(db, "generic", middle)),
        "links": ("uq_metric_resource_id_name|sqlite_autoindex_metric_2",
                  lambda: links.find(db, {identity(n): ["cpu"] for n in range(5)})),
    }  # fmt: skip


# What PostgreSQL says for a table that is read from one end to the other, and the others.
WHOLE = re.compile(
    r"Seq Scan on (resource|resource_history|metric)\b"
    r"|SCAN (resource|resource_history|metric|m)\b(?! USING)"
    r"|\b(resource|resource_history|metric|m) ALL\b"
)


def test_every_question_has_an_index(filled: Database) -> None:
    for name, (index, action) in questions(filled).items():
        found = plans(filled, action)
        assert re.search(rf"\b({index})\b", found), f"{name}: {found}"
        assert not WHOLE.search(found), f"{name}: {found}"


@pytest.mark.parametrize("database_kind", ["postgresql"])
@pytest.mark.parametrize("history", [False, True], ids=["current", "history"])
def test_attributes_have_an_index(filled: Database, history: bool) -> None:
    """On PostgreSQL, which can have one for all names at once."""
    for wanted in (
        {"=": {"host": "h200"}},
        {"=": {"size": 200}},
        {"in": {"host": ["h200", "h300"]}},
        {"and": [{"=": {"host": "h200"}}, {"=": {"ended_at": None}}]},
        {"not": {"not": {"=": {"host": "h200"}}}},
    ):
        found = plans(filled, matching(filled, wanted, history))
        assert re.search(r"\bix_resource_attributes\b", found), found
        assert history == bool(re.search(r"\bix_resource_history_attributes\b", found)), found
        assert not WHOLE.search(found), found


def matching(db: Database, wanted: Any, history: bool) -> Callable[[], Any]:
    node = search.from_json(wanted)
    return lambda: resources.list_(db, "vm", filter=node, history=history, limit=5)


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_deep_page_begins_where_the_one_before_ended(filled: Database) -> None:
    """Nothing that came before the marker is looked at again."""
    action = questions(filled)["deep page"][1]
    found = plans(filled, action)
    assert re.search(r"Index Cond: \(revision_start >=", found), found
    assert "Sort" not in found.split("metric")[0], found
