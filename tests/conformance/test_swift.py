"""The Swift driver on a Swift."""

from __future__ import annotations

import contextlib
import io
import os
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import requests
import swiftclient
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from swiftclient.client import HTTPConnection
from urllib3 import HTTPResponse

from gnocchi import errors
from gnocchi.drivers import swift
from gnocchi.drivers.swift import SwiftIncoming, SwiftStorage
from gnocchi.storage import NoSuchObject
from tests import servers
from tests.conformance import models
from tests.conformance.incoming import IncomingConformance
from tests.conformance.models import SACKS, names
from tests.conformance.points import in_sacks, values
from tests.conformance.storage import StorageConformance
from tests.conformance.waiting import take_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Each of them is hundreds of requests; the queue has its many on a store in memory.
FEW = settings(models.SETTINGS, max_examples=4, stateful_step_count=20)


def configuration(server: servers.SwiftServer, **options: Any) -> SimpleNamespace:
    """Options for containers of one's own; those not named have their defaults."""
    return SimpleNamespace(
        **{
            "swift_auth_version": "1",
            "swift_auth_insecure": False,
            "swift_url": None,
            "swift_authurl": server.auth_url,
            "swift_preauthtoken": None,
            "swift_cacert": None,
            "swift_region": None,
            "swift_user": servers.SWIFT_USER,
            "swift_user_domain_name": "Default",
            "swift_key": servers.SWIFT_KEY,
            "swift_project_name": None,
            "swift_project_domain_name": "Default",
            "swift_container_prefix": "t" + uuid.uuid4().hex[:16],
            "swift_container_prefix_all": True,
            "swift_storage_policy": None,
            "swift_endpoint_type": "publicURL",
            "swift_service_type": "object-store",
            "swift_timeout": 60,
        }
        | options
    )


def client_of(server: servers.SwiftServer) -> swiftclient.Connection:
    """Whom the driver knows nothing of, in the same account."""
    return swiftclient.Connection(
        server.auth_url, servers.SWIFT_USER, servers.SWIFT_KEY, retries=2, starting_backoff=0.1
    )


@pytest.fixture(scope="module")
def client(swift_server: servers.SwiftServer) -> Iterator[swiftclient.Connection]:
    connection = client_of(swift_server)
    yield connection
    connection.close()


def containers(client: swiftclient.Connection, prefix: str) -> list[str]:
    return [entry["name"] for entry in client.get_account(prefix=prefix, full_listing=True)[1]]


class StoragePlace:
    """Containers with one prefix."""

    def __init__(self, conf: SimpleNamespace) -> None:
        self.conf = conf

    def open(self) -> SwiftStorage:
        return SwiftStorage(self.conf)


class OneNode(SwiftIncoming):
    """A client of a Swift of one node, where listings do not lag."""

    listing_lag_s = 0.0


class IncomingPlace:
    """Containers with one prefix."""

    def __init__(self, conf: SimpleNamespace, client: swiftclient.Connection) -> None:
        self.conf = conf
        self.client = client
        self.waiting = f"{conf.swift_container_prefix}-incoming{SACKS}-0"
        self.damaged = f"{conf.swift_container_prefix}-incoming{SACKS}-damaged"

    def open(self, sacks: int = SACKS) -> SwiftIncoming:
        return OneNode(self.conf, sacks)

    def names(self, container: str) -> list[str]:
        listing = self.client.get_container(container, full_listing=True)[1]
        return [entry["name"] for entry in listing]

    def _read(self, container: str, name: str) -> bytes:
        data: bytes = self.client.get_object(container, name)[1]
        return data

    def objects(self) -> list[bytes]:
        return [self._read(self.waiting, name) for name in self.names(self.waiting)]

    def change(self, change: Callable[[bytes], bytes]) -> None:
        for name in self.names(self.waiting):
            changed = change(self._read(self.waiting, name))
            self.client.put_object(self.waiting, name, changed)

    def kept(self) -> set[bytes]:
        return {self._read(self.damaged, name) for name in self.names(self.damaged)}

    @contextlib.contextmanager
    def failing(self, call: int) -> Iterator[None]:
        """Let request ``call // 4`` fail in one of four ways, however often it is repeated."""
        seen: list[tuple[str, str]] = []
        real = HTTPConnection._request

        def request(connection: Any, method: str, url: str, **arguments: Any) -> requests.Response:
            if (method, url) not in seen[-1:]:
                seen.append((method, url))
            if len(seen) - 1 != call // 4:
                return real(connection, method, url, **arguments)
            if call % 4 == 0:
                raise requests.exceptions.ConnectionError("told so")
            if call % 4 < 3:
                return answer(method, url, (503, 507)[call % 2])
            real(connection, method, url, **arguments).close()
            raise requests.exceptions.ConnectionError("lost")

        with (
            mock.patch.object(HTTPConnection, "_request", request),
            mock.patch.object(swift, "PATIENCE", swift.Patience(pause_s=0.0)),
        ):
            yield


