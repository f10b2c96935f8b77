"""Plays scenarios: requests and the answers they must get, as data.

A scenario is a mapping with ``scenario`` (what holds), ``steps``, and optionally ``as`` (the user
of all steps, ``admin`` unless given), ``options`` (``group.option: value``), ``policy`` (rules of
the policy file), ``setup`` (names of `SETUPS` to run first) and ``modes`` (of authentication, the
scenario being played in each; ``[basic]`` unless given).

A user is a name. In mode ``keystone`` the user ``alice`` is a member of the project
``alice-project``, ``admin`` has the role ``admin``, and ``user:project:role,role`` names anybody
else. ``$creator_alice`` stands for the creator that alice is in the mode, and ``$project_alice``
for her project, which is empty in other modes.

A step sends ``request`` (method and address) with ``as``, ``accept`` (``application/json`` unless
given, null for none), ``send`` (headers), ``environ``, ``mounted`` (a prefix), and a body:
``json_body``, ``raw_body`` (``repeat`` times), ``hex_body`` or ``nested`` (so many lists in one
another), with ``content_type``. ``at`` is the time, in UTC, from which on versions of resources
that the request makes are valid. It expects ``status`` and any of

====================  =========================================================================
``headers``           exact values
``validators``        ``true``: those that follow from the resource in the body
``header_has``        a fragment of the value
``no_headers``        headers that must be absent
``json``              the exact document
``json_has``          members, at any depth; a list stands for all of its items
``keys``              the sorted names of all members of the document
``length``            lengths of members, by dotted path; an empty one is the document
``unordered``         members that are lists, in any order, by dotted path
``ids``               ``id`` of the listed items, in any order
``ordered_ids``       the same, in this order
``each``              some members of each of the listed items, in order
``text``              fragments of the body
``text_lacks``        fragments that must not be in the body
``body_is``           the exact body
====================  =========================================================================

``save`` keeps members of the document under a name, and ``$NAME`` stands for it in later steps,
and in the expectations of the step itself. ``ascending`` lists names whose values are exchanged so
that they ascend in the order of the list.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import email.utils
import hashlib
import json
import re
import string
import types
import urllib.parse
from typing import TYPE_CHECKING, Any
from unittest import mock

import webtest

if TYPE_CHECKING:
    from collections.abc import Iterator

SETUPS: dict[str, dict[str, Any]] = {
    "policy-medium": {
        "request": "POST /v1/archive_policy",
        "json_body": {"name": "medium", "definition": [{"granularity": "1 second"}]},
    },
    "policy-other": {
        "request": "POST /v1/archive_policy",
        "json_body": {"name": "other", "definition": [{"granularity": "1 minute"}]},
    },
    "policy-two": {
        "request": "POST /v1/archive_policy",
        "json_body": {
            "name": "two",
            "definition": [{"granularity": 1, "timespan": "90 days"}, {"granularity": 60}],
            "aggregation_methods": ["+rate:mean"],
        },
    },
    "policy-rate": {
        "request": "POST /v1/archive_policy",
        "json_body": {
            "name": "rate",
            "definition": [{"granularity": 60}],
            "aggregation_methods": ["rate:mean"],
        },
    },
    "policy-low": {
        "request": "POST /v1/archive_policy",
        "json_body": {
            "name": "low",
            "definition": [{"granularity": "1 hour"}, {"granularity": "2 hours"}],
        },
    },
    "type-vm": {
        "request": "POST /v1/resource_type",
        "json_body": {
            "name": "vm",
            "attributes": {
                "host": {"type": "string", "required": False},
                "flavor": {"type": "string", "required": False, "max_length": 8},
                "cores": {"type": "number", "required": False, "min": 0},
                "up": {"type": "bool", "required": False},
                "image": {"type": "uuid", "required": False},
                "booted": {"type": "datetime", "required": False},
            },
        },
    },
    "type-router": {
        "request": "POST /v1/resource_type",
        "json_body": {
            "name": "router",
            "attributes": {
                "serial": {"type": "string", "min_length": 4},
                "rack": {"type": "uuid", "required": False},
            },
        },
    },
    "rule-r1-two": {
        "request": "POST /v1/archive_policy_rule",
        "json_body": {"name": "r1", "metric_pattern": "*", "archive_policy_name": "two"},
    },
    "rule-r1": {
        "request": "POST /v1/archive_policy_rule",
        "json_body": {"name": "r1", "metric_pattern": "*", "archive_policy_name": "medium"},
    },
}

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_SENDING = {
    "request", "as", "accept", "send", "environ", "environ_bytes", "mounted", "json_body",
    "raw_body", "repeat", "hex_body", "nested", "content_type", "save", "at", "ascending",
}  # fmt: skip


def play(client: webtest.TestApp, scenario: dict[str, Any], mode: str = "basic") -> None:
    """Run all steps of a scenario; the first expectation that is not met fails."""
    for name in scenario.get("setup", []):
        response = send(client, {**SETUPS[name], "as": "admin"}, mode)
        assert response.status_int == 201, response.text
    saved = {
        f"creator_{name}": name if mode != "keystone" else f"{name}:{name}-project"
        for name in ("admin", "alice", "bob")
    }
    saved["project_alice"] = "alice-project" if mode == "keystone" else ""
    for step in scenario["steps"]:
        step = {"as": scenario.get("as", "admin"), **step}
        sending = {name: value for name, value in step.items() if name in _SENDING}
        response = send(client, substitute(sending, saved), mode)
        for name, member in step.get("save", {}).items():
            saved[name] = member_of(response, member)
        names = step.get("ascending", [])
        saved.update(zip(names, sorted(saved[name] for name in names), strict=True))
        # A step that is made of another leaves out an expectation by null.
        expected = {
            name: value
            for name, value in step.items()
            if name not in _SENDING and value is not None
        }
        Answer(step["request"], response).check(substitute(expected, saved))


def member_of(response: webtest.TestResponse, path: str) -> str:
    """Return a member of the document, by dotted path, or the header that ``header:`` names.

    ``bare:`` names a header, too, whose quotes are left out.
    """
    if path.startswith("header:"):
        return str(response.headers[path.removeprefix("header:")])
    if path.startswith("bare:"):
        return str(response.headers[path.removeprefix("bare:")]).strip('"')
    return str(_at(response.json, path))


def _at(value: Any, path: str) -> Any:
    for part in path.split(".") if path else []:
        value = value[int(part) if isinstance(value, list) else part]
    return value


def identify(user: str, mode: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the headers and the environment by which a user is known."""
    if mode == "keystone":
        if ":" not in user:
            user = f"{user}:{user}-project:{'admin' if user == 'admin' else 'member'}"
        return {"X-Auth-Token": user}, {}
    if mode == "remoteuser":
        return {}, {"REMOTE_USER": user}
    token = base64.b64encode(f"{user}:".encode()).decode()
    return {"Authorization": f"basic {token}"}, {}


