"""Archive policies and rules as rows."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING

import pytest

from gnocchi import errors
from gnocchi.archive_policy import DEFAULT_POLICIES, DEFAULT_RULE, ArchivePolicy, ArchivePolicyRule
from gnocchi.indexer import catalog, metrics, policies
from tests.indexer import samples

if TYPE_CHECKING:
    from gnocchi.indexer.database import Database

RULE = ArchivePolicyRule("r", "disk.*", "low")


def test_policy_comes_back_as_it_was_stored(database: Database) -> None:
    policy = samples.stored_policy(database)
    assert policies.get(database, "low") == policy
    assert policies.all(database) == [policy]


def test_no_policies_are_an_empty_list(database: Database) -> None:
    assert policies.all(database) == []
    assert policies.rules(database) == []


@pytest.mark.parametrize("policy", DEFAULT_POLICIES, ids=lambda policy: policy.name)
def test_default_policies_can_be_stored(database: Database, policy: ArchivePolicy) -> None:
    policies.create(database, policy)
    assert policies.get(database, policy.name) == policy


def test_names_are_compared_code_point_by_code_point(database: Database) -> None:
    """Case, accents, blanks at the end and what lies beyond 16 bits all make another name."""
    names = ["low", "Low", "löw", "low ", "✔éñ☃", "𝓁ow", "𝓂ow", "x" * 255]
    for name in names:
        samples.stored_policy(database, name)
    assert [policy.name for policy in policies.all(database)] == sorted(names)
    for name in names:
        assert policies.get(database, name).name == name
    for name in ("LOW", "low  ", "löW", "𝓀ow", "l_w", "%"):
        with pytest.raises(errors.NoSuchArchivePolicy):
            policies.get(database, name)


def test_second_policy_of_a_name_is_refused(database: Database) -> None:
    policy = samples.stored_policy(database)
    with pytest.raises(errors.ArchivePolicyAlreadyExists, match="low already exists"):
        policies.create(database, samples.policy(back_window=9))
    assert policies.get(database, "low") == policy


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_text_that_cannot_be_stored_is_refused_and_never_found(
    database: Database, name: str
) -> None:
    with pytest.raises(errors.Invalid):
        policies.create(database, samples.policy(name))
    with pytest.raises(errors.Invalid):
        policies.create_rule(database, ArchivePolicyRule(name, "*", "low"))
    with pytest.raises(errors.NoSuchArchivePolicy):
        policies.create_rule(database, ArchivePolicyRule("r", "*", name))
    for absent in (policies.get, policies.delete):
        with pytest.raises(errors.NoSuchArchivePolicy):
            absent(database, name)
    for absent_rule in (policies.get_rule, policies.delete_rule):
        with pytest.raises(errors.NoSuchArchivePolicyRule):
            absent_rule(database, name)
    with pytest.raises(errors.NoSuchArchivePolicyRule):
        policies.rename_rule(database, name, "new")


def test_update_replaces_everything_but_name_and_methods(database: Database) -> None:
    policy = samples.stored_policy(database)
    other = samples.stored_policy(database, "other")
    changed = dataclasses.replace(
        policy, back_window=0, definition=policy.definition[::-1], changes=()
    )
    policies.update(database, changed)
    assert policies.get(database, "low") == changed
    assert policies.get(database, "other") == other


def test_update_of_a_missing_policy_is_refused(database: Database) -> None:
    with pytest.raises(errors.NoSuchArchivePolicy):
        policies.update(database, samples.policy())
    with pytest.raises(errors.NoSuchArchivePolicy):
        policies.change(database, "lo\0w", lambda policy: policy)


def test_changes_at_the_same_time_are_all_kept(database: Database) -> None:
    samples.stored_policy(database)

    def grow() -> None:
        for _ in range(5):
            policies.change(
                database,
                "low",
                lambda policy: dataclasses.replace(policy, back_window=policy.back_window + 1),
            )

    threads = [threading.Thread(target=grow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert policies.get(database, "low").back_window == 3 + 20


def test_delete(database: Database) -> None:
    samples.stored_policy(database)
    policies.delete(database, "low")
    with pytest.raises(errors.NoSuchArchivePolicy):
        policies.get(database, "low")
    with pytest.raises(errors.NoSuchArchivePolicy):
        policies.delete(database, "low")


def test_policy_of_a_rule_is_in_use(database: Database) -> None:
    samples.stored_policy(database)
    policies.create_rule(database, RULE)
    with pytest.raises(errors.ArchivePolicyInUse, match="low is still in use"):
        policies.delete(database, "low")
    policies.delete_rule(database, "r")
    policies.delete(database, "low")


def test_policy_of_a_metric_is_in_use_until_it_is_expunged(database: Database) -> None:
    metric = samples.metric(samples.stored_policy(database))
    metrics.create(database, metric)
    with pytest.raises(errors.ArchivePolicyInUse):
        policies.delete(database, "low")
    metrics.delete(database, metric.id)
    with pytest.raises(errors.ArchivePolicyInUse):
        policies.delete(database, "low")
    metrics.expunge(database, [metric.id])
    policies.delete(database, "low")


def test_rule_comes_back_as_it_was_stored(database: Database) -> None:
    samples.stored_policy(database)
    policies.create_rule(database, RULE)
    assert policies.get_rule(database, "r") == RULE


def test_rules_are_listed_in_the_order_they_are_tried(database: Database) -> None:
    samples.stored_policy(database)
    patterns = {"b": "*", "a": "*", "c": "disk.*", "d": "disk.foo.*", "e": "Disk.*", "f": "𝓁*"}
    for name, pattern in patterns.items():
        policies.create_rule(database, ArchivePolicyRule(name, pattern, "low"))
    assert [rule.name for rule in policies.rules(database)] == ["f", "d", "c", "e", "a", "b"]


def test_rule_of_a_missing_policy_is_refused(database: Database) -> None:
    with pytest.raises(errors.NoSuchArchivePolicy, match="low does not exist"):
        policies.create_rule(database, RULE)
    assert policies.rules(database) == []


def test_second_rule_of_a_name_is_refused(database: Database) -> None:
    samples.stored_policy(database)
    policies.create_rule(database, RULE)
    with pytest.raises(errors.ArchivePolicyRuleAlreadyExists, match="r already exists"):
        policies.create_rule(database, ArchivePolicyRule("r", "*", "low"))
    assert policies.rules(database) == [RULE]


def test_renaming_a_rule(database: Database) -> None:
    samples.stored_policy(database)
    policies.create_rule(database, RULE)
    renamed = policies.rename_rule(database, "r", "✔ new")
    assert renamed == ArchivePolicyRule("✔ new", "disk.*", "low")
    assert policies.rules(database) == [renamed]
    with pytest.raises(errors.NoSuchArchivePolicyRule):
        policies.get_rule(database, "r")
    with pytest.raises(errors.NoSuchArchivePolicyRule):
        policies.rename_rule(database, "r", "other")


def test_rule_may_be_renamed_to_its_own_name(database: Database) -> None:
    samples.stored_policy(database)
    policies.create_rule(database, RULE)
    assert policies.rename_rule(database, "r", "r") == RULE


def test_rule_cannot_take_the_name_of_another(database: Database) -> None:
    samples.stored_policy(database)
    policies.create_rule(database, RULE)
    policies.create_rule(database, ArchivePolicyRule("s", "*", "low"))
    with pytest.raises(errors.UnsupportedArchivePolicyRuleChange) as raised:
        policies.rename_rule(database, "r", "s")
    assert str(raised.value) == (
        "Archive policy rule r does not support change: Archive policy rule s already exists."
    )


def test_delete_rule(database: Database) -> None:
    samples.stored_policy(database)
    policies.create_rule(database, RULE)
    policies.delete_rule(database, "r")
    with pytest.raises(errors.NoSuchArchivePolicyRule, match="r does not exist"):
        policies.delete_rule(database, "r")


def test_every_change_moves_the_version(database: Database) -> None:
    policy = samples.policy()
    steps = [
        lambda: policies.create(database, policy),
        lambda: policies.update(database, policy),
        lambda: policies.create_rule(database, RULE),
        lambda: policies.rename_rule(database, "r", "s"),
        lambda: policies.delete_rule(database, "s"),
        lambda: policies.delete(database, "low"),
    ]
    for done, step in enumerate(steps):
        assert catalog.state(database).policies == done
        step()
    assert catalog.state(database) == (0, 0, len(steps), 0, 0, 0)


def test_change_by_another_process_is_seen(database: Database) -> None:
    """Metrics carry the policy as it is now, however long this process has remembered another."""
    policy = samples.stored_policy(database)
    metric = samples.metric(policy)
    metrics.create(database, metric)
    assert metrics.get(database, metric.id).archive_policy == policy
    other = type(database)(database.url.render_as_string(hide_password=False))
    changed = dataclasses.replace(policy, back_window=11)
    policies.update(other, changed)
    other.close()
    assert metrics.get(database, metric.id).archive_policy == changed


def test_seed_fills_an_empty_database_once(database: Database) -> None:
    rules = [ArchivePolicyRule(*DEFAULT_RULE)]
    assert policies.is_empty(database)
    assert policies.seed(database, DEFAULT_POLICIES, rules)
    assert not policies.is_empty(database)
    assert not policies.seed(database, DEFAULT_POLICIES, rules)
    assert [policy.name for policy in policies.all(database)] == ["bool", "high", "low", "medium"]
    assert policies.rules(database) == rules


def test_seed_leaves_a_database_with_a_policy_alone(database: Database) -> None:
    policy = samples.stored_policy(database)
    assert not policies.seed(database, DEFAULT_POLICIES, [])
    assert policies.all(database) == [policy]


def test_seeds_at_the_same_time_store_once(database: Database) -> None:
    results: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda: results.append(policies.seed(database, DEFAULT_POLICIES, []))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == [False, False, False, True]
