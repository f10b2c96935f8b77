"""The programs of gnocchiclient: what people type, and the lines that they and scripts read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.clients.conftest import Deployment

PROGRAM = "import sys; from gnocchiclient.shell import main; sys.exit(main())"


def gnocchi(deployment: Deployment, *arguments: str, user: str = "admin") -> Any:
    """Run the program ``gnocchi``; return what it printed as JSON.

    An error is returned as the text of the last line.
    """
    outside = ("OS_", "GNOCCHI_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(outside)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, *arguments],
        env=environment | deployment.environment(user),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    return json.loads(done.stdout) if "json" in arguments else done.stdout


def test_resources_and_metrics_on_the_command_line(
    deployment: Deployment, unique: str, policy: str
) -> None:
    """Every field that the program removes or rearranges is there."""
    gnocchi(deployment, "resource-type", "create", unique, "-a", "host:string:false:max_length=20")
    made = gnocchi(
        deployment, "resource", "create", unique, "--type", unique, "-a", "host:a",
        "-n", f"cpu:{policy}", "-f", "json",
    )  # fmt: skip
    assert made["host"] == "a"
    shown = gnocchi(deployment, "resource", "show", "--type", unique, unique, "-f", "json")
    assert shown["id"] == made["id"]
    gnocchi(deployment, "resource", "update", "--type", unique, unique, "-a", "host:b")
    history = gnocchi(
        deployment, "resource", "history", "--details", "--type", unique, unique, "-f", "json"
    )
    assert [version["host"] for version in history] == ["a", "b"]
    found = gnocchi(deployment, "resource", "search", "--type", unique, "host = 'b'", "-f", "json")
    assert [resource["id"] for resource in found] == [made["id"]]

    metric = gnocchi(deployment, "metric", "show", "-r", unique, "cpu", "-f", "json")
    assert metric["resource/id"] == made["id"]
    assert metric["archive_policy/name"] == policy
    other = gnocchi(
        deployment, "metric", "create", unique, "--archive-policy-name", policy, "-f", "json"
    )
    assert other["archive_policy_name"] == policy
    other = gnocchi(deployment, "metric", "show", other["id"], "-f", "json")
    assert other["resource/id"] is None
    assert gnocchi(deployment, "metric", "list", "--limit", "1", "--sort", "id:asc", "-f", "json")
    measure = "2026-01-05T10:00:00+00:00@42"
    gnocchi(deployment, "measures", "add", "-r", unique, "cpu", "-m", measure)
    values = gnocchi(
        deployment, "measures", "show", "--refresh", "--utc", "-r", unique, "cpu", "-f", "json"
    )
    assert [value["value"] for value in values] == [42.0]
    assert "storage/total number of measures to process" in gnocchi(
        deployment, "status", "-f", "json"
    )
    gnocchi(deployment, "resource", "delete", unique)
    assert gnocchi(deployment, "resource", "show", unique).startswith("Resource ")


def test_errors_are_one_exact_line(deployment: Deployment, unique: str) -> None:
    """Scripts compare them, so nothing may be added, such as the number of the request."""
    nobody = "10000000-0000-4000-8000-000000000001"
    for arguments, line in (
        (("metric", "show", nobody), f"Metric {nobody} does not exist (HTTP 404)"),
        (("resource", "show", nobody), f"Resource {nobody} does not exist (HTTP 404)"),
        (
            ("resource-type", "show", unique),
            f"Resource type {unique} does not exist (HTTP 404)",
        ),
        (
            ("archive-policy", "delete", unique),
            f"Archive policy {unique} does not exist (HTTP 404)",
        ),
        (
            ("resource", "list", "--type", unique),
            f"Resource type {unique} does not exist (HTTP 404)",
        ),
    ):
        assert gnocchi(deployment, *arguments) == line
    assert gnocchi(deployment, "status", user="alice").endswith("(HTTP 403)")
