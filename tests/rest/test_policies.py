"""The policy rules: which there are, how they are evaluated, and changes of the file."""

from __future__ import annotations

import configparser
import importlib.metadata
import os
import pathlib
from typing import TYPE_CHECKING, Any

import pytest

from gnocchi import config
from gnocchi.rest import policies
from gnocchi.rest.auth import Caller
from gnocchi.rest.errors import Refused

if TYPE_CHECKING:
    from tests.rest.conftest import Deployer

ALICE = Caller("alice", {"user": "alice", "roles": []})
SERVICE = Caller("u1:p1", {"user": "u1:p1", "roles": ["service"], "project_id": "p1"})
MEMBER = Caller("u2:p1", {"user": "u2:p1", "roles": ["member"], "project_id": "p1"})
NONE = Caller("None", {"user": "None", "roles": []})
ADMIN = Caller("admin", {"user": "admin", "roles": ["admin"]})
THEIRS = {"creator": "u3:p2", "created_by_project_id": "p2"}


@pytest.fixture
def rules(tmp_path: pathlib.Path) -> policies.Policies:
    """The default rules."""
    return policies.Policies(config.prepare([], "gnocchi-api", files=[]))


def test_there_are_thirty_six_rules() -> None:
    """Names are what operators write into their files."""
    names = [rule.name for rule in policies.list_rules()]
    assert len(names) == len(set(names)) == 36


@pytest.mark.parametrize(
    ("caller", "rule", "target", "allowed"),
    [
        (ADMIN, "get status", {}, True),
        (SERVICE, "get status", {}, False),
        (ALICE, "create metric", {}, True),
        (ALICE, "get archive policy", {}, True),
        (SERVICE, "create archive policy", {}, True),
        (SERVICE, "delete archive policy", {}, False),
        (SERVICE, "create archive policy rule", {}, False),
        (ALICE, "get metric", {"creator": "alice"}, True),
        (ALICE, "get metric", {"creator": "bob"}, False),
        (NONE, "get metric", {"creator": None}, False),
        (SERVICE, "get metric", THEIRS, True),
        (MEMBER, "get metric", {"creator": "u9:p1", "created_by_project_id": "p1"}, True),
        (MEMBER, "get metric", THEIRS, False),
        (MEMBER, "get metric", THEIRS | {"resource": {"project_id": "p1"}}, True),
        (MEMBER, "get metric", THEIRS | {"resource": None}, False),
        (MEMBER, "get measures", THEIRS | {"resource": {"project_id": "p1"}}, True),
        (MEMBER, "post measures", THEIRS | {"resource": {"project_id": "p1"}}, False),
        (SERVICE, "post measures", THEIRS, True),
        (MEMBER, "delete metric", THEIRS | {"resource": {"project_id": "p1"}}, False),
        (SERVICE, "delete metric", THEIRS, False),
        (MEMBER, "list resource", {"project_id": "p1"}, True),
        (ALICE, "no such rule", {}, False),
    ],
)
def test_default_rules(
    rules: policies.Policies,
    caller: Caller,
    rule: str,
    target: dict[str, Any],
    allowed: bool,
) -> None:
    """Who may do what, in the cases the table of defaults distinguishes."""
    assert rules.allows(caller, rule, target) is allowed


def test_a_rule_that_does_not_hold_is_refused(rules: policies.Policies) -> None:
    """The refusal is a 403."""
    with pytest.raises(Refused) as refused:
        rules.enforce(ALICE, "get status", {})
    assert refused.value.status == 403


def test_the_members_a_rule_looks_at_include_those_of_other_rules(
    rules: policies.Policies,
) -> None:
    """Batches of measures rest on this to check each creator once."""
    assert rules.keys("post measures") == {"creator", "created_by_project_id"}
    assert "resource.project_id" in rules.keys("get measures")
    assert rules.keys("get status") == frozenset()


def test_targets_alike_in_what_a_rule_looks_at_are_judged_once(
    rules: policies.Policies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch makes a thousand metrics for one creator."""
    judged: list[Any] = []
    monkeypatch.setattr(rules, "enforce", lambda _caller, _rule, target: judged.append(target))
    mine = [{"creator": "alice", "name": str(number)} for number in range(3)]
    rules.enforce_each(ALICE, "post measures", [*mine, {"creator": "bob"}, {"creator": None}])
    assert judged == [mine[0], {"creator": "bob"}, {"creator": None}]


def test_whoever_is_asked_elsewhere_sees_every_target(
    deploy: Deployer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remote check gets the whole target, so none stands for another."""
    file = tmp_path / "policy.yaml"
    file.write_text('"create metric": "http://127.0.0.1:9/check"', encoding="utf-8")
    rules = policies.Policies(deploy({"oslo_policy.policy_file": str(file)}).services.conf)
    assert policies.ANYTHING in rules.keys("create metric")
    judged: list[Any] = []
    monkeypatch.setattr(rules, "enforce", lambda _caller, _rule, target: judged.append(target))
    rules.enforce_each(ALICE, "create metric", [{"name": "a"}, {"name": "b"}])
    assert judged == [{"name": "a"}, {"name": "b"}]


def test_a_changed_file_takes_effect_and_a_broken_one_does_not(
    deploy: Deployer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No restart is needed, and a slip of the editor locks nobody out."""
    file = tmp_path / "policy.yaml"
    seconds = 0

    def write(content: str) -> None:
        nonlocal seconds
        seconds += 10
        file.write_text(content, encoding="utf-8")
        os.utime(file, (seconds, seconds))

    monkeypatch.setattr(policies.Policies, "RELOAD_AFTER_S", 0.0)
    write('"get status": "user:alice"')
    conf = deploy({"oslo_policy.policy_file": str(file)}).services.conf
    rules = policies.Policies(conf)
    assert rules.allows(ALICE, "get status", {})
    write('"get status": "user:bob or user:%(name)s"')
    assert not rules.allows(ALICE, "get status", {})
    assert rules.keys("get status") == {"name"}
    assert rules.allows(ALICE, "create metric", {})
    write("[not: closed")
    assert not rules.allows(ALICE, "get status", {})
    assert rules.allows(Caller("bob", {"user": "bob", "roles": []}), "get status", {})


def test_programs_of_oslo_policy_find_the_rules_in_force(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``oslopolicy-policy-generator --namespace gnocchi`` asks for them by an entry point."""
    setup = configparser.ConfigParser()
    setup.read(pathlib.Path(__file__).parents[2] / "setup.cfg")
    name, _, where = setup["options.entry_points"]["oslo.policy.enforcer"].strip().partition(" = ")
    assert name == "gnocchi"
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "gnocchi.conf").write_text("[oslo_policy]\npolicy_file = policy.json\n")
    (tmp_path / "policy.json").write_text('{"get status": "role:watcher"}')
    enforcer = importlib.metadata.EntryPoint(name, where, "oslo.policy.enforcer").load()()
    enforcer.load_rules()
    assert str(enforcer.rules["get status"]) == "role:watcher"
    assert set(enforcer.registered_rules) == {rule.name for rule in policies.list_rules()}
