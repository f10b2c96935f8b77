"""Redis that dies, hangs, is full, refuses, or is replaced by its replica."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from gnocchi import errors
from gnocchi.drivers.redis import RedisIncoming, RedisStorage
from tests import servers
from tests.conformance.models import SACKS
from tests.conformance.points import in_sacks, values
from tests.conformance.waiting import take_all
from tests.conftest import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT_S = 0.4
PATIENCE_S = 20.0
PASSWORD = "%61%20pass%2Fword"


@pytest.fixture(autouse=True)
def installed() -> None:
    require(servers.redis_programs(), (*servers.REDIS, "openssl"))


class Clients:
    """Both drivers on one URL."""

    def __init__(self, url: str) -> None:
        conf = SimpleNamespace(redis_url=url)
        self.incoming = RedisIncoming(conf, SACKS)
        self.storage = RedisStorage(conf)

    def close(self) -> None:
        self.incoming.disconnect()
        self.storage.disconnect()

    def calls(self) -> dict[str, Callable[[], object]]:
        """One of each, some on what waits and on an object named ``kept``."""
        incoming, storage = self.incoming, self.storage
        taken = take_all(incoming)
        return {
            "add": lambda: incoming.add(in_sacks(SACKS, [0, 3], 9.0)),
            "take": lambda: incoming.take(range(SACKS), 10),
            "discard": lambda: incoming.discard(taken),
            "waiting": incoming.waiting,
            "wait": lambda: incoming.wait(0.5, [1]),
            "backlog": incoming.backlog,
            "put": lambda: storage.put("new", b"x" * 1000),
            "read": lambda: storage.read("kept", 0, 10),
            "delete": lambda: storage.delete(["other"]),
            "list": lambda: list(storage.list()),
        }


def url_of(server: servers.RedisServer, options: str = "") -> str:
    credentials = f":{PASSWORD}@" if server.password else ""
    return f"redis://{credentials}127.0.0.1:{server.port}/?socket_timeout={TIMEOUT_S}{options}"


@pytest.fixture
def server() -> Iterator[servers.RedisServer]:
    with servers.redis(durable=True) as running:
        yield running


@pytest.fixture
def clients(server: servers.RedisServer) -> Iterator[Clients]:
    yield from opened(url_of(server))


def opened(url: str) -> Iterator[Clients]:
    clients = Clients(url)
    clients.incoming.add(in_sacks(SACKS, [0], 1.0))
    clients.storage.put("kept", b"kept")
    yield clients
    clients.close()


def fails(call: Callable[[], object]) -> str:
    """What a call says that cannot be done now, soon."""
    began = time.monotonic()
    with pytest.raises(errors.Unavailable) as caught:
        call()
    assert time.monotonic() - began < 4 * TIMEOUT_S
    text = str(caught.value)
    assert "\n" not in text
    assert "a pass/word" not in text
    return text


def until_it_works(call: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            call()
        except errors.Unavailable:
            assert time.monotonic() < end
            time.sleep(0.05)
        else:
            return


def test_killed_server_is_unavailable_and_loses_nothing(
    server: servers.RedisServer, clients: Clients
) -> None:
    calls = clients.calls()
    server.kill()
    for call in calls.values():
        fails(call)
    server.start()
    assert values(take_all(clients.incoming)) == [1.0]
    assert clients.storage.read("kept", 0, 10) == b"kept"
    for call in calls.values():
        call()
    assert values(take_all(clients.incoming, [0])) == [9.0]
    assert clients.incoming.backlog()[:2] == (2, 2)


@pytest.mark.parametrize("state", ["connected", "not connected"])
def test_hanging_server_is_unavailable_in_time(
    server: servers.RedisServer, clients: Clients, state: str
) -> None:
    calls = clients.calls()
    if state == "not connected":
        clients.close()
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        for call in calls.values():
            fails(call)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    for call in calls.values():
        until_it_works(call)
    # what was sent before may have been stored too, but whole and only once more
    assert set(values(take_all(clients.incoming, [3]))) == {9.0}


def test_points_acknowledged_around_kills_are_all_there(server: servers.RedisServer) -> None:
    clients = Clients(url_of(server))
    acknowledged: list[float] = []
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            number += 1
            try:
                clients.incoming.add(in_sacks(SACKS, [1, 2], float(number)))
            except errors.Unavailable:
                continue
            acknowledged.append(float(number))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            time.sleep(0.2)
            server.kill()
            server.start()
        time.sleep(0.2)
    finally:
        over.set()
        writer.join()
    for sack in (1, 2):
        found = values(take_all(clients.incoming, [sack]))
        assert set(acknowledged) <= set(found)
        assert found == sorted(found)
    # order, objects and counts still agree
    detailed = clients.incoming.backlog(details=True)
    assert clients.incoming.backlog()[:2] == detailed[:2]
    clients.close()


def until_full(call: Callable[[int], object]) -> int:
    """How often a call succeeded before the server had no memory left."""
    done: list[object] = []

    def fill() -> None:
        while True:
            done.append(call(len(done)))

    with pytest.raises(errors.Unavailable, match="OOM"):
        fill()
    return len(done)


@pytest.fixture
def small() -> Iterator[servers.RedisServer]:
    with servers.redis("--maxmemory", "8mb") as running:
        yield running


def test_full_server_refuses_points_and_can_be_emptied(small: servers.RedisServer) -> None:
    clients = Clients(url_of(small))
    many = [float(number) for number in range(10_000)]
    stored = until_full(lambda _: clients.incoming.add(in_sacks(SACKS, [0, 1], *many)))
    until_full(lambda number: clients.storage.put(f"segment-{number}", b"x" * 10_000))
    taken = take_all(clients.incoming)
    assert len(taken.points) == stored * 20_000 > 0
    clients.incoming.discard(taken)
    assert clients.incoming.waiting() == {}
    assert clients.incoming.backlog()[:2] == (0, 0)
    clients.incoming.add(in_sacks(SACKS, [0, 1], 1.0))
    assert values(take_all(clients.incoming)) == [1.0, 1.0]
    clients.close()


def test_counts_are_right_when_a_part_is_discarded_on_a_full_server(
    small: servers.RedisServer,
) -> None:
    clients = Clients(url_of(small))
    for number in range(3):
        clients.incoming.add(in_sacks(SACKS, [1], float(number)))
    until_full(lambda number: clients.storage.put(f"segment-{number}", b"x" * 10_000))
    clients.incoming.discard(clients.incoming.take([1], 2))
    assert clients.incoming.backlog()[:2] == (1, 1)
    assert values(take_all(clients.incoming)) == [2.0]
    clients.close()


def test_damaged_objects_are_set_aside_on_a_full_server(small: servers.RedisServer) -> None:
    clients = Clients(url_of(small))
    clients.incoming.add(in_sacks(SACKS, [1], 1.0))
    key = "gnocchi:{incoming4-1}"
    name = small.cli("hkeys", f"{key}:objects").strip()
    small.cli("hset", f"{key}:objects", name, "damaged")
    until_full(lambda number: clients.storage.put(f"segment-{number}", b"x" * 10_000))
    taken = take_all(clients.incoming, [1])
    assert len(taken.damaged) == 1
    clients.incoming.discard(taken)
    assert small.cli("hget", f"{key}:damaged", name).strip() == "damaged"
    clients.close()


def test_object_of_which_the_bytes_are_gone_is_damaged(
    server: servers.RedisServer, clients: Clients
) -> None:
    server.cli("del", "gnocchi:{incoming4-0}:objects")
    taken = take_all(clients.incoming)
    assert len(taken.damaged) == 1
    clients.incoming.discard(taken)
    assert clients.incoming.waiting() == {}
    assert clients.incoming.backlog()[:2] == (0, 0)


def test_entry_that_somebody_else_wrote_holds_nothing_up(
    server: servers.RedisServer, clients: Clients
) -> None:
    server.cli("xadd", "gnocchi:{incoming4-0}:order", "*", "field", "something else")
    assert clients.incoming.waiting().keys() == {0}
    taken = take_all(clients.incoming)
    assert values(taken) == [1.0]
    assert len(taken.damaged) == 1
    clients.incoming.discard(taken)
    assert clients.incoming.waiting() == {}


def test_entry_that_somebody_else_wrote_leaves_the_counts_alone(
    server: servers.RedisServer, clients: Clients
) -> None:
    server.cli("xadd", "gnocchi:{incoming4-1}:order", "*", "field", "something else")
    taken = take_all(clients.incoming, [1])
    assert len(taken.damaged) == 1
    clients.incoming.add(in_sacks(SACKS, [1], 2.0))
    clients.incoming.discard(taken)
    assert values(take_all(clients.incoming, [1])) == [2.0]
    assert clients.incoming.backlog()[:2] == (2, 2)


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        (("min-replicas-to-write", "1"), "NOREPLICAS"),
        (("replicaof", "127.0.0.1 1"), "READONLY"),
        (("requirepass", "another"), "NOAUTH"),
    ],
)
def test_server_that_refuses_is_unavailable_until_it_does_not(
    setting: tuple[str, str], answer: str
) -> None:
    name, value = setting
    back = {"min-replicas-to-write": "0", "replicaof": "no one", "requirepass": ""}[name]
    with servers.redis() as server:
        clients = Clients(url_of(server))
        clients.incoming.add(in_sacks(SACKS, [0], 1.0))
        taken = take_all(clients.incoming)
        set_ = ("replicaof",) if name == "replicaof" else ("config", "set", name)
        server.cli(*set_, *(value.split() if name == "replicaof" else [value]))
        clients.close()
        for call in (
            lambda: clients.incoming.add(in_sacks(SACKS, [0], 2.0)),
            lambda: clients.incoming.discard(taken),
            lambda: clients.storage.put("new", b"x"),
        ):
            assert answer in fails(call)
        server.password = "another" if name == "requirepass" else None
        server.cli(*set_, *(back.split() if name == "replicaof" else [back]))
        clients.incoming.discard(taken)
        clients.incoming.add(in_sacks(SACKS, [0], 2.0))
        assert values(take_all(clients.incoming)) == [2.0]
        clients.close()


# ------------------------------------------------------------------ credentials and TLS


@pytest.fixture(scope="module")
def tls() -> Iterator[servers.RedisServer]:
    require(servers.redis_programs(), (*servers.REDIS, "openssl"))
    with servers.redis(tls=True, password=servers.REDIS_PASSWORD) as running:
        yield running


def test_tls_with_a_password_works(tls: servers.RedisServer) -> None:
    authority = f"{tls.certificates}/ca.crt"
    for url in (
        f"rediss://:{PASSWORD}@127.0.0.1:{tls.port}?ssl_ca_certs={authority}",
        f"redis://default:{PASSWORD}@127.0.0.1:{tls.port}?ssl=true&ssl_ca_certs={authority}",
    ):
        clients = Clients(url)
        clients.incoming.upgrade()
        clients.incoming.add(in_sacks(SACKS, [0], 1.0))
        taken = take_all(clients.incoming)
        assert values(taken) == [1.0]
        clients.incoming.discard(taken)
        clients.close()


def test_unknown_authority_is_not_trusted(tls: servers.RedisServer) -> None:
    clients = Clients(f"rediss://:{PASSWORD}@127.0.0.1:{tls.port}?socket_timeout={TIMEOUT_S}")
    assert "certificate verify failed" in fails(clients.incoming.waiting)


def test_name_that_the_certificate_does_not_have_is_not_trusted(tls: servers.RedisServer) -> None:
    authority = f"{tls.certificates}/ca.crt"
    clients = Clients(
        f"rediss://:{PASSWORD}@localhost:{tls.port}?ssl_ca_certs={authority}"
        f"&socket_timeout={TIMEOUT_S}"
    )
    assert "certificate verify failed" in fails(clients.incoming.waiting)


@pytest.mark.parametrize("credentials", ["", ":wrong-secret@", "nobody:wrong-secret@"])
def test_wrong_password_is_misconfigured_at_the_start_and_unavailable_later(
    tls: servers.RedisServer, credentials: str
) -> None:
    authority = f"{tls.certificates}/ca.crt"
    clients = Clients(
        f"rediss://{credentials}127.0.0.1:{tls.port}?ssl_ca_certs={authority}"
        f"&socket_timeout={TIMEOUT_S}"
    )
    for upgrade in (clients.incoming.upgrade, clients.storage.upgrade):
        with pytest.raises(errors.Misconfigured, match="redis_url") as caught:
            upgrade()
        assert "wrong-secret" not in str(caught.value)
    assert "wrong-secret" not in fails(lambda: clients.incoming.add(in_sacks(SACKS, [0], 1.0)))


# ------------------------------------------------------------------ other kinds of servers


def test_unix_socket_and_database_number_are_used(
    server: servers.RedisServer, clients: Clients
) -> None:
    local = Clients(f"redis://{server.directory}/socket?db=3")
    assert local.incoming.waiting() == {}
    local.incoming.add(in_sacks(SACKS, [2], 3.0))
    assert clients.incoming.waiting().keys() == {0}
    other = Clients(url_of(server, "&db=3"))
    assert other.incoming.waiting().keys() == {2}
    local.close()
    other.close()


def test_sentinel_leads_to_the_replica_that_took_over() -> None:
    with servers.redis_sentinel() as master:
        dead = servers.reserve_port()
        url = (
            f"redis://:{PASSWORD}@127.0.0.1:{dead}?sentinel={servers.MASTER}"
            f"&sentinel_fallback=127.0.0.1:{master.sentinel_port}&socket_timeout={TIMEOUT_S}"
        )
        for clients in opened(url):
            master.cli("wait", "1", "1000")
            taken = take_all(clients.incoming)
            add = clients.calls()["add"]
            master.kill()
            fails(add)
            until_it_works(add)
            assert values(take_all(clients.incoming))[0] == 1.0
            assert clients.storage.read("kept", 0, 10) == b"kept"
            clients.incoming.discard(taken)
            assert set(values(take_all(clients.incoming))) == {9.0}


def test_sentinel_by_tls_is_verified() -> None:
    with servers.redis_sentinel(tls=True) as master:
        url = (
            f"redis://:{PASSWORD}@127.0.0.1:{master.sentinel_port}?sentinel={servers.MASTER}"
            f"&sentinel_ssl=true&socket_timeout={TIMEOUT_S}"
        )
        fails(Clients(url).incoming.waiting)
        clients = Clients(f"{url}&ssl_ca_certs={master.sentinel_certificates}/ca.crt")
        assert clients.incoming.waiting() == {}
        clients.close()


def test_master_that_no_sentinel_knows_is_unavailable(server: servers.RedisServer) -> None:
    clients = Clients(url_of(server, "&sentinel=nobody&sentinel_password=wrong-secret"))
    text = fails(clients.incoming.waiting)
    assert "'nobody'" in text
    assert "wrong-secret" not in text


def test_cluster_goes_on_when_a_node_is_back() -> None:
    with servers.redis_cluster() as nodes:
        clients = Clients(url_of(nodes[0], "&cluster=true"))
        add = lambda: clients.incoming.add(in_sacks(SACKS, range(SACKS), 1.0))  # noqa: E731
        add()
        os.kill(nodes[2].process.pid, signal.SIGSTOP)
        try:
            fails(clients.incoming.waiting)
            fails(clients.incoming.waiting)
        finally:
            os.kill(nodes[2].process.pid, signal.SIGCONT)
        until_it_works(add)
        assert len(take_all(clients.incoming).points) >= 2 * SACKS
        clients.close()


@pytest.mark.parametrize(
    ("password", "settings", "text"),
    [
        (PASSWORD, (), "Cluster mode is not enabled"),
        ("wrong-secret", ("--cluster-enabled", "yes"), "invalid username-password pair"),
    ],
)
def test_what_is_wrong_about_a_cluster_is_told(
    password: str, settings: tuple[str, ...], text: str
) -> None:
    with servers.redis(*settings, password=servers.REDIS_PASSWORD) as server:
        clients = Clients(f"redis://:{password}@127.0.0.1:{server.port}?cluster=true")
        with pytest.raises(errors.Misconfigured, match=text) as caught:
            clients.storage.upgrade()
        assert "secret" not in str(caught.value)


def test_node_of_a_cluster_is_not_taken_for_a_single_server() -> None:
    with servers.redis("--cluster-enabled", "yes") as server:
        clients = Clients(url_of(server))
        with pytest.raises(errors.Misconfigured, match="cluster=true"):
            clients.storage.upgrade()
        clients.close()


# ------------------------------------------------------------------ warnings


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        (("--maxmemory-policy", "allkeys-lru", "--appendonly", "yes"), "noeviction"),
        (("--appendonly", "no", "--save", ""), "keeps nothing on disk"),
        (("--appendonly", "no", "--save", "60 1"), "no more than snapshots"),
    ],
)
def test_upgrade_warns_of_a_server_that_may_lose_data(
    settings: tuple[str, ...], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    with servers.redis(*settings) as server, caplog.at_level(logging.WARNING):
        clients = Clients(url_of(server))
        clients.incoming.upgrade()
        clients.close()
    (record,) = caplog.records
    assert warning in record.getMessage()


def test_upgrade_does_not_warn_of_a_server_that_keeps_everything(
    server: servers.RedisServer, clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    clients.incoming.upgrade()
    clients.storage.upgrade()
    assert not caplog.records


def test_server_may_keep_its_configuration_to_itself(
    server: servers.RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """With the rights that the page asks for and no others."""
    server.cli(
        "acl", "setuser", "gnocchi", "on", ">secret", "~gnocchi:*", "&gnocchi:*",
        "+ping", "+eval", "+time", "+xadd", "+xrange", "+xread", "+xdel", "+xlen", "+hset",
        "+hget", "+hmget", "+hdel", "+hincrby", "+set", "+getrange", "+exists", "+unlink",
        "+del", "+zadd", "+zrem", "+zrange", "+publish", "+select",
    )  # fmt: skip
    clients = Clients(f"redis://gnocchi:secret@127.0.0.1:{server.port}")
    clients.incoming.upgrade()
    clients.incoming.add(in_sacks(SACKS, [0], 1.0))
    clients.storage.put("kept", b"x")
    clients.storage.delete(["other"])
    for call in clients.calls().values():
        call()
    assert not caplog.records
    clients.close()


def test_forked_process_has_connections_of_its_own(clients: Clients) -> None:
    taken = take_all(clients.incoming)
    child = os.fork()
    if not child:
        try:
            for _ in range(50):
                assert clients.storage.read("kept", 0, 10) == b"kept"
            clients.incoming.discard(taken)
        except BaseException:
            os._exit(1)
        os._exit(0)
    for _ in range(50):
        assert values(take_all(clients.incoming)) in ([1.0], [])
    assert os.waitpid(child, 0)[1] == 0
    assert clients.incoming.waiting() == {}


def test_server_without_its_scripts_is_no_different(
    server: servers.RedisServer, clients: Clients
) -> None:
    server.cli("script", "flush")
    assert values(take_all(clients.incoming)) == [1.0]
