"""The real application in mode ``keystone``, on each kind of database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import webtest
from oslo_policy import opts as policy_opts

from gnocchi import config, service
from gnocchi.drivers.file import FileIncoming, FileStorage
from gnocchi.indexer import catalog
from gnocchi.rest import app
from tests.rest import tokens

if TYPE_CHECKING:
    import pathlib

    from gnocchi.indexer.database import Database

SACKS = 4


@pytest.fixture
def api(database: Database, tmp_path: pathlib.Path) -> webtest.TestApp:
    """A client of the application; a token says whose it is, see `tests.rest.tokens`."""
    paste = tmp_path / "api-paste.ini"
    paste.write_text(tokens.PASTE)
    conf = config.prepare([], "gnocchi-api", files=[])
    for group, listed in policy_opts.list_opts():
        conf.register_opts(listed, group=group)
    conf.set_override("auth_mode", "keystone", group="api")
    conf.set_override("paste_config", str(paste), group="api")
    conf.set_override("file_basepath", str(tmp_path), group="storage")
    conf.set_override("file_sync", False, group="storage")
    conf.set_override("file_basepath", str(tmp_path), group="incoming")
    conf.set_override("file_sync", False, group="incoming")
    catalog.create_sacks(database, SACKS)
    services = service.Services(
        conf, database, FileStorage(conf.storage), FileIncoming(conf.incoming, SACKS)
    )
    services.storage.upgrade()
    services.incoming.upgrade()
    return webtest.TestApp(app.build(services), lint=True)
