"""The Swift driver while a server of Swift is away, stands still, is full, or refuses."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest
import swiftclient

from gnocchi.drivers import swift
from gnocchi.drivers.swift import Patience, SwiftIncoming, SwiftStorage
from gnocchi.errors import Misconfigured, Unavailable
from tests import servers
from tests.conformance.models import EVERYTHING, SACKS, names
from tests.conformance.points import in_sacks, values
from tests.conformance.test_swift import client_of, configuration
from tests.conformance.waiting import take_all
from tests.conftest import do_without, require
from tests.servers.coordination import MEMCACHED, memcached_programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ANSWER_S = 1
LONGEST_S = 6.0  # a call and its repetitions, on a busy machine


@pytest.fixture(scope="module")
def server() -> Iterator[servers.SwiftServer]:
    require(memcached_programs(), MEMCACHED)
    try:
        servers.swift_programs()
    except servers.ServerError as error:
        do_without(f"Swift cannot be installed: {error}")
    with servers.swift() as running:
        yield running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swift, "PATIENCE", Patience(3, 0.05))


class Stores:
    """A storage and a queue that worked a moment ago, and what is in them."""

    def __init__(self, server: servers.SwiftServer) -> None:
        conf = configuration(server)
        self.waiting = f"{conf.swift_container_prefix}-incoming{SACKS}-0"
        SwiftStorage(conf).upgrade()
        SwiftIncoming(conf, SACKS).upgrade()
        conf.swift_timeout = ANSWER_S
        self.storage = SwiftStorage(conf)
        self.incoming = SwiftIncoming(conf, SACKS)
        self.storage.put("there", b"there")
        for number in range(3):
            self.incoming.add(in_sacks(SACKS, [0, 1], float(number)))
        self.taken = take_all(self.incoming, [0])

    def calls(self) -> dict[str, Callable[[], object]]:
        """All that a server is needed for, by name."""
        return {
            "put": lambda: self.storage.put("new", b"new"),
            "read": lambda: self.storage.read("there", 0, 5),
            "delete": lambda: self.storage.delete(["other"]),
            "delete many": lambda: self.storage.delete([*"abcdef"]),
            "list": lambda: list(self.storage.list()),
            "add": lambda: self.incoming.add(in_sacks(SACKS, [2], 9.0)),
            "take": lambda: self.incoming.take(range(SACKS), EVERYTHING),
            "discard": lambda: self.incoming.discard(self.taken),
            "waiting": self.incoming.waiting,
            "wait": lambda: self.incoming.wait(0.0),
            "backlog": self.incoming.backlog,
        }

    def all_fail(self) -> None:
        for name in self.calls():
            self.fails(name)

    def fails(self, name: str) -> str:
        """A call fails in time, with one line that names no secret."""
        began = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            self.calls()[name]()
        assert time.monotonic() - began < LONGEST_S, name
        text = str(caught.value)
        assert "\n" not in text
        assert servers.SWIFT_KEY not in text
        return text

    def all_work(self) -> None:
        """Nothing that was acknowledged is lost, nothing that was taken comes back."""
        assert self.storage.read("there", 0, 9) == b"there"
        left = values(take_all(self.incoming, [0]))
        # A discard that failed may have happened, as a whole.
        assert left in ([], [0.0, 1.0, 2.0])
        self.incoming.discard(self.taken)
        assert values(take_all(self.incoming, [0])) == []
        assert values(take_all(self.incoming, [1])) == [0.0, 1.0, 2.0]
        # An add that failed may have happened, as a whole.
        assert values(take_all(self.incoming, [2])) in ([], [9.0])
        self.incoming.add(in_sacks(SACKS, [2], 10.0))
        assert values(take_all(self.incoming, [2]))[-1] == 10.0
        self.storage.put("newer", b"newer")
        assert self.storage.read("newer", 0, 9) == b"newer"

    def until_they_work(self) -> None:
        """A server that stood still does first what was sent to it meanwhile."""
        end = time.monotonic() + 20.0
        while time.monotonic() < end:
            with contextlib.suppress(Unavailable):
                self.incoming.waiting()
                self.storage.put("probe", b"probe")
                return


def test_nothing_listens(server: servers.SwiftServer) -> None:
    absent = f"http://127.0.0.1:{servers.reserve_port()}"
    for options in (
        {"swift_authurl": f"{absent}/auth/v1.0"},
        {"swift_url": f"{absent}/v1/AUTH_gnocchi"},
        {"swift_url": f"{absent}/v1/AUTH_gnocchi", "swift_preauthtoken": "some-token"},
    ):
        incoming = SwiftIncoming(configuration(server, **options), SACKS)
        began = time.monotonic()
        with pytest.raises(Unavailable, match="Connection refused"):
            incoming.upgrade()
        with pytest.raises(Unavailable, match="Connection refused"):
            incoming.add(in_sacks(SACKS, [1], 1.0))
        assert time.monotonic() - began < LONGEST_S


def test_proxy_is_killed_and_started_again(server: servers.SwiftServer) -> None:
    stores = Stores(server)
    server.kill("proxy")
    try:
        stores.all_fail()
    finally:
        server.start("proxy")
    stores.all_work()


def test_proxy_stands_still(server: servers.SwiftServer) -> None:
    stores = Stores(server)
    with servers.paused(server.process):
        for name in ("put", "read", "delete many", "list", "add", "discard", "wait"):
            assert "no answer in time" in stores.fails(name)
    stores.until_they_work()
    stores.all_work()


def test_servers_of_objects_are_away(server: servers.SwiftServer) -> None:
    stores = Stores(server)
    server.kill("object")
    try:
        for name in ("put", "read", "delete", "add", "take", "discard"):
            stores.fails(name)
        assert stores.incoming.waiting().keys() == {0, 1}
    finally:
        server.start("object")
    stores.until_they_work()
    stores.all_work()


def test_servers_of_objects_stand_still(server: servers.SwiftServer) -> None:
    stores = Stores(server)
    with servers.paused(server.processes["object"]):
        for name in ("put", "read", "delete", "add", "take", "discard"):
            stores.fails(name)
    stores.until_they_work()
    stores.all_work()


def test_listing_that_comes_late_hides_nothing_for_good(server: servers.SwiftServer) -> None:
    """Objects are stored without the server of their container, which is told later."""
    stores = Stores(server)
    stores.incoming.discard(take_all(stores.incoming))
    assert names(stores.storage) == ["there"]  # so the proxy knows that the containers exist
    server.kill("container")
    try:
        stores.incoming.add(in_sacks(SACKS, [1], 1.0))
        stores.storage.put("late", b"late")
        assert stores.storage.read("late", 0, 9) == b"late"
        for name in ("take", "waiting", "wait", "backlog", "list"):
            stores.fails(name)
    finally:
        server.start("container")
    stores.incoming.add(in_sacks(SACKS, [1], 2.0))
    taken = take_all(stores.incoming)
    assert values(taken) == [2.0]
    stores.incoming.discard(taken)
    assert "late" not in names(stores.storage)
    server.update_containers()
    assert names(stores.storage) == ["late", "there"]
    taken = take_all(stores.incoming)
    assert values(taken) == [1.0]
    stores.incoming.discard(taken)
    assert take_all(stores.incoming).receipt is not None
    assert stores.incoming.waiting() == {}


def test_object_that_is_gone_and_still_listed_is_not_taken_again(
    server: servers.SwiftServer,
) -> None:
    stores = Stores(server)
    client = client_of(server)
    taken = take_all(stores.incoming)
    server.kill("container")
    try:
        # What `discard` does, had it listed before.
        for part in taken.receipt.parts:
            client.delete_object(stores.waiting, str(part.name))
    finally:
        server.start("container")
        client.close()
    assert stores.incoming.waiting().keys() == {0, 1}
    assert values(take_all(stores.incoming)) == []
    assert stores.incoming.waiting() == {}
    server.update_containers()
    assert stores.incoming.waiting() == {}


def test_tokens_expire(server: servers.SwiftServer) -> None:
    stores = Stores(server)
    for call in stores.calls().values():
        server.forget_tokens()
        call()
    stores.all_work()


def test_key_is_changed(server: servers.SwiftServer) -> None:
    """Refused while it is wrong; nothing has to be started again once it is right."""
    stores = Stores(server)
    file = server.directory / "proxy.conf"
    right = file.read_text()
    server.kill("proxy")
    server.forget_tokens()
    file.write_text(right.replace(servers.SWIFT_KEY, "another"))
    server.start("proxy")
    try:
        for name in stores.calls():
            assert "refuses the credentials" in stores.fails(name)
    finally:
        server.kill("proxy")
        file.write_text(right)
        server.start("proxy")
    stores.all_work()


def test_quota_is_used_up(server: servers.SwiftServer) -> None:
    stores = Stores(server)
    owner = swiftclient.Connection(
        server.auth_url, servers.SWIFT_OWNER, servers.SWIFT_OWNER_KEY, retries=0
    )
    owner.get_auth()
    owner.url = f"{server.url}/v1/AUTH_gnocchi"
    owner.post_account({"X-Account-Meta-Quota-Bytes": "1"})
    try:
        for name in ("put", "add"):
            assert "quota" in stores.fails(name)
        assert stores.storage.read("there", 0, 9) == b"there"
        assert values(take_all(stores.incoming, [0])) == [0.0, 1.0, 2.0]
        stores.storage.delete(["other"])
    finally:
        owner.post_account({"X-Account-Meta-Quota-Bytes": ""})
        owner.close()
    stores.all_work()


def test_container_is_removed_and_made_again(server: servers.SwiftServer) -> None:
    stores = Stores(server)
    stores.incoming.discard(take_all(stores.incoming))
    client = client_of(server)
    client.delete_container(stores.waiting)
    client.close()
    with pytest.raises(Misconfigured, match="run gnocchi-upgrade"):
        stores.incoming.add(in_sacks(SACKS, [1], 1.0))
    with pytest.raises(Misconfigured, match="run gnocchi-upgrade"):
        take_all(stores.incoming)
    stores.incoming.upgrade()
    stores.incoming.add(in_sacks(SACKS, [1], 2.0))
    assert values(take_all(stores.incoming)) == [2.0]
