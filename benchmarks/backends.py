"""Backends of benchmarks: each started from ``tests.servers``, with a count of its requests.

Requests are counted where they cannot be overlooked: Redis and Ceph count them themselves; those of
S3 and Swift are counted as they leave the HTTP library; for files it is the calls of the operating
system that name a file or sync one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

from tests import servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILE_CALLS = ("open", "rename", "unlink", "fsync", "listdir", "scandir")


@dataclass(frozen=True, slots=True)
class Backend:
    """A running backend.

    Attributes:
        options: of [storage] and [incoming].
        requests: how many requests it has had so far, by any client.
        unit: what is counted.
    """

    options: dict[str, object]
    requests: Callable[[], int]
    unit: str


@contextlib.contextmanager
def file() -> Iterator[Backend]:
    """Plain files."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            return real(*args, **kwargs)

        return call

    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        for name in FILE_CALLS:
            stack.enter_context(mock.patch.object(os, name, counted(getattr(os, name))))
        yield Backend(
            {"driver": "file", "file_basepath": directory}, lambda: count, "calls on files"
        )


@contextlib.contextmanager
def redis() -> Iterator[Backend]:
    """One Redis."""
    with servers.redis() as server:

        def requests() -> int:
            text = server.cli("info", "commandstats")
            calls = [line.partition("calls=")[2].partition(",")[0] for line in text.splitlines()]
            return sum(int(number) for number in calls if number)

        own = requests
        asking = [0]

        def others() -> int:
            asking[0] += 1  # asking is a command too
            return own() - asking[0]

        yield Backend(
            {"driver": "redis", "redis_url": f"redis://127.0.0.1:{server.port}"},
            others,
            "commands",
        )


@contextlib.contextmanager
def ceph() -> Iterator[Backend]:
    """A Ceph of one OSD."""
    with servers.ceph() as server:
        socket = next(server.directory.glob("run/*osd.0*.asok"))

        def requests() -> int:
            done = subprocess.run(
                ["ceph", "--admin-daemon", str(socket), "perf", "dump", "osd"],
                capture_output=True,
                check=True,
            )
            return int(json.loads(done.stdout)["osd"]["op"])

        yield Backend(
            {
                "driver": "ceph",
                "ceph_conffile": str(server.configuration),
                "ceph_pool": server.pool,
                "ceph_username": server.user,
                "ceph_secret": server.secret,
            },
            requests,
            "operations of the OSD",
        )


@contextlib.contextmanager
def s3() -> Iterator[Backend]:
    """The S3 gateway of a Ceph."""
    from botocore.httpsession import URLLib3Session

    access_key, secret_key = servers.S3_KEYS
    with servers.ceph(gateway=True) as server, _counted(URLLib3Session, "send") as count:
        yield Backend(
            {
                "driver": "s3",
                "s3_endpoint_url": server.s3_url,
                "s3_access_key_id": access_key,
                "s3_secret_access_key": secret_key,
            },
            lambda: count[0],
            "HTTP requests",
        )


@contextlib.contextmanager
def swift() -> Iterator[Backend]:
    """A Swift with tempauth."""
    from requests import Session

    with servers.swift() as server, _counted(Session, "send") as count:
        yield Backend(
            {
                "driver": "swift",
                "swift_authurl": server.auth_url,
                "swift_user": servers.SWIFT_USER,
                "swift_key": servers.SWIFT_KEY,
            },
            lambda: count[0],
            "HTTP requests",
        )


@contextlib.contextmanager
def _counted(cls: type, method: str) -> Iterator[list[int]]:
    """Count the calls of a method, by all objects of a class."""
    count = [0]
    real = getattr(cls, method)

    def call(*args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        return real(*args, **kwargs)

    with mock.patch.object(cls, method, call):
        yield count


BACKENDS = {"file": file, "redis": redis, "ceph": ceph, "s3": s3, "swift": swift}
