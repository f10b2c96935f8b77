"""The contract of the API, scenario by scenario; see ``runner`` for how one is written."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.rest import runner

if TYPE_CHECKING:
    from tests.rest.conftest import Deployer

FILES = sorted((pathlib.Path(__file__).parent / "contract").glob("*.yaml"))
SCENARIOS = [
    pytest.param(scenario, id=f"{file.stem}-{runner.slug(scenario['scenario'])}")
    for file in FILES
    for scenario in yaml.safe_load(file.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: dict[str, Any], deploy: Deployer, tmp_path: pathlib.Path) -> None:
    """Every step gets the answer it must get."""
    options = dict(scenario.get("options", {}))
    if "policy" in scenario:
        policy_file = tmp_path / "policy.yaml"
        policy_file.write_text(yaml.safe_dump(scenario["policy"]), encoding="utf-8")
        options["oslo_policy.policy_file"] = str(policy_file)
    runner.play(deploy(options).client, scenario)
