"""What workers rest on holds with every kind of coordination server."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from gnocchi import coordination, errors
from gnocchi.coordination import Coordinator, Membership

if TYPE_CHECKING:
    from collections.abc import Iterator

WITH_GROUPS = ("file", "redis", "memcached", "etcd", "zookeeper")
LOCKS_ONLY = ("postgresql", "mariadb")
SACKS = 16

pytestmark = pytest.mark.filterwarnings(
    # of the libraries behind tooz, whose threads end when they end
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::pytest.PytestUnhandledThreadExceptionWarning",
    # tooz still says it so to PyMySQL
    "ignore:'(passwd|db)' is deprecated:DeprecationWarning",
    "ignore:single argument is deprecated:DeprecationWarning",
)

with_groups = pytest.mark.parametrize("kind", WITH_GROUPS)
locks_only = pytest.mark.parametrize("kind", LOCKS_ONLY)
every_kind = pytest.mark.parametrize("kind", WITH_GROUPS + LOCKS_ONLY)


@pytest.fixture(autouse=True)
def own_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that no other test knows."""
    monkeypatch.setattr(coordination, "GROUP", f"tested-{uuid.uuid4().hex}".encode())


@contextlib.contextmanager
def workers(where: str, *names: str) -> Iterator[list[Coordinator]]:
    """Workers that have joined the group."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in names:
            coordinator = Coordinator(where, f"{name}-{uuid.uuid4().hex[:8]}")
            coordinator.start()
            stack.callback(coordinator.stop)
            coordinator.join()
            found.append(coordinator)
        yield found


@with_groups
def test_members_see_one_another_and_their_statistics(where: str) -> None:
    with workers(where, "a", "b") as (a, b):
        a.publish({"processed measures": 7})
        assert b.members() == {a.member: {"processed measures": 7}, b.member: {}}
        assert a.names() == {a.member, b.member}


@with_groups
def test_member_that_stops_is_gone(where: str) -> None:
    with workers(where, "a") as (a,):
        with workers(where, "b"):
            assert len(a.names() or ()) == 2
        assert a.names() == {a.member}


@with_groups
def test_worker_that_the_group_forgot_joins_again(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordination, "MEMBERSHIP_S", 0.0)
    with workers(where, "a", "b") as (a, b):
        membership = Membership(a, index=0, workers=1, sacks=SACKS, replicas=1)
        both = membership.refresh({}).first
        assert len(both) < SACKS
        a._driver.leave_group(coordination.GROUP).get()  # as when the server lost its memory
        assert b.names() == {b.member}
        assert membership.refresh({}).first == both
        assert b.names() == {a.member, b.member}


@locks_only
def test_databases_know_no_groups(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordination, "MEMBERSHIP_S", 0.0)
    with workers(where, "a") as (a,):
        assert not a.has_groups
        assert a.names() is None
        assert a.members() is None
        membership = Membership(a, index=1, workers=2, sacks=SACKS, replicas=1)
        assert membership.refresh({"done": 1}).first == frozenset(range(1, SACKS, 2))


@every_kind
def test_only_free_locks_are_taken_and_nobody_waits(where: str) -> None:
    with workers(where, "a", "b") as (a, b):
        with a.sacks([1, 2], SACKS) as mine:
            assert mine == [1, 2]
            began = time.monotonic()
            with b.sacks([2, 3], SACKS) as others:
                assert others == [3]
            assert time.monotonic() - began < 5
        with b.sacks([2], SACKS) as others:
            assert others == [2]


@every_kind
def test_locks_are_released_when_the_work_fails(where: str) -> None:
    with workers(where, "a", "b") as (a, b):
        with pytest.raises(ZeroDivisionError), a.sacks([1], SACKS):
            raise ZeroDivisionError
        with b.lock(coordination.lock_name(1, SACKS)) as free:
            assert free


@with_groups
def test_all_sacks_are_taken_together(where: str) -> None:
    with workers(where, "a") as (a,), a.sacks(range(SACKS), SACKS) as mine:
        assert mine == list(range(SACKS))


@locks_only
def test_connections_of_a_database_are_not_used_up(where: str) -> None:
    with workers(where, "a", "b") as (a, b), a.sacks(range(SACKS), SACKS) as mine:
        assert mine == list(range(coordination.LOCKS_OF_A_DATABASE))
        with b.sacks(range(SACKS), SACKS) as others:
            assert len(others) == len(mine)
            assert not set(others) & set(mine)


def _hold_and_wait(where: str, taken: object) -> None:
    coordinator = Coordinator(where, "killed")
    coordinator.start()
    coordinator.join()
    with coordinator.sacks([5], SACKS):
        taken.set()  # type: ignore[attr-defined]
        time.sleep(600)


@pytest.mark.parametrize("kind", ["file", "postgresql", "mariadb"])
def test_locks_of_a_killed_worker_are_free_at_once(where: str) -> None:
    context = multiprocessing.get_context("spawn")
    taken = context.Event()
    process = context.Process(target=_hold_and_wait, args=(where, taken), daemon=True)
    process.start()
    try:
        assert taken.wait(60)
        with workers(where, "a") as (a,):
            with a.sacks([5], SACKS) as mine:
                assert mine == []
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            end = time.monotonic() + 10
            while time.monotonic() < end:
                with a.sacks([5], SACKS) as mine:
                    if mine:
                        return
                time.sleep(0.05)
        raise AssertionError("the lock stays taken")
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("kind", WITH_GROUPS[1:] + LOCKS_ONLY)
def test_server_that_is_not_there_is_unavailable(kind: str) -> None:
    schemes = {"etcd": "etcd3+http", "mariadb": "mysql"}

    def take() -> None:
        # only ZooKeeper's library waits for a server to come
        address = f"{schemes.get(kind, kind)}://u:p@127.0.0.1:1/x?timeout=1"
        coordinator = Coordinator(address.removesuffix("?timeout=1" * (kind in LOCKS_ONLY)), "a")
        coordinator.start()
        with coordinator.sacks([1], SACKS) as mine:
            assert mine == []

    with pytest.raises(errors.Unavailable):
        take()
