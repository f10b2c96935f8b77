"""Archive policies and their rules as rows.

Invariants: everything that changes one moves ``state.policies`` in the same transaction, so that
a copy taken under that number is the truth as long as the number stays; a policy that a metric
(be it deleted but not yet expunged) or a rule uses cannot be deleted, which the database itself
sees to. What a policy means, and which changes it allows, is in ``archive_policy``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from gnocchi import errors
from gnocchi.archive_policy import (
    ArchivePolicy,
    ArchivePolicyRule,
    Change,
    Definition,
    sorted_rules,
)
from gnocchi.indexer import tables
from gnocchi.indexer.columns import storable
from gnocchi.indexer.failures import Failure, classify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gnocchi.indexer.database import Database

_policies = tables.archive_policy
_rules = tables.archive_policy_rule

# The version beside every policy, and one row of nulls when there is none, in one statement.
_ALL = (
    sa.select(tables.state.c.value, _policies)
    .select_from(tables.state.outerjoin(_policies, sa.true()))
    .where(tables.state.c.name == tables.POLICIES)
)

VERSION = (
    sa.select(tables.state.c.value)
    .where(tables.state.c.name == tables.POLICIES)
    .scalar_subquery()
    .label("policies_version")
)
"""A column that tells, within another statement, which version of the policies it saw."""


# ------------------------------------------------------------------ policies


def create(db: Database, policy: ArchivePolicy) -> None:
    """Store a new policy.

    Raises:
        errors.ArchivePolicyAlreadyExists: one of that name exists.
        errors.Invalid: the name cannot be stored.
    """
    _refuse_unstorable(policy.name)

    def work(connection: sa.Connection) -> None:
        connection.execute(_policies.insert(), _to_row(policy))
        _bump(connection)

    try:
        db.run(work)
    except sa.exc.IntegrityError as error:
        raise errors.ArchivePolicyAlreadyExists(policy.name) from error


def get(db: Database, name: str) -> ArchivePolicy:
    """Return the policy of that name.

    Raises:
        errors.NoSuchArchivePolicy: there is none.
    """
    if not storable(name):
        raise errors.NoSuchArchivePolicy(name)
    with db.read() as connection:
        return _get(connection, name)


def all(db: Database) -> list[ArchivePolicy]:  # noqa: A001
    """Return every policy, by name."""
    with db.read() as connection:
        return sorted(_load(connection)[1].values(), key=lambda policy: policy.name)


def cached(db: Database, connection: sa.Connection, version: int) -> dict[str, ArchivePolicy]:
    """Return the policies as of ``version``, or of a later one; read them only when they moved."""
    known: tuple[int, dict[str, ArchivePolicy]] | None = db.memory.get("policies")
    if known is None or known[0] < version:
        known = _load(connection)
        db.memory["policies"] = known
    return known[1]


def missing(db: Database, names: Iterable[str]) -> errors.NoSuchArchivePolicy | None:
    """Return the error about the first of the names that is of no policy, if there is one."""
    existing = {policy.name for policy in all(db)}
    for name in names:
        if name not in existing:
            return errors.NoSuchArchivePolicy(name)
    return None


def update(db: Database, policy: ArchivePolicy) -> None:
    """Replace everything but the name and the methods of a policy.

    Raises:
        errors.NoSuchArchivePolicy: there is none of that name.
    """
    change(db, policy.name, lambda _old: policy)


def change(
    db: Database, name: str, function: Callable[[ArchivePolicy], ArchivePolicy]
) -> ArchivePolicy:
    """Replace a policy by what ``function`` makes of it, and return that.

    The row is locked from reading to writing, so that of two changes at once none is lost.

    Raises:
        errors.NoSuchArchivePolicy: there is none of that name.
        Whatever ``function`` raises; nothing was changed then.
    """
    if not storable(name):
        raise errors.NoSuchArchivePolicy(name)

    def work(connection: sa.Connection) -> ArchivePolicy:
        new = function(_get(connection, name, lock=True))
        row = _to_row(new)
        connection.execute(
            _policies.update().where(_policies.c.name == name),
            {key: row[key] for key in ("back_window", "definition", "changes")},
        )
        _bump(connection)
        return new

    return db.run(work)


def delete(db: Database, name: str) -> None:
    """Delete a policy nobody uses.

    Raises:
        errors.NoSuchArchivePolicy: there is none of that name.
        errors.ArchivePolicyInUse: a metric or a rule uses it.
    """
    if not storable(name):
        raise errors.NoSuchArchivePolicy(name)

    def work(connection: sa.Connection) -> None:
        if connection.execute(_policies.delete().where(_policies.c.name == name)).rowcount == 0:
            raise errors.NoSuchArchivePolicy(name)
        _bump(connection)

    try:
        db.run(work)
    except sa.exc.IntegrityError as error:
        raise errors.ArchivePolicyInUse(name) from error


# ------------------------------------------------------------------ rules


def create_rule(db: Database, rule: ArchivePolicyRule) -> None:
    """Store a new rule.

    Raises:
        errors.ArchivePolicyRuleAlreadyExists: one of that name exists.
        errors.NoSuchArchivePolicy: the policy it names does not exist.
        errors.Invalid: the name or the pattern cannot be stored.
    """
    _refuse_unstorable(rule.name, rule.metric_pattern)
    if not storable(rule.archive_policy_name):
        raise errors.NoSuchArchivePolicy(rule.archive_policy_name)

    def work(connection: sa.Connection) -> None:
        connection.execute(_rules.insert(), rule.to_json())
        _bump(connection)

    try:
        db.run(work)
    except sa.exc.IntegrityError as error:
        if classify(error) is Failure.FOREIGN_KEY:
            raise errors.NoSuchArchivePolicy(rule.archive_policy_name) from error
        raise errors.ArchivePolicyRuleAlreadyExists(rule.name) from error


def get_rule(db: Database, name: str) -> ArchivePolicyRule:
    """Return the rule of that name.

    Raises:
        errors.NoSuchArchivePolicyRule: there is none.
    """
    if not storable(name):
        raise errors.NoSuchArchivePolicyRule(name)
    with db.read() as connection:
        return _get_rule(connection, name)


def rules(db: Database) -> list[ArchivePolicyRule]:
    """Return every rule in the order they are tried."""
    with db.read() as connection:
        return sorted_rules(
            ArchivePolicyRule(row.name, row.metric_pattern, row.archive_policy_name)
            for row in connection.execute(sa.select(_rules))
        )


def rename_rule(db: Database, name: str, new_name: str) -> ArchivePolicyRule:
    """Give a rule another name (its own is fine) and return it.

    Raises:
        errors.NoSuchArchivePolicyRule: there is none of the old name.
        errors.UnsupportedArchivePolicyRuleChange: there is another of the new name.
        errors.Invalid: the new name cannot be stored.
    """
    if not storable(name):
        raise errors.NoSuchArchivePolicyRule(name)
    _refuse_unstorable(new_name)

    def work(connection: sa.Connection) -> ArchivePolicyRule:
        renamed = connection.execute(
            _rules.update().where(_rules.c.name == name), {"name": new_name}
        )
        if renamed.rowcount == 0:
            raise errors.NoSuchArchivePolicyRule(name)
        _bump(connection)
        return _get_rule(connection, new_name)

    try:
        return db.run(work)
    except sa.exc.IntegrityError as error:
        raise errors.UnsupportedArchivePolicyRuleChange(
            name, f"Archive policy rule {new_name} already exists."
        ) from error


def delete_rule(db: Database, name: str) -> None:
    """Delete a rule.

    Raises:
        errors.NoSuchArchivePolicyRule: there is none of that name.
    """
    if not storable(name):
        raise errors.NoSuchArchivePolicyRule(name)

    def work(connection: sa.Connection) -> None:
        if connection.execute(_rules.delete().where(_rules.c.name == name)).rowcount == 0:
            raise errors.NoSuchArchivePolicyRule(name)
        _bump(connection)

    db.run(work)


# ------------------------------------------------------------------ both


def is_empty(db: Database) -> bool:
    """Tell whether there is neither a policy nor a rule."""
    with db.read() as connection:
        return _is_empty(connection)


def seed(
    db: Database, policies: Iterable[ArchivePolicy], first_rules: Iterable[ArchivePolicyRule]
) -> bool:
    """Store these policies and rules if there is none of either, and tell whether that was so.

    All of them are stored or none; of several callers at once, one stores them.
    """
    policy_rows = [_to_row(policy) for policy in policies]
    rule_rows = [rule.to_json() for rule in first_rules]

    def work(connection: sa.Connection) -> bool:
        _bump(connection)  # first: its row lock keeps a second caller waiting
        if not _is_empty(connection):
            return False
        connection.execute(_policies.insert(), policy_rows)
        if rule_rows:
            connection.execute(_rules.insert(), rule_rows)
        return True

    return db.run(work)


def _is_empty(connection: sa.Connection) -> bool:
    return not connection.execute(
        sa.select(
            sa.or_(sa.exists(sa.select(_policies.c.name)), sa.exists(sa.select(_rules.c.name)))
        )
    ).scalar_one()


def _bump(connection: sa.Connection) -> None:
    connection.execute(
        tables.state.update()
        .where(tables.state.c.name == tables.POLICIES)
        .values(value=tables.state.c.value + 1)
    )


def _refuse_unstorable(*texts: str) -> None:
    for text in texts:
        if not storable(text):
            raise errors.Invalid(f"{text!r} contains characters that cannot be stored")


def _get(connection: sa.Connection, name: str, *, lock: bool = False) -> ArchivePolicy:
    query = sa.select(_policies).where(_policies.c.name == name)
    if lock:
        query = query.with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise errors.NoSuchArchivePolicy(name)
    return _from_row(row)


def _get_rule(connection: sa.Connection, name: str) -> ArchivePolicyRule:
    row = connection.execute(sa.select(_rules).where(_rules.c.name == name)).one_or_none()
    if row is None:
        raise errors.NoSuchArchivePolicyRule(name)
    return ArchivePolicyRule(row.name, row.metric_pattern, row.archive_policy_name)


def _load(connection: sa.Connection) -> tuple[int, dict[str, ArchivePolicy]]:
    rows = connection.execute(_ALL).all()
    return rows[0].value, {row.name: _from_row(row) for row in rows if row.name is not None}


def _to_row(policy: ArchivePolicy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "back_window": policy.back_window,
        "definition": [
            {"granularity": d.granularity, "points": d.points, "timespan": d.timespan}
            for d in policy.definition
        ],
        "aggregation_methods": sorted(policy.aggregation_methods),
        "changes": [
            {"newest": c.newest, "back_window": c.back_window, "timespans": c.timespans}
            for c in policy.changes
        ],
    }


def _from_row(row: sa.Row[Any]) -> ArchivePolicy:
    return ArchivePolicy(
        name=row.name,
        back_window=row.back_window,
        definition=tuple(
            Definition(d["granularity"], d["points"], d["timespan"]) for d in row.definition
        ),
        aggregation_methods=frozenset(row.aggregation_methods),
        changes=tuple(
            Change(
                c["newest"],
                c["back_window"],
                tuple((granularity, timespan) for granularity, timespan in c["timespans"]),
            )
            for c in row.changes
        ),
    )
