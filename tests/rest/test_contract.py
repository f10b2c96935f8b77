"""The contract of the API, scenario by scenario; see ``runner`` for how one is written."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.rest import runner, tokens

if TYPE_CHECKING:
    from tests.conftest import UpgradedDatabases
    from tests.rest.conftest import Deployer

FILES = sorted((pathlib.Path(__file__).parent / "contract").glob("*.yaml"))
SCENARIOS = [
    pytest.param(scenario, mode, id=f"{file.stem}-{runner.slug(scenario['scenario'])}-{mode}")
    for file in FILES
    for scenario in yaml.safe_load(file.read_text(encoding="utf-8"))
    for mode in scenario.get("modes", ["basic"])
]


@pytest.mark.parametrize(("scenario", "mode"), SCENARIOS)
def test_scenario(
    scenario: dict[str, Any],
    mode: str,
    database_kind: str,
    deploy: Deployer,
    upgraded: UpgradedDatabases,
    request: pytest.FixtureRequest,
    tmp_path: pathlib.Path,
) -> None:
    """Every step gets the answer it must get, on every database."""
    url = ""
    if database_kind != "sqlite":
        url = upgraded.on(database_kind, request.getfixturevalue(f"{database_kind}_server"))
    options = {"api.auth_mode": mode, **scenario.get("options", {})}
    if options["api.auth_mode"] == "keystone":
        paste = tmp_path / "api-paste.ini"
        paste.write_text(tokens.PASTE, encoding="utf-8")
        options["api.paste_config"] = str(paste)
    if "policy" in scenario:
        policy_file = tmp_path / "policy.yaml"
        policy_file.write_text(yaml.safe_dump(scenario["policy"]), encoding="utf-8")
        options["oslo_policy.policy_file"] = str(policy_file)
    runner.play(deploy(options, url=url).client, scenario, mode)
