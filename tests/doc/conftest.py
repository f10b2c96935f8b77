"""The application that the manual's examples are about: one as ``gnocchi-upgrade`` leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gnocchi import upgrade
from tests.rest.conftest import Deployer, empty_database

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from tests.rest.conftest import Deployment

__all__ = ["empty_database"]


@pytest.fixture
def deployment(empty_database: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[Deployment]:
    """An application with the archive policies and the rule that there are at first."""
    deployer = Deployer(empty_database, tmp_path)
    deployment = deployer()
    upgrade.create_policies(deployment.services.db, deployment.services.conf)
    yield deployment
    deployer.close()