def answer(
    method: str, url: str, status: int, body: bytes = b"told so", **headers: str
) -> requests.Response:
    """An answer that Swift did not give."""
    response = requests.Response()
    response.status_code = status
    response.reason = "as the test wishes"
    response.headers.update(headers)
    response.request = requests.Request(method, url).prepare()
    response.raw = HTTPResponse(io.BytesIO(body), headers, status, preload_content=False)
    return response


class TestSwiftStorage(StorageConformance):
    fewer = 6

    @pytest.fixture
    def new_place(self, swift_server: servers.SwiftServer) -> Callable[[], StoragePlace]:
        return lambda: StoragePlace(configuration(swift_server))

    @pytest.fixture
    def place(self, swift_server: servers.SwiftServer) -> StoragePlace:
        return StoragePlace(configuration(swift_server))

    def test_any_sequence_of_calls_equals_a_dict(self, new_place: Callable[[], Any]) -> None:
        run_state_machine_as_test(lambda: models.Objects(new_place()), settings=FEW)

    @pytest.mark.parametrize("count", [3, 4, 19, 20, 21, 41])
    def test_any_number_of_objects_is_deleted(
        self, storage: SwiftStorage, count: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gnocchi.drivers.swift.DELETE_AT_ONCE", 20)
        storage.put("kept", b"x")
        for number in (0, count - 1):
            storage.put(f"object-{number}", b"x")
        storage.delete(f"object-{number}" for number in range(count))
        assert names(storage) == ["kept"]

    def test_listing_of_several_pages_is_whole(
        self, storage: SwiftStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wanted = sorted(f"object-{number}" for number in range(40))
        for name in wanted:
            storage.put(name, b"x")
        real = swiftclient.client.get_container

        def two_at_a_time(*arguments: Any, **options: Any) -> Any:
            return real(*arguments, limit=2, **options)

        monkeypatch.setattr(swiftclient.client, "get_container", two_at_a_time)
        for known in ({"swift": {"container_listing_limit": 2}}, {}):
            monkeypatch.setattr(swift.Connection, "information", known)
            assert names(storage) == wanted

    def test_number_of_containers_does_not_grow(
        self, place: StoragePlace, storage: SwiftStorage, client: swiftclient.Connection
    ) -> None:
        for number in range(50):
            storage.put(f"object-{number}", b"x")
        prefix = place.conf.swift_container_prefix
        assert containers(client, prefix) == [f"{prefix}-segments-{i}" for i in range(8)]
        used = [client.head_container(name) for name in containers(client, prefix)]
        assert all(int(head["x-container-object-count"]) > 0 for head in used)

    def test_containers_of_others_are_neither_listed_nor_touched(
        self, place: StoragePlace, storage: SwiftStorage, client: swiftclient.Connection
    ) -> None:
        prefix = place.conf.swift_container_prefix
        theirs = [f"{prefix}-segments-8", f"{prefix}-segments", f"{prefix}x-segments-0"]
        for container in theirs:
            client.put_container(container)
            client.put_object(container, "x", b"theirs")
        storage.put("x", b"ours")
        assert names(storage) == ["x"]
        storage.delete(["x", "y"])
        storage.delete([*"uvwxyz"])
        assert storage.tidy(-1.0) == 0
        assert {client.get_object(container, "x")[1] for container in theirs} == {b"theirs"}

    def test_container_is_asked_for_before_it_was_made(self, place: StoragePlace) -> None:
        with pytest.raises(errors.Misconfigured, match="run gnocchi-upgrade"):
            place.open().put("x", b"x")
        with pytest.raises(errors.Misconfigured, match="run gnocchi-upgrade"):
            list(place.open().list())
        place.open().delete(["x"])
        place.open().delete([*"abcdef"])

    def test_whole_answer_to_a_request_for_a_range_is_cut(
        self, storage: SwiftStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Something between here and Swift may know no ranges."""
        storage.put("x", b"0123456789")
        real = HTTPConnection._request

        def whole(connection: Any, *arguments: Any, **options: Any) -> requests.Response:
            options["headers"].pop("range", None)
            return real(connection, *arguments, **options)

        monkeypatch.setattr(HTTPConnection, "_request", whole)
        assert storage.read("x", 3, 4) == b"3456"

    def test_entry_of_an_object_that_is_gone_does_no_harm(
        self, storage: SwiftStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Listings may lag behind."""
        storage.put("x", b"x")
        (stale,) = [page for name in range(8) if (page := listing_of(storage, name))[1]]
        storage.delete(["x"])
        monkeypatch.setattr(swift.Containers, "_page", lambda *_: stale)
        listed = next(storage.list())
        assert listed.name == "x"
        with pytest.raises(NoSuchObject):
            storage.read("x", 0, 1)
        storage.delete(["x"])
        storage.delete(["x"] * 5)


def listing_of(storage: SwiftStorage, number: int) -> tuple[float, list[dict[str, Any]]]:
    return storage._containers._page(storage._names[number], "")


class TestSwiftWithoutBulkDelete:
    """Not every Swift can remove several objects with one request."""

    @pytest.fixture
    def place(
        self, swift_server: servers.SwiftServer, monkeypatch: pytest.MonkeyPatch
    ) -> StoragePlace:
        monkeypatch.setattr(swift.Connection, "information", {})
        return StoragePlace(configuration(swift_server))

    def test_many_objects_are_removed(self, place: StoragePlace) -> None:
        storage = place.open()
        storage.upgrade()
        for number in range(20):
            storage.put(f"object-{number}", b"x")
        storage.delete(f"object-{number}" for number in range(1, 40))
        assert names(storage) == ["object-0"]


class TestAnswers:
    """What comes back is not always what Swift would say, or not what was asked for."""

    @pytest.fixture
    def storage(
        self, swift_server: servers.SwiftServer, monkeypatch: pytest.MonkeyPatch
    ) -> SwiftStorage:
        monkeypatch.setattr(swift, "PATIENCE", swift.Patience(pause_s=0.0))
        storage = SwiftStorage(configuration(swift_server))
        storage.upgrade()
        storage.put("x", b"01234")
        list(storage.list())  # so it knows what Swift offers
        return storage

    @pytest.fixture
    def answers(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """What is answered instead, as arguments of `answer`; then Swift does."""
        planned: list[Any] = []
        real = HTTPConnection._request

        def request(connection: Any, method: str, url: str, **arguments: Any) -> requests.Response:
            if planned:
                status, body, headers = planned.pop(0)
                return answer(method, url, status, body, **headers)
            return real(connection, method, url, **arguments)

        monkeypatch.setattr(HTTPConnection, "_request", request)
        return planned

    @pytest.mark.parametrize("status", [408, 429, 498, 500, 502, 503, 504])
    def test_refusal_that_may_pass_is_met_with_patience(
        self, storage: SwiftStorage, answers: list[Any], status: int
    ) -> None:
        answers += [(status, b"", {})] * 2
        assert storage.read("x", 0, 9) == b"01234"
        answers += [(status, b"", {})] * 2
        storage.put("y", b"y")
        answers += [(status, b"", {})] * 3
        with pytest.raises(errors.Unavailable, match=str(status)):
            storage.read("x", 0, 9)
        assert answers == []

    def test_answer_that_is_cut_short_is_asked_for_again(
        self, storage: SwiftStorage, answers: list[Any]
    ) -> None:
        answers += [(206, b"01", {"content-length": "5", "content-range": "bytes 0-4/5"})] * 2
        assert storage.read("x", 0, 5) == b"01234"
        assert answers == []

    @pytest.mark.parametrize(
        "body",
        [
            b"<html>",
            b"[]",
            b'{"Response Status": "400 Bad Request", "Errors": [["/c/a", "409 Conflict"]]}',
            b'{"Response Status": "502 Bad Gateway", "Errors": []}',
            b'{"Response Status": "200 OK", "Errors": [["/c/a", "503 Internal Error"]]}',
        ],
    )
    def test_objects_that_are_not_all_removed_are_an_error(
        self, storage: SwiftStorage, answers: list[Any], body: bytes
    ) -> None:
        answers += [(200, body, {})] * 3
        with pytest.raises(errors.Unavailable, match="remove objects"):
            storage.delete([*"abcdef"])

    def test_bulk_delete_is_told_within_its_answer_that_the_token_has_expired(
        self, storage: SwiftStorage, answers: list[Any]
    ) -> None:
        body = b'{"Response Status": "401 Unauthorized", "Errors": []}'
        answers.append((200, body, {}))
        storage.delete([*"abcdefx"])
        assert names(storage) == []

    def test_listing_that_is_none_is_an_error(
        self, storage: SwiftStorage, answers: list[Any]
    ) -> None:
        answers.append((200, b"<html>Welcome", {}))
        with pytest.raises(errors.Unavailable, match="list"):
            list(storage.list())
        assert names(storage) == ["x"]


class TestSwiftIncoming(IncomingConformance):
    fewer = 6

    @pytest.fixture
    def new_place(
        self, swift_server: servers.SwiftServer, client: swiftclient.Connection
    ) -> Callable[[], IncomingPlace]:
        return lambda: IncomingPlace(configuration(swift_server), client)

    @pytest.fixture
    def place(self, new_place: Callable[[], IncomingPlace]) -> IncomingPlace:
        return new_place()

    def test_any_sequence_of_calls_equals_a_dict(self, new_place: Callable[[], Any]) -> None:
        run_state_machine_as_test(lambda: models.Queue(new_place()), settings=FEW)

    def test_objects_of_others_are_neither_taken_nor_removed(
        self, place: IncomingPlace, client: swiftclient.Connection
    ) -> None:
        incoming, divided = place.open(), place.open(40)
        incoming.upgrade()
        divided.upgrade()
        theirs = ["theirs", "README", "-taken.x", "0-4/x"]
        for name in theirs:
            client.put_object(place.waiting, name, b"theirs")
        divided.add(in_sacks(40, [7], 7.0))
        incoming.add(in_sacks(SACKS, [1], 1.0))
        assert incoming.waiting().keys() == {1}
        taken = take_all(incoming)
        assert values(taken) == [1.0]
        incoming.discard(taken)
        incoming.tidy(-1.0)
        assert values(take_all(divided)) == [7.0]
        assert sorted(place.names(place.waiting)) == sorted(theirs)

    def test_containers_have_the_prefix_only_if_all_are_to(
        self, swift_server: servers.SwiftServer, client: swiftclient.Connection
    ) -> None:
        sacks = 300  # and those of no other test: the names are the same in every run
        conf = configuration(swift_server, swift_container_prefix_all=False)
        incoming = SwiftIncoming(conf, sacks)
        incoming.upgrade()
        incoming.add(in_sacks(sacks, [1], 1.0))
        wanted = ["incoming300-0", "incoming300-1", "incoming300-damaged"]
        assert containers(client, "incoming300-") == wanted
        assert containers(client, conf.swift_container_prefix) == []
        incoming.discard(take_all(incoming))

    def test_listing_that_shows_what_is_gone_does_no_harm(
        self, place: IncomingPlace, incoming: SwiftIncoming, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(6):
            incoming.add(in_sacks(SACKS, [1], float(number)))
        stale = incoming._containers._page(place.waiting, "")
        incoming.discard(take_all(incoming))
        monkeypatch.setattr(swift.Containers, "_page", lambda *_: stale)
        for client in (incoming, place.open()):
            assert values(take_all(client)) == []
            assert client.waiting() == {}
            assert client.backlog(details=True) == (0, 0, 0, {})

    def test_child_process_has_connections_of_its_own(
        self, place: IncomingPlace, incoming: SwiftIncoming
    ) -> None:
        for number in range(20):
            incoming.add(in_sacks(SACKS, [1], float(number)))
        assert len(take_all(incoming).points) == 20
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with contextlib.suppress(BaseException):
                    for _ in range(20):
                        assert len(take_all(incoming).points) >= 20
                        incoming.add(in_sacks(SACKS, [2], 1.0))
                    code = 0
            finally:
                os._exit(code)
        for _ in range(20):
            assert len(take_all(incoming).points) >= 20
        assert os.waitpid(child, 0)[1] == 0
        assert len(take_all(incoming).points) == 40
