"""A site for each test; skips where the distribution is not installed."""

from __future__ import annotations

import os
import pathlib

import pytest

from tests import servers
from tests.acceptance.site import COMMANDS, SCRIPTS, Site


@pytest.fixture(scope="session")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The data of a site with nothing but what gnocchi-upgrade makes; not to be changed."""
    missing = [name for name in COMMANDS if not (SCRIPTS / name).exists()]
    if missing:
        message = f"not installed: {', '.join(missing)} (pip install -e .)"
        if os.environ.get("TEST_REQUIRE_SERVERS"):
            pytest.fail(message)
        pytest.skip(message)
    site = Site(tmp_path_factory.mktemp("upgraded"), pathlib.Path("unused"))
    done = site.run("gnocchi-upgrade")
    assert done.returncode == 0, done.stderr
    return site.data


@pytest.fixture
def site(tmp_path: pathlib.Path, upgraded: pathlib.Path) -> Site:
    """An installation that has not been upgraded yet."""
    return Site(tmp_path, upgraded)


@pytest.fixture
def port() -> int:
    """A port that nobody else uses."""
    return servers.reserve_port()
