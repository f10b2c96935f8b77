"""Segments and incoming points in S3, or in a store with its interface.

Layout::

    <prefix>-aggregates    segments/<name>
    <prefix>-measure       <group>-<sacks>/<name>   waiting points (`gnocchi.drivers.objects`)
                           damaged/<name>           copies of those that failed their checksum

Other keys in these buckets belong to others: they are neither listed nor removed. The store checks
what it is sent by its MD5. How requests are made is the matter of `gnocchi.drivers.s3_connection`.
"""

from __future__ import annotations

import importlib
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from gnocchi import errors
from gnocchi.drivers.objects import Listed, ObjectIncoming, Objects
from gnocchi.drivers.s3_connection import (
    ABSENT,
    NO_SUCH_REGION,
    REFUSED,
    Connection,
    Refusal,
    md5,
)
from gnocchi.storage import NoSuchObject, Storage, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DELETE_AT_ONCE = 1000  # keys that one request may name
SEGMENTS = "segments"
CONSISTENCY_POLL_S = 0.1


class Bucket(Objects):
    """The objects of one bucket."""

    def __init__(self, connection: Connection, name: str, conf: Any) -> None:
        self.name = name
        self._connection = connection
        self._region = conf.s3_region_name
        self._own_endpoint = bool(conf.s3_endpoint_url)
        self._consistency_s = conf.s3_check_consistency_timeout or 0.0

    def give_up_after(self, seconds: float) -> None:
        self._connection.give_up_after(seconds)

    # ---------------------------------------------------------------- the bucket

    def make(self) -> None:
        """Create the bucket unless it is there.

        Raises:
            Misconfigured: it cannot be used, or not be created.
        """
        try:
            if not self._usable():
                self._create()
        except Refusal as e:
            if e.code in REFUSED:
                raise errors.Misconfigured(str(e)) from e
            raise

    def _usable(self) -> bool:
        """Whether the bucket is there. Listing says more about a refusal than looking at it."""
        try:
            self._connection.call(
                f"use the bucket {self.name}",
                lambda client: client.list_objects_v2(Bucket=self.name, MaxKeys=1),
            )
        except errors.Misconfigured as e:
            code = getattr(e.__cause__, "response", {}).get("Error", {}).get("Code")
            if code != "NoSuchBucket":
                raise
            return False
        except Refusal as e:
            if e.code in ABSENT:
                return False
            raise
        return True

    def _create(self) -> None:
        try:
            self._request_creation(self._region)
        except Refusal as e:
            if e.code in ("BucketAlreadyOwnedByYou", "OperationAborted"):
                self._usable()  # made by another process; or being made
            elif e.code == "BucketAlreadyExists":
                # Some say so of our own too. Whose it is shows when it is used.
                try:
                    self._usable()
                except Refusal as refusal:
                    raise errors.Misconfigured(
                        f"The bucket {self.name} belongs to somebody else: "
                        "choose another s3_bucket_prefix"
                    ) from refusal
            elif e.code in NO_SUCH_REGION and self._own_endpoint:
                self._request_creation(None)  # it has no regions, or one by another name
            elif e.code in NO_SUCH_REGION or e.code == "InvalidBucketName":
                raise errors.Misconfigured(str(e)) from e
            else:
                raise

    def _request_creation(self, region: str | None) -> None:
        arguments: dict[str, Any] = {"Bucket": self.name}
        if region not in (None, "", "us-east-1"):  # which must not be named
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": region}
        self._connection.call(
            f"create the bucket {self.name}", lambda client: client.create_bucket(**arguments)
        )

    # ---------------------------------------------------------------- objects

    def put(self, key: str, data: bytes | memoryview) -> None:
        body = bytes(data)
        arguments = {"Bucket": self.name, "Key": key, "Body": body, "ContentMD5": md5(body)}
        answer = self._connection.call(
            f"write {key}", lambda client: client.put_object(**arguments)
        )
        if self._consistency_s:
            self._wait_for(key, answer["ETag"])

    def _wait_for(self, key: str, etag: str) -> None:
        """Wait until what was written is read."""
        end = time.monotonic() + self._consistency_s
        while True:
            try:
                answer = self._connection.call(
                    f"find {key}", lambda client: client.head_object(Bucket=self.name, Key=key)
                )
                if answer["ETag"] == etag:
                    return
            except Refusal as e:
                if e.code not in ABSENT:
                    raise
            if time.monotonic() >= end:
                raise errors.Unavailable(
                    f"{key} was written and is not visible after {self._consistency_s:g} s"
                )
            time.sleep(CONSISTENCY_POLL_S)

    def get(self, key: str) -> bytes | None:
        return self._read(key)

    def read(self, key: str, offset: int, length: int) -> bytes | None:
        """A range of an object, cut at its end; None if it is not there."""
        # A range cannot be empty. Asking for a byte tells whether the object is there.
        last = offset + max(length, 1) - 1
        try:
            data = self._read(key, Range=f"bytes={offset}-{last}")
        except Refusal as e:
            if e.code in ("InvalidRange", "416"):  # it ends before
                return b""
            raise
        return data if data is None else data[:length]

    def _read(self, key: str, **arguments: str) -> bytes | None:
        def read(client: Any) -> bytes:
            with client.get_object(Bucket=self.name, Key=key, **arguments)["Body"] as body:
                data: bytes = body.read()
            return data

        try:
            return self._connection.call(f"read {key}", read)
        except Refusal as e:
            if e.code in ABSENT:
                return None
            raise

    def delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), DELETE_AT_ONCE):
            self._delete(keys[start : start + DELETE_AT_ONCE])

    def _delete(self, keys: Sequence[str]) -> None:
        named = {"Objects": [{"Key": key} for key in keys], "Quiet": True}

        def delete(client: Any) -> None:
            answer = client.delete_objects(Bucket=self.name, Delete=named)
            for error in answer.get("Errors", ()):
                if error.get("Code") not in ABSENT:
                    refusal = importlib.import_module("botocore.exceptions").ClientError
                    raise refusal({"Error": error}, "DeleteObjects")

        self._connection.call("remove objects", delete)

    def list(self, folder: str) -> Iterator[Listed]:
        arguments = {"Bucket": self.name, "Prefix": folder + "/"}
        while True:
            page = self._connection.call(
                f"list {folder}", lambda client: client.list_objects_v2(**arguments)
            )
            now = _time_of(page)
            for entry in page.get("Contents", ()):
                name = entry["Key"].removeprefix(arguments["Prefix"])
                yield Listed(name, now - entry["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]


def _time_of(answer: dict[str, Any]) -> float:
    """The server's time, which its time stamps are compared with; ours if it does not tell."""
    date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    try:
        return parsedate_to_datetime(date).timestamp() if date else time.time()
    except ValueError:
        return time.time()


class S3Storage(Storage):
    """Segments as objects."""

    def __init__(self, conf: Any) -> None:
        self._bucket = Bucket(Connection(conf), f"{conf.s3_bucket_prefix}-aggregates", conf)

    def give_up_after(self, seconds: float) -> None:
        self._bucket.give_up_after(seconds)

    def upgrade(self) -> None:
        self._bucket.make()

    def put(self, name: str, data: bytes | memoryview) -> None:
        self._bucket.put(f"{SEGMENTS}/{name}", data)

    def read(self, name: str, offset: int, length: int) -> bytes:
        data = self._bucket.read(f"{SEGMENTS}/{name}", offset, length)
        if data is None:
            raise NoSuchObject(name)
        return data

    def delete(self, names: Iterable[str]) -> None:
        self._bucket.delete([f"{SEGMENTS}/{name}" for name in names])

    def list(self) -> Iterator[Stored]:
        for name, age_s in self._bucket.list(SEGMENTS):
            yield Stored(name, age_s)


class S3Incoming(ObjectIncoming):
    """Waiting points as objects."""

    def __init__(self, conf: Any, sacks: int) -> None:
        self._bucket = Bucket(Connection(conf), f"{conf.s3_bucket_prefix}-measure", conf)
        super().__init__(self._bucket, sacks, conf.s3_max_pool_connections)

    def upgrade(self) -> None:
        self._bucket.make()

    def folder(self, group: int) -> str:
        return f"{group}-{self.sacks}"
