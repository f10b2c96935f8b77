"""Requests to an S3 service, and what its answers mean.

Connections belong to one process and are made with its first request. A request that was refused
for a reason that may pass, or that did not reach the store, is repeated a few times; one that got
no answer in time is not, so that a call takes no longer than `Patience` says.
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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from gnocchi import errors, forks

if TYPE_CHECKING:
    from collections.abc import Callable

# Codes of S3 and of those who speak like it.
ABSENT = {"NoSuchKey", "404"}
_PASSING = {
    "InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown",
    "SlowDownRead", "SlowDownWrite", "Throttling", "TooManyRequests", "RequestLimitExceeded",
    "BandwidthLimitExceeded", "500", "502", "503", "504",
}  # fmt: skip
REFUSED = {
    "AccessDenied", "AccountProblem", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId",
    "InvalidSecurity", "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired", "401",
    "403",
}  # fmt: skip
_ELSEWHERE = {
    "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect",
    "TemporaryRedirect", "301", "307",
}  # fmt: skip
NO_SUCH_REGION = {"InvalidLocationConstraint", "IllegalLocationConstraintException"}

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

    def give_up_after(self, seconds: float) -> None:
        """Bound each request of the clients that are made from now on."""
        self.patience = replace(
            self.patience,
            connect_s=min(self.patience.connect_s, seconds),
            answer_s=min(self.patience.answer_s, seconds),
        )

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
        client.meta.events.register_last("before-call.s3", _send_at_once)
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
        # A repetition may take as long as that again: what was refused late is not repeated.
        soon = time.monotonic() + self.patience.answer_s / 4
        for attempt in range(1, self.patience.attempts + 1):
            try:
                return function(self.client)
            except errors.GnocchiError:
                raise
            except Exception as e:
                failure = _failure(what, e)
                last = attempt == self.patience.attempts or time.monotonic() > soon
                if last or not failure.passing:
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
    params["headers"].setdefault("Content-MD5", md5(params["body"]))


def _send_at_once(params: dict[str, Any], **_: Any) -> None:
    """Do not ask first whether to send the body: that is one more wait, which nothing bounds."""
    params["headers"].pop("Expect", None)


def md5(data: bytes | memoryview) -> str:
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
    if code in _ELSEWHERE and code not in NO_SUCH_REGION:
        return _Failure(
            errors.Misconfigured(f"Unable to {what}: {code}: s3_region_name is not the bucket's"),
            False,
        )
    if code in REFUSED:
        reason = f"S3 refuses the credentials or lacks the permission ({code})"
    elif code == "RequestTimeTooSkewed":
        reason = f"the clock of this host is not that of S3 ({code})"
    else:
        reason = f"S3 answered {code} ({status})"
    passing = code in _PASSING or (status is not None and status >= 500)
    return _Failure(Refusal(what, code, reason), passing)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
