"""The S3 driver on a RADOS gateway."""

from __future__ import annotations

import contextlib
import os
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError
from botocore.httpsession import URLLib3Session
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from gnocchi import errors
from gnocchi.drivers.s3 import S3Incoming, S3Storage
from gnocchi.drivers.s3_connection import Connection
from tests.conformance import models
from tests.conformance.incoming import IncomingConformance
from tests.conformance.models import SACKS, names
from tests.conformance.points import in_sacks, values
from tests.conformance.storage import StorageConformance
from tests.conformance.waiting import take_all
from tests.conftest import require
from tests.servers.base import programs
from tests.servers.ceph import RADOSGW, S3_KEYS, ceph, ceph_programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.ceph import CephServer

# Each of them is hundreds of requests; the queue has its many on a store in memory.
FEW = settings(models.SETTINGS, max_examples=5)


@pytest.fixture(scope="module")
def gateway() -> Iterator[CephServer]:
    """A gateway for all tests of this file; each has buckets of its own."""
    require(ceph_programs(), RADOSGW)
    with ceph(gateway=True) as server:
        yield server


def configuration(url: str, **options: Any) -> SimpleNamespace:
    """Options for buckets of one's own."""
    return SimpleNamespace(
        **{
            "s3_endpoint_url": url,
            "s3_region_name": None,
            "s3_access_key_id": S3_KEYS[0],
            "s3_secret_access_key": S3_KEYS[1],
            "s3_bucket_prefix": "t" + uuid.uuid4().hex[:16],
            "s3_check_consistency_timeout": 0.0,
            "s3_max_pool_connections": 50,
        }
        | options
    )


class StoragePlace:
    """A bucket."""

    def __init__(self, conf: SimpleNamespace) -> None:
        self.conf = conf

    def open(self) -> S3Storage:
        return S3Storage(self.conf)


