"""Segments and incoming points in S3, or in a store with its interface.

Layout::

    <prefix>-aggregates    segments/<name>
    <prefix>-measure       <group>-<sacks>/<name>   waiting points (`gnocchi.drivers.objects`)
                           damaged/<name>           copies of those that failed their checksum

Other keys in these buckets belong to others: they are neither listed nor removed.

Connections belong to one process and are made with its first request. A request that was refused
for a reason that may pass, or that did not reach the store, is repeated a few times; one that got
no answer in time is not, so that a call takes no longer than `Patience` says. The store checks what
it is sent by its MD5.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib
import os
import ssl
import threading
import time
import warnings
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from gnocchi import errors, forks
from gnocchi.drivers.objects import Listed, ObjectIncoming, Objects
from gnocchi.storage import NoSuchObject, Storage, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

DELETE_AT_ONCE = 1000  # keys that one request may name
SEGMENTS = "segments"
CONSISTENCY_POLL_S = 0.1

# Codes of S3 and of those who speak like it.
_ABSENT = {"NoSuchKey", "404"}
_PASSING = {
    "InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown",
    "SlowDownRead", "SlowDownWrite", "Throttling", "TooManyRequests", "RequestLimitExceeded",
    "BandwidthLimitExceeded", "500", "502", "503", "504",
}  # fmt: skip
_REFUSED = {
    "AccessDenied", "AccountProblem", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId",
    "InvalidSecurity", "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired", "401",
    "403",
}  # fmt: skip
_ELSEWHERE = {
    "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect",
    "TemporaryRedirect", "301", "307",
}  # fmt: skip
_NO_SUCH_REGION = {"InvalidLocationConstraint", "IllegalLocationConstraintException"}

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may take, in seconds, and how often it is made."""

    connect_s: float = 5.0
    answer_s: float = 10.0
    attempts: int = 3
    pause_s: float = 0.2  # before the second attempt; twice as long before each further one


#: For the connections that are made from now on.
PATIENCE = Patience()

# Clients are made one at a time, and share what boto3 has read of its description of S3.
_making_clients = threading.Lock()


def _renew_lock() -> None:
    global _making_clients
    _making_clients = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


@functools.cache
def _session() -> Any:
    try:
        return importlib.import_module("boto3.session").Session()
    except ImportError as e:
        raise errors.Misconfigured(
            f"The S3 driver needs the module boto3: pip install gnocchi[s3] ({e})"
        ) from e


