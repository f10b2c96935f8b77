"""The contract of the API, scenario by scenario; see ``runner`` for how one is written."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.backends import COMBINATIONS, Combination
from tests.rest import runner, tokens

if TYPE_CHECKING:
    from tests.backends import Shared
    from tests.conftest import UpgradedDatabases
    from tests.rest.conftest import Deployer

FILES = sorted((pathlib.Path(__file__).parent / "contract").glob("*.yaml"))
SCENARIOS = [
    pytest.param(
        scenario,
        mode,
        combination,
        id=f"{file.stem}-{runner.slug(scenario['scenario'])}-{mode}-{combination}",
    )
    for file in FILES
    for scenario in yaml.safe_load(file.read_text(encoding="utf-8"))
    for mode in scenario.get("modes", ["basic"])
    for combination in COMBINATIONS
]


@pytest.mark.parametrize(("scenario", "mode", "combination"), SCENARIOS)
def test_scenario(
    scenario: dict[str, Any],
    mode: str,
    combination: str,
    deploy: Deployer,
    upgraded: UpgradedDatabases,
    shared_stores: Shared,
    request: pytest.FixtureRequest,
    tmp_path: pathlib.Path,
) -> None:
    """Every step gets the answer it must get, on every backend."""
    url, stores = "", None
    database = Combination.parse(combination).database
    if database != "sqlite":
        url = upgraded.on(database, request.getfixturevalue(f"{database}_server"))
        stores = shared_stores.stores(combination, request.getfixturevalue)
    options = {"api.auth_mode": mode, **scenario.get("options", {})}
    if options["api.auth_mode"] == "keystone":
        paste = tmp_path / "api-paste.ini"
        paste.write_text(tokens.PASTE, encoding="utf-8")
        options["api.paste_config"] = str(paste)
    if "policy" in scenario:
        policy_file = tmp_path / "policy.yaml"
        policy_file.write_text(yaml.safe_dump(scenario["policy"]), encoding="utf-8")
        options["oslo_policy.policy_file"] = str(policy_file)
    runner.play(deploy(options, url=url, stores=stores).client, scenario, mode)