def send(
    client: webtest.TestApp, step: dict[str, Any], mode: str = "basic"
) -> webtest.TestResponse:
    """Send the request of one step."""
    method, _, address = step["request"].partition(" ")
    path, _, query = address.partition("?")
    headers = {"Accept": step.get("accept", "application/json")}
    if headers["Accept"] is None:
        del headers["Accept"]
    environ_of_user: dict[str, str] = {}
    if step["as"] is not None:
        headers_of_user, environ_of_user = identify(step["as"], mode)
        headers.update(headers_of_user)
    headers.update(step.get("send", {}))
    body, content_type = _body(step)
    if content_type is not None:
        headers["Content-Type"] = content_type
    environ = {
        "PATH_INFO": urllib.parse.unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SCRIPT_NAME": step.get("mounted", ""),
        "HTTP_HOST": "localhost",
        "REQUEST_METHOD": method,
        **environ_of_user,
        **step.get("environ", {}),
    }
    for name, value in step.get("environ_bytes", {}).items():
        environ[name] = value.encode("latin-1")
    request = webtest.TestRequest.blank("/", environ=environ, headers=headers)
    if body is not None:
        request.body = body
    # Lint holds the environment to what WSGI says, which servers do not always.
    lint = "environ_bytes" not in step and method != "BREW"
    with _clock_of_resources(step.get("at")):
        return webtest.TestApp(client.app, lint=lint).do_request(request, expect_errors=True)


@contextlib.contextmanager
def _clock_of_resources(at: str | None) -> Iterator[None]:
    """Let the clock stand still for those who stamp versions of resources, and only for them."""
    if at is None:
        yield
        return
    moment = datetime.datetime.fromisoformat(at).replace(tzinfo=datetime.UTC)
    microseconds = (moment - _EPOCH) // datetime.timedelta(microseconds=1)
    clock = types.SimpleNamespace(time_ns=lambda: microseconds * 1000)
    with (
        mock.patch("gnocchi.rest.resources.time", clock),
        mock.patch("gnocchi.indexer.resources.time", clock),
    ):
        yield


