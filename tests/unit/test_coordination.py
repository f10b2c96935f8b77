"""Dividing the sacks, and the group and locks of a directory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from gnocchi import config, coordination, coordination_url, errors
from gnocchi.coordination import ABANDONED_S, STAND_BY_S, Coordinator, Share

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

SACKS = 16


# ------------------------------------------------------------------ shares


def test_every_sack_has_exactly_one_first_owner() -> None:
    names = ["a", "b", "c"]
    shares = [coordination.share_by_ring(name, names, SACKS, 2) for name in names]
    assert sorted(sack for share in shares for sack in share.first) == list(range(SACKS))


def test_as_many_workers_stand_by_as_there_are_replicas() -> None:
    names = ["a", "b", "c", "d"]
    shares = [coordination.share_by_ring(name, names, SACKS, 3) for name in names]
    for sack in range(SACKS):
        assert sum(sack in share.stand_by for share in shares) == 3


def test_first_owner_is_among_those_standing_by() -> None:
    share = coordination.share_by_ring("a", ["a", "b", "c"], SACKS, 2)
    assert share.first <= share.stand_by


def test_sacks_of_a_worker_that_left_go_to_the_others_and_no_other_sack_moves() -> None:
    before = coordination.share_by_ring("a", ["a", "b", "c"], SACKS, 1).first
    after = coordination.share_by_ring("a", ["a", "b"], SACKS, 1).first
    assert before <= after


def test_worker_that_knows_of_nobody_takes_everything() -> None:
    assert coordination.share_by_ring("a", [], SACKS, 3).first == frozenset(range(SACKS))


def test_workers_without_groups_divide_the_sacks_by_number() -> None:
    shares = [coordination.share_by_number(index, 3, SACKS) for index in range(3)]
    assert sorted(sack for share in shares for sack in share.first) == list(range(SACKS))
    assert all(share.stand_by == frozenset(range(SACKS)) for share in shares)


def test_own_sacks_are_due_at_once_and_those_of_others_when_they_wait_too_long() -> None:
    share = Share(first=frozenset({0}), stand_by=frozenset({0, 1}))
    assert share.due({0: 0.0, 1: 0.0, 2: 0.0}) == [0]
    assert share.due({0: 0.0, 1: STAND_BY_S, 2: STAND_BY_S}) == [0, 1]
    assert share.due({1: ABANDONED_S, 2: ABANDONED_S}) == [1, 2]
    assert share.due({}) == []


def test_sack_is_stuck_when_it_waits_and_nobody_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, now = coordination.Stuck(), 1000.0
    monkeypatch.setattr("gnocchi.coordination.time.monotonic", lambda: now)
    assert stuck.among({1, 2, 3}, {1: 5, 2: 5, 3: 5}) == []
    now += coordination.STUCK_S - 1
    assert stuck.among({1, 2}, {1: 5, 2: 6}) == []
    now += 1
    assert stuck.among({1, 2, 3}, {1: 5, 2: 6, 3: 5}) == [1]
    now += coordination.STUCK_S
    assert stuck.among({1, 2, 3}, {1: 6, 2: 6, 3: 5}) == [2, 3]


# ------------------------------------------------------------------ where


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("[DEFAULT]\ncoordination_url = redis://h", "redis://h"),
        ("[storage]\nfile_basepath = /d", "file:///d/coordination"),
        (
            "[storage]\nfile_basepath = /d\n[indexer]\nurl = postgresql+psycopg2://u:p@h/n",
            "file:///d/coordination",
        ),
        (
            "[storage]\ndriver = memory\n[indexer]\nurl = postgresql+psycopg2://u:p@h/n",
            "postgresql://u:p@h/n",
        ),
        ("[storage]\ndriver = redis\nredis_url = redis://h:1/?db=2", "redis://h:1/?db=2"),
        (
            "[incoming]\ndriver = redis\nredis_url = rediss://:p@h?sentinel=m&sentinel_fallback=a:1",
            "redis://:p@h:26379?sentinel=m&sentinel_fallback=a%3A1&ssl=true&sentinel_ssl=true",
        ),
        (
            (
                "[storage]\ndriver = redis\nredis_url = redis://h?cluster=true\n"
                "[indexer]\nurl = postgresql://h/n"
            ),
            "postgresql://h/n",
        ),
        (
            "[storage]\ndriver = memory\nfile_basepath = /d\n[indexer]\nurl = sqlite:////x",
            "file:///d/coordination",
        ),
    ],
)
def test_default_place(tmp_path: pathlib.Path, options: str, expected: str) -> None:
    path = tmp_path / "gnocchi.conf"
    path.write_text(options)
    assert coordination_url.url(config.prepare(["--config-file", str(path)])) == expected


def test_unknown_driver_is_a_configuration_error() -> None:
    with pytest.raises(errors.Misconfigured, match="carrier-pigeon"):
        Coordinator("carrier-pigeon://roof", "a")


def test_lock_names_are_short_and_differ() -> None:
    names = {coordination.lock_name(sack, SACKS) for sack in range(SACKS)}
    assert len(names) == SACKS
    assert {len(name) for name in names} == {40}


# ------------------------------------------------------------------ a directory


@pytest.fixture
def pair(tmp_path: pathlib.Path) -> Iterator[tuple[Coordinator, Coordinator]]:
    """Two workers of one group."""
    both = tuple(Coordinator(f"file://{tmp_path}/coordination", name) for name in "ab")
    for coordinator in both:
        coordinator.start()
        coordinator.join()
    yield both  # type: ignore[misc]
    for coordinator in both:
        coordinator.stop()


def test_members_see_each_other_and_their_statistics(
    pair: tuple[Coordinator, Coordinator],
) -> None:
    pair[0].publish({"processed measures": 7})
    assert pair[1].members() == {"a": {"processed measures": 7}, "b": {}}


def test_nobody_has_joined_yet(tmp_path: pathlib.Path) -> None:
    coordinator = Coordinator(f"file://{tmp_path}/coordination", "a")
    coordinator.start()
    assert coordinator.members() == {}
    assert coordinator.names() == set()
    coordinator.stop()


def test_only_free_locks_are_taken_and_nobody_waits(
    pair: tuple[Coordinator, Coordinator],
) -> None:
    with pair[0].sacks([1, 2], SACKS) as mine:
        assert mine == [1, 2]
        with pair[1].sacks([2, 3], SACKS) as others:
            assert others == [3]
    with pair[1].sacks([2], SACKS) as others:
        assert others == [2]


def test_locks_are_released_when_the_work_fails(pair: tuple[Coordinator, Coordinator]) -> None:
    with pytest.raises(ZeroDivisionError), pair[0].sacks([1], SACKS):
        raise ZeroDivisionError
    with pair[1].sacks([1], SACKS) as free:
        assert free == [1]


def test_who_asks_for_the_workers_does_not_wait_for_a_server_that_hangs(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gnocchi.conf"
    path.write_text(f"[DEFAULT]\ncoordination_url = file://{tmp_path}/coordination\n")
    observer = coordination.Observer(config.prepare([], files=[str(path)], middleware=False))
    assert observer.members() == {}
    answers = threading.Event()
    asked = []

    def hang(_: object) -> dict[str, object]:
        asked.append(threading.get_ident())
        answers.wait(30)
        return {"a": {}}

    monkeypatch.setattr(Coordinator, "members", hang)
    monkeypatch.setattr(coordination, "OBSERVER_S", 0.05)
    for _ in range(3):
        with pytest.raises(errors.Unavailable, match="does not answer"):
            observer.members()
    assert len(asked) == 1
    answers.set()
    monkeypatch.setattr(coordination, "OBSERVER_S", 30)
    assert observer.members() == {"a": {}}


def test_membership_follows_the_group(
    pair: tuple[Coordinator, Coordinator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordination, "MEMBERSHIP_S", 0.0)
    membership = coordination.Membership(pair[0], index=0, workers=2, sacks=SACKS, replicas=2)
    assert membership.refresh({}).first == coordination.share_by_ring("a", "ab", SACKS, 2).first
    pair[1].stop()
    assert membership.refresh({}).first == frozenset(range(SACKS))
    pair[1].start()
