"""The commands of the quick starts work: each ``curl`` is sent as it stands there."""

from __future__ import annotations

import base64
import json
import pathlib
import re
import shlex
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import webtest

    from tests.rest.conftest import Deployment

ROOT = pathlib.Path(__file__).parents[2]
SERVER = "http://127.0.0.1:8041"
OPTIONS = {"-u", "-H", "-d", "-X"}


def commands(page: pathlib.Path) -> list[str]:
    """Return the shell commands with ``curl`` in the literal blocks of a page."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    # a quoted body may go on for several lines
    found = re.findall(r"^ {4}((?:\w+=\$\()?curl (?:'[^']*'|[^'\n])*)$", text, re.MULTILINE)
    return [command.strip() for command in found]


def send(client: webtest.TestApp, command: str, variables: dict[str, str]) -> webtest.TestResponse:
    """Send what a ``curl`` command would, and keep what the command assigns."""
    name, assigned, rest = command.partition("=$(") if "=$(" in command else ("", "", command)
    words = shlex.split(rest.split("|")[0])
    for variable, value in variables.items():
        words = [word.replace(f"${variable}", value) for word in words]
    given: dict[str, list[str]] = {option: [] for option in OPTIONS}
    address = ""
    position = 1
    while position < len(words):
        if words[position] in OPTIONS:
            given[words[position]].append(words[position + 1])
            position += 1
        elif words[position].startswith(SERVER):
            address = words[position].removeprefix(SERVER)
        else:
            assert words[position] == "-s", f"unknown option: {command}"
        position += 1
    headers = dict(header.split(": ", 1) for header in given["-H"])
    headers |= {"Authorization": f"Basic {base64.b64encode(given['-u'][0].encode()).decode()}"}
    body = "".join(given["-d"])
    method = (given["-X"] or ["POST" if body else "GET"])[0]
    response = client.request(
        address, method=method, headers={"Accept": "*/*"} | headers, body=body.encode()
    )
    if assigned:
        variables[name] = json.loads(response.body)["id"]
    return response


@pytest.mark.parametrize("page", ["README.rst", "doc/quickstart.rst"])
def test_the_commands_of_a_quick_start_work(page: str, deployment: Deployment) -> None:
    variables: dict[str, str] = {}
    listed = commands(ROOT / page)
    assert len(listed) == (ROOT / page).read_text(encoding="utf-8").count("curl ")
    responses = [send(deployment.client, command, variables) for command in listed]
    # The last command shows aggregates of what the others have posted.
    assert json.loads(responses[-1].body), page
