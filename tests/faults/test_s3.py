"""The S3 driver while its server is away, stands still, or refuses."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING

import pytest

from gnocchi.drivers import s3_connection
from gnocchi.drivers.s3 import S3Incoming, S3Storage
from gnocchi.drivers.s3_connection import Patience
from gnocchi.errors import Unavailable
from tests.conformance.models import EVERYTHING, SACKS
from tests.conformance.points import in_sacks, values
from tests.conformance.test_s3 import configuration
from tests.conformance.waiting import take_all
from tests.conftest import require
from tests.servers.base import programs, reserve_port
from tests.servers.ceph import RADOSGW, ceph, ceph_programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.ceph import CephServer

ANSWER_S = 1.0
LONGEST_S = 5.0  # a call and its repetitions, on a busy machine


@pytest.fixture(scope="module")
def server() -> Iterator[CephServer]:
    require(ceph_programs(), RADOSGW)
    with ceph(gateway=True) as running:
        yield running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_connection, "PATIENCE", Patience(ANSWER_S, ANSWER_S, 3, 0.05))


class Stores:
    """A storage and a queue that worked a moment ago, and what is in them."""

    def __init__(self, url: str) -> None:
        conf = configuration(url)
        self.storage = S3Storage(conf)
        self.incoming = S3Incoming(conf, SACKS)
        self.storage.upgrade()
        self.incoming.upgrade()
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
            "list": lambda: list(self.storage.list()),
            "add": lambda: self.incoming.add(in_sacks(SACKS, [2], 9.0)),
            "take": lambda: self.incoming.take(range(SACKS), EVERYTHING),
            "discard": lambda: self.incoming.discard(self.taken),
            "waiting": self.incoming.waiting,
            "wait": lambda: self.incoming.wait(0.0),
            "backlog": self.incoming.backlog,
        }

    def all_fail(self) -> None:
        """Every call fails in time, with one line that names no secret."""
        for name, call in self.calls().items():
            began = time.monotonic()
            with pytest.raises(Unavailable) as caught:
                call()
            assert time.monotonic() - began < LONGEST_S, name
            assert "\n" not in str(caught.value)
            assert "secret" not in str(caught.value)

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


def start_again(server: CephServer) -> None:
    """Start the gateway that has ended."""
    server.gateway = server.box.start(
        programs("radosgw")["radosgw"],
        "-c", server.configuration, "-n", "client.rgw.a", "-f",
        ready=lambda: _serves(server.s3_url),
    )  # fmt: skip


def _serves(url: str) -> bool:
    try:
        S3Storage(configuration(url)).upgrade()
    except Unavailable:
        return False
    return True


def test_nothing_listens(server: CephServer) -> None:
    conf = configuration(f"http://127.0.0.1:{reserve_port()}")
    began = time.monotonic()
    incoming = S3Incoming(conf, SACKS)
    with pytest.raises(Unavailable):
        incoming.upgrade()
    with pytest.raises(Unavailable):
        incoming.add(in_sacks(SACKS, [1], 1.0))
    assert time.monotonic() - began < 2 * LONGEST_S


def test_certificate_that_is_none_is_no_crash(server: CephServer) -> None:
    conf = configuration(server.s3_url.replace("http:", "https:"))
    with pytest.raises(Unavailable):
        S3Storage(conf).upgrade()


def test_server_ends_and_is_started_again(server: CephServer) -> None:
    stores = Stores(server.s3_url)
    assert server.gateway is not None
    # Killed, it would be waited for by the next one for half a minute.
    server.gateway.terminate()
    server.gateway.wait()
    try:
        stores.all_fail()
    finally:
        start_again(server)
    stores.all_work()


def test_server_stands_still(server: CephServer) -> None:
    stores = Stores(server.s3_url)
    assert server.gateway is not None
    server.gateway.send_signal(signal.SIGSTOP)
    try:
        stores.all_fail()
    finally:
        server.gateway.send_signal(signal.SIGCONT)
    # What was sent to it meanwhile is done now.
    for _ in range(100):
        with contextlib.suppress(Unavailable):
            stores.incoming.waiting()
            break
    stores.all_work()


def test_quota_is_used_up(server: CephServer) -> None:
    stores = Stores(server.s3_url)
    server.limit_objects(4)
    try:
        refused = ""
        for number in range(100):
            try:
                stores.incoming.add(in_sacks(SACKS, [3], float(number)))
            except Unavailable as error:
                refused = str(error)
                break
        assert "QuotaExceeded" in refused
        added = values(take_all(stores.incoming, [3]))
        assert added == list(map(float, range(len(added))))
        assert stores.storage.read("there", 0, 9) == b"there"
    finally:
        server.limit_objects(None)
    stores.all_work()
