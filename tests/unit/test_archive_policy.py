"""What archive policies keep, what a change of them may do, and which rule chooses one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gnocchi import archive_policy, times
from gnocchi.archive_policy import (
    DEFAULT_AGGREGATION_METHODS,
    DEFAULT_POLICIES,
    DEFAULT_RULE,
    LISTED_METHODS,
    METHODS,
    PLAIN_METHODS,
    ArchivePolicy,
    ArchivePolicyRule,
    Change,
    Definition,
    matching_rule,
    resolve_methods,
    sorted_rules,
)
from gnocchi.errors import InvalidArchivePolicy, UnsupportedArchivePolicyChange

S = 10**9
INT64 = np.iinfo(np.int64)


def policy(
    *definitions: tuple[int, int | None], back_window: int = 0, methods: tuple[str, ...] = ("mean",)
) -> ArchivePolicy:
    """Make a policy of (granularity in seconds, points)."""
    items = [Definition.complete(g * S, points) for g, points in definitions]
    return ArchivePolicy.create("p", back_window, items, methods)


def at(clock: str) -> int:
    """Return an instant of 2024-01-01."""
    return times.parse_timestamp(f"2024-01-01T{clock}")


def limits(p: ArchivePolicy, *newest: int) -> list[int]:
    values: list[int] = p.late_limits(np.array(newest, dtype=np.int64)).tolist()
    return values


def floors(p: ArchivePolicy, *newest: int) -> list[int]:
    values: list[int] = p.raw_floors(np.array(newest, dtype=np.int64)).tolist()
    return values


def horizons(p: ArchivePolicy, granularity: int, *newest: int) -> list[int]:
    values: list[int] = p.horizons(granularity * S, np.array(newest, dtype=np.int64)).tolist()
    return values


# ------------------------------------------------------------------ methods


def test_there_are_216_methods() -> None:
    assert len(PLAIN_METHODS) == len(set(PLAIN_METHODS)) == 108
    assert len(METHODS) == 216
    assert {"mean", "rate:mean", "1pct", "99pct", "rate:95pct", "first"} <= METHODS
    assert not {"0pct", "100pct", "*", "var", "rate:rate:mean", "9.5pct"} & METHODS


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (None, {"mean", "min", "max", "sum", "std", "count"}),
        ([], {"mean", "min", "max", "sum", "std", "count"}),
        (["-mean"], {"min", "max", "sum", "std", "count"}),
        (["+95pct", "-std"], {"mean", "min", "max", "sum", "count", "95pct"}),
        (["+mean"], {"mean", "min", "max", "sum", "std", "count"}),
        (["mean", "max", "mean"], {"mean", "max"}),
        (["rate:last"], {"rate:last"}),
        (["mean", "+max"], {"mean", "max"}),
        (["mean", "max", "-mean"], {"max"}),
        (["-mean", "+mean"], {"mean", "min", "max", "sum", "std", "count"}),
        (["*"], METHODS),
        (["*", "-mean"], METHODS - {"mean"}),
        (["*", "-mean", "+mean"], METHODS),
        (["mean", "*"], METHODS),
        (["-rate:mean"], {"mean", "min", "max", "sum", "std", "count"}),
    ],
)
def test_lists_of_methods_are_resolved(listed: list[str] | None, expected: set[str]) -> None:
    assert resolve_methods(listed, DEFAULT_AGGREGATION_METHODS) == expected


def test_configured_defaults_take_the_place_of_ours() -> None:
    assert resolve_methods(None, ["last"]) == {"last"}
    assert resolve_methods(["+max"], ["last"]) == {"last", "max"}
    assert resolve_methods(["mean"], ["last"]) == {"mean"}


@pytest.mark.parametrize("listed", [["mean", "-mean"], [f"-{m}" for m in METHODS]])
def test_a_list_that_leaves_no_method_is_refused(listed: list[str]) -> None:
    with pytest.raises(InvalidArchivePolicy, match="At least one aggregation method"):
        resolve_methods(listed, DEFAULT_AGGREGATION_METHODS)


@pytest.mark.parametrize("entry", ["", "0pct", "100pct", "-0pct", "+*", "-*", "++mean", "MEAN"])
def test_unknown_methods_are_refused(entry: str) -> None:
    assert entry not in LISTED_METHODS
    with pytest.raises(InvalidArchivePolicy, match="Unknown aggregation method"):
        resolve_methods(["mean", entry], DEFAULT_AGGREGATION_METHODS)


def test_unknown_methods_among_the_defaults_are_refused() -> None:
    with pytest.raises(InvalidArchivePolicy, match="Unknown aggregation method average"):
        resolve_methods(None, ["mean", "average"])


@given(st.lists(st.sampled_from(sorted(LISTED_METHODS))))
def test_no_sign_survives_resolution(listed: list[str]) -> None:
    try:
        resolved = resolve_methods(listed)
    except InvalidArchivePolicy:
        # Only removals may leave nothing.
        assert any(entry[0] == "-" for entry in listed)
    else:
        assert resolved
        assert resolved <= METHODS


# ------------------------------------------------------------------ definitions


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"granularity": 60 * S, "points": 10}, (60 * S, 10, 600 * S)),
        ({"granularity": 7 * S, "timespan": 3600 * S}, (7 * S, 514, 3598 * S)),
        ({"granularity": 60 * S, "timespan": 90 * S}, (60 * S, 1, 60 * S)),
        ({"points": 1000, "timespan": 3600 * S}, (3_600_000_000, 1000, 3600 * S)),
        ({"points": 7, "timespan": 60 * S}, (8_571_428_571, 7, 59_999_999_997)),
        ({"granularity": 60 * S, "points": 10, "timespan": 600 * S}, (60 * S, 10, 600 * S)),
        ({"granularity": 60 * S}, (60 * S, None, None)),
        ({"granularity": 2**63 - 1, "points": 1}, (2**63 - 1, 1, 2**63 - 1)),
    ],
)
def test_definitions_are_completed(given: dict[str, int], expected: tuple[int, ...]) -> None:
    item = Definition.complete(**given)
    assert (item.granularity, item.points, item.timespan) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "At least two of granularity/points/timespan must be provided"),
        ({"points": 5}, "At least two of granularity/points/timespan must be provided"),
        ({"timespan": 5}, "At least two of granularity/points/timespan must be provided"),
        ({"granularity": 60, "timespan": 59}, "Calculated number of points is < 0"),
        ({"points": 60, "timespan": 59}, "Calculated granularity is less than a nanosecond"),
        ({"granularity": 60, "points": 2, "timespan": 121}, "timespan ≠ granularity × points"),
        ({"granularity": 0, "points": 2}, "granularity, points and timespan must be positive"),
        ({"granularity": 2, "points": -1}, "granularity, points and timespan must be positive"),
        ({"granularity": 2, "timespan": 0}, "granularity, points and timespan must be positive"),
        ({"granularity": 2**62, "points": 2}, "timespan is longer than 292 years"),
        ({"granularity": S, "points": 10**30}, "timespan is longer than 292 years"),
        ({"granularity": 2**63}, "granularity is longer than 292 years"),
    ],
)
def test_definitions_that_make_no_sense_are_refused(given: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidArchivePolicy) as caught:
        Definition.complete(**given)
    assert str(caught.value) == message


some = st.none() | st.integers(1, 10**20)


@given(some, some, some)
def test_timespan_is_always_the_product(
    granularity: int | None, points: int | None, timespan: int | None
) -> None:
    try:
        item = Definition.complete(granularity, points, timespan)
    except InvalidArchivePolicy:
        return
    if item.points is None:
        assert item.timespan is None
    else:
        assert item.timespan == item.granularity * item.points <= 2**63 - 1
    # What was completed once is complete.
    assert Definition.complete(item.granularity, item.points, item.timespan) == item


# ------------------------------------------------------------------ policies


def test_two_definitions_of_one_granularity_are_refused() -> None:
    with pytest.raises(InvalidArchivePolicy) as caught:
        policy((1, 60), (60, 60), (1, 3600))
    assert str(caught.value) == "More than one archive policy uses granularity `1.0'"


@pytest.mark.parametrize(
    ("name", "back_window", "definitions", "methods"),
    [
        ("", 0, [Definition.complete(S)], ["mean"]),
        ("n" * 256, 0, [Definition.complete(S)], ["mean"]),
        ("p", -1, [Definition.complete(S)], ["mean"]),
        ("p", 2**31, [Definition.complete(S)], ["mean"]),
        ("p", 0, [], ["mean"]),
        ("p", 0, [Definition.complete(S)], []),
        ("p", 0, [Definition.complete(S)], ["mean", "-max"]),
    ],
)
def test_policies_that_make_no_sense_are_refused(
    name: str, back_window: int, definitions: list[Definition], methods: list[str]
) -> None:
    with pytest.raises(InvalidArchivePolicy):
        ArchivePolicy.create(name, back_window, definitions, methods)


def test_the_order_of_definitions_is_kept() -> None:
    p = policy((60, 10), (3600, 10), (1, None))
    assert [item.granularity for item in p.definition] == [60 * S, 3600 * S, S]
    assert p.granularities == (3600 * S, 60 * S, S)
    assert p.block == 3600 * S


def test_timespan_by_granularity() -> None:
    p = policy((60, 10), (1, None))
    assert p.timespan(60 * S) == 600 * S
    assert p.timespan(S) is None
    with pytest.raises(KeyError):
        p.timespan(2 * S)


def test_rate_methods_widen_the_window_by_one_block() -> None:
    assert policy((60, 10), back_window=2).window == 2
    rate = policy((60, 10), back_window=2, methods=("mean", "rate:max"))
    assert rate.has_rate
    assert rate.window == 3


def test_json_is_that_of_the_api() -> None:
    items = [
        Definition.complete(300 * S, timespan=7 * 86400 * S),
        Definition.complete(10 * S),
    ]
    p = ArchivePolicy.create("weekly", 1, items, ["mean", "max"])
    assert p.to_json() == {
        "name": "weekly",
        "back_window": 1,
        "definition": [
            {"granularity": "0:05:00", "points": 2016, "timespan": "7 days, 0:00:00"},
            {"granularity": "0:00:10", "points": None, "timespan": None},
        ],
        "aggregation_methods": ["max", "mean"],
    }


def test_default_policies() -> None:
    day, hour, minute = 86400, 3600, 60
    assert [
        (
            p.name,
            p.back_window,
            [((d.granularity // S), (d.timespan or 0) // S) for d in p.definition],
            set(p.aggregation_methods),
        )
        for p in DEFAULT_POLICIES
    ] == [
        ("bool", 3600, [(1, 365 * day)], {"last"}),
        ("low", 0, [(5 * minute, 30 * day)], set(DEFAULT_AGGREGATION_METHODS)),
        (
            "medium",
            0,
            [(minute, 7 * day), (hour, 365 * day)],
            set(DEFAULT_AGGREGATION_METHODS),
        ),
        (
            "high",
            0,
            [(1, hour), (minute, 7 * day), (hour, 365 * day)],
            set(DEFAULT_AGGREGATION_METHODS),
        ),
    ]
    assert DEFAULT_RULE == ("default", "*", "low")


def test_default_policies_follow_the_configured_methods() -> None:
    bool_, low, *_ = archive_policy.default_policies(["max"])
    assert bool_.aggregation_methods == {"last"}
    assert low.aggregation_methods == {"max"}


# ------------------------------------------------------------------ limits


@pytest.mark.parametrize(
    ("p", "newest", "limit"),
    [
        (policy((60, 10)), "00:05:30", "00:05:00"),
        (policy((60, 10), back_window=2), "00:05:30", "00:03:00"),
        (policy((60, 10), methods=("rate:mean",)), "00:05:30", "00:04:00"),
        (policy((60, 10), (3600, 10)), "05:55:30", "05:00:00"),
        (policy((60, 10), (3600, 10), back_window=2), "14:34:00", "12:00:00"),
        (policy((60, 10)), "00:05:00", "00:05:00"),
        (policy((60, 10)), "00:04:59.999999999", "00:04:00"),
    ],
)
def test_late_points_are_taken_down_to_the_back_window(
    p: ArchivePolicy, newest: str, limit: str
) -> None:
    assert limits(p, at(newest), at(newest)) == [at(limit), at(limit)]


def test_raw_points_are_kept_for_every_bucket_that_may_change() -> None:
    """40 s does not divide 60 s: the bucket 40–80 s straddles the limit at 60 s."""
    start = at("00:00:00")  # a multiple of 120 s
    p = policy((40, 10), (60, 10))
    assert limits(p, start + 65 * S) == [start + 60 * S]
    assert floors(p, start + 65 * S) == [start + 40 * S]
    assert floors(p, start + 125 * S) == [start + 120 * S]


def test_aggregates_expire_relative_to_the_newest() -> None:
    """60 s × 3 with the newest bucket at 00:05 keeps 00:03, 00:04 and 00:05."""
    assert horizons(policy((60, 3)), 60, at("00:05:00")) == [at("00:02:00")]


def test_unlimited_aggregates_never_expire() -> None:
    assert horizons(policy((60, None)), 60, 0, at("00:05:00")) == [INT64.min, INT64.min]


@pytest.mark.parametrize("newest", [0, 1, 2**63 - 1, INT64.min])
def test_no_limit_wraps_around(newest: int) -> None:
    """The longest windows and timespans reach behind every timestamp, not into the future."""
    wide = ArchivePolicy.create(
        "p", 2**31 - 1, [Definition.complete(2**63 - 1, 1), Definition.complete(3)], ["rate:sum"]
    )
    assert limits(wide, newest)[0] <= 0
    assert floors(wide, newest)[0] <= 0
    for granularity in wide.granularities:
        horizon = wide.horizons(granularity, np.array([newest]))[0]
        assert horizon <= max(0, newest - 2**62)


def test_metrics_without_points_have_limits_long_ago() -> None:
    p = ArchivePolicy.create("p", 0, [Definition.complete(2**63 - 1, 1)], ["sum"])
    assert limits(p, INT64.min)[0] <= -(2**62)
    assert floors(p, INT64.min)[0] <= -(2**62)


@given(
    st.lists(st.integers(1, 10**4), min_size=1, max_size=3, unique=True),
    st.integers(0, 3),
    st.booleans(),
    st.lists(st.integers(0, 10**6), min_size=1),
)
@example([40, 60], 0, False, [65])
def test_limits_agree_with_plain_arithmetic(
    granularities: list[int], back_window: int, rate: bool, newest: list[int]
) -> None:
    items = [Definition.complete(g, 5) for g in granularities]
    p = ArchivePolicy.create("p", back_window, items, ["rate:sum" if rate else "sum"])
    array = np.array(newest, dtype=np.int64)
    block = max(granularities)
    expected = [n // block * block - block * (back_window + rate) for n in newest]
    assert p.late_limits(array).tolist() == expected
    assert p.raw_floors(array).tolist() == [
        min(limit // g * g for g in granularities) for limit in expected
    ]
    for g in granularities:
        assert p.horizons(g, array).tolist() == [n - 5 * g for n in newest]


# ------------------------------------------------------------------ changes


def change(
    p: ArchivePolicy,
    *definitions: tuple[int, int | None],
    newest: int,
    back_window: int | None = None,
) -> ArchivePolicy:
    items = [Definition.complete(g * S, points) for g, points in definitions]
    return p.changed(items, back_window, newest)


def test_shrinking_takes_effect_at_once_and_leaves_no_trace() -> None:
    p = change(policy((60, 10), back_window=3), (60, 3), back_window=1, newest=at("01:00:00"))
    assert p == policy((60, 3), back_window=1)


def test_a_change_of_nothing_changes_nothing() -> None:
    p = policy((60, 10), (3600, None), back_window=3)
    assert change(p, (60, 10), (3600, None), newest=at("01:00:00")) == p


def test_the_order_of_definitions_may_change() -> None:
    p = change(policy((1, 10), (60, 10)), (60, 10), (1, 10), newest=0)
    assert p == policy((60, 10), (1, 10))


@pytest.mark.parametrize(("old", "new"), [(3, 6), (3, None)])
def test_expired_aggregates_stay_gone_when_retention_grows(old: int, new: int | None) -> None:
    p = change(policy((60, old)), (60, new), newest=at("01:00:00"))
    assert p.changes == (Change(at("01:00:00"), 0, ((60 * S, 180 * S),)),)
    # A metric that was silent since long keeps its old limit …
    assert horizons(p, 60, at("00:30:00")) == [at("00:27:00")]
    # … and what had not expired when the policy changed lives by the new one.
    assert horizons(p, 60, at("01:00:00"), at("01:02:00")) == [at("00:57:00"), at("00:57:00")]
    expected = INT64.min if new is None else at("01:54:00")
    assert horizons(p, 60, at("02:00:00")) == [max(expected, at("00:57:00"))]


def test_growing_one_granularity_leaves_the_others_alone() -> None:
    p = change(policy((60, 3), (1, 60)), (60, 6), (1, 30), newest=at("01:00:00"))
    assert horizons(p, 1, at("01:00:00")) == [at("00:59:30")]
    assert horizons(p, 60, at("01:00:00")) == [at("00:57:00")]


def test_points_behind_the_old_back_window_are_still_refused() -> None:
    """Their buckets cannot be computed again: the raw points they consist of are gone."""
    p = change(policy((60, 10)), (60, 10), back_window=5, newest=at("01:00:30"))
    assert limits(p, at("00:30:30"), at("01:00:30")) == [at("00:30:00"), at("01:00:00")]
    assert limits(p, at("01:03:00"), at("01:07:00")) == [at("01:00:00"), at("01:02:00")]
    assert floors(p, at("01:03:00")) == [at("01:00:00")]


def test_shrinking_and_growing_again_brings_nothing_back() -> None:
    p = policy((60, 10), back_window=4)
    p = change(p, (60, 3), back_window=0, newest=at("01:00:00"))
    p = change(p, (60, 10), back_window=4, newest=at("01:00:00"))
    assert horizons(p, 60, at("01:00:00")) == [at("00:57:00")]
    assert limits(p, at("01:00:00")) == [at("01:00:00")]


def test_growing_from_unlimited_to_limited_is_no_growth() -> None:
    p = change(policy((60, None)), (60, 10), newest=at("01:00:00"))
    assert p.changes == ()


def test_changes_that_another_makes_superfluous_are_forgotten() -> None:
    p = policy((60, 3))
    for minute in range(10, 60):
        p = change(p, (60, 10), newest=at(f"00:{minute}:00"))
        p = change(p, (60, 3), newest=at(f"00:{minute}:00"))
    p = change(p, (60, 10), newest=at("01:00:00"))
    assert p.changes == (Change(at("01:00:00"), 0, ((60 * S, 180 * S),)),)


def test_a_change_stated_for_an_earlier_instant_leaves_the_earlier_one_alone() -> None:
    p = change(policy((60, 3)), (60, 6), newest=at("02:00:00"))
    p = change(change(p, (60, 3), newest=0), (60, 6), newest=at("01:00:00"))
    assert horizons(p, 60, at("02:02:00")) == [at("01:57:00")]


@pytest.mark.parametrize("definitions", [[(60, 10)], [(60, 10), (3600, 10), (1, 10)], []])
def test_granularities_cannot_be_added_or_dropped(definitions: list[tuple[int, int]]) -> None:
    p = ArchivePolicy.create("medium", 0, policy((60, 1), (3600, 1)).definition, ["mean"])
    with pytest.raises(UnsupportedArchivePolicyChange) as caught:
        change(p, *definitions, newest=0)
    assert str(caught.value) == (
        "Archive policy medium does not support change: Cannot add or drop granularities"
    )


def test_granularities_cannot_be_changed() -> None:
    """The message names the first old one, ascending, that is not there any more."""
    p = ArchivePolicy.create("medium", 0, policy((3600, 1), (60, 1), (1, 1)).definition, ["mean"])
    for definitions, old in [
        ([(2, 10), (60, 10), (3600, 10)], "1.0"),
        ([(3600, 10), (61, 10), (1, 10)], "60.0"),
        ([(1, 10), (1, 20), (3600, 10)], "60.0"),
    ]:
        with pytest.raises(UnsupportedArchivePolicyChange) as caught:
            change(p, *definitions, newest=0)
        assert str(caught.value) == (
            f"Archive policy medium does not support change: {old} granularity interval was changed"
        )


@pytest.mark.parametrize("back_window", [-1, 2**31])
def test_a_change_cannot_make_the_back_window_absurd(back_window: int) -> None:
    with pytest.raises(InvalidArchivePolicy):
        change(policy((60, 1)), (60, 1), back_window=back_window, newest=0)


points = st.none() | st.integers(1, 6)
patches = st.tuples(points, points, st.integers(0, 3))


@given(
    st.lists(st.tuples(st.integers(0, 30), patches), min_size=1, max_size=8),
    st.booleans(),
    st.lists(st.integers(0, 30), min_size=1, max_size=5),
)
def test_no_limit_ever_moves_back(
    steps: list[tuple[int, tuple[int | None, int | None, int]]], rate: bool, speeds: list[int]
) -> None:
    """Whatever changes, in whatever order, and however fast metrics advance in between.

    Several metrics share the policy; each step lets time pass, moves every metric by its own
    speed, and then changes the policy.
    """
    start = 1000
    items = [Definition.complete(4, 3), Definition.complete(6, 3)]
    p = ArchivePolicy.create("p", 1, items, ["rate:sum" if rate else "sum"])
    newest = np.full(len(speeds), start, dtype=np.int64)

    def all_limits() -> list[list[int]]:
        return [
            p.late_limits(newest).tolist(),
            p.raw_floors(newest).tolist(),
            *(p.horizons(g, newest - newest % g).tolist() for g in p.granularities),
        ]

    before = all_limits()
    for passed, (fine, coarse, back_window) in steps:
        newest = newest + np.minimum(speeds, passed)
        items = [Definition.complete(4, fine), Definition.complete(6, coarse)]
        for _ in range(2):  # advanced; changed
            after = all_limits()
            for old, new in zip(before, after, strict=True):
                assert all(o <= n for o, n in zip(old, new, strict=True))
            before = after
            p = p.changed(items, back_window, int(newest.max()))

    # In the end every change has its full effect.
    far = np.array([10**6])
    for item in items:
        horizon = int(p.horizons(item.granularity, far)[0])
        if item.timespan is not None:
            assert horizon == 10**6 - item.timespan
        else:
            assert horizon <= int(newest.max())
    assert p.late_limits(far).tolist() == [10**6 // 6 * 6 - 6 * p.window]


@given(st.lists(patches, min_size=1, max_size=6))
def test_forgotten_changes_would_not_have_mattered(
    steps: list[tuple[int | None, int | None, int]],
) -> None:
    """Against a policy that remembers every state it ever was in."""
    p = ArchivePolicy.create(
        "p", 1, [Definition.complete(4, 3), Definition.complete(6, 3)], ["sum"]
    )
    changes: list[Change] = []
    for count, (fine, coarse, back_window) in enumerate(steps):
        spans = tuple((item.granularity, item.timespan) for item in p.definition)
        changes.append(Change(100 + 7 * count, p.back_window, spans))
        items = [Definition.complete(4, fine), Definition.complete(6, coarse)]
        p = p.changed(items, back_window, 100 + 7 * count)
    full = ArchivePolicy(p.name, p.back_window, p.definition, p.aggregation_methods, tuple(changes))
    newest = np.arange(60, 240, dtype=np.int64)
    assert p.late_limits(newest).tolist() == full.late_limits(newest).tolist()
    for g in p.granularities:
        assert p.horizons(g, newest).tolist() == full.horizons(g, newest).tolist()


# ------------------------------------------------------------------ rules


def rules(*patterns: str) -> list[ArchivePolicyRule]:
    return [ArchivePolicyRule(f"r{n}", pattern, "low") for n, pattern in enumerate(patterns)]


def test_rules_are_tried_pattern_descending_then_name_ascending() -> None:
    one = ArchivePolicyRule("b", "disk.*", "low")
    two = ArchivePolicyRule("a", "disk.*", "low")
    three = ArchivePolicyRule("c", "disk.foo.*", "low")
    four = ArchivePolicyRule("d", "*", "low")
    five = ArchivePolicyRule("e", "é*", "low")
    for order in itertools.permutations([one, two, three, four, five]):
        assert sorted_rules(order) == [five, three, two, one, four]


@pytest.mark.parametrize(
    ("patterns", "name", "expected"),
    [
        (["*", "disk.*", "disk.foo.*"], "disk.foo.rate", "disk.foo.*"),
        (["*", "disk.*", "disk.foo.*"], "disk.bar.rate", "disk.*"),
        (["*", "disk.*", "disk.foo.*"], "volume", "*"),
        (["disk.*"], "volume", None),
        (["disk.*"], "Disk.x", None),
        (["disk.*"], "xdisk.y", None),
        (["disk"], "disk.y", None),
        (["d?sk[ab]", "d?sk[!ab]"], "diskc", "d?sk[!ab]"),
        (["*"], None, "*"),
        (["?*", "disk.*"], None, None),
        ([], "disk", None),
        (["*"], "two\nlines", "*"),
    ],
)
def test_first_matching_rule_wins(
    patterns: list[str], name: str | None, expected: str | None
) -> None:
    rule = matching_rule(rules(*patterns), name)
    assert (rule.metric_pattern if rule else None) == expected


def test_a_hostile_pattern_is_matched_in_time() -> None:
    assert matching_rule(rules("*a" * 120 + "b"), "a" * 255) is None


def test_rule_json_is_that_of_the_api() -> None:
    assert ArchivePolicyRule("r-disk", "disk.*", "low").to_json() == {
        "name": "r-disk",
        "metric_pattern": "disk.*",
        "archive_policy_name": "low",
    }
