"""The schema: how it is made, upgraded and recognised."""

from __future__ import annotations

import multiprocessing
import pathlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from gnocchi import errors
from gnocchi.indexer import catalog, policies, tables, upgrade
from gnocchi.indexer.database import Database
from gnocchi.indexer.upgrade import VERSION_TABLE
from tests.indexer import samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def empty(database_url: str) -> Iterator[Database]:
    """A database without tables."""
    db = Database(database_url)
    yield db
    db.close()


@pytest.fixture
def own(empty: Database) -> Database:
    """An upgraded database that no other test uses."""
    empty.upgrade()
    return empty


def table_names(db: Database) -> set[str]:
    with db.read() as connection:
        return set(sa.inspect(connection).get_table_names())


def test_check_fails_before_and_succeeds_after_the_upgrade(empty: Database) -> None:
    with pytest.raises(errors.Misconfigured, match="gnocchi-upgrade"):
        empty.check()
    empty.upgrade()
    empty.check()


def test_state_starts_with_zeros(database: Database) -> None:
    assert catalog.state(database) == (0, 0, 0, 0, 0, 0)


def test_second_upgrade_keeps_everything(database: Database) -> None:
    policy = samples.stored_policy(database)
    database.upgrade()
    assert policies.all(database) == [policy]


def _upgrade(url: str, start: float) -> None:
    Database(url).upgrade()


def test_upgrades_at_the_same_time_all_succeed(empty: Database) -> None:
    url = empty.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_upgrade, args=(url, 0.0)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    empty.check()
    assert catalog.state(empty) == (0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("name", ["metric", "archive_policy", "alembic_version", "customers"])
def test_foreign_tables_are_refused_and_left_alone(empty: Database, name: str) -> None:
    with empty.write() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {name} (id INTEGER)")
    for _ in range(2):
        with pytest.raises(errors.Misconfigured, match=f"(?s){name}.*Nothing was changed"):
            empty.upgrade()
    with pytest.raises(errors.Misconfigured, match="gnocchi-upgrade"):
        empty.check()
    assert table_names(empty) == {name}


def test_metrics_of_the_first_version_are_kept(empty: Database) -> None:
    """They lose resources that were none, and learn the project of their creator."""
    upgrade_to(empty, "a1c40e52")
    creators = {"a": "u:p:q", "b": "u", "c": None, "d": "u:", "e": ":p"}
    with empty.write() as connection:
        connection.exec_driver_sql("INSERT INTO archive_policy VALUES ('low', 0, '[]', '[]', '[]')")
        for number, (name, creator) in enumerate(creators.items(), 1):
            identity = f"{number:032x}"
            connection.execute(
                sa.text(
                    "INSERT INTO metric (id, archive_policy_name, creator, resource_id, name, "
                    "status, created_at) VALUES (:id, 'low', :creator, :id, :name, 'active', 0)"
                ),
                {"id": identity, "creator": creator, "name": name},
            )
    empty.upgrade()
    empty.check()
    with empty.read() as connection:
        table = tables.metric
        rows = connection.execute(
            sa.select(table.c.name, table.c.creator, table.c.creator_project, table.c.resource_id)
        ).all()
    assert {row.name: row.creator for row in rows} == creators
    projects = {row.name: row.creator_project for row in rows}
    assert projects == {"a": "p:q", "b": None, "c": None, "d": "", "e": "p"}
    assert {row.resource_id for row in rows} == {None}


def upgrade_to(db: Database, version: str) -> None:
    """Make the tables of an earlier version."""
    with db.write() as connection:
        config = Config()
        config.set_main_option("script_location", "gnocchi.indexer:alembic")
        config.set_main_option("path_separator", "os")
        config.attributes.update(
            connection=connection, version_table=VERSION_TABLE, transactional=not db.mysql
        )
        command.upgrade(config, version)


def test_schema_of_a_newer_version_is_refused(own: Database) -> None:
    with own.write() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = 'f00d'")
    with pytest.raises(errors.Misconfigured, match=r"f00d.*newer"):
        own.upgrade()
    with pytest.raises(errors.Misconfigured, match="gnocchi-upgrade"):
        own.check()


def test_first_upgrade_that_was_killed_half_way_is_done_again(own: Database) -> None:
    if not own.mysql:
        pytest.skip("this database undoes a half upgrade by itself")
    with own.write() as connection:
        connection.exec_driver_sql(f"DELETE FROM {VERSION_TABLE}")
        connection.exec_driver_sql("DROP TABLE segment")
        connection.exec_driver_sql("DROP TABLE metric")
    own.upgrade()
    own.check()
    assert table_names(own) == {*tables.metadata.tables, VERSION_TABLE}


def belongs_to(db: Database) -> Callable[..., bool]:
    """Leave out indexes that only PostgreSQL has."""

    def included(_item: object, name: str | None, kind: str, *_rest: object) -> bool:
        return not (kind == "index" and str(name).endswith("_attributes")) or db.postgresql

    return included


@pytest.mark.parametrize(
    "undone",
    [
        [],
        ["DROP INDEX ix_metric_creator_project_id ON metric"],
        [
            "ALTER TABLE metric DROP FOREIGN KEY fk_metric_resource_id_resource",
            "DROP TABLE resource_history",
            "DROP TABLE resource",
        ],
    ],
    ids=["the version", "an index", "tables"],
)
@pytest.mark.parametrize("database_kind", ["mariadb"])
def test_upgrade_that_was_killed_half_way_is_done_again(own: Database, undone: list[str]) -> None:
    with own.write() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = 'a1c40e52'")
        for statement in undone:
            connection.exec_driver_sql(statement)
    own.upgrade()
    own.check()
    assert table_names(own) == {*tables.metadata.tables, VERSION_TABLE}
    test_tables_are_what_the_migrations_make(own)


def test_tables_are_what_the_migrations_make(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "version_table": VERSION_TABLE,
                "include_object": belongs_to(database),
            },
        )
        assert compare_metadata(context, tables.metadata) == []


def test_comparison_notices_a_column_that_is_missing(database: Database) -> None:
    """The test above would be worthless if it found nothing ever."""
    other = sa.MetaData()
    for table in tables.metadata.tables.values():
        table.to_metadata(other)
    other.tables["metric"].append_column(sa.Column("colour", sa.String(5)))
    with database.read() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"version_table": VERSION_TABLE, "include_object": belongs_to(database)},
        )
        assert [change[0] for change in compare_metadata(context, other)] == ["add_column"]


def test_postgresql_of_another_encoding_is_refused(request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("postgresql_server")
    admin = sa.create_engine(server.url, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(
            "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
        )
    db = Database(server.url.replace("/postgres", "/latin"))
    with pytest.raises(errors.Misconfigured, match="LATIN1"):
        db.upgrade()
    db.close()
    with admin.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE latin")


def test_head_is_the_last_revision() -> None:
    place = pathlib.Path(upgrade.__file__).with_name("alembic")
    assert ScriptDirectory(str(place)).get_current_head() == upgrade.HEAD


def test_checking_the_schema_does_not_load_the_migration_tool(tmp_path: pathlib.Path) -> None:
    """It would stay in the memory of every process of every daemon."""
    url = f"sqlite:///{tmp_path}/index.db"
    Database(url).upgrade()
    program = (
        "import sys; from gnocchi.indexer.database import Database; "
        f"Database({url!r}).check(); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
