"""From the description of a metric in a body to the metric that is made."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from gnocchi import errors
from gnocchi.archive_policy import matching_rule
from gnocchi.indexer import policies
from gnocchi.rest.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gnocchi.archive_policy import ArchivePolicyRule
    from gnocchi.rest.routing import Api


def check_name(name: str | None) -> None:
    """Raise the 400 for a name that could not be a segment of a path."""
    if name is not None and "/" in name:
        raise Refused(400, "'/' is not supported in metric name")


class Rules:
    """The archive policy rules, read once at the most and only when one is needed."""

    def __init__(self, api: Api) -> None:
        self._api = api

    @functools.cached_property
    def _rules(self) -> Sequence[ArchivePolicyRule]:
        return policies.rules(self._api.services.db)

    def policy_name(self, name: str | None) -> str:
        """Return the archive policy that the rules give to a metric of that name.

        Raises:
            NoArchivePolicyRuleMatch: none of them matches.
        """
        rule = matching_rule(self._rules, name)
        if rule is None:
            raise errors.NoArchivePolicyRuleMatch(name)
        return rule.archive_policy_name
