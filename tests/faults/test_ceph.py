"""Ceph that stands still, dies, is full or refuses; and a Ceph driver that is set up wrongly."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from gnocchi.drivers import ceph
from gnocchi.drivers.ceph_cluster import Cluster
from gnocchi.errors import GnocchiError, Misconfigured, Unavailable
from tests import servers
from tests.conformance.models import SACKS
from tests.conformance.points import in_sacks, values
from tests.conformance.test_ceph import IncomingPlace
from tests.conformance.waiting import take_all
from tests.conftest import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import CephServer

TIMEOUT_S = 1
SLACK_S = 3.0


@pytest.fixture(scope="module")
def server() -> Iterator[CephServer]:
    """A Ceph that keeps what it has when it is killed."""
    require(servers.ceph_programs(), servers.CEPH)
    with servers.ceph(durable=True) as running:
        yield running


@pytest.fixture
def place(server: CephServer) -> IncomingPlace:
    return IncomingPlace(server, TIMEOUT_S)


def fails(call: Callable[[], object], kind: type[GnocchiError] = Unavailable) -> str:
    """What a call says that has to fail, in one line and in time."""
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        call()
    assert time.monotonic() - began < TIMEOUT_S + SLACK_S
    said = str(caught.value)
    assert "\n" not in said
    return said


def calls(storage: ceph.CephStorage, incoming: ceph.CephIncoming) -> list[Callable[[], object]]:
    """One of every kind; reading and discarding what was there before."""
    taken = take_all(incoming)
    return [
        lambda: storage.put("new", b"x"),
        lambda: storage.read("there", 0, 1),
        lambda: storage.delete(["there", "new"]),
        lambda: incoming.add(in_sacks(SACKS, [1], 2.0)),
        lambda: incoming.add(in_sacks(SACKS, [1], *([2.0] * 5000))),
        lambda: incoming.take([1], 100),
        lambda: incoming.discard(taken),
        incoming.waiting,
        incoming.backlog,
        lambda: incoming.wait(0.1),
    ]


def test_osd_that_stands_still_fails_every_call_in_time(
    server: CephServer, place: IncomingPlace
) -> None:
    storage, incoming = ceph.CephStorage(place.conf), place.open()
    incoming.add(in_sacks(SACKS, [1], 1.0))
    storage.put("there", b"x")
    listed = calls(storage, incoming)
    server.pause_osd()
    try:
        for call in listed:
            assert "no answer in time" in fails(call)
    finally:
        server.resume_osd()
    incoming.add(in_sacks(SACKS, [1], 9.0))
    # what failed may have happened, in order; what was accepted is there
    found = values(take_all(incoming))
    assert found[-1] == 9.0
    assert found == sorted(found)
    storage.put("again", b"y")
    assert storage.read("again", 0, 1) == b"y"


def test_points_are_there_after_the_osd_was_killed(
    server: CephServer, place: IncomingPlace
) -> None:
    storage, incoming = ceph.CephStorage(place.conf), place.open()
    incoming.add(in_sacks(SACKS, [1, 2], 1.0))
    incoming.add(in_sacks(SACKS, [1, 2], *([2.0] * 1000)))
    storage.put("there", b"x")
    incoming.discard(take_all(incoming, [2]))
    server.kill_osd()
    try:
        fails(lambda: incoming.add(in_sacks(SACKS, [3], 3.0)))
        fails(lambda: storage.read("there", 0, 1))
    finally:
        server.start_osd()
    assert storage.read("there", 0, 1) == b"x"
    incoming.add(in_sacks(SACKS, [1], 4.0))
    assert values(take_all(incoming, [1])) == [1.0] + [2.0] * 1000 + [4.0]
    assert take_all(incoming, [2]).receipt == []


def test_cluster_that_does_not_answer_fails_the_first_call_in_time(
    server: CephServer, place: IncomingPlace
) -> None:
    with mock.patch.object(Cluster, "_known", {}):
        incoming = place.open()
    server.pause()
    try:
        fails(incoming.waiting)
    finally:
        server.resume()
    assert incoming.waiting() == {}


def test_discarding_goes_on_when_the_cluster_is_full(
    server: CephServer, place: IncomingPlace
) -> None:
    storage, incoming = ceph.CephStorage(place.conf), place.open()
    incoming.add(in_sacks(SACKS, [1, 2], *([1.0] * 1000)))
    storage.put("there", b"x")
    try:
        server.fill()
        assert "no space left" in fails(lambda: storage.put("new", b"x"))
        assert "no space left" in fails(lambda: incoming.add(in_sacks(SACKS, [1], *([2.0] * 1000))))
        incoming.discard(take_all(incoming, [1]))
        assert values(take_all(incoming)) == [1.0] * 1000
        incoming.discard(take_all(incoming))
        storage.delete(["there"])
        assert place.objects() == []
    finally:
        server.free()
    storage.put("new", b"x")


# ------------------------------------------------------------ wrong configuration


def changed(place: IncomingPlace, **options: Any) -> Any:
    """The options of a place with some of them replaced."""
    return type(place.conf)(**(vars(place.conf) | options))


def test_refused_key_is_told_without_the_key(place: IncomingPlace) -> None:
    wrong = place.conf.ceph_secret[:10] + "AAAA" + place.conf.ceph_secret[14:]
    storage = ceph.CephStorage(changed(place, ceph_secret=wrong))
    said = fails(storage.upgrade)
    assert "client.gnocchi" in said
    assert wrong not in said + repr(storage) + repr(vars(storage))
    fails(lambda: storage.read("x", 0, 1))


def test_pool_the_user_may_not_use_is_told(server: CephServer, place: IncomingPlace) -> None:
    server.administrate("osd", "pool", "create", "foreign", "1", "1", "replicated")
    storage = ceph.CephStorage(changed(place, ceph_pool="foreign"))
    assert "may not" in fails(storage.upgrade)


def test_unknown_pool_is_the_operators_mistake(place: IncomingPlace) -> None:
    storage = ceph.CephStorage(changed(place, ceph_pool="nowhere"))
    assert "nowhere" in fails(storage.upgrade, Misconfigured)


@pytest.mark.parametrize("option", ["ceph_conffile", "ceph_keyring"])
def test_missing_file_is_the_operators_mistake(place: IncomingPlace, option: str) -> None:
    said = fails(
        lambda: ceph.CephStorage(changed(place, **{option: "/nowhere/file"})), Misconfigured
    )
    assert option in said


def test_malformed_key_is_the_operators_mistake(place: IncomingPlace) -> None:
    storage = ceph.CephStorage(changed(place, ceph_secret="not a key"))
    assert "not a key" not in fails(storage.upgrade, Misconfigured)


def test_keyring_serves_instead_of_the_key(server: CephServer, place: IncomingPlace) -> None:
    options = changed(place, ceph_secret=None, ceph_keyring=str(server.keyring))
    ceph.CephIncoming(options, SACKS).upgrade()


def test_missing_module_is_told(place: IncomingPlace) -> None:
    with mock.patch.dict(sys.modules, {"rados": None}):
        said = fails(lambda: ceph.CephStorage(changed(place, ceph_timeout=7)), Misconfigured)
    assert "python3-rados" in said
