"""What a caller may do: the policy rules, their defaults and their evaluation.

Rules are those of oslo.policy and may be overridden by name in the operator's policy file. A
rule is evaluated with the caller's credentials and a target, the object concerned, flattened.
Members of a target that are null are left out: null never equals anybody's text ``None``.

The file is looked at again at most once a second. Requests are answered by a finished set of
rules while a changed file is being read, never by half of one.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from typing import TYPE_CHECKING, Any

from oslo_config import cfg
from oslo_policy import policy

from gnocchi import config, errors
from gnocchi.rest.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gnocchi.rest.auth import Caller

LOG = logging.getLogger(__name__)

# What reading a policy file may end in: no permission, no YAML, no mapping of texts.
_UNREADABLE = (OSError, ValueError, TypeError, AttributeError, cfg.Error)

_ADMIN = "role:admin"
_ADMIN_OR_SERVICE = "rule:admin_or_service"
_ADMIN_OR_CREATOR = "rule:admin_or_creator"
_ANYBODY = ""
_RESOURCES = "rule:admin_or_creator or rule:resource_owner"
_METRICS = "rule:admin_or_creator or rule:metric_owner"
_SERVED = "rule:admin_or_service or rule:creator"

DEFAULTS: tuple[tuple[str, str, str], ...] = (
    ("context_is_admin", _ADMIN, "Whoever has the role admin"),
    ("admin_or_service", "role:admin or role:service", "Administrators and other services"),
    (
        "creator",
        "user:%(creator)s or project_id:%(created_by_project_id)s",
        "The user who made it, or somebody of that user's project",
    ),
    (
        "admin_or_creator",
        "role:admin or user:%(creator)s or project_id:%(created_by_project_id)s",
        "Administrators and whoever made it",
    ),
    ("resource_owner", "project_id:%(project_id)s", "The project a resource belongs to"),
    (
        "metric_owner",
        "project_id:%(resource.project_id)s",
        "The project that the resource of a metric belongs to",
    ),
    ("get status", _ADMIN, "GET /v1/status"),
    ("create resource", _ANYBODY, "POST /v1/resource/{type}"),
    ("get resource", _RESOURCES, "GET /v1/resource/{type}/{id}, its history and its metrics"),
    (
        "update resource",
        _SERVED,
        "PATCH /v1/resource/{type}/{id}, POST /v1/resource/{type}/{id}/metric",
    ),
    ("delete resource", _ADMIN_OR_CREATOR, "DELETE /v1/resource/{type}/{id}"),
    ("delete resources", _ADMIN_OR_CREATOR, "DELETE /v1/resource/{type}"),
    ("list resource", _RESOURCES, "GET /v1/resource/{type}"),
    (
        "search resource",
        "rule:admin_or_service or rule:creator or rule:resource_owner",
        "POST /v1/search/resource/{type}, POST /v1/aggregates over resources",
    ),
    ("create resource type", _ADMIN_OR_SERVICE, "POST /v1/resource_type"),
    ("get resource type", _ANYBODY, "GET /v1/resource_type/{name}"),
    ("list resource type", _ANYBODY, "GET /v1/resource_type"),
    ("update resource type", _ADMIN_OR_SERVICE, "PATCH /v1/resource_type/{name}"),
    ("delete resource type", _ADMIN, "DELETE /v1/resource_type/{name}"),
    ("create archive policy", _ADMIN_OR_SERVICE, "POST /v1/archive_policy"),
    ("get archive policy", _ANYBODY, "GET /v1/archive_policy/{name}"),
    ("list archive policy", _ANYBODY, "GET /v1/archive_policy"),
    ("update archive policy", _ADMIN, "PATCH /v1/archive_policy/{name}"),
    ("delete archive policy", _ADMIN, "DELETE /v1/archive_policy/{name}"),
    ("create archive policy rule", _ADMIN, "POST /v1/archive_policy_rule"),
    ("get archive policy rule", _ANYBODY, "GET /v1/archive_policy_rule/{name}"),
    ("list archive policy rule", _ANYBODY, "GET /v1/archive_policy_rule"),
    ("update archive policy rule", _ADMIN, "PATCH /v1/archive_policy_rule/{name}"),
    ("delete archive policy rule", _ADMIN, "DELETE /v1/archive_policy_rule/{name}"),
    ("create metric", _ANYBODY, "POST /v1/metric and every metric defined in a resource"),
    (
        "get metric",
        "rule:admin_or_service or rule:creator or rule:metric_owner",
        "GET /v1/metric/{id}, aggregates by metric",
    ),
    ("delete metric", _ADMIN_OR_CREATOR, "DELETE /v1/metric/{id}"),
    ("list metric", _METRICS, "GET /v1/metric"),
    ("search metric", _METRICS, "POST /v1/search/metric"),
    ("post measures", _SERVED, "POST …/measures, batches and the ingestion protocols"),
    (
        "get measures",
        "rule:admin_or_service or rule:creator or rule:metric_owner",
        "GET …/measures",
    ),
)


def list_rules() -> list[policy.RuleDefault]:
    """Return every rule with its default, for the tools of oslo.policy too."""
    return [policy.RuleDefault(name, check, description) for name, check, description in DEFAULTS]


_KEYS = re.compile(r"%\(([^)]*)\)s")
_REMOTE = re.compile(r"\bhttps?:")
ANYTHING = "*"


def enforcer() -> policy.Enforcer:
    """Return what knows all rules and the policy file, for the programs of oslo.policy."""
    found = policy.Enforcer(config.prepare([], "gnocchi-api"))
    found.register_defaults(list_rules())
    return found


class Policies:
    """The rules in force."""

    RELOAD_AFTER_S = 1.0

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        """Read the policy file, if there is one.

        Raises:
            Misconfigured: it cannot be read, or does not hold rules.
        """
        self._conf = conf
        self._lock = threading.Lock()
        self._loader = policy.Enforcer(conf)
        self._loader.suppress_default_change_warnings = True
        self._loader.register_defaults(list_rules())
        self._rules: dict[str, Any] = {}
        self._keys: dict[str, frozenset[str]] = {}
        try:
            self._enforcer = self._reload()
        except _UNREADABLE as error:
            raise errors.Misconfigured(f"Policy file: {error}") from error
        self._next_look = time.monotonic() + self.RELOAD_AFTER_S

    def allows(self, caller: Caller, rule: str, target: Mapping[str, Any]) -> bool:
        """Tell whether the rule holds for this caller and target."""
        known = {name: value for name, value in flatten(target).items() if value is not None}
        return bool(self._current().enforce(rule, known, dict(caller.credentials)))

    def enforce(self, caller: Caller, rule: str, target: Mapping[str, Any]) -> None:
        """Raise the 403 unless the rule holds."""
        if not self.allows(caller, rule, target):
            raise Refused(403)

    def enforce_each(self, caller: Caller, rule: str, targets: Iterable[Mapping[str, Any]]) -> None:
        """Raise the 403 unless the rule holds for all of the targets.

        Targets that are alike in all that the rule looks at are judged once.
        """
        keys = sorted(self.keys(rule))
        judged = set()
        for target in targets:
            if ANYTHING not in keys:
                seen = repr([_member(target, key) for key in keys])
                if seen in judged:
                    continue
                judged.add(seen)
            self.enforce(caller, rule, target)

    def keys(self, rule: str) -> frozenset[str]:
        """Return the members of the target that the rule looks at, helper rules included.

        `ANYTHING` is among them where somebody else is asked, who gets to see all of it.
        """
        self._current()
        keys = self._keys
        if rule not in keys:
            keys[rule] = self._find_keys(rule)
        return keys[rule]

    def _find_keys(self, rule: str) -> frozenset[str]:
        found: set[str] = set()
        seen: set[str] = set()
        waiting = [rule]
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            text = str(self._rules.get(name, ""))
            found.update(_KEYS.findall(text))
            if _REMOTE.search(text):
                found.add(ANYTHING)
            waiting.extend(other for other in self._rules if f"rule:{other}" in text)
        return frozenset(found)

    def _current(self) -> policy.Enforcer:
        if time.monotonic() >= self._next_look and self._lock.acquire(blocking=False):
            try:
                self._next_look = time.monotonic() + self.RELOAD_AFTER_S
                self._enforcer = self._reload()
            except _UNREADABLE:
                LOG.exception("The policy file cannot be used; the rules stay as they were")
            finally:
                self._lock.release()
        return self._enforcer

    def _reload(self) -> policy.Enforcer:
        self._loader.load_rules()
        rules = dict(self._loader.rules)
        if rules == self._rules:
            return self._enforcer
        enforcer = policy.Enforcer(
            self._conf,
            rules=rules,
            default_rule=self._loader.default_rule,
            use_conf=False,
        )
        self._rules, self._keys = rules, {}
        return enforcer


def _member(value: Mapping[str, Any], key: str) -> Any:
    """Return what `flatten` would have under a key."""
    name, dot, rest = key.partition(".")
    member = value.get(name)
    if isinstance(member, dict):
        return _member(member, rest) if dot else None
    return value.get(key) if dot else member


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Bring nested objects to one level: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for name, member in value.items():
        if isinstance(member, dict):
            flat.update(flatten(member, f"{prefix}{name}."))
        else:
            flat[prefix + name] = member
    return flat
