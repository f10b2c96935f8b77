"""Archive policies: what is kept of a metric, at which granularity and for how long.

An archive policy is a value. It knows the limits that follow from it (which points are too old to
be taken, which raw points are still needed, which aggregates have expired) and what a change of it
may do; it stores and deletes nothing.

Invariants:
    * All lengths and instants are int64 nanoseconds, and no limit below overflows.
    * A definition has either points and a timespan, with ``timespan = granularity × points``, or
      neither of them and then never expires.
    * Granularities of a policy are distinct and never change; neither do its methods.
    * What has expired, or what raw points no longer back, stays so when a policy grows: see
      :class:`Change`.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gnocchi import times
from gnocchi.errors import InvalidArchivePolicy, UnsupportedArchivePolicyChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

# ------------------------------------------------------------------ aggregation methods

PLAIN_METHODS: tuple[str, ...] = (
    "mean", "sum", "last", "max", "min", "std", "median", "first", "count",
    *(f"{percentile}pct" for percentile in range(1, 100)),
)  # fmt: skip
RATE_PREFIX = "rate:"
METHODS: frozenset[str] = frozenset(
    prefix + method for method in PLAIN_METHODS for prefix in ("", RATE_PREFIX)
)
DEFAULT_AGGREGATION_METHODS: tuple[str, ...] = ("mean", "min", "max", "sum", "std", "count")

# Every entry that a list of methods may hold.
LISTED_METHODS: frozenset[str] = frozenset(
    {"*", *(sign + method for method in METHODS for sign in ("", "+", "-"))}
)


def resolve_methods(
    listed: Sequence[str] | None, defaults: Iterable[str] = DEFAULT_AGGREGATION_METHODS
) -> frozenset[str]:
    """Return the set of methods that a list as sent by a client stands for.

    ``*`` stands for all methods; a list of only signed entries (``+max``, ``-mean``), or none at
    all, starts from the defaults; any other from its plain entries. Then ``-`` entries are
    removed, and after that ``+`` entries added.

    Raises:
        InvalidArchivePolicy: an entry is unknown, or no method is left.
    """
    entries = list(listed or ())
    for entry in entries:
        if entry not in LISTED_METHODS:
            raise InvalidArchivePolicy(f"Unknown aggregation method {entry}")
    plain = {entry for entry in entries if entry[0] not in "+-"}
    if "*" in plain:
        methods = set(METHODS)
    elif plain:
        methods = plain
    else:
        methods = set(defaults)
    methods -= {entry[1:] for entry in entries if entry[0] == "-"}
    methods |= {entry[1:] for entry in entries if entry[0] == "+"}
    _check_methods(methods)
    return frozenset(methods)


def _check_methods(methods: Iterable[str]) -> None:
    unknown = sorted(set(methods) - METHODS)
    if unknown:
        raise InvalidArchivePolicy(f"Unknown aggregation method {unknown[0]}")
    if not methods:
        raise InvalidArchivePolicy("At least one aggregation method must be left")


# ------------------------------------------------------------------ definitions

MAX_NAME = 255
# What the indexer's column takes.
_MAX_BACK_WINDOW = 2**31 - 1

# Far below every timestamp, and far enough from the end of int64 to be rounded down.
_LONG_AGO = -(2**62)
_FOREVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Definition:
    """One granularity of a policy and how long its aggregates are kept.

    ``granularity`` and ``timespan`` are in nanoseconds; ``points`` and ``timespan`` are both
    ``None`` when aggregates never expire.
    """

    granularity: int
    points: int | None
    timespan: int | None

    @classmethod
    def complete(
        cls,
        granularity: int | None = None,
        points: int | None = None,
        timespan: int | None = None,
    ) -> Definition:
        """Return the definition that the given two of three (or a granularity alone) determine.

        A derived number of points is rounded down, a derived granularity cut to nanoseconds, and
        the timespan is then the product of both, so that never more than ``points`` aggregates
        are kept.

        Raises:
            InvalidArchivePolicy: too little is given, the parts contradict each other, or the
                timespan cannot be represented.
        """
        for part in (granularity, points, timespan):
            if part is not None and part <= 0:
                raise InvalidArchivePolicy("granularity, points and timespan must be positive")
        if granularity is not None and granularity > times.MAX_TIMESPAN:
            raise InvalidArchivePolicy("granularity is longer than 292 years")
        if granularity is None:
            if points is None or timespan is None:
                raise InvalidArchivePolicy(
                    "At least two of granularity/points/timespan must be provided"
                )
            granularity = timespan // points
            if granularity == 0:
                raise InvalidArchivePolicy("Calculated granularity is less than a nanosecond")
        elif points is None:
            if timespan is None:
                return cls(granularity, None, None)
            points = timespan // granularity
            if points == 0:
                raise InvalidArchivePolicy("Calculated number of points is < 0")
        elif timespan is not None and timespan != granularity * points:
            raise InvalidArchivePolicy("timespan ≠ granularity × points")
        timespan = granularity * points
        if timespan > times.MAX_TIMESPAN:
            raise InvalidArchivePolicy("timespan is longer than 292 years")
        return cls(granularity, points, timespan)

    def to_json(self) -> dict[str, Any]:
        """Return the definition as the API shows it."""
        return {
            "granularity": times.format_duration(self.granularity),
            "points": self.points,
            "timespan": None if self.timespan is None else times.format_duration(self.timespan),
        }


@dataclass(frozen=True, slots=True)
class Change:
    """What held before a policy was made to keep more.

    Growing a policy brings nothing back: aggregates that had expired and raw points that had been
    dropped may, or may not, still be stored. So the old limits hold on for what was old when the
    policy changed.

    Attributes:
        newest: an instant not before the newest point that any metric of the policy had.
        back_window: the old back window.
        timespans: (granularity, old timespan) of every granularity.
    """

    newest: int
    back_window: int
    timespans: tuple[tuple[int, int | None], ...]


# ------------------------------------------------------------------ policies


@dataclass(frozen=True, slots=True)
class ArchivePolicy:
    """A named set of definitions, aggregation methods, and the back window.

    ``definition`` keeps the order it was submitted in. Use :meth:`create` for what a user sent;
    the constructor checks nothing.
    """

    name: str
    back_window: int
    definition: tuple[Definition, ...]
    aggregation_methods: frozenset[str]
    changes: tuple[Change, ...] = ()

    @classmethod
    def create(
        cls,
        name: str,
        back_window: int,
        definitions: Iterable[Definition],
        aggregation_methods: Iterable[str],
    ) -> ArchivePolicy:
        """Return a new policy after checking that its parts fit together.

        Raises:
            InvalidArchivePolicy: the name is empty or too long; there is no definition, or two of
                the same granularity; the methods are none or unknown; the back window is negative
                or absurdly long.
        """
        if not 1 <= len(name) <= MAX_NAME:
            raise InvalidArchivePolicy(f"name must have from 1 to {MAX_NAME} characters")
        definition = tuple(definitions)
        if not definition:
            raise InvalidArchivePolicy("At least one definition must be provided")
        seen: set[int] = set()
        for item in definition:
            if item.granularity in seen:
                raise InvalidArchivePolicy(
                    "More than one archive policy uses granularity "
                    f"`{times.to_seconds(item.granularity)}'"
                )
            seen.add(item.granularity)
        methods = frozenset(aggregation_methods)
        _check_methods(methods)
        _check_back_window(back_window)
        return cls(name, back_window, definition, methods)

    @property
    def granularities(self) -> tuple[int, ...]:
        """All granularities, the coarsest first."""
        return tuple(sorted((item.granularity for item in self.definition), reverse=True))

    @property
    def block(self) -> int:
        """The coarsest granularity: the unit of the back window."""
        return max(item.granularity for item in self.definition)

    @property
    def has_rate(self) -> bool:
        """Whether any method works on differences, and so needs the point before."""
        return any(method.startswith(RATE_PREFIX) for method in self.aggregation_methods)

    @property
    def window(self) -> int:
        """The number of blocks before the newest that late points may still change."""
        return self.back_window + self.has_rate

    def timespan(self, granularity: int) -> int | None:
        """Return how long aggregates of ``granularity`` are kept; ``None`` is for ever.

        Raises:
            KeyError: the policy has no such granularity.
        """
        for item in self.definition:
            if item.granularity == granularity:
                return item.timespan
        raise KeyError(granularity)

    def late_limits(self, newest: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the earliest instant at which a metric still takes points.

        Args:
            newest: ``(n,)`` newest raw timestamps of metrics of this policy, int64 ns.

        Returns:
            ``(n,)`` inclusive limits, int64 ns; non-decreasing in ``newest``.
        """
        limits = self._limits(newest, self.window)
        for change in self.changes:
            window = change.back_window + self.has_rate
            if window < self.window:
                then = np.minimum(newest, change.newest)
                limits = np.maximum(limits, self._limits(then, window))
        return limits

    def _limits(self, newest: NDArray[np.int64], window: int) -> NDArray[np.int64]:
        # A window longer than int64 can say reaches behind every timestamp anyway.
        reach = min(self.block * window, times.MAX_TIMESPAN)
        return _minus(_bucket(newest, self.block), reach)

    def raw_floors(self, newest: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return from where on raw points must be kept.

        That is the earliest start among the buckets, of any granularity, that the late limit
        falls into: a bucket is only ever computed from all of its points.

        Args:
            newest: ``(n,)`` newest raw timestamps of metrics of this policy, int64 ns.

        Returns:
            ``(n,)`` inclusive limits, int64 ns.
        """
        limits = self.late_limits(newest)
        floors = limits
        for granularity in self.granularities:
            floors = np.minimum(floors, _bucket(limits, granularity))
        return floors

    def horizons(self, granularity: int, newest: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return up to where aggregates have expired: those at the horizon or before it.

        Args:
            granularity: one of the policy's, in ns.
            newest: ``(n,)`` newest bucket starts of series of that granularity, int64 ns.

        Returns:
            ``(n,)`` horizons, int64 ns; the least int64 where nothing expires.
        """
        horizons = np.full(np.shape(newest), _FOREVER, dtype=np.int64)
        current = self.timespan(granularity)
        if current is not None:
            horizons = _minus(newest, current)
        for change in self.changes:
            old = dict(change.timespans).get(granularity)
            if old is not None and (current is None or old < current):
                then = _minus(np.minimum(newest, change.newest), old)
                horizons = np.maximum(horizons, then)
        return horizons

    def changed(
        self, definitions: Iterable[Definition], back_window: int | None, newest: int
    ) -> ArchivePolicy:
        """Return this policy with other timespans and, unless ``None``, another back window.

        Args:
            definitions: the new definition, of the same granularities in any order.
            back_window: the new back window.
            newest: an instant not before the newest point of any metric of the policy. The
                closer it is the better: what metrics receive between their own newest point and
                this instant follows the old limits where those were stricter.

        Raises:
            UnsupportedArchivePolicyChange: the granularities differ.
            InvalidArchivePolicy: the back window is negative or absurdly long.
        """
        definition = tuple(definitions)
        if len(definition) != len(self.definition):
            raise UnsupportedArchivePolicyChange(self.name, "Cannot add or drop granularities")
        wanted = sorted(item.granularity for item in definition)
        for old, new in zip(reversed(self.granularities), wanted, strict=True):
            if old != new:
                raise UnsupportedArchivePolicyChange(
                    self.name, f"{times.to_seconds(old)} granularity interval was changed"
                )
        if back_window is None:
            back_window = self.back_window
        _check_back_window(back_window)
        after = replace(self, definition=definition, back_window=back_window)
        before = Change(
            newest=newest,
            back_window=self.back_window,
            timespans=tuple((item.granularity, item.timespan) for item in self.definition),
        )
        if not _binds(before, after):
            return after
        kept = tuple(change for change in self.changes if not _covers(before, change))
        return replace(after, changes=(*kept, before))

    def to_json(self) -> dict[str, Any]:
        """Return the policy as the API shows it."""
        return {
            "name": self.name,
            "back_window": self.back_window,
            "definition": [item.to_json() for item in self.definition],
            "aggregation_methods": sorted(self.aggregation_methods),
        }


def _check_back_window(back_window: int) -> None:
    if not 0 <= back_window <= _MAX_BACK_WINDOW:
        raise InvalidArchivePolicy(f"back_window must be from 0 to {_MAX_BACK_WINDOW}")


def _bucket(instants: NDArray[np.int64], granularity: int) -> NDArray[np.int64]:
    """Round down to multiples of ``granularity``, after clipping at ``_LONG_AGO``."""
    clipped = np.maximum(instants, _LONG_AGO)
    rounded: NDArray[np.int64] = clipped - clipped % granularity
    return rounded


def _minus(instants: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Subtract ``length`` (0 … 2**63-1) without going below ``_LONG_AGO``."""
    difference: NDArray[np.int64] = np.maximum(instants, _LONG_AGO + length) - length
    return difference


def _binds(change: Change, policy: ArchivePolicy) -> bool:
    """Say whether the old limits of ``change`` are stricter than ``policy`` anywhere."""
    if change.back_window < policy.back_window:
        return True
    return any(_shorter(old, policy.timespan(granularity)) for granularity, old in change.timespans)


def _covers(later: Change, earlier: Change) -> bool:
    """Say whether ``earlier`` adds nothing to ``later``, whatever the newest point is."""
    old = dict(earlier.timespans)
    return (
        later.newest >= earlier.newest
        and later.back_window <= earlier.back_window
        and not any(
            _shorter(old[granularity], timespan) for granularity, timespan in later.timespans
        )
    )


def _shorter(one: int | None, other: int | None) -> bool:
    return one is not None and (other is None or one < other)


def default_policies(
    methods: Iterable[str] = DEFAULT_AGGREGATION_METHODS,
) -> tuple[ArchivePolicy, ...]:
    """Return the policies of a new installation; ``methods`` are those of all but ``bool``."""
    hour = Definition.complete(times.HOUR, timespan=365 * times.DAY)
    minute = Definition.complete(times.MINUTE, timespan=7 * times.DAY)
    methods = frozenset(methods)
    year = Definition.complete(times.SECOND, timespan=365 * times.DAY)
    month = Definition.complete(5 * times.MINUTE, timespan=30 * times.DAY)
    second = Definition.complete(times.SECOND, timespan=times.HOUR)
    return (
        ArchivePolicy.create("bool", 3600, [year], ["last"]),
        ArchivePolicy.create("low", 0, [month], methods),
        ArchivePolicy.create("medium", 0, [minute, hour], methods),
        ArchivePolicy.create("high", 0, [second, minute, hour], methods),
    )


DEFAULT_POLICIES: tuple[ArchivePolicy, ...] = default_policies()
# Name, metric pattern and archive policy of the rule of a new installation.
DEFAULT_RULE: tuple[str, str, str] = ("default", "*", "low")


# ------------------------------------------------------------------ rules


@dataclass(frozen=True, slots=True)
class ArchivePolicyRule:
    """Which policy a metric gets whose name matches a shell pattern, when none is asked for."""

    name: str
    metric_pattern: str
    archive_policy_name: str

    def to_json(self) -> dict[str, str]:
        """Return the rule as the API shows it."""
        return {
            "name": self.name,
            "metric_pattern": self.metric_pattern,
            "archive_policy_name": self.archive_policy_name,
        }


def sorted_rules(rules: Iterable[ArchivePolicyRule]) -> list[ArchivePolicyRule]:
    """Return rules in the order they are tried: pattern descending, then name ascending.

    Patterns compare by code points, whatever the collation of a database is.
    """
    by_name = sorted(rules, key=lambda rule: rule.name)
    return sorted(by_name, key=lambda rule: rule.metric_pattern, reverse=True)


def matching_rule(
    rules: Iterable[ArchivePolicyRule], metric_name: str | None
) -> ArchivePolicyRule | None:
    """Return the first rule, in the order of :func:`sorted_rules`, that matches the name.

    The pattern must match the whole name, case included; a metric without a name is matched as
    the empty text.
    """
    for rule in sorted_rules(rules):
        if fnmatch.fnmatchcase(metric_name or "", rule.metric_pattern):
            return rule
    return None