class IncomingPlace:
    """A bucket."""

    def __init__(self, conf: SimpleNamespace) -> None:
        self.conf = conf
        self.bucket = f"{conf.s3_bucket_prefix}-measure"
        self.client = Connection(conf).client

    def open(self, sacks: int = SACKS) -> S3Incoming:
        return S3Incoming(self.conf, sacks)

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def _read(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return data

    def _waiting(self) -> list[str]:
        return [key for key in self.keys() if not key.startswith("damaged/")]

    def objects(self) -> list[bytes]:
        return [self._read(key) for key in self._waiting()]

    def change(self, change: Callable[[bytes], bytes]) -> None:
        for key in self._waiting():
            self.client.put_object(Bucket=self.bucket, Key=key, Body=change(self._read(key)))

    def kept(self) -> set[bytes]:
        return {self._read(key) for key in self.keys("damaged/")}

    @contextlib.contextmanager
    def failing(self, call: int) -> Iterator[None]:
        """Let request ``call // 4`` fail in one of four ways, however often it is repeated."""
        seen: list[tuple[str, str]] = []
        real = URLLib3Session.send

        def send(session: URLLib3Session, request: Any) -> AWSResponse:
            if (request.method, request.url) not in seen[-1:]:
                seen.append((request.method, request.url))
            if len(seen) - 1 != call // 4:
                return real(session, request)
            if call % 4 == 0:
                raise EndpointConnectionError(endpoint_url=request.url)
            if call % 4 < 3:
                return refusal(request.url, *((500, "InternalError"), (503, "SlowDown"))[call % 2])
            real(session, request)
            raise ConnectionClosedError(endpoint_url=request.url)

        with mock.patch.object(URLLib3Session, "send", send):
            yield


class _Raw:
    """What a response of urllib3 has and botocore asks for."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


def refusal(url: str, status: int, code: str) -> AWSResponse:
    """An answer of a store that does not do its part."""
    body = f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode()
    return AWSResponse(url, status, {"content-type": "application/xml"}, _Raw(body))


class TestS3Storage(StorageConformance):
    fewer = 6

    @pytest.fixture
    def new_place(self, gateway: CephServer) -> Callable[[], StoragePlace]:
        return lambda: StoragePlace(configuration(gateway.s3_url))

    @pytest.fixture
    def place(self, gateway: CephServer) -> StoragePlace:
        return StoragePlace(configuration(gateway.s3_url))

    def test_any_sequence_of_calls_equals_a_dict(self, new_place: Callable[[], Any]) -> None:
        run_state_machine_as_test(lambda: models.Objects(new_place()), settings=FEW)

    @pytest.mark.parametrize("count", [999, 1000, 1001])
    def test_any_number_of_objects_is_deleted(self, storage: S3Storage, count: int) -> None:
        storage.put("kept", b"x")
        for number in (0, count - 1):
            storage.put(f"object-{number}", b"x")
        storage.delete(f"object-{number}" for number in range(count))
        assert names(storage) == ["kept"]

    def test_listing_of_several_pages_is_whole(
        self, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A page has a thousand names; here it is seven, since putting objects takes its time."""
        call, pages = BaseClient._make_api_call, []

        def with_short_pages(client: BaseClient, name: str, arguments: dict[str, Any]) -> Any:
            if name == "ListObjectsV2":
                pages.append(name)
                arguments = {**arguments, "MaxKeys": 7}
            return call(client, name, arguments)

        monkeypatch.setattr(BaseClient, "_make_api_call", with_short_pages)
        wanted = [f"object-{number:02}" for number in range(21)]
        for name in wanted:
            storage.put(name, b"x")
        assert names(storage) == wanted
        assert len(pages) == 3
        storage.delete(wanted[:10])
        assert names(storage) == wanted[10:]

    def test_objects_of_others_are_neither_listed_nor_removed(self, place: StoragePlace) -> None:
        storage = place.open()
        storage.upgrade()
        client = Connection(place.conf).client
        bucket = f"{place.conf.s3_bucket_prefix}-aggregates"
        for key in ("theirs", "segments", "segments-of-them/x", "x/segments/y"):
            client.put_object(Bucket=bucket, Key=key, Body=b"theirs")
        storage.put("x", b"ours")
        assert names(storage) == ["x"]
        storage.delete(["x", "theirs", "y"])
        assert storage.tidy(-1.0) == 0
        assert len(client.list_objects_v2(Bucket=bucket)["Contents"]) == 4

    def test_object_before_it_is_visible_is_waited_for(self, place: StoragePlace) -> None:
        place.conf.s3_check_consistency_timeout = 5.0
        storage = place.open()
        storage.upgrade()
        storage.put("x", b"ours")
        assert storage.read("x", 0, 9) == b"ours"

    def test_bucket_is_asked_for_before_it_was_made(self, place: StoragePlace) -> None:
        with pytest.raises(errors.Misconfigured, match="run gnocchi-upgrade"):
            place.open().read("x", 0, 1)
        with pytest.raises(errors.Misconfigured, match="run gnocchi-upgrade"):
            place.open().put("x", b"x")
        with pytest.raises(errors.Misconfigured, match="run gnocchi-upgrade"):
            list(place.open().list())


class TestS3Incoming(IncomingConformance):
    fewer = 6

    @pytest.fixture
    def new_place(self, gateway: CephServer) -> Callable[[], IncomingPlace]:
        return lambda: IncomingPlace(configuration(gateway.s3_url))

    @pytest.fixture
    def place(self, gateway: CephServer) -> IncomingPlace:
        return IncomingPlace(configuration(gateway.s3_url))

    def test_any_sequence_of_calls_equals_a_dict(self, new_place: Callable[[], Any]) -> None:
        run_state_machine_as_test(lambda: models.Queue(new_place()), settings=FEW)

    def test_objects_of_others_are_neither_taken_nor_removed(self, place: IncomingPlace) -> None:
        incoming, divided = place.open(), place.open(40)
        incoming.upgrade()
        theirs = ["theirs", "0-4", "0-4/README", "0-4/-taken.x", "0-44/x", "10-4/x"]
        for key in theirs:
            place.client.put_object(Bucket=place.bucket, Key=key, Body=b"theirs")
        divided.add(in_sacks(40, [7], 7.0))
        incoming.add(in_sacks(SACKS, [1], 1.0))
        assert incoming.waiting().keys() == {1}
        taken = take_all(incoming)
        assert values(taken) == [1.0]
        incoming.discard(taken)
        incoming.tidy(-1.0)
        assert values(take_all(divided)) == [7.0]
        assert set(theirs) < set(place.keys())
        assert len(place.keys()) == len(theirs) + 1

    def test_child_process_has_connections_of_its_own(
        self, place: IncomingPlace, incoming: S3Incoming
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


class TestBucket:
    """What the gateway says to those who may not, or ask for what it has not."""

    def test_wrong_secret_is_told_without_it(self, gateway: CephServer) -> None:
        for options in (
            {"s3_secret_access_key": "wrong-secret"},
            {"s3_access_key_id": "wrong-key"},
        ):
            conf = configuration(gateway.s3_url, **options)
            with pytest.raises(errors.Misconfigured, match="credentials") as caught:
                S3Storage(conf).upgrade()
            assert "wrong" not in str(caught.value)
            # Once it works, it may pass: keys are being changed.
            with pytest.raises(errors.Unavailable, match="credentials") as refused:
                S3Incoming(conf, 4).add(in_sacks(4, [1], 1.0))
            assert "wrong" not in str(refused.value)

    @pytest.mark.parametrize("region", ["", "default", "us-east-1", "eu-west-1"])
    def test_region_the_store_does_not_have_is_no_obstacle(
        self, gateway: CephServer, region: str
    ) -> None:
        conf = configuration(gateway.s3_url, s3_region_name=region)
        storage = S3Storage(conf)
        storage.upgrade()
        storage.upgrade()
        storage.put("x", b"x")
        assert storage.read("x", 0, 1) == b"x"

    def test_bucket_of_somebody_else_is_a_mistake(self, gateway: CephServer) -> None:
        gateway.box.run(
            programs("radosgw-admin")["radosgw-admin"],
            "-c", gateway.configuration, "-n", "client.rgw.a", "user", "create",
            "--uid", "other", "--display-name", "other",
            "--access-key", "other", "--secret-key", "other",
        )  # fmt: skip
        conf = configuration(gateway.s3_url)
        S3Storage(conf).upgrade()
        theirs = SimpleNamespace(**vars(conf))
        theirs.s3_access_key_id = theirs.s3_secret_access_key = "other"
        with pytest.raises(errors.Misconfigured):
            S3Storage(theirs).upgrade()
