"""The real application, one of its own for each test; over SQLite and files unless asked."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import webtest
from oslo_policy import opts as policy_opts

from gnocchi import config, service
from gnocchi.drivers.file import FileIncoming, FileStorage
from gnocchi.indexer import catalog
from gnocchi.indexer.database import Database
from gnocchi.rest import app
from tests.backends import Shared, Stores

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

SACKS = 4


class Deployment(NamedTuple):
    """An application and what is behind it."""

    services: service.Services
    client: webtest.TestApp


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with an upgraded and otherwise empty database, to be copied."""
    directory = tmp_path_factory.mktemp("empty")
    database = Database(f"sqlite:///{directory}/index.db", sync=False)
    database.upgrade()
    catalog.create_sacks(database, SACKS)
    database.close()
    return directory


@pytest.fixture(scope="session")
def shared_stores() -> Iterator[Shared]:
    """Drivers of other stores than files, for the whole session."""
    shared = Shared(SACKS)
    yield shared
    shared.close()


class Deployer:
    """Builds applications: ``deploy({"api.max_limit": 7})``."""

    def __init__(self, template: pathlib.Path, directory: pathlib.Path) -> None:
        self._template = template
        self._directory = directory
        self._databases: list[Database] = []

    def __call__(
        self,
        options: dict[str, Any] | None = None,
        file: str = "",
        url: str = "",
        stores: Stores | None = None,
    ) -> Deployment:
        """Build one with these options, over copies of the empty database.

        Args:
            options: by ``group.name``.
            file: text of a configuration file, for options that are not registered yet.
            url: another database that has its tables, and nothing else, instead of a copy.
            stores: drivers that have been upgraded, instead of files.
        """
        directory = self._directory / f"deployment-{len(self._databases)}"
        shutil.copytree(self._template, directory)
        path = directory / "gnocchi.conf"
        path.write_text(file, encoding="utf-8")
        conf = config.prepare([], "gnocchi-api", files=[str(path)])
        for group, listed in policy_opts.list_opts():
            conf.register_opts(listed, group=group)
        settings = {
            "storage.file_basepath": str(directory),
            "storage.file_sync": False,
            "incoming.file_basepath": str(directory),
            "incoming.file_sync": False,
            **(options or {}),
        }
        for name, value in settings.items():
            group, _, option = name.partition(".")
            conf.set_override(option, value, group=group)
        database = Database(url or f"sqlite:///{directory}/index.db", sync=False)
        self._databases.append(database)
        catalog.create_sacks(database, SACKS)
        if stores is None:
            stores = Stores(FileStorage(conf.storage), FileIncoming(conf.incoming, SACKS))
            stores.storage.upgrade()
            stores.incoming.upgrade()
        services = service.Services(conf, database, *stores)
        return Deployment(services, webtest.TestApp(app.build(services), lint=True))

    def close(self) -> None:
        """Close the databases."""
        for database in self._databases:
            database.close()


@pytest.fixture
def deploy(empty_database: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[Deployer]:
    """Build applications for one test."""
    deployer = Deployer(empty_database, tmp_path)
    yield deployer
    deployer.close()


@pytest.fixture(scope="module")
def module_deploy(
    empty_database: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployer]:
    """Build applications that the tests of a module share."""
    deployer = Deployer(empty_database, tmp_path_factory.mktemp("shared"))
    yield deployer
    deployer.close()