class Connection:
    """Requests to one S3 service. Safe for threads and across forks."""

    def __init__(self, conf: Any) -> None:
        _check(conf)
        self._conf = conf
        self.patience = PATIENCE
        self._renew()
        forks.in_child(self._renew)  # sockets must not be shared

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The client of boto3, made when it is first needed.

        Raises:
            Misconfigured: boto3 is not installed, or does not accept an option.
        """
        with self._lock:
            if self._client is None:
                with _making_clients, warnings.catch_warnings():
                    # boto3 warns of Python versions that it will drop some day
                    warnings.simplefilter("ignore")
                    self._client = self._connect()
            return self._client

    def _connect(self) -> Any:
        conf = self._conf
        session = _session()
        config = importlib.import_module("botocore.config").Config
        options: dict[str, Any] = {
            "connect_timeout": self.patience.connect_s,
            "read_timeout": self.patience.answer_s,
            "retries": {"total_max_attempts": 1},
            "max_pool_connections": conf.s3_max_pool_connections,
            "tcp_keepalive": True,
            # Buckets as host names need a name server that knows them.
            "s3": {"addressing_style": "path" if conf.s3_endpoint_url else "auto"},
        }
        if "request_checksum_calculation" in config.OPTION_DEFAULTS:
            # Newer kinds of checksums are refused by stores that do not know them; every one knows
            # MD5.
            options["request_checksum_calculation"] = "when_required"
            options["response_checksum_validation"] = "when_required"
        try:
            client = session.client(
                "s3",
                endpoint_url=conf.s3_endpoint_url or None,
                region_name=conf.s3_region_name or None,
                aws_access_key_id=conf.s3_access_key_id or None,
                aws_secret_access_key=conf.s3_secret_access_key or None,
                config=config(**options),
            )
        except (ValueError, _boto_error()) as e:
            raise errors.Misconfigured(f"S3 cannot be used: {_line(e)}") from e
        client.meta.events.register("before-call.s3.DeleteObjects", _add_md5)
        return client

    def call(self, what: str, function: Callable[[Any], _R]) -> _R:
        """Make a request: ``function`` of the client; repeat it while that may help.

        Args:
            what: what the request is for, as in 'Unable to …'.

        Raises:
            Unavailable, Misconfigured: it failed.
            Refusal: the store's answer is one that the caller may understand.
        """
        pause = self.patience.pause_s
        for attempt in range(1, self.patience.attempts + 1):
            try:
                return function(self.client)
            except errors.GnocchiError:
                raise
            except Exception as e:
                failure = _failure(what, e)
                if not failure.passing or attempt == self.patience.attempts:
                    raise failure.error from e
            time.sleep(pause)
            pause *= 2
        raise AssertionError("no attempt was made")


class Refusal(errors.Unavailable):
    """An answer other than success, with its code."""

    def __init__(self, what: str, code: str, reason: str) -> None:
        super().__init__(f"Unable to {what}: {reason}")
        self.code = code


@dataclass(frozen=True, slots=True)
class _Failure:
    """What to raise, and whether trying again at once may help."""

    error: errors.GnocchiError
    passing: bool


def _boto_error() -> type[Exception]:
    error: type[Exception] = importlib.import_module("botocore.exceptions").BotoCoreError
    return error


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    """Older stores want an MD5 for a request that removes several objects."""
    params["headers"].setdefault("Content-MD5", _md5(params["body"]))


def _md5(data: bytes | memoryview) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _failure(what: str, error: Exception) -> _Failure:
    """What an exception of boto3 means.

    Raises:
        Exception: the same, if it is not one of boto3 or of the connection.
    """
    boto = importlib.import_module("botocore.exceptions")
    urllib3 = importlib.import_module("urllib3.exceptions")
    unreached = (
        boto.EndpointConnectionError,
        boto.ConnectionClosedError,
        boto.ConnectTimeoutError,
        boto.ProxyConnectionError,
    )
    if isinstance(error, boto.ClientError):
        return _refusal(what, error.response)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return _Failure(errors.Misconfigured(f"S3: {error}: set s3_access_key_id"), False)
    if isinstance(error, boto.ParamValidationError | boto.InvalidRegionError):
        return _Failure(errors.Misconfigured(f"Unable to {what}: {_line(error)}"), False)
    if _is_distrust(error):
        return _Failure(
            errors.Unavailable(
                f"Unable to {what}: S3's certificate is not trusted ({_line(error)}): "
                "AWS_CA_BUNDLE may name a file with that of its authority"
            ),
            False,
        )
    if isinstance(error, boto.BotoCoreError | urllib3.HTTPError | OSError):
        passing = isinstance(error, unreached) and not isinstance(error, boto.ConnectTimeoutError)
        return _Failure(errors.Unavailable(f"Unable to {what}: {_line(error)}"), passing)
    raise error


def _is_distrust(error: BaseException) -> bool:
    """Whether it is about the server's certificate: asking again at once changes nothing."""
    cause: object = error
    while isinstance(cause, BaseException):
        # the latter is of urllib3, which looks at the name by itself
        if isinstance(cause, ssl.CertificateError) or type(cause).__name__ == "CertificateError":
            return True
        cause = getattr(cause, "kwargs", {}).get("error") or cause.__cause__ or cause.__context__
    return False


def _check(conf: Any) -> None:
    """Find out what the library would only tell with the first request.

    Raises:
        Misconfigured: an option cannot be right.
    """
    for option in ("s3_access_key_id", "s3_secret_access_key"):
        value = getattr(conf, option) or ""
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise errors.Misconfigured(f"{option} has characters that no key has")
    bundle = os.environ.get("AWS_CA_BUNDLE")
    if bundle and not os.access(bundle, os.R_OK):
        raise errors.Misconfigured(f"AWS_CA_BUNDLE: {bundle} cannot be read")


def _refusal(what: str, response: dict[str, Any]) -> _Failure:
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code == "NoSuchBucket":
        bucket = response["Error"].get("BucketName", "a bucket")
        return _Failure(
            errors.Misconfigured(f"{bucket} does not exist in S3: run gnocchi-upgrade"), False
        )
    if code in _ELSEWHERE and code not in _NO_SUCH_REGION:
        return _Failure(
            errors.Misconfigured(f"Unable to {what}: {code}: s3_region_name is not the bucket's"),
            False,
        )
    if code in _REFUSED:
        reason = f"S3 refuses the credentials or lacks the permission ({code})"
    elif code == "RequestTimeTooSkewed":
        reason = f"the clock of this host is not that of S3 ({code})"
    else:
        reason = f"S3 answered {code} ({status})"
    passing = code in _PASSING or (status is not None and status >= 500)
    return _Failure(Refusal(what, code, reason), passing)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class Bucket(Objects):
    """The objects of one bucket."""

    def __init__(self, connection: Connection, name: str, conf: Any) -> None:
        self.name = name
        self._connection = connection
        self._region = conf.s3_region_name
        self._own_endpoint = bool(conf.s3_endpoint_url)
        self._consistency_s = conf.s3_check_consistency_timeout or 0.0

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
            if e.code in _REFUSED:
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
            if e.code in _ABSENT:
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
            elif e.code in _NO_SUCH_REGION and self._own_endpoint:
                self._request_creation(None)  # it has no regions, or one by another name
            elif e.code in _NO_SUCH_REGION or e.code == "InvalidBucketName":
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
        arguments = {"Bucket": self.name, "Key": key, "Body": body, "ContentMD5": _md5(body)}
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
                if e.code not in _ABSENT:
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
            if e.code in _ABSENT:
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
                if error.get("Code") not in _ABSENT:
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