def _body(step: dict[str, Any]) -> tuple[bytes | None, str | None]:
    content_type = step.get("content_type")
    if "json_body" in step:
        return json.dumps(step["json_body"]).encode(), content_type or "application/json"
    if "nested" in step:
        depth = step["nested"]
        return b"[" * depth + b"]" * depth, content_type or "application/json"
    if "hex_body" in step:
        return bytes.fromhex(step["hex_body"]), content_type
    if "raw_body" in step:
        return (step["raw_body"] * step.get("repeat", 1)).encode(), content_type
    return None, content_type


def substitute(value: Any, saved: dict[str, str]) -> Any:
    """Replace ``$NAME`` in all texts of a document, keys included."""
    if isinstance(value, str):
        return string.Template(value).safe_substitute(saved)
    if isinstance(value, list):
        return [substitute(item, saved) for item in value]
    if isinstance(value, dict):
        return {
            substitute(name, saved): substitute(member, saved) for name, member in value.items()
        }
    return value


class Answer:
    """A response, and the expectations it can be held to."""

    def __init__(self, request: str, response: webtest.TestResponse) -> None:
        self.response = response
        self.where = f"{request} -> {response.status}\n{dict(response.headers)}\n{self.text}"

    @property
    def text(self) -> str:
        """The body."""
        return self.response.body.decode("utf-8")

    def check(self, expected: dict[str, Any]) -> None:
        """Hold the response to all of the expectations."""
        assert "status" in expected, "a step says which status it expects"
        for name, value in expected.items():
            getattr(self, f"check_{name}")(value)

    def check_status(self, status: int) -> None:
        assert self.response.status_int == status, self.where

    def check_headers(self, headers: dict[str, str]) -> None:
        for name, value in headers.items():
            assert self.response.headers.get(name) == value, self.where

    def check_validators(self, expected: bool) -> None:
        assert expected, "what has no validators is checked by no_headers"
        begin = self.response.json["revision_start"]
        tag = hashlib.sha1(f"{self.response.json['id']}{begin}".encode()).hexdigest()
        moment = datetime.datetime.fromisoformat(begin).replace(microsecond=0)
        date = email.utils.format_datetime(moment.astimezone(datetime.UTC), usegmt=True)
        self.check_headers({"ETag": f'"{tag}"', "Last-Modified": date})

    def check_header_has(self, headers: dict[str, str]) -> None:
        for name, fragment in headers.items():
            assert fragment in self.response.headers.get(name, ""), self.where

    def check_no_headers(self, names: list[str]) -> None:
        for name in names:
            assert name not in self.response.headers, self.where

    def check_json(self, document: Any) -> None:
        assert self.response.json == document, self.where

    def check_json_has(self, members: Any) -> None:
        _has(self.response.json, members, self.where)

    def check_keys(self, names: list[str]) -> None:
        assert sorted(self.response.json) == names, self.where

    def check_length(self, lengths: dict[str, int]) -> None:
        for path, length in lengths.items():
            assert len(_at(self.response.json, path)) == length, self.where

    def check_unordered(self, members: dict[str, list[Any]]) -> None:
        for name, items in members.items():
            actual = sorted(_at(self.response.json, name), key=_in_order)
            assert actual == sorted(items, key=_in_order), self.where

    def check_ids(self, ids: list[str]) -> None:
        assert sorted(item["id"] for item in self.response.json) == sorted(ids), self.where

    def check_ordered_ids(self, ids: list[str]) -> None:
        assert [item["id"] for item in self.response.json] == ids, self.where

    def check_each(self, items: list[dict[str, Any]]) -> None:
        actual = self.response.json
        assert len(actual) == len(items), self.where
        for one, wanted in zip(actual, items, strict=True):
            assert {name: one.get(name) for name in wanted} == wanted, self.where

    def check_text(self, fragments: list[str]) -> None:
        for fragment in fragments:
            assert fragment in self.text, self.where

    def check_text_lacks(self, fragments: list[str]) -> None:
        for fragment in fragments:
            assert fragment not in self.text, self.where

    def check_body_is(self, body: str) -> None:
        assert self.text == body, self.where


def _in_order(item: Any) -> str:
    return json.dumps(item, sort_keys=True)


def _has(actual: Any, expected: Any, where: str) -> None:
    if isinstance(expected, dict):
        assert isinstance(actual, dict), where
        for name, member in expected.items():
            assert name in actual, where
            _has(actual[name], member, where)
    elif isinstance(expected, list):
        assert isinstance(actual, list), where
        assert len(actual) == len(expected), where
        for item, wanted in zip(actual, expected, strict=True):
            _has(item, wanted, where)
    else:
        assert actual == expected, where


def slug(text: str) -> str:
    """Make a test id of a sentence."""
    return re.sub(r"\W+", "-", text).strip("-")
