"""Connections and transactions."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from gnocchi import errors
from gnocchi.indexer import catalog, metrics, tables
from gnocchi.indexer.database import Database
from tests.conftest import create_database, drop_database
from tests.indexer import samples
from tests.servers import Server, paused, reserve_port

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


@pytest.fixture
def sqlite(tmp_path: pathlib.Path) -> Iterator[Database]:
    """An upgraded SQLite database."""
    db = Database(f"sqlite:///{tmp_path}/index.db")
    db.upgrade()
    yield db
    db.close()


@pytest.fixture
def mariadb_url(mariadb_server: Server) -> Iterator[str]:
    """The URL of an empty database on MariaDB."""
    url = create_database(mariadb_server)
    yield url
    drop_database(mariadb_server, url)


def bump(connection: sa.Connection, name: str) -> None:
    connection.execute(
        tables.state.update()
        .where(tables.state.c.name == name)
        .values(value=tables.state.c.value + 1)
    )


@pytest.mark.parametrize(
    ("url", "drivername"),
    [
        ("postgresql://u@h/d", "postgresql+psycopg2"),
        ("postgres://u@h/d", "postgresql+psycopg2"),
        ("mysql://u@h/d", "mysql+pymysql"),
        ("mariadb://u@h/d", "mariadb+pymysql"),
        ("mysql+pymysql://u@h/d", "mysql+pymysql"),
        ("sqlite:////tmp/d", "sqlite+pysqlite"),
    ],
)
def test_scheme_without_driver_gets_the_tested_driver(url: str, drivername: str) -> None:
    assert Database(url).url.drivername == drivername


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "oracle://h/d", "nonsense", ""])
def test_unusable_url_is_a_misconfiguration(url: str) -> None:
    with pytest.raises(errors.Misconfigured, match="url"):
        Database(url)


def test_unknown_driver_is_a_misconfiguration() -> None:
    with pytest.raises(errors.Misconfigured, match="url"):
        Database("postgresql+nonsense://h/d")


def test_relative_path_of_sqlite_outlives_a_change_of_directory(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    db = Database("sqlite:///index.db")
    monkeypatch.chdir("/")
    db.upgrade()
    db.close()
    assert (tmp_path / "index.db").exists()


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_either_name_of_mariadb_works(mariadb_url: str, scheme: str) -> None:
    db = Database(mariadb_url.replace("mysql+pymysql", scheme))
    db.upgrade()
    db.check()
    metric = samples.metric(samples.stored_policy(db, "✔ 𝓁"))
    metrics.create(db, metric)
    assert metrics.get_many(db, [metric.id]) == [metric]
    assert metrics.list_(db, filters={}, limit=9) == [metric]
    assert len(metrics.identities(db, [metric.id.bytes])) == 1
    db.close()


def test_password_is_not_shown() -> None:
    assert "geheim" not in repr(Database("postgresql://u:geheim@h/d"))


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_server_that_does_not_answer_is_unavailable(scheme: str) -> None:
    db = Database(f"{scheme}://u:geheim@127.0.0.1:{reserve_port()}/d")
    with pytest.raises(errors.Unavailable) as raised:
        catalog.state(db)
    assert "geheim" not in str(raised.value)


def test_sqlite_file_that_cannot_be_opened_is_unavailable(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.Unavailable):
        catalog.state(Database(f"sqlite:///{tmp_path}/missing/index.db"))


def test_file_that_is_no_database_is_corrupt(tmp_path: pathlib.Path) -> None:
    (tmp_path / "index.db").write_bytes(b"no database at all, but long enough to be looked at" * 99)
    with pytest.raises(errors.Corrupt):
        catalog.state(Database(f"sqlite:///{tmp_path}/index.db"))


def test_exhausted_pool_is_unavailable(database_url: str) -> None:
    db = Database(database_url, pool_size=1, max_overflow=0, pool_timeout_s=0.01)
    with db.read(), pytest.raises(errors.Unavailable), db.read():
        pytest.fail("a second connection")
    db.close()


def test_missing_tables_ask_for_the_upgrade(database_url: str) -> None:
    db = Database(database_url)
    with pytest.raises(errors.Misconfigured, match="gnocchi-upgrade"):
        catalog.state(db)
    db.close()


def test_connections_closed_by_the_server_are_replaced(database: Database) -> None:
    """A restarted server cost every process one failed request."""
    if database.sqlite:
        pytest.skip("SQLite has no server that could close a connection")
    with database.read() as doomed:
        number = doomed.exec_driver_sql(
            "SELECT pg_backend_pid()" if database.postgresql else "SELECT connection_id()"
        ).scalar_one()
    killer = Database(database.url.render_as_string(hide_password=False))
    with killer.write() as connection:
        connection.exec_driver_sql(
            f"SELECT pg_terminate_backend({number})" if database.postgresql else f"KILL {number}"
        )
    killer.close()
    assert catalog.state(database).catalog == 0


def test_write_is_undone_when_the_block_fails(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            bump(connection, "catalog")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert catalog.state(database).catalog == 0


def test_run_returns_what_the_function_returns_and_commits(database: Database) -> None:
    def work(connection: sa.Connection) -> int:
        bump(connection, "catalog")
        return 5

    assert database.run(work) == 5
    assert catalog.state(database).catalog == 1


def test_run_undoes_and_passes_on_errors_of_the_function(database: Database) -> None:
    def work(connection: sa.Connection) -> None:
        bump(connection, "catalog")
        raise errors.NoSuchArchivePolicy("x")

    with pytest.raises(errors.NoSuchArchivePolicy):
        database.run(work)
    assert catalog.state(database).catalog == 0


def test_run_repeats_what_a_deadlock_undid(database: Database) -> None:
    """Two transactions that lock two rows in opposite orders both succeed in the end."""
    meet = threading.Barrier(2)
    calls: list[str] = []

    def swapped(first: str, second: str) -> None:
        def work(connection: sa.Connection) -> None:
            calls.append(first)
            bump(connection, first)
            if len(calls) <= 2 and not database.sqlite:  # where writers wait for one another
                meet.wait(10)
            bump(connection, second)

        database.run(work)

    threads = [
        threading.Thread(target=swapped, args=names)
        for names in (("catalog", "policies"), ("policies", "catalog"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert catalog.state(database) == (2, 0, 2, 0, 0, 0)
    assert len(calls) == 2 if database.sqlite else len(calls) >= 3


def test_snapshot_sees_one_moment(database: Database) -> None:
    query = sa.select(tables.state.c.value).where(tables.state.c.name == "catalog")
    with database.read(snapshot=True) as connection:
        before = connection.execute(query).scalar_one()
        database.run(lambda other: bump(other, "catalog"))
        assert connection.execute(query).scalar_one() == before
    assert catalog.state(database).catalog == before + 1


def test_plain_read_sees_each_commit(database: Database) -> None:
    query = sa.select(tables.state.c.value).where(tables.state.c.name == "catalog")
    with database.read() as connection:
        before = connection.execute(query).scalar_one()
        database.run(lambda other: bump(other, "catalog"))
        assert connection.execute(query).scalar_one() == before + 1


def test_pooled_connection_forgets_the_snapshot(database: Database) -> None:
    with database.read(snapshot=True) as connection:
        connection.execute(sa.select(tables.state)).all()
    test_plain_read_sees_each_commit(database)


def test_sqlite_reader_does_not_wait_for_a_writer(sqlite: Database) -> None:
    with sqlite.write() as connection:
        bump(connection, "catalog")
        assert catalog.state(sqlite).catalog == 0
    assert catalog.state(sqlite).catalog == 1


@pytest.mark.parametrize(("sync", "level"), [(True, 2), (False, 1)])
def test_sqlite_syncs_as_configured(tmp_path: pathlib.Path, sync: bool, level: int) -> None:
    db = Database(f"sqlite:///{tmp_path}/index.db", sync=sync)
    with db.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == level
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    db.close()


def _count(url: str, times: int) -> None:
    db = Database(url)
    for _ in range(times):
        db.run(lambda connection: bump(connection, "catalog"))


def test_processes_write_at_the_same_time(database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_count, args=(url, 50)) for _ in range(3)]
    for process in processes:
        process.start()
    _count(url, 50)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert catalog.state(database).catalog == 200


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_child_of_a_fork_has_connections_of_its_own(database: Database) -> None:
    """Parent and child use the database in turn; a shared connection would mix up answers."""
    catalog.state(database)
    with database.read() as borrowed:  # in use while the process forks
        borrowed.execute(sa.select(tables.state)).all()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for _ in range(20):
                    database.run(lambda connection: bump(connection, "catalog"))
                status = 0
            finally:
                os._exit(status)
        for _ in range(20):
            database.run(lambda connection: bump(connection, "catalog"))
        assert os.waitpid(child, 0)[1] == 0
        borrowed.execute(sa.select(tables.state)).all()
    assert catalog.state(database).catalog == 40


def test_server_that_stopped_answering_is_unavailable_within_the_time_out(
    request: pytest.FixtureRequest, database_kind: str, database_url: str
) -> None:
    """A stopped process keeps its connections, so nothing but the clock says that it is gone."""
    if database_kind == "sqlite":
        pytest.skip("SQLite has no server that could stop")
    server: Server = request.getfixturevalue(f"{database_kind}_server")
    db = Database(database_url, give_up_s=1.0)
    db.upgrade()
    with paused(server.process):
        for _ in range(2):  # over a connection that is there, and over none
            began = time.monotonic()
            with pytest.raises(errors.Unavailable):
                catalog.state(db)
            assert time.monotonic() - began < 8
    assert catalog.state(db).catalog == 0
    db.close()


def test_locks_of_a_client_that_vanished_are_freed_by_the_server(
    request: pytest.FixtureRequest,
    database_kind: str,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host that is cut off in the middle of a commit must not stop all others."""
    if database_kind == "sqlite":
        pytest.skip("SQLite's clients are processes of one machine, which free their locks")
    db = Database(database_url)
    db.upgrade()
    monkeypatch.setattr("gnocchi.indexer.database.ABANDONED_S", 1)
    cut_off = Database(database_url)
    with contextlib.suppress(errors.Unavailable), cut_off.write() as connection:
        bump(connection, "catalog")
        began = time.monotonic()
        db.run(lambda other: bump(other, "catalog"))
        assert time.monotonic() - began < 10
    assert catalog.state(db).catalog == 1
    cut_off.close()
    db.close()
